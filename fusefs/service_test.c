/*
 * The verbs, in one process: a registry in memory, the real client, data, store and socket. What needs a mount and a
 * second process is in tests/integration/service.sh.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/unix.h"
#include "estargz/convert.h"
#include "fusefs/client.h"
#include "fusefs/secrets.h"
#include "fusefs/service.h"
#include "fusefs/table.h"
#include "registry/client.h"
#include "registry/testserver.h"
#include "rpc/pb.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PB(name) Contentd__Contentfs__V1__##name

#define OK(expr)                                                                                                       \
	do {                                                                                                           \
		struct err e_ = ERR_INIT;                                                                              \
		struct err *err = &e_;                                                                                 \
		if ((expr) < 0)                                                                                        \
			fail_msg("%s: %s", #expr, e_.msg);                                                             \
	} while (0)

#define FAILS(expr, c, text)                                                                                           \
	do {                                                                                                           \
		struct err e_ = ERR_INIT;                                                                              \
		struct err *err = &e_;                                                                                 \
		assert_true((expr) < 0);                                                                               \
		if (e_.code != (c) || !strstr(e_.msg, (text)))                                                         \
			fail_msg("%s: %s: %s", #expr, err_code_name(e_.code), e_.msg);                                 \
	} while (0)

/* ---- a registry ---- */

struct resource {
	char *path; /* "blobs/sha256:...", "manifests/latest" */
	struct buf bytes;
	bool stalls;
};

struct world {
	char dir[48];
	struct testserver *server;
	VEC(struct resource) resources; /* complete before the first request */
	atomic_uint stalled;
	atomic_bool password;           /* who does not say bob:s3cret is turned away */
	_Atomic(const char *) withheld; /* a path that other/image does not have */
	char reference[64];
	struct ffs_options opts;
	struct ffs_worker w;
	struct ffs_service *service;
	struct ffs_client *client;
};

static bool serve(struct exchange *x)
{
	struct world *w = x->arg;
	struct str path = x->path;
	bool other;
	char byte;

	if (w->password && !str_eqc(exchange_header(x, "Authorization"), "Basic Ym9iOnMzY3JldA=="))
		return exchange_reply(x, 401, "WWW-Authenticate: Basic realm=\"x\"\r\n", STR_NONE);
	other = str_skip(&path, STR("/v2/other/image/"));
	if (!other && !str_skip(&path, STR("/v2/some/image/")))
		return exchange_reply(x, 404, "", STR_NONE);
	vec_each(&w->resources, r) {
		if (!str_eqc(path, r->path) || (other && w->withheld && str_eqc(path, w->withheld)))
			continue;
		if (r->stalls) {
			atomic_fetch_add(&w->stalled, 1);
			return read(x->fd, &byte, 1) > 0; /* until the client has had enough */
		}
		if (str_starts(path, STR("manifests/")))
			return exchange_reply(x, 200, "Content-Type: " REG_MT_OCI_MANIFEST "\r\n", buf_str(&r->bytes));
		return exchange_blob(x, buf_str(&r->bytes));
	}
	return exchange_reply(x, 404, "", STR_NONE);
}

static struct resource *add_resource(struct world *w, const char *path, struct str bytes)
{
	struct resource *r = vec_add(&w->resources);

	r->path = xstrdup(path);
	buf_addstr(&r->bytes, bytes);
	return r;
}

static struct digest add_blob(struct world *w, struct str bytes)
{
	char path[80] = "blobs/";
	struct digest d;

	digest_of(bytes.p, bytes.n, &d);
	digest_text(&d, path + 6);
	add_resource(w, path, bytes);
	return d;
}

static struct resource *find_blob(struct world *w, const struct digest *d)
{
	char path[80] = "blobs/";

	digest_text(d, path + 6);
	vec_each(&w->resources, r)
		if (!strcmp(r->path, path))
			return r;
	fail_msg("no %s", path);
	return NULL;
}

/* ---- layers and images ---- */

