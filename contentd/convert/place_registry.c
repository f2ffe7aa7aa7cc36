/* A repository of a registry. */
#include "contentd/convert/place.h"

#include "base/clock.h"
#include "contentd/convert/download.h"
#include "registry/referrers.h"
#include "registry/upload.h"

#include <assert.h>

#define DOCUMENT_PATIENCE (600 * NS_PER_S) /* of a registry that asks for time; silence ends it sooner */
#define RESTORE_PATIENCE (10 * NS_PER_S)
#define BLOB_PATIENCE (24 * 3600 * NS_PER_S) /* of a layer that is converted as it comes; silence ends it sooner */
#define HELPER_PATIENCE (30 * NS_PER_S)

struct registry {
	struct place base;
	struct reg_client *client;
	struct reg_ref ref;
	bool writing;
	struct reg_canceller writes, reads; /* when it is written to; one of each at a time */
};

static struct registry *registry_of(struct place *p)
{
	return (struct registry *)p;
}

static int64_t soon(void)
{
	return clock_mono_ns() + DOCUMENT_PATIENCE;
}

/* At the name's tag with a suffix, which has room (registry_why_unnamed). */
static struct reg_ref suffixed(const struct registry *r, const char *suffix)
{
	struct reg_ref ref = r->ref;

	strcat(ref.tag, suffix);
	return ref;
}

/* ---- reading ---- */

static int fetch(struct registry *r, const struct reg_ref *ref, struct buf *bytes, struct buf *media_type,
                 struct err *err)
{
	AUTO(reg_manifest) struct reg_manifest *m = NULL;

	TRY(reg_manifest_fetch(r->client, ref, NULL, soon(), r->writing ? &r->reads : NULL, &m, err));
	buf_addstr(bytes, m->bytes);
	if (media_type)
		buf_addstr(media_type, m->media_type);
	return 0;
}

/* NULL, or why no tag with this suffix can be. */
static const char *registry_why_unnamed(struct place *p, const char *suffix)
{
	const struct reg_ref *ref = &registry_of(p)->ref;

	if (ref->has_digest)
		return "it names a digest, give a tag";
	return strlen(ref->tag) + strlen(suffix) > REG_TAG_MAX ? "that tag would be too long" : NULL;
}

static int registry_get_root(struct place *p, const char *suffix, struct buf *bytes, struct buf *media_type,
                             struct err *err)
{
	struct registry *r = registry_of(p);
	const char *why = *suffix ? registry_why_unnamed(p, suffix) : NULL;
	struct reg_ref ref;

	if (why)
		return err_set(err, ERR_NOT_FOUND, "%s: no tag with %s: %s", p->name, suffix, why);
	ref = suffixed(r, suffix);
	return fetch(r, &ref, bytes, media_type, err);
}

static int registry_get_manifest(struct place *p, const struct reg_descriptor *d, struct buf *bytes, struct err *err)
{
	struct registry *r = registry_of(p);
	struct reg_ref ref = r->ref;

	reg_ref_set_digest(&ref, &d->digest);
	return fetch(r, &ref, bytes, NULL, err);
}

static int registry_open_blob(struct place *p, const struct reg_descriptor *d, uint64_t offset,
                              struct place_source **out, struct err *err)
{
	struct registry *r = registry_of(p);

	return download_open(r->client, &r->ref, d, offset, clock_mono_ns() + BLOB_PATIENCE,
	                     r->writing ? &r->reads : NULL, out, err);
}

/* ---- writing ---- */

static int registry_has_blob(struct place *p, const struct digest *digest, uint64_t bytes, struct err *err)
{
	struct registry *r = registry_of(p);
	struct reg_blob_push q = {.ref = &r->ref,
	                          .digest = *digest,
	                          .fd = -1,
	                          .only_ask = true,
	                          .deadline_ns = soon(),
	                          .canceller = &r->writes};
	int how = reg_blob_push(r->client, &q, err);

	return how < 0 ? how : how == REG_PUSH_PRESENT;
}

