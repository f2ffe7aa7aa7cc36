/* The bytes of an index file: versions, damage, forgeries. */
#include "estargz/index/index_format.h"
#include "estargz/index/test_index.h"
#include "estargz/testing/test_blob.h"

#include "base/testing.h"
#include "base/vec.h"

#include <stdio.h>

/* An index with something of every kind. */
static void rich_file(struct buf *file)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	struct esgz_index_info info = info_of(ESGZ_TRUST_TOC);
	struct esgz_xattr x = {STR("user.a"), STR("v")};
	struct esgz_entry e = {.type = ESGZ_DIR, .mode = 0755, .path = STR("d"), .mtime_ns = 5};

	esgz_index_add(b, &e, &x, 1, NULL, 0, NULL, NULL);
	e = (struct esgz_entry){.type = ESGZ_BLOCK, .path = STR("d/dev"), .dev_major = 8};
	esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, NULL);
	add_file(b, "d/one", 1, 10, 1);
	add_file(b, "d/two", 2, 10, 4);
	add_file(b, "d/none", 0, 0, 0);
	add_link(b, ESGZ_SYMLINK, "s", "t");
	add_link(b, ESGZ_HARDLINK, "h", "d/two");
	add(b, ESGZ_REG, ".wh.gone");
	add_hole(b, "d/z", 1ull << 40, 0);
	add_hole(b, "d/zz", 10, 1 << 20);
	info.prefetch_end = 77;
	assert_int_equal(esgz_index_finish(b, &info, file, NULL), 0);
}

static void reseal(struct buf *file)
{
	put_le64(file->p + H_CRC, index_crc(file->p, file->n));
}

/* The file as version 1 had it: without the last field of the header. */
static void to_version_1(struct buf *file)
{
	memmove(file->p + H_PREFETCH_END, file->p + H_END, file->n - H_END);
	file->n -= H_END - H_PREFETCH_END;
	put_le32(file->p + H_VERSION, 1);
	put_le32(file->p + H_HEADER_BYTES, H_PREFETCH_END);
	put_le64(file->p + H_FILE_BYTES, file->n);
	reseal(file);
}

static void test_version_1_is_read(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(buf) struct buf where = BUF_INIT;
	AUTO(buf) struct buf old = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(esgz_index) struct esgz_index *now = NULL;
	struct err err = ERR_INIT;
	struct esgz_chunk c;

	add_file(b, "one", 1, 10, 1);
	add_file(b, "two", 2, 1000, 4);
	add_link(b, ESGZ_SYMLINK, "s", "t");
	now = finish(b, &file);
	buf_addstr(&old, buf_str(&file));
	to_version_1(&old);
	assert_int_equal(esgz_index_open(buf_str(&old), &ix, &err), 0);
	assert_int_equal(esgz_index_compare(ix, "old", now, "new", 0, &where), 0);
	assert_int_equal(esgz_index_get_info(ix)->prefetch_end, 0);
	assert_int_equal(esgz_index_get_info(ix)->n_chunks, 3);
	for (uint32_t i = 0; i < 3; i++) {
		struct esgz_chunk want;

		esgz_index_chunk(ix, i, &c);
		esgz_index_chunk(now, i, &want);
		assert_int_equal(c.blob_offset, want.blob_offset);
		assert_int_equal(c.bytes, want.bytes);
		assert_true(digest_eq(&c.digest, &want.digest));
	}
}

/* What version 1 did not have is damage in it, each alone. */
static void test_version_1_has_no_news(void **state)
{
	for (unsigned k = 0; k < 3; k++) {
		AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
		struct esgz_index_info info = info_of(ESGZ_TRUST_TOC);
		AUTO(buf) struct buf file = BUF_INIT;
		AUTO(esgz_index) struct esgz_index *ix = NULL;
		struct err err = ERR_INIT;

		if (k == 1)
			add_hole(b, "hole", 10, 0);
		else
			add_file(b, "one", 1, 10, 1);
		info.compression = k == 2 ? ESGZ_GZIP_SEEK : ESGZ_GZIP;
		assert_int_equal(esgz_index_finish(b, &info, &file, &err), 0);
		to_version_1(&file);
		assert_int_equal(esgz_index_open(buf_str(&file), &ix, &err), k == 0 ? 0 : -ERR_DATA_LOSS);
	}
}

