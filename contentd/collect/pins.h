/*
 * Pins: contentfs fetches the rest of what an image's pin names, in the background, and deletes none of it. Each image
 * record has one, made after it and removed with it. Any thread.
 */
#ifndef CONTENTD_COLLECT_PINS_H
#define CONTENTD_COLLECT_PINS_H

#include "contentd/daemon.h"

/* An image record was made or has another target: pins the layers that it leads to, if they are the data plane's. What
 * fails is logged, and made good by cd_pins_reconcile. */
void cd_pin_image(struct cd_daemon *d, const char *ns, const char *image, const char *target);

/* An image record is gone. */
void cd_unpin_image(struct cd_daemon *d, const char *ns, const char *image);

/* A chain of snapshots has got another index, which is `with`: pins what the images of that namespace lead to now, those
 * that lead to it. NULL: of all namespaces; all of them. */
int cd_pins_renew(struct cd_daemon *d, const char *ns, const struct digest *with, struct err *err);

/* Removes pins that have no image, and pins what images without a pin lead to: after a crash. */
int cd_pins_reconcile(struct cd_daemon *d, struct err *err);

#endif
