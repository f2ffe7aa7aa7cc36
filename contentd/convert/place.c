#include "contentd/convert/place.h"

#include "registry/manifest_write.h"

#include <inttypes.h>

#define COPY_BYTES (1u << 20)
#define TAG_ANNOTATION "org.opencontainers.image.ref.name"

/* "PATH[:TAG]": the tag begins after the last colon, unless a slash follows it. */
static void split_tag(const char *text, char **path, char **tag)
{
	const char *colon = strrchr(text, ':');

	if (!colon || strchr(colon, '/')) {
		*path = xstrdup(text);
		*tag = NULL;
		return;
	}
	*path = xstrndup(text, (size_t)(colon - text));
	*tag = xstrdup(colon + 1);
}

static int refuse_docker_place(struct str name, struct err *err)
{
	static const char *const kinds[] = {"docker-archive:", "docker-daemon:"};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (str_starts(name, str_of(kinds[i])))
			return err_set(err, ERR_INVALID,
			               STR_FMT " stores Docker manifests, which cannot carry the annotations that "
			                       "laziness hangs on: use an OCI place",
			               STR_ARG(name));
	return 0;
}

/* "PATH[:TAG]" of a place in the file system. */
static int read_path(const char *name, const char *text, char **path, char **tag, struct err *err)
{
	split_tag(text, path, tag);
	if (!**path || (*tag && !**tag))
		return err_set(err, ERR_INVALID, "%s: %s", name, **path ? "an empty tag" : "no path");
	return 0;
}

int place_open(const char *name, bool writing, const struct place_opts *opts, struct place **out, struct err *err)
{
	struct str rest = str_of(name);
	AUTO_FREE char *path = NULL;
	AUTO_FREE char *tag = NULL;

	TRY(refuse_docker_place(rest, err));
	if (str_skip(&rest, STR("oci:"))) {
		TRY(read_path(name, rest.p, &path, &tag, err));
		return place_layout_open(name, path, tag, writing, out, err);
	}
	if (str_skip(&rest, STR("oci-archive:"))) {
		TRY(read_path(name, rest.p, &path, &tag, err));
		return place_archive_open(name, path, tag, writing, out, err);
	}
	str_skip(&rest, STR("docker://"));
	return place_registry_open(name, rest.p, writing, opts, out, err);
}

void place_free(struct place *p)
{
	if (p)
		p->ops->free(p);
}

void place_cancel(struct place *p)
{
	if (!p)
		return;
	atomic_store(&p->cancelled, true);
	if (p->ops->cancel)
		p->ops->cancel(p);
}

int place_check_cancelled(const struct place *p, struct err *err)
{
	return atomic_load(&p->cancelled) ? err_set(err, ERR_CANCELLED, "interrupted") : 0;
}

void place_source_free(struct place_source *s)
{
	if (s)
		s->free(s);
}

void place_sink_free(struct place_sink *s)
{
	if (s)
		s->free(s);
}

/* ---- small ones ---- */

static int check(const struct place *p, const struct reg_descriptor *d, const struct digest *digest, uint64_t bytes,
                 struct err *err)
{
	char want[DIGEST_TEXT_MAX], got[DIGEST_TEXT_MAX];

	if (digest_eq(digest, &d->digest) && bytes == d->size)
		return 0;
	return err_set(err, ERR_DATA_LOSS, "%s: %s has %" PRIu64 " bytes of %" PRIu64 " with digest %s", p->name,
	               digest_text(&d->digest, want), bytes, d->size, digest_text(digest, got));
}

static int read_blob(struct place *p, const struct reg_descriptor *d, struct buf *out, struct err *err)
{
	AUTO(place_source) struct place_source *s = NULL;
	size_t got;

	if (d->size > REG_CONFIG_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED, "%s: a document of %" PRIu64 " bytes", p->name, d->size);
	TRY(p->ops->open_blob(p, d, 0, &s, err));
	while (out->n <= d->size) {
		TRY(place_check_cancelled(p, err));
		TRY(s->read(s, buf_reserve(out, COPY_BYTES), COPY_BYTES, &got, err));
		if (!got)
			break;
		out->n += got;
	}
	return 0;
}

