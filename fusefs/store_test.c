#include "base/testing.h"

#include "base/buf.h"
#include "base/file.h"
#include "fusefs/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

struct world {
	char dir[48];
	struct ffs_store *store;
};

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	strcpy(w->dir, "/tmp/store-test-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	*state = w;
	return ffs_store_open(w->dir, &w->store, NULL);
}

static int tear_down(void **state)
{
	struct world *w = *state;

	AUTO_FD int tmp = open("/tmp", O_DIRECTORY | O_CLOEXEC);
	int r;

	ffs_store_close(w->store);
	r = dir_remove(tmp, strrchr(w->dir, '/') + 1, NULL);
	free(w);
	return r;
}

static void add(struct ffs_batch *b, struct str content, struct digest *key)
{
	digest_of(content.p, content.n, key);
	OK(ffs_batch_begin(b, content.n, err));
	OK(ffs_batch_write(b, str_sub(content, 0, content.n / 2), err));
	OK(ffs_batch_write(b, str_sub(content, content.n / 2, content.n), err));
	OK(ffs_batch_end(b, key, err));
}

static unsigned entries(const struct ffs_store *s, enum ffs_dir which)
{
	DIR *d = fdopendir(openat(ffs_store_dir(s, which), ".", O_DIRECTORY | O_CLOEXEC));
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(d);
	return n;
}

static void nothing_shows_before_it_is_published(void **state)
{
	struct world *w = *state;
	AUTO(ffs_batch) struct ffs_batch *b = NULL;
	AUTO(buf) struct buf big = BUF_INIT;
	struct digest small_key, big_key;
	AUTO_FD int fd = -1;
	AUTO_FD int wrong = -1;
	char got[6] = {0};

	buf_addz(&big, 3 << 20);
	OK(ffs_batch_new(w->store, &b, err));
	add(b, STR("hello"), &small_key);
	add(b, buf_str(&big), &big_key);
	assert_false(ffs_object_has(w->store, &small_key, 5));
	OK(ffs_batch_publish(b, err));
	assert_true(ffs_object_has(w->store, &small_key, 5));
	assert_true(ffs_object_has(w->store, &big_key, 3 << 20));
	OK(ffs_object_open(w->store, &small_key, 5, &fd, err));
	OK(fd_pread_all(fd, got, 5, 0, err));
	assert_string_equal(got, "hello");
	FAILS(ffs_object_open(w->store, &small_key, 6, &wrong, err), ERR_DATA_LOSS);
	digest_of("x", 1, &small_key);
	FAILS(ffs_object_open(w->store, &small_key, 6, &wrong, err), ERR_NOT_FOUND);
}

static void known_contents_are_not_written_again(void **state)
{
	struct world *w = *state;
	AUTO(ffs_batch) struct ffs_batch *a = NULL;
	AUTO(ffs_batch) struct ffs_batch *b = NULL;
	struct digest key;
	struct stat before, after;
	char path[FFS_OBJECT_PATH_MAX];

	OK(ffs_batch_new(w->store, &a, err));
	add(a, STR("same"), &key);
	add(a, STR("same"), &key);
	OK(ffs_batch_publish(a, err));
	assert_int_equal(fstatat(ffs_store_dir(w->store, FFS_DIR_OBJECTS), ffs_object_path(&key, path), &before, 0), 0);
	OK(ffs_batch_new(w->store, &b, err));
	add(b, STR("same"), &key);
	OK(ffs_batch_publish(b, err));
	assert_int_equal(fstatat(ffs_store_dir(w->store, FFS_DIR_OBJECTS), ffs_object_path(&key, path), &after, 0), 0);
	assert_int_equal(before.st_ino, after.st_ino);
}

static void two_batches_may_bring_the_same(void **state)
{
	struct world *w = *state;
	AUTO(ffs_batch) struct ffs_batch *a = NULL;
	AUTO(ffs_batch) struct ffs_batch *b = NULL;
	struct digest key;

	OK(ffs_batch_new(w->store, &a, err));
	OK(ffs_batch_new(w->store, &b, err));
	add(a, STR("both"), &key);
	add(b, STR("both"), &key);
	OK(ffs_batch_publish(a, err));
	OK(ffs_batch_publish(b, err));
	assert_true(ffs_object_has(w->store, &key, 4));
}

