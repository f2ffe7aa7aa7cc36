#include "fusefs/testdata.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

void data_open(struct fixture *f)
{
	struct ffs_blobs table = test_blobs_table(&f->blobs);
	struct err err = ERR_INIT;

	if (ffs_data_new(f->store, &table, &f->opts, &f->data, &err) < 0)
		fail_msg("%s", err.msg);
}

int fixture_set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct err err;

	strcpy(f->root, "/tmp/ffs-data-XXXXXX");
	assert_non_null(mkdtemp(f->root));
	assert_int_equal(ffs_store_open(f->root, &f->store, &err), 0);
	test_blobs_init(&f->blobs);
	f->opts =
	    (struct ffs_data_opts){.background = FFS_BACKGROUND_OFF, .read_timeout_ns = 20 * NS_PER_S, .threads = 2};
	data_open(f);
	*state = f;
	return 0;
}

int fixture_tear_down(void **state)
{
	struct fixture *f = *state;

	ffs_data_free(f->data);
	test_blobs_fini(&f->blobs);
	ffs_store_close(f->store);
	test_remove_tmp(f->root);
	free(f);
	return 0;
}

void layer_ready(struct fixture *f, struct test_layer *l, unsigned toc)
{
	struct err err = ERR_INIT;

	test_layer_finish(l, f->store, toc);
	test_blobs_add(&f->blobs, l);
	if (ffs_data_add_layer(f->data, &l->key, &err) < 0)
		fail_msg("%s", err.msg);
}

void zeros_twice(struct test_layer *data, struct test_layer *holes)
{
	AUTO(buf) struct buf bytes = BUF_INIT;

	test_layer_init(data, "127.0.0.1:1/data");
	test_layer_init(holes, "127.0.0.1:1/holes");
	test_layer_add_sparse(holes, "mixed", 10000, 10000, 1);
	test_layer_add_sparse(holes, "zeros", 0, 20000, 1);
	buf_addstr(&bytes, buf_str(&test_layer_file(holes, "mixed")->content));
	buf_addz(&bytes, 10000);
	test_layer_add_bytes(data, "mixed", buf_str(&bytes), 0644, 10000, NULL);
	buf_clear(&bytes);
	buf_addz(&bytes, 20000);
	test_layer_add_bytes(data, "zeros", buf_str(&bytes), 0644, 20000, NULL);
	for (unsigned i = 0; i < 2; i++)
		assert_true(digest_eq(&data->files.p[i].claim, &holes->files.p[i].claim));
}

void layer_fini(struct fixture *f, struct test_layer *l)
{
	ffs_data_free(STEAL(f->data));
	test_layer_fini(l);
}

void sample_layer(struct test_layer *l)
{
	test_layer_init(l, "127.0.0.1:1/sample");
	test_layer_add(l, "small", 1000, CHUNK, 1, NULL);
	test_layer_add(l, "exact", CHUNK, CHUNK, 2, NULL);
	test_layer_add(l, "big", 10 * CHUNK + 17, CHUNK, 3, NULL);
	test_layer_add(l, "tail", 70000, CHUNK, 4, NULL);
	test_layer_pack(l, "pack/", 10, 3000, 50);
}

/* ---- reading, and waiting for it ---- */

void on_read(void *arg, struct str bytes, const struct err *err)
{
	struct result *r = arg;

	pthread_mutex_lock(&r->lock);
	r->done++;
	r->code = err ? err->code : ERR_OK;
	snprintf(r->msg, sizeof(r->msg), "%s", err ? err->msg : "");
	buf_clear(&r->bytes);
	buf_addstr(&r->bytes, bytes);
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

void result_wait(struct result *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->done)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

struct ffs_file *find(struct fixture *f, const struct digest *key, uint64_t *size)
{
	struct ffs_file *file = NULL;
	struct err err = ERR_INIT;

	if (ffs_data_find(f->data, key, 0, &file, size, NULL, NULL, &err) != 0)
		fail_msg("%s", err.msg);
	return file;
}

enum err_code read_at(struct fixture *f, const struct digest *key, uint64_t at, size_t n, struct result *r)
{
	uint64_t size;
	struct ffs_file *file = find(f, key, &size);

	r->done = 0;
	ffs_data_read(f->data, file, at, n, on_read, r);
	result_wait(r);
	return r->code;
}

void check_file(struct fixture *f, const struct test_file *t)
{
	struct result r = RESULT_INIT;

	for (uint64_t at = 0; at < t->content.n;) {
		if (read_at(f, &t->claim, at, 128 << 10, &r) != ERR_OK)
			fail_msg("%s: %s", t->path, r.msg);
		assert_true(r.bytes.n > 0);
		assert_memory_equal(r.bytes.p, t->content.p + at, r.bytes.n);
		at += r.bytes.n;
	}
	buf_fini(&r.bytes);
}

bool object_has(struct fixture *f, const struct digest *key, uint64_t size)
{
	return ffs_object_has(f->store, key, size);
}

void wait_object(struct fixture *f, const struct digest *key, uint64_t size)
{
	while (!object_has(f, key, size))
		usleep(1000);
}

/* ---- fills ---- */

static void on_fill(void *arg, int result, const struct err *err)
{
	struct fill_result *x = arg;

	on_read(&x->r, STR_NONE, result < 0 ? err : NULL);
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct fill_result *x = arg;

	x->fell |= done < x->last || done > total;
	x->last = done;
	x->total = total;
}

enum err_code fill(struct fixture *f, struct test_layer *l, struct fill_result *x)
{
	struct ffs_fill_query q = {.index_key = l->key,
	                           .lane = FFS_BACKGROUND,
	                           .deadline_ns = INT64_MAX,
	                           .progress = on_progress,
	                           .done = on_fill,
	                           .arg = x};
	struct err err;

	x->r.done = 0;
	x->last = 0;
	assert_int_equal(ffs_data_fill(f->data, &q, NULL, &err), 0);
	result_wait(&x->r);
	buf_fini(&x->r.bytes);
	return x->r.code;
}
