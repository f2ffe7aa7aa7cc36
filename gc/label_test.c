#include "gc/label.h"

#include "base/cleanup.h"
#include "base/testing.h"

static struct gc_label parse(enum gc_kind on, const char *key, const char *value)
{
	return gc_label_parse(on, str_of(key), str_of(value));
}

static void names(enum gc_kind on, enum gc_label_type type, const char *key, enum gc_kind kind, const char *space)
{
	struct gc_label l = parse(on, key, "value");

	assert_int_equal(l.type, type);
	assert_int_equal(l.id.kind, kind);
	assert_true(str_eqc(l.id.space, space));
	assert_true(str_eqc(l.id.key, "value"));
	assert_int_equal(l.id.ns.n, 0);
}

static void says_nothing(enum gc_kind on, const char *key, const char *value)
{
	if (parse(on, key, value).type != GC_LABEL_NONE)
		fail_msg("%s=%s on %s", key, value, gc_kind_name(on));
}

static void references(void **state)
{
	static const enum gc_kind on[] = {GC_CONTENT, GC_SNAPSHOT, GC_IMAGE, GC_CONTAINER, GC_SANDBOX};

	for (size_t i = 0; i < ARRAY_LEN(on); i++) {
		names(on[i], GC_LABEL_REF, "containerd.io/gc.ref.content", GC_CONTENT, "");
		names(on[i], GC_LABEL_REF, "containerd.io/gc.ref.content.l.12", GC_CONTENT, "");
		names(on[i], GC_LABEL_REF, "containerd.io/gc.ref.content/x", GC_CONTENT, "");
		names(on[i], GC_LABEL_REF, "containerd.io/gc.ref.image", GC_IMAGE, "");
		names(on[i], GC_LABEL_REF, "containerd.io/gc.ref.image.base", GC_IMAGE, "");
		names(on[i], GC_LABEL_REF, "containerd.io/gc.ref.snapshot.overlayfs", GC_SNAPSHOT, "overlayfs");
		names(on[i], GC_LABEL_REF, "containerd.io/gc.ref.snapshot.overlayfs/a/b", GC_SNAPSHOT, "overlayfs");
		names(on[i], GC_LABEL_REF, "containerd.io/gc.ref.snapshot.my.own/x", GC_SNAPSHOT, "my.own");
		names(on[i], GC_LABEL_REF, "containerd.io/gc.ref.stream.1", GC_STREAM, "");
		names(on[i], GC_LABEL_REF, "containerd.io/gc.ref.mount", GC_MOUNT, "");
	}
	says_nothing(GC_LEASE, "containerd.io/gc.ref.content", "value");
	says_nothing(GC_INGEST, "containerd.io/gc.ref.content", "value");
	says_nothing(GC_INDEX, "containerd.io/gc.ref.content", "value");
}

static void back_references(void **state)
{
	names(GC_CONTENT, GC_LABEL_BREF, "containerd.io/gc.bref.container", GC_CONTAINER, "");
	names(GC_SNAPSHOT, GC_LABEL_BREF, "containerd.io/gc.bref.content.x", GC_CONTENT, "");
	names(GC_IMAGE, GC_LABEL_BREF, "containerd.io/gc.bref.image/x", GC_IMAGE, "");
	names(GC_IMAGE, GC_LABEL_BREF, "containerd.io/gc.bref.snapshot.stargz/x", GC_SNAPSHOT, "stargz");
	says_nothing(GC_CONTAINER, "containerd.io/gc.bref.content", "value");
	says_nothing(GC_LEASE, "containerd.io/gc.bref.content", "value");
	says_nothing(GC_CONTENT, "containerd.io/gc.bref.stream", "value");
}

