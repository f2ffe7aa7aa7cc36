#include "contentd/tasks/cgroups.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX (1u << 20)
#define MOUNTINFO_BYTES_MAX (64u << 20)
#define ENDING_NS (1 * NS_PER_S) /* for processes that were killed to be gone */

struct group {
	unsigned users;
	/* The length of the part of the path that was there before us; the whole: nothing of it is ours. */
	size_t foreign;
	bool removing;
};

struct cgroups {
	char *file;
	VEC(char *) roots; /* where hierarchies are mounted */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct map groups; /* path -> struct group; lock, which is held while the (memory) file systems are asked */
};

/* ---- hierarchies ---- */

/* A line of mountinfo: "id parent maj:min root mountpoint options [tags] - type source options". */
static bool hierarchy_of(struct str line, struct str *at)
{
	struct str word, rest = line;
	bool is_whole = false;

	for (int i = 0; rest.n && str_split(&rest, ' ', &word); i++) {
		if (i == 3)
			is_whole = str_eqc(word, "/");
		if (i == 4)
			*at = word;
		if (i > 5 && str_eqc(word, "-"))
			return is_whole && str_split(&rest, ' ', &word) &&
			       (str_eqc(word, "cgroup") || str_eqc(word, "cgroup2"));
	}
	return false;
}

static int find_roots(struct cgroups *g, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct str rest, line, at;

	TRY(file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_BYTES_MAX, &text, err));
	rest = buf_str(&text);
	while (rest.n && str_split(&rest, '\n', &line))
		if (hierarchy_of(line, &at))
			vec_push(&g->roots, str_dup(at));
	return 0;
}

static bool is_anywhere(const struct cgroups *g, const char *path, size_t n)
{
	vec_each(&g->roots, root) {
		AUTO_FREE char *full = xasprintf("%s%.*s", *root, (int)n, path);

		if (access(full, F_OK) == 0)
			return true;
	}
	return false;
}

/* The length of the longest part of the path that exists. */
static size_t foreign_part(const struct cgroups *g, const char *path)
{
	size_t n = strlen(path);

	while (n && !is_anywhere(g, path, n))
		while (n && path[--n] != '/')
			;
	return n;
}

static void remove_groups(const struct cgroups *g, const char *path, size_t foreign)
{
	for (size_t n = strlen(path); n > foreign;) {
		vec_each(&g->roots, root) {
			AUTO_FREE char *full = xasprintf("%s%.*s", *root, (int)n, path);

			/* One that is in use by others stays, and that is right. */
			if (rmdir(full) < 0 && errno != ENOENT && errno != EBUSY && errno != ENOTEMPTY)
				log_warn("remove control group %s: %m", full);
		}
		while (n && path[--n] != '/')
			;
	}
}

/* ---- the file: "<length of the foreign part> <path>" a line ---- */

/* Not synced: the groups do not survive a crash of the machine either. */
static int replace(const char *file, struct str text, struct err *err)
{
	AUTO_FREE char *new = xasprintf("%s.new", file);
	AUTO_FD int fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_errno(err, errno, "create %s", new);
	TRY(fd_write_all(fd, text, err));
	return rename(new, file) < 0 ? err_errno(err, errno, "replace %s", file) : 0;
}

static void keep(const struct cgroups *g)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct err err = ERR_INIT;
	struct str path;
	void *value;

	for (size_t at = 0; map_next(&g->groups, &at, &path, &value);) {
		const struct group *group = value;

		if (group->foreign < path.n)
			buf_addf(&text, "%zu " STR_FMT "\n", group->foreign, STR_ARG(path));
	}
	if (replace(g->file, buf_str(&text), &err) < 0)
		log_warn("control groups: %s", err.msg);
}

static void load_line(struct cgroups *g, struct str line)
{
	struct str number;
	struct group *group;
	uint64_t foreign;

	if (!str_split(&line, ' ', &number) || !str_u64(number, 10, &foreign) || !line.n || foreign >= line.n)
		return;
	group = xcalloc(1, sizeof(*group));
	group->foreign = (size_t)foreign;
	free(map_put(&g->groups, line, group));
}

static void load(struct cgroups *g)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct str rest, line;

	if (file_read(AT_FDCWD, g->file, FILE_BYTES_MAX, &text, NULL) < 0)
		return;
	rest = buf_str(&text);
	while (rest.n && str_split(&rest, '\n', &line))
		load_line(g, line);
}

/* ---- life ---- */

int cgroups_new(const char *file, struct cgroups **out, struct err *err)
{
	AUTO(cgroups) struct cgroups *g = xcalloc(1, sizeof(*g));

	g->file = xstrdup(file);
	g->groups = MAP_INIT;
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->changed, NULL);
	TRY(find_roots(g, err));
	load(g);
	*out = STEAL(g);
	return 0;
}

