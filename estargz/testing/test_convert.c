#include "estargz/testing/test_convert.h"

#include "base/testing.h"
#include "estargz/tar/tar_write.h"

void stack_tar(const struct stack_layer *l, struct buf *out)
{
	vec_each(&l->entries, se) {
		struct esgz_entry e = stack_as_entry(se);
		struct esgz_xattr xattrs[STACK_XATTRS_MAX];

		for (uint32_t i = 0; i < se->n_xattrs; i++)
			xattrs[i] = (struct esgz_xattr){str_of(se->xattrs[i].name), buf_str(&se->xattrs[i].value)};
		OK(tar_write_header(&e, xattrs, se->n_xattrs, out, err));
		if (se->type == ESGZ_REG) {
			stack_content(&se->content, se->size, out);
			tar_write_padding(se->size, out);
		}
	}
	buf_addz(out, 1024);
}

void made_fini(struct made *m)
{
	buf_fini(&m->blob);
	esgz_convert_result_fini(&m->r);
}

/* ---- conversion ---- */

static int memory_read(void *arg, void *dst, size_t dst_bytes, size_t *n, struct err *err)
{
	struct memory_io *io = arg;

	*n = io->rest.n < io->piece ? io->rest.n : io->piece;
	assert_true(*n <= dst_bytes);
	memcpy(dst, io->rest.p, *n);
	io->rest = str_sub(io->rest, *n, io->rest.n);
	return 0;
}

static int memory_rewind(void *arg, struct err *err)
{
	struct memory_io *io = arg;

	io->rest = io->second.p ? io->second : io->source;
	return 0;
}

static int memory_write(void *arg, struct str bytes, struct err *err)
{
	struct memory_io *io = arg;

	if (io->blob.n + bytes.n > io->room)
		return err_set(err, ERR_EXHAUSTED, "the disk is full");
	buf_addstr(&io->blob, bytes);
	return 0;
}

struct esgz_convert_io memory_fns(struct memory_io *io)
{
	return (struct esgz_convert_io){.read = memory_read, .write = memory_write, .rewind = memory_rewind, .arg = io};
}

int convert_memory(struct str source, const struct esgz_convert_opts *opts, struct made *out, struct err *err)
{
	struct memory_io io = MEMORY_IO(source);
	struct esgz_convert_io fns = memory_fns(&io);
	int r = esgz_convert(opts, &fns, &out->r, err);

	out->format = opts->format;
	out->blob = io.blob;
	return r;
}

/* ---- readers ---- */

struct annotations {
	char keys[8][80], values[8][120];
	size_t n;
};

static void put_annotation(void *arg, const char *key, const char *value)
{
	struct annotations *a = arg;

	assert_true(a->n < ARRAY_LEN(a->keys));
	assert_true(esgz_is_layer_annotation(str_of(key)));
	assert_true(str_copy(str_of(key), a->keys[a->n], sizeof(a->keys[0])));
	assert_true(str_copy(str_of(value), a->values[a->n++], sizeof(a->values[0])));
}

static struct str get_annotation(void *arg, const char *key)
{
	const struct annotations *a = arg;

	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->keys[i], key) == 0)
			return str_of(a->values[i]);
	return STR_NONE;
}

struct esgz_anchor made_anchor(const struct made *m)
{
	struct annotations a = {.n = 0};
	struct esgz_anchor anchor;

	esgz_convert_annotations(m->format, &m->r, put_annotation, &a);
	OK(esgz_anchor_read(get_annotation, &a, m->blob.n, &anchor, err));
	return anchor;
}

static enum esgz_footer_kind footer_kind(enum esgz_format f)
{
	switch (f) {
	case ESGZ_F_ESTARGZ:
		return ESGZ_FOOTER_ESTARGZ;
	case ESGZ_F_ESTARGZ_EXTERNAL:
		return ESGZ_FOOTER_EXTERNAL_TOC;
	case ESGZ_F_ZSTD_CHUNKED:
		return ESGZ_FOOTER_ZSTD_STORAGE;
	default:
		return ESGZ_FOOTER_ZSTD_STARGZ;
	}
}