/* Reads all that an index hands out, so that the sanitizers see every view. */
static uint64_t read_all(const struct esgz_index *ix)
{
	const struct esgz_index_info *info = esgz_index_get_info(ix);
	struct esgz_entry e;
	struct esgz_chunk c;
	struct str name, value;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < info->n_entries; i++) {
		esgz_index_entry(ix, i, &e);
		sum += str_hash(e.path) + str_hash(e.link) + e.size;
		for (uint32_t k = 0; k < e.n_chunks; k++) {
			esgz_index_chunk(ix, e.first_chunk + k, &c);
			sum += c.bytes;
		}
		for (uint32_t k = 0; k < e.n_xattrs; k++) {
			esgz_index_xattr(ix, e.first_xattr + k, &name, &value);
			sum += str_hash(name) + str_hash(value);
		}
	}
	return sum;
}

static void test_damage_is_seen(void **state)
{
	AUTO(buf) struct buf file = BUF_INIT;
	struct esgz_index *ix;
	struct err err = ERR_INIT;

	rich_file(&file);
	for (size_t n = 0; n < file.n; n++)
		assert_int_equal(esgz_index_open(str_make(file.p, n), &ix, &err), -ERR_DATA_LOSS);
	for (size_t bit = 0; bit < 8 * file.n; bit++) {
		int r;

		file.p[bit / 8] ^= (char)(1 << bit % 8);
		r = esgz_index_open(buf_str(&file), &ix, &err);
		assert_int_equal(r,
		                 bit / 8 >= H_VERSION && bit / 8 < H_VERSION + 4 ? -ERR_UNIMPLEMENTED : -ERR_DATA_LOSS);
		file.p[bit / 8] ^= (char)(1 << bit % 8);
	}
	buf_addc(&file, 0);
	assert_int_equal(esgz_index_open(buf_str(&file), &ix, &err), -ERR_DATA_LOSS);
}

/* With a checksum that fits, each field still has to make sense. Every 16-bit word is set to extremes. */
static void test_lies_are_refused_or_harmless(void **state)
{
	static const uint16_t words[] = {0, 1, 2, 0x7fff, 0x8000, 0xffff};
	AUTO(buf) struct buf file = BUF_INIT;

	rich_file(&file);
	for (size_t at = H_BLOB; at + 2 <= file.n; at++)
		for (size_t w = 0; w < ARRAY_LEN(words); w++) {
			AUTO(esgz_index) struct esgz_index *ix = NULL;
			struct err err = ERR_INIT;
			uint16_t old = get_le16(file.p + at);

			put_le16(file.p + at, words[w]);
			reseal(&file);
			if (esgz_index_open(buf_str(&file), &ix, &err) < 0)
				assert_int_equal(err.code, ERR_DATA_LOSS);
			else
				read_all(ix);
			put_le16(file.p + at, old);
		}
}

static void test_bad_trees_are_refused(void **state)
{
	AUTO(buf) struct buf file = BUF_INIT;
	struct esgz_index *ix;
	struct err err = ERR_INIT;
	char *entries, *strings;
	char *at;

	rich_file(&file);
	entries = file.p + H_END;
	strings = memmem(file.p, file.n, "gone", 4);
	assert_non_null(strings);
	/* Names out of order, and twice. */
	at = memmem(file.p, file.n, "onetwo", 6);
	assert_non_null(at);
	at[0] = 'z';
	reseal(&file);
	assert_int_equal(esgz_index_open(buf_str(&file), &ix, &err), -ERR_DATA_LOSS);
	at[0] = 'o';
	/* A name with a slash, a dot. */
	strings[1] = '/';
	reseal(&file);
	assert_int_equal(esgz_index_open(buf_str(&file), &ix, &err), -ERR_DATA_LOSS);
	strings[1] = 'o';
	/* A name of an xattr with a NUL byte. */
	at = memmem(file.p, file.n, "user.", 5);
	assert_non_null(at);
	at[4] = 0;
	reseal(&file);
	assert_int_equal(esgz_index_open(buf_str(&file), &ix, &err), -ERR_DATA_LOSS);
	at[4] = '.';
	/* The root is a file. */
	entries[E_TYPE] = ESGZ_FIFO;
	reseal(&file);
	assert_int_equal(esgz_index_open(buf_str(&file), &ix, &err), -ERR_DATA_LOSS);
	entries[E_TYPE] = ESGZ_DIR;
	/* A parent that is itself, comes later, is a file, was left already. */
	for (uint32_t i = 1; i < 6; i++) {
		char *field = entries + i * ENTRY_BYTES + E_PARENT;
		uint32_t parent = get_le32(field);

		for (uint32_t wrong = 0; wrong < 12; wrong++) {
			put_le32(field, wrong);
			reseal(&file);
			assert_int_equal(esgz_index_open(buf_str(&file), &ix, &err),
			                 wrong == parent ? 0 : -ERR_DATA_LOSS);
			if (wrong == parent)
				esgz_index_free(ix);
		}
		put_le32(field, parent);
	}
}

