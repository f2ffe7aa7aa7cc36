/* Verify: what is on disk against what it has to be. */
#include "fusefs/testverbs.h"

#include "rpc/pb.h"

#include <fcntl.h>
#include <sys/stat.h>

static PB(VerifyResponse) * verify(struct world *w, bool remove)
{
	PB(VerifyResponse) *rsp = NULL;

	OK(ffs_client_verify(w->client, NULL, remove, NULL, NULL, &rsp, err));
	assert_int_equal(rsp->damaged, rsp->n_damages);
	return rsp;
}

static void assert_clean(struct world *w, unsigned indexes, unsigned objects)
{
	AUTO(pb) PB(VerifyResponse) *rsp = verify(w, false);

	assert_int_equal(rsp->indexes, indexes);
	assert_int_equal(rsp->objects, objects);
	assert_int_equal(rsp->damaged, 0);
	assert_int_equal(rsp->unknown, 0);
}

/* What was told of an object. */
static const PB(Damage) * damage_of(const PB(VerifyResponse) * rsp, const struct digest *name)
{
	char hex[65];

	digest_hex(name, hex);
	for (size_t i = 0; i < rsp->n_damages; i++)
		if (!strcmp(rsp->damages[i]->name, hex)) {
			assert_string_equal(rsp->damages[i]->kind, "object");
			assert_memory_equal(rsp->damages[i]->path, "objects/", 8);
			return rsp->damages[i];
		}
	fail_msg("nothing was told of %s", hex);
	return NULL;
}

static void assert_layer(const PB(Damage) * m, const char *key, const struct layer *l)
{
	char blob[DIGEST_TEXT_MAX];

	assert_int_equal(m->n_layers, 1);
	assert_string_equal(m->layers[0]->index_key, key);
	assert_string_equal(m->layers[0]->blob, digest_text(&l->digest, blob));
}

/* ---- objects ---- */

/* Each file is read once, whatever its names. */
static void all_is_well(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *plain = NULL, *lazy = NULL;
	AUTO(layer) struct layer a;
	AUTO(layer) struct layer b;
	AUTO(pb) PB(VerifyResponse) *rsp = NULL;
	uint64_t bytes = 0;

	layer_plain(&a, 1, 5);
	layer_lazy(&b, 2, 4);
	add_image(w, &b, 1, 1);
	assert_clean(w, 0, 0);
	plain = unpack_local(w, &a);
	lazy = open_and_fill(w);
	assert_clean(w, 2, 6 + 2 * 5);
	for (int i = 0; i < 2; i++) {
		const char *key = i ? plain : lazy;
		AUTO_FREE struct listed *files = NULL;
		struct stat st;
		unsigned n;

		files = list_files(w, key, &n);
		while (n--)
			bytes += files[n].size;
		assert_int_equal(fstatat(ffs_store_dir(w->w.store, FFS_DIR_INDEX), key, &st, 0), 0);
		bytes += (uint64_t)st.st_size;
	}
	rsp = verify(w, true);
	assert_int_equal(rsp->bytes, bytes);
}

static void a_damaged_object(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(VerifyResponse) *rsp = NULL;
	AUTO_FREE struct listed *files = NULL;
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l;
	const PB(Damage) * m;
	unsigned n;

	layer_plain(&l, 1, 5);
	key = unpack_local(w, &l);
	files = list_files(w, key, &n);
	damage_object(w, &files[2].content);
	for (int remove = 0; remove < 2; remove++) {
		pb_free(STEAL(rsp));
		rsp = verify(w, remove);
		assert_int_equal(rsp->damaged, 1);
		m = damage_of(rsp, &files[2].content);
		assert_layer(m, key, &l);
		assert_non_null(strstr(m->reason, "its content is sha256:"));
		assert_int_equal(m->removed, remove);
		assert_false(m->lazy);
		assert_int_equal(has_object(w, &files[2].content), !remove);
	}
	assert_clean(w, 1, n - 1);
}

/* A lazy layer's file has two names; both are damaged, both can be fetched again. */
static void a_damaged_claim(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(VerifyResponse) *rsp = NULL;
	AUTO_FREE struct listed *files = NULL;
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l;
	unsigned n;

	layer_lazy(&l, 1, 5);
	add_image(w, &l, 1, 1);
	key = open_and_fill(w);
	files = list_files(w, key, &n);
	assert_false(digest_eq(&files[2].content, &files[2].claim));
	damage_object(w, &files[2].claim);
	rsp = verify(w, true);
	assert_int_equal(rsp->damaged, 2);
	for (int i = 0; i < 2; i++) {
		const PB(Damage) *m = damage_of(rsp, i ? &files[2].claim : &files[2].content);

		assert_layer(m, key, &l);
		assert_true(m->removed && m->lazy);
	}
	assert_clean(w, 1, 2 * (n - 1));
	worker_end(w);
	worker_start(w);
	free(STEAL(key));
	key = open_and_fill(w);
	assert_objects(w, key, n);
	assert_clean(w, 1, 2 * n);
}

