/*
 * Deleting what no layer here has any more. Indexes name objects, all indexes are loaded, so contentfs alone can tell; what
 * a running Unpack will name is known to the store (batches). A few names at a time are looked at and deleted under the
 * store's lock, which those who would begin to rely on one share. At last what is known of layers that are gone long since.
 */
#include "fusefs/store_internal.h"
#include "fusefs/verbs.h"

#include "base/failpoint.h"
#include "base/file.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define AT_ONCE 8 /* names under one lock: some hundred microseconds */

struct sweep {
	struct ffs_service *s;
	struct rpc_call *call;
	struct ffs_keys some; /* names that were not claimed at the first look */
	PB(SweepResponse) rsp;
	int64_t sent_ns; /* the last sign of life: its caller takes silence for the end of us */
};

static void sweep_fini(struct sweep *w)
{
	vec_fini(&w->some.v);
}
DEFINE_AUTO_FINI(sweep);

static bool is_needed(struct sweep *w, const struct digest *key)
{
	struct ffs_store *store = w->s->w->store;
	bool relied;

	pthread_mutex_lock(&store->relied_lock);
	relied = map_has(&store->relied, str_make(key, sizeof(*key)));
	pthread_mutex_unlock(&store->relied_lock);
	return relied || ffs_data_is_claimed(w->s->w->data, key);
}

/* An object with two names is one file: the last one frees its bytes. */
static void delete_one(struct sweep *w, enum ffs_dir which, const struct digest *key)
{
	int dir = ffs_store_dir(w->s->w->store, which);
	char path[FFS_OBJECT_PATH_MAX];
	struct stat st;

	ffs_object_path(key, path);
	if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || unlinkat(dir, path, 0) < 0) {
		if (errno != ENOENT)
			log_warn("sweep %s: %s", path, strerror(errno));
		return;
	}
	if (which == FFS_DIR_OBJECTS)
		w->rsp.objects++;
	else
		w->rsp.partial++;
	if (st.st_nlink == 1)
		w->rsp.freed_bytes += (uint64_t)st.st_blocks * 512;
}

static void delete_some(struct sweep *w, enum ffs_dir which)
{
	struct ffs_store *store = w->s->w->store;

	if (!w->some.v.n)
		return;
	pthread_rwlock_wrlock(&store->deleting);
	vec_each(&w->some.v, key)
		if (!is_needed(w, key))
			delete_one(w, which, key);
	pthread_rwlock_unlock(&store->deleting);
	FAILPOINT("sweep-deleted");
	vec_clear(&w->some.v);
}

/* One of the 256 directories. */
static int sweep_fan_out(struct sweep *w, enum ffs_dir which, const char *sub, struct err *err)
{
	AUTO_DIR DIR *d = NULL;
	AUTO_FD int fd = -1;
	struct dirent *e;
	int more;

	fd = openat(ffs_store_dir(w->s->w->store, which), sub, O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", sub);
	TRY(dir_iter_open(fd, &d, err));
	while ((more = dir_iter_next(d, &e, err)) > 0) {
		AUTO_FREE char *hex = xasprintf("%s%s", sub, e->d_name);
		struct digest key;

		if (!digest_from_hex(str_of(hex), &key) || is_needed(w, &key))
			continue;
		vec_push(&w->some.v, key);
		if (w->some.v.n < AT_ONCE)
			continue;
		TRY(rpc_cancelled(w->call, err));
		delete_some(w, which);
	}
	delete_some(w, which);
	return more;
}

static int sweep_dir(struct sweep *w, enum ffs_dir which, struct err *err)
{
	char sub[3];

	for (unsigned i = 0; i < 256; i++) {
		snprintf(sub, sizeof(sub), "%02x", i);
		TRY(rpc_cancelled(w->call, err));
		send_progress(w->call, &w->sent_ns, i, 256, NULL);
		TRY(sweep_fan_out(w, which, sub, err));
	}
	return 0;
}

/* What an index names that could not be loaded is not known, and may be all that is left of an image. */
static int load_missing(struct sweep *w, struct err *err)
{
	AUTO(ffs_keys) struct ffs_keys keys = FFS_KEYS_INIT;
	struct ffs_service *s = w->s;
	size_t n = 0;

	TRY(ffs_index_list(s->w->store, &keys, err));
	vec_each(&keys.v, k) {
		struct err why = ERR_INIT;

		send_progress(w->call, &w->sent_ns, n++, keys.v.n, NULL);
		if (ffs_data_has_layer(s->w->data, k) || load_layer(s, k, &why) >= 0 || why.code == ERR_NOT_FOUND)
			continue;
		return err_set(err, ERR_PRECONDITION, "nothing is swept: %s", why.msg);
	}
	return 0;
}

int verb_sweep(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	AUTO(sweep)
	struct sweep w = {
	    .s = svc, .call = c, .some = FFS_KEYS_INIT, .rsp = CONTENTD__CONTENTFS__V1__SWEEP_RESPONSE__INIT};

	TRY(load_missing(&w, err));
	TRY(sweep_dir(&w, FFS_DIR_OBJECTS, err));
	TRY(sweep_dir(&w, FFS_DIR_PARTIAL, err));
	TRY(ffs_index_forget_old(w.s->w->store, err));
	return rpc_reply(c, &w.rsp.base, err);
}
