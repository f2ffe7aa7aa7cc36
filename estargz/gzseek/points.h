/*
 * Points of a gzip layer: the places at which reading it may begin, with what the decoder must know there. Together with
 * a layer index whose chunks lie behind them (ESGZ_GZIP_SEEK) they make an unmodified layer lazy. Byte layout of the file:
 * estargz/README.md.
 *
 * The reader believes nothing: it checks the file once at open; what a window holds shows when a chunk's digest is
 * checked. Reader: any thread after open. Collector: one owner.
 */
#ifndef ESTARGZ_POINTS_H
#define ESTARGZ_POINTS_H

#include "base/buf.h"
#include "base/digest.h"
#include "estargz/gzseek/gunzip.h"

#define ESGZ_POINTS_MAX (1u << 20)
#define ESGZ_SPAN_BYTES_MAX (64u << 20) /* plain bytes from one point to the next: bounds the work of a read */
/* Compressed bytes of a span: what it takes stored, and much that comes to nothing. Bounds what a read fetches. */
#define ESGZ_SPAN_BLOB_BYTES_MAX (80u << 20)

/* Distance of the places that are considered, in plain bytes: estargz/README.md has the figures. */
#define ESGZ_SPAN_BYTES (1u << 20)
/* Thinning makes no span longer than this. */
#define ESGZ_SPAN_BYTES_THIN (8u << 20)

struct esgz_points_info {
	struct digest blob, diff_id;
	uint64_t blob_bytes, plain_bytes;
	uint32_t n;
};

struct esgz_point {
	struct esgz_gzip_place place;
	struct str window; /* if inside: a zstd frame of its 32768 bytes; else empty */
};

/* ---- collecting ---- */

struct esgz_point_collector;
struct esgz_point_collector *esgz_point_collector_new(void);
void esgz_point_collector_free(struct esgz_point_collector *c);
DEFINE_AUTO_FREE(esgz_point_collector);

/* What gunzip calls; `arg` of both is the collector. It holds 64 MiB at most: points that take more are thinned as they come,
 * and when that does not do, given up, which esgz_points_thin tells. */
int esgz_point_collect(void *collector, const struct esgz_gzip_place *p, struct err *err);
int esgz_point_collect_window(void *collector, const uint8_t *window, struct err *err);

/* At the end of the layer: keeps as many points as `budget` bytes hold (but makes no span longer than
 * ESGZ_SPAN_BYTES_THIN, whatever that takes): the first one in each so many bytes, for the least number that fits.
 * A span over ESGZ_SPAN_BYTES_MAX, which a writer of endless blocks makes, or over ESGZ_SPAN_BLOB_BYTES_MAX in the blob, or
 * points that were given up: ERR_PRECONDITION. */
int esgz_points_thin(struct esgz_point_collector *c, uint64_t blob_bytes, uint64_t plain_bytes, uint64_t budget,
                     struct err *err);

/* The point before, or at, a plain offset, and where the span behind it ends: in the blob, and plain. */
struct esgz_span {
	uint64_t blob_offset, plain_offset, blob_end, plain_end;
};
void esgz_points_span(const struct esgz_point_collector *c, uint64_t plain_offset, uint64_t blob_bytes,
                      uint64_t plain_bytes, struct esgz_span *out);

/* Appends the file. `info->n` is ignored. */
void esgz_points_write(const struct esgz_point_collector *c, const struct esgz_points_info *info, struct buf *out);

/* ---- reading ---- */

struct esgz_points;
/* Checks and opens the bytes of a file (borrowed). Damage: ERR_DATA_LOSS saying where; another version:
 * ERR_UNIMPLEMENTED. */
int esgz_points_open(struct str bytes, struct esgz_points **out, struct err *err);
void esgz_points_free(struct esgz_points *p);
DEFINE_AUTO_FREE(esgz_points);

const struct esgz_points_info *esgz_points_get_info(const struct esgz_points *p);
/* i < n, ascending. */
void esgz_points_get(const struct esgz_points *p, uint32_t i, struct esgz_point *out);
/* The plain offset at which the span behind point i ends. */
uint64_t esgz_points_span_end(const struct esgz_points *p, uint32_t i);
/* The offset in the blob at which it ends. */
uint64_t esgz_points_blob_end(const struct esgz_points *p, uint32_t i);
/* The point at this offset of the blob; false when there is none. */
bool esgz_points_find(const struct esgz_points *p, uint64_t blob_offset, uint32_t *i);

#endif
