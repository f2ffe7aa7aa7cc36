/*
 * Who may use the API: root and the user that contentd runs as, the owner of the socket (grpc.uid), its group (grpc.gid,
 * also as a supplementary one), and the users of grpc.allowed_uids. The mode of the socket says the same as far as a mode
 * can; whoever comes by another way (a descriptor that was handed on, a changed mode) is still asked for credentials.
 */
#ifndef CONTENTD_OPS_ACCESS_H
#define CONTENTD_OPS_ACCESS_H

#include "contentd/config/config.h"

#include <sys/socket.h>

/* Listens at grpc.address, with owner, group and mode: 0660, or 0666 when allowed_uids lets others in. */
int cd_access_listen(const struct cd_config *c, int *fd, struct err *err);

/* Gives another socket file of ours the same owner and group. */
int cd_access_own(const struct cd_config *c, const char *path, struct err *err);

/* May this peer, connected by `fd`, use the API? Else ERR_PERMISSION; the message is for him, too. */
int cd_access_check(const struct cd_config *c, const struct ucred *peer, int fd, struct err *err);

#endif
