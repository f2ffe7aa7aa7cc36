#include "registry/referrers.h"

#include "base/vec.h"
#include "registry/manifest_write.h"
#include "registry/session.h"

#define PAGES_MAX 64
#define TAG_ATTEMPTS 5

/* ---- one page ---- */

static void page_headers(struct reg_request *r, struct curl_slist **list)
{
	*list = curl_slist_append(*list, "Accept: " REG_MT_OCI_INDEX);
}

static int page_complete(struct reg_request *r, struct err *err)
{
	if (r->response.status != 200)
		return err_set(err, ERR_DATA_LOSS, "HTTP %d does not answer the question", r->response.status);
	return 0;
}

/* The next page as a path below the server's base, by which the server is chosen as it was for this one. */
static void page_finish(struct reg_request *r, struct reg_answer *a)
{
	size_t base = (size_t)(strstr(r->url, r->path) - r->url);
	AUTO_FREE char *next = NULL;
	struct waiter *w = r->arg;

	if (a->result == 0 && r->response.next) {
		url_resolve(r->target, str_of(r->response.next), &next, NULL);
		w->location = xstrdup(next && !strncmp(next, r->url, base) ? next + base : "");
	}
	waiter_done(w, a);
}

static const struct request_ops page_ops = {
    .headers = page_headers,
    .complete = page_complete,
    .finish = page_finish,
};

/* A question about a subject, page by page. */
struct listing {
	struct reg_client *client;
	const struct reg_ref *ref;
	struct reg_account *account;
	const char *artifact_type; /* or NULL */
	int64_t deadline_ns;
	struct reg_canceller *canceller; /* or NULL */
	char *subject;
	VEC(struct reg_manifest *) pages;
	size_t bytes;
	int status; /* of the last page */
};

static void listing_fini(struct listing *l)
{
	vec_each(&l->pages, page)
		reg_manifest_free(*page);
	vec_fini(&l->pages);
	free(l->subject);
}
DEFINE_AUTO_FINI(listing);

static char *first_path(const struct listing *l)
{
	AUTO(buf) struct buf path = BUF_INIT;

	buf_addf(&path, "/%s/referrers/%s", l->ref->repository, l->subject);
	if (l->artifact_type) {
		buf_adds(&path, "?artifactType=");
		http_escape(str_of(l->artifact_type), &path);
	}
	return buf_steal(&path);
}

static int ask_page(struct listing *l, TAKE(char *) path, struct waiter *w, struct err *err)
{
	struct host *h = host_get(l->client, l->ref->host);
	struct reg_request *handle = NULL;
	struct reg_request *r =
	    request_new(l->client, sizeof(*r), &page_ops, h, l->account, REG_DEMAND, "GET", l->deadline_ns, 0);
	int routed;

	r->body_max = REG_MANIFEST_BYTES_MAX;
	r->what = xstrdup("page"); /* the rest is said once, for all pages */
	r->scope = xasprintf("repository:%s:pull", l->ref->repository);
	r->arg = w;
	routed = request_route(r, REG_CAN_PULL, path, err);
	if (routed < 0) {
		reg_request_unref(r);
		return routed;
	}
	TRY(request_submit(r, &handle, err));
	return waiter_wait_cancellable(w, l->canceller, handle, err);
}

/* *path is of this page, then of the next one, or NULL. */
static int read_page(struct listing *l, char **path, struct err *err)
{
	struct reg_manifest *page = NULL;
	AUTO(waiter) struct waiter w;
	int r;

	waiter_init(&w);
	r = ask_page(l, STEAL(*path), &w, err);
	l->status = w.status;
	TRY(r);
	TRY(reg_manifest_parse(buf_str(&w.body), str_of(w.media_type), &page, err));
	vec_push(&l->pages, page);
	l->bytes += page->bytes.n;
	if (page->kind != REG_IMAGE_INDEX)
		return err_set(err, ERR_INVALID, "not an index");
	if (w.location && w.location[0] != '/')
		return err_set(err, ERR_DATA_LOSS, "the next page is on another server");
	*path = STEAL(w.location);
	return 0;
}

