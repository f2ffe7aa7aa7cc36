/* Transfers without a registry, over a socket: archives out again, tags, and bytes with credit. Imports: import_test.c. */
#include "base/clock.h"
#include "contentd/transfer/testing.h"
#include "estargz/tar/tar.h"
#include "rpc/proto/images.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* ---- out again ---- */

/* All that comes; credit is given in steps. */
static int run_export(struct world *w, const Xfer__ImageStore *from, Xfer__ImageExportStream *to, struct buf *out)
{
	static unsigned serial;
	const char *id = arena_printf(&w->a, "out-%u", serial++);
	AUTO(rpc_stream) struct rpc_stream *s = transfer_stream(w, id);
	Xfer__WindowUpdate grant = XFER__WINDOW_UPDATE__INIT;
	int64_t granted = 0;
	int r;

	to->stream = id;
	AUTO(rpc_stream) struct rpc_stream *t = transfer_begin(w, &from->base, &to->base);

	for (;;) {
		AUTO(pb) Pb__Any *any = NULL;
		Xfer__Data *data;

		if (granted <= 0) {
			grant.update = 5000;
			granted += grant.update;
			rpc_stream_send(s, &pb_any_new(&w->a, &grant.base)->base, NULL);
		}
		if (rpc_stream_recv(s, INT64_MAX, &any, NULL) != RPC_MESSAGE)
			break;
		OK(pb_any_unpack_in(&w->a, any, &xfer__data__descriptor, &data, &w->err));
		assert_true((int64_t)data->data.len <= granted);
		granted -= (int64_t)data->data.len;
		buf_add(out, data->data.data, data->data.len);
	}
	AUTO(pb) Pb__Empty *done = NULL;

	w->err = ERR_INIT;
	r = rpc_stream_recv(t, INT64_MAX, &done, &w->err);
	return r < 0 ? r : 0;
}

/* Names of the entries. */
static int note_entry(void *arg, const struct esgz_tar_entry *e, struct err *err)
{
	struct buf *names = arg;

	buf_addf(names, STR_FMT "\n", STR_ARG(e->e.path));
	return 0;
}

static int skip_bytes(void *arg, struct str bytes, struct err *err)
{
	return 0;
}

static int skip_end(void *arg, struct err *err)
{
	return 0;
}

static const char *entries(struct world *w, const struct buf *tar)
{
	AUTO(buf) struct buf names = BUF_INIT;
	const struct esgz_tar_sink sink = {.entry = note_entry, .data = skip_bytes, .end = skip_end, .arg = &names};
	AUTO(esgz_tar) struct esgz_tar *t = esgz_tar_new(&sink);

	OK(esgz_tar_feed(t, buf_str(tar), &w->err));
	OK(esgz_tar_finish(t, &w->err));
	return arena_strdup(&w->a, buf_cstr(&names));
}

static void export_and_import(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT, out = BUF_INIT, again = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape_plain(w, "layer one");
	Xfer__ImageStore from = XFER__IMAGE_STORE__INIT;
	Xfer__ImageExportStream to = XFER__IMAGE_EXPORT_STREAM__INIT;
	Images__DeleteImageRequest del = IMAGES__DELETE_IMAGE_REQUEST__INIT;
	const char *list;

	archive_simple(w, &tar, TAG(w, "t"));
	OK(import_archive(w, &tar, store_with_prefix(w, "x.y/z", false)));
	from.name = "x.y/z:t";
	OK(run_export(w, &from, &to, &out));
	list = entries(w, &out);
	assert_non_null(strstr(list, s.layer.hex));
	assert_non_null(strstr(list, s.config.hex));
	assert_non_null(strstr(list, s.manifest.hex));
	assert_non_null(strstr(list, "index.json\nmanifest.json\noci-layout\n"));
	/* The same twice gives the same bytes. */
	OK(run_export(w, &from, &to, &again));
	assert_int_equal(out.n, again.n);
	assert_memory_equal(out.p, again.p, out.n);
	del.name = "x.y/z:t";
	OK(world_call(w, &images__images__descriptor, "Delete", &del, NULL));
	OK(import_archive(w, &out, store_with_prefix(w, "import-2026", true)));
	assert_string_equal(image_names(w), "x.y/z:t");
	assert_string_equal(image_target(w, "x.y/z:t")->digest, s.manifest.digest);
	/* Without docker's part. */
	to.skip_compatibility_manifest = true;
	buf_clear(&again);
	OK(run_export(w, &from, &to, &again));
	assert_null(strstr(entries(w, &again), "manifest.json"));
}

/* Takes them as containerd's clients do: each frame is written once the next one is taken. Returns what was written for certain
 * when the call ended. */
