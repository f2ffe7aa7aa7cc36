/* Node.Verify: everything on disk that has a digest is read and held against it: blobs here, layer indexes and objects by
 * contentfs. What is damaged is reported with its path and the images that use it, and repaired on request. */
#ifndef CONTENTD_NODE_VERIFY_H
#define CONTENTD_NODE_VERIFY_H

#include "rpc/service.h"

int cd_node_verify(struct rpc_call *c, const void *request, void *svc, struct err *err);

#endif
