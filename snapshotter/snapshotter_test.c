/* The state machine and the mounts, on real directories and real mounts in a mount namespace of the test's own. */
#include "base/testing.h"

#include "base/file.h"
#include "base/kv_mem.h"
#include "snapshotter/collect.h"
#include "snapshotter/snapshotter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/xattr.h>

#include "estargz/index/index.h"

static const struct snap_space SPACE = {"default", "overlayfs"};
static const struct labels NO_LABELS;

struct world {
	char dir[64];
	char *root, *state;
	struct kv_mem *mem;
	struct snap_store *store;
};

static void open_store(struct world *w, enum snap_level level)
{
	struct err err = ERR_INIT;
	struct snap_opts opts = {w->root, w->state, kv_mem_kv(w->mem), level};

	if (snap_store_new(&opts, &w->store, &err) < 0)
		fail_msg("%s", err.msg);
}

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	strcpy(w->dir, "/tmp/snapshotter-test-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->root = xasprintf("%s/root", w->dir);
	w->state = xasprintf("%s/state", w->dir);
	if (dir_make(w->root, 0700, NULL) < 0)
		return -1;
	w->mem = kv_mem_new();
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	snap_store_free(w->store);
	kv_mem_free(w->mem);
	/* Mounts go with the namespace at exit; here only those of this test. */
	AUTO_FREE char *command =
	    xasprintf("awk '{print $5}' /proc/self/mountinfo | grep -F %s | tac | xargs -r -n1 umount -l; rm -rf %s",
	              w->dir, w->dir);
	if (system(command) != 0)
		return -1;
	free(w->root);
	free(w->state);
	free(w);
	return 0;
}

static const char *option(const struct snap_mounts *m, const char *prefix)
{
	vec_each(&m->v.p[0].options, o)
		if (!strncmp(*o, prefix, strlen(prefix)))
			return *o + strlen(prefix);
	return NULL;
}

/* What a client does with mounts. */
static void mount_at(const struct world *w, const struct snap_mounts *m, const char *name, char **path)
{
	AUTO(buf) struct buf data = BUF_INIT;
	unsigned long flags = 0;

	*path = xasprintf("%s/%s", w->dir, name);
	OK(dir_make(*path, 0700, err));
	assert_int_equal(m->v.n, 1);
	vec_each(&m->v.p[0].options, o) {
		if (!strcmp(*o, "ro"))
			flags |= MS_RDONLY;
		else if (!strcmp(*o, "rbind"))
			flags |= MS_BIND | MS_REC;
		else if (strcmp(*o, "rw") != 0)
			buf_addf(&data, "%s%s", data.n ? "," : "", *o);
	}
	if (mount(m->v.p[0].source, *path, m->v.p[0].type, flags, buf_cstr(&data)) < 0)
		fail_msg("mount %s: %s", buf_cstr(&data), strerror(errno));
}

static void write_file(const char *dir, const char *name, const char *text)
{
	AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
	AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	OK(fd_write_all(fd, str_of(text), err));
}

static void expect_file(const char *dir, const char *name, const char *text)
{
	AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
	AUTO(buf) struct buf got = BUF_INIT;

	OK(file_read(AT_FDCWD, path, 1 << 20, &got, err));
	assert_string_equal(buf_cstr(&got), text);
}

/* ---- an indexed layer with published objects ---- */

static void publish(const struct world *w, const char *text, struct digest *content)
{
	char hex[65];

	digest_of(text, strlen(text), content);
	digest_hex(content, hex);
	AUTO_FREE char *dir = xasprintf("%s/objects/%.2s", w->root, hex);
	OK(dir_make(dir, 0700, err));
	write_file(dir, hex + 2, text);
}

