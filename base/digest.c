#include "base/digest.h"

#include "base/buf.h"
#include "base/sha256.h"

#include <assert.h>
#include <openssl/evp.h>
#include <pthread.h>

const struct digest DIGEST_EMPTY = {{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
                                     0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
                                     0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}};

typedef uint8_t bytes16 __attribute__((vector_size(16)));

/* The values of 16 lower-case hex digits; *valid keeps its ones where they are such. Vectors: an index holds two digests a
 * file, and what was stored byte by byte is not at hand to be read as a whole for a while. */
static bytes16 hex_values(const char *p, bytes16 *valid)
{
	bytes16 text, digit, letter, is_digit, is_letter;

	memcpy(&text, p, sizeof(text));
	digit = text - '0';
	letter = text - 'a';
	is_digit = (bytes16)(digit < 10);
	is_letter = (bytes16)(letter < 6);
	*valid &= is_digit | is_letter;
	return (digit & is_digit) | ((letter + 10) & is_letter);
}

bool digest_from_hex(struct str hex, struct digest *out)
{
	bytes16 valid = ~(bytes16){0};
	uint64_t halves[2];

	if (hex.n != 2 * DIGEST_BYTES)
		return false;
	for (size_t i = 0; i < DIGEST_BYTES; i += 16) {
		bytes16 a = hex_values(hex.p + 2 * i, &valid), b = hex_values(hex.p + 2 * i + 16, &valid);
		bytes16 high = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
		bytes16 low = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
		bytes16 bytes = high << 4 | low;

		memcpy(out->b + i, &bytes, sizeof(bytes));
	}
	memcpy(halves, &valid, sizeof(halves));
	return (halves[0] & halves[1]) == UINT64_MAX;
}

int digest_parse(struct str text, struct digest *out, struct err *err)
{
	struct str hex = text;

	if (!str_skip(&hex, STR("sha256:")) || !digest_from_hex(hex, out))
		return err_set(err, ERR_INVALID, "not a sha256 digest: \"%.*s\"", (int)(text.n > 100 ? 100 : text.n),
		               text.n ? text.p : "");
	return 0;
}

void hex_encode(const void *p, size_t n, char *dst)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++) {
		*dst++ = digits[b[i] >> 4];
		*dst++ = digits[b[i] & 15];
	}
	*dst = 0;
}

char *digest_hex(const struct digest *d, char dst[static 65])
{
	hex_encode(d->b, DIGEST_BYTES, dst);
	return dst;
}

char *digest_text(const struct digest *d, char dst[static DIGEST_TEXT_MAX])
{
	memcpy(dst, "sha256:", 7);
	hex_encode(d->b, DIGEST_BYTES, dst + 7);
	return dst;
}

static_assert(HASHERS_MAX == SHA256_LANES && DIGESTS_MAX == SHA256_LANES, "digests at a time");
static_assert(sizeof(struct digest) == SHA256_DIGEST_BYTES, "sha256_of");

/*
 * SHA-256 is ours where the processor has instructions for it, since those do several at a time (sha256.h), else OpenSSL's.
 * Of that the algorithm is fetched once: it looks one up, with locks, whenever a context starts with EVP_sha256().
 */
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static bool sha256_is_ours;
static EVP_MD *sha256_md;            /* NULL: sha256_is_ours */
static pthread_key_t thread_ctx_key; /* frees thread_ctx when its thread ends */
static __thread EVP_MD_CTX *thread_ctx;

static void thread_ctx_free(void *ctx)
{
	EVP_MD_CTX_free(ctx);
}

static void sha256_init(void)
{
#ifndef DIGEST_BY_OPENSSL
	sha256_is_ours = sha256_usable();
#endif
	if (sha256_is_ours)
		return;
	sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (!sha256_md || pthread_key_create(&thread_ctx_key, thread_ctx_free))
		abort();
}

static bool is_ours(void)
{
	pthread_once(&sha256_once, sha256_init);
	return sha256_is_ours;
}

static EVP_MD_CTX *ctx_new(void)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (!ctx)
		abort();
	return ctx;
}

/* The calls below fail only when memory is gone or the library is broken; a wrong digest must never come of it. */
static void ctx_start(EVP_MD_CTX *ctx)
{
	if (!EVP_DigestInit_ex2(ctx, sha256_md, NULL))
		abort();
}

static void ctx_add(EVP_MD_CTX *ctx, const void *p, size_t n)
{
	if (n && !EVP_DigestUpdate(ctx, p, n))
		abort();
}

static void ctx_done(EVP_MD_CTX *ctx, struct digest *out)
{
	if (!EVP_DigestFinal_ex(ctx, out->b, NULL))
		abort();
}

void digest_of(const void *p, size_t n, struct digest *out)
{
	digest_of_all(&p, 1, n, out);
}

