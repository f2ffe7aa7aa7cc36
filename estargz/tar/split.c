#include "estargz/tar/split.h"

#include "base/json.h"
#include "base/map.h"
#include "base/vectors.h"
#include "estargz/index/index.h"

#include <inttypes.h>
#include <isa-l/crc64.h>
#include <zstd.h>

#define BLOCK 512
#define LINE_MAX_BYTES (16u << 20) /* JSON of one entry: it is held three times while it is read */
#define WINDOW_LOG_MAX 23          /* 8 MiB, what encoders choose below --ultra */
#define TRAILER_BYTES (1u << 20)   /* bytes behind the end of the archive go into segments of this size */

enum { FILE_ENTRY = 1, SEGMENT_ENTRY = 2 };

uint64_t esgz_split_crc64(uint64_t crc, struct str bytes)
{
	crc = crc64_iso_refl(crc, (const uint8_t *)bytes.p, bytes.n);
	vectors_leave();
	return crc;
}

/* ---- reading ---- */

struct reader {
	const struct esgz_split_sink *sink;
	struct buf line;    /* the beginning of one whose end has not come */
	struct buf payload; /* of the line at hand */
	struct buf name;
	uint64_t lines;
};

static void reader_fini(struct reader *r)
{
	buf_fini(&r->line);
	buf_fini(&r->payload);
	buf_fini(&r->name);
}
DEFINE_AUTO_FINI(reader);

static int read_base64(struct json_reader *json, struct buf *out, struct err *err)
{
	struct str text;

	buf_clear(out);
	TRY(json_string(json, &text, err));
	return base64_decode(text, out, err);
}

static int give_file(struct reader *r, struct str name, int64_t size, struct err *err)
{
	struct esgz_split_file f = {.name = r->name.n > 0 ? buf_str(&r->name) : name, .size = (uint64_t)size};

	if (size < 0)
		return err_set(err, ERR_INVALID, "file of %" PRId64 " bytes", size);
	if (size > 0 && r->payload.n != sizeof(f.crc64))
		return err_set(err, ERR_INVALID, "file without a checksum");
	for (size_t i = 0; size > 0 && i < sizeof(f.crc64); i++)
		f.crc64 = f.crc64 << 8 | (uint8_t)r->payload.p[i];
	return r->sink->file(r->sink->arg, &f, err);
}

static int read_line(struct reader *r, struct str line, struct err *err)
{
	AUTO(json_reader) struct json_reader *json = json_reader_new(line);
	struct str key, name = STR_NONE;
	int64_t type = 0, size = 0;
	int more;

	buf_clear(&r->payload);
	buf_clear(&r->name);
	TRY(json_object_begin(json, err));
	while ((more = json_object_next(json, &key, err)) > 0) {
		if (json_key_is(key, "type"))
			TRY(json_i64(json, &type, err));
		else if (json_key_is(key, "payload"))
			TRY(read_base64(json, &r->payload, err));
		else if (json_key_is(key, "name"))
			TRY(json_string(json, &name, err));
		else if (json_key_is(key, "name_raw"))
			TRY(read_base64(json, &r->name, err));
		else if (json_key_is(key, "size"))
			TRY(json_i64(json, &size, err));
		else
			TRY(json_skip(json, err));
	}
	TRY(more);
	TRY(json_end(json, err));
	if (type == FILE_ENTRY)
		return give_file(r, name, size, err);
	if (type != SEGMENT_ENTRY)
		return err_set(err, ERR_INVALID, "entry of type %" PRId64, type);
	return r->payload.n > 0 ? r->sink->segment(r->sink->arg, buf_str(&r->payload), err) : 0;
}

static int end_line(struct reader *r, struct str line, struct err *err)
{
	r->lines++;
	if (str_trim(line).n == 0)
		return 0;
	TRY_WRAP(read_line(r, line, err), err, "line %" PRIu64, r->lines);
	return 0;
}

static int take_plain(struct reader *r, struct str plain, struct err *err)
{
	while (plain.n > 0) {
		ptrdiff_t end = str_find(plain, '\n');
		struct str part = str_sub(plain, 0, end < 0 ? SIZE_MAX : (size_t)end);

		plain = str_sub(plain, part.n + 1, plain.n);
		if (part.n > LINE_MAX_BYTES - r->line.n)
			return err_set(err, ERR_EXHAUSTED, "line %" PRIu64 " has more than %u bytes", r->lines + 1,
			               LINE_MAX_BYTES);
		if (end < 0 || r->line.n > 0)
			buf_addstr(&r->line, part);
		if (end < 0)
			return 0;
		TRY(end_line(r, r->line.n > 0 ? buf_str(&r->line) : part, err));
		buf_clear(&r->line);
	}
	return 0;
}

