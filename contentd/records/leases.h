/* Leases: what they list is kept from garbage collection. Any thread. */
#ifndef CONTENTD_RECORDS_LEASES_H
#define CONTENTD_RECORDS_LEASES_H

#include "contentd/meta/meta.h"

#define CD_LABEL_EXPIRE "containerd.io/gc.expire" /* RFC 3339 */

/* Adds to a batch that the lease lists (no longer lists) a resource. type: content, ingests, images, or
 * snapshots/<snapshotter>. That the lease exists was checked by cd_call_lease. */
void cd_lease_add(struct cd_batch *b, const char *ns, const char *lease, const char *type, const char *id);
void cd_lease_remove(struct cd_batch *b, const char *ns, const char *lease, const char *type, const char *id);

struct cd_daemon;
struct arena;

/* A lease for the time of one call that came without: *id lives in the arena. Should we die, the next daemon ends it. */
int cd_lease_begin(struct cd_daemon *d, struct arena *a, const char *ns, const char **id, struct err *err);
/* Deletes it with its list; failures are logged, since it expires. */
void cd_lease_end(struct cd_daemon *d, const char *ns, const char *id);
/* Ends those whose calls a dead daemon has taken along; before calls are served. */
int cd_leases_end_left(struct cd_daemon *d, struct err *err);

#endif