static void tar_add(struct buf *tar, char type, const char *name, struct str content)
{
	char *b = buf_reserve(tar, 512);
	unsigned sum = 0;

	memset(b, 0, 512);
	strcpy(b, name);
	strcpy(b + 100, "0000644");
	snprintf(b + 124, 12, "%011llo", (unsigned long long)content.n);
	memset(b + 148, ' ', 8);
	b[156] = type;
	memcpy(b + 257, "ustar\00000", 8);
	for (int i = 0; i < 512; i++)
		sum += (uint8_t)b[i];
	snprintf(b + 148, 8, "%06o", sum);
	tar->n += 512;
	buf_addstr(tar, content);
	buf_addz(tar, -content.n & 511);
}

struct layer {
	struct buf blob;
	struct digest digest, diff_id, toc;
	bool lazy; /* the manifest names the TOC */
};

static void layer_fini(struct layer *l)
{
	buf_fini(&l->blob);
}
DEFINE_AUTO_FINI(layer);

/* A tar of `files` small files and one of 1 MiB. */
static void layer_plain(struct layer *l, unsigned seed, unsigned files)
{
	AUTO(buf) struct buf big = BUF_INIT;
	char name[64], text[64];

	*l = (struct layer){.blob = BUF_INIT};
	for (unsigned i = 0; i < files; i++) {
		snprintf(name, sizeof(name), "file-%u-%u", seed, i);
		snprintf(text, sizeof(text), "content %u of %u", i, seed);
		tar_add(&l->blob, '0', name, str_of(text));
	}
	for (uint32_t i = 0; i < 1u << 20; i++)
		buf_addc(&big, (char)((i + seed) * 2654435761u >> 13));
	snprintf(name, sizeof(name), "big-%u", seed);
	tar_add(&l->blob, '0', name, buf_str(&big));
	buf_addz(&l->blob, 1024);
	digest_of(l->blob.p, l->blob.n, &l->digest);
	l->diff_id = l->digest;
}

struct convert {
	struct str in;
	struct buf *out;
};

static int convert_read(void *arg, void *dst, size_t dst_bytes, size_t *n, struct err *err)
{
	struct convert *c = arg;

	*n = c->in.n < dst_bytes ? c->in.n : dst_bytes;
	memcpy(dst, c->in.p, *n);
	c->in = str_sub(c->in, *n, c->in.n);
	return 0;
}

static int convert_write(void *arg, struct str bytes, struct err *err)
{
	buf_addstr(((struct convert *)arg)->out, bytes);
	return 0;
}

static void layer_lazy(struct layer *l, unsigned seed, unsigned files)
{
	const struct esgz_convert_opts opts = {.level = 1, .threads = 1};
	AUTO(layer) struct layer plain;
	struct buf blob = BUF_INIT;
	struct convert c;
	const struct esgz_convert_io io = {convert_read, convert_write, &c};
	struct esgz_convert_result r;

	layer_plain(&plain, seed, files);
	c = (struct convert){buf_str(&plain.blob), &blob};
	OK(esgz_convert(&opts, &io, &r, err));
	*l = (struct layer){.blob = blob, .digest = r.blob, .diff_id = r.diff_id, .toc = r.toc, .lazy = true};
}

