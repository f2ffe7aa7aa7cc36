/* Lazy layers held against their image: what is true, what is false, by tar-split, and ends in between. */
#include "fusefs/core.h"
#include "fusefs/proof/testproof.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what is true ---- */

static void check_proven(struct fixture *f, enum esgz_compression compression, bool read_first)
{
	struct ffs_layer_status st;
	uint64_t head = 4096;
	struct made m;
	struct err err;
	int fd;

	if (read_first) {
		ffs_data_free(f->data);
		f->opts.background = FFS_BACKGROUND_ON;
		data_open(f);
	}
	made_sample(f, &m, compression);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	if (read_first)
		vec_each(&m.l.files, t)
			check_file(f, t);
	status_of(f, &m, &st);
	assert_int_equal(st.verdict, FFS_UNPROVEN);
	fill_all(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	/* Readers' requests overlap by what is fetched in one go. */
	assert_true(fetched(f) <= m.l.blob.n + head + (read_first ? m.l.blob.n * 3 / 4 : 0));
	status_of(f, &m, &st);
	assert_true(digest_eq(&st.diff_id, &m.diff_id));
	/* Known from then on, and its gaps are needed no more. */
	reopen(f);
	assert_int_equal(ffs_data_add_layer(f->data, &m.l.key, &err), 0);
	status_of(f, &m, &st);
	assert_int_equal(st.verdict, FFS_PROVEN);
	fd = gaps_fd(f, &m, O_RDONLY);
	assert_int_equal(fd, -1);
	made_fini(f, &m);
}

static void test_proven_gzip(void **state)
{
	check_proven(*state, ESGZ_GZIP, false);
}

static void test_proven_zstd(void **state)
{
	check_proven(*state, ESGZ_ZSTD, false);
}

static void test_proven_by_readers(void **state)
{
	check_proven(*state, ESGZ_GZIP, true);
}

/* The end of the tar is lost, and the configuration knows nothing of it. */
static void test_end_is_missing(void **state)
{
	struct fixture *f = *state;
	struct ffs_layer_status st;
	struct digest of_stream;
	uint64_t before;
	struct made m;
	struct err err;

	made_init(&m, ESGZ_ZSTD);
	m.cut = 1024;
	made_add_sample(&m);
	made_add_sample_dirs(&m);
	made_ready(f, &m);
	digest_of(m.tar.p, m.tar.n, &of_stream);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	fill_all(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_true(fetched(f) < m.l.blob.n + 4096);
	/* And one that does: its blob is fetched to see that. */
	ffs_data_promise(f->data, &m.l.key, &of_stream);
	assert_verdict(f, &m, FFS_PROVEN, "");
	/* What is known of the blob is not known instead of it. */
	before = fetched(f);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	assert_verdict(f, &m, FFS_PROVEN, "");
	reopen(f);
	assert_int_equal(ffs_data_add_layer(f->data, &m.l.key, &err), 0);
	assert_verdict(f, &m, FFS_PROVEN, "");
	status_of(f, &m, &st);
	assert_true(digest_eq(&st.diff_id, &m.diff_id));
	assert_int_equal(fetched(f), before);
	made_fini(f, &m);
}

/* The same when the first one to promise anything is wrong: it takes the layer from nobody else. */
static void test_end_is_missing_and_a_wrong_promise(void **state)
{
	struct fixture *f = *state;
	struct digest other;
	uint64_t before;
	struct made m;

	made_init(&m, ESGZ_ZSTD);
	m.cut = 1024;
	made_add_sample(&m);
	made_add_sample_dirs(&m);
	made_ready(f, &m);
	digest_of("x", 1, &other);
	ffs_data_promise(f->data, &m.l.key, &other);
	fill_all(f, &m);
	assert_verdict(f, &m, FFS_FALSE, "its DiffID is sha256:");
	before = fetched(f);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	assert_verdict(f, &m, FFS_PROVEN, "");
	digest_of("y", 1, &other);
	ffs_data_promise(f->data, &m.l.key, &other);
	assert_verdict(f, &m, FFS_FALSE, "its DiffID is sha256:");
	assert_int_equal(fetched(f), before);
	made_fini(f, &m);
}

/* An older version has not kept what the blob is with zeros behind it: it is fetched once more, and they are kept. */
static void test_facts_of_an_older_version(void **state)
{
	struct fixture *f = *state;
	struct ffs_facts facts = {.of_blob = true, .tree = FFS_TREE_SAME};
	struct made m;
	struct err err;

	made_init(&m, ESGZ_ZSTD);
	m.cut = 1024;
	made_add_sample(&m);
	made_add_sample_dirs(&m);
	made_ready(f, &m);
	digest_of(m.tar.p, m.tar.n, &facts.diff_id);
	assert_int_equal(ffs_index_set_facts(f->store, &m.l.key, &facts, &err), 0);
	reopen(f);
	assert_int_equal(ffs_data_add_layer(f->data, &m.l.key, &err), 0);
	assert_int_equal(ffs_data_verdict(f->data, &m.l.key, &facts.diff_id, NULL), FFS_PROVEN);
	assert_int_equal(ffs_data_verdict(f->data, &m.l.key, &m.diff_id, NULL), FFS_UNPROVEN);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	facts = facts_of(f, &m);
	assert_true(facts.of_blob);
	assert_true(digest_eq(&facts.padded[1], &m.diff_id));
	made_fini(f, &m);
}

/* Nothing is ever fetched of it but that. */
static void test_only_directories(void **state)
{
	struct fixture *f = *state;
	struct made m;

	made_init(&m, ESGZ_GZIP);
	made_add_tar(&m, '5', "bin/", 0755, STR_NONE);
	made_add_tar(&m, '5', "etc/", 0755, STR_NONE);
	made_add_sample_dirs(&m);
	made_ready(f, &m);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	ffs_data_set_pinned(f->data, &m.l.key, true);
	assert_verdict(f, &m, FFS_PROVEN, "");
	made_fini(f, &m);
}

static void test_switched_off(void **state)
{
	struct fixture *f = *state;
	struct ffs_layer_status st;
	struct made m;
	struct err err;

	ffs_data_free(f->data);
	f->opts.no_proof = true;
	data_open(f);
	made_sample(f, &m, ESGZ_GZIP);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	fill_all(f, &m);
	reopen(f);
	assert_int_equal(ffs_data_add_layer(f->data, &m.l.key, &err), 0);
	assert_int_equal(gaps_fd(f, &m, O_RDONLY), -1);
	status_of(f, &m, &st);
	assert_int_equal(st.verdict, FFS_UNPROVEN);
	made_fini(f, &m);
}

/* Known from its index: nothing is fetched or hashed for it. */
static void test_too_long(void **state)
{
	struct fixture *f = *state;
	struct made m;

	made_init(&m, ESGZ_GZIP);
	test_layer_add_sparse(&m.l, "hole", 0, 65ull << 30, 1);
	layer_ready(f, &m.l, 1);
	pthread_mutex_lock(&f->data->lock);
	layer_find(f->data, &m.l.key)->filled = true; /* hashing it takes minutes */
	pthread_mutex_unlock(&f->data->lock);
	digest_of("x", 1, &m.diff_id);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	assert_verdict(f, &m, FFS_UNPROVEN, "longer than 64 GiB");
	assert_int_equal(fetched(f), 0);
	made_fini(f, &m);
}

/* ---- what is false ---- */

/* Who unpacks it gets a setuid file, who mounts it does not. */
static void test_two_views(void **state)
{
	struct fixture *f = *state;
	struct ffs_data_counters n;
	struct made m;

	made_init(&m, ESGZ_GZIP);
	made_add_sample(&m);
	made_add_file(&m, "bin/su", 04755, 0755, 5000, 9);
	made_add_sample_dirs(&m);
	made_ready(f, &m);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	fill_all(f, &m);
	assert_verdict(f, &m, FFS_FALSE, "bin/su: mode 0755 in the TOC, 4755 in the tar");
	assert_true(facts_of(f, &m).of_blob);
	ffs_data_counters(f->data, &n);
	assert_int_equal(n.proven_false, 1);
	made_fini(f, &m);
}

/* A file that only the tar has. */
static void test_hidden_file(void **state)
{
	struct fixture *f = *state;
	struct made m;

	made_init(&m, ESGZ_ZSTD);
	made_add_sample(&m);
	made_add_tar(&m, '0', "etc/shadow", 0600, STR("root::1:0:99999:7:::\n"));
	made_add_sample_dirs(&m);
	made_ready(f, &m);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	fill_all(f, &m);
	assert_verdict(f, &m, FFS_FALSE, "etc/shadow");
	made_fini(f, &m);
}

/* The configuration promises something else: said of the blob, which is fetched for it. Another configuration may be right. */
static void test_wrong_promise(void **state)
{
	struct fixture *f = *state;
	struct digest other;
	struct made m;

	made_sample(f, &m, ESGZ_GZIP);
	digest_of("x", 1, &other);
	ffs_data_promise(f->data, &m.l.key, &other);
	fill_all(f, &m);
	assert_verdict(f, &m, FFS_FALSE, "its DiffID is sha256:");
	assert_true(fetched(f) >= 2 * m.l.blob.n);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	assert_verdict(f, &m, FFS_PROVEN, "");
	made_fini(f, &m);
}

/* ---- a tar-split ---- */

/* A layer that is here, but did not pass through: its contents came with another one, as far as it can tell. */
static void came_with_others(struct fixture *f, struct made *m, unsigned toc_mode)
{
	int fd;

	made_init(m, ESGZ_ZSTD);
	m->with_split = true;
	made_add_sample(m);
	made_add_sample_dirs(m);
	for (unsigned i = 0; i < 4; i++) {
		char path[16];

		snprintf(path, sizeof(path), "big%u", i);
		made_add_file(m, path, 0644, i ? 0644 : toc_mode, 24 * CHUNK, 77 + i);
	}
	made_ready(f, m);
	filled_unproven(f, m);
	fd = gaps_fd(f, m, O_RDWR);
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
}

static void test_split(void **state)
{
	struct fixture *f = *state;
	uint64_t before;
	struct made m;

	came_with_others(f, &m, 0644);
	before = fetched(f);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_true(fetched(f) > before && fetched(f) - before < m.l.blob.n / 64);
	assert_false(facts_of(f, &m).of_blob);
	made_fini(f, &m);
}

static void test_split_two_views(void **state)
{
	struct fixture *f = *state;
	struct made m;

	came_with_others(f, &m, 0755);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_FALSE, "big0: mode 0755 in the TOC, 0644 in the tar");
	assert_true(facts_of(f, &m).of_blob);
	made_fini(f, &m);
}

static void test_split_damaged(void **state)
{
	struct fixture *f = *state;
	uint64_t before;
	struct made m;

	came_with_others(f, &m, 0644);
	pthread_mutex_lock(&f->blobs.lock);
	f->blobs.corrupt_at = m.l.blob.n - 10;
	f->blobs.corrupt_times = 1;
	before = f->blobs.bytes;
	pthread_mutex_unlock(&f->blobs.lock);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_UNPROVEN, "copy of its tar-split has digest");
	assert_true(fetched(f) - before < m.l.blob.n / 64);
	made_fini(f, &m);
}

