#include "contentd/layer_index.h"

#include "base/file.h"
#include "fusefs/store.h"

#include <fcntl.h>

#define INDEX_BYTES_MAX (1u << 30)

int cd_layer_index_info(struct cd_daemon *d, const struct digest *key, struct esgz_index_info *out, struct err *err)
{
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(buf) struct buf bytes = BUF_INIT;
	char hex[65];
	AUTO_FREE char *path = xasprintf("%s/index/%s", d->config.root, digest_hex(key, hex));

	TRY(file_read(AT_FDCWD, path, INDEX_BYTES_MAX, &bytes, err));
	TRY_WRAP(esgz_index_open(buf_str(&bytes), &ix, err), err, "layer index %s", hex);
	*out = *esgz_index_get_info(ix);
	return 0;
}

/* A lazy one, by what contentfs has found once all of it was here. */
static bool was_proven(struct cd_daemon *d, const struct digest *key, const struct digest *diff_id)
{
	AUTO(ffs_source) struct ffs_source source = {0};
	AUTO(ffs_store) struct ffs_store *store = NULL;

	return ffs_store_look(d->config.root, &store, NULL) >= 0 && ffs_index_source(store, key, &source, NULL) >= 0 &&
	       ffs_facts_verdict(&source.facts, diff_id, NULL) == FFS_PROVEN;
}

bool cd_layer_index_proves(struct cd_daemon *d, const struct digest *key, const struct digest *diff_id)
{
	struct esgz_index_info info;

	if (cd_layer_index_info(d, key, &info, NULL) < 0)
		return false;
	return info.trust == ESGZ_TRUST_DIFFID ? digest_eq(&info.trusted, diff_id) : was_proven(d, key, diff_id);
}
