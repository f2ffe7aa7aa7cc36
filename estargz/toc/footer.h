/*
 * Footers of lazy layers: the last bytes of a blob that say where its table of contents (TOC) lies.
 *
 * Bottom of estargz/: bytes in, struct out, no state, any thread. Layouts: stargz-snapshotter docs/estargz.md and
 * estargz/gzip.go (eStargz 51, legacy stargz 47, external TOC 46 bytes), estargz/zstdchunked (40), containers/storage
 * pkg/chunked (64); the two zstd footers sit in a skippable frame with an 8-byte header of its own.
 */
#ifndef ESTARGZ_FOOTER_H
#define ESTARGZ_FOOTER_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum esgz_footer_kind {
	ESGZ_FOOTER_NONE,         /* no lazy format: an ordinary layer */
	ESGZ_FOOTER_ESTARGZ,      /* gzip members, TOC inside */
	ESGZ_FOOTER_LEGACY,       /* CRFS stargz: no chunk digests */
	ESGZ_FOOTER_EXTERNAL_TOC, /* gzip members, TOC in another blob */
	ESGZ_FOOTER_ZSTD_STARGZ,  /* zstd:chunked as stargz-snapshotter writes it (and containers/storage until 2023) */
	ESGZ_FOOTER_ZSTD_STORAGE, /* zstd:chunked as containers/storage writes it */
};

struct esgz_footer {
	enum esgz_footer_kind kind;
	uint32_t footer_bytes;    /* length of the footer at the end of the blob, frame header included */
	uint64_t toc_offset;      /* blob offset of the TOC's gzip member, or of the zstd data of its frame (its header
	                             * is the 8 bytes before); external TOC: of the footer */
	uint64_t toc_bytes;       /* compressed length of the TOC; external TOC: 0 */
	uint64_t toc_plain_bytes; /* uncompressed, where the footer says it (zstd); else 0 */
	/* ESGZ_FOOTER_ZSTD_STORAGE: the tar-split, which rebuilds the tar around the contents; 0: none. */
	uint64_t split_offset, split_bytes, split_plain_bytes;
};

#define ESGZ_FOOTER_TOC_TYPE 1 /* of a zstd TOC; no other one was ever written */

/* Most bytes any footer needs: give at least so many of the blob's last bytes (fewer only if the blob is shorter). */
#define ESGZ_FOOTER_MAX 72

/* Bytes of the gzip footers. */
#define ESGZ_FOOTER_BYTES 51
#define ESGZ_FOOTER_LEGACY_BYTES 47
#define ESGZ_FOOTER_EXTERNAL_BYTES 46

/* Recognises the footer in `tail`, the last bytes of a blob of blob_bytes. No lazy format is success with
 * ESGZ_FOOTER_NONE; a footer whose magic fits but whose fields do not lie inside the blob is ERR_INVALID. */
int esgz_footer_parse(struct str tail, uint64_t blob_bytes, struct esgz_footer *out, struct err *err);

/* Writes the 51-byte eStargz footer. */
void esgz_footer_write(uint64_t toc_offset, uint8_t dst[static ESGZ_FOOTER_BYTES]);

/* Writes the 46-byte footer of a layer whose TOC is in another blob. */
void esgz_footer_write_external(uint8_t dst[static ESGZ_FOOTER_EXTERNAL_BYTES]);

/* Appends the footer of a zstd:chunked layer of f->kind (one of the zstd ones) with its frame: toc_*, split_*. */
void esgz_footer_write_zstd(const struct esgz_footer *f, struct buf *out);

#endif
