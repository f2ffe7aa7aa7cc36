/* Leases: what they list is kept from garbage collection. Any thread. */
#ifndef CONTENTD_LEASES_H
#define CONTENTD_LEASES_H

#include "contentd/meta.h"

#define CD_LABEL_EXPIRE "containerd.io/gc.expire" /* RFC 3339 */

/* Adds to a batch that the lease lists (no longer lists) a resource. type: content, ingests, images, or
 * snapshots/<snapshotter>. That the lease exists was checked by cd_call_lease. */
void cd_lease_add(struct cd_batch *b, const char *ns, const char *lease, const char *type, const char *id);
void cd_lease_remove(struct cd_batch *b, const char *ns, const char *lease, const char *type, const char *id);

#endif
