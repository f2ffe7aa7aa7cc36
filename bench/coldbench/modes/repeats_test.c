#include "base/testing.h"
#include "bench/coldbench/modes/repeats.h"

static struct net_exchange get(const char *target, const char *range, unsigned status, uint64_t body_bytes)
{
	return (struct net_exchange){.method = "GET",
	                             .target = (char *)target,
	                             .range = (char *)range,
	                             .status = status,
	                             .body_bytes = body_bytes};
}

#define COUNT(out, ...)                                                                                                \
	do {                                                                                                           \
		struct net_exchange items_[] = {__VA_ARGS__};                                                          \
		struct net_exchange_list list_ = {.items = {items_, ARRAY_LEN(items_), ARRAY_LEN(items_)}};            \
		repeats_count(&list_, (out));                                                                          \
	} while (0)

static void each_byte_once_is_no_repeat(void **state)
{
	struct repeats r;

	COUNT(&r, get("/v2/a/blobs/x", "bytes=100-199", 206, 100), get("/v2/a/blobs/x", "bytes=0-99", 206, 100),
	      get("/v2/a/blobs/y", "bytes=0-99", 206, 100), get("/v2/a/blobs/z", "", 200, 50));
	assert_int_equal(r.asked_bytes, 350);
	assert_int_equal(r.distinct_bytes, 350);
}

static void overlaps_are_counted_once(void **state)
{
	struct repeats r;

	COUNT(&r, get("/v2/a/blobs/x", "bytes=0-99", 206, 100), get("/v2/a/blobs/x", "bytes=50-149", 206, 100),
	      get("/v2/a/blobs/x", "bytes=60-69", 206, 10), get("/v2/a/blobs/x", "bytes=140-", 206, 60));
	assert_int_equal(r.asked_bytes, 270);
	assert_int_equal(r.distinct_bytes, 200);
}

static void a_blob_is_the_same_under_another_name(void **state)
{
	struct repeats r;

	COUNT(&r, get("/v2/a/blobs/x", "bytes=0-99", 206, 100), get("/v2/b/c/blobs/x", "bytes=0-99", 206, 100));
	assert_int_equal(r.asked_bytes, 200);
	assert_int_equal(r.distinct_bytes, 100);
}

static void many_ranges_and_suffixes(void **state)
{
	struct repeats r;

	COUNT(&r, get("/v2/a/blobs/x", "bytes=0-9, 20-29", 206, 400), get("/v2/a/blobs/x", "bytes=-50", 206, 50),
	      get("/v2/a/blobs/x", "bytes=-80", 206, 80));
	assert_int_equal(r.asked_bytes, 150);
	assert_int_equal(r.distinct_bytes, 100);
}

/* A registry may answer a range with all of it. */
static void a_range_that_is_not_kept_is_all(void **state)
{
	struct repeats r;

	COUNT(&r, get("/v2/a/blobs/x", "bytes=0-9", 200, 400), get("/v2/a/blobs/x", "bytes=100-199", 206, 100));
	assert_int_equal(r.asked_bytes, 500);
	assert_int_equal(r.distinct_bytes, 400);
}

static void only_blobs_that_came_count(void **state)
{
	struct net_exchange head = {.method = "HEAD", .target = "/v2/a/blobs/x", .range = "", .status = 200};
	struct repeats r;

	COUNT(&r, get("/v2/a/manifests/latest", "", 200, 1000), get("/v2/a/blobs/x", "", 307, 10),
	      get("/v2/a/blobs/x", "bytes=9-5", 206, 10), get("/v2/a/blobs/x", "bytes=18446744073709551615-", 206, 10),
	      head);
	assert_int_equal(r.asked_bytes, 0);
	assert_int_equal(r.distinct_bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_byte_once_is_no_repeat),           cmocka_unit_test(overlaps_are_counted_once),
	    cmocka_unit_test(a_blob_is_the_same_under_another_name), cmocka_unit_test(many_ranges_and_suffixes),
	    cmocka_unit_test(a_range_that_is_not_kept_is_all),       cmocka_unit_test(only_blobs_that_came_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
