/* Sweep: what no layer has any more goes, whatever else happens meanwhile stays. */
#include "fusefs/testverbs.h"

#include "rpc/pb.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

/* Objects deleted; checks what else it tells, and that it tells the truth. */
static unsigned sweep(struct world *w)
{
	AUTO(pb) PB(SweepResponse) *rsp = NULL;
	unsigned before = count_objects(w);

	OK(ffs_client_sweep(w->client, NULL, &rsp, err));
	assert_int_equal(before - count_objects(w), rsp->objects);
	assert_int_equal(rsp->partial, 0);
	assert_true(rsp->freed_bytes > 0 || !rsp->objects);
	return (unsigned)rsp->objects;
}

static void delete_layer(struct world *w, const char *key)
{
	OK(ffs_client_delete_layers(w->client, &key, 1, err));
}

/* Bytes that an object takes on disk. */
static uint64_t object_bytes(const struct world *w, const struct digest *name)
{
	char path[FFS_OBJECT_PATH_MAX];
	struct stat st;

	ffs_object_path(name, path);
	assert_int_equal(fstatat(ffs_store_dir(w->w.store, FFS_DIR_OBJECTS), path, &st, 0), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* ---- what goes ---- */

static void what_no_layer_has_goes(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *few = NULL, *many = NULL, *lazy = NULL;
	AUTO(layer) struct layer a;
	AUTO(layer) struct layer b;
	AUTO(layer) struct layer c;

	layer_plain(&a, 1, 5);
	layer_plain(&b, 1, 10); /* has all files of the former */
	layer_lazy(&c, 2, 4);
	add_image(w, &c, 1, 1);
	few = unpack_local(w, &a);
	many = unpack_local(w, &b);
	lazy = open_and_fill(w);
	assert_int_equal(count_objects(w), 11 + 2 * 5); /* those of a lazy layer have a claim's name, too */
	assert_int_equal(sweep(w), 0);

	delete_layer(w, many);
	assert_int_equal(sweep(w), 5);
	assert_objects(w, few, 6);
	assert_objects(w, lazy, 5);
	delete_layer(w, lazy);
	assert_int_equal(sweep(w), 2 * 5);
	assert_objects(w, few, 6);
	delete_layer(w, few);
	assert_int_equal(sweep(w), 6);
	assert_int_equal(count_objects(w), 0);
}

/* A file's bytes are free when its last name is gone. */
static void names_of_one_file_count_once(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(SweepResponse) *rsp = NULL;
	AUTO_FREE struct listed *files = NULL;
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l;
	uint64_t bytes = 0;
	unsigned n;

	layer_lazy(&l, 1, 10);
	add_image(w, &l, 1, 1);
	key = open_and_fill(w);
	files = list_files(w, key, &n);
	for (unsigned i = 0; i < n; i++)
		bytes += object_bytes(w, &files[i].content);
	delete_layer(w, key);
	OK(ffs_client_sweep(w->client, NULL, &rsp, err));
	assert_int_equal(rsp->objects, 2 * n);
	assert_int_equal(rsp->freed_bytes, bytes);
}

static void add_partial(const struct world *w, const struct digest *name)
{
	int dir = ffs_store_dir(w->w.store, FFS_DIR_PARTIAL);
	char path[FFS_OBJECT_PATH_MAX], fan[3] = "";

	ffs_object_path(name, path);
	memcpy(fan, path, 2);
	mkdirat(dir, fan, 0700);
	close(openat(dir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static bool has_partial(const struct world *w, const struct digest *name)
{
	char path[FFS_OBJECT_PATH_MAX];

	ffs_object_path(name, path);
	return faccessat(ffs_store_dir(w->w.store, FFS_DIR_PARTIAL), path, F_OK, 0) == 0;
}

/* A file that is being filled goes by its claim. */
static void partial_files(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *opened = NULL;
	AUTO(pb) PB(SweepResponse) *rsp = NULL;
	AUTO_FREE struct listed *files = NULL;
	const struct digest nobodys = {{7}};
	AUTO(layer) struct layer l;
	unsigned n;

	layer_lazy(&l, 1, 3);
	add_image(w, &l, 1, 1);
	OK(ask_open(w, true, &opened, err));
	files = list_files(w, opened->layers[0]->index_key, &n);
	add_partial(w, &nobodys);
	add_partial(w, &files[0].claim);
	OK(ffs_client_sweep(w->client, NULL, &rsp, err));
	assert_int_equal(rsp->partial, 1);
	assert_false(has_partial(w, &nobodys));
	assert_true(has_partial(w, &files[0].claim));
	delete_layer(w, opened->layers[0]->index_key);
	pb_free(STEAL(rsp));
	OK(ffs_client_sweep(w->client, NULL, &rsp, err));
	assert_int_equal(rsp->partial, 1);
	assert_false(has_partial(w, &files[0].claim));
}

/* An index whose bytes are no index any more names nothing; the worker that finds it so removes it. */
static void a_damaged_index_keeps_nothing(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *whole = NULL, *damaged = NULL;
	AUTO(layer) struct layer a;
	AUTO(layer) struct layer b;

	layer_plain(&a, 1, 5);
	layer_plain(&b, 2, 5);
	whole = unpack_local(w, &a);
	damaged = unpack_local(w, &b);
	damage_index(w, damaged);
	worker_end(w);
	worker_start(w);
	assert_int_equal(sweep(w), 6);
	assert_objects(w, whole, 6);
}

/* ---- what stays ---- */

static void what_is_pinned_stays(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l;
	const char *k;

	layer_lazy(&l, 1, 10);
	add_image(w, &l, 1, 1);
	k = key = open_and_fill(w);
	OK(ffs_client_pin(w->client, "somebody", &k, 1, err));
	FAILS(ffs_client_delete_layers(w->client, &k, 1, err), ERR_PRECONDITION);
	assert_int_equal(sweep(w), 0);
	worker_end(w);
	worker_start(w);
	FAILS(ffs_client_delete_layers(w->client, &k, 1, err), ERR_PRECONDITION);
	assert_int_equal(sweep(w), 0);
	assert_objects(w, key, 11);
	OK(ffs_client_unpin(w->client, "somebody", err));
	delete_layer(w, key);
	assert_int_equal(sweep(w), 22);
}

static void write_file(struct ffs_batch *b, struct str content, struct digest *name)
{
	digest_of(content.p, content.n, name);
	OK(ffs_batch_begin(b, content.n, err));
	OK(ffs_batch_write(b, content, err));
	OK(ffs_batch_end(b, name, err));
}

/* Objects of an unpacking whose index is not there yet: those it wrote and those it found. */
static void what_an_unpacking_relies_on_stays(void **state)
{
	struct world *w = *state;
	AUTO(ffs_batch) struct ffs_batch *b = NULL;
	struct digest written, found;
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l;

	layer_plain(&l, 1, 5);
	key = unpack_local(w, &l);
	OK(ffs_batch_new(w->w.store, &b, err));
	write_file(b, STR("content 3 of 1"), &found);
	assert_true(has_object(w, &found));
	delete_layer(w, key);
	assert_int_equal(sweep(w), 6 - 1);
	write_file(b, STR("of the batch alone"), &written);
	OK(ffs_batch_publish(b, err));
	assert_int_equal(sweep(w), 0);
	assert_true(has_object(w, &found) && has_object(w, &written));
	ffs_batch_free(STEAL(b));
	assert_int_equal(sweep(w), 2);
}

struct sweeper {
	struct world *w;
	pthread_t thread;
	atomic_bool stop;
	atomic_uint sweeps;
	struct err err;
};

static void *sweep_on_and_on(void *arg)
{
	struct sweeper *s = arg;

	while (!atomic_load(&s->stop)) {
		AUTO(pb) PB(SweepResponse) *rsp = NULL;

		if (ffs_client_sweep(s->w->client, NULL, &rsp, &s->err) < 0)
			break;
		atomic_fetch_add(&s->sweeps, 1);
	}
	return NULL;
}

/* Layers come and go while sweeps run: what is there is whole, what is gone leaves nothing. Layers have files in common, so
 * that one is found just when a sweep could take it. */
static void layers_come_and_go_beside_it(void **state)
{
	struct world *w = *state;
	struct sweeper s = {.w = w, .err = ERR_INIT};
	struct layer l[3];

	for (unsigned i = 0; i < ARRAY_LEN(l); i++)
		layer_plain(&l[i], 1, 10 * (i + 1));
	assert_int_equal(pthread_create(&s.thread, NULL, sweep_on_and_on, &s), 0);
	for (unsigned i = 0; i < 40 || (i < 4000 && atomic_load(&s.sweeps) < 10); i++) {
		unsigned which = i % ARRAY_LEN(l);
		AUTO_FREE char *key = unpack_local(w, &l[which]);

		assert_objects(w, key, 10 * (which + 1) + 1);
		delete_layer(w, key);
	}
	atomic_store(&s.stop, true);
	pthread_join(s.thread, NULL);
	assert_string_equal(s.err.msg, "");
	assert_true(s.sweeps >= 10);
	sweep(w);
	assert_int_equal(count_objects(w), 0);
	for (unsigned i = 0; i < ARRAY_LEN(l); i++)
		layer_fini(&l[i]);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(what_no_layer_has_goes),        T(names_of_one_file_count_once), T(partial_files),
	    T(a_damaged_index_keeps_nothing), T(what_is_pinned_stays),         T(what_an_unpacking_relies_on_stays),
	    T(layers_come_and_go_beside_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
