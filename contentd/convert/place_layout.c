/* OCI image layouts: oci-layout, index.json, blobs/sha256/<hex> (image-spec image-layout.md). */
#include "contentd/convert/place.h"

#include "base/file.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

struct layout {
	struct place base;
	char *dir, *tag; /* tag NULL: the only image */
	int dir_fd, blobs_fd;
	VEC(struct digest) made; /* blobs that no name reaches yet */
	bool made_dirs;          /* nor these */
};

static struct layout *layout_of(struct place *p)
{
	return (struct layout *)p;
}

static int open_dirs(struct layout *l, struct err *err)
{
	AUTO_FREE char *blobs = xasprintf("%s/blobs/sha256", l->dir);

	if (l->dir_fd < 0)
		l->dir_fd = open(l->dir, O_DIRECTORY | O_CLOEXEC);
	if (l->blobs_fd < 0)
		l->blobs_fd = open(blobs, O_DIRECTORY | O_CLOEXEC);
	if (l->dir_fd < 0 || l->blobs_fd < 0)
		return err_errno(err, errno, "%s is not an OCI layout: %s", l->dir, l->dir_fd < 0 ? l->dir : blobs);
	return 0;
}

/* With the first byte that is written, not before: a plan leaves nothing. */
static int make_dirs(struct layout *l, struct err *err)
{
	AUTO_FREE char *blobs = xasprintf("%s/blobs/sha256", l->dir);

	if (l->blobs_fd >= 0)
		return 0;
	TRY_WRAP(dir_make(blobs, 0755, err), err, "%s", l->base.name);
	l->made_dirs = l->dir_fd < 0;
	return open_dirs(l, err);
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

static int layout_get_manifest(struct place *p, const struct reg_descriptor *d, struct buf *bytes, struct err *err)
{
	struct layout *l = layout_of(p);
	char hex[65];

	TRY_WRAP(file_read(l->blobs_fd, digest_hex(&d->digest, hex), REG_MANIFEST_BYTES_MAX, bytes, err), err, "%s",
	         p->name);
	return 0;
}

static int layout_get_root(struct place *p, const char *suffix, struct buf *bytes, struct buf *media_type,
                           struct err *err)
{
	struct layout *l = layout_of(p);
	AUTO(reg_manifest) struct reg_manifest *index = NULL;
	AUTO_FREE char *tag = l->tag || *suffix ? place_tag(l->tag, suffix) : NULL;
	struct reg_descriptor d;

	TRY(read_index(l, &index, err));
	TRY(place_index_find(index, tag, p->name, &d, err));
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

static int layout_open_blob(struct place *p, const struct reg_descriptor *d, struct place_source **out, struct err *err)
{
	char hex[65];
	int fd = openat(layout_of(p)->blobs_fd, digest_hex(&d->digest, hex), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct file_source *s;

	if (fd < 0)
		return err_errno(err, errno, "%s: blob %s", p->name, hex);
	s = xcalloc(1, sizeof(*s));
	*s = (struct file_source){{file_source_read, file_source_free}, fd};
	*out = &s->base;
	return 0;
}

/* ---- writing ---- */

static int layout_has_blob(struct place *p, const struct digest *digest, struct err *err)
{
	int dir = layout_of(p)->blobs_fd;
	char hex[65];

	(void)err;
	return dir >= 0 && faccessat(dir, digest_hex(digest, hex), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

struct file_sink {
	struct place_sink base;
	struct layout *layout;
	char name[40]; /* "" when it is not there any more */
	int fd;
};

static int file_sink_write(struct place_sink *s, struct str bytes, struct err *err)
{
	return fd_write_all(((struct file_sink *)s)->fd, bytes, err);
}

static int file_sink_finish(struct place_sink *s, const struct digest *digest, uint64_t bytes, struct err *err)
{
	struct file_sink *f = (struct file_sink *)s;
	struct layout *l = f->layout;
	char hex[65];
	int had = layout_has_blob(&l->base, digest, err);

	(void)bytes;
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
	snprintf(f->name, sizeof(f->name), ".%d.new", (int)getpid());
	f->fd = openat(f->layout->blobs_fd, f->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (f->fd < 0) {
		free(f);
		return err_errno(err, errno, "%s: create a blob", p->name);
	}
	*out = &f->base;
	return 0;
}

static int layout_put_manifest(struct place *p, const char *suffix, struct str bytes, struct str media_type,
                               struct err *err)
{
	struct layout *l = layout_of(p);
	AUTO(reg_manifest) struct reg_manifest *old = NULL;
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FREE char *tag = place_tag(l->tag, suffix ?: "");
	struct digest digest;

	TRY(place_put(p, bytes, &digest, err));
	if (!suffix)
		return 0;
	if (faccessat(l->dir_fd, "index.json", F_OK, 0) == 0)
		TRY(read_index(l, &old, err));
	place_index_write(old, tag, media_type, bytes, &text);
	TRY_WRAP(file_write_atomic(l->dir_fd, "oci-layout", STR(PLACE_LAYOUT_TEXT), 0644, err), err, "%s", p->name);
	TRY_WRAP(file_write_atomic(l->dir_fd, "index.json", buf_str(&text), 0644, err), err, "%s", p->name);
	vec_clear(&l->made);
	l->made_dirs = false;
	return 0;
}

static void remove_made(struct layout *l)
{
	char hex[65];

	vec_each(&l->made, d)
		unlinkat(l->blobs_fd, digest_hex(d, hex), 0);
	vec_fini(&l->made);
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
	if (l->dir_fd >= 0)
		close(l->dir_fd);
	if (l->blobs_fd >= 0)
		close(l->blobs_fd);
	free(l->dir);
	free(l->tag);
	free(l->base.name);
	free(l);
}

static const struct place_ops LAYOUT_OPS = {
    .get_root = layout_get_root,
    .get_manifest = layout_get_manifest,
    .open_blob = layout_open_blob,
    .has_blob = layout_has_blob,
    .begin_blob = layout_begin_blob,
    .put_manifest = layout_put_manifest,
    .free = layout_free,
};

int place_layout_open(const char *name, const char *dir, const char *tag, bool writing, struct place **out,
                      struct err *err)
{
	AUTO(place) struct place *guard = NULL;
	struct layout *l = xcalloc(1, sizeof(*l));

	l->base = (struct place){&LAYOUT_OPS, xstrdup(name)};
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
