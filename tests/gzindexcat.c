/*
 * What a gzip index says and leads to, for tests:
 *
 *	gzindexcat ARTIFACT LAYER DIFFID
 *
 * Opens the artifact as a receiver does, reads every chunk of the layer (a file) through its point, and checks it. Prints
 * "SHA256 SIZE PATH" for each regular file, in the order of the index, with the digest of what was read.
 */
#include "base/file.h"
#include "estargz/gzseek/artifact.h"
#include "estargz/inflate/inflate.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#define BYTES_MAX ((size_t)4 << 30)

struct seen {
	struct buf artifact, layer, points_bytes, index_bytes;
	struct esgz_points *points;
	struct esgz_index *index;
	struct esgz_inflater *inflater;
	char *plain;
};

static int read_chunk(struct seen *s, const struct esgz_chunk *c, struct hasher *file, struct err *err)
{
	struct esgz_point from;
	struct digest digest;
	uint32_t at;

	if (c->hole) {
		memset(s->plain, 0, ESGZ_CHUNK_BYTES_MAX);
		for (uint64_t left = c->bytes; left; left -= left < ESGZ_CHUNK_BYTES_MAX ? left : ESGZ_CHUNK_BYTES_MAX)
			hasher_add(file, s->plain, left < ESGZ_CHUNK_BYTES_MAX ? (size_t)left : ESGZ_CHUNK_BYTES_MAX);
		return 0;
	}
	if (!esgz_points_find(s->points, c->blob_offset, &at))
		return err_set(err, ERR_DATA_LOSS, "a chunk behind no point");
	esgz_points_get(s->points, at, &from);
	TRY(esgz_inflate_chunk_at(s->inflater, &from,
	                          str_sub(buf_str(&s->layer), (size_t)c->blob_offset, (size_t)c->blob_bytes), c,
	                          (uint8_t *)s->plain, err));
	digest_of(s->plain, (size_t)c->bytes, &digest);
	if (!digest_eq(&digest, &c->digest))
		return err_set(err, ERR_DATA_LOSS, "a chunk with another digest");
	hasher_add(file, s->plain, (size_t)c->bytes);
	return 0;
}

static int print_file(struct seen *s, const struct esgz_entry *e, struct err *err)
{
	AUTO(hasher) struct hasher *h = hasher_new();
	struct digest digest;
	char hex[65];

	for (uint32_t i = 0; i < e->n_chunks; i++) {
		struct esgz_chunk c;

		esgz_index_chunk(s->index, e->first_chunk + i, &c);
		TRY_WRAP(read_chunk(s, &c, h, err), err, STR_FMT, STR_ARG(e->path));
	}
	hasher_done(h, &digest);
	printf("%s %" PRIu64 " " STR_FMT "\n", digest_hex(&digest, hex), e->size, STR_ARG(e->path));
	return 0;
}

static int run(struct seen *s, char **argv, struct err *err)
{
	struct esgz_gzseek_of of = {0};

	TRY(file_read(AT_FDCWD, argv[1], BYTES_MAX, &s->artifact, err));
	TRY(file_read(AT_FDCWD, argv[2], BYTES_MAX, &s->layer, err));
	TRY(digest_parse(str_of(argv[3]), &of.diff_id, err));
	digest_of(s->layer.p, s->layer.n, &of.blob);
	of.blob_bytes = s->layer.n;
	TRY(esgz_gzseek_unpack(buf_str(&s->artifact), &of, &s->points_bytes, &s->index_bytes, err));
	TRY(esgz_points_open(buf_str(&s->points_bytes), &s->points, err));
	TRY(esgz_index_open(buf_str(&s->index_bytes), &s->index, err));
	for (uint32_t i = 0; i < esgz_index_get_info(s->index)->n_entries; i++) {
		struct esgz_entry e;

		esgz_index_entry(s->index, i, &e);
		if (e.type == ESGZ_REG)
			TRY(print_file(s, &e, err));
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct seen s = {.inflater = esgz_inflater_new(), .plain = xmalloc(ESGZ_CHUNK_BYTES_MAX)};
	struct err err = ERR_INIT;
	int r;

	if (argc != 4) {
		fprintf(stderr, "gzindexcat ARTIFACT LAYER DIFFID\n");
		return 2;
	}
	r = run(&s, argv, &err);
	if (r < 0)
		fprintf(stderr, "gzindexcat: %s\n", err.msg);
	esgz_index_free(s.index);
	esgz_points_free(s.points);
	esgz_inflater_free(s.inflater);
	buf_fini(&s.artifact);
	buf_fini(&s.layer);
	buf_fini(&s.points_bytes);
	buf_fini(&s.index_bytes);
	free(s.plain);
	return r < 0;
}
