/*
 * The graph over real records. The lists of cases are those of containerd's metadata tests (TestGCRoots, TestGCRefs,
 * TestGCRemove, TestMetadataCollector, TestCollectibleResources): docs/conformance.md has them case by case.
 */
#include "contentd/collect/testing.h"

#include "base/testing.h"
#include "snapshotter/snapshotter.h"

#include <stdio.h>

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

/* The metadata image of a chain of index keys, "12" for @1 and @2. */
static const char *meta_id(const char *keys, char id[static 80])
{
	struct digest list[4], name;
	char hex[65];
	unsigned n = 0;

	for (; keys[n]; n++)
		memset(&list[n], (keys[n] & 15) * 0x11, sizeof(list[n]));
	snap_meta_key(list, n, &name);
	snprintf(id, 80, "metadata///%s", digest_hex(&name, hex));
	return id;
}

/* A layer has got another index since a container was prepared on it: what that is mounted with stays as long as it. */
static void what_is_mounted_stays(void **state)
{
	static const struct record r[] = {
	    {"snapshot/n1/overlayfs/a", "index=@1"},
	    {"snapshot/n1/overlayfs/b", "index=@3 parent=a"},
	    {"snapshot/n1/overlayfs/c", "active parent=b lower=@1@2"},
	    {"snapshot/n1/overlayfs/d", "active parent=b"}, /* made before that was noted */
	    {"container/n1//c", "snapshot=overlayfs/c"},
	    {"container/n1//d", "snapshot=overlayfs/d"},
	    {"index///@1", ""},
	    {"index///@2", ""},
	    {"index///@3", ""},
	};
	char old[80], new[80];
	AUTO_FREE char *all = NULL;
	AUTO_FREE char *rest = NULL;
	STORE(s);

	PUT_ALL(&s, r);
	text_put(&s, meta_id("12", old), "");
	text_put(&s, meta_id("13", new), "");
	all = text_left(&s);
	assert_collects(&s, all);
	text_remove(&s, "container/n1//d");
	rest = xasprintf("container/n1//c index///@1 index///@2 index///@3 metadata///@%c snapshot/n1/overlayfs/a "
	                 "snapshot/n1/overlayfs/b snapshot/n1/overlayfs/c",
	                 old[strlen("metadata///")]);
	assert_collects(&s, rest);
	text_remove(&s, "container/n1//c");
	assert_collects(&s, "");
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

/* ---- TestGCRefs: what each kind of node leads to, from a lease that lists it ---- */

/* One lease over a store in which nothing else is a root: what is left besides it. */
static void assert_keeps(const char *lease, const char *want)
{
	static const struct record r[] = {
	    {"content/n1//#1", ""},
	    {"content/n1//#2", "+ref.content=#1"},
	    {"content/n1//#3", "+ref.content.0=#1 +ref.content/second=#2"},
	    {"content/n1//#4", "+ref.contents=#1 +ref.contentx.0=#1 +ref.content-1=#1 +refcontent=#1"},
	    {"content/n1//#5", "+ref.snapshot.overlayfs=s2"},
	    {"content/n1//#6", "+ref.snapshot.overlayfs/any=s1 +ref.snapshot.other=s1"},
	    {"content/n1//#7", "+ref.image=i1"},
	    {"content/n1//#8", "+bref.image=i2"},
	    {"content/n1//#9", "+bref.content.x=#8"},
	    {"content/n1//#a", "+bref.snapshot.overlayfs=s1"},
	    {"image/n1//i1", "target=#2 +expire=" TEXT_BEFORE},
	    {"image/n1//i2", "target=#1 +ref.content=#3 +expire=" TEXT_BEFORE},
	    {"image/n1//i3", "target=#1 +bref.image/x=i2 +expire=" TEXT_BEFORE},
	    {"snapshot/n1/overlayfs/s1", ""},
	    {"snapshot/n1/overlayfs/s2", "parent=s1 +ref.content.y=#1"},
	    {"snapshot/n1/overlayfs/s3", "parent=s2"},
	    {"snapshot/n1/other/s1", ""},
	    {"ingest/n1//g1", ">#1"},
	};
	AUTO_FREE char *left = NULL;
	STORE(s);

	PUT_ALL(&s, r);
	text_put(&s, "lease/n1//l", lease);
	text_collect(&s);
	text_remove(&s, "lease/n1//l");
	left = text_left(&s);
	assert_string_equal(left, want);
}

static void references(void **state)
{
	assert_keeps(">content:#1", "content/n1//#1");
	assert_keeps(">content:#2", "content/n1//#1 content/n1//#2");
	assert_keeps(">content:#3", "content/n1//#1 content/n1//#2 content/n1//#3");
	assert_keeps(">content:#4", "content/n1//#4");
	assert_keeps(">content:#5", "content/n1//#1 content/n1//#5 content/n1//#a snapshot/n1/overlayfs/s1 "
	                            "snapshot/n1/overlayfs/s2");
	assert_keeps(">content:#6", "content/n1//#6 content/n1//#a snapshot/n1/other/s1 snapshot/n1/overlayfs/s1");
	assert_keeps(">content:#7", "content/n1//#1 content/n1//#2 content/n1//#7 image/n1//i1");
	assert_keeps(">images:i2", "content/n1//#1 content/n1//#2 content/n1//#3 content/n1//#8 content/n1//#9 "
	                           "image/n1//i2 image/n1//i3");
	assert_keeps(">snapshots/overlayfs:s3",
	             "content/n1//#1 content/n1//#a snapshot/n1/overlayfs/s1 snapshot/n1/overlayfs/s2 "
	             "snapshot/n1/overlayfs/s3");
	assert_keeps(">ingests:g1", "content/n1//#1 ingest/n1//g1");
}

/* A flat lease keeps what it lists, and what that consists of, not what labels name. */
static void flat_references(void **state)
{
	assert_keeps("+flat=1 >content:#2", "content/n1//#2");
	assert_keeps("+flat=1 >content:#5", "content/n1//#5");
	assert_keeps("+flat=1 >images:i2", "content/n1//#1 image/n1//i2");
	assert_keeps("+flat=1 >snapshots/overlayfs:s3",
	             "snapshot/n1/overlayfs/s1 snapshot/n1/overlayfs/s2 snapshot/n1/overlayfs/s3");
	assert_keeps("+flat=1 >ingests:g1", "content/n1//#1 ingest/n1//g1");
}

/* ---- TestGCRemove: what is taken away, in any combination, takes nothing else along ---- */

static void remove_sets(void **state)
{
	static const struct record r[] = {
	    {"container/n1//c1", ""},
	    {"content/n1//#1", "+root=1"},
	    {"content/n1//#2", "+root=1"},
	    {"content/n2//#1", "+root=1"},
	    {"image/n1//i1", "target=#9"},
	    {"image/n1//i2", "target=#9"},
	    {"ingest/n1//g1", "expires=" TEXT_AFTER},
	    {"ingest/n1//g2", "expires=" TEXT_AFTER},
	    {"lease/n1//l1", ">content:#1"},
	    {"lease/n1//l2", ">ingests:g1 >snapshots/overlayfs:s1"},
	    {"snapshot/n1/other/s1", "+root=1"},
	    {"snapshot/n1/overlayfs/s1", "+root=1"},
	    {"snapshot/n1/overlayfs/s2", "+root=1"},
	};

	for (unsigned set = 0; set < 1u << ARRAY_LEN(r); set += 37) {
		AUTO(buf) struct buf want = BUF_INIT;
		STORE(s);

		PUT_ALL(&s, r);
		cd_graph_gc(s.graph)->hold(cd_graph_gc(s.graph)->arg);
		for (size_t i = 0; i < ARRAY_LEN(r); i++)
			if (set >> i & 1 && i)
				text_graph_remove(&s, r[i].id);
			else
				buf_addf(&want, "%s%s", want.n ? " " : "", r[i].id);
		OK(cd_graph_gc(s.graph)->release(cd_graph_gc(s.graph)->arg, err));
		OK(cd_graph_finish(s.graph, err));
		assert_left(&s, buf_cstr(&want));
	}
}

/* ---- TestMetadataCollector: one store with everything ---- */

static void mixed(void **state)
{
	static const struct record r[] = {
	    {"content/n1//#1", "+root=1"},
	    {"content/n1//#2", ""},
	    {"content/n1//#3", "+ref.content.1=#4"},
	    {"content/n1//#4", ""},
	    {"content/n1//#5", "+ref.content.1=#6"},
	    {"content/n1//#6", ""},
	    {"content/n1//#7", ""},
	    {"blob///#1", ""},
	    {"blob///#2", ""},
	    {"blob///#3", ""},
	    {"blob///#4", ""},
	    {"blob///#5", ""},
	    {"blob///#6", ""},
	    {"blob///#7", ""},
	    {"blob///#8", ""},
	    {"snapshot/n1/overlayfs/1", ""},
	    {"snapshot/n1/overlayfs/2", "parent=1"},
	    {"snapshot/n1/overlayfs/3", "parent=2 active"},
	    {"snapshot/n1/overlayfs/4", "parent=2"},
	    {"snapshot/n1/overlayfs/5", ""},
	    {"snapshot/n1/overlayfs/6", "+root=always"},
	    {"container/n1//c1", "snapshot=overlayfs/3"},
	    {"image/n1//i1", "target=#7"},
	    {"lease/n1//l1", ">content:#3"},
	    {"lease/n1//l2", ">content:#5 +flat=1"},
	};
	STORE(s);

	PUT_ALL(&s, r);
	assert_collects(&s, "blob///#1 blob///#3 blob///#4 blob///#5 blob///#7 container/n1//c1 "
	                    "content/n1//#1 content/n1//#3 content/n1//#4 content/n1//#5 content/n1//#7 image/n1//i1 "
	                    "lease/n1//l1 lease/n1//l2 snapshot/n1/overlayfs/1 snapshot/n1/overlayfs/2 "
	                    "snapshot/n1/overlayfs/3 snapshot/n1/overlayfs/6");
	/* Directories and files go after the records, and each of them. */
	assert_non_null(strstr(buf_cstr(&s.dropped), "snapshot/4 "));
	assert_non_null(strstr(buf_cstr(&s.dropped), "blob/#8 "));
}

/* ---- uses ---- */

/* What is used stays, with what it leads to, over any number of cycles; then it goes. */
static void used_things_stay(void **state)
{
	STORE(s);
	AUTO(cd_use) struct cd_use use = {0};

	text_put(&s, "content/n1//#1", "+ref.content=#2");
	text_put(&s, "content/n1//#2", "");
	text_put(&s, "blob///#3", "");
	cd_use_begin(&use, cd_meta_uses(s.meta));
	cd_use_add(&use, &(struct gc_id){GC_CONTENT, STR("n1"), STR_NONE, str_of(text_sha('1'))});
	cd_use_add(&use, &(struct gc_id){.kind = GC_BLOB, .key = str_of(text_sha('3'))});
	assert_collects(&s, "blob///#3 content/n1//#1 content/n1//#2");
	assert_collects(&s, "blob///#3 content/n1//#1 content/n1//#2");
	cd_use_end(&use);
	assert_collects(&s, "");
}

/* A use that is announced between any two steps of a cycle is heard, unless the thing has gone before. */
static void used_at_any_step(void **state)
{
	for (int at = 0; at < 40; at++) {
		STORE(s);
		AUTO(cd_use) struct cd_use use = {0};
		AUTO_FREE char *before = NULL;
		AUTO_FREE char *after = NULL;

		text_put(&s, "content/n1//#1", "");
		text_put(&s, "blob///#1", "");
		cd_uses_begin_cycle(cd_meta_uses(s.meta), &(struct gc_run){.now = s.now});
		for (int step = 0; gc_running(s.gc); step++) {
			if (step == at) {
				cd_use_begin(&use, cd_meta_uses(s.meta));
				cd_use_add(&use,
				           &(struct gc_id){GC_CONTENT, STR("n1"), STR_NONE, str_of(text_sha('1'))});
				before = text_left(&s);
			}
			OK(gc_step(s.gc, 1, err));
		}
		OK(cd_graph_finish(s.graph, err));
		after = text_left(&s);
		if (before && strstr(before, "content"))
			assert_string_equal(after, "blob///#1 content/n1//#1");
	}
}

/* A removal that cannot be written takes nothing away: the files are spared. */
static void a_failed_write(void **state)
{
	struct err err = ERR_INIT;
	STORE(s);

	text_put(&s, "content/n1//#1", "");
	text_put(&s, "blob///#1", "");
	text_put(&s, "blob///#2", ""); /* in one batch with the record */
	kv_mem_fail_after(s.mem, 0, ERR_EXHAUSTED);
	cd_uses_begin_cycle(cd_meta_uses(s.meta), &(struct gc_run){.now = s.now});
	while (gc_running(s.gc))
		if (gc_step(s.gc, 100, &err) < 0)
			break;
	assert_int_equal(err.code, ERR_EXHAUSTED);
	kv_mem_fail_after(s.mem, 0, ERR_OK);
	assert_left(&s, "blob///#1 blob///#2 content/n1//#1");
	assert_collects(&s, "");
}

/* Lists of leases that are gone do not come back with a lease of the same name. */
static void lists_go_with_leases(void **state)
{
	STORE(s);

	text_put(&s, "lease/n1//l", ">content:#1 +expire=" TEXT_BEFORE);
	text_put(&s, "content/n1//#1", "");
	assert_collects(&s, "");
	text_put(&s, "lease/n1//l", "");
	text_put(&s, "content/n1//#1", "");
	assert_collects(&s, "lease/n1//l");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(roots),
	    cmocka_unit_test(expiry_is_strict),
	    cmocka_unit_test(references),
	    cmocka_unit_test(flat_references),
	    cmocka_unit_test(remove_sets),
	    cmocka_unit_test(mixed),
	    cmocka_unit_test(files_follow_records),
	    cmocka_unit_test(what_is_mounted_stays),
	    cmocka_unit_test(used_things_stay),
	    cmocka_unit_test(used_at_any_step),
	    cmocka_unit_test(a_failed_write),
	    cmocka_unit_test(lists_go_with_leases),
	    cmocka_unit_test(a_proxied_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
