#include "estargz/testing/test_dump.h"

#include "base/file.h"
#include "estargz/testing/test_stack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cmocka.h>

/* ---- lines ---- */

static void lines_fini(struct lines *l)
{
	vec_each(&l->v, it)
		free(*it);
	vec_fini(&l->v);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void lines_finish(struct lines *l, char sep, struct buf *out)
{
	if (l->v.n)
		qsort(l->v.p, l->v.n, sizeof(*l->v.p), by_text);
	vec_each(&l->v, it) {
		buf_adds(out, *it);
		buf_addc(out, sep);
	}
	lines_fini(l);
}

void dump_fini(struct dump *d)
{
	lines_fini(&d->lines);
	vec_each(&d->linked, it)
		free(it->path);
	vec_fini(&d->linked);
}
void line_xattr(struct line *l, struct str name, struct str value)
{
	struct buf b = BUF_INIT;

	buf_addstr(&b, name);
	buf_addc(&b, '=');
	hex_encode(value.p, value.n, buf_reserve(&b, 2 * value.n + 1));
	b.n += 2 * value.n;
	vec_push(&l->xattrs.v, buf_steal(&b));
}

void dump_line(struct dump *d, struct line *l)
{
	struct buf b = BUF_INIT;
	bool dir = S_ISDIR(l->st.mode);
	char hex[65] = "";

	if (l->content)
		digest_hex(l->content, hex);
	buf_addf(&b,
	         "/" STR_FMT " %06o %u:%u size %" PRIu64 " time %" PRId64 ".%09u links %u dev %u:%u -> '" STR_FMT
	         "' %.16s ",
	         STR_ARG(l->path), l->st.mode, l->st.uid, l->st.gid, S_ISREG(l->st.mode) ? l->st.size : 0,
	         l->st.mtime_s, l->st.mtime_ns, dir && !(d->flags & DUMP_DIR_NLINK) ? 0 : l->st.nlink, l->st.dev_major,
	         l->st.dev_minor, STR_ARG(l->link), hex);
	lines_finish(&l->xattrs, ' ', &b);
	vec_push(&d->lines.v, buf_steal(&b));
	if (!dir && l->st.nlink > 1)
		vec_push(&d->linked, (struct named_inode){xstrndup(l->path.p, l->path.n), l->st.nid});
}

void dump_finish(struct dump *d, struct buf *out)
{
	vec_each(&d->linked, a)
		vec_each(&d->linked, b)
			if (a->nid == b->nid && strcmp(a->path, b->path) < 0)
				vec_push(&d->lines.v, xasprintf("same file: /%s /%s", a->path, b->path));
	lines_finish(&d->lines, '\n', out);
}

bool dump_digest(const struct digest *key, uint64_t size, struct digest *out)
{
	AUTO(buf) struct buf b = BUF_INIT;

	if (size > DUMP_CONTENT_MAX)
		return false;
	stack_content(key, size, &b);
	digest_of(b.p, b.n, out);
	return true;
}

/* ---- dump of an image, by the reader ---- */

struct image_walk {
	const struct esgz_erofs *fs;
	struct dump *dump;
	struct str path; /* of the directory at hand */
	struct err *err;
	int r;
};

static bool add_xattr(void *arg, struct str name, struct str value)
{
	line_xattr(arg, name, value);
	return true;
}

static int image_dump_inode(struct image_walk *w, uint64_t nid);

static bool image_entry(void *arg, struct str name, uint64_t nid, uint32_t mode, uint64_t next)
{
	struct image_walk *parent = arg, w = *parent;
	AUTO(buf) struct buf path = BUF_INIT;
	struct esgz_erofs_stat st;
	uint64_t found;

	if (str_eq(name, STR(".")) || str_eq(name, STR("..")))
		return true;
	buf_addstr(&path, w.path);
	if (path.n)
		buf_addc(&path, '/');
	buf_addstr(&path, name);
	w.path = buf_str(&path);
	w.r = image_dump_inode(&w, nid);
	assert_int_equal(esgz_erofs_stat(w.fs, nid, &st, w.err), 0);
	assert_int_equal(st.mode & S_IFMT, mode);
	/* What is listed is found too. */
	esgz_erofs_stat(w.fs, ESGZ_EROFS_ROOT, &st, w.err);
	found = st.nid;
	for (struct str rest = w.path, part; str_split(&rest, '/', &part);)
		assert_int_equal(esgz_erofs_lookup(w.fs, found, part, &found, w.err), 0);
	assert_int_equal(found, nid);
	parent->r = w.r;
	return w.r == 0;
}

static int image_dump_inode(struct image_walk *w, uint64_t nid)
{
	struct line l = {.path = w->path};
	struct digest key, content;

	TRY(esgz_erofs_stat(w->fs, nid, &l.st, w->err));
	if (S_ISLNK(l.st.mode))
		TRY(esgz_erofs_readlink(w->fs, nid, &l.link, w->err));
	if (S_ISREG(l.st.mode) && (w->dump->flags & DUMP_CONTENT)) {
		if (l.st.size > 0)
			TRY(esgz_erofs_object(w->fs, nid, &key, w->err));
		else
			assert_int_equal(esgz_erofs_object(w->fs, nid, &key, w->err), -ERR_NOT_FOUND);
		if (dump_digest(&key, l.st.size, &content))
			l.content = &content;
	}
	TRY(esgz_erofs_xattrs(w->fs, nid, add_xattr, &l, w->err));
	dump_line(w->dump, &l);
	if (S_ISDIR(l.st.mode))
		TRY(esgz_erofs_readdir(w->fs, nid, 0, image_entry, w, w->err));
	return w->r;
}

int image_dump(struct str image, unsigned flags, struct buf *out, struct err *err)
{
	AUTO(esgz_erofs) struct esgz_erofs *fs = NULL;
	AUTO(dump) struct dump d = {.flags = flags};
	struct image_walk w = {.dump = &d, .err = err};

	TRY(esgz_erofs_open(image, &fs, err));
	w.fs = fs;
	TRY(image_dump_inode(&w, ESGZ_EROFS_ROOT));
	dump_finish(&d, out);
	return 0;
}

/* ---- dump of a mounted tree ---- */

static void mount_xattrs(struct line *l, const char *path)
{
	static char names[65536], value[65536];
	ssize_t n = llistxattr(path, names, sizeof(names));

	assert_true(n >= 0);
	for (const char *name = names; name < names + n; name += strlen(name) + 1) {
		ssize_t got = lgetxattr(path, name, value, sizeof(value));

		assert_true(got >= 0);
		if (!str_starts(str_of(name), STR("trusted.overlay.")))
			line_xattr(l, str_of(name), str_make(value, (size_t)got));
	}
}

static void read_digest(const char *path, struct digest *out)
{
	AUTO(buf) struct buf b = BUF_INIT;

	assert_int_equal(file_read(AT_FDCWD, path, DUMP_CONTENT_MAX, &b, NULL), 0);
	digest_of(b.p, b.n, out);
}

/* `path` is the root of the mount and, behind it, the path to dump. */
static void mount_dump_at(struct dump *d, struct buf *path, size_t root_n)
{
	struct line l = {.path = str_sub(buf_str(path), root_n + 1, SIZE_MAX)};
	size_t n = path->n;
	char link[4096];
	struct digest content;
	struct stat st;
	DIR *dir;

	if (lstat(path->p, &st) != 0)
		fail_msg("lstat %s: %s", path->p, strerror(errno));
	l.st = (struct esgz_erofs_stat){.nid = st.st_ino,
	                                .mode = st.st_mode,
	                                .uid = st.st_uid,
	                                .gid = st.st_gid,
	                                .nlink = (uint32_t)st.st_nlink,
	                                .size = (uint64_t)st.st_size,
	                                .mtime_s = st.st_mtim.tv_sec,
	                                .mtime_ns = (uint32_t)st.st_mtim.tv_nsec,
	                                .dev_major = major(st.st_rdev),
	                                .dev_minor = minor(st.st_rdev)};
	if (S_ISREG(st.st_mode) && (d->flags & DUMP_CHECK_BLOCKS))
		assert_int_equal(st.st_blocks, (st.st_size + 4095) / 4096 * 8);
	if (S_ISLNK(st.st_mode)) {
		ssize_t got = readlink(path->p, link, sizeof(link));

		assert_true(got > 0);
		l.link = str_make(link, (size_t)got);
	}
	if (S_ISREG(st.st_mode) && (d->flags & DUMP_CONTENT) && st.st_size <= DUMP_CONTENT_MAX) {
		read_digest(path->p, &content);
		l.content = &content;
	}
	mount_xattrs(&l, path->p);
	dump_line(d, &l);
	if (!S_ISDIR(st.st_mode))
		return;
	dir = opendir(path->p);
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		buf_addf(path, "/%s", e->d_name);
		/* The root's whiteouts: only a bare mount of the image shows them. */
		if (lstat(path->p, &st) == 0 && !(S_ISCHR(st.st_mode) && st.st_rdev == 0))
			mount_dump_at(d, path, root_n);
		path->n = n;
		path->p[n] = '\0';
	}
	closedir(dir);
}

void mount_dump(const char *root, unsigned flags, struct buf *out)
{
	AUTO(dump) struct dump d = {.flags = flags};
	AUTO(buf) struct buf path = BUF_INIT;

	buf_adds(&path, root);
	mount_dump_at(&d, &path, path.n);
	dump_finish(&d, out);
}

void assert_same_dump(const struct buf *got, const struct buf *want, const char *what)
{
	struct str a = buf_str(got), b = buf_str(want), la, lb;
	bool more_a, more_b;

	if (str_eq(a, b))
		return;
	do {
		more_a = str_split(&a, '\n', &la);
		more_b = str_split(&b, '\n', &lb);
	} while (more_a && more_b && str_eq(la, lb));
	fail_msg("%s:\ngot  " STR_FMT "\nwant " STR_FMT, what, STR_ARG(la), STR_ARG(lb));
}