/* Adds the blobs, a configuration and the manifest "latest". `diff_ids`: how many of them the configuration has. */
static void add_image(struct world *w, const struct layer *layers, unsigned n, unsigned diff_ids)
{
	AUTO(buf) struct buf config = BUF_INIT;
	AUTO(buf) struct buf manifest = BUF_INIT;
	char text[DIGEST_TEXT_MAX], toc[DIGEST_TEXT_MAX];
	struct digest config_digest;

	buf_adds(&config,
	         "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[");
	for (unsigned i = 0; i < diff_ids; i++)
		buf_addf(&config, "%s\"%s\"", i ? "," : "", digest_text(&layers[i % n].diff_id, text));
	buf_adds(&config, "]}}");
	config_digest = add_blob(w, buf_str(&config));
	buf_addf(&manifest,
	         "{\"schemaVersion\":2,\"mediaType\":\"" REG_MT_OCI_MANIFEST
	         "\",\"config\":{\"mediaType\":\"" REG_MT_OCI_CONFIG "\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
	         digest_text(&config_digest, text), config.n);
	for (unsigned i = 0; i < n; i++) {
		const struct layer *l = &layers[i];

		add_blob(w, buf_str(&l->blob));
		buf_addf(&manifest, "%s{\"mediaType\":\"" REG_MT_OCI_LAYER_GZIP "\",\"digest\":\"%s\",\"size\":%zu",
		         i ? "," : "", digest_text(&l->digest, text), l->blob.n);
		if (l->lazy)
			buf_addf(&manifest, ",\"annotations\":{\"containerd.io/snapshot/stargz/toc.digest\":\"%s\"}",
			         digest_text(&l->toc, toc));
		buf_addc(&manifest, '}');
	}
	buf_adds(&manifest, "]}");
	add_resource(w, "manifests/latest", buf_str(&manifest));
}

static void refer_to(struct world *w, const char *repository)
{
	snprintf(w->reference, sizeof(w->reference), "127.0.0.1:%u/%s", testserver_port(w->server), repository);
}

/* ---- a worker ---- */

static void worker_start(struct world *w)
{
	const struct ffs_client_opts opts = {.root = w->dir, .state = w->dir, .program = "/bin/false"};
	struct ffs_blobs blobs;

	OK(ffs_table_open(w->w.state_fd, &w->w.table, err));
	OK(ffs_store_open(w->dir, &w->w.store, err));
	OK(reg_client_new(&(struct reg_client_opts){.backoff_ms = 1}, &w->w.client, err));
	OK(ffs_secrets_open(w->w.creds_fd, w->w.client, &w->w.secrets, err));
	w->w.registries = (struct ffs_registries){w->w.client, w->w.secrets};
	blobs = ffs_blobs_registry(&w->w.registries);
	OK(ffs_data_new(w->w.store, &blobs, &w->opts.data, &w->w.data, err));
	OK(ffs_service_new(&w->w, &w->service, err));
	OK(ffs_service_start(w->service, err));
	OK(ffs_client_new(&opts, &w->client, err));
}

static void worker_end(struct world *w)
{
	ffs_client_free(w->client);
	ffs_service_free(w->service);
	ffs_data_free(w->w.data);
	ffs_secrets_free(w->w.secrets);
	reg_client_free(w->w.client);
	ffs_store_close(w->w.store);
	ffs_table_close(w->w.table);
}

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	char socket[80];

	strcpy(w->dir, "/tmp/service-test-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->server = testserver_new(serve, w);
	refer_to(w, "some/image");
	w->opts = (struct ffs_options){.certs_dir = w->dir, .data.background = FFS_BACKGROUND_OFF, .data.threads = 1};
	w->w.opts = &w->opts;
	w->w.generation = 7;
	strcpy(w->w.mount, "/nowhere");
	w->w.creds_fd = memfd_create("credentials", MFD_CLOEXEC);
	w->w.fuse_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	w->w.lock_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	w->w.link_fd = -1;
	snprintf(socket, sizeof(socket), "%s/contentfs.sock", w->dir);
	OK(unix_listen(socket, SOCK_SEQPACKET, 0600, &w->w.listen_fd, err));
	OK(ffs_table_create(STR("init"), &w->w.state_fd, err));
	worker_start(w);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	worker_end(w);
	testserver_free(w->server);
	vec_each(&w->resources, r) {
		free(r->path);
		buf_fini(&r->bytes);
	}
	vec_fini(&w->resources);
	close(w->w.creds_fd);
	close(w->w.fuse_fd);
	close(w->w.lock_fd);
	close(w->w.listen_fd);
	close(w->w.state_fd);
	dir_remove(AT_FDCWD, w->dir, NULL);
	free(w);
	return 0;
}

static int ask_open(struct world *w, bool lazy, PB(OpenResponse) * *out, struct err *err)
{
	PB(OpenRequest) req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;
	AUTO_FD int docs = -1;

	req.reference = w->reference;
	req.lazy = lazy;
	return ffs_client_open(w->client, NULL, &req, NULL, NULL, out, &docs, err);
}

