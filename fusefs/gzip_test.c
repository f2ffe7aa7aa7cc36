/* Opening ordinary gzip layers by indexes that stand beside their image (open_gzip.c). */
#include "fusefs/testverbs.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "estargz/gzseek/artifact.h"
#include "estargz/gzseek/build.h"
#include "estargz/gzseek/points_format.h"
#include "estargz/gzseek/test_gzip.h"
#include "estargz/index/index_format.h"
#include "estargz/testing/test_blob.h"
#include "registry/manifest_write.h"
#include "rpc/pb.h"
#include "rpc/service.h"

#include <isa-l/crc64.h>
#include <stdio.h>
#include <unistd.h>

#define FILES 23
#define BIG 2000000u

/* ---- layers ---- */

/* 20 small files and three large ones. `twist`: 1 changes a byte of the last one, 2 the mode of the first. */
static void make_tar(unsigned twist, struct buf *tar)
{
	char name[32], text[32];

	for (unsigned i = 0; i < FILES; i++) {
		AUTO(buf) struct buf content = BUF_INIT;

		snprintf(name, sizeof(name), "file-%u", i);
		snprintf(text, sizeof(text), "content of %u", i);
		if (i < 20)
			buf_adds(&content, text);
		else
			words(&content, BIG, i);
		if (twist == 1 && i == FILES - 1)
			content.p[BIG - 1] ^= 1;
		tar_entry(tar, '0', name, "", content.n, buf_str(&content));
	}
	buf_addz(tar, 1024);
	if (twist == 2) {
		/* Its last digit, and the checksum, become one more. */
		tar->p[106]++;
		for (int i = 153;; i--) {
			if (tar->p[i]++ < '7')
				break;
			tar->p[i] = '0';
		}
	}
}

/* Twisted ones are stored, so that all of them lie alike. */
static void make_layer(struct layer *l, unsigned twist, int level)
{
	AUTO(buf) struct buf tar = BUF_INIT;

	*l = (struct layer){.blob = BUF_INIT};
	make_tar(twist, &tar);
	digest_of(tar.p, tar.n, &l->diff_id);
	zlib_pack(&l->blob, buf_str(&tar), &(struct zlib_way){.level = level});
	digest_of(l->blob.p, l->blob.n, &l->digest);
}

/* The artifact of a layer; said to be that of `as`, if there is one. */
static void make_artifact(const struct layer *l, const struct layer *as, struct buf *out)
{
	AUTO(esgz_gzseek) struct esgz_gzseek *s = esgz_gzseek_new(NULL);
	AUTO(buf) struct buf points = BUF_INIT;
	AUTO(buf) struct buf index = BUF_INIT;
	struct esgz_layer_result result;

	OK(esgz_gzseek_feed(s, buf_str(&l->blob), err));
	OK(esgz_gzseek_blob_end(s, err));
	OK(esgz_gzseek_finish(s, &result, err));
	OK(esgz_gzseek_write(s, &index, &points, err));
	if (as) {
		memcpy(points.p + P_BLOB, as->digest.b, DIGEST_BYTES);
		memcpy(points.p + P_DIFF_ID, as->diff_id.b, DIGEST_BYTES);
		memcpy(index.p + H_BLOB, as->digest.b, DIGEST_BYTES);
		put_le64(points.p + P_CRC, crc64_ecma_refl(0, (uint8_t *)points.p + P_CRC + 8, points.n - P_CRC - 8));
	}
	OK(esgz_gzseek_pack(buf_str(&points), buf_str(&index), out, err));
}

/* ---- referrers ---- */

struct referrers {
	struct reg_descriptor subject;
	struct buf entries;
	unsigned n;
};

static void referrers_fini(struct referrers *r)
{
	buf_fini(&r->entries);
}
DEFINE_AUTO_FINI(referrers);

static void image_of(struct world *w, const struct layer *l, struct referrers *r)
{
	w->opts.gzip_index_hosts = "elsewhere:1,*";
	add_image(w, l, 1, 1);
	*r = (struct referrers){
	    .subject = reg_descriptor_of(STR(REG_MT_OCI_MANIFEST), buf_str(&vec_last(&w->resources)->bytes))};
}

