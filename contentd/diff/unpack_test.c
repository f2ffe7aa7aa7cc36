/* Layers into directories: what OCI layers mean, and every way out of the directory that a hostile one may try. */
#include "base/testing.h"

#include "base/file.h"
#include "contentd/diff/layer_out.h"
#include "contentd/diff/unpack.h"
#include "estargz/tar/tar_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

/* <dir>/root is unpacked into; what lies beside it is not to be touched. */
struct world {
	char dir[64];
	int dir_fd, root;
	struct buf tar;
};

static void put(int fd, const char *path, const char *text)
{
	AUTO_FD int f = openat(fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	assert_true(f >= 0);
	OK(fd_write_all(f, str_of(text), err));
}

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	strcpy(w->dir, "/tmp/diff-unpack-test-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put(w->dir_fd, "outside", "untouched");
	if (mkdirat(w->dir_fd, "root", 0755) < 0)
		return -1;
	w->root = openat(w->dir_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	AUTO_FD int tmp = open("/tmp", O_RDONLY | O_DIRECTORY);
	struct world *w = *state;
	int r;

	close(w->root);
	close(w->dir_fd);
	r = dir_remove(tmp, w->dir + strlen("/tmp/"), NULL);
	buf_fini(&w->tar);
	free(w);
	return r;
}

/* ---- layers ---- */

static void add_with(struct world *w, const struct esgz_entry *e, const char *text, const struct esgz_xattr *x,
                     uint32_t n)
{
	OK(tar_write_header(e, x, n, &w->tar, err));
	buf_adds(&w->tar, text);
	tar_write_padding(strlen(text), &w->tar);
}

static void add(struct world *w, enum esgz_type type, const char *path, const char *text)
{
	struct esgz_entry e = {
	    .type = type, .path = str_of(path), .mode = type == ESGZ_DIR ? 0755 : 0644, .mtime_s = 1000};

	if (type == ESGZ_REG)
		e.size = strlen(text);
	else
		e.link = str_of(text);
	add_with(w, &e, type == ESGZ_REG ? text : "", NULL, 0);
}

static void file(struct world *w, const char *path, const char *text)
{
	add(w, ESGZ_REG, path, text);
}

static void folder(struct world *w, const char *path)
{
	add(w, ESGZ_DIR, path, "");
}

static void link_to(struct world *w, const char *target, const char *path)
{
	add(w, ESGZ_SYMLINK, path, target);
}

static void hard(struct world *w, const char *target, const char *path)
{
	add(w, ESGZ_HARDLINK, path, target);
}

static int unpack(struct world *w, struct unpacked *out, struct err *err)
{
	AUTO_FD int fd = -1;
	struct unpacked unused;
	int r;

	buf_addz(&w->tar, 2 * TAR_BLOCK);
	TRY(memfd_of("layer", buf_str(&w->tar), &fd, err));
	r = diff_unpack(fd, w->root, NULL, out ?: &unused, err);
	buf_clear(&w->tar);
	return r;
}

/* ---- what came of it ---- */

static void expect(int fd, const char *path, const char *text)
{
	AUTO(buf) struct buf got = BUF_INIT;

	OK(file_read(fd, path, 1 << 20, &got, err));
	assert_string_equal(buf_cstr(&got), text);
}

static struct stat look(int fd, const char *path)
{
	struct stat st = {0};

	if (fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		st.st_mode = 0;
	return st;
}

static bool has(int fd, const char *path)
{
	return look(fd, path).st_mode;
}

static void untouched(struct world *w)
{
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	unsigned n = 0;

	expect(w->dir_fd, "outside", "untouched");
	assert_int_equal(look(w->dir_fd, "outside").st_nlink, 1);
	assert_int_equal(look(w->dir_fd, "outside").st_mode & 07777, 0644);
	OK(dir_iter_open(w->dir_fd, &d, err));
	while (dir_iter_next(d, &e, NULL) > 0)
		n++;
	assert_int_equal(n, 2);
}

/* ---- links that lead elsewhere ---- */

static void links_stay_inside(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *absolute = xasprintf("%s/outside", w->dir);

	folder(w, "etc");
	link_to(w, "/etc", "absolute");
	file(w, "absolute/one", "1");
	link_to(w, "../../../../../../../../etc", "upwards");
	file(w, "upwards/two", "2");
	link_to(w, "absolute", "first");
	link_to(w, "first", "second");
	file(w, "second/three", "3");
	link_to(w, "/nowhere/yet", "dangling");
	file(w, "dangling/four", "4");
	link_to(w, "..", "etc/up");
	file(w, "etc/up/etc/up/etc/five", "5");
	folder(w, "deep");
	link_to(w, "/etc", "deep/link"); /* from the root, not from where it is */
	file(w, "deep/link/six", "6");
	OK(unpack(w, NULL, err));
	expect(w->root, "etc/one", "1");
	expect(w->root, "etc/two", "2");
	expect(w->root, "etc/three", "3");
	expect(w->root, "nowhere/yet/four", "4");
	expect(w->root, "etc/five", "5");
	expect(w->root, "etc/six", "6");
	untouched(w);
	/* A link in the way of a file is replaced, never written through. */
	link_to(w, absolute, "sneaky");
	file(w, "sneaky", "mine");
	link_to(w, "../outside", "sneaky2");
	file(w, "sneaky2", "mine");
	folder(w, "sneaky3");
	link_to(w, "..", "sneaky3");
	folder(w, "sneaky3");
	OK(unpack(w, NULL, err));
	expect(w->root, "sneaky", "mine");
	expect(w->root, "sneaky2", "mine");
	assert_true(S_ISDIR(look(w->root, "sneaky3").st_mode));
	untouched(w);
}

static void links_without_end(void **state)
{
	struct world *w = *state;

	link_to(w, "b", "a");
	link_to(w, "a", "b");
	file(w, "a/file", "x");
	FAILS(unpack(w, NULL, err), ERR_INVALID);
}

static void names_cannot_climb(void **state)
{
	struct world *w = *state;

	file(w, "../outside", "changed");
	file(w, "/../../outside2", "2");
	file(w, "a/../../../b/./c", "3");
	OK(unpack(w, NULL, err));
	expect(w->root, "outside", "changed");
	expect(w->root, "outside2", "2");
	expect(w->root, "b/c", "3");
	untouched(w);
}

static void hard_links_stay_inside(void **state)
{
	static const char *const targets[] = {"../outside", "/../outside", "x/../../outside", "up/outside",
	                                      "up/../outside"};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		link_to(w, "..", "up");
		folder(w, "x");
		hard(w, targets[i], "stolen");
		FAILS(unpack(w, NULL, err), ERR_NOT_FOUND);
		assert_false(has(w->root, "stolen"));
		untouched(w);
	}
	/* One to a link is another name of the link. */
	link_to(w, "../outside", "link");
	hard(w, "link", "same");
	hard(w, "same", "same");
	OK(unpack(w, NULL, err));
	assert_true(S_ISLNK(look(w->root, "same").st_mode));
	untouched(w);
	folder(w, "d");
	hard(w, "d", "of-a-directory");
	assert_true(unpack(w, NULL, NULL) < 0);
	hard(w, "missing", "h");
	FAILS(unpack(w, NULL, err), ERR_NOT_FOUND);
}

static void whiteouts_stay_inside(void **state)
{
	static const char *const bad[] = {".wh.", ".wh..", ".wh...", "d/.wh..", "d/.wh...", "d/.wh."};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		folder(w, "d");
		file(w, bad[i], "");
		FAILS(unpack(w, NULL, err), ERR_INVALID);
	}
	link_to(w, "/..", "up");
	file(w, "up/.wh.outside", "");
	file(w, "up/.wh..wh..opq", "");
	file(w, "missing/.wh.x", "");
	OK(unpack(w, NULL, err));
	untouched(w);
}

static void attributes_stay_inside(void **state)
{
	struct esgz_entry e = {
	    .type = ESGZ_SYMLINK, .path = STR("l"), .link = STR("../outside"), .uid = 7, .mode = 0777};
	struct world *w = *state;

	add_with(w, &e, "", &(struct esgz_xattr){STR("user.x"), STR("y")}, 1);
	OK(unpack(w, NULL, err));
	assert_int_equal(look(w->root, "l").st_uid, 7);
	assert_int_equal(look(w->dir_fd, "outside").st_uid, 0);
	untouched(w);
}

static void the_root_is_a_directory(void **state)
{
	struct world *w = *state;

	file(w, "/", "x");
	FAILS(unpack(w, NULL, err), ERR_INVALID);
	link_to(w, "..", "./");
	FAILS(unpack(w, NULL, err), ERR_INVALID);
	file(w, "plain", "x");
	file(w, "plain/below", "y");
	FAILS(unpack(w, NULL, err), ERR_INVALID);
}

/* ---- what layers mean ---- */

static void whiteouts_and_replacements(void **state)
{
	struct world *w = *state;

	folder(w, "dir");
	folder(w, "dir/sub");
	file(w, "dir/sub/old", "old");
	file(w, "dir/file", "old");
	file(w, "gone", "x");
	folder(w, "gone-dir");
	file(w, "gone-dir/x", "x");
	file(w, "becomes-dir", "x");
	folder(w, "becomes-file");
	file(w, "becomes-file/x", "x");
	folder(w, "both");
	file(w, "both/old", "x");
	folder(w, "aufs");
	OK(unpack(w, NULL, err));
	file(w, ".wh.gone", "");
	file(w, ".wh.gone-dir", "");
	file(w, "dir/sub/new", "new");
	file(w, "dir/.wh..wh..opq", ""); /* after what the layer brings */
	file(w, "dir/later", "later");
	folder(w, "becomes-dir");
	file(w, "becomes-file", "file");
	folder(w, "both");
	file(w, "both/new", "x");
	file(w, ".wh.both", "");
	file(w, "aufs/.wh..wh.plnk", "");
	file(w, ".wh.never-was", "");
	OK(unpack(w, NULL, err));
	assert_false(has(w->root, "gone"));
	assert_false(has(w->root, "gone-dir"));
	assert_false(has(w->root, "dir/file"));
	assert_false(has(w->root, "dir/sub/old"));
	expect(w->root, "dir/sub/new", "new");
	expect(w->root, "dir/later", "later");
	assert_true(S_ISDIR(look(w->root, "becomes-dir").st_mode));
	expect(w->root, "becomes-file", "file");
	assert_false(has(w->root, "both/old"));
	assert_true(has(w->root, "both/new"));
	assert_false(has(w->root, "aufs/.wh..wh.plnk"));
	assert_false(has(w->root, ".wh.never-was"));
}

static void attributes(void **state)
{
	const struct esgz_xattr x[] = {{STR("user.mark"), STR("a\0b")},
	                               {STR("trusted.overlay.redirect"), STR("/etc/shadow")},
	                               {STR("user.overlay.opaque"), STR("y")}};
	struct esgz_entry e = {.type = ESGZ_REG,
	                       .path = STR("f"),
	                       .mode = 06755,
	                       .uid = 70000,
	                       .gid = 3000000,
	                       .mtime_s = -5,
	                       .mtime_ns = 250000000,
	                       .size = 4};
	struct esgz_entry dev = {.type = ESGZ_CHAR, .path = STR("null"), .mode = 0666, .dev_major = 1, .dev_minor = 3};
	struct esgz_entry dir = {.type = ESGZ_DIR, .path = STR("d"), .mode = 01770, .mtime_s = 123, .mtime_ns = 9};
	struct world *w = *state;
	char value[8];
	struct stat st;

	add_with(w, &e, "text", x, ARRAY_LEN(x));
	add_with(w, &dir, "", NULL, 0);
	file(w, "d/inside", "x");
	add_with(w, &dev, "", NULL, 0);
	dev.path = STR("whiteout");
	dev.dev_major = dev.dev_minor = 0;
	add_with(w, &dev, "", NULL, 0);
	add(w, ESGZ_FIFO, "pipe", "");
	file(w, "stargz.index.json", "{}");
	OK(unpack(w, NULL, err));
	st = look(w->root, "f");
	assert_int_equal(st.st_mode & 07777, 06755);
	assert_int_equal(st.st_uid, 70000);
	assert_int_equal(st.st_gid, 3000000);
	assert_int_equal(st.st_mtim.tv_sec, -5);
	assert_int_equal(st.st_mtim.tv_nsec, 250000000);
	st = look(w->root, "d");
	assert_int_equal(st.st_mode & 07777, 01770);
	assert_int_equal(st.st_mtim.tv_sec, 123);
	assert_int_equal(st.st_mtim.tv_nsec, 9);
	st = look(w->root, "null");
	assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
	assert_true(S_ISFIFO(look(w->root, "pipe").st_mode));
	assert_false(has(w->root, "whiteout"));
	assert_false(has(w->root, "stargz.index.json"));
	assert_int_equal(fchdir(w->root), 0);
	assert_int_equal(getxattr("f", "user.mark", value, sizeof(value)), 3);
	assert_memory_equal(value, "a\0b", 3);
	assert_int_equal(getxattr("f", "trusted.overlay.redirect", value, sizeof(value)), -1);
	assert_int_equal(getxattr("f", "user.overlay.opaque", value, sizeof(value)), -1);
	assert_int_equal(chdir("/"), 0);
	/* Something comes into a directory that the layer does not mean: it keeps its time. */
	file(w, "d/more", "x");
	file(w, "d/.wh.inside", "");
	OK(unpack(w, NULL, err));
	assert_int_equal(look(w->root, "d").st_mtim.tv_sec, 123);
	assert_false(has(w->root, "d/inside"));
}

static int collect(void *arg, struct str bytes, struct err *err)
{
	buf_addstr(arg, bytes);
	return 0;
}

static void unpack_as(struct world *w, enum esgz_compression kind)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf blob = BUF_INIT;
	AUTO(layer_out) struct layer_out *out = NULL;
	AUTO_FD int fd = -1;
	struct unpacked got;
	struct digest want, told;

	buf_clear(&w->tar);
	for (int i = 0; i < 300; i++) {
		char name[32];

		snprintf(name, sizeof(name), "file%d", i);
		file(w, name, name);
	}
	buf_addz(&w->tar, 20 * TAR_BLOCK); /* what stands behind the end counts, too */
	digest_of(w->tar.p, w->tar.n, &want);
	OK(layer_out_new(kind, collect, &blob, &out, err));
	OK(layer_out_write(out, buf_str(&w->tar), err));
	OK(layer_out_finish(out, &told, err));
	assert_true(digest_eq(&told, &want));
	OK(memfd_of("blob", buf_str(&blob), &fd, err));
	OK(diff_unpack(fd, w->root, NULL, &got, err));
	assert_true(digest_eq(&got.diff_id, &want));
	assert_int_equal(got.plain_bytes, w->tar.n);
	expect(w->root, "file299", "file299");
	/* Cut off, it is an error; but a plain archive may leave out what comes behind its last file, padding too. */
	for (size_t cut = 1; cut < blob.n; cut += blob.n / 7) {
		AUTO_FD int part = -1;
		struct err why = ERR_INIT;

		if (kind == ESGZ_PLAIN && cut % (2 * TAR_BLOCK) >= TAR_BLOCK)
			continue;
		OK(memfd_of("blob", str_make(blob.p, cut), &part, err));
		if (diff_unpack(part, w->root, NULL, &got, &why) >= 0)
			fail_msg("compression %d, cut at %zu of %zu", kind, cut, blob.n);
	}
}

