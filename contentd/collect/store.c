#include "contentd/collect/store.h"

#include "base/file.h"
#include "base/map.h"
#include "contentd/collect/pins.h"
#include "contentd/content/content.h"
#include "contentd/daemon.h"
#include "estargz/index/index.h"
#include "rpc/proto/event.pb-c.h"
#include "rpc/proto/images.pb-c.h"
#include "snapshotter/collect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define INDEX_BYTES_MAX (1u << 30)
#define SOURCE_SUFFIX STR(".source")

/*
 * Indexes are contentfs's, and it hands them out while we delete them. Each side goes by what it knows: we note which
 * ones we condemn and drop, and look at every answer of contentfs that names some.
 */
struct cd_file_store {
	struct cd_daemon *d;
	pthread_mutex_t lock;
	pthread_cond_t dropped_some;
	struct map condemned; /* index keys; lock */
	struct map dropped;   /* index key -> number of its drop, while there are questions; lock */
	uint64_t drops;       /* lock */
	unsigned questions;   /* lock: that contentfs has not answered */
};

struct cd_file_store *cd_file_store_new(struct cd_daemon *d)
{
	struct cd_file_store *s = xcalloc(1, sizeof(*s));

	s->d = d;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->dropped_some, NULL);
	return s;
}

void cd_file_store_free(struct cd_file_store *s)
{
	if (!s)
		return;
	map_fini(&s->condemned);
	map_fini(&s->dropped);
	pthread_cond_destroy(&s->dropped_some);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- indexes: condemned, dropped, handed out ---- */

static void index_condemn(struct cd_file_store *s, struct str key)
{
	pthread_mutex_lock(&s->lock);
	map_put(&s->condemned, key, s);
	pthread_mutex_unlock(&s->lock);
}

static void index_settle(struct cd_file_store *s, struct str key, bool dropped)
{
	pthread_mutex_lock(&s->lock);
	map_del(&s->condemned, key);
	s->drops++;
	if (dropped && s->questions)
		map_put(&s->dropped, key, (void *)(uintptr_t)s->drops);
	pthread_cond_broadcast(&s->dropped_some);
	pthread_mutex_unlock(&s->lock);
}

static uint64_t index_asked(void *arg)
{
	struct cd_file_store *s = arg;
	uint64_t drops;

	pthread_mutex_lock(&s->lock);
	s->questions++;
	drops = s->drops;
	pthread_mutex_unlock(&s->lock);
	return drops;
}

/* True when the answer names what is not there any more. */
static bool overtaken(struct cd_file_store *s, uint64_t asked, struct str key)
{
	bool gone = false;

	while (map_has(&s->condemned, key)) {
		gone = true;
		pthread_cond_wait(&s->dropped_some, &s->lock);
	}
	return gone || (uintptr_t)map_get(&s->dropped, key) > asked;
}

/* The use comes first: what is not condemned by then will not be. */
static bool index_answered(void *arg, uint64_t asked, struct rpc_call *on_behalf, const char *const *keys, size_t n)
{
	struct cd_file_store *s = arg;
	bool again = false;

	for (size_t i = 0; on_behalf && i < n; i++)
		cd_use_for_call(s->d, on_behalf, &(struct gc_id){.kind = GC_INDEX, .key = str_of(keys[i])});
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < n; i++)
		again |= overtaken(s, asked, str_of(keys[i]));
	if (--s->questions == 0) {
		map_fini(&s->dropped);
		s->dropped = MAP_INIT;
	}
	pthread_mutex_unlock(&s->lock);
	return again;
}

struct ffs_client_watch cd_file_store_watch(struct cd_file_store *s)
{
	return (struct ffs_client_watch){index_asked, index_answered, s};
}

static int index_delete(struct ffs_client *data, const char *key, struct err *err)
{
	return ffs_client_delete_layers(data, &key, 1, err);
}

/* A pin keeps it whose image is gone, or leads to another index now: left by a crash, or by a call of contentfs that
 * failed. */
static int index_drop(struct cd_file_store *s, const char *key, struct err *err)
{
	struct ffs_client *data;
	int r;

	TRY(cd_data(s->d, NULL, &data, err));
	r = index_delete(data, key, err);
	if (r != -ERR_PRECONDITION)
		return r;
	TRY(cd_pins_reconcile(s->d, err));
	TRY(cd_pins_renew(s->d, NULL, NULL, err));
	return index_delete(data, key, err);
}

