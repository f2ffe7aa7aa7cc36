#include "estargz/convert/rolling.h"

/* The window begins as if 64 zeros had passed; 31 is added to each byte, so that zeros count, too. */
#define OFFSET 31u
#define SPLIT_MASK 0xffffu

static const uint8_t ZEROS[ROLLING_HOLE_MIN];

void rolling_begin(struct rolling *r)
{
	*r = (struct rolling){.a = ROLLING_WINDOW * OFFSET, .b = ROLLING_WINDOW * (ROLLING_WINDOW - 1) * OFFSET};
}

/* The last 64 bytes of the window and the n that have passed. */
static void remember(struct rolling *r, const uint8_t *p, size_t n)
{
	if (n >= ROLLING_WINDOW) {
		memcpy(r->window, p + n - ROLLING_WINDOW, ROLLING_WINDOW);
		return;
	}
	memmove(r->window, r->window + n, ROLLING_WINDOW - n);
	memcpy(r->window + ROLLING_WINDOW - n, p, n);
}

/* Rolls over at most n bytes, up to a split; gives how many. */
static size_t roll(struct rolling *r, const uint8_t *p, size_t n, bool *split)
{
	uint32_t a = r->a, b = r->b;
	size_t i = 0;

	*split = false;
	for (; i < n; i++) {
		uint32_t out = i < ROLLING_WINDOW ? r->window[i] : p[i - ROLLING_WINDOW];

		a += p[i] - out;
		b += a - ROLLING_WINDOW * (out + OFFSET);
		if ((b & SPLIT_MASK) == SPLIT_MASK) {
			*split = true;
			i++;
			break;
		}
	}
	r->a = a;
	r->b = b;
	remember(r, p, i);
	return i;
}

/* A hole passes without splits; when the window is full of zeros, more of them change nothing. */
static void roll_hole(struct rolling *r)
{
	for (size_t i = 0; i < ROLLING_WINDOW; i++) {
		r->a -= r->window[i];
		r->b += r->a - ROLLING_WINDOW * (r->window[i] + OFFSET);
	}
	memset(r->window, 0, sizeof(r->window));
}

static size_t zeros_at(struct str s)
{
	size_t n = 0;

	while (n < s.n && s.p[n] == 0)
		n++;
	return n;
}

/* Bytes before the first run of zeros that is a hole, or may become one behind the end. A hole of 1024 covers one of
 * the bytes 1023, 2047, ...: looking at those finds every one. */
static size_t until_zeros(struct str s)
{
	size_t at = 0, end;

	while (s.n - at >= ROLLING_HOLE_MIN) {
		size_t first = at + ROLLING_HOLE_MIN - 1, next;

		if (s.p[first] != 0) {
			at = first + 1;
			continue;
		}
		next = first + zeros_at(str_sub(s, first, s.n));
		while (first > at && s.p[first - 1] == 0)
			first--;
		if (next - first >= ROLLING_HOLE_MIN || next == s.n)
			return first;
		at = next;
	}
	for (end = s.n; end > at && s.p[end - 1] == 0;)
		end--;
	return end;
}

bool rolling_next(struct rolling *r, struct str *in, bool last, struct rolling_piece *out)
{
	size_t n;

	if (r->no_hole == 0) {
		n = zeros_at(r->zeros > 0 ? *in : STR_NONE);
		r->zeros += n;
		*in = str_sub(*in, n, in->n);
		if (in->n == 0 && !last)
			return false;
		if (r->zeros >= ROLLING_HOLE_MIN) {
			roll_hole(r);
			*out = (struct rolling_piece){.hole = r->zeros, .ends = true};
			r->zeros = 0;
			return true;
		}
		r->no_hole = (size_t)r->zeros;
		r->zeros = 0;
	}
	if (r->no_hole > 0) {
		n = roll(r, ZEROS, r->no_hole, &out->ends);
		*out = (struct rolling_piece){.bytes = str_make(ZEROS, n), .ends = out->ends};
		r->no_hole -= n;
		return true;
	}
	n = until_zeros(*in);
	if (n > 0) {
		n = roll(r, (const uint8_t *)in->p, n, &out->ends);
		*out = (struct rolling_piece){.bytes = str_make(in->p, n), .ends = out->ends};
		*in = str_sub(*in, n, in->n);
		return true;
	}
	if (in->n == 0)
		return false;
	r->zeros = zeros_at(*in);
	*in = str_sub(*in, (size_t)r->zeros, in->n);
	return rolling_next(r, in, last, out);
}
