/*
 * A layer into a directory: a tar stream, compressed or not, is written below a descriptor as the OCI image specification
 * has it (whiteouts remove, opaque directories are emptied of what the layer did not bring). The directory may be an
 * overlay: then removing leaves the kernel's own marks. No name leads outside, whatever links the layer, or the directory,
 * has: every path is resolved component by component, absolute links from the root. One owner.
 */
#ifndef DIFF_UNPACK_H
#define DIFF_UNPACK_H

#include "base/digest.h"
#include "base/err.h"

struct unpacked {
	struct digest diff_id; /* of the whole uncompressed stream, padding included */
	uint64_t plain_bytes;
};

struct rpc_call;

/* Reads the blob from its beginning. `on_behalf` (may be NULL): ends early when it is cancelled. */
int diff_unpack(int blob_fd, int root_fd, struct rpc_call *on_behalf, struct unpacked *out, struct err *err);

#endif
