#include "estargz/index/index_tree.h"
#include "estargz/tar/tar.h"
#include "estargz/toc/toc.h"

#include "base/clock.h"
#include "base/json.h"

#include <inttypes.h>

/* Fields of an entry, in the order in which the writers emit them: each search goes on from the field before. */
enum field {
	F_NAME,
	F_TYPE,
	F_SIZE,
	F_MODTIME,
	F_LINK_NAME,
	F_MODE,
	F_UID,
	F_GID,
	F_DEV_MAJOR,
	F_DEV_MINOR,
	F_XATTRS,
	F_DIGEST,
	F_OFFSET,
	F_CHUNK_OFFSET,
	F_CHUNK_SIZE,
	F_CHUNK_DIGEST,
	F_INNER_OFFSET,
	F_N,
};

static const struct str FIELD_NAMES[F_N] = {
    [F_NAME] = STR("name"),
    [F_TYPE] = STR("type"),
    [F_SIZE] = STR("size"),
    [F_MODTIME] = STR("modtime"),
    [F_LINK_NAME] = STR("linkName"),
    [F_MODE] = STR("mode"),
    [F_UID] = STR("uid"),
    [F_GID] = STR("gid"),
    [F_DEV_MAJOR] = STR("devMajor"),
    [F_DEV_MINOR] = STR("devMinor"),
    [F_XATTRS] = STR("xattrs"),
    [F_DIGEST] = STR("digest"),
    [F_OFFSET] = STR("offset"),
    [F_CHUNK_OFFSET] = STR("chunkOffset"),
    [F_CHUNK_SIZE] = STR("chunkSize"),
    [F_CHUNK_DIGEST] = STR("chunkDigest"),
    [F_INNER_OFFSET] = STR("innerOffset"),
};

struct xattr_place {
	struct str name;
	size_t off, n; /* value in xattr_bytes */
};

/* One element of "entries" as it stands there. Views live as long as the JSON. */
struct toc_entry {
	struct str text[F_N];
	int64_t number[F_N];
	VEC(struct xattr_place) xattrs;
	struct buf xattr_bytes;
};

struct toc {
	uint64_t data_end; /* payload lies before */
	struct esgz_index_builder *b;
	struct toc_entry entry[2];
	struct toc_entry *file; /* the regular file whose chunks are coming; or NULL */
	struct digest content;  /* its digest */
	VEC(struct esgz_chunk) chunks;
	VEC(struct esgz_xattr) xattrs;
	struct buf path;
	int64_t version;
};

static void toc_fini(struct toc *t)
{
	for (size_t i = 0; i < ARRAY_LEN(t->entry); i++) {
		vec_fini(&t->entry[i].xattrs);
		buf_fini(&t->entry[i].xattr_bytes);
	}
	vec_fini(&t->chunks);
	vec_fini(&t->xattrs);
	buf_fini(&t->path);
	esgz_index_builder_free(t->b);
}
DEFINE_AUTO_FINI(toc);

/* ---- one entry of the JSON ---- */

/* The field, or F_N: an unknown one. */
static enum field find_field(struct str key, enum field after)
{
	for (unsigned i = 1; i <= F_N; i++) {
		enum field f = (enum field)((after + i) % F_N);

		if (FIELD_NAMES[f].n == key.n && str_ieq(FIELD_NAMES[f], key))
			return f;
	}
	return F_N;
}

static int read_xattrs(struct json_reader *r, struct toc_entry *e, struct err *err)
{
	struct str key, value;
	enum json_type type;
	int more;

	e->xattrs.n = 0;
	TRY(json_peek(r, &type, err));
	if (type == JSON_NULL)
		return json_skip(r, err);
	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		struct xattr_place x = {.name = key, .off = e->xattr_bytes.n};
		size_t i = 0;

		TRY(json_string(r, &value, err));
		TRY_WRAP(base64_decode(value, &e->xattr_bytes, err), err, "xattr " STR_FMT, STR_ARG(key));
		x.n = e->xattr_bytes.n - x.off;
		while (i < e->xattrs.n && !str_eq(e->xattrs.p[i].name, key))
			i++;
		if (i >= ESGZ_XATTRS_MAX)
			return err_set(err, ERR_INVALID, "more than %d xattrs", ESGZ_XATTRS_MAX);
		if (i < e->xattrs.n)
			e->xattrs.p[i] = x;
		else
			vec_push(&e->xattrs, x);
	}
	return more;
}

