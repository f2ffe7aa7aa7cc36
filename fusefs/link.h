/*
 * What holder and worker say to each other: short messages over a SOCK_SEQPACKET pair. The end of the link says
 * the rest: the other one is dead.
 */
#ifndef FUSEFS_LINK_H
#define FUSEFS_LINK_H

#define FFS_LINK_READY 'R' /* worker: serves now */
#define FFS_LINK_BEAT 'B'  /* worker: is well */
#define FFS_LINK_GONE 'G'  /* worker: the mount is gone, it ends; nothing is left to hold */
#define FFS_LINK_LOG 'L'   /* worker: open the log file again; then a byte each: level, 1 for JSON */
#define FFS_LINK_STOP 'S'  /* holder: end, and do not replace me */

/* Both take a lock of fcntl(2) on the lock file, open once more for that, which a process cannot leave behind: byte FFS_LOCK_HOLDER, byte
 * FFS_LOCK_WORKER. The file as a whole is locked by flock(2): that one belongs to the open file, so it is held as long
 * as anybody keeps the descriptors, and says that the mount is somebody's. */
enum { FFS_LOCK_HOLDER, FFS_LOCK_WORKER };

#endif
