/* Fills: all of a layer is fetched, whoever reads. */
#include "fusefs/testdata.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static void test_fill(void **state)
{
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	struct ffs_layer_status st;
	struct test_layer l;
	struct err err;
	unsigned n;

	sample_layer(&l);
	for (unsigned i = 0; i < 200; i++) {
		char path[16];

		snprintf(path, sizeof(path), "f/%u", i);
		test_layer_add(&l, path, 500 * i + 1, CHUNK, 1000 + i, NULL);
	}
	layer_ready(f, &l, 1);
	check_file(f, test_layer_file(&l, "tail"));
	assert_int_equal(fill(f, &l, &x), ERR_OK);
	assert_false(x.fell);
	vec_each(&l.files, t) {
		assert_true(object_has(f, &t->digest, t->content.n));
		assert_true(object_has(f, &t->claim, t->content.n));
	}
	assert_int_equal(ffs_data_layer_status(f->data, &l.key, false, &st, &err), 0);
	assert_int_equal(st.files, l.files.n);
	assert_int_equal(st.files_published, l.files.n);
	assert_int_equal(st.present_bytes, st.content_bytes);
	assert_true(f->blobs.bytes <= l.blob.n + 4096);
	n = f->blobs.n_requests;
	assert_int_equal(fill(f, &l, &x), ERR_OK);
	assert_int_equal(f->blobs.n_requests, n);
	vec_each(&l.files, t)
		check_file(f, t);
	layer_fini(f, &l);
}

static void test_fill_fails(void **state)
{
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	struct test_layer l;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	f->blobs.corrupt_at = test_layer_file(&l, "exact")->blob_offset + 20;
	f->blobs.corrupt_times = 1000;
	assert_int_equal(fill(f, &l, &x), ERR_DATA_LOSS);
	f->blobs.corrupt_times = 0;
	f->blobs.fail = 1;
	f->blobs.fail_code = ERR_PERMISSION;
	assert_int_equal(fill(f, &l, &x), ERR_PERMISSION);
	f->blobs.fail = 2;
	f->blobs.fail_code = ERR_UNAVAILABLE;
	assert_int_equal(fill(f, &l, &x), ERR_OK);
	layer_fini(f, &l);
}