/* The index of a layer with one file, trusted by what `name` says. */
static struct digest make_index(struct world *w, const char *name, const char *path, const char *text,
                                uint32_t root_mode)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf bytes = BUF_INIT;
	struct esgz_entry root = {.type = ESGZ_DIR, .mode = root_mode, .path = STR("./"), .uid = 5, .mtime_s = 1000};
	struct esgz_entry e = {.type = ESGZ_REG, .mode = 04755, .path = str_of(path), .size = strlen(text)};
	struct esgz_xattr x = {STR("user.mark"), STR("on the root")};
	struct esgz_index_info info = {.trust = ESGZ_TRUST_DIFFID, .compression = ESGZ_PLAIN};
	struct digest key;
	char hex[65];

	publish(w, text, &e.content);
	digest_of(name, strlen(name), &info.blob);
	info.trusted = info.blob;
	OK(esgz_index_add(b, &root, &x, 1, NULL, 0, NULL, err));
	OK(esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, err));
	OK(esgz_index_finish(b, &info, &bytes, err));
	esgz_index_key(info.trust, &info.blob, &info.trusted, &key);
	AUTO_FREE char *file = xasprintf("%s/index/%s", w->root, digest_hex(&key, hex));
	AUTO_FD int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	OK(fd_write_all(fd, buf_str(&bytes), err));
	return key;
}

static void add_layer(struct world *w, const char *name, const char *parent, const char *path, const char *text,
                      uint32_t root_mode)
{
	struct digest key = make_index(w, name, path, text, root_mode);

	OK(snap_add_indexed(w->store, SPACE, name, parent, &key, 100, 2, &NO_LABELS, err));
}

/* ---- tests ---- */

static void the_state_machine(void **state)
{
	struct world *w = *state;
	AUTO(snap_mounts) struct snap_mounts m = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts m2 = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts m3 = SNAP_MOUNTS_INIT;
	AUTO(snap_info) struct snap_info i = {0};

	open_store(w, SNAP_LEVEL_OVERLAY);
	OK(snap_prepare(w->store, SPACE, "a", "", &NO_LABELS, &m, err));
	assert_string_equal(m.v.p[0].type, "bind");
	assert_string_equal(m.v.p[0].options.p[0], "rw");
	FAILS(snap_prepare(w->store, SPACE, "a", "", &NO_LABELS, &m2, err), ERR_EXISTS);
	FAILS(snap_prepare(w->store, SPACE, "b", "a", &NO_LABELS, &m2, err), ERR_INVALID);
	FAILS(snap_prepare(w->store, SPACE, "b", "none", &NO_LABELS, &m2, err), ERR_NOT_FOUND);
	write_file(m.v.p[0].source, "f", "one");
	OK(snap_commit(w->store, SPACE, "A", "a", "", &NO_LABELS, err));
	FAILS(snap_stat(w->store, SPACE, "a", &i, err), ERR_NOT_FOUND);
	FAILS(snap_mounts(w->store, SPACE, "A", &m2, err), ERR_PRECONDITION);
	OK(snap_view(w->store, SPACE, "v", "A", &NO_LABELS, &m2, err));
	assert_string_equal(m2.v.p[0].type, "bind");
	assert_string_equal(m2.v.p[0].options.p[0], "ro");
	expect_file(m2.v.p[0].source, "f", "one");
	FAILS(snap_commit(w->store, SPACE, "V", "v", "", &NO_LABELS, err), ERR_PRECONDITION);
	FAILS(snap_remove(w->store, SPACE, "A", err), ERR_PRECONDITION);
	OK(snap_prepare(w->store, SPACE, "c", "A", &NO_LABELS, &m3, err));
	assert_string_equal(m3.v.p[0].type, "overlay");
	assert_non_null(option(&m3, "upperdir="));
	FAILS(snap_commit(w->store, SPACE, "A", "c", "", &NO_LABELS, err), ERR_EXISTS);
	OK(snap_remove(w->store, SPACE, "c", err));
	OK(snap_remove(w->store, SPACE, "v", err));
	OK(snap_remove(w->store, SPACE, "A", err));
	FAILS(snap_remove(w->store, SPACE, "A", err), ERR_NOT_FOUND);
}

