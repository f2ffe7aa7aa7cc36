/* contentctl usage, mount, unmount: what an image's layers hold, and its files without a container. */
#include "contentd/ctl/image.h"
#include "contentd/ctl/term.h"

#include "base/json.h"
#include "rpc/proto/leases.pb-c.h"
#include "rpc/proto/snapshots.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const ProtobufCServiceDescriptor *const SNAPSHOTS = &snapshots__snapshots__descriptor;

/* The top snapshot of an image that is unpacked. */
static int top_of(struct ctl *c, const char *name, const char **full, const char **top, struct err *err)
{
	AUTO(image) struct image image = {0};
	char text[DIGEST_TEXT_MAX];

	TRY(image_name(c, name, full, err));
	TRY(ctl_connect(c, err));
	TRY(image_load(c, *full, &image, err));
	if (!image.n_layers)
		return err_set(err, ERR_INVALID, "image %s has no layers", *full);
	*top = arena_strdup(&c->arena, digest_text(&image.chain_id, text));
	return 0;
}

/* ---- usage ---- */

struct usage {
	const char *key;
	int64_t bytes, inodes;
};

static int usage_of(struct ctl *c, const char *key, struct usage *out, const char **parent, struct err *err)
{
	Snapshots__StatSnapshotRequest stat = SNAPSHOTS__STAT_SNAPSHOT_REQUEST__INIT;
	Snapshots__UsageRequest req = SNAPSHOTS__USAGE_REQUEST__INIT;
	AUTO(pb) Snapshots__StatSnapshotResponse *info = NULL;
	AUTO(pb) Snapshots__UsageResponse *rsp = NULL;

	stat.snapshotter = req.snapshotter = CTL_SNAPSHOTTER;
	stat.key = req.key = key;
	TRY(rpc_call(c->client, SNAPSHOTS, "Stat", NULL, &stat.base, &info, err));
	TRY(rpc_call(c->client, SNAPSHOTS, "Usage", NULL, &req.base, &rsp, err));
	*out = (struct usage){key, rsp->size, rsp->inodes};
	*parent = arena_strdup(&c->arena, info->info ? info->info->parent : "");
	return 0;
}

struct usages {
	VEC(struct usage) v;
};

static void print_table(const struct usages *u)
{
	struct term_table t = {.columns = 3, .cells = VEC_INIT};
	struct usage sum = {0};
	char size[32], inodes[32];

	term_row(&t, "SNAPSHOT", "SIZE", "INODES");
	vec_each(&u->v, s) {
		snprintf(inodes, sizeof(inodes), "%lld", (long long)s->inodes);
		term_row(&t, s->key, term_size(s->bytes, size), inodes);
		sum.bytes += s->bytes;
		sum.inodes += s->inodes;
	}
	snprintf(inodes, sizeof(inodes), "%lld", (long long)sum.inodes);
	term_row(&t, "total", term_size(sum.bytes, size), inodes);
	term_table_print(&t);
}

static void print_json(const struct usages *u)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &b, "  ");
	json_w_array_begin(&w);
	vec_each(&u->v, s) {
		json_w_object_begin(&w);
		json_w_kcstr(&w, "snapshot", s->key);
		json_w_ki64(&w, "bytes", s->bytes);
		json_w_ki64(&w, "inodes", s->inodes);
		json_w_object_end(&w);
	}
	json_w_array_end(&w);
	printf("%s\n", buf_cstr(&b));
}

static int add_usages(struct ctl *c, const char *name, struct usages *u, struct err *err)
{
	const char *full, *key;

	TRY(top_of(c, name, &full, &key, err));
	while (*key) {
		struct usage one;
		bool known = false;

		vec_each(&u->v, s)
			known = known || !strcmp(s->key, key);
		TRY_WRAP(usage_of(c, key, &one, &key, err), err, "image %s", full);
		if (!known)
			vec_push(&u->v, one);
	}
	return 0;
}

static int run_usage(struct ctl *c, const struct ctl_names *names, struct usages *u, struct err *err)
{
	for (unsigned i = 0; i < names->n; i++)
		TRY(add_usages(c, names->v[i], u, err));
	if (c->json)
		print_json(u);
	else
		print_table(u);
	return 0;
}

