#include "estargz/gzseek/points.h"

#include "base/vec.h"
#include "base/vectors.h"
#include "estargz/gzseek/points_format.h"

#include <assert.h>
#include <inttypes.h>
#include <isa-l/crc64.h>
#include <zstd.h>

/* Against 9: 7 % more bytes for a third of the time (README.md). */
#define WINDOW_LEVEL 3

/* Ordinary layers hold 2 KB a point, so that this is 30 GB of them; a hostile one can make it 32 KB. */
#define HELD_BYTES_MAX (64u << 20)

static uint64_t file_crc(const char *file, size_t n)
{
	uint64_t crc = crc64_ecma_refl(0, (const uint8_t *)file + P_CRC + 8, n - (P_CRC + 8));

	vectors_leave();
	return crc;
}

/* ---- collecting ---- */

struct candidate {
	struct esgz_gzip_place place;
	size_t window; /* in `windows` */
	uint32_t window_bytes;
	bool kept;
};

struct esgz_point_collector {
	VEC(struct candidate) all; /* all that came; after thinning the ones that stay */
	struct buf windows;
	ZSTD_CCtx *zstd;
	bool gave_up; /* it holds nothing any more */
};

struct esgz_point_collector *esgz_point_collector_new(void)
{
	return xcalloc(1, sizeof(struct esgz_point_collector));
}

void esgz_point_collector_free(struct esgz_point_collector *c)
{
	if (!c)
		return;
	vec_fini(&c->all);
	buf_fini(&c->windows);
	ZSTD_freeCCtx(c->zstd);
	free(c);
}

static uint64_t plain_at(const struct esgz_point_collector *c, size_t i, uint64_t plain_bytes)
{
	return i < c->all.n ? c->all.p[i].place.plain_offset : plain_bytes;
}

/* Marks the points that stay when there shall be one in each `apart` bytes; returns what they take. */
static uint64_t choose(struct esgz_point_collector *c, uint64_t plain_bytes, uint64_t apart)
{
	uint64_t last = 0, bytes = 0;

	for (size_t i = 0; i < c->all.n; i++) {
		struct candidate *k = &c->all.p[i];
		uint64_t at = k->place.plain_offset;

		k->kept = i == 0 || at / apart != last / apart ||
		          plain_at(c, i + 1, plain_bytes) - last > ESGZ_SPAN_BYTES_THIN;
		if (!k->kept)
			continue;
		bytes += R_END + k->window_bytes;
		last = at;
	}
	return bytes;
}

static void keep_chosen(struct esgz_point_collector *c)
{
	size_t n = 0, at = 0;

	for (size_t i = 0; i < c->all.n; i++) {
		struct candidate k = c->all.p[i];

		if (!k.kept)
			continue;
		if (k.window_bytes)
			memmove(c->windows.p + at, c->windows.p + k.window, k.window_bytes);
		k.window = at;
		at += k.window_bytes;
		c->all.p[n++] = k;
	}
	c->all.n = n;
	c->windows.n = at;
}

/* ---- memory ---- */

static uint64_t held_bytes(const struct esgz_point_collector *c)
{
	return c->windows.n + c->all.n * sizeof(*c->all.p);
}

static void give_up(struct esgz_point_collector *c)
{
	c->gave_up = true;
	vec_fini(&c->all);
	buf_fini(&c->windows);
}

/* Thins what is there so far, by half at least; the last one stays: what comes is measured from it. */
static void make_room(struct esgz_point_collector *c)
{
	uint64_t end = vec_last(&c->all)->place.plain_offset;

	for (uint64_t apart = 2 * ESGZ_SPAN_BYTES; apart < ESGZ_SPAN_BYTES_THIN; apart += ESGZ_SPAN_BYTES)
		if (choose(c, end, apart) <= HELD_BYTES_MAX / 2)
			break;
	vec_last(&c->all)->kept = true;
	keep_chosen(c);
	if (held_bytes(c) > HELD_BYTES_MAX / 4 * 3)
		give_up(c);
}

