/*
 * Input: a byte for the format, one for the options, then entries of a layer, each one byte of type, one of what else is
 * there, the lengths of path and link, and their bytes; a tar is made of them. (The bytes of a tar itself would get the
 * fuzzer nowhere: checksums.) If it can be read as an ordinary layer and converted, the result must read back, lazily
 * where it is a lazy one, as the same tree; keep its DiffID where that is promised; and be the same bit for bit on several
 * threads. Entries that make no tree do not become a lazy layer.
 */
#include "estargz/convert/convert.h"

#include "estargz/inflate/layer.h"
#include "estargz/tar/tar_write.h"
#include "estargz/toc/footer.h"
#include "estargz/toc/toc.h"

#include <stdio.h>
#include <stdlib.h>

#define CHUNK_BYTES 4096

struct io {
	struct str source, rest;
	struct buf blob;
};

static void io_fini(struct io *io)
{
	buf_fini(&io->blob);
}
DEFINE_AUTO_FINI(io);

static int read_source(void *arg, void *dst, size_t dst_bytes, size_t *n, struct err *err)
{
	struct io *io = arg;

	*n = io->rest.n < dst_bytes ? io->rest.n : dst_bytes;
	memcpy(dst, io->rest.p, *n);
	io->rest = str_sub(io->rest, *n, io->rest.n);
	return 0;
}

static int rewind_source(void *arg, struct err *err)
{
	struct io *io = arg;

	io->rest = io->source;
	return 0;
}

static int write_blob(void *arg, struct str bytes, struct err *err)
{
	struct io *io = arg;

	buf_addstr(&io->blob, bytes);
	return io->blob.n < (16u << 20) ? 0 : err_set(err, ERR_EXHAUSTED, "enough");
}

static int begin(void *arg, uint64_t size, struct err *err)
{
	return 0;
}

static int data(void *arg, struct str bytes, struct err *err)
{
	return 0;
}

static int end(void *arg, const struct digest *content, struct err *err)
{
	return 0;
}

/* *is_tar: all entries are such as layers have, whatever the tree that they make. */
static int index_plainly(struct str layer, struct buf *bytes, bool *is_tar, struct err *err)
{
	static const struct esgz_layer_sink sink = {begin, data, end, NULL};
	AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&sink);
	struct esgz_layer_result r;

	TRY(esgz_layer_feed(l, layer, err));
	TRY(esgz_layer_finish(l, &r, err));
	*is_tar = true;
	return esgz_layer_index(l, bytes, err);
}

static int index_lazily(enum esgz_format format, struct str blob, const struct esgz_convert_result *r,
                        struct buf *bytes, struct err *err)
{
	AUTO(buf) struct buf json = BUF_INIT;
	struct str tail = str_sub(blob, blob.n < ESGZ_FOOTER_MAX ? 0 : blob.n - ESGZ_FOOTER_MAX, blob.n);
	const struct esgz_anchor anchor = {.has_plain = true,
	                                   .plain = r->toc,
	                                   .has_packed = format == ESGZ_F_ZSTD_CHUNKED || format == ESGZ_F_ZSTD_STARGZ,
	                                   .packed = r->toc_packed};
	struct esgz_footer f;
	const struct esgz_toc_source src = {.footer = &f, .key = r->toc, .blob = r->blob, .blob_bytes = blob.n};

	TRY(esgz_anchor_locate(&anchor, tail, blob.n, &f, err));
	if (format == ESGZ_F_ESTARGZ_EXTERNAL)
		TRY(esgz_toc_extract_external(buf_str(&r->external_toc), &anchor, &json, err));
	else
		TRY(esgz_toc_extract(&f, str_sub(blob, f.toc_offset, f.toc_bytes), &anchor, &json, err));
	return esgz_toc_to_index(&src, &json, bytes, NULL, err);
}

static void compare(struct str plain, struct str lazy)
{
	AUTO(esgz_index) struct esgz_index *a = NULL;
	AUTO(esgz_index) struct esgz_index *b = NULL;
	AUTO(buf) struct buf where = BUF_INIT;
	struct err err = ERR_INIT;

	if (esgz_index_open(lazy, &a, &err) < 0 || esgz_index_open(plain, &b, &err) < 0)
		abort();
	/* A TOC cannot say all times. */
	if (esgz_index_compare(a, "TOC", b, "tar", ESGZ_SAME_TOC_TIMES, &where) != 0) {
		fprintf(stderr, STR_FMT "\n", STR_ARG(buf_str(&where)));
		abort();
	}
}

