/*
 * Seekable indexes for the ordinary gzip layers of an image, beside it: the image stays as it is, and each of its manifests
 * gets a referrer that holds the indexes of its layers (estargz/gzseek/artifact.h). Every layer is read once, to its end;
 * nothing is pushed before all of them are right.
 *
 *	indexing_plan ──► layers[], images[] ──► indexing_run ──► images[].referrer
 *
 * Blocking; one thread (each layer keeps two busy), but for convert_cancel of the conversion within.
 */
#ifndef CONVERT_INDEX_H
#define CONVERT_INDEX_H

#include "contentd/convert/convert.h"

struct index_layer {
	const struct convert_layer *of;
	char *why_none; /* heap; NULL: it has an index, or will have one */
	/* After indexing_run, if it has one. */
	struct buf artifact;
	uint64_t plain_bytes;
	int64_t took_ns;
};

struct index_image {
	struct reg_descriptor subject; /* its manifest */
	const struct convert_node *node;
	/* After indexing_run. */
	bool has_referrer; /* not if none of its layers has an index */
	bool was_there;    /* with the same content: nothing was pushed */
	struct digest referrer;
};

struct indexing {
	struct convert *convert;
	VEC(struct index_layer) layers; /* in the order of convert->layers */
	VEC(struct index_image) images;
};

/* `from` and `to` are the same repository, once to read and once to write; borrowed until indexing_free, as opts, of
 * which platforms and progress count. */
struct indexing *indexing_new(struct place *from, struct place *to, const struct convert_opts *opts);
/* Reads documents, writes nothing. */
int indexing_plan(struct indexing *x, struct err *err);
/* A layer that is not what manifest and configuration say: ERR_DATA_LOSS, and nothing is pushed. */
int indexing_run(struct indexing *x, struct err *err);
void indexing_free(struct indexing *x);
DEFINE_AUTO_FREE(indexing);

#endif
