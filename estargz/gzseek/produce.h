/*
 * A gzip layer that can be read becomes the artifact of its seekable index: both halves of build.h, each on a thread, and
 * what they made as one blob, looked at as its receiver will. Blocking; one owner.
 */
#ifndef ESTARGZ_GZSEEK_PRODUCE_H
#define ESTARGZ_GZSEEK_PRODUCE_H

#include "estargz/gzseek/build.h"

/* Feeds a layer to its end. `read` runs on another thread, which is over when this returns: up to n bytes, *got = 0 at
 * the end; what it fails with is the result. The sink's functions run on the caller's. Then: esgz_gzseek_finish. */
int esgz_gzseek_run(struct esgz_gzseek *s, int (*read)(void *arg, void *dst, size_t n, size_t *got, struct err *err),
                    void *arg, struct err *err);

/* After esgz_gzseek_finish, once: appends the artifact. The same layer makes the same bytes. A layer that has none (it
 * cannot be read in parts, is smaller than its index, or that would be larger than readers take): ERR_PRECONDITION, saying why. */
int esgz_gzseek_produce(struct esgz_gzseek *s, const struct esgz_layer_result *of, struct buf *artifact,
                        struct err *err);

#endif
