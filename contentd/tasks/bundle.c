#include "contentd/tasks/bundle.h"

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define TEXT_BYTES_MAX 4096
#define MOUNTS_MAX 64 /* stacked on one rootfs */

static bool is_component(const char *name)
{
	return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strchr(name, '/');
}

int bundle_init(struct bundle *b, const char *root, const char *state, const char *ns, const char *id, struct err *err)
{
	if (!is_component(ns) || !is_component(id))
		return err_set(err, ERR_INVALID, "'%s' in namespace '%s' cannot be a task", id, ns);
	b->ns = xstrdup(ns);
	b->id = xstrdup(id);
	b->path = xasprintf("%s/tasks/%s/%s", state, ns, id);
	b->work_path = xasprintf("%s/tasks/%s/%s", root, ns, id);
	return 0;
}

void bundle_fini(struct bundle *b)
{
	free(b->ns);
	free(b->id);
	free(b->path);
	free(b->work_path);
	*b = BUNDLE_INIT;
}

static int make_entries(const struct bundle *b, struct str config, struct err *err)
{
	AUTO_FREE char *rootfs = xasprintf("%s/rootfs", b->path);
	AUTO_FREE char *work = xasprintf("%s/work", b->path);
	AUTO_FREE char *log = xasprintf("%s/log", b->path);
	AUTO_FREE char *start = xasprintf("%s/" BUNDLE_START_FIFO, b->path);
	AUTO_FREE char *config_path = xasprintf("%s/config.json", b->path);
	AUTO_FD int fd = -1;

	TRY(dir_make(rootfs, 0711, err));
	if (symlink(b->work_path, work) < 0)
		return err_errno(err, errno, "link %s", work);
	if (mkfifo(log, 0700) < 0)
		return err_errno(err, errno, "make %s", log);
	if (mkfifo(start, 0600) < 0)
		return err_errno(err, errno, "make %s", start);
	/* On a tmpfs, and of no use after a crash of the machine: not synced. */
	fd = open(config_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, errno, "create %s", config_path);
	return fd_write_all(fd, config, err);
}

/* ---- containers with a user namespace ---- */

static int read_mapping(struct json_reader *r, int64_t *of_root, struct err *err)
{
	int64_t inside = -1, outside = -1;
	struct str key;
	int more;

	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		if (json_key_is(key, "containerID"))
			TRY(json_i64(r, &inside, err));
		else if (json_key_is(key, "hostID"))
			TRY(json_i64(r, &outside, err));
		else
			TRY(json_skip(r, err));
	}
	if (inside == 0)
		*of_root = outside;
	return more;
}

static int read_linux(struct json_reader *r, int64_t *of_root, struct err *err)
{
	struct str key;
	int more, another = 0;

	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		if (!json_key_is(key, "gidMappings")) {
			TRY(json_skip(r, err));
			continue;
		}
		TRY(json_array_begin(r, err));
		while ((another = json_array_next(r, err)) > 0)
			TRY(read_mapping(r, of_root, err));
		TRY(another);
	}
	return more;
}

int64_t bundle_root_group(struct str config)
{
	AUTO(json_reader) struct json_reader *r = json_reader_new(config);
	int64_t group = 0;
	struct str key;

	TRY(json_object_begin(r, NULL));
	while (json_object_next(r, &key, NULL) > 0) {
		if (json_key_is(key, "linux"))
			TRY(read_linux(r, &group, NULL));
		else
			TRY(json_skip(r, NULL));
	}
	return group;
}

/* Root of a user namespace is somebody else out here, who has to get through to rootfs; nobody but the group of the
 * container's root may. */
static int let_root_in(const struct bundle *b, struct str config, struct err *err)
{
	int64_t group = bundle_root_group(config);

	if (group <= 0 || group >= UINT32_MAX)
		return 0;
	if (chown(b->path, (uid_t)-1, (gid_t)group) < 0 || chmod(b->path, 0710) < 0)
		return err_errno(err, errno, "set group and mode of %s", b->path);
	return 0;
}

static int make_dirs(const struct bundle *b, struct str config, struct err *err)
{
	AUTO_FREE char *of_ns = str_dup(str_sub(str_of(b->path), 0, strlen(b->path) - strlen(b->id) - 1));

	TRY(dir_make(b->work_path, 0700, err));
	TRY(dir_make(of_ns, 0711, err));
	TRY(dir_make(b->path, 0700, err));
	return let_root_in(b, config, err);
}

int bundle_make(const struct bundle *b, struct str config, struct err *err)
{
	TRY(bundle_remove(b, err));
	if (make_dirs(b, config, err) < 0 || make_entries(b, config, err) < 0) {
		bundle_remove(b, NULL);
		return err_wrap(err, "bundle of task %s", b->id);
	}
	return 0;
}

