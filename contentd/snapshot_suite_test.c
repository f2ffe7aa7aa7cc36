/*
 * Cases of containerd's snapshot suite, each a test through the service, on real mounts. They stand on nothing, or on the
 * committed snapshot that CONTENTD_TEST_BASE names; with CONTENTD_TEST_ADDRESS in a daemon that somebody else has
 * started (testing/world.h).
 */
#include "contentd/testing/snapshots.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cmocka.h>

#define CALL(method, req, rsp) world_call(w, &snapshots__snapshots__descriptor, method, (req), (rsp))
#define ROOT_LABEL "containerd.io/gc.root=now"

static unsigned test_number;

static int set_up(void **state)
{
	test_number++;
	return world_set_up_or_join(state);
}

/* Names of this test alone: the daemon may have seen others. */
static const char *name_of(struct world *w, const char *name)
{
	return *name ? arena_printf(&w->a, "suite-%d-%u-%s", (int)getpid(), test_number, name) : name;
}
#define N(name) name_of(w, (name))

static const char *base(void)
{
	return getenv("CONTENTD_TEST_BASE") ?: "";
}

/* ---- calls, each with the label that keeps what it makes ---- */

static int prepare(struct world *w, const char *key, const char *parent, struct mounts *out)
{
	return snapshot_prepare(w, key, parent, ROOT_LABEL, out);
}

static int view(struct world *w, const char *key, const char *parent, struct mounts *out)
{
	return snapshot_view(w, key, parent, ROOT_LABEL, out);
}

static int commit(struct world *w, const char *name, const char *key)
{
	return snapshot_commit(w, name, key, "", ROOT_LABEL);
}

/* Prepares `key`, gives its tree. */
static int work_on(struct world *w, const char *key, const char *parent)
{
	struct mounts m = {0};

	OK(prepare(w, N(key), parent, &m));
	return mounts_tree(w, &m);
}

static int look_at(struct world *w, const char *key, const char *parent)
{
	struct mounts m = {0};

	OK(view(w, N(key), parent, &m));
	return mounts_tree(w, &m);
}

/* A committed layer with one file. */
static void layer(struct world *w, const char *name, const char *parent, const char *file, const char *text)
{
	AUTO_FREE char *key = xasprintf("%s-active", name);
	AUTO_FD int fd = work_on(w, key, parent);

	put_file(fd, file, text, 0644);
	OK(commit(w, N(name), N(key)));
}

/* ---- state ---- */

static void basic(void **state)
{
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int seen = -1;
	Snapshots__Info *info = NULL;

	put_file(first, "foo", "foo\n", 0644);
	put_folder(first, "a");
	put_folder(first, "a/b");
	put_file(first, "a/b/c", "c\n", 0600);
	OK(commit(w, N("A"), N("a")));
	OK(snapshot_stat(w, N("A"), &info));
	assert_int_equal(info->kind, SNAPSHOTS__KIND__COMMITTED);
	assert_string_equal(info->parent, base());
	FAILS(snapshot_stat(w, N("a"), NULL), ERR_NOT_FOUND);
	second = work_on(w, "b", N("A"));
	expect_file(second, "foo", "foo\n");
	put_file(second, "bar", "bar\n", 0644);
	SYS(unlinkat(second, "a/b/c", 0));
	OK(snapshot_stat(w, N("b"), &info));
	assert_int_equal(info->kind, SNAPSHOTS__KIND__ACTIVE);
	assert_string_equal(info->parent, N("A"));
	OK(commit(w, N("B"), N("b")));
	FAILS(snapshot_mounts(w, N("b"), NULL), ERR_NOT_FOUND);
	seen = look_at(w, "v", N("B"));
	expect_file(seen, "foo", "foo\n");
	expect_file(seen, "bar", "bar\n");
	assert_true(has_file(seen, "a/b"));
	assert_false(has_file(seen, "a/b/c"));
	OK(snapshot_remove(w, N("v")));
	FAILS(snapshot_remove(w, N("A")), ERR_PRECONDITION);
	OK(snapshot_remove(w, N("B")));
	OK(snapshot_remove(w, N("A")));
}

