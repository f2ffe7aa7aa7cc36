/* What the files of the store share (store.c, batch.c, indexes.c, pins.c); not for others. */
#ifndef FUSEFS_STORE_INTERNAL_H
#define FUSEFS_STORE_INTERNAL_H

#include "base/map.h"
#include "fusefs/store.h"

#include <pthread.h>

struct ffs_store {
	int dirs[FFS_DIRS];

	/* Held alone while objects are deleted: shared by those who look for one and rely on what they see. */
	pthread_rwlock_t deleting;
	pthread_mutex_t relied_lock;
	struct map relied; /* digest -> number of batches with that file; relied_lock */

	pthread_mutex_t source_lock; /* held while a source is read and written again, which is short */
};

#define FFS_BATCH_PREFIX "unpack-"

#define FFS_GAPS_SUFFIX ".gaps"
#define FFS_GAPS_NAME_MAX (64 + sizeof(FFS_GAPS_SUFFIX))
/* The file below index/ that proof/gaps.h is about. */
char *ffs_gaps_name(const struct digest *key, char dst[static FFS_GAPS_NAME_MAX]);

/* Beside the index of a layer that is read from points. */
#define FFS_POINTS_SUFFIX ".points"

#endif