/* Unpacks a layer's blob; fd: as from_fd, or as ingest (tee), or -1. */
static int ask_unpack(struct world *w, const struct layer *l, const struct digest *diff_id, int fd, bool tee,
                      PB(UnpackResponse) * *out, struct err *err)
{
	PB(UnpackRequest) req = CONTENTD__CONTENTFS__V1__UNPACK_REQUEST__INIT;
	PB(Descriptor) d = CONTENTD__CONTENTFS__V1__DESCRIPTOR__INIT;
	char blob[DIGEST_TEXT_MAX], diff[DIGEST_TEXT_MAX];

	d.digest = digest_text(&l->digest, blob);
	d.size = (int64_t)l->blob.n;
	req.reference = w->reference;
	req.layer = &d;
	req.diff_id = diff_id ? digest_text(diff_id, diff) : (char *)"";
	req.tee = tee;
	req.from_fd = fd >= 0 && !tee;
	return ffs_client_unpack(w->client, NULL, &req, fd, NULL, NULL, out, err);
}

static unsigned count_files(const struct world *w, enum ffs_dir which)
{
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	unsigned n = 0;

	OK(dir_iter_open(ffs_store_dir(w->w.store, which), &d, err));
	while (dir_iter_next(d, &e, NULL) > 0)
		n++;
	return n;
}

static void assert_nothing_published(const struct world *w)
{
	for (enum ffs_dir d = 0; d < FFS_DIRS; d++)
		assert_int_equal(count_files(w, d), 0);
}

/* The content of every file of the index is in the store. */
static void assert_objects(const struct world *w, const char *index_key, unsigned files)
{
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct digest key;
	struct str bytes;
	unsigned n = 0;

	assert_true(digest_from_hex(str_of(index_key), &key));
	OK(ffs_index_map(w->w.store, &key, &bytes, err));
	OK(esgz_index_open(bytes, &ix, err));
	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_entries; i++) {
		AUTO(buf) struct buf content = BUF_INIT;
		AUTO_FD int fd = -1;
		struct esgz_entry e;
		struct digest d;

		esgz_index_entry(ix, i, &e);
		if (e.type != ESGZ_REG)
			continue;
		OK(ffs_object_open(w->w.store, &e.content, e.size, &fd, err));
		OK(fd_read_all(fd, 16u << 20, &content, err));
		digest_of(content.p, content.n, &d);
		assert_true(digest_eq(&d, &e.content));
		n++;
	}
	ffs_index_unmap(bytes);
	assert_int_equal(n, files);
}

/* ---- unpack ---- */

static void a_layer_from_a_file(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(UnpackResponse) *rsp = NULL;
	AUTO_FD int fd = -1;

	layer_plain(&l, 1, 10);
	OK(memfd_of("blob", buf_str(&l.blob), &fd, err));
	OK(ask_unpack(w, &l, NULL, fd, false, &rsp, err));
	assert_objects(w, rsp->index_key, 11);
	assert_int_equal(rsp->plain_bytes, l.blob.n);
	assert_int_equal(testserver_count(w->server, "GET"), 0);
}

static void a_layer_from_the_registry(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(UnpackResponse) *rsp = NULL;
	AUTO(buf) struct buf copy = BUF_INIT;
	AUTO_FD int fd = memfd_create("ingest", MFD_CLOEXEC);

	layer_lazy(&l, 2, 10);
	add_blob(w, buf_str(&l.blob));
	assert_int_equal(write(fd, "what was here before", 20), 20);
	OK(ask_unpack(w, &l, &l.diff_id, fd, true, &rsp, err));
	assert_objects(w, rsp->index_key, 11);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	OK(fd_read_all(fd, 16u << 20, &copy, err));
	assert_int_equal(copy.n, l.blob.n);
	assert_memory_equal(copy.p, l.blob.p, copy.n);
}

