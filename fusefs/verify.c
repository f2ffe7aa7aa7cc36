/*
 * Verify: every index and every object on disk is read and held against what it has to be. An index has a checksum and a
 * name that follows from what it describes. An object has its content's digest for a name, or is a claim, of which the
 * loaded layers say the content; both names are one file, which is read once.
 */
#include "fusefs/verbs.h"

#include "base/file.h"
#include "base/log.h"
#include "rpc/pb.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define READ_BYTES (1u << 20)
#define DAMAGES_MAX 10000 /* that are told; all are counted */

struct verify {
	struct ffs_service *s;
	struct rpc_call *call;
	bool remove;
	PB(VerifyResponse) * rsp;
	struct hasher *hasher;
	uint8_t *bytes;
	struct map linked; /* inode number of a file with several names -> its digest, in the arena */
	uint64_t total_bytes;
	int64_t sent_ns;
};

/* ---- damage ---- */

static PB(Damage) *
    damage_add(struct verify *v, const char *kind, const struct digest *name, const char *path, const struct err *why)
{
	struct arena *a = rpc_arena(v->call);
	PB(Damage) *m = pb_new(a, &contentd__contentfs__v1__damage__descriptor);
	char hex[65];

	log_error("%s is damaged: %s", path, why->msg);
	v->rsp->damaged++;
	m->kind = (char *)kind;
	m->name = arena_strdup(a, digest_hex(name, hex));
	m->path = arena_strdup(a, path);
	m->reason = arena_strdup(a, why->msg);
	if (v->rsp->n_damages < DAMAGES_MAX)
		v->rsp->damages[v->rsp->n_damages++] = m;
	return m;
}

static void name_layer(struct verify *v, PB(Damage) * m, const struct digest *key, const struct digest *blob)
{
	struct arena *a = rpc_arena(v->call);
	PB(DamagedLayer) *l = pb_new(a, &contentd__contentfs__v1__damaged_layer__descriptor);
	char text[DIGEST_TEXT_MAX];

	if (!m->layers)
		m->layers = arena_zalloc(a, FFS_OBJECT_USERS_MAX, sizeof(*m->layers));
	l->index_key = arena_strdup(a, digest_hex(key, text));
	l->blob = arena_strdup(a, digest_text(blob, text));
	m->layers[m->n_layers++] = l;
}

/* Damage is what a look has found, not what has kept from looking: no descriptor, no memory, nobody who listens. */
static int tell_apart(struct verify *v, const struct err *why, struct err *err)
{
	TRY(verb_cut_off(v->s, v->call, err));
	if (err_is_transient(why) || why->code == ERR_CANCELLED)
		return err_set(err, why->code, "%s", why->msg);
	return 0;
}

/* ---- indexes ---- */

static int check_index(struct verify *v, const struct digest *key, struct err *err)
{
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	const struct esgz_index_info *info;
	struct digest name;
	struct str bytes;
	int r;

	TRY(ffs_index_map(v->s->w->store, key, &bytes, err));
	r = esgz_index_open(bytes, &ix, err);
	if (r >= 0) {
		info = esgz_index_get_info(ix);
		esgz_index_key(info->trust, &info->blob, &info->trusted, &name);
		if (!digest_eq(&name, key))
			r = err_set(err, ERR_DATA_LOSS, "it is the index of another layer");
	}
	if (r >= 0)
		r = ffs_index_check_points(v->s->w->store, key, ix, &v->rsp->bytes, err);
	v->rsp->bytes += bytes.n;
	esgz_index_free(STEAL(ix));
	ffs_index_unmap(bytes);
	return r;
}

/* Says whose index it is, as far as that is known without it. */
static void name_owner(struct verify *v, PB(Damage) * m, const struct digest *key)
{
	AUTO(ffs_source) struct ffs_source source = {0};
	struct ffs_layer_status status;

	if (ffs_index_source(v->s->w->store, key, &source, NULL) >= 0)
		name_layer(v, m, key, &source.blob);
	m->lazy = ffs_data_layer_status(v->s->w->data, key, true, &status, NULL) >= 0 && status.lazy;
}

/* A damaged one goes with its layer: who needs it opens the image again. */
static int verify_index(struct verify *v, const struct digest *key, struct err *err)
{
	AUTO_FREE char *path = NULL;
	struct err why = ERR_INIT;
	PB(Damage) * m;
	char hex[65];

	TRY(verb_cut_off(v->s, v->call, err));
	v->rsp->indexes++;
	if (check_index(v, key, &why) >= 0 || why.code == ERR_NOT_FOUND)
		return 0;
	TRY(tell_apart(v, &why, err));
	path = xasprintf("index/%s", digest_hex(key, hex));
	m = damage_add(v, "index", key, path, &why);
	name_owner(v, m, key);
	if (!v->remove)
		return 0;
	ffs_data_remove_layer(v->s->w->data, key);
	TRY(ffs_index_remove(v->s->w->store, key, err));
	m->removed = true;
	return 0;
}

static int verify_indexes(struct verify *v, struct err *err)
{
	AUTO(ffs_keys) struct ffs_keys keys = FFS_KEYS_INIT;

	TRY(ffs_index_list(v->s->w->store, &keys, err));
	vec_each(&keys.v, key)
		TRY(verify_index(v, key, err));
	return 0;
}

/* ---- objects ---- */

typedef int (*object_fn)(struct verify *v, const struct digest *key, const struct stat *st, struct err *err);