static int read_toc_entry(struct json_reader *r, struct toc_entry *e, struct err *err)
{
	enum field f = F_N - 1;
	struct str key;
	int more;

	memset(e->text, 0, sizeof(e->text));
	memset(e->number, 0, sizeof(e->number));
	e->xattrs.n = 0;
	buf_clear(&e->xattr_bytes);
	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		enum field next = find_field(key, f);

		switch (next) {
		case F_NAME:
		case F_TYPE:
		case F_MODTIME:
		case F_LINK_NAME:
		case F_DIGEST:
		case F_CHUNK_DIGEST:
			TRY(json_string(r, &e->text[next], err));
			break;
		case F_XATTRS:
			TRY(read_xattrs(r, e, err));
			break;
		case F_N:
			TRY(json_skip(r, err));
			continue;
		default:
			TRY(json_i64(r, &e->number[next], err));
			if (e->number[next] < 0)
				return err_set(err, ERR_INVALID, STR_FMT " is negative", STR_ARG(key));
			break;
		}
		f = next;
	}
	return more;
}

/* ---- from TOC entries to index entries ---- */

/* Bits of a chunk that an element describes; its end in the file comes from its size or from the file's. */
static int add_chunk(struct toc *t, const struct toc_entry *e, struct err *err)
{
	uint64_t size = (uint64_t)t->file->number[F_SIZE];
	struct esgz_chunk c = {
	    .blob_offset = (uint64_t)e->number[F_OFFSET],
	    .inner_offset = (uint64_t)e->number[F_INNER_OFFSET],
	    .file_offset = (uint64_t)e->number[F_CHUNK_OFFSET],
	};
	uint64_t bytes = (uint64_t)e->number[F_CHUNK_SIZE];
	struct str digest = e->text[F_CHUNK_DIGEST];

	if (c.file_offset >= size)
		return err_set(err, ERR_INVALID, "chunk at %" PRIu64 " of %" PRIu64 " bytes", c.file_offset, size);
	/* No size: up to the end of the file. */
	if (bytes == 0)
		bytes = size - c.file_offset;
	if (bytes > ESGZ_CHUNK_BYTES_MAX)
		return err_set(err, ERR_INVALID, "chunk of %" PRIu64 " bytes, at most %u can be read", bytes,
		               ESGZ_CHUNK_BYTES_MAX);
	c.bytes = (uint32_t)bytes;
	/* A blob begins with a tar header: data is never its first byte. */
	if (c.blob_offset >= t->data_end || (c.blob_offset == 0 && c.inner_offset == 0))
		return err_set(err, ERR_INVALID, "chunk at %" PRIu64 " of the blob, whose data end at %" PRIu64,
		               c.blob_offset, t->data_end);
	/* The only chunk of a file may leave it to the file's own digest. */
	if (c.file_offset == 0 && bytes == size && (digest.n == 0 || str_eq(digest, t->file->text[F_DIGEST])))
		c.digest = t->content;
	else
		TRY_WRAP(digest_parse(digest, &c.digest, err), err, "chunk at %" PRIu64, c.file_offset);
	vec_push(&t->chunks, c);
	return 0;
}

static int to_type(struct str text, enum esgz_type *out, struct err *err)
{
	static const struct {
		struct str text;
		enum esgz_type type;
	} types[] = {{STR("reg"), ESGZ_REG},           {STR("dir"), ESGZ_DIR},   {STR("symlink"), ESGZ_SYMLINK},
	             {STR("hardlink"), ESGZ_HARDLINK}, {STR("char"), ESGZ_CHAR}, {STR("block"), ESGZ_BLOCK},
	             {STR("fifo"), ESGZ_FIFO}};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (str_eq(text, types[i].text)) {
			*out = types[i].type;
			return 0;
		}
	return err_set(err, ERR_INVALID, "unknown type " STR_FMT, STR_ARG(text));
}

