#include "estargz/convert/order.h"

#include "estargz/convert/convert.h"

#include "base/buf.h"
#include "base/testing.h"

#include <stdio.h>

static const struct str LIST[] = {{"listed", 6}};

/* A hard link with a name and a target of about so many bytes. */
static int add_link(const struct esgz_tar_sink *sink, unsigned number, unsigned bytes, struct err *err)
{
	AUTO(buf) struct buf path = BUF_INIT;
	struct esgz_tar_entry t = {.e.type = ESGZ_HARDLINK};

	buf_addf(&path, "%010u", number);
	while (path.n < bytes)
		buf_addstr(&path,
		           STR("/a directory of a rather long name, such as nobody has for a reason that is good"));
	t.e.path = t.e.link = buf_str(&path);
	return sink->entry(sink->arg, &t, err);
}

static void test_links_are_bounded(void **state)
{
	AUTO(order) struct order *o = order_new(LIST, 1);
	struct esgz_tar_sink sink;
	struct err err = ERR_INIT;
	unsigned n = 0;

	order_scan_begin(o, &sink);
	while (n < 100000 && add_link(&sink, n, 3500, &err) == 0)
		n++;
	assert_in_range(n, 18000, 19500); /* 128 MiB */
	assert_int_equal(err.code, ERR_EXHAUSTED);
	assert_non_null(strstr(err.msg, "hard links"));
}

/* One that stands again and again is kept once, and read again they are the same. */
static void test_links_that_are_replaced(void **state)
{
	AUTO(order) struct order *o = order_new(LIST, 1);
	struct esgz_tar_sink sink;

	for (unsigned round = 0; round < 2; round++) {
		order_scan_begin(o, &sink);
		for (unsigned i = 0; i < 20000; i++)
			OK(add_link(&sink, i % 10000, 3500, err));
	}
}

/* What is said of listed files counts, too: names and xattrs. */
static void test_texts_are_bounded(void **state)
{
	AUTO_FREE char *value = xcalloc(1, 1u << 20);
	AUTO(order) struct order *o = NULL;
	const struct esgz_xattr x = {STR("user.x"), str_make(value, 1u << 20)};
	struct esgz_tar_sink sink;
	char names[600][8];
	struct str list[600];
	struct err err = ERR_INIT;
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_LEN(list); i++) {
		snprintf(names[i], sizeof(names[i]), "%u", i);
		list[i] = str_of(names[i]);
	}
	o = order_new(list, ARRAY_LEN(list));
	order_scan_begin(o, &sink);
	for (; n < ARRAY_LEN(list); n++) {
		const struct esgz_tar_entry t = {
		    .e = {.type = ESGZ_DIR, .path = list[n]}, .xattrs = (struct esgz_xattr *)&x, .n_xattrs = 1};

		if (sink.entry(sink.arg, &t, &err) < 0)
			break;
	}
	assert_in_range(n, 500, 512);
	assert_int_equal(err.code, ERR_EXHAUSTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_links_are_bounded),
	    cmocka_unit_test(test_links_that_are_replaced),
	    cmocka_unit_test(test_texts_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
