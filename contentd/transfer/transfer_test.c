/* Transfers without a registry, over a socket: archives of every shape in and out, names, tags, and bytes with credit. */
#include "base/clock.h"
#include "contentd/testing/world.h"
#include "estargz/tar.h"
#include "estargz/tar_write.h"
#include "rpc/proto/content.pb-c.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/leases.pb-c.h"
#include "rpc/proto/streaming.pb-c.h"
#include "rpc/proto/transfer.pb-c.h"
#include "rpc/proto/xfer.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define LAYOUT "{\"imageLayoutVersion\":\"1.0.0\"}"

/* ---- archives ---- */

static void add(struct buf *tar, const char *path, struct str bytes)
{
	struct esgz_entry e = {.type = ESGZ_REG, .mode = 0644, .size = bytes.n, .path = str_of(path)};

	assert_int_equal(tar_write_header(&e, NULL, 0, tar, NULL), 0);
	buf_addstr(tar, bytes);
	tar_write_padding(bytes.n, tar);
}

static void add_link(struct buf *tar, const char *path, const char *target)
{
	struct esgz_entry e = {.type = ESGZ_SYMLINK, .mode = 0777, .path = str_of(path), .link = str_of(target)};

	assert_int_equal(tar_write_header(&e, NULL, 0, tar, NULL), 0);
}

static void add_dir(struct buf *tar, const char *path)
{
	struct esgz_entry e = {.type = ESGZ_DIR, .mode = 0755, .path = str_of(path)};

	assert_int_equal(tar_write_header(&e, NULL, 0, tar, NULL), 0);
}

static void end(struct buf *tar)
{
	buf_addz(tar, 1024);
}

/* What a test calls a blob: its bytes, and how a document refers to it. */
struct blob {
	const char *text, *digest, *hex;
	size_t n;
};

static struct blob blob(struct world *w, const char *text)
{
	struct digest d;
	char t[DIGEST_TEXT_MAX];

	digest_of(text, strlen(text), &d);
	digest_text(&d, t);
	return (struct blob){text, arena_strdup(&w->a, t), arena_strdup(&w->a, t + 7), strlen(text)};
}

static void add_blob(struct world *w, struct buf *tar, struct blob b)
{
	add(tar, arena_printf(&w->a, "blobs/sha256/%s", b.hex), str_make(b.text, b.n));
}

static const char *descriptor(struct world *w, const char *type, struct blob b, const char *more)
{
	return arena_printf(&w->a, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu%s}", type, b.digest, b.n,
	                    more);
}

/* One image, of a layer that is the text. */
struct shape {
	struct blob layer, config, manifest;
};

static struct shape shape_of(struct world *w, const char *text, const char *layer_type, const char *arch)
{
	struct shape s = {.layer = blob(w, text)};

	s.config = blob(w, arena_printf(&w->a,
	                                "{\"architecture\":\"%s\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\","
	                                "\"diff_ids\":[\"%s\"]}}",
	                                arch, s.layer.digest));
	s.manifest =
	    blob(w, arena_printf(
			&w->a, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_MANIFEST "\",\"config\":%s,\"layers\":[%s]}",
			descriptor(w, OCI_CONFIG, s.config, ""), descriptor(w, layer_type, s.layer, "")));
	return s;
}

static struct shape shape(struct world *w, const char *text)
{
	return shape_of(w, text, OCI_LAYER, "amd64");
}

static void add_shape(struct world *w, struct buf *tar, const struct shape *s)
{
	add_blob(w, tar, s->layer);
	add_blob(w, tar, s->config);
	add_blob(w, tar, s->manifest);
}

static const char *named(struct world *w, const char *annotation, const char *name)
{
	return arena_printf(&w->a, ",\"annotations\":{\"%s\":\"%s\"}", annotation, name);
}

#define TAG(w, name) named(w, "org.opencontainers.image.ref.name", name)

static const char *index_of(struct world *w, const char *entries)
{
	return arena_printf(&w->a, "{\"schemaVersion\":2,\"manifests\":[%s]}", entries);
}

static void finish_layout(struct buf *tar, const char *index)
{
	add(tar, "index.json", str_of(index));
	add(tar, "oci-layout", STR(LAYOUT));
	end(tar);
}

/* An OCI archive of one image with the tag. */
static void simple(struct world *w, struct buf *tar, const char *more)
{
	struct shape s = shape(w, "layer one");

	add_shape(w, tar, &s);
	finish_layout(tar, index_of(w, descriptor(w, OCI_MANIFEST, s.manifest, more)));
}