static int to_u32(const struct toc_entry *e, enum field f, uint32_t *out, struct err *err)
{
	if (e->number[f] > UINT32_MAX)
		return err_set(err, ERR_INVALID, STR_FMT " is %" PRId64, STR_ARG(FIELD_NAMES[f]), e->number[f]);
	*out = (uint32_t)e->number[f];
	return 0;
}

static int to_index_entry(const struct toc_entry *t, struct esgz_entry *e, struct err *err)
{
	struct timespec mtime = {0};

	TRY(to_type(t->text[F_TYPE], &e->type, err));
	e->path = t->text[F_NAME];
	e->mode = (uint32_t)t->number[F_MODE] & 07777;
	TRY(to_u32(t, F_UID, &e->uid, err));
	TRY(to_u32(t, F_GID, &e->gid, err));
	if (t->text[F_MODTIME].n > 0 && !time_parse_rfc3339(t->text[F_MODTIME], &mtime))
		return err_set(err, ERR_INVALID, "time " STR_FMT, STR_ARG(t->text[F_MODTIME]));
	e->mtime_s = mtime.tv_sec;
	e->mtime_ns = (uint32_t)mtime.tv_nsec;
	switch (e->type) {
	case ESGZ_REG:
		e->size = (uint64_t)t->number[F_SIZE];
		break;
	case ESGZ_SYMLINK:
	case ESGZ_HARDLINK:
		e->link = t->text[F_LINK_NAME];
		break;
	case ESGZ_CHAR:
	case ESGZ_BLOCK:
		TRY(to_u32(t, F_DEV_MAJOR, &e->dev_major, err));
		TRY(to_u32(t, F_DEV_MINOR, &e->dev_minor, err));
		break;
	default:
		break;
	}
	return 0;
}

/* Hands an entry, with the chunks that have been gathered, to the index. */
static int emit(struct toc *t, const struct toc_entry *from, struct err *err)
{
	struct esgz_entry e = {0};

	vec_clear(&t->xattrs);
	for (size_t i = 0; i < from->xattrs.n; i++) {
		const struct xattr_place *x = &from->xattrs.p[i];

		vec_push(&t->xattrs, (struct esgz_xattr){x->name, str_make(from->xattr_bytes.p + x->off, x->n)});
	}
	TRY_WRAP(to_index_entry(from, &e, err), err, STR_FMT, STR_ARG(from->text[F_NAME]));
	if (e.type == ESGZ_REG)
		e.content = t->content;
	return esgz_index_add(t->b, &e, t->xattrs.p, (uint32_t)t->xattrs.n, t->chunks.p, (uint32_t)t->chunks.n, NULL,
	                      err);
}

static int flush_file(struct toc *t, struct err *err)
{
	struct toc_entry *file = STEAL(t->file);

	if (!file)
		return 0;
	TRY(emit(t, file, err));
	vec_clear(&t->chunks);
	return 0;
}

static int begin_file(struct toc *t, struct toc_entry *e, struct err *err)
{
	t->file = e;
	/* The digest of an empty file may be missing. */
	t->content = (struct digest){{0}};
	if (e->number[F_SIZE] > 0 || e->text[F_DIGEST].n > 0)
		TRY(digest_parse(e->text[F_DIGEST], &t->content, err));
	return e->number[F_SIZE] > 0 ? add_chunk(t, e, err) : 0;
}

static int take_entry(struct toc *t, struct toc_entry *e, struct err *err)
{
	struct str type = e->text[F_TYPE];

	if (str_eqc(type, "chunk")) {
		/* Chunks follow their file; a name, if given, is the file's. */
		if (!t->file || (e->text[F_NAME].n > 0 && !str_eq(e->text[F_NAME], t->file->text[F_NAME])))
			return err_set(err, ERR_INVALID, STR_FMT ": chunk that does not follow its file",
			               STR_ARG(e->text[F_NAME]));
		TRY_WRAP(add_chunk(t, e, err), err, STR_FMT, STR_ARG(e->text[F_NAME]));
		return 0;
	}
	TRY(flush_file(t, err));
	if (!str_eqc(type, "reg"))
		return emit(t, e, err);
	TRY_WRAP(begin_file(t, e, err), err, STR_FMT, STR_ARG(e->text[F_NAME]));
	return 0;
}

