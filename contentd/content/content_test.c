#include "contentd/content/content.h"

#include "base/clock.h"
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

struct world {
	char dir[64];
	struct cd_content *c;
};

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	snprintf(w->dir, sizeof(w->dir), "/tmp/content_test.XXXXXX");
	*state = w;
	return mkdtemp(w->dir) ? cd_content_open(w->dir, &w->c, NULL) : -1;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	int tmp_fd = open("/tmp", O_RDONLY | O_DIRECTORY);
	int r = dir_remove(tmp_fd, w->dir + strlen("/tmp/"), NULL);

	close(tmp_fd);
	cd_content_close(w->c);
	free(w);
	return r;
}

static void reopen(struct world *w)
{
	cd_content_close(w->c);
	assert_int_equal(cd_content_open(w->dir, &w->c, NULL), 0);
}

static struct digest sum(const char *text)
{
	struct digest d;

	digest_of(text, strlen(text), &d);
	return d;
}

static void expect_blob(struct world *w, const char *text)
{
	struct digest d = sum(text);
	AUTO(buf) struct buf b = BUF_INIT;
	AUTO_FD int fd = -1;
	int64_t bytes;
	struct stat st;

	assert_int_equal(cd_blob_open(w->c, &d, &fd, &bytes, NULL), 0);
	assert_int_equal(bytes, strlen(text));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0444);
	assert_int_equal(fd_read_all(fd, 1000, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), text);
}

static struct cd_writer *open_writer(struct world *w, const char *ref, int64_t total)
{
	struct cd_writer *writer = NULL;

	assert_int_equal(cd_writer_open(w->c, "ns", ref, total, "", &writer, NULL), 0);
	return writer;
}

static void write_text(struct cd_writer *writer, const char *text)
{
	assert_int_equal(cd_writer_write(writer, str_of(text), NULL), 0);
}

static int count_blob(void *arg, const struct digest *d, int64_t bytes, struct err *err)
{
	*(int64_t *)arg += bytes;
	return 0;
}

static void small_blobs(void **state)
{
	struct world *w = *state;
	struct cd_blob_new blobs[] = {{sum("one"), STR("one")}, {sum(""), STR("")}, {sum("one"), STR("one")}};
	struct digest none = sum("none"), one = sum("one");
	int64_t bytes = 0;
	int fd;

	assert_int_equal(cd_blobs_put(w->c, blobs, ARRAY_LEN(blobs), NULL), 0);
	assert_int_equal(cd_blobs_put(w->c, blobs, ARRAY_LEN(blobs), NULL), 0);
	expect_blob(w, "one");
	expect_blob(w, "");
	assert_int_equal(cd_blob_open(w->c, &none, &fd, &bytes, NULL), -ERR_NOT_FOUND);
	assert_int_equal(cd_blob_each(w->c, count_blob, &bytes, NULL), 0);
	assert_int_equal(bytes, 3);
	assert_int_equal(cd_blob_drop(w->c, &one, NULL), 0);
	assert_int_equal(cd_blob_drop(w->c, &one, NULL), 0);
	assert_false(cd_blob_has(w->c, &one));
}

static void a_writer_from_begin_to_commit(void **state)
{
	AUTO(cd_ingest_status) struct cd_ingest_status s = {0};
	struct world *w = *state;
	AUTO(cd_writer) struct cd_writer *writer = open_writer(w, "r", 6);
	struct digest d, want = sum("foobar");

	assert_int_equal(cd_writer_offset(writer), 0);
	write_text(writer, "foo");
	assert_int_equal(cd_ingest_stat(w->c, "ns", "r", &s, NULL), 0);
	assert_string_equal(s.ref, "r");
	assert_int_equal(s.offset, 3);
	assert_int_equal(s.total, 6);
	write_text(writer, "bar");
	cd_writer_digest(writer, &d);
	assert_true(digest_eq(&d, &want));
	assert_int_equal(cd_writer_commit(writer, &d, NULL), 0);
	expect_blob(w, "foobar");
	assert_int_equal(cd_ingest_stat(w->c, "ns", "r", &s, NULL), -ERR_NOT_FOUND);
	/* What is there already is dropped, quietly. */
	cd_writer_close(STEAL(writer));
	writer = open_writer(w, "r", 0);
	write_text(writer, "foobar");
	assert_int_equal(cd_writer_commit(writer, &want, NULL), 0);
	expect_blob(w, "foobar");
}