int place_get(struct place *p, const struct reg_descriptor *d, bool is_manifest, struct buf *out, struct err *err)
{
	struct digest digest;

	if (++p->n_documents > PLACE_DOCUMENTS_MAX)
		return err_set(err, ERR_EXHAUSTED, "%s: more than %d manifests and configurations", p->name,
		               PLACE_DOCUMENTS_MAX);
	if (d->size > PLACE_DOCUMENT_BYTES_MAX - p->document_bytes)
		return err_set(err, ERR_EXHAUSTED, "%s: more than %u MiB of manifests and configurations", p->name,
		               PLACE_DOCUMENT_BYTES_MAX >> 20);
	p->document_bytes += d->size;
	buf_clear(out);
	TRY(is_manifest && p->ops->get_manifest ? p->ops->get_manifest(p, d, out, err) : read_blob(p, d, out, err));
	digest_of(out->p ?: "", out->n, &digest);
	return check(p, d, &digest, out->n, err);
}

static int put_once(struct place *p, struct str bytes, const struct digest *digest, struct err *err)
{
	AUTO(place_sink) struct place_sink *s = NULL;

	TRY(p->ops->begin_blob(p, &s, err));
	TRY(s->write(s, bytes, err));
	return s->finish(s, digest, bytes.n, err);
}

int place_put(struct place *p, struct str bytes, struct digest *digest, struct err *err)
{
	int has;

	digest_of(bytes.p, bytes.n, digest);
	has = p->ops->has_blob(p, digest, bytes.n, err);
	if (has)
		return has < 0 ? has : 0;
	for (unsigned i = 1;; i++) {
		struct err why = ERR_INIT;
		int r = put_once(p, bytes, digest, &why);

		if (r < 0 && why.code == ERR_ABORTED && i < PLACE_ATTEMPTS)
			continue;
		if (r < 0 && err)
			*err = why;
		return r;
	}
}

/* ---- from one place to another ---- */

/* A blob on its way from one place to another. */
struct copying {
	struct place *to, *from;
	const struct reg_descriptor *d;
	void (*progress)(void *arg, uint64_t bytes);
	void *arg;
};

static int stream(const struct copying *c, struct place_source *in, struct place_sink *out, struct hasher *h,
                  uint64_t *bytes, struct err *err)
{
	AUTO_FREE char *block = xmalloc(COPY_BYTES);
	size_t got;

	for (*bytes = 0;; *bytes += got) {
		if (c->progress)
			c->progress(c->arg, *bytes);
		TRY(place_check_cancelled(c->to, err));
		TRY(in->read(in, block, COPY_BYTES, &got, err));
		if (!got)
			return 0;
		hasher_add(h, block, got);
		TRY(out->write(out, str_make(block, got), err));
	}
}

static int copy_once(const struct copying *c, struct err *err)
{
	AUTO(place_source) struct place_source *in = NULL;
	AUTO(place_sink) struct place_sink *out = NULL;
	AUTO(hasher) struct hasher *h = hasher_new();
	struct digest digest;
	uint64_t bytes;

	TRY(c->from->ops->open_blob(c->from, c->d, 0, &in, err));
	TRY(c->to->ops->begin_blob(c->to, &out, err));
	TRY(stream(c, in, out, h, &bytes, err));
	hasher_done(h, &digest);
	TRY(check(c->from, c->d, &digest, bytes, err));
	return out->finish(out, &digest, bytes, err);
}

bool place_can_mount(struct place *to, struct place *from)
{
	return to->ops->can_mount && to->ops->can_mount(to, from);
}

int place_copy(struct place *to, struct place *from, const struct reg_descriptor *d, enum place_copied *how,
               void (*progress)(void *arg, uint64_t bytes), void *arg, struct err *err)
{
	const struct copying c = {to, from, d, progress, arg};
	int r;

	if (place_can_mount(to, from)) {
		r = to->ops->mount_blob(to, from, d, err);
		*how = r == 1 ? PLACE_MOUNTED : PLACE_PRESENT;
	} else {
		r = to->ops->has_blob(to, &d->digest, d->size, err);
		*how = PLACE_PRESENT;
	}
	if (r)
		return r < 0 ? r : 0;
	*how = PLACE_COPIED;
	for (unsigned i = 1;; i++) {
		struct err why = ERR_INIT;

		r = copy_once(&c, &why);
		if (r < 0 && why.code == ERR_ABORTED && i < PLACE_ATTEMPTS)
			continue;
		if (r < 0 && err)
			*err = why;
		return r;
	}
}

