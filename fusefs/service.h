/*
 * What contentfs does on request: the verbs of rpc/proto/contentfs.proto, served as ttrpc on the worker's listening
 * socket. One per worker process. Only root may connect.
 *
 *   ffs_service_new     CAs of hosts and credentials to the registry client; stored indexes and pins to the data
 *   ffs_service_start   calls are answered from here on
 *   ffs_service_stop    ends all transfers, calls and connections
 *
 * Long verbs run on threads of their own and wait there; they end when the caller gives up or goes away.
 */
#ifndef FUSEFS_SERVICE_H
#define FUSEFS_SERVICE_H

#include "fusefs/worker.h"

struct ffs_service;

/* `w` (with store, client, data and the descriptors) must outlive it. What cannot be loaded (a torn index, a broken pin,
 * credentials of another version) is logged and left out. */
int ffs_service_new(struct ffs_worker *w, struct ffs_service **out, struct err *err);

int ffs_service_start(struct ffs_service *s, struct err *err);

/* Stops w->client too, so that nobody waits for the network: for the end of the worker. Idempotent. */
void ffs_service_stop(struct ffs_service *s);

void ffs_service_free(struct ffs_service *s); /* stops it first */
DEFINE_AUTO_FREE(ffs_service);

#endif
