/*
 * A layer out of the difference between two lists of mounts, as a blob in the content store. Any thread; takes as long
 * as the difference is large, and ends early when the call is cancelled.
 */
#ifndef DIFF_CREATE_H
#define DIFF_CREATE_H

#include "contentd/daemon.h"
#include "rpc/proto/diff.pb-c.h"

struct created {
	const char *media_type; /* the request's, or a constant */
	struct digest digest;
	uint64_t bytes;
};

/* ERR_UNIMPLEMENTED for other media types than those of layers. A blob that is there already is no error. */
int diff_create(struct cd_daemon *d, struct rpc_call *c, const Diff__DiffRequest *req, struct created *out,
                struct err *err);

#endif