/* ---- index.json ---- */

static struct str tag_of(const struct reg_descriptor *d)
{
	return reg_annotation_get(d->annotations, d->n_annotations, STR(TAG_ANNOTATION));
}

/* The entry without a name; NULL: there is none. ERR_INVALID when there are several. */
static int find_unnamed(const struct reg_manifest *index, const char *name, const struct reg_descriptor **out,
                        struct err *err)
{
	size_t n = 0;

	*out = NULL;
	for (size_t i = 0; i < index->n_entries; i++)
		if (!tag_of(&index->entries[i]).n) {
			*out = &index->entries[i];
			n++;
		}
	if (n > 1)
		return err_set(err, ERR_INVALID, "%s holds %zu images without a name: give a tag, as %s:TAG", name, n,
		               name);
	return 0;
}

static int find_untagged(const struct reg_manifest *index, const char *name, const struct reg_descriptor **out,
                         struct err *err)
{
	TRY(find_unnamed(index, name, out, err));
	if (!*out && index->n_entries == 1)
		*out = &index->entries[0];
	if (!*out)
		return err_set(err, ERR_INVALID, "%s holds %zu images: name one as %s:TAG", name, index->n_entries,
		               name);
	return 0;
}

int place_index_find(const struct reg_manifest *index, const char *tag, const char *suffix, const char *name,
                     struct reg_descriptor *out, struct err *err)
{
	AUTO_FREE char *full = xasprintf("%s%s", tag ?: "", suffix);
	const struct reg_descriptor *found = NULL;

	if (!tag && !*suffix)
		TRY(find_untagged(index, name, &found, err));
	for (size_t i = 0; tag && i < index->n_entries; i++)
		if (str_eqc(tag_of(&index->entries[i]), full))
			found = &index->entries[i];
	if (!found)
		return err_set(err, ERR_NOT_FOUND, "%s: no image is tagged %s", name, full);
	*out = *found;
	return 0;
}

const char *place_index_why_unnamed(const char *tag, const char *suffix)
{
	return !tag && *suffix ? "it names no tag" : NULL;
}

static bool is_replaced(const struct reg_descriptor *entry, const struct reg_descriptor *unnamed, const char *tag,
                        const struct place_document *docs, size_t n)
{
	if (!tag)
		return entry == unnamed;
	for (size_t i = 0; i < n; i++) {
		struct str rest = tag_of(entry);

		if (str_skip(&rest, str_of(tag)) && str_eqc(rest, docs[i].suffix))
			return true;
	}
	return false;
}

int place_index_write(const struct reg_manifest *old, const char *tag, const struct place_document *docs, size_t n,
                      const char *name, struct buf *out, struct err *err)
{
	struct reg_manifest index = old ? *old : (struct reg_manifest){.kind = REG_IMAGE_INDEX};
	AUTO_FREE struct reg_descriptor *entries = xcalloc(index.n_entries + n, sizeof(*entries));
	AUTO_FREE struct reg_annotation *names = xcalloc(n, sizeof(*names));
	const struct reg_descriptor *unnamed = NULL;
	size_t kept = 0;

	if (!tag)
		TRY(find_unnamed(&index, name, &unnamed, err));
	for (size_t i = 0; i < index.n_entries; i++)
		if (!is_replaced(&index.entries[i], unnamed, tag, docs, n))
			entries[kept++] = index.entries[i];
	for (size_t i = 0; i < n; i++) {
		struct reg_descriptor *d = &entries[kept + i];
		char *full = xasprintf("%s%s", tag ?: "", docs[i].suffix);

		*d = reg_descriptor_of(docs[i].media_type, docs[i].bytes);
		names[i] = (struct reg_annotation){STR(TAG_ANNOTATION), str_of(full)};
		d->annotations = &names[i];
		d->n_annotations = tag != NULL;
	}
	index.entries = entries;
	index.n_entries = kept + n;
	index.media_type = STR(REG_MT_OCI_INDEX);
	reg_manifest_write(&index, out);
	for (size_t i = 0; i < n; i++)
		free((char *)names[i].value.p);
	return 0;
}
