/* Who uses a directory: one daemon at a time, or a check of a stopped one's (fsck). */
#ifndef CONTENTD_OPS_LOCK_H
#define CONTENTD_OPS_LOCK_H

#include "base/err.h"

/* Takes <dir>/contentd.lock until *fd is closed or the process ends. ERR_EXISTS names the process that has it. Refuses
 * (ERR_PERMISSION) a directory that belongs to another user or that others may write: what lies there is trusted. */
int cd_dir_lock(const char *dir, int *fd, struct err *err);

#endif
