#include "estargz/testing/test_blob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <zlib.h>

void gzip(struct buf *out, struct str plain)
{
	z_stream z = {0};
	size_t room;

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	room = deflateBound(&z, plain.n);
	z.next_in = (Bytef *)plain.p;
	z.avail_in = (uInt)plain.n;
	z.next_out = (Bytef *)buf_reserve(out, room);
	z.avail_out = (uInt)room;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	out->n += z.total_out;
	deflateEnd(&z);
}

void tar_entry(struct buf *tar, char type, const char *name, const char *link, uint64_t size, struct str content)
{
	char *b = buf_reserve(tar, 512);
	unsigned sum = 0;

	memset(b, 0, 512);
	strcpy(b, name);
	strcpy(b + 100, "0000640");
	strcpy(b + 157, link);
	snprintf(b + 124, 12, "%011llo", (unsigned long long)size);
	memset(b + 148, ' ', 8);
	b[156] = type;
	memcpy(b + 257, "ustar\00000", 8);
	for (int i = 0; i < 512; i++)
		sum += (uint8_t)b[i];
	snprintf(b + 148, 8, "%06o", sum);
	tar->n += 512;
	buf_addstr(tar, content);
	buf_addz(tar, -content.n & 511);
}

static int ignore_begin(void *arg, uint64_t size, struct err *err)
{
	return 0;
}

static int ignore_data(void *arg, struct str bytes, struct err *err)
{
	return 0;
}

static int ignore_end(void *arg, const struct digest *content, struct err *err)
{
	return 0;
}

struct esgz_index *index_of_tar(struct str blob, struct esgz_layer_result *result, struct buf *file)
{
	const struct esgz_layer_sink sink = {.begin = ignore_begin, .data = ignore_data, .end = ignore_end};
	AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&sink);
	struct esgz_layer_result unwanted;
	struct esgz_index *ix = NULL;
	struct err err = ERR_INIT;

	if (esgz_layer_feed(l, blob, &err) < 0 || esgz_layer_finish(l, result ?: &unwanted, &err) < 0 ||
	    esgz_layer_index(l, file, &err) < 0 || esgz_index_open(buf_str(file), &ix, &err) < 0)
		fail_msg("%s", err.msg);
	return ix;
}

struct esgz_entry find(const struct esgz_index *ix, const char *path)
{
	struct esgz_entry e;

	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_entries; i++) {
		esgz_index_entry(ix, i, &e);
		if (str_eqc(e.path, path))
			return e;
	}
	fail_msg("no entry %s", path);
	return e;
}

struct esgz_index *index_of_lazy(struct str blob, const struct esgz_anchor *anchor, enum esgz_footer_kind kind,
                                 struct buf *file)
{
	struct str tail = str_sub(blob, blob.n < ESGZ_FOOTER_MAX ? 0 : blob.n - ESGZ_FOOTER_MAX, blob.n);
	struct esgz_footer f;
	struct esgz_toc_source src = {.footer = &f, .key = *esgz_anchor_key(anchor), .blob_bytes = blob.n};
	AUTO(buf) struct buf json = BUF_INIT;
	struct esgz_index *ix = NULL;
	struct err err = ERR_INIT;

	digest_of(blob.p, blob.n, &src.blob);
	if (esgz_anchor_locate(anchor, tail, blob.n, &f, &err) < 0 ||
	    esgz_toc_extract(&f, str_sub(blob, f.toc_offset, f.toc_bytes), anchor, &json, &err) < 0 ||
	    esgz_toc_to_index(&src, &json, file, NULL, &err) < 0 || esgz_index_open(buf_str(file), &ix, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(f.kind, kind);
	return ix;
}

void assert_same_tree(const struct esgz_index *got, const struct esgz_index *want, unsigned flags)
{
	AUTO(buf) struct buf where = BUF_INIT;

	if (esgz_index_compare(got, "one read", want, "one wanted", flags, &where) != 0)
		fail_msg(STR_FMT, STR_ARG(buf_str(&where)));
}
