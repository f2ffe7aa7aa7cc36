/*
 * Snapshots: chains that lead to their base, directories that are there, indexes that are good.
 *
 * A snapshot is broken when it cannot be mounted: something on the way to its base is missing. Committed ones that nobody
 * works on are dropped: they are made again by the next pull. Where a container's directory stands on a broken chain
 * nothing is dropped, for it may hold the only copy of somebody's work: a pull of the image mends it.
 */
#include "contentd/fsck/internal.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define NO_WORK_DIR "its work directory is not there"
#define NO_LOWER "a layer index that it was made on is not there"

struct chains {
	struct fsck *f;
	int dirs_fd;        /* <root>/snapshots, or -1 */
	struct map by_name; /* "<ns>\0<snapshotter>\0<name>" -> index + 1 in f->snapshots */
	struct map by_dir;  /* number of a directory, in text */
};

static void name_key(struct snap_space sp, const char *name, struct buf *out)
{
	buf_add(out, sp.ns, strlen(sp.ns) + 1);
	buf_add(out, sp.snapshotter, strlen(sp.snapshotter) + 1);
	buf_adds(out, name);
}

/* Also one that was dropped. */
static struct fsck_snapshot *find_any(struct chains *c, struct snap_space sp, const char *name)
{
	AUTO(buf) struct buf key = BUF_INIT;
	uintptr_t at;

	name_key(sp, name, &key);
	at = (uintptr_t)map_get(&c->by_name, buf_str(&key));
	return at ? &c->f->snapshots.p[at - 1] : NULL;
}

static struct fsck_snapshot *find(struct chains *c, struct snap_space sp, const char *name)
{
	struct fsck_snapshot *s = find_any(c, sp, name);

	return s && !s->gone ? s : NULL;
}

static char *full_name(struct chains *c, const struct fsck_snapshot *s)
{
	return arena_printf(&c->f->arena, "%s/%s/%s", s->space.ns, s->space.snapshotter, s->record.info.name);
}

static void learn(struct chains *c)
{
	for (size_t i = 0; i < c->f->snapshots.n; i++) {
		AUTO(buf) struct buf key = BUF_INIT;
		AUTO_FREE char *dir = NULL;
		struct fsck_snapshot *s = &c->f->snapshots.p[i];

		name_key(s->space, s->record.info.name, &key);
		map_put(&c->by_name, buf_str(&key), (void *)(uintptr_t)(i + 1));
		dir = xasprintf("%llu", (unsigned long long)s->record.id);
		if (s->record.id)
			map_put(&c->by_dir, str_of(dir), NULL);
		c->f->result->snapshots++;
	}
}

/* ---- what one snapshot lacks by itself ---- */