void cgroups_free(struct cgroups *g)
{
	struct str path;
	void *group;

	if (!g)
		return;
	for (size_t at = 0; map_next(&g->groups, &at, &path, &group);)
		free(group);
	map_fini(&g->groups);
	vec_each(&g->roots, root)
		free(*root);
	vec_fini(&g->roots);
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	free(g->file);
	free(g);
}

/* ---- containers ---- */

static int find_path(struct json_reader *j, struct str *path, struct err *err)
{
	struct str key;
	int more;

	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (!str_eqc(key, "linux")) {
			TRY(json_skip(j, err));
			continue;
		}
		TRY(json_object_begin(j, err));
		while ((more = json_object_next(j, &key, err)) > 0)
			if (str_eqc(key, "cgroupsPath"))
				TRY(json_string(j, path, err));
			else
				TRY(json_skip(j, err));
		TRY(more);
	}
	return more;
}

char *cgroups_path(struct str config)
{
	AUTO(json_reader) struct json_reader *j = json_reader_new(config);
	struct str path = STR_NONE;

	if (find_path(j, &path, NULL) < 0 || path.n < 2 || path.p[0] != '/' || path.p[path.n - 1] == '/' ||
	    memchr(path.p, '\0', path.n) || memmem(path.p, path.n, "/..", 3))
		return NULL;
	return str_dup(path);
}

/* What the group lies in; NULL for one at the top. The caller's. */
static char *above(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash > path ? str_dup(str_make(path, (size_t)(slash - path))) : NULL;
}

/* With the lock held. */
static struct group *group_of(struct cgroups *g, const char *path, bool again)
{
	struct group *group = map_get(&g->groups, str_of(path));

	if (group)
		return group;
	group = xcalloc(1, sizeof(*group));
	group->foreign = again ? strlen(path) : foreign_part(g, path);
	map_put(&g->groups, str_of(path), group);
	if (group->foreign < strlen(path))
		keep(g);
	return group;
}

void cgroups_enter(struct cgroups *g, const char *path, bool again)
{
	AUTO_FREE char *parent = above(path);
	struct group *group;

	if (!parent)
		return;
	pthread_mutex_lock(&g->lock);
	while ((group = group_of(g, parent, again))->removing)
		pthread_cond_wait(&g->changed, &g->lock);
	group->users++;
	pthread_mutex_unlock(&g->lock);
}

/* With the lock held: a group without users. */
static void retire(struct cgroups *g, const char *path, struct group *group)
{
	bool is_ours = group->foreign < strlen(path);

	if (is_ours) {
		group->removing = true;
		pthread_mutex_unlock(&g->lock);
		remove_groups(g, path, group->foreign);
		pthread_mutex_lock(&g->lock);
		/* Not yet empty: some other's container is in it. The next of ours that leaves it looks again. */
		if (is_anywhere(g, path, strlen(path))) {
			group->removing = false;
			pthread_cond_broadcast(&g->changed);
			return;
		}
	}
	map_del(&g->groups, str_of(path));
	free(group);
	if (is_ours)
		keep(g);
	pthread_cond_broadcast(&g->changed);
}

static void remove_own(const struct cgroups *g, const char *path, bool rough)
{
	int64_t until = clock_mono_ns() + (rough ? ENDING_NS : 0);
	bool busy;

	do {
		busy = false;
		vec_each(&g->roots, root) {
			AUTO_FREE char *full = xasprintf("%s%s", *root, path);

			busy = (rmdir(full) < 0 && errno == EBUSY) || busy;
		}
		if (busy)
			usleep(1000);
	} while (busy && clock_mono_ns() < until);
}

void cgroups_leave(struct cgroups *g, const char *path, bool rough)
{
	AUTO_FREE char *parent = above(path);
	struct group *group;

	remove_own(g, path, rough);
	if (!parent)
		return;
	pthread_mutex_lock(&g->lock);
	group = map_get(&g->groups, str_of(parent));
	if (group && --group->users == 0)
		retire(g, parent, group);
	pthread_mutex_unlock(&g->lock);
}

/* With the lock held: NULL when none is idle. */
static char *idle_group(struct cgroups *g)
{
	struct str path;
	void *value;

	for (size_t at = 0; map_next(&g->groups, &at, &path, &value);) {
		struct group *group = value;

		if (!group->users && !group->removing)
			return str_dup(path);
	}
	return NULL;
}

void cgroups_sweep(struct cgroups *g)
{
	char *path;

	pthread_mutex_lock(&g->lock);
	while ((path = idle_group(g))) {
		struct group *group = map_get(&g->groups, str_of(path));

		retire(g, path, group);
		/* It is still in use by others: nobody is told who made it any more. */
		if (map_get(&g->groups, str_of(path)) == group) {
			map_del(&g->groups, str_of(path));
			free(group);
			keep(g);
		}
		free(path);
	}
	pthread_mutex_unlock(&g->lock);
}
