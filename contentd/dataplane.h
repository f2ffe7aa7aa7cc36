/* Reaching contentfs and opening the snapshotter over it, and keeping contentfs alive. Part of the daemon's life. */
#ifndef CONTENTD_DATAPLANE_H
#define CONTENTD_DATAPLANE_H

#include "contentd/daemon.h"

/* Sets d->data and d->snaps. Starts contentfs when none serves the state directory; when it dies later, holder and
 * worker both, it is started again at once with the mount that they had, whether anybody calls or not: programs may be
 * waiting for a file. */
int cd_data_open(struct cd_daemon *d, struct err *err);
/* Tells contentfs what a reload has changed: the level and format of the log, which are ours, and that its log file and
 * the settings of registry hosts are to be opened again. Without contentfs nothing is to be done. */
int cd_data_reload(struct cd_daemon *d, struct err *err);
/* contentfs goes on. */
void cd_data_close(struct cd_daemon *d);

#endif