/* One more referrer, with an artifact that is there, or not. */
static void refer(struct world *w, struct referrers *r, const struct layer *l, struct str artifact, bool there)
{
	char text[DIGEST_TEXT_MAX], *path;
	const struct reg_annotation note = {STR(ESGZ_ANN_GZIP_INDEX_LAYER), str_of(digest_text(&l->digest, text))};
	struct reg_descriptor d = reg_descriptor_of(STR(ESGZ_GZIP_INDEX_MEDIA_TYPE), artifact);
	AUTO(buf) struct buf manifest = BUF_INIT;
	struct digest digest;

	d.annotations = &note;
	d.n_annotations = 1;
	if (there)
		add_blob(w, artifact);
	reg_artifact_write(STR(ESGZ_GZIP_INDEX_ARTIFACT), &r->subject, &d, 1, &manifest);
	digest_of(manifest.p, manifest.n, &digest);
	path = xasprintf("manifests/%s", digest_text(&digest, text));
	add_resource(w, path, buf_str(&manifest));
	free(path);
	buf_addf(&r->entries,
	         "%s{\"mediaType\":\"" REG_MT_OCI_MANIFEST
	         "\",\"digest\":\"%s\",\"size\":%zu,\"artifactType\":\"" ESGZ_GZIP_INDEX_ARTIFACT "\"}",
	         r->n++ ? "," : "", text, manifest.n);
}

/* They can be asked for: by the API, or by the tag. */
static void publish(struct world *w, struct referrers *r, bool api)
{
	char text[DIGEST_TEXT_MAX], hex[65];
	AUTO_FREE char *path = api ? xasprintf("referrers/%s?artifactType=application%%2Fvnd.contentd.gzip-index.v1",
	                                       digest_text(&r->subject.digest, text))
	                           : xasprintf("manifests/sha256-%s", digest_hex(&r->subject.digest, hex));
	AUTO(buf) struct buf index = BUF_INIT;

	buf_addf(&index, "{\"schemaVersion\":2,\"mediaType\":\"" REG_MT_OCI_INDEX "\",\"manifests\":[%s]}",
	         buf_cstr(&r->entries));
	add_resource(w, path, buf_str(&index));
}

/* An image of one layer with a good index. */
static void good_image(struct world *w, bool api, struct layer *l)
{
	AUTO(referrers) struct referrers r;
	AUTO(buf) struct buf artifact = BUF_INIT;

	make_layer(l, 0, 6);
	make_artifact(l, NULL, &artifact);
	image_of(w, l, &r);
	refer(w, &r, l, buf_str(&artifact), true);
	publish(w, &r, api);
}

static bool is_lazy(struct world *w, struct buf *reason)
{
	AUTO(pb) PB(OpenResponse) *rsp = NULL;

	OK(ask_open(w, true, &rsp, err));
	assert_int_equal(rsp->n_layers, 1);
	if (reason) {
		buf_clear(reason);
		buf_adds(reason, rsp->layers[0]->reason);
	}
	return rsp->layers[0]->lazy;
}

/* The verdict, once there is one. */
static void await_verdict(struct world *w, const char *want)
{
	for (int64_t end = clock_mono_ns() + 20 * NS_PER_S;; usleep(10000)) {
		AUTO(pb) PB(OpenResponse) *rsp = NULL;

		OK(ask_open(w, true, &rsp, err));
		if (!strcmp(rsp->layers[0]->verdict, want))
			return;
		if (clock_mono_ns() > end)
			fail_msg("verdict is \"%s\", not \"%s\"", rsp->layers[0]->verdict, want);
	}
}

static unsigned questions(const struct world *w)
{
	return testserver_count(w->server, "/referrers/") + testserver_count(w->server, "/manifests/sha256-");
}

static unsigned blobs_read(const struct world *w, const struct layer *l)
{
	char text[DIGEST_TEXT_MAX];

	return testserver_count(w->server, digest_text(&l->digest, text));
}

/* ---- tests ---- */

