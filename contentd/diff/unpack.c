#include "contentd/diff/unpack.h"

#include "base/file.h"
#include "base/log.h"
#include "base/vec.h"
#include "contentd/diff/resolve.h"
#include "estargz/inflate/inflate.h"
#include "estargz/tar/tar.h"
#include "estargz/toc/toc.h"
#include "rpc/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define READ_BYTES (1u << 20)
#define WHITEOUT STR(".wh.")
#define WHITEOUT_META STR(".wh..wh.") /* AUFS' own files; one of them says opaque */
#define WHITEOUT_OPAQUE STR(".wh..wh..opq")
#define PROC_PATH_MAX (64 + ESGZ_NAME_MAX)

/* Times of a directory are set when nothing comes into it any more: what its entry says, or what they were. */
struct dir_time {
	char *path; /* without links */
	struct timespec mtime;
};

/* What an entry leaves to be set when it is there. */
struct attributes {
	uint32_t mode, uid, gid;
	struct timespec mtime;
	VEC(struct esgz_xattr) xattrs; /* owned texts */
};

struct unpack {
	struct resolver at;
	struct esgz_tar *tar;
	struct hasher *hasher;
	uint64_t plain_bytes;
	VEC(struct dir_time) dirs;
	struct map timed; /* device and inode of those that are among `dirs` */

	/* The file that is being written. */
	int file_fd, dir_fd;
	char name[ESGZ_NAME_MAX + 1];
	struct attributes attr;
};

static void attributes_clear(struct attributes *a)
{
	vec_each(&a->xattrs, x) {
		free((void *)x->name.p);
		free((void *)x->value.p);
	}
	vec_clear(&a->xattrs);
}

static void close_file(struct unpack *u)
{
	if (u->file_fd >= 0)
		close(u->file_fd);
	if (u->dir_fd >= 0)
		close(u->dir_fd);
	u->file_fd = u->dir_fd = -1;
}

static void unpack_fini(struct unpack *u)
{
	close_file(u);
	attributes_clear(&u->attr);
	vec_fini(&u->attr.xattrs);
	vec_each(&u->dirs, d)
		free(d->path);
	vec_fini(&u->dirs);
	map_fini(&u->timed);
	hasher_free(u->hasher);
	esgz_tar_free(u->tar);
	resolver_fini(&u->at);
}
DEFINE_AUTO_FINI(unpack);

/* ---- times of directories ---- */

struct inode {
	uint64_t dev, ino;
};

static void note_time(struct unpack *u, struct str path, const struct stat *st, struct timespec mtime)
{
	struct inode id = {st->st_dev, st->st_ino};

	map_put(&u->timed, str_make(&id, sizeof(id)), NULL);
	vec_push(&u->dirs, (struct dir_time){str_dup(path), mtime});
}

/* The directory at `path`, in which something is about to change that is no change of the directory. */
static int dir_at(struct unpack *u, struct str path, bool create, int *fd, struct err *err)
{
	struct inode id;
	struct stat st;

	TRY(resolver_dir(&u->at, path, create, fd, err));
	if (fstat(*fd, &st) < 0)
		return err_errno(err, errno, STR_FMT, STR_ARG(path));
	id = (struct inode){st.st_dev, st.st_ino};
	if (!map_has(&u->timed, str_make(&id, sizeof(id))))
		note_time(u, buf_str(&u->at.real), &st, st.st_mtim);
	return 0;
}

/* Directories that a later entry has removed or made something else are left alone. */
static int set_dir_times(struct unpack *u, struct err *err)
{
	vec_each(&u->dirs, d) {
		struct timespec times[2] = {d->mtime, d->mtime};
		AUTO_FD int fd = -1;
		struct err why = ERR_INIT;

		if (file_open_beneath(u->at.root_fd, *d->path ? d->path : ".", O_RDONLY | O_DIRECTORY, 0, true, &fd,
		                      &why) < 0)
			continue;
		if (futimens(fd, times) < 0)
			return err_errno(err, errno, "times of %s", d->path);
	}
	return 0;
}

/* ---- removing ---- */

/* dir_fd may be the resolver's, and is gone then. */
static int remove_at(struct unpack *u, int dir_fd, const char *name, const struct stat *st, struct err *err)
{
	int r;

	if (S_ISDIR(st->st_mode))
		r = dir_remove(dir_fd, name, err);
	else
		r = unlinkat(dir_fd, name, 0) < 0 ? err_errno(err, errno, "remove %s", name) : 0;
	resolver_forget(&u->at);
	return r;
}

