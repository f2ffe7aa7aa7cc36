/* What a layer index says of itself, read from its file. Any thread. */
#ifndef CONTENTD_LAYER_INDEX_H
#define CONTENTD_LAYER_INDEX_H

#include "contentd/daemon.h"
#include "estargz/index/index.h"

/* ERR_NOT_FOUND, ERR_DATA_LOSS. */
int cd_layer_index_info(struct cd_daemon *d, const struct digest *key, struct esgz_index_info *out, struct err *err);

/* True when it was built from a stream whose DiffID was computed and is this one, or is lazy and was proven to be of it. */
bool cd_layer_index_proves(struct cd_daemon *d, const struct digest *key, const struct digest *diff_id);

#endif
