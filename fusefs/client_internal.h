/*
 * Between the connection to contentfs (client.c) and the verbs that are asked for over it (client_verbs.c). Any thread.
 */
#ifndef FUSEFS_CLIENT_INTERNAL_H
#define FUSEFS_CLIENT_INTERNAL_H

#include "fusefs/client.h"
#include "rpc/ttrpc.h"

/* One call of a verb. */
struct ffs_call {
	const char *method;
	const ProtobufCMessage *msg;
	int fd; /* -1: none */
	struct rpc_call *on_behalf;
	void (*progress)(void *arg, struct str wire);
	void *arg;
	bool tee;                 /* fd gets a copy, from nothing */
	const char *image, *blob; /* that it is about, for messages; or NULL */
	bool local;               /* needs no network: contentfs is to give a sign of life */
	int64_t deadline_ns;      /* 0: none */
};

/* Connects, or starts contentfs, and asks; again when it went away meanwhile. `rsp`: NULL, or where the answer goes (T **,
 * pb_free); `fds`: NULL, or the descriptors that came with it, the caller's. Errors are those of the verb, or client.h's. */
int ffs_client_call(struct ffs_client *c, const struct ffs_call *k, void *rsp, struct ttrpc_fds *fds, struct err *err);

/* The watch of the options, around a call whose answer names indexes. True: the answer is overtaken, ask again. */
uint64_t ffs_client_asked(struct ffs_client *c);
bool ffs_client_answered(struct ffs_client *c, uint64_t asked, const struct ffs_call *k, const char *const *keys,
                         size_t n);

#endif
