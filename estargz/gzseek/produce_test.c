#include "estargz/gzseek/produce.h"

#include "base/testing.h"
#include "estargz/gzseek/artifact.h"
#include "estargz/gzseek/test_gzip.h"
#include "estargz/testing/test_blob.h"

#include <stdio.h>
#include <sys/mman.h>

struct source {
	struct str rest;
	size_t step, fails_at; /* with so many bytes left; SIZE_MAX: never */
};

static int read_source(void *arg, void *dst, size_t n, size_t *got, struct err *err)
{
	struct source *s = arg;

	if (s->rest.n <= s->fails_at && s->fails_at != SIZE_MAX)
		return err_set(err, ERR_UNAVAILABLE, "the line broke");
	*got = n < s->step ? n : s->step;
	*got = *got < s->rest.n ? *got : s->rest.n;
	memcpy(dst, s->rest.p, *got);
	s->rest = str_sub(s->rest, *got, SIZE_MAX);
	return 0;
}

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

static int produce(struct source s, struct esgz_layer_result *result, struct buf *artifact, struct err *err)
{
	AUTO(esgz_gzseek) struct esgz_gzseek *z = esgz_gzseek_new(NULL);

	TRY(esgz_gzseek_run(z, read_source, &s, err));
	TRY(esgz_gzseek_finish(z, result, err));
	return esgz_gzseek_produce(z, result, artifact, err);
}

/* 24 MB, so that the first half has to wait for the second one. */
static void make_tar(struct buf *tar)
{
	AUTO(buf) struct buf content = BUF_INIT;

	words(&content, 12 << 20, 1);
	tar_entry(tar, '0', "one", "", content.n, buf_str(&content));
	tar_entry(tar, '0', "two", "", content.n, buf_str(&content));
	buf_addz(tar, 1024);
}

static void test_same(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf blob = BUF_INIT;
	AUTO(buf) struct buf first = BUF_INIT;
	AUTO(buf) struct buf points = BUF_INIT;
	AUTO(buf) struct buf index = BUF_INIT;
	struct esgz_layer_result result;

	make_tar(&tar);
	zlib_pack(&blob, buf_str(&tar), &(struct zlib_way){.level = 1});
	for (size_t step = 1000; step <= 1000000; step *= 10) {
		AUTO(buf) struct buf artifact = BUF_INIT;

		buf_adds(&artifact, "before");
		OK(produce((struct source){buf_str(&blob), step, SIZE_MAX}, &result, &artifact, err));
		if (!first.n)
			buf_addstr(&first, buf_str(&artifact));
		assert_int_equal(artifact.n, first.n);
		assert_memory_equal(artifact.p, first.p, first.n);
	}
	assert_int_equal(result.plain_bytes, tar.n);
	assert_memory_equal(first.p, "before", 6);
	OK(esgz_gzseek_unpack(str_sub(buf_str(&first), 6, SIZE_MAX),
	                      &(struct esgz_gzseek_of){result.blob, blob.n, result.diff_id}, &points, &index, err));
}

/* Who unpacks a layer on the way gets the index that it would have without. */
static void test_unpacked(void **state)
{
	static const struct esgz_layer_sink nobody = {no_begin, no_data, no_end, NULL, NULL};
	AUTO(esgz_gzseek) struct esgz_gzseek *z = esgz_gzseek_new(NULL);
	AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&nobody);
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf blob = BUF_INIT;
	AUTO(buf) struct buf artifact = BUF_INIT;
	AUTO(buf) struct buf got = BUF_INIT;
	AUTO(buf) struct buf want = BUF_INIT;
	struct esgz_layer_result result, same;

	make_tar(&tar);
	zlib_pack(&blob, buf_str(&tar), &(struct zlib_way){.level = 1});
	OK(esgz_layer_feed(l, buf_str(&blob), err));
	OK(esgz_layer_finish(l, &same, err));
	OK(esgz_layer_index(l, &want, err));
	OK(esgz_gzseek_feed(z, buf_str(&blob), err));
	OK(esgz_gzseek_blob_end(z, err));
	OK(esgz_gzseek_finish(z, &result, err));
	OK(esgz_gzseek_produce(z, &result, &artifact, err));
	OK(esgz_gzseek_unpacked(z, &got, err));
	assert_memory_equal(&result, &same, sizeof(result));
	assert_int_equal(got.n, want.n);
	assert_memory_equal(got.p, want.p, want.n);
}

