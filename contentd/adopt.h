/*
 * Layers of other namespaces. A snapshot that another namespace has under a chain id is what a client would get by
 * unpacking, when its layer index was made from a stream whose DiffID gives just that chain id above just that parent: then
 * the contents prove it, and not whoever named it. Any thread.
 */
#ifndef CONTENTD_ADOPT_H
#define CONTENTD_ADOPT_H

#include "contentd/daemon.h"

/* Makes the committed snapshot `target` above `parent` of a layer that another namespace has. 1: done (or somebody else
 * has just made it), 0: there is no such layer, or namespaces share nothing (content.sharing), or the parent is missing or
 * a directory here. `labels`: the snapshot's; nothing of the other namespace's comes along. */
int cd_snapshot_adopt(struct cd_daemon *d, struct rpc_call *c, struct snap_store *snaps, struct snap_space space,
                      const char *target, const char *parent, const struct labels *labels, struct err *err);

#endif
