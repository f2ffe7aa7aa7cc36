#include "base/testing.h"
#include "bench/coldbench/measure/phases.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" HEX

static struct net_exchange exchange(const char *target, unsigned status, int64_t begun_ns, int64_t end_ns)
{
	return (struct net_exchange){.method = (char *)"GET",
	                             .target = (char *)target,
	                             .range = (char *)"",
	                             .status = status,
	                             .begun_ns = begun_ns,
	                             .end_ns = end_ns,
	                             .body_bytes = 1};
}

static const struct launch LAUNCH = {.begun_ns = 1000,
                                     .pulled_ns = 2000,
                                     .init = {.pid = 7, .forked_ns = 2300, .exec_ns = 2600},
                                     .ready_ns = 4000,
                                     .config_digest = DIGEST};

static void assert_borders(const struct launch *l, const struct net_exchange *e, size_t n,
                           const int64_t want[N_PHASES + 1])
{
	int64_t at[N_PHASES + 1];

	phases_split(l, e, n, at);
	for (int i = 0; i <= N_PHASES; i++)
		assert_int_equal(at[i], want[i]);
}

static void a_pull_is_split_by_what_arrived(void **state)
{
	const struct net_exchange e[] = {
	    exchange("/v2/", 401, 1001, 1050),
	    exchange("/token?scope=x", 200, 1050, 1090),
	    exchange("/v2/a/manifests/tag", 200, 1100, 1200),
	    exchange("/v2/a/manifests/sha256:1", 200, 1200, 1300),
	    exchange("/v2/a/blobs/sha256:ff", 200, 1305, 1800),
	    exchange("/v2/a/blobs/sha256%3A" HEX, 200, 1310, 1400),
	    exchange("/v2/a/blobs/" DIGEST, 200, 1900, 1950), /* again */
	};

	assert_borders(&LAUNCH, e, ARRAY_LEN(e), (int64_t[]){1000, 1300, 1400, 2000, 2300, 2600, 4000});
}

static void manifests_that_come_later_do_not_count(void **state)
{
	const struct net_exchange e[] = {
	    exchange("/v2/a/manifests/tag", 200, 1100, 1200),
	    exchange("/v2/a/blobs/" DIGEST, 200, 1210, 1400),
	    exchange("/v2/a/manifests/tag", 200, 1500, 1600),
	};

	assert_borders(&LAUNCH, e, ARRAY_LEN(e), (int64_t[]){1000, 1200, 1400, 2000, 2300, 2600, 4000});
}

static void a_redirected_configuration_counts_when_it_is_here(void **state)
{
	const struct net_exchange e[] = {
	    exchange("/v2/a/manifests/tag", 200, 1100, 1200),
	    exchange("/v2/a/blobs/" DIGEST, 307, 1210, 1250),
	    exchange("/cdn/blobs/" DIGEST, 200, 1260, 1400),
	};

	assert_borders(&LAUNCH, e, ARRAY_LEN(e), (int64_t[]){1000, 1200, 1400, 2000, 2300, 2600, 4000});
}

/* As clients ask whether they can have it before they do. */
static void a_configuration_is_here_when_its_bytes_are(void **state)
{
	struct net_exchange e[] = {
	    exchange("/v2/a/manifests/tag", 200, 1100, 1200),
	    exchange("/v2/a/blobs/" DIGEST, 200, 1210, 1250),
	    exchange("/v2/a/blobs/" DIGEST, 200, 1251, 1255),
	    exchange("/v2/a/blobs/" DIGEST, 200, 1260, 1400),
	};

	e[1].method = (char *)"HEAD";
	e[2].body_bytes = 0;
	assert_borders(&LAUNCH, e, ARRAY_LEN(e), (int64_t[]){1000, 1200, 1400, 2000, 2300, 2600, 4000});
}