static void stat_active(void **state)
{
	struct world *w = *state;
	Snapshots__Info *info = NULL;

	OK(prepare(w, N("a"), base(), NULL));
	OK(snapshot_stat(w, N("a"), &info));
	assert_string_equal(info->name, N("a"));
	assert_string_equal(info->parent, base());
	assert_int_equal(info->kind, SNAPSHOTS__KIND__ACTIVE);
}

static void stat_committed(void **state)
{
	struct world *w = *state;
	Snapshots__Info *info = NULL;

	layer(w, "A", base(), "f", "x");
	OK(snapshot_stat(w, N("A"), &info));
	assert_string_equal(info->name, N("A"));
	assert_int_equal(info->kind, SNAPSHOTS__KIND__COMMITTED);
	assert_int_equal(info->created_at->seconds, info->updated_at->seconds);
	assert_int_equal(info->created_at->nanos, info->updated_at->nanos);
}

static void transitivity(void **state)
{
	static const char *const chain[] = {"A", "B", "C"};
	struct world *w = *state;
	const char *parent = base();

	for (size_t i = 0; i < ARRAY_LEN(chain); i++) {
		Snapshots__Info *info = NULL;

		layer(w, chain[i], parent, chain[i], "x");
		OK(snapshot_stat(w, N(chain[i]), &info));
		assert_string_equal(info->parent, parent);
		parent = N(chain[i]);
	}
}

static void prepare_and_view_of_a_used_key(void **state)
{
	struct world *w = *state;

	OK(prepare(w, N("a"), base(), NULL));
	FAILS(prepare(w, N("a"), base(), NULL), ERR_EXISTS);
	FAILS(view(w, N("a"), base(), NULL), ERR_EXISTS);
	OK(commit(w, N("A"), N("a")));
	FAILS(prepare(w, N("A"), base(), NULL), ERR_EXISTS);
	FAILS(view(w, N("A"), N("A"), NULL), ERR_EXISTS);
	OK(prepare(w, N("b"), N("A"), NULL));
	FAILS(prepare(w, N("c"), N("b"), NULL), ERR_INVALID);
	FAILS(view(w, N("c"), N("b"), NULL), ERR_INVALID);
	FAILS(prepare(w, N("c"), N("none"), NULL), ERR_NOT_FOUND);
	FAILS(view(w, N("c"), N("none"), NULL), ERR_NOT_FOUND);
}

static void expect_labels(struct world *w, const char *key, const char *labels)
{
	Snapshots__Info *info = NULL;

	OK(snapshot_stat(w, key, &info));
	assert_string_equal(world_kvs_text(w, info->labels, info->n_labels), labels);
}

static bool is_later(const Pb__Timestamp *a, const Pb__Timestamp *b)
{
	return a->seconds > b->seconds || (a->seconds == b->seconds && a->nanos > b->nanos);
}

static void update_of(struct world *w, const char *key)
{
	Snapshots__Info *before = NULL, *after = NULL;

	OK(snapshot_update(w, key, "", ROOT_LABEL " one=1 two=2", NULL));
	expect_labels(w, key, ROOT_LABEL " one=1 two=2");
	OK(snapshot_stat(w, key, &before));
	OK(snapshot_update(w, key, "", "one=new two=ignored", "labels.one"));
	expect_labels(w, key, ROOT_LABEL " one=new two=2");
	OK(snapshot_stat(w, key, &after));
	assert_true(is_later(after->updated_at, before->updated_at));
	assert_int_equal(after->created_at->nanos, before->created_at->nanos);
	OK(snapshot_update(w, key, "", "", "labels.two"));
	expect_labels(w, key, ROOT_LABEL " one=new");
	OK(snapshot_update(w, key, "", ROOT_LABEL " a.b/c=x", "labels"));
	expect_labels(w, key, "a.b/c=x " ROOT_LABEL);
	OK(snapshot_update(w, key, "", ROOT_LABEL " a.b/c=y", NULL));
	expect_labels(w, key, "a.b/c=y " ROOT_LABEL);
	FAILS(snapshot_update(w, key, "other", "", "parent"), ERR_INVALID);
	FAILS(snapshot_update(w, key, "", "", "kind"), ERR_INVALID);
	FAILS(snapshot_update(w, key, "", "", "created"), ERR_INVALID);
	/* Not in the mask: ignored. */
	OK(snapshot_update(w, key, "other", "z=1", "labels.z"));
	OK(snapshot_stat(w, key, &after));
	assert_string_equal(after->parent, before->parent);
}