static error_t parse_names(int key, char *arg, struct argp_state *state)
{
	return ctl_take_names(key, state, state->input, "one");
}

int ctl_usage_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {
	    NULL,       parse_names,
	    "IMAGE...", "Tells what the unpacked layers of images hold. What several of them share counts once.",
	    NULL,       NULL,
	    NULL};
	struct ctl_names names = {0};
	struct usages u = {0};
	struct err err = ERR_INIT;
	int r;

	ctl_parse(c, &argp, 0, argc, argv, &names);
	r = run_usage(c, &names, &u, &err);
	vec_fini(&u.v);
	return r < 0 ? ctl_fail(c, &err) : 0;
}

/* ---- mount ---- */

/* mount(8) knows options, loop devices and helpers. */
static int run_program(char *const argv[], struct err *err)
{
	extern char **environ;
	int status, failed;
	pid_t pid;

	failed = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
	if (failed)
		return err_errno(err, failed, "%s", argv[0]);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_errno(err, errno, "wait for %s", argv[0]);
	return status ? err_set(err, ERR_UNKNOWN, "%s failed", argv[0]) : 0;
}

static int mount_one(struct ctl *c, const Types__Mount *m, const char *dir, struct err *err)
{
	AUTO(buf) struct buf options = BUF_INIT;
	const char *target = *m->target ? arena_printf(&c->arena, "%s/%s", dir, m->target) : dir;

	for (size_t i = 0; i < m->n_options; i++)
		buf_addf(&options, "%s%s", i ? "," : "", m->options[i]);
	return run_program((char *[]){"mount", "-t", (char *)m->type, "-o", options.n ? options.p : "defaults",
	                              (char *)m->source, (char *)target, NULL},
	                   err);
}

static int mount_all(struct ctl *c, Types__Mount *const *mounts, size_t n, const char *dir, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		TRY(mount_one(c, mounts[i], dir, err));
	return 0;
}

/* A lease of the directory's name keeps the snapshot for as long as it is mounted. */
static int lease(struct ctl *c, const char *dir, struct err *err)
{
	Leases__CreateRequest req = LEASES__CREATE_REQUEST__INIT;

	req.id = dir;
	TRY(rpc_call(c->client, &leases__leases__descriptor, "Create", NULL, &req.base, NULL, err));
	rpc_client_set_metadata(c->client, "containerd-lease", dir);
	return 0;
}

static int find_lease(struct ctl *c, const char *dir, struct err *err)
{
	AUTO(pb) Leases__ListResponse *rsp = NULL;
	Leases__ListRequest req = LEASES__LIST_REQUEST__INIT;

	TRY(rpc_call(c->client, &leases__leases__descriptor, "List", NULL, &req.base, &rsp, err));
	for (size_t i = 0; i < rsp->n_leases; i++)
		if (!strcmp(rsp->leases[i]->id, dir))
			return 0;
	return err_set(err, ERR_NOT_FOUND, "contentctl has mounted nothing at %s", dir);
}

static int let_go(struct ctl *c, const char *dir, struct err *err)
{
	Snapshots__RemoveSnapshotRequest snapshot = SNAPSHOTS__REMOVE_SNAPSHOT_REQUEST__INIT;
	Leases__DeleteRequest req = LEASES__DELETE_REQUEST__INIT;
	int r;

	rpc_client_set_metadata(c->client, "containerd-lease", NULL);
	snapshot.snapshotter = CTL_SNAPSHOTTER;
	snapshot.key = req.id = dir;
	r = rpc_call(c->client, SNAPSHOTS, "Remove", NULL, &snapshot.base, NULL, err);
	if (r < 0 && r != -ERR_NOT_FOUND)
		return r;
	return rpc_call(c->client, &leases__leases__descriptor, "Delete", NULL, &req.base, NULL, err);
}

