/* A repository of a registry. */
#include "contentd/convert/place.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>

#define DOCUMENT_PATIENCE (60 * NS_PER_S)
#define BLOB_PATIENCE (3600 * NS_PER_S)
#define HELPER_PATIENCE (30 * NS_PER_S)

struct registry {
	struct place base;
	struct reg_client *client;
	struct reg_ref ref;
};

static struct registry *registry_of(struct place *p)
{
	return (struct registry *)p;
}

static int fetch(struct registry *r, const struct reg_ref *ref, struct buf *bytes, struct buf *media_type,
                 struct err *err)
{
	AUTO(reg_manifest) struct reg_manifest *m = NULL;

	TRY(reg_manifest_fetch(r->client, ref, NULL, clock_mono_ns() + DOCUMENT_PATIENCE, &m, err));
	buf_addstr(bytes, m->bytes);
	if (media_type)
		buf_addstr(media_type, m->media_type);
	return 0;
}

static int registry_get_root(struct place *p, struct buf *bytes, struct buf *media_type, struct err *err)
{
	struct registry *r = registry_of(p);

	return fetch(r, &r->ref, bytes, media_type, err);
}

static int registry_get_document(struct place *p, const struct reg_descriptor *d, bool is_manifest, struct buf *bytes,
                                 struct err *err)
{
	struct registry *r = registry_of(p);
	struct reg_ref ref = r->ref;

	if (!is_manifest)
		return reg_blob_fetch(r->client, &r->ref, d, REG_CONFIG_BYTES_MAX, clock_mono_ns() + DOCUMENT_PATIENCE,
		                      bytes, err);
	reg_ref_set_digest(&ref, &d->digest);
	return fetch(r, &ref, bytes, NULL, err);
}

/* ---- blobs ---- */

/* A download that its caller waits for; the callbacks run on the client's thread. */
struct download {
	int fd;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool is_over; /* lock */
	int result;
	struct err err;
	int write_errno;
};

static enum reg_flow take_bytes(void *arg, uint64_t offset, struct str bytes)
{
	struct download *d = arg;

	while (bytes.n) {
		ssize_t n = pwrite(d->fd, bytes.p, bytes.n, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			d->write_errno = n < 0 ? errno : ENOSPC;
			return REG_FLOW_STOP;
		}
		bytes = str_sub(bytes, (size_t)n, bytes.n);
		offset += (uint64_t)n;
	}
	return REG_FLOW_MORE;
}

static void end_download(void *arg, struct reg_answer *answer)
{
	struct download *d = arg;

	pthread_mutex_lock(&d->lock);
	d->result = answer->result;
	d->err = *answer->err;
	d->is_over = true;
	pthread_cond_signal(&d->ended);
	pthread_mutex_unlock(&d->lock);
}

static int registry_get_blob(struct place *p, const struct reg_descriptor *d, int fd, struct err *err)
{
	struct registry *r = registry_of(p);
	struct download down = {.fd = fd, .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
	struct reg_blob_get q = {.ref = &r->ref,
	                         .digest = d->digest,
	                         .blob_size = d->size,
	                         .length = REG_TO_END,
	                         .lane = REG_BULK,
	                         .deadline_ns = clock_mono_ns() + BLOB_PATIENCE,
	                         .data = take_bytes,
	                         .done = end_download,
	                         .arg = &down};

	TRY(reg_blob_get(r->client, &q, NULL, err));
	pthread_mutex_lock(&down.lock);
	while (!down.is_over)
		pthread_cond_wait(&down.ended, &down.lock);
	pthread_mutex_unlock(&down.lock);
	if (down.write_errno)
		return err_errno(err, down.write_errno, "write a temporary file");
	return down.result < 0 ? err_set(err, down.err.code, "%s", down.err.msg) : 0;
}

static int registry_has_blob(struct place *p, const struct digest *digest, struct err *err)
{
	struct registry *r = registry_of(p);
	struct err why = ERR_INIT;
	uint64_t size;

	if (reg_blob_stat(r->client, &r->ref, digest, clock_mono_ns() + DOCUMENT_PATIENCE, &size, &why) >= 0)
		return 1;
	return why.code == ERR_NOT_FOUND ? 0 : err_set(err, why.code, "%s", why.msg);
}

static int registry_put_blob(struct place *p, const struct digest *digest, uint64_t size, int fd, struct str bytes,
                             struct err *err)
{
	struct registry *r = registry_of(p);
	struct reg_blob_push q = {.ref = &r->ref,
	                          .digest = *digest,
	                          .size = size,
	                          .fd = fd,
	                          .bytes = bytes,
	                          .deadline_ns = clock_mono_ns() + BLOB_PATIENCE};

	TRY(reg_blob_push(r->client, &q, err));
	return 0;
}

static int registry_put_manifest(struct place *p, struct str bytes, struct str media_type, struct err *err)
{
	struct registry *r = registry_of(p);

	return reg_manifest_push(r->client, &r->ref, NULL, bytes, media_type, clock_mono_ns() + DOCUMENT_PATIENCE, NULL,
	                         err);
}

static void registry_free(struct place *p)
{
	struct registry *r = registry_of(p);

	reg_client_free(r->client);
	free(r->base.name);
	free(r);
}

static const struct place_ops REGISTRY_OPS = {
    .get_root = registry_get_root,
    .get_document = registry_get_document,
    .get_blob = registry_get_blob,
    .has_blob = registry_has_blob,
    .put_blob = registry_put_blob,
    .put_manifest = registry_put_manifest,
    .free = registry_free,
};

/* ---- opening ---- */

static int set_up(struct registry *r, const struct place_opts *opts, struct err *err)
{
	AUTO(reg_credentials) struct reg_credentials creds = REG_CREDENTIALS_INIT;
	struct reg_host_opts host = {
	    .ca_file = opts->ca_file, .skip_verify = opts->insecure && !opts->ca_file, .plain_http = opts->insecure};

	TRY(reg_client_new(NULL, &r->client, err));
	if (opts->ca_file || opts->insecure)
		TRY(reg_client_set_host(r->client, r->ref.host, &host, err));
	if (opts->creds)
		TRY(reg_credentials_parse(str_of(opts->creds), &creds, err));
	else
		TRY_WRAP(
		    reg_docker_config_lookup(NULL, str_of(r->ref.host), clock_mono_ns() + HELPER_PATIENCE, &creds, err),
		    err, "credentials for %s", r->ref.host);
	reg_client_set_credentials(r->client, r->ref.host, &creds);
	return 0;
}

int place_registry_open(const char *name, const char *reference, const struct place_opts *opts, struct place **out,
                        struct err *err)
{
	AUTO(place) struct place *guard = NULL;
	struct registry *r = xcalloc(1, sizeof(*r));

	r->base = (struct place){&REGISTRY_OPS, xstrdup(name)};
	guard = &r->base;
	TRY_WRAP(reg_ref_parse(str_of(reference), &r->ref, err), err, "image %s", name);
	TRY(set_up(r, opts, err));
	*out = STEAL(guard);
	return 0;
}
