/* Layer indexes on disk, where their blobs come from, and what is known of them. */
#include "fusefs/store_internal.h"

#include "base/failpoint.h"
#include "base/file.h"
#include "base/json.h"
#include "estargz/gzseek/artifact.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define INDEX_BYTES_MAX (1ull << 32)
#define SOURCE_BYTES_MAX 16384
#define DIFFERENCE_MAX 1000
#define SOURCE_SUFFIX ".source"
#define SOURCE_NAME_MAX (64 + sizeof(SOURCE_SUFFIX))

void ffs_source_fini(struct ffs_source *src)
{
	free(src->reference);
	free(src->owner);
	free(src->media_type);
	free(src->facts.difference);
	memset(src, 0, sizeof(*src));
}

static char *source_name(const struct digest *key, char dst[static SOURCE_NAME_MAX])
{
	char hex[65];

	snprintf(dst, SOURCE_NAME_MAX, "%s" SOURCE_SUFFIX, digest_hex(key, hex));
	return dst;
}

#define POINTS_NAME_MAX (64 + sizeof(FFS_POINTS_SUFFIX))

static char *points_name(const struct digest *key, char dst[static POINTS_NAME_MAX])
{
	char hex[65];

	snprintf(dst, POINTS_NAME_MAX, "%s" FFS_POINTS_SUFFIX, digest_hex(key, hex));
	return dst;
}

char *ffs_gaps_name(const struct digest *key, char dst[static FFS_GAPS_NAME_MAX])
{
	char hex[65];

	snprintf(dst, FFS_GAPS_NAME_MAX, "%s" FFS_GAPS_SUFFIX, digest_hex(key, hex));
	return dst;
}

static const char *const TREES[] = {
    [FFS_TREE_UNKNOWN] = "unknown",
    [FFS_TREE_SAME] = "same",
    [FFS_TREE_DIFFERS] = "differs",
};

/* They are known together. */
static bool has_padded(const struct ffs_facts *f)
{
	return !digest_is_zero(&f->padded[FFS_PADDED_MAX - 1]);
}

static void facts_encode(const struct ffs_facts *f, struct json_writer *w)
{
	char text[DIGEST_TEXT_MAX];

	if (digest_is_zero(&f->diff_id))
		return;
	json_w_kcstr(w, "diffId", digest_text(&f->diff_id, text));
	json_w_kbool(w, "ofBlob", f->of_blob);
	if (has_padded(f)) {
		json_w_key(w, "padded");
		json_w_array_begin(w);
		for (unsigned i = 0; i < FFS_PADDED_MAX; i++)
			json_w_cstr(w, digest_text(&f->padded[i], text));
		json_w_array_end(w);
	}
	json_w_kcstr(w, "tree", TREES[f->tree]);
	if (f->difference) {
		json_w_key(w, "difference");
		json_w_str(w, str_sub(str_of(f->difference), 0, DIFFERENCE_MAX));
	}
}

static void split_encode(const struct ffs_split *split, struct json_writer *w)
{
	char text[DIGEST_TEXT_MAX];

	if (!split->packed_bytes)
		return;
	json_w_ki64(w, "splitOffset", (int64_t)split->offset);
	json_w_ki64(w, "splitBytes", (int64_t)split->packed_bytes);
	json_w_ki64(w, "splitPlainBytes", (int64_t)split->plain_bytes);
	json_w_kcstr(w, "splitDigest", digest_text(&split->digest, text));
}

static void source_encode(const struct ffs_source *src, struct buf *out)
{
	struct json_writer w;
	char text[DIGEST_TEXT_MAX];

	json_writer_init(&w, out, NULL);
	json_w_object_begin(&w);
	json_w_kcstr(&w, "reference", src->reference);
	json_w_kcstr(&w, "owner", src->owner ? src->owner : "");
	json_w_kcstr(&w, "blob", digest_text(&src->blob, text));
	json_w_ki64(&w, "bytes", (int64_t)src->blob_bytes);
	json_w_kcstr(&w, "mediaType", src->media_type ? src->media_type : "");
	if (!digest_is_zero(&src->promised))
		json_w_kcstr(&w, "promised", digest_text(&src->promised, text));
	split_encode(&src->split, &w);
	facts_encode(&src->facts, &w);
	json_w_object_end(&w);
}