static int inflate(struct reader *r, struct str packed, uint64_t plain_bytes, struct err *err)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	ZSTD_inBuffer in = {packed.p, packed.n, 0};
	ZSTD_DCtx *z = ZSTD_createDCtx();
	size_t left = 1;
	int result = 0;

	if (!z)
		return err_set(err, ERR_EXHAUSTED, "no memory for a decoder");
	ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
	buf_reserve(&plain, ZSTD_DStreamOutSize());
	while (result == 0 && (in.pos < in.size || (plain.n == ZSTD_DStreamOutSize() && left > 0))) {
		ZSTD_outBuffer out = {plain.p, ZSTD_DStreamOutSize(), 0};

		left = ZSTD_decompressStream(z, &out, &in);
		plain.n = out.pos;
		if (ZSTD_isError(left))
			result = err_set(err, ERR_DATA_LOSS, "zstd: %s", ZSTD_getErrorName(left));
		else if (out.pos > plain_bytes)
			result = err_set(err, ERR_DATA_LOSS, "inflates to more than is said of it");
		else
			result = take_plain(r, buf_str(&plain), err);
		plain_bytes -= out.pos;
	}
	ZSTD_freeDCtx(z);
	TRY(result);
	if (left != 0 || plain_bytes > 0)
		return err_set(err, ERR_DATA_LOSS, "inflates to less than is said of it");
	return r->line.n > 0 ? end_line(r, buf_str(&r->line), err) : 0;
}

static int read_all(struct str packed, const struct digest *packed_digest, uint64_t plain_bytes,
                    const struct esgz_split_sink *sink, struct err *err)
{
	AUTO(reader) struct reader r = {.sink = sink};
	char got_text[DIGEST_TEXT_MAX], want_text[DIGEST_TEXT_MAX];
	struct digest got;

	if (plain_bytes > ESGZ_SPLIT_BYTES_MAX)
		return err_set(err, ERR_INVALID, "%" PRIu64 " bytes of JSON, at most %u are read", plain_bytes,
		               ESGZ_SPLIT_BYTES_MAX);
	digest_of(packed.p, packed.n, &got);
	if (!digest_eq(&got, packed_digest))
		return err_set(err, ERR_DATA_LOSS, "digest is %s, should be %s", digest_text(&got, got_text),
		               digest_text(packed_digest, want_text));
	return inflate(&r, packed, plain_bytes, err);
}

int esgz_split_read(struct str packed, const struct digest *packed_digest, uint64_t plain_bytes,
                    const struct esgz_split_sink *sink, struct err *err)
{
	TRY_WRAP(read_all(packed, packed_digest, plain_bytes, sink, err), err, "tar-split");
	return 0;
}

/* ---- the tar again ---- */

struct assembly {
	const struct esgz_split_contents *contents;
	esgz_put_fn put;
	void *to;
	uint64_t left, crc64; /* of the file at hand */
};

static int put_segment(void *arg, struct str bytes, struct err *err)
{
	struct assembly *a = arg;

	return a->put(a->to, bytes, err);
}

static int put_content(void *to, struct str bytes, struct err *err)
{
	struct assembly *a = to;

	if (bytes.n > a->left)
		return err_set(err, ERR_DATA_LOSS, "its content is longer");
	a->left -= bytes.n;
	a->crc64 = esgz_split_crc64(a->crc64, bytes);
	return a->put(a->to, bytes, err);
}

static int put_whole(struct assembly *a, const struct esgz_split_file *f, struct err *err)
{
	a->left = f->size;
	a->crc64 = 0;
	TRY(a->contents->content(a->contents->arg, f, put_content, a, err));
	if (a->left > 0)
		return err_set(err, ERR_DATA_LOSS, "its content is shorter");
	if (a->crc64 != f->crc64)
		return err_set(err, ERR_DATA_LOSS, "its content has another checksum");
	return 0;
}

static int put_file(void *arg, const struct esgz_split_file *f, struct err *err)
{
	if (f->size > 0)
		TRY_WRAP(put_whole(arg, f, err), err, STR_FMT, STR_ARG(f->name));
	return 0;
}

int esgz_split_assemble(struct str packed, const struct digest *packed_digest, uint64_t plain_bytes,
                        const struct esgz_split_contents *contents, esgz_put_fn put, void *to, struct err *err)
{
	struct assembly a = {.contents = contents, .put = put, .to = to};
	const struct esgz_split_sink sink = {.segment = put_segment, .file = put_file, .arg = &a};

	return esgz_split_read(packed, packed_digest, plain_bytes, &sink, err);
}

/* ---- writing ---- */

struct esgz_split_writer {
	ZSTD_CCtx *zstd;
	struct buf segment; /* bytes since the last file */
	uint32_t padding;   /* of it, how many belong to that file */
	struct buf line, packed, path;
	struct map names; /* clean paths */
	uint64_t plain_bytes, position;
};

struct esgz_split_writer *esgz_split_writer_new(int zstd_level)
{
	struct esgz_split_writer *w = xcalloc(1, sizeof(*w));

	w->names = MAP_INIT;
	w->zstd = ZSTD_createCCtx();
	if (w->zstd)
		ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, zstd_level);
	return w;
}

