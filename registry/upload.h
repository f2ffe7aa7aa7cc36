/*
 * Upload of a blob while it is being made: its size and digest are known at its end. Bytes go in pieces, each a PATCH of
 * 8 MiB (or of what the registry wants at least, OCI-Chunk-Min-Length); one is on its way while the next is filled, so
 * this holds two in memory. A piece that breaks is gone on with where the registry says that it stopped (GET of the
 * upload, its Range); one that is too large for a server on the way (413) is halved. What fits into one piece is one POST
 * and one PUT, as a small blob of reg_blob_push, and begun anew if it breaks.
 * What may pass (5xx, 429, a broken line) is waited for: longer each time, and as long as the server asks for (Retry-After;
 * more than ten minutes ends it).
 *
 * Errors as in client.h, and ERR_ABORTED: the registry has lost bytes that it had taken; the blob must be made again, with
 * a new upload. One owner, one thread at a time; not the I/O thread.
 */
#ifndef REGISTRY_UPLOAD_H
#define REGISTRY_UPLOAD_H

#include "registry/client.h"

struct reg_upload;

#define REG_UPLOAD_PIECE_BYTES (8u << 20)
#define REG_UPLOAD_PIECE_BYTES_MAX (64u << 20) /* a registry that wants more is refused: ERR_UNIMPLEMENTED */

struct reg_upload_opts {
	const struct reg_ref *ref;   /* host and repository; copied */
	struct reg_account *account; /* NULL: the host's; referenced */
	int64_t deadline_ns;
	struct reg_canceller *canceller; /* NULL: it cannot be cancelled */
	void (*progress)(void *arg, uint64_t sent);
	void *arg;
};

/* Nothing is sent before the first piece is full. */
int reg_upload_begin(struct reg_client *c, const struct reg_upload_opts *opts, struct reg_upload **out,
                     struct err *err);

/* May wait for the piece before. After an error only reg_upload_free. */
int reg_upload_write(struct reg_upload *u, struct str bytes, struct err *err);

/* Ends it as this blob, which the registry verifies. The upload is freed with reg_upload_free in any case. */
int reg_upload_finish(struct reg_upload *u, const struct digest *digest, struct err *err);

/* An upload that was not finished is abandoned: the registry is told (DELETE, within ten seconds). NULL is fine. */
void reg_upload_free(struct reg_upload *u);
DEFINE_AUTO_FREE(reg_upload);

#endif
