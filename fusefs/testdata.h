/*
 * For tests of the data plane's heart (data.h): one over a store in a temporary directory and layers of testlayer.h, with
 * reads and fills that are waited for. What fails ends the test.
 */
#ifndef FUSEFS_TESTDATA_H
#define FUSEFS_TESTDATA_H

#include "base/clock.h"
#include "fusefs/data.h"
#include "fusefs/testlayer.h"

#define CHUNK 65536u

struct fixture {
	char root[64];
	struct ffs_store *store;
	struct test_blobs blobs;
	struct ffs_data_opts opts;
	struct ffs_data *data;
};

/* For cmocka_unit_test_setup_teardown. */
int fixture_set_up(void **state);
int fixture_tear_down(void **state);

/* Opens it with f->opts; who changes them frees f->data before. */
void data_open(struct fixture *f);

/* A layer that is used in many tests: files of one chunk, of several, and packed ones. */
void sample_layer(struct test_layer *l);
/* Finishes a layer and makes it known; toc: see test_layer_finish. */
void layer_ready(struct fixture *f, struct test_layer *l, unsigned toc);
/* Two files in two layers: the first layer stores their zeros, in the other they are holes. Not finished. */
void zeros_twice(struct test_layer *data, struct test_layer *holes);
/* The end of a test: read-ahead may still come out of the layer. */
void layer_fini(struct fixture *f, struct test_layer *l);

/* ---- reading, and waiting for it ---- */

struct result {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned done;
	enum err_code code;
	struct buf bytes;
	char msg[ERR_MSG_MAX];
};

#define RESULT_INIT                                                                                                    \
	{                                                                                                              \
		.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                                 \
	}

/* For ffs_data_read, with a struct result. */
void on_read(void *arg, struct str bytes, const struct err *err);
void result_wait(struct result *r);

struct ffs_file *find(struct fixture *f, const struct digest *key, uint64_t *size);
enum err_code read_at(struct fixture *f, const struct digest *key, uint64_t at, size_t n, struct result *r);
/* Reads a whole file and compares it. */
void check_file(struct fixture *f, const struct test_file *t);

bool object_has(struct fixture *f, const struct digest *key, uint64_t size);
/* Publishing runs beside; a test that never ends fails by the runner's time-out. */
void wait_object(struct fixture *f, const struct digest *key, uint64_t size);

/* ---- fills ---- */

struct fill_result {
	struct result r;
	uint64_t last, total;
	bool fell; /* what a disk has lost is to be fetched again */
};

enum err_code fill(struct fixture *f, struct test_layer *l, struct fill_result *x);

#endif