static bool registry_can_mount(struct place *p, struct place *from)
{
	struct registry *r = registry_of(p);

	return from->ops == p->ops && !strcmp(registry_of(from)->ref.host, r->ref.host);
}

static int registry_mount_blob(struct place *p, struct place *from, const struct reg_descriptor *d, struct err *err)
{
	struct registry *r = registry_of(p);
	struct reg_blob_push q = {.ref = &r->ref,
	                          .digest = d->digest,
	                          .size = d->size,
	                          .fd = -1,
	                          .only_ask = true,
	                          .deadline_ns = soon(),
	                          .canceller = &r->writes};
	int how;

	/* From itself there is nothing to mount: what is not there is not there. */
	if (strcmp(registry_of(from)->ref.repository, r->ref.repository) != 0)
		q.mount_from = registry_of(from)->ref.repository;
	how = reg_blob_push(r->client, &q, err);
	if (how < 0)
		return how;
	return how == REG_PUSH_MOUNTED ? 1 : how == REG_PUSH_PRESENT ? 2 : 0;
}

struct upload_sink {
	struct place_sink base;
	struct reg_upload *upload;
};

static int upload_write(struct place_sink *s, struct str bytes, struct err *err)
{
	return reg_upload_write(((struct upload_sink *)s)->upload, bytes, err);
}

static int upload_finish(struct place_sink *s, const struct digest *digest, uint64_t bytes, struct err *err)
{
	return reg_upload_finish(((struct upload_sink *)s)->upload, digest, err);
}

static void upload_free(struct place_sink *s)
{
	reg_upload_free(((struct upload_sink *)s)->upload);
	free(s);
}

static int registry_begin_blob(struct place *p, struct place_sink **out, struct err *err)
{
	struct registry *r = registry_of(p);
	struct reg_upload_opts o = {
	    .ref = &r->ref, .deadline_ns = clock_mono_ns() + BLOB_PATIENCE, .canceller = &r->writes};
	struct reg_upload *upload = NULL;
	struct upload_sink *s;

	TRY(reg_upload_begin(r->client, &o, &upload, err));
	s = xcalloc(1, sizeof(*s));
	*s = (struct upload_sink){{upload_write, upload_finish, upload_free}, upload};
	*out = &s->base;
	return 0;
}

/* At the name's tag with a suffix; NULL: at its digest. */
static int push(struct registry *r, const char *suffix, struct str bytes, struct str media_type, struct err *err)
{
	struct reg_ref ref = suffix ? suffixed(r, suffix) : r->ref;

	if (!suffix)
		ref.tag[0] = '\0';
	return reg_manifest_push(r->client, &ref, NULL, bytes, media_type, soon(), &r->writes, err);
}

static int registry_has_referrer(struct place *p, const struct digest *subject, struct str artifact_type,
                                 const struct digest *digest, struct err *err)
{
	struct registry *r = registry_of(p);
	AUTO(reg_manifest) struct reg_manifest *index = NULL;
	AUTO_FREE char *type = str_dup(artifact_type);

	TRY(reg_referrers_fetch(r->client, &r->ref, NULL, subject, type, soon(), r->writing ? &r->reads : NULL, &index,
	                        err));
	for (size_t i = 0; i < index->n_entries; i++)
		if (digest_eq(&index->entries[i].digest, digest))
			return 1;
	return 0;
}

static int registry_put_referrer(struct place *p, struct str manifest, struct err *err)
{
	struct registry *r = registry_of(p);

	return reg_referrer_push(r->client, &r->ref, NULL, manifest, soon(), &r->writes, err);
}

static int registry_put_manifest(struct place *p, struct str bytes, struct str media_type, struct err *err)
{
	return push(registry_of(p), NULL, bytes, media_type, err);
}

/* What a tag names, before it names something else; nothing where there is nothing, or no way to know. */
struct former {
	struct buf bytes, media_type;
};

static void former_fini(struct former *f)
{
	buf_fini(&f->bytes);
	buf_fini(&f->media_type);
}
DEFINE_AUTO_FINI(former);

