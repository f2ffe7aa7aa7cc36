/* Archives of every shape into the store, over a socket. */
#include "contentd/transfer/testing.h"
#include "estargz/tar/tar_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

/* ---- OCI layouts ---- */

static void an_oci_archive(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape_plain(w, "layer one");

	archive_simple(w, &tar, TAG(w, "latest"));
	OK(import_archive(w, &tar, store_with_prefix(w, "example.com/app", false)));
	assert_string_equal(image_names(w), "example.com/app:latest");
	assert_string_equal(image_target(w, "example.com/app:latest")->digest, s.manifest.digest);
	assert_string_equal(label_of(w, s.manifest.digest, "containerd.io/gc.ref.content.config"), s.config.digest);
	assert_string_equal(label_of(w, s.manifest.digest, "containerd.io/gc.ref.content.l.0"), s.layer.digest);
	assert_int_equal(info_of(w, s.layer.digest)->size, s.layer.n);
	assert_int_equal(ingest_count(w), 0);
	assert_int_equal(lease_count(w), 0);
	/* Again, over itself. */
	OK(import_archive(w, &tar, store_with_prefix(w, "example.com/app", false)));
	assert_string_equal(image_names(w), "example.com/app:latest");
}

static void compressed_archives(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT, packed = BUF_INIT;
	struct world *w = *state;
	uLongf n;
	z_stream z = {0};

	archive_simple(w, &tar, TAG(w, "gzip"));
	n = compressBound((uLong)tar.n) + 64;
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (uint8_t *)tar.p;
	z.avail_in = (unsigned)tar.n;
	z.next_out = (uint8_t *)buf_reserve(&packed, n);
	z.avail_out = (unsigned)n;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	packed.n = z.total_out;
	deflateEnd(&z);
	OK(import_archive(w, &packed, store_with_prefix(w, "a.b/c", false)));
	assert_string_equal(image_names(w), "a.b/c:gzip");
	/* Cut short. */
	packed.n -= 20;
	FAILS(import_archive(w, &packed, store_with_prefix(w, "a.b/cut", false)), ERR_DATA_LOSS);

	buf_clear(&tar);
	buf_clear(&packed);
	archive_simple(w, &tar, TAG(w, "zstd"));
	packed.n =
	    ZSTD_compress(buf_reserve(&packed, ZSTD_compressBound(tar.n)), ZSTD_compressBound(tar.n), tar.p, tar.n, 3);
	OK(import_archive(w, &packed, store_with_prefix(w, "a.b/c", false)));
	assert_string_equal(image_names(w), "a.b/c:gzip a.b/c:zstd");
}

static void names_by_prefix(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT, full = BUF_INIT;
	struct world *w = *state;

	archive_simple(w, &tar, TAG(w, "1"));
	archive_simple(w, &full, annotated(w, "io.containerd.image.name", "example.com/app:2"));
	/* A name in full is only taken below the prefix, */
	OK(import_archive(w, &full, store_with_prefix(w, "example.com/ap", false)));
	OK(import_archive(w, &full, store_with_prefix(w, "other.com/app", false)));
	assert_string_equal(image_names(w), "");
	OK(import_archive(w, &full, store_with_prefix(w, "example.com/app", false)));
	assert_string_equal(image_names(w), "example.com/app:2");
	/* or when the archive may overwrite it. */
	buf_clear(&full);
	archive_simple(w, &full, annotated(w, "io.containerd.image.name", "far.away/x:3"));
	OK(import_archive(w, &full, store_with_prefix(w, "example.com/app", true)));
	assert_string_equal(image_names(w), "example.com/app:2 far.away/x:3");
	/* Without any name there is none. */
	buf_clear(&full);
	archive_simple(w, &full, "");
	OK(import_archive(w, &full, store_with_prefix(w, "example.com/app", true)));
	assert_string_equal(image_names(w), "example.com/app:2 far.away/x:3");
}