static int read_pages(struct listing *l, struct err *err)
{
	AUTO_FREE char *path = first_path(l);

	do {
		if (l->pages.n == PAGES_MAX || l->bytes > REG_MANIFEST_BYTES_MAX)
			return err_set(err, ERR_EXHAUSTED, "more than %d pages or %u bytes", PAGES_MAX,
			               REG_MANIFEST_BYTES_MAX);
		TRY(read_page(l, &path, err));
	} while (path);
	return 0;
}

/* ---- the fallback tag ---- */

static int set_tag(struct reg_ref *ref, const struct digest *subject, struct err *err)
{
	char hex[65];
	AUTO_FREE char *tag = xasprintf("sha256-%s", digest_hex(subject, hex));

	ref->has_digest = false;
	return reg_ref_set_tag(ref, str_of(tag), err);
}

/* From a server that can do what is needed. *out stays NULL when there is no such tag. */
static int read_tag(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account, unsigned need,
                    const struct digest *subject, int64_t deadline_ns, struct reg_canceller *canceller,
                    struct reg_manifest **out, struct err *err)
{
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	struct reg_ref at = *ref;
	struct err why = ERR_INIT;
	int r;

	TRY(set_tag(&at, subject, err));
	r = manifest_fetch(c, &at, account, need, deadline_ns, canceller, &m, &why);
	if (r < 0 && why.code == ERR_NOT_FOUND)
		return 0;
	if (r < 0) {
		if (err)
			*err = why;
		return r;
	}
	if (m->kind != REG_IMAGE_INDEX)
		return err_set(err, ERR_INVALID, "%s/%s:%s is not an index of referrers", at.host, at.repository,
		               at.tag);
	*out = STEAL(m);
	return 0;
}

/* ---- reading ---- */

/* All pages as one index. */
static int merge(struct listing *l, struct reg_manifest **out, struct err *err)
{
	VEC(struct reg_descriptor) entries = VEC_INIT;
	AUTO(buf) struct buf text = BUF_INIT;
	struct reg_manifest index = {.kind = REG_IMAGE_INDEX, .media_type = STR(REG_MT_OCI_INDEX)};

	vec_each(&l->pages, page)
		for (size_t i = 0; i < (*page)->n_entries; i++)
			if (!l->artifact_type || str_eqc((*page)->entries[i].artifact_type, l->artifact_type))
				vec_push(&entries, (*page)->entries[i]);
	index.entries = entries.p;
	index.n_entries = entries.n;
	reg_manifest_write(&index, &text);
	vec_fini(&entries);
	return reg_manifest_parse(buf_str(&text), STR(REG_MT_OCI_INDEX), out, err);
}

/* A registry that has no such API says 404; some do not know the method. */
static bool is_without_api(const struct listing *l)
{
	return l->pages.n == 0 && (l->status == 404 || l->status == 405 || l->status == 501);
}

int reg_referrers_fetch(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account,
                        const struct digest *subject, const char *artifact_type, int64_t deadline_ns,
                        struct reg_canceller *canceller, struct reg_manifest **out, struct err *err)
{
	AUTO(listing)
	struct listing l = {.client = c,
	                    .ref = ref,
	                    .account = account,
	                    .artifact_type = artifact_type,
	                    .deadline_ns = deadline_ns,
	                    .canceller = canceller};
	struct reg_manifest *tagged = NULL;
	char text[DIGEST_TEXT_MAX];
	struct err why = ERR_INIT;
	int r;

