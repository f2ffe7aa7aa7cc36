/* OCI image layouts: oci-layout, index.json, blobs/sha256/<hex> (image-spec image-layout.md). */
#include "contentd/convert/place.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#define LOCK_POLL_NS (10 * NS_PER_MS)

struct layout {
	struct place base;
	char *dir, *tag; /* tag NULL: the image without a name, or the only one */
	int dir_fd, blobs_fd;
	bool is_held;            /* see hold() */
	struct stat index_then;  /* index.json when that was so; all zero: there was none */
	VEC(struct digest) made; /* blobs that no name reaches yet */
	bool made_dirs;          /* nor these */
};

static struct layout *layout_of(struct place *p)
{
	return (struct layout *)p;
}

/* Both, or the first, or none. */
static int open_dirs(struct layout *l, struct err *err)
{
	if (l->dir_fd < 0)
		l->dir_fd = open(l->dir, O_DIRECTORY | O_CLOEXEC);
	if (l->dir_fd < 0)
		return err_errno(err, errno, "%s is not an OCI layout: %s", l->dir, l->dir);
	if (l->blobs_fd < 0)
		l->blobs_fd = openat(l->dir_fd, "blobs/sha256", O_DIRECTORY | O_CLOEXEC);
	if (l->blobs_fd < 0)
		return err_errno(err, errno, "%s is not an OCI layout: %s/blobs/sha256", l->dir, l->dir);
	return 0;
}

static void close_dirs(struct layout *l)
{
	if (l->dir_fd >= 0)
		close(l->dir_fd);
	if (l->blobs_fd >= 0)
		close(l->blobs_fd);
	l->dir_fd = l->blobs_fd = -1;
}

/* ---- several writers ---- */

/* Not for ever: whoever is interrupted stops waiting. A file system without locks is one without other writers. */
static int lock(const struct layout *l, int fd, int how, struct err *err)
{
	while (flock(fd, how | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
		TRY(place_check_cancelled(&l->base, err));
		nanosleep(&(struct timespec){.tv_nsec = LOCK_POLL_NS}, NULL);
	}
	return 0;
}

static void look_at_index(const struct layout *l, struct stat *st)
{
	if (fstatat(l->dir_fd, "index.json", st, 0) < 0)
		*st = (struct stat){0};
}

/* Whoever writes holds blobs/sha256 (shared) from before it looks at what is there until its end, so that nobody takes away
 * what it counts on: a conversion that fails removes what it made only if it can have the folder for itself, and if
 * index.json is still the one that it found. The folder of the layout is held (exclusively) while index.json is changed. */
static int hold(struct layout *l, struct err *err)
{
	struct stat st;

	while (l->blobs_fd >= 0 && !l->is_held) {
		TRY(lock(l, l->blobs_fd, LOCK_SH, err));
		if (fstat(l->blobs_fd, &st) == 0 && st.st_nlink) {
			l->is_held = true;
			look_at_index(l, &l->index_then);
			return 0;
		}
		close_dirs(l); /* removed while we waited */
		open_dirs(l, NULL);
	}
	return 0;
}

/* With the first byte that is written, not before: a plan leaves nothing. */
static int make_dirs(struct layout *l, struct err *err)
{
	AUTO_FREE char *blobs = xasprintf("%s/blobs/sha256", l->dir);

	TRY(hold(l, err));
	while (!l->is_held) {
		l->made_dirs |= l->dir_fd < 0;
		TRY_WRAP(dir_make(blobs, 0755, err), err, "%s", l->base.name);
		TRY(open_dirs(l, err));
		TRY(hold(l, err));
	}
	return 0;
}

/* ---- reading ---- */

static int read_index(struct layout *l, struct reg_manifest **out, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;

	if (l->dir_fd < 0)
		return err_set(err, ERR_NOT_FOUND, "%s is not there yet", l->base.name);
	TRY_WRAP(file_read(l->dir_fd, "index.json", REG_MANIFEST_BYTES_MAX, &text, err), err, "%s", l->base.name);
	TRY_WRAP(reg_manifest_parse(buf_str(&text), STR(REG_MT_OCI_INDEX), out, err), err, "%s/index.json", l->dir);
	return 0;
}

static int layout_get_root(struct place *p, const char *suffix, struct buf *bytes, struct buf *media_type,
                           struct err *err)
{
	struct layout *l = layout_of(p);
	AUTO(reg_manifest) struct reg_manifest *index = NULL;
	struct reg_descriptor d;

	TRY(read_index(l, &index, err));
	TRY(place_index_find(index, l->tag, suffix, p->name, &d, err));
	buf_addstr(media_type, d.media_type);
	return place_get(p, &d, true, bytes, err);
}

struct file_source {
	struct place_source base;
	int fd;
};

static int file_source_read(struct place_source *s, void *dst, size_t n, size_t *got, struct err *err)
{
	ssize_t r;

	do {
		r = read(((struct file_source *)s)->fd, dst, n);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return err_errno(err, errno, "read a blob");
	*got = (size_t)r;
	return 0;
}

static void file_source_free(struct place_source *s)
{
	close(((struct file_source *)s)->fd);
	free(s);
}

static int layout_open_blob(struct place *p, const struct reg_descriptor *d, uint64_t offset, struct place_source **out,
                            struct err *err)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK; /* it need not be a file */
	struct file_source *s;
	AUTO_FD int fd = -1;
	struct stat st;
	char hex[65];

	fd = openat(layout_of(p)->blobs_fd, digest_hex(&d->digest, hex), flags);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "%s: blob %s", p->name, hex);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != d->size)
		return err_set(err, ERR_DATA_LOSS, "%s: blob %s has %lld bytes of %" PRIu64, p->name, hex,
		               S_ISREG(st.st_mode) ? (long long)st.st_size : 0, d->size);
	if (lseek(fd, (off_t)offset, SEEK_SET) < 0)
		return err_errno(err, errno, "%s: blob %s", p->name, hex);
	s = xcalloc(1, sizeof(*s));
	*s = (struct file_source){{file_source_read, file_source_free}, STEAL_FD(fd)};
	*out = &s->base;
	return 0;
}

