/*
 * What the owners of layers may present to registries: one account for each pair of an owner (a namespace of contentd, ""
 * for the node itself) and a repository, that of the owner's last Open of an image there. In a memory file that a new
 * worker inherits: nothing on disk, nothing in a log. The file has two halves which are written in turn and carry a
 * checksum, so that a worker that dies while it writes leaves the older ones:
 *
 *	slot 0 at 0, slot 1 at SLOT_BYTES:
 *	  0  magic "cdsecrt2"   8  u64 generation   16  u32 bytes   20  u32 count   24  sha256 of the bytes   56  bytes
 *	bytes: count x { u16 owner, u16 repository, u32 account; the three }, the oldest first; accounts as messages (access.h)
 *
 * little-endian. Wiped when freed and when replaced. Any thread.
 */
#ifndef FUSEFS_SECRETS_H
#define FUSEFS_SECRETS_H

#include "base/cleanup.h"
#include "base/err.h"
#include "registry/client.h"

#define FFS_SECRETS_MAX 1024             /* pairs; beyond it the oldest is forgotten */
#define FFS_SECRETS_BYTES_MAX (2u << 20) /* all together */
#define FFS_OWNER_MAX 255

/* Bytes that hold secrets; no copy of them is left behind when it was reserved at once. */
struct wiped {
	struct buf b;
};
static inline void wiped_fini(struct wiped *w)
{
	if (w->b.p)
		explicit_bzero(w->b.p, w->b.cap);
	buf_fini(&w->b);
}
DEFINE_AUTO_FINI(wiped);

struct ffs_secrets;

/* Reads what the file (not owned) holds; an empty one is none. Accounts that are replaced are forgotten by the client (NULL:
 * nobody), which must outlive this. Damaged or of another version: ERR_DATA_LOSS, and *out is usable and empty all the same. */
int ffs_secrets_open(int fd, struct reg_client *client, struct ffs_secrets **out, struct err *err);
void ffs_secrets_free(struct ffs_secrets *s);
DEFINE_AUTO_FREE(ffs_secrets);

/* What an owner presents to a repository ("docker.io/library/alpine") from now on, here and in the file; NULL: nothing. */
int ffs_secrets_set(struct ffs_secrets *s, const char *owner, const char *repository, struct reg_account *account,
                    struct err *err);

/* The caller's reference, or NULL. */
struct reg_account *ffs_secrets_get(struct ffs_secrets *s, const char *owner, const char *repository);

#endif
