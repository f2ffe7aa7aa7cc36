/*
 * The benchmark's images: real ones, made once per machine by bench/images.sh, and their forms (bench/forms.sh). Where they
 * lie is the scripts' affair; what is in them is read here. One thread.
 */
#ifndef BENCH_COLDBENCH_IMAGES_IMAGES_H
#define BENCH_COLDBENCH_IMAGES_IMAGES_H

#include "bench/coldbench/measure/ready.h"

#include "base/cleanup.h"
#include "base/vec.h"

#include <stdint.h>

struct image {
	char *name, *form;
	char *layout; /* OCI layout: a folder, whose tag is "latest"; NULL in a list: not made yet */
	char *config_digest;
	struct ready ready;
	uint64_t layer_bytes; /* compressed, all layers */
	unsigned n_layers;
};

/* Makes the image in that form, or finds it; progress of making goes to stderr. ERR_NOT_FOUND for unknown names; when
 * `cancel_fd` (-1: none) becomes readable, and after six hours, the making ends and cleans up: ERR_CANCELLED, ERR_DEADLINE. */
int image_build(const char *name, const char *form, int cancel_fd, struct image *out, struct err *err);
void image_fini(struct image *i);
DEFINE_AUTO_FINI(image);

/* Names of all images, sorted; NULL at the end. */
const char *image_name_at(size_t i);

/* ERR_NOT_FOUND, with all names, when there is no such image. */
int image_check_name(const char *name, struct err *err);

/* Every image in every form, the forms of an image after each other; makes nothing. */
struct image_list {
	struct image *p;
	size_t n, cap;
};
int image_list_read(int cancel_fd, struct image_list *out, struct err *err);
void image_list_fini(struct image_list *l);
DEFINE_AUTO_FINI(image_list);

/* "BUILD=DIR" for the scripts: their converter is the one that was built with this program. The caller's. */
int image_build_variable(char **out, struct err *err);

/* Fills what `layout` says of itself: digest, layers, and when it is ready. ERR_INVALID for what is no layout of an image
 * that says it. `out` is to be finished after an error, too. */
int image_read(const char *layout, struct image *out, struct err *err);

#endif