static void look_alikes(void **state)
{
	static const char *const keys[] = {
	    "containerd.io/gc.ref.contents",
	    "containerd.io/gc.ref.content-x",
	    "containerd.io/gc.ref.snapshot",
	    "containerd.io/gc.ref.snapshot.",
	    "containerd.io/gc.ref.snapshot./x",
	    "containerd.io/gc.ref.snapshots.overlayfs",
	    "containerd.io/gc.ref.snapshot/overlayfs",
	    "containerd.io/gc.ref.imagery",
	    "containerd.io/gc.ref.container",
	    "containerd.io/gc.ref.",
	    "containerd.io/gc.ref",
	    "containerd.io/gc.ref.bref.content",
	    "containerd.io/gc.bref.ref.content",
	    "containerd.io/gc.roots",
	    "containerd.io/gc.root.x",
	    "containerd.io/gc.",
	    "containerd.io/gc",
	    "io.containerd/gc.root",
	    "xcontainerd.io/gc.root",
	    "",
	};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		says_nothing(GC_CONTENT, keys[i], "value");
	says_nothing(GC_CONTENT, "containerd.io/gc.root", "");
	says_nothing(GC_CONTENT, "containerd.io/gc.ref.content", "");
}

static void roots_and_flags(void **state)
{
	assert_int_equal(parse(GC_CONTENT, "containerd.io/gc.root", "false").type, GC_LABEL_ROOT);
	assert_int_equal(parse(GC_SNAPSHOT, "containerd.io/gc.root", "x").type, GC_LABEL_ROOT);
	says_nothing(GC_IMAGE, "containerd.io/gc.root", "x");
	assert_int_equal(parse(GC_LEASE, "containerd.io/gc.flat", "x").type, GC_LABEL_IS_FLAT);
	says_nothing(GC_IMAGE, "containerd.io/gc.flat", "x");
}

static void expiry(void **state)
{
	struct gc_label l = parse(GC_LEASE, "containerd.io/gc.expire", "2026-01-02T03:04:05.5+01:00");

	assert_int_equal(l.type, GC_LABEL_EXPIRE);
	assert_int_equal(l.at.tv_sec, 1767319445);
	assert_int_equal(l.at.tv_nsec, 500000000);
	assert_int_equal(parse(GC_IMAGE, "containerd.io/gc.expire", "2026-01-02T03:04:05Z").type, GC_LABEL_EXPIRE);
	says_nothing(GC_CONTENT, "containerd.io/gc.expire", "2026-01-02T03:04:05Z");
	says_nothing(GC_LEASE, "containerd.io/gc.expire", "tomorrow");
	says_nothing(GC_LEASE, "containerd.io/gc.expire", "2026-01-02");
}

static void resources(void **state)
{
	const char *digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	struct gc_id id;

	OK(gc_id_of_resource(STR("ns"), STR("content"), str_of(digest), &id, err));
	assert_int_equal(id.kind, GC_CONTENT);
	assert_true(str_eqc(id.ns, "ns"));
	OK(gc_id_of_resource(STR("ns"), STR("ingests"), STR("ref"), &id, err));
	assert_int_equal(id.kind, GC_INGEST);
	OK(gc_id_of_resource(STR("ns"), STR("images"), STR("docker.io/x:1"), &id, err));
	assert_int_equal(id.kind, GC_IMAGE);
	OK(gc_id_of_resource(STR("ns"), STR("snapshots/overlayfs"), STR("a/b"), &id, err));
	assert_int_equal(id.kind, GC_SNAPSHOT);
	assert_true(str_eqc(id.space, "overlayfs"));
	assert_true(str_eqc(id.key, "a/b"));
	FAILS(gc_id_of_resource(STR("ns"), STR("content"), STR("no digest"), &id, err), ERR_INVALID);
	FAILS(gc_id_of_resource(STR("ns"), STR("snapshots"), STR("x"), &id, err), ERR_INVALID);
	FAILS(gc_id_of_resource(STR("ns"), STR("snapshots/"), STR("x"), &id, err), ERR_INVALID);
	FAILS(gc_id_of_resource(STR("ns"), STR("snapshots/a/b"), STR("x"), &id, err), ERR_INVALID);
	FAILS(gc_id_of_resource(STR("ns"), STR("containers"), STR("x"), &id, err), ERR_UNIMPLEMENTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(references),      cmocka_unit_test(back_references), cmocka_unit_test(look_alikes),
	    cmocka_unit_test(roots_and_flags), cmocka_unit_test(expiry),          cmocka_unit_test(resources),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
