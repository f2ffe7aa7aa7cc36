#include "contentd/diff/emit.h"

#include "base/file.h"
#include "estargz/tar/tar_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define CHUNK_BYTES (256u << 10)
#define XATTR_BYTES_MAX 65536 /* of a value, and of the list of names: linux/limits.h */
#define PROC_PATH_MAX (64 + ESGZ_NAME_MAX)

void emit_init(struct emit *e, struct layer_out *out, struct rpc_call *call)
{
	*e = (struct emit){.out = out, .call = call, .links = MAP_INIT, .chunk = xmalloc(CHUNK_BYTES)};
}

void emit_fini(struct emit *e)
{
	struct str key;
	void *path;

	for (size_t at = 0; map_next(&e->links, &at, &key, &path);)
		free(path);
	map_fini(&e->links);
	free(e->chunk);
}

/* ---- extended attributes ---- */

/* security.* but capabilities is labels of this host; trusted.overlay.* and user.overlay.* say how the layers lie here. */
static bool is_of_a_layer(struct str name)
{
	if (str_starts(name, STR("security.")))
		return str_eqc(name, "security.capability");
	return !str_starts(name, STR("trusted.overlay.")) && !str_starts(name, STR("user.overlay."));
}

void xattrs_fini(struct xattrs *x)
{
	vec_each(&x->v, it) {
		free((void *)it->name.p);
		free((void *)it->value.p);
	}
	vec_fini(&x->v);
}

static int compare_xattrs(const void *a, const void *b)
{
	const struct esgz_xattr *x = a, *y = b;

	return str_cmp(x->name, y->name);
}

int xattrs_read(int dir_fd, const char *name, struct xattrs *out, struct err *err)
{
	AUTO_FREE char *names = NULL;
	AUTO_FREE char *value = NULL;
	char path[PROC_PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir_fd, name);
	n = llistxattr(path, NULL, 0);
	if (n <= 0)
		return n < 0 && errno != ENOTSUP ? err_errno(err, errno, "attributes of %s", name) : 0;
	names = xmalloc(XATTR_BYTES_MAX);
	value = xmalloc(XATTR_BYTES_MAX);
	n = llistxattr(path, names, XATTR_BYTES_MAX);
	if (n < 0)
		return err_errno(err, errno, "attributes of %s", name);
	for (const char *at = names; at < names + n; at += strlen(at) + 1) {
		ssize_t len;

		if (!is_of_a_layer(str_of(at)))
			continue;
		len = lgetxattr(path, at, value, XATTR_BYTES_MAX);
		if (len < 0)
			return err_errno(err, errno, "attribute %s of %s", at, name);
		vec_push(&out->v, (struct esgz_xattr){str_make(xstrdup(at), strlen(at)),
		                                      str_make(str_dup(str_make(value, (size_t)len)), (size_t)len)});
	}
	if (out->v.n > 1)
		qsort(out->v.p, out->v.n, sizeof(*out->v.p), compare_xattrs);
	return 0;
}

/* ---- entries ---- */

static int put(struct emit *e, const struct esgz_entry *entry, const struct xattrs *x, struct err *err)
{
	AUTO(buf) struct buf header = BUF_INIT;

	if (e->call)
		TRY(rpc_cancelled(e->call, err));
	TRY(tar_write_header(entry, x ? x->v.p : NULL, x ? (uint32_t)x->v.n : 0, &header, err));
	return layer_out_write(e->out, buf_str(&header), err);
}

static void set_time(const struct emit *e, struct timespec t, struct esgz_entry *entry)
{
	bool later = t.tv_sec > e->epoch.tv_sec || (t.tv_sec == e->epoch.tv_sec && t.tv_nsec > e->epoch.tv_nsec);

	if (e->has_epoch && later)
		t = e->epoch;
	entry->mtime_s = t.tv_sec;
	entry->mtime_ns = (uint32_t)t.tv_nsec;
}

/* 0: a socket, which no layer can have. */
static enum esgz_type type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return ESGZ_REG;
	case S_IFDIR:
		return ESGZ_DIR;
	case S_IFLNK:
		return ESGZ_SYMLINK;
	case S_IFCHR:
		return ESGZ_CHAR;
	case S_IFBLK:
		return ESGZ_BLOCK;
	case S_IFIFO:
		return ESGZ_FIFO;
	default:
		return 0;
	}
}

/* Where the next data of a file begin, from `at`: holes are not read. */
static uint64_t next_data(int fd, uint64_t at, uint64_t size)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);

	if (data >= 0)
		return (uint64_t)data < size ? (uint64_t)data : size;
	return errno == ENXIO ? size : at;
}

