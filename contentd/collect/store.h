/*
 * The daemon's files as the graph sees them (struct cd_store): blobs and ingests of the content store, mounted images of
 * the snapshotter, layer indexes and objects of contentfs. Any thread.
 */
#ifndef CONTENTD_COLLECT_STORE_H
#define CONTENTD_COLLECT_STORE_H

#include "contentd/collect/collector.h"
#include "fusefs/client.h"

struct cd_daemon;
struct cd_file_store;

struct cd_file_store *cd_file_store_new(struct cd_daemon *d);
void cd_file_store_free(struct cd_file_store *s);
DEFINE_AUTO_FREE(cd_file_store);

/* For cd_graph_new and cd_collector_start; valid as long as the store. */
struct cd_collector_store cd_file_store_table(struct cd_file_store *s);

/* For the connection to contentfs: layer indexes that an answer names stay until the call ends on whose behalf it was
 * asked, and a question whose answer a removal has overtaken is asked again. */
struct ffs_client_watch cd_file_store_watch(struct cd_file_store *s);

/* Uses a layer index until the call ends; false when it is not there (any more): for answers of contentfs that were kept
 * for a while. */
bool cd_index_is_here(struct cd_daemon *d, struct rpc_call *c, const char *key);

#endif
