/* What the List calls of the record services share: the records of one kind that a namespace has and the client's filters
 * let through. Any thread. */
#ifndef CONTENTD_RECORDS_LISTING_H
#define CONTENTD_RECORDS_LISTING_H

#include "contentd/daemon.h"
#include "contentd/filter/filter.h"

struct cd_listing {
	VEC(void *) found; /* records, in order of their names; they live in the call's arena */
};
void cd_listing_fini(struct cd_listing *l);
DEFINE_AUTO_FINI(cd_listing);

/* All of the call's namespace that match. `field` sees the records themselves. ERR_INVALID for a bad filter. */
int cd_list(struct rpc_call *c, struct cd_daemon *d, enum cd_kind kind, const char *const *filters, size_t n_filters,
            cd_filter_field field, struct cd_listing *out, struct err *err);

#endif
