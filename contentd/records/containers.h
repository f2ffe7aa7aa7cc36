/* Container records: what clients say a container is. Tasks (contentd/tasks) read them. Any thread. */
#ifndef CONTENTD_RECORDS_CONTAINERS_H
#define CONTENTD_RECORDS_CONTAINERS_H

#include "contentd/daemon.h"
#include "rpc/proto/containers.pb-c.h"

/* *out lives in the arena; spec, options and extensions are byte for byte as the client sent them. ERR_NOT_FOUND. */
int cd_container_get(struct cd_daemon *d, const char *ns, const char *id, struct arena *a, Containers__Container **out,
                     struct err *err);

#endif