static int put_fast(int dir_fd, const char *name, struct str data, struct err *err)
{
	static _Atomic unsigned serial;
	AUTO_FREE char *tmp = xasprintf(".%s.%d-%u", name, (int)getpid(), serial++);
	AUTO_FD int fd = openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_errno(err, errno, "create index/%s", tmp);
	if (fd_write_all(fd, data, err) < 0) {
		unlinkat(dir_fd, tmp, 0);
		return err_wrap(err, "write index/%s", name);
	}
	if (renameat(dir_fd, tmp, dir_fd, name) < 0)
		return err_errno(err, errno, "rename index/%s", tmp);
	return 0;
}

bool ffs_index_has(struct ffs_store *s, const struct digest *key)
{
	char hex[65], name[SOURCE_NAME_MAX];

	return faccessat(s->dirs[FFS_DIR_INDEX], digest_hex(key, hex), F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	       faccessat(s->dirs[FFS_DIR_INDEX], source_name(key, name), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int map_file(struct ffs_store *s, const char *name, struct str *bytes, struct err *err)
{
	AUTO_FD int fd = -1;
	struct stat st;
	void *p;

	fd = openat(s->dirs[FFS_DIR_INDEX], name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "layer index %s", name);
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (uint64_t)st.st_size > INDEX_BYTES_MAX)
		return err_set(err, ERR_DATA_LOSS, "layer index %s: %lld bytes", name, (long long)st.st_size);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_errno(err, errno, "map layer index %s", name);
	*bytes = str_make(p, (size_t)st.st_size);
	return 0;
}

int ffs_index_map(struct ffs_store *s, const struct digest *key, struct str *bytes, struct err *err)
{
	char hex[65];

	return map_file(s, digest_hex(key, hex), bytes, err);
}

int ffs_index_map_points(struct ffs_store *s, const struct digest *key, struct str *bytes, struct err *err)
{
	char name[POINTS_NAME_MAX];

	return map_file(s, points_name(key, name), bytes, err);
}

int ffs_index_check_points(struct ffs_store *s, const struct digest *key, const struct esgz_index *ix, uint64_t *bytes,
                           struct err *err)
{
	struct esgz_points *points = NULL;
	struct err why = ERR_INIT;
	struct str file;
	int r;

	if (esgz_index_get_info(ix)->compression != ESGZ_GZIP_SEEK)
		return 0;
	/* None is damage, unless the layer is just being deleted. */
	if (ffs_index_map_points(s, key, &file, &why) < 0)
		return err_set(err, why.code == ERR_NOT_FOUND && ffs_index_has(s, key) ? ERR_DATA_LOSS : why.code, "%s",
		               why.msg);
	r = esgz_points_open(file, &points, err);
	if (r >= 0)
		r = esgz_gzseek_match(points, ix, err);
	*bytes += file.n;
	esgz_points_free(points);
	ffs_index_unmap(file);
	return r;
}

void ffs_index_unmap(struct str bytes)
{
	if (bytes.p)
		munmap((void *)bytes.p, bytes.n);
}

static int take_text(struct json_reader *j, char **out, struct err *err)
{
	struct str text;

	TRY(json_string(j, &text, err));
	free(*out);
	*out = str_dup(text);
	return 0;
}

static int take_digest(struct json_reader *j, struct digest *out, struct err *err)
{
	struct str text;

	TRY(json_string(j, &text, err));
	return digest_parse(text, out, err);
}

static int take_padded(struct json_reader *j, struct ffs_facts *f, struct err *err)
{
	unsigned n = 0;
	int more;

	TRY(json_array_begin(j, err));
	while ((more = json_array_next(j, err)) > 0) {
		if (n == FFS_PADDED_MAX)
			return err_set(err, ERR_DATA_LOSS, "more than %u padded DiffIDs", FFS_PADDED_MAX);
		TRY(take_digest(j, &f->padded[n++], err));
	}
	return more;
}

static int source_field(struct json_reader *j, struct str key, struct ffs_source *src, struct err *err)
{
	struct str text;

	if (str_eqc(key, "reference"))
		return take_text(j, &src->reference, err);
	if (str_eqc(key, "owner"))
		return take_text(j, &src->owner, err);
	if (str_eqc(key, "mediaType"))
		return take_text(j, &src->media_type, err);
	if (str_eqc(key, "bytes"))
		return json_u64(j, &src->blob_bytes, err);
	if (str_eqc(key, "blob"))
		return take_digest(j, &src->blob, err);
	if (str_eqc(key, "splitOffset"))
		return json_u64(j, &src->split.offset, err);
	if (str_eqc(key, "splitBytes"))
		return json_u64(j, &src->split.packed_bytes, err);
	if (str_eqc(key, "splitPlainBytes"))
		return json_u64(j, &src->split.plain_bytes, err);
	if (str_eqc(key, "splitDigest"))
		return take_digest(j, &src->split.digest, err);
	if (str_eqc(key, "promised"))
		return take_digest(j, &src->promised, err);
	if (str_eqc(key, "diffId"))
		return take_digest(j, &src->facts.diff_id, err);
	if (str_eqc(key, "ofBlob"))
		return json_bool(j, &src->facts.of_blob, err);
	if (str_eqc(key, "padded"))
		return take_padded(j, &src->facts, err);
	if (str_eqc(key, "difference"))
		return take_text(j, &src->facts.difference, err);
	if (str_eqc(key, "tree")) {
		TRY(json_string(j, &text, err));
		for (unsigned i = 0; i < ARRAY_LEN(TREES); i++)
			if (str_eqc(text, TREES[i]))
				src->facts.tree = (enum ffs_tree)i;
		return 0;
	}
	return json_skip(j, err);
}

static int source_decode(struct str text, struct ffs_source *src, struct err *err)
{
	AUTO(json_reader) struct json_reader *j = json_reader_new(text);
	struct str key;
	int more;

	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0)
		TRY(source_field(j, key, src, err));
	TRY(more);
	TRY(json_end(j, err));
	if (!src->owner)
		src->owner = xstrdup(""); /* written by an older version */
	if (!src->reference || !src->media_type || digest_is_zero(&src->blob))
		return err_set(err, ERR_DATA_LOSS, "a field is missing");
	return 0;
}

int ffs_index_source(struct ffs_store *s, const struct digest *key, struct ffs_source *out, struct err *err)
{
	AUTO(ffs_source) struct ffs_source src = {0};
	AUTO(buf) struct buf text = BUF_INIT;
	char name[SOURCE_NAME_MAX];

	source_name(key, name);
	TRY_WRAP(file_read(s->dirs[FFS_DIR_INDEX], name, SOURCE_BYTES_MAX, &text, err), err, "index/%s", name);
	TRY_WRAP(source_decode(buf_str(&text), &src, err), err, "index/%s", name);
	*out = src;
	src = (struct ffs_source){0};
	return 0;
}

/* What an earlier one of that key says and the new one does not know. */
static void keep_known(struct ffs_store *s, const struct digest *key, struct ffs_source *src)
{
	AUTO(ffs_source) struct ffs_source old = {0};

	if (ffs_index_source(s, key, &old, NULL) < 0)
		return;
	if (!src->split.packed_bytes)
		src->split = old.split;
	if (digest_is_zero(&src->promised))
		src->promised = old.promised;
	if (digest_is_zero(&src->facts.diff_id)) {
		src->facts = old.facts;
		old.facts.difference = NULL;
	}
}

static int source_put(struct ffs_store *s, const struct digest *key, const struct ffs_source *src, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	char name[SOURCE_NAME_MAX];

	source_encode(src, &text);
	return put_fast(s->dirs[FFS_DIR_INDEX], source_name(key, name), buf_str(&text), err);
}

static int source_put_new(struct ffs_store *s, const struct digest *key, const struct ffs_source *src, struct err *err)
{
	struct ffs_source with = *src;
	int r;

	pthread_mutex_lock(&s->source_lock);
	keep_known(s, key, &with);
	r = source_put(s, key, &with, err);
	pthread_mutex_unlock(&s->source_lock);
	if (with.facts.difference != src->facts.difference)
		free(with.facts.difference);
	return r;
}

/* Source and points go first: an index without one would be listed, and could not be fetched from. */
int ffs_index_put(struct ffs_store *s, const struct digest *key, struct str index, struct str points,
                  const struct ffs_source *src, bool durable, struct err *err)
{
	int dir = s->dirs[FFS_DIR_INDEX];
	char hex[65], name[POINTS_NAME_MAX];

	digest_hex(key, hex);
	TRY(source_put_new(s, key, src, err));
	FAILPOINT("index-source");
	if (points.n)
		TRY(put_fast(dir, points_name(key, name), points, err));
	FAILPOINT("index-points");
	TRY(put_fast(dir, hex, index, err));
	FAILPOINT("index-written");
	/* One sync of all instead of four: what a crash in between tears, the checksum shows, and nobody was told of it. */
	return durable ? ffs_objects_sync(s, err) : 0;
}

/* Reads a source, has `change` change it (0: not), writes it again. */
static int source_change(struct ffs_store *s, const struct digest *key,
                         bool (*change)(struct ffs_source *src, void *arg), void *arg, struct err *err)
{
	AUTO(ffs_source) struct ffs_source src = {0};
	int r;

	pthread_mutex_lock(&s->source_lock);
	r = ffs_index_source(s, key, &src, err);
	if (r >= 0 && change(&src, arg))
		r = source_put(s, key, &src, err);
	pthread_mutex_unlock(&s->source_lock);
	return r;
}

struct new_origin {
	const char *reference, *owner;
};

static bool change_origin(struct ffs_source *src, void *arg)
{
	const struct new_origin *to = arg;

	if (!strcmp(src->reference, to->reference) && !strcmp(src->owner, to->owner))
		return false;
	free(src->reference);
	free(src->owner);
	src->reference = xstrdup(to->reference);
	src->owner = xstrdup(to->owner);
	return true;
}

int ffs_index_set_origin(struct ffs_store *s, const struct digest *key, const char *reference, const char *owner,
                         struct err *err)
{
	struct new_origin to = {reference, owner};

	return source_change(s, key, change_origin, &to, err);
}

static bool change_promised(struct ffs_source *src, void *arg)
{
	const struct digest *diff_id = arg;

	if (digest_eq(&src->promised, diff_id))
		return false;
	src->promised = *diff_id;
	return true;
}

int ffs_index_set_promised(struct ffs_store *s, const struct digest *key, const struct digest *diff_id, struct err *err)
{
	struct digest to = *diff_id;

	return source_change(s, key, change_promised, &to, err);
}

static bool change_facts(struct ffs_source *src, void *arg)
{
	const struct ffs_facts *to = arg;

	free(src->facts.difference);
	src->facts = *to;
	src->facts.difference = to->difference ? xstrdup(to->difference) : NULL;
	return true;
}

int ffs_index_set_facts(struct ffs_store *s, const struct digest *key, const struct ffs_facts *facts, struct err *err)
{
	struct ffs_facts to = *facts;

	TRY(source_change(s, key, change_facts, &to, err));
	FAILPOINT("proof-stored");
	return 0;
}

/* ---- the verdict ---- */

const char *ffs_verdict_name(enum ffs_verdict v)
{
	return v == FFS_PROVEN ? "proven" : v == FFS_FALSE ? "false" : "unproven";
}

bool ffs_promise_fits(const struct digest *promised, const struct digest *diff_id,
                      const struct digest padded[static FFS_PADDED_MAX])
{
	bool fits = digest_eq(diff_id, promised);

	for (unsigned i = 0; i < FFS_PADDED_MAX && !fits; i++)
		fits = digest_eq(&padded[i], promised);
	return fits && !digest_is_zero(promised);
}

bool ffs_facts_fit(const struct ffs_facts *f, const struct digest *promised)
{
	return ffs_promise_fits(promised, &f->diff_id, f->padded);
}

bool ffs_facts_decide(const struct ffs_facts *f, const struct digest *promised)
{
	if (digest_is_zero(&f->diff_id) || digest_is_zero(promised))
		return false;
	return ffs_facts_fit(f, promised) || (f->of_blob && has_padded(f)) || ffs_facts_always_false(f);
}

enum ffs_verdict ffs_facts_verdict(const struct ffs_facts *f, const struct digest *promised, struct buf *why)
{
	char have[DIGEST_TEXT_MAX], want[DIGEST_TEXT_MAX];

	if (!ffs_facts_decide(f, promised))
		return FFS_UNPROVEN;
	if (!ffs_facts_fit(f, promised)) {
		if (why)
			buf_addf(why, "its DiffID is %s, the configuration says %s", digest_text(&f->diff_id, have),
			         digest_text(promised, want));
		return FFS_FALSE;
	}
	if (why && f->difference)
		buf_adds(why, f->difference);
	return f->tree == FFS_TREE_SAME ? FFS_PROVEN : f->tree == FFS_TREE_DIFFERS ? FFS_FALSE : FFS_UNPROVEN;
}

bool ffs_facts_always_false(const struct ffs_facts *f)
{
	return !digest_is_zero(&f->diff_id) && f->of_blob && f->tree == FFS_TREE_DIFFERS;
}

/* Not between reading and writing of one who changes it: it would come back. */
static int source_remove(struct ffs_store *s, const struct digest *key, struct err *err)
{
	AUTO(ffs_source) struct ffs_source src = {0};
	char name[SOURCE_NAME_MAX];
	int r = 0;

	pthread_mutex_lock(&s->source_lock);
	if ((ffs_index_source(s, key, &src, NULL) < 0 || !ffs_facts_always_false(&src.facts)) &&
	    unlinkat(s->dirs[FFS_DIR_INDEX], source_name(key, name), 0) < 0 && errno != ENOENT)
		r = err_errno(err, errno, "remove index/%s", name);
	pthread_mutex_unlock(&s->source_lock);
	return r;
}

int ffs_index_remove(struct ffs_store *s, const struct digest *key, struct err *err)
{
	char hex[65], gaps[FFS_GAPS_NAME_MAX], points[POINTS_NAME_MAX];
	int dir = s->dirs[FFS_DIR_INDEX];

	if (unlinkat(dir, digest_hex(key, hex), 0) < 0 && errno != ENOENT)
		return err_errno(err, errno, "remove index/%s", hex);
	FAILPOINT("index-removed");
	if (unlinkat(dir, ffs_gaps_name(key, gaps), 0) < 0 && errno != ENOENT)
		return err_errno(err, errno, "remove index/%s", gaps);
	if (unlinkat(dir, points_name(key, points), 0) < 0 && errno != ENOENT)
		return err_errno(err, errno, "remove index/%s", points);
	return source_remove(s, key, err);
}

/* ---- sources without an index ---- */

struct alone {
	struct digest key;
	int64_t since_s;
};

struct alones {
	VEC(struct alone) v;
};

static void alones_fini(struct alones *a)
{
	vec_fini(&a->v);
}
DEFINE_AUTO_FINI(alones);

static bool is_alone(struct ffs_store *s, const struct digest *key, int64_t *since_s)
{
	char hex[65], name[SOURCE_NAME_MAX];
	struct stat st;

	if (faccessat(s->dirs[FFS_DIR_INDEX], digest_hex(key, hex), F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
	    fstatat(s->dirs[FFS_DIR_INDEX], source_name(key, name), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	*since_s = st.st_mtim.tv_sec;
	return true;
}

static int youngest_first(const void *a, const void *b)
{
	const struct alone *x = a, *y = b;

	return x->since_s != y->since_s ? x->since_s > y->since_s ? -1 : 1 : memcmp(&x->key, &y->key, sizeof(x->key));
}

static int list_alone(struct ffs_store *s, struct alones *out, struct err *err)
{
	AUTO_DIR DIR *d = NULL;
	AUTO_FD int fd = -1;
	struct dirent *e;
	int more;

	fd = openat(s->dirs[FFS_DIR_INDEX], ".", O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "list index/");
	TRY(dir_iter_open(fd, &d, err));
	while ((more = dir_iter_next(d, &e, err)) > 0) {
		struct str name = str_of(e->d_name);
		struct alone a;

		if (str_ends(name, STR(SOURCE_SUFFIX)) &&
		    digest_from_hex(str_sub(name, 0, name.n - strlen(SOURCE_SUFFIX)), &a.key) &&
		    is_alone(s, &a.key, &a.since_s))
			vec_push(&out->v, a);
	}
	return more;
}

int ffs_index_forget_old(struct ffs_store *s, struct err *err)
{
	AUTO(alones) struct alones all = {VEC_INIT};
	int64_t before_s = (int64_t)time(NULL) - FFS_ALONE_S, since_s;

	TRY(list_alone(s, &all, err));
	if (all.v.n)
		qsort(all.v.p, all.v.n, sizeof(*all.v.p), youngest_first);
	for (size_t i = 0; i < all.v.n; i++) {
		const struct alone *a = &all.v.p[i];
		char name[SOURCE_NAME_MAX];

		if (i < FFS_ALONE_MAX && a->since_s >= before_s)
			continue;
		/* An index that is being written is young: its source came just before. */
		pthread_mutex_lock(&s->source_lock);
		if (is_alone(s, &a->key, &since_s) && since_s == a->since_s)
			unlinkat(s->dirs[FFS_DIR_INDEX], source_name(&a->key, name), 0);
		pthread_mutex_unlock(&s->source_lock);
	}
	return 0;
}

int ffs_index_list(struct ffs_store *s, struct ffs_keys *out, struct err *err)
{
	int fd = openat(s->dirs[FFS_DIR_INDEX], ".", O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (!d)
		return err_errno(err, errno, "list index/");
	while ((e = readdir(d))) {
		struct digest key;

		if (digest_from_hex(str_of(e->d_name), &key) && ffs_index_has(s, &key))
			vec_push(&out->v, key);
	}
	closedir(d);
	return 0;
}