/* Whichever half breaks, the other one ends, and the reason is told. */
static void test_broken(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf blob = BUF_INIT;
	AUTO(buf) struct buf artifact = BUF_INIT;
	struct esgz_layer_result result;
	struct err why = ERR_INIT;

	make_tar(&tar);
	zlib_pack(&blob, buf_str(&tar), &(struct zlib_way){.level = 1});
	assert_int_equal(produce((struct source){buf_str(&blob), 100000, blob.n / 2}, &result, &artifact, &why),
	                 -ERR_UNAVAILABLE);
	assert_string_equal(why.msg, "the line broke");
	assert_int_equal(produce((struct source){str_sub(buf_str(&blob), 0, blob.n / 2), 100000, SIZE_MAX}, &result,
	                         &artifact, &why),
	                 -ERR_DATA_LOSS);
	memset(tar.p, 'x', 512); /* no header of a tar */
	buf_clear(&blob);
	zlib_pack(&blob, buf_str(&tar), &(struct zlib_way){.level = 1});
	assert_int_equal(produce((struct source){buf_str(&blob), 100000, SIZE_MAX}, &result, &artifact, &why),
	                 -ERR_INVALID);
	assert_null(strstr(why.msg, "no more is wanted"));
	assert_int_equal(artifact.n, 0);
}

/* n files of 100 bytes that do not compress: most of the layer is headers, most of the index digests. */
static void make_small_files(struct buf *blob, unsigned n)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	uint32_t seed = 1;

	for (unsigned i = 0; i < n; i++) {
		char name[16], content[100];

		snprintf(name, sizeof(name), "f%u", i);
		for (size_t k = 0; k < sizeof(content); k++) {
			seed = seed * 1664525 + 1013904223;
			content[k] = (char)(seed >> 24);
		}
		tar_entry(&tar, '0', name, "", sizeof(content), str_make(content, sizeof(content)));
	}
	buf_addz(&tar, 1024);
	zlib_pack(blob, buf_str(&tar), &(struct zlib_way){.level = 1});
}

/* What readers would not take is not made; what they would is. */
static void test_too_large(void **state)
{
	static const struct {
		unsigned files;
		const char *why; /* NULL: it is made */
	} layers[] = {{1, "as large as itself"}, {20000, NULL}, {60000, "more than readers take"}};

	for (size_t i = 0; i < ARRAY_LEN(layers); i++) {
		AUTO(buf) struct buf blob = BUF_INIT;
		AUTO(buf) struct buf artifact = BUF_INIT;
		struct esgz_layer_result result;
		struct err why = ERR_INIT;
		int r;

		make_small_files(&blob, layers[i].files);
		buf_adds(&artifact, "before");
		r = produce((struct source){buf_str(&blob), 100000, SIZE_MAX}, &result, &artifact, &why);
		assert_int_equal(r, layers[i].why ? -ERR_PRECONDITION : 0);
		if (layers[i].why)
			assert_true(artifact.n == 6 && strstr(why.msg, layers[i].why));
		else
			assert_in_range(artifact.n - 6, 1, ESGZ_ARTIFACT_PACKED_MAX(blob.n));
	}
}

/* That it is too much is said before any of it is read, and so copied: nothing of these bytes can be. */
static void test_pack_too_much(void **state)
{
	size_t n = ESGZ_ARTIFACT_BYTES_MAX;
	void *bytes = mmap(NULL, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	AUTO(buf) struct buf artifact = BUF_INIT;

	assert_ptr_not_equal(bytes, MAP_FAILED);
	FAILS(esgz_gzseek_pack(str_make(bytes, n), str_make(bytes, 1), &artifact, err), ERR_PRECONDITION);
	FAILS(esgz_gzseek_pack(str_make(bytes, 1), str_make(bytes, n), &artifact, err), ERR_PRECONDITION);
	assert_int_equal(artifact.n, 0);
	munmap(bytes, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_same), cmocka_unit_test(test_unpacked),
	                                   cmocka_unit_test(test_broken), cmocka_unit_test(test_too_large),
	                                   cmocka_unit_test(test_pack_too_much)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
