/*
 * Bytes over a named stream, as containerd's clients send and take them: Data frames of at most 32 KiB, and never more
 * of them than the receiver has granted in WindowUpdates. The end of the data is the end of the sender's side.
 */
#ifndef CONTENTD_TRANSFER_BYTES_H
#define CONTENTD_TRANSFER_BYTES_H

#include "contentd/streams.h"

/* ---- from the client ---- */

struct cd_bytes_in {
	struct cd_stream *stream; /* borrowed */
	struct rpc_call *call;    /* the call on whose behalf: its cancellation ends a read */
	struct arena arena;       /* the current frame */
	int64_t granted;          /* bytes that the client may still send */
};
void cd_bytes_in_init(struct cd_bytes_in *b, struct cd_stream *stream, struct rpc_call *call);
void cd_bytes_in_fini(struct cd_bytes_in *b);
DEFINE_AUTO_FINI(cd_bytes_in);

/* The next bytes, valid until the next call: 1, or 0 at the end. */
int cd_bytes_read(struct cd_bytes_in *b, struct str *out, struct err *err);

/* ---- to the client ---- */

struct cd_bytes_out {
	struct cd_stream *stream;
	struct rpc_call *call;
	int64_t granted; /* bytes that we may still send */
	int64_t window;  /* bytes of the first grant; 0: there was none yet */
	uint64_t sent;
};
void cd_bytes_out_init(struct cd_bytes_out *b, struct cd_stream *stream, struct rpc_call *call);

/* Waits for the client to grant what is needed. */
int cd_bytes_write(struct cd_bytes_out *b, struct str bytes, struct err *err);

/*
 * A client of containerd's ends when the call does, even if what came last is not written yet (ReceiveStream of its package
 * core/transfer/streaming hands it on through a pipe, for which nobody waits): then the end is lost. But whenever less than
 * 64 KiB of its grants are left it grants 64 KiB more, and it does so when it takes the bytes by which that comes to pass,
 * which is after it has written all that were in frames before them. So: send as many bytes that need not arrive as it takes
 * to that point, at most a window and one; and wait for the grant. Other clients (0 bytes) are not waited for; one that grants
 * nothing more, for 30 s.
 */
size_t cd_bytes_until_grant(const struct cd_bytes_out *b);
int cd_bytes_await_grant(struct cd_bytes_out *b, struct err *err);

#endif
