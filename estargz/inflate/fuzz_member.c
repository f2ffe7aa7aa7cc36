/* Input: u8 compression, u8 chunks, for each u16 distance from the end of the one before (negative: into it) and u16
 * bytes, then blob bytes. What a member gives, chunks and gaps in order, must be what a stream makes of the same bytes. */
#include "estargz/inflate/inflate.h"

#include "base/buf.h"
#include "base/bytes.h"

#define CHUNKS_MAX 16
#define PLAIN_MAX (4u << 20) /* more is no news, and bombs take the fuzzer's time */

struct member {
	struct esgz_chunk chunks[CHUNKS_MAX];
	uint8_t *bytes[CHUNKS_MAX];
	unsigned told[CHUNKS_MAX];
	bool unwanted;
	uint32_t n;
	struct buf gaps;
};

static uint8_t *on_begin(void *arg, uint32_t i)
{
	struct member *m = arg;

	return m->unwanted && i % 2 ? NULL : m->bytes[i];
}

static void on_chunk(void *arg, uint32_t i, int result, const struct err *err)
{
	struct member *m = arg;
	struct digest got;

	m->told[i]++;
	digest_of(m->bytes[i], m->chunks[i].bytes, &got);
	if (result == 0 && !digest_eq(&got, &m->chunks[i].digest))
		abort();
	m->chunks[i].digest = got; /* right the next time */
}

static bool on_gap(void *arg, struct str plain)
{
	struct member *m = arg;

	buf_addstr(&m->gaps, plain);
	return m->gaps.n < PLAIN_MAX;
}

static int on_plain(void *arg, struct str plain, struct err *err)
{
	struct buf *all = arg;

	buf_addstr(all, plain);
	return all->n > 2 * PLAIN_MAX ? err_set(err, ERR_CANCELLED, "enough") : 0;
}

static void check_whole(const struct member *m, struct str in)
{
	AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();
	AUTO(buf) struct buf want = BUF_INIT;
	AUTO(buf) struct buf have = BUF_INIT;
	struct str gaps = buf_str(&m->gaps);
	struct err err = ERR_INIT;

	if (esgz_stream_feed(s, in, on_plain, &want, &err) < 0 || esgz_stream_finish(s, &err) < 0)
		abort();
	for (uint32_t i = 0; i < m->n; i++) {
		size_t before = m->chunks[i].inner_offset - have.n;

		buf_addstr(&have, str_sub(gaps, 0, before));
		gaps = str_sub(gaps, before, SIZE_MAX);
		buf_add(&have, m->bytes[i], m->chunks[i].bytes);
	}
	buf_addstr(&have, gaps);
	if (!str_eq(buf_str(&have), buf_str(&want)))
		abort();
}

static void parse(struct member *m, struct str *in)
{
	uint64_t at = 0;

	while (m->n < CHUNKS_MAX && in->n >= 4) {
		struct esgz_chunk *c = &m->chunks[m->n];
		int64_t from = (int64_t)at + (int16_t)get_le16(in->p);

		c->inner_offset = from > 0 ? (uint64_t)from : 0;
		if (m->n && c->inner_offset < c[-1].inner_offset)
			c->inner_offset = c[-1].inner_offset;
		c->bytes = get_le16(in->p + 2);
		at = c->inner_offset + c->bytes;
		m->bytes[m->n++] = calloc(1, c->bytes + 1);
		*in = str_sub(*in, 4, SIZE_MAX);
	}
}

static bool run(struct member *m, struct esgz_inflater *z, enum esgz_compression comp, struct str in,
                bool pass_over_some)
{
	const struct esgz_member_sink sink = {.begin = on_begin, .chunk = on_chunk, .gap = on_gap, .arg = m};
	bool whole;

	memset(m->told, 0, sizeof(m->told));
	buf_clear(&m->gaps);
	m->unwanted = pass_over_some;
	whole = esgz_inflate_member(z, comp, in, m->chunks, m->n, SIZE_MAX, &sink);
	for (uint32_t i = 0; i < m->n; i++)
		if (m->told[i] != (on_begin(m, i) ? 1 : 0))
			abort();
	return whole;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	struct member m = {.gaps = BUF_INIT};
	struct str in = str_make(data, n), head;
	enum esgz_compression comp;
	bool whole;

	if (n < 2)
		return 0;
	comp = (enum esgz_compression)(data[0] % 3);
	head = str_sub(in, 2, (size_t)(data[1] % CHUNKS_MAX) * 4);
	in = str_sub(in, 2 + head.n, SIZE_MAX);
	parse(&m, &head);
	for (uint32_t i = 0; i < m.n; i++)
		m.chunks[i].blob_bytes = in.n;
	/* The first pass only finds the digests. */
	run(&m, z, comp, in, false);
	whole = run(&m, z, comp, in, false);
	if (whole && comp != ESGZ_PLAIN)
		check_whole(&m, in);
	if (run(&m, z, comp, in, true) != whole)
		abort();
	for (uint32_t i = 0; i < m.n; i++)
		free(m.bytes[i]);
	buf_fini(&m.gaps);
	return 0;
}
