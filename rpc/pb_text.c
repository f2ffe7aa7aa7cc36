/* Looks at the strings of a message in its wire form, where their lengths still are (protobuf.dev/programming-guides/encoding). */
#include "rpc/pb.h"

#define DEPTH_MAX 100 /* protobuf's own default */

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static bool varint(struct str *in, uint64_t *out)
{
	*out = 0;
	for (unsigned shift = 0; shift < 70 && in->n; shift += 7) {
		uint8_t b = (uint8_t)*in->p;

		*in = str_sub(*in, 1, SIZE_MAX);
		if (shift < 64)
			*out |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80))
			return true;
	}
	return false;
}

/* Takes a field off the input; *bytes: its contents when it has a length. False when it is cut or of unknown form. */
static bool next_field(struct str *in, uint32_t *id, unsigned *type, struct str *bytes)
{
	uint64_t key, n;

	if (!varint(in, &key) || key >> 3 > UINT32_MAX)
		return false;
	*id = (uint32_t)(key >> 3);
	*type = key & 7;
	switch (*type) {
	case WIRE_VARINT:
		return varint(in, &n);
	case WIRE_64:
		n = 8;
		break;
	case WIRE_32:
		n = 4;
		break;
	case WIRE_BYTES:
		if (!varint(in, &n))
			return false;
		break;
	default:
		return false;
	}
	if (n > in->n)
		return false;
	*bytes = str_sub(*in, 0, (size_t)n);
	*in = str_sub(*in, (size_t)n, SIZE_MAX);
	return true;
}

static int check(const ProtobufCMessageDescriptor *d, struct str wire, unsigned depth, struct err *err)
{
	if (depth == DEPTH_MAX)
		return err_set(err, ERR_INVALID, "message of type %s is nested too deeply", d->name);
	while (wire.n) {
		const ProtobufCFieldDescriptor *f;
		struct str bytes = STR_NONE;
		unsigned type;
		uint32_t id;

		if (!next_field(&wire, &id, &type, &bytes))
			return err_set(err, ERR_INVALID, "malformed message of type %s", d->name);
		f = type == WIRE_BYTES ? protobuf_c_message_descriptor_get_field(d, id) : NULL;
		if (!f)
			continue;
		if (f->type == PROTOBUF_C_TYPE_MESSAGE)
			TRY(check(f->descriptor, bytes, depth + 1, err));
		else if (f->type == PROTOBUF_C_TYPE_STRING &&
		         (!str_is_utf8(bytes) || memchr(bytes.p ?: "", 0, bytes.n)))
			return err_set(err, ERR_INVALID, "field %s of %s is not UTF-8 text", f->name, d->name);
	}
	return 0;
}

int pb_check_text(const ProtobufCMessageDescriptor *d, struct str wire, struct err *err)
{
	return check(d, wire, 0, err);
}
