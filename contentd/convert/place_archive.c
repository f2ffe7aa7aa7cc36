/*
 * OCI archives: a layout in a tar file. Reading unpacks it into a directory of its own beside the system's temporary
 * files, writing packs such a directory at the end; both by libarchive, which keeps entries beneath the directory.
 */
#include "contentd/convert/place.h"

#include "base/file.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define BLOCK_BYTES (1u << 20)

struct archive_place {
	struct place base;
	struct place *layout;
	char *dir, *file;
};

static struct archive_place *archive_of(struct place *p)
{
	return (struct archive_place *)p;
}

static int archive_error(struct archive *a, const char *file, struct err *err)
{
	const char *why = archive_error_string(a);

	return err_set(err, ERR_DATA_LOSS, "archive %s: %s", file, why ?: "unknown error");
}

/* ---- reading ---- */

static bool is_layout_entry(const char *path)
{
	struct str p = str_of(path);

	str_skip(&p, STR("./"));
	return str_eqc(p, "oci-layout") || str_eqc(p, "index.json") || str_starts(p, STR("blobs/"));
}

static int unpack_one(struct archive *in, struct archive *out, struct archive_entry *e, const char *dir,
                      const char *file, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/%s", dir, archive_entry_pathname(e));
	const void *block;
	size_t n;
	la_int64_t at;
	int r;

	archive_entry_set_pathname(e, path);
	archive_entry_set_perm(e, archive_entry_filetype(e) == AE_IFDIR ? 0755 : 0644);
	if (archive_write_header(out, e) < ARCHIVE_WARN)
		return archive_error(out, file, err);
	while ((r = archive_read_data_block(in, &block, &n, &at)) == ARCHIVE_OK)
		if (archive_write_data_block(out, block, n, at) < ARCHIVE_WARN)
			return archive_error(out, file, err);
	return r == ARCHIVE_EOF ? 0 : archive_error(in, file, err);
}

static int unpack_all(struct archive *in, struct archive *out, const char *dir, const char *file, struct err *err)
{
	struct archive_entry *e;
	int r;

	while ((r = archive_read_next_header(in, &e)) == ARCHIVE_OK) {
		int type = (int)archive_entry_filetype(e);

		/* A layout is files and directories; links could lead elsewhere. */
		if ((type != AE_IFREG && type != AE_IFDIR) || archive_entry_hardlink(e) || !archive_entry_pathname(e) ||
		    !is_layout_entry(archive_entry_pathname(e)))
			continue;
		TRY(unpack_one(in, out, e, dir, file, err));
	}
	return r == ARCHIVE_EOF ? 0 : archive_error(in, file, err);
}

static int unpack(const char *file, const char *dir, struct err *err)
{
	struct archive *in = archive_read_new(), *out = archive_write_disk_new();
	int r;

	archive_read_support_format_tar(in);
	archive_read_support_filter_all(in);
	archive_write_disk_set_options(out, ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_SYMLINKS);
	if (archive_read_open_filename(in, file, BLOCK_BYTES) != ARCHIVE_OK)
		r = archive_error(in, file, err);
	else
		r = unpack_all(in, out, dir, file, err);
	if (r >= 0 && archive_write_close(out) < ARCHIVE_WARN)
		r = archive_error(out, file, err);
	archive_read_free(in);
	archive_write_free(out);
	return r;
}

/* ---- writing ---- */

static int pack_one(struct archive *in, struct archive *out, struct archive_entry *e, size_t strip, const char *file,
                    struct err *err)
{
	const char *path = archive_entry_pathname(e);
	AUTO_FREE char *below = xstrdup(strlen(path) > strip ? path + strip + 1 : "");
	const void *block;
	size_t n;
	la_int64_t at;
	int r;

	if (!*below)
		return 0;
	archive_entry_set_pathname(e, below);
	archive_entry_set_uid(e, 0);
	archive_entry_set_gid(e, 0);
	archive_entry_set_uname(e, NULL);
	archive_entry_set_gname(e, NULL);
	archive_entry_set_mtime(e, 0, 0);
	archive_entry_unset_atime(e);
	archive_entry_unset_ctime(e);
	if (archive_write_header(out, e) < ARCHIVE_WARN)
		return archive_error(out, file, err);
	if (archive_entry_filetype(e) != AE_IFREG)
		return 0;
	while ((r = archive_read_data_block(in, &block, &n, &at)) == ARCHIVE_OK)
		if (archive_write_data(out, block, n) < 0)
			return archive_error(out, file, err);
	return r == ARCHIVE_EOF ? 0 : archive_error(in, file, err);
}

