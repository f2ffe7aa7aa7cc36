/* What the disk space below the root directory is used for, and which of it nothing refers to. */
#ifndef CONTENTD_NODE_USAGE_H
#define CONTENTD_NODE_USAGE_H

#include "contentd/daemon.h"
#include "rpc/proto/node.pb-c.h"

/* Reads records, layer indexes and directories: seconds on a node with many images. Blocks nobody. *out lives in the
 * arena. Unreferenced is what neither an image nor a container nor a lease leads to. */
int cd_usage(struct cd_daemon *d, struct arena *a, Node__DiskUsageResponse *out, struct err *err);

#endif
