/*
 * The source of a conversion: a thread that reads, hashes and inflates it, a few blocks ahead of the one owner. Internal
 * to convert/.
 */
#ifndef ESTARGZ_INTAKE_H
#define ESTARGZ_INTAKE_H

#include "estargz/convert/convert.h"

struct intake;
int intake_new(const struct esgz_convert_io *io, struct intake **out, struct err *err);
/* Stops a read that is under way (io->stop), or waits for it. */
void intake_free(struct intake *in);
DEFINE_AUTO_FREE(intake);

/* The next plain bytes, valid until the next call; *kind is what they were compressed with. Nothing: the end. */
int intake_next(struct intake *in, struct str *plain, enum esgz_compression *kind, struct err *err);

/* Bytes of the source behind what intake_next has given (at the end: all of them). */
uint64_t intake_bytes(const struct intake *in);
/* After the end: of the bytes as they were read. */
const struct digest *intake_digest(const struct intake *in);

#endif
