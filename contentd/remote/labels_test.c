#include "contentd/remote/labels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define D "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"

#define PREFIX "containerd.io/snapshot/"

/* Pairs of label and value, the last one NULL. */
static bool parse(const char *const *pairs, struct cd_remote_layer *out, struct err *why)
{
	static struct labels l; /* texts of *out are its */

	labels_fini(&l);
	l = LABELS_INIT;
	for (; *pairs; pairs += 2)
		assert_true(labels_set(&l, pairs[0], pairs[1], NULL) >= 0);
	return cd_remote_layer_parse(&l, out, why);
}
#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL}, &l, &why)

static void assert_digest(const struct digest *d, const char *text)
{
	char got[DIGEST_TEXT_MAX];

	assert_string_equal(digest_text(d, got), text);
}

static void test_cri(void **state)
{
	struct cd_remote_layer l;
	struct err why;

	assert_true(PARSE("containerd.io/snapshot.ref", A, PREFIX "cri.image-ref", "docker.io/library/x:1",
	                  PREFIX "cri.layer-digest", B, PREFIX "cri.manifest-digest", C, PREFIX "cri.image-layers",
	                  B "," D, PREFIX "stargz/toc.digest", D));
	assert_string_equal(l.target, A);
	assert_string_equal(l.image, "docker.io/library/x:1");
	assert_digest(&l.blob, B);
	assert_digest(&l.manifest, C);
	assert_digest(&l.toc, D);
}

static void test_stargz(void **state)
{
	struct cd_remote_layer l;
	struct err why;

	assert_true(PARSE("containerd.io/snapshot.ref", A, PREFIX "remote/stargz.reference", "r.example/x:1",
	                  PREFIX "remote/stargz.digest", B, PREFIX "remote/stargz.layers", B "," D));
	assert_string_equal(l.image, "r.example/x:1");
	assert_digest(&l.blob, B);
	assert_true(digest_is_zero(&l.manifest));
	assert_true(digest_is_zero(&l.toc));
}

static void test_ordinary(void **state)
{
	struct cd_remote_layer l;
	struct err why;

	assert_false(PARSE("containerd.io/snapshot.ref", A));
	assert_int_equal(why.code, ERR_OK);
	assert_false(PARSE(PREFIX "cri.image-ref", "x", PREFIX "cri.layer-digest", B));
	assert_int_equal(why.code, ERR_OK);
	assert_false(PARSE("containerd.io/snapshot.ref", A, PREFIX "cri.image-ref", "x"));
	assert_int_equal(why.code, ERR_OK);
	assert_false(PARSE("containerd.io/snapshot.ref", A, PREFIX "cri.image-ref", "", PREFIX "cri.layer-digest", B));
	assert_int_equal(why.code, ERR_OK);
}

static void test_malformed(void **state)
{
	struct cd_remote_layer l;
	struct err why;

	assert_false(
	    PARSE("containerd.io/snapshot.ref", A, PREFIX "cri.image-ref", "x", PREFIX "cri.layer-digest", "b"));
	assert_int_equal(why.code, ERR_INVALID);
	assert_false(PARSE("containerd.io/snapshot.ref", A, PREFIX "cri.image-ref", "x", PREFIX "cri.layer-digest", B,
	                   PREFIX "stargz/toc.digest", "sha256:dd"));
	assert_int_equal(why.code, ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_cri),
	    cmocka_unit_test(test_stargz),
	    cmocka_unit_test(test_ordinary),
	    cmocka_unit_test(test_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
