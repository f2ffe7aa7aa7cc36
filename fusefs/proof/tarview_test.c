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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_holes),
	    cmocka_unit_test(test_cancelled_in_a_hole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
