#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "snapshotter/record.h"

static void a_record_survives_encoding(void **state)
{
	AUTO(snap_record) struct snap_record in = {.id = 7, .bytes = 1ll << 40, .inodes = 3};
	AUTO(snap_record) struct snap_record out = {0};
	AUTO(buf) struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	in.info.name = xstrdup("extract-1 sha256:ab");
	in.info.parent = xstrdup("sha256:cd");
	in.info.kind = SNAP_COMMITTED;
	in.info.indexed = true;
	digest_of("x", 1, &in.info.index_key);
	in.info.created = (struct timespec){1700000000, 123456789};
	in.info.updated = (struct timespec){1700000001, 0};
	assert_int_equal(labels_set(&in.info.labels, "containerd.io/snapshot.ref", "\"quoted\" \xc3\xa9", &err), 0);
	snap_record_encode(&in, &b);
	assert_int_equal(snap_record_decode(STR("extract-1 sha256:ab"), buf_str(&b), &out, &err), 0);
	assert_string_equal(out.info.name, in.info.name);
	assert_string_equal(out.info.parent, in.info.parent);
	assert_int_equal(out.info.kind, SNAP_COMMITTED);
	assert_true(out.info.indexed);
	assert_true(digest_eq(&out.info.index_key, &in.info.index_key));
	assert_int_equal(out.info.created.tv_sec, 1700000000);
	assert_int_equal(out.info.created.tv_nsec, 123456789);
	assert_int_equal(out.bytes, 1ll << 40);
	assert_int_equal(out.id, 7);
	assert_string_equal(labels_get(&out.info.labels, "containerd.io/snapshot.ref"), "\"quoted\" \xc3\xa9");
}

/* What an active snapshot is mounted with. A record without it is what version 1 is, byte by byte. */
static void the_indexes_below_survive_encoding(void **state)
{
	AUTO(snap_record) struct snap_record in = {.id = 7};
	AUTO(snap_record) struct snap_record out = {0};
	AUTO(snap_record) struct snap_record old = {0};
	AUTO(buf) struct buf b = BUF_INIT;
	AUTO(buf) struct buf without = BUF_INIT;
	struct err err = ERR_INIT;

	in.info.name = xstrdup("c");
	in.info.parent = xstrdup("sha256:cd");
	in.info.kind = SNAP_ACTIVE;
	snap_record_encode(&in, &without);
	assert_non_null(strstr(buf_cstr(&without), "{\"v\":1,"));
	assert_int_equal(snap_record_decode(STR("c"), buf_str(&without), &old, &err), 0);
	assert_int_equal(old.lower.n, 0);
	for (uint8_t i = 0; i < 128; i++)
		digest_of(&i, 1, vec_add(&in.lower));
	snap_record_encode(&in, &b);
	assert_non_null(strstr(buf_cstr(&b), "{\"v\":2,"));
	assert_int_equal(snap_record_decode(STR("c"), buf_str(&b), &out, &err), 0);
	assert_int_equal(out.lower.n, 128);
	assert_memory_equal(out.lower.p, in.lower.p, 128 * sizeof(struct digest));
}

static void damage_is_an_error(void **state)
{
	static const char *const bad[] = {
	    "",
	    "{",
	    "{\"v\":1}",
	    "{\"v\":0,\"kind\":2,\"parent\":\"\"}",
	    "{\"v\":3,\"kind\":2,\"parent\":\"\"}",
	    "{\"v\":2,\"kind\":2,\"parent\":\"\",\"lower\":\"12\"}",
	    "{\"v\":2,\"kind\":2,\"parent\":\"\",\"lower\":[]}",
	    "{\"v\":1,\"kind\":9,\"parent\":\"\"}",
	    "{\"v\":1,\"kind\":2,\"parent\":\"\",\"created\":\"yesterday\"}",
	    "{\"v\":1,\"kind\":3,\"parent\":\"\",\"index\":\"xyz\"}",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct snap_record out = {0};
		struct err err = ERR_INIT;

		assert_true(snap_record_decode(STR("s"), str_of(bad[i]), &out, &err) < 0);
		assert_non_null(strstr(err.msg, "snapshot s"));
	}
}

static void keys_come_apart_as_they_were_put_together(void **state)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf child = BUF_INIT;
	AUTO(buf) struct buf children = BUF_INIT;
	struct snap_space sp = {"default", "overlayfs"};
	struct str ns, snapshotter, name;

	snap_key_record(sp, "a/b c", &key);
	assert_true(snap_key_split(buf_str(&key), &ns, &snapshotter, &name));
	assert_true(str_eqc(ns, "default") && str_eqc(snapshotter, "overlayfs") && str_eqc(name, "a/b c"));
	snap_key_child(sp, "p", "c", &child);
	snap_key_children(sp, "p", &children);
	assert_true(str_starts(buf_str(&child), buf_str(&children)));
	buf_clear(&children);
	/* "p" must not be taken for the parent of a child of "pp". */
	snap_key_children(sp, "pp", &children);
	assert_false(str_starts(buf_str(&child), buf_str(&children)));
	assert_false(snap_key_split(STR("snap/only"), &ns, &snapshotter, &name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_record_survives_encoding),
	    cmocka_unit_test(the_indexes_below_survive_encoding),
	    cmocka_unit_test(damage_is_an_error),
	    cmocka_unit_test(keys_come_apart_as_they_were_put_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
