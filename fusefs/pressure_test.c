/* Little of everything: of the line, of memory, of descriptors, of time to end. */
#include "fusefs/core.h"
#include "fusefs/testdata.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdio.h>

/* A reader takes the line from the background, which goes on afterwards. */
static void test_preempt(void **state)
{
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	const struct test_file *t;
	struct test_layer l;

	ffs_data_free(f->data);
	f->opts.background = FFS_BACKGROUND_ON;
	f->opts.quiet_ns = NS_PER_MS;
	data_open(f);
	sample_layer(&l);
	test_layer_add(&l, "huge", 400 * CHUNK, CHUNK, 99, NULL);
	layer_ready(f, &l, 1);
	f->blobs.hold_bulk = true;
	f->blobs.hold_after = 300000;
	ffs_data_set_pinned(f->data, &l.key, true);
	test_blobs_wait(&f->blobs, &f->blobs.n_requests, 2);
	t = test_layer_file(&l, "huge");
	check_file(f, test_layer_file(&l, "small"));
	check_file(f, test_layer_file(&l, "tail"));
	test_blobs_wait(&f->blobs, &f->blobs.n_cancelled, 2); /* the one that brings it, and the other */
	assert_true(test_blobs_count(&f->blobs, &f->blobs.n_demand) >= 1);
	pthread_mutex_lock(&f->blobs.lock);
	f->blobs.hold_bulk = false;
	pthread_cond_broadcast(&f->blobs.changed);
	pthread_mutex_unlock(&f->blobs.lock);
	wait_object(f, &t->digest, t->content.n);
	assert_int_equal(fill(f, &l, &x), ERR_OK);
	layer_fini(f, &l);
}

/* Far less memory than what is asked for: all arrives, and the bound holds. */
static void test_memory(void **state)
{
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	struct result r[32];
	struct ffs_data_counters c;
	struct test_layer l;
	struct ffs_file *file;
	uint64_t size;

	ffs_data_free(f->data);
	f->opts.memory_bytes = 4 * CHUNK;
	data_open(f);
	test_layer_init(&l, "127.0.0.1:1/a");
	test_layer_add(&l, "x", 200 * CHUNK, CHUNK, 5, NULL);
	layer_ready(f, &l, 1);
	file = find(f, &l.files.p[0].claim, &size);
	for (unsigned i = 0; i < ARRAY_LEN(r); i++) {
		r[i] = (struct result)RESULT_INIT;
		ffs_data_read(f->data, file, i * 6 * CHUNK, 1000, on_read, &r[i]);
	}
	for (unsigned i = 0; i < ARRAY_LEN(r); i++) {
		result_wait(&r[i]);
		assert_int_equal(r[i].code, ERR_OK);
		assert_memory_equal(r[i].bytes.p, l.files.p[0].content.p + i * 6 * CHUNK, 1000);
		buf_fini(&r[i].bytes);
	}
	assert_int_equal(fill(f, &l, &x), ERR_OK);
	ffs_data_counters(f->data, &c);
	assert_true(c.memory_bytes <= f->opts.memory_bytes);
	layer_fini(f, &l);
}