static int pack_all(struct archive *in, struct archive *out, size_t strip, const char *file, struct err *err)
{
	struct archive_entry *e = archive_entry_new();
	int r, result = 0;

	while ((r = archive_read_next_header2(in, e)) == ARCHIVE_OK && result >= 0) {
		archive_read_disk_descend(in);
		result = pack_one(in, out, e, strip, file, err);
	}
	if (result >= 0 && r != ARCHIVE_EOF)
		result = archive_error(in, file, err);
	archive_entry_free(e);
	return result;
}

static int pack(const char *dir, const char *file, struct err *err)
{
	struct archive *in = archive_read_disk_new(), *out = archive_write_new();
	AUTO_FREE char *tmp = xasprintf("%s.new", file);
	int r;

	archive_write_set_format_pax_restricted(out);
	if (archive_write_open_filename(out, tmp) != ARCHIVE_OK)
		r = archive_error(out, tmp, err);
	else if (archive_read_disk_open(in, dir) != ARCHIVE_OK)
		r = archive_error(in, dir, err);
	else
		r = pack_all(in, out, strlen(dir), tmp, err);
	if (r >= 0 && archive_write_close(out) < ARCHIVE_WARN)
		r = archive_error(out, tmp, err);
	archive_read_free(in);
	archive_write_free(out);
	if (r >= 0 && rename(tmp, file) < 0)
		r = err_errno(err, errno, "rename %s", tmp);
	if (r < 0)
		unlink(tmp);
	return r;
}

/* ---- the place ---- */

static int packed_get_root(struct place *p, struct buf *bytes, struct buf *media_type, struct err *err)
{
	struct place *l = archive_of(p)->layout;

	return l->ops->get_root(l, bytes, media_type, err);
}

static int packed_get_document(struct place *p, const struct reg_descriptor *d, bool is_manifest, struct buf *bytes,
                               struct err *err)
{
	struct place *l = archive_of(p)->layout;

	return l->ops->get_document(l, d, is_manifest, bytes, err);
}

static int packed_get_blob(struct place *p, const struct reg_descriptor *d, int fd, struct err *err)
{
	struct place *l = archive_of(p)->layout;

	return l->ops->get_blob(l, d, fd, err);
}

static int packed_has_blob(struct place *p, const struct digest *digest, struct err *err)
{
	struct place *l = archive_of(p)->layout;

	return l->ops->has_blob(l, digest, err);
}

static int packed_put_blob(struct place *p, const struct digest *digest, uint64_t size, int fd, struct str bytes,
                           struct err *err)
{
	struct place *l = archive_of(p)->layout;

	return l->ops->put_blob(l, digest, size, fd, bytes, err);
}

static int packed_put_manifest(struct place *p, struct str bytes, struct str media_type, struct err *err)
{
	struct archive_place *a = archive_of(p);

	TRY(a->layout->ops->put_manifest(a->layout, bytes, media_type, err));
	return pack(a->dir, a->file, err);
}

static void packed_free(struct place *p)
{
	struct archive_place *a = archive_of(p);

	place_free(a->layout);
	if (a->dir) {
		char *slash = strrchr(a->dir, '/');
		int fd;

		*slash = '\0';
		fd = open(a->dir, O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0) {
			dir_remove(fd, slash + 1, NULL);
			close(fd);
		}
	}
	free(a->dir);
	free(a->file);
	free(a->base.name);
	free(a);
}

static const struct place_ops ARCHIVE_OPS = {
    .get_root = packed_get_root,
    .get_document = packed_get_document,
    .get_blob = packed_get_blob,
    .has_blob = packed_has_blob,
    .put_blob = packed_put_blob,
    .put_manifest = packed_put_manifest,
    .free = packed_free,
};

int place_archive_open(const char *name, const char *file, const char *tag, bool writing, struct place **out,
                       struct err *err)
{
	AUTO(place) struct place *guard = NULL;
	struct archive_place *a = xcalloc(1, sizeof(*a));
	const char *tmp = getenv("TMPDIR") ?: "/var/tmp";
	AUTO_FREE char *dir = xasprintf("%s/content-convert-XXXXXX", tmp);

	a->base = (struct place){&ARCHIVE_OPS, xstrdup(name)};
	a->file = xstrdup(file);
	guard = &a->base;
	if (!mkdtemp(dir))
		return err_errno(err, errno, "make a directory in %s", tmp);
	a->dir = STEAL(dir);
	if (!writing)
		TRY(unpack(file, a->dir, err));
	TRY(place_layout_open(name, a->dir, tag, writing, &a->layout, err));
	*out = STEAL(guard);
	return 0;
}
