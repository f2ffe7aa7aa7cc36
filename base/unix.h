/*
 * UNIX sockets, descriptor passing and child processes. Any thread; the calls block unless the descriptor does not.
 */
#ifndef BASE_UNIX_H
#define BASE_UNIX_H

#include "base/err.h"
#include "base/str.h"

#include <sys/socket.h>
#include <sys/types.h>

#define UNIX_PATH_MAX_BYTES 107
#define UNIX_FDS_MAX 16 /* descriptors in one message */

/* Binds and listens on `path` (SOCK_STREAM or SOCK_SEQPACKET), removing a stale socket file first; ERR_EXISTS when
 * somebody listens there. The socket is non-blocking and close-on-exec, the file gets `mode`. */
int unix_listen(const char *path, int type, mode_t mode, int *out, struct err *err);

/* Connects; ERR_UNAVAILABLE when nobody listens or the path is absent. The descriptor is blocking, close-on-exec. */
int unix_connect(const char *path, int type, int *out, struct err *err);

/* Credentials of the peer as they were at connect time. */
int unix_peer(int fd, struct ucred *out, struct err *err);

/* Is the peer's group `gid`, or one of its supplementary ones? As of connect time. */
bool unix_peer_in_group(int fd, const struct ucred *peer, gid_t gid);

/* Sends one message of at least one byte with up to UNIX_FDS_MAX descriptors (they stay the caller's). On a stream socket
 * all bytes are sent; EAGAIN gives ERR_UNAVAILABLE with err->sys = EAGAIN, and nothing was sent. */
int unix_send(int fd, struct str data, const int *fds, unsigned n_fds, struct err *err);

/* Receives one message: *n = bytes (0 = end), fds are the caller's (close-on-exec). fds has room for UNIX_FDS_MAX and
 * *n_fds is only written; both NULL when none are wanted. A cut message, a cut descriptor list or unwanted descriptors
 * are ERR_INVALID. EAGAIN gives ERR_UNAVAILABLE with err->sys = EAGAIN. */
int unix_recv(int fd, void *dst, size_t dst_bytes, size_t *n, int *fds, unsigned *n_fds, struct err *err);

/* Starts a program. argv[0] is a path or a name looked up in PATH; envp NULL = ours. stdio[i] >= 0 becomes descriptor i
 * (else /dev/null for 0, ours for 1 and 2); keep[] stay open as 3, 4, ... in that order; everything else is closed.
 * cwd NULL = ours. `detach` puts it into a session of its own. The caller reaps *pid. */
struct spawn {
	const char *const *argv;
	const char *const *envp;
	const char *cwd;
	int stdio[3];
	const int *keep;
	unsigned n_keep;
	bool detach, new_group;
};
int spawn_start(const struct spawn *s, pid_t *pid, struct err *err);

/* Waits for the child; *status as of waitpid. */
int spawn_wait(pid_t pid, int *status, struct err *err);

/* The absolute path of the program that this process runs. */
int program_path(char **out, struct err *err);

/* The absolute path of a program in a folder of PATH; the caller's. Relative folders of PATH are left out. ERR_NOT_FOUND. */
int program_find(const char *name, char **out, struct err *err);

/* Is it a file that we may execute? */
bool program_is(const char *path);

#endif