/* ---- transfers ---- */

static struct rpc_stream *open_stream(struct world *w, const char *id)
{
	Streaming__StreamInit init = STREAMING__STREAM_INIT__INIT;
	AUTO(pb) Pb__Any *ack = NULL;
	struct rpc_stream *s = NULL;

	init.id = id;
	OK(rpc_stream_open(w->c, &streaming__streaming__descriptor, "Stream", NULL, &s, &w->err));
	OK(rpc_stream_send(s, &pb_any_new(&w->a, &init.base)->base, &w->err));
	assert_int_equal(rpc_stream_recv(s, INT64_MAX, &ack, &w->err), RPC_MESSAGE);
	return s;
}

static struct rpc_stream *begin(struct world *w, const ProtobufCMessage *from, const ProtobufCMessage *to)
{
	Transfer__TransferRequest req = TRANSFER__TRANSFER_REQUEST__INIT;
	struct rpc_stream *s = NULL;

	req.source = pb_any_new(&w->a, from);
	req.destination = pb_any_new(&w->a, to);
	OK(rpc_stream_open(w->c, &transfer__transfer__descriptor, "Transfer", NULL, &s, &w->err));
	OK(rpc_stream_send(s, &req.base, &w->err));
	OK(rpc_stream_close_send(s, &w->err));
	return s;
}

/* Sends within the credit, in frames; the number of grants that were needed. */
struct sender {
	struct rpc_stream *s;
	struct str left;
	int64_t credit;
	unsigned grants;
	bool closed;
};

static void send_some(struct world *w, struct sender *o)
{
	AUTO(pb) Pb__Any *any = NULL;
	Xfer__WindowUpdate *grant;
	Xfer__Data m = XFER__DATA__INIT;

	while (rpc_stream_try_recv(o->s, &any, NULL) == RPC_MESSAGE) {
		OK(pb_any_unpack_in(&w->a, any, &xfer__window_update__descriptor, &grant, &w->err));
		o->credit += grant->update;
		o->grants++;
		pb_free(STEAL(any));
	}
	while (o->left.n && o->credit > 0) {
		m.data.len = o->left.n < 32768 ? o->left.n : 32768;
		m.data.len = (int64_t)m.data.len < o->credit ? m.data.len : (size_t)o->credit;
		m.data.data = (uint8_t *)o->left.p;
		if (rpc_stream_send(o->s, &pb_any_new(&w->a, &m.base)->base, NULL) < 0)
			return;
		o->left = str_sub(o->left, m.data.len, o->left.n);
		o->credit -= (int64_t)m.data.len;
	}
	if (!o->left.n && !o->closed) {
		o->closed = true;
		rpc_stream_close_send(o->s, NULL);
	}
}

/* The result of a transfer to which the bytes are sent. */
static int run_import(struct world *w, struct str bytes, const Xfer__ImageStore *store, bool compress)
{
	Xfer__ImageImportStream from = XFER__IMAGE_IMPORT_STREAM__INIT;
	static unsigned serial; /* the daemon may still be busy with the end of an earlier one */
	const char *id = arena_printf(&w->a, "in-%u", serial++);
	AUTO(rpc_stream) struct rpc_stream *in = open_stream(w, id);
	struct sender o = {.s = in, .left = bytes};
	int r = RPC_AGAIN;

	from.stream = id;
	from.force_compress = compress;
	AUTO(rpc_stream) struct rpc_stream *t = begin(w, &from.base, &store->base);

	while (r == RPC_AGAIN) {
		AUTO(pb) Pb__Empty *done = NULL;

		send_some(w, &o);
		w->err = ERR_INIT;
		r = rpc_stream_try_recv(t, &done, &w->err);
		if (r == RPC_AGAIN)
			rpc_client_poll(w->c, NULL, 0, clock_mono_ns() + 20 * NS_PER_MS, NULL);
	}
	return r < 0 ? r : 0;
}

/* A store with a prefix for what the archive names. */
static Xfer__ImageStore *prefixed(struct world *w, const char *prefix, bool overwrite)
{
	Xfer__ImageStore *s = pb_new(&w->a, &xfer__image_store__descriptor);
	Xfer__ImageReference *r = pb_new(&w->a, &xfer__image_reference__descriptor);

	r->name = prefix;
	r->is_prefix = true;
	r->allow_overwrite = overwrite;
	s->extra_references = arena_zalloc(&w->a, 1, sizeof(r));
	s->extra_references[0] = r;
	s->n_extra_references = 1;
	return s;
}

