/*
 * Layer index: the compact, mmap-able description of one layer that everything above works from.
 *
 * One file per (blob, what its content was trusted by). It lists the layer's entries in path order, the chunks of
 * each regular file and where they lie in the blob. Byte layout: estargz/README.md. The reader validates the whole
 * file once at open (bounds, order, links, checksum) and hands out values; views point into the caller's bytes, which
 * must stay mapped and unchanged (paths: into memory of the index, made when the first entry is asked for). Reader: any thread after open. Builder: one owner.
 */
#ifndef ESTARGZ_INDEX_H
#define ESTARGZ_INDEX_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"

#define ESGZ_ENTRIES_MAX (4u << 20)       /* entries of one layer */
#define ESGZ_CHUNKS_MAX (16u << 20)       /* chunks of one layer */
#define ESGZ_CHUNK_BYTES_MAX (64u << 20)  /* uncompressed bytes of one chunk: bounds what a reader must allocate */
#define ESGZ_INNER_OFFSET_MAX (1u << 30)  /* how deep in a member a chunk may lie: bounds the work of reaching it */
#define ESGZ_MEMBER_SLACK (64u << 10)     /* see esgz_chunk.blob_bytes */
#define ESGZ_XATTRS_MAX 1024              /* of one entry: more than Linux can list (64 KiB of names) in practice */
#define ESGZ_LAYER_XATTRS_MAX (4u << 20)  /* of all distinct sets of a layer together */
#define ESGZ_LAYER_TEXTS_MAX (256u << 20) /* bytes of link texts and xattrs of a layer */
#define ESGZ_PATH_MAX 4096
#define ESGZ_NAME_MAX 255

enum esgz_type {
	ESGZ_DIR = 1,
	ESGZ_REG,
	ESGZ_SYMLINK,
	ESGZ_CHAR,
	ESGZ_BLOCK,
	ESGZ_FIFO,
	ESGZ_HARDLINK, /* another name of the entry `target` */
	ESGZ_WHITEOUT, /* hides `path` in the layers below; nothing else about it counts */
};

enum {
	ESGZ_IMPLIED = 1 << 0, /* directory without an entry of its own: 0755 root, and must not change a lower one */
	ESGZ_OPAQUE = 1 << 1,  /* directory: hides what lower layers have in it */
	ESGZ_REPLACE = 1 << 2, /* a whiteout of the same name stood beside this entry: the lower one goes, whole */
};

struct esgz_entry {
	enum esgz_type type;
	uint32_t flags;
	uint32_t mode; /* permission and set-id bits only (07777) */
	uint32_t uid, gid;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t dev_major, dev_minor; /* ESGZ_CHAR, ESGZ_BLOCK */
	uint64_t size;                 /* ESGZ_REG: bytes */
	struct str path;               /* clean, without leading slash; "" is the layer's root directory */
	struct str name;               /* last component of path; filled by esgz_index_entry alone, as is parent */
	uint32_t parent;               /* entry number of the directory it is in; the root's is 0 */
	struct str link;               /* ESGZ_SYMLINK: text, verbatim */
	uint32_t target; /* ESGZ_HARDLINK: entry number of the file that is meant (never a hard link itself) */
	uint32_t first_xattr, n_xattrs;
	uint32_t first_chunk, n_chunks; /* ESGZ_REG of a lazy layer with size > 0; else none */
	struct digest content; /* ESGZ_REG: sha256 of the whole content, as claimed (lazy) or as proven (unpacked) */
	struct digest claim;   /* ESGZ_REG: name of the object until the content is proven: the claim key
	                                 * (esgz_claim_key) of a file with chunks, else `content` */
};