/* Removes what is in a directory and did not come with this layer. */
static int prune(struct unpack *u, TAKE(int) dir_fd, struct err *err)
{
	AUTO_FD int fd = dir_fd;
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	int more;

	TRY(dir_iter_open(fd, &d, err));
	while ((more = dir_iter_next(d, &e, err)) > 0) {
		struct stat st;
		int sub;

		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_errno(err, errno, "%s", e->d_name);
		if (!resolver_is_named(&u->at, &st)) {
			TRY(remove_at(u, fd, e->d_name, &st, err));
			continue;
		}
		if (!S_ISDIR(st.st_mode))
			continue;
		sub = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0)
			return err_errno(err, errno, "open %s", e->d_name);
		TRY(prune(u, sub, err));
	}
	return more;
}

/* A whiteout means the layers below: what this one has brought stays. */
static int white_out(struct unpack *u, int dir_fd, const char *name, struct err *err)
{
	struct stat st;
	int fd;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "%s", name);
	if (!resolver_is_named(&u->at, &st))
		return remove_at(u, dir_fd, name, &st, err);
	if (!S_ISDIR(st.st_mode))
		return 0;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_errno(err, errno, "open %s", name) : prune(u, fd, err);
}

static int whiteout_entry(struct unpack *u, struct str parent, struct str base, struct err *err)
{
	char name[ESGZ_NAME_MAX + 1];
	struct str hidden = base;
	int dir_fd, r;

	if (str_starts(base, WHITEOUT_META) && !str_eq(base, WHITEOUT_OPAQUE))
		return 0;
	r = dir_at(u, parent, false, &dir_fd, err);
	if (r == -ERR_NOT_FOUND)
		return 0; /* nothing there to be hidden */
	TRY(r);
	if (str_eq(base, WHITEOUT_OPAQUE))
		return prune(u, openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err);
	str_skip(&hidden, WHITEOUT);
	if (!hidden.n || str_eqc(hidden, ".") || str_eqc(hidden, ".."))
		return err_set(err, ERR_INVALID, "whiteout of \"" STR_FMT "\"", STR_ARG(hidden));
	str_copy(hidden, name, sizeof(name));
	return white_out(u, dir_fd, name, err);
}

/* ---- attributes ---- */

static bool is_kept_xattr(struct str name)
{
	return !str_starts(name, STR("trusted.overlay.")) && !str_starts(name, STR("user.overlay."));
}

static void take_attributes(struct attributes *a, const struct esgz_tar_entry *t)
{
	attributes_clear(a);
	a->mode = t->e.mode & 07777;
	a->uid = t->e.uid;
	a->gid = t->e.gid;
	a->mtime = (struct timespec){t->e.mtime_s, t->e.mtime_ns};
	for (uint32_t i = 0; i < t->n_xattrs; i++)
		if (is_kept_xattr(t->xattrs[i].name)) {
			struct str v = t->xattrs[i].value;

			vec_push(&a->xattrs,
			         (struct esgz_xattr){str_of(str_dup(t->xattrs[i].name)), str_make(str_dup(v), v.n)});
		}
}

/* Not every file system has all of them, nor every kind of file. */
static int set_xattrs(const struct attributes *a, int dir_fd, const char *name, struct err *err)
{
	char path[PROC_PATH_MAX];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir_fd, name);
	vec_each(&a->xattrs, x) {
		if (lsetxattr(path, x->name.p, x->value.p, x->value.n, 0) == 0)
			continue;
		if (errno != ENOTSUP && errno != EPERM)
			return err_errno(err, errno, "set %s of %s", x->name.p, name);
		log_warn("%s of %s cannot be set here: %s", x->name.p, name, strerror(errno));
	}
	return 0;
}

/* A change of owner takes set-id bits and capabilities away, so it comes first. */
static int set_attributes(const struct attributes *a, int dir_fd, const char *name, bool is_link, bool with_time,
                          struct err *err)
{
	struct timespec times[2] = {a->mtime, a->mtime};

	if (fchownat(dir_fd, name, a->uid, a->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "owner of %s", name);
	if (!is_link && fchmodat(dir_fd, name, a->mode, 0) < 0)
		return err_errno(err, errno, "mode of %s", name);
	TRY(set_xattrs(a, dir_fd, name, err));
	if (with_time && utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "times of %s", name);
	return 0;
}

static int name_it(struct unpack *u, int dir_fd, const char *name, struct err *err)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "%s", name);
	resolver_name(&u->at, &st);
	return 0;
}