static void a_cut_object(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(VerifyResponse) *rsp = NULL;
	AUTO_FREE struct listed *files = NULL;
	char path[FFS_OBJECT_PATH_MAX];
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l;
	unsigned n, big = 0;
	int fd;

	layer_plain(&l, 1, 5);
	key = unpack_local(w, &l);
	files = list_files(w, key, &n);
	while (files[big].size < 1u << 20)
		big++;
	fd = openat(ffs_store_dir(w->w.store, FFS_DIR_OBJECTS), ffs_object_path(&files[big].content, path),
	            O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 1000), 0);
	close(fd);
	rsp = verify(w, false);
	assert_int_equal(rsp->damaged, 1);
	assert_layer(damage_of(rsp, &files[big].content), key, &l);
}

/* Claims of layers that are gone say nothing of their content. Nobody has them either: nothing is told, nothing removed. */
static void objects_of_nobody(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(VerifyResponse) *rsp = NULL;
	AUTO_FREE struct listed *files = NULL;
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l;
	const char *k;
	unsigned n;

	layer_lazy(&l, 1, 5);
	add_image(w, &l, 1, 1);
	k = key = open_and_fill(w);
	files = list_files(w, key, &n);
	OK(ffs_client_delete_layers(w->client, &k, 1, err));
	rsp = verify(w, true);
	assert_int_equal(rsp->objects, 2 * n);
	assert_int_equal(rsp->unknown, n);
	assert_int_equal(rsp->damaged, 0);
	assert_int_equal(count_objects(w), 2 * n);
}

/* ---- indexes ---- */

static void a_damaged_index(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(VerifyResponse) *rsp = NULL;
	AUTO_FREE char *key = NULL, *path = NULL;
	AUTO(layer) struct layer l;
	char blob[DIGEST_TEXT_MAX];

	layer_lazy(&l, 1, 5);
	add_image(w, &l, 1, 1);
	key = open_and_fill(w);
	path = xasprintf("index/%s", key);
	damage_index(w, key);
	for (int remove = 0; remove < 2; remove++) {
		const PB(Damage) * m;

		pb_free(STEAL(rsp));
		rsp = verify(w, remove);
		assert_int_equal(rsp->damaged, 1);
		m = rsp->damages[0];
		assert_string_equal(m->kind, "index");
		assert_string_equal(m->name, key);
		assert_string_equal(m->path, path);
		assert_non_null(strstr(m->reason, "checksum"));
		assert_int_equal(m->n_layers, 1);
		assert_string_equal(m->layers[0]->blob, digest_text(&l.digest, blob));
		assert_true(m->lazy);
		assert_int_equal(m->removed, remove);
	}
	assert_int_equal(count_files(w, FFS_DIR_INDEX), 0);
	/* The objects are there; without the index half of them are claims of nobody. */
	assert_int_equal(rsp->unknown, 6);
	free(STEAL(key));
	key = open_and_fill(w);
	assert_clean(w, 1, 2 * 6);
}

/* Under its claim's name an object is not known to be damaged while the index is gone that says what it should be: it is
 * when the index has been made again. */
static void a_damaged_index_and_a_damaged_claim(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(VerifyResponse) *rsp = NULL;
	AUTO_FREE struct listed *files = NULL;
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l;
	unsigned n;

	layer_lazy(&l, 1, 5);
	add_image(w, &l, 1, 1);
	key = open_and_fill(w);
	files = list_files(w, key, &n);
	damage_object(w, &files[1].claim);
	damage_index(w, key);
	rsp = verify(w, true);
	assert_int_equal(rsp->damaged, 1);
	assert_string_equal(rsp->damages[0]->kind, "index");
	assert_true(rsp->damages[0]->removed);
	assert_int_equal(rsp->unknown, n + 1);

	free(STEAL(key));
	key = open_and_fill(w);
	pb_free(STEAL(rsp));
	rsp = verify(w, true);
	assert_int_equal(rsp->damaged, 2);
	assert_layer(damage_of(rsp, &files[1].content), key, &l);
	assert_layer(damage_of(rsp, &files[1].claim), key, &l);
	assert_clean(w, 1, 2 * (n - 1));
	worker_end(w);
	worker_start(w);
	free(STEAL(key));
	key = open_and_fill(w);
	assert_objects(w, key, n);
	assert_clean(w, 1, 2 * n);
}

/* An index that is in order, but another layer's. */
static void an_index_under_a_false_name(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(VerifyResponse) *rsp = NULL;
	AUTO_FREE char *a_key = NULL, *b_key = NULL;
	AUTO(layer) struct layer a;
	AUTO(layer) struct layer b;
	int dir = ffs_store_dir(w->w.store, FFS_DIR_INDEX);

	layer_plain(&a, 1, 5);
	layer_plain(&b, 2, 5);
	a_key = unpack_local(w, &a);
	b_key = unpack_local(w, &b);
	assert_int_equal(unlinkat(dir, b_key, 0), 0);
	assert_int_equal(linkat(dir, a_key, dir, b_key, 0), 0);
	rsp = verify(w, false);
	assert_int_equal(rsp->damaged, 1);
	assert_string_equal(rsp->damages[0]->name, b_key);
	assert_false(rsp->damages[0]->lazy);
	assert_non_null(strstr(rsp->damages[0]->reason, "another layer"));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(all_is_well),
	    T(a_damaged_object),
	    T(a_damaged_claim),
	    T(a_cut_object),
	    T(objects_of_nobody),
	    T(a_damaged_index),
	    T(a_damaged_index_and_a_damaged_claim),
	    T(an_index_under_a_false_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
