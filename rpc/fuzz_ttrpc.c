/*
 * ttrpc's frames and envelopes, as both ends read them: the input as a byte stream, cut into pieces of the length that
 * its first byte says, and as one packet.
 */
#include "rpc/pb.h"
#include "rpc/ttrpc_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* protobuf-c reads unknown fields with overlong tags, which it writes in a form that it does not read. */
static bool has_unknown_fields(const Ttrpc__Request *req)
{
	unsigned n = req->base.n_unknown_fields;

	for (size_t i = 0; i < req->n_metadata; i++)
		n += req->metadata[i]->base.n_unknown_fields;
	return n > 0;
}

/* What was read must come out the same when it is written and read again. */
static void request(struct str wire)
{
	AUTO(pb) Ttrpc__Request *req = NULL, *again = NULL;
	AUTO(buf) struct buf frame = BUF_INIT;
	struct ttrpc_frame f;

	if (pb_unpack(&ttrpc__request__descriptor, wire, &req, NULL) < 0)
		return;
	ttrpc_put_request(&frame, 7, req);
	if (ttrpc_packet(buf_str(&frame), &f, NULL) < 0 || f.stream_id != 7 || f.type != TTRPC_REQUEST)
		abort();
	if (has_unknown_fields(req))
		return;
	if (pb_unpack(&ttrpc__request__descriptor, f.data, &again, NULL) < 0 || strcmp(req->method, again->method) ||
	    req->n_metadata != again->n_metadata || req->payload.len != again->payload.len)
		abort();
}

static void frame_seen(const struct ttrpc_frame *f)
{
	struct str payload;
	struct arena a;

	request(f->data);
	arena_init(&a, pb_memory_limit(f->data.n));
	ttrpc_response_parse(&a, f->data, &payload, NULL);
	arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct ttrpc_cutter cutter = {0};
	struct ttrpc_frame f;
	struct str in;
	size_t piece;

	if (!n)
		return 0;
	piece = data[0] ? data[0] : n;
	in = str_make(data + 1, n - 1);
	if (ttrpc_packet(in, &f, NULL) == 0)
		frame_seen(&f);
	while (in.n) {
		struct str part = str_sub(in, 0, piece);

		in = str_sub(in, piece, SIZE_MAX);
		while (ttrpc_cut(&cutter, &part, 4096, &f))
			frame_seen(&f);
	}
	ttrpc_cutter_fini(&cutter);
	return 0;
}
