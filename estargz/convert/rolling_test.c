#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "estargz/convert/rolling.h"

#include "base/buf.h"
#include "base/vec.h"

/* A chunk: up to byte `end` of the file; of zeros or not. */
struct cut {
	uint64_t end;
	bool hole;
};

struct cuts {
	VEC(struct cut) v;
};

/* Chunks that end at the same byte as the one before are none. */
static void add_cut(struct cuts *c, uint64_t end, bool hole)
{
	if (end > (c->v.n ? vec_last(&c->v)->end : 0))
		vec_push(&c->v, (struct cut){end, hole});
}

/* ---- the model: a byte at a time, in the words of the format ---- */

static void model(struct str file, struct cuts *out)
{
	uint32_t s1 = 64 * 31, s2 = 64 * 63 * 31;
	uint8_t window[64] = {0};
	uint64_t rolled = 0;

	for (size_t i = 0; i < file.n;) {
		size_t zeros = 0;
		bool hole;

		while (i + zeros < file.n && file.p[i + zeros] == 0)
			zeros++;
		hole = zeros >= 1024;
		if (hole)
			add_cut(out, i, false);
		for (size_t n = zeros ? zeros : 1; n-- > 0; i++) {
			uint8_t in = (uint8_t)file.p[i], old = window[rolled % 64];

			window[rolled++ % 64] = in;
			s1 += in - (uint32_t)old;
			s2 += s1 - 64 * (old + 31u);
			if (!hole && (s2 & 0xffff) == 0xffff)
				add_cut(out, i + 1, false);
		}
		if (hole)
			add_cut(out, i, true);
	}
	add_cut(out, file.n, false);
}

/* ---- ours, in pieces of any size ---- */

static void cut_file(struct str file, uint32_t seed, struct cuts *out)
{
	AUTO(buf) struct buf seen = BUF_INIT;
	struct rolling r;
	uint64_t at = 0;

	rolling_begin(&r);
	for (struct str rest = file; rest.n > 0;) {
		struct str in;
		struct rolling_piece p;

		seed = seed * 1664525 + 1013904223;
		in = str_sub(rest, 0, 1 + (seed >> 8) % (seed & 64 ? 100 : 300000));
		rest = str_sub(rest, in.n, rest.n);
		while (rolling_next(&r, &in, rest.n == 0, &p)) {
			assert_true(p.hole ? p.ends && p.hole >= ROLLING_HOLE_MIN : p.bytes.n > 0);
			if (p.hole) {
				add_cut(out, at, false); /* whatever came before ends here */
				buf_addz(&seen, p.hole);
			} else {
				buf_addstr(&seen, p.bytes);
			}
			at += p.hole + p.bytes.n;
			if (p.ends)
				add_cut(out, at, p.hole > 0);
		}
		assert_int_equal(in.n, 0);
	}
	add_cut(out, at, false);
	assert_true(str_eq(buf_str(&seen), file));
}

static void check(struct str file)
{
	struct cuts want = {0}, got = {0};

	model(file, &want);
	for (uint32_t seed = 0; seed < 6; seed++) {
		vec_clear(&got.v);
		cut_file(file, seed * 7919, &got);
		assert_int_equal(got.v.n, want.v.n);
		for (size_t i = 0; i < got.v.n; i++) {
			assert_int_equal(got.v.p[i].end, want.v.p[i].end);
			assert_int_equal(got.v.p[i].hole, want.v.p[i].hole);
		}
	}
	vec_fini(&want.v);
	vec_fini(&got.v);
}

/* Random bytes with runs of zeros around what makes a hole. */
static void make_file(uint32_t seed, struct buf *out)
{
	static const size_t runs[] = {1, 63, 64, 65, 500, 1022, 1023, 1024, 1025, 2047, 2048, 5000, 70000};
	size_t n = 200000 + seed * 1000;

	while (out->n < n) {
		size_t part = (seed = seed * 1664525 + 1013904223) >> 16;

		for (size_t i = 0; i < part; i++) {
			seed = seed * 1664525 + 1013904223;
			buf_addc(out, (char)((seed >> 24) & (part % 3 ? 0xff : 3)));
		}
		buf_addz(out, runs[part % ARRAY_LEN(runs)]);
	}
}

static void test_random_files(void **state)
{
	for (uint32_t seed = 1; seed < 20; seed++) {
		AUTO(buf) struct buf file = BUF_INIT;

		make_file(seed, &file);
		check(buf_str(&file));
		check(str_sub(buf_str(&file), 70000, 100000)); /* ends anywhere */
	}
}

static void test_zeros_alone(void **state)
{
	static const size_t sizes[] = {1, 64, 1023, 1024, 1025, 100000};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		AUTO(buf) struct buf file = BUF_INIT;

		buf_addz(&file, sizes[i]);
		check(buf_str(&file));
		buf_addc(&file, 'x');
		check(buf_str(&file));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_files),
	    cmocka_unit_test(test_zeros_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