static bool is_dir(int fd, const char *path)
{
	struct stat st;

	return fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* A static text, or NULL. */
static const char *lacks(struct chains *c, const struct fsck_snapshot *s)
{
	AUTO_FREE char *fs = xasprintf("%llu/fs", (unsigned long long)s->record.id);
	AUTO_FREE char *work = xasprintf("%llu/work", (unsigned long long)s->record.id);
	const struct snap_info *i = &s->record.info;
	const struct fsck_snapshot *parent;
	char hex[65];

	if (*i->parent) {
		parent = find(c, s->space, i->parent);
		if (!parent)
			return "its parent is not there";
		if (parent->record.info.kind != SNAP_COMMITTED)
			return "its parent is not committed";
	}
	if (i->indexed && !map_has(&c->f->indexes, str_of(digest_hex(&i->index_key, hex))))
		return "its layer index is not there";
	if (s->record.id && (c->dirs_fd < 0 || !is_dir(c->dirs_fd, fs)))
		return "its directory is not there";
	if (s->record.id && i->kind == SNAP_ACTIVE && !is_dir(c->dirs_fd, work))
		return NO_WORK_DIR;
	if (!s->record.id && !i->indexed)
		return "it has neither an index nor a directory";
	return NULL;
}

/* Its layers have got other indexes since, and one of those before, which it is mounted with, is missing. */
static bool lacks_lower(struct chains *c, const struct fsck_snapshot *s)
{
	char hex[65];

	vec_each(&s->record.lower, key)
		if (!map_has(&c->f->indexes, str_of(digest_hex(key, hex))))
			return true;
	return false;
}

/* ---- dropping ---- */

/* A broken snapshot that has no child and holds nobody's work goes; then perhaps its parent. */
static bool is_droppable(const struct fsck_snapshot *s)
{
	return !s->children && s->record.info.kind != SNAP_ACTIVE;
}

static struct fsck_snapshot *parent_of(struct chains *c, const struct fsck_snapshot *s)
{
	return *s->record.info.parent ? find(c, s->space, s->record.info.parent) : NULL;
}

static void count_children(struct chains *c)
{
	vec_each(&c->f->snapshots, s) {
		struct fsck_snapshot *parent = parent_of(c, s);

		if (parent)
			parent->children++;
	}
}

static int drop(struct chains *c, struct fsck_snapshot *s, struct err *err)
{
	AUTO_FREE char *dir = xasprintf("%llu", (unsigned long long)s->record.id);
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf mark = BUF_INIT;
	struct kv_op op = {.remove = true};

	snap_key_record(s->space, s->record.info.name, &key);
	TRY(fsck_lose_key(c->f, buf_str(&key), err));
	if (*s->record.info.parent) {
		snap_key_child(s->space, s->record.info.parent, s->record.info.name, &mark);
		op.key = buf_str(&mark);
		TRY(kv_write(c->f->kv, &op, 1, true, err));
	}
	if (s->record.id && c->dirs_fd >= 0 && is_dir(c->dirs_fd, dir))
		return fsck_lose(c->f, c->dirs_fd, dir, "snapshots", err);
	return 0;
}

/* An active snapshot without its directory holds nothing any more. */
static bool lost_its_directory(struct chains *c, const struct fsck_snapshot *s)
{
	AUTO_FREE char *fs = xasprintf("%llu/fs", (unsigned long long)s->record.id);

	return s->record.id && (c->dirs_fd < 0 || !is_dir(c->dirs_fd, fs));
}

static int make_work_dir(struct chains *c, const struct fsck_snapshot *s, struct err *err)
{
	AUTO_FREE char *work = xasprintf("%llu/work", (unsigned long long)s->record.id);

	return mkdirat(c->dirs_fd, work, 0711) < 0 ? err_errno(err, errno, "make %s", work) : 0;
}

/* The chain is whole, and has what the same layers hold. */
static int stand_on_chain(struct chains *c, struct fsck_snapshot *s, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf value = BUF_INIT;

	vec_clear(&s->record.lower);
	snap_key_record(s->space, s->record.info.name, &key);
	snap_record_encode(&s->record, &value);
	return fsck_put(c->f, buf_str(&key), buf_str(&value), err);
}

static void handle(struct chains *c, struct fsck_snapshot *s, const char *problem)
{
	struct err err = ERR_INIT;

	if (!strcmp(problem, NO_WORK_DIR)) {
		if (fsck_found(c->f, "snapshot", full_name(c, s), "made", "%s", problem))
			fsck_repaired(c->f, make_work_dir(c, s, &err), &err);
		return;
	}
	if (!strcmp(problem, NO_LOWER)) {
		if (fsck_found(c->f, "snapshot", full_name(c, s), "it stands on its chain as that is now", "%s",
		               problem))
			fsck_repaired(c->f, stand_on_chain(c, s, &err), &err);
		return;
	}
	if (!is_droppable(s) && !(lost_its_directory(c, s) && !s->children)) {
		fsck_found(c->f, "snapshot", full_name(c, s), NULL,
		           "%s, and a container's files stand on it: a pull of its image brings what is missing",
		           problem);
		return;
	}
	s->gone =
	    !fsck_found(c->f, "snapshot", full_name(c, s), "removed; the next pull makes it again", "%s", problem) ||
	    fsck_repaired(c->f, drop(c, s, &err), &err);
}

/* ---- what is broken ---- */

/* What is known of the way from a snapshot to its base, itself included. */
enum way { UNKNOWN, WALKED, WHOLE, BROKEN, ENDLESS };

/* The ways of all, each step once: from every snapshot up to the first whose way is known. */
static void walk_up(struct chains *c, struct fsck_snapshot *from)
{
	VEC(struct fsck_snapshot *) path = VEC_INIT;
	struct fsck_snapshot *at = from;
	enum way way = WHOLE;

	while (at && at->way == UNKNOWN) {
		at->problem = lacks(c, at);
		at->way = at->problem ? BROKEN : WALKED;
		if (at->problem)
			break;
		vec_push(&path, at);
		at = parent_of(c, at);
	}
	if (at)
		way = at->way == WALKED ? ENDLESS : at->way;
	vec_each(&path, s) {
		(*s)->way = way;
		(*s)->problem = way == BROKEN        ? "its chain of parents is broken"
		                : way == ENDLESS     ? "its chain of parents has no end"
		                : lacks_lower(c, *s) ? NO_LOWER
		                                     : NULL;
	}
	vec_fini(&path);
}

/* One that has no child (any more), and then those below it that it was the last child of: so that a whole branch can go. */
static void handle_branch(struct chains *c, struct fsck_snapshot *s)
{
	while (s && s->problem && !s->seen && !s->children) {
		struct fsck_snapshot *parent = parent_of(c, s);

		s->seen = true;
		handle(c, s, s->problem);
		if (s->gone && parent)
			parent->children--;
		s = parent;
	}
}

/* What is broken stays so whatever is dropped: only leaves are. */
static void check_chains(struct chains *c)
{
	count_children(c);
	vec_each(&c->f->snapshots, s)
		walk_up(c, s);
	vec_each(&c->f->snapshots, s)
		handle_branch(c, s);
	/* Below what holds somebody's work, and circles. */
	vec_each(&c->f->snapshots, s)
		if (s->problem && !s->seen)
			handle(c, s, s->problem);
}

/* ---- marks of children ---- */

struct mark {
	struct str key;
	struct snap_space space;
	const char *parent, *name;
};

struct marks {
	struct fsck *f;
	VEC(struct mark) v;
	struct map keys;
};

static int take_mark(void *arg, struct str key, struct str value, struct err *err)
{
	struct marks *m = arg;
	struct str rest = {arena_str(&m->f->arena, key), key.n}, part;
	struct mark mark = {.key = rest};

	map_put(&m->keys, key, NULL);
	str_skip(&rest, STR("snapchild/"));
	/* The copy ends with a NUL, and so does each part of it. */
	if (str_split(&rest, '\0', &part)) {
		mark.space.ns = part.p;
		if (str_split(&rest, '\0', &part)) {
			mark.space.snapshotter = part.p;
			if (str_split(&rest, '\0', &part)) {
				mark.parent = part.p;
				mark.name = rest.p;
			}
		}
	}
	vec_push(&m->v, mark);
	return 0;
}

static int check_marks(struct chains *c, struct marks *m, struct err *err)
{
	TRY(kv_scan(c->f->kv, STR("snapchild/"), take_mark, m, err));
	vec_each(&m->v, mark) {
		struct fsck_snapshot *s = mark->name ? find_any(c, mark->space, mark->name) : NULL;
		const struct kv_op op = {.key = mark->key, .remove = true};
		struct err why = ERR_INIT;

		if (s && !strcmp(s->record.info.parent, mark->parent))
			continue;
		if (fsck_found(c->f, "snapshot", mark->name ?: "?", "mark removed",
		               "is marked as a child of %s, and is none", mark->parent ?: "?"))
			fsck_repaired(c->f, kv_write(c->f->kv, &op, 1, true, &why), &why);
	}
	vec_each(&c->f->snapshots, s) {
		AUTO(buf) struct buf key = BUF_INIT;
		struct err why = ERR_INIT;

		if (s->gone || !*s->record.info.parent)
			continue;
		snap_key_child(s->space, s->record.info.parent, s->record.info.name, &key);
		if (map_has(&m->keys, buf_str(&key)))
			continue;
		if (fsck_found(c->f, "snapshot", full_name(c, s), "marked", "is not marked as a child of %s",
		               s->record.info.parent))
			fsck_repaired(c->f, fsck_put(c->f, buf_str(&key), STR_NONE, &why), &why);
	}
	return 0;
}

/* ---- directories ---- */

static int check_dirs(struct chains *c, struct err *err)
{
	AUTO(fsck_names) struct fsck_names names = {VEC_INIT};

	if (c->dirs_fd < 0)
		return 0;
	TRY(fsck_names(c->dirs_fd, &names, err));
	vec_each(&names.v, name) {
		struct err why = ERR_INIT;

		/* Those with a dot are being removed: each start goes on with it. */
		if (**name == '.' || map_has(&c->by_dir, str_of(*name)))
			continue;
		if (fsck_found(c->f, "snapshot", *name, "directory moved to lost+found",
		               "no snapshot has this directory"))
			fsck_repaired(c->f, fsck_lose(c->f, c->dirs_fd, *name, "snapshots", &why), &why);
	}
	return 0;
}

int fsck_snapshots(struct fsck *f, struct err *err)
{
	struct chains c = {.f = f, .dirs_fd = -1};
	struct marks marks = {.f = f};
	int r = fsck_dir(f, "snapshots", &c.dirs_fd, err);

	learn(&c);
	if (r >= 0 || r == -(int)ERR_NOT_FOUND) {
		check_chains(&c);
		r = check_marks(&c, &marks, err);
	}
	if (r >= 0)
		r = check_dirs(&c, err);
	vec_fini(&marks.v);
	map_fini(&marks.keys);
	map_fini(&c.by_name);
	map_fini(&c.by_dir);
	if (c.dirs_fd >= 0)
		close(c.dirs_fd);
	return r;
}
