#include "estargz/tar/sparse.h"

#include "estargz/tar/tar_pax.h"

#include <inttypes.h>

#define FIELD_BYTES 12
#define DIGITS_MAX 19

void sparse_clear(struct sparse_map *m)
{
	struct sparse_map empty = {.extents = {m->extents.p, 0, m->extents.cap}};

	*m = empty;
}

void sparse_fini(struct sparse_map *m)
{
	vec_fini(&m->extents);
}

int sparse_add(struct sparse_map *m, uint64_t offset, uint64_t bytes, struct err *err)
{
	if (offset > INT64_MAX || bytes > INT64_MAX - offset || offset < m->end)
		return err_set(err, ERR_INVALID,
		               "sparse file: extent of %" PRIu64 " bytes at %" PRIu64 " after %" PRIu64, bytes, offset,
		               m->end);
	m->end = offset + bytes;
	if (bytes == 0)
		return 0;
	if (m->extents.n >= ESGZ_EXTENTS_MAX)
		return err_set(err, ERR_INVALID, "sparse file of more than %u extents", ESGZ_EXTENTS_MAX);
	m->stored += bytes;
	vec_push(&m->extents, (struct esgz_extent){offset, bytes});
	return 0;
}

int sparse_add_fields(struct sparse_map *m, const uint8_t *fields, unsigned n, struct err *err)
{
	for (unsigned i = 0; i < n; i++, fields += 2 * FIELD_BYTES) {
		int64_t offset, bytes;

		if (fields[0] == 0)
			return 0;
		if (!tar_number(fields, FIELD_BYTES, &offset) ||
		    !tar_number(fields + FIELD_BYTES, FIELD_BYTES, &bytes) || offset < 0 || bytes < 0)
			return err_set(err, ERR_INVALID, "sparse file: extent without numbers");
		TRY(sparse_add(m, (uint64_t)offset, (uint64_t)bytes, err));
	}
	return 0;
}

int sparse_add_list(struct sparse_map *m, struct str list, uint64_t count, struct err *err)
{
	uint64_t offset, bytes, n = 0;
	struct str part;

	while (list.n > 0) {
		if (!str_split(&list, ',', &part) || !str_u64(part, 10, &offset) || !str_split(&list, ',', &part) ||
		    !str_u64(part, 10, &bytes))
			return err_set(err, ERR_INVALID, "sparse file: map without numbers");
		TRY(sparse_add(m, offset, bytes, err));
		n++;
	}
	if (n != count)
		return err_set(err, ERR_INVALID, "sparse file: map of %" PRIu64 " extents, should be %" PRIu64, n,
		               count);
	return 0;
}

/* A number of the text is complete. */
static int take_number(struct sparse_map *m, struct err *err)
{
	uint64_t number = m->number;

	if (m->digits == 0)
		return err_set(err, ERR_INVALID, "sparse file: map without numbers");
	m->number = m->digits = 0;
	if (!m->counted) {
		if (number > ESGZ_EXTENTS_MAX)
			return err_set(err, ERR_INVALID, "sparse file of %" PRIu64 " extents", number);
		m->counted = true;
		m->want = 2 * number;
		return 0;
	}
	m->want--;
	m->at_length = !m->at_length;
	if (!m->at_length)
		return sparse_add(m, m->offset, number, err);
	m->offset = number;
	return 0;
}

int sparse_add_text(struct sparse_map *m, struct str *in, struct err *err)
{
	while (in->n > 0) {
		char c = *in->p;

		*in = str_sub(*in, 1, in->n);
		if (c == '\n') {
			TRY(take_number(m, err));
			if (m->want == 0)
				return 1;
			continue;
		}
		if (c < '0' || c > '9' || m->digits == DIGITS_MAX)
			return err_set(err, ERR_INVALID, "sparse file: map without numbers");
		m->number = m->number * 10 + (uint64_t)(c - '0');
		m->digits++;
	}
	return 0;
}

int sparse_check(const struct sparse_map *m, uint64_t size, uint64_t stored, struct err *err)
{
	if (size > INT64_MAX || m->end > size)
		return err_set(err, ERR_INVALID, "sparse file: extents up to %" PRIu64 " of %" PRIu64 " bytes", m->end,
		               size);
	if (m->stored != stored)
		return err_set(err, ERR_INVALID, "sparse file: %" PRIu64 " bytes are stored, its map has %" PRIu64,
		               stored, m->stored);
	return 0;
}
