/*
 * The graph over real records. The lists of cases are those of containerd's metadata tests (TestGCRoots, TestGCRefs,
 * TestGCRemove, TestMetadataCollector, TestCollectibleResources): docs/conformance.md has them case by case.
 */
#include "contentd/collect/testing.h"

#include "base/testing.h"

struct record {
	const char *id, *facts;
};

#define PUT_ALL(s, list)                                                                                               \
	for (size_t put_i_ = 0; put_i_ < ARRAY_LEN(list); put_i_++)                                                    \
	text_put((s), (list)[put_i_].id, (list)[put_i_].facts)

#define STORE(s)                                                                                                       \
	AUTO(text_store) struct text_store s;                                                                          \
	text_store_init(&(s))

static void assert_left(struct text_store *s, const char *want)
{
	AUTO_FREE char *left = text_left(s);

	assert_string_equal(left, want);
}

static void assert_collects(struct text_store *s, const char *want)
{
	text_collect(s);
	assert_left(s, want);
}

/* ---- TestGCRoots: each of these keeps itself, and nothing else does ---- */

static void roots(void **state)
{
	static const struct record r[] = {
	    {"image/n1//i1", "target=#1"},
	    {"image/n1//i2", "target=#2 +expire=" TEXT_BEFORE},
	    {"image/n1//i3", "target=#3 +expire=" TEXT_AFTER},
	    {"image/n1//i4", "target=#4 +expire=" TEXT_BEFORE},
	    {"image/n1//i5", "target=#5 +expire=some-time"},
	    {"lease/n1//l1", ">images:i4"},
	    {"lease/n1//l2", ">content:#6 +expire=" TEXT_BEFORE},
	    {"lease/n1//l3", ">content:#7 +expire=" TEXT_AFTER},
	    {"lease/n1//l4", ">ingests:leased >snapshots/overlayfs:s1"},
	    {"content/n1//#1", ""},
	    {"content/n1//#2", ""},
	    {"content/n1//#3", ""},
	    {"content/n1//#4", ""},
	    {"content/n1//#5", ""},
	    {"content/n1//#6", ""},
	    {"content/n1//#7", ""},
	    {"content/n1//#8", "+root=any"},
	    {"content/n1//#9", ""},
	    {"content/n2//#1", ""}, /* references do not leave their namespace */
	    {"content/n2//#8", ""},
	    {"container/n1//c1", "snapshot=overlayfs/s2"},
	    {"container/n1//c2", "+ref.content=#a"},
	    {"content/n1//#a", ""},
	    {"sandbox/n1//x1", "+ref.content=#b"},
	    {"content/n1//#b", ""},
	    {"snapshot/n1/overlayfs/s1", ""},
	    {"snapshot/n1/overlayfs/s2", "active"},
	    {"snapshot/n1/overlayfs/s3", "+root=1"},
	    {"snapshot/n1/overlayfs/s4", ""},
	    {"snapshot/n1/other/s2", ""},
	    {"ingest/n1//none", ""},
	    {"ingest/n1//past", "expires=" TEXT_BEFORE},
	    {"ingest/n1//future", "expires=" TEXT_AFTER},
	    {"ingest/n1//leased", ""},
	    {"ingest/n2//leased", ""},
	    {"ingest/n2//written", "in-use"},
	};
	STORE(s);

	PUT_ALL(&s, r);
	assert_collects(&s, "container/n1//c1 container/n1//c2 "
	                    "content/n1//#1 content/n1//#3 content/n1//#4 content/n1//#5 content/n1//#7 content/n1//#8 "
	                    "content/n1//#a content/n1//#b "
	                    "image/n1//i1 image/n1//i3 image/n1//i4 image/n1//i5 "
	                    "ingest/n1//future ingest/n1//leased ingest/n2//written "
	                    "lease/n1//l1 lease/n1//l3 lease/n1//l4 sandbox/n1//x1 "
	                    "snapshot/n1/overlayfs/s1 snapshot/n1/overlayfs/s2 snapshot/n1/overlayfs/s3");
}

/* At the very moment nothing has expired; a nanosecond later it has. */
static void expiry_is_strict(void **state)
{
	STORE(s);

	text_put(&s, "lease/n1//l1", ">content:#1 +expire=2026-01-02T03:04:05Z");
	text_put(&s, "content/n1//#1", "");
	assert_collects(&s, "content/n1//#1 lease/n1//l1");
	assert_int_equal(gc_stats(s.gc)->next_expiry.tv_sec, TEXT_NOW.tv_sec);
	s.now.tv_nsec = 1;
	assert_collects(&s, "");
}

/* ---- the files ---- */

/* Blobs follow the records of all namespaces, indexes and mounted images their snapshots; deleting comes after. */
static void files_follow_records(void **state)
{
	static const struct record r[] = {
	    {"lease/n1//l1", ">content:#1 >snapshots/overlayfs:b"},
	    {"lease/n2//l1", ">content:#2"},
	    {"content/n1//#1", ""},
	    {"content/n1//#2", ""},
	    {"content/n2//#2", ""},
	    {"content/n1//#3", ""},
	    {"blob///#1", ""},
	    {"blob///#2", ""},
	    {"blob///#3", ""},
	    {"blob///#4", ""},
	    {"snapshot/n1/overlayfs/a", "index=@1"},
	    {"snapshot/n1/overlayfs/b", "index=@2 parent=a"},
	    {"snapshot/n1/overlayfs/c", "index=@3 parent=b"},
	    {"snapshot/n1/overlayfs/d", "active parent=c"},
	    {"index///@1", ""},
	    {"index///@2", ""},
	    {"index///@3", ""},
	    {"index///@4", "pinned"},
	};
	STORE(s);

	PUT_ALL(&s, r);
	assert_collects(&s, "blob///#1 blob///#2 content/n1//#1 content/n2//#2 index///@1 index///@2 index///@4 "
	                    "lease/n1//l1 lease/n2//l1 snapshot/n1/overlayfs/a snapshot/n1/overlayfs/b");
	assert_int_equal(gc_stats(s.gc)->kept, 1);
	text_remove(&s, "lease/n1//l1");
	text_remove(&s, "lease/n2//l1");
	assert_collects(&s, "index///@4");
}

/* A containerd in front says what its snapshots are needed for; ours go when nothing needs them. */
static void a_proxied_space(void **state)
{
	static const struct record r[] = {
	    {"index///@1", ""},
	    {"index///@2", ""},
	    {"snapshot//contentd/s1", "index=@1"},
	    {"snapshot/n1/contentd/s2", "index=@2"},
	};
	STORE(s);

	PUT_ALL(&s, r);
	assert_collects(&s, "index///@1 snapshot//contentd/s1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(roots),
	    cmocka_unit_test(expiry_is_strict),
	    cmocka_unit_test(files_follow_records),
	    cmocka_unit_test(a_proxied_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
