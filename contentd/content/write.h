/* Content.Write: one stream writes one ingest, message by message, each with its answer. */
#ifndef CONTENTD_CONTENT_WRITE_H
#define CONTENTD_CONTENT_WRITE_H

#include "rpc/service.h"

int cd_content_write(struct rpc_call *c, const void *request, void *svc, struct err *err);

#endif
