/*
 * Byte layout of an index file (drawn in estargz/README.md): shared by its writer and its reader, nobody else.
 *
 * Everything is little-endian and read through bytes.h, so no alignment is asked for. A header, then the sections in the
 * order of enum section, each an array of records of one size, the last one bytes; nothing between them. Where a
 * section lies follows from the counts in the header, so there are no offsets that could lie.
 */
#ifndef ESTARGZ_INDEX_FORMAT_H
#define ESTARGZ_INDEX_FORMAT_H

#include "base/bytes.h"
#include "estargz/index/index.h"

#define INDEX_MAGIC "cd-index"
#define INDEX_VERSION 2 /* that is written; 1, without what is marked below, is read */

/* Offsets in the header. */
enum {
	H_MAGIC = 0,           /* 8 bytes */
	H_VERSION = 8,         /* u32 */
	H_HEADER_BYTES = 12,   /* u32: where the sections begin, index_header_bytes() */
	H_FILE_BYTES = 16,     /* u64 */
	H_CRC = 24,            /* u64: CRC-64/XZ of all bytes after this field */
	H_BLOB = 32,           /* digest */
	H_TRUSTED = 64,        /* digest */
	H_TRUST = 96,          /* u32 */
	H_COMPRESSION = 100,   /* u32 */
	H_BLOB_BYTES = 104,    /* u64 */
	H_CONTENT_BYTES = 112, /* u64 */
	H_N_SINGLE = 120,      /* u32: files[0 .. n_single) have one chunk, singles[i] */
	H_N_MULTI = 124,       /* u32: the next n_multi have several, multis[i - n_single]; the rest has none */
	H_COUNTS = 128,        /* u32 for each section */
	H_PREFETCH_END = 168,  /* u64, version 2 */
	H_END = 176,
};

/* Length of the header; 0: a version that is unknown. */
static inline uint32_t index_header_bytes(uint32_t version)
{
	return version == 1 ? H_PREFETCH_END : version == INDEX_VERSION ? H_END : 0;
}

enum section {
	S_ENTRIES,
	S_NSEC,  /* nanoseconds of the entries' times: as many as entries, or none when all are 0 */
	S_ATTRS, /* mode, owner and xattrs, each combination once */
	S_XATTRS,
	S_FILES, /* one for each ESGZ_REG, by kind (see H_N_SINGLE), then in the order of the entries */
	S_SINGLES,
	S_MULTIS,
	S_CHUNKS, /* of the files with several */
	S_LINKS,  /* what one or two words of an entry do not hold: symlink texts, device numbers */
	S_STRINGS,
	S_N,
};

/* Record sizes. */
enum {
	ENTRY_BYTES =
	    28, /* u32 name offset, u8 name length, u8 type, u8 flags, u8 0, u32 parent, attr, data, i64 mtime */
	NSEC_BYTES = 4,
	ATTR_BYTES = 20,   /* u32 mode, uid, gid, first xattr, number of xattrs */
	XATTR_BYTES = 16,  /* u32 name offset, u32 name length, u32 value offset, u32 value length */
	FILE_BYTES = 40,   /* u64 size, content digest */
	SINGLE_BYTES = 48, /* u64 blob offset, u32 blob bytes, u32 inner offset, claim key */
	MULTI_BYTES = 40,  /* u32 first, u32 number of chunks, claim key */
	CHUNK_BYTES = 64,  /* u64 blob offset, u32 blob bytes, u32 inner offset, u64 file offset, u64 bytes, digest */
	LINK_BYTES = 8,    /* u32 offset, u32 length of the text; devices: u32 major, u32 minor */
	CHUNK_PLACE_BYTES = 16, /* what a single chunk and a chunk begin with */
};

static const uint8_t SECTION_RECORD_BYTES[S_N] = {
    [S_ENTRIES] = ENTRY_BYTES, [S_NSEC] = NSEC_BYTES,    [S_ATTRS] = ATTR_BYTES,
    [S_XATTRS] = XATTR_BYTES,  [S_FILES] = FILE_BYTES,   [S_SINGLES] = SINGLE_BYTES,
    [S_MULTIS] = MULTI_BYTES,  [S_CHUNKS] = CHUNK_BYTES, [S_LINKS] = LINK_BYTES,
    [S_STRINGS] = 1,
};

/* The blob offset of a chunk that is a hole (version 2); the rest of its place is 0. */
#define INDEX_HOLE (1ull << 63)

/* Fields of an entry record. */
enum { E_NAME = 0, E_NAME_N = 4, E_TYPE = 5, E_FLAGS = 6, E_PARENT = 8, E_ATTR = 12, E_DATA = 16, E_MTIME = 20 };

/* Bytes of all paths written out, which the reader keeps in memory when asked: far above what trees have (a path of 80
 * bytes, of node_modules 120), far below what long chains of directories make of a short TOC. */
static inline uint64_t index_paths_max(uint32_t n_entries)
{
	return (32u << 20) + 256ull * n_entries;
}

_Static_assert(H_COUNTS + 4 * S_N == H_PREFETCH_END, "header layout");

/* Places of the sections in a file; false when their sum passes `limit`. */
static inline bool index_layout(uint32_t header_bytes, const uint32_t counts[static S_N], uint64_t limit,
                                uint64_t at[static S_N], uint64_t *file_bytes)
{
	uint64_t n = header_bytes;

	/* No overflow: ten terms of less than 2^32 * 64. */
	for (int s = 0; s < S_N; s++) {
		at[s] = n;
		n += (uint64_t)counts[s] * SECTION_RECORD_BYTES[s];
	}
	*file_bytes = n;
	return n <= limit;
}

/* Writes the claim keys of a file that is right but for them and its checksum. */
void index_put_claims(void *file);

/* The checksum of a file: CRC-64/XZ over what follows the field. */
uint64_t index_crc(const void *file, size_t n);
/* Writes it: the last that is done to a file. */
void index_seal(void *file, size_t n);

#endif
