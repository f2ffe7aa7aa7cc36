/*
 * Who wants something of a registry, and what he presents there (Access of contentfs.proto). An Open that has succeeded is
 * what an owner's later reads of that repository go by: the files of its lazy layers, blobs that were not fetched yet.
 * Private to the service.
 */
#ifndef FUSEFS_ACCESS_H
#define FUSEFS_ACCESS_H

#include "fusefs/verbs.h"

struct access {
	const char *owner;           /* the request's */
	struct reg_account *account; /* a reference, or NULL: anonymous */
	bool remembered;             /* nothing new */
};
void access_fini(struct access *a);
DEFINE_AUTO_FINI(access);

/* From a request about a reference. Absent: the node's own, anonymous. Unchanged credentials give the account of before,
 * with its tokens. */
int access_take(struct ffs_service *s, const PB(Access) * from, const struct reg_ref *ref, struct access *out,
                struct err *err);

/* An account as a message, and back: what is kept for later (secrets.h). What was packed has secrets in it. */
void account_pack(const struct reg_account *a, struct buf *out);
int account_unpack(struct str packed, struct reg_account **out, struct err *err);

/* The manifest could be read: for the owner's reads from now on. */
int access_remember(struct ffs_service *s, const struct access *a, const struct reg_ref *ref, struct err *err);

#endif