static void a_dropped_batch_leaves_nothing(void **state)
{
	struct world *w = *state;
	struct ffs_batch *b = NULL;
	struct digest key;

	OK(ffs_batch_new(w->store, &b, err));
	add(b, STR("gone"), &key);
	assert_int_equal(entries(w->store, FFS_DIR_PARTIAL), 1);
	ffs_batch_free(b);
	assert_int_equal(entries(w->store, FFS_DIR_PARTIAL), 0);
	assert_false(ffs_object_has(w->store, &key, 4));
}

static void what_a_dead_process_left_is_swept(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *left = xasprintf("%s/partial/unpack-1-0/sub", w->dir);

	OK(dir_make(left, 0700, err));
	OK(file_write_atomic(ffs_store_dir(w->store, FFS_DIR_INDEX), ".abc.1-2", STR("half"), 0600, err));
	OK(file_write_atomic(ffs_store_dir(w->store, FFS_DIR_PINS), ".new-1", STR("half"), 0600, err));
	ffs_store_close(w->store);
	OK(ffs_store_open(w->dir, &w->store, err));
	for (enum ffs_dir d = 0; d < FFS_DIRS; d++)
		assert_int_equal(entries(w->store, d), 0);
}

static void lengths_are_checked(void **state)
{
	struct world *w = *state;
	AUTO(ffs_batch) struct ffs_batch *b = NULL;
	struct digest key;

	digest_of("abc", 3, &key);
	OK(ffs_batch_new(w->store, &b, err));
	OK(ffs_batch_begin(b, 2, err));
	FAILS(ffs_batch_write(b, STR("abc"), err), ERR_DATA_LOSS);
	OK(ffs_batch_begin(b, 4, err));
	OK(ffs_batch_write(b, STR("abc"), err));
	FAILS(ffs_batch_end(b, &key, err), ERR_DATA_LOSS);
}

static void add_with_hole(struct ffs_batch *b, uint64_t hole, struct buf *content, struct digest *key)
{
	buf_clear(content);
	buf_adds(content, "front");
	buf_addz(content, hole);
	digest_of(content->p, content->n, key);
	OK(ffs_batch_begin(b, content->n, err));
	OK(ffs_batch_write(b, STR("front"), err));
	OK(ffs_batch_hole(b, hole, err));
	OK(ffs_batch_end(b, key, err));
}

static void holes_are_zeros(void **state)
{
	struct world *w = *state;
	AUTO(ffs_batch) struct ffs_batch *b = NULL;
	const uint64_t holes[] = {100, 3 << 20};

	OK(ffs_batch_new(w->store, &b, err));
	for (size_t i = 0; i < ARRAY_LEN(holes); i++) {
		AUTO(buf) struct buf content = BUF_INIT;
		AUTO(buf) struct buf got = BUF_INIT;
		struct digest key;
		AUTO_FD int fd = -1;
		struct stat st;

		add_with_hole(b, holes[i], &content, &key);
		OK(ffs_batch_publish(b, err));
		OK(ffs_object_open(w->store, &key, content.n, &fd, err));
		OK(fd_read_all(fd, content.n, &got, err));
		assert_true(str_eq(buf_str(&got), buf_str(&content)));
		assert_int_equal(fstat(fd, &st), 0);
		assert_true(st.st_blocks * 512 < 1 << 20);
	}
	OK(ffs_batch_begin(b, 10, err));
	FAILS(ffs_batch_hole(b, 11, err), ERR_DATA_LOSS);
	FAILS(ffs_batch_hole(b, UINT64_MAX, err), ERR_DATA_LOSS);
}

static void an_alias_is_the_same_file(void **state)
{
	struct world *w = *state;
	AUTO(ffs_batch) struct ffs_batch *b = NULL;
	struct digest key, also;

	OK(ffs_batch_new(w->store, &b, err));
	add(b, STR("named twice"), &key);
	OK(ffs_batch_publish(b, err));
	digest_of("other name", 10, &also);
	OK(ffs_object_alias(w->store, &key, &also, err));
	OK(ffs_object_alias(w->store, &key, &also, err));
	assert_true(ffs_object_has(w->store, &also, 11));
	assert_true(ffs_object_has(w->store, &key, 11));
}

