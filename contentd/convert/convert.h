/*
 * Whole images: every layer of one platform's manifest turned into eStargz, configuration and manifest rewritten to
 * match. Blocking; one thread (layers are compressed on several).
 */
#ifndef CONVERT_CONVERT_H
#define CONVERT_CONVERT_H

#include "contentd/convert/place.h"
#include "estargz/convert/convert.h"

struct convert_opts {
	struct esgz_convert_opts layer;
	struct reg_platform platform; /* chosen from an index */
	/* Called when a layer begins (done = 0) and ends (done = total); NULL: nobody wants to know. */
	void (*progress)(void *arg, unsigned layer, unsigned n_layers, uint64_t done, uint64_t total);
	void *arg;
};

struct convert_report {
	struct digest manifest;
	unsigned n_layers, n_reused;  /* reused: lazy already */
	uint64_t bytes_in, bytes_out; /* of all layers, compressed */
};

int convert_image(struct place *from, struct place *to, const struct convert_opts *opts, struct convert_report *out,
                  struct err *err);

/* The configuration with other DiffIDs and nothing else changed; in OCI form. Pure. */
int convert_config(struct str config, const struct digest *diff_ids, unsigned n, struct buf *out, struct err *err);

#endif
