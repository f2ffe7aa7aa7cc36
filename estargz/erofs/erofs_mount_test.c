/* Images in the hands of the kernel: mounted alone and below an overlay with a real object directory. Needs root; all
 * mounts are made in a mount namespace of the test's own. */
#include "estargz/testing/test_stack.h"

#include "base/file.h"
#include "base/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define TMP "/var/tmp" /* on a disk: file systems in memory cannot back a mount of EROFS */

struct place {
	char dir[64];
	char image[96], bare[96], objects[96], overlay[96];
};

static int setup(void **state)
{
	struct place *p = xcalloc(1, sizeof(*p));

	snprintf(p->dir, sizeof(p->dir), TMP "/erofs-test-XXXXXX");
	if (!mkdtemp(p->dir) || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		perror("private mount namespace (root is needed)");
		return -1;
	}
	snprintf(p->image, sizeof(p->image), "%s/image", p->dir);
	snprintf(p->bare, sizeof(p->bare), "%s/bare", p->dir);
	snprintf(p->objects, sizeof(p->objects), "%s/objects", p->dir);
	snprintf(p->overlay, sizeof(p->overlay), "%s/overlay", p->dir);
	if (mkdir(p->bare, 0755) || mkdir(p->objects, 0755) || mkdir(p->overlay, 0755))
		return -1;
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	AUTO_FD int tmp = open(TMP, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = dir_remove(tmp, p->dir + strlen(TMP) + 1, NULL);

	free(p);
	return r;
}

static void mount_image(const struct place *p, const struct stack *s)
{
	AUTO(stack_image) struct stack_image im = {0};
	AUTO_FREE char *options = xasprintf("lowerdir=%s::%s", p->bare, p->objects);
	AUTO_FD int fd = -1;
	struct err err = ERR_INIT;

	if (stack_build(s, &im, &err) < 0)
		fail_msg("%s", err.msg);
	fd = open(p->image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, buf_str(&im.image), NULL), 0);
	if (mount(p->image, p->bare, "erofs", MS_RDONLY, ""))
		fail_msg("mount erofs: %s", strerror(errno));
	if (mount("overlay", p->overlay, "overlay", MS_RDONLY, options))
		fail_msg("mount overlay %s: %s", options, strerror(errno));
}

static void unmount_image(const struct place *p)
{
	assert_int_equal(umount2(p->overlay, 0), 0);
	assert_int_equal(umount2(p->bare, 0), 0);
}

