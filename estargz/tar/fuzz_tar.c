/*
 * Input: a tar, preceded by one byte: in pieces of how many bytes it comes (0 = at once). Raw bytes and content together
 * must be the input, as far as it was read.
 */
#include "estargz/tar/tar.h"

#include "base/buf.h"

struct state {
	struct str input; /* what of it has not come yet */
	uint64_t left;    /* content still due */
	bool in_file;
};

static void expect(struct state *s, struct str bytes)
{
	if (bytes.n == 0 || !str_starts(s->input, bytes))
		abort();
	s->input = str_sub(s->input, bytes.n, s->input.n);
}

static int on_raw(void *arg, struct str bytes, struct err *err)
{
	struct state *s = arg;

	if (s->in_file)
		abort();
	expect(s, bytes);
	return 0;
}

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct state *s = arg;
	volatile uint64_t sum = str_hash(t->e.path) + str_hash(t->e.link);
	uint64_t end = 0;

	if (s->in_file || t->e.mode > 07777 || t->e.mtime_ns > 999999999 || t->payload_offset <= t->header_offset)
		abort();
	for (uint32_t i = 0; i < t->n_xattrs; i++)
		sum += str_hash(t->xattrs[i].name) + str_hash(t->xattrs[i].value);
	for (uint32_t i = 0; i < t->n_extents; i++) {
		if (!t->sparse || t->extents[i].bytes == 0 || t->extents[i].offset < end)
			abort();
		end = t->extents[i].offset + t->extents[i].bytes;
	}
	if (end > t->e.size)
		abort();
	s->in_file = t->e.type == ESGZ_REG;
	s->left = t->e.size;
	return 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct state *s = arg;

	if (!s->in_file || bytes.n > s->left)
		abort();
	expect(s, bytes);
	s->left -= bytes.n;
	return 0;
}

static int on_hole(void *arg, uint64_t bytes, struct err *err)
{
	struct state *s = arg;

	if (!s->in_file || bytes == 0 || bytes > s->left)
		abort();
	s->left -= bytes;
	return 0;
}

static int on_end(void *arg, struct err *err)
{
	struct state *s = arg;

	if (!s->in_file || s->left > 0)
		abort();
	s->in_file = false;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct state s = {0};
	const struct esgz_tar_sink sink = {
	    .entry = on_entry, .data = on_data, .end = on_end, .hole = on_hole, .raw = on_raw, .arg = &s};
	AUTO(esgz_tar) struct esgz_tar *t = esgz_tar_new(&sink);
	struct err err = ERR_INIT;
	struct str in;
	size_t step;

	if (n == 0)
		return 0;
	step = data[0] ? data[0] : SIZE_MAX;
	s.input = str_make(data + 1, n - 1);
	for (in = s.input; in.n > 0; in = str_sub(in, step, in.n))
		if (esgz_tar_feed(t, str_sub(in, 0, step), &err) < 0)
			return 0;
	if (s.input.n > 0 || (esgz_tar_finish(t, &err) == 0 && s.in_file))
		abort();
	return 0;
}
