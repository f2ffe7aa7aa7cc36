/* Byte layout of a points file (drawn in estargz/README.md): shared by its writer and its reader, nobody else. Integers are
 * little-endian. A header, the points, their windows. */
#ifndef ESTARGZ_POINTS_FORMAT_H
#define ESTARGZ_POINTS_FORMAT_H

#include "base/bytes.h"

#define POINTS_MAGIC "cd-gzidx"
#define POINTS_VERSION 1

/* Offsets in the header. */
enum {
	P_MAGIC = 0,          /* 8 bytes */
	P_VERSION = 8,        /* u32 */
	P_HEADER_BYTES = 12,  /* u32: P_END */
	P_FILE_BYTES = 16,    /* u64 */
	P_CRC = 24,           /* u64: CRC-64/XZ of all bytes after this field */
	P_BLOB = 32,          /* digest */
	P_DIFF_ID = 64,       /* digest */
	P_BLOB_BYTES = 96,    /* u64 */
	P_PLAIN_BYTES = 104,  /* u64 */
	P_N = 112,            /* u32 */
	P_ZERO = 116,         /* u32 0 */
	P_WINDOW_BYTES = 120, /* u64: of all windows */
	P_END = 128,
};

/* Offsets in the record of a point. */
enum {
	R_BLOB = 0,          /* u64 */
	R_PLAIN = 8,         /* u64 */
	R_WINDOW = 16,       /* u32: offset behind the records; they follow each other without gaps */
	R_WINDOW_BYTES = 20, /* u16: 0 = a member begins */
	R_N_BITS = 22,       /* u8 */
	R_BITS = 23,         /* u8 */
	R_END = 24,
};

#endif