/* The checker of erofs-utils has nothing to say. */
static void check_image(const struct place *p)
{
	const char *const argv[] = {"fsck.erofs", p->image, NULL};
	struct spawn sp = {.argv = argv, .stdio = {0, 2, 2}};
	struct err err = ERR_INIT;
	pid_t pid;
	int status;

	if (spawn_start(&sp, &pid, &err) < 0 || spawn_wait(pid, &status, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Model, bare mount and overlay agree in every path. */
static void compare(const struct place *p, const struct stack *s, const char *what)
{
	AUTO(buf) struct buf want = BUF_INIT;
	AUTO(buf) struct buf got = BUF_INIT;

	stack_objects(s, p->objects);
	mount_image(p, s);
	stack_dump(s, DUMP_DIR_NLINK, &want);
	mount_dump(p->bare, DUMP_DIR_NLINK | DUMP_CHECK_BLOCKS, &got);
	assert_same_dump(&got, &want, what);
	buf_clear(&want);
	buf_clear(&got);
	stack_dump(s, DUMP_CONTENT, &want);
	mount_dump(p->overlay, DUMP_CONTENT, &got);
	assert_same_dump(&got, &want, what);
	unmount_image(p);
	check_image(p);
}

static void test_random_stacks(void **state)
{
	for (uint32_t seed = 1000; seed < 1040; seed++) {
		AUTO(stack) struct stack s = {0};
		char what[32];

		snprintf(what, sizeof(what), "stack %u", seed);
		stack_random(&s, seed);
		compare(*state, &s, what);
	}
}

static void test_awkward_names(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf deep = BUF_INIT;
	char name[256], target[4096];

	memset(name, 'n', 255);
	name[255] = 0;
	memset(target, 't', 4095);
	target[4095] = 0;
	stack_push(&s);
	for (unsigned i = 0; i < 40; i++) { /* names of which 15 fill a block */
		snprintf(name + 200, 4, "%03u", i);
		name[203] = 'x';
		stack_file(&s, name, i, i > 0);
	}
	stack_link(&s, ESGZ_SYMLINK, "long", target);
	target[2048] = 0;
	stack_link(&s, ESGZ_SYMLINK, "half", target);
	target[2049] = 0;
	stack_link(&s, ESGZ_SYMLINK, "half+1", target);
	for (unsigned i = 0; i < 300; i++) /* the checker recurses: 900 are too many for its stack */
		buf_adds(&deep, i ? "/d" : "d");
	stack_file(&s, deep.p, 5000, 1);
	stack_file(&s, "a\nb", 1, 1);
	stack_file(&s, "00/11", 1, 1); /* as an object directory of the root */
	stack_file(&s, "\xff\xfe", 1, 1);
	compare(*state, &s, "awkward names");
}

/* Attributes at their limits, and every kind of inode with xattrs inline and shared. */
static void test_attributes(void **state)
{
	/* Version 2; user, group, mask and others: what acl_to_xattr makes of u:1000:rwx. */
	static const uint8_t acl[] = {2, 0,   0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,  7,
	                              0, 232, 3,   0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16, 0,
	                              7, 0,   255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255};
	/* cap_net_raw=ep, VFS_CAP_REVISION_2. */
	static const uint8_t cap[] = {1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	AUTO(stack) struct stack s = {0};
	AUTO_FREE char *large = xcalloc(1, 65535);
	struct stack_entry *e;

	memset(large, 'l', 65535);
	stack_push(&s);
	stack_xattr(stack_add(&s, ESGZ_DIR, ""), "user.root", "r", 1);
	e = stack_add(&s, ESGZ_DIR, "acl");
	e->mode = 0774;
	stack_xattr(e, "system.posix_acl_default", acl, sizeof(acl));
	e = stack_file(&s, "acl/file", 10, 1);
	e->mode = 0674;
	stack_xattr(e, "system.posix_acl_access", acl, sizeof(acl));
	e = stack_file(&s, "ping", 4096, 1);
	e->mode = 04755;
	stack_xattr(e, "security.capability", cap, sizeof(cap));
	for (unsigned i = 0; i < 20; i++) {
		char path[8];

		snprintf(path, sizeof(path), "x%u", i);
		e = stack_file(&s, path, i % 2 * 100, i % 2);
		stack_xattr(e, "user.same", "in all", 6);
		stack_xattr(e, "user.large", large, i % 2 ? 65535 : 3000);
		stack_xattr(e, "trusted.own", path, strlen(path));
		e->uid = 65535 + i;
		e->gid = 4000000000u;
		e->mtime_s = i % 2 ? -1000000000000 : 1000000000000;
		e->mtime_ns = i;
	}
	e = stack_link(&s, ESGZ_SYMLINK, "link", "x1");
	stack_xattr(e, "trusted.link", "l", 1);
	e = stack_add(&s, ESGZ_CHAR, "c");
	e->dev_major = 4095;
	e->dev_minor = 0xfffff;
	e = stack_add(&s, ESGZ_BLOCK, "b");
	e->dev_minor = 256;
	stack_xattr(stack_add(&s, ESGZ_FIFO, "fifo"), "trusted.fifo", "f", 1);
	for (unsigned i = 0; i < 300; i++) {
		char path[16];

		snprintf(path, sizeof(path), "link%u", i);
		stack_link(&s, ESGZ_HARDLINK, path, "ping");
	}
	stack_push(&s);
	stack_file(&s, "4G", 4ull << 30, 0);
	stack_file(&s, "9T", (9ull << 40) + 5, 0);
	compare(*state, &s, "attributes");
}

/* Very many blocks of names, and more links than 16 bits count. */
static void test_big_directory(void **state)
{
	AUTO(stack) struct stack s = {0};
	const struct place *p = *state;
	AUTO(buf) struct buf path = BUF_INIT;
	struct stat st;

	stack_push(&s);
	for (unsigned i = 0; i < 66000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "big/%x", i * 2654435761u);
		stack_add(&s, ESGZ_DIR, name);
	}
	mount_image(p, &s);
	vec_each(&s.layers.p[0].entries, e) {
		buf_clear(&path);
		buf_addf(&path, "%s/%s", p->overlay, e->path);
		assert_int_equal(lstat(path.p, &st), 0);
		assert_int_equal(st.st_mtime, e->mtime_s);
	}
	buf_clear(&path);
	buf_addf(&path, "%s/big", p->bare);
	assert_int_equal(lstat(path.p, &st), 0);
	assert_int_equal(st.st_nlink, 66002);
	unmount_image(p);
	check_image(p);
}

/* All that is large at once: 100 000 entries; one file of more names than 16 bits count, across directories; owners and
 * times at their limits. */
static void test_large_tree(void **state)
{
	AUTO(stack) struct stack s = {0};
	const struct place *p = *state;
	AUTO(buf) struct buf path = BUF_INIT;
	struct stat first, st;

	stack_push(&s);
	struct stack_entry *e = stack_file(&s, "first", 9, 1);
	e->uid = 4294967294;
	e->gid = 4294967294;
	e->mtime_s = -1;
	e->mtime_ns = 999999999;
	for (unsigned i = 1; i < 65540; i++) {
		char name[32];

		snprintf(name, sizeof(name), "d%u/%u", i % 97, i);
		stack_link(&s, ESGZ_HARDLINK, name, "first");
	}
	for (unsigned i = 0; i < 34460; i++) {
		char name[64];

		snprintf(name, sizeof(name), "d%u/sub%u/%x", i % 97, i % 13, i);
		stack_file(&s, name, i, i > 0);
	}
	mount_image(p, &s);
	buf_addf(&path, "%s/first", p->bare);
	assert_int_equal(lstat(path.p, &first), 0);
	assert_int_equal(first.st_nlink, 65540);
	assert_int_equal(first.st_uid, 4294967294);
	assert_int_equal(first.st_gid, 4294967294);
	assert_int_equal(first.st_mtim.tv_sec, -1);
	assert_int_equal(first.st_mtim.tv_nsec, 999999999);
	vec_each(&s.layers.p[0].entries, it) {
		buf_clear(&path);
		buf_addf(&path, "%s/%s", p->bare, it->path);
		assert_int_equal(lstat(path.p, &st), 0);
		if (it->type == ESGZ_HARDLINK)
			assert_int_equal(st.st_ino, first.st_ino);
		else
			assert_int_equal(st.st_size, it->size);
	}
	unmount_image(p);
	check_image(p);
}

/* Nothing of the object directory is to be seen through the root. */
static void test_objects_do_not_show(void **state)
{
	AUTO(stack) struct stack s = {0};
	const struct place *p = *state;
	AUTO(buf) struct buf got = BUF_INIT;
	size_t lines = 0;
	struct stat st;

	stack_push(&s);
	stack_file(&s, "only", 10, 1);
	stack_objects(&s, p->objects);
	mount_image(p, &s);
	for (unsigned i = 0; i < 256; i++) {
		AUTO_FREE char *path = xasprintf("%s/%02x", p->overlay, i);
		AUTO_FREE char *object = xasprintf("%s/%02x", p->objects, i);

		assert_int_equal(dir_make(object, 0755, NULL), 0);
		assert_int_equal(lstat(path, &st), -1);
		assert_int_equal(errno, ENOENT);
	}
	mount_dump(p->overlay, 0, &got);
	for (size_t i = 0; i < got.n; i++)
		lines += got.p[i] == '\n';
	assert_int_equal(lines, 2); /* the root and the file */
	unmount_image(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_stacks),       cmocka_unit_test(test_awkward_names),
	    cmocka_unit_test(test_attributes),          cmocka_unit_test(test_big_directory),
	    cmocka_unit_test(test_objects_do_not_show), cmocka_unit_test(test_large_tree),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