static int import(struct world *w, const struct buf *tar, const Xfer__ImageStore *store)
{
	return run_import(w, buf_str(tar), store, false);
}

/* Names of all images, and the type of what they are. */
static const char *images(struct world *w)
{
	Images__ListImagesRequest req = IMAGES__LIST_IMAGES_REQUEST__INIT;
	Images__ListImagesResponse *rsp;
	AUTO(buf) struct buf text = BUF_INIT;

	OK(world_call(w, &images__images__descriptor, "List", &req, &rsp));
	for (size_t i = 0; i < rsp->n_images; i++)
		buf_addf(&text, "%s%s%s", i ? " " : "", rsp->images[i]->name,
		         strstr(rsp->images[i]->target->media_type, "index") ? "(index)" : "");
	return arena_strdup(&w->a, buf_cstr(&text));
}

static Types__Descriptor *target(struct world *w, const char *name)
{
	Images__GetImageRequest req = IMAGES__GET_IMAGE_REQUEST__INIT;
	Images__GetImageResponse *rsp;

	req.name = name;
	OK(world_call(w, &images__images__descriptor, "Get", &req, &rsp));
	return rsp->image->target;
}

static Content__Info *info(struct world *w, const char *digest)
{
	Content__InfoRequest req = CONTENT__INFO_REQUEST__INIT;
	Content__InfoResponse *rsp;

	req.digest = digest;
	if (world_call(w, &content__content__descriptor, "Info", &req, &rsp) < 0)
		return NULL;
	return rsp->info;
}

static const char *label(struct world *w, const char *digest, const char *key)
{
	const Content__Info *i = info(w, digest);

	return i ? pb_kv_get(i->labels, i->n_labels, key) : NULL;
}

static unsigned ingests(struct world *w)
{
	Content__ListStatusesRequest req = CONTENT__LIST_STATUSES_REQUEST__INIT;
	Content__ListStatusesResponse *rsp;

	OK(world_call(w, &content__content__descriptor, "ListStatuses", &req, &rsp));
	return (unsigned)rsp->n_statuses;
}

static unsigned leases(struct world *w)
{
	Leases__ListRequest req = LEASES__LIST_REQUEST__INIT;
	Leases__ListResponse *rsp;

	OK(world_call(w, &leases__leases__descriptor, "List", &req, &rsp));
	return (unsigned)rsp->n_leases;
}

/* ---- OCI layouts ---- */

static void an_oci_archive(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape(w, "layer one");

	simple(w, &tar, TAG(w, "latest"));
	OK(import(w, &tar, prefixed(w, "example.com/app", false)));
	assert_string_equal(images(w), "example.com/app:latest");
	assert_string_equal(target(w, "example.com/app:latest")->digest, s.manifest.digest);
	assert_string_equal(label(w, s.manifest.digest, "containerd.io/gc.ref.content.config"), s.config.digest);
	assert_string_equal(label(w, s.manifest.digest, "containerd.io/gc.ref.content.l.0"), s.layer.digest);
	assert_int_equal(info(w, s.layer.digest)->size, s.layer.n);
	assert_int_equal(ingests(w), 0);
	assert_int_equal(leases(w), 0);
	/* Again, over itself. */
	OK(import(w, &tar, prefixed(w, "example.com/app", false)));
	assert_string_equal(images(w), "example.com/app:latest");
}

static void compressed_archives(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT, packed = BUF_INIT;
	struct world *w = *state;
	uLongf n;
	z_stream z = {0};

	simple(w, &tar, TAG(w, "gzip"));
	n = compressBound((uLong)tar.n) + 64;
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (uint8_t *)tar.p;
	z.avail_in = (unsigned)tar.n;
	z.next_out = (uint8_t *)buf_reserve(&packed, n);
	z.avail_out = (unsigned)n;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	packed.n = z.total_out;
	deflateEnd(&z);
	OK(import(w, &packed, prefixed(w, "a.b/c", false)));
	assert_string_equal(images(w), "a.b/c:gzip");
	/* Cut short. */
	packed.n -= 20;
	FAILS(import(w, &packed, prefixed(w, "a.b/cut", false)), ERR_DATA_LOSS);

	buf_clear(&tar);
	buf_clear(&packed);
	simple(w, &tar, TAG(w, "zstd"));
	packed.n =
	    ZSTD_compress(buf_reserve(&packed, ZSTD_compressBound(tar.n)), ZSTD_compressBound(tar.n), tar.p, tar.n, 3);
	OK(import(w, &packed, prefixed(w, "a.b/c", false)));
	assert_string_equal(images(w), "a.b/c:gzip a.b/c:zstd");
}