static void indexes_and_sources(void **state)
{
	struct world *w = *state;
	AUTO(ffs_source) struct ffs_source got = {0};
	AUTO(ffs_keys) struct ffs_keys keys = FFS_KEYS_INIT;
	struct ffs_source src = {.reference = "127.0.0.1:5000/a/b", .blob_bytes = 77, .media_type = "x/y"};
	struct digest key;
	struct str bytes;

	digest_of("blob", 4, &src.blob);
	digest_of("key", 3, &key);
	assert_false(ffs_index_has(w->store, &key));
	FAILS(ffs_index_map(w->store, &key, &bytes, err), ERR_NOT_FOUND);
	OK(ffs_index_put(w->store, &key, STR("one"), STR_NONE, &src, false, err));
	OK(ffs_index_put(w->store, &key, STR("index bytes"), STR_NONE, &src, true, err));
	assert_true(ffs_index_has(w->store, &key));
	OK(ffs_index_map(w->store, &key, &bytes, err));
	assert_true(str_eqc(bytes, "index bytes"));
	ffs_index_unmap(bytes);
	OK(ffs_index_source(w->store, &key, &got, err));
	assert_string_equal(got.reference, src.reference);
	assert_int_equal(got.blob_bytes, 77);
	assert_true(digest_eq(&got.blob, &src.blob));
	OK(ffs_index_list(w->store, &keys, err));
	assert_int_equal(keys.v.n, 1);
	OK(ffs_index_remove(w->store, &key, err));
	OK(ffs_index_remove(w->store, &key, err));
	assert_false(ffs_index_has(w->store, &key));
	assert_int_equal(entries(w->store, FFS_DIR_INDEX), 0);
}

static void what_is_known_of_a_layer_stays(void **state)
{
	struct world *w = *state;
	AUTO(ffs_source) struct ffs_source got = {0};
	const struct ffs_source other = {
	    .reference = (char *)"127.0.0.1:5000/c", .media_type = (char *)"", .blob = {{1}}};
	struct ffs_source src = other;
	struct digest key;

	digest_of("key", 3, &key);
	src.split = (struct ffs_split){.offset = 5, .packed_bytes = 6, .plain_bytes = 7, .digest = {{2}}};
	src.promised = (struct digest){{3}};
	src.facts = (struct ffs_facts){.diff_id = {{4}}, .of_blob = true, .tree = FFS_TREE_SAME};
	for (unsigned i = 0; i < FFS_PADDED_MAX; i++)
		src.facts.padded[i] = (struct digest){{5, (uint8_t)i}};
	OK(ffs_index_put(w->store, &key, STR("one"), STR_NONE, &src, false, err));
	OK(ffs_index_put(w->store, &key, STR("one"), STR_NONE, &other, false, err));
	OK(ffs_index_source(w->store, &key, &got, err));
	assert_memory_equal(&got.split, &src.split, sizeof(got.split));
	assert_true(digest_eq(&got.promised, &src.promised));
	assert_true(digest_eq(&got.facts.diff_id, &src.facts.diff_id));
	assert_true(got.facts.of_blob);
	assert_int_equal(got.facts.tree, FFS_TREE_SAME);
	assert_memory_equal(got.facts.padded, src.facts.padded, sizeof(got.facts.padded));
}

static int count_pin(void *arg, const char *name, const struct digest *keys, size_t n, struct err *err)
{
	assert_string_equal(name, "image/default/a:b");
	*(size_t *)arg += n;
	return 0;
}