static struct esgz_index *external_index(const struct made *m, const struct esgz_anchor *anchor, struct buf *file)
{
	AUTO(buf) struct buf json = BUF_INIT;
	struct esgz_footer f;
	struct esgz_toc_source src = {
	    .footer = &f, .key = *esgz_anchor_key(anchor), .blob = m->r.blob, .blob_bytes = m->blob.n};
	struct esgz_index *ix = NULL;

	OK(esgz_anchor_locate(anchor, str_sub(buf_str(&m->blob), m->blob.n - ESGZ_FOOTER_MAX, ESGZ_FOOTER_MAX),
	                      m->blob.n, &f, err));
	assert_int_equal(f.kind, ESGZ_FOOTER_EXTERNAL_TOC);
	OK(esgz_toc_extract_external(buf_str(&m->r.external_toc), anchor, &json, err));
	OK(esgz_toc_to_index(&src, &json, file, NULL, err));
	OK(esgz_index_open(buf_str(file), &ix, err));
	return ix;
}

struct esgz_index *made_index(const struct made *m, struct buf *file)
{
	const struct esgz_anchor anchor = made_anchor(m);

	if (m->format == ESGZ_F_ESTARGZ_EXTERNAL)
		return external_index(m, &anchor, file);
	return index_of_lazy(buf_str(&m->blob), &anchor, footer_kind(m->format), file);
}

static void check_chunk(const struct made *m, const struct esgz_chunk *c, struct esgz_inflater *z, struct buf *bytes)
{
	struct str in = str_sub(buf_str(&m->blob), c->blob_offset, c->blob_bytes);

	buf_clear(bytes);
	buf_reserve(bytes, c->bytes);
	if (c->hole)
		memset(bytes->p, 0, c->bytes);
	else
		OK(esgz_inflate_chunk(z, esgz_format_compression(m->format), in, c, (uint8_t *)bytes->p, err));
	bytes->n = c->bytes;
}

static void check_chunks(const struct made *m, const struct esgz_index *ix)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO(hasher) struct hasher *h = hasher_new();
	AUTO(buf) struct buf bytes = BUF_INIT;

	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_entries; i++) {
		struct esgz_entry e;
		struct digest got;

		esgz_index_entry(ix, i, &e);
		for (uint32_t j = e.first_chunk; j < e.first_chunk + e.n_chunks; j++) {
			struct esgz_chunk c;

			esgz_index_chunk(ix, j, &c);
			check_chunk(m, &c, z, &bytes);
			hasher_add(h, bytes.p, bytes.n);
		}
		hasher_done(h, &got);
		if (e.type == ESGZ_REG)
			assert_true(digest_eq(&got, &e.content));
	}
}

void check_made(struct str source, const struct made *m)
{
	AUTO(buf) struct buf original_file = BUF_INIT;
	AUTO(buf) struct buf plain_file = BUF_INIT;
	AUTO(buf) struct buf lazy_file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *original = NULL;
	AUTO(esgz_index) struct esgz_index *plain = NULL;
	AUTO(esgz_index) struct esgz_index *lazy = NULL;
	struct esgz_layer_result original_r, plain_r;

	original = index_of_tar(source, &original_r, &original_file);
	plain = index_of_tar(buf_str(&m->blob), &plain_r, &plain_file);
	assert_same_tree(plain, original, 0);
	if (esgz_format_is_lazy(m->format)) {
		lazy = made_index(m, &lazy_file);
		assert_same_tree(lazy, original, 0);
		check_chunks(m, lazy);
	}
	assert_true(digest_eq(&m->r.source_blob, &original_r.blob));
	assert_true(digest_eq(&m->r.source_diff_id, &original_r.diff_id));
	assert_int_equal(m->r.source_bytes, source.n);
	assert_true(digest_eq(&m->r.blob, &plain_r.blob));
	assert_true(digest_eq(&m->r.diff_id, &plain_r.diff_id));
	assert_int_equal(m->r.blob_bytes, m->blob.n);
	assert_int_equal(m->r.plain_bytes, plain_r.plain_bytes);
	assert_int_equal(plain_r.compression, esgz_format_compression(m->format));
}
