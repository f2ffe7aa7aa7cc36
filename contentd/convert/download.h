/*
 * A blob of a registry as a source that is read at the reader's pace: what has come and is not read yet waits in a ring of
 * 4 MiB, and when that is full the connection does.
 */
#ifndef CONVERT_DOWNLOAD_H
#define CONVERT_DOWNLOAD_H

#include "contentd/convert/place.h"

/* From `offset` on; begins at once. canceller NULL: it ends with the client. */
int download_open(struct reg_client *c, const struct reg_ref *ref, const struct reg_descriptor *d, uint64_t offset,
                  int64_t deadline_ns, struct reg_canceller *canceller, struct place_source **out, struct err *err);

#endif
