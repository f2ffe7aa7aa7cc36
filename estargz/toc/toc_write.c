#include "estargz/toc/toc_write.h"

#include "estargz/tar/tar_write.h"
#include "estargz/toc/toc.h"

#include "base/clock.h"
#include "base/json.h"

/* Bytes of JSON that an entry, an xattr, a chunk behind the first takes beside its texts, or more. */
#define ENTRY_JSON_MIN 30
#define XATTR_JSON_MIN 6
#define CHUNK_JSON_MIN 100

void toc_writer_fini(struct toc_writer *t)
{
	vec_fini(&t->records);
	vec_fini(&t->chunks);
	vec_fini(&t->xattrs);
	buf_fini(&t->texts);
	map_fini(&t->paths);
}

static struct str text(const struct toc_writer *t, struct toc_text x)
{
	return str_make(t->texts.p + x.at, x.n);
}

static struct toc_text keep(struct toc_writer *t, struct str s)
{
	struct toc_text x = {(uint32_t)t->texts.n, (uint32_t)s.n};

	buf_addstr(&t->texts, s);
	return x;
}

static int check_text(struct str s, const char *what, struct err *err)
{
	if (!str_is_utf8(s))
		return err_set(err, ERR_INVALID, "%s is not UTF-8, so a TOC has no way to say it", what);
	return 0;
}

/* What comes takes so many bytes of the JSON: known long before it is written. */
static int expect_json(struct toc_writer *t, uint64_t bytes, struct err *err)
{
	t->json_bytes += bytes;
	if (t->json_bytes > ESGZ_TOC_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED, "the table of contents has more than %u bytes", ESGZ_TOC_BYTES_MAX);
	return 0;
}

static int expect_entry(struct toc_writer *t, const struct esgz_entry *e, const struct esgz_xattr *xattrs,
                        uint32_t n_xattrs, struct err *err)
{
	uint64_t bytes = ENTRY_JSON_MIN + e->path.n + e->link.n;

	if (t->records.n >= ESGZ_ENTRIES_MAX)
		return err_set(err, ERR_EXHAUSTED, "the layer has too many entries");
	for (uint32_t i = 0; i < n_xattrs; i++)
		bytes += XATTR_JSON_MIN + xattrs[i].name.n + (xattrs[i].value.n + 2) / 3 * 4;
	return expect_json(t, bytes, err);
}

int toc_add(struct toc_writer *t, const struct esgz_entry *e, const struct esgz_xattr *xattrs, uint32_t n_xattrs,
            struct err *err)
{
	struct toc_record r = {.type = e->type,
	                       .mode = e->mode & 07777,
	                       .uid = e->uid,
	                       .gid = e->gid,
	                       .dev_major = e->dev_major,
	                       .dev_minor = e->dev_minor,
	                       .mtime_s = e->mtime_s,
	                       .mtime_ns = e->mtime_ns,
	                       .size = e->type == ESGZ_REG ? e->size : 0,
	                       .content = DIGEST_EMPTY,
	                       .first_xattr = (uint32_t)t->xattrs.n,
	                       .n_xattrs = n_xattrs,
	                       .first_chunk = (uint32_t)t->chunks.n};
	AUTO(buf) struct buf name = BUF_INIT;
	uintptr_t old;

	TRY(check_text(e->path, "the name", err));
	TRY(check_text(e->link, "the target", err));
	TRY(expect_entry(t, e, xattrs, n_xattrs, err));
	if (!t->verbatim)
		tar_write_name(e, &name);
	r.name = keep(t, t->verbatim ? e->path : buf_str(&name));
	r.link = keep(t, e->link);
	for (uint32_t i = 0; i < n_xattrs; i++) {
		TRY(check_text(xattrs[i].name, "the name of an xattr", err));
		vec_push(&t->xattrs, keep(t, xattrs[i].name));
		vec_push(&t->xattrs, keep(t, xattrs[i].value));
	}
	vec_push(&t->records, r);
	if (t->verbatim)
		return 0;
	old = (uintptr_t)map_put(&t->paths, e->path, (void *)(uintptr_t)t->records.n);
	if (old > 0)
		t->records.p[old - 1].replaced = true;
	return 0;
}

int toc_add_chunk(struct toc_writer *t, uint64_t file_offset, uint32_t *number, struct err *err)
{
	if (t->chunks.n >= ESGZ_CHUNKS_MAX)
		return err_set(err, ERR_EXHAUSTED, "the layer has too many chunks");
	if (vec_last(&t->records)->n_chunks > 0)
		TRY(expect_json(t, CHUNK_JSON_MIN + vec_last(&t->records)->name.n, err));
	*number = (uint32_t)t->chunks.n;
	vec_push(&t->chunks, (struct toc_chunk){.file_offset = file_offset});
	vec_last(&t->records)->n_chunks++;
	return 0;
}

static const char *type_name(enum esgz_type t)
{
	switch (t) {
	case ESGZ_DIR:
		return "dir";
	case ESGZ_SYMLINK:
		return "symlink";
	case ESGZ_HARDLINK:
		return "hardlink";
	case ESGZ_CHAR:
		return "char";
	case ESGZ_BLOCK:
		return "block";
	case ESGZ_FIFO:
		return "fifo";
	default:
		return "reg";
	}
}