/* An object that is not what it was is no reason to say anything of the layer. */
static void test_split_without_object(void **state)
{
	struct fixture *f = *state;
	char path[FFS_OBJECT_PATH_MAX];
	const struct test_file *big;
	struct made m;

	came_with_others(f, &m, 0644);
	big = test_layer_file(&m.l, "big1");
	test_blobs_set_hold(&f->blobs, true);
	prove_now(f, &m);
	assert_int_equal(unlinkat(ffs_store_dir(f->store, FFS_DIR_OBJECTS), ffs_object_path(&big->claim, path), 0), 0);
	assert_int_equal(unlinkat(ffs_store_dir(f->store, FFS_DIR_OBJECTS), ffs_object_path(&big->digest, path), 0), 0);
	test_blobs_set_hold(&f->blobs, false);
	assert_verdict(f, &m, FFS_UNPROVEN, "big1");
	made_fini(f, &m);
}

/* ---- ends in between ---- */

static void stuck(struct fixture *f, struct made *m)
{
	unsigned before;

	made_sample(f, m, ESGZ_GZIP);
	filled_unproven(f, m);
	test_blobs_set_hold(&f->blobs, true);
	before = test_blobs_count(&f->blobs, &f->blobs.n_requests);
	prove_now(f, m);
	test_blobs_wait(&f->blobs, &f->blobs.n_requests, before + 1);
}

