/* Keyed hash of a digest, for tables in memory: digests are chosen by whoever made an image. Any thread. */
#ifndef FUSEFS_KEYHASH_H
#define FUSEFS_KEYHASH_H

#include "base/digest.h"

uint64_t key_hash(const struct digest *key);

#endif