/* ---- what comes ---- */

int esgz_point_collect(void *collector, const struct esgz_gzip_place *p, struct err *err)
{
	struct esgz_point_collector *c = collector;

	if (c->all.n >= ESGZ_POINTS_MAX)
		give_up(c);
	if (!c->gave_up)
		vec_push(&c->all, (struct candidate){.place = *p});
	return 0;
}

int esgz_point_collect_window(void *collector, const uint8_t *window, struct err *err)
{
	struct esgz_point_collector *c = collector;
	size_t room = ZSTD_compressBound(ESGZ_DEFLATE_WINDOW), n;
	struct candidate *last;

	if (c->gave_up)
		return 0;
	if (!c->zstd && !(c->zstd = ZSTD_createCCtx()))
		return err_set(err, ERR_EXHAUSTED, "zstd: no memory for an encoder");
	n = ZSTD_compressCCtx(c->zstd, buf_reserve(&c->windows, room), room, window, ESGZ_DEFLATE_WINDOW, WINDOW_LEVEL);
	if (ZSTD_isError(n))
		return err_set(err, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(n));
	last = vec_last(&c->all);
	last->window = c->windows.n;
	last->window_bytes = (uint32_t)n;
	c->windows.n += n;
	if (held_bytes(c) > HELD_BYTES_MAX)
		make_room(c);
	return 0;
}

/* Of the points that stayed. */
static int check_blob_spans(const struct esgz_point_collector *c, uint64_t blob_bytes, struct err *err)
{
	for (size_t i = 0; i < c->all.n; i++) {
		uint64_t from = c->all.p[i].place.blob_offset;
		uint64_t until = i + 1 < c->all.n ? c->all.p[i + 1].place.blob_offset : blob_bytes;

		if (until - from > ESGZ_SPAN_BLOB_BYTES_MAX)
			return err_set(err, ERR_PRECONDITION,
			               "gzip: %" PRIu64 " bytes of the blob from %" PRIu64
			               " on have no place to begin at",
			               until - from, from);
	}
	return 0;
}

int esgz_points_thin(struct esgz_point_collector *c, uint64_t blob_bytes, uint64_t plain_bytes, uint64_t budget,
                     struct err *err)
{
	if (c->gave_up)
		return err_set(err, ERR_PRECONDITION, "gzip: its points take more than %u bytes", HELD_BYTES_MAX);
	assert(c->all.n > 0);
	for (size_t i = 0; i < c->all.n; i++) {
		uint64_t span = plain_at(c, i + 1, plain_bytes) - plain_at(c, i, plain_bytes);

		if (span > ESGZ_SPAN_BYTES_MAX)
			return err_set(err, ERR_PRECONDITION,
			               "gzip: %" PRIu64 " plain bytes from %" PRIu64 " on have no place to begin at",
			               span, plain_at(c, i, plain_bytes));
	}
	for (uint64_t apart = ESGZ_SPAN_BYTES; apart <= ESGZ_SPAN_BYTES_THIN - ESGZ_SPAN_BYTES;
	     apart += ESGZ_SPAN_BYTES / 8)
		if (P_END + choose(c, plain_bytes, apart) <= budget)
			break;
	keep_chosen(c);
	return check_blob_spans(c, blob_bytes, err);
}

void esgz_points_span(const struct esgz_point_collector *c, uint64_t plain_offset, uint64_t blob_bytes,
                      uint64_t plain_bytes, struct esgz_span *out)
{
	size_t lo = 0, hi = c->all.n;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (c->all.p[mid].place.plain_offset <= plain_offset)
			lo = mid;
		else
			hi = mid;
	}
	*out = (struct esgz_span){.blob_offset = c->all.p[lo].place.blob_offset,
	                          .plain_offset = c->all.p[lo].place.plain_offset,
	                          .blob_end = hi < c->all.n ? c->all.p[hi].place.blob_offset : blob_bytes,
	                          .plain_end = plain_at(c, hi, plain_bytes)};
}

