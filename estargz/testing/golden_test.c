/* Layers made by the reference tools (tests/golden/make.sh): what their TOC says must be what their tar says, and what
 * the tar says from which they were made. */
#include "estargz/inflate/inflate.h"
#include "estargz/testing/test_blob.h"
#include "estargz/toc/toc.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void slurp(const char *name, struct buf *out)
{
	AUTO_FREE char *path = xasprintf("../tests/golden/%s", name);
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		fail_msg("%s is missing", path);
	while ((got = read(fd, buf_reserve(out, 65536), 65536)) > 0)
		out->n += (size_t)got;
	assert_int_equal(got, 0);
}

/* ---- a layer read lazily ---- */

static struct esgz_index *index_of_toc(struct str blob, enum esgz_footer_kind kind, const char *toc_digest,
                                       struct buf *file)
{
	AUTO(buf) struct buf json = BUF_INIT;
	struct esgz_footer f;
	struct digest expected, blob_digest;
	struct esgz_index *ix = NULL;
	struct err err = ERR_INIT;

	digest_of(blob.p, blob.n, &blob_digest);
	assert_int_equal(digest_parse(str_of(toc_digest), &expected, &err), 0);
	if (esgz_footer_parse(str_sub(blob, blob.n - ESGZ_FOOTER_MAX, SIZE_MAX), blob.n, &f, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(f.kind, kind);
	if (esgz_toc_extract(&f, str_sub(blob, f.toc_offset, f.toc_bytes), &expected, &json, &err) < 0 ||
	    esgz_toc_to_index(&f, &json, &expected, &blob_digest, blob.n, file, &err) < 0 ||
	    esgz_index_open(buf_str(file), &ix, &err) < 0)
		fail_msg("%s", err.msg);
	return ix;
}

static void assert_same_xattrs(const struct esgz_index *a, const struct esgz_entry *x, const struct esgz_index *b,
                               const struct esgz_entry *y)
{
	assert_int_equal(x->n_xattrs, y->n_xattrs);
	for (uint32_t i = 0; i < x->n_xattrs; i++) {
		struct str name[2], value[2];

		esgz_index_xattr(a, x->first_xattr + i, &name[0], &value[0]);
		esgz_index_xattr(b, y->first_xattr + i, &name[1], &value[1]);
		assert_true(str_eq(name[0], name[1]) && str_eq(value[0], value[1]));
	}
}

/* All but the chunks. */
static void assert_same_tree(const struct esgz_index *a, const struct esgz_index *b)
{
	assert_int_equal(esgz_index_get_info(a)->n_entries, esgz_index_get_info(b)->n_entries);
	assert_int_equal(esgz_index_get_info(a)->content_bytes, esgz_index_get_info(b)->content_bytes);
	for (uint32_t i = 0; i < esgz_index_get_info(a)->n_entries; i++) {
		struct esgz_entry x, y;

		esgz_index_entry(a, i, &x);
		esgz_index_entry(b, i, &y);
		assert_true(str_eq(x.path, y.path));
		assert_int_equal(x.type, y.type);
		assert_int_equal(x.flags, y.flags);
		if (x.type == ESGZ_WHITEOUT)
			continue;
		assert_int_equal(x.mode, y.mode);
		assert_int_equal(x.uid, y.uid);
		assert_int_equal(x.gid, y.gid);
		assert_int_equal(x.mtime_s, y.mtime_s);
		assert_int_equal(x.mtime_ns, y.mtime_ns);
		assert_int_equal(x.dev_major, y.dev_major);
		assert_int_equal(x.dev_minor, y.dev_minor);
		assert_int_equal(x.size, y.size);
		assert_true(str_eq(x.link, y.link));
		assert_int_equal(x.target, y.target);
		assert_true(digest_eq(&x.content, &y.content));
		assert_same_xattrs(a, &x, b, &y);
	}
}

/* Each chunk inflates to what it should, and the chunks of a file to the file. Returns the number of chunks. */
static unsigned read_chunks(const struct esgz_index *ix, struct str blob)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO(hasher) struct hasher *h = hasher_new();
	unsigned n = 0;

	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_entries; i++) {
		struct esgz_entry e;
		struct digest got;

		esgz_index_entry(ix, i, &e);
		for (uint32_t k = 0; k < e.n_chunks; k++, n++) {
			AUTO_FREE uint8_t *dst = NULL;
			AUTO_FREE char *in = NULL;
			struct esgz_chunk c;
			struct err err = ERR_INIT;

			esgz_index_chunk(ix, e.first_chunk + k, &c);
			assert_true(c.blob_offset + c.blob_bytes <= blob.n);
			dst = xmalloc(c.bytes);
			in = xmalloc(c.blob_bytes);
			memcpy(in, blob.p + c.blob_offset, c.blob_bytes);
			if (esgz_inflate_chunk(z, esgz_index_get_info(ix)->compression, str_make(in, c.blob_bytes), &c,
			                       dst, &err) < 0)
				fail_msg(STR_FMT ": %s", STR_ARG(e.path), err.msg);
			hasher_add(h, dst, c.bytes);
		}
		if (e.n_chunks > 0) {
			hasher_done(h, &got);
			assert_true(digest_eq(&got, &e.content));
		}
	}
	return n;
}

static void check(const char *name, enum esgz_footer_kind kind, const char *toc_digest, unsigned n_chunks)
{
	AUTO(buf) struct buf blob = BUF_INIT;
	AUTO(buf) struct buf original = BUF_INIT;
	AUTO(buf) struct buf lazy_file = BUF_INIT;
	AUTO(buf) struct buf tar_file = BUF_INIT;
	AUTO(buf) struct buf original_file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *lazy = NULL;
	AUTO(esgz_index) struct esgz_index *tar = NULL;
	AUTO(esgz_index) struct esgz_index *source = NULL;

	slurp(name, &blob);
	slurp("layer.tar.gz", &original);
	lazy = index_of_toc(buf_str(&blob), kind, toc_digest, &lazy_file);
	tar = index_of_tar(buf_str(&blob), NULL, &tar_file);
	source = index_of_tar(buf_str(&original), NULL, &original_file);
	assert_same_tree(lazy, tar);
	assert_same_tree(lazy, source);
	assert_int_equal(esgz_index_get_info(lazy)->n_entries, 20);
	assert_int_equal(read_chunks(lazy, buf_str(&blob)), n_chunks);
}

static void test_estargz(void **state)
{
	check("estargz.blob", ESGZ_FOOTER_ESTARGZ,
	      "sha256:66f57cd16aca8e084c018d1cc3ae6236d75dc37c8ccc66131430a7d404897e19", 9);
}

static void test_zstdchunked(void **state)
{
	check("zstdchunked.blob", ESGZ_FOOTER_ZSTD_STARGZ,
	      "sha256:8d52383f01e57fee744acac8d06e926cff0edbd0be2128e767942df2820d06f5", 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_estargz),
	    cmocka_unit_test(test_zstdchunked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