static void what_is_wrong_is_not_published(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(UnpackResponse) *rsp = NULL;
	AUTO_FD int fd = -1;
	AUTO_FD int cut = -1;
	struct digest other = {{1}};

	layer_plain(&l, 1, 10);
	OK(memfd_of("blob", buf_str(&l.blob), &fd, err));
	FAILS(ask_unpack(w, &l, &other, fd, false, &rsp, err), ERR_DATA_LOSS, "should be sha256:0100");
	assert_nothing_published(w);
	OK(memfd_of("cut", str_sub(buf_str(&l.blob), 0, l.blob.n - 512), &cut, err));
	FAILS(ask_unpack(w, &l, NULL, cut, false, &rsp, err), ERR_DATA_LOSS, "bytes came");
	l.blob.n -= 512;
	FAILS(ask_unpack(w, &l, NULL, fd, false, &rsp, err), ERR_DATA_LOSS, "more than the");
	l.blob.n += 512;
	l.digest.b[0] ^= 1;
	FAILS(ask_unpack(w, &l, NULL, fd, false, &rsp, err), ERR_DATA_LOSS, "digest of the blob");
	FAILS(ask_unpack(w, &l, NULL, -1, true, &rsp, err), ERR_INVALID, "no descriptor");
	FAILS(ask_unpack(w, &l, NULL, -1, false, &rsp, err), ERR_NOT_FOUND, w->reference);
	assert_nothing_published(w);
}

struct racer {
	struct world *w;
	const struct layer *l;
	pthread_t thread;
	PB(UnpackResponse) * rsp;
	struct err err;
};

static void *race(void *arg)
{
	struct racer *r = arg;

	r->err = ERR_INIT;
	ask_unpack(r->w, r->l, &r->l->diff_id, -1, false, &r->rsp, &r->err);
	return NULL;
}

static void many_who_want_the_same(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	struct racer racers[6];

	layer_lazy(&l, 3, 200);
	add_blob(w, buf_str(&l.blob));
	for (size_t i = 0; i < ARRAY_LEN(racers); i++) {
		racers[i] = (struct racer){.w = w, .l = &l};
		assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(racers); i++) {
		pthread_join(racers[i].thread, NULL);
		assert_string_equal(racers[i].err.msg, "");
		assert_string_equal(racers[i].rsp->index_key, racers[0].rsp->index_key);
	}
	assert_objects(w, racers[0].rsp->index_key, 201);
	for (size_t i = 0; i < ARRAY_LEN(racers); i++)
		pb_free(racers[i].rsp);
}

/* ---- open ---- */

static void two_round_trips(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO(pb) PB(OpenResponse) *again = NULL;
	struct layer l[3];

	layer_lazy(&l[0], 1, 10);
	layer_plain(&l[1], 2, 10);
	layer_lazy(&l[2], 3, 8000); /* its TOC is longer than a guess */
	add_image(w, l, 3, 3);
	OK(ask_open(w, true, &rsp, err));
	assert_int_equal(rsp->n_layers, 3);
	assert_true(rsp->layers[0]->lazy && rsp->layers[2]->lazy && !rsp->layers[1]->lazy);
	assert_string_equal(rsp->layers[1]->index_key, "");
	assert_non_null(strstr(rsp->layers[1]->reason, "no TOC"));
	assert_int_equal(testserver_count(w->server, "GET /v2/some/image/manifests"), 1);
	assert_int_equal(testserver_count(w->server, "GET /v2/some/image/blobs"), 4);
	/* The layers are known from then on. */
	OK(ask_open(w, true, &again, err));
	assert_string_equal(again->layers[2]->index_key, rsp->layers[2]->index_key);
	assert_int_equal(testserver_count(w->server, "GET /v2/some/image/blobs"), 5);
	for (size_t i = 0; i < ARRAY_LEN(l); i++)
		layer_fini(&l[i]);
}

static void an_unpacked_layer_is_known(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(UnpackResponse) *unpacked = NULL;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;

	layer_plain(&l, 1, 3);
	add_image(w, &l, 1, 1);
	OK(ask_unpack(w, &l, NULL, -1, false, &unpacked, err));
	OK(ask_open(w, false, &rsp, err));
	assert_string_equal(rsp->layers[0]->index_key, unpacked->index_key);
	assert_false(rsp->layers[0]->lazy);
	assert_string_equal(rsp->layers[0]->diff_id, unpacked->diff_id);
}