static void pins_are_replaced_and_survive(void **state)
{
	struct world *w = *state;
	struct digest keys[2];
	size_t n = 0;

	digest_of("1", 1, &keys[0]);
	digest_of("2", 1, &keys[1]);
	OK(ffs_pin_put(w->store, "image/default/a:b", keys, 1, err));
	OK(ffs_pin_put(w->store, "image/default/a:b", keys, 2, err));
	ffs_store_close(w->store);
	OK(ffs_store_open(w->dir, &w->store, err));
	/* A damaged file is passed over. */
	AUTO_FD int fd =
	    openat(ffs_store_dir(w->store, FFS_DIR_PINS),
	           "00000000000000000000000000000000000000000000000000000000000000aa", O_WRONLY | O_CREAT, 0600);
	OK(fd_write_all(fd, STR("{\"keys\":[\"zz\"]}"), err));
	OK(ffs_pin_list(w->store, count_pin, &n, err));
	assert_int_equal(n, 2);
	OK(ffs_pin_remove(w->store, "image/default/a:b", err));
	OK(ffs_pin_remove(w->store, "image/default/a:b", err));
	n = 0;
	OK(ffs_pin_list(w->store, count_pin, &n, err));
	assert_int_equal(n, 0);
}

/* A layer that was false and is gone; it was found so `age_s` ago. */
static void leave_alone(struct world *w, unsigned i, int64_t age_s, struct digest *key)
{
	struct ffs_source src = {.reference = (char *)"127.0.0.1:1/a", .media_type = (char *)"", .blob_bytes = 1};
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - age_s}};
	char name[80], hex[65];

	digest_of(&i, sizeof(i), key);
	src.blob = src.facts.diff_id = *key;
	src.facts.of_blob = true;
	src.facts.tree = FFS_TREE_DIFFERS;
	OK(ffs_index_put(w->store, key, STR("index"), STR_NONE, &src, false, err));
	OK(ffs_index_remove(w->store, key, err));
	snprintf(name, sizeof(name), "%s.source", digest_hex(key, hex));
	assert_int_equal(utimensat(ffs_store_dir(w->store, FFS_DIR_INDEX), name, times, 0), 0);
}

static bool is_known(struct world *w, const struct digest *key)
{
	AUTO(ffs_source) struct ffs_source src = {0};

	return ffs_index_source(w->store, key, &src, NULL) >= 0 && ffs_facts_always_false(&src.facts);
}

/* What is left of false layers is bounded: by age, and by number. */
static void old_knowledge_is_forgotten(void **state)
{
	struct world *w = *state;
	struct digest keys[FFS_ALONE_MAX + 2], old, index;
	struct ffs_source src = {.reference = (char *)"127.0.0.1:1/a", .media_type = (char *)""};
	const struct timespec epoch[2] = {0};
	char name[80], hex[65];

	leave_alone(w, 100000, FFS_ALONE_S + 60, &old);
	for (unsigned i = 0; i < FFS_ALONE_MAX + 2; i++)
		leave_alone(w, i, 10 * i, &keys[i]);
	/* That of a layer that is here stays, however old. */
	digest_of("index", 5, &index);
	src.blob = index;
	OK(ffs_index_put(w->store, &index, STR("index"), STR_NONE, &src, false, err));
	snprintf(name, sizeof(name), "%s.source", digest_hex(&index, hex));
	assert_int_equal(utimensat(ffs_store_dir(w->store, FFS_DIR_INDEX), name, epoch, 0), 0);
	OK(ffs_index_forget_old(w->store, err));
	assert_false(is_known(w, &old));
	for (unsigned i = 0; i < FFS_ALONE_MAX + 2; i++)
		assert_int_equal(is_known(w, &keys[i]), i < FFS_ALONE_MAX);
	assert_true(ffs_index_has(w->store, &index));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(nothing_shows_before_it_is_published),
	    TEST(known_contents_are_not_written_again),
	    TEST(two_batches_may_bring_the_same),
	    TEST(a_dropped_batch_leaves_nothing),
	    TEST(what_a_dead_process_left_is_swept),
	    TEST(lengths_are_checked),
	    TEST(holes_are_zeros),
	    TEST(an_alias_is_the_same_file),
	    TEST(indexes_and_sources),
	    TEST(what_is_known_of_a_layer_stays),
	    TEST(old_knowledge_is_forgotten),
	    TEST(pins_are_replaced_and_survive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
