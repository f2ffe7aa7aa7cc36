#include "estargz/erofs/erofs_xattrs.h"
#include "estargz/index/index_format.h"
#include "estargz/testing/test_stack.h"

#include "base/testing.h"

#include <stdio.h>
#include <sys/stat.h>

/* ---- random stacks: the image must be what extraction gives ---- */

static void test_random_stacks(void **state)
{
	for (uint32_t seed = 0; seed < 300; seed++) {
		AUTO(stack) struct stack s = {0};
		AUTO(stack_image) struct stack_image im = {0};
		AUTO(buf) struct buf want = BUF_INIT;
		AUTO(buf) struct buf got = BUF_INIT;
		struct err err = ERR_INIT;
		char what[32];

		stack_random(&s, seed);
		snprintf(what, sizeof(what), "stack %u", seed);
		if (stack_build(&s, &im, &err) < 0)
			fail_msg("%s: %s", what, err.msg);
		if (image_dump(buf_str(&im.image), DUMP_DIR_NLINK | DUMP_CONTENT, &got, &err) < 0)
			fail_msg("%s: %s", what, err.msg);
		stack_dump(&s, DUMP_DIR_NLINK | DUMP_CONTENT, &want);
		assert_same_dump(&got, &want, what);
	}
}

static void test_deterministic(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(stack_image) struct stack_image a = {0};
	AUTO(stack_image) struct stack_image b = {0};

	stack_random(&s, 4);
	assert_int_equal(stack_build(&s, &a, NULL), 0);
	assert_int_equal(stack_build(&s, &b, NULL), 0);
	assert_true(str_eq(buf_str(&a.image), buf_str(&b.image)));
	assert_int_equal(a.image.n % 4096, 0);
}

/* ---- the reader ---- */

struct open_image {
	struct stack stack;
	struct stack_image im;
	struct esgz_erofs *fs;
};

static void open_image_fini(struct open_image *o)
{
	esgz_erofs_close(o->fs);
	stack_image_fini(&o->im);
	stack_fini(&o->stack);
}
DEFINE_AUTO_FINI(open_image);

static void open_image(struct open_image *o)
{
	struct err err = ERR_INIT;

	if (stack_build(&o->stack, &o->im, &err) < 0 || esgz_erofs_open(buf_str(&o->im.image), &o->fs, &err) < 0)
		fail_msg("%s", err.msg);
}

static uint64_t path_nid(const struct open_image *o, const char *path)
{
	uint64_t nid = ESGZ_EROFS_ROOT;

	for (struct str rest = str_of(path), name; str_split(&rest, '/', &name);)
		if (esgz_erofs_lookup(o->fs, nid, name, &nid, NULL) < 0)
			fail_msg("%s is not there", path);
	return nid;
}

static void test_root_hides_objects(void **state)
{
	AUTO(open_image) struct open_image o = {0};
	struct esgz_erofs_stat st;
	uint64_t nid;
	struct err err = ERR_INIT;

	stack_push(&o.stack);
	stack_add(&o.stack, ESGZ_DIR, "ab"); /* a name that objects use, too */
	stack_file(&o.stack, "ff", 3, 1);
	stack_file(&o.stack, "sub/00", 3, 1);
	open_image(&o);
	assert_int_equal(esgz_erofs_lookup(o.fs, ESGZ_EROFS_ROOT, STR("00"), &nid, &err), -ERR_NOT_FOUND);
	assert_int_equal(esgz_erofs_lookup(o.fs, ESGZ_EROFS_ROOT, STR("fe"), &nid, &err), -ERR_NOT_FOUND);
	assert_int_equal(esgz_erofs_stat(o.fs, path_nid(&o, "ab"), &st, NULL), 0);
	assert_true(S_ISDIR(st.mode));
	assert_int_equal(esgz_erofs_stat(o.fs, path_nid(&o, "ff"), &st, NULL), 0);
	assert_true(S_ISREG(st.mode));
	path_nid(&o, "sub/00");
	assert_int_equal(esgz_erofs_stat(o.fs, ESGZ_EROFS_ROOT, &st, NULL), 0);
	assert_int_equal(st.nlink, 4);
}

