#include "fusefs/proof/tarview.h"

#include "base/testing.h"
#include "estargz/testing/test_blob.h"

static const char RECORDS[] = "27 GNU.sparse.size=1000003\n26 GNU.sparse.numblocks=1\n"
			      "25 GNU.sparse.name=holes\n28 GNU.sparse.map=1000000,3\n";

static void sparse_tar(struct buf *tar)
{
	tar_entry(tar, 'x', "pax", "", sizeof(RECORDS) - 1, str_make(RECORDS, sizeof(RECORDS) - 1));
	tar_entry(tar, '0', "GNUSparseFile.0/holes", "", 3, STR("abc"));
	buf_addz(tar, 1024);
}

static int no_content(void *arg, uint32_t entry, uint64_t at, uint8_t *dst, size_t n, struct err *err)
{
	return err_set(err, ERR_INTERNAL, "nothing is here to be read again");
}

/* Fails when it has been asked so often. */
static int some_steps(void *arg, struct err *err)
{
	unsigned *left = arg;

	return (*left)-- ? 0 : err_set(err, ERR_CANCELLED, "cancelled");
}

/* The zeros of holes are content like any other. */
static void test_holes(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *toc = NULL;
	AUTO(tarview) struct tarview *v = NULL;
	struct tarview_result r;
	unsigned steps = 1;

	sparse_tar(&tar);
	toc = index_of_tar(buf_str(&tar), NULL, &file);
	v = tarview_new(toc, no_content, some_steps, &steps);
	OK(tarview_feed(v, buf_str(&tar), err));
	OK(tarview_finish(v, &r, err));
	if (r.tree != FFS_TREE_SAME)
		fail_msg("%s", buf_cstr(&r.difference));
	assert_int_equal(steps, 0);
	buf_fini(&r.difference);
}

/* Being cancelled in one says nothing about the tar. */
static void test_cancelled_in_a_hole(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *toc = NULL;
	AUTO(tarview) struct tarview *v = NULL;
	struct tarview_result r;
	unsigned steps = 0;

	sparse_tar(&tar);
	toc = index_of_tar(buf_str(&tar), NULL, &file);
	v = tarview_new(toc, no_content, some_steps, &steps);
	FAILS(tarview_feed(v, buf_str(&tar), err), ERR_CANCELLED);
	FAILS(tarview_finish(v, &r, err), ERR_CANCELLED);
}

/* What is found of a tar whose TOC says what it itself says. */
static void check_own(const struct buf *tar, enum ffs_tree tree, const char *why)
{
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *toc = NULL;
	AUTO(tarview) struct tarview *v = NULL;
	struct tarview_result r;
	unsigned steps = 0;

	toc = index_of_tar(buf_str(tar), NULL, &file);
	v = tarview_new(toc, no_content, some_steps, &steps);
	OK(tarview_feed(v, buf_str(tar), err));
	OK(tarview_finish(v, &r, err));
	assert_string_equal(buf_cstr(&r.difference), why);
	assert_int_equal(r.tree, tree);
	buf_fini(&r.difference);
}

struct made_entry {
	char type;
	const char *name, *link, *content;
};

/* Devices have the numbers 0:0. */
static void make_tar(struct buf *tar, const struct made_entry *entries)
{
	buf_clear(tar);
	for (const struct made_entry *e = entries; e->type; e++) {
		struct str content = str_of(e->content ?: "");

		tar_entry(tar, e->type, e->name, e->link ?: "", content.n, content);
	}
	buf_addz(tar, 1024);
}

/* Tars of which who unpacks them gets another tree than the index that they make. */
static void test_unpacked_otherwise(void **state)
{
	static const struct {
		struct made_entry entries[6];
		const char *why;
	} cases[] = {
	    {{{'0', "a", NULL, "good"}, {'1', "b", "a"}, {'0', "a", NULL, "evil"}},
	     "b: hard link to a file that comes behind it"},
	    {{{'0', "a", NULL, "good"}, {'1', "c/b", "a"}, {'1', "d", "c/b"}, {'0', "c/b", NULL, "evil"}},
	     "d: hard link to a file that comes behind it"},
	    /* A file of a layer below, when there is one. */
	    {{{'1', "b", "a"}, {'0', "a", NULL, "evil"}}, "b: hard link to a file that comes behind it"},
	    {{{'0', "a", NULL, "text"}, {'3', "etc-passwd"}},
	     "etc-passwd: character device 0:0, which overlayfs takes for a whiteout"},
	    {{{'0', ".wh.a/b", NULL, "text"}}, ".wh.a/b: below a whiteout"},
	    {{{'5', ".wh.a/b"}}, ".wh.a/b: below a whiteout"},
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(buf) struct buf tar = BUF_INIT;

		make_tar(&tar, cases[i].entries);
		check_own(&tar, FFS_TREE_UNKNOWN, cases[i].why);
	}
}

/* What is in real ones, and is unpacked to what the index says. */
static void test_unpacked_alike(void **state)
{
	static const struct made_entry cases[][6] = {
	    {{'0', "a", NULL, "one"}, {'1', "b", "a"}, {'1', "c", "b"}},
	    {{'0', "a", NULL, "one"}, {'0', "a", NULL, "two"}, {'1', "b", "a"}},
	    {{'0', "a", NULL, "one"}, {'1', "b", "a"}, {'0', "a", NULL, "two"}, {'1', "b", "a"}},
	    {{'0', "a", NULL, "one"}, {'1', "b", "a"}, {'0', "b", NULL, "two"}},
	    {{'0', "d/.wh.a"}, {'0', "e/.wh..wh..opq"}, {'0', "e/a", NULL, "one"}},
	    {{'0', ".wh..wh.aufs"}, {'5', ".wh..wh.plnk/"}, {'0', ".wh..wh.plnk/1.2", NULL, "x"}},
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(buf) struct buf tar = BUF_INIT;

		make_tar(&tar, cases[i]);
		check_own(&tar, FFS_TREE_SAME, "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_holes),
	    cmocka_unit_test(test_cancelled_in_a_hole),
	    cmocka_unit_test(test_unpacked_otherwise),
	    cmocka_unit_test(test_unpacked_alike),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