static void write_record(char *r, const struct candidate *k, uint32_t window)
{
	put_le64(r + R_BLOB, k->place.blob_offset);
	put_le64(r + R_PLAIN, k->place.plain_offset);
	put_le32(r + R_WINDOW, window);
	put_le16(r + R_WINDOW_BYTES, (uint16_t)k->window_bytes);
	r[R_N_BITS] = (char)k->place.bits.n_bits;
	r[R_BITS] = (char)k->place.bits.bits;
}

void esgz_points_write(const struct esgz_point_collector *c, const struct esgz_points_info *info, struct buf *out)
{
	size_t begin = out->n;
	uint32_t window_bytes = 0;
	char *h;

	buf_addz(out, P_END + c->all.n * R_END);
	for (size_t i = 0; i < c->all.n; i++) {
		const struct candidate *k = &c->all.p[i];

		write_record(out->p + begin + P_END + i * R_END, k, window_bytes);
		buf_add(out, c->windows.p + k->window, k->window_bytes);
		window_bytes += k->window_bytes;
	}
	h = out->p + begin;
	memcpy(h + P_MAGIC, POINTS_MAGIC, 8);
	put_le32(h + P_VERSION, POINTS_VERSION);
	put_le32(h + P_HEADER_BYTES, P_END);
	put_le64(h + P_FILE_BYTES, out->n - begin);
	memcpy(h + P_BLOB, info->blob.b, DIGEST_BYTES);
	memcpy(h + P_DIFF_ID, info->diff_id.b, DIGEST_BYTES);
	put_le64(h + P_BLOB_BYTES, info->blob_bytes);
	put_le64(h + P_PLAIN_BYTES, info->plain_bytes);
	put_le32(h + P_N, (uint32_t)c->all.n);
	put_le64(h + P_WINDOW_BYTES, window_bytes);
	put_le64(h + P_CRC, file_crc(h, out->n - begin));
}

/* ---- reading ---- */

struct esgz_points {
	struct esgz_points_info info;
	const char *records, *windows;
};

static int damaged(struct err *err, const char *what)
{
	return err_set(err, ERR_DATA_LOSS, "points: %s", what);
}

static int read_header(struct esgz_points *p, struct str file, struct err *err)
{
	struct esgz_points_info *info = &p->info;
	const char *h = file.p;

	if (file.n < P_END || memcmp(h + P_MAGIC, POINTS_MAGIC, 8) != 0)
		return damaged(err, "not a points file");
	if (get_le32(h + P_VERSION) != POINTS_VERSION)
		return err_set(err, ERR_UNIMPLEMENTED, "points: version %u", get_le32(h + P_VERSION));
	if (get_le32(h + P_HEADER_BYTES) != P_END || get_le64(h + P_FILE_BYTES) != file.n)
		return damaged(err, "cut or longer than it was");
	if (get_le64(h + P_CRC) != file_crc(h, file.n))
		return damaged(err, "checksum mismatch");
	memcpy(info->blob.b, h + P_BLOB, DIGEST_BYTES);
	memcpy(info->diff_id.b, h + P_DIFF_ID, DIGEST_BYTES);
	info->blob_bytes = get_le64(h + P_BLOB_BYTES);
	info->plain_bytes = get_le64(h + P_PLAIN_BYTES);
	info->n = get_le32(h + P_N);
	p->records = h + P_END;
	if (info->n == 0 || info->n > ESGZ_POINTS_MAX || get_le32(h + P_ZERO) != 0 ||
	    file.n - P_END < (size_t)info->n * R_END ||
	    file.n - P_END - (size_t)info->n * R_END != get_le64(h + P_WINDOW_BYTES))
		return damaged(err, "wrong header");
	p->windows = p->records + (size_t)info->n * R_END;
	return 0;
}