struct esgz_chunk {
	uint64_t blob_offset;  /* of the gzip member or zstd frame; of the checkpoint (ESGZ_GZIP_SEEK) */
	uint64_t blob_bytes;   /* compressed bytes to fetch from there: an upper bound of what inflating needs (up to
	                        * the next member, but at most 9/8 of the plain bytes plus ESGZ_MEMBER_SLACK) */
	uint64_t inner_offset; /* uncompressed bytes to skip in the member */
	uint64_t file_offset;
	uint64_t bytes;       /* uncompressed; at most ESGZ_CHUNK_BYTES_MAX, a hole: as many as the file has */
	struct digest digest; /* sha256 of the uncompressed bytes */
	bool hole;            /* zeros, which no blob holds: blob_offset, blob_bytes, inner_offset are 0 */
};

enum esgz_compression {
	ESGZ_PLAIN = 0,
	ESGZ_GZIP = 1,
	ESGZ_ZSTD = 2,
	ESGZ_GZIP_SEEK = 3, /* an ordinary gzip layer; inflating begins at checkpoints that are kept beside the index */
};

enum esgz_trust {
	ESGZ_TRUST_TOC = 1,    /* `trusted` is the TOC digest: contents are claims, chunks say how to fetch them */
	ESGZ_TRUST_DIFFID = 2, /* `trusted` is the DiffID of the stream that was unpacked: contents are proven */
};

#define ESGZ_NO_PREFETCH UINT64_MAX /* `.no.prefetch.landmark` */

struct esgz_index_info {
	struct digest blob; /* digest of the compressed layer */
	struct digest trusted;
	enum esgz_trust trust;
	enum esgz_compression compression;
	uint64_t blob_bytes;
	uint64_t content_bytes; /* sum of the sizes of regular files */
	uint64_t prefetch_end;  /* bytes at the blob's begin that its maker wants fetched first (the offset of
	                         * `.prefetch.landmark`); ESGZ_NO_PREFETCH: none; 0: nothing is said */
	uint32_t n_entries, n_chunks, n_xattrs;
};

/* The name of an index: sha256("contentd-index-1\0" ‖ u8 trust ‖ blob digest ‖ trusted digest). */
void esgz_index_key(enum esgz_trust trust, const struct digest *blob, const struct digest *trusted, struct digest *out);

/* Claim key of a file: sha256("contentd-claim-1\0" ‖ content ‖ u64le size ‖ u32le n ‖ n × {u64le file_offset,
 * u64le bytes, chunk digest}). Chunks ascending by file offset. Blob and offsets are not in it: they are sources. */
void esgz_claim_key(const struct digest *content, uint64_t size, const struct esgz_chunk *chunks, uint32_t n,
                    struct digest *out);

struct esgz_index;

/* Checks and opens the bytes of an index file (8-byte aligned; borrowed). Damage: ERR_DATA_LOSS saying where; another
 * version: ERR_UNIMPLEMENTED (rebuild it). */
int esgz_index_open(struct str bytes, struct esgz_index **out, struct err *err);
void esgz_index_free(struct esgz_index *ix);
DEFINE_AUTO_FREE(esgz_index);

const struct esgz_index_info *esgz_index_get_info(const struct esgz_index *ix);

/* i < n_entries, in path order with '/' sorting before every other byte (parents directly before their children);
 * entry 0 is always the root directory. */
void esgz_index_entry(const struct esgz_index *ix, uint32_t i, struct esgz_entry *out);
/* j < n_chunks; the chunks of one entry are consecutive and ascending in the file. */
void esgz_index_chunk(const struct esgz_index *ix, uint32_t j, struct esgz_chunk *out);
/* j < n_xattrs. */
void esgz_index_xattr(const struct esgz_index *ix, uint32_t j, struct str *name, struct str *value);

/* Builder. Entries come in any order, as a TOC or a tar delivers them; paths are cleaned here (esgz_path_clean),
 * `.wh.` names become whiteouts and flags, missing parents are implied, of two entries with one path the last wins,
 * hard links are resolved at the end (forward, chains; cycles and missing targets are ERR_INVALID).
 * overlay xattrs (trusted.overlay.*, user.overlay.*) are dropped, 0:0 character devices too. */