/* Takes the next entry off the input; false at its end. */
static bool put_entry(struct str *in, struct buf *tar)
{
	struct esgz_entry e = {.dev_major = 1};
	struct esgz_xattr x = {STR("user.x"), STR("value")};
	struct err err = ERR_INIT;
	uint8_t head[4];

	if (in->n < sizeof(head))
		return false;
	memcpy(head, in->p, sizeof(head));
	e.type = 1 + head[0] % 7;
	e.mode = head[1] * 16;
	e.uid = head[1] & 1 ? 100 : 5000000;
	e.mtime_s = head[1] & 2 ? (int64_t)head[0] - 100 : (int64_t)head[0] << 32;
	e.mtime_ns = head[1] & 4 ? head[0] * 1000001 : 0;
	e.size = e.type == ESGZ_REG ? (head[0] / 7) << (head[1] >> 4) : 0;
	*in = str_sub(*in, sizeof(head), in->n);
	e.path = str_sub(*in, 0, head[2]);
	*in = str_sub(*in, e.path.n, in->n);
	e.link = str_sub(*in, 0, head[3]);
	*in = str_sub(*in, e.link.n, in->n);
	if (tar_write_header(&e, &x, head[1] & 8 ? 1 : 0, tar, &err) < 0)
		return true;
	memset(buf_reserve(tar, e.size), head[0], e.size);
	tar->n += e.size;
	tar_write_padding(e.size, tar);
	return true;
}

/* What the first two bytes choose. */
static struct esgz_convert_opts choose(struct str *in)
{
	static const struct str first[] = {{"a", 1}, {"b/c", 3}};
	struct esgz_convert_opts o = {.level = 1, .threads = 1};
	uint8_t options;

	if (in->n < 2)
		return o;
	o.format = (enum esgz_format)((uint8_t)in->p[0] % (ESGZ_F_GZIP + 1));
	options = (uint8_t)in->p[1];
	*in = str_sub(*in, 2, in->n);
	if (esgz_format_is_lazy(o.format))
		o.chunk_bytes = options & 1 && o.format == ESGZ_F_ZSTD_CHUNKED ? 0 : CHUNK_BYTES;
	o.threads = 1 + (options >> 4) % 4;
	o.keep_diff_id = options & 2;
	o.min_chunk_bytes = options & 4 ? 3 * CHUNK_BYTES : 0;
	if (options & 8) {
		o.priority = first;
		o.n_priority = ARRAY_LEN(first);
	}
	return o;
}

static void check(const struct esgz_convert_opts *opts, const struct buf *tar, struct io *io,
                  const struct esgz_convert_result *r)
{
	bool keeps = opts->keep_diff_id || opts->format == ESGZ_F_ZSTD_CHUNKED || !esgz_format_is_lazy(opts->format);
	AUTO(buf) struct buf source = BUF_INIT;
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf lazy = BUF_INIT;
	struct err err = ERR_INIT;
	bool is_tar;

	if (index_plainly(buf_str(tar), &source, &is_tar, &err) < 0 ||
	    index_plainly(buf_str(&io->blob), &plain, &is_tar, &err) < 0)
		abort();
	compare(buf_str(&source), buf_str(&plain));
	if (keeps && !digest_eq(&r->diff_id, &r->source_diff_id))
		abort();
	if (!esgz_format_is_lazy(opts->format))
		return;
	if (index_lazily(opts->format, buf_str(&io->blob), r, &lazy, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	compare(buf_str(&source), buf_str(&lazy));
}

static int convert(const struct buf *tar, const struct esgz_convert_opts *opts, struct io *io,
                   struct esgz_convert_result *r, struct err *err)
{
	const struct esgz_convert_io fns = {
	    .read = read_source, .write = write_blob, .rewind = rewind_source, .arg = io};

	io->source = io->rest = buf_str(tar);
	return esgz_convert(opts, &fns, r, err);
}

static void compare_threads(const struct buf *tar, struct esgz_convert_opts opts, const struct io *several)
{
	AUTO(esgz_convert_result) struct esgz_convert_result r = {0};
	AUTO(io) struct io one = {0};
	struct err err = ERR_INIT;

	opts.threads = 1;
	if (convert(tar, &opts, &one, &r, &err) < 0 || !str_eq(buf_str(&one.blob), buf_str(&several->blob)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf unused = BUF_INIT;
	AUTO(io) struct io io = {0};
	AUTO(esgz_convert_result) struct esgz_convert_result r = {0};
	struct str rest = str_make(in, n);
	struct esgz_convert_opts opts = choose(&rest);
	struct err err = ERR_INIT;
	bool is_layer, is_tar = false;

	while (tar.n < (4u << 20) && put_entry(&rest, &tar))
		;
	buf_addz(&tar, 2 * TAR_BLOCK);
	is_layer = index_plainly(buf_str(&tar), &unused, &is_tar, &err) == 0;
	if (convert(&tar, &opts, &io, &r, &err) < 0)
		return 0;
	if (opts.threads > 1)
		compare_threads(&tar, opts, &io);
	if (is_layer)
		check(&opts, &tar, &io, &r);
	else if (is_tar && esgz_format_is_lazy(opts.format))
		abort();
	return 0;
}