static void export_as_containerd(struct world *w, const char *image, const char *id, struct buf *out)
{
	AUTO(rpc_stream) struct rpc_stream *s = transfer_stream(w, id);
	Xfer__WindowUpdate grant = XFER__WINDOW_UPDATE__INIT;
	Xfer__ImageExportStream to = XFER__IMAGE_EXPORT_STREAM__INIT;
	Xfer__ImageStore from = XFER__IMAGE_STORE__INIT;
	size_t written = 0, last = 0;
	int64_t left = 0;

	from.name = image;
	to.stream = id;
	grant.update = 64 << 10;
	AUTO(rpc_stream) struct rpc_stream *t = transfer_begin(w, &from.base, &to.base);

	for (;;) {
		AUTO(pb) Pb__Any *any = NULL;
		AUTO(pb) Pb__Empty *done = NULL;
		Xfer__Data *data;

		if (left < grant.update) {
			written = out->n - last;
			FAILS(rpc_stream_recv(t, clock_mono_ns() + 20 * NS_PER_MS, &done, &w->err), ERR_DEADLINE);
			left += grant.update;
			OK(rpc_stream_send(s, &pb_any_new(&w->a, &grant.base)->base, &w->err));
		}
		if (rpc_stream_recv(s, INT64_MAX, &any, NULL) != RPC_MESSAGE)
			break;
		OK(pb_any_unpack_in(&w->a, any, &xfer__data__descriptor, &data, &w->err));
		last = data->data.len;
		left -= (int64_t)last;
		assert_true(left >= 0);
		buf_add(out, data->data.data, last);
	}
	out->n = written;
	AUTO(pb) Pb__Empty *done = NULL;

	assert_int_equal(rpc_stream_recv(t, INT64_MAX, &done, &w->err), RPC_MESSAGE);
}

/* Such a client ends with the call. */
static void an_export_is_written(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < 4; i++) {
		AUTO(buf) struct buf tar = BUF_INIT, text = BUF_INIT, out = BUF_INIT;
		const char *name = arena_printf(&w->a, "i-%u", i), *list;
		struct shape s;

		for (uint32_t k = 0; k < 13000 * i; k++)
			buf_addf(&text, "%x", k * 2654435761u);
		s = shape_plain(w, buf_cstr(&text));
		archive_add_shape(w, &tar, &s);
		archive_finish_layout(&tar, index_of(w, descriptor_of(w, OCI_MANIFEST, s.manifest, TAG(w, name))));
		OK(import_archive(w, &tar, store_with_prefix(w, "x.y/z", false)));
		export_as_containerd(w, arena_printf(&w->a, "x.y/z:%s", name), name, &out);
		list = entries(w, &out);
		assert_non_null(strstr(list, "index.json\nmanifest.json\noci-layout\n"));
		for (size_t k = out.n - 1024; k < out.n; k++)
			assert_int_equal(out.p[k], 0);
	}
}