static void restore(struct registry *r, const char *suffix, const struct former *f)
{
	const struct reg_ref ref = suffixed(r, suffix);

	if (f->bytes.n)
		reg_manifest_push(r->client, &ref, NULL, buf_str(&f->bytes), buf_str(&f->media_type),
		                  clock_mono_ns() + RESTORE_PATIENCE, NULL, NULL);
}

/* True if the tag is known to name this document: an answer that never came may have been a yes. Nobody cancels this. */
static bool is_named(struct registry *r, const struct place_document *doc)
{
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	const struct reg_ref ref = suffixed(r, doc->suffix);

	return reg_manifest_fetch(r->client, &ref, NULL, clock_mono_ns() + RESTORE_PATIENCE, NULL, &m, NULL) >= 0 &&
	       str_eq(m->bytes, doc->bytes);
}

/* The last one is named when all others are; if it is not, the one before gets back what it was. */
static int registry_put_named(struct place *p, const struct place_document *docs, size_t n, struct err *err)
{
	struct registry *r = registry_of(p);
	AUTO(former) struct former former = {BUF_INIT, BUF_INIT};
	const struct place_document *last = &docs[n - 1];
	int result;

	assert(n == 1 || n == 2);
	for (size_t i = 0; n > 1 && i < n; i++)
		TRY(push(r, NULL, docs[i].bytes, docs[i].media_type, err));
	if (n > 1) {
		registry_get_root(p, docs[0].suffix, &former.bytes, &former.media_type, NULL);
		TRY(push(r, docs[0].suffix, docs[0].bytes, docs[0].media_type, err));
	}
	result = push(r, last->suffix, last->bytes, last->media_type, err);
	if (result < 0 && n > 1 && !is_named(r, last))
		restore(r, docs[0].suffix, &former);
	return result;
}

/* What is written to has to be told what was given up: its client goes on. */
static void registry_cancel(struct place *p)
{
	struct registry *r = registry_of(p);

	if (!r->writing) {
		reg_client_stop(r->client);
		return;
	}
	reg_canceller_cancel(&r->writes);
	reg_canceller_cancel(&r->reads);
}

static void registry_free(struct place *p)
{
	struct registry *r = registry_of(p);

	reg_client_free(r->client);
	reg_canceller_fini(&r->writes);
	reg_canceller_fini(&r->reads);
	free(r->base.name);
	free(r);
}

static const struct place_ops REGISTRY_OPS = {
    .get_root = registry_get_root,
    .get_manifest = registry_get_manifest,
    .open_blob = registry_open_blob,
    .has_blob = registry_has_blob,
    .can_mount = registry_can_mount,
    .mount_blob = registry_mount_blob,
    .begin_blob = registry_begin_blob,
    .put_manifest = registry_put_manifest,
    .has_referrer = registry_has_referrer,
    .put_referrer = registry_put_referrer,
    .put_named = registry_put_named,
    .why_unnamed = registry_why_unnamed,
    .cancel = registry_cancel,
    .free = registry_free,
};

/* ---- opening ---- */

static int set_up(struct registry *r, const struct place_opts *opts, struct err *err)
{
	AUTO(reg_credentials) struct reg_credentials creds = REG_CREDENTIALS_INIT;
	struct reg_host_opts host = {.ca_file = opts->ca_file, .plain_http = opts->insecure};

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

int place_registry_open(const char *name, const char *reference, bool writing, const struct place_opts *opts,
                        struct place **out, struct err *err)
{
	AUTO(place) struct place *guard = NULL;
	struct registry *r = xcalloc(1, sizeof(*r));

	r->base = (struct place){.ops = &REGISTRY_OPS, .name = xstrdup(name)};
	r->writing = writing;
	reg_canceller_init(&r->writes);
	reg_canceller_init(&r->reads);
	guard = &r->base;
	TRY_WRAP(reg_ref_parse(str_of(reference), &r->ref, err), err, "image %s", name);
	TRY(set_up(r, opts, err));
	*out = STEAL(guard);
	return 0;
}