/* ---- writing ---- */

/* A file of another size is what a copy left that broke off, and is replaced. */
static int layout_has_blob(struct place *p, const struct digest *digest, uint64_t bytes, struct err *err)
{
	struct layout *l = layout_of(p);
	struct stat st;
	char hex[65];

	TRY(hold(l, err));
	return l->blobs_fd >= 0 && fstatat(l->blobs_fd, digest_hex(digest, hex), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode) && (uint64_t)st.st_size == bytes;
}

struct file_sink {
	struct place_sink base;
	struct layout *layout;
	char name[40]; /* "" when it is not there any more */
	int fd;
};

static int file_sink_write(struct place_sink *s, struct str bytes, struct err *err)
{
	const struct file_sink *f = (struct file_sink *)s;

	TRY_WRAP(fd_write_all(f->fd, bytes, err), err, "%s", f->layout->base.name);
	return 0;
}

static int file_sink_finish(struct place_sink *s, const struct digest *digest, uint64_t bytes, struct err *err)
{
	struct file_sink *f = (struct file_sink *)s;
	struct layout *l = f->layout;
	char hex[65];
	int had = layout_has_blob(&l->base, digest, bytes, err);

	TRY(had);
	TRY(place_check_cancelled(&l->base, err)); /* what follows may take long */
	digest_hex(digest, hex);
	if (fsync(f->fd) < 0 || renameat(l->blobs_fd, f->name, l->blobs_fd, hex) < 0)
		return err_errno(err, errno, "%s: store blob %s", l->base.name, hex);
	f->name[0] = '\0';
	if (!had)
		vec_push(&l->made, *digest);
	return 0;
}

static void file_sink_free(struct place_sink *s)
{
	struct file_sink *f = (struct file_sink *)s;

	if (f->name[0])
		unlinkat(f->layout->blobs_fd, f->name, 0);
	close(f->fd);
	free(f);
}