static void names_by_digest(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT, anonymous = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape_plain(w, "layer one");
	Xfer__ImageStore *store = store_with_prefix(w, "x.y/z", false);
	const char *by_digest = arena_printf(&w->a, "x.y/z@%s", s.manifest.digest);

	archive_simple(w, &anonymous, "");
	archive_simple(w, &tar, TAG(w, "t"));
	store->extra_references[0]->add_digest = store->extra_references[0]->skip_named_digest = true;
	OK(import_archive(w, &tar, store));
	assert_string_equal(image_names(w), "x.y/z:t");
	OK(import_archive(w, &anonymous, store));
	assert_string_equal(image_names(w), arena_printf(&w->a, "x.y/z:t %s", by_digest));
	store->extra_references[0]->skip_named_digest = false;
	store->extra_references[0]->name = "x.y/w";
	OK(import_archive(w, &tar, store));
	assert_string_equal(image_names(w),
	                    arena_printf(&w->a, "x.y/w:t x.y/w@%s x.y/z:t %s", s.manifest.digest, by_digest));
}

static void the_index_has_a_name_too(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	Xfer__ImageStore *store = store_with_prefix(w, "x.y/z", false);
	const Types__Descriptor *t;

	archive_simple(w, &tar, TAG(w, "t"));
	store->name = "the/index:1";
	WORLD_KVS(w, store, labels, "a=1");
	OK(import_archive(w, &tar, store));
	assert_string_equal(image_names(w), "the/index:1(index) x.y/z:t");
	t = image_target(w, "the/index:1");
	assert_string_equal(t->media_type, OCI_INDEX);
	assert_string_equal(label_of(w, t->digest, "containerd.io/gc.ref.content.m.0"),
	                    image_target(w, "x.y/z:t")->digest);
}