static void lies_about_the_toc(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	struct layer l[3];

	layer_lazy(&l[0], 1, 10);
	l[0].toc.b[5] ^= 1;
	layer_plain(&l[1], 2, 10);
	l[1].lazy = true;
	layer_lazy(&l[2], 3, 10);
	add_image(w, l, 3, 3);
	find_blob(w, &l[2].digest)->bytes.p[l[2].blob.n - 60] ^= 0x55; /* in the end of the TOC */
	OK(ask_open(w, true, &rsp, err));
	for (size_t i = 0; i < ARRAY_LEN(l); i++) {
		assert_false(rsp->layers[i]->lazy);
		assert_string_equal(rsp->layers[i]->index_key, "");
		assert_non_null(strstr(rsp->layers[i]->reason, rsp->layers[i]->descriptor->digest));
		layer_fini(&l[i]);
	}
	assert_non_null(strstr(rsp->layers[0]->reason, "should be sha256:"));
	assert_non_null(strstr(rsp->layers[1]->reason, "ends without one"));
	assert_nothing_published(w);
}

static void images_that_make_no_sense(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;

	FAILS(ask_open(w, true, &rsp, err), ERR_NOT_FOUND, w->reference);
	layer_lazy(&l, 1, 10);
	add_image(w, &l, 1, 2);
	FAILS(ask_open(w, true, &rsp, err), ERR_INVALID, "1 layers, but 2 DiffIDs");
	strcpy(w->reference, "NO/REFERENCE");
	FAILS(ask_open(w, true, &rsp, err), ERR_INVALID, "");
}

static void a_registry_that_loses_a_layer(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	struct resource *r;

	layer_lazy(&l, 1, 10);
	add_image(w, &l, 1, 1);
	r = find_blob(w, &l.digest);
	r->path[6] = 'X';
	FAILS(ask_open(w, true, &rsp, err), ERR_NOT_FOUND, "layer sha256:");
	r->path[6] = 's';
	OK(ask_open(w, true, &rsp, err));
}

/* ---- the end of things ---- */

static void *open_stalled(void *arg)
{
	struct racer *r = arg;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;

	r->err = ERR_INIT;
	ask_open(r->w, true, &rsp, &r->err);
	return NULL;
}

static void *unpack_stalled(void *arg)
{
	struct racer *r = arg;

	r->err = ERR_INIT;
	ask_unpack(r->w, r->l, NULL, -1, false, &r->rsp, &r->err);
	return NULL;
}

static void assert_ended(const struct racer *r)
{
	if (r->err.code != ERR_OK && r->err.code != ERR_UNAVAILABLE)
		fail_msg("%s", r->err.msg);
	if (r->rsp)
		assert_objects(r->w, r->rsp->index_key, 11);
	pb_free(r->rsp);
}

/* A worker that ends does not wait for a registry that says nothing. Who asked is told so, or asks the next worker, as
 * the connection ends before or after the answer. */