bool cd_index_is_here(struct cd_daemon *d, struct rpc_call *c, const char *key)
{
	struct cd_file_store *s = d->files;
	AUTO_FREE char *path = xasprintf("%s/index/%s", d->config.root, key);

	/* As an answer that has just come. */
	if (index_answered(s, index_asked(s), c, &key, 1))
		return false;
	return access(path, F_OK) == 0;
}

/* ---- listing ---- */

struct listing {
	struct cd_file_store *s;
	cd_file_fn fn;
	void *arg;
};

static int tell(const struct listing *l, enum gc_kind kind, const char *key, int64_t bytes, struct err *err)
{
	return l->fn(l->arg, &(struct cd_file){.id = {.kind = kind, .key = str_of(key)}, .bytes = bytes}, err);
}

static int list_blob(void *arg, const struct digest *d, int64_t bytes, struct err *err)
{
	char text[DIGEST_TEXT_MAX];

	return tell(arg, GC_BLOB, digest_text(d, text), bytes, err);
}

static int list_ingest(void *arg, const struct cd_ingest_status *i, struct err *err)
{
	const struct listing *l = arg;
	struct cd_file f = {.id = {GC_INGEST, str_of(i->ns), STR_NONE, str_of(i->ref)},
	                    .in_use = cd_ingest_is_busy(l->s->d->content, i->ns, i->ref),
	                    .expires = i->expires.tv_sec != 0,
	                    .at = i->expires,
	                    .bytes = i->offset};

	if (*i->expected)
		f.refs_to[f.n_refs++] = (struct gc_id){GC_CONTENT, str_of(i->ns), STR_NONE, str_of(i->expected)};
	return l->fn(l->arg, &f, err);
}

static int list_image(void *arg, const struct digest *name, int64_t bytes, struct err *err)
{
	char hex[65];

	return tell(arg, GC_METADATA, digest_hex(name, hex), bytes, err);
}

/* Calls fn for the entries of a directory below the root; an absent one has none. */
static int each_entry(struct cd_file_store *s, const char *dir,
                      int (*fn)(void *arg, const char *dir, int dir_fd, const char *name, struct err *err), void *arg,
                      struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/%s", s->d->config.root, dir);
	DIR *stream = opendir(path);
	struct dirent *e;
	int r = 0;

	if (!stream)
		return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", path);
	while (r >= 0 && (e = readdir(stream)))
		r = fn(arg, dir, dirfd(stream), e->d_name, err);
	closedir(stream);
	return r;
}

static int64_t size_of(int dir_fd, const char *name)
{
	struct stat st;

	/* A file with two names counts half for each. */
	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink
	           ? (int64_t)st.st_blocks * 512 / (int64_t)st.st_nlink
	           : 0;
}

/* "<hex>", and "<hex>.source" when a crash has left it alone. */
static int list_index(void *arg, const char *dir, int dir_fd, const char *name, struct err *err)
{
	struct str hex = str_sub(str_of(name), 0, 64);
	AUTO_FREE char *key = str_dup(hex);
	struct digest d;

	if (!digest_from_hex(hex, &d) ||
	    (name[64] && (!str_eqc(SOURCE_SUFFIX, name + 64) || faccessat(dir_fd, key, F_OK, 0) == 0)))
		return 0;
	return tell(arg, GC_INDEX, key, size_of(dir_fd, name), err);
}

struct fan_out {
	struct listing *listing;
	enum gc_kind kind;
};

static int list_object(void *arg, const char *dir, int dir_fd, const char *name, struct err *err)
{
	const struct fan_out *f = arg;
	AUTO_FREE char *hex = xasprintf("%s%s", strchr(dir, '/') + 1, name);
	struct digest d;

	return digest_from_hex(str_of(hex), &d) ? tell(f->listing, f->kind, hex, size_of(dir_fd, name), err) : 0;
}

static int list_fan_out(void *arg, const char *dir, int dir_fd, const char *name, struct err *err)
{
	const struct fan_out *f = arg;
	AUTO_FREE char *sub = xasprintf("%s/%s", dir, name);

	return strlen(name) == 2 && name[0] != '.' ? each_entry(f->listing->s, sub, list_object, arg, err) : 0;
}