static void labels_usage_and_spaces(void **state)
{
	struct world *w = *state;
	AUTO(snap_mounts) struct snap_mounts m = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts m2 = SNAP_MOUNTS_INIT;
	AUTO(labels) struct labels l = LABELS_INIT;
	AUTO(snap_info) struct snap_info i = {0};
	AUTO(snap_info) struct snap_info i2 = {0};
	int64_t bytes, inodes;

	open_store(w, SNAP_LEVEL_OVERLAY);
	OK(labels_set(&l, "k", "v", err));
	OK(snap_prepare(w->store, SPACE, "a", "", &l, &m, err));
	OK(snap_prepare(w->store, ((struct snap_space){"other", "overlayfs"}), "a", "", &l, &m2, err));
	write_file(m.v.p[0].source, "f", "one");
	OK(snap_usage(w->store, SPACE, "a", &bytes, &inodes, err));
	assert_int_equal(inodes, 2);
	assert_true(bytes >= 4096);
	OK(labels_set(&l, "k", "w", err));
	OK(snap_update_labels(w->store, SPACE, "a", &l, &i, err));
	assert_string_equal(labels_get(&i.labels, "k"), "w");
	/* The result of a commit carries the labels of the commit alone. */
	OK(snap_commit(w->store, SPACE, "A", "a", "", &NO_LABELS, err));
	OK(snap_stat(w->store, SPACE, "A", &i2, err));
	assert_int_equal(i2.labels.v.n, 0);
	assert_int_equal(i2.kind, SNAP_COMMITTED);
	OK(snap_usage(w->store, SPACE, "A", &bytes, &inodes, err));
	assert_int_equal(inodes, 2);
}

