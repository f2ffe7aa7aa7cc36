#include "contentd/diff/trees.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

#define OPTIONS_BYTES_MAX 4095 /* mount(2) copies a page, its end included */

void tree_mounts_fini(struct tree_mounts *m)
{
	vec_fini(&m->v);
}

void tree_mounts_of_api(Types__Mount *const *list, size_t n, struct tree_mounts *out)
{
	for (size_t i = 0; i < n; i++)
		vec_push(&out->v, (struct tree_mount){list[i]->type, list[i]->source, list[i]->target,
		                                      (const char *const *)list[i]->options, list[i]->n_options});
}

void tree_mounts_of_snapshot(const struct snap_mounts *from, struct tree_mounts *out)
{
	vec_each(&from->v, m)
		vec_push(&out->v,
		         (struct tree_mount){m->type, m->source, "", (const char *const *)m->options.p, m->options.n});
}

const char *tree_option(const struct tree_mount *m, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < m->n_options; i++)
		if (!strncmp(m->options[i], name, n))
			return m->options[i] + n;
	return NULL;
}

static bool has_option(const struct tree_mount *m, const char *name)
{
	for (size_t i = 0; i < m->n_options; i++)
		if (!strcmp(m->options[i], name))
			return true;
	return false;
}

static bool is_bind(const struct tree_mount *m)
{
	return !strcmp(m->type, "bind") || has_option(m, "bind") || has_option(m, "rbind");
}

const char *tree_writable_dir(const struct tree_mounts *m)
{
	if (m->v.n != 1 || *m->v.p[0].target || has_option(&m->v.p[0], "ro"))
		return NULL;
	if (is_bind(&m->v.p[0]))
		return m->v.p[0].source;
	return strcmp(m->v.p[0].type, "overlay") ? NULL : tree_option(&m->v.p[0], "upperdir=");
}

/* ---- mounting ---- */

/* fstab(5): what is a flag; everything else is data for the file system. */
static const struct {
	const char *name;
	unsigned long set, clear;
} FLAGS[] = {
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"bind", MS_BIND, 0},
    {"rbind", MS_BIND | MS_REC, 0},
    {"nosuid", MS_NOSUID, 0},
    {"suid", 0, MS_NOSUID},
    {"nodev", MS_NODEV, 0},
    {"dev", 0, MS_NODEV},
    {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},
    {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS},
    {"noatime", MS_NOATIME, 0},
    {"atime", 0, MS_NOATIME},
    {"nodiratime", MS_NODIRATIME, 0},
    {"diratime", 0, MS_NODIRATIME},
    {"relatime", MS_RELATIME, 0},
    {"norelatime", 0, MS_RELATIME},
    {"strictatime", MS_STRICTATIME, 0},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"mand", MS_MANDLOCK, 0},
    {"nomand", 0, MS_MANDLOCK},
    {"dirsync", MS_DIRSYNC, 0},
    {"defaults", 0, 0},
};

static bool is_flag(const char *option, unsigned long *flags)
{
	for (size_t i = 0; i < ARRAY_LEN(FLAGS); i++)
		if (!strcmp(option, FLAGS[i].name)) {
			*flags = (*flags | FLAGS[i].set) & ~FLAGS[i].clear;
			return true;
		}
	return false;
}

/* The folder in which all lower directories lie ("/a/b"), or "". An empty name among them ("::") has none. */
static struct str common_folder(struct str lower)
{
	struct str one, rest = lower, common = STR_NONE;
	bool first = true;

	while (str_split(&rest, ':', &one)) {
		size_t n = 0;

		if (first)
			common = one;
		while (n < one.n && n < common.n && one.p[n] == common.p[n])
			n++;
		common.n = n;
		first = false;
	}
	while (common.n > 0 && common.p[common.n - 1] != '/')
		common.n--;
	return str_sub(common, 0, common.n ? common.n - 1 : 0);
}