static int store_list(void *arg, enum gc_kind kind, cd_file_fn fn, void *fn_arg, struct err *err)
{
	struct cd_file_store *s = arg;
	struct listing l = {s, fn, fn_arg};
	struct fan_out f = {&l, kind};

	switch (kind) {
	case GC_BLOB:
		return cd_blob_each(s->d->content, list_blob, &l, err);
	case GC_INGEST:
		return cd_ingest_each(s->d->content, NULL, list_ingest, &l, err);
	case GC_METADATA:
		return s->d->snaps ? snap_images_each(s->d->snaps, list_image, &l, err) : 0;
	case GC_INDEX:
		return each_entry(s, "index", list_index, &l, err);
	case GC_OBJECT:
		return each_entry(s, "objects", list_fan_out, &f, err);
	case GC_PARTIAL:
		return each_entry(s, "partial", list_fan_out, &f, err);
	default:
		return 0;
	}
}

/* ---- what an index names ---- */

static void tell_ref(enum gc_kind kind, const struct digest *d, void (*fn)(void *fn_arg, const struct gc_id *to),
                     void *fn_arg)
{
	char hex[65];

	fn(fn_arg, &(struct gc_id){.kind = kind, .key = str_of(digest_hex(d, hex))});
}

static int store_refs(void *arg, const struct gc_id *id, void (*fn)(void *fn_arg, const struct gc_id *to), void *fn_arg,
                      struct err *err)
{
	struct cd_file_store *s = arg;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(buf) struct buf bytes = BUF_INIT;
	AUTO_FREE char *path = xasprintf("%s/index/" STR_FMT, s->d->config.root, STR_ARG(id->key));
	struct esgz_entry e;

	if (file_read(AT_FDCWD, path, INDEX_BYTES_MAX, &bytes, NULL) < 0)
		return 0; /* gone, or contentfs makes it anew when it is asked for */
	TRY_WRAP(esgz_index_open(buf_str(&bytes), &ix, err), err, "layer index " STR_FMT, STR_ARG(id->key));
	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_entries; i++) {
		esgz_index_entry(ix, i, &e);
		if (e.type != ESGZ_REG || !e.size)
			continue;
		tell_ref(GC_OBJECT, &e.content, fn, fn_arg);
		if (!e.n_chunks)
			continue;
		if (!digest_eq(&e.content, &e.claim))
			tell_ref(GC_OBJECT, &e.claim, fn, fn_arg);
		tell_ref(GC_PARTIAL, &e.claim, fn, fn_arg);
	}
	return 0;
}

/* ---- removing ---- */

/* Keys of shared kinds are digests, or the hex digits of one. */
static bool digest_of_key(const struct gc_id *id, struct digest *d)
{
	return id->kind == GC_BLOB ? digest_parse(id->key, d, NULL) >= 0 : digest_from_hex(id->key, d);
}

static int store_condemn(void *arg, const struct gc_id *id, struct err *err)
{
	struct cd_file_store *s = arg;
	struct digest d;

	if (id->kind == GC_INGEST) {
		AUTO_FREE char *ns = str_dup(id->ns);
		AUTO_FREE char *ref = str_dup(id->key);

		return cd_ingest_condemn(s->d->content, ns, ref) ? 0 : GC_KEEP;
	}
	if (!digest_of_key(id, &d))
		return GC_KEEP;
	if (id->kind == GC_BLOB)
		cd_blob_condemn(s->d->content, &d);
	else if (id->kind == GC_INDEX)
		index_condemn(s, id->key);
	else if (id->kind == GC_METADATA)
		return snap_image_condemn(s->d->snaps, &d) ? 0 : GC_KEEP;
	return 0;
}

static void store_spare(void *arg, const struct gc_id *id)
{
	struct cd_file_store *s = arg;
	struct digest d;

	if (id->kind == GC_INGEST) {
		AUTO_FREE char *ns = str_dup(id->ns);
		AUTO_FREE char *ref = str_dup(id->key);

		cd_ingest_spare(s->d->content, ns, ref);
	} else if (id->kind == GC_INDEX) {
		index_settle(s, id->key, false);
	} else if (digest_of_key(id, &d)) {
		if (id->kind == GC_BLOB)
			cd_blob_spare(s->d->content, &d);
		else if (id->kind == GC_METADATA)
			snap_image_spare(s->d->snaps, &d);
	}
}