struct collected {
	VEC(char *) names;
	uint64_t next;
	size_t stop_after;
};

static bool collect(void *arg, struct str name, uint64_t nid, uint32_t mode, uint64_t next)
{
	struct collected *c = arg;

	vec_push(&c->names, xstrndup(name.p, name.n));
	c->next = next;
	return c->names.n % c->stop_after != 0;
}

static void test_big_directory(void **state)
{
	AUTO(open_image) struct open_image o = {0};
	struct collected c = {.stop_after = 77};
	struct esgz_erofs_stat st;
	uint64_t dir, nid;
	struct err err = ERR_INIT;
	size_t n;

	stack_push(&o.stack);
	for (unsigned i = 0; i < 50000; i++) {
		char path[32];

		snprintf(path, sizeof(path), "big/%x-%u", i * 2654435761u, i);
		stack_file(&o.stack, path, i % 3, i % 3 > 0);
	}
	stack_file(&o.stack, "big/!first", 0, 0);
	stack_file(&o.stack, "big/~last", 0, 0);
	open_image(&o);
	dir = path_nid(&o, "big");
	vec_each(&o.stack.layers.p[0].entries, e) {
		nid = path_nid(&o, e->path);
		assert_int_equal(esgz_erofs_stat(o.fs, nid, &st, NULL), 0);
		assert_int_equal(st.size, e->size);
	}
	assert_int_equal(esgz_erofs_lookup(o.fs, dir, STR("~lost"), &nid, &err), -ERR_NOT_FOUND);
	assert_int_equal(esgz_erofs_lookup(o.fs, dir, STR(" "), &nid, &err), -ERR_NOT_FOUND);
	do { /* in many calls, as a file system gets them */
		n = c.names.n;
		assert_int_equal(esgz_erofs_readdir(o.fs, dir, c.next, collect, &c, NULL), 0);
	} while (c.names.n > n);
	assert_int_equal(c.names.n, 50004);
	for (size_t i = 1; i < c.names.n; i++)
		assert_true(strcmp(c.names.p[i - 1], c.names.p[i]) < 0);
	vec_each(&c.names, it)
		free(*it);
	vec_fini(&c.names);
}

static void test_huge_files(void **state)
{
	static const uint64_t sizes[] = {4096,      4097, (4ull << 30) - 1, 4ull << 30, 5ull << 40, (8ull << 40) + 1,
	                                 1ull << 50};
	AUTO(open_image) struct open_image o = {0};
	AUTO(stack_image) struct stack_image im = {0};
	struct esgz_erofs_stat st;
	char path[16];
	struct err err = ERR_INIT;

	stack_push(&o.stack);
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		snprintf(path, sizeof(path), "f%u", i);
		stack_file(&o.stack, path, sizes[i], 0);
	}
	open_image(&o);
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		snprintf(path, sizeof(path), "f%u", i);
		assert_int_equal(esgz_erofs_stat(o.fs, path_nid(&o, path), &st, NULL), 0);
		assert_int_equal(st.size, sizes[i]);
	}
	stack_file(&o.stack, "beyond", (1ull << 50) + 1, 0);
	assert_int_equal(stack_build(&o.stack, &im, &err), -ERR_INVALID);
}

struct xattr_list {
	const struct stack_entry *want;
	unsigned found, n;
};

static bool match_xattr(void *arg, struct str name, struct str value)
{
	struct xattr_list *l = arg;

	l->n++;
	for (uint32_t i = 0; i < l->want->n_xattrs; i++)
		if (str_eqc(name, l->want->xattrs[i].name) && str_eq(value, buf_str(&l->want->xattrs[i].value)))
			l->found++;
	return true;
}

