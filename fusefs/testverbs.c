#include "fusefs/testverbs.h"

#include "base/file.h"
#include "base/unix.h"
#include "estargz/convert/convert.h"
#include "estargz/testing/test_blob.h"
#include "fusefs/table.h"
#include "rpc/pb.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a registry ---- */

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
		while (w->held && str_eqc(path, w->held))
			usleep(1000);
		if (r->stalls) {
			atomic_fetch_add(&w->stalled, 1);
			while (read(x->fd, &byte, 1) > 0)
				; /* until the client has had enough */
			atomic_fetch_add(&w->given_up, 1);
			return false;
		}
		if (memmem(r->bytes.p, r->bytes.n, "\"manifests\":[", 13))
			return exchange_reply(x, 200, "Content-Type: " REG_MT_OCI_INDEX "\r\n", buf_str(&r->bytes));
		if (str_starts(path, STR("manifests/")))
			return exchange_reply(x, 200, "Content-Type: " REG_MT_OCI_MANIFEST "\r\n", buf_str(&r->bytes));
		return exchange_blob(x, buf_str(&r->bytes));
	}
	return exchange_reply(x, 404, "", STR_NONE);
}

struct resource *add_resource(struct world *w, const char *path, struct str bytes)
{
	struct resource *r = vec_add(&w->resources);

	r->path = xstrdup(path);
	buf_addstr(&r->bytes, bytes);
	return r;
}

struct digest add_blob(struct world *w, struct str bytes)
{
	char path[80] = "blobs/";
	struct digest d;

	digest_of(bytes.p, bytes.n, &d);
	digest_text(&d, path + 6);
	add_resource(w, path, bytes);
	return d;
}

struct resource *find_blob(struct world *w, const struct digest *d)
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

void layer_fini(struct layer *l)
{
	buf_fini(&l->blob);
}
/* A tar of `files` small files and one of 1 MiB. */
void layer_plain(struct layer *l, unsigned seed, unsigned files)
{
	AUTO(buf) struct buf big = BUF_INIT;
	char name[64], text[64];

	*l = (struct layer){.blob = BUF_INIT};
	for (unsigned i = 0; i < files; i++) {
		snprintf(name, sizeof(name), "file-%u-%u", seed, i);
		snprintf(text, sizeof(text), "content %u of %u", i, seed);
		tar_entry(&l->blob, '0', name, "", strlen(text), str_of(text));
	}
	for (uint32_t i = 0; i < 1u << 20; i++)
		buf_addc(&big, (char)((i + seed) * 2654435761u >> 13));
	snprintf(name, sizeof(name), "big-%u", seed);
	tar_entry(&l->blob, '0', name, "", big.n, buf_str(&big));
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

void layer_lazy(struct layer *l, unsigned seed, unsigned files)
{
	const struct esgz_convert_opts opts = {.level = 1, .threads = 1};
	AUTO(layer) struct layer plain;
	struct buf blob = BUF_INIT;
	struct convert c;
	const struct esgz_convert_io io = {.read = convert_read, .write = convert_write, .arg = &c};
	AUTO(esgz_convert_result) struct esgz_convert_result r = {0};

	layer_plain(&plain, seed, files);
	c = (struct convert){buf_str(&plain.blob), &blob};
	OK(esgz_convert(&opts, &io, &r, err));
	*l = (struct layer){.blob = blob, .digest = r.blob, .diff_id = r.diff_id, .toc = r.toc, .lazy = true};
}

/* Adds the blobs, a configuration and the manifest "latest". `diff_ids`: how many of them the configuration has. */
void add_image(struct world *w, const struct layer *layers, unsigned n, unsigned diff_ids)
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

void refer_to(struct world *w, const char *repository)
{
	snprintf(w->reference, sizeof(w->reference), "127.0.0.1:%u/%s", testserver_port(w->server), repository);
}

/* ---- a worker ---- */

void worker_start(struct world *w)
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

void worker_end(struct world *w)
{
	ffs_client_free(w->client);
	ffs_service_free(w->service);
	ffs_data_free(w->w.data);
	ffs_secrets_free(w->w.secrets);
	reg_client_free(w->w.client);
	ffs_store_close(w->w.store);
	ffs_table_close(w->w.table);
}

int set_up(void **state)
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

int tear_down(void **state)
{
	int tmp = open("/tmp", O_DIRECTORY | O_CLOEXEC);
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
	OK(dir_remove(tmp, w->dir + strlen("/tmp/"), err));
	close(tmp);
	free(w);
	return 0;
}

int ask_open(struct world *w, bool lazy, PB(OpenResponse) * *out, struct err *err)
{
	PB(OpenRequest) req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;
	AUTO_FD int docs = -1;

	req.reference = w->reference;
	req.lazy = lazy;
	return ffs_client_open(w->client, NULL, &req, NULL, NULL, out, &docs, err);
}

/* Unpacks a layer's blob; fd: as from_fd, or as ingest (tee), or -1. */
int ask_unpack(struct world *w, const struct layer *l, const struct digest *diff_id, int fd, bool tee,
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

unsigned count_files(const struct world *w, enum ffs_dir which)
{
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	unsigned n = 0;

	OK(dir_iter_open(ffs_store_dir(w->w.store, which), &d, err));
	while (dir_iter_next(d, &e, NULL) > 0)
		n++;
	return n;
}

void *race_for_layer(void *racer)
{
	struct racer *r = racer;

	r->err = ERR_INIT;
	ask_unpack(r->w, r->l, NULL, -1, false, &r->rsp, &r->err);
	return NULL;
}

char *unpack_local(struct world *w, const struct layer *l)
{
	AUTO(pb) PB(UnpackResponse) *rsp = NULL;
	AUTO_FD int fd = -1;

	OK(memfd_of("blob", buf_str(&l->blob), &fd, err));
	OK(ask_unpack(w, l, NULL, fd, false, &rsp, err));
	return xstrdup(rsp->index_key);
}

char *open_and_fill(struct world *w)
{
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	const char *key;

	OK(ask_open(w, true, &rsp, err));
	assert_int_equal(rsp->n_layers, 1);
	assert_true(rsp->layers[0]->lazy);
	key = rsp->layers[0]->index_key;
	OK(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err));
	return xstrdup(key);
}

struct listed *list_files(const struct world *w, const char *index_key, unsigned *n)
{
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	VEC(struct listed) all = VEC_INIT;
	struct digest key;
	struct str bytes;

	assert_true(digest_from_hex(str_of(index_key), &key));
	OK(ffs_index_map(w->w.store, &key, &bytes, err));
	OK(esgz_index_open(bytes, &ix, err));
	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_entries; i++) {
		struct esgz_entry e;

		esgz_index_entry(ix, i, &e);
		if (e.type == ESGZ_REG)
			vec_push(&all, ((struct listed){e.size, e.content, e.claim}));
	}
	esgz_index_free(STEAL(ix));
	ffs_index_unmap(bytes);
	*n = (unsigned)all.n;
	return all.p;
}