/* ---- entries ---- */

/* Where an entry goes: a directory, and a name in it ("." for the root). */
struct place {
	int dir_fd; /* borrowed from the resolver */
	char name[ESGZ_NAME_MAX + 1];
};

static int dir_entry(struct unpack *u, const struct place *p, bool exists, struct err *err)
{
	AUTO(buf) struct buf path = BUF_INIT;
	struct stat st;

	if (!exists && mkdirat(p->dir_fd, p->name, 0700) < 0)
		return err_errno(err, errno, "make directory %s", p->name);
	TRY(set_attributes(&u->attr, p->dir_fd, p->name, false, false, err));
	if (fstatat(p->dir_fd, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "%s", p->name);
	resolver_name(&u->at, &st);
	if (u->at.real.n)
		buf_addf(&path, STR_FMT "/", STR_ARG(buf_str(&u->at.real)));
	if (strcmp(p->name, "."))
		buf_adds(&path, p->name);
	note_time(u, buf_str(&path), &st, u->attr.mtime);
	return 0;
}

static int file_entry(struct unpack *u, const struct place *p, struct err *err)
{
	u->file_fd = openat(p->dir_fd, p->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (u->file_fd < 0)
		return err_errno(err, errno, "create %s", p->name);
	u->dir_fd = openat(p->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (u->dir_fd < 0)
		return err_errno(err, errno, "open the directory of %s", p->name);
	strcpy(u->name, p->name);
	return 0;
}

static int link_entry(struct unpack *u, const struct place *p, struct str target, struct err *err)
{
	AUTO_FD int dir_fd = openat(p->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO(buf) struct buf clean = BUF_INIT;
	char name[ESGZ_NAME_MAX + 1];
	ptrdiff_t slash;
	int from_fd;

	TRY(esgz_path_clean(target, &clean, err));
	slash = str_rfind(buf_str(&clean), '/');
	str_copy(str_sub(buf_str(&clean), (size_t)(slash + 1), SIZE_MAX), name, sizeof(name));
	TRY(resolver_dir(&u->at, str_sub(buf_str(&clean), 0, slash < 0 ? 0 : (size_t)slash), false, &from_fd, err));
	if (!*name || linkat(from_fd, name, dir_fd, p->name, 0) < 0)
		return err_errno(err, *name ? errno : EPERM, "link %s to " STR_FMT, p->name, STR_ARG(target));
	return name_it(u, dir_fd, p->name, err);
}

static int other_entry(struct unpack *u, const struct place *p, const struct esgz_entry *e, struct err *err)
{
	AUTO_FREE char *link = str_dup(e->link);
	mode_t kind = e->type == ESGZ_CHAR ? S_IFCHR : e->type == ESGZ_BLOCK ? S_IFBLK : S_IFIFO;
	bool is_link = e->type == ESGZ_SYMLINK;

	if (is_link ? symlinkat(link, p->dir_fd, p->name) < 0
	            : mknodat(p->dir_fd, p->name, kind | 0600,
	                      kind == S_IFIFO ? 0 : makedev(e->dev_major, e->dev_minor)) < 0)
		return err_errno(err, errno, "make %s", p->name);
	TRY(set_attributes(&u->attr, p->dir_fd, p->name, is_link, true, err));
	TRY(name_it(u, p->dir_fd, p->name, err));
	if (is_link)
		resolver_forget(&u->at);
	return 0;
}

/* True when the entry is another name of itself: what there is must not be removed for it. */
static bool links_itself(const struct esgz_entry *e, struct str path)
{
	AUTO(buf) struct buf target = BUF_INIT;

	return e->type == ESGZ_HARDLINK && esgz_path_clean(e->link, &target, NULL) >= 0 &&
	       str_eq(buf_str(&target), path);
}

/* Takes away what is in the way. *exists: a directory that can stay. */
static int make_room(struct unpack *u, struct place *p, struct str parent, const struct esgz_entry *e, bool *exists,
                     struct err *err)
{
	struct stat st;

	*exists = false;
	if (fstatat(p->dir_fd, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "%s", p->name);
	*exists = S_ISDIR(st.st_mode) && e->type == ESGZ_DIR;
	if (*exists)
		return 0;
	TRY(remove_at(u, p->dir_fd, p->name, &st, err));
	return resolver_dir(&u->at, parent, true, &p->dir_fd, err);
}

static int place_entry(struct unpack *u, const struct esgz_entry *e, struct str path, struct err *err)
{
	ptrdiff_t slash = str_rfind(path, '/');
	struct str parent = str_sub(path, 0, slash < 0 ? 0 : (size_t)slash);
	struct str base = str_sub(path, (size_t)(slash + 1), SIZE_MAX);
	struct place p = {0};
	bool exists;

	if (str_starts(base, WHITEOUT))
		return whiteout_entry(u, parent, base, err);
	if (!path.n && e->type != ESGZ_DIR)
		return err_set(err, ERR_INVALID, "the root is not a directory in this layer");
	if (e->type == ESGZ_CHAR && e->dev_major == 0 && e->dev_minor == 0) {
		log_warn("device 0:0 in a layer, " STR_FMT ", is left out: overlayfs would take it for a whiteout",
		         STR_ARG(path));
		return 0;
	}
	TRY(dir_at(u, parent, true, &p.dir_fd, err));
	str_copy(path.n ? base : STR("."), p.name, sizeof(p.name));
	if (links_itself(e, path))
		return 0;
	TRY(make_room(u, &p, parent, e, &exists, err));
	switch (e->type) {
	case ESGZ_DIR:
		return dir_entry(u, &p, exists, err);
	case ESGZ_REG:
		return file_entry(u, &p, err);
	case ESGZ_HARDLINK:
		return link_entry(u, &p, e->link, err);
	default:
		return other_entry(u, &p, e, err);
	}
}

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	AUTO(buf) struct buf path = BUF_INIT;
	struct unpack *u = arg;

	close_file(u);
	TRY(esgz_path_clean(t->e.path, &path, err));
	if (esgz_is_marker(buf_str(&path)))
		return 0;
	take_attributes(&u->attr, t);
	TRY_WRAP(place_entry(u, &t->e, buf_str(&path), err), err, STR_FMT, STR_ARG(t->e.path));
	return 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct unpack *u = arg;

	return u->file_fd < 0 ? 0 : fd_write_all(u->file_fd, bytes, err);
}

static int on_hole(void *arg, uint64_t bytes, struct err *err)
{
	struct unpack *u = arg;

	return u->file_fd < 0 ? 0 : fd_write_hole(u->file_fd, bytes, err);
}

static int on_end(void *arg, struct err *err)
{
	struct unpack *u = arg;

	if (u->file_fd < 0)
		return 0;
	close(STEAL_FD(u->file_fd));
	TRY(set_attributes(&u->attr, u->dir_fd, u->name, false, true, err));
	TRY(name_it(u, u->dir_fd, u->name, err));
	close_file(u);
	return 0;
}

/* ---- the stream ---- */

static int on_plain(void *arg, struct str plain, struct err *err)
{
	struct unpack *u = arg;

	hasher_add(u->hasher, plain.p, plain.n);
	u->plain_bytes += plain.n;
	return esgz_tar_feed(u->tar, plain, err);
}

static int feed_all(struct unpack *u, int blob_fd, struct rpc_call *on_behalf, struct err *err)
{
	AUTO(esgz_stream) struct esgz_stream *stream = esgz_stream_new();
	AUTO_FREE char *chunk = xmalloc(READ_BYTES);
	off_t at = 0;
	ssize_t n;

	while ((n = pread(blob_fd, chunk, READ_BYTES, at)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "read the blob");
		if (on_behalf)
			TRY(rpc_cancelled(on_behalf, err));
		TRY(esgz_stream_feed(stream, str_make(chunk, (size_t)n), on_plain, u, err));
		at += n;
	}
	TRY(esgz_stream_finish(stream, err));
	return esgz_tar_finish(u->tar, err);
}

int diff_unpack(int blob_fd, int root_fd, struct rpc_call *on_behalf, struct unpacked *out, struct err *err)
{
	AUTO(unpack) struct unpack u = {.at = RESOLVER_INIT(root_fd), .timed = MAP_INIT, .file_fd = -1, .dir_fd = -1};

	u.tar = esgz_tar_new(
	    &(struct esgz_tar_sink){.entry = on_entry, .data = on_data, .end = on_end, .hole = on_hole, .arg = &u});
	u.hasher = hasher_new();
	TRY(feed_all(&u, blob_fd, on_behalf, err));
	TRY(set_dir_times(&u, err));
	hasher_done(u.hasher, &out->diff_id);
	out->plain_bytes = u.plain_bytes;
	return 0;
}
