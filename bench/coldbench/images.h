/* The benchmark's images: real ones, made once per machine by bench/images.sh, and their forms (bench/forms.sh). */
#ifndef BENCH_COLDBENCH_IMAGES_H
#define BENCH_COLDBENCH_IMAGES_H

#include "bench/coldbench/ready.h"

#include <stdint.h>

struct image {
	char *name, *form;
	char *layout; /* OCI layout: a folder */
	char *config_digest;
	struct ready ready;
	uint64_t layer_bytes; /* compressed, all layers */
	unsigned n_layers;
};

/* Makes the image in that form, or finds it; progress of making goes to stderr. ERR_NOT_FOUND for unknown names. */
int image_build(const char *name, const char *form, struct image *out, struct err *err);
void image_fini(struct image *i);

/* Names of all images; NULL at the end. */
const char *image_name_at(size_t i);

#endif
