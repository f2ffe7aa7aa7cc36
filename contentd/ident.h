/* What names may look like: containerd's rules for identifiers, topics and digests. Any thread. */
#ifndef CONTENTD_IDENT_H
#define CONTENTD_IDENT_H

#include "base/digest.h"
#include "base/err.h"

#define CD_IDENT_MAX 76
#define CD_NAME_MAX 4096 /* image names, snapshot keys, refs, lease ids: ours, the API has no bound */

/* 1 to 76 bytes, alphanumeric groups joined by single '.', '_' or '-'; ERR_INVALID. `what` names it in the message:
 * "namespace", "container id". */
int cd_ident_check(const char *what, const char *id, struct err *err);

/* Not empty and not longer than CD_NAME_MAX; ERR_INVALID. */
int cd_name_check(const char *what, const char *name, struct err *err);

/* "/a/b": at least one component, each an identifier; ERR_INVALID. */
int cd_topic_check(const char *topic, struct err *err);

/* sha256, sha384 or sha512 and lower-case hex of the right length; ERR_INVALID. */
int cd_digest_check(const char *digest, struct err *err);

/* The name of a layer with all below it: chain(0) = diff(0), chain(i) = sha256(chain(i-1) + " " + diff(i)) (OCI image-spec,
 * config.md). `below`: the chain id of the layers below, as text; NULL or "": there are none. */
void cd_chain_id(const char *below, const struct digest *diff_id, char out[static DIGEST_TEXT_MAX]);

#endif