static void resuming(void **state)
{
	AUTO(cd_ingest_status) struct cd_ingest_status s = {0};
	AUTO(cd_ingest_status) struct cd_ingest_status s2 = {0};
	struct world *w = *state;
	struct cd_writer *writer = open_writer(w, "r", 6);
	struct digest d, want = sum("foobar");

	write_text(writer, "foo");
	assert_int_equal(cd_ingest_stat(w->c, "ns", "r", &s, NULL), 0);
	cd_writer_close(writer);
	reopen(w); /* also over a restart */
	writer = open_writer(w, "r", 0);
	assert_int_equal(cd_writer_offset(writer), 3);
	write_text(writer, "bar");
	cd_writer_digest(writer, &d);
	assert_true(digest_eq(&d, &want));
	assert_int_equal(cd_ingest_stat(w->c, "ns", "r", &s2, NULL), 0);
	assert_int_equal(s2.total, 6);
	assert_memory_equal(&s.started, &s2.started, sizeof(s.started));
	assert_int_equal(cd_writer_truncate(writer, NULL), 0);
	assert_int_equal(cd_writer_offset(writer), 0);
	write_text(writer, "x");
	cd_writer_close(writer);
	writer = open_writer(w, "r", 7); /* another total: another blob */
	assert_int_equal(cd_writer_offset(writer), 0);
	cd_writer_close(writer);
}

static void one_writer_a_ref(void **state)
{
	struct world *w = *state;
	AUTO(cd_writer) struct cd_writer *writer = open_writer(w, "r", 0);
	AUTO(cd_writer) struct cd_writer *elsewhere = NULL;
	struct cd_writer *second = NULL;

	assert_int_equal(cd_writer_open(w->c, "ns", "r", 0, "", &second, NULL), -ERR_UNAVAILABLE);
	assert_true(cd_ingest_is_busy(w->c, "ns", "r"));
	assert_int_equal(cd_writer_open(w->c, "other", "r", 0, "", &elsewhere, NULL), 0);
	cd_writer_close(STEAL(writer));
	assert_false(cd_ingest_is_busy(w->c, "ns", "r"));
	assert_int_equal(cd_content_wait(w->c, "ns", "r", NULL, NULL), 0);
	writer = open_writer(w, "r", 0);
}

static void *open_second(void *arg)
{
	struct world *w = arg;
	struct cd_writer *writer = NULL;

	cd_writer_open_within(w->c, "ns", "r", 0, "", 600 * NS_PER_S, &writer, NULL);
	return writer;
}

/* A client that ends one stream and begins the next has no way to know that the server has seen the end. */
static void who_comes_too_early_waits(void **state)
{
	struct world *w = *state;
	struct cd_writer *first = open_writer(w, "r", 0);
	void *second;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, open_second, w), 0);
	usleep(20000);
	write_text(first, "abc");
	cd_writer_close(first);
	assert_int_equal(pthread_join(thread, &second), 0);
	assert_non_null(second);
	assert_int_equal(cd_writer_offset(second), 3);
	cd_writer_close(second);
}

static void aborting_under_a_writer(void **state)
{
	struct world *w = *state;
	struct cd_writer *writer = open_writer(w, "r", 0);
	struct digest d = sum("x");

	write_text(writer, "x");
	assert_int_equal(cd_ingest_abort(w->c, "ns", "r", NULL), 0);
	assert_int_equal(cd_ingest_abort(w->c, "ns", "r", NULL), -ERR_NOT_FOUND);
	assert_int_equal(cd_writer_write(writer, STR("y"), NULL), -ERR_NOT_FOUND);
	assert_int_equal(cd_writer_commit(writer, &d, NULL), -ERR_NOT_FOUND);
	/* The ref is free, and the old writer's end does not touch the new one. */
	AUTO(cd_writer) struct cd_writer *next = open_writer(w, "r", 0);
	cd_writer_close(writer);
	assert_true(cd_ingest_is_busy(w->c, "ns", "r"));
	write_text(next, "x");
	assert_int_equal(cd_writer_commit(next, &d, NULL), 0);
	expect_blob(w, "x");
}

struct committing {
	struct cd_writer *writer;
	struct digest digest;
	int result;
};

static void *commit(void *arg)
{
	struct committing *c = arg;

	c->result = cd_writer_commit(c->writer, &c->digest, NULL);
	return NULL;
}

/* Between a commit's look at its ingest and the moment its bytes get their name another writer may have taken the ref: his
 * bytes must not get it. The commit is held up there by a blob of that name that is being deleted. */
static void an_abort_in_the_middle_of_a_commit(void **state)
{
	struct world *w = *state;
	struct committing c = {.writer = open_writer(w, "r", 0), .digest = sum("verified")};
	struct cd_writer *other;
	pthread_t thread;

	write_text(c.writer, "verified");
	cd_blob_condemn(w->c, &c.digest);
	assert_int_equal(pthread_create(&thread, NULL, commit, &c), 0);
	usleep(20 * 1000); /* for the old writer to come there; any other order ends the same way */
	assert_int_equal(cd_ingest_abort(w->c, "ns", "r", NULL), 0);
	other = open_writer(w, "r", 0);
	write_text(other, "unknown");
	cd_blob_spare(w->c, &c.digest);
	pthread_join(thread, NULL);
	assert_int_equal(c.result, -ERR_NOT_FOUND);
	assert_false(cd_blob_has(w->c, &c.digest));
	cd_writer_close(c.writer);
	write_text(other, "!");
	c.digest = sum("unknown!");
	assert_int_equal(cd_writer_commit(other, &c.digest, NULL), 0);
	expect_blob(w, "unknown!");
	cd_writer_close(other);
}

