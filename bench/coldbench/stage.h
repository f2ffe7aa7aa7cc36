/*
 * What a run needs before its first sample: the engines that are there, the images in their forms, a registry that has them, a
 * network in front of it, and a watch on processes. One thread.
 */
#ifndef BENCH_COLDBENCH_STAGE_H
#define BENCH_COLDBENCH_STAGE_H

#include "bench/coldbench/images/registry.h"
#include "bench/coldbench/modes/mode.h"
#include "bench/coldbench/plan.h"
#include "bench/coldbench/progress.h"

struct stage_engine {
	const char *name;
	char *versions, *why; /* one of them */
	unsigned n, n_failed; /* samples */
	bool is_out;          /* not there, or given up */
};

struct stage_image {
	struct image image;
	char *key; /* "python:estargz" */
	char *ref; /* for engines, through the network; NULL: it could not be made */
	char *why; /* then */
};

struct stage {
	struct engine_options options;
	struct world world;
	char *dir;
	VEC(struct stage_engine) engines;
	VEC(struct stage_image) images;
};

/* Makes a folder in `work` and all the rest. Engines and images that are not to be had are noted with the reason, said, and no
 * failure. The texts of `o` and `suite` stay. */
int stage_open(struct stage *st, const char *work, const struct engine_options *o, const struct suite *suite,
               const struct plan *plan, int cancel_fd, bool keep, struct progress *p, struct err *err);

/* Also after a stage_open that failed. ERR_INTERNAL when the folder could not be removed. */
int stage_close(struct stage *st, struct err *err);

/* The case's engine and images (c->n_images); false when one of them is not to be had. */
bool stage_find(struct stage *st, const struct bench_case *c, struct stage_engine **engine,
                struct target out[static CASE_IMAGES_MAX]);

/* Everything for the header of the raw data: "engines": {...}, "images": {...}, "skipped": {...}. */
void stage_write(const struct stage *st, struct json_writer *w);

#endif
