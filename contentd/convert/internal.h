/* Inside contentd/convert: what plan, layers, manifests and reuse share. */
#ifndef CONVERT_INTERNAL_H
#define CONVERT_INTERNAL_H

#include "contentd/convert/convert.h"
#include "estargz/annotations.h"

#define CONVERT_DEPTH_MAX 2 /* indexes in an index */
#define CONVERT_NOTES_MAX 100

/* A document of the source, and what becomes of it. */
struct convert_node {
	struct reg_manifest *doc;
	struct reg_descriptor d;             /* as the index above names it, or will name it when it is done */
	VEC(struct convert_node *) children; /* of an index: what is taken over */
	bool drops_entries;                  /* not all are */
	struct reg_config *config;           /* of an image */
	VEC(struct convert_layer *) layers;  /* of an image */
	bool as_is;                          /* no image: copied as it is */
	bool changes;                        /* it will have another digest */
	const struct convert_node *same; /* an earlier one of the same document, which has all but doc and d; or NULL */
};

/* A layer that was made from `source` in the way that is wanted now. */
struct convert_reuse {
	struct digest source, diff_id;
	const struct reg_descriptor *layer;
	const struct reg_descriptor *toc; /* estargz-external-toc */
	struct place *place;
};

static inline struct str convert_key(const struct digest *d)
{
	return str_make(d->b, sizeof(d->b));
}
static inline struct str convert_annotation(const struct reg_descriptor *d, const char *key)
{
	return reg_annotation_get(d->annotations, d->n_annotations, str_of(key));
}

/* convert.c */
void convert_node_free(struct convert_node *n); /* with those below it; NULL is fine */
int convert_check_cancelled(struct convert *c, struct err *err);
/* What is lost, and why: a sentence, which may have words of documents in it. */
void convert_note(struct convert *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* documents.c: reads and parses a document that `d` names; it lives as long as the conversion. */
int convert_document(struct convert *c, struct place *p, const struct reg_descriptor *d, struct reg_manifest **out,
                     struct err *err);
/* The document that the place's name means, with a suffix. */
int convert_root(struct convert *c, struct place *p, const char *suffix, struct reg_manifest **out, struct err *err);
int convert_read_config(struct place *p, const struct reg_manifest *m, struct reg_config **out, struct err *err);
/* The image of the external TOCs of a place; NULL when there is none. */
int convert_toc_image(struct convert *c, struct place *p, struct reg_manifest **out, struct err *err);
/* The layer of a TOC image (NULL: none) that belongs to this blob. */
const struct reg_descriptor *convert_find_toc(const struct reg_manifest *image, const struct digest *blob);
static inline bool convert_is_external(const struct convert *c)
{
	return c->opts.layer.format == ESGZ_F_ESTARGZ_EXTERNAL;
}

/* plan.c: all documents of the source that are wanted; each layer gets its action. */
int convert_read_tree(struct convert *c, struct err *err);

/* reuse.c: fills c->reuse. */
int convert_find_reuse(struct convert *c, struct err *err);
const struct convert_reuse *convert_reuse_of(const struct convert *c, const struct digest *source);
/* True if the layer says of what it was made, and no place that is trusted says the same of it. */
bool convert_is_unfounded(const struct convert *c, const struct reg_descriptor *d);

/* layers.c: brings layer i to the destination. */
int convert_layer_run(struct convert *c, size_t i, struct err *err);

/* manifests.c: all documents, when the layers are there. */
int convert_put_documents(struct convert *c, struct err *err);

#endif
