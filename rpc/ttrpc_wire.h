/*
 * ttrpc's frames: bytes in, frames out, and the two envelope messages. No I/O. Any thread.
 *
 *	 0        4           8      9       10
 *	| length | stream id | type | flags | length bytes |      integers big-endian
 */
#ifndef RPC_TTRPC_WIRE_H
#define RPC_TTRPC_WIRE_H

#include "base/buf.h"
#include "base/err.h"
#include "rpc/arena.h"
#include "rpc/proto/ttrpc.pb-c.h"
#include "rpc/ttrpc.h"

#define TTRPC_HEADER_BYTES 10

enum ttrpc_type { TTRPC_REQUEST = 1, TTRPC_RESPONSE = 2, TTRPC_DATA = 3 };

enum ttrpc_flags {
	TTRPC_REMOTE_CLOSED = 0x01, /* the sender will send no more data on this stream */
	TTRPC_REMOTE_OPEN = 0x02,   /* request: data will follow */
	TTRPC_NO_DATA = 0x04,       /* data: there is no message in it */
};

struct ttrpc_frame {
	uint32_t stream_id;
	uint8_t type, flags;
	bool oversized; /* longer than the limit: `data` is empty, the bytes were skipped */
	struct str data;
};

void ttrpc_header_put(char dst[static TTRPC_HEADER_BYTES], uint32_t n, uint32_t stream_id, uint8_t type, uint8_t flags);

/* Cuts a byte stream into frames. The buffer grows as bytes arrive. */
struct ttrpc_cutter {
	char header[TTRPC_HEADER_BYTES];
	unsigned n_header;
	uint32_t want, skipped;
	struct buf data;
};

void ttrpc_cutter_fini(struct ttrpc_cutter *c);

/* Takes bytes off *in: true with a frame, whose data is valid until the next call; false when more is needed. */
bool ttrpc_cut(struct ttrpc_cutter *c, struct str *in, uint32_t max_bytes, struct ttrpc_frame *out);

/* A whole packet as one frame; ERR_INVALID when its length is not what the header says. */
int ttrpc_packet(struct str packet, struct ttrpc_frame *out, struct err *err);

/* Append a whole frame. */
void ttrpc_put_request(struct buf *out, uint32_t stream_id, const Ttrpc__Request *req);
void ttrpc_put_response(struct buf *out, uint32_t stream_id, enum err_code code, const char *message,
                        struct str payload);
void ttrpc_put_data(struct buf *out, uint32_t stream_id, uint8_t flags, struct str payload);

/* Unpacks the envelope of an answer: 0 with *payload (into the arena), or the status as an error. */
int ttrpc_response_parse(struct arena *a, struct str data, struct str *payload, struct err *err);

#endif