static void test_stop(void **state)
{
	struct fixture *f = *state;
	struct made m;
	struct err err;

	stuck(f, &m);
	ffs_data_free(f->data);
	test_blobs_set_hold(&f->blobs, false);
	data_open(f);
	assert_int_equal(ffs_data_add_layer(f->data, &m.l.key, &err), 0);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	made_fini(f, &m);
}

static void test_removed(void **state)
{
	struct fixture *f = *state;
	struct made m;

	stuck(f, &m);
	ffs_data_remove_layer(f->data, &m.l.key);
	test_blobs_wait(&f->blobs, &f->blobs.n_cancelled, 1);
	test_blobs_set_hold(&f->blobs, false);
	made_fini(f, &m);
}

/* A reader goes first, and the proof goes on after him. */
static void test_reader_goes_first(void **state)
{
	struct fixture *f = *state;
	struct made m, other;

	stuck(f, &m);
	sample_layer(&other.l);
	layer_ready(f, &other.l, 1);
	test_blobs_set_hold(&f->blobs, false);
	check_file(f, test_layer_file(&other.l, "tail"));
	assert_verdict(f, &m, FFS_PROVEN, "");
	layer_fini(f, &other.l);
	made_fini(f, &m);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
	const struct CMUnitTest tests[] = {
	    T(test_proven_gzip),
	    T(test_proven_zstd),
	    T(test_proven_by_readers),
	    T(test_end_is_missing),
	    T(test_end_is_missing_and_a_wrong_promise),
	    T(test_facts_of_an_older_version),
	    T(test_only_directories),
	    T(test_switched_off),
	    T(test_two_views),
	    T(test_hidden_file),
	    T(test_wrong_promise),
	    T(test_stop),
	    T(test_removed),
	    T(test_reader_goes_first),
	    T(test_too_long),
	    T(test_split),
	    T(test_split_two_views),
	    T(test_split_damaged),
	    T(test_split_without_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