static void several_platforms(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape here = shape_of(w, "for amd64", OCI_LAYER, "amd64"),
		     there = shape_of(w, "for arm64", OCI_LAYER, "arm64");
	Xfer__ImageStore *store = store_with_prefix(w, "x.y/z", false);
	Types__Platform amd64 = TYPES__PLATFORM__INIT, *platforms[] = {&amd64};
	struct blob nested;

	amd64.os = "linux";
	amd64.architecture = "amd64";
	nested = blob_of(w, arena_printf(&w->a,
	                                 "{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX "\",\"manifests\":[%s,%s]}",
	                                 descriptor_of(w, OCI_MANIFEST, there.manifest,
	                                               ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}"),
	                                 descriptor_of(w, OCI_MANIFEST, here.manifest,
	                                               ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}")));
	archive_add_shape(w, &tar, &here);
	archive_add_blob(w, &tar, there.manifest);
	archive_add_blob(w, &tar, nested);
	archive_finish_layout(&tar, index_of(w, descriptor_of(w, OCI_INDEX, nested, TAG(w, "multi"))));
	/* The other one is not whole, which only matters to those who want it. */
	FAILS(import_archive(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, "neither in the archive nor in the content store"));
	assert_string_equal(image_names(w), "");
	store->platforms = platforms;
	store->n_platforms = 1;
	OK(import_archive(w, &tar, store));
	assert_string_equal(image_names(w), "x.y/z:multi(index)");
	/* References keep their places in the index. */
	assert_string_equal(label_of(w, nested.digest, "containerd.io/gc.ref.content.m.1"), here.manifest.digest);
	assert_null(label_of(w, nested.digest, "containerd.io/gc.ref.content.m.0"));
	amd64.architecture = "s390x";
	FAILS(import_archive(w, &tar, store), ERR_NOT_FOUND);
}

static void archives_that_are_wrong(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape_plain(w, "layer one"), bad;
	Xfer__ImageStore *store = store_with_prefix(w, "x.y/z", false);

	FAILS(import_archive(w, &tar, store), ERR_INVALID); /* nothing at all */
	archive_end(&tar);
	FAILS(import_archive(w, &tar, store), ERR_INVALID);
	assert_non_null(strstr(w->err.msg, "unrecognized image format"));

	buf_clear(&tar);
	archive_add_blob(w, &tar, s.config);
	archive_add(&tar, "oci-layout", STR(OCI_LAYOUT));
	archive_end(&tar);
	FAILS(import_archive(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, "index.json"));

	buf_clear(&tar);
	archive_add(&tar, "index.json", STR("{\"schemaVersion\":2,\"manifests\":[]}"));
	archive_add(&tar, "oci-layout", STR("{\"imageLayoutVersion\":\"2.0.0\"}"));
	archive_end(&tar);
	FAILS(import_archive(w, &tar, store), ERR_UNIMPLEMENTED);

	buf_clear(&tar);
	archive_finish_layout(&tar, "{\"manifests\":[]}");
	FAILS(import_archive(w, &tar, store), ERR_INVALID);

	/* No image is no mistake. */
	buf_clear(&tar);
	archive_finish_layout(&tar, "{\"schemaVersion\":2,\"manifests\":[]}");
	OK(import_archive(w, &tar, store));

	buf_clear(&tar);
	archive_add_blob(w, &tar, s.config);
	archive_add_blob(w, &tar, s.manifest);
	archive_finish_layout(&tar, index_of(w, descriptor_of(w, OCI_MANIFEST, s.manifest, TAG(w, "t"))));
	FAILS(import_archive(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, s.layer.digest));

	/* Content that is not what its name says. */
	buf_clear(&tar);
	bad = s;
	bad.layer.text = "layer two";
	archive_add_shape(w, &tar, &bad);
	archive_finish_layout(&tar, index_of(w, descriptor_of(w, OCI_MANIFEST, s.manifest, TAG(w, "t"))));
	FAILS(import_archive(w, &tar, store), ERR_DATA_LOSS);
	assert_null(info_of(w, s.layer.digest));

	/* A size that is not what the manifest says. */
	buf_clear(&tar);
	bad.manifest =
	    blob_of(w, arena_printf(&w->a,
	                            "{\"schemaVersion\":2,\"config\":%s,\"layers\":[{\"mediaType\":\"" OCI_LAYER
	                            "\",\"digest\":\"%s\",\"size\":8}]}",
	                            descriptor_of(w, OCI_CONFIG, s.config, ""), s.layer.digest));
	bad.layer = s.layer;
	archive_add_shape(w, &tar, &bad);
	archive_finish_layout(&tar, index_of(w, descriptor_of(w, OCI_MANIFEST, bad.manifest, TAG(w, "t"))));
	FAILS(import_archive(w, &tar, store), ERR_DATA_LOSS);
	assert_non_null(strstr(w->err.msg, "has 9 bytes, should have 8"));

	assert_string_equal(image_names(w), "");
	assert_int_equal(ingest_count(w), 0);
	assert_int_equal(lease_count(w), 0);
}

/* A layer that only another namespace has: to name it is enough where namespaces share, and nowhere else. */
static void what_another_namespace_has(void **state)
{
	AUTO(buf) struct buf full = BUF_INIT, tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape_plain(w, "layer one");
	Xfer__ImageStore *store = store_with_prefix(w, "x.y/z", false);

	archive_simple(w, &full, TAG(w, "t"));
	archive_add_blob(w, &tar, s.config);
	archive_add_blob(w, &tar, s.manifest);
	archive_finish_layout(&tar, index_of(w, descriptor_of(w, OCI_MANIFEST, s.manifest, TAG(w, "t"))));
	OK(import_archive(w, &full, store));
	rpc_client_set_metadata(w->c, "containerd-namespace", "other");
	free(w->d->config.content_sharing);
	w->d->config.content_sharing = xstrdup("isolated");
	FAILS(import_archive(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, "neither in the archive nor in the content store"));
	assert_null(info_of(w, s.layer.digest));
	free(w->d->config.content_sharing);
	w->d->config.content_sharing = xstrdup("shared");
	OK(import_archive(w, &tar, store));
	assert_non_null(info_of(w, s.layer.digest));
}

static void encrypted_layers_are_refused(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape_of(w, "secret", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "amd64");

	archive_add_shape(w, &tar, &s);
	archive_finish_layout(&tar, index_of(w, descriptor_of(w, OCI_MANIFEST, s.manifest, TAG(w, "t"))));
	FAILS(import_archive(w, &tar, store_with_prefix(w, "x.y/z", false)), ERR_UNIMPLEMENTED);
	assert_non_null(strstr(w->err.msg, "is encrypted"));
	assert_string_equal(image_names(w), "");
}

/* No path of an archive leads anywhere; entries that are neither files nor links say nothing. */
static void paths_with_tricks(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape_plain(w, "layer one");

	archive_add(&tar, "../../../../../../tmp/contentd-was-here", STR("x"));
	archive_add(&tar, "/etc/contentd-was-here", STR("x"));
	archive_add_link(&tar, "loop/a", "b");
	archive_add_link(&tar, "loop/b", "a");
	archive_add_link(&tar, "out", "/etc/passwd");
	archive_add_dir(&tar, "blobs");
	archive_add(&tar, arena_printf(&w->a, "./x/../blobs/./sha256//%s", s.layer.hex),
	            str_make(s.layer.text, s.layer.n));
	archive_add_blob(w, &tar, s.config);
	archive_add_blob(w, &tar, s.manifest);
	archive_finish_layout(&tar, index_of(w, descriptor_of(w, OCI_MANIFEST, s.manifest, TAG(w, "t"))));
	OK(import_archive(w, &tar, store_with_prefix(w, "x.y/z", false)));
	assert_string_equal(image_names(w), "x.y/z:t");
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
	FAILS(import_archive(w, &packed, store_with_prefix(w, "x.y/z", false)), ERR_EXHAUSTED);
	assert_int_equal(ingest_count(w), 0);
}

/* The same without a byte of it: a file that is all hole. */
static void a_bomb_of_holes(void **state)
{
	struct world *w = *state;
	AUTO(buf) struct buf tar = BUF_INIT;
	struct esgz_entry e = {.type = ESGZ_REG, .mode = 0644, .path = STR("bomb")};
	uint8_t *h;
	unsigned sum = 0;

	OK(tar_write_header(&e, NULL, 0, &tar, &w->err));
	h = (uint8_t *)tar.p;
	h[156] = 'S';
	memcpy(h + 257, "ustar  ", 8);
	memset(h + 329, 0, 171);
	strcpy((char *)h + 483, "07777777777"); /* a GiB */
	memset(h + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += h[i];
	snprintf((char *)h + 148, 8, "%06o", sum);
	archive_end(&tar);
	FAILS(import_archive(w, &tar, store_with_prefix(w, "x.y/z", false)), ERR_EXHAUSTED);
	assert_int_equal(ingest_count(w), 0);
}

/* ---- docker's archives ---- */

static void docker_archive(struct world *w, struct buf *tar, const char *tags, bool linked)
{
	struct shape s = shape_plain(w, "layer one");

	archive_add(tar, "config.json", str_make(s.config.text, s.config.n));
	archive_add(tar, "one/layer.tar", str_make(s.layer.text, s.layer.n));
	if (linked)
		archive_add_link(tar, "two/layer.tar", "../one/layer.tar");
	archive_add(
	    tar, "manifest.json",
	    str_of(arena_printf(&w->a, "[{\"Config\":\"config.json\",\"RepoTags\":%s,\"Layers\":[\"%s/layer.tar\"]}]",
	                        tags, linked ? "two" : "one")));
	archive_end(tar);
}

static void a_docker_archive(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape_plain(w, "layer one");
	const char *manifest;

	docker_archive(w, &tar, "[\"app:1\",\"example.com/app:2\"]", false);
	OK(import_archive(w, &tar, store_with_prefix(w, "import-2026", true)));
	assert_string_equal(image_names(w), "docker.io/library/app:1 example.com/app:2");
	manifest = image_target(w, "example.com/app:2")->digest;
	assert_string_equal(image_target(w, "docker.io/library/app:1")->digest, manifest);
	assert_string_equal(image_target(w, "docker.io/library/app:1")->media_type,
	                    "application/vnd.docker.distribution.manifest.v2+json");
	assert_string_equal(label_of(w, manifest, "containerd.io/gc.ref.content.config"), s.config.digest);
	assert_string_equal(label_of(w, manifest, "containerd.io/gc.ref.content.l.0"), s.layer.digest);
	/* The same by a link. */
	buf_clear(&tar);
	docker_archive(w, &tar, "[\"linked:1\"]", true);
	OK(import_archive(w, &tar, store_with_prefix(w, "import-2026", true)));
	assert_string_equal(image_target(w, "docker.io/library/linked:1")->digest, manifest);
	/* Without tags, and with one that no reference can be. */
	buf_clear(&tar);
	docker_archive(w, &tar, "null", false);
	OK(import_archive(w, &tar, store_with_prefix(w, "import-2026", true)));
	buf_clear(&tar);
	docker_archive(w, &tar, "[\"UPPER case\"]", false);
	OK(import_archive(w, &tar, store_with_prefix(w, "import-2026", true)));
	assert_string_equal(image_names(w), "docker.io/library/app:1 docker.io/library/linked:1 example.com/app:2");
}

static void a_docker_archive_compressed_on_the_way(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape_plain(w, "layer one");
	const char *layer;

	docker_archive(w, &tar, "[\"app:1\"]", false);
	OK(import_bytes(w, buf_str(&tar), store_with_prefix(w, "x.y/z", true), true));
	layer = label_of(w, image_target(w, "docker.io/library/app:1")->digest, "containerd.io/gc.ref.content.l.0");
	assert_string_not_equal(layer, s.layer.digest);
	assert_non_null(info_of(w, layer));
}

static void docker_archives_that_are_wrong(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct world *w = *state;
	struct shape s = shape_plain(w, "layer one");
	Xfer__ImageStore *store = store_with_prefix(w, "x.y/z", true);

	archive_add(&tar, "manifest.json", STR("[{\"Config\":\"c\",\"RepoTags\":[\"a:1\"],\"Layers\":[]}]"));
	archive_end(&tar);
	FAILS(import_archive(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, "configuration \"c\""));
	buf_clear(&tar);
	archive_add(&tar, "c", str_make(s.config.text, s.config.n));
	archive_add(&tar, "manifest.json", STR("[{\"Config\":\"c\",\"Layers\":[\"l\"]}]"));
	archive_end(&tar);
	FAILS(import_archive(w, &tar, store), ERR_NOT_FOUND);
	assert_non_null(strstr(w->err.msg, "layer \"l\""));
	buf_clear(&tar);
	archive_add(&tar, "manifest.json", STR("{}"));
	archive_end(&tar);
	FAILS(import_archive(w, &tar, store), ERR_INVALID);
	/* A link in a circle is no layer. */
	buf_clear(&tar);
	archive_add(&tar, "c", str_make(s.config.text, s.config.n));
	archive_add_link(&tar, "l", "m");
	archive_add_link(&tar, "m", "l");
	archive_add(&tar, "manifest.json", STR("[{\"Config\":\"c\",\"Layers\":[\"l\"]}]"));
	archive_end(&tar);
	FAILS(import_archive(w, &tar, store), ERR_NOT_FOUND);
	/* Only the oldest format's list of names. */
	buf_clear(&tar);
	archive_add(&tar, "repositories", STR("{\"app\":{\"1\":\"abc\"}}"));
	archive_end(&tar);
	FAILS(import_archive(w, &tar, store), ERR_INVALID);
	assert_string_equal(image_names(w), "");
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
	    TEST(a_bomb_of_holes),
	    TEST(a_docker_archive),
	    TEST(a_docker_archive_compressed_on_the_way),
	    TEST(docker_archives_that_are_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