static void stopping_ends_all_calls(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	struct racer opener = {.w = w}, unpacker = {.w = w, .l = &l}, joiner = {.w = w, .l = &l};

	layer_lazy(&l, 1, 10);
	add_image(w, &l, 1, 1);
	find_blob(w, &l.digest)->stalls = true;
	pthread_create(&opener.thread, NULL, open_stalled, &opener);
	pthread_create(&unpacker.thread, NULL, unpack_stalled, &unpacker);
	pthread_create(&joiner.thread, NULL, unpack_stalled, &joiner);
	while (atomic_load(&w->stalled) < 2)
		usleep(1000);
	ffs_service_stop(w->service);
	find_blob(w, &l.digest)->stalls = false;
	ffs_service_free(w->service);
	w->service = NULL;
	ffs_data_free(w->w.data);
	ffs_secrets_free(w->w.secrets);
	reg_client_free(w->w.client);
	{
		struct ffs_blobs blobs;

		OK(reg_client_new(NULL, &w->w.client, err));
		OK(ffs_secrets_open(w->w.creds_fd, w->w.client, &w->w.secrets, err));
		w->w.registries = (struct ffs_registries){w->w.client, w->w.secrets};
		blobs = ffs_blobs_registry(&w->w.registries);
		OK(ffs_data_new(w->w.store, &blobs, &w->opts.data, &w->w.data, err));
		OK(ffs_service_new(&w->w, &w->service, err));
		OK(ffs_service_start(w->service, err));
	}
	pthread_join(opener.thread, NULL);
	pthread_join(unpacker.thread, NULL);
	pthread_join(joiner.thread, NULL);
	assert_ended(&opener);
	assert_ended(&unpacker);
	assert_ended(&joiner);
}

static void pins_outlive_the_worker(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO(pb) PB(StatusResponse) *status = NULL;
	const char *key;

	layer_lazy(&l, 1, 10);
	add_image(w, &l, 1, 1);
	OK(ask_open(w, true, &rsp, err));
	key = rsp->layers[0]->index_key;
	OK(ffs_client_pin(w->client, "a", &key, 1, err));
	OK(ffs_client_pin(w->client, "b", &key, 1, err));
	OK(ffs_client_pin(w->client, "b", NULL, 0, err));
	worker_end(w);
	worker_start(w);
	OK(ffs_client_status(w->client, &key, 1, &status, err));
	assert_true(status->layers[0]->pinned && status->layers[0]->lazy);
	assert_int_equal(status->layers[0]->files, 11);
	assert_int_equal(status->worker_generation, 7);
	FAILS(ffs_client_delete_layers(w->client, &key, 1, err), ERR_PRECONDITION, "pinned by a");
	OK(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err));
	pb_free(STEAL(status));
	OK(ffs_client_sizes(w->client, &key, 1, &status, err));
	assert_int_equal(status->layers[0]->files, 11);
	assert_int_equal(status->layers[0]->files_published, 0); /* nobody looked */
	OK(ffs_client_unpin(w->client, "a", err));
	OK(ffs_client_delete_layers(w->client, &key, 1, err));
	OK(ffs_client_delete_layers(w->client, &key, 1, err));
	FAILS(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err), ERR_NOT_FOUND, "");
	FAILS(ffs_client_pin(w->client, "a", &key, 1, err), ERR_NOT_FOUND, key);
	key = "not a key";
	FAILS(ffs_client_pin(w->client, "a", &key, 1, err), ERR_INVALID, "not a key");
}

static int open_as(struct world *w, const char *owner, const char *user, const char *secret, bool isolated,
                   PB(OpenResponse) * *out, struct err *err)
{
	PB(OpenRequest) req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;
	PB(Access) access = CONTENTD__CONTENTFS__V1__ACCESS__INIT;
	AUTO_FD int docs = -1;

	access.owner = (char *)owner;
	access.remembered = !user;
	access.username = user ? (char *)user : (char *)"";
	access.secret = secret ? (char *)secret : (char *)"";
	req.reference = w->reference;
	req.lazy = true;
	req.access = &access;
	req.isolated = isolated;
	return ffs_client_open(w->client, NULL, &req, NULL, NULL, out, &docs, err);
}

/* Opens, expecting success, and forgets the answer. */
static void opens_as(struct world *w, const char *owner, const char *user, const char *secret)
{
	AUTO(pb) PB(OpenResponse) *rsp = NULL;

	OK(open_as(w, owner, user, secret, false, &rsp, err));
}

static void locked_out(struct world *w, const char *owner, const char *user, const char *secret)
{
	PB(OpenResponse) *rsp = NULL;

	FAILS(open_as(w, owner, user, secret, false, &rsp, err), ERR_UNAUTHENTICATED, "");
}