struct esgz_index_builder;
struct esgz_index_builder *esgz_index_builder_new(void);
void esgz_index_builder_free(struct esgz_index_builder *b);
DEFINE_AUTO_FREE(esgz_index_builder);

struct esgz_xattr {
	struct str name, value;
};

/* `e`: path (raw), and what the type needs; `target`, first_* and n_* are ignored. ESGZ_HARDLINK: `link` is the raw
 * target path. Chunks: of this file, ascending, covering it exactly (checked), or none. All is copied.
 * *dropped (may be NULL) is set to a static reason when the entry was left out on purpose. */
int esgz_index_add(struct esgz_index_builder *b, const struct esgz_entry *e, const struct esgz_xattr *xattrs,
                   uint32_t n_xattrs, const struct esgz_chunk *chunks, uint32_t n_chunks, const char **dropped,
                   struct err *err);

/* Where a chunk lies: as esgz_chunk has it. */
struct esgz_chunk_place {
	uint64_t blob_offset;
	uint32_t blob_bytes, inner_offset;
};

/* Before finish: `place` gets the place of each chunk added so far that is no hole, and sets another, which is taken as it is.
 * For those who learn where the bytes lie after the files. */
void esgz_index_place(struct esgz_index_builder *b, void (*place)(void *arg, struct esgz_chunk_place *p), void *arg);

/* Before finish: no file has chunks any more, as in the index of an unpacked layer. */
void esgz_index_drop_chunks(struct esgz_index_builder *b);

/* Sorts, links, checks and appends the file's bytes to `out`. info: blob, trusted, trust, compression, blob_bytes,
 * prefetch_end are taken from it. May be done again, for another file of the same. */
int esgz_index_finish(struct esgz_index_builder *b, const struct esgz_index_info *info, struct buf *out,
                      struct err *err);

/* After finish: the path of a hard link that came before the entry that its target is (STR_NONE: there is none). Who unpacks one
 * entry after the other links it to what was there before, or fails. Valid until the next finish. */
struct str esgz_index_late_link(const struct esgz_index_builder *b);

enum {
	ESGZ_SAME_TOC_TIMES =
	    1, /* times of `a` may be whole seconds, rounded to the nearest one, as stargz writes them */
	ESGZ_SAME_EMPTY_XATTRS =
	    2, /* xattrs without a value may be missing in `a`: containers/storage of 2022 lost them */
};
#define ESGZ_DIFFERS 1

/*
 * Compares what two layers are: paths, types, modes, owners, times, xattrs, links, sizes, contents; not how their bytes
 * are placed. Of a file with several names one has the entry, and the others are hard links to it: where that is another
 * name on each side, they differ, as they do in two tars. 0: the same. ESGZ_DIFFERS: `where` gets the first
 * difference, "etc/passwd: mode 0644 in the TOC, 0755 in the tar", with a_name and b_name for the two.
 */
int esgz_index_compare(const struct esgz_index *a, const char *a_name, const struct esgz_index *b, const char *b_name,
                       unsigned flags, struct buf *where);

/* Takes out of an index file what its receiver must know better or can tell from the rest: `trusted` and the claim keys
 * become zeros, which compress. The n bytes are a file that opens. */
void esgz_index_strip(void *file, size_t n);
/* Puts them in again, hostile bytes included: trust as the receiver has it, claim keys as they follow. Errors as of
 * esgz_index_open. */
int esgz_index_fill(struct buf *file, enum esgz_trust trust, const struct digest *trusted, struct err *err);

/* Lexical cleaning of "/" + raw, without the leading slash ("" = root); ".." cannot escape. Replaces *out. Too long, a component
 * over 255 bytes, or a NUL byte: ERR_INVALID. */
int esgz_path_clean(struct str raw, struct buf *out, struct err *err);

#endif