static uint64_t end_of_data(int fd, uint64_t at, uint64_t size)
{
	off_t hole = lseek(fd, (off_t)at, SEEK_HOLE);

	return hole > (off_t)at && (uint64_t)hole < size ? (uint64_t)hole : size;
}

static int put_range(struct emit *e, int fd, uint64_t at, uint64_t end, struct err *err)
{
	while (at < end) {
		size_t n = end - at > CHUNK_BYTES ? CHUNK_BYTES : (size_t)(end - at);

		TRY_WRAP(fd_pread_all(fd, e->chunk, n, (off_t)at, err), err, "it has changed meanwhile");
		TRY(layer_out_write(e->out, str_make(e->chunk, n), err));
		if (e->call)
			TRY(rpc_cancelled(e->call, err));
		at += n;
	}
	return 0;
}

static int put_content(struct emit *e, int dir_fd, const char *name, uint64_t size, struct err *err)
{
	AUTO_FD int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, errno, "open %s", name);
	for (uint64_t at = 0; at < size;) {
		uint64_t data = next_data(fd, at, size), end = end_of_data(fd, data, size);

		TRY(layer_out_zeros(e->out, data - at, err));
		TRY(put_range(e, fd, data, end, err));
		at = end;
	}
	return layer_out_zeros(e->out, -size % TAR_BLOCK, err);
}

/* The path under which a file with several names came already; else NULL, and this one is noted. */
static const char *first_name(struct emit *e, struct str path, const struct stat *st)
{
	struct {
		uint64_t dev, ino;
	} id = {st->st_dev, st->st_ino};
	struct str key = str_make(&id, sizeof(id));
	const char *first;

	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return NULL;
	first = map_get(&e->links, key);
	if (!first)
		map_put(&e->links, key, str_dup(path));
	return first;
}

static int put_entry(struct emit *e, int dir_fd, const char *name, struct str path, const struct stat *st,
                     struct err *err)
{
	struct esgz_entry entry = {.path = path, .type = type_of(st->st_mode), .mode = st->st_mode & 07777};
	AUTO_FREE char *link = NULL;
	AUTO(xattrs) struct xattrs x = XATTRS_INIT;
	const char *first = first_name(e, path, st);

	entry.uid = st->st_uid;
	entry.gid = st->st_gid;
	entry.dev_major = major(st->st_rdev);
	entry.dev_minor = minor(st->st_rdev);
	set_time(e, st->st_mtim, &entry);
	if (first) {
		entry.type = ESGZ_HARDLINK;
		entry.link = str_of(first);
		return put(e, &entry, NULL, err);
	}
	if (entry.type == ESGZ_SYMLINK) {
		ssize_t n;

		link = xcalloc(1, ESGZ_PATH_MAX + 1);
		n = readlinkat(dir_fd, name, link, ESGZ_PATH_MAX);
		if (n < 0)
			return err_errno(err, errno, "read link");
		entry.link = str_make(link, (size_t)n);
	}
	TRY(xattrs_read(dir_fd, name, &x, err));
	if (entry.type != ESGZ_REG)
		return put(e, &entry, &x, err);
	entry.size = (uint64_t)st->st_size;
	TRY(put(e, &entry, &x, err));
	return put_content(e, dir_fd, name, entry.size, err);
}

int emit_entry(struct emit *e, int dir_fd, const char *name, struct str path, const struct stat *st, struct err *err)
{
	if (S_ISSOCK(st->st_mode))
		return 0;
	TRY_WRAP(put_entry(e, dir_fd, name, path, st, err), err, "/" STR_FMT, STR_ARG(path));
	return 0;
}

/* An empty file, whose name says it all. */
static int put_mark(struct emit *e, const struct buf *path, struct err *err)
{
	struct esgz_entry entry = {.type = ESGZ_REG, .path = buf_str(path)};

	return put(e, &entry, NULL, err);
}

int emit_whiteout(struct emit *e, struct str path, struct err *err)
{
	size_t base = (size_t)(str_rfind(path, '/') + 1);
	AUTO(buf) struct buf mark = BUF_INIT;

	buf_addstr(&mark, str_sub(path, 0, base));
	buf_adds(&mark, ".wh.");
	buf_addstr(&mark, str_sub(path, base, SIZE_MAX));
	return put_mark(e, &mark, err);
}

int emit_opaque(struct emit *e, struct str path, struct err *err)
{
	AUTO(buf) struct buf mark = BUF_INIT;

	buf_addstr(&mark, path);
	buf_adds(&mark, path.n ? "/.wh..wh..opq" : ".wh..wh..opq");
	return put_mark(e, &mark, err);
}

int emit_end(struct emit *e, struct err *err)
{
	return layer_out_zeros(e->out, 2 * TAR_BLOCK, err);
}
