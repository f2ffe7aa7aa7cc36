/* Many threads that prepare, commit and remove: all on the same names, and names of their own on parents that they share.
 * Whatever the order, records and directories make sense. Directories are real, nothing is mounted. */
#include "base/testing.h"

#include "base/file.h"
#include "base/kv_mem.h"
#include "base/map.h"
#include "snapshotter/record.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#define THREADS 8
#define ROUNDS 60
#define NAMES 6 /* that all threads share */

static const struct snap_space SPACE = {"default", "overlayfs"};
static const struct labels NO_LABELS;

struct world {
	char dir[64];
	char *root, *state;
	struct kv_mem *mem;
	struct kv kv;
	struct snap_store *store;
	/* By name: how often it came into being and ceased to be, as the calls have answered. */
	atomic_int balance[NAMES];
	atomic_int wrong; /* answers that must not be */
};

/* ---- a table where others get their turn between any two calls ---- */

static int yielding_get(void *arg, struct str key, struct buf *value, struct err *err)
{
	sched_yield();
	return kv_get(kv_mem_kv(arg), key, value, err);
}

static int yielding_scan(void *arg, struct str prefix, struct str after,
                         int (*fn)(void *fn_arg, struct str key, struct str value, struct err *err), void *fn_arg,
                         struct err *err)
{
	sched_yield();
	return kv_scan_after(kv_mem_kv(arg), prefix, after, fn, fn_arg, err);
}

static int yielding_write(void *arg, const struct kv_op *ops, unsigned n_ops, bool sync, struct err *err)
{
	sched_yield();
	return kv_write(kv_mem_kv(arg), ops, n_ops, sync, err);
}

static void open_store(struct world *w)
{
	struct snap_opts opts = {w->root, w->state, &w->kv, SNAP_LEVEL_OVERLAY};

	OK(snap_store_new(&opts, &w->store, err));
}

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	strcpy(w->dir, "/tmp/snapshotter-parallel-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->root = xasprintf("%s/root", w->dir);
	w->state = xasprintf("%s/state", w->dir);
	if (dir_make(w->root, 0700, NULL) < 0)
		return -1;
	w->mem = kv_mem_new();
	w->kv = (struct kv){yielding_get, yielding_scan, yielding_write, w->mem};
	kv_mem_remember(w->mem);
	open_store(w);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	int tmp_fd = open("/tmp", O_RDONLY | O_DIRECTORY);
	int r;

	snap_store_free(w->store);
	kv_mem_free(w->mem);
	r = dir_remove(tmp_fd, w->dir + strlen("/tmp/"), NULL);
	close(tmp_fd);
	free(w->root);
	free(w->state);
	free(w);
	return r;
}

/* ---- what must hold, whoever did what ---- */

/* fn of a scan must not use the table: names and parents are kept. */
struct names {
	VEC(char *) names, parents;
	struct map *dirs;
};

static int note(void *arg, struct str key, struct str value, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	struct names *n = arg;
	struct str ns, snapshotter, name;

	assert_true(snap_key_split(key, &ns, &snapshotter, &name));
	TRY(snap_record_decode(name, value, &r, err));
	vec_push(&n->names, str_dup(name));
	vec_push(&n->parents, xstrdup(r.info.parent));
	if (!r.id)
		return 0;
	assert_false(map_has(n->dirs, map_key_u64(&r.id)));
	map_put(n->dirs, map_key_u64(&r.id), n);
	return 0;
}

static int count(void *arg, struct str key, struct str value, struct err *err)
{
	++*(unsigned *)arg;
	return 0;
}

static void check_dirs(struct world *w, const struct map *dirs)
{
	AUTO_FREE char *path = xasprintf("%s/snapshots", w->root);
	DIR *d = opendir(path);
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d))) {
		uint64_t id;

		if (*e->d_name == '.')
			continue;
		assert_true(str_u64(str_of(e->d_name), 10, &id));
		assert_true(map_has(dirs, map_key_u64(&id)));
		n++;
	}
	closedir(d);
	assert_int_equal(n, dirs->n);
}

