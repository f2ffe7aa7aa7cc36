/*
 * EROFS on disk, as far as a metadata image uses it; internal to erofs_write.c and erofs_read.c. Source: Linux
 * fs/erofs/erofs_fs.h and the kernel's behaviour. All numbers are little-endian.
 *
 *	0     nothing (room for a boot sector)
 *	1024  superblock
 *	1152  inodes, numbered by position: inode n lies at 32 n. Each is followed by its xattrs, then by what its
 *	      layout puts there: the chunk table of a regular file, the end of a directory, the text of a symlink.
 *	      Such an end never crosses a block.
 *	...   xattrs that several inodes share (from a block boundary on)
 *	...   blocks of large directories and long symlinks
 */
#ifndef ESTARGZ_EROFS_FORMAT_H
#define ESTARGZ_EROFS_FORMAT_H

#include "base/str.h"

#include <endian.h>

#define EROFS_BLOCK 4096u
#define EROFS_BLOCK_BITS 12

#define EROFS_SUPER_AT 1024
#define EROFS_MAGIC 0xe0f5e1e2u
#define EROFS_COMPAT_MTIME 0x2u        /* the time of an inode is its mtime */
#define EROFS_COMPAT_XATTR_FILTER 0x4u /* name_filter of the xattr header is filled in (Linux 6.6) */
#define EROFS_INCOMPAT_CHUNKED 0x4u    /* inodes in EROFS_LAYOUT_CHUNKS exist */

struct erofs_super {
	uint32_t magic, checksum, feature_compat;
	uint8_t block_bits, ext_slots;
	uint16_t root_nid;
	uint64_t inodes;
	uint64_t build_time; /* the mtime of compact inodes */
	uint32_t build_time_ns;
	uint32_t blocks;
	uint32_t meta_block;
	uint32_t xattr_block;
	uint8_t uuid[16], volume[16];
	uint32_t feature_incompat;
	uint8_t rest[44];
};
_Static_assert(sizeof(struct erofs_super) == 128, "superblock");

enum erofs_layout {
	EROFS_LAYOUT_PLAIN = 0,  /* data: whole blocks from `data` on */
	EROFS_LAYOUT_INLINE = 2, /* as plain, but the last, partial block lies behind the inode */
	EROFS_LAYOUT_CHUNKS = 4, /* data: log2 of the chunk size in blocks; a table of block numbers follows it */
};

#define EROFS_FORMAT_EXTENDED 1u /* bit 0 of `format`; bits 1-3 are the layout */
#define EROFS_CHUNK_BITS_MAX 31  /* largest value of the chunk size in `data` */
#define EROFS_NO_BLOCK UINT32_MAX

#define EROFS_SLOT 32 /* bytes between inode numbers */

struct erofs_inode_compact {
	uint16_t format;
	uint16_t xattr_words; /* 0: none; else 1 + (bytes after the xattr header) / 4 */
	uint16_t mode;
	uint16_t nlink;
	uint32_t size;
	uint32_t reserved;
	uint32_t data; /* by layout; of devices the number, in the kernel's long form */
	uint32_t ino;
	uint16_t uid, gid;
	uint32_t reserved2;
};
_Static_assert(sizeof(struct erofs_inode_compact) == 32, "compact inode");

struct erofs_inode_extended {
	uint16_t format;
	uint16_t xattr_words;
	uint16_t mode;
	uint16_t reserved;
	uint64_t size;
	uint32_t data;
	uint32_t ino;
	uint32_t uid, gid;
	uint64_t mtime; /* signed */
	uint32_t mtime_ns;
	uint32_t nlink;
	uint8_t reserved2[16];
};
_Static_assert(sizeof(struct erofs_inode_extended) == 64, "extended inode");

/* After the inode: this header, the numbers of shared xattrs (position in the shared area / 4), the inode's own. */
struct erofs_xattr_header {
	uint32_t name_filter; /* a bit is clear for each name that is there */
	uint8_t n_shared;
	uint8_t reserved[7];
};
_Static_assert(sizeof(struct erofs_xattr_header) == 12, "xattr header");

/* An xattr: this, the name without its prefix, the value, zeros up to a multiple of 4 bytes. */
struct erofs_xattr {
	uint8_t name_bytes;
	uint8_t prefix;
	uint16_t value_bytes;
};
_Static_assert(sizeof(struct erofs_xattr) == 4, "xattr");

#define EROFS_XATTR_WORDS_MAX UINT16_MAX
#define EROFS_XATTRS_SHARED_MAX UINT8_MAX /* by one inode */

/* Directories are sorted bytewise, blocks included. Each block: these, then the names in the same order, without NULs
 * between them; the number of entries is the first name's offset / 12. */
struct erofs_dirent {
	uint64_t nid;
	uint16_t name_at;
	uint8_t type;
	uint8_t reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct erofs_dirent) == 12, "dirent");

enum erofs_type {
	EROFS_TYPE_REG = 1,
	EROFS_TYPE_DIR = 2,
	EROFS_TYPE_CHAR = 3,
	EROFS_TYPE_BLOCK = 4,
	EROFS_TYPE_FIFO = 5,
	EROFS_TYPE_SOCKET = 6,
	EROFS_TYPE_SYMLINK = 7,
};

/* Splits the name of an xattr into the number of its prefix and the rest; false for a namespace that EROFS has not. */
bool erofs_xattr_split(struct str name, uint8_t *prefix, struct str *rest);

/* The text of a prefix; STR_NONE for an unknown number. */
struct str erofs_xattr_prefix(uint8_t prefix);

/* The bit of a name in name_filter. */
uint32_t erofs_xattr_filter_bit(uint8_t prefix, struct str rest);

/* True for the names by which overlayfs steers itself (trusted.overlay.*, user.overlay.*): no layer may bring them. */
bool erofs_xattr_is_overlay(uint8_t prefix, struct str rest);

/* Device numbers as the kernel packs them into 32 bits: 12 bits of major, 20 of minor. */
static inline uint32_t erofs_dev_pack(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xfff00) << 12;
}

static inline uint32_t erofs_dev_major(uint32_t dev)
{
	return (dev & 0xfff00) >> 8;
}

static inline uint32_t erofs_dev_minor(uint32_t dev)
{
	return (dev & 0xff) | ((dev >> 12) & 0xfff00);
}

#endif