static void test_xattrs(void **state)
{
	static const char *const names[] = {"user.x", "trusted.y", "security.capability", "system.posix_acl_access",
	                                    "system.posix_acl_default"};
	AUTO(open_image) struct open_image o = {0};
	AUTO_FREE char *large = xcalloc(1, 65535);
	char name[256];
	const char *at;

	memset(large, 'l', 65535);
	memset(name, 'n', sizeof(name) - 1);
	name[255] = 0;
	memcpy(name, "user.", 5);
	stack_push(&o.stack);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		struct stack_entry *e = stack_file(&o.stack, names[i], i, i > 0);

		stack_xattr(e, names[i], "value", i);
		stack_xattr(e, "user.shared", "shared by all", 13);
		if (i == 1)
			stack_xattr(e, "user.large", large, 65535);
		if (i == 2)
			stack_xattr(e, name, "", 0);
	}
	open_image(&o);
	vec_each(&o.stack.layers.p[0].entries, e) {
		struct xattr_list l = {.want = e};

		assert_int_equal(esgz_erofs_xattrs(o.fs, path_nid(&o, e->path), match_xattr, &l, NULL), 0);
		assert_int_equal(l.found, e->n_xattrs);
		assert_int_equal(l.n, e->n_xattrs);
	}
	/* What all have is there once. */
	at = memmem(o.im.image.p, o.im.image.n, "shared by all", 13);
	assert_non_null(at);
	assert_null(memmem(at + 1, (size_t)(o.im.image.p + o.im.image.n - at - 1), "shared by all", 13));
}

/* Where the name ends and the value begins makes two of them, NUL bytes or not. */
static void test_xattrs_are_told_apart(void **state)
{
	static const struct {
		struct str rest, value;
	} pairs[] = {{STR("a"), STR("b\0c")},
	             {STR("a\0b"), STR("c")},
	             {STR("ab"), STR("c")},
	             {STR("a"), STR("bc")},
	             {STR(""), STR("abc")}};
	AUTO(erofs_xattrs) struct erofs_xattrs x = {0};

	for (unsigned round = 0; round < 2; round++)
		for (uint32_t i = 0; i < ARRAY_LEN(pairs); i++)
			assert_int_equal(erofs_xattrs_add(&x, 1, pairs[i].rest, pairs[i].value), i);
	assert_int_equal(erofs_xattrs_add(&x, 2, pairs[0].rest, pairs[0].value), ARRAY_LEN(pairs));
}

/* A small index can say that many files have many xattrs: here all have those of the first. */
static void test_xattrs_are_bounded_in_sum(void **state)
{
	AUTO(stack_image) struct stack_image im = {0};
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	const struct esgz_index_info info = {.trust = ESGZ_TRUST_DIFFID};
	struct buf *file = vec_add(&im.indexes);
	const uint32_t n = (16u << 20) / ESGZ_XATTRS_MAX;
	struct esgz_xattr x[ESGZ_XATTRS_MAX];
	char names[ESGZ_XATTRS_MAX][16], path[16];
	struct esgz_index *ix;

	for (unsigned i = 0; i < ESGZ_XATTRS_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "user.%u", i);
		x[i] = (struct esgz_xattr){str_of(names[i]), STR("v")};
	}
	for (uint32_t i = 0; i < n; i++) {
		struct esgz_entry e = {.type = ESGZ_FIFO};

		snprintf(path, sizeof(path), "f%u", i);
		e.path = str_of(path);
		OK(esgz_index_add(b, &e, x, i ? 0 : ESGZ_XATTRS_MAX, NULL, 0, NULL, err));
	}
	OK(esgz_index_finish(b, &info, file, err));
	for (uint32_t i = 0; i <= n; i++)
		put_le32(file->p + H_END + (size_t)i * ENTRY_BYTES + E_ATTR, 1);
	put_le64(file->p + H_CRC, index_crc(file->p, file->n));
	OK(esgz_index_open(buf_str(file), &ix, err));
	vec_push(&im.opened, ix);
	OK(esgz_tree_build((const struct esgz_index *const *)im.opened.p, 1, &im.tree, err));
	FAILS(esgz_erofs_write(im.tree, NULL, NULL, &im.image, err), ERR_EXHAUSTED);
}