/* Replaces the lower directories by names relative to their folder, and goes there. */
static int shorten(const char *lower, struct buf *out, struct err *err)
{
	struct str folder = common_folder(str_of(lower)), one, rest = str_of(lower);
	AUTO_FREE char *path = str_dup(folder);

	if (!folder.n)
		return err_set(err, ERR_INVALID, "lowerdir has more than a page, and no folder in common");
	if (chdir(path) < 0)
		return err_errno(err, errno, "enter %s", path);
	while (str_split(&rest, ':', &one)) {
		if (out->n)
			buf_addc(out, ':');
		buf_addstr(out, str_sub(one, folder.n + 1, one.n));
	}
	return 0;
}

/* All data of a mount; with `short_lower` (may be NULL) in place of its lowerdir. */
static void join_data(const struct tree_mount *m, const struct buf *short_lower, unsigned long *flags, struct buf *out)
{
	for (size_t i = 0; i < m->n_options; i++) {
		if (is_flag(m->options[i], flags))
			continue;
		if (out->n)
			buf_addc(out, ',');
		if (short_lower && !strncmp(m->options[i], "lowerdir=", 9))
			buf_addf(out, "lowerdir=%s", buf_cstr(short_lower));
		else
			buf_adds(out, m->options[i]);
	}
}

static int mount_one(const struct tree_mount *m, const char *at, struct err *err)
{
	AUTO_FREE char *target = xasprintf("%s%s%s", at, *m->target ? "/" : "", m->target);
	const char *lower = tree_option(m, "lowerdir=");
	AUTO(buf) struct buf data = BUF_INIT;
	unsigned long flags = is_bind(m) ? MS_BIND : 0;

	if (strstr(m->target, ".."))
		return err_set(err, ERR_INVALID, "mount target \"%.200s\" leads upwards", m->target);
	join_data(m, NULL, &flags, &data);
	if (data.n > OPTIONS_BYTES_MAX && lower) {
		AUTO(buf) struct buf relative = BUF_INIT;

		TRY(shorten(lower, &relative, err));
		buf_clear(&data);
		join_data(m, &relative, &flags, &data);
	}
	if (data.n > OPTIONS_BYTES_MAX)
		return err_set(err, ERR_INVALID, "mount of type %s has more than a page of options", m->type);
	if (mount(m->source, target, m->type, flags, buf_cstr(&data)) < 0)
		return err_errno(err, errno, "mount %s as %s", m->source, m->type);
	if ((flags & MS_BIND) && (flags & MS_RDONLY) && mount(NULL, target, NULL, flags | MS_REMOUNT, NULL) < 0)
		return err_errno(err, errno, "make %s read-only", m->source);
	return 0;
}

struct opening {
	const struct tree_mounts *mounts;
	const char *scratch;
	int fd, result;
	struct err *err;
};

static int open_all(struct opening *o, struct err *err)
{
	if (unshare(CLONE_NEWNS | CLONE_FS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(err, errno, "a mount namespace");
	vec_each(&o->mounts->v, m)
		TRY(mount_one(m, o->scratch, err));
	o->fd = open(o->scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return o->fd < 0 ? err_errno(err, errno, "open %s", o->scratch) : 0;
}

/* The thread's mount namespace ends with it; the descriptor keeps the mount. */
static void *open_in_thread(void *arg)
{
	struct opening *o = arg;

	o->result = open_all(o, o->err);
	return NULL;
}

int tree_open(const struct tree_mounts *m, const char *scratch, int *fd, struct err *err)
{
	struct opening o = {.mounts = m, .scratch = scratch, .fd = -1, .err = err};
	pthread_t thread;
	int failed;

	if (m->v.n == 1 && is_bind(&m->v.p[0]) && !*m->v.p[0].target && !has_option(&m->v.p[0], "ro")) {
		*fd = open(m->v.p[0].source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return *fd < 0 ? err_errno(err, errno, "open %s", m->v.p[0].source) : 0;
	}
	failed = pthread_create(&thread, NULL, open_in_thread, &o);
	if (failed)
		return err_errno(err, failed, "pthread_create");
	pthread_join(thread, NULL);
	*fd = o.fd;
	return o.result;
}