static void a_gzip_layer_is_lazy(void **state)
{
	for (unsigned api = 0; api < 2; api++) {
		AUTO_FREE char *key = NULL;
		AUTO(layer) struct layer l;
		void *own = NULL;
		struct world *w;

		assert_int_equal(set_up(&own), 0);
		w = own;
		good_image(w, api, &l);
		assert_true(is_lazy(w, NULL));
		assert_int_equal(blobs_read(w, &l), 0);
		assert_int_equal(questions(w), api ? 1 : 2);
		key = open_and_fill(w);
		assert_objects(w, key, FILES);
		/* What was no chunk was kept: the proof reads nothing again. */
		await_verdict(w, "proven");
		assert_int_equal(blobs_read(w, &l), 1);
		assert_int_equal(tear_down(&own), 0);
	}
}

static void only_where_it_is_said(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *host = str_dup(str_of(w->reference));
	AUTO_FREE char *list = NULL;
	AUTO(layer) struct layer l;

	good_image(w, true, &l);
	*strchr(host, '/') = '\0';
	w->opts.gzip_index_hosts = "";
	assert_false(is_lazy(w, NULL));
	w->opts.gzip_index_hosts = NULL;
	assert_false(is_lazy(w, NULL));
	w->opts.gzip_index_hosts = "127.0.0.1,docker.io";
	assert_false(is_lazy(w, NULL));
	assert_int_equal(questions(w), 0);
	list = xasprintf("docker.io,%s", host);
	w->opts.gzip_index_hosts = list;
	assert_true(is_lazy(w, NULL));
	assert_int_equal(questions(w), 1);
	/* It is here, and still it is no business of who does not want it. */
	w->opts.gzip_index_hosts = "docker.io";
	assert_false(is_lazy(w, NULL));
	assert_int_equal(questions(w), 1);
}

static void it_outlives_the_worker(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO(layer) struct layer l;
	const char *key;
	unsigned files;

	good_image(w, true, &l);
	OK(ask_open(w, true, &rsp, err));
	assert_true(rsp->layers[0]->lazy);
	key = rsp->layers[0]->index_key;
	files = count_files(w, FFS_DIR_INDEX);
	assert_int_equal(files, 3); /* index, points, source */
	worker_end(w);
	worker_start(w);
	assert_int_equal(count_files(w, FFS_DIR_INDEX), files);
	OK(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err));
	assert_objects(w, key, FILES);
}

/* Points without an index go; an index without points is of no use, and is made again. */
static void one_without_the_other(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *points = NULL;
	AUTO_FREE char *key = NULL;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO(layer) struct layer l;
	int dir = ffs_store_dir(w->w.store, FFS_DIR_INDEX);

	good_image(w, true, &l);
	OK(ask_open(w, true, &rsp, err));
	points = xasprintf("%s.points", rsp->layers[0]->index_key);
	worker_end(w);
	worker_start(w);
	dir = ffs_store_dir(w->w.store, FFS_DIR_INDEX);
	assert_int_equal(unlinkat(dir, points, 0), 0);
	worker_end(w);
	worker_start(w);
	assert_int_equal(count_files(w, FFS_DIR_INDEX), 0);
	assert_true(is_lazy(w, NULL));
	assert_int_equal(unlinkat(ffs_store_dir(w->w.store, FFS_DIR_INDEX), rsp->layers[0]->index_key, 0), 0);
	worker_end(w);
	worker_start(w);
	assert_int_equal(faccessat(ffs_store_dir(w->w.store, FFS_DIR_INDEX), points, F_OK, 0), -1);
	key = open_and_fill(w);
	assert_objects(w, key, FILES);
}

static void damaged_points_are_found(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(VerifyResponse) *good = NULL;
	AUTO(pb) PB(VerifyResponse) *bad = NULL;
	AUTO_FREE char *points = NULL;
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l;

	good_image(w, true, &l);
	key = open_and_fill(w);
	points = xasprintf("%s.points", key);
	OK(ffs_client_verify(w->client, NULL, true, NULL, NULL, &good, err));
	assert_int_equal(good->damaged, 0);
	damage(w, FFS_DIR_INDEX, points, 200);
	OK(ffs_client_verify(w->client, NULL, true, NULL, NULL, &bad, err));
	assert_int_equal(bad->damaged, 1);
	assert_string_equal(bad->damages[0]->name, key);
	assert_non_null(strstr(bad->damages[0]->reason, "points: checksum"));
	assert_true(bad->damages[0]->removed && bad->damages[0]->lazy);
	assert_int_equal(count_files(w, FFS_DIR_INDEX), 0);
	assert_true(is_lazy(w, NULL));
}

