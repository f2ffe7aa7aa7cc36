#include "registry/testregistry.h"

#include "registry/http.h"
#include "registry/manifest_write.h"

#include <stdio.h>

void testregistry_init(struct testregistry *r)
{
	*r = (struct testregistry){.manifests = MAP_INIT};
	pthread_mutex_init(&r->lock, NULL);
}

void testregistry_fini(struct testregistry *r)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(&r->manifests, &at, &key, &value);) {
		buf_fini(value);
		free(value);
	}
	map_fini(&r->manifests);
	buf_fini(&r->upload);
	buf_fini(&r->blob);
	pthread_mutex_destroy(&r->lock);
}

static bool is_method(const struct exchange *x, const char *method)
{
	return str_eqc(x->method, method);
}

static bool has(const struct exchange *x, const char *part)
{
	return memmem(x->path.p, x->path.n, part, strlen(part));
}

/* ---- uploads ---- */

static bool answer_upload(struct testregistry *r, struct exchange *x, int status)
{
	char headers[200];

	snprintf(headers, sizeof(headers),
	         "Location: /v2/some/image/blobs/uploads/u?state=%zu\r\nRange: 0-%zu\r\nOCI-Chunk-Min-Length: %zu\r\n",
	         r->upload.n, r->upload.n ? r->upload.n - 1 : 0, r->piece_min);
	return exchange_reply(x, status, headers, STR_NONE);
}

static bool patch(struct testregistry *r, struct exchange *x)
{
	struct str range = exchange_header(x, "Content-Range"), first;
	uint64_t from = 0, to = 0;

	r->patches++;
	if (!str_split(&range, '-', &first) || !str_u64(first, 10, &from) || !str_u64(range, 10, &to) ||
	    to + 1 - from != x->body.n)
		return exchange_reply(x, 400, "", STR("Content-Range"));
	if (from != r->upload.n)
		return exchange_reply(x, 416, "", STR("out of order"));
	if (r->breaks) {
		r->breaks--;
		if (r->loses_partly)
			buf_add(&r->upload, x->body.p, x->body.n / 2);
		r->is_open = !r->forgets;
		r->broken_at = r->upload.n;
		return false;
	}
	r->resumed += r->broken_at && from == r->broken_at;
	buf_addstr(&r->upload, x->body);
	return answer_upload(r, x, 202);
}

static bool put_blob(struct testregistry *r, struct exchange *x)
{
	const char *want = memmem(x->path.p, x->path.n, "digest=", 7);
	struct digest d;

	if (r->breaks) {
		r->breaks--;
		return false;
	}
	buf_addstr(&r->upload, x->body);
	digest_of(r->upload.p ?: "", r->upload.n, &d);
	digest_text(&d, r->blob_text);
	if (!want || strncmp(want + 7, r->blob_text, strlen(r->blob_text)) != 0)
		return exchange_reply(x, 400, "", STR("DIGEST_INVALID"));
	buf_fini(&r->blob);
	r->blob = r->upload;
	r->upload = BUF_INIT;
	r->is_open = false;
	if (r->silent_puts) {
		r->silent_puts--;
		return false;
	}
	return exchange_reply(x, 201, "", STR_NONE);
}

static bool serve_upload(struct testregistry *r, struct exchange *x)
{
	if (r->busy) {
		r->busy--;
		return exchange_reply(x, r->busy_status, r->busy_headers, STR("busy"));
	}
	if (is_method(x, "POST")) {
		buf_clear(&r->upload);
		r->is_open = true;
		return answer_upload(r, x, 202);
	}
	if (!r->is_open)
		return exchange_reply(x, 404, "", STR("BLOB_UPLOAD_UNKNOWN"));
	if (r->body_max && x->body.n > r->body_max)
		return exchange_reply(x, 413, "", STR("too much"));
	if (is_method(x, "PATCH"))
		return patch(r, x);
	if (is_method(x, "PUT"))
		return put_blob(r, x);
	if (is_method(x, "GET"))
		return answer_upload(r, x, 204);
	if (!is_method(x, "DELETE"))
		return exchange_reply(x, 405, "", STR_NONE);
	r->drops++;
	r->is_open = false;
	return exchange_reply(x, 204, "", STR_NONE);
}

/* ---- manifests ---- */

void testregistry_put(struct testregistry *r, const char *name, struct str bytes)
{
	struct buf *b = map_get(&r->manifests, str_of(name)) ?: xcalloc(1, sizeof(*b));

	buf_clear(b);
	buf_addstr(b, bytes);
	map_put(&r->manifests, str_of(name), b);
}

struct buf *testregistry_get(struct testregistry *r, const char *name)
{
	return map_get(&r->manifests, str_of(name));
}

