#include "bench/coldbench/images/layout.h"

#include "base/file.h"

#include <fcntl.h>

char *layout_blob_path(const char *layout, const struct digest *digest)
{
	char hex[65];

	return xasprintf("%s/blobs/sha256/%s", layout, digest_hex(digest, hex));
}

int layout_read_blob(const char *layout, const struct digest *digest, size_t max, struct buf *out, struct err *err)
{
	AUTO_FREE char *path = layout_blob_path(layout, digest);

	return file_read(AT_FDCWD, path, max, out, err);
}

int layout_read_manifest(const char *layout, struct reg_manifest **out, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/index.json", layout);
	AUTO(buf) struct buf index_bytes = BUF_INIT;
	AUTO(buf) struct buf bytes = BUF_INIT;
	AUTO(reg_manifest) struct reg_manifest *index = NULL;
	AUTO(reg_manifest) struct reg_manifest *manifest = NULL;

	TRY(file_read(AT_FDCWD, path, REG_MANIFEST_BYTES_MAX, &index_bytes, err));
	TRY_WRAP(reg_manifest_parse(buf_str(&index_bytes), STR(REG_MT_OCI_INDEX), &index, err), err, "%s", path);
	if (index->n_entries != 1)
		return err_set(err, ERR_INVALID, "%s: %zu images, not one", path, index->n_entries);
	TRY(layout_read_blob(layout, &index->entries[0].digest, REG_MANIFEST_BYTES_MAX, &bytes, err));
	TRY_WRAP(reg_manifest_parse(buf_str(&bytes), index->entries[0].media_type, &manifest, err), err, "%s", layout);
	if (manifest->kind != REG_IMAGE_MANIFEST)
		return err_set(err, ERR_INVALID, "%s: an index in the index", layout);
	*out = STEAL(manifest);
	return 0;
}
