/*
 * Registry credentials of the node, by host, in a memory file that a new worker inherits: nothing on disk, nothing in
 * a log. The file has two halves which are written in turn and carry a checksum, so that a worker that dies while it
 * writes leaves the older ones:
 *
 *	slot 0 at 0, slot 1 at SLOT_BYTES:
 *	  0  magic "cdsecrt1"   8  u64 generation   16  u32 bytes   20  u32 count   24  sha256 of the bytes   56  bytes
 *	bytes: count x { u16 host, u32 username, u32 secret, u8 is an identity token; host, username, secret }
 *
 * little-endian. One owner; wiped when freed and when replaced.
 */
#ifndef FUSEFS_SECRETS_H
#define FUSEFS_SECRETS_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"
#include "registry/auth.h"

#define FFS_SECRETS_MAX 256              /* hosts */
#define FFS_SECRETS_BYTES_MAX (2u << 20) /* all together */

struct ffs_secrets;

/* Reads what the file (not owned) holds; an empty one is none. Damaged or of another version: ERR_DATA_LOSS, and *out is
 * usable and empty all the same. */
int ffs_secrets_open(int fd, struct ffs_secrets **out, struct err *err);
void ffs_secrets_free(struct ffs_secrets *s);
DEFINE_AUTO_FREE(ffs_secrets);

/* Sets or, when empty, forgets the credentials of a host, here and in the file. ERR_EXHAUSTED beyond the bounds. */
int ffs_secrets_set(struct ffs_secrets *s, const char *host, const struct reg_credentials *c, struct err *err);

/* Calls fn for each host. */
void ffs_secrets_each(const struct ffs_secrets *s,
                      void (*fn)(void *arg, const char *host, const struct reg_credentials *c), void *arg);

#endif