static void a_writer_that_has_committed_is_done_with_the_ref(void **state)
{
	struct world *w = *state;
	AUTO(cd_writer) struct cd_writer *writer = open_writer(w, "r", 0);
	AUTO(cd_writer) struct cd_writer *next = NULL;
	struct digest d = sum("x"), d2 = sum("y");

	write_text(writer, "x");
	assert_int_equal(cd_writer_commit(writer, &d, NULL), 0);
	next = open_writer(w, "r", 0);
	write_text(next, "y");
	assert_int_equal(cd_writer_abort(writer, NULL), -ERR_NOT_FOUND);
	assert_int_equal(cd_writer_commit(next, &d2, NULL), 0);
	expect_blob(w, "y");
}

/* Two of them condemn the same ingest: the second one's deletion would be that of whoever came after the first. */
static void an_ingest_is_condemned_once(void **state)
{
	struct world *w = *state;

	cd_writer_close(open_writer(w, "r", 0));
	assert_true(cd_ingest_condemn(w->c, "ns", "r"));
	assert_false(cd_ingest_condemn(w->c, "ns", "r"));
	assert_int_equal(cd_ingest_drop(w->c, "ns", "r", NULL), 0);
	assert_true(cd_ingest_condemn(w->c, "ns", "r"));
	cd_ingest_spare(w->c, "ns", "r");
}

static int list(void *arg, const struct cd_ingest_status *s, struct err *err)
{
	buf_addf(arg, "%s/%s:%lld ", s->ns, s->ref, (long long)s->offset);
	return 0;
}

static void listing(void **state)
{
	AUTO(buf) struct buf mine = BUF_INIT;
	AUTO(buf) struct buf none = BUF_INIT;
	struct world *w = *state;
	AUTO(cd_writer) struct cd_writer *writer = open_writer(w, "a ref/with: all", 0);
	char junk[128];

	write_text(writer, "12345");
	snprintf(junk, sizeof(junk), "%s/content/ingest/junk", w->dir);
	assert_int_equal(mkdir(junk, 0700), 0);
	assert_int_equal(cd_ingest_each(w->c, "ns", list, &mine, NULL), 0);
	assert_string_equal(buf_cstr(&mine), "ns/a ref/with: all:5 ");
	assert_int_equal(cd_ingest_each(w->c, "other", list, &none, NULL), 0);
	assert_string_equal(buf_cstr(&none), "");
}

static void leftovers_of_a_crash(void **state)
{
	struct world *w = *state;
	char path[128];

	snprintf(path, sizeof(path), "%s/content/ingest/.put-1-abc", w->dir);
	assert_int_equal(file_write_atomic(AT_FDCWD, path, STR("half"), 0600, NULL), 0);
	reopen(w);
	assert_int_equal(access(path, F_OK), -1);
}

static int name_it(void *arg, const struct cd_ingest_status *s, struct err *err)
{
	snprintf(arg, 80, "%s", s->ref);
	return 0;
}

/* The machine stopped before the ingest's description was on disk: nobody can go on with it, or even name it. */
static void an_ingest_that_lost_its_description(void **state)
{
	struct world *w = *state;
	char dir[128], name[NAME_MAX + 1] = "", path[512], ref[80] = "";
	struct dirent *e;
	DIR *d;

	cd_writer_close(open_writer(w, "r", 0));
	snprintf(dir, sizeof(dir), "%s/content/ingest", w->dir);
	d = opendir(dir);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			snprintf(name, sizeof(name), "%s", e->d_name);
	closedir(d);
	snprintf(path, sizeof(path), "%s/%s/info", dir, name);
	assert_int_equal(truncate(path, 0), 0);
	reopen(w);
	assert_int_equal(cd_ingest_each(w->c, NULL, name_it, ref, NULL), 0);
	assert_string_equal(ref, "");
	assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(small_blobs),
	    TEST(a_writer_from_begin_to_commit),
	    TEST(resuming),
	    TEST(one_writer_a_ref),
	    TEST(aborting_under_a_writer),
	    TEST(listing),
	    TEST(leftovers_of_a_crash),
	    TEST(an_abort_in_the_middle_of_a_commit),
	    TEST(a_writer_that_has_committed_is_done_with_the_ref),
	    TEST(an_ingest_is_condemned_once),
	    TEST(an_ingest_that_lost_its_description),
	    TEST(who_comes_too_early_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
