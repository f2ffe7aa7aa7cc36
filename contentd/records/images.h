/* Image records: names for manifests and indexes. Events are published by these functions. Any thread. */
#ifndef CONTENTD_RECORDS_IMAGES_H
#define CONTENTD_RECORDS_IMAGES_H

#include "contentd/daemon.h"
#include "rpc/proto/images.pb-c.h"

/* *out lives in the arena. ERR_NOT_FOUND. */
int cd_image_get(struct cd_daemon *d, const char *ns, const char *name, struct arena *a, Images__Image **out,
                 struct err *err);

/* Creates, or replaces labels and target of one that exists. */
int cd_image_put(struct cd_daemon *d, const char *ns, const Images__Image *image, struct err *err);

#endif
