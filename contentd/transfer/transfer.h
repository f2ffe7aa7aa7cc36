/*
 * One Transfer call: a pair of source and destination, and what both sides share. service.c unpacks the request and
 * picks the pair; each pair has a file of its own. The fields are the handler's; threads that work for it only read.
 */
#ifndef CONTENTD_TRANSFER_TRANSFER_H
#define CONTENTD_TRANSFER_TRANSFER_H

#include "contentd/daemon.h"
#include "contentd/transfer/progress.h"
#include "rpc/proto/images.pb-c.h"

struct cd_transfer {
	struct cd_daemon *d;
	struct rpc_call *call;
	const char *ns;
	const char
	    *lease; /* of the call, or one that ends with it: what is stored belongs to it until an image has it */
	struct cd_progress *progress;
};

int cd_transfer_pull(struct cd_transfer *t, const Xfer__OCIRegistry *from, Xfer__ImageStore *to, struct err *err);
int cd_transfer_push(struct cd_transfer *t, const Xfer__ImageStore *from, const Xfer__OCIRegistry *to, struct err *err);
int cd_transfer_import(struct cd_transfer *t, const Xfer__ImageImportStream *from, Xfer__ImageStore *to,
                       struct err *err);
int cd_transfer_export(struct cd_transfer *t, const Xfer__ImageStore *from, const Xfer__ImageExportStream *to,
                       struct err *err);
int cd_transfer_tag(struct cd_transfer *t, const Xfer__ImageStore *from, Xfer__ImageStore *to, struct err *err);
int cd_transfer_echo(struct cd_transfer *t, const Xfer__ImageImportStream *from, const Xfer__ImageExportStream *to,
                     struct err *err);

/* ---- what the pairs share ---- */

/* The stream of that name; "" is none: 0 with *out NULL. */
int cd_transfer_stream(struct cd_transfer *t, const char *id, struct cd_stream **out, struct err *err);

/* Asks the client on its stream for credentials, once, before anything is fetched: what the transfer presents to the
 * registry, in the call's arena. Without an auth stream nothing is asked. */
int cd_transfer_access(struct cd_transfer *t, const Xfer__RegistryResolver *resolver, const char *reference,
                       Contentd__Contentfs__V1__Access **out, struct err *err);

/* ---- image stores ---- */

/* Checks and cleans what a client asks to be stored. */
int cd_store_check(struct cd_transfer *t, Xfer__ImageStore *store, struct err *err);

/* All images that a store names, to be read: its name and its further references. ERR_NOT_FOUND. */
struct cd_images {
	VEC(Images__Image *) v; /* in the call's arena */
};
int cd_store_lookup(struct cd_transfer *t, const Xfer__ImageStore *store, struct cd_images *out, struct err *err);

/* The names that a store gives to an image that has none of its own: name, and references that are no prefixes. In the
 * call's arena. */
struct cd_image_names {
	VEC(const char *) v;
};
void cd_store_names(struct cd_transfer *t, const Xfer__ImageStore *store, const char *digest,
                    struct cd_image_names *out);

/* The names that a store gives to an entry of an imported archive, by the prefixes it has: `full` is what the archive
 * calls it, `tag` what its entry is tagged with; either may be empty. */
void cd_store_names_imported(struct cd_transfer *t, const Xfer__ImageStore *store, struct str full, struct str tag,
                             const char *digest, struct cd_image_names *out);

/* Makes or replaces the image record, with the store's labels. */
int cd_store_put(struct cd_transfer *t, const Xfer__ImageStore *store, const char *name, Types__Descriptor *target,
                 struct err *err);

/* Under all names that the store gives; ERR_INVALID when it gives none. */
int cd_store_put_all(struct cd_transfer *t, const Xfer__ImageStore *store, Types__Descriptor *target, struct err *err);

/* The name of a snapshotter that an unpack configuration means; ERR_INVALID when it is none. */
int cd_store_snapshotter(struct cd_transfer *t, const Xfer__UnpackConfiguration *u, const char **out, struct err *err);

#endif