static void updates(void **state)
{
	struct world *w = *state;
	Snapshots__Info *info = NULL;

	layer(w, "A", base(), "f", "x");
	OK(prepare(w, N("b"), N("A"), NULL));
	OK(view(w, N("v"), N("A"), NULL));
	OK(snapshot_stat(w, N("b"), &info));
	assert_int_equal(info->created_at->nanos, info->updated_at->nanos);
	update_of(w, N("A"));
	update_of(w, N("b"));
	update_of(w, N("v"));
	FAILS(snapshot_update(w, N("none"), "", "", NULL), ERR_NOT_FOUND);
}

static void removing(void **state)
{
	struct world *w = *state;

	OK(prepare(w, N("k"), base(), NULL));
	OK(snapshot_remove(w, N("k")));
	FAILS(snapshot_stat(w, N("k"), NULL), ERR_NOT_FOUND);
	OK(view(w, N("k"), base(), NULL));
	OK(snapshot_remove(w, N("k")));
	OK(prepare(w, N("k"), "", NULL));
	OK(commit(w, N("K"), N("k")));
	OK(prepare(w, N("other"), "", NULL));
	OK(snapshot_remove(w, N("K")));
	OK(commit(w, N("K"), N("other")));
	OK(prepare(w, N("k"), N("K"), NULL));
	FAILS(snapshot_remove(w, N("K")), ERR_PRECONDITION);
	OK(snapshot_remove(w, N("k")));
	OK(snapshot_remove(w, N("K")));
	FAILS(snapshot_remove(w, N("K")), ERR_NOT_FOUND);
}

static const char *list(struct world *w, const char *const *filters, size_t n_filters)
{
	Snapshots__ListSnapshotsRequest req = SNAPSHOTS__LIST_SNAPSHOTS_REQUEST__INIT;
	AUTO(buf) struct buf b = BUF_INIT;
	size_t n, skip = strlen(N("x")) - 1;
	void **all;

	req.snapshotter = "overlayfs";
	req.filters = (const char **)filters;
	req.n_filters = n_filters;
	OK(world_stream(w, &snapshots__snapshots__descriptor, "List", &req,
	                &snapshots__list_snapshots_response__descriptor, &all, &n));
	for (size_t i = 0; i < n; i++) {
		const Snapshots__ListSnapshotsResponse *rsp = all[i];

		for (size_t k = 0; k < rsp->n_info; k++)
			if (!strncmp(rsp->info[k]->name, N("x"), skip))
				buf_addf(&b, "%s ", rsp->info[k]->name + skip);
	}
	return arena_str(&w->a, buf_str(&b));
}
#define LIST(...)                                                                                                      \
	({                                                                                                             \
		const char *const filters_[] = {__VA_ARGS__};                                                          \
		list(w, filters_, ARRAY_LEN(filters_));                                                                \
	})

