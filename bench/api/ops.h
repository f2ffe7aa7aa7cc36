/*
 * What the API benchmark does to a daemon: one operation is a call, or two that belong together (create, delete), as a
 * client of containerd makes them. Operations leave nothing behind and can run beside each other from any number of
 * threads, each with a client of its own.
 */
#ifndef BENCH_API_OPS_H
#define BENCH_API_OPS_H

#include "rpc/client.h"

#include <stdbool.h>
#include <stdint.h>

#define OP_PHASES 5
#define OP_NAMESPACE "bench"
#define OP_IMAGES 100 /* image records that are there */

/* One thread's. */
struct op_client {
	struct rpc_client *rpc; /* metadata: the namespace */
	const char *prefix;     /* of the names that this thread makes: unique */
	uint64_t serial;        /* of the operation that runs */
	struct op_data *data;   /* what writes send; op_data_new */
};

struct op {
	const char *name;
	const char *phases[OP_PHASES]; /* what is timed; NULL after the last */
	/* Does it once; ns[]: how long each phase took. What is not a phase (removing what was written) is not timed. */
	int (*run)(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err);
	unsigned max_clients; /* beyond these it takes too long to be of use; 0: any number */
	bool needs_rootfs;    /* op_rootfs; not among those that are done when none is named */
};

/* A directory with a static /bin/true in it, for containers. */
extern const char *op_rootfs;

int op_task(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err);

extern const struct op OPS[];
extern const size_t N_OPS;

const struct op *op_find(const char *name); /* NULL: no such operation */

/* What the operations read, in the client's namespace: images, blobs of 1 and 64 MiB. Once per daemon. */
int ops_setup(struct rpc_client *c, struct err *err);

struct op_data *op_data_new(void);
void op_data_free(struct op_data *d);
DEFINE_AUTO_FREE(op_data);

#endif
