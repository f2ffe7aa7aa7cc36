/*
 * Blobs that a transfer puts into the content store as they come: written to an ingest, committed under the digest that
 * they turn out to have, and known to the namespace, and to the transfer's lease, at once. One owner.
 */
#ifndef CONTENTD_TRANSFER_DEPOSIT_H
#define CONTENTD_TRANSFER_DEPOSIT_H

#include "contentd/transfer/transfer.h"

struct cd_deposit {
	struct cd_transfer *t;
	struct cd_writer *writer;
	int64_t bytes;
};

int cd_deposit_begin(struct cd_deposit *p, struct cd_transfer *t, struct err *err);
int cd_deposit_write(struct cd_deposit *p, struct str bytes, struct err *err);
/* `expected`: what the digest must be, ERR_DATA_LOSS otherwise; or NULL. */
int cd_deposit_end(struct cd_deposit *p, const struct digest *expected, struct digest *out, struct err *err);
/* Gives up what was not ended. */
void cd_deposit_fini(struct cd_deposit *p);
DEFINE_AUTO_FINI(cd_deposit);

/* A blob that is in memory. */
int cd_deposit_all(struct cd_transfer *t, struct str bytes, struct digest *out, struct err *err);

/* A copy of the blob in `fd`, compressed with gzip. */
int cd_deposit_gzip(struct cd_transfer *t, int fd, struct digest *out, int64_t *bytes, struct err *err);

#endif