static void walk(void **state)
{
	struct world *w = *state;

	layer(w, "A", base(), "f", "x");
	layer(w, "B", N("A"), "g", "x");
	OK(snapshot_prepare(w, N("b"), N("A"), ROOT_LABEL " app=web", NULL));
	OK(view(w, N("v"), N("B"), NULL));
	assert_string_equal(LIST(""), "A B b v ");
	assert_string_equal(LIST("kind==committed"), "A B ");
	assert_string_equal(LIST("kind==active"), "b ");
	assert_string_equal(LIST("kind==view", "kind==active"), "b v ");
	assert_string_equal(LIST(arena_printf(&w->a, "name==\"%s\"", N("B"))), "B ");
	assert_string_equal(LIST(arena_printf(&w->a, "parent==\"%s\"", N("A"))), "B b ");
	assert_string_equal(LIST(arena_printf(&w->a, "parent==\"%s\",kind==active", N("A"))), "b ");
	assert_string_equal(LIST("labels.app"), "b ");
	assert_string_equal(LIST("labels.app==web", "kind==view"), "b v ");
	assert_string_equal(LIST("labels.app==db"), "");
	assert_string_equal(LIST("labels.\"containerd.io/gc.root\"==now"), "A B b v ");
}

/* Stat while a List is under way, on the same connection. */
static void stat_in_walk(void **state)
{
	Snapshots__ListSnapshotsRequest req = SNAPSHOTS__LIST_SNAPSHOTS_REQUEST__INIT;
	struct world *w = *state;
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	unsigned seen = 0;

	layer(w, "A", base(), "f", "x");
	OK(prepare(w, N("b"), N("A"), NULL));
	req.snapshotter = "overlayfs";
	OK(rpc_stream_open(w->c, &snapshots__snapshots__descriptor, "List", NULL, &s, &w->err));
	OK(rpc_stream_send(s, &req.base, &w->err));
	OK(rpc_stream_close_send(s, &w->err));
	for (;;) {
		AUTO(pb) Snapshots__ListSnapshotsResponse *rsp = NULL;
		int r = rpc_stream_recv(s, INT64_MAX, &rsp, &w->err);

		OK(r);
		if (r == RPC_END)
			break;
		for (size_t i = 0; i < rsp->n_info; i++) {
			OK(snapshot_stat(w, arena_strdup(&w->a, rsp->info[i]->name), NULL));
			seen++;
		}
	}
	assert_true(seen >= 2);
}

/* ---- files ---- */

static void layer_file_update(void **state)
{
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int third = -1;

	put_folder(first, "etc-suite");
	put_file(first, "foo", "hello\n", 0700);
	put_file(first, "etc-suite/hosts", "localhost", 0644);
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	put_file(second, "bar", "hello", 0700);
	put_file(second, "etc-suite/hosts", "changed", 0644);
	OK(commit(w, N("B"), N("b")));
	third = work_on(w, "c", N("B"));
	expect_file(third, "foo", "hello\n");
	expect_file(third, "bar", "hello");
	expect_file(third, "etc-suite/hosts", "changed");
	/* The layer below is what it was. */
	close(STEAL_FD(third));
	third = look_at(w, "v", N("A"));
	expect_file(third, "etc-suite/hosts", "localhost");
}

static void remove_directory_in_lower_layer(void **state)
{
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int third = -1;
	AUTO_FD int fourth = -1;

	put_folder(first, "lib-suite");
	put_file(first, "lib-suite/hidden", "hidden", 0644);
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	SYS(unlinkat(second, "lib-suite/hidden", 0));
	SYS(unlinkat(second, "lib-suite", AT_REMOVEDIR));
	put_folder(second, "lib-suite");
	put_file(second, "lib-suite/not-hidden", "seen", 0644);
	OK(commit(w, N("B"), N("b")));
	third = work_on(w, "c", N("B"));
	expect_file(third, "lib-suite/not-hidden", "seen");
	assert_false(has_file(third, "lib-suite/hidden"));
	put_file(third, "lib-suite/later", "later", 0644);
	OK(commit(w, N("C"), N("c")));
	fourth = look_at(w, "v", N("C"));
	assert_false(has_file(fourth, "lib-suite/hidden"));
	expect_file(fourth, "lib-suite/later", "later");
}

