/*
 * Gzip indexes of a pulled image, for others (fetch.gzip_index = "publish"): they are built while its layers are unpacked,
 * and pushed beside it when it is stored, with what the pull presents to the registry. Nothing of this makes a pull fail, and
 * a registry that says nothing holds it up for so long only (fetch.gzip_index_timeout_ms).
 */
#include "base/clock.h"
#include "base/file.h"
#include "contentd/convert/gzip_index.h"
#include "contentd/transfer/pull_internal.h"
#include "estargz/gzseek/artifact.h"
#include "registry/manifest_write.h"

#define ASK_NS (10 * NS_PER_S) /* so long a pull waits for the registry to say what there is */

#define NOT_BUILT "image %s: gzip indexes are not built: "

static bool can_have_one(const struct pull_layer *l)
{
	struct str type = str_of(l->from->descriptor->media_type);

	return !l->lazy && reg_layer_format(type) == REG_LAYER_GZIP && !reg_media_is_encrypted(type) &&
	       !reg_media_is_foreign(type);
}

/* 1: somebody has published some already. */
static int is_published(struct pull *p, struct err *err)
{
	Contentd__Contentfs__V1__ReferrersRequest req = CONTENTD__CONTENTFS__V1__REFERRERS_REQUEST__INIT;
	AUTO(pb) Contentd__Contentfs__V1__ReferrersResponse *rsp = NULL;

	req.reference = (char *)p->source;
	req.subject = p->image->manifest->digest;
	req.artifact_type = (char *)ESGZ_GZIP_INDEX_ARTIFACT;
	req.access = p->access;
	TRY(ffs_client_referrers(p->data, p->call, clock_mono_ns() + ASK_NS, &req, &rsp, err));
	return rsp->n_referrers > 0;
}

/* An image whose referrer lacks some of its layers would stay so: it is all of them, or none. */
static bool all_come(const struct pull *p)
{
	bool any = false;

	for (size_t i = 0; i < p->n_layers; i++) {
		const struct pull_layer *l = &p->layers[i];

		if (!can_have_one(l))
			continue;
		if (!digest_is_zero(&l->key)) {
			log_info(NOT_BUILT
			         "layers of it were here before (contentctl convert --index-only builds them)",
			         p->reference);
			return false;
		}
		any = true;
	}
	return any;
}

void pull_indexes_begin(struct pull *p)
{
	struct err why = ERR_INIT;
	int published;

	if (strcmp(p->d->config.fetch_gzip_index, "publish") || !p->snapshotter || !*p->source || !all_come(p))
		return;
	published = is_published(p, &why);
	if (published < 0)
		log_warn(NOT_BUILT "%s", p->reference, why.msg);
	p->builds_indexes = published == 0;
}

bool pull_indexes_wanted(const struct pull *p, const struct pull_layer *l)
{
	return p->builds_indexes && can_have_one(l);
}

/* ---- publishing ---- */

struct indexes {
	int64_t deadline_ns; /* of all that is sent */
	VEC(struct gzip_index) v;
	VEC(struct buf) bytes;
};

static void indexes_fini(struct indexes *x)
{
	vec_each(&x->bytes, b)
		buf_fini(b);
	vec_fini(&x->bytes);
	vec_fini(&x->v);
}
DEFINE_AUTO_FINI(indexes);

static bool is_listed(const struct indexes *x, const struct digest *layer)
{
	vec_each(&x->v, i)
		if (digest_eq(&i->layer, layer))
			return true;
	return false;
}

static int push_blob(struct pull *p, const struct indexes *x, struct str media_type, struct str bytes, int fd,
                     struct err *err)
{
	const struct reg_descriptor of = reg_descriptor_of(media_type, bytes);
	Contentd__Contentfs__V1__PushBlobRequest req = CONTENTD__CONTENTFS__V1__PUSH_BLOB_REQUEST__INIT;
	Contentd__Contentfs__V1__Descriptor blob = CONTENTD__CONTENTFS__V1__DESCRIPTOR__INIT;
	char text[DIGEST_TEXT_MAX];
	int outcome;

	blob.media_type = (char *)media_type.p;
	blob.digest = digest_text(&of.digest, text);
	blob.size = (int64_t)of.size;
	req.reference = (char *)p->source;
	req.blob = &blob;
	req.access = p->access;
	return ffs_client_push_blob(p->data, p->call, x->deadline_ns, &req, fd, NULL, NULL, &outcome, err);
}

/* Of each layer that has one, once. */
static int push_indexes(struct pull *p, struct indexes *x, struct err *err)
{
	for (size_t i = 0; i < p->n_layers; i++) {
		const struct pull_layer *l = &p->layers[i];
		struct buf bytes = BUF_INIT;

		if (l->index_fd < 0 || is_listed(x, &l->blob))
			continue;
		vec_push(&x->bytes, bytes);
		TRY(fd_read_all(l->index_fd, ESGZ_ARTIFACT_BYTES_MAX, vec_last(&x->bytes), err));
		vec_push(&x->v, (struct gzip_index){l->blob, buf_str(vec_last(&x->bytes))});
		TRY(push_blob(p, x, STR(ESGZ_GZIP_INDEX_MEDIA_TYPE), vec_last(&x->v)->artifact, l->index_fd, err));
	}
	return 0;
}

static int push_memory(struct pull *p, const struct indexes *x, struct str media_type, struct str bytes,
                       struct err *err)
{
	AUTO_FD int fd = -1;

	TRY(memfd_of("blob", bytes, &fd, err));
	return push_blob(p, x, media_type, bytes, fd, err);
}

static int push_referrer(struct pull *p, const struct indexes *x, struct err *err)
{
	Contentd__Contentfs__V1__PushManifestRequest req = CONTENTD__CONTENTFS__V1__PUSH_MANIFEST_REQUEST__INIT;
	const Contentd__Contentfs__V1__Descriptor *image = p->image->manifest;
	struct reg_descriptor subject = {.media_type = str_of(image->media_type), .size = (uint64_t)image->size};
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FD int fd = -1;

	TRY(digest_parse(str_of(image->digest), &subject.digest, err));
	gzip_index_manifest(&subject, x->v.p, x->v.n, &text);
	TRY(memfd_of("referrer", buf_str(&text), &fd, err));
	req.reference = (char *)p->source;
	req.media_type = (char *)REG_MT_OCI_MANIFEST;
	req.access = p->access;
	req.referrer = true;
	return ffs_client_push_manifest(p->data, p->call, x->deadline_ns, &req, fd, err);
}

static int publish(struct pull *p, struct err *err)
{
	const int64_t patience_ns = p->d->config.fetch_gzip_index_timeout_ms * NS_PER_MS;
	AUTO(indexes) struct indexes x = {.deadline_ns = clock_mono_ns() + patience_ns};

	TRY(push_indexes(p, &x, err));
	if (!x.v.n)
		return 0;
	TRY(push_memory(p, &x, STR(REG_MT_OCI_EMPTY), REG_EMPTY_CONFIG, err));
	TRY(push_referrer(p, &x, err));
	log_info("image %s: gzip indexes of %zu layers are published", p->reference, x.v.n);
	return 0;
}

void pull_indexes_publish(struct pull *p)
{
	struct err why = ERR_INIT;

	if (!p->builds_indexes || publish(p, &why) >= 0)
		return;
	log_warn("image %s: its gzip indexes are not published: %s", p->reference, why.msg);
	cd_progress_headline(p->progress, "Gzip indexes of %s are not published: %s", p->reference, why.msg);
}