/* Whatever is wrong with an index, the layer is an ordinary one, and the pull goes on. */
static void what_is_of_no_use(void **state)
{
	static const char *const ways[] = {
	    "damaged", "of another layer", "of another DiffID", "absent", "no referrer", "too large", "cut"};

	for (unsigned way = 0; way < ARRAY_LEN(ways); way++) {
		AUTO(referrers) struct referrers r;
		AUTO(buf) struct buf artifact = BUF_INIT;
		AUTO(buf) struct buf reason = BUF_INIT;
		AUTO(layer) struct layer l, other = {0};
		void *own = NULL;
		struct world *w;

		assert_int_equal(set_up(&own), 0);
		w = own;
		make_layer(&l, 0, 6);
		make_layer(&other, 1, 6);
		if (way == 2) {
			struct layer as = l;

			as.diff_id = other.diff_id;
			make_artifact(&l, &as, &artifact);
		} else {
			make_artifact(way == 1 ? &other : &l, NULL, &artifact);
		}
		if (way == 0)
			artifact.p[artifact.n / 2] ^= 1;
		if (way == 5)
			buf_addz(&artifact, ESGZ_ARTIFACT_PACKED_MAX(l.blob.n));
		if (way == 6)
			artifact.n--;
		image_of(w, &l, &r);
		refer(w, &r, &l, buf_str(&artifact), way != 3);
		if (way != 4)
			publish(w, &r, true);
		if (is_lazy(w, &reason))
			fail_msg("an index that is %s is used", ways[way]);
		assert_non_null(strstr(buf_cstr(&reason), "no gzip index of it is of use"));
		assert_int_equal(tear_down(&own), 0);
	}
}

/* The last one of the list is the newest; those that are of no use do not hide the ones before them. */
static void the_newest_that_works(void **state)
{
	struct world *w = *state;
	AUTO(referrers) struct referrers r;
	AUTO(buf) struct buf good = BUF_INIT;
	AUTO(buf) struct buf bad = BUF_INIT;
	AUTO(buf) struct buf strange = BUF_INIT;
	AUTO(layer) struct layer l, as;

	make_layer(&l, 0, 6);
	make_layer(&as, 0, 6);
	as.diff_id.b[0] ^= 1;
	make_artifact(&l, &as, &strange);
	make_artifact(&l, NULL, &good);
	buf_addstr(&bad, buf_str(&good));
	bad.p[bad.n / 2] ^= 1;
	image_of(w, &l, &r);
	refer(w, &r, &l, STR("never asked for"), true);
	refer(w, &r, &l, buf_str(&good), true);
	refer(w, &r, &l, STR("none"), true);
	refer(w, &r, &l, buf_str(&strange), true);
	refer(w, &r, &l, buf_str(&bad), true);
	publish(w, &r, true);
	assert_true(is_lazy(w, NULL));
	/* The image's own, and four. */
	assert_int_equal(testserver_count(w->server, "GET /v2/some/image/manifests"), 5);
	assert_true(is_lazy(w, NULL)); /* by those that are here now */
}

/* Its index is found to be false; the layer is not lazy by it any more. */
static void await_refusal(struct world *w)
{
	for (int64_t end = clock_mono_ns() + 20 * NS_PER_S; is_lazy(w, NULL); usleep(10000))
		assert_true(clock_mono_ns() < end);
}