/* An index that wants the impossible for one file: that file fails, at once, and nothing else. */
static void test_impossible_member(void **state)
{
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	struct result r = RESULT_INIT;
	struct test_layer l;

	test_layer_init(&l, "127.0.0.1:1/sample");
	test_layer_add(&l, "before", 3 * CHUNK, CHUNK, 1, NULL);
	test_layer_add_far(&l, "far", 1000);
	test_layer_add(&l, "after", 3 * CHUNK, CHUNK, 2, NULL);
	layer_ready(f, &l, 1);
	assert_int_equal(fill(f, &l, &x), ERR_INVALID);
	assert_true(object_has(f, &test_layer_file(&l, "before")->digest, 3 * CHUNK));
	assert_true(object_has(f, &test_layer_file(&l, "after")->digest, 3 * CHUNK));
	assert_int_equal(read_at(f, &test_layer_file(&l, "far")->claim, 0, 10, &r), ERR_INVALID);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

/* Files with holes, and of nothing else, become objects like others; what follows of a half is taken up. */
static void test_fill_holes(void **state)
{
	const uint64_t hole = 70u << 20;
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	struct result r = RESULT_INIT;
	struct ffs_layer_status st;
	struct test_layer l;
	struct err err;

	test_layer_init(&l, "127.0.0.1:1/sample");
	test_layer_add(&l, "before", 3 * CHUNK, CHUNK, 1, NULL);
	test_layer_add_sparse(&l, "mixed", 10000, hole, 2);
	test_layer_add_sparse(&l, "whole", 0, hole + 1, 3);
	test_layer_add(&l, "after", 3 * CHUNK, CHUNK, 4, NULL);
	layer_ready(f, &l, 1);
	assert_int_equal(read_at(f, &test_layer_file(&l, "mixed")->claim, 20000, 10, &r), ERR_OK);
	assert_int_equal(fill(f, &l, &x), ERR_OK);
	assert_true(object_has(f, &test_layer_file(&l, "mixed")->digest, hole + 10000));
	assert_true(object_has(f, &test_layer_file(&l, "whole")->digest, hole + 1));
	assert_true(f->blobs.bytes <= l.blob.n);
	assert_int_equal(ffs_data_layer_status(f->data, &l.key, false, &st, &err), 0);
	assert_int_equal(st.files_published, 4);
	assert_int_equal(st.present_bytes, st.content_bytes);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

/* Files whose zeros another layer stores are begun for that one; where they are holes nothing brings them. */
static void test_holes_elsewhere_data(void **state)
{
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	struct result r = RESULT_INIT;
	struct test_layer data, holes;

	zeros_twice(&data, &holes);
	layer_ready(f, &data, 1);
	f->blobs.fail = 100;
	f->blobs.fail_code = ERR_NOT_FOUND;
	vec_each(&data.files, t)
		assert_int_equal(read_at(f, &t->claim, 0, 10, &r), ERR_NOT_FOUND);
	f->blobs.fail = 0;
	layer_ready(f, &holes, 2);
	assert_int_equal(fill(f, &holes, &x), ERR_OK);
	vec_each(&data.files, t)
		assert_true(object_has(f, &t->digest, 20000));
	buf_fini(&r.bytes);
	test_layer_fini(&data);
	layer_fini(f, &holes);
}

/* A hole whose digest is not that of its zeros never becomes an object. */
static void test_false_hole(void **state)
{
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	const struct test_file *false_one;
	struct test_layer l;

	test_layer_init(&l, "127.0.0.1:1/sample");
	test_layer_add_sparse(&l, "false", 0, TEST_HOLE_TRUE + 1, 1);
	layer_ready(f, &l, 1);
	false_one = test_layer_file(&l, "false");
	assert_int_equal(fill(f, &l, &x), ERR_DATA_LOSS);
	assert_false(object_has(f, &false_one->digest, TEST_HOLE_TRUE + 1));
	assert_false(object_has(f, &false_one->claim, TEST_HOLE_TRUE + 1));
	layer_fini(f, &l);
}

/* A hole that takes minutes to hash holds up nothing once its layer is removed, nor the end. */
static void test_endless_hole(void **state)
{
	const uint64_t hole = 1ull << 40;
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	struct result r = RESULT_INIT;
	struct test_layer endless[2], l;

	for (unsigned i = 0; i < 2; i++) {
		test_layer_init(&endless[i], "127.0.0.1:1/endless");
		test_layer_add_sparse(&endless[i], "hole", 0, hole + i, 1);
	}
	layer_ready(f, &endless[0], 1);
	assert_int_equal(read_at(f, &test_layer_file(&endless[0], "hole")->claim, hole / 2, 10, &r), ERR_OK);
	ffs_data_remove_layer(f->data, &endless[0].key);
	sample_layer(&l);
	layer_ready(f, &l, 3);
	assert_int_equal(fill(f, &l, &x), ERR_OK);
	layer_ready(f, &endless[1], 2); /* of the same content */
	assert_int_equal(read_at(f, &test_layer_file(&endless[1], "hole")->claim, hole / 2, 10, &r), ERR_OK);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
	for (unsigned i = 0; i < 2; i++)
		test_layer_fini(&endless[i]);
}

/* Each of many holes is complete at once; they wait for the publisher, and do not use up the descriptors. */
static void test_many_holes(void **state)
{
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	struct rlimit before, few;
	struct test_layer l;
	int next;

	ffs_data_free(f->data);
	f->opts.open_files = 8;
	data_open(f);
	test_layer_init(&l, "127.0.0.1:1/sample");
	for (unsigned i = 0; i < 300; i++) {
		char path[16];

		snprintf(path, sizeof(path), "%u", i);
		test_layer_add_sparse(&l, path, 0, 100000 + i, i);
	}
	layer_ready(f, &l, 1);
	next = dup(0);
	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){.rlim_cur = (rlim_t)next + 40, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(fill(f, &l, &x), ERR_OK);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	vec_each(&l.files, t)
		assert_true(object_has(f, &t->claim, 100000 + (uint64_t)(t - l.files.p)));
	layer_fini(f, &l);
}

/* Why a hole could not be kept is told, and the next fill keeps it. */
static void test_hole_not_kept(void **state)
{
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	struct rlimit before, none;
	struct test_layer l;

	test_layer_init(&l, "127.0.0.1:1/sample");
	test_layer_add_sparse(&l, "hole", 0, 100000, 1);
	layer_ready(f, &l, 1);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none = (struct rlimit){.rlim_cur = 1, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	(void)find(f, &test_layer_file(&l, "hole")->claim, &(uint64_t){0}); /* mounts know it from now on */
	assert_int_not_equal(fill(f, &l, &x), ERR_OK);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_non_null(strstr(x.r.msg, "File too large"));
	assert_int_equal(fill(f, &l, &x), ERR_OK);
	assert_true(object_has(f, &test_layer_file(&l, "hole")->digest, 100000));
	layer_fini(f, &l);
}

/* Nothing can be written for a while: reads go on, fills say why not, and afterwards bring what was not kept. */
static void test_disk_full(void **state)
{
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	struct rlimit before, none;
	struct test_layer l;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none = (struct rlimit){.rlim_cur = 1, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	vec_each(&l.files, t)
		check_file(f, t);
	assert_int_not_equal(fill(f, &l, &x), ERR_OK);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_non_null(strstr(x.r.msg, "File too large"));
	assert_int_equal(fill(f, &l, &x), ERR_OK);
	vec_each(&l.files, t)
		assert_true(object_has(f, &t->digest, t->content.n));
	layer_fini(f, &l);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
	const struct CMUnitTest tests[] = {
	    T(test_fill),       T(test_fill_fails),    T(test_impossible_member),
	    T(test_fill_holes), T(test_false_hole),    T(test_endless_hole),
	    T(test_many_holes), T(test_hole_not_kept), T(test_holes_elsewhere_data),
	    T(test_disk_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
