#include "estargz/inflate/file_chunks.h"

#include "base/testing.h"
#include "estargz/inflate/layer.h"

#define MiB ESGZ_LAYER_CHUNK_BYTES

struct file {
	struct hasher *plain, *hasher;
	struct file_chunks *chunks;
	uint8_t *bytes; /* of the file so far */
	size_t n;
};

/* Stored bytes, or a hole (`step` 0), as the layer gives them. */
static void add(struct file *f, size_t n, size_t step)
{
	for (size_t i = 0; i < n; i++)
		f->bytes[f->n + i] = step ? (uint8_t)((f->n + i) * 7 + 1) : 0;
	if (!step)
		file_chunks_hole_begin(f->chunks);
	while (n > 0) {
		size_t part = step && step < n ? step : n;

		if (step)
			file_chunks_add(f->chunks, str_make(f->bytes + f->n, part));
		else
			file_chunks_hole_add(f->chunks, str_make(f->bytes + f->n, part));
		f->n += part;
		n -= part;
	}
	if (!step)
		file_chunks_hole_end(f->chunks);
}

struct want {
	uint64_t bytes;
	bool hole;
};

static void check(struct file *f, uint64_t plain, const struct want *want, uint32_t n_want)
{
	const struct esgz_chunk *c;
	struct digest content, digest;
	AUTO(hasher) struct hasher *stored = hasher_new();
	uint64_t at = 0;
	uint32_t n;

	hasher_done(f->hasher, &content);
	digest_of(f->bytes, f->n, &digest);
	assert_true(digest_eq(&content, &digest));
	c = file_chunks_end(f->chunks, &content, &n);
	assert_int_equal(n, n_want);
	for (uint32_t i = 0; i < n; at += c[i++].bytes) {
		assert_int_equal(c[i].bytes, want[i].bytes);
		assert_int_equal(c[i].hole, want[i].hole);
		assert_int_equal(c[i].file_offset, at);
		digest_of(f->bytes + at, (size_t)c[i].bytes, &digest);
		assert_true(digest_eq(&c[i].digest, &digest));
		if (c[i].hole)
			continue;
		hasher_add(stored, f->bytes + at, (size_t)c[i].bytes);
		assert_int_equal(c[i].blob_offset, plain);
		plain += c[i].bytes;
	}
	assert_int_equal(at, f->n);
	hasher_done(f->plain, &content);
	hasher_done(stored, &digest);
	assert_true(digest_eq(&content, &digest));
	f->n = 0;
}

static void test_chunks(void **state)
{
	struct file f = {.plain = hasher_new(), .hasher = hasher_new(), .bytes = xmalloc(8 * MiB)};

	f.chunks = file_chunks_new(f.plain, f.hasher);
	file_chunks_cut(f.chunks); /* outside of a file: nothing */
	file_chunks_begin(f.chunks, 512);
	add(&f, 1000, 3);
	check(&f, 512, (struct want[]){{1000}}, 1);
	file_chunks_cut(f.chunks);

	file_chunks_begin(f.chunks, 9000); /* as much as a chunk can have, and one byte more */
	add(&f, MiB, 100000);
	check(&f, 9000, (struct want[]){{MiB}}, 1);
	file_chunks_begin(f.chunks, 9000);
	add(&f, 2 * MiB + 1, 3 * MiB);
	check(&f, 9000, (struct want[]){{MiB}, {MiB}, {1}}, 3);

	file_chunks_begin(f.chunks, 70); /* cuts: before the first byte, within, twice at one place, behind the last */
	file_chunks_cut(f.chunks);
	add(&f, 300, 100);
	file_chunks_cut(f.chunks);
	file_chunks_cut(f.chunks);
	add(&f, MiB + 5, 4096);
	file_chunks_cut(f.chunks);
	check(&f, 70, (struct want[]){{300}, {MiB}, {5}}, 3);

	file_chunks_begin(f.chunks, 1024); /* holes are not stored, and are as large as they are */
	add(&f, 3 * MiB, 0);
	add(&f, 10, 1);
	add(&f, 20, 0);
	add(&f, 30, 50);
	check(&f, 1024, (struct want[]){{3 * MiB, true}, {10}, {20, true}, {30}}, 4);
	file_chunks_begin(f.chunks, 1024);
	add(&f, 5, 0);
	check(&f, 1024, (struct want[]){{5, true}}, 1);
	file_chunks_free(f.chunks);
	hasher_free(f.plain);
	hasher_free(f.hasher);
	free(f.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_chunks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