static void exports_of_platforms(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT, out = BUF_INIT;
	struct world *w = *state;
	struct shape here = shape_of(w, "for amd64", OCI_LAYER, "amd64"),
		     there =
			 shape_of(w, "for arm64", "application/vnd.oci.image.layer.nondistributable.v1.tar", "arm64");
	Xfer__ImageStore from = XFER__IMAGE_STORE__INIT, *store = store_with_prefix(w, "x.y/z", false);
	Xfer__ImageExportStream to = XFER__IMAGE_EXPORT_STREAM__INIT;
	Types__Platform arm64 = TYPES__PLATFORM__INIT, *platforms[] = {&arm64};
	const char *list;

	arm64.os = "linux";
	arm64.architecture = "arm64";
	archive_add_shape(w, &tar, &here);
	archive_add_shape(w, &tar, &there);
	archive_finish_layout(
	    &tar,
	    index_of(w, arena_printf(&w->a, "%s,%s",
	                             descriptor_of(w, OCI_MANIFEST, here.manifest,
	                                           ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}"),
	                             descriptor_of(w, OCI_MANIFEST, there.manifest,
	                                           ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}"))));
	store->name = "x.y/index:1";
	OK(import_archive(w, &tar, store));
	from.name = "x.y/index:1";
	to.all_platforms = true;
	OK(run_export(w, &from, &to, &out));
	list = entries(w, &out);
	assert_non_null(strstr(list, here.layer.hex));
	assert_non_null(strstr(list, there.layer.hex));
	to.skip_non_distributable = true;
	buf_clear(&out);
	OK(run_export(w, &from, &to, &out));
	list = entries(w, &out);
	assert_non_null(strstr(list, here.layer.hex));
	assert_null(strstr(list, there.layer.hex));
	to = (Xfer__ImageExportStream)XFER__IMAGE_EXPORT_STREAM__INIT;
	to.platforms = platforms;
	to.n_platforms = 1;
	buf_clear(&out);
	OK(run_export(w, &from, &to, &out));
	list = entries(w, &out);
	assert_null(strstr(list, here.layer.hex));
	assert_non_null(strstr(list, there.layer.hex));
	arm64.architecture = "riscv64";
	buf_clear(&out);
	FAILS(run_export(w, &from, &to, &out), ERR_NOT_FOUND);
	from.name = "x.y/none:1";
	FAILS(run_export(w, &from, &to, &out), ERR_NOT_FOUND);
}

/* ---- the rest ---- */

static void tags(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	Transfer__TransferRequest req = TRANSFER__TRANSFER_REQUEST__INIT;
	Xfer__ImageStore from = XFER__IMAGE_STORE__INIT, to = XFER__IMAGE_STORE__INIT;
	Xfer__ImageReference more = XFER__IMAGE_REFERENCE__INIT, *references[] = {&more};

	archive_simple(w, &tar, TAG(w, "t"));
	OK(import_archive(w, &tar, store_with_prefix(w, "x.y/z", false)));
	from.name = "x.y/z:t";
	to.name = "a:1";
	more.name = "b";
	more.add_digest = true;
	to.extra_references = references;
	to.n_extra_references = 1;
	req.source = pb_any_new(&w->a, &from.base);
	req.destination = pb_any_new(&w->a, &to.base);
	OK(world_call(w, &transfer__transfer__descriptor, "Transfer", &req, NULL));
	assert_string_equal(image_names(w),
	                    arena_printf(&w->a, "a:1 b@%s x.y/z:t", shape_plain(w, "layer one").manifest.digest));
	from.name = "none";
	req.source = pb_any_new(&w->a, &from.base);
	FAILS(world_call(w, &transfer__transfer__descriptor, "Transfer", &req, NULL), ERR_NOT_FOUND);
	to = (Xfer__ImageStore)XFER__IMAGE_STORE__INIT;
	from.name = "a:1";
	req.source = pb_any_new(&w->a, &from.base);
	req.destination = pb_any_new(&w->a, &to.base);
	FAILS(world_call(w, &transfer__transfer__descriptor, "Transfer", &req, NULL), ERR_INVALID);
}

/* Bytes go in and come out, never more of them at a time than either side has granted. */
static void echo(void **state)
{
	AUTO(buf) struct buf want = BUF_INIT, got = BUF_INIT;
	struct world *w = *state;
	Xfer__ImageImportStream from = XFER__IMAGE_IMPORT_STREAM__INIT;
	Xfer__ImageExportStream to = XFER__IMAGE_EXPORT_STREAM__INIT;
	Xfer__WindowUpdate grant = XFER__WINDOW_UPDATE__INIT;
	AUTO(rpc_stream) struct rpc_stream *in = transfer_stream(w, "in"), *out = transfer_stream(w, "out");
	struct sender o = {.s = in};
	int64_t granted = 0;
	int r = RPC_AGAIN;

	for (uint32_t i = 0; i < 1200000; i++)
		buf_le32(&want, i * 2654435761u);
	o.left = buf_str(&want);
	from.stream = "in";
	to.stream = "out";
	AUTO(rpc_stream) struct rpc_stream *t = transfer_begin(w, &from.base, &to.base);

	/* The transfer's own answer may come before the end of what it has sent. */
	while (r == RPC_AGAIN || r == RPC_MESSAGE || r == -(int)ERR_DEADLINE) {
		AUTO(pb) Pb__Any *any = NULL;
		Xfer__Data *data;

		sender_go_on(w, &o);
		if (granted <= 0) {
			grant.update = 64 << 10;
			granted += grant.update;
			OK(rpc_stream_send(out, &pb_any_new(&w->a, &grant.base)->base, &w->err));
		}
		r = rpc_stream_recv(out, clock_mono_ns() + 20 * NS_PER_MS, &any, NULL);
		if (r != RPC_MESSAGE)
			continue;
		OK(pb_any_unpack_in(&w->a, any, &xfer__data__descriptor, &data, &w->err));
		assert_true(data->data.len <= 32 << 10);
		granted -= (int64_t)data->data.len;
		assert_true(granted >= 0);
		buf_add(&got, data->data.data, data->data.len);
	}
	AUTO(pb) Pb__Empty *done = NULL;

	assert_int_equal(rpc_stream_recv(t, INT64_MAX, &done, &w->err), RPC_MESSAGE);
	assert_true(o.grants > 1);
	assert_int_equal(got.n, want.n);
	assert_memory_equal(got.p, want.p, want.n);
}

/* Who sends more than it was granted is no sender that we know. */
static void more_than_was_granted(void **state)
{
	AUTO(buf) struct buf bytes = BUF_INIT;
	struct world *w = *state;
	Xfer__ImageImportStream from = XFER__IMAGE_IMPORT_STREAM__INIT;
	Xfer__Data m = XFER__DATA__INIT;
	AUTO(rpc_stream) struct rpc_stream *in = transfer_stream(w, "in");
	AUTO(pb) Pb__Empty *done = NULL;

	buf_addz(&bytes, 5 << 18);
	m.data.data = (uint8_t *)bytes.p;
	m.data.len = bytes.n;
	from.stream = "in";
	AUTO(rpc_stream)
	struct rpc_stream *t = transfer_begin(w, &from.base, &store_with_prefix(w, "x.y/z", false)->base);

	OK(rpc_stream_send(in, &pb_any_new(&w->a, &m.base)->base, &w->err));
	OK(rpc_stream_close_send(in, &w->err));
	FAILS(rpc_stream_recv(t, INT64_MAX, &done, &w->err), ERR_INVALID);
	assert_non_null(strstr(w->err.msg, "more than it was granted"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(export_and_import),     TEST(an_export_is_written), TEST(exports_of_platforms), TEST(tags), TEST(echo),
	    TEST(more_than_was_granted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
