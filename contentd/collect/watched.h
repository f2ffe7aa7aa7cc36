/*
 * The table as the snapshotter gets it: what it writes about snapshots is announced to the collector before, and told after
 * (uses.h), wherever in the snapshotter it happens. Any thread.
 */
#ifndef CONTENTD_COLLECT_WATCHED_H
#define CONTENTD_COLLECT_WATCHED_H

#include "contentd/meta/meta.h"

/* Valid as long as `meta`. */
struct kv cd_watched_kv(struct cd_meta *meta);

#endif
