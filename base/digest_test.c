#include "base/digest.h"

#include "base/buf.h"

#include <openssl/evp.h>
#include <pthread.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ABC_HEX "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" /* FIPS 180-2, B.1 */

static void text_forms(void **state)
{
	struct digest d;
	char text[DIGEST_TEXT_MAX], hex[65];
	struct err err = ERR_INIT;

	digest_of("abc", 3, &d);
	assert_string_equal(digest_text(&d, text), "sha256:" ABC_HEX);
	assert_string_equal(digest_hex(&d, hex), ABC_HEX);
	memset(&d, 0, sizeof(d));
	assert_true(digest_is_zero(&d));
	assert_int_equal(digest_parse(STR("sha256:" ABC_HEX), &d, &err), 0);
	assert_string_equal(digest_hex(&d, hex), ABC_HEX);
	assert_false(digest_is_zero(&d));
}

static void wrong_texts(void **state)
{
	static const char *const bad[] = {
	    "",
	    "sha256:",
	    ABC_HEX,
	    "sha512:" ABC_HEX,
	    "sha256:" ABC_HEX "0",
	    "SHA256:" ABC_HEX,
	    "sha256-" ABC_HEX,
	    "sha256:Ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a",
	    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ag",
	    "sha256:../816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	};
	struct err err = ERR_INIT;
	struct digest d;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (digest_parse(str_of(bad[i]), &d, &err) != -ERR_INVALID)
			fail_msg("accepted: %s", bad[i]);
}

static void streaming(void **state)
{
	AUTO(hasher) struct hasher *h = hasher_new();
	struct digest whole, d;
	uint8_t data[1000];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	digest_of(data, sizeof(data), &whole);
	for (size_t step = 1; step < sizeof(data); step = step * 3 + 1) {
		for (size_t at = 0; at < sizeof(data); at += step)
			hasher_add(h, data + at, at + step > sizeof(data) ? sizeof(data) - at : step);
		hasher_peek(h, &d);
		assert_true(digest_eq(&d, &whole));
		hasher_done(h, &d);
		assert_true(digest_eq(&d, &whole));
	}
	hasher_done(h, &d); /* done has reset it */
	assert_true(digest_eq(&d, &DIGEST_EMPTY));
	hasher_add(h, "junk", 4);
	hasher_reset(h);
	hasher_add(h, NULL, 0);
	hasher_done(h, &d);
	assert_true(digest_eq(&d, &DIGEST_EMPTY));
	digest_of(NULL, 0, &d);
	assert_true(digest_eq(&d, &DIGEST_EMPTY));
}

static void peeking_does_not_disturb(void **state)
{
	AUTO(hasher) struct hasher *h = hasher_new();
	struct digest d, want;

	hasher_add(h, "a", 1);
	hasher_peek(h, &d);
	digest_of("a", 1, &want);
	assert_true(digest_eq(&d, &want));
	hasher_add(h, "bc", 2);
	hasher_done(h, &d);
	digest_of("abc", 3, &want);
	assert_true(digest_eq(&d, &want));
}

/* NIST, "Example Algorithms: SHA-256", and FIPS 180-2, B.1 to B.3. */
static void known_answers(void **state)
{
	static const struct {
		const char *text, *hex;
	} known[] = {
	    {"abc", ABC_HEX},
	    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstn"
	     "opqr"
	     "stu",
	     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
	};
	AUTO(hasher) struct hasher *h = hasher_new();
	struct digest d;
	char hex[65];

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		digest_of(known[i].text, strlen(known[i].text), &d);
		assert_string_equal(digest_hex(&d, hex), known[i].hex);
	}
	for (int i = 0; i < 1000000; i++)
		hasher_add(h, "a", 1);
	hasher_done(h, &d);
	assert_string_equal(digest_hex(&d, hex), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

#define SAMPLE_BYTES 5000

static void fill_sample(uint8_t *bytes)
{
	uint32_t x = 1;

	for (size_t i = 0; i < SAMPLE_BYTES; i++)
		bytes[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
}

/* By OpenSSL, whatever digest.c takes. */
static void assert_digest(const struct digest *d, const uint8_t *p, size_t n)
{
	struct digest want;

	assert_int_equal(EVP_Digest(p, n, want.b, NULL, EVP_sha256(), NULL), 1);
	assert_memory_equal(d->b, want.b, DIGEST_BYTES);
}

static void every_length(void **state)
{
	AUTO(hasher) struct hasher *h = hasher_new();
	uint8_t bytes[SAMPLE_BYTES];
	struct digest d;

	fill_sample(bytes);
	for (size_t n = 0; n <= 1000; n++) {
		digest_of(bytes + n % 16, n, &d);
		assert_digest(&d, bytes + n % 16, n);
		hasher_add(h, bytes, n / 3);
		hasher_add(h, bytes + n / 3, n - n / 3);
		hasher_done(h, &d);
		assert_digest(&d, bytes, n);
	}
}

static void several_messages(void **state)
{
	uint8_t bytes[SAMPLE_BYTES];

	fill_sample(bytes);
	for (size_t n = 0; n <= 1000; n++)
		for (unsigned n_messages = 1; n_messages <= DIGESTS_MAX; n_messages++) {
			const void *from[DIGESTS_MAX] = {bytes + n % 16, bytes + 1500, bytes + 3000 + n % 5};
			struct digest d[DIGESTS_MAX + 1] = {0};

			digest_of_all(from, n_messages, n, d);
			for (unsigned i = 0; i < n_messages; i++)
				assert_digest(&d[i], from[i], n);
			assert_true(digest_is_zero(&d[n_messages]));
		}
}

/* Hashers that begin and end at different places of one stream, which comes in pieces: each gets what lies within. */
static void several_at_once(void **state)
{
	AUTO(hasher) struct hasher *h0 = hasher_new();
	AUTO(hasher) struct hasher *h1 = hasher_new();
	AUTO(hasher) struct hasher *h2 = hasher_new();
	struct hasher *const h[HASHERS_MAX] = {h0, h1, h2};
	uint8_t bytes[SAMPLE_BYTES];
	uint32_t x = 1;

	fill_sample(bytes);
	for (int round = 0; round < 3000; round++) {
		size_t begin[HASHERS_MAX], at = 0;
		unsigned n = 1 + (unsigned)round % HASHERS_MAX;
		uint32_t piece = 1 + (x >> 8) % (round % 2 ? 90 : 1500), kind = (x >> 24) % 3;
		struct digest d;

		/* As in a tar, where all begin at multiples of a block; or anywhere; or all at once. */
		for (unsigned i = 0; i < n; i++, x = x * 1664525 + 1013904223)
			begin[i] = kind == 0 ? (x >> 24) % 16 * 64 : kind == 1 ? (x >> 16) % 1000 : 0;
		while (at < SAMPLE_BYTES) {
			struct hasher *on[HASHERS_MAX];
			size_t end = at + piece < SAMPLE_BYTES ? at + piece : SAMPLE_BYTES;
			unsigned n_on = 0;

			for (unsigned i = 0; i < n; i++) {
				if (begin[i] > at && begin[i] < end)
					end = begin[i];
			}
			for (unsigned i = 0; i < n; i++) {
				if (begin[i] <= at)
					on[n_on++] = h[i];
			}
			if (n_on)
				hasher_add_all(on, n_on, bytes + at, end - at);
			at = end;
		}
		for (unsigned i = 0; i < n; i++) {
			hasher_peek(h[i], &d);
			assert_digest(&d, bytes + begin[i], SAMPLE_BYTES - begin[i]);
			hasher_done(h[i], &d);
			assert_digest(&d, bytes + begin[i], SAMPLE_BYTES - begin[i]);
		}
	}
	hasher_add_all(h, HASHERS_MAX, NULL, 0);
	for (unsigned i = 0; i < HASHERS_MAX; i++) {
		struct digest d;

		hasher_done(h[i], &d);
		assert_true(digest_eq(&d, &DIGEST_EMPTY));
	}
}

static void *hash_in_thread(void *arg)
{
	struct digest d, want;

	digest_from_hex(STR(ABC_HEX), &want);
	for (int i = 0; i < 200; i++) {
		digest_of("abc", 3, &d);
		if (!digest_eq(&d, &want))
			return arg;
	}
	return NULL;
}

/* The context is the thread's own and goes with it (the leak checker looks). */
static void threads(void **state)
{
	pthread_t t[4];
	void *wrong;

	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, hash_in_thread, t), 0);
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		assert_int_equal(pthread_join(t[i], &wrong), 0);
		assert_null(wrong);
	}
}

