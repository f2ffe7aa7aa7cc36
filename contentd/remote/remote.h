/*
 * Remote snapshots: a client that unpacks an image layer by layer tells in the labels of Prepare which layer it is about
 * to download. When its contents can be read on demand the committed snapshot is made at once, and the answer is
 * AlreadyExists: the client goes on with the next layer. This is how a real containerd that has contentd as a proxy
 * plugin, ctr-remote and nerdctl get lazy images (docs/containerd.md).
 *
 * A proxied key space (snapshotter.proxy_names) belongs to a containerd that keeps its own metadata: it puts its
 * namespaces into the keys ("<namespace>/<number>/<key>"), names none in its calls, and alone says what may go. All its
 * snapshots live in one space, under the empty namespace. Remote ones are called by their chain ids; their layers are
 * pinned in contentfs as long as they exist, since no image record of ours leads to them.
 *
 * Trust: a chain id is what an image says of itself, and a lazy layer's DiffID is not proven. Contents that were claimed
 * first stay only until another image claims others for the same chain id: then the layer is downloaded and proven. Any
 * thread.
 */
#ifndef CONTENTD_REMOTE_REMOTE_H
#define CONTENTD_REMOTE_REMOTE_H

#include "contentd/daemon.h"

/* True for the names of proxied key spaces. */
bool cd_is_proxied(const struct cd_daemon *d, const char *snapshotter);

/* The committed snapshot that the labels of a Prepare ask for, without its contents. Conditions: 0: it is there;
 * CD_REMOTE_ORDINARY: the layer has to be unpacked; if the labels let one expect otherwise, the log says why.
 *
 * A client that goes on with the next layer does not fetch the blob of this one, and may want it later (docker save, a push
 * to another registry, a build upon it). So the namespace gets its record, as after a pull of ours: who reads the blob has
 * it fetched. The lease (NULL: none) keeps it. */
#define CD_REMOTE_ORDINARY 1
int cd_remote_prepare(struct cd_daemon *d, struct rpc_call *c, struct snap_space space, const char *lease,
                      const char *parent, const struct labels *labels, struct err *err);

/* Removes a snapshot of a proxied space, and the pin that it has. */
int cd_remote_remove(struct cd_daemon *d, struct snap_space space, const char *key, struct err *err);

/* When contentd has started: pins what a crash kept from being pinned. */
void cd_remote_start(struct cd_daemon *d);

#endif