static void chown_of_lower_files(void **state)
{
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int third = -1;
	struct stat st;

	put_folder(first, "opt-suite");
	put_file(first, "opt-suite/f", "x", 0644);
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	SYS(fchownat(second, "opt-suite", 1, 1, 0));
	SYS(fchownat(second, "opt-suite/f", 2, 3, 0));
	OK(commit(w, N("B"), N("b")));
	third = look_at(w, "v", N("B"));
	SYS(fstatat(third, "opt-suite", &st, 0));
	assert_int_equal(st.st_uid, 1);
	SYS(fstatat(third, "opt-suite/f", &st, 0));
	assert_int_equal(st.st_uid, 2);
	assert_int_equal(st.st_gid, 3);
	expect_file(third, "opt-suite/f", "x");
}

static void directory_permission_on_commit(void **state)
{
	static const mode_t modes[] = {0700, 0755, 0777 | S_ISVTX, 0750 | S_ISGID, 0711};
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int third = -1;
	struct stat st;
	char name[16];

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		snprintf(name, sizeof(name), "dir%zu", i);
		put_folder(first, name);
		SYS(fchmodat(first, name, modes[i], 0));
		SYS(fchownat(first, name, (uid_t)i, (gid_t)i + 10, 0));
		SYS(fchmodat(first, name, modes[i], 0));
	}
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	put_file(second, "dir1/file", "x", 0644); /* copies the directory up */
	OK(commit(w, N("B"), N("b")));
	third = look_at(w, "v", N("B"));
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		snprintf(name, sizeof(name), "dir%zu", i);
		SYS(fstatat(third, name, &st, 0));
		assert_int_equal(st.st_mode & 07777, modes[i]);
		assert_int_equal(st.st_uid, i);
		assert_int_equal(st.st_gid, i + 10);
	}
}

static void deleted_files_in_child(void **state)
{
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int third = -1;

	put_file(first, "foo", "foo\n", 0644);
	put_file(first, "foobar", "foobar\n", 0644);
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	put_file(second, "foo2", "foo2\n", 0644);
	SYS(unlinkat(second, "foobar", 0));
	OK(commit(w, N("B"), N("b")));
	third = work_on(w, "c", N("B"));
	expect_file(third, "foo", "foo\n");
	expect_file(third, "foo2", "foo2\n");
	assert_false(has_file(third, "foobar"));
	put_file(third, "foobar", "again\n", 0644);
	OK(commit(w, N("C"), N("c")));
	close(STEAL_FD(third));
	third = look_at(w, "v", N("C"));
	expect_file(third, "foobar", "again\n");
}

static void move_file_from_lower_layer(void **state)
{
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int third = -1;

	put_folder(first, "dir1");
	put_folder(first, "dir2");
	put_file(first, "dir1/f1", "f1", 0644);
	put_file(first, "dir2/f2", "f2", 0644);
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	SYS(renameat(second, "dir1/f1", second, "dir2/f2"));
	OK(commit(w, N("B"), N("b")));
	third = look_at(w, "v", N("B"));
	expect_file(third, "dir2/f2", "f1");
	assert_false(has_file(third, "dir1/f1"));
}

/* A directory of a lower layer cannot be renamed without redirect_dir, and is copied by everybody who meets EXDEV; one of
 * this layer can. */
static void rename_directories(void **state)
{
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int third = -1;

	put_folder(first, "dir1");
	put_folder(first, "somefiles");
	put_file(first, "somefiles/f1", "f1", 0644);
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	assert_int_equal(renameat(second, "somefiles", second, "dir1/somefiles"), -1);
	assert_int_equal(errno, EXDEV);
	put_folder(second, "new");
	put_file(second, "new/f", "new", 0644);
	SYS(renameat(second, "new", second, "dir1/renamed"));
	OK(commit(w, N("B"), N("b")));
	third = look_at(w, "v", N("B"));
	expect_file(third, "dir1/renamed/f", "new");
	expect_file(third, "somefiles/f1", "f1");
	assert_false(has_file(third, "new"));
}

