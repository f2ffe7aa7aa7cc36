#include "contentd/diff/compare.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>

#define COMPARE_BYTES (128u << 10)
#define PROC_PATH_MAX (64 + ESGZ_NAME_MAX)

/* ---- directories ---- */

struct names {
	VEC(char *) v; /* sorted */
};

static void names_fini(struct names *n)
{
	vec_each(&n->v, it)
		free(*it);
	vec_fini(&n->v);
}
DEFINE_AUTO_FINI(names);

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* -1 is an empty directory. */
static int names_read(int dir_fd, struct names *out, struct err *err)
{
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	int more;

	if (dir_fd < 0)
		return 0;
	TRY(dir_iter_open(dir_fd, &d, err));
	while ((more = dir_iter_next(d, &e, err)) > 0)
		vec_push(&out->v, xstrdup(e->d_name));
	if (out->v.n > 1)
		qsort(out->v.p, out->v.n, sizeof(*out->v.p), compare_names);
	return more;
}

static int open_dir(int dir_fd, const char *name, int *out, struct err *err)
{
	*out = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *out < 0 ? err_errno(err, errno, "open directory %s", name) : 0;
}

static bool stat_at(int dir_fd, const char *name, struct stat *st)
{
	return dir_fd >= 0 && fstatat(dir_fd, name, st, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static int path_join(struct str dir, const char *name, struct buf *out, struct err *err)
{
	buf_addstr(out, dir);
	if (dir.n)
		buf_addc(out, '/');
	buf_adds(out, name);
	return out->n > ESGZ_PATH_MAX ? err_set(err, ERR_INVALID, "a path longer than %d bytes", ESGZ_PATH_MAX) : 0;
}

/* ---- an upper directory ---- */

static ssize_t overlay_xattr(int dir_fd, const char *name, const char *what, char *value, size_t bytes)
{
	char path[PROC_PATH_MAX], attr[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir_fd, name);
	snprintf(attr, sizeof(attr), "trusted.overlay.%s", what);
	n = lgetxattr(path, attr, value, bytes);
	if (n >= 0)
		return n;
	snprintf(attr, sizeof(attr), "user.overlay.%s", what);
	return lgetxattr(path, attr, value, bytes);
}

static bool is_opaque(int dir_fd, const char *name)
{
	char value[2];

	return overlay_xattr(dir_fd, name, "opaque", value, sizeof(value)) == 1 && value[0] == 'y';
}

static bool is_partial(int dir_fd, const char *name, const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return overlay_xattr(dir_fd, name, "redirect", NULL, 0) >= 0;
	return S_ISREG(st->st_mode) && overlay_xattr(dir_fd, name, "metacopy", NULL, 0) >= 0;
}

static int upper_dir(struct emit *e, int below_fd, int upper_fd, struct str path, struct err *err);

static int upper_subdir(struct emit *e, int below_fd, int upper_fd, const char *name, struct str path, bool was_dir,
                        struct err *err)
{
	bool hides = is_opaque(upper_fd, name);
	AUTO_FD int below = -1;
	AUTO_FD int upper = -1;

	if (was_dir && hides)
		TRY(emit_opaque(e, path, err));
	if (was_dir && !hides)
		TRY(open_dir(below_fd, name, &below, err));
	TRY(open_dir(upper_fd, name, &upper, err));
	return upper_dir(e, below, upper, path, err);
}

static int upper_one(struct emit *e, int below_fd, int upper_fd, const char *name, struct str dir, struct err *err)
{
	AUTO(buf) struct buf path = BUF_INIT;
	struct stat st, below;
	bool was = stat_at(below_fd, name, &below);

	TRY(path_join(dir, name, &path, err));
	if (!stat_at(upper_fd, name, &st))
		return err_errno(err, errno, "/%s", buf_cstr(&path));
	if (is_whiteout(&st))
		return was ? emit_whiteout(e, buf_str(&path), err) : 0;
	if (is_partial(upper_fd, name, &st))
		return 1;
	TRY(emit_entry(e, upper_fd, name, buf_str(&path), &st, err));
	if (!S_ISDIR(st.st_mode))
		return 0;
	return upper_subdir(e, below_fd, upper_fd, name, buf_str(&path), was && S_ISDIR(below.st_mode), err);
}

static int upper_dir(struct emit *e, int below_fd, int upper_fd, struct str path, struct err *err)
{
	AUTO(names) struct names names = {VEC_INIT};

	TRY(names_read(upper_fd, &names, err));
	vec_each(&names.v, name) {
		int r = upper_one(e, below_fd, upper_fd, *name, path, err);

		if (r)
			return r;
	}
	return 0;
}

/* ---- the same or not ---- */

static bool same_xattrs(const struct xattrs *a, const struct xattrs *b)
{
	if (a->v.n != b->v.n)
		return false;
	for (size_t i = 0; i < a->v.n; i++)
		if (!str_eq(a->v.p[i].name, b->v.p[i].name) || !str_eq(a->v.p[i].value, b->v.p[i].value))
			return false;
	return true;
}

/* 1: they are. */
static int same_attributes(int left_fd, int right_fd, const char *name, const struct stat *a, const struct stat *b,
                           struct err *err)
{
	AUTO(xattrs) struct xattrs x = XATTRS_INIT;
	AUTO(xattrs) struct xattrs y = XATTRS_INIT;
	bool device = S_ISCHR(a->st_mode) || S_ISBLK(a->st_mode);

	if (a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid ||
	    (device && a->st_rdev != b->st_rdev))
		return 0;
	TRY(xattrs_read(left_fd, name, &x, err));
	TRY(xattrs_read(right_fd, name, &y, err));
	return same_xattrs(&x, &y);
}

static int same_links(int left_fd, int right_fd, const char *name, struct err *err)
{
	AUTO_FREE char *a = xcalloc(1, ESGZ_PATH_MAX + 1);
	AUTO_FREE char *b = xcalloc(1, ESGZ_PATH_MAX + 1);

	if (readlinkat(left_fd, name, a, ESGZ_PATH_MAX) < 0 || readlinkat(right_fd, name, b, ESGZ_PATH_MAX) < 0)
		return err_errno(err, errno, "read link %s", name);
	return !strcmp(a, b);
}

static int same_contents(int left_fd, int right_fd, const char *name, uint64_t size, struct err *err)
{
	AUTO_FREE char *a = xmalloc(COMPARE_BYTES);
	AUTO_FREE char *b = xmalloc(COMPARE_BYTES);
	AUTO_FD int x = openat(left_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_FD int y = openat(right_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (x < 0 || y < 0)
		return err_errno(err, errno, "open %s", name);
	for (uint64_t at = 0; at < size;) {
		size_t n = size - at > COMPARE_BYTES ? COMPARE_BYTES : (size_t)(size - at);

		TRY(fd_pread_all(x, a, n, (off_t)at, err));
		TRY(fd_pread_all(y, b, n, (off_t)at, err));
		if (memcmp(a, b, n))
			return 0;
		at += n;
	}
	return 1;
}

/* Of two entries of the same type, no directories. 1: they are. */
static int same_file(int left_fd, int right_fd, const char *name, const struct stat *a, const struct stat *b,
                     struct err *err)
{
	int r = same_attributes(left_fd, right_fd, name, a, b, err);

	if (r <= 0)
		return r;
	if (a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec)
		return 0;
	if (S_ISLNK(a->st_mode))
		return same_links(left_fd, right_fd, name, err);
	if (!S_ISREG(a->st_mode))
		return 1;
	if (a->st_size != b->st_size)
		return 0;
	return a->st_mtim.tv_nsec ? 1 : same_contents(left_fd, right_fd, name, (uint64_t)a->st_size, err);
}

/* ---- two trees ---- */

/* A directory of the right tree on the way to what is being looked at. */
struct frame {
	struct frame *up;
	int dir_fd; /* it is `name` in here */
	const char *name;
	struct str path;
	struct stat st;
	bool emitted;
};

static int emit_frames(struct emit *e, struct frame *f, struct err *err)
{
	if (!f || f->emitted)
		return 0;
	TRY(emit_frames(e, f->up, err));
	f->emitted = true;
	return emit_entry(e, f->dir_fd, f->name, f->path, &f->st, err);
}

static int both_dir(struct emit *e, struct frame *f, int left_fd, int right_fd, struct err *err);

/* left_fd -1: there was no such directory. */
static int both_subdir(struct emit *e, struct frame *up, int left_fd, int right_fd, const char *name, struct str path,
                       const struct stat *st, bool changed, struct err *err)
{
	struct frame f = {.up = up, .dir_fd = right_fd, .name = name, .path = path, .st = *st};
	AUTO_FD int left = -1;
	AUTO_FD int right = -1;

	if (changed)
		TRY(emit_frames(e, &f, err));
	if (left_fd >= 0)
		TRY(open_dir(left_fd, name, &left, err));
	TRY(open_dir(right_fd, name, &right, err));
	return both_dir(e, &f, left, right, err);
}

static int both_one(struct emit *e, struct frame *f, int left_fd, int right_fd, const char *name, struct err *err)
{
	AUTO(buf) struct buf path = BUF_INIT;
	struct stat a, b;
	bool was = stat_at(left_fd, name, &a), is = stat_at(right_fd, name, &b);
	int same = 0;

	TRY(path_join(f->path, name, &path, err));
	/* A directory that is not mounted as part of an overlay may still have its marks. */
	if (is && is_whiteout(&b))
		is = false;
	if (!is) {
		if (!was)
			return 0;
		TRY(emit_frames(e, f, err));
		return emit_whiteout(e, buf_str(&path), err);
	}
	if (was && S_ISDIR(a.st_mode) && S_ISDIR(b.st_mode)) {
		same = same_attributes(left_fd, right_fd, name, &a, &b, err);
		TRY(same);
		return both_subdir(e, f, left_fd, right_fd, name, buf_str(&path), &b, !same, err);
	}
	if (was && (a.st_mode & S_IFMT) == (b.st_mode & S_IFMT))
		same = same_file(left_fd, right_fd, name, &a, &b, err);
	if (same)
		return same < 0 ? same : 0;
	TRY(emit_frames(e, f, err));
	if (S_ISDIR(b.st_mode))
		return both_subdir(e, f, -1, right_fd, name, buf_str(&path), &b, true, err);
	return emit_entry(e, right_fd, name, buf_str(&path), &b, err);
}

static int both_dir(struct emit *e, struct frame *f, int left_fd, int right_fd, struct err *err)
{
	AUTO(names) struct names left = {VEC_INIT};
	AUTO(names) struct names right = {VEC_INIT};
	size_t i = 0, k = 0;

	TRY(names_read(left_fd, &left, err));
	TRY(names_read(right_fd, &right, err));
	while (i < left.v.n || k < right.v.n) {
		int order = i == left.v.n ? 1 : k == right.v.n ? -1 : strcmp(left.v.p[i], right.v.p[k]);

		TRY(both_one(e, f, left_fd, right_fd, order < 0 ? left.v.p[i] : right.v.p[k], err));
		i += order <= 0;
		k += order >= 0;
	}
	return 0;
}

/* ---- both ---- */

/* The root, which comes only when it differs itself. */
static int root_frame(struct emit *e, int left_fd, int right_fd, struct frame *root, struct err *err)
{
	struct stat a;
	int same;

	*root = (struct frame){.dir_fd = right_fd, .name = ".", .path = STR_NONE, .emitted = true};
	if (fstat(left_fd, &a) < 0 || fstat(right_fd, &root->st) < 0)
		return err_errno(err, errno, "stat the roots");
	same = same_attributes(left_fd, right_fd, ".", &a, &root->st, err);
	TRY(same);
	return same ? 0 : emit_entry(e, right_fd, ".", STR_NONE, &root->st, err);
}

int compare_upper(struct emit *e, int below_fd, int upper_fd, struct err *err)
{
	struct frame root;

	TRY(root_frame(e, below_fd, upper_fd, &root, err));
	return upper_dir(e, below_fd, upper_fd, STR_NONE, err);
}

int compare_trees(struct emit *e, int left_fd, int right_fd, struct err *err)
{
	struct frame root;

	TRY(root_frame(e, left_fd, right_fd, &root, err));
	return both_dir(e, &root, left_fd, right_fd, err);
}
