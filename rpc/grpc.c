#include "rpc/grpc.h"

#include "base/clock.h"

#include <inttypes.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>

bool grpc_content_type_ok(struct str value)
{
	return str_skip(&value, STR("application/grpc")) && (!value.n || value.p[0] == '+' || value.p[0] == ';');
}

/* ---- timeouts ---- */

static const struct {
	char unit;
	int64_t ns;
} units[] = {
    {'n', 1}, {'u', NS_PER_US}, {'m', NS_PER_MS}, {'S', NS_PER_S}, {'M', 60 * NS_PER_S}, {'H', 3600 * NS_PER_S},
};

bool grpc_timeout_parse(struct str value, int64_t *ns)
{
	uint64_t digits;

	if (value.n < 2 || value.n > 9 || !str_u64(str_sub(value, 0, value.n - 1), 10, &digits))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (units[i].unit != value.p[value.n - 1])
			continue;
		/* 99999999 hours do not fit: that is as good as no deadline. */
		if (__builtin_mul_overflow((int64_t)digits, units[i].ns, ns))
			*ns = INT64_MAX;
		return true;
	}
	return false;
}

char *grpc_timeout_format(int64_t ns, char dst[static 24])
{
	size_t i = 0;

	if (ns < 1)
		ns = 1;
	while (i + 1 < ARRAY_LEN(units) && ns / units[i].ns > 99999998)
		i++;
	snprintf(dst, 24, "%" PRId64 "%c", ns / units[i].ns + (ns % units[i].ns != 0), units[i].unit);
	return dst;
}

/* ---- status messages ---- */

void grpc_message_encode(struct str text, struct buf *out)
{
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];
		bool at_end = i == 0 || i + 1 == text.n;

		if (c >= 0x20 && c <= 0x7e && c != '%' && !(c == ' ' && at_end))
			buf_addc(out, (char)c);
		else
			buf_addf(out, "%%%02X", c);
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void grpc_message_decode(struct str value, struct buf *out)
{
	for (size_t i = 0; i < value.n; i++) {
		int hi = -1, lo = -1;

		if (value.p[i] == '%' && i + 2 < value.n) {
			hi = hex_digit(value.p[i + 1]);
			lo = hex_digit(value.p[i + 2]);
		}
		if (hi >= 0 && lo >= 0) {
			buf_addc(out, (char)(hi << 4 | lo));
			i += 2;
		} else {
			buf_addc(out, value.p[i]);
		}
	}
}

/* ---- messages ---- */

void grpc_prefix_put(char dst[static GRPC_PREFIX_BYTES], size_t n)
{
	dst[0] = 0;
	dst[1] = (char)(n >> 24);
	dst[2] = (char)(n >> 16);
	dst[3] = (char)(n >> 8);
	dst[4] = (char)n;
}

void grpc_cutter_fini(struct grpc_cutter *c)
{
	buf_fini(&c->message);
	c->n_prefix = 0;
}

static int prefix_done(struct grpc_cutter *c, size_t max_bytes, struct err *err)
{
	const unsigned char *p = (const unsigned char *)c->prefix;

	c->want = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
	if (p[0] == 1)
		return err_set(err, ERR_UNIMPLEMENTED, "compressed messages are not supported");
	if (p[0])
		return err_set(err, ERR_INTERNAL, "message with bad flags %u", p[0]);
	if (c->want > max_bytes)
		return err_set(err, ERR_EXHAUSTED, "message of %zu bytes exceeds the limit of %zu", c->want, max_bytes);
	return 0;
}

int grpc_cut(struct grpc_cutter *c, struct str *in, size_t max_bytes, struct buf *message, struct err *err)
{
	struct str part;

	while (c->n_prefix < GRPC_PREFIX_BYTES) {
		if (!in->n)
			return 0;
		c->prefix[c->n_prefix++] = *in->p;
		*in = str_sub(*in, 1, SIZE_MAX);
		if (c->n_prefix == GRPC_PREFIX_BYTES)
			TRY(prefix_done(c, max_bytes, err));
	}
	part = str_sub(*in, 0, c->want - c->message.n);
	buf_addstr(&c->message, part);
	*in = str_sub(*in, part.n, SIZE_MAX);
	if (c->message.n < c->want)
		return 0;
	buf_fini(message);
	*message = c->message;
	c->message = BUF_INIT;
	c->n_prefix = 0;
	return 1;
}

/* ---- errors of the layers below; grpc/doc/http-grpc-status-mapping.md and PROTOCOL-HTTP2.md ---- */

enum err_code grpc_code_from_http(unsigned status)
{
	switch (status) {
	case 400:
		return ERR_INTERNAL;
	case 401:
		return ERR_UNAUTHENTICATED;
	case 403:
		return ERR_PERMISSION;
	case 404:
		return ERR_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return ERR_UNAVAILABLE;
	default:
		return ERR_UNKNOWN;
	}
}

enum err_code grpc_code_from_h2(unsigned error_code)
{
	switch (error_code) {
	case NGHTTP2_REFUSED_STREAM:
		return ERR_UNAVAILABLE;
	case NGHTTP2_CANCEL:
		return ERR_CANCELLED;
	case NGHTTP2_ENHANCE_YOUR_CALM:
		return ERR_EXHAUSTED;
	case NGHTTP2_INADEQUATE_SECURITY:
		return ERR_PERMISSION;
	default:
		return ERR_INTERNAL;
	}
}
