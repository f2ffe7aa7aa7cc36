#include "estargz/testing/golden.h"

#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"
#include "estargz/inflate/inflate.h"
#include "estargz/tar/split.h"

#include <fcntl.h>

static void slurp(TAKE(char *) path, struct buf *out)
{
	AUTO_FREE char *owned = path;

	OK(file_read(AT_FDCWD, owned, 1u << 20, out, err));
}

/* ---- blobs.json ---- */

static bool next_key(struct json_reader *r, struct str *key)
{
	int more = 0;

	OK(more = json_object_next(r, key, err));
	return more > 0;
}

static void read_digest(struct json_reader *r, struct digest *out)
{
	struct str text;

	OK(json_string(r, &text, err));
	OK(digest_parse(text, out, err));
}

static void read_annotations(struct json_reader *r, struct golden *g)
{
	struct str key, value;

	OK(json_object_begin(r, err));
	while (next_key(r, &key)) {
		OK(json_string(r, &value, err));
		vec_push(&g->annotations, (struct golden_annotation){str_dup(key), str_dup(value)});
	}
}

static void read_known(struct json_reader *r, struct golden *g)
{
	struct str key;

	OK(json_object_begin(r, err));
	while (next_key(r, &key))
		if (str_eqc(key, "digest"))
			read_digest(r, &g->digest);
		else if (str_eqc(key, "diff_id"))
			read_digest(r, &g->diff_id);
		else if (str_eqc(key, "annotations"))
			read_annotations(r, g);
		else
			OK(json_skip(r, err));
}

void golden_read(const char *folder, const char *name, struct golden *g)
{
	AUTO_FREE char *toc = xasprintf("../tests/golden/%s/%s.toc", folder, name);
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO(json_reader) struct json_reader *r = NULL;
	bool found = false;
	struct str key;

	*g = (struct golden){.blob = BUF_INIT, .toc = BUF_INIT, .annotations = VEC_INIT};
	slurp(xasprintf("../tests/golden/%s/%s.blob", folder, name), &g->blob);
	if (!access(toc, F_OK))
		slurp(STEAL(toc), &g->toc);
	slurp(xasprintf("../tests/golden/%s/blobs.json", folder), &text);
	r = json_reader_new_take(&text);
	OK(json_object_begin(r, err));
	while (next_key(r, &key))
		if (str_eqc(key, name)) {
			found = true;
			read_known(r, g);
		} else {
			OK(json_skip(r, err));
		}
	assert_true(found);
}

void golden_fini(struct golden *g)
{
	vec_each(&g->annotations, a) {
		free(a->name);
		free(a->value);
	}
	vec_fini(&g->annotations);
	buf_fini(&g->blob);
	buf_fini(&g->toc);
}

void golden_source(struct buf *out)
{
	slurp(xstrdup("../tests/golden/good/layer.tar.gz"), out);
}

/* ---- by its TOC ---- */

static struct str annotation(void *arg, const char *name)
{
	const struct golden *g = arg;

	vec_each(&g->annotations, a)
		if (!strcmp(a->name, name))
			return str_of(a->value);
	return STR_NONE;
}

static int extract(const struct golden *g, const struct golden_layer *l, struct buf *json, struct err *err)
{
	if (l->footer.kind == ESGZ_FOOTER_EXTERNAL_TOC)
		return esgz_toc_extract_external(buf_str(&g->toc), &l->anchor, json, err);
	return esgz_toc_extract(&l->footer, str_sub(buf_str(&g->blob), l->footer.toc_offset, l->footer.toc_bytes),
	                        &l->anchor, json, err);
}

int golden_open(const struct golden *g, struct golden_layer *l, struct err *err)
{
	struct str blob = buf_str(&g->blob), tail;
	AUTO(buf) struct buf json = BUF_INIT;
	struct esgz_toc_source src = {.footer = &l->footer, .blob = g->digest, .blob_bytes = blob.n};

	*l = (struct golden_layer){.index_file = BUF_INIT};
	TRY(esgz_anchor_read(annotation, (void *)g, blob.n, &l->anchor, err));
	tail = str_sub(blob, blob.n < ESGZ_FOOTER_MAX ? 0 : blob.n - ESGZ_FOOTER_MAX, SIZE_MAX);
	TRY(esgz_anchor_locate(&l->anchor, tail, blob.n, &l->footer, err));
	TRY(extract(g, l, &json, err));
	src.key = *esgz_anchor_key(&l->anchor);
	TRY(esgz_toc_to_index(&src, &json, &l->index_file, &l->found, err));
	return esgz_index_open(buf_str(&l->index_file), &l->index, err);
}