static void check_indexed(struct world *w, enum snap_level level)
{
	AUTO(snap_mounts) struct snap_mounts m = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts v = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts up = SNAP_MOUNTS_INIT;
	AUTO_FREE char *rw = NULL;
	AUTO_FREE char *ro = NULL;
	AUTO_FREE char *top = NULL;
	AUTO_FREE char *lazy = xasprintf("%s/lazy", w->state);
	struct stat st;
	char value[32] = {0};

	open_store(w, level);
	OK(dir_make(lazy, 0700, err));
	add_layer(w, "base", "", "bin/tool", "first\n", 0755);
	add_layer(w, "next", "base", "etc/conf", "second\n", 0751);
	FAILS(snap_add_indexed(w->store, SPACE, "next", "base", &(struct digest){{1}}, 0, 0, &NO_LABELS, err),
	      ERR_EXISTS);
	OK(snap_warm(w->store, SPACE, "next", err));
	OK(snap_prepare(w->store, SPACE, "c1", "next", &NO_LABELS, &m, err));
	assert_null(strstr(option(&m, "lowerdir="), "metacopy"));
	mount_at(w, &m, "rw", &rw);
	expect_file(rw, "bin/tool", "first\n");
	expect_file(rw, "etc/conf", "second\n");
	assert_int_equal(stat(rw, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0751);
	assert_int_equal(st.st_uid, 5);
	assert_int_equal(st.st_mtim.tv_sec, 1000);
	assert_int_equal(getxattr(rw, "user.mark", value, sizeof(value)), 11);
	write_file(rw, "etc/conf", "changed\n");
	expect_file(rw, "etc/conf", "changed\n");
	/* A view of one indexed layer is an overlay too: the image alone shows files without data. */
	OK(snap_view(w->store, SPACE, "v", "base", &NO_LABELS, &v, err));
	assert_string_equal(v.v.p[0].type, "overlay");
	mount_at(w, &v, "ro", &ro);
	expect_file(ro, "bin/tool", "first\n");
	/* The upper directory becomes a plain layer above the indexed ones. */
	OK(snap_commit(w->store, SPACE, "C1", "c1", "", &NO_LABELS, err));
	OK(snap_prepare(w->store, SPACE, "c2", "C1", &NO_LABELS, &up, err));
	mount_at(w, &up, "top", &top);
	expect_file(top, "etc/conf", "changed\n");
	expect_file(top, "bin/tool", "first\n");
	FAILS(snap_add_indexed(w->store, SPACE, "x", "C1", &(struct digest){{1}}, 0, 0, &NO_LABELS, err),
	      ERR_PRECONDITION);
}

static void an_indexed_chain_at_level_1(void **state)
{
	check_indexed(*state, SNAP_LEVEL_OVERLAY);
}

static void an_indexed_chain_at_level_2(void **state)
{
	check_indexed(*state, SNAP_LEVEL_NESTED);
}

/* Two for each image: the image itself and its tree. */
static unsigned meta_mounts(const struct world *w)
{
	AUTO(buf) struct buf info = BUF_INIT;
	AUTO_FREE char *dir = xasprintf(" %s/meta/", w->state);
	unsigned n = 0;

	OK(file_read(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &info, err));
	for (const char *p = buf_cstr(&info); (p = strstr(p, dir)); p++)
		n++;
	return n;
}

/* The options that mount `at` has now, as the kernel tells them. */
static char *mounted_options(const char *at)
{
	AUTO(buf) struct buf info = BUF_INIT;
	AUTO_FREE char *name = xasprintf(" %s ", at);
	char *line;

	OK(file_read(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &info, err));
	line = strstr(buf_cstr(&info), name);
	assert_non_null(line);
	return str_dup(str_make(line, strcspn(line, "\n")));
}

/* What clients make of a mount that they only read: no upper directory, its place in each lowerdir that they see. */
static void mount_read_only(const struct world *w, const struct snap_mounts *m, const char *name, char **path)
{
	AUTO(snap_mounts) struct snap_mounts to = SNAP_MOUNTS_INIT;
	struct snap_mount *one = vec_add(&to.v);

	one->type = xstrdup("overlay");
	one->source = xstrdup("overlay");
	vec_push(&one->options, xstrdup("ro"));
	vec_each(&m->v.p[0].options, o) {
		if (!strncmp(*o, "lowerdir=", 9))
			vec_push(&one->options, xasprintf("lowerdir=%s:%s", option(m, "upperdir="), *o + 9));
		else if (strncmp(*o, "upperdir=", 9) != 0 && strncmp(*o, "workdir=", 8) != 0)
			vec_push(&one->options, xstrdup(*o));
	}
	mount_at(w, &to, name, path);
}

/* The kernel mounts one overlay, and who only looks at the options finds directories with true contents. */
static void two_lists_of_lower_directories(void **state)
{
	struct world *w = *state;
	AUTO(snap_mounts) struct snap_mounts m = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts v = SNAP_MOUNTS_INIT;
	AUTO_FREE char *lazy = xasprintf("%s/lazy", w->state);
	AUTO_FREE char *rw = NULL;
	AUTO_FREE char *ro = NULL;
	AUTO_FREE char *view = NULL;
	AUTO_FREE char *rw_options = NULL;
	AUTO_FREE char *view_options = NULL;
	AUTO_FREE char *within = NULL;

	open_store(w, SNAP_LEVEL_OVERLAY);
	OK(dir_make(lazy, 0700, err));
	add_layer(w, "base", "", "bin/tool", "first\n", 0755);
	OK(snap_prepare(w->store, SPACE, "c", "base", &NO_LABELS, &m, err));
	OK(snap_view(w->store, SPACE, "v", "base", &NO_LABELS, &v, err));
	expect_file(option(&m, "lowerdir="), "bin/tool", "first\n");
	expect_file(option(&v, "lowerdir="), "bin/tool", "first\n");
	mount_at(w, &m, "rw", &rw);
	mount_at(w, &v, "view", &view);
	rw_options = mounted_options(rw);
	assert_non_null(strstr(rw_options, "::"));
	view_options = mounted_options(view);
	assert_non_null(strstr(view_options, "::"));
	/* Two overlays may lie on each other: there is room for one of the container's own. */
	within = xasprintf("lowerdir=%s:%s", rw, w->root);
	assert_int_equal(mount("overlay", lazy, "overlay", MS_RDONLY, within), 0);
	assert_int_equal(umount2(lazy, 0), 0);
	write_file(rw, "bin/tool", "changed\n");
	mount_read_only(w, &m, "ro", &ro);
	expect_file(ro, "bin/tool", "changed\n");
	expect_file(view, "bin/tool", "first\n");
}

/* A chain whose lists do not fit into a page of options twice. */
static void a_chain_of_many_directories(void **state)
{
	struct world *w = *state;
	AUTO(snap_mounts) struct snap_mounts m = SNAP_MOUNTS_INIT;
	AUTO_FREE char *lazy = xasprintf("%s/lazy", w->state);
	AUTO_FREE char *parent = xstrdup("base");
	AUTO_FREE char *rw = NULL;

	open_store(w, SNAP_LEVEL_OVERLAY);
	OK(dir_make(lazy, 0700, err));
	add_layer(w, "base", "", "bin/tool", "first\n", 0755);
	for (unsigned i = 0; i < 60; i++) {
		AUTO(snap_mounts) struct snap_mounts layer = SNAP_MOUNTS_INIT;
		AUTO_FREE char *name = xasprintf("l%u", i);
		AUTO_FREE char *file = xasprintf("of-%u", i);

		OK(snap_prepare(w->store, SPACE, "k", parent, &NO_LABELS, &layer, err));
		write_file(option(&layer, "upperdir="), file, name);
		OK(snap_commit(w->store, SPACE, name, "k", "", &NO_LABELS, err));
		free(parent);
		parent = STEAL(name);
	}
	OK(snap_prepare(w->store, SPACE, "c", parent, &NO_LABELS, &m, err));
	mount_at(w, &m, "rw", &rw);
	expect_file(rw, "bin/tool", "first\n");
	expect_file(rw, "of-0", "l0");
	expect_file(rw, "of-59", "l59");
}

/* The FUSE mount was lost, another one has taken its place: a tree is over that one then. */
static void a_tree_follows_the_fuse_mount(void **state)
{
	struct world *w = *state;
	AUTO(snap_mounts) struct snap_mounts m = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts m2 = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts m3 = SNAP_MOUNTS_INIT;
	AUTO_FREE char *lazy = xasprintf("%s/lazy", w->state);

	open_store(w, SNAP_LEVEL_OVERLAY);
	OK(dir_make(lazy, 0700, err));
	add_layer(w, "base", "", "bin/tool", "first\n", 0755);
	OK(snap_prepare(w->store, SPACE, "c", "base", &NO_LABELS, &m, err));
	assert_int_equal(mount("one", lazy, "tmpfs", 0, NULL), 0);
	OK(snap_mounts(w->store, SPACE, "c", &m2, err));
	assert_string_not_equal(option(&m2, "lowerdir="), option(&m, "lowerdir="));
	assert_int_equal(access(option(&m, "lowerdir="), F_OK), -1);
	assert_int_equal(meta_mounts(w), 2);
	/* Nobody was there to see it. */
	snap_store_free(w->store);
	assert_int_equal(umount2(lazy, MNT_DETACH), 0);
	assert_int_equal(mount("another", lazy, "tmpfs", 0, NULL), 0);
	open_store(w, SNAP_LEVEL_OVERLAY);
	assert_int_equal(access(option(&m2, "lowerdir="), F_OK), -1);
	OK(snap_mounts(w->store, SPACE, "c", &m3, err));
	assert_string_not_equal(option(&m3, "lowerdir="), option(&m2, "lowerdir="));
	expect_file(option(&m3, "lowerdir="), "bin/tool", "first\n");
	assert_int_equal(meta_mounts(w), 2);
}

/* The metadata image of an active snapshot or a view, as the collector is told. */
static int take_meta(void *arg, const struct snap_node *n, struct err *err)
{
	assert_true(n->has_meta);
	*(struct digest *)arg = n->meta;
	return 0;
}

static struct digest meta_of(struct world *w, const char *key)
{
	struct digest meta = {0};

	OK(snap_node_read(kv_mem_kv(w->mem), SPACE, key, take_meta, &meta, err));
	return meta;
}

static void an_image_that_was_taken_away_is_made_again(void **state)
{
	struct world *w = *state;
	AUTO(snap_mounts) struct snap_mounts m = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts again = SNAP_MOUNTS_INIT;
	AUTO_FREE char *lazy = xasprintf("%s/lazy", w->state);
	struct digest chain, meta;

	open_store(w, SNAP_LEVEL_OVERLAY);
	OK(dir_make(lazy, 0700, err));
	add_layer(w, "base", "", "bin/tool", "first\n", 0755);
	add_layer(w, "next", "base", "etc/conf", "second\n", 0751);
	OK(snap_warm(w->store, SPACE, "next", err));
	OK(snap_prepare(w->store, SPACE, "c", "base", &NO_LABELS, &m, err));
	assert_int_equal(meta_mounts(w), 4);
	OK(snap_chain_meta(kv_mem_kv(w->mem), SPACE, "next", &chain, err));
	meta = meta_of(w, "c");
	assert_true(snap_image_condemn(w->store, &chain));
	assert_false(snap_image_condemn(w->store, &chain));
	snap_image_drop(w->store, &chain);
	assert_int_equal(meta_mounts(w), 2);
	assert_true(snap_image_condemn(w->store, &meta));
	snap_image_spare(w->store, &meta);
	assert_int_equal(meta_mounts(w), 2);
	OK(snap_prepare(w->store, SPACE, "d", "next", &NO_LABELS, &again, err));
	assert_int_equal(meta_mounts(w), 4);
}

static int note_lower(void *arg, const struct snap_node *n, struct err *err)
{
	const struct digest *want = arg;

	assert_int_equal(n->n_lower, 2);
	assert_memory_equal(n->lower, want, 2 * sizeof(*want));
	return 0;
}

/* A layer is proven, and gets another index, while a container is about to be mounted: its mounts stay what they were,
 * also those asked for later, by another process, and when the image has to be built again. */
static void mounts_stay_when_a_layer_is_replaced(void **state)
{
	struct world *w = *state;
	AUTO(snap_mounts) struct snap_mounts m = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts v = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts again = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts later = SNAP_MOUNTS_INIT;
	AUTO_FREE char *lazy = xasprintf("%s/lazy", w->state);
	AUTO_FREE char *lower = NULL;
	AUTO_FREE char *before = NULL;
	AUTO_FREE char *after = NULL;
	struct digest claimed[2], proven, meta, now;

	open_store(w, SNAP_LEVEL_OVERLAY);
	OK(dir_make(lazy, 0700, err));
	claimed[0] = make_index(w, "base", "bin/tool", "claimed\n", 0755);
	claimed[1] = make_index(w, "next", "etc/conf", "second\n", 0751);
	proven = make_index(w, "proven", "bin/tool", "proven\n", 0755);
	OK(snap_add_indexed(w->store, SPACE, "base", "", &claimed[0], 100, 2, &NO_LABELS, err));
	OK(snap_add_indexed(w->store, SPACE, "next", "base", &claimed[1], 100, 2, &NO_LABELS, err));
	OK(snap_prepare(w->store, SPACE, "c", "next", &NO_LABELS, &m, err));
	OK(snap_view(w->store, SPACE, "v", "next", &NO_LABELS, &v, err));
	lower = xstrdup(option(&m, "lowerdir="));
	assert_string_equal(option(&v, "lowerdir="), lower);
	meta = meta_of(w, "c");
	OK(snap_replace_indexed(w->store, SPACE, "base", &proven, 100, 2, err));
	/* What the collector is told of both: the image that they are mounted with, and what that is made of. */
	now = meta_of(w, "c");
	assert_true(digest_eq(&now, &meta));
	now = meta_of(w, "v");
	assert_true(digest_eq(&now, &meta));
	OK(snap_node_read(kv_mem_kv(w->mem), SPACE, "c", note_lower, claimed, err));
	snap_store_free(w->store);
	open_store(w, SNAP_LEVEL_OVERLAY);
	assert_true(snap_image_condemn(w->store, &meta));
	snap_image_drop(w->store, &meta);
	OK(snap_mounts(w->store, SPACE, "c", &again, err));
	assert_string_equal(option(&again, "lowerdir="), lower);
	mount_at(w, &again, "before", &before);
	expect_file(before, "bin/tool", "claimed\n");
	/* Who comes later has the chain as it is by then; so has what is committed. */
	OK(snap_commit(w->store, SPACE, "C", "c", "", &NO_LABELS, err));
	OK(snap_prepare(w->store, SPACE, "later", "C", &NO_LABELS, &later, err));
	mount_at(w, &later, "after", &after);
	expect_file(after, "bin/tool", "proven\n");
}

static void a_restart_adopts_and_sweeps(void **state)
{
	struct world *w = *state;
	AUTO(snap_mounts) struct snap_mounts m = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts m2 = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts lost = SNAP_MOUNTS_INIT;
	AUTO_FREE char *stray = xasprintf("%s/snapshots/4711/fs", w->root);
	AUTO_FREE char *path = NULL;
	AUTO_FREE char *lazy = xasprintf("%s/lazy", w->state);
	AUTO_FREE char *gone = NULL;

	open_store(w, SNAP_LEVEL_OVERLAY);
	OK(dir_make(lazy, 0700, err));
	add_layer(w, "base", "", "bin/tool", "first\n", 0755);
	OK(snap_prepare(w->store, SPACE, "c", "base", &NO_LABELS, &m, err));
	OK(snap_prepare(w->store, SPACE, "lost", "", &NO_LABELS, &lost, err));
	gone = xasprintf("rm -r %s", lost.v.p[0].source);
	assert_int_equal(system(gone), 0);
	OK(dir_make(stray, 0700, err));
	snap_store_free(w->store);
	open_store(w, SNAP_LEVEL_OVERLAY);
	snap_cleanup(w->store);
	assert_int_equal(access(stray, F_OK), -1);
	FAILS(snap_mounts(w->store, SPACE, "lost", &m2, err), ERR_NOT_FOUND);
	assert_int_equal(meta_mounts(w), 2);
	OK(snap_mounts(w->store, SPACE, "c", &m2, err));
	assert_int_equal(meta_mounts(w), 2);
	mount_at(w, &m2, "rw", &path);
	expect_file(path, "bin/tool", "first\n");
}

static void a_failed_write_leaves_nothing(void **state)
{
	struct world *w = *state;
	AUTO(snap_mounts) struct snap_mounts m = SNAP_MOUNTS_INIT;
	AUTO(snap_mounts) struct snap_mounts m2 = SNAP_MOUNTS_INIT;

	open_store(w, SNAP_LEVEL_OVERLAY);
	kv_mem_fail_after(w->mem, 0, ERR_EXHAUSTED);
	FAILS(snap_prepare(w->store, SPACE, "a", "", &NO_LABELS, &m, err), ERR_EXHAUSTED);
	kv_mem_fail_after(w->mem, 0, ERR_OK);
	OK(snap_prepare(w->store, SPACE, "a", "", &NO_LABELS, &m2, err));
}

static bool kernel_at_least(unsigned major, unsigned minor)
{
	unsigned a = 0, b = 0;
	struct utsname u;

	assert_int_equal(uname(&u), 0);
	assert_int_equal(sscanf(u.release, "%u.%u", &a, &b), 2);
	return a > major || (a == major && b >= minor);
}

static void the_probe_finds_a_level_that_works(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *reason = NULL;
	AUTO_FREE char *snapshots = xasprintf("%s/snapshots", w->root);
	enum snap_level level = SNAP_LEVEL_AUTO;

	OK(dir_make(snapshots, 0700, err));
	OK(snap_probe(w->root, w->state, &level, &reason, err));
	print_message("level %d: %s\n", level, reason);
	/* 6.12 brought mounts of EROFS from a file, 6.16 redirects without metacopy=on. */
	if (kernel_at_least(6, 18))
		assert_int_equal(level, SNAP_LEVEL_OVERLAY);
	else if (kernel_at_least(6, 12))
		assert_int_not_equal(level, SNAP_LEVEL_TREE);
	else
		assert_int_not_equal(level, SNAP_LEVEL_AUTO);
	assert_int_equal(rmdir(snapshots), 0);
}

static void paths_that_overlayfs_cannot_take_are_refused(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *bad = xasprintf("%s/a:b", w->dir);
	struct snap_opts opts = {bad, w->state, kv_mem_kv(w->mem), SNAP_LEVEL_OVERLAY};
	struct snap_store *s = NULL;

	FAILS(snap_store_new(&opts, &s, err), ERR_INVALID);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(the_state_machine),
	    TEST(labels_usage_and_spaces),
	    TEST(an_indexed_chain_at_level_1),
	    TEST(an_indexed_chain_at_level_2),
	    TEST(two_lists_of_lower_directories),
	    TEST(a_chain_of_many_directories),
	    TEST(a_tree_follows_the_fuse_mount),
	    TEST(an_image_that_was_taken_away_is_made_again),
	    TEST(mounts_stay_when_a_layer_is_replaced),
	    TEST(a_restart_adopts_and_sweeps),
	    TEST(a_failed_write_leaves_nothing),
	    TEST(the_probe_finds_a_level_that_works),
	    TEST(paths_that_overlayfs_cannot_take_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
