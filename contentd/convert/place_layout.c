/* OCI image layouts: oci-layout, index.json, blobs/sha256/<hex> (image-spec image-layout.md). */
#include "contentd/convert/place.h"

#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define LAYOUT_TEXT "{\"imageLayoutVersion\":\"1.0.0\"}"
#define TAG_ANNOTATION "org.opencontainers.image.ref.name"
#define COPY_BYTES (8u << 20)

struct layout {
	struct place base;
	char *dir, *tag; /* tag NULL: the only image */
	int dir_fd, blobs_fd;
};

static struct layout *layout_of(struct place *p)
{
	return (struct layout *)p;
}

static int read_blob_bytes(struct layout *l, const struct digest *digest, size_t max, struct buf *out, struct err *err)
{
	char hex[65];

	TRY_WRAP(file_read(l->blobs_fd, digest_hex(digest, hex), max, out, err), err, "%s", l->base.name);
	return 0;
}

static bool is_wanted(const struct layout *l, const struct reg_manifest *index, const struct reg_descriptor *d)
{
	struct str tag = reg_annotation_get(d->annotations, d->n_annotations, STR(TAG_ANNOTATION));

	return l->tag ? str_eqc(tag, l->tag) : index->n_entries == 1;
}

static int read_index(struct layout *l, struct reg_manifest **out, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;

	TRY_WRAP(file_read(l->dir_fd, "index.json", REG_MANIFEST_BYTES_MAX, &text, err), err, "%s", l->base.name);
	TRY_WRAP(reg_manifest_parse(buf_str(&text), STR(REG_MT_OCI_INDEX), out, err), err, "%s/index.json", l->dir);
	return 0;
}

static int layout_get_root(struct place *p, struct buf *bytes, struct buf *media_type, struct err *err)
{
	struct layout *l = layout_of(p);
	AUTO(reg_manifest) struct reg_manifest *index = NULL;
	const struct reg_descriptor *found = NULL;

	TRY(read_index(l, &index, err));
	for (size_t i = 0; i < index->n_entries; i++)
		if (is_wanted(l, index, &index->entries[i]))
			found = &index->entries[i];
	if (!found && l->tag)
		return err_set(err, ERR_NOT_FOUND, "%s: no image is tagged %s", l->dir, l->tag);
	if (!found)
		return err_set(err, ERR_INVALID, "%s holds %zu images: name one as %s:TAG", l->dir, index->n_entries,
		               l->base.name);
	buf_addstr(media_type, found->media_type);
	return read_blob_bytes(l, &found->digest, REG_MANIFEST_BYTES_MAX, bytes, err);
}

static int layout_get_document(struct place *p, const struct reg_descriptor *d, bool is_manifest, struct buf *bytes,
                               struct err *err)
{
	return read_blob_bytes(layout_of(p), &d->digest, REG_MANIFEST_BYTES_MAX, bytes, err);
}

static int copy_fd(int from, int to, struct err *err)
{
	AUTO_FREE char *bytes = xmalloc(COPY_BYTES);
	ssize_t n;

	while ((n = read(from, bytes, COPY_BYTES)) > 0)
		TRY(fd_write_all(to, str_make(bytes, (size_t)n), err));
	return n < 0 ? err_errno(err, errno, "read") : 0;
}

