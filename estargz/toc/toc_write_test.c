#include "estargz/toc/toc_write.h"

#include "base/testing.h"
#include "estargz/toc/toc.h"

#include <stdio.h>

/* A file whose name begins with the number and has so many bytes; what adding it gives. */
static int add_file(struct toc_writer *t, unsigned number, size_t bytes, const struct esgz_xattr *x, uint32_t n,
                    struct err *err)
{
	AUTO(buf) struct buf path = BUF_INIT;
	struct esgz_entry e = {.type = ESGZ_REG, .size = 1};

	buf_addf(&path, "%08u", number);
	while (path.n < bytes)
		buf_adds(&path, "/a directory of a rather long name, such as nobody has for a reason that is good");
	e.path = buf_str(&path);
	return toc_add(t, &e, x, n, err);
}

/* More than a reader takes is refused long before it is written, or would have to be held. */
static void test_entries_are_bounded(void **state)
{
	AUTO(toc_writer) struct toc_writer t = {0};
	struct err err = ERR_INIT;
	unsigned n = 0;

	while (n < 1000000 && add_file(&t, n, 4000, NULL, 0, &err) == 0)
		n++;
	assert_in_range(n, ESGZ_TOC_BYTES_MAX / 4200, ESGZ_TOC_BYTES_MAX / 4000);
	assert_int_equal(err.code, ERR_EXHAUSTED);
	assert_true(t.texts.n <= ESGZ_TOC_BYTES_MAX);
}

static void test_xattrs_are_bounded(void **state)
{
	static char value[65536];
	AUTO(toc_writer) struct toc_writer t = {0};
	struct esgz_xattr x[16];
	struct err err = ERR_INIT;
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_LEN(x); i++)
		x[i] = (struct esgz_xattr){STR("user.x"), str_make(value, sizeof(value))};
	while (n < 1000 && add_file(&t, n, 8, x, ARRAY_LEN(x), &err) == 0)
		n++;
	assert_in_range(n, 110, 112); /* a MiB each, and a third for base 64 */
	assert_int_equal(err.code, ERR_EXHAUSTED);
}

/* Each chunk repeats the name of its file. */
static void test_chunks_are_bounded(void **state)
{
	AUTO(toc_writer) struct toc_writer t = {0};
	struct err err = ERR_INIT;
	uint32_t number = 0;

	assert_int_equal(add_file(&t, 0, 4000, NULL, 0, &err), 0);
	while (number < 1000000 && toc_add_chunk(&t, number, &number, &err) == 0)
		;
	assert_in_range(number, ESGZ_TOC_BYTES_MAX / 4200, ESGZ_TOC_BYTES_MAX / 4000);
	assert_int_equal(err.code, ERR_EXHAUSTED);
}

/* What is foreseen is never more than there is, in neither dialect: nothing is refused that would fit. */
static void test_foreseen(void **state)
{
	const struct esgz_xattr x = {STR(""), STR("")};

	for (unsigned verbatim = 0; verbatim < 2; verbatim++) {
		AUTO(toc_writer) struct toc_writer t = {.verbatim = verbatim, .full_chunk = 5};
		AUTO(buf) struct buf json = BUF_INIT;
		const struct esgz_entry dir = {.type = ESGZ_DIR};
		uint32_t number;

		OK(toc_add(&t, &dir, NULL, 0, err));
		OK(toc_add(&t, &(struct esgz_entry){.type = ESGZ_REG, .path = STR("f")}, &x, 1, err));
		for (unsigned i = 0; i < 3; i++)
			OK(toc_add_chunk(&t, i, &number, err));
		OK(toc_finish(&t, NULL, &json, err));
		assert_in_range(t.json_bytes, 100, json.n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_entries_are_bounded),
	    cmocka_unit_test(test_xattrs_are_bounded),
	    cmocka_unit_test(test_chunks_are_bounded),
	    cmocka_unit_test(test_foreseen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
