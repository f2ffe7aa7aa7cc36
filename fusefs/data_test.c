/* Reads: what arrives, what is wrong with it, and what is here already. Fills: fill_test.c; shortage: pressure_test.c. */
#include "fusefs/testdata.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static ino_t object_inode(struct fixture *f, const struct digest *key)
{
	char path[FFS_OBJECT_PATH_MAX];
	struct stat st;

	assert_int_equal(fstatat(ffs_store_dir(f->store, FFS_DIR_OBJECTS), ffs_object_path(key, path), &st, 0), 0);
	return st.st_ino;
}

static void test_reads(void **state)
{
	struct fixture *f = *state;
	struct test_layer l;
	struct result r = RESULT_INIT;
	const struct test_file *big;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	vec_each(&l.files, t)
		check_file(f, t);
	vec_each(&l.files, t) {
		wait_object(f, &t->digest, t->content.n);
		wait_object(f, &t->claim, t->content.n);
		assert_int_equal(object_inode(f, &t->digest), object_inode(f, &t->claim));
		check_file(f, t);
	}
	big = test_layer_file(&l, "big");
	/* Clamped at the end, nothing beyond it. */
	assert_int_equal(read_at(f, &big->claim, big->content.n - 5, 4096, &r), ERR_OK);
	assert_int_equal(r.bytes.n, 5);
	assert_int_equal(read_at(f, &big->claim, big->content.n, 4096, &r), ERR_OK);
	assert_int_equal(r.bytes.n, 0);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

static void test_unknown_names(void **state)
{
	struct fixture *f = *state;
	struct digest key = {{1, 2, 3}};
	struct result r = RESULT_INIT;
	struct ffs_file *file;
	uint64_t size;
	struct err err;

	assert_int_equal(ffs_data_find(f->data, &key, 0, &file, &size, NULL, NULL, &err), -ERR_NOT_FOUND);
	/* Handed out before: the name stays, only the bytes are not to be had. */
	assert_int_equal(ffs_data_find(f->data, &key, 77, &file, &size, NULL, NULL, &err), 0);
	assert_int_equal(size, 77);
	ffs_data_read(f->data, file, 0, 10, on_read, &r);
	result_wait(&r);
	assert_int_equal(r.code, ERR_NOT_FOUND);
	buf_fini(&r.bytes);
}

/* Many readers of one chunk, one transfer. */
static void test_single_flight(void **state)
{
	struct fixture *f = *state;
	struct result r[20] = {0};
	const struct test_file *t;
	struct ffs_file *file;
	struct test_layer l;
	uint64_t size;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	t = test_layer_file(&l, "big");
	file = find(f, &t->claim, &size);
	assert_int_equal(size, t->content.n);
	test_blobs_set_hold(&f->blobs, true);
	for (unsigned i = 0; i < ARRAY_LEN(r); i++) {
		r[i] = (struct result)RESULT_INIT;
		ffs_data_read(f->data, file, 3 * CHUNK + i * 100, 100, on_read, &r[i]);
	}
	test_blobs_wait(&f->blobs, &f->blobs.n_requests, 1);
	test_blobs_set_hold(&f->blobs, false);
	for (unsigned i = 0; i < ARRAY_LEN(r); i++) {
		result_wait(&r[i]);
		assert_int_equal(r[i].code, ERR_OK);
		assert_int_equal(r[i].bytes.n, 100);
		assert_memory_equal(r[i].bytes.p, t->content.p + 3 * CHUNK + i * 100, 100);
		assert_int_equal(r[i].done, 1);
		buf_fini(&r[i].bytes);
	}
	assert_int_equal(f->blobs.n_requests, 1);
	assert_int_equal(f->blobs.n_demand, 1);
	layer_fini(f, &l);
}

/* A miss brings its neighbours along, so that reading on needs no request. */
static void test_window(void **state)
{
	struct fixture *f = *state;
	struct test_layer l;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	check_file(f, test_layer_file(&l, "small"));
	assert_true(f->blobs.ranges.p[0].length <= 256 << 10);
	assert_int_equal(f->blobs.ranges.p[0].offset, test_layer_file(&l, "small")->blob_offset);
	check_file(f, test_layer_file(&l, "exact"));
	assert_int_equal(f->blobs.n_requests, 1);
	/* And none of it twice, whatever is read later. */
	vec_each(&l.files, t)
		check_file(f, t);
	assert_true(f->blobs.bytes <= l.blob.n);
	layer_fini(f, &l);
}

/* With no window there is a request for each chunk that is read, and none for others. */
static void test_no_window(void **state)
{
	struct fixture *f = *state;
	struct result r = RESULT_INIT;
	const struct test_file *big;
	struct test_layer l;

	ffs_data_free(f->data);
	f->opts.no_window = true;
	data_open(f);
	sample_layer(&l);
	layer_ready(f, &l, 1);
	big = test_layer_file(&l, "big");
	check_file(f, test_layer_file(&l, "small"));
	assert_int_equal(read_at(f, &big->claim, 3 * CHUNK, 100, &r), ERR_OK);
	assert_int_equal(read_at(f, &big->claim, 4 * CHUNK, 100, &r), ERR_OK); /* reading on changes nothing */
	assert_int_equal(f->blobs.n_requests, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_true(f->blobs.ranges.p[i].length < 2 * CHUNK);
	/* A read of several chunks is one request still. */
	assert_int_equal(read_at(f, &big->claim, 6 * CHUNK, 2 * CHUNK, &r), ERR_OK);
	assert_int_equal(f->blobs.n_requests, 4);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

/* Who reads on gets more with each miss; who jumps does not. */
static void test_run(void **state)
{
	struct fixture *f = *state;
	struct result r = RESULT_INIT;
	const struct test_file *t;
	struct test_layer l;
	uint64_t at[3] = {0, 0, 40 * CHUNK};
	uint64_t bytes[3];

	test_layer_init(&l, "127.0.0.1:1/run");
	test_layer_add(&l, "long", 64 * CHUNK, CHUNK, 5, NULL);
	layer_ready(f, &l, 1);
	t = test_layer_file(&l, "long");
	for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
		assert_int_equal(read_at(f, &t->claim, at[i], 1, &r), ERR_OK);
		while (i == 0 && f->blobs.n_requests == 1)
			assert_int_equal(read_at(f, &t->claim, at[1] += CHUNK, 1, &r), ERR_OK);
		bytes[i] = f->blobs.ranges.p[i].length;
	}
	assert_true(bytes[1] > bytes[0] + bytes[0] / 2);
	assert_true(bytes[2] <= bytes[0] + CHUNK);
	assert_int_equal(f->blobs.n_requests, 3);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

static void test_corrupt_once(void **state)
{
	struct fixture *f = *state;
	struct ffs_data_counters c;
	struct test_layer l;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	f->blobs.corrupt_at = test_layer_file(&l, "tail")->blob_offset + 100;
	f->blobs.corrupt_times = 1;
	check_file(f, test_layer_file(&l, "tail"));
	ffs_data_counters(f->data, &c);
	assert_int_equal(c.corrupt_chunks, 1);
	assert_int_equal(c.read_errors, 0);
	layer_fini(f, &l);
}

static void test_corrupt_always(void **state)
{
	struct fixture *f = *state;
	struct ffs_layer_status st;
	struct result r = RESULT_INIT;
	const struct test_file *t;
	struct test_layer l;
	struct err err;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	t = test_layer_file(&l, "big");
	f->blobs.corrupt_at = t->blob_offset + 50;
	f->blobs.corrupt_times = 1000;
	assert_int_equal(read_at(f, &t->claim, 10, 100, &r), ERR_DATA_LOSS);
	assert_int_equal(ffs_data_layer_status(f->data, &l.key, false, &st, &err), 0);
	assert_string_not_equal(st.error, "");
	/* The other chunks are fine, and so is this one when the source is. */
	assert_int_equal(read_at(f, &t->claim, CHUNK, 100, &r), ERR_OK);
	f->blobs.corrupt_times = 0;
	check_file(f, t);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

/* A source that fails for a while delays a read; one that refuses ends it. */
static void test_failures(void **state)
{
	struct fixture *f = *state;
	struct result r = RESULT_INIT;
	const struct test_file *t;
	struct test_layer l;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	t = test_layer_file(&l, "big");
	f->blobs.fail_code = ERR_NOT_FOUND;
	f->blobs.fail = 1;
	assert_int_equal(read_at(f, &t->claim, 0, 100, &r), ERR_NOT_FOUND);
	f->blobs.fail_code = ERR_UNAVAILABLE;
	f->blobs.fail = 3;
	check_file(f, t);
	assert_int_equal(f->blobs.fail, 0);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

static void test_truncated(void **state)
{
	struct fixture *f = *state;
	struct result r = RESULT_INIT;
	const struct test_file *t;
	struct test_layer l;

	test_layer_init(&l, "127.0.0.1:1/sample");
	test_layer_add(&l, "only", 5000, CHUNK, 9, NULL);
	layer_ready(f, &l, 1);
	t = test_layer_file(&l, "only");
	f->blobs.truncate = true;
	assert_int_equal(read_at(f, &t->claim, 0, 100, &r), ERR_DATA_LOSS);
	f->blobs.truncate = false;
	check_file(f, t);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

static void test_deadline(void **state)
{
	struct fixture *f = *state;
	struct result r = RESULT_INIT;
	const struct test_file *t;
	struct test_layer l;

	ffs_data_free(f->data);
	f->opts.read_timeout_ns = 50 * NS_PER_MS;
	data_open(f);
	sample_layer(&l);
	layer_ready(f, &l, 1);
	t = test_layer_file(&l, "big");
	test_blobs_set_hold(&f->blobs, true);
	assert_int_equal(read_at(f, &t->claim, 0, 100, &r), ERR_DEADLINE);
	assert_int_equal(read_at(f, &t->claim, 0, 3 * CHUNK, &r), ERR_DEADLINE);
	test_blobs_set_hold(&f->blobs, false);
	/* Later reads try again, and a slow machine may need several: what has come is kept. */
	for (uint64_t at = 0; at < t->content.n; at += r.bytes.n) {
		while (read_at(f, &t->claim, at, 128 << 10, &r) == ERR_DEADLINE)
			;
		assert_int_equal(r.code, ERR_OK);
		assert_true(r.bytes.n > 0);
		assert_memory_equal(r.bytes.p, t->content.p + at, r.bytes.n);
	}
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

/* A TOC that claims another image's content with chunks of its own harms itself alone. */
static void test_poison(void **state)
{
	struct fixture *f = *state;
	struct test_layer honest, liar;
	struct result r = RESULT_INIT;
	const struct test_file *h, *p;
	struct test_lie lie;
	struct ffs_file *file;
	uint64_t size;
	struct err err;

	test_layer_init(&honest, "127.0.0.1:1/honest");
	test_layer_add(&honest, "libc", 5 * CHUNK, CHUNK, 7, NULL);
	layer_ready(f, &honest, 1);
	h = test_layer_file(&honest, "libc");
	test_layer_init(&liar, "127.0.0.1:1/liar");
	lie.content = &h->digest;
	test_layer_add(&liar, "libc", 5 * CHUNK, CHUNK, 666, &lie);
	test_layer_add(&liar, "short", 3 * CHUNK, CHUNK, 667, &lie);
	test_layer_add(&liar, "tiny", 100, CHUNK, 668, &lie);
	layer_ready(f, &liar, 2);
	p = test_layer_file(&liar, "libc");
	assert_false(digest_eq(&h->claim, &p->claim));

	/* The liar first: its bytes are what it claims chunk by chunk, until the whole proves false. */
	for (unsigned i = 0; i < 5; i++)
		read_at(f, &p->claim, i * CHUNK, 100, &r);
	do
		read_at(f, &p->claim, 0, 100, &r);
	while (r.code == ERR_OK);
	assert_int_equal(r.code, ERR_DATA_LOSS);
	assert_false(object_has(f, &h->digest, h->content.n));
	assert_false(object_has(f, &p->claim, p->content.n));
	/* Of one chunk: no byte is ever shown. */
	assert_int_equal(read_at(f, &test_layer_file(&liar, "tiny")->claim, 0, 10, &r), ERR_DATA_LOSS);

	/* By content the sizes are in doubt; the truth is found out. */
	r.done = 0;
	assert_int_equal(object_has(f, &h->digest, h->content.n), 0);
	check_file(f, h);
	wait_object(f, &h->digest, h->content.n);
	assert_int_equal(ffs_data_find(f->data, &h->digest, 0, &file, &size, NULL, NULL, &err), 0);
	assert_int_equal(size, h->content.n);
	/* Still false. */
	assert_int_equal(read_at(f, &p->claim, 0, 100, &r), ERR_DATA_LOSS);
	buf_fini(&r.bytes);
	layer_fini(f, &honest);
	layer_fini(f, &liar);
}

struct found {
	struct result r;
	struct ffs_file *file;
	uint64_t size;
};

static void on_found(void *arg, struct ffs_file *file, uint64_t size, const struct err *err)
{
	struct found *x = arg;

	x->file = file;
	x->size = size;
	on_read(&x->r, STR_NONE, file ? NULL : err);
}

/* An object that vanished from disk is asked for by its content: the size is that of whoever tells the truth. */
static void test_find_by_content(void **state)
{
	struct fixture *f = *state;
	struct test_layer honest, liar;
	struct found x = {.r = RESULT_INIT};
	const struct test_file *h;
	struct test_lie lie;
	struct err err;

	test_layer_init(&liar, "127.0.0.1:1/liar");
	test_layer_init(&honest, "127.0.0.1:1/honest");
	test_layer_add(&honest, "libc", 5 * CHUNK, CHUNK, 7, NULL);
	h = &honest.files.p[0];
	lie.content = &h->digest;
	test_layer_add(&liar, "short", 3 * CHUNK, CHUNK, 667, &lie);
	test_layer_add(&liar, "tiny", 100, CHUNK, 668, &lie);
	layer_ready(f, &liar, 2);
	layer_ready(f, &honest, 1);
	assert_int_equal(ffs_data_find(f->data, &h->digest, 0, &x.file, &x.size, on_found, &x, &err), FFS_FIND_LATER);
	result_wait(&x.r);
	assert_int_equal(x.r.code, ERR_OK);
	assert_int_equal(x.size, h->content.n);
	x.r.done = 0;
	ffs_data_read(f->data, x.file, CHUNK, 1000, on_read, &x.r);
	result_wait(&x.r);
	assert_int_equal(x.r.code, ERR_OK);
	assert_memory_equal(x.r.bytes.p, h->content.p + CHUNK, 1000);
	buf_fini(&x.r.bytes);
	layer_fini(f, &honest);
	layer_fini(f, &liar);
}

static void remove_object(struct fixture *f, const struct digest *key)
{
	char path[FFS_OBJECT_PATH_MAX];

	assert_int_equal(unlinkat(ffs_store_dir(f->store, FFS_DIR_OBJECTS), ffs_object_path(key, path), 0), 0);
}

static void test_evicted(void **state)
{
	struct fixture *f = *state;
	struct result r = RESULT_INIT;
	struct test_layer l;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	vec_each(&l.files, t) {
		check_file(f, t);
		wait_object(f, &t->claim, t->content.n);
	}
	/* Known by content as well, from now on. */
	vec_each(&l.files, t)
		assert_int_equal(read_at(f, &t->digest, 0, 10, &r), ERR_OK);
	vec_each(&l.files, t) {
		remove_object(f, &t->claim);
		remove_object(f, &t->digest);
	}
	vec_each(&l.files, t) {
		assert_int_equal(read_at(f, &t->digest, t->content.n - 10, 10, &r), ERR_OK);
		assert_memory_equal(r.bytes.p, t->content.p + t->content.n - 10, 10);
		check_file(f, t);
	}
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

/* What another image published serves this one without a transfer. */
static void test_shared_object(void **state)
{
	struct fixture *f = *state;
	struct test_layer a, b;
	unsigned n;

	test_layer_init(&a, "127.0.0.1:1/a");
	test_layer_add(&a, "x", 3 * CHUNK, CHUNK, 5, NULL);
	layer_ready(f, &a, 1);
	check_file(f, &a.files.p[0]);
	wait_object(f, &a.files.p[0].claim, 3 * CHUNK);
	n = f->blobs.n_requests;
	test_layer_init(&b, "127.0.0.1:1/b");
	test_layer_add(&b, "y", 3 * CHUNK, CHUNK / 2, 5, NULL);
	layer_ready(f, &b, 1);
	assert_false(digest_eq(&a.files.p[0].claim, &b.files.p[0].claim));
	check_file(f, &b.files.p[0]);
	assert_int_equal(f->blobs.n_requests, n);
	assert_int_equal(object_inode(f, &b.files.p[0].claim), object_inode(f, &a.files.p[0].digest));
	layer_fini(f, &a);
	layer_fini(f, &b);
}

/* A worker that died left a partial file: what is in it is not fetched again. */
static void test_restart(void **state)
{
	struct fixture *f = *state;
	struct result r = RESULT_INIT;
	struct test_layer l;
	const struct test_file *t;
	uint64_t before;
	struct err err;

	test_layer_init(&l, "127.0.0.1:1/a");
	test_layer_add(&l, "x", 40 * CHUNK, CHUNK, 5, NULL);
	layer_ready(f, &l, 1);
	t = &l.files.p[0];
	assert_int_equal(read_at(f, &t->claim, 20 * CHUNK, 100, &r), ERR_OK);
	ffs_data_free(f->data);
	before = f->blobs.bytes;
	data_open(f);
	assert_int_equal(ffs_data_add_layer(f->data, &l.key, &err), 0);
	assert_int_equal(read_at(f, &t->claim, 20 * CHUNK + 50, 100, &r), ERR_OK);
	assert_memory_equal(r.bytes.p, t->content.p + 20 * CHUNK + 50, 100);
	assert_int_equal(f->blobs.bytes, before);
	check_file(f, t);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

/* The same after a reboot: only what still has its digest counts. */
static void test_reboot(void **state)
{
	struct fixture *f = *state;
	struct result r = RESULT_INIT;
	struct test_layer l;
	const struct test_file *t;
	char path[FFS_OBJECT_PATH_MAX];
	struct err err;
	int fd;

	test_layer_init(&l, "127.0.0.1:1/a");
	test_layer_add(&l, "x", 40 * CHUNK, CHUNK, 5, NULL);
	layer_ready(f, &l, 1);
	t = &l.files.p[0];
	assert_int_equal(read_at(f, &t->claim, 0, 100, &r), ERR_OK);
	assert_int_equal(read_at(f, &t->claim, 20 * CHUNK, 100, &r), ERR_OK);
	ffs_data_free(f->data);
	fd = openat(ffs_store_dir(f->store, FFS_DIR_PARTIAL), ffs_object_path(&t->claim, path), O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "another boot id!", 16, 40 * CHUNK + 24), 16);
	assert_int_equal(pwrite(fd, "lost", 4, 20 * CHUNK), 4);
	close(fd);
	data_open(f);
	assert_int_equal(ffs_data_add_layer(f->data, &l.key, &err), 0);
	test_blobs_set_hold(&f->blobs, true);
	assert_int_equal(read_at(f, &t->claim, 0, 100, &r), ERR_OK); /* from the disk, verified */
	assert_memory_equal(r.bytes.p, t->content.p, 100);
	test_blobs_set_hold(&f->blobs, false);
	assert_int_equal(read_at(f, &t->claim, 20 * CHUNK, 100, &r), ERR_OK);
	assert_memory_equal(r.bytes.p, t->content.p + 20 * CHUNK, 100);
	check_file(f, t);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
}

static void test_remove_layer(void **state)
{
	struct fixture *f = *state;
	struct result r = RESULT_INIT;
	struct test_layer l, copy;
	const struct test_file *t;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	sample_layer(&copy);
	test_layer_add(&copy, "more", 100, CHUNK, 77, NULL);
	t = test_layer_file(&l, "big");
	assert_int_equal(read_at(f, &t->claim, 0, 100, &r), ERR_OK);
	ffs_data_remove_layer(f->data, &l.key);
	assert_int_equal(read_at(f, &t->claim, 9 * CHUNK, 100, &r), ERR_NOT_FOUND);
	/* Another layer with the same claim is as good. */
	layer_ready(f, &copy, 2);
	assert_int_equal(read_at(f, &t->claim, 9 * CHUNK, 100, &r), ERR_OK);
	check_file(f, t);
	ffs_data_remove_layer(f->data, &l.key);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
	layer_fini(f, &copy);
}

/* One source of a claim refuses, the other delivers. */
static void test_second_source(void **state)
{
	struct fixture *f = *state;
	struct test_layer l, copy;

	sample_layer(&l);
	layer_ready(f, &l, 1);
	sample_layer(&copy);
	test_layer_add(&copy, "more", 100, CHUNK, 77, NULL);
	layer_ready(f, &copy, 2);
	f->blobs.fail = 1;
	f->blobs.fail_code = ERR_NOT_FOUND;
	check_file(f, test_layer_file(&l, "big"));
	layer_fini(f, &l);
	layer_fini(f, &copy);
}

/* Both parts of a file are on their way when their source refuses: each goes on to the other source. */
static void test_second_source_of_two(void **state)
{
	struct fixture *f = *state;
	struct result r[2] = {RESULT_INIT, RESULT_INIT};
	struct test_layer layers[2];
	const struct test_file *t;
	struct ffs_file *file;
	uint64_t size;

	for (unsigned i = 0; i < 2; i++) {
		test_layer_init(&layers[i], "127.0.0.1:1/a");
		test_layer_add(&layers[i], "wide", 40 * CHUNK, CHUNK, 99, NULL);
		test_layer_add(&layers[i], "own", 100 + i, CHUNK, 70 + i, NULL);
		layer_ready(f, &layers[i], 1 + i);
	}
	t = test_layer_file(&layers[0], "wide");
	file = find(f, &t->claim, &size);
	test_blobs_set_hold(&f->blobs, true);
	ffs_data_read(f->data, file, 0, 100, on_read, &r[0]);
	ffs_data_read(f->data, file, 39 * CHUNK, 100, on_read, &r[1]);
	test_blobs_wait(&f->blobs, &f->blobs.n_requests, 2);
	pthread_mutex_lock(&f->blobs.lock);
	f->blobs.fail = 2;
	f->blobs.fail_code = ERR_NOT_FOUND;
	pthread_mutex_unlock(&f->blobs.lock);
	test_blobs_set_hold(&f->blobs, false);
	for (unsigned i = 0; i < 2; i++) {
		result_wait(&r[i]);
		if (r[i].code != ERR_OK)
			fail_msg("read %u: %s", i, r[i].msg);
		assert_memory_equal(r[i].bytes.p, t->content.p + i * 39 * CHUNK, 100);
		buf_fini(&r[i].bytes);
	}
	layer_fini(f, &layers[0]);
	layer_fini(f, &layers[1]);
}

static void assert_zeros(struct fixture *f, const struct digest *key, uint64_t at, size_t n)
{
	struct result r = RESULT_INIT;

	assert_int_equal(read_at(f, key, at, n, &r), ERR_OK);
	assert_int_equal(r.bytes.n, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(r.bytes.p[i], 0);
	buf_fini(&r.bytes);
}

/* Holes are there at once, and never fetched, whatever their size; what lies beside them comes as ever. */
static void test_holes(void **state)
{
	const uint64_t hole = 80u << 20, huge = 60ull << 30;
	struct fixture *f = *state;
	struct result r = RESULT_INIT;
	const struct test_file *mixed, *whole;
	struct ffs_layer_status st;
	struct test_layer l, other;
	char path[FFS_OBJECT_PATH_MAX];
	struct stat on_disk;
	struct err err;

	test_layer_init(&l, "127.0.0.1:1/sample");
	test_layer_add_sparse(&l, "mixed", 10000, hole, 1);
	test_layer_add_sparse(&l, "whole", 0, hole, 2);
	layer_ready(f, &l, 1);
	/* Of another layer: once its data were here, it would be hashed for a while. */
	test_layer_init(&other, "127.0.0.1:1/huge");
	test_layer_add_sparse(&other, "huge", 10000, huge, 3);
	layer_ready(f, &other, 2);
	mixed = test_layer_file(&l, "mixed");
	whole = test_layer_file(&l, "whole");
	assert_int_equal(ffs_data_layer_status(f->data, &l.key, false, &st, &err), 0);
	assert_int_equal(st.present_bytes, st.content_bytes - 10000);
	assert_zeros(f, &test_layer_file(&other, "huge")->claim, huge / 2, 100000);
	assert_zeros(f, &test_layer_file(&other, "huge")->claim, huge + 10000 - 77, 77);
	assert_zeros(f, &mixed->claim, 10000, 4096);
	assert_zeros(f, &whole->claim, hole - 4096, 4096);
	assert_int_equal(f->blobs.n_requests, 0);
	/* A hole alone is complete. */
	wait_object(f, &whole->digest, hole);
	assert_zeros(f, &whole->claim, 12345, 4096);
	/* Over the border, and the hole once more when there is a file on disk. */
	assert_int_equal(read_at(f, &mixed->claim, 9000, 2000, &r), ERR_OK);
	assert_int_equal(r.bytes.n, 2000);
	assert_memory_equal(r.bytes.p, mixed->content.p + 9000, 1000);
	assert_zeros(f, &mixed->claim, hole, 4096);
	wait_object(f, &mixed->digest, hole + 10000);
	assert_zeros(f, &mixed->claim, hole + 10000 - 100, 100);
	assert_int_equal(
	    fstatat(ffs_store_dir(f->store, FFS_DIR_OBJECTS), ffs_object_path(&mixed->digest, path), &on_disk, 0), 0);
	assert_int_equal(on_disk.st_size, hole + 10000);
	assert_in_range(on_disk.st_blocks * 512, 1, 1 << 20);
	buf_fini(&r.bytes);
	layer_fini(f, &l);
	test_layer_fini(&other);
}

/* What somebody waits for as data may turn out to be a hole, once the layer that has the data is gone. */
static void test_data_becomes_hole(void **state)
{
	struct result r = RESULT_INIT, r2 = RESULT_INIT;
	struct fixture *f = *state;
	struct test_layer data, holes;
	struct digest mixed, zeros;
	uint64_t size;

	zeros_twice(&data, &holes);
	layer_ready(f, &data, 1);
	mixed = test_layer_file(&data, "mixed")->claim;
	zeros = test_layer_file(&data, "zeros")->claim;
	test_blobs_set_hold(&f->blobs, true);
	ffs_data_read(f->data, find(f, &mixed, &size), 12000, 1000, on_read, &r);
	ffs_data_read(f->data, find(f, &zeros, &size), 0, 20000, on_read, &r2);
	test_blobs_wait(&f->blobs, &f->blobs.n_requests, 1);
	layer_ready(f, &holes, 2);
	ffs_data_remove_layer(f->data, &data.key);
	pthread_mutex_lock(&f->blobs.lock);
	f->blobs.fail = 100;
	f->blobs.fail_code = ERR_NOT_FOUND;
	f->blobs.hold = false;
	pthread_cond_broadcast(&f->blobs.changed);
	pthread_mutex_unlock(&f->blobs.lock);
	result_wait(&r);
	result_wait(&r2);
	assert_int_equal(r.code, ERR_OK);
	assert_int_equal(r2.code, ERR_OK);
	assert_int_equal(r.bytes.n, 1000);
	assert_int_equal(r2.bytes.n, 20000);
	for (size_t i = 0; i < r2.bytes.n; i++)
		assert_int_equal(r2.bytes.p[i] | r.bytes.p[i % 1000], 0);
	wait_object(f, &test_layer_file(&data, "zeros")->digest, 20000);
	/* Nothing of what failed may stand in the way of a later read. */
	pthread_mutex_lock(&f->blobs.lock);
	f->blobs.fail = 0;
	pthread_mutex_unlock(&f->blobs.lock);
	check_file(f, test_layer_file(&data, "mixed"));
	buf_fini(&r.bytes);
	buf_fini(&r2.bytes);
	test_layer_fini(&data);
	layer_fini(f, &holes);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
	const struct CMUnitTest tests[] = {
	    T(test_reads),           T(test_unknown_names),
	    T(test_single_flight),   T(test_window),
	    T(test_no_window),       T(test_run),
	    T(test_corrupt_once),    T(test_corrupt_always),
	    T(test_failures),        T(test_truncated),
	    T(test_deadline),        T(test_poison),
	    T(test_find_by_content), T(test_evicted),
	    T(test_shared_object),   T(test_restart),
	    T(test_reboot),          T(test_remove_layer),
	    T(test_second_source),   T(test_second_source_of_two),
	    T(test_holes),           T(test_data_becomes_hole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