static int layout_get_blob(struct place *p, const struct reg_descriptor *d, int fd, struct err *err)
{
	char hex[65];
	AUTO_FD int from =
	    openat(layout_of(p)->blobs_fd, digest_hex(&d->digest, hex), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (from < 0)
		return err_errno(err, errno, "%s: blob %s", p->name, hex);
	TRY_WRAP(copy_fd(from, fd, err), err, "%s: blob %s", p->name, hex);
	return 0;
}

static int layout_has_blob(struct place *p, const struct digest *digest, struct err *err)
{
	char hex[65];

	(void)err;
	return faccessat(layout_of(p)->blobs_fd, digest_hex(digest, hex), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int put_from_fd(struct layout *l, const char *hex, int from, struct err *err)
{
	AUTO_FREE char *tmp = xasprintf(".%s.new", hex);
	AUTO_FD int fd = openat(l->blobs_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || lseek(from, 0, SEEK_SET) < 0)
		return err_errno(err, errno, "create blob %s", hex);
	if (copy_fd(from, fd, err) < 0) {
		unlinkat(l->blobs_fd, tmp, 0);
		return err_wrap(err, "write blob %s", hex);
	}
	if (fsync(fd) < 0 || renameat(l->blobs_fd, tmp, l->blobs_fd, hex) < 0)
		return err_errno(err, errno, "store blob %s", hex);
	return 0;
}

static int layout_put_blob(struct place *p, const struct digest *digest, uint64_t size, int fd, struct str bytes,
                           struct err *err)
{
	struct layout *l = layout_of(p);
	char hex[65];

	(void)size;
	digest_hex(digest, hex);
	if (fd >= 0)
		TRY_WRAP(put_from_fd(l, hex, fd, err), err, "%s", p->name);
	else
		TRY_WRAP(file_write_atomic(l->blobs_fd, hex, bytes, 0644, err), err, "%s", p->name);
	return 0;
}

static void write_entry(struct json_writer *w, const struct layout *l, const struct digest *digest, size_t size,
                        struct str media_type)
{
	char text[DIGEST_TEXT_MAX];

	json_w_object_begin(w);
	json_w_kstr(w, "mediaType", media_type);
	json_w_kcstr(w, "digest", digest_text(digest, text));
	json_w_ki64(w, "size", (int64_t)size);
	json_w_key(w, "annotations");
	json_w_object_begin(w);
	json_w_kcstr(w, TAG_ANNOTATION, l->tag ?: "latest");
	json_w_object_end(w);
	json_w_object_end(w);
}

static void copy_entry(struct json_writer *w, const struct reg_descriptor *d)
{
	char text[DIGEST_TEXT_MAX];

	json_w_object_begin(w);
	json_w_kstr(w, "mediaType", d->media_type);
	json_w_kcstr(w, "digest", digest_text(&d->digest, text));
	json_w_ki64(w, "size", (int64_t)d->size);
	json_w_key(w, "annotations");
	json_w_object_begin(w);
	for (size_t i = 0; i < d->n_annotations; i++) {
		json_w_key_str(w, d->annotations[i].key);
		json_w_str(w, d->annotations[i].value);
	}
	json_w_object_end(w);
	json_w_object_end(w);
}

static int layout_put_manifest(struct place *p, struct str bytes, struct str media_type, struct err *err)
{
	struct layout *l = layout_of(p);
	AUTO(reg_manifest) struct reg_manifest *old = NULL;
	AUTO(buf) struct buf text = BUF_INIT;
	struct json_writer w;
	struct digest digest;

	digest_of(bytes.p, bytes.n, &digest);
	TRY(layout_put_blob(p, &digest, bytes.n, -1, bytes, err));
	if (faccessat(l->dir_fd, "index.json", F_OK, 0) == 0)
		TRY(read_index(l, &old, err));
	json_writer_init(&w, &text, NULL);
	json_w_object_begin(&w);
	json_w_ki64(&w, "schemaVersion", 2);
	json_w_kcstr(&w, "mediaType", REG_MT_OCI_INDEX);
	json_w_key(&w, "manifests");
	json_w_array_begin(&w);
	for (size_t i = 0; old && i < old->n_entries; i++) {
		struct str tag =
		    reg_annotation_get(old->entries[i].annotations, old->entries[i].n_annotations, STR(TAG_ANNOTATION));

		if (!str_eqc(tag, l->tag ?: "latest"))
			copy_entry(&w, &old->entries[i]);
	}
	write_entry(&w, l, &digest, bytes.n, media_type);
	json_w_array_end(&w);
	json_w_object_end(&w);
	TRY_WRAP(file_write_atomic(l->dir_fd, "oci-layout", STR(LAYOUT_TEXT), 0644, err), err, "%s", p->name);
	TRY_WRAP(file_write_atomic(l->dir_fd, "index.json", buf_str(&text), 0644, err), err, "%s", p->name);
	return 0;
}

static void layout_free(struct place *p)
{
	struct layout *l = layout_of(p);

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
    .get_document = layout_get_document,
    .get_blob = layout_get_blob,
    .has_blob = layout_has_blob,
    .put_blob = layout_put_blob,
    .put_manifest = layout_put_manifest,
    .free = layout_free,
};

int place_layout_open(const char *name, const char *dir, const char *tag, bool writing, struct place **out,
                      struct err *err)
{
	AUTO(place) struct place *guard = NULL;
	struct layout *l = xcalloc(1, sizeof(*l));
	AUTO_FREE char *blobs = xasprintf("%s/blobs/sha256", dir);

	l->base = (struct place){&LAYOUT_OPS, xstrdup(name)};
	l->dir = xstrdup(dir);
	l->tag = tag ? xstrdup(tag) : NULL;
	l->dir_fd = l->blobs_fd = -1;
	guard = &l->base;
	if (writing)
		TRY_WRAP(dir_make(blobs, 0755, err), err, "%s", name);
	l->dir_fd = open(dir, O_DIRECTORY | O_CLOEXEC);
	l->blobs_fd = open(blobs, O_DIRECTORY | O_CLOEXEC);
	if (l->dir_fd < 0 || l->blobs_fd < 0)
		return err_errno(err, errno, "%s is not an OCI layout: %s", dir, l->dir_fd < 0 ? dir : blobs);
	*out = STEAL(guard);
	return 0;
}
