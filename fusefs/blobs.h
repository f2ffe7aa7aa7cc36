/*
 * Where the fetcher gets ranges of blobs from: a table of functions, so that it can be tested without a network.
 * blobs_registry.c implements it with the registry client.
 */
#ifndef FUSEFS_BLOBS_H
#define FUSEFS_BLOBS_H

#include "base/digest.h"
#include "base/err.h"
#include "base/str.h"

enum ffs_flow {
	FFS_FLOW_MORE,  /* bytes taken */
	FFS_FLOW_PAUSE, /* not taken: the same come again after resume() */
	FFS_FLOW_STOP,  /* taken, no more wanted: the request ends with success */
};

struct ffs_blob_query {
	const char *reference; /* registry host and repository; copied */
	const char *owner;     /* by whose account; copied */
	struct digest blob;
	uint64_t blob_bytes;
	uint64_t offset, length;
	bool demand;         /* somebody waits: use the connections kept for that */
	int64_t deadline_ns; /* CLOCK_MONOTONIC */
	/* Bytes in order, each once, `at` counted in the blob. Must not block. Never after done. */
	enum ffs_flow (*data)(void *arg, uint64_t at, struct str bytes);
	/* Exactly once. result: 0 or the negative code of err. */
	void (*done)(void *arg, int result, const struct err *err);
	void *arg;
};

struct ffs_blobs {
	/* Starts a request; *handle is given back with unref. On failure no callback comes. Callbacks may come before it
	 * returns, from another thread, but never from inside it. */
	int (*get)(void *self, const struct ffs_blob_query *q, void **handle, struct err *err);
	void (*cancel)(void *self, void *handle); /* done still comes; any time before unref */
	void (*resume)(void *self, void *handle);
	void (*unref)(void *self, void *handle);
	/* Round trip and bandwidth as measured; zero when unknown. */
	void (*estimate)(void *self, const char *reference, int64_t *rtt_ns, uint64_t *bytes_per_s);
	void *self;
};

/* Over the registry client, with the accounts that owners have at the time of a request (secrets.h). Everything in it must
 * outlive what it is used for. */
struct reg_client;
struct ffs_secrets;
struct ffs_registries {
	struct reg_client *client;
	struct ffs_secrets *secrets;
};
struct ffs_blobs ffs_blobs_registry(struct ffs_registries *registries);

#endif