/* Ascending in both, the first one at the beginning; spans that can be read, windows one after another. */
static int check_point(const struct esgz_points *p, uint32_t i, uint64_t *window_bytes)
{
	const char *r = p->records + (size_t)i * R_END;
	uint64_t blob = get_le64(r + R_BLOB), plain = get_le64(r + R_PLAIN);
	bool last = i + 1 == p->info.n;
	uint64_t blob_end = last ? p->info.blob_bytes : get_le64(r + R_END + R_BLOB);
	uint64_t plain_end = last ? p->info.plain_bytes : get_le64(r + R_END + R_PLAIN);
	uint16_t window = get_le16(r + R_WINDOW_BYTES);
	uint8_t n_bits = (uint8_t)r[R_N_BITS], bits = (uint8_t)r[R_BITS];

	if (blob >= blob_end || blob_end - blob > ESGZ_SPAN_BLOB_BYTES_MAX || plain > plain_end ||
	    plain_end - plain > ESGZ_SPAN_BYTES_MAX)
		return -1;
	if (i == 0 && (blob != 0 || plain != 0 || window != 0))
		return -1;
	if (n_bits > 7 || bits >> n_bits || (window == 0 && n_bits != 0))
		return -1;
	if (get_le32(r + R_WINDOW) != *window_bytes)
		return -1;
	*window_bytes += window;
	return 0;
}

int esgz_points_open(struct str bytes, struct esgz_points **out, struct err *err)
{
	AUTO(esgz_points) struct esgz_points *p = xcalloc(1, sizeof(*p));
	uint64_t window_bytes = 0;

	TRY(read_header(p, bytes, err));
	for (uint32_t i = 0; i < p->info.n; i++)
		if (check_point(p, i, &window_bytes) < 0)
			return err_set(err, ERR_DATA_LOSS, "points: point %u is damaged", i);
	if (window_bytes != get_le64(bytes.p + P_WINDOW_BYTES))
		return damaged(err, "windows that belong to no point");
	*out = STEAL(p);
	return 0;
}

void esgz_points_free(struct esgz_points *p)
{
	free(p);
}

const struct esgz_points_info *esgz_points_get_info(const struct esgz_points *p)
{
	return &p->info;
}

void esgz_points_get(const struct esgz_points *p, uint32_t i, struct esgz_point *out)
{
	const char *r = p->records + (size_t)i * R_END;
	uint16_t window = get_le16(r + R_WINDOW_BYTES);

	assert(i < p->info.n);
	*out = (struct esgz_point){.place = {.blob_offset = get_le64(r + R_BLOB),
	                                     .plain_offset = get_le64(r + R_PLAIN),
	                                     .inside = window > 0,
	                                     .bits = {(uint8_t)r[R_N_BITS], (uint8_t)r[R_BITS]}},
	                           .window = str_make(p->windows + get_le32(r + R_WINDOW), window)};
}

uint64_t esgz_points_span_end(const struct esgz_points *p, uint32_t i)
{
	return i + 1 < p->info.n ? get_le64(p->records + (size_t)(i + 1) * R_END + R_PLAIN) : p->info.plain_bytes;
}

uint64_t esgz_points_blob_end(const struct esgz_points *p, uint32_t i)
{
	return i + 1 < p->info.n ? get_le64(p->records + (size_t)(i + 1) * R_END + R_BLOB) : p->info.blob_bytes;
}

bool esgz_points_find(const struct esgz_points *p, uint64_t blob_offset, uint32_t *i)
{
	uint32_t lo = 0, hi = p->info.n;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (get_le64(p->records + (size_t)mid * R_END) <= blob_offset)
			lo = mid;
		else
			hi = mid;
	}
	*i = lo;
	return get_le64(p->records + (size_t)lo * R_END) == blob_offset;
}
