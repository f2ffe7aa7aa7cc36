#include "contentd/ops/access.h"

#include "base/unix.h"

#include <errno.h>
#include <stdio.h>

int cd_access_own(const struct cd_config *c, const char *path, struct err *err)
{
	if (!c->grpc_uid && !c->grpc_gid)
		return 0;
	if (lchown(path, (uid_t)c->grpc_uid, (gid_t)c->grpc_gid) < 0)
		return err_errno(err, errno, "chown %s to %lld:%lld", path, (long long)c->grpc_uid,
		                 (long long)c->grpc_gid);
	return 0;
}

int cd_access_listen(const struct cd_config *c, int *out, struct err *err)
{
	AUTO_FD int fd = -1;

	TRY(unix_listen(c->address, SOCK_STREAM, c->grpc_allowed_uids.n ? 0666 : 0660, &fd, err));
	TRY(cd_access_own(c, c->address, err));
	*out = STEAL_FD(fd);
	return 0;
}

static bool allows(const struct cd_config *c, const struct ucred *peer, int fd)
{
	if (peer->uid == 0 || peer->uid == geteuid() || (int64_t)peer->uid == c->grpc_uid)
		return true;
	vec_each(&c->grpc_allowed_uids, uid)
		if ((int64_t)peer->uid == *uid)
			return true;
	return c->grpc_gid && unix_peer_in_group(fd, peer, (gid_t)c->grpc_gid);
}

int cd_access_check(const struct cd_config *c, const struct ucred *peer, int fd, struct err *err)
{
	char group[64] = "";

	if (allows(c, peer, fd))
		return 0;
	if (c->grpc_gid)
		snprintf(group, sizeof(group), ", as a member of group %lld", (long long)c->grpc_gid);
	return err_set(err, ERR_PERMISSION,
	               "uid %u may not use contentd: call it as root%s, or have grpc.allowed_uids of its configuration "
	               "name this uid",
	               peer->uid, group);
}