/* Landmarks and the TOC itself lie in the root, however that is spelt. */
static int is_marker_entry(struct toc *t, const struct toc_entry *e, bool *yes, struct err *err)
{
	struct str name = e->text[F_NAME];

	*yes = false;
	/* Few names are worth a closer look. */
	if (!str_ends(name, STR(".landmark")) && !str_ends(name, STR(ESGZ_TOC_NAME)))
		return 0;
	TRY(esgz_path_clean(name, &t->path, err));
	*yes = esgz_is_marker(buf_str(&t->path));
	return 0;
}

static int read_entries(struct toc *t, struct json_reader *r, struct err *err)
{
	int more;

	TRY(json_array_begin(r, err));
	while ((more = json_array_next(r, err)) > 0) {
		struct toc_entry *e = &t->entry[t->file == &t->entry[0]];
		bool marker;

		TRY_WRAP(read_toc_entry(r, e, err), err, STR_FMT, STR_ARG(e->text[F_NAME]));
		TRY(is_marker_entry(t, e, &marker, err));
		if (marker)
			TRY(flush_file(t, err));
		else
			TRY(take_entry(t, e, err));
	}
	TRY(more);
	return flush_file(t, err);
}

static int read_toc(struct toc *t, struct json_reader *r, struct err *err)
{
	bool seen = false;
	struct str key;
	int more;

	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		if (json_key_is(key, "version")) {
			TRY(json_i64(r, &t->version, err));
		} else if (json_key_is(key, "entries")) {
			if (seen)
				return err_set(err, ERR_INVALID, "entries twice");
			seen = true;
			TRY(read_entries(t, r, err));
		} else {
			TRY(json_skip(r, err));
		}
	}
	TRY(more);
	TRY(json_end(r, err));
	if (t->version != 1)
		return err_set(err, ERR_INVALID, "version %" PRId64, t->version);
	if (!seen)
		return err_set(err, ERR_INVALID, "no entries");
	return 0;
}

static int to_index(const struct esgz_footer *footer, struct buf *json, const struct digest *toc_digest,
                    const struct digest *blob, uint64_t blob_bytes, struct buf *index_out, struct err *err)
{
	bool is_zstd = footer->kind == ESGZ_FOOTER_ZSTD_STARGZ || footer->kind == ESGZ_FOOTER_ZSTD_STORAGE;
	const struct esgz_index_info info = {.blob = *blob,
	                                     .trusted = *toc_digest,
	                                     .trust = ESGZ_TRUST_TOC,
	                                     .compression = is_zstd ? ESGZ_ZSTD : ESGZ_GZIP,
	                                     .blob_bytes = blob_bytes};
	size_t json_bytes = json->n;
	AUTO(json_reader) struct json_reader *r = json_reader_new_take(json);
	AUTO(toc) struct toc t = {.b = esgz_index_builder_new()};

	if (footer->kind == ESGZ_FOOTER_NONE || footer->toc_offset > blob_bytes)
		return err_set(err, ERR_INVALID, "without a footer that fits");
	/* A zstd TOC's offset is that of the data in its skippable frame. */
	t.data_end = footer->toc_offset - (is_zstd && footer->toc_offset >= 8 ? 8 : 0);
	/* An entry takes 300 bytes or more in practice. */
	index_tree_expect(t.b, json_bytes / 256);
	index_tree_open_ended(t.b);
	TRY(read_toc(&t, r, err));
	index_tree_end_chunks(t.b, t.data_end);
	return esgz_index_finish(t.b, &info, index_out, err);
}

int esgz_toc_to_index(const struct esgz_footer *footer, struct buf *json, const struct digest *toc_digest,
                      const struct digest *blob, uint64_t blob_bytes, struct buf *index_out, struct err *err)
{
	TRY_WRAP(to_index(footer, json, toc_digest, blob, blob_bytes, index_out, err), err, "TOC");
	return 0;
}
