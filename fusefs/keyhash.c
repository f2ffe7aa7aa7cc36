#include "fusefs/keyhash.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

static uint64_t secret[5];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void seed(void)
{
	if (getrandom(secret, sizeof(secret), 0) != sizeof(secret))
		abort(); /* the kernel's pool is ready long before any daemon runs */
}

static uint64_t mul_fold(uint64_t a, uint64_t b)
{
	unsigned __int128 r = (unsigned __int128)a * b;

	return (uint64_t)r ^ (uint64_t)(r >> 64);
}

uint64_t key_hash(const struct digest *key)
{
	uint64_t w[4];

	pthread_once(&once, seed);
	memcpy(w, key->b, sizeof(w));
	return mul_fold(mul_fold(w[0] ^ secret[0], w[1] ^ secret[1]) ^ secret[4],
	                mul_fold(w[2] ^ secret[2], w[3] ^ secret[3]) ^ 0x9e3779b97f4a7c15ull);
}