static int view(struct ctl *c, const char *top, const char *dir, struct err *err)
{
	Snapshots__ViewSnapshotRequest req = SNAPSHOTS__VIEW_SNAPSHOT_REQUEST__INIT;
	AUTO(pb) Snapshots__ViewSnapshotResponse *rsp = NULL;

	req.snapshotter = CTL_SNAPSHOTTER;
	req.key = dir;
	req.parent = top;
	TRY(rpc_call(c->client, SNAPSHOTS, "View", NULL, &req.base, &rsp, err));
	return mount_all(c, rsp->mounts, rsp->n_mounts, dir, err);
}

static int prepare(struct ctl *c, const char *top, const char *dir, struct err *err)
{
	Snapshots__PrepareSnapshotRequest req = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;
	AUTO(pb) Snapshots__PrepareSnapshotResponse *rsp = NULL;

	req.snapshotter = CTL_SNAPSHOTTER;
	req.key = dir;
	req.parent = top;
	TRY(rpc_call(c->client, SNAPSHOTS, "Prepare", NULL, &req.base, &rsp, err));
	return mount_all(c, rsp->mounts, rsp->n_mounts, dir, err);
}

struct mount {
	const char *image, *dir;
	bool writable;
};

static const struct argp_option MOUNT_OPTIONS[] = {
    {"rw", 'w', NULL, 0, "writable; what is written goes with the unmount", 0},
    {0},
};

static error_t parse_mount(int key, char *arg, struct argp_state *state)
{
	struct mount *a = state->input;

	switch (key) {
	case 'w':
		a->writable = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->dir)
			argp_error(state, "one image, and one directory");
		*(a->image ? &a->dir : &a->image) = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->dir)
			argp_error(state, "which image, and where?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int real_path(struct ctl *c, const char *dir, const char **out, struct err *err)
{
	char path[PATH_MAX];

	if (!realpath(dir, path))
		return err_errno(err, errno, "%s", dir);
	*out = arena_strdup(&c->arena, path);
	return 0;
}

static int run_mount(struct ctl *c, const struct mount *a, struct err *err)
{
	const char *full, *top, *dir = NULL;
	int r;

	TRY(real_path(c, a->dir, &dir, err));
	TRY(top_of(c, a->image, &full, &top, err));
	TRY(lease(c, dir, err));
	r = a->writable ? prepare(c, top, dir, err) : view(c, top, dir, err);
	if (r < 0) {
		let_go(c, dir, NULL);
		return err_wrap(err, "mount %s at %s", full, dir);
	}
	printf("%s\n", dir);
	return 0;
}

int ctl_mount_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {
	    MOUNT_OPTIONS, parse_mount, "IMAGE DIR", "Mounts the files of an image at a directory, read-only.",
	    NULL,          NULL,        NULL};
	struct mount a = {0};
	struct err err = ERR_INIT;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	return run_mount(c, &a, &err) < 0 ? ctl_fail(c, &err) : 0;
}

static bool is_mounted(const char *dir)
{
	struct statx st;

	return statx(AT_FDCWD, dir, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &st) == 0 &&
	       (st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/* What somebody else has mounted is none of ours; what was unmounted without us, or has gone with a reboot, still is. */
static int unmount_one(void *arg, const char *name, struct err *err)
{
	struct err why = ERR_INIT;
	const char *dir = name;
	struct ctl *c = arg;

	if (real_path(c, name, &dir, &why) < 0 && (why.code != ERR_NOT_FOUND || *name != '/'))
		return err_set(err, why.code, "%s", why.msg);
	TRY(find_lease(c, dir, err));
	if (is_mounted(dir))
		TRY_WRAP(run_program((char *[]){"umount", (char *)dir, NULL}, err), err, "unmount %s", dir);
	TRY_WRAP(let_go(c, dir, err), err, "unmount %s", dir);
	printf("%s\n", dir);
	return 0;
}

int ctl_unmount_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {NULL, parse_names, "DIR...", "Unmounts what `contentctl mount' has mounted.",
	                    NULL, NULL,        NULL};
	struct ctl_names names = {0};

	ctl_parse(c, &argp, 0, argc, argv, &names);
	return ctl_each(c, &names, unmount_one, c);
}