static int each_in_fan(struct verify *v, const char *fan, object_fn fn, struct err *err)
{
	int fd = openat(ffs_store_dir(v->s->w->store, FFS_DIR_OBJECTS), fan, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;
	int r = 0;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return errno == ENOENT ? 0 : err_errno(err, errno, "list objects/%s", fan);
	}
	while (r >= 0 && (e = readdir(dir))) {
		char hex[65] = {fan[0], fan[1]};
		struct digest key;
		struct stat st;

		if (strlen(e->d_name) != 62)
			continue;
		memcpy(hex + 2, e->d_name, 63);
		if (digest_from_hex(str_of(hex), &key) && fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			r = fn(v, &key, &st, err);
	}
	closedir(dir);
	return r;
}

static int each_object(struct verify *v, object_fn fn, struct err *err)
{
	for (unsigned i = 0; i < 256; i++) {
		char fan[3];

		snprintf(fan, sizeof(fan), "%02x", i);
		TRY(each_in_fan(v, fan, fn, err));
	}
	return 0;
}

static int count_object(struct verify *v, const struct digest *key, const struct stat *st, struct err *err)
{
	v->total_bytes += (uint64_t)st->st_size / (st->st_nlink ? st->st_nlink : 1);
	return 0;
}

static int hash_file(struct verify *v, int fd, uint64_t size, struct digest *out, struct err *err)
{
	hasher_reset(v->hasher);
	for (uint64_t at = 0; at < size;) {
		size_t n = size - at < READ_BYTES ? (size_t)(size - at) : READ_BYTES;

		TRY(verb_cut_off(v->s, v->call, err));
		TRY(fd_pread_all_uncached(fd, v->bytes, n, (off_t)at, err));
		hasher_add(v->hasher, v->bytes, n);
		at += n;
		v->rsp->bytes += n;
		TRY(send_progress(v->call, &v->sent_ns, v->rsp->bytes, v->total_bytes, err));
	}
	hasher_done(v->hasher, out);
	return 0;
}

/* The digest of what is in the file; ERR_DATA_LOSS when it cannot be read. Names of one file share the work. */
static int hash_object(struct verify *v, const char *path, const struct stat *st, struct digest *out, struct err *err)
{
	uint64_t inode = st->st_ino;
	struct digest *known = map_get(&v->linked, map_key_u64(&inode));
	AUTO_FD int fd = -1;

	if (known) {
		*out = *known;
		return 0;
	}
	fd = openat(ffs_store_dir(v->s->w->store, FFS_DIR_OBJECTS), path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_errno(err, errno, "open");
	TRY(hash_file(v, fd, (uint64_t)st->st_size, out, err));
	if (st->st_nlink < 2)
		return 0;
	known = arena_alloc(rpc_arena(v->call), sizeof(*known));
	*known = *out;
	map_put(&v->linked, map_key_u64(&inode), known);
	return 0;
}

static int object_damaged(struct verify *v, const struct digest *key, const char *path,
                          const struct ffs_object_users *users, const struct err *why, struct err *err)
{
	AUTO_FREE char *shown = xasprintf("objects/%s", path);
	PB(Damage) *m = damage_add(v, "object", key, shown, why);

	for (unsigned i = 0; i < users->n; i++)
		name_layer(v, m, &users->layers[i].key, &users->layers[i].blob);
	m->lazy = users->lazy;
	if (!v->remove)
		return 0;
	if (unlinkat(ffs_store_dir(v->s->w->store, FFS_DIR_OBJECTS), path, 0) < 0 && errno != ENOENT)
		return err_errno(err, errno, "remove %s", shown);
	m->removed = true;
	return 0;
}

static int verify_object(struct verify *v, const struct digest *key, const struct stat *st, struct err *err)
{
	char path[FFS_OBJECT_PATH_MAX], want[DIGEST_TEXT_MAX], have[DIGEST_TEXT_MAX];
	struct ffs_object_users users;
	struct err why = ERR_INIT;
	struct digest sum;

	v->rsp->objects++;
	ffs_object_path(key, path);
	if (hash_object(v, path, st, &sum, &why) < 0) {
		TRY(tell_apart(v, &why, err));
		if (why.code == ERR_NOT_FOUND)
			return 0; /* collected meanwhile */
		ffs_data_object_users(v->s->w->data, key, &users);
		return object_damaged(v, key, path, &users, &why, err);
	}
	if (digest_eq(&sum, key))
		return 0;
	ffs_data_object_users(v->s->w->data, key, &users);
	if (digest_eq(&sum, &users.content))
		return 0;
	if (!users.n) {
		v->rsp->unknown++; /* a claim, perhaps, of a layer that has gone */
		return 0;
	}
	err_set(&why, ERR_DATA_LOSS, "its content is %s, not %s", digest_text(&sum, have),
	        digest_text(&users.content, want));
	return object_damaged(v, key, path, &users, &why, err);
}

int verb_verify(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	PB(VerifyResponse) rsp = CONTENTD__CONTENTFS__V1__VERIFY_RESPONSE__INIT;
	const PB(VerifyRequest) *req = request;
	AUTO(hasher) struct hasher *hasher = hasher_new();
	AUTO_FREE uint8_t *bytes = xmalloc(READ_BYTES);
	struct verify v = {.s = svc, .call = c, .remove = req->remove, .rsp = &rsp, .hasher = hasher, .bytes = bytes};
	int r;

	rsp.damages = arena_zalloc(rpc_arena(c), DAMAGES_MAX, sizeof(*rsp.damages));
	r = verify_indexes(&v, err);
	if (r >= 0)
		r = each_object(&v, count_object, err);
	if (r >= 0)
		r = each_object(&v, verify_object, err);
	map_fini(&v.linked);
	TRY(r);
	return rpc_reply(c, &rsp.base, err);
}