	if (!ref || !ref->host[0] || !ref->repository[0] || deadline_ns <= 0)
		return err_set(err, ERR_INVALID, "referrers without reference or deadline");
	l.subject = xstrdup(digest_text(subject, text));
	r = read_pages(&l, &why);
	if (r < 0 && !is_without_api(&l))
		return err_set(err, why.code, "%s/%s: referrers of %s: %s", ref->host, ref->repository, l.subject,
		               why.msg);
	if (r < 0)
		TRY(read_tag(c, ref, account, REG_CAN_RESOLVE, subject, deadline_ns, canceller, &tagged, err));
	if (tagged)
		vec_push(&l.pages, tagged);
	return merge(&l, out, err);
}

/* ---- writing ---- */

static bool names(const struct reg_manifest *index, const struct digest *digest)
{
	for (size_t i = 0; index && i < index->n_entries; i++)
		if (digest_eq(&index->entries[i].digest, digest))
			return true;
	return false;
}

/* The fallback index with one more entry. */
static int write_tag(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account,
                     const struct digest *subject, const struct reg_manifest *old, const struct reg_descriptor *entry,
                     int64_t deadline_ns, struct reg_canceller *canceller, struct err *err)
{
	static const struct reg_manifest none = {.kind = REG_IMAGE_INDEX};
	struct reg_manifest index = old ? *old : none;
	AUTO_FREE struct reg_descriptor *entries = xcalloc(index.n_entries + 1, sizeof(*entries));
	AUTO(buf) struct buf text = BUF_INIT;
	struct reg_ref at = *ref;

	if (index.n_entries + index.n_unread >= REG_INDEX_ENTRIES_MAX)
		return err_set(err, ERR_EXHAUSTED, "%s/%s: the index of referrers is full", ref->host, ref->repository);
	if (index.n_entries)
		memcpy(entries, index.entries, index.n_entries * sizeof(*entries));
	entries[index.n_entries++] = *entry;
	index.entries = entries;
	index.media_type = STR(REG_MT_OCI_INDEX);
	reg_manifest_write(&index, &text);
	TRY(set_tag(&at, subject, err));
	return reg_manifest_push(c, &at, account, buf_str(&text), index.media_type, deadline_ns, canceller, err);
}

/* Whoever read before us, and writes after us, takes our entry out again: so we look. */
static int add_to_tag(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account,
                      const struct digest *subject, const struct reg_descriptor *entry, int64_t deadline_ns,
                      struct reg_canceller *canceller, struct err *err)
{
	for (unsigned i = 0; i <= TAG_ATTEMPTS; i++) {
		AUTO(reg_manifest) struct reg_manifest *index = NULL;

		/* Not from a mirror, whose copy may be old. */
		TRY(read_tag(c, ref, account, REG_CAN_RESOLVE | REG_CAN_PUSH, subject, deadline_ns, canceller, &index,
		             err));
		if (names(index, &entry->digest))
			return 0;
		if (i < TAG_ATTEMPTS)
			TRY(write_tag(c, ref, account, subject, index, entry, deadline_ns, canceller, err));
	}
	return err_set(err, ERR_ABORTED, "%s/%s: others keep changing the index of referrers", ref->host,
	               ref->repository);
}

int reg_referrer_push(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account, struct str manifest,
                      int64_t deadline_ns, struct reg_canceller *canceller, struct err *err)
{
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	struct reg_descriptor entry;
	struct reg_ref at = *ref;
	bool kept = false;

	TRY(reg_manifest_parse(manifest, STR_NONE, &m, err));
	if (!m->has_subject)
		return err_set(err, ERR_INVALID, "push of a referrer that names no subject");
	entry = reg_descriptor_of(m->media_type, m->bytes);
	entry.artifact_type = m->artifact_type.n ? m->artifact_type : m->config.media_type;
	entry.annotations = m->annotations;
	entry.n_annotations = m->n_annotations;
	at.tag[0] = '\0';
	at.has_digest = false;
	TRY(manifest_push(c, &at, account, m->bytes, m->media_type, deadline_ns, canceller, &kept, err));
	return kept ? 0 : add_to_tag(c, ref, account, &m->subject.digest, &entry, deadline_ns, canceller, err);
}