/* Parents are there and committed, each child has its mark, each record its directory, and nothing has more. */
static void check_records(struct world *w)
{
	struct map dirs = MAP_INIT;
	struct names n = {.dirs = &dirs};
	unsigned marks = 0, children = 0;

	OK(kv_scan(kv_mem_kv(w->mem), SNAP_KEY_RECORDS, note, &n, err));
	OK(kv_scan(kv_mem_kv(w->mem), STR("snapchild/"), count, &marks, err));
	for (size_t i = 0; i < n.names.n; i++) {
		AUTO(snap_info) struct snap_info parent = {0};
		bool has;

		if (*n.parents.p[i]) {
			children++;
			OK(snap_stat(w->store, SPACE, n.parents.p[i], &parent, err));
			assert_int_equal(parent.kind, SNAP_COMMITTED);
			OK(snap_record_has_children(kv_mem_kv(w->mem), SPACE, n.parents.p[i], &has, err));
			assert_true(has);
		}
		free(n.names.p[i]);
		free(n.parents.p[i]);
	}
	assert_int_equal(marks, children);
	snap_cleanup(w->store);
	check_dirs(w, &dirs);
	vec_fini(&n.names);
	vec_fini(&n.parents);
	map_fini(&dirs);
}

/* ---- threads ---- */

struct worker {
	struct world *w;
	unsigned number, seed;
};