static void names_by_prefix(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT, full = BUF_INIT;
	struct world *w = *state;

	simple(w, &tar, TAG(w, "1"));
	simple(w, &full, named(w, "io.containerd.image.name", "example.com/app:2"));
	/* A name in full is only taken below the prefix, */
	OK(import(w, &full, prefixed(w, "example.com/ap", false)));
	OK(import(w, &full, prefixed(w, "other.com/app", false)));
	assert_string_equal(images(w), "");
	OK(import(w, &full, prefixed(w, "example.com/app", false)));
	assert_string_equal(images(w), "example.com/app:2");
	/* or when the archive may overwrite it. */
	buf_clear(&full);
	simple(w, &full, named(w, "io.containerd.image.name", "far.away/x:3"));
	OK(import(w, &full, prefixed(w, "example.com/app", true)));
	assert_string_equal(images(w), "example.com/app:2 far.away/x:3");
	/* Without any name there is none. */
	buf_clear(&full);
	simple(w, &full, "");
	OK(import(w, &full, prefixed(w, "example.com/app", true)));
	assert_string_equal(images(w), "example.com/app:2 far.away/x:3");
}

static void names_by_digest(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT, anonymous = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape(w, "layer one");
	Xfer__ImageStore *store = prefixed(w, "x.y/z", false);
	const char *by_digest = arena_printf(&w->a, "x.y/z@%s", s.manifest.digest);

	simple(w, &anonymous, "");
	simple(w, &tar, TAG(w, "t"));
	store->extra_references[0]->add_digest = store->extra_references[0]->skip_named_digest = true;
	OK(import(w, &tar, store));
	assert_string_equal(images(w), "x.y/z:t");
	OK(import(w, &anonymous, store));
	assert_string_equal(images(w), arena_printf(&w->a, "x.y/z:t %s", by_digest));
	store->extra_references[0]->skip_named_digest = false;
	store->extra_references[0]->name = "x.y/w";
	OK(import(w, &tar, store));
	assert_string_equal(images(w),
	                    arena_printf(&w->a, "x.y/w:t x.y/w@%s x.y/z:t %s", s.manifest.digest, by_digest));
}

static void the_index_has_a_name_too(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	Xfer__ImageStore *store = prefixed(w, "x.y/z", false);
	const Types__Descriptor *t;

	simple(w, &tar, TAG(w, "t"));
	store->name = "the/index:1";
	WORLD_KVS(w, store, labels, "a=1");
	OK(import(w, &tar, store));
	assert_string_equal(images(w), "the/index:1(index) x.y/z:t");
	t = target(w, "the/index:1");
	assert_string_equal(t->media_type, OCI_INDEX);
	assert_string_equal(label(w, t->digest, "containerd.io/gc.ref.content.m.0"), target(w, "x.y/z:t")->digest);
}