/* Chunks that nobody reads again do not stay in memory. */
static void test_cache_ages(void **state)
{
	struct fixture *f = *state;
	struct ffs_data_counters c;
	struct result r = RESULT_INIT;
	const struct test_file *t;
	struct err err = ERR_INIT;
	struct test_layer l;
	bool emptied = false;
	unsigned n;

	test_layer_init(&l, "127.0.0.1:1/a");
	test_layer_add(&l, "x", 200 * CHUNK, CHUNK, 5, NULL);
	layer_ready(f, &l, 1);
	t = test_layer_file(&l, "x");
	assert_int_equal(read_at(f, &t->claim, 3 * CHUNK, 100, &r), ERR_OK);
	assert_false(ffs_data_beat(f->data));
	ffs_data_counters(f->data, &c);
	assert_true(c.memory_bytes >= CHUNK);
	ffs_data_free(f->data);
	f->opts.cache_ns = 1;
	data_open(f);
	assert_int_equal(ffs_data_add_layer(f->data, &l.key, &err), 0);
	assert_int_equal(read_at(f, &t->claim, 150 * CHUNK, 100, &r), ERR_OK);
	/* Who reads has the bytes before they are cached, and what was read along may still be on its way. */
	do {
		emptied |= ffs_data_beat(f->data);
		ffs_data_counters(f->data, &c);
	} while (!emptied || c.memory_bytes);
	n = test_blobs_count(&f->blobs, &f->blobs.n_requests);
	assert_int_equal(read_at(f, &t->claim, 150 * CHUNK, 100, &r), ERR_OK);
	assert_memory_equal(r.bytes.p, t->content.p + 150 * CHUNK, 100);
	assert_int_equal(test_blobs_count(&f->blobs, &f->blobs.n_requests), n);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

/* Unfinished files that were closed to save descriptors are still here. */
static void test_few_descriptors(void **state)
{
	struct fixture *f = *state;
	struct result r = RESULT_INIT;
	struct test_layer l;
	unsigned n;

	ffs_data_free(f->data);
	f->opts.open_files = 1;
	f->opts.memory_bytes = 4 * CHUNK; /* too little for caching one */
	data_open(f);
	test_layer_init(&l, "127.0.0.1:1/a");
	for (unsigned i = 0; i < 3; i++) {
		char path[8];

		snprintf(path, sizeof(path), "%u", i);
		test_layer_add(&l, path, 40 * CHUNK, CHUNK, 60 + i, NULL);
	}
	layer_ready(f, &l, 1);
	vec_each(&l.files, t)
		assert_int_equal(read_at(f, &t->claim, 7 * CHUNK, 100, &r), ERR_OK);
	n = test_blobs_count(&f->blobs, &f->blobs.n_requests);
	vec_each(&l.files, t) {
		if (read_at(f, &t->claim, 7 * CHUNK + 5, 100, &r) != ERR_OK)
			fail_msg("%s", r.msg);
		assert_memory_equal(r.bytes.p, t->content.p + 7 * CHUNK + 5, 100);
	}
	assert_int_equal(test_blobs_count(&f->blobs, &f->blobs.n_requests), n);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

/* Everything at once, from many threads; for the sanitizers as much as for the bytes. */
struct hammer {
	struct fixture *f;
	struct test_layer *l;
	unsigned seed;
};

static void *hammer_main(void *arg)
{
	struct hammer *h = arg;
	struct result r = RESULT_INIT;

	for (unsigned i = 0; i < 150; i++) {
		const struct test_file *t;
		uint64_t at;
		size_t n;

		h->seed = h->seed * 1103515245 + 12345;
		t = &h->l->files.p[(h->seed >> 8) % h->l->files.n];
		at = (h->seed >> 4) % t->content.n;
		n = (h->seed >> 12) % (3 * CHUNK) + 1;
		if (read_at(h->f, h->seed & 1 ? &t->claim : &t->digest, at, n, &r) != ERR_OK)
			fail_msg("%s: %s", t->path, r.msg);
		if (n > t->content.n - at)
			n = t->content.n - at;
		assert_int_equal(r.bytes.n, n);
		assert_memory_equal(r.bytes.p, t->content.p + at, n);
	}
	buf_fini(&r.bytes);
	return NULL;
}

static void test_hammer(void **state)
{
	struct fixture *f = *state;
	struct fill_result x = {.r = RESULT_INIT};
	struct hammer h[6];
	pthread_t threads[6];
	struct test_layer l;

	ffs_data_free(f->data);
	f->opts.background = FFS_BACKGROUND_EAGER;
	f->opts.memory_bytes = 8 * CHUNK;
	data_open(f);
	sample_layer(&l);
	test_layer_add(&l, "huge", 60 * CHUNK, CHUNK, 99, NULL);
	test_layer_pack(&l, "pack2/", 20, 2000, 500);
	layer_ready(f, &l, 1);
	f->blobs.fail_code = ERR_UNAVAILABLE;
	f->blobs.fail = 2;
	f->blobs.corrupt_at = test_layer_file(&l, "huge")->blob_offset + 30;
	f->blobs.corrupt_times = 1;
	ffs_data_set_pinned(f->data, &l.key, true);
	for (unsigned i = 0; i < ARRAY_LEN(h); i++) {
		h[i] = (struct hammer){f, &l, i * 7919 + 1};
		assert_int_equal(pthread_create(&threads[i], NULL, hammer_main, &h[i]), 0);
	}
	for (unsigned i = 0; i < ARRAY_LEN(h); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(fill(f, &l, &x), ERR_OK);
	vec_each(&l.files, t)
		check_file(f, t);
	layer_fini(f, &l);
}

/* Ending with readers waiting: each is told, once. */
static void test_stop_under_load(void **state)
{
	struct fixture *f = *state;
	struct result r[10];
	struct test_layer l;
	struct ffs_file *file;
	uint64_t size;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	file = find(f, &test_layer_file(&l, "big")->claim, &size);
	test_blobs_set_hold(&f->blobs, true);
	for (unsigned i = 0; i < ARRAY_LEN(r); i++) {
		r[i] = (struct result)RESULT_INIT;
		ffs_data_read(f->data, file, i * CHUNK, CHUNK + 5, on_read, &r[i]);
	}
	ffs_data_free(f->data);
	for (unsigned i = 0; i < ARRAY_LEN(r); i++) {
		assert_int_equal(r[i].done, 1);
		assert_int_equal(r[i].code, ERR_CANCELLED);
		buf_fini(&r[i].bytes);
	}
	test_blobs_set_hold(&f->blobs, false);
	data_open(f);
	layer_fini(f, &l);
}

/* The background asks for nothing more once all is to end, though the line has just become free. */
static void test_stop_in_background(void **state)
{
	struct fixture *f = *state;
	struct test_layer l;

	ffs_data_free(STEAL(f->data));
	f->opts.background = FFS_BACKGROUND_EAGER;
	test_layer_init(&l, "127.0.0.1:1/a");
	test_layer_add(&l, "x", 400 * CHUNK, CHUNK, 5, NULL);
	test_layer_finish(&l, f->store, 1);
	test_blobs_add(&f->blobs, &l);
	test_blobs_set_hold(&f->blobs, true);
	for (unsigned i = 0; i < 50; i++) {
		unsigned n = test_blobs_count(&f->blobs, &f->blobs.n_requests);
		struct err err = ERR_INIT;

		data_open(f);
		assert_int_equal(ffs_data_add_layer(f->data, &l.key, &err), 0);
		ffs_data_set_pinned(f->data, &l.key, true);
		test_blobs_wait(&f->blobs, &f->blobs.n_requests, n + FFS_BULK_REQUESTS);
		ffs_data_free(STEAL(f->data));
		assert_int_equal(test_blobs_count(&f->blobs, &f->blobs.n_requests), n + FFS_BULK_REQUESTS);
	}
	data_open(f);
	layer_fini(f, &l);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
	const struct CMUnitTest tests[] = {
	    T(test_preempt), T(test_memory),          T(test_cache_ages),         T(test_few_descriptors),
	    T(test_hammer),  T(test_stop_under_load), T(test_stop_in_background),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
