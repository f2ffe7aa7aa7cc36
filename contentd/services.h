/*
 * The tables of all services that contentd serves; their handlers expect a struct cd_daemon as `svc`. What a call means
 * and which codes it gives: docs/conformance.md; each table stands in the file of its noun.
 */
#ifndef CONTENTD_SERVICES_H
#define CONTENTD_SERVICES_H

#include "rpc/service.h"

extern const struct rpc_service cd_version_service;
extern const struct rpc_service cd_health_service;
extern const struct rpc_service cd_introspection_service;
extern const struct rpc_service cd_namespaces_service;
extern const struct rpc_service cd_images_service;
extern const struct rpc_service cd_containers_service;
extern const struct rpc_service cd_content_service;
extern const struct rpc_service cd_sandboxes_service;
extern const struct rpc_service cd_leases_service;
extern const struct rpc_service cd_diff_service;
extern const struct rpc_service cd_events_service;
extern const struct rpc_service cd_snapshots_service;
extern const struct rpc_service cd_streaming_service;
extern const struct rpc_service cd_transfer_service;
extern const struct rpc_service cd_node_service;

#endif