static void base64(void **state)
{
	static const struct {
		const char *plain, *text;
	} rfc4648[] = {{"", ""},
	               {"f", "Zg=="},
	               {"fo", "Zm8="},
	               {"foo", "Zm9v"},
	               {"foob", "Zm9vYg=="},
	               {"fooba", "Zm9vYmE="},
	               {"foobar", "Zm9vYmFy"}};
	static const char *const bad[] = {"Z",        "Zg",   "Zg=",    "Zg===", "=",    "====", "Z===",
	                                  "Zg==Zg==", "Zm9 ", "Zm9v\n", "Zm-_",  "Zh==", "Zm9=", "Z=g="};

	for (size_t i = 0; i < ARRAY_LEN(rfc4648); i++) {
		AUTO(buf) struct buf text = BUF_INIT;
		AUTO(buf) struct buf plain = BUF_INIT;

		buf_adds(&text, ">");
		base64_encode(str_of(rfc4648[i].plain), &text);
		assert_string_equal(text.p + 1, rfc4648[i].text);
		buf_adds(&plain, ">");
		assert_int_equal(base64_decode(str_of(rfc4648[i].text), &plain, NULL), 0);
		assert_string_equal(plain.p + 1, rfc4648[i].plain);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(buf) struct buf plain = BUF_INIT;
		struct err err = ERR_INIT;

		buf_adds(&plain, ">");
		if (base64_decode(str_of(bad[i]), &plain, &err) != -ERR_INVALID)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(plain.n, 1);
	}
}

static void base64_of_all_bytes(void **state)
{
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO(buf) struct buf plain = BUF_INIT;
	uint8_t bytes[256];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	for (size_t n = 0; n <= sizeof(bytes); n++) {
		buf_clear(&text);
		buf_clear(&plain);
		base64_encode(str_make(bytes, n), &text);
		assert_int_equal(base64_decode(buf_str(&text), &plain, NULL), 0);
		assert_true(str_eq(buf_str(&plain), str_make(bytes, n)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(text_forms),       cmocka_unit_test(wrong_texts),
	    cmocka_unit_test(streaming),        cmocka_unit_test(peeking_does_not_disturb),
	    cmocka_unit_test(known_answers),    cmocka_unit_test(every_length),
	    cmocka_unit_test(several_at_once),  cmocka_unit_test(threads),
	    cmocka_unit_test(base64),           cmocka_unit_test(base64_of_all_bytes),
	    cmocka_unit_test(several_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
