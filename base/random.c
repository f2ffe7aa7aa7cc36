#include "base/random.h"

#include "base/digest.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>

static bool fixed;

void random_fix(void)
{
	fixed = true;
}

void random_bytes(void *dst, size_t n)
{
	if (fixed) {
		memset(dst, 0x5a, n);
		return;
	}
	for (size_t done = 0; done < n;) {
		ssize_t got = getrandom((char *)dst + done, n - done, 0);

		/* Fails only where the kernel has no such call: nothing that asks for a key may go on without. */
		if (got < 0 && errno != EINTR)
			abort();
		done += got > 0 ? (size_t)got : 0;
	}
}

uint64_t random_u64(void)
{
	uint64_t v;

	random_bytes(&v, sizeof(v));
	return v;
}

uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

char *random_hex(char *dst, size_t n_bytes)
{
	uint8_t raw[32];

	assert(n_bytes <= sizeof(raw));
	random_bytes(raw, n_bytes);
	hex_encode(raw, n_bytes, dst);
	return dst;
}
