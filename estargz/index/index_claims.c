/* Claim keys, and an index without what its receiver has to know better: whom it is trusted by, and these keys, which follow
 * from the rest. For sending: half of an index is digests, which do not compress. */
#include "estargz/index/index_format.h"

/* What a claim key is the digest of: a head, and for each chunk what the end of its record is, byte for byte. */
static const char DOMAIN[] = "contentd-claim-1"; /* its NUL is part of it */
enum { HEAD_BYTES = sizeof(DOMAIN) + DIGEST_BYTES + 12, EACH_BYTES = CHUNK_BYTES - CHUNK_PLACE_BYTES };

/* content, size: as in a file record. */
static void put_head(uint8_t *dst, const void *content, uint64_t size, uint32_t n_chunks)
{
	memcpy(dst, DOMAIN, sizeof(DOMAIN));
	memcpy(dst + sizeof(DOMAIN), content, DIGEST_BYTES);
	put_le64(dst + HEAD_BYTES - 12, size);
	put_le32(dst + HEAD_BYTES - 4, n_chunks);
}

static void put_chunk(uint8_t *dst, uint64_t file_offset, uint64_t bytes, const void *digest)
{
	put_le64(dst, file_offset);
	put_le64(dst + 8, bytes);
	memcpy(dst + 16, digest, DIGEST_BYTES);
}

void esgz_claim_key(const struct digest *content, uint64_t size, const struct esgz_chunk *chunks, uint32_t n,
                    struct digest *out)
{
	AUTO(hasher) struct hasher *h = hasher_new();
	uint8_t head[HEAD_BYTES], each[EACH_BYTES];

	put_head(head, content->b, size, n);
	hasher_add(h, head, sizeof(head));
	for (uint32_t i = 0; i < n; i++) {
		put_chunk(each, chunks[i].file_offset, chunks[i].bytes, chunks[i].digest.b);
		hasher_add(h, each, sizeof(each));
	}
	hasher_done(h, out);
}

/* ---- of all files of an index ---- */

struct sections {
	uint8_t *at[S_N];
	uint32_t n_single, n_multi;
};

/* Of a file whose header is right. */
static void find_sections(uint8_t *file, struct sections *s)
{
	uint64_t at[S_N], file_bytes;
	uint32_t counts[S_N];

	for (int i = 0; i < S_N; i++)
		counts[i] = get_le32(file + H_COUNTS + 4 * i);
	index_layout(get_le32(file + H_HEADER_BYTES), counts, UINT64_MAX, at, &file_bytes);
	for (int i = 0; i < S_N; i++)
		s->at[i] = file + at[i];
	s->n_single = get_le32(file + H_N_SINGLE);
	s->n_multi = get_le32(file + H_N_MULTI);
}

/* Where the claim key of file i stands, i < n_single + n_multi. */
static uint8_t *claim_at(const struct sections *s, uint32_t i)
{
	if (i < s->n_single)
		return s->at[S_SINGLES] + (size_t)i * SINGLE_BYTES + CHUNK_PLACE_BYTES;
	return s->at[S_MULTIS] + (size_t)(i - s->n_single) * MULTI_BYTES + 8;
}

/* Keys of the files [i, i + n), each of one chunk, which is the file. Most files are such: several keys at a time. */
static void put_single_keys(const struct sections *s, uint32_t i, unsigned n)
{
	uint8_t texts[DIGESTS_MAX][HEAD_BYTES + EACH_BYTES];
	const void *from[DIGESTS_MAX];
	struct digest keys[DIGESTS_MAX];

	for (unsigned k = 0; k < n; k++) {
		const uint8_t *file = s->at[S_FILES] + (size_t)(i + k) * FILE_BYTES;
		uint64_t size = get_le64(file);

		put_head(texts[k], file + 8, size, 1);
		put_chunk(texts[k] + HEAD_BYTES, 0, size, file + 8);
		from[k] = texts[k];
	}
	digest_of_all(from, n, sizeof(texts[0]), keys);
	for (unsigned k = 0; k < n; k++)
		memcpy(claim_at(s, i + k), keys[k].b, DIGEST_BYTES);
}

static void put_multi_key(const struct sections *s, uint32_t i, struct hasher *h)
{
	const uint8_t *file = s->at[S_FILES] + (size_t)i * FILE_BYTES;
	const uint8_t *multi = s->at[S_MULTIS] + (size_t)(i - s->n_single) * MULTI_BYTES;
	const uint8_t *chunk = s->at[S_CHUNKS] + (size_t)get_le32(multi) * CHUNK_BYTES;
	uint32_t n = get_le32(multi + 4);
	uint8_t head[HEAD_BYTES];
	struct digest key;

	put_head(head, file + 8, get_le64(file), n);
	hasher_add(h, head, sizeof(head));
	for (uint32_t k = 0; k < n; k++)
		hasher_add(h, chunk + (size_t)k * CHUNK_BYTES + CHUNK_PLACE_BYTES, EACH_BYTES);
	hasher_done(h, &key);
	memcpy(claim_at(s, i), key.b, DIGEST_BYTES);
}

void index_put_claims(void *file)
{
	AUTO(hasher) struct hasher *h = hasher_new();
	struct sections s;
	uint32_t i = 0;

	find_sections(file, &s);
	for (unsigned n; i < s.n_single; i += n) {
		n = s.n_single - i < DIGESTS_MAX ? s.n_single - i : DIGESTS_MAX;
		put_single_keys(&s, i, n);
	}
	for (; i < s.n_single + s.n_multi; i++)
		put_multi_key(&s, i, h);
}

/* ---- an index without them ---- */

void esgz_index_strip(void *file, size_t n)
{
	struct sections s;

	find_sections(file, &s);
	memset((uint8_t *)file + H_TRUSTED, 0, DIGEST_BYTES);
	for (uint32_t i = 0; i < s.n_single + s.n_multi; i++)
		memset(claim_at(&s, i), 0, DIGEST_BYTES);
	index_seal(file, n);
}

int esgz_index_fill(struct buf *file, enum esgz_trust trust, const struct digest *trusted, struct err *err)
{
	AUTO(esgz_index) struct esgz_index *ix = NULL;

	if (file->n < H_END)
		return err_set(err, ERR_DATA_LOSS, "index: only %zu bytes", file->n);
	put_le32(file->p + H_TRUST, trust);
	memcpy(file->p + H_TRUSTED, trusted->b, DIGEST_BYTES);
	index_seal(file->p, file->n);
	/* Before anything that the header says is believed. */
	TRY(esgz_index_open(buf_str(file), &ix, err));
	index_put_claims(file->p);
	index_seal(file->p, file->n);
	return 0;
}