static void digest_by_openssl(const void *p, size_t n, struct digest *out)
{
	if (!thread_ctx) {
		thread_ctx = ctx_new();
		if (pthread_setspecific(thread_ctx_key, thread_ctx))
			abort();
	}
	ctx_start(thread_ctx);
	ctx_add(thread_ctx, p, n);
	ctx_done(thread_ctx, out);
}

void digest_of_all(const void *const *p, unsigned n_messages, size_t n, struct digest *out)
{
	if (is_ours()) {
		sha256_of(p, n_messages, n, (uint8_t *)out);
		return;
	}
	for (unsigned i = 0; i < n_messages; i++)
		digest_by_openssl(p[i], n, &out[i]);
}

struct hasher {
	EVP_MD_CTX *ctx; /* NULL: `ours` is it */
	struct sha256 ours;
};

struct hasher *hasher_new(void)
{
	struct hasher *h = xmalloc(sizeof(*h));

	h->ctx = is_ours() ? NULL : ctx_new();
	hasher_reset(h);
	return h;
}

void hasher_free(struct hasher *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}

void hasher_reset(struct hasher *h)
{
	if (h->ctx)
		ctx_start(h->ctx);
	else
		sha256_start(&h->ours);
}

void hasher_add(struct hasher *h, const void *p, size_t n)
{
	struct sha256 *one = &h->ours;

	if (h->ctx)
		ctx_add(h->ctx, p, n);
	else
		sha256_add(&one, 1, p, n);
}

void hasher_add_all(struct hasher *const *h, unsigned n_hashers, const void *p, size_t n)
{
	struct sha256 *all[HASHERS_MAX];

	if (!is_ours()) {
		for (unsigned i = 0; i < n_hashers; i++)
			ctx_add(h[i]->ctx, p, n);
		return;
	}
	for (unsigned i = 0; i < n_hashers; i++)
		all[i] = &h[i]->ours;
	sha256_add(all, n_hashers, p, n);
}

void hasher_done(struct hasher *h, struct digest *out)
{
	if (h->ctx)
		ctx_done(h->ctx, out);
	else
		sha256_peek(&h->ours, out->b);
	hasher_reset(h);
}

void hasher_peek(const struct hasher *h, struct digest *out)
{
	EVP_MD_CTX *copy;

	if (!h->ctx) {
		sha256_peek(&h->ours, out->b);
		return;
	}
	copy = ctx_new();
	if (!EVP_MD_CTX_copy_ex(copy, h->ctx))
		abort();
	ctx_done(copy, out);
	EVP_MD_CTX_free(copy);
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct str in, struct buf *out)
{
	char *dst = buf_reserve(out, (in.n + 2) / 3 * 4);
	const uint8_t *p = (const uint8_t *)in.p;
	size_t i = 0;

	for (; in.n - i >= 3; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16 | (uint32_t)p[i + 1] << 8 | p[i + 2];

		*dst++ = base64_digits[v >> 18];
		*dst++ = base64_digits[v >> 12 & 63];
		*dst++ = base64_digits[v >> 6 & 63];
		*dst++ = base64_digits[v & 63];
	}
	if (i < in.n) {
		uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < in.n ? (uint32_t)p[i + 1] << 8 : 0);

		*dst++ = base64_digits[v >> 18];
		*dst++ = base64_digits[v >> 12 & 63];
		*dst++ = i + 1 < in.n ? base64_digits[v >> 6 & 63] : '=';
		*dst++ = '=';
	}
	*dst = 0;
	out->n = (size_t)(dst - out->p);
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(struct str in, struct buf *out, struct err *err)
{
	size_t digits = in.n, n_before = out->n;
	uint32_t acc = 0;
	char *dst;

	if (in.n % 4)
		return err_set(err, ERR_INVALID, "base64: length %zu is not a multiple of 4", in.n);
	if (in.n && in.p[in.n - 1] == '=')
		digits -= in.p[in.n - 2] == '=' ? 2 : 1;
	dst = buf_reserve(out, in.n / 4 * 3);
	for (size_t i = 0; i < digits; i++) {
		int v = base64_value(in.p[i]);

		if (v < 0)
			return err_set(err, ERR_INVALID, "base64: wrong character at %zu", i);
		acc = acc << 6 | (uint32_t)v;
		if (i % 4)
			*dst++ = (char)(acc >> (6 - 2 * (i % 4)));
	}
	/* The bits that the padding leaves over are zero in the one right spelling. */
	if ((digits % 4 == 2 && acc & 15) || (digits % 4 == 3 && acc & 3))
		return err_set(err, ERR_INVALID, "base64: stray bits before the padding");
	out->n = n_before + (size_t)(dst - (out->p + n_before));
	out->p[out->n] = 0;
	return 0;
}
