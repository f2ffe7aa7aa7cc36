#include "rpc/ttrpc_wire.h"

#include "rpc/pb.h"

static void put_be32(char *dst, uint32_t v)
{
	dst[0] = (char)(v >> 24);
	dst[1] = (char)(v >> 16);
	dst[2] = (char)(v >> 8);
	dst[3] = (char)v;
}

static uint32_t get_be32(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;

	return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

void ttrpc_header_put(char dst[static TTRPC_HEADER_BYTES], uint32_t n, uint32_t stream_id, uint8_t type, uint8_t flags)
{
	put_be32(dst, n);
	put_be32(dst + 4, stream_id);
	dst[8] = (char)type;
	dst[9] = (char)flags;
}

static struct ttrpc_frame frame_of(const char *header)
{
	return (struct ttrpc_frame){
	    .stream_id = get_be32(header + 4),
	    .type = (uint8_t)header[8],
	    .flags = (uint8_t)header[9],
	};
}

void ttrpc_cutter_fini(struct ttrpc_cutter *c)
{
	buf_fini(&c->data);
	*c = (struct ttrpc_cutter){0};
}

bool ttrpc_cut(struct ttrpc_cutter *c, struct str *in, uint32_t max_bytes, struct ttrpc_frame *out)
{
	struct str part;

	if (c->n_header == TTRPC_HEADER_BYTES && c->data.n + c->skipped == c->want) {
		/* The last call gave this frame away. */
		c->n_header = 0;
		buf_clear(&c->data);
	}
	part = str_sub(*in, 0, TTRPC_HEADER_BYTES - c->n_header);
	if (c->n_header < TTRPC_HEADER_BYTES) {
		if (part.n)
			memcpy(c->header + c->n_header, part.p, part.n);
		c->n_header += (unsigned)part.n;
		*in = str_sub(*in, part.n, SIZE_MAX);
		if (c->n_header < TTRPC_HEADER_BYTES)
			return false;
		c->want = get_be32(c->header);
		c->skipped = 0;
	}
	part = str_sub(*in, 0, c->want - c->data.n - c->skipped);
	if (c->want <= max_bytes)
		buf_addstr(&c->data, part);
	else
		c->skipped += (uint32_t)part.n;
	*in = str_sub(*in, part.n, SIZE_MAX);
	if (c->data.n + c->skipped < c->want)
		return false;
	*out = frame_of(c->header);
	out->oversized = c->want > max_bytes;
	out->data = buf_str(&c->data);
	return true;
}

int ttrpc_packet(struct str packet, struct ttrpc_frame *out, struct err *err)
{
	if (packet.n < TTRPC_HEADER_BYTES || get_be32(packet.p) != packet.n - TTRPC_HEADER_BYTES)
		return err_set(err, ERR_INVALID, "malformed packet of %zu bytes", packet.n);
	*out = frame_of(packet.p);
	out->data = str_sub(packet, TTRPC_HEADER_BYTES, SIZE_MAX);
	return 0;
}

static void put_message(struct buf *out, uint32_t stream_id, uint8_t type, const ProtobufCMessage *m)
{
	size_t at = out->n;

	buf_addz(out, TTRPC_HEADER_BYTES);
	pb_pack(m, out);
	ttrpc_header_put(out->p + at, (uint32_t)(out->n - at - TTRPC_HEADER_BYTES), stream_id, type, 0);
}

void ttrpc_put_request(struct buf *out, uint32_t stream_id, const Ttrpc__Request *req)
{
	put_message(out, stream_id, TTRPC_REQUEST, &req->base);
}

void ttrpc_put_response(struct buf *out, uint32_t stream_id, enum err_code code, const char *message,
                        struct str payload)
{
	Ttrpc__Response rsp = TTRPC__RESPONSE__INIT;
	GoogleRpc__Status status = GOOGLE_RPC__STATUS__INIT;

	if (code != ERR_OK) {
		status.code = (int32_t)code;
		status.message = message;
		rsp.status = &status;
	}
	rsp.payload.data = (uint8_t *)payload.p;
	rsp.payload.len = payload.n;
	put_message(out, stream_id, TTRPC_RESPONSE, &rsp.base);
}

void ttrpc_put_data(struct buf *out, uint32_t stream_id, uint8_t flags, struct str payload)
{
	size_t at = out->n;

	buf_addz(out, TTRPC_HEADER_BYTES);
	buf_addstr(out, payload);
	ttrpc_header_put(out->p + at, (uint32_t)payload.n, stream_id, TTRPC_DATA, flags);
}

int ttrpc_response_parse(struct arena *a, struct str data, struct str *payload, struct err *err)
{
	Ttrpc__Response *rsp;

	TRY(pb_unpack_in(a, &ttrpc__response__descriptor, data, &rsp, err));
	if (rsp->status && rsp->status->code) {
		int code = rsp->status->code;

		return err_set(err, code < 0 || code > ERR_UNAUTHENTICATED ? ERR_UNKNOWN : (enum err_code)code, "%s",
		               rsp->status->message);
	}
	*payload = str_make(rsp->payload.data, rsp->payload.len);
	return 0;
}
