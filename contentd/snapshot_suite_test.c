/*
 * Cases of containerd's snapshot suite, each a test through the service, on real mounts. They stand on nothing, or on the
 * committed snapshot that CONTENTD_TEST_BASE names; with CONTENTD_TEST_ADDRESS in a daemon that somebody else has
 * started (testing/world.h).
 */
#include "base/file.h"
#include "contentd/diff/trees.h"
#include "contentd/testing/world.h"
#include "rpc/proto/snapshots.pb-c.h"

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

#define OK(call)                                                                                                       \
	do {                                                                                                           \
		if ((call) < 0)                                                                                        \
			fail_msg("%s: %s", #call, w->err.msg);                                                         \
	} while (0)
#define SYS(call)                                                                                                      \
	do {                                                                                                           \
		if ((call) < 0)                                                                                        \
			fail_msg("%s: %s", #call, strerror(errno));                                                    \
	} while (0)
#define FAILS(call, code) assert_int_equal((call), -(code))
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

/* ---- calls ---- */

struct mounts {
	Types__Mount **list;
	size_t n;
};

static int prepare_with(struct world *w, const char *key, const char *parent, const char *labels, struct mounts *out)
{
	Snapshots__PrepareSnapshotRequest req = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;
	Snapshots__PrepareSnapshotResponse *rsp = NULL;
	int r;

	req.snapshotter = "overlayfs";
	req.key = key;
	req.parent = parent;
	WORLD_KVS(w, &req, labels, labels);
	r = CALL("Prepare", &req, &rsp);
	if (r >= 0 && out)
		*out = (struct mounts){rsp->mounts, rsp->n_mounts};
	return r;
}

static int prepare(struct world *w, const char *key, const char *parent, struct mounts *out)
{
	return prepare_with(w, key, parent, ROOT_LABEL, out);
}

static int view(struct world *w, const char *key, const char *parent, struct mounts *out)
{
	Snapshots__ViewSnapshotRequest req = SNAPSHOTS__VIEW_SNAPSHOT_REQUEST__INIT;
	Snapshots__ViewSnapshotResponse *rsp = NULL;
	int r;

	req.snapshotter = "overlayfs";
	req.key = key;
	req.parent = parent;
	WORLD_KVS(w, &req, labels, ROOT_LABEL);
	r = CALL("View", &req, &rsp);
	if (r >= 0 && out)
		*out = (struct mounts){rsp->mounts, rsp->n_mounts};
	return r;
}

static int commit_onto(struct world *w, const char *name, const char *key, const char *parent)
{
	Snapshots__CommitSnapshotRequest req = SNAPSHOTS__COMMIT_SNAPSHOT_REQUEST__INIT;

	req.snapshotter = "overlayfs";
	req.name = name;
	req.key = key;
	req.parent = parent;
	WORLD_KVS(w, &req, labels, ROOT_LABEL);
	return CALL("Commit", &req, NULL);
}

static int commit(struct world *w, const char *name, const char *key)
{
	return commit_onto(w, name, key, "");
}

static int drop(struct world *w, const char *key)
{
	Snapshots__RemoveSnapshotRequest req = SNAPSHOTS__REMOVE_SNAPSHOT_REQUEST__INIT;

	req.snapshotter = "overlayfs";
	req.key = key;
	return CALL("Remove", &req, NULL);
}

static int mounts_of(struct world *w, const char *key, struct mounts *out)
{
	Snapshots__MountsRequest req = SNAPSHOTS__MOUNTS_REQUEST__INIT;
	Snapshots__MountsResponse *rsp = NULL;
	int r;

	req.snapshotter = "overlayfs";
	req.key = key;
	r = CALL("Mounts", &req, &rsp);
	if (r >= 0 && out)
		*out = (struct mounts){rsp->mounts, rsp->n_mounts};
	return r;
}

static int stat_of(struct world *w, const char *key, Snapshots__Info **out)
{
	Snapshots__StatSnapshotRequest req = SNAPSHOTS__STAT_SNAPSHOT_REQUEST__INIT;
	Snapshots__StatSnapshotResponse *rsp = NULL;
	int r;

	req.snapshotter = "overlayfs";
	req.key = key;
	r = CALL("Stat", &req, &rsp);
	if (r >= 0 && out)
		*out = rsp->info;
	return r;
}

static int update(struct world *w, const char *key, const char *parent, const char *labels, const char *mask)
{
	Snapshots__UpdateSnapshotRequest req = SNAPSHOTS__UPDATE_SNAPSHOT_REQUEST__INIT;
	Snapshots__Info info = SNAPSHOTS__INFO__INIT;
	Pb__FieldMask m = PB__FIELD_MASK__INIT;

	req.snapshotter = "overlayfs";
	info.name = key;
	info.parent = parent;
	WORLD_KVS(w, &info, labels, labels);
	req.info = &info;
	m.paths = &mask;
	m.n_paths = 1;
	req.update_mask = mask ? &m : NULL;
	return CALL("Update", &req, NULL);
}

/* ---- mounts ---- */

/* The root of the mounts: as a client mounts them, but seen by nobody else. The caller closes it. */
static int tree_of(struct world *w, const struct mounts *m)
{
	AUTO_FREE char *scratch = xasprintf("%s/mnt", w->dir);
	AUTO(tree_mounts) struct tree_mounts list = TREE_MOUNTS_INIT;
	int fd = -1;

	if (mkdir(scratch, 0755) < 0)
		assert_int_equal(errno, EEXIST);
	tree_mounts_of_api(m->list, m->n, &list);
	OK(tree_open(&list, scratch, &fd, &w->err));
	return fd;
}

static void put(int fd, const char *path, const char *text, mode_t mode)
{
	AUTO_FD int f = openat(fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	SYS(f);
	assert_int_equal(write(f, text, strlen(text)), strlen(text));
	SYS(fchmod(f, mode));
}

static void folder(int fd, const char *path)
{
	SYS(mkdirat(fd, path, 0755));
}

#define expect(fd, path, text) expect_at(w, (fd), (path), (text), __LINE__)
static void expect_at(struct world *w, int fd, const char *path, const char *text, int line)
{
	AUTO(buf) struct buf got = BUF_INIT;

	if (file_read(fd, path, 1 << 20, &got, &w->err) < 0)
		fail_msg("line %d, %s: %s", line, path, w->err.msg);
	if (strcmp(buf_cstr(&got), text))
		fail_msg("line %d, %s: \"%s\" is not \"%s\"", line, path, buf_cstr(&got), text);
}

static bool has(int fd, const char *path)
{
	struct stat st;

	return fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Prepares `key`, gives its tree. */
static int work_on(struct world *w, const char *key, const char *parent)
{
	struct mounts m = {0};

	OK(prepare(w, N(key), parent, &m));
	return tree_of(w, &m);
}

static int look_at(struct world *w, const char *key, const char *parent)
{
	struct mounts m = {0};

	OK(view(w, N(key), parent, &m));
	return tree_of(w, &m);
}

/* A committed layer with one file. */
static void layer(struct world *w, const char *name, const char *parent, const char *file, const char *text)
{
	AUTO_FREE char *key = xasprintf("%s-active", name);
	AUTO_FD int fd = work_on(w, key, parent);

	put(fd, file, text, 0644);
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

	put(first, "foo", "foo\n", 0644);
	folder(first, "a");
	folder(first, "a/b");
	put(first, "a/b/c", "c\n", 0600);
	OK(commit(w, N("A"), N("a")));
	OK(stat_of(w, N("A"), &info));
	assert_int_equal(info->kind, SNAPSHOTS__KIND__COMMITTED);
	assert_string_equal(info->parent, base());
	FAILS(stat_of(w, N("a"), NULL), ERR_NOT_FOUND);
	second = work_on(w, "b", N("A"));
	expect(second, "foo", "foo\n");
	put(second, "bar", "bar\n", 0644);
	SYS(unlinkat(second, "a/b/c", 0));
	OK(stat_of(w, N("b"), &info));
	assert_int_equal(info->kind, SNAPSHOTS__KIND__ACTIVE);
	assert_string_equal(info->parent, N("A"));
	OK(commit(w, N("B"), N("b")));
	FAILS(mounts_of(w, N("b"), NULL), ERR_NOT_FOUND);
	seen = look_at(w, "v", N("B"));
	expect(seen, "foo", "foo\n");
	expect(seen, "bar", "bar\n");
	assert_true(has(seen, "a/b"));
	assert_false(has(seen, "a/b/c"));
	OK(drop(w, N("v")));
	FAILS(drop(w, N("A")), ERR_PRECONDITION);
	OK(drop(w, N("B")));
	OK(drop(w, N("A")));
}

static void stat_active(void **state)
{
	struct world *w = *state;
	Snapshots__Info *info = NULL;

	OK(prepare(w, N("a"), base(), NULL));
	OK(stat_of(w, N("a"), &info));
	assert_string_equal(info->name, N("a"));
	assert_string_equal(info->parent, base());
	assert_int_equal(info->kind, SNAPSHOTS__KIND__ACTIVE);
}

static void stat_committed(void **state)
{
	struct world *w = *state;
	Snapshots__Info *info = NULL;

	layer(w, "A", base(), "f", "x");
	OK(stat_of(w, N("A"), &info));
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
		OK(stat_of(w, N(chain[i]), &info));
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

	OK(stat_of(w, key, &info));
	assert_string_equal(world_kvs_text(w, info->labels, info->n_labels), labels);
}

static bool is_later(const Pb__Timestamp *a, const Pb__Timestamp *b)
{
	return a->seconds > b->seconds || (a->seconds == b->seconds && a->nanos > b->nanos);
}

static void update_of(struct world *w, const char *key)
{
	Snapshots__Info *before = NULL, *after = NULL;

	OK(update(w, key, "", ROOT_LABEL " one=1 two=2", NULL));
	expect_labels(w, key, ROOT_LABEL " one=1 two=2");
	OK(stat_of(w, key, &before));
	OK(update(w, key, "", "one=new two=ignored", "labels.one"));
	expect_labels(w, key, ROOT_LABEL " one=new two=2");
	OK(stat_of(w, key, &after));
	assert_true(is_later(after->updated_at, before->updated_at));
	assert_int_equal(after->created_at->nanos, before->created_at->nanos);
	OK(update(w, key, "", "", "labels.two"));
	expect_labels(w, key, ROOT_LABEL " one=new");
	OK(update(w, key, "", "a.b/c=x", "labels"));
	expect_labels(w, key, "a.b/c=x");
	OK(update(w, key, "", ROOT_LABEL " a.b/c=y", NULL));
	expect_labels(w, key, "a.b/c=y " ROOT_LABEL);
	FAILS(update(w, key, "other", "", "parent"), ERR_INVALID);
	FAILS(update(w, key, "", "", "kind"), ERR_INVALID);
	FAILS(update(w, key, "", "", "created"), ERR_INVALID);
	/* Not in the mask: ignored. */
	OK(update(w, key, "other", "z=1", "labels.z"));
	OK(stat_of(w, key, &after));
	assert_string_equal(after->parent, before->parent);
}

static void updates(void **state)
{
	struct world *w = *state;
	Snapshots__Info *info = NULL;

	layer(w, "A", base(), "f", "x");
	OK(prepare(w, N("b"), N("A"), NULL));
	OK(view(w, N("v"), N("A"), NULL));
	OK(stat_of(w, N("b"), &info));
	assert_int_equal(info->created_at->nanos, info->updated_at->nanos);
	update_of(w, N("A"));
	update_of(w, N("b"));
	update_of(w, N("v"));
	FAILS(update(w, N("none"), "", "", NULL), ERR_NOT_FOUND);
}

static void removing(void **state)
{
	struct world *w = *state;

	OK(prepare(w, N("k"), base(), NULL));
	OK(drop(w, N("k")));
	FAILS(stat_of(w, N("k"), NULL), ERR_NOT_FOUND);
	OK(view(w, N("k"), base(), NULL));
	OK(drop(w, N("k")));
	OK(prepare(w, N("k"), "", NULL));
	OK(commit(w, N("K"), N("k")));
	OK(prepare(w, N("other"), "", NULL));
	OK(drop(w, N("K")));
	OK(commit(w, N("K"), N("other")));
	OK(prepare(w, N("k"), N("K"), NULL));
	FAILS(drop(w, N("K")), ERR_PRECONDITION);
	OK(drop(w, N("k")));
	OK(drop(w, N("K")));
	FAILS(drop(w, N("K")), ERR_NOT_FOUND);
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
	OK(prepare_with(w, N("b"), N("A"), ROOT_LABEL " app=web", NULL));
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
			OK(stat_of(w, arena_strdup(&w->a, rsp->info[i]->name), NULL));
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

	folder(first, "etc-suite");
	put(first, "foo", "hello\n", 0700);
	put(first, "etc-suite/hosts", "localhost", 0644);
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	put(second, "bar", "hello", 0700);
	put(second, "etc-suite/hosts", "changed", 0644);
	OK(commit(w, N("B"), N("b")));
	third = work_on(w, "c", N("B"));
	expect(third, "foo", "hello\n");
	expect(third, "bar", "hello");
	expect(third, "etc-suite/hosts", "changed");
	/* The layer below is what it was. */
	close(STEAL_FD(third));
	third = look_at(w, "v", N("A"));
	expect(third, "etc-suite/hosts", "localhost");
}

static void remove_directory_in_lower_layer(void **state)
{
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int third = -1;
	AUTO_FD int fourth = -1;

	folder(first, "lib-suite");
	put(first, "lib-suite/hidden", "hidden", 0644);
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	SYS(unlinkat(second, "lib-suite/hidden", 0));
	SYS(unlinkat(second, "lib-suite", AT_REMOVEDIR));
	folder(second, "lib-suite");
	put(second, "lib-suite/not-hidden", "seen", 0644);
	OK(commit(w, N("B"), N("b")));
	third = work_on(w, "c", N("B"));
	expect(third, "lib-suite/not-hidden", "seen");
	assert_false(has(third, "lib-suite/hidden"));
	put(third, "lib-suite/later", "later", 0644);
	OK(commit(w, N("C"), N("c")));
	fourth = look_at(w, "v", N("C"));
	assert_false(has(fourth, "lib-suite/hidden"));
	expect(fourth, "lib-suite/later", "later");
}

static void chown_of_lower_files(void **state)
{
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int third = -1;
	struct stat st;

	folder(first, "opt-suite");
	put(first, "opt-suite/f", "x", 0644);
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
	expect(third, "opt-suite/f", "x");
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
		folder(first, name);
		SYS(fchmodat(first, name, modes[i], 0));
		SYS(fchownat(first, name, (uid_t)i, (gid_t)i + 10, 0));
		SYS(fchmodat(first, name, modes[i], 0));
	}
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	put(second, "dir1/file", "x", 0644); /* copies the directory up */
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

	put(first, "foo", "foo\n", 0644);
	put(first, "foobar", "foobar\n", 0644);
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	put(second, "foo2", "foo2\n", 0644);
	SYS(unlinkat(second, "foobar", 0));
	OK(commit(w, N("B"), N("b")));
	third = work_on(w, "c", N("B"));
	expect(third, "foo", "foo\n");
	expect(third, "foo2", "foo2\n");
	assert_false(has(third, "foobar"));
	put(third, "foobar", "again\n", 0644);
	OK(commit(w, N("C"), N("c")));
	close(STEAL_FD(third));
	third = look_at(w, "v", N("C"));
	expect(third, "foobar", "again\n");
}

static void move_file_from_lower_layer(void **state)
{
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int third = -1;

	folder(first, "dir1");
	folder(first, "dir2");
	put(first, "dir1/f1", "f1", 0644);
	put(first, "dir2/f2", "f2", 0644);
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	SYS(renameat(second, "dir1/f1", second, "dir2/f2"));
	OK(commit(w, N("B"), N("b")));
	third = look_at(w, "v", N("B"));
	expect(third, "dir2/f2", "f1");
	assert_false(has(third, "dir1/f1"));
}

/* A directory of a lower layer cannot be renamed without redirect_dir, and is copied by everybody who meets EXDEV; one of
 * this layer can. */
static void rename_directories(void **state)
{
	struct world *w = *state;
	AUTO_FD int first = work_on(w, "a", base());
	AUTO_FD int second = -1;
	AUTO_FD int third = -1;

	folder(first, "dir1");
	folder(first, "somefiles");
	put(first, "somefiles/f1", "f1", 0644);
	OK(commit(w, N("A"), N("a")));
	second = work_on(w, "b", N("A"));
	assert_int_equal(renameat(second, "somefiles", second, "dir1/somefiles"), -1);
	assert_int_equal(errno, EXDEV);
	folder(second, "new");
	put(second, "new/f", "new", 0644);
	SYS(renameat(second, "new", second, "dir1/renamed"));
	OK(commit(w, N("B"), N("b")));
	third = look_at(w, "v", N("B"));
	expect(third, "dir1/renamed/f", "new");
	expect(third, "somefiles/f1", "f1");
	assert_false(has(third, "new"));
}

static void remove_intermediate(void **state)
{
	struct world *w = *state;

	layer(w, "A", base(), "a", "x");
	layer(w, "B", N("A"), "b", "x");
	OK(prepare(w, N("c"), N("B"), NULL));
	FAILS(drop(w, N("A")), ERR_PRECONDITION);
	FAILS(drop(w, N("B")), ERR_PRECONDITION);
	OK(drop(w, N("c")));
	FAILS(drop(w, N("A")), ERR_PRECONDITION);
	OK(drop(w, N("B")));
	OK(drop(w, N("A")));
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
	expect(one, "f", "x");
	expect(two, "g", "y");
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
	put(fd, "f", "x", 0644);
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
	OK(drop(w, N("a")));
	FAILS(drop(w, N("a")), ERR_NOT_FOUND);
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
	fd = tree_of(w, &m);
	for (int i = 0; i < many_layers(); i++) {
		snprintf(name, sizeof(name), "L%d", i);
		snprintf(text, sizeof(text), "%d\n", i);
		expect(fd, name, text);
	}
	put(fd, "bottom", "up", 0644);
	OK(commit(w, N("TOP"), N("top")));
	close(STEAL_FD(fd));
	fd = look_at(w, "v", N("TOP"));
	expect(fd, "bottom", "up");
	expect(fd, "L0", "0\n");
}

/* ---- what the suite does not have ---- */

static void a_parent_given_at_commit(void **state)
{
	struct world *w = *state;
	AUTO_FD int fd = -1;
	Snapshots__Info *info = NULL;

	layer(w, "A", base(), "below", "a");
	fd = work_on(w, "b", "");
	put(fd, "above", "b", 0644);
	FAILS(commit_onto(w, N("B"), N("b"), N("none")), ERR_NOT_FOUND);
	OK(prepare(w, N("x"), N("A"), NULL));
	FAILS(commit_onto(w, N("B"), N("b"), N("x")), ERR_PRECONDITION);
	FAILS(commit_onto(w, N("X"), N("x"), N("other")), ERR_INVALID);
	OK(commit_onto(w, N("X"), N("x"), N("A")));
	OK(commit_onto(w, N("B"), N("b"), N("A")));
	OK(stat_of(w, N("B"), &info));
	assert_string_equal(info->parent, N("A"));
	FAILS(drop(w, N("A")), ERR_PRECONDITION);
	close(STEAL_FD(fd));
	fd = look_at(w, "v", N("B"));
	expect(fd, "below", "a");
	expect(fd, "above", "b");
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
	put(fd, "f", "some bytes", 0644);
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
