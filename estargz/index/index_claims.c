/* An index without what its receiver has to know better: whom it is trusted by, and the claim keys, which follow from the
 * rest. For sending: half of an index is digests, which do not compress. */
#include "estargz/index/index_format.h"

struct sections {
	uint64_t at[S_N];
	uint32_t n_single, n_multi;
};

/* Of a file that opens. */
static void find_sections(const char *h, struct sections *s)
{
	uint32_t counts[S_N];
	uint64_t file_bytes;

	for (int i = 0; i < S_N; i++)
		counts[i] = get_le32(h + H_COUNTS + 4 * i);
	index_layout(get_le32(h + H_HEADER_BYTES), counts, UINT64_MAX, s->at, &file_bytes);
	s->n_single = get_le32(h + H_N_SINGLE);
	s->n_multi = get_le32(h + H_N_MULTI);
}

/* Where the claim key of file i stands, i < n_single + n_multi. */
static char *claim_at(char *file, const struct sections *s, uint32_t i)
{
	if (i < s->n_single)
		return file + s->at[S_SINGLES] + (uint64_t)i * SINGLE_BYTES + 16;
	return file + s->at[S_MULTIS] + (uint64_t)(i - s->n_single) * MULTI_BYTES + 8;
}

static void seal(struct buf *file)
{
	put_le64(file->p + H_CRC, index_crc(file->p, file->n));
}

void esgz_index_strip(struct buf *file)
{
	struct sections s;

	find_sections(file->p, &s);
	memset(file->p + H_TRUSTED, 0, DIGEST_BYTES);
	for (uint32_t i = 0; i < s.n_single + s.n_multi; i++)
		memset(claim_at(file->p, &s, i), 0, DIGEST_BYTES);
	seal(file);
}

static void fill_claim(struct buf *file, const struct sections *s, const struct esgz_index *ix, uint32_t i,
                       struct hasher *h, struct esgz_chunk **chunks)
{
	const char *record = file->p + s->at[S_FILES] + (uint64_t)i * FILE_BYTES;
	uint32_t first = i, n = 1;
	struct digest content, claim;

	if (i >= s->n_single) {
		const char *multi = file->p + s->at[S_MULTIS] + (uint64_t)(i - s->n_single) * MULTI_BYTES;

		first = s->n_single + get_le32(multi);
		n = get_le32(multi + 4);
	}
	*chunks = xrealloc(*chunks, n * sizeof(**chunks));
	for (uint32_t k = 0; k < n; k++)
		esgz_index_chunk(ix, first + k, &(*chunks)[k]);
	memcpy(content.b, record + 8, DIGEST_BYTES);
	index_claim_key(h, &content, get_le64(record), *chunks, n, &claim);
	memcpy(claim_at(file->p, s, i), claim.b, DIGEST_BYTES);
}

int esgz_index_fill(struct buf *file, enum esgz_trust trust, const struct digest *trusted, struct err *err)
{
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(hasher) struct hasher *h = hasher_new();
	AUTO_FREE struct esgz_chunk *chunks = NULL;
	struct sections s;

	if (file->n < H_END)
		return err_set(err, ERR_DATA_LOSS, "index: only %zu bytes", file->n);
	put_le32(file->p + H_TRUST, trust);
	memcpy(file->p + H_TRUSTED, trusted->b, DIGEST_BYTES);
	seal(file);
	TRY(esgz_index_open(buf_str(file), &ix, err));
	find_sections(file->p, &s);
	for (uint32_t i = 0; i < s.n_single + s.n_multi; i++)
		fill_claim(file, &s, ix, i, h, &chunks);
	seal(file);
	return 0;
}