static int unmount_all(const char *rootfs, struct err *err)
{
	for (int i = 0; i < MOUNTS_MAX; i++) {
		if (umount2(rootfs, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
			continue;
		if (errno == EINVAL || errno == ENOENT)
			return 0;
		return err_errno(err, errno, "unmount %s", rootfs);
	}
	return err_set(err, ERR_EXHAUSTED, "more than %d mounts on %s", MOUNTS_MAX, rootfs);
}

/* Removes the entry of a path in its parent directory. */
static int remove_path(const char *path, struct err *err)
{
	AUTO_FREE char *parent = xstrdup(path);
	char *slash = strrchr(parent, '/');
	AUTO_FD int fd = -1;

	*slash = '\0';
	fd = open(parent, O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", parent);
	return dir_remove(fd, slash + 1, err);
}

/* From here on nobody finds half a bundle. */
static int set_aside(const struct bundle *b, char **aside, struct err *err)
{
	size_t ns_dir = strlen(b->path) - strlen(b->id);

	*aside = xasprintf("%.*s.%s", (int)ns_dir, b->path, b->id);
	TRY(remove_path(*aside, err)); /* of an earlier one, by a crash */
	if (rename(b->path, *aside) < 0 && errno != ENOENT)
		return err_errno(err, errno, "set %s aside", b->path);
	return 0;
}

int bundle_remove(const struct bundle *b, struct err *err)
{
	AUTO_FREE char *rootfs = xasprintf("%s/rootfs", b->path);
	AUTO_FREE char *aside = NULL;

	TRY(unmount_all(rootfs, err));
	/* Empty, or there is something that is not ours: then it stays, and we say so. */
	if (rmdir(rootfs) < 0 && errno != ENOENT)
		return err_errno(err, errno, "remove %s", rootfs);
	TRY(set_aside(b, &aside, err));
	TRY(remove_path(aside, err));
	return remove_path(b->work_path, err);
}

/* ---- sweeping ---- */

/* Calls fn for each entry of the directory `dir`; absent is empty. */
static int each_entry(const char *dir, void (*fn)(void *arg, const char *name), void *arg, struct err *err)
{
	AUTO_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	int more;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", dir);
	TRY(dir_iter_open(fd, &d, err));
	while ((more = dir_iter_next(d, &e, err)) > 0)
		fn(arg, e->d_name);
	return more;
}

struct sweep {
	const char *dir, *ns;
	const char *state; /* when the work directories are swept */
	void (*fn)(void *arg, const char *ns, const char *id);
	void *arg;
};

static void sweep_bundle(void *arg, const char *name)
{
	struct sweep *s = arg;
	AUTO_FREE char *path = xasprintf("%s/%s/%s", s->dir, s->ns, name);
	struct err err = ERR_INIT;

	if (name[0] != '.')
		s->fn(s->arg, s->ns, name);
	else if (remove_path(path, &err) < 0)
		log_warn("remove half a bundle: %s", err.msg);
}

static void sweep_work(void *arg, const char *name)
{
	struct sweep *s = arg;
	AUTO_FREE char *bundle = xasprintf("%s/tasks/%s/%s", s->state, s->ns, name);
	AUTO_FREE char *path = xasprintf("%s/%s/%s", s->dir, s->ns, name);
	struct err err = ERR_INIT;

	if (access(bundle, F_OK) < 0 && remove_path(path, &err) < 0)
		log_warn("remove a work directory: %s", err.msg);
}

static void sweep_ns(void *arg, const char *name)
{
	struct sweep *s = arg;
	AUTO_FREE char *path = xasprintf("%s/%s", s->dir, name);
	struct err err = ERR_INIT;

	s->ns = name;
	if (each_entry(path, s->state ? sweep_work : sweep_bundle, s, &err) < 0)
		log_warn("look for bundles: %s", err.msg);
	rmdir(path); /* when it is empty */
}

int bundle_sweep(const char *root, const char *state, void (*fn)(void *arg, const char *ns, const char *id), void *arg,
                 struct err *err)
{
	AUTO_FREE char *bundles = xasprintf("%s/tasks", state);
	AUTO_FREE char *works = xasprintf("%s/tasks", root);
	struct sweep s = {.dir = bundles, .fn = fn, .arg = arg};
	struct sweep w = {.dir = works, .state = state};

	TRY(each_entry(bundles, sweep_ns, &s, err));
	return each_entry(works, sweep_ns, &w, err);
}

int bundle_link(const char *state, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/io.containerd.runtime.v2.task", state);

	return symlink("tasks", path) < 0 && errno != EEXIST ? err_errno(err, errno, "link %s", path) : 0;
}

/* ---- small files ---- */

int bundle_read(const struct bundle *b, const char *file, char **out, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/%s", b->path, file);
	AUTO(buf) struct buf text = BUF_INIT;

	TRY(file_read(AT_FDCWD, path, TEXT_BYTES_MAX, &text, err));
	*out = str_dup(str_trim(buf_str(&text)));
	return 0;
}

static int write_text(const struct bundle *b, const char *file, int flags, const char *text, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/%s", b->path, file);
	AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);

	if (fd < 0)
		return err_errno(err, errno, "create %s", path);
	return fd_write_all(fd, str_of(text), err);
}

int bundle_write(const struct bundle *b, const char *file, const char *text, struct err *err)
{
	return write_text(b, file, O_TRUNC, text, err);
}

int bundle_rewrite(const struct bundle *b, const char *file, const char *text, struct err *err)
{
	return write_text(b, file, 0, text, err);
}

int bundle_open_log(const struct bundle *b, int *fd, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/log", b->path);

	*fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	return *fd < 0 ? err_errno(err, errno, "open %s", path) : 0;
}