/* One owner's account opens nothing to another one, whatever is here already; nor does a failure replace what works. */
static void accounts_are_their_owners(void **state)
{
	struct world *w = *state;
	struct layer l;

	layer_lazy(&l, 1, 3);
	add_image(w, &l, 1, 1);
	w->password = true;
	locked_out(w, "a", "", "");
	opens_as(w, "a", "bob", "s3cret");
	locked_out(w, "b", "", "");
	locked_out(w, "b", "bob", "wrong");
	locked_out(w, "b", NULL, NULL);
	locked_out(w, "", NULL, NULL);
	locked_out(w, "a", "", ""); /* a call by itself, in the same namespace */
	locked_out(w, "a", "bob", "wrong");
	opens_as(w, "a", NULL, NULL);
	worker_end(w);
	worker_start(w);
	opens_as(w, "a", NULL, NULL);
	locked_out(w, "b", NULL, NULL);
	w->password = false;
	opens_as(w, "a", "", ""); /* needs no password any more: it is forgotten */
	w->password = true;
	locked_out(w, "a", NULL, NULL);
	layer_fini(&l);
}

/* The files of a lazy layer come by the account of who opened it last. */
static void layers_are_read_by_their_owners_account(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	struct layer l;
	const char *key;

	layer_lazy(&l, 1, 3);
	add_image(w, &l, 1, 1);
	w->password = true;
	OK(open_as(w, "a", "bob", "s3cret", false, &rsp, err));
	key = rsp->layers[0]->index_key;
	opens_as(w, "b", "bob", "s3cret");
	w->password = false;
	opens_as(w, "b", "", "");
	w->password = true;
	FAILS(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err), ERR_UNAUTHENTICATED, "");
	opens_as(w, "a", "bob", "s3cret");
	OK(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err));
	layer_fini(&l);
}

/* A repository that names the layers of another one and does not have them. */
static void names_alone_open_nothing(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO(pb) PB(OpenResponse) *other = NULL;
	const char *key;
	struct layer l;

	layer_lazy(&l, 1, 3);
	add_image(w, &l, 1, 1);
	OK(open_as(w, "a", "", "", false, &rsp, err));
	key = rsp->layers[0]->index_key;
	refer_to(w, "other/image");
	w->withheld = find_blob(w, &l.digest)->path;
	FAILS(open_as(w, "b", "", "", false, &other, err), ERR_NOT_FOUND, "");
	OK(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err)); /* still comes from where it is */
	w->withheld = NULL;
	OK(open_as(w, "b", "", "", false, &other, err));
	assert_string_equal(other->layers[0]->index_key, key);
	layer_fini(&l);
}

/* An ordinary layer that was unpacked from another repository is here for everybody, but for who is isolated. */
static void isolated_owners_unpack_their_own(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *here = NULL;
	AUTO(pb) PB(OpenResponse) *shared = NULL;
	AUTO(pb) PB(OpenResponse) *isolated = NULL;
	AUTO(pb) PB(UnpackResponse) *unpacked = NULL;
	struct layer l;

	layer_plain(&l, 1, 3);
	add_image(w, &l, 1, 1);
	OK(ask_unpack(w, &l, &l.diff_id, -1, false, &unpacked, err));
	OK(open_as(w, "a", "", "", true, &here, err));
	assert_string_equal(here->layers[0]->index_key, unpacked->index_key);
	refer_to(w, "other/image");
	OK(open_as(w, "b", "", "", false, &shared, err));
	assert_string_equal(shared->layers[0]->index_key, unpacked->index_key);
	OK(open_as(w, "b", "", "", true, &isolated, err));
	assert_string_equal(isolated->layers[0]->index_key, "");
	layer_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_layer_from_a_file, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_layer_from_the_registry, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(what_is_wrong_is_not_published, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(many_who_want_the_same, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(two_round_trips, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(an_unpacked_layer_is_known, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(lies_about_the_toc, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(images_that_make_no_sense, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_registry_that_loses_a_layer, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(stopping_ends_all_calls, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(pins_outlive_the_worker, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(accounts_are_their_owners, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(layers_are_read_by_their_owners_account, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(names_alone_open_nothing, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(isolated_owners_unpack_their_own, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