static void several_platforms(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape here = shape_of(w, "for amd64", OCI_LAYER, "amd64"),
		     there = shape_of(w, "for arm64", OCI_LAYER, "arm64");
	Xfer__ImageStore *store = prefixed(w, "x.y/z", false);
	Types__Platform amd64 = TYPES__PLATFORM__INIT, *platforms[] = {&amd64};
	struct blob nested;

	amd64.os = "linux";
	amd64.architecture = "amd64";
	nested =
	    blob(w, arena_printf(&w->a, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX "\",\"manifests\":[%s,%s]}",
	                         descriptor(w, OCI_MANIFEST, there.manifest,
	                                    ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}"),
	                         descriptor(w, OCI_MANIFEST, here.manifest,
	                                    ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}")));
	add_shape(w, &tar, &here);
	add_blob(w, &tar, there.manifest);
	add_blob(w, &tar, nested);
	finish_layout(&tar, index_of(w, descriptor(w, OCI_INDEX, nested, TAG(w, "multi"))));
	/* The other one is not whole, which only matters to those who want it. */
	FAILS(import(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, "neither in the archive nor in the content store"));
	assert_string_equal(images(w), "");
	store->platforms = platforms;
	store->n_platforms = 1;
	OK(import(w, &tar, store));
	assert_string_equal(images(w), "x.y/z:multi(index)");
	/* References keep their places in the index. */
	assert_string_equal(label(w, nested.digest, "containerd.io/gc.ref.content.m.1"), here.manifest.digest);
	assert_null(label(w, nested.digest, "containerd.io/gc.ref.content.m.0"));
	amd64.architecture = "s390x";
	FAILS(import(w, &tar, store), ERR_NOT_FOUND);
}

static void archives_that_are_wrong(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape(w, "layer one"), bad;
	Xfer__ImageStore *store = prefixed(w, "x.y/z", false);

	FAILS(import(w, &tar, store), ERR_INVALID); /* nothing at all */
	end(&tar);
	FAILS(import(w, &tar, store), ERR_INVALID);
	assert_non_null(strstr(w->err.msg, "unrecognized image format"));

	buf_clear(&tar);
	add_blob(w, &tar, s.config);
	add(&tar, "oci-layout", STR(LAYOUT));
	end(&tar);
	FAILS(import(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, "index.json"));

	buf_clear(&tar);
	add(&tar, "index.json", STR("{\"schemaVersion\":2,\"manifests\":[]}"));
	add(&tar, "oci-layout", STR("{\"imageLayoutVersion\":\"2.0.0\"}"));
	end(&tar);
	FAILS(import(w, &tar, store), ERR_UNIMPLEMENTED);

	buf_clear(&tar);
	finish_layout(&tar, "{\"manifests\":[]}");
	FAILS(import(w, &tar, store), ERR_INVALID);

	/* No image is no mistake. */
	buf_clear(&tar);
	finish_layout(&tar, "{\"schemaVersion\":2,\"manifests\":[]}");
	OK(import(w, &tar, store));

	buf_clear(&tar);
	add_blob(w, &tar, s.config);
	add_blob(w, &tar, s.manifest);
	finish_layout(&tar, index_of(w, descriptor(w, OCI_MANIFEST, s.manifest, TAG(w, "t"))));
	FAILS(import(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, s.layer.digest));

	/* Content that is not what its name says. */
	buf_clear(&tar);
	bad = s;
	bad.layer.text = "layer two";
	add_shape(w, &tar, &bad);
	finish_layout(&tar, index_of(w, descriptor(w, OCI_MANIFEST, s.manifest, TAG(w, "t"))));
	FAILS(import(w, &tar, store), ERR_DATA_LOSS);
	assert_null(info(w, s.layer.digest));

	/* A size that is not what the manifest says. */
	buf_clear(&tar);
	bad.manifest = blob(w, arena_printf(&w->a,
	                                    "{\"schemaVersion\":2,\"config\":%s,\"layers\":[{\"mediaType\":\"" OCI_LAYER
	                                    "\",\"digest\":\"%s\",\"size\":8}]}",
	                                    descriptor(w, OCI_CONFIG, s.config, ""), s.layer.digest));
	bad.layer = s.layer;
	add_shape(w, &tar, &bad);
	finish_layout(&tar, index_of(w, descriptor(w, OCI_MANIFEST, bad.manifest, TAG(w, "t"))));
	FAILS(import(w, &tar, store), ERR_DATA_LOSS);
	assert_non_null(strstr(w->err.msg, "has 9 bytes, should have 8"));

	assert_string_equal(images(w), "");
	assert_int_equal(ingests(w), 0);
	assert_int_equal(leases(w), 0);
}

/* A layer that only another namespace has: to name it is enough where namespaces share, and nowhere else. */
static void what_another_namespace_has(void **state)
{
	AUTO(buf) struct buf full = BUF_INIT, tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape(w, "layer one");
	Xfer__ImageStore *store = prefixed(w, "x.y/z", false);

	simple(w, &full, TAG(w, "t"));
	add_blob(w, &tar, s.config);
	add_blob(w, &tar, s.manifest);
	finish_layout(&tar, index_of(w, descriptor(w, OCI_MANIFEST, s.manifest, TAG(w, "t"))));
	OK(import(w, &full, store));
	rpc_client_set_metadata(w->c, "containerd-namespace", "other");
	free(w->d->config.content_sharing);
	w->d->config.content_sharing = xstrdup("isolated");
	FAILS(import(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, "neither in the archive nor in the content store"));
	assert_null(info(w, s.layer.digest));
	free(w->d->config.content_sharing);
	w->d->config.content_sharing = xstrdup("shared");
	OK(import(w, &tar, store));
	assert_non_null(info(w, s.layer.digest));
}

static void encrypted_layers_are_refused(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape_of(w, "secret", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "amd64");

	add_shape(w, &tar, &s);
	finish_layout(&tar, index_of(w, descriptor(w, OCI_MANIFEST, s.manifest, TAG(w, "t"))));
	FAILS(import(w, &tar, prefixed(w, "x.y/z", false)), ERR_UNIMPLEMENTED);
	assert_non_null(strstr(w->err.msg, "is encrypted"));
	assert_string_equal(images(w), "");
}

/* No path of an archive leads anywhere; entries that are neither files nor links say nothing. */
static void paths_with_tricks(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape(w, "layer one");

	add(&tar, "../../../../../../tmp/contentd-was-here", STR("x"));
	add(&tar, "/etc/contentd-was-here", STR("x"));
	add_link(&tar, "loop/a", "b");
	add_link(&tar, "loop/b", "a");
	add_link(&tar, "out", "/etc/passwd");
	add_dir(&tar, "blobs");
	add(&tar, arena_printf(&w->a, "./x/../blobs/./sha256//%s", s.layer.hex), str_make(s.layer.text, s.layer.n));
	add_blob(w, &tar, s.config);
	add_blob(w, &tar, s.manifest);
	finish_layout(&tar, index_of(w, descriptor(w, OCI_MANIFEST, s.manifest, TAG(w, "t"))));
	OK(import(w, &tar, prefixed(w, "x.y/z", false)));
	assert_string_equal(images(w), "x.y/z:t");
	assert_int_equal(access("/tmp/contentd-was-here", F_OK), -1);
	assert_int_equal(access("/etc/contentd-was-here", F_OK), -1);
}

/* What grows without measure is stopped before it fills the disk. */
static void a_bomb(void **state)
{
	AUTO(buf) struct buf packed = BUF_INIT;
	struct world *w = *state;
	AUTO_FREE char *zeros = xcalloc(1, 1 << 20);
	struct esgz_entry e = {.type = ESGZ_REG, .mode = 0644, .size = 1ull << 40, .path = STR("bomb")};
	AUTO(buf) struct buf header = BUF_INIT;
	ZSTD_CCtx *z = ZSTD_createCCtx();
	ZSTD_inBuffer in;
	ZSTD_outBuffer out = {.size = 1 << 20};

	OK(tar_write_header(&e, NULL, 0, &header, &w->err));
	out.dst = buf_reserve(&packed, 1 << 20);
	in = (ZSTD_inBuffer){header.p, header.n, 0};
	ZSTD_compressStream2(z, &out, &in, ZSTD_e_continue);
	for (int i = 0; i < 600; i++) {
		in = (ZSTD_inBuffer){zeros, 1 << 20, 0};
		ZSTD_compressStream2(z, &out, &in, ZSTD_e_continue);
	}
	in = (ZSTD_inBuffer){zeros, 0, 0};
	ZSTD_compressStream2(z, &out, &in, ZSTD_e_end);
	ZSTD_freeCCtx(z);
	packed.n = out.pos;
	FAILS(import(w, &packed, prefixed(w, "x.y/z", false)), ERR_EXHAUSTED);
	assert_int_equal(ingests(w), 0);
}

/* ---- docker's archives ---- */

static void docker_archive(struct world *w, struct buf *tar, const char *tags, bool linked)
{
	struct shape s = shape(w, "layer one");

	add(tar, "config.json", str_make(s.config.text, s.config.n));
	add(tar, "one/layer.tar", str_make(s.layer.text, s.layer.n));
	if (linked)
		add_link(tar, "two/layer.tar", "../one/layer.tar");
	add(tar, "manifest.json",
	    str_of(arena_printf(&w->a, "[{\"Config\":\"config.json\",\"RepoTags\":%s,\"Layers\":[\"%s/layer.tar\"]}]",
	                        tags, linked ? "two" : "one")));
	end(tar);
}

static void a_docker_archive(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape(w, "layer one");
	const char *manifest;

	docker_archive(w, &tar, "[\"app:1\",\"example.com/app:2\"]", false);
	OK(import(w, &tar, prefixed(w, "import-2026", true)));
	assert_string_equal(images(w), "docker.io/library/app:1 example.com/app:2");
	manifest = target(w, "example.com/app:2")->digest;
	assert_string_equal(target(w, "docker.io/library/app:1")->digest, manifest);
	assert_string_equal(target(w, "docker.io/library/app:1")->media_type,
	                    "application/vnd.docker.distribution.manifest.v2+json");
	assert_string_equal(label(w, manifest, "containerd.io/gc.ref.content.config"), s.config.digest);
	assert_string_equal(label(w, manifest, "containerd.io/gc.ref.content.l.0"), s.layer.digest);
	/* The same by a link. */
	buf_clear(&tar);
	docker_archive(w, &tar, "[\"linked:1\"]", true);
	OK(import(w, &tar, prefixed(w, "import-2026", true)));
	assert_string_equal(target(w, "docker.io/library/linked:1")->digest, manifest);
	/* Without tags, and with one that no reference can be. */
	buf_clear(&tar);
	docker_archive(w, &tar, "null", false);
	OK(import(w, &tar, prefixed(w, "import-2026", true)));
	buf_clear(&tar);
	docker_archive(w, &tar, "[\"UPPER case\"]", false);
	OK(import(w, &tar, prefixed(w, "import-2026", true)));
	assert_string_equal(images(w), "docker.io/library/app:1 docker.io/library/linked:1 example.com/app:2");
}

static void a_docker_archive_compressed_on_the_way(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape(w, "layer one");
	const char *layer;

	docker_archive(w, &tar, "[\"app:1\"]", false);
	OK(run_import(w, buf_str(&tar), prefixed(w, "x.y/z", true), true));
	layer = label(w, target(w, "docker.io/library/app:1")->digest, "containerd.io/gc.ref.content.l.0");
	assert_string_not_equal(layer, s.layer.digest);
	assert_non_null(info(w, layer));
}

static void docker_archives_that_are_wrong(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape(w, "layer one");
	Xfer__ImageStore *store = prefixed(w, "x.y/z", true);

	add(&tar, "manifest.json", STR("[{\"Config\":\"c\",\"RepoTags\":[\"a:1\"],\"Layers\":[]}]"));
	end(&tar);
	FAILS(import(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, "configuration \"c\""));
	buf_clear(&tar);
	add(&tar, "c", str_make(s.config.text, s.config.n));
	add(&tar, "manifest.json", STR("[{\"Config\":\"c\",\"Layers\":[\"l\"]}]"));
	end(&tar);
	FAILS(import(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, "layer \"l\""));
	buf_clear(&tar);
	add(&tar, "manifest.json", STR("{}"));
	end(&tar);
	FAILS(import(w, &tar, store), ERR_INVALID);
	/* A link in a circle is no layer. */
	buf_clear(&tar);
	add(&tar, "c", str_make(s.config.text, s.config.n));
	add_link(&tar, "l", "m");
	add_link(&tar, "m", "l");
	add(&tar, "manifest.json", STR("[{\"Config\":\"c\",\"Layers\":[\"l\"]}]"));
	end(&tar);
	FAILS(import(w, &tar, store), ERR_NOT_FOUND);
	/* Only the oldest format's list of names. */
	buf_clear(&tar);
	add(&tar, "repositories", STR("{\"app\":{\"1\":\"abc\"}}"));
	end(&tar);
	FAILS(import(w, &tar, store), ERR_INVALID);
	assert_string_equal(images(w), "");
}

/* ---- out again ---- */

/* All that comes; credit is given in steps. */
static int run_export(struct world *w, const Xfer__ImageStore *from, Xfer__ImageExportStream *to, struct buf *out)
{
	static unsigned serial;
	const char *id = arena_printf(&w->a, "out-%u", serial++);
	AUTO(rpc_stream) struct rpc_stream *s = open_stream(w, id);
	Xfer__WindowUpdate grant = XFER__WINDOW_UPDATE__INIT;
	int64_t granted = 0;
	int r;

	to->stream = id;
	AUTO(rpc_stream) struct rpc_stream *t = begin(w, &from->base, &to->base);

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
	const struct esgz_tar_sink sink = {note_entry, skip_bytes, skip_end, &names};
	AUTO(esgz_tar) struct esgz_tar *t = esgz_tar_new(&sink);

	OK(esgz_tar_feed(t, buf_str(tar), &w->err));
	OK(esgz_tar_finish(t, &w->err));
	return arena_strdup(&w->a, buf_cstr(&names));
}

static void export_and_import(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT, out = BUF_INIT, again = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape(w, "layer one");
	Xfer__ImageStore from = XFER__IMAGE_STORE__INIT;
	Xfer__ImageExportStream to = XFER__IMAGE_EXPORT_STREAM__INIT;
	Images__DeleteImageRequest del = IMAGES__DELETE_IMAGE_REQUEST__INIT;
	const char *list;

	simple(w, &tar, TAG(w, "t"));
	OK(import(w, &tar, prefixed(w, "x.y/z", false)));
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
	OK(import(w, &out, prefixed(w, "import-2026", true)));
	assert_string_equal(images(w), "x.y/z:t");
	assert_string_equal(target(w, "x.y/z:t")->digest, s.manifest.digest);
	/* Without docker's part. */
	to.skip_compatibility_manifest = true;
	buf_clear(&again);
	OK(run_export(w, &from, &to, &again));
	assert_null(strstr(entries(w, &again), "manifest.json"));
}

static void exports_of_platforms(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT, out = BUF_INIT;
	struct world *w = *state;
	struct shape here = shape_of(w, "for amd64", OCI_LAYER, "amd64"),
		     there =
			 shape_of(w, "for arm64", "application/vnd.oci.image.layer.nondistributable.v1.tar", "arm64");
	Xfer__ImageStore from = XFER__IMAGE_STORE__INIT, *store = prefixed(w, "x.y/z", false);
	Xfer__ImageExportStream to = XFER__IMAGE_EXPORT_STREAM__INIT;
	Types__Platform arm64 = TYPES__PLATFORM__INIT, *platforms[] = {&arm64};
	const char *list;

	arm64.os = "linux";
	arm64.architecture = "arm64";
	add_shape(w, &tar, &here);
	add_shape(w, &tar, &there);
	finish_layout(
	    &tar, index_of(w, arena_printf(&w->a, "%s,%s",
	                                   descriptor(w, OCI_MANIFEST, here.manifest,
	                                              ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}"),
	                                   descriptor(w, OCI_MANIFEST, there.manifest,
	                                              ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}"))));
	store->name = "x.y/index:1";
	OK(import(w, &tar, store));
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

	simple(w, &tar, TAG(w, "t"));
	OK(import(w, &tar, prefixed(w, "x.y/z", false)));
	from.name = "x.y/z:t";
	to.name = "a:1";
	more.name = "b";
	more.add_digest = true;
	to.extra_references = references;
	to.n_extra_references = 1;
	req.source = pb_any_new(&w->a, &from.base);
	req.destination = pb_any_new(&w->a, &to.base);
	OK(world_call(w, &transfer__transfer__descriptor, "Transfer", &req, NULL));
	assert_string_equal(images(w), arena_printf(&w->a, "a:1 b@%s x.y/z:t", shape(w, "layer one").manifest.digest));
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
	AUTO(rpc_stream) struct rpc_stream *in = open_stream(w, "in"), *out = open_stream(w, "out");
	struct sender o = {.s = in};
	int64_t granted = 0;
	int r = RPC_AGAIN;

	for (uint32_t i = 0; i < 1200000; i++)
		buf_le32(&want, i * 2654435761u);
	o.left = buf_str(&want);
	from.stream = "in";
	to.stream = "out";
	AUTO(rpc_stream) struct rpc_stream *t = begin(w, &from.base, &to.base);

	while (r == RPC_AGAIN || r == RPC_MESSAGE) {
		AUTO(pb) Pb__Any *any = NULL;
		Xfer__Data *data;

		send_some(w, &o);
		if (granted <= 0) {
			grant.update = 64 << 10;
			granted += grant.update;
			OK(rpc_stream_send(out, &pb_any_new(&w->a, &grant.base)->base, &w->err));
		}
		r = rpc_stream_try_recv(out, &any, NULL);
		if (r == RPC_AGAIN)
			rpc_client_poll(w->c, NULL, 0, clock_mono_ns() + 20 * NS_PER_MS, NULL);
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
	AUTO(rpc_stream) struct rpc_stream *in = open_stream(w, "in");
	AUTO(pb) Pb__Empty *done = NULL;

	buf_addz(&bytes, 5 << 18);
	m.data.data = (uint8_t *)bytes.p;
	m.data.len = bytes.n;
	from.stream = "in";
	AUTO(rpc_stream) struct rpc_stream *t = begin(w, &from.base, &prefixed(w, "x.y/z", false)->base);

	OK(rpc_stream_send(in, &pb_any_new(&w->a, &m.base)->base, &w->err));
	OK(rpc_stream_close_send(in, &w->err));
	FAILS(rpc_stream_recv(t, INT64_MAX, &done, &w->err), ERR_INVALID);
	assert_non_null(strstr(w->err.msg, "more than it was granted"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(an_oci_archive),
	    TEST(compressed_archives),
	    TEST(names_by_prefix),
	    TEST(names_by_digest),
	    TEST(the_index_has_a_name_too),
	    TEST(several_platforms),
	    TEST(archives_that_are_wrong),
	    TEST(what_another_namespace_has),
	    TEST(encrypted_layers_are_refused),
	    TEST(paths_with_tricks),
	    TEST(a_bomb),
	    TEST(a_docker_archive),
	    TEST(a_docker_archive_compressed_on_the_way),
	    TEST(docker_archives_that_are_wrong),
	    TEST(export_and_import),
	    TEST(exports_of_platforms),
	    TEST(tags),
	    TEST(echo),
	    TEST(more_than_was_granted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
