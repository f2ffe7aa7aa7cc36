/* Unpacking an image whose layers are in the content store: what an import does behind the archive. */
#ifndef CONTENTD_TRANSFER_UNPACK_H
#define CONTENTD_TRANSFER_UNPACK_H

#include "contentd/transfer/transfer.h"
#include "contentd/transfer/tree.h"

/* Snapshots under way: their chains count as in use until cd_unpacked_fini. */
struct cd_unpacked {
	VEC(struct pull *) v;
};
void cd_unpacked_fini(struct cd_unpacked *u);
DEFINE_AUTO_FINI(cd_unpacked);

/* Unpacks every manifest of the tree that suits one of the store's configurations: makes indexes, objects and snapshots
 * of its layers, mounts the chain ahead, and has configuration and layers refer to it. */
int cd_unpack_tree(struct cd_transfer *t, const struct cd_tree *tree, const Xfer__ImageStore *store, const char *image,
                   struct cd_unpacked *out, struct err *err);

#endif