static bool serve_manifest(struct testregistry *r, struct exchange *x, const char *name)
{
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	char headers[200], text[DIGEST_TEXT_MAX];
	struct buf *b;

	if (is_method(x, "PUT")) {
		testregistry_put(r, name, x->body);
		if (reg_manifest_parse(x->body, exchange_header(x, "Content-Type"), &m, NULL) < 0)
			return exchange_reply(x, 400, "", STR("MANIFEST_INVALID"));
		testregistry_put(r, digest_text(&m->digest, text), x->body);
		return exchange_reply(x, 201, r->has_referrers && m->has_subject ? "OCI-Subject: it\r\n" : "",
		                      STR_NONE);
	}
	if (r->before_tag && !strchr(name, ':'))
		r->before_tag(r);
	b = testregistry_get(r, name);
	if (!b || reg_manifest_parse(buf_str(b), STR_NONE, &m, NULL) < 0)
		return exchange_reply(x, 404, "", STR("MANIFEST_UNKNOWN"));
	snprintf(headers, sizeof(headers), "Content-Type: " STR_FMT "\r\n", STR_ARG(m->media_type));
	return exchange_reply(x, 200, headers, m->bytes);
}

/* ---- referrers ---- */

/* The question's value, as it stands there, is this text. */
static bool is_value(const char *value, struct str text)
{
	AUTO(buf) struct buf escaped = BUF_INIT;

	http_escape(text, &escaped);
	return !strncmp(value, buf_cstr(&escaped), escaped.n) && strchr("& ", value[escaped.n]);
}

/* Entry `skip` and those behind it of all that refer to `subject`, in the order of their digests. */
static bool serve_referrers(struct testregistry *r, struct exchange *x, const char *subject)
{
	static const char type_key[] = "artifactType=", page_key[] = "page=";
	const char *type = memmem(x->path.p, x->path.n, type_key, sizeof(type_key) - 1);
	const char *page = memmem(x->path.p, x->path.n, page_key, sizeof(page_key) - 1);
	size_t skip = page ? strtoul(page + sizeof(page_key) - 1, NULL, 10) : 0, n = 0;
	struct reg_manifest index = {.kind = REG_IMAGE_INDEX, .media_type = STR(REG_MT_OCI_INDEX)};
	struct reg_manifest *found[256];
	struct reg_descriptor entries[256];
	AUTO(buf) struct buf text = BUF_INIT;
	char headers[300] = "Content-Type: " REG_MT_OCI_INDEX "\r\n", digest[DIGEST_TEXT_MAX];
	struct str key;
	void *value;
	bool ok;

	for (size_t at = 0; map_next(&r->manifests, &at, &key, &value) && n < ARRAY_LEN(found);) {
		struct reg_manifest *m;

		if (!str_starts(key, STR("sha256:")) || reg_manifest_parse(buf_str(value), STR_NONE, &m, NULL) < 0)
			continue;
		if (!m->has_subject || strcmp(digest_text(&m->subject.digest, digest), subject) != 0 ||
		    (type && r->filters && !is_value(type + sizeof(type_key) - 1, m->artifact_type))) {
			reg_manifest_free(m);
			continue;
		}
		entries[n] = reg_descriptor_of(m->media_type, m->bytes);
		entries[n].artifact_type = m->artifact_type;
		found[n++] = m;
	}
	index.entries = entries + skip;
	index.n_entries = n - skip;
	if (r->page_entries && index.n_entries > r->page_entries) {
		index.n_entries = r->page_entries;
		snprintf(headers + strlen(headers), sizeof(headers) - strlen(headers),
		         "Link: </v2/some/image/referrers/%s?page=%zu>; rel=\"next\"\r\n", subject,
		         skip + r->page_entries);
	}
	reg_manifest_write(&index, &text);
	ok = exchange_reply(x, 200, headers, buf_str(&text));
	for (size_t i = 0; i < n; i++)
		reg_manifest_free(found[i]);
	return ok;
}

bool testregistry_serve(struct testregistry *r, struct exchange *x)
{
	AUTO_FREE char *path = str_dup(x->path);
	char *name = strrchr(path, '/') + 1;
	bool ok;

	name[strcspn(name, "?")] = '\0';
	pthread_mutex_lock(&r->lock);
	if (has(x, "/blobs/uploads/"))
		ok = serve_upload(r, x);
	else if (has(x, "/manifests/"))
		ok = serve_manifest(r, x, name);
	else if (has(x, "/referrers/") && r->has_referrers)
		ok = serve_referrers(r, x, name);
	else if (has(x, "/blobs/") && r->blob.n && !strcmp(name, r->blob_text))
		ok = exchange_blob(x, buf_str(&r->blob));
	else
		ok = exchange_reply(x, 404, "", STR("what?"));
	pthread_mutex_unlock(&r->lock);
	return ok;
}
