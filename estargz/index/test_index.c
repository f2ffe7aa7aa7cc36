#include "estargz/index/test_index.h"

#include "base/testing.h"

const struct digest BLOB = {{1}}, TOC = {{2}};

struct esgz_index_info info_of(enum esgz_trust trust)
{
	return (struct esgz_index_info){
	    .blob = BLOB, .trusted = TOC, .trust = trust, .compression = ESGZ_GZIP, .blob_bytes = BLOB_BYTES};
}

int add(struct esgz_index_builder *b, enum esgz_type type, const char *path)
{
	struct esgz_entry e = {.type = type, .mode = type == ESGZ_DIR ? 0755 : 0644, .path = str_of(path)};
	struct err err = ERR_INIT;

	return esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, &err);
}

int add_link(struct esgz_index_builder *b, enum esgz_type type, const char *path, const char *link)
{
	struct esgz_entry e = {.type = type, .mode = 0777, .path = str_of(path), .link = str_of(link)};
	struct err err = ERR_INIT;

	return esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, &err);
}

int add_file(struct esgz_index_builder *b, const char *path, uint32_t n, uint32_t bytes, uint8_t seed)
{
	struct esgz_entry e = {
	    .type = ESGZ_REG, .mode = 0644, .path = str_of(path), .size = (uint64_t)n * bytes, .content = {{seed}}};
	struct esgz_chunk c[16] = {{0}};
	struct err err = ERR_INIT;

	assert_true(n <= ARRAY_LEN(c));
	for (uint32_t i = 0; i < n; i++)
		c[i] = (struct esgz_chunk){.blob_offset = 100u * seed + i,
		                           .blob_bytes = 100,
		                           .file_offset = i * bytes,
		                           .bytes = bytes,
		                           .digest = {{(uint8_t)(seed + i)}}};
	return esgz_index_add(b, &e, NULL, 0, c, n, NULL, &err);
}

int add_hole(struct esgz_index_builder *b, const char *path, uint64_t hole, uint64_t data)
{
	const struct esgz_entry e = {.type = ESGZ_REG, .path = str_of(path), .size = data + hole, .content = {{77}}};
	const struct esgz_chunk c[2] = {{.blob_offset = 5, .blob_bytes = 9, .bytes = data, .digest = {{9}}},
	                                {.file_offset = data, .bytes = hole, .hole = true, .digest = {{77}}}};
	struct err err = ERR_INIT;
	bool alone = data == 0;

	return esgz_index_add(b, &e, NULL, 0, c + alone, 2 - alone, NULL, &err);
}

struct esgz_index *finish_with(struct esgz_index_builder *b, enum esgz_trust trust, struct buf *file)
{
	struct esgz_index_info info = info_of(trust);
	struct esgz_index *ix = NULL;
	struct err err = ERR_INIT;

	if (esgz_index_finish(b, &info, file, &err) < 0 || esgz_index_open(buf_str(file), &ix, &err) < 0)
		fail_msg("%s", err.msg);
	return ix;
}

struct esgz_index *finish(struct esgz_index_builder *b, struct buf *file)
{
	return finish_with(b, ESGZ_TRUST_TOC, file);
}

int finish_code(struct esgz_index_builder *b)
{
	AUTO(buf) struct buf file = BUF_INIT;
	struct esgz_index_info info = info_of(ESGZ_TRUST_TOC);
	struct err err = ERR_INIT;

	return esgz_index_finish(b, &info, &file, &err);
}
