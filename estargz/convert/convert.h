/*
 * Writer of eStargz blobs: an ordinary layer in, a lazy one out. Entries keep their order and all that a tar can say of
 * them but user and group names, access times and comments; landmarks and the TOC of an earlier conversion are dropped,
 * and the layer is marked as one without prefetch. Chunks are compressed on `threads` threads; the output is the same
 * bit for bit whatever their number. Memory is bounded but for the TOC: about 4 chunks for each thread. One owner;
 * blocking (the sink and the source do the I/O).
 */
#ifndef ESTARGZ_CONVERT_H
#define ESTARGZ_CONVERT_H

#include "estargz/index/index.h"

#define ESGZ_CONVERT_CHUNK_BYTES (256u << 10) /* default chunk size; why: docs/decisions/chunks-of-256-kib.md */

struct esgz_convert_opts {
	uint32_t chunk_bytes; /* 0 = default */
	int level;            /* deflate level 1-9; 0 = 6 */
	unsigned threads;     /* 0 = all CPUs */
};

struct esgz_convert_io {
	/* Next bytes of the source layer (any compression); *n = 0 at the end. */
	int (*read)(void *arg, void *dst, size_t dst_bytes, size_t *n, struct err *err);
	int (*write)(void *arg, struct str bytes, struct err *err);
	void *arg;
};

struct esgz_convert_result {
	struct digest source_blob, source_diff_id; /* of what was read: the caller checks them */
	struct digest blob, diff_id, toc;
	uint64_t blob_bytes;
	uint64_t plain_bytes; /* for io.containers.estargz.uncompressed-size */
};

/* Errors: those of the callbacks; a source that is damaged or cut short is ERR_DATA_LOSS or ERR_INVALID, a name that is
 * not UTF-8 ERR_INVALID (JSON cannot say it), more entries than the formats here hold ERR_EXHAUSTED. */
int esgz_convert(const struct esgz_convert_opts *opts, const struct esgz_convert_io *io,
                 struct esgz_convert_result *out, struct err *err);

#endif
