/*
 * Whole images: the layers of an image, or of all images of an index, brought into another format, with configurations,
 * manifests and indexes to match. First a plan is made: all documents are read, every layer gets an action, and what
 * would be lost is refused; then the plan is carried out, layer by layer, as streams from place to place.
 *
 *	convert_plan ──► layers[] with their actions ──► convert_run ──► manifest, layers[].to
 *	                 (--dry-run ends here)
 *
 * Blocking; one thread (layers are compressed on several), but for convert_cancel.
 */
#ifndef CONVERT_CONVERT_H
#define CONVERT_CONVERT_H

#include "base/map.h"
#include "base/vec.h"
#include "contentd/convert/place.h"
#include "estargz/convert/convert.h"

#include <stdatomic.h>

/* What a layer says of its making (see docs/convert.md). */
#define CONVERT_ANN_SOURCE "io.contentd.source.digest"
#define CONVERT_ANN_HOW "io.contentd.convert"

enum convert_action {
	CONVERT_CONVERT,
	CONVERT_KEEP,  /* it is what is wanted already */
	CONVERT_REUSE, /* it was converted in the same way before */
};

struct convert_reuse;
struct convert_node;

/* One layer, however many images have it. */
struct convert_layer {
	const struct reg_descriptor *from;
	const char *from_format; /* "gzip", "estargz", ... */
	struct digest diff_id;
	char *platform; /* of the first image that has it */
	enum convert_action action;
	const struct convert_reuse *reuse; /* CONVERT_REUSE */
	bool mounts;                       /* it will be mounted from another repository, if the registry likes */
	bool drops_marks; /* CONVERT_KEEP: the annotations above are in it, and nobody vouches for them */
	/* As it will stand in manifests; set when it is done. */
	struct reg_descriptor to;
	struct digest to_diff_id;
	VEC(struct reg_annotation) annotations; /* of `to`; the texts are owned */
	enum place_copied how;                  /* not CONVERT_CONVERT */
	bool has_toc;
	struct reg_descriptor toc; /* estargz-external-toc: the layer of the TOC image */
};

struct convert_opts {
	struct esgz_convert_opts layer;
	struct digest priority; /* of the text that layer.priority was read from, if there are any */
	const struct reg_platform *platforms;
	size_t n_platforms;   /* 0: all. One: its manifest, without an index */
	struct place **reuse; /* where converted layers may be, beside the destination */
	size_t n_reuse;
	bool drop_lazy, keep_attestations;
	/* Layer i has come so far, in bytes of its source; NULL: nobody wants to know. */
	void (*progress)(void *arg, size_t i, uint64_t done);
	void *arg;
};

struct convert {
	struct place *from, *to;
	struct convert_opts opts;
	char *how;          /* value of CONVERT_ANN_HOW */
	bool leaves_layers; /* index.h: they are only looked at, whatever they are */
	VEC(struct convert_layer *) layers;
	VEC(char *) notes;      /* what was left out, a sentence each */
	size_t more_notes;      /* of which there were too many */
	struct digest manifest; /* after convert_run */

	struct convert_node *root;
	VEC(struct convert_reuse) reuse;
	VEC(struct reg_manifest *) documents; /* that the above point into */
	struct map by_digest;                 /* of a document -> struct reg_manifest */
	struct map nodes;                     /* struct reg_manifest * -> its first struct convert_node */
	struct map by_layer;                  /* digest, DiffID and type -> struct convert_layer */
	struct map by_source;                 /* digest of a source -> its number in `reuse`, from 1 on */
	struct reg_manifest *toc_image;       /* of the source, if it was looked for and is there */
	bool asked_toc_image;
	atomic_bool cancelled;
};

/* The places are borrowed until convert_free. */
struct convert *convert_new(struct place *from, struct place *to, const struct convert_opts *opts);
/* Reads, writes nothing. */
int convert_plan(struct convert *c, struct err *err);
/* After convert_plan. When it fails, uploads are abandoned; what was stored under no name goes with the place. */
int convert_run(struct convert *c, struct err *err);
/* Makes the two fail with ERR_CANCELLED, soon. Any thread. */
void convert_cancel(struct convert *c);
void convert_free(struct convert *c);
DEFINE_AUTO_FREE(convert);

/* The configuration with other DiffIDs and nothing else changed; in OCI form. Pure. */
int convert_config(struct str config, const struct digest *diff_ids, unsigned n, struct buf *out, struct err *err);

#endif
