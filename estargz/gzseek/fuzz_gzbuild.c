/*
 * Input: one byte (the size of the pieces; 0: at once), then a gzip. It is taken as a stream: what esgz_stream makes of it, with
 * another decoder, must be the same; and a place each 32 KiB must lead to the rest of it. As a layer: every chunk is read
 * back from its point.
 */
#include "base/vec.h"
#include "estargz/gzseek/build.h"
#include "estargz/gzseek/points.h"

/* More output than this is no news, and bombs take the fuzzer's time. */
#define PLAIN_MAX (1u << 20)

static void must(bool what)
{
	if (!what)
		abort();
}

static int collect(void *arg, struct str plain, struct err *err)
{
	struct buf *out = arg;

	if (out->n + plain.n > PLAIN_MAX)
		return err_set(err, ERR_CANCELLED, "enough");
	buf_addstr(out, plain);
	return 0;
}

static int on_place(void *arg, const struct esgz_gzip_place *p, struct err *err)
{
	return esgz_point_collect(arg, p, err);
}

static int gunzip(struct esgz_gunzip *g, struct str in, size_t step, struct buf *out)
{
	for (; in.n > 0; in = str_sub(in, step, in.n))
		TRY(esgz_gunzip_feed(g, str_sub(in, 0, step), collect, out, NULL));
	return esgz_gunzip_finish(g, NULL);
}

/* Each point, as it comes out of the file, leads to the rest. */
static void check_rest(struct str in, const struct esgz_points *p, struct str plain)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO_FREE uint8_t *dst = xmalloc(plain.n + 1);

	for (uint32_t i = 0; i < esgz_points_get_info(p)->n; i++) {
		struct esgz_chunk c = {.blob_bytes = in.n};
		struct esgz_point at;

		esgz_points_get(p, i, &at);
		c.bytes = esgz_points_span_end(p, i) - at.place.plain_offset;
		digest_of(plain.p + at.place.plain_offset, (size_t)c.bytes, &c.digest);
		must(c.bytes == 0 || esgz_inflate_chunk_at(z, &at, str_sub(in, (size_t)at.place.blob_offset, in.n), &c,
		                                           dst, NULL) == 0);
	}
}

static void as_stream(struct str in, size_t step)
{
	AUTO(esgz_gunzip) struct esgz_gunzip *g = esgz_gunzip_new();
	AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();
	AUTO(esgz_point_collector) struct esgz_point_collector *c = esgz_point_collector_new();
	AUTO(esgz_points) struct esgz_points *p = NULL;
	AUTO(buf) struct buf ours = BUF_INIT;
	AUTO(buf) struct buf theirs = BUF_INIT;
	AUTO(buf) struct buf file = BUF_INIT;
	struct esgz_points_info info = {.blob_bytes = in.n};
	bool legal;

	esgz_gunzip_begin(g);
	esgz_gunzip_places(g, ESGZ_DEFLATE_WINDOW,
	                   &(struct esgz_gzip_place_sink){on_place, esgz_point_collect_window, c});
	legal = gunzip(g, in, step, &ours) == 0;
	if (esgz_stream_feed(s, in, collect, &theirs, NULL) == 0 && esgz_stream_finish(s, NULL) == 0 &&
	    esgz_stream_kind(s) == ESGZ_GZIP && legal)
		must(str_eq(buf_str(&ours), buf_str(&theirs)));
	if (!legal)
		return;
	info.plain_bytes = ours.n;
	esgz_points_write(c, &info, &file);
	must(esgz_points_open(buf_str(&file), &p, NULL) == 0);
	check_rest(in, p, buf_str(&ours));
}

static void as_layer(struct str in, size_t step)
{
	AUTO(esgz_gzseek) struct esgz_gzseek *s = esgz_gzseek_new(NULL);
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(esgz_points) struct esgz_points *p = NULL;
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO(buf) struct buf index = BUF_INIT;
	AUTO(buf) struct buf points = BUF_INIT;
	AUTO_FREE uint8_t *dst = xmalloc(ESGZ_LAYER_CHUNK_BYTES);
	struct esgz_layer_result result;

	for (struct str rest = in; rest.n > 0; rest = str_sub(rest, step, rest.n))
		if (esgz_gzseek_feed(s, str_sub(rest, 0, step), NULL) < 0)
			return;
	if (esgz_gzseek_blob_end(s, NULL) < 0 || esgz_gzseek_finish(s, &result, NULL) < 0 ||
	    esgz_gzseek_write(s, &index, &points, NULL) < 0)
		return;
	must(esgz_index_open(buf_str(&index), &ix, NULL) == 0);
	must(esgz_points_open(buf_str(&points), &p, NULL) == 0);
	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_chunks; i++) {
		struct esgz_point from;
		struct esgz_chunk c;
		uint32_t at;

		esgz_index_chunk(ix, i, &c);
		if (c.hole)
			continue;
		must(esgz_points_find(p, c.blob_offset, &at));
		esgz_points_get(p, at, &from);
		must(esgz_inflate_chunk_at(z, &from, str_sub(in, (size_t)c.blob_offset, in.n), &c, dst, NULL) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(esgz_gunzip) struct esgz_gunzip *g = NULL;
	struct str in = str_make(data + 1, n - 1);
	size_t step;

	if (n == 0)
		return 0;
	step = data[0] ? data[0] : SIZE_MAX;
	as_stream(in, step);
	g = esgz_gunzip_new();
	esgz_gunzip_begin(g);
	if (gunzip(g, in, SIZE_MAX, &plain) == 0) /* not a bomb */
		as_layer(in, step);
	return 0;
}
