#include "contentd/convert/place.h"

#include "registry/manifest_write.h"

#include <inttypes.h>

#define COPY_BYTES (1u << 20)
#define TAG_ANNOTATION "org.opencontainers.image.ref.name"
#define TAG_DEFAULT "latest"

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

int place_open(const char *name, bool writing, const struct place_opts *opts, struct place **out, struct err *err)
{
	struct str rest = str_of(name);
	AUTO_FREE char *path = NULL;
	AUTO_FREE char *tag = NULL;

	TRY(refuse_docker_place(rest, err));
	if (str_skip(&rest, STR("oci:"))) {
		split_tag(rest.p, &path, &tag);
		return place_layout_open(name, path, tag, writing, out, err);
	}
	if (str_skip(&rest, STR("oci-archive:"))) {
		split_tag(rest.p, &path, &tag);
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
	if (p && p->ops->cancel)
		p->ops->cancel(p);
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
	TRY(p->ops->open_blob(p, d, &s, err));
	while (out->n <= d->size) {
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

	buf_clear(out);
	TRY(is_manifest ? p->ops->get_manifest(p, d, out, err) : read_blob(p, d, out, err));
	digest_of(out->p ?: "", out->n, &digest);
	return check(p, d, &digest, out->n, err);
}

int place_put(struct place *p, struct str bytes, struct digest *digest, struct err *err)
{
	AUTO(place_sink) struct place_sink *s = NULL;
	int has;

	digest_of(bytes.p, bytes.n, digest);
	has = p->ops->has_blob(p, digest, err);
	if (has)
		return has < 0 ? has : 0;
	TRY(p->ops->begin_blob(p, &s, err));
	TRY(s->write(s, bytes, err));
	return s->finish(s, digest, bytes.n, err);
}

/* ---- from one place to another ---- */

static int stream(struct place_source *in, struct place_sink *out, struct hasher *h, uint64_t *bytes,
                  void (*progress)(void *arg, uint64_t bytes), void *arg, struct err *err)
{
	AUTO_FREE char *block = xmalloc(COPY_BYTES);
	size_t got;

	for (*bytes = 0;; *bytes += got) {
		if (progress)
			progress(arg, *bytes);
		TRY(in->read(in, block, COPY_BYTES, &got, err));
		if (!got)
			return 0;
		hasher_add(h, block, got);
		TRY(out->write(out, str_make(block, got), err));
	}
}

bool place_can_mount(struct place *to, struct place *from)
{
	return to->ops->can_mount && to->ops->can_mount(to, from);
}

int place_copy(struct place *to, struct place *from, const struct reg_descriptor *d, enum place_copied *how,
               void (*progress)(void *arg, uint64_t bytes), void *arg, struct err *err)
{
	AUTO(place_source) struct place_source *in = NULL;
	AUTO(place_sink) struct place_sink *out = NULL;
	AUTO(hasher) struct hasher *h = hasher_new();
	struct digest digest;
	uint64_t bytes;
	int r;

	if (place_can_mount(to, from)) {
		r = to->ops->mount_blob(to, from, d, err);
		*how = r == 1 ? PLACE_MOUNTED : PLACE_PRESENT;
	} else {
		r = to->ops->has_blob(to, &d->digest, err);
		*how = PLACE_PRESENT;
	}
	if (r)
		return r < 0 ? r : 0;
	*how = PLACE_COPIED;
	TRY(from->ops->open_blob(from, d, &in, err));
	TRY(to->ops->begin_blob(to, &out, err));
	TRY(stream(in, out, h, &bytes, progress, arg, err));
	hasher_done(h, &digest);
	TRY(check(from, d, &digest, bytes, err));
	return out->finish(out, &digest, bytes, err);
}

/* ---- index.json ---- */

static struct str tag_of(const struct reg_descriptor *d)
{
	return reg_annotation_get(d->annotations, d->n_annotations, STR(TAG_ANNOTATION));
}

char *place_tag(const char *tag, const char *suffix)
{
	return xasprintf("%s%s", tag ?: TAG_DEFAULT, suffix);
}

int place_index_find(const struct reg_manifest *index, const char *tag, const char *name, struct reg_descriptor *out,
                     struct err *err)
{
	const struct reg_descriptor *found = NULL;

	for (size_t i = 0; i < index->n_entries; i++)
		if (tag ? str_eqc(tag_of(&index->entries[i]), tag) : index->n_entries == 1)
			found = &index->entries[i];
	if (!found && tag)
		return err_set(err, ERR_NOT_FOUND, "%s: no image is tagged %s", name, tag);
	if (!found)
		return err_set(err, ERR_INVALID, "%s holds %zu images: name one as %s:TAG", name, index->n_entries,
		               name);
	*out = *found;
	return 0;
}

void place_index_write(const struct reg_manifest *old, const char *tag, struct str media_type, struct str manifest,
                       struct buf *out)
{
	struct reg_manifest index = old ? *old : (struct reg_manifest){.kind = REG_IMAGE_INDEX};
	AUTO_FREE struct reg_descriptor *entries = xcalloc(index.n_entries + 1, sizeof(*entries));
	struct reg_annotation name = {STR(TAG_ANNOTATION), str_of(tag)};
	size_t n = 0;

	for (size_t i = 0; i < index.n_entries; i++)
		if (!str_eqc(tag_of(&index.entries[i]), tag))
			entries[n++] = index.entries[i];
	entries[n] = reg_descriptor_of(media_type, manifest);
	entries[n].annotations = &name;
	entries[n].n_annotations = 1;
	index.entries = entries;
	index.n_entries = n + 1;
	index.media_type = STR(REG_MT_OCI_INDEX);
	reg_manifest_write(&index, out);
}