static void without_a_known_configuration_there_is_no_metadata(void **state)
{
	const struct net_exchange e[] = {
	    exchange("/v2/a/manifests/tag", 200, 1100, 1200),
	    exchange("/v2/a/blobs/sha256:1", 200, 1210, 1400),
	    exchange("/v2/a/manifests/tag", 200, 1500, 1600),
	};
	struct launch l = LAUNCH;

	assert_borders(&LAUNCH, e, ARRAY_LEN(e), (int64_t[]){1000, 1200, 1200, 2000, 2300, 2600, 4000});
	l.config_digest = NULL;
	assert_borders(&l, e, ARRAY_LEN(e), (int64_t[]){1000, 1200, 1200, 2000, 2300, 2600, 4000});
}

static void an_image_that_is_there_has_no_pull(void **state)
{
	struct launch l = LAUNCH;

	l.pulled_ns = l.begun_ns;
	assert_borders(&l, NULL, 0, (int64_t[]){1000, 1000, 1000, 1000, 2300, 2600, 4000});
}

static void the_pull_alone_is_unpacking(void **state)
{
	assert_borders(&LAUNCH, NULL, 0, (int64_t[]){1000, 1000, 1000, 2000, 2300, 2600, 4000});
}

/* What is seen out of order never gives a negative phase, and the sum stays the whole. */
static void borders_ascend_whatever_was_seen(void **state)
{
	const struct net_exchange e[] = {
	    exchange("/v2/a/manifests/tag", 200, 100, 900),        /* of before */
	    exchange("/v2/a/manifests/sha256:1", 200, 1999, 2500), /* ended after the pull */
	    exchange("/v2/a/blobs/" DIGEST, 200, 2600, 2700),
	    exchange("/v2/a/manifests/sha256:2", 0, 1100, 0), /* never answered */
	};
	struct launch l = LAUNCH;

	assert_borders(&LAUNCH, e, ARRAY_LEN(e), (int64_t[]){1000, 2000, 2000, 2000, 2300, 2600, 4000});
	l.ready_ns = 2400; /* before the exec was noted */
	assert_borders(&l, e, ARRAY_LEN(e), (int64_t[]){1000, 2000, 2000, 2000, 2300, 2400, 2400});
	l.init.forked_ns = 1500; /* before the pull had ended */
	assert_borders(&l, e, 1, (int64_t[]){1000, 1000, 1000, 2000, 2000, 2400, 2400});
}

static void what_comes_after_the_pull_was_touched(void **state)
{
	struct net_exchange e[] = {
	    exchange("/v2/a/blobs/sha256:1", 206, 1210, 1400), /* opens a layer */
	    exchange("/v2/a/blobs/sha256:1", 206, 2000, 2400), exchange("/v2/a/blobs/sha256:1", 206, 3000, 4000),
	    exchange("/v2/a/blobs/sha256:1", 206, 3900, 4001), /* the program was ready without it */
	    exchange("/v2/a/blobs/sha256:2", 307, 2100, 2200), exchange("/v2/a/manifests/tag", 200, 2100, 2200),
	};

	for (unsigned i = 0; i < ARRAY_LEN(e); i++)
		e[i].body_bytes = 1u << i;
	assert_int_equal(phases_touched_bytes(&LAUNCH, e, ARRAY_LEN(e)), 2 + 4);
	assert_int_equal(phases_touched_bytes(&LAUNCH, NULL, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_pull_is_split_by_what_arrived),
	    cmocka_unit_test(manifests_that_come_later_do_not_count),
	    cmocka_unit_test(a_redirected_configuration_counts_when_it_is_here),
	    cmocka_unit_test(a_configuration_is_here_when_its_bytes_are),
	    cmocka_unit_test(without_a_known_configuration_there_is_no_metadata),
	    cmocka_unit_test(an_image_that_is_there_has_no_pull),
	    cmocka_unit_test(the_pull_alone_is_unpacking),
	    cmocka_unit_test(borders_ascend_whatever_was_seen),
	    cmocka_unit_test(what_comes_after_the_pull_was_touched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