/* Chunks that are not as the index says: nothing of them is shown, and it is not used again. */
static void lies_about_contents_are_not_read(void **state)
{
	struct world *w = *state;
	AUTO(referrers) struct referrers r;
	AUTO(buf) struct buf artifact = BUF_INIT;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO(buf) struct buf content = BUF_INIT;
	AUTO(layer) struct layer l, told;
	struct digest claimed;
	const char *key;

	make_layer(&l, 0, 0);
	make_layer(&told, 1, 0);
	assert_int_equal(l.blob.n, told.blob.n);
	make_artifact(&told, &l, &artifact);
	image_of(w, &l, &r);
	refer(w, &r, &l, buf_str(&artifact), true);
	publish(w, &r, true);
	OK(ask_open(w, true, &rsp, err));
	assert_true(rsp->layers[0]->lazy);
	key = rsp->layers[0]->index_key;
	/* Once, the line could be at fault. */
	for (unsigned i = 0; i < 2; i++)
		FAILS(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err), ERR_DATA_LOSS);
	words(&content, BIG, FILES - 1);
	content.p[BIG - 1] ^= 1;
	digest_of(content.p, content.n, &claimed);
	assert_false(has_object(w, &claimed));
	await_refusal(w);
}

/* Spans without a chunk are none that a fill brings: the proof reads them, and nothing else, again. */
static void spans_without_chunks_are_proven(void **state)
{
	struct world *w = *state;
	AUTO(referrers) struct referrers r;
	AUTO(buf) struct buf artifact = BUF_INIT;
	AUTO(buf) struct buf content = BUF_INIT;
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(ffs_source) struct ffs_source known = {0};
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l = {.blob = BUF_INIT};
	struct digest index;
	char name[32];

	words(&content, BIG, 1);
	tar_entry(&tar, '0', "first", "", content.n, buf_str(&content));
	for (unsigned i = 0; i < 15000; i++) {
		snprintf(name, sizeof(name), "empty-%u", i);
		tar_entry(&tar, '0', name, "", 0, STR_NONE);
	}
	tar_entry(&tar, '0', "last", "", content.n / 2, buf_str(&content));
	buf_addz(&tar, 1024);
	digest_of(tar.p, tar.n, &l.diff_id);
	zlib_pack(&l.blob, buf_str(&tar), &(struct zlib_way){.level = 6, .flush_every = 200000});
	digest_of(l.blob.p, l.blob.n, &l.digest);
	make_artifact(&l, NULL, &artifact);
	image_of(w, &l, &r);
	refer(w, &r, &l, buf_str(&artifact), true);
	publish(w, &r, true);
	key = open_and_fill(w);
	await_verdict(w, "proven");
	assert_in_range(blobs_read(w, &l), 2, 3);
	assert_true(digest_from_hex(str_of(key), &index));
	OK(ffs_index_source(w->w.store, &index, &known, err));
	assert_false(known.facts.of_blob); /* all of the blob was not needed */
}

/* All contents are right, and a mode is not: found once all of it was here, and the index is refused from then on. */
static void lies_about_names_are_found(void **state)
{
	struct world *w = *state;
	AUTO(referrers) struct referrers r;
	AUTO(buf) struct buf artifact = BUF_INIT;
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l, told;

	make_layer(&l, 0, 0);
	make_layer(&told, 2, 0);
	assert_int_equal(l.blob.n, told.blob.n);
	make_artifact(&told, &l, &artifact);
	image_of(w, &l, &r);
	refer(w, &r, &l, buf_str(&artifact), true);
	publish(w, &r, true);
	key = open_and_fill(w);
	await_refusal(w);
	worker_end(w);
	worker_start(w);
	assert_false(is_lazy(w, NULL));
}

/* Nor does one that was refused. */
static void one_that_is_false_hides_none(void **state)
{
	struct world *w = *state;
	AUTO(referrers) struct referrers r;
	AUTO(buf) struct buf good = BUF_INIT;
	AUTO(buf) struct buf bad = BUF_INIT;
	AUTO_FREE char *key = NULL;
	AUTO(layer) struct layer l, told;

	make_layer(&l, 0, 0);
	make_layer(&told, 2, 0);
	make_artifact(&l, NULL, &good);
	make_artifact(&told, &l, &bad);
	image_of(w, &l, &r);
	refer(w, &r, &l, buf_str(&good), true);
	refer(w, &r, &l, buf_str(&bad), true);
	publish(w, &r, true);
	key = open_and_fill(w);
	/* The false one is known for what it is; the layer stays lazy by the other. */
	for (int64_t end = clock_mono_ns() + 20 * NS_PER_S;; usleep(10000)) {
		AUTO(pb) PB(OpenResponse) *rsp = NULL;

		assert_true(clock_mono_ns() < end);
		OK(ask_open(w, true, &rsp, err));
		assert_true(rsp->layers[0]->lazy);
		if (strcmp(rsp->layers[0]->index_key, key))
			break;
	}
}