static int layout_begin_blob(struct place *p, struct place_sink **out, struct err *err)
{
	struct file_sink *f;

	TRY(make_dirs(layout_of(p), err));
	f = xcalloc(1, sizeof(*f));
	f->base = (struct place_sink){file_sink_write, file_sink_finish, file_sink_free};
	f->layout = layout_of(p);
	strcpy(f->name, ".new-");
	random_hex(f->name + strlen(f->name), 8);
	f->fd = openat(f->layout->blobs_fd, f->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (f->fd < 0) {
		free(f);
		return err_errno(err, errno, "%s: create a blob", p->name);
	}
	*out = &f->base;
	return 0;
}

static int layout_put_manifest(struct place *p, struct str bytes, struct str media_type, struct err *err)
{
	struct digest digest;

	return place_put(p, bytes, &digest, err);
}

/* What index.json is going to name must not be gone when that is there after a crash. */
static int sync_dirs(struct layout *l, struct err *err)
{
	static const char *const made[] = {"blobs", ".."};

	TRY_WRAP(dir_sync(l->blobs_fd, err), err, "%s", l->base.name);
	for (size_t i = 0; l->made_dirs && i < ARRAY_LEN(made); i++) {
		AUTO_FD int fd = -1;

		fd = openat(l->dir_fd, made[i], O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return err_errno(err, errno, "%s: open %s", l->base.name, made[i]);
		TRY_WRAP(dir_sync(fd, err), err, "%s", l->base.name);
	}
	return 0;
}

/* The folder is locked. */
static int change_index(struct layout *l, const struct place_document *docs, size_t n, struct err *err)
{
	AUTO(reg_manifest) struct reg_manifest *old = NULL;
	AUTO(buf) struct buf text = BUF_INIT;

	if (faccessat(l->dir_fd, "index.json", F_OK, 0) == 0)
		TRY(read_index(l, &old, err));
	TRY(place_index_write(old, l->tag, docs, n, l->base.name, &text, err));
	TRY_WRAP(file_write_atomic(l->dir_fd, "oci-layout", STR(PLACE_LAYOUT_TEXT), 0644, err), err, "%s",
	         l->base.name);
	TRY_WRAP(file_write_atomic(l->dir_fd, "index.json", buf_str(&text), 0644, err), err, "%s", l->base.name);
	return 0;
}

static int layout_put_named(struct place *p, const struct place_document *docs, size_t n, struct err *err)
{
	struct layout *l = layout_of(p);
	int r;

	for (size_t i = 0; i < n; i++)
		TRY(layout_put_manifest(p, docs[i].bytes, docs[i].media_type, err));
	TRY(sync_dirs(l, err));
	TRY(lock(l, l->dir_fd, LOCK_EX, err));
	r = change_index(l, docs, n, err);
	flock(l->dir_fd, LOCK_UN);
	TRY(r);
	vec_clear(&l->made);
	l->made_dirs = false;
	return 0;
}

static const char *layout_why_unnamed(struct place *p, const char *suffix)
{
	return place_index_why_unnamed(layout_of(p)->tag, suffix);
}

/* False: others write here, or have done so, and may count on what we made. */
static bool is_alone(const struct layout *l)
{
	struct stat now;

	if (l->blobs_fd < 0 || (flock(l->blobs_fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK))
		return false;
	look_at_index(l, &now);
	return now.st_ino == l->index_then.st_ino && now.st_mtim.tv_sec == l->index_then.st_mtim.tv_sec &&
	       now.st_mtim.tv_nsec == l->index_then.st_mtim.tv_nsec;
}

static void remove_made(struct layout *l)
{
	char hex[65];

	if ((!l->made.n && !l->made_dirs) || !is_alone(l))
		return;
	vec_each(&l->made, d)
		unlinkat(l->blobs_fd, digest_hex(d, hex), 0);
	if (!l->made_dirs)
		return;
	unlinkat(l->dir_fd, "blobs/sha256", AT_REMOVEDIR);
	unlinkat(l->dir_fd, "blobs", AT_REMOVEDIR);
	rmdir(l->dir);
}

static void layout_free(struct place *p)
{
	struct layout *l = layout_of(p);

	remove_made(l);
	vec_fini(&l->made);
	close_dirs(l);
	free(l->dir);
	free(l->tag);
	free(l->base.name);
	free(l);
}

static const struct place_ops LAYOUT_OPS = {
    .get_root = layout_get_root,
    .open_blob = layout_open_blob,
    .has_blob = layout_has_blob,
    .begin_blob = layout_begin_blob,
    .put_manifest = layout_put_manifest,
    .put_named = layout_put_named,
    .why_unnamed = layout_why_unnamed,
    .free = layout_free,
};

int place_layout_open(const char *name, const char *dir, const char *tag, bool writing, struct place **out,
                      struct err *err)
{
	AUTO(place) struct place *guard = NULL;
	struct layout *l = xcalloc(1, sizeof(*l));

	l->base = (struct place){.ops = &LAYOUT_OPS, .name = xstrdup(name)};
	l->dir = xstrdup(dir);
	l->tag = tag ? xstrdup(tag) : NULL;
	l->dir_fd = l->blobs_fd = -1;
	guard = &l->base;
	if (!writing)
		TRY(open_dirs(l, err));
	else
		open_dirs(l, NULL); /* what is not there is made */
	*out = STEAL(guard);
	return 0;
}