/* More xattrs than an entry can have: sets of them may overlap, so that many would be said in few bytes. */
static void test_large_sets_of_xattrs_are_refused(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	const struct esgz_index_info info = info_of(ESGZ_TRUST_TOC);
	AUTO(buf) struct buf file = BUF_INIT;
	struct esgz_index *ix;
	struct err err = ERR_INIT;
	char *first;

	/* Two sets; the second one is made to begin with the first. */
	for (unsigned set = 0; set < 2; set++) {
		const struct esgz_entry e = {.type = ESGZ_DIR, .path = set ? STR("b") : STR("a")};
		struct esgz_xattr x[600];
		char names[600][16];

		for (unsigned i = 0; i < ARRAY_LEN(x); i++) {
			snprintf(names[i], sizeof(names[i]), "user.%u.%u", set, i);
			x[i] = (struct esgz_xattr){str_of(names[i]), STR_NONE};
		}
		assert_int_equal(esgz_index_add(b, &e, x, ARRAY_LEN(x), NULL, 0, NULL, NULL), 0);
	}
	assert_int_equal(esgz_index_finish(b, &info, &file, &err), 0);
	/* Behind three entries, and the sets of the root and of `a`. */
	first = file.p + H_END + 3 * ENTRY_BYTES + 2 * ATTR_BYTES + 12;
	assert_int_equal(get_le32(first), 600);
	assert_int_equal(get_le32(first + 4), 600);
	for (uint32_t n = 1024; n <= 1200; n += 176) {
		put_le32(first, 0);
		put_le32(first + 4, n);
		reseal(&file);
		assert_int_equal(esgz_index_open(buf_str(&file), &ix, &err), n <= ESGZ_XATTRS_MAX ? 0 : -ERR_DATA_LOSS);
		if (n <= ESGZ_XATTRS_MAX)
			esgz_index_free(ix);
	}
}

static void test_same_layer_same_bytes(void **state)
{
	AUTO(buf) struct buf a = BUF_INIT;
	AUTO(buf) struct buf b = BUF_INIT;

	rich_file(&a);
	rich_file(&b);
	assert_true(str_eq(buf_str(&a), buf_str(&b)));
}

static void test_checksum_is_crc64_xz(void **state)
{
	char file[H_CRC + 8 + 9] = {0};

	memcpy(file + H_CRC + 8, "123456789", 9);
	assert_true(index_crc(file, sizeof(file)) == 0x995dc9bbdf1939faull);
}

static void test_checksum_leaves_vectors(void **state)
{
	AUTO(buf) struct buf file = BUF_INIT;

	buf_addz(&file, 1 << 20);
	index_crc(file.p, file.n);
	assert_false(vectors_in_use());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_version_1_is_read),       cmocka_unit_test(test_version_1_has_no_news),
	    cmocka_unit_test(test_damage_is_seen),          cmocka_unit_test(test_lies_are_refused_or_harmless),
	    cmocka_unit_test(test_bad_trees_are_refused),   cmocka_unit_test(test_large_sets_of_xattrs_are_refused),
	    cmocka_unit_test(test_same_layer_same_bytes),   cmocka_unit_test(test_checksum_is_crc64_xz),
	    cmocka_unit_test(test_checksum_leaves_vectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
