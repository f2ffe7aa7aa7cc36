/*
 * The methods that a server has, by path. Filled before the server starts, read by any thread afterwards.
 */
#ifndef RPC_METHODS_H
#define RPC_METHODS_H

#include "base/map.h"
#include "rpc/service.h"

/* One method, ready to be called. */
struct rpc_entry {
	char *name; /* "service/Method" */
	unsigned flags;
	rpc_handler fn;
	void *svc;
	const ProtobufCMessageDescriptor *req, *rsp;
};

struct rpc_methods {
	struct map by_name;  /* "service/Method" -> struct rpc_entry, owned */
	struct map services; /* names of services, for the message when a method is missing */
};

#define RPC_METHODS_INIT ((struct rpc_methods){MAP_INIT, MAP_INIT})
void rpc_methods_fini(struct rpc_methods *m);

/* ERR_INVALID when a method is not in the descriptor, or there already; its flags are among `allowed`. */
int rpc_methods_add(struct rpc_methods *m, const struct rpc_service *svc, unsigned allowed, struct err *err);

/* Finds "service/Method"; ERR_UNIMPLEMENTED with the text of Go's gRPC server. */
int rpc_methods_find(const struct rpc_methods *m, struct str name, const struct rpc_entry **out, struct err *err);

#endif
