/*
 * The files of a priority list: found and kept while the source is read for the first time, so that they can be written
 * before all others. Each is preceded by the directories above it that have an entry, a hard link by the file it means:
 * stargz-snapshotter docs/estargz.md, "Prioritized Files and Landmark Files". Internal to convert/. One owner.
 */
#ifndef ESTARGZ_ORDER_H
#define ESTARGZ_ORDER_H

#include "estargz/tar/tar.h"

struct order;
struct order *order_new(const struct str *paths, size_t n);
void order_free(struct order *o);
DEFINE_AUTO_FREE(order);

/* Sets a sink that takes the whole tar. Then: true if the tar must be seen once more, because a hard link means a file
 * that nobody had named. */
void order_scan_begin(struct order *o, struct esgz_tar_sink *sink);
bool order_scan_end(struct order *o);

/* Gives what comes first, in order, as a tar reader would. *n: how many entries. */
int order_emit(struct order *o, const struct esgz_tar_sink *to, size_t *n, struct err *err);

/* True for what order_emit has written: no entry of this clean path is to come again. */
bool order_has(const struct order *o, struct str path);

#endif