static void drop_image(struct cd_daemon *d, const struct gc_id *id)
{
	AUTO_FREE char *ns = str_dup(id->ns);
	AUTO_FREE char *name = str_dup(id->key);
	Images__ImageDelete event = IMAGES__IMAGE_DELETE__INIT;

	cd_unpin_image(d, ns, name);
	event.name = name;
	cd_events_publish(d->events, ns, "/images/delete", &event.base);
}

static void drop_snapshot(struct cd_daemon *d, const struct cd_gone *gone)
{
	AUTO_FREE char *ns = str_dup(gone->id.ns);
	AUTO_FREE char *snapshotter = str_dup(gone->id.space);
	AUTO_FREE char *key = str_dup(gone->id.key);
	Event__SnapshotRemove event = EVENT__SNAPSHOT_REMOVE__INIT;

	if (gone->dir && d->snaps)
		snap_drop_dir(d->snaps, gone->dir);
	event.key = key;
	event.snapshotter = snapshotter;
	cd_events_publish(d->events, ns, "/snapshot/remove", &event.base);
}

static int drop_file(struct cd_file_store *s, const struct gc_id *id, struct err *err)
{
	AUTO_FREE char *ns = str_dup(id->ns);
	AUTO_FREE char *key = str_dup(id->key);
	struct digest d;
	int r;

	switch (id->kind) {
	case GC_INGEST:
		return cd_ingest_drop(s->d->content, ns, key, err);
	case GC_INDEX:
		r = index_drop(s, key, err);
		/* When contentfs has not answered it may have deleted it all the same. */
		index_settle(s, id->key, true);
		return r;
	case GC_BLOB:
		return digest_of_key(id, &d) ? cd_blob_drop(s->d->content, &d, err) : 0;
	case GC_METADATA:
		if (digest_of_key(id, &d))
			snap_image_drop(s->d->snaps, &d);
		return 0;
	default:
		return 0;
	}
}

static void store_drop(void *arg, const struct cd_gone *gone, size_t n)
{
	struct cd_file_store *s = arg;
	bool dirs = false;
	size_t unasked = 0; /* contentfs does not answer, and has said so: one line for all of them */

	for (size_t i = 0; i < n; i++) {
		const struct gc_id *id = &gone[i].id;
		struct err err = ERR_INIT;

		dirs |= gone[i].dir != 0;
		if (id->kind == GC_IMAGE)
			drop_image(s->d, id);
		else if (id->kind == GC_SNAPSHOT)
			drop_snapshot(s->d, &gone[i]);
		else if (drop_file(s, id, &err) >= 0)
			continue;
		else if (err.code == ERR_UNAVAILABLE)
			unasked++;
		else
			log_warn("collecting %s " STR_FMT ": %s", gc_kind_name(id->kind), STR_ARG(id->key), err.msg);
	}
	if (unasked)
		log_warn("collecting: contentfs could not be asked to delete %zu layer indexes; a later run does it",
		         unasked);
	/* Who has asked for this waits for it. */
	if (dirs && s->d->snaps)
		snap_cleanup(s->d->snaps);
}

/* ---- the rest ---- */

static int store_reconcile(void *arg, struct err *err)
{
	struct cd_file_store *s = arg;

	return cd_pins_reconcile(s->d, err);
}

static int store_sweep(void *arg, struct cd_swept *swept, struct err *err)
{
	AUTO(pb) Contentd__Contentfs__V1__SweepResponse *rsp = NULL;
	struct cd_file_store *s = arg;
	struct ffs_client *data;

	if (!s->d->data)
		return 0; /* a daemon without contentfs */
	TRY(cd_data(s->d, NULL, &data, err));
	TRY(ffs_client_sweep(data, NULL, &rsp, err));
	if (rsp->objects + rsp->partial)
		log_info("swept %llu objects and %llu partial files, %llu bytes", (unsigned long long)rsp->objects,
		         (unsigned long long)rsp->partial, (unsigned long long)rsp->freed_bytes);
	*swept = (struct cd_swept){rsp->objects, rsp->partial, rsp->freed_bytes};
	return 0;
}

struct cd_collector_store cd_file_store_table(struct cd_file_store *s)
{
	return (struct cd_collector_store){
	    {store_list, store_refs, store_condemn, store_spare, store_drop, s}, store_reconcile, store_sweep, s};
}
