/* Lazy layers held against their image, with gaps that are not there, or wrong. */
#include "fusefs/core.h"
#include "fusefs/proof/testproof.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* The last of them are on disk when the layer is here, and not only when it is proven, or we end. */
static void test_gaps_are_kept(void **state)
{
	struct fixture *f = *state;
	struct stat st = {0};
	struct made m;

	made_sample(f, &m, ESGZ_GZIP);
	fill_all(f, &m);
	while (st.st_size == 0) {
		AUTO_FD int fd = gaps_fd(f, &m, O_RDONLY);

		if (fd >= 0)
			assert_int_equal(fstat(fd, &st), 0);
		usleep(1000);
	}
	made_fini(f, &m);
}

static void test_torn_log(void **state)
{
	struct fixture *f = *state;
	uint64_t before;
	struct made m;
	off_t size;
	int fd;

	made_sample(f, &m, ESGZ_GZIP);
	size = filled_unproven(f, &m);
	fd = gaps_fd(f, &m, O_RDWR);
	assert_int_equal(ftruncate(fd, size / 2), 0);
	close(fd);
	before = fetched(f);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_true(fetched(f) - before <= m.l.blob.n);
	made_fini(f, &m);
}

/* A log that checks and says what never was: it is found out, and the blob decides. */
static void wrong_gaps(struct fixture *f, struct made *m)
{
	struct layer *l = layer_find(f->data, &m->l.key);
	char lie[512] = "not what was there";

	gaps_add(l->gaps, 0, l->members[0].offset, 0, str_make(lie, sizeof(lie)));
}

static void test_wrong_gaps(void **state)
{
	struct fixture *f = *state;
	uint64_t before;
	struct made m;

	made_sample(f, &m, ESGZ_GZIP);
	filled_unproven(f, &m);
	wrong_gaps(f, &m);
	before = fetched(f);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_int_equal(fetched(f) - before, m.l.blob.n);
	made_fini(f, &m);
}

/* The tar as another one has it, which differs at `at` in the first header. */
static void forge(const struct made *m, size_t at, char c, struct buf *out, struct digest *diff_id)
{
	unsigned sum = 0;

	buf_addstr(out, buf_str(&m->tar));
	out->p[at] = c;
	memset(out->p + 148, ' ', 8);
	for (unsigned i = 0; i < 512; i++)
		sum += (uint8_t)out->p[i];
	snprintf(out->p + 148, 8, "%06o", sum);
	digest_of(out->p, out->n, diff_id);
}

/* A mirror sends headers that are not the blob's, and an image promises the stream that they make: whatever comes of that says
 * nothing to an image that promises what the blob is. */
static void check_forged(struct fixture *f, size_t at, char c, enum ffs_verdict of_liar)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct digest forged, honest;
	struct made m;
	struct err err;

	made_sample(f, &m, ESGZ_GZIP);
	filled_unproven(f, &m);
	forge(&m, at, c, &tar, &forged);
	gaps_add(layer_find(f->data, &m.l.key)->gaps, 0, m.offset, 0, str_sub(buf_str(&tar), 0, m.cuts.p[0]));
	honest = m.diff_id;
	m.diff_id = forged;
	prove_now(f, &m);
	assert_verdict(f, &m, of_liar, "");
	/* For the other image it is as if nobody had asked, also after a start. */
	assert_int_not_equal(ffs_data_verdict(f->data, &m.l.key, &honest, NULL), FFS_FALSE);
	reopen(f);
	assert_int_equal(ffs_data_add_layer(f->data, &m.l.key, &err), 0);
	assert_int_not_equal(ffs_data_verdict(f->data, &m.l.key, &honest, NULL), FFS_FALSE);
	m.diff_id = honest;
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_true(facts_of(f, &m).of_blob);
	assert_int_equal(ffs_data_verdict(f->data, &m.l.key, &forged, NULL), FFS_FALSE);
	made_fini(f, &m);
}

static void test_forged_names(void **state)
{
	check_forged(*state, 265, 'u', FFS_PROVEN); /* a user's name, which nobody looks at */
}

static void test_forged_tree(void **state)
{
	check_forged(*state, 104, '4', FFS_FALSE); /* mode 0455 */
}

/* Gaps that cannot be kept are no contents that cannot be kept. */
static void test_gaps_not_kept(void **state)
{
	struct fixture *f = *state;
	char hex[65];
	struct made m;

	made_sample(f, &m, ESGZ_GZIP);
	{
		AUTO_FREE char *name = xasprintf("%s.gaps", digest_hex(&m.l.key, hex));

		assert_int_equal(mkdirat(ffs_store_dir(f->store, FFS_DIR_INDEX), name, 0700), 0);
	}
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_true(f->data->disk_failed_ns == 0);
	made_fini(f, &m);
}

/* What a registry sends that does not have the blob proves nothing, neither way. */
static void test_registry_lies(void **state)
{
	struct fixture *f = *state;
	struct ffs_layer_status st;
	struct digest other;
	uint64_t before;
	unsigned i = 0;
	struct made m;

	made_sample(f, &m, ESGZ_GZIP);
	filled_unproven(f, &m);
	wrong_gaps(f, &m);
	pthread_mutex_lock(&f->blobs.lock);
	f->blobs.corrupt_at = 4; /* the time in a gzip header */
	f->blobs.corrupt_times = 1000;
	pthread_mutex_unlock(&f->blobs.lock);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_UNPROVEN, "the registry's copy has digest");
	/* Whoever promises something new has it fetched again, but not for ever. */
	before = fetched(f);
	do {
		digest_of(&i, sizeof(i), &other);
		i++;
		ffs_data_promise(f->data, &m.l.key, &other);
		usleep(1000);
		status_of(f, &m, &st);
	} while (!strstr(st.reason, "for nothing"));
	assert_true(fetched(f) - before <= 3 * m.l.blob.n);
	made_fini(f, &m);
}

/* Contents that came with other images are not fetched for it. */
static void test_too_much_is_missing(void **state)
{
	struct fixture *f = *state;
	uint64_t before;
	struct made m;
	int fd;

	made_init(&m, ESGZ_GZIP);
	made_add_sample(&m);
	made_add_sample_dirs(&m);
	for (unsigned i = 0; i < 4; i++) {
		char path[16];

		snprintf(path, sizeof(path), "big%u", i);
		made_add_file(&m, path, 0644, 0644, 24 * CHUNK, 77 + i);
	}
	made_ready(f, &m);
	assert_true(m.l.blob.n > 2u << 20);
	filled_unproven(f, &m);
	fd = gaps_fd(f, &m, O_RDWR);
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	before = fetched(f);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_UNPROVEN, "have not passed through here");
	assert_int_equal(fetched(f), before);
	made_fini(f, &m);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
	const struct CMUnitTest tests[] = {
	    T(test_gaps_are_kept),       T(test_torn_log),     T(test_wrong_gaps),  T(test_registry_lies),
	    T(test_too_much_is_missing), T(test_forged_names), T(test_forged_tree), T(test_gaps_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