void esgz_split_writer_free(struct esgz_split_writer *w)
{
	if (!w)
		return;
	ZSTD_freeCCtx(w->zstd);
	buf_fini(&w->segment);
	buf_fini(&w->line);
	buf_fini(&w->packed);
	buf_fini(&w->path);
	map_fini(&w->names);
	free(w);
}

static int pack(struct esgz_split_writer *w, struct str plain, ZSTD_EndDirective how, struct err *err)
{
	ZSTD_inBuffer in = {plain.p, plain.n, 0};
	size_t left;

	if (!w->zstd)
		return err_set(err, ERR_EXHAUSTED, "no memory for an encoder");
	do {
		size_t room = ZSTD_CStreamOutSize();
		ZSTD_outBuffer out = {buf_reserve(&w->packed, room), room, 0};

		left = ZSTD_compressStream2(w->zstd, &out, &in, how);
		if (ZSTD_isError(left))
			return err_set(err, ERR_EXHAUSTED, "zstd: %s", ZSTD_getErrorName(left));
		w->packed.n += out.pos;
	} while (in.pos < in.size || (how == ZSTD_e_end && left > 0));
	return 0;
}

/* What readers take at all: theirs and ours. */
static int bound(const struct esgz_split_writer *w, uint64_t more, struct err *err)
{
	if (w->plain_bytes + more > ESGZ_SPLIT_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED, "tar-split of more than %u bytes", ESGZ_SPLIT_BYTES_MAX);
	return 0;
}

static void begin_line(struct esgz_split_writer *w, struct json_writer *json, int type)
{
	buf_clear(&w->line);
	json_writer_init(json, &w->line, NULL);
	json_w_object_begin(json);
	json_w_ki64(json, "type", type);
}

/* `payload` as base64, null when there is none. */
static int finish_line(struct esgz_split_writer *w, struct json_writer *json, struct str payload, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;

	json_w_key(json, "payload");
	if (payload.n > 0) {
		base64_encode(payload, &text);
		json_w_str(json, buf_str(&text));
	} else {
		json_w_null(json);
	}
	json_w_ki64(json, "position", (int64_t)w->position++);
	json_w_object_end(json);
	buf_addc(&w->line, '\n');
	TRY(bound(w, w->line.n, err));
	w->plain_bytes += w->line.n;
	return pack(w, buf_str(&w->line), ZSTD_e_continue, err);
}

static int write_segment(struct esgz_split_writer *w, struct str bytes, struct err *err)
{
	struct json_writer json;

	begin_line(w, &json, SEGMENT_ENTRY);
	return finish_line(w, &json, bytes, err);
}

int esgz_split_segment(struct esgz_split_writer *w, struct str bytes, struct err *err)
{
	TRY(bound(w, w->segment.n + bytes.n, err));
	buf_addstr(&w->segment, bytes);
	return 0;
}

int esgz_split_file(struct esgz_split_writer *w, struct str name, uint64_t size, uint64_t crc64, struct err *err)
{
	struct json_writer json;
	uint8_t payload[8];

	TRY(esgz_path_clean(name, &w->path, err));
	if (map_has(&w->names, buf_str(&w->path)))
		return err_set(err, ERR_INVALID, STR_FMT " stands in the layer twice, which no tar-split can say",
		               STR_ARG(name));
	map_put(&w->names, buf_str(&w->path), NULL);
	if (w->segment.n > 0)
		TRY(write_segment(w, buf_str(&w->segment), err));
	buf_clear(&w->segment);
	w->padding = (uint32_t)(-size & (BLOCK - 1));
	begin_line(w, &json, FILE_ENTRY);
	if (str_is_utf8(name)) {
		json_w_kstr(&json, "name", name);
	} else {
		buf_clear(&w->path);
		base64_encode(name, &w->path);
		json_w_kstr(&json, "name_raw", buf_str(&w->path));
	}
	if (size == 0)
		return finish_line(w, &json, STR_NONE, err);
	json_w_ki64(&json, "size", (int64_t)size);
	for (int i = 0; i < 8; i++)
		payload[i] = (uint8_t)(crc64 >> (56 - 8 * i));
	return finish_line(w, &json, str_make(payload, sizeof(payload)), err);
}

/* The end of the archive is a segment of its own, with the last padding: containers/storage looks for a header in each,
 * and would find half a block in what comes after. */
static int write_trailer(struct esgz_split_writer *w, struct err *err)
{
	struct str left = buf_str(&w->segment), part = str_sub(left, 0, w->padding + 2 * BLOCK);

	for (; left.n > 0; part = str_sub(left, 0, TRAILER_BYTES)) {
		TRY(write_segment(w, part, err));
		left = str_sub(left, part.n, left.n);
	}
	return 0;
}

int esgz_split_finish(struct esgz_split_writer *w, struct buf *packed, uint64_t *plain_bytes, struct err *err)
{
	TRY(write_trailer(w, err));
	TRY(pack(w, STR_NONE, ZSTD_e_end, err));
	buf_addstr(packed, buf_str(&w->packed));
	*plain_bytes = w->plain_bytes;
	return 0;
}