/* Namespaces that EROFS does not have are left out, an oversized value is refused. */
static void test_xattrs_that_do_not_fit(void **state)
{
	AUTO(open_image) struct open_image o = {0};
	AUTO(stack_image) struct stack_image im = {0};
	AUTO_FREE char *large = xcalloc(1, 65536);
	struct stack_entry *e;
	struct xattr_list l;
	struct err err = ERR_INIT;

	stack_push(&o.stack);
	e = stack_file(&o.stack, "f", 1, 1);
	stack_xattr(e, "com.example.other", "x", 1);
	stack_xattr(e, "trusted.overlay.redirect", "/00/11", 6);
	stack_xattr(e, "system.posix_acl_accessory", "x", 1);
	open_image(&o);
	l = (struct xattr_list){.want = e};
	assert_int_equal(esgz_erofs_xattrs(o.fs, path_nid(&o, "f"), match_xattr, &l, NULL), 0);
	assert_int_equal(l.n, 0);
	stack_xattr(e, "user.too.large", large, 65536);
	assert_int_equal(stack_build(&o.stack, &im, &err), -ERR_INVALID);
	assert_non_null(strstr(err.msg, "/f"));
}

static void test_long_symlinks(void **state)
{
	AUTO(open_image) struct open_image o = {0};
	char target[4096], path[16];

	memset(target, 't', sizeof(target));
	stack_push(&o.stack);
	for (unsigned n = 4095; n > 0; n = n * 2 / 3) {
		target[n] = 0;
		snprintf(path, sizeof(path), "l%u", n);
		stack_link(&o.stack, ESGZ_SYMLINK, path, target);
	}
	open_image(&o);
	vec_each(&o.stack.layers.p[0].entries, e) {
		struct str link;

		assert_int_equal(esgz_erofs_readlink(o.fs, path_nid(&o, e->path), &link, NULL), 0);
		assert_true(str_eqc(link, e->link));
	}
}