void golden_layer_fini(struct golden_layer *l)
{
	esgz_index_free(l->index);
	buf_fini(&l->index_file);
}

/* ---- its contents ---- */

/* Appends a chunk. */
static int read_chunk(const struct golden *g, const struct golden_layer *l, struct esgz_inflater *z, uint32_t i,
                      struct buf *out, struct err *err)
{
	enum esgz_compression compression = esgz_index_get_info(l->index)->compression;
	AUTO_FREE char *in = NULL;
	struct esgz_chunk c;
	uint8_t *dst;

	esgz_index_chunk(l->index, i, &c);
	assert_true(c.bytes <= ESGZ_CHUNK_BYTES_MAX && c.blob_offset + c.blob_bytes <= g->blob.n);
	dst = (uint8_t *)buf_reserve(out, c.bytes);
	if (c.hole) {
		memset(dst, 0, c.bytes);
	} else {
		/* So that a read past its end is seen. */
		in = xmalloc(c.blob_bytes);
		memcpy(in, buf_str(&g->blob).p + c.blob_offset, c.blob_bytes);
		TRY(esgz_inflate_chunk(z, compression, str_make(in, c.blob_bytes), &c, dst, err));
	}
	out->n += c.bytes;
	return 0;
}

static int read_file(const struct golden *g, const struct golden_layer *l, struct esgz_inflater *z,
                     const struct esgz_entry *e, struct buf *out, struct err *err)
{
	struct digest got;

	for (uint32_t i = 0; i < e->n_chunks; i++)
		TRY_WRAP(read_chunk(g, l, z, e->first_chunk + i, out, err), err, STR_FMT, STR_ARG(e->path));
	digest_of(out->p, out->n, &got);
	return digest_eq(&got, &e->content)
	           ? 0
	           : err_set(err, ERR_DATA_LOSS, STR_FMT ": chunks are right, the file is not", STR_ARG(e->path));
}

int golden_read_chunks(const struct golden *g, const struct golden_layer *l, unsigned *n, struct err *err)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();

	for (uint32_t i = 0; i < esgz_index_get_info(l->index)->n_entries; i++) {
		AUTO(buf) struct buf content = BUF_INIT;
		struct esgz_entry e;

		esgz_index_entry(l->index, i, &e);
		*n += e.n_chunks;
		if (e.n_chunks > 0)
			TRY(read_file(g, l, z, &e, &content, err));
	}
	return 0;
}

struct assembly {
	const struct golden *golden;
	const struct golden_layer *layer;
	struct esgz_inflater *inflater;
	struct hasher *hasher;
};

static int put_content(void *arg, const struct esgz_split_file *f, esgz_put_fn put, void *to, struct err *err)
{
	const struct assembly *a = arg;
	AUTO(buf) struct buf path = BUF_INIT;
	AUTO(buf) struct buf content = BUF_INIT;

	TRY(esgz_path_clean(f->name, &path, err));
	for (uint32_t i = 0; i < esgz_index_get_info(a->layer->index)->n_entries; i++) {
		struct esgz_entry e;

		esgz_index_entry(a->layer->index, i, &e);
		if (!str_eq(e.path, buf_str(&path)) || e.type != ESGZ_REG)
			continue;
		TRY(read_file(a->golden, a->layer, a->inflater, &e, &content, err));
		return put(to, buf_str(&content), err);
	}
	return err_set(err, ERR_DATA_LOSS, "not in the TOC");
}

static int put_tar(void *to, struct str bytes, struct err *err)
{
	const struct assembly *a = to;

	hasher_add(a->hasher, bytes.p, bytes.n);
	return 0;
}

int golden_assemble(const struct golden *g, const struct golden_layer *l, struct digest *diff_id, struct err *err)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO(hasher) struct hasher *h = hasher_new();
	struct assembly a = {.golden = g, .layer = l, .inflater = z, .hasher = h};
	const struct esgz_split_contents contents = {.content = put_content, .arg = &a};
	const struct esgz_place *split = &l->anchor.split;

	if (!l->found.has_tar_split)
		return err_set(err, ERR_NOT_FOUND, "no tar-split");
	TRY(esgz_split_assemble(str_sub(buf_str(&g->blob), split->offset, split->packed_bytes), &l->found.tar_split,
	                        split->plain_bytes, &contents, put_tar, &a, err));
	hasher_done(h, diff_id);
	return 0;
}
