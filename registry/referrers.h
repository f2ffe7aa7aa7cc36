/*
 * Referrers: manifests that name another one as their subject (distribution-spec 1.1, "Listing Referrers"). Registries that
 * do not know of them are served by the fallback tag, "sha256-<hex>": an index that clients keep by themselves. Blocking;
 * any thread except the I/O thread; whoever has given a canceller (or NULL) can end it.
 *
 * A referrer is vouched for by nobody: whoever may push to a repository can attach one to any manifest in it.
 */
#ifndef REGISTRY_REFERRERS_H
#define REGISTRY_REFERRERS_H

#include "registry/client.h"

/*
 * Who refers to `subject` in the repository of `ref`: an index, its pages merged, of which artifact_type (NULL: all) has
 * been asked and is checked here, too. Without any, it is empty. At most REG_INDEX_ENTRIES_MAX and 8 MiB of them are read,
 * of at most 64 pages: ERR_EXHAUSTED. account NULL: the host's.
 */
int reg_referrers_fetch(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account,
                        const struct digest *subject, const char *artifact_type, int64_t deadline_ns,
                        struct reg_canceller *canceller, struct reg_manifest **out, struct err *err);

/*
 * Pushes a manifest that has a subject, by its digest; its blobs are there already. When the registry does not say that it
 * keeps referrers (OCI-Subject), the fallback tag is read, given this entry, and written; then read again, because
 * another client may do the same at this time: it is repeated until the entry stands there, five times at most
 * (ERR_ABORTED). Entries of others stay as they are.
 */
int reg_referrer_push(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account, struct str manifest,
                      int64_t deadline_ns, struct reg_canceller *canceller, struct err *err);

#endif