static void remove_intermediate(void **state)
{
	struct world *w = *state;

	layer(w, "A", base(), "a", "x");
	layer(w, "B", N("A"), "b", "x");
	OK(prepare(w, N("c"), N("B"), NULL));
	FAILS(snapshot_remove(w, N("A")), ERR_PRECONDITION);
	FAILS(snapshot_remove(w, N("B")), ERR_PRECONDITION);
	OK(snapshot_remove(w, N("c")));
	FAILS(snapshot_remove(w, N("A")), ERR_PRECONDITION);
	OK(snapshot_remove(w, N("B")));
	OK(snapshot_remove(w, N("A")));
}

static void views_are_read_only(void **state)
{
	struct world *w = *state;
	AUTO_FD int one = -1;
	AUTO_FD int two = -1;
	AUTO_FD int none = -1;

	layer(w, "A", base(), "f", "x");
	layer(w, "B", N("A"), "g", "y");
	one = look_at(w, "v1", N("A"));
	two = look_at(w, "v2", N("B"));
	none = look_at(w, "v0", base());
	expect_file(one, "f", "x");
	expect_file(two, "g", "y");
	assert_int_equal(openat(one, "f", O_WRONLY | O_CLOEXEC), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(openat(two, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(mkdirat(none, "new", 0755), -1);
	assert_int_equal(errno, EROFS);
	FAILS(commit(w, N("V"), N("v1")), ERR_PRECONDITION);
}

static void root_permission(void **state)
{
	struct world *w = *state;
	mode_t old = umask(077);
	AUTO_FD int fd = work_on(w, "a", "");
	struct stat st;

	umask(old);
	SYS(fstat(fd, &st));
	assert_int_equal(st.st_mode & 07777, 0755);
	/* What is changed stays, through a commit, in what stands on it. */
	SYS(fchmod(fd, 0711));
	SYS(fchown(fd, 7, 8));
	put_file(fd, "f", "x", 0644);
	OK(commit(w, N("A"), N("a")));
	close(STEAL_FD(fd));
	fd = work_on(w, "b", N("A"));
	SYS(fstat(fd, &st));
	assert_int_equal(st.st_mode & 07777, 0711);
	assert_int_equal(st.st_uid, 7);
	assert_int_equal(st.st_gid, 8);
}

static void ending_twice(void **state)
{
	struct world *w = *state;

	OK(prepare(w, N("a"), base(), NULL));
	OK(snapshot_remove(w, N("a")));
	FAILS(snapshot_remove(w, N("a")), ERR_NOT_FOUND);
	OK(prepare(w, N("a"), base(), NULL));
	OK(commit(w, N("A"), N("a")));
	FAILS(commit(w, N("A2"), N("a")), ERR_NOT_FOUND);
}

static size_t options_bytes(const struct mounts *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->list[0]->n_options; i++)
		n += strlen(m->list[0]->options[i]) + 1;
	return n;
}

/* Above a metadata image as many as fit into a page with the long paths of a test. */
static int many_layers(void)
{
	return *base() ? 88 : 128;
}

static void a_mount_of_128_layers(void **state)
{
	struct world *w = *state;
	const char *parent = base();
	struct mounts m = {0};
	AUTO_FD int fd = -1;
	char name[16], text[16];

	for (int i = 0; i < many_layers(); i++) {
		snprintf(name, sizeof(name), "L%d", i);
		snprintf(text, sizeof(text), "%d\n", i);
		layer(w, name, parent, name, text);
		parent = N(name);
	}
	OK(prepare(w, N("top"), parent, &m));
	/* mount(2) takes a page. Clients shorten a longer list, but not one that ends in a metadata image. */
	assert_int_equal(options_bytes(&m) > 4096, !*base());
	fd = mounts_tree(w, &m);
	for (int i = 0; i < many_layers(); i++) {
		snprintf(name, sizeof(name), "L%d", i);
		snprintf(text, sizeof(text), "%d\n", i);
		expect_file(fd, name, text);
	}
	put_file(fd, "bottom", "up", 0644);
	OK(commit(w, N("TOP"), N("top")));
	close(STEAL_FD(fd));
	fd = look_at(w, "v", N("TOP"));
	expect_file(fd, "bottom", "up");
	expect_file(fd, "L0", "0\n");
}

/* ---- what the suite does not have ---- */

static void a_parent_given_at_commit(void **state)
{
	struct world *w = *state;
	AUTO_FD int fd = -1;
	Snapshots__Info *info = NULL;

	layer(w, "A", base(), "below", "a");
	fd = work_on(w, "b", "");
	put_file(fd, "above", "b", 0644);
	FAILS(snapshot_commit(w, N("B"), N("b"), N("none"), ROOT_LABEL), ERR_NOT_FOUND);
	OK(prepare(w, N("x"), N("A"), NULL));
	FAILS(snapshot_commit(w, N("B"), N("b"), N("x"), ROOT_LABEL), ERR_PRECONDITION);
	FAILS(snapshot_commit(w, N("X"), N("x"), N("other"), ROOT_LABEL), ERR_INVALID);
	OK(snapshot_commit(w, N("X"), N("x"), N("A"), ROOT_LABEL));
	OK(snapshot_commit(w, N("B"), N("b"), N("A"), ROOT_LABEL));
	OK(snapshot_stat(w, N("B"), &info));
	assert_string_equal(info->parent, N("A"));
	FAILS(snapshot_remove(w, N("A")), ERR_PRECONDITION);
	close(STEAL_FD(fd));
	fd = look_at(w, "v", N("B"));
	expect_file(fd, "below", "a");
	expect_file(fd, "above", "b");
}

static void usage_of(struct world *w, const char *key, int64_t *bytes, int64_t *inodes)
{
	Snapshots__UsageRequest req = SNAPSHOTS__USAGE_REQUEST__INIT;
	Snapshots__UsageResponse *rsp = NULL;

	req.snapshotter = "overlayfs";
	req.key = key;
	OK(CALL("Usage", &req, &rsp));
	*bytes = rsp->size;
	*inodes = rsp->inodes;
}

static void usage(void **state)
{
	struct world *w = *state;
	AUTO_FD int fd = work_on(w, "a", base());
	int64_t bytes, inodes, again;

	usage_of(w, N("a"), &bytes, &inodes);
	assert_int_equal(inodes, 1);
	put_file(fd, "f", "some bytes", 0644);
	SYS(linkat(fd, "f", fd, "g", 0));
	SYS(fsync(fd));
	usage_of(w, N("a"), &again, &inodes);
	assert_int_equal(inodes, 2);
	assert_true(again >= bytes + 4096);
	OK(commit(w, N("A"), N("a")));
	usage_of(w, N("A"), &bytes, &inodes);
	assert_int_equal(inodes, 2);
	OK(view(w, N("v"), N("A"), NULL));
	usage_of(w, N("v"), &bytes, &inodes);
	assert_int_equal(bytes, 0);
	assert_int_equal(inodes, 0);
	OK(prepare(w, N("b"), N("A"), NULL));
	usage_of(w, N("b"), &bytes, &inodes);
	assert_int_equal(inodes, 1); /* parents do not count */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, world_tear_down)
	const struct CMUnitTest tests[] = {TEST(basic),
	                                   TEST(stat_active),
	                                   TEST(stat_committed),
	                                   TEST(transitivity),
	                                   TEST(prepare_and_view_of_a_used_key),
	                                   TEST(updates),
	                                   TEST(removing),
	                                   TEST(walk),
	                                   TEST(stat_in_walk),
	                                   TEST(layer_file_update),
	                                   TEST(remove_directory_in_lower_layer),
	                                   TEST(chown_of_lower_files),
	                                   TEST(directory_permission_on_commit),
	                                   TEST(deleted_files_in_child),
	                                   TEST(move_file_from_lower_layer),
	                                   TEST(rename_directories),
	                                   TEST(remove_intermediate),
	                                   TEST(views_are_read_only),
	                                   TEST(root_permission),
	                                   TEST(ending_twice),
	                                   TEST(a_mount_of_128_layers),
	                                   TEST(a_parent_given_at_commit),
	                                   TEST(usage)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
