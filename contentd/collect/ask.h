/*
 * What the collector knows, for people: what it would remove, what keeps a thing, what the disk holds. Each answer reads all
 * records and directories anew, and the layer indexes: seconds on a node with many images. Nobody waits for it. Any thread.
 */
#ifndef CONTENTD_COLLECT_ASK_H
#define CONTENTD_COLLECT_ASK_H

#include "contentd/daemon.h"
#include "rpc/proto/node.pb-c.h"

#define CD_NAMES_MAX 1000 /* of one kind, in one answer */

/* What a run would remove now. `found` is called for each; texts are borrowed. */
int cd_collect_dry(struct cd_daemon *d, void (*found)(void *arg, const struct gc_id *id), void *arg, struct err *err);

/* Appends "<namespace>/[<snapshotter>/]<key>", or the key of what all namespaces share. */
void cd_collect_name(const struct gc_id *id, struct buf *out);

/* The answers of the Node service; in the arena. */
int cd_collect_answer(struct cd_daemon *d, struct rpc_call *c, bool dry_run, Node__CollectResponse *out,
                      struct err *err);
int cd_why_answer(struct cd_daemon *d, struct arena *a, const char *ns, const char *name, Node__WhyResponse *out,
                  struct err *err);

#endif