/* Zeros are left out. */
static void put_number(struct json_writer *w, const char *key, uint64_t v)
{
	if (v == 0)
		return;
	json_w_key(w, key);
	json_w_u64(w, v);
}

static void put_digest(struct json_writer *w, const char *key, const struct digest *d)
{
	char hex[DIGEST_TEXT_MAX];

	json_w_kcstr(w, key, digest_text(d, hex));
}

static void put_time(struct json_writer *w, const char *key, int64_t s, uint32_t ns)
{
	/* What RFC 3339 can say: the years 0000 to 9999. */
	const int64_t first = -62167219200, last = 253402300799;
	int64_t in_range = s < first ? first : s > last ? last : s;
	char t[40];

	json_w_kcstr(w, key, time_rfc3339((struct timespec){.tv_sec = in_range, .tv_nsec = ns}, t));
}

static void put_xattrs(struct json_writer *w, const struct toc_writer *t, const struct toc_record *r,
                       struct buf *base64)
{
	if (r->n_xattrs == 0)
		return;
	json_w_key(w, "xattrs");
	json_w_object_begin(w);
	for (uint32_t i = r->first_xattr; i < r->first_xattr + 2 * r->n_xattrs; i += 2) {
		buf_clear(base64);
		base64_encode(text(t, t->xattrs.p[i + 1]), base64);
		json_w_key_str(w, text(t, t->xattrs.p[i]));
		json_w_str(w, buf_str(base64));
	}
	json_w_object_end(w);
}

/* Of a chunk after the first, or of the first one of its file. stargz: only chunks of the full size say theirs, the last
 * one of a file goes to its end. Verbatim: each chunk is a frame; a file of one chunk is described by what it has
 * itself. */
static void put_chunk(struct json_writer *w, const struct toc_writer *t, const struct toc_chunk *c, bool only)
{
	put_number(w, "offset", c->blob_offset);
	if (t->verbatim && only)
		return;
	put_number(w, "innerOffset", c->inner_offset);
	put_number(w, "chunkOffset", c->file_offset);
	put_number(w, "chunkSize", t->verbatim || c->bytes == t->full_chunk ? c->bytes : 0);
	put_digest(w, "chunkDigest", &c->digest);
	if (c->hole)
		json_w_kcstr(w, "chunkType", "zeros");
}

static void put_record(struct json_writer *w, const struct toc_writer *t, const struct toc_record *r,
                       struct buf *base64)
{
	const struct toc_chunk *chunks = r->n_chunks ? &t->chunks.p[r->first_chunk] : NULL;
	struct str name = text(t, r->name);

	json_w_object_begin(w);
	json_w_kstr(w, "name", name);
	json_w_kcstr(w, "type", type_name(r->type));
	put_number(w, "size", r->size);
	if (t->verbatim || r->mtime_s != 0 || r->mtime_ns != 0)
		put_time(w, "modtime", r->mtime_s, r->mtime_ns);
	if (r->atime.given)
		put_time(w, "accesstime", r->atime.s, r->atime.ns);
	if (r->ctime.given)
		put_time(w, "changetime", r->ctime.s, r->ctime.ns);
	if (r->link.n > 0)
		json_w_kstr(w, "linkName", text(t, r->link));
	put_number(w, "mode", r->mode);
	put_number(w, "uid", r->uid);
	put_number(w, "gid", r->gid);
	if (r->type == ESGZ_CHAR || r->type == ESGZ_BLOCK) {
		put_number(w, "devMajor", r->dev_major);
		put_number(w, "devMinor", r->dev_minor);
	}
	put_xattrs(w, t, r, base64);
	if (r->type == ESGZ_REG && (chunks || !t->verbatim))
		put_digest(w, "digest", r->n_chunks == 1 ? &chunks[0].digest : &r->content);
	if (chunks)
		put_chunk(w, t, &chunks[0], r->n_chunks == 1);
	if (chunks && t->verbatim)
		put_number(w, "endOffset", chunks[r->n_chunks - 1].blob_end);
	json_w_object_end(w);
	for (uint32_t i = 1; i < r->n_chunks; i++) {
		json_w_object_begin(w);
		json_w_kstr(w, "name", name);
		json_w_kcstr(w, "type", "chunk");
		put_chunk(w, t, &chunks[i], false);
		json_w_object_end(w);
	}
}

int toc_finish(const struct toc_writer *t, const struct digest *tar_split, struct buf *json, struct err *err)
{
	AUTO(buf) struct buf base64 = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, json, t->verbatim ? NULL : "\t");
	json_w_object_begin(&w);
	json_w_ki64(&w, "version", 1);
	json_w_key(&w, "entries");
	json_w_array_begin(&w);
	vec_each(&t->records, r) {
		if (!r->replaced)
			put_record(&w, t, r, &base64);
		if (json->n > ESGZ_TOC_BYTES_MAX)
			return err_set(err, ERR_EXHAUSTED, "the table of contents has more than %u bytes",
			               ESGZ_TOC_BYTES_MAX);
	}
	json_w_array_end(&w);
	if (tar_split)
		put_digest(&w, "tarSplitDigest", tar_split);
	json_w_object_end(&w);
	return 0;
}
