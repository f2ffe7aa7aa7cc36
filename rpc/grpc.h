/*
 * The text and byte forms of gRPC over HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md): timeouts, status messages, message
 * prefixes. Bytes in, values out; no I/O. Any thread.
 */
#ifndef RPC_GRPC_H
#define RPC_GRPC_H

#include "base/buf.h"
#include "base/err.h"

#define GRPC_PREFIX_BYTES 5 /* compressed flag, big-endian length */
#define GRPC_MESSAGE_MAX (16u << 20)

/* "application/grpc", alone or followed by '+' or ';'. */
bool grpc_content_type_ok(struct str value);

/* grpc-timeout: 1 to 8 digits and a unit of H M S m u n. */
bool grpc_timeout_parse(struct str value, int64_t *ns);
/* The shortest spelling that is not shorter than the time; dst needs 24 bytes. A time that has passed: "1n". */
char *grpc_timeout_format(int64_t ns, char dst[static 24]);

/* grpc-message: percent-encodes what is not printable ASCII, '%', and blanks at its ends, for which receivers reset a call
 * (RFC 9113, 8.2.1); decoding leaves broken escapes as they are. */
void grpc_message_encode(struct str text, struct buf *out);
void grpc_message_decode(struct str value, struct buf *out);

/* Writes the prefix of a message of n bytes. */
void grpc_prefix_put(char dst[static GRPC_PREFIX_BYTES], size_t n);

/*
 * Cuts a byte stream into messages. The buffer grows as bytes arrive: the announced length alone allocates nothing.
 */
struct grpc_cutter {
	char prefix[GRPC_PREFIX_BYTES];
	unsigned n_prefix;
	size_t want; /* length of the message in progress */
	struct buf message;
};

void grpc_cutter_fini(struct grpc_cutter *c);

/* Takes bytes off *in: 1 with a whole message in *message (moved to it), 0 when more bytes are needed (*in is used up).
 * ERR_UNIMPLEMENTED for a compressed message, ERR_EXHAUSTED for one over max_bytes, ERR_INTERNAL for a bad prefix. */
int grpc_cut(struct grpc_cutter *c, struct str *in, size_t max_bytes, struct buf *message, struct err *err);

/* True in the middle of a message. */
static inline bool grpc_cutter_partial(const struct grpc_cutter *c)
{
	return c->n_prefix > 0;
}

/* The code that a client sees for an HTTP status that is not 200, or an HTTP/2 stream error. */
enum err_code grpc_code_from_http(unsigned status);
enum err_code grpc_code_from_h2(unsigned error_code);

#endif
