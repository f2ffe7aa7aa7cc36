/*
 * Letting go of what nothing uses any more: pins of layers in contentfs, and the mounts of merged images. A chain of
 * layers is in use while an image leads to it (target -> gc.ref.content labels -> gc.ref.snapshot label), a container's
 * snapshot stands on it, or a pull is making it. What is on disk stays, for the collector. Any thread; failures are
 * logged, since what stays is found again by the next release.
 */
#ifndef CONTENTD_RELEASE_H
#define CONTENTD_RELEASE_H

#include "contentd/daemon.h"

struct cd_release;
struct cd_release *cd_release_new(void);
void cd_release_free(struct cd_release *r);

/* Name of the pin that an image has in contentfs: "image/<namespace>/<name>". Caller frees. */
char *cd_pin_name(const char *ns, const char *image);

/* An image record was made or has another target: pins the layers that it leads to, if they are the data plane's. */
void cd_pin_image(struct cd_daemon *d, const char *ns, const char *image, const char *target);

/* An image record is gone: unpins its layers and unmounts what is not needed. */
void cd_release_image(struct cd_daemon *d, const char *ns, const char *image);

/* A snapshot that stood on `parent` is gone. Costs nothing while an image leads to the parent. */
void cd_release_snapshot(struct cd_daemon *d, struct snap_space space, const char *parent);

/* A containerd in front has collected its garbage: unmounts what its snapshots do not need any more. */
void cd_release_proxied(struct cd_daemon *d);

/* Image or content records, or snapshots of a proxied space, have changed: what is kept has to be looked up again.
 * Cheap. */
void cd_release_changed(struct cd_daemon *d);

/* A pull makes (has made, with an image record) a chain. Nestable. */
void cd_release_busy(struct cd_daemon *d, struct snap_space space, const char *chain);
void cd_release_done(struct cd_daemon *d, struct snap_space space, const char *chain);

#endif