static void sparse_files(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *make =
	    xasprintf("cd %s && truncate -s 3M holes && printf end >> holes && truncate -s 5M holes && "
	              "tar -cS --hole-detection=raw --format=pax -f layer holes && rm holes",
	              w->dir);
	AUTO(buf) struct buf want = BUF_INIT;
	AUTO(buf) struct buf got = BUF_INIT;

	assert_int_equal(system(make), 0);
	OK(file_read(w->dir_fd, "layer", 1 << 20, &w->tar, err));
	assert_int_equal(unlinkat(w->dir_fd, "layer", 0), 0);
	OK(unpack(w, NULL, err));
	buf_addz(&want, 3 << 20);
	buf_adds(&want, "end");
	buf_addz(&want, (5 << 20) - want.n);
	OK(file_read(w->root, "holes", 8 << 20, &got, err));
	assert_true(str_eq(buf_str(&got), buf_str(&want)));
	assert_true(look(w->root, "holes").st_blocks * 512 < 1 << 20);
	untouched(w);
}

static void compressions(void **state)
{
	unpack_as(*state, ESGZ_PLAIN);
	unpack_as(*state, ESGZ_GZIP);
	unpack_as(*state, ESGZ_ZSTD);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {TEST(links_stay_inside),
	                                   TEST(links_without_end),
	                                   TEST(names_cannot_climb),
	                                   TEST(hard_links_stay_inside),
	                                   TEST(whiteouts_stay_inside),
	                                   TEST(attributes_stay_inside),
	                                   TEST(the_root_is_a_directory),
	                                   TEST(whiteouts_and_replacements),
	                                   TEST(attributes),
	                                   TEST(sparse_files),
	                                   TEST(compressions)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