static void run_all(struct world *w, void *(*fn)(void *arg))
{
	struct worker workers[THREADS];
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){w, i, i + 1};
		assert_int_equal(pthread_create(&threads[i], NULL, fn, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(w->wrong, 0);
}

static int prepare(struct world *w, const char *key, const char *parent)
{
	AUTO(snap_mounts) struct snap_mounts m = SNAP_MOUNTS_INIT;

	return snap_prepare(w->store, SPACE, key, parent, &NO_LABELS, &m, NULL);
}

/* ---- all on the same names ---- */

static const char *shared(unsigned i)
{
	static const char *const names[NAMES] = {"a", "b", "c", "d", "e", "f"};

	return names[i % NAMES];
}

static void allow(struct world *w, int r, unsigned codes)
{
	if (r < 0 && !(codes >> -r & 1))
		w->wrong++;
}
#define CODE(c) (1u << (c))

/* One of: prepare, on nothing or on another; commit under another name; remove. Each may fail for what others do. */
static void *fight(void *arg)
{
	struct worker *me = arg;
	struct world *w = me->w;

	for (int i = 0; i < ROUNDS; i++) {
		unsigned one = (unsigned)rand_r(&me->seed) % NAMES, other = (unsigned)rand_r(&me->seed) % NAMES;
		int r;

		switch (rand_r(&me->seed) % 3) {
		case 0:
			r = prepare(w, shared(one), one == other ? "" : shared(other));
			allow(w, r, CODE(ERR_EXISTS) | CODE(ERR_NOT_FOUND) | CODE(ERR_INVALID));
			w->balance[one] += r >= 0;
			break;
		case 1:
			r = snap_commit(w->store, SPACE, shared(one), shared(other), "", &NO_LABELS, NULL);
			allow(w, r,
			      CODE(ERR_EXISTS) | CODE(ERR_NOT_FOUND) | CODE(ERR_PRECONDITION) | CODE(ERR_ABORTED));
			w->balance[one] += r >= 0;
			w->balance[other] -= r >= 0;
			break;
		default:
			r = snap_remove(w->store, SPACE, shared(one), NULL);
			allow(w, r, CODE(ERR_NOT_FOUND) | CODE(ERR_PRECONDITION));
			w->balance[one] -= r >= 0;
		}
	}
	return NULL;
}

static void on_the_same_names(void **state)
{
	struct world *w = *state;

	run_all(w, fight);
	for (unsigned i = 0; i < NAMES; i++)
		assert_int_equal(w->balance[i], snap_record_exists(kv_mem_kv(w->mem), SPACE, shared(i)));
	check_records(w);
}

/* ---- names of their own, on parents that come and go ---- */

static void *stack_up(void *arg)
{
	struct worker *me = arg;
	struct world *w = me->w;
	char key[32], name[32];

	snprintf(key, sizeof(key), "key-%u", me->number);
	snprintf(name, sizeof(name), "name-%u", me->number);
	for (int i = 0; i < ROUNDS; i++) {
		const char *parent = shared((unsigned)rand_r(&me->seed));
		AUTO(snap_info) struct snap_info info = {0};
		int r = prepare(w, key, parent);

		if (r == -ERR_NOT_FOUND) {
			/* Somebody makes it: one of those who try. */
			w->wrong += prepare(w, key, "") < 0;
			r = snap_commit(w->store, SPACE, parent, key, "", &NO_LABELS, NULL);
			allow(w, r, CODE(ERR_EXISTS));
			if (r < 0)
				w->wrong += snap_remove(w->store, SPACE, key, NULL) < 0;
			continue;
		}
		/* Nobody but this thread takes its child away: as long, the parent stays, under whichever name the child
		 * has by then. */
		w->wrong += r < 0 || snap_remove(w->store, SPACE, parent, NULL) != -ERR_PRECONDITION;
		w->wrong += snap_commit(w->store, SPACE, name, key, "", &NO_LABELS, NULL) < 0;
		w->wrong += snap_remove(w->store, SPACE, parent, NULL) != -ERR_PRECONDITION;
		w->wrong += snap_stat(w->store, SPACE, parent, &info, NULL) < 0;
		w->wrong += snap_remove(w->store, SPACE, name, NULL) < 0;
		/* Now it may go, unless another has a child on it. */
		allow(w, snap_remove(w->store, SPACE, parent, NULL), CODE(ERR_NOT_FOUND) | CODE(ERR_PRECONDITION));
	}
	return NULL;
}

static void on_shared_parents(void **state)
{
	struct world *w = *state;

	run_all(w, stack_up);
	check_records(w);
}

/* ---- what is answered is on disk ---- */

/* The change is written, and then the disk fails, and the machine with it. */
static void restart_after(struct world *w, int r)
{
	assert_int_equal(r, -ERR_EXHAUSTED);
	kv_mem_fail_after(w->mem, 0, ERR_OK);
	snap_store_free(w->store);
	kv_mem_crash(w->mem, 0);
	open_store(w);
	check_records(w);
}

static void nothing_goes_before_the_disk_knows(void **state)
{
	struct world *w = *state;
	AUTO(snap_info) struct snap_info i = {0};
	AUTO(snap_info) struct snap_info after = {0};
	struct digest index = {{1}};

	assert_int_equal(prepare(w, "a", ""), 0);
	OK(snap_apply_index(w->store, SPACE, "a", &index, 1, 1, err));
	OK(kv_sync(kv_mem_kv(w->mem), err));
	kv_mem_fail_after(w->mem, 1, ERR_EXHAUSTED);
	restart_after(w, snap_remove(w->store, SPACE, "a", NULL));
	kv_mem_fail_after(w->mem, 1, ERR_EXHAUSTED);
	restart_after(w, snap_commit(w->store, SPACE, "A", "a", "", &NO_LABELS, NULL));
	OK(snap_stat(w->store, SPACE, "a", &i, err));
	assert_int_equal(i.kind, SNAP_ACTIVE);
	OK(snap_commit(w->store, SPACE, "A", "a", "", &NO_LABELS, err));
	snap_store_free(w->store);
	kv_mem_crash(w->mem, 0);
	open_store(w);
	OK(snap_stat(w->store, SPACE, "A", &after, err));
	assert_false(after.has_dir);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(on_the_same_names),
	    TEST(on_shared_parents),
	    TEST(nothing_goes_before_the_disk_knows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