void assert_nothing_published(const struct world *w)
{
	for (enum ffs_dir d = 0; d < FFS_DIRS; d++)
		assert_int_equal(count_files(w, d), 0);
}

unsigned count_objects(const struct world *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 256; i++) {
		AUTO_DIR DIR *d = NULL;
		struct dirent *e;
		char fan[3];
		int fd;

		snprintf(fan, sizeof(fan), "%02x", i);
		fd = openat(ffs_store_dir(w->w.store, FFS_DIR_OBJECTS), fan, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			continue;
		OK(dir_iter_open(fd, &d, err));
		close(fd);
		while (dir_iter_next(d, &e, NULL) > 0)
			n++;
	}
	return n;
}

bool has_object(const struct world *w, const struct digest *name)
{
	char path[FFS_OBJECT_PATH_MAX];

	ffs_object_path(name, path);
	return faccessat(ffs_store_dir(w->w.store, FFS_DIR_OBJECTS), path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void damage(const struct world *w, enum ffs_dir which, const char *path, off_t at)
{
	AUTO_FD int fd = openat(ffs_store_dir(w->w.store, which), path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	char byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x55;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

void damage_object(const struct world *w, const struct digest *name)
{
	char path[FFS_OBJECT_PATH_MAX];

	damage(w, FFS_DIR_OBJECTS, ffs_object_path(name, path), 0);
}

void damage_index(const struct world *w, const char *index_key)
{
	damage(w, FFS_DIR_INDEX, index_key, 24); /* its checksum: estargz/README.md */
}

/* The content of every file of the index is in the store. */
void assert_objects(const struct world *w, const char *index_key, unsigned files)
{
	AUTO_FREE struct listed *all = NULL;
	unsigned n;

	all = list_files(w, index_key, &n);
	assert_int_equal(n, files);
	for (unsigned i = 0; i < n; i++) {
		AUTO(buf) struct buf content = BUF_INIT;
		AUTO_FD int fd = -1;
		struct digest d;

		if (all[i].size == 0)
			continue;
		OK(ffs_object_open(w->w.store, &all[i].content, all[i].size, &fd, err));
		OK(fd_read_all(fd, 16u << 20, &content, err));
		digest_of(content.p, content.n, &d);
		assert_true(digest_eq(&d, &all[i].content));
	}
}