static void test_objects(void **state)
{
	AUTO(open_image) struct open_image o = {0};
	struct digest key, claim;
	struct err err = ERR_INIT;

	stack_push(&o.stack);
	stack_file(&o.stack, "empty", 0, 0);
	stack_file(&o.stack, "claimed-one", 100, 1)->content.b[31] = 0;
	stack_file(&o.stack, "one", 100, 1)->content.b[31] = 1;
	stack_file(&o.stack, "claimed", 1000, 3)->content.b[31] = 0;
	stack_file(&o.stack, "published", 1000, 3)->content.b[31] = 1;
	stack_push(&o.stack);
	stack_file(&o.stack, "unpacked", 1000, 0)->content.b[31] = 0;
	open_image(&o);
	assert_int_equal(esgz_erofs_object(o.fs, path_nid(&o, "unpacked"), &key, NULL), 0);
	assert_true(digest_eq(&key, &o.stack.layers.p[1].entries.p[0].content));
	vec_each(&o.stack.layers.p[0].entries, e) {
		int r = esgz_erofs_object(o.fs, path_nid(&o, e->path), &key, &err);

		if (e->size == 0) {
			assert_int_equal(r, -ERR_NOT_FOUND);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(digest_eq(&key, &e->content), strncmp(e->path, "claimed", 7) != 0);
		if (!strncmp(e->path, "claimed", 7)) {
			struct esgz_entry ie;

			for (uint32_t i = 0; i < esgz_index_get_info(o.im.opened.p[0])->n_entries; i++) {
				esgz_index_entry(o.im.opened.p[0], i, &ie);
				if (str_eqc(ie.path, e->path))
					claim = ie.claim;
			}
			assert_true(digest_eq(&key, &claim));
		}
	}
	assert_int_equal(esgz_erofs_object(o.fs, ESGZ_EROFS_ROOT, &key, &err), -ERR_NOT_FOUND);
	assert_int_equal(esgz_erofs_readlink(o.fs, path_nid(&o, "one"), &(struct str){0}, &err), -ERR_INVALID);
	assert_int_equal(esgz_erofs_lookup(o.fs, path_nid(&o, "one"), STR("x"), &(uint64_t){0}, &err),
	                 -ERR_PRECONDITION);
}

/* Device numbers, times and owners at their limits. */
static void test_limits(void **state)
{
	AUTO(open_image) struct open_image o = {0};
	struct esgz_erofs_stat st;
	struct stack_entry *e;
	AUTO(stack_image) struct stack_image im = {0};
	struct err err = ERR_INIT;

	stack_push(&o.stack);
	e = stack_add(&o.stack, ESGZ_BLOCK, "dev");
	e->dev_major = 4095;
	e->dev_minor = (1 << 20) - 1;
	e->uid = UINT32_MAX;
	e->gid = 65536;
	e->mtime_s = INT64_MIN;
	e->mtime_ns = 999999999;
	open_image(&o);
	assert_int_equal(esgz_erofs_stat(o.fs, path_nid(&o, "dev"), &st, NULL), 0);
	assert_int_equal(st.dev_major, 4095);
	assert_int_equal(st.dev_minor, (1 << 20) - 1);
	assert_int_equal(st.uid, UINT32_MAX);
	assert_int_equal(st.gid, 65536);
	assert_true(st.mtime_s == INT64_MIN);
	assert_int_equal(st.mtime_ns, 999999999);
	e->dev_major = 4096;
	assert_int_equal(stack_build(&o.stack, &im, &err), -ERR_INVALID);
}

static void test_damaged_images(void **state)
{
	AUTO(open_image) struct open_image o = {0};
	AUTO(buf) struct buf copy = BUF_INIT;
	struct esgz_erofs *fs;
	struct err err = ERR_INIT;
	uint32_t r = 1;

	stack_random(&o.stack, 7);
	open_image(&o);
	assert_int_equal(esgz_erofs_open(str_sub(buf_str(&o.im.image), 0, 4096), &fs, &err), -ERR_DATA_LOSS);
	assert_int_equal(esgz_erofs_open(STR_NONE, &fs, &err), -ERR_DATA_LOSS);
	/* Bytes changed at random: an answer or an error, and no access outside (the sanitizers look). */
	for (unsigned i = 0; i < 1000; i++) {
		AUTO(esgz_erofs) struct esgz_erofs *damaged = NULL;
		struct digest key;
		struct str link;

		buf_clear(&copy);
		buf_addstr(&copy, buf_str(&o.im.image));
		for (unsigned k = 0; k < 8; k++) {
			r = r * 1664525 + 1013904223;
			copy.p[(r >> 8) % copy.n] = (char)(r >> 3);
		}
		if (esgz_erofs_open(buf_str(&copy), &damaged, &err) < 0)
			continue;
		for (uint64_t nid = 36; nid < copy.n / 32; nid += 3) {
			struct collected c = {.stop_after = 100};
			uint64_t found;

			esgz_erofs_lookup(damaged, nid, STR("usr"), &found, &err);
			esgz_erofs_readdir(damaged, nid, 0, collect, &c, &err);
			esgz_erofs_readlink(damaged, nid, &link, &err);
			esgz_erofs_object(damaged, nid, &key, &err);
			vec_each(&c.names, it)
				free(*it);
			vec_fini(&c.names);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_stacks),
	    cmocka_unit_test(test_deterministic),
	    cmocka_unit_test(test_root_hides_objects),
	    cmocka_unit_test(test_big_directory),
	    cmocka_unit_test(test_huge_files),
	    cmocka_unit_test(test_xattrs),
	    cmocka_unit_test(test_xattrs_are_told_apart),
	    cmocka_unit_test(test_xattrs_are_bounded_in_sum),
	    cmocka_unit_test(test_xattrs_that_do_not_fit),
	    cmocka_unit_test(test_long_symlinks),
	    cmocka_unit_test(test_objects),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_damaged_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
