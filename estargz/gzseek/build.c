#include "estargz/gzseek/build.h"

#include "base/vec.h"
#include "estargz/gzseek/points.h"

#include <inttypes.h>

struct esgz_gzseek {
	/* First half. */
	struct esgz_gunzip *gunzip;
	struct hasher *hasher;
	uint64_t blob_bytes;
	struct digest blob;
	struct esgz_point_collector *points;
	const struct esgz_gzseek_flow *flow; /* of the feed that runs */
	/* Second half. */
	struct esgz_layer *layer;
	uint64_t index_bytes; /* guess of what the index takes in an artifact */
	struct esgz_layer_result result;
};

static int no_begin(void *arg, uint64_t size, struct err *err)
{
	return 0;
}

static int no_data(void *arg, struct str bytes, struct err *err)
{
	return 0;
}

static int no_end(void *arg, const struct digest *content, struct err *err)
{
	return 0;
}

static int on_place(void *arg, const struct esgz_gzip_place *p, struct err *err)
{
	struct esgz_gzseek *s = arg;

	TRY(esgz_point_collect(s->points, p, err));
	return s->flow->cut(s->flow->arg, err);
}

static int on_window(void *arg, const uint8_t *window, struct err *err)
{
	struct esgz_gzseek *s = arg;

	return esgz_point_collect_window(s->points, window, err);
}

struct esgz_gzseek *esgz_gzseek_new(const struct esgz_layer_sink *sink)
{
	static const struct esgz_layer_sink nobody = {.begin = no_begin, .data = no_data, .end = no_end};
	struct esgz_gzseek *s = xcalloc(1, sizeof(*s));

	s->gunzip = esgz_gunzip_new();
	esgz_gunzip_begin(s->gunzip);
	esgz_gunzip_places(s->gunzip, ESGZ_SPAN_BYTES, &(struct esgz_gzip_place_sink){on_place, on_window, s});
	s->hasher = hasher_new();
	s->points = esgz_point_collector_new();
	s->layer = esgz_layer_new(sink ? sink : &nobody);
	esgz_layer_cut_files(s->layer);
	return s;
}

void esgz_gzseek_free(struct esgz_gzseek *s)
{
	if (!s)
		return;
	esgz_gunzip_free(s->gunzip);
	hasher_free(s->hasher);
	esgz_point_collector_free(s->points);
	esgz_layer_free(s->layer);
	free(s);
}

int esgz_gzseek_blob(struct esgz_gzseek *s, struct str bytes, const struct esgz_gzseek_flow *flow, struct err *err)
{
	hasher_add(s->hasher, bytes.p, bytes.n);
	s->blob_bytes += bytes.n;
	s->flow = flow;
	return esgz_gunzip_feed(s->gunzip, bytes, flow->plain, flow->arg, err);
}

int esgz_gzseek_blob_end(struct esgz_gzseek *s, struct err *err)
{
	hasher_done(s->hasher, &s->blob);
	return esgz_gunzip_finish(s->gunzip, err);
}

int esgz_gzseek_plain(struct esgz_gzseek *s, struct str plain, struct err *err)
{
	return esgz_layer_feed_plain(s->layer, plain, err);
}

void esgz_gzseek_cut(struct esgz_gzseek *s)
{
	esgz_layer_cut(s->layer);
}

static int direct_plain(void *arg, struct str plain, struct err *err)
{
	return esgz_gzseek_plain(arg, plain, err);
}

static int direct_cut(void *arg, struct err *err)
{
	esgz_gzseek_cut(arg);
	return 0;
}

int esgz_gzseek_feed(struct esgz_gzseek *s, struct str bytes, struct err *err)
{
	const struct esgz_gzseek_flow flow = {direct_plain, direct_cut, s};

	return esgz_gzseek_blob(s, bytes, &flow, err);
}

int esgz_gzseek_finish(struct esgz_gzseek *s, struct esgz_layer_result *out, struct err *err)
{
	TRY(esgz_layer_finish_plain(s->layer, &s->blob, s->blob_bytes, ESGZ_GZIP, &s->result, err));
	*out = s->result;
	return 0;
}

/* ---- the end ---- */

/* A chunk costs its digest in an artifact, and about as much again for its name and place (README.md). */
#define PACKED_CHUNK_BYTES 40

static void count_chunk(void *arg, struct esgz_chunk_place *p)
{
	struct esgz_gzseek *s = arg;

	s->index_bytes += PACKED_CHUNK_BYTES;
}

/* From the plain stream into the blob. */
static void place_chunk(void *arg, struct esgz_chunk_place *p)
{
	const struct esgz_gzseek *s = arg;
	struct esgz_span span;

	/* No span is longer than 80 MiB (points.h). */
	esgz_points_span(s->points, p->blob_offset, s->blob_bytes, s->result.plain_bytes, &span);
	p->inner_offset = (uint32_t)(p->blob_offset - span.plain_offset);
	p->blob_offset = span.blob_offset;
	p->blob_bytes = (uint32_t)(span.blob_end - span.blob_offset);
}

int esgz_gzseek_write(struct esgz_gzseek *s, struct buf *index, struct buf *points, struct err *err)
{
	uint64_t budget = ESGZ_GZSEEK_BUDGET(s->blob_bytes), least = ESGZ_GZSEEK_BUDGET_LEAST(s->blob_bytes);
	struct esgz_points_info info = {.blob = s->blob,
	                                .diff_id = s->result.diff_id,
	                                .blob_bytes = s->blob_bytes,
	                                .plain_bytes = s->result.plain_bytes};

	esgz_layer_place_chunks(s->layer, count_chunk, s);
	budget = budget > s->index_bytes + least ? budget - s->index_bytes : least;
	TRY(esgz_points_thin(s->points, info.blob_bytes, info.plain_bytes, budget, err));
	esgz_layer_place_chunks(s->layer, place_chunk, s);
	TRY(esgz_layer_index(s->layer, index, err));
	esgz_points_write(s->points, &info, points);
	return 0;
}

int esgz_gzseek_unpacked(struct esgz_gzseek *s, struct buf *index, struct err *err)
{
	esgz_layer_drop_chunks(s->layer, ESGZ_GZIP);
	return esgz_layer_index(s->layer, index, err);
}
