/* What the files of the store share (store.c, batch.c, indexes.c, pins.c); not for others. */
#ifndef FUSEFS_STORE_INTERNAL_H
#define FUSEFS_STORE_INTERNAL_H

#include "fusefs/store.h"

struct ffs_store {
	int dirs[FFS_DIRS];
};

#define FFS_BATCH_PREFIX "unpack-"

#endif