/* It is refused here, which may be said of one that is there nevertheless. */
static void push_referrer(struct world *w, const struct referrers *r)
{
	PB(PushManifestRequest) req = CONTENTD__CONTENTFS__V1__PUSH_MANIFEST_REQUEST__INIT;
	const struct reg_descriptor none = reg_descriptor_of(STR("x/y"), STR("1"));
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FD int fd = -1;

	reg_artifact_write(STR(ESGZ_GZIP_INDEX_ARTIFACT), &r->subject, &none, 1, &text);
	OK(memfd_of("referrer", buf_str(&text), &fd, err));
	req.reference = w->reference;
	req.media_type = (char *)REG_MT_OCI_MANIFEST;
	req.referrer = true;
	FAILS(ffs_client_push_manifest(w->client, NULL, 0, &req, fd, err), ERR_NOT_FOUND);
}

/* What one Open learned, the next one need not ask for; until somebody puts an index there through us. */
static void that_there_is_none_is_remembered(void **state)
{
	struct world *w = *state;
	AUTO(referrers) struct referrers r;
	AUTO(buf) struct buf reason = BUF_INIT;
	AUTO(layer) struct layer l;

	make_layer(&l, 0, 6);
	image_of(w, &l, &r);
	publish(w, &r, true);
	for (unsigned i = 0; i < 3; i++) {
		assert_false(is_lazy(w, &reason));
		assert_string_equal(buf_cstr(&reason), "not a lazy layer, and no gzip index of it is of use");
	}
	assert_int_equal(questions(w), 1);
	refer_to(w, "other/image");
	assert_false(is_lazy(w, NULL));
	assert_int_equal(questions(w), 2);
	assert_false(is_lazy(w, NULL));
	assert_int_equal(questions(w), 2);
	push_referrer(w, &r);
	assert_false(is_lazy(w, NULL));
	assert_int_equal(questions(w), 3);
}

struct opener {
	struct world *w;
	struct rpc_call *call;
	struct err err;
};

static void *open_it(void *arg)
{
	PB(OpenRequest) req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	struct opener *o = arg;
	AUTO_FD int docs = -1;

	req.reference = o->w->reference;
	req.lazy = true;
	ffs_client_open(o->w->client, o->call, &req, NULL, NULL, &rsp, &docs, &o->err);
	return NULL;
}

/* Nobody waits for a registry that keeps silent about referrers when the call is over. */
static void who_looks_for_them_can_be_called_off(void **state)
{
	struct world *w = *state;
	struct opener o = {.w = w, .call = rpc_own_begin(), .err = ERR_INIT};
	AUTO(referrers) struct referrers r;
	AUTO(layer) struct layer l;
	pthread_t thread;

	make_layer(&l, 0, 6);
	image_of(w, &l, &r);
	publish(w, &r, true);
	vec_last(&w->resources)->stalls = true;
	pthread_create(&thread, NULL, open_it, &o);
	while (!atomic_load(&w->stalled))
		usleep(1000);
	rpc_own_cancel(o.call, ERR_CANCELLED);
	pthread_join(thread, NULL);
	rpc_own_end(o.call);
	assert_int_equal(o.err.code, ERR_CANCELLED);
	/* The request itself is ended, and not left to its time. */
	for (unsigned i = 0; !atomic_load(&w->given_up); i++, usleep(10000))
		if (i == 500)
			fail_msg("the registry is still asked");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_gzip_layer_is_lazy),
	    T(only_where_it_is_said),
	    T(it_outlives_the_worker),
	    T(one_without_the_other),
	    T(damaged_points_are_found),
	    cmocka_unit_test(what_is_of_no_use),
	    T(the_newest_that_works),
	    T(lies_about_contents_are_not_read),
	    T(spans_without_chunks_are_proven),
	    T(lies_about_names_are_found),
	    T(one_that_is_false_hides_none),
	    T(that_there_is_none_is_remembered),
	    T(who_looks_for_them_can_be_called_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
