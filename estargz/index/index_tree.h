/*
 * The entries of a layer while its index is built: a tree of names whose nodes carry records. Private to the index
 * builder (index_build.c fills it, index_write.c lays it out). Everything is numbered and kept in a few growing arrays,
 * so a layer of 100 000 entries takes some dozens of allocations. One owner.
 */
#ifndef ESTARGZ_INDEX_TREE_H
#define ESTARGZ_INDEX_TREE_H

#include "base/vec.h"
#include "estargz/index/index.h"

#define NO_RECORD UINT32_MAX
#define NODE_ROOT 0
#define ATTR_IMPLIED 0 /* 0755, root, no xattrs */

/* Hash table of numbers: the owner keeps what they stand for, and compares. */
struct id_slot {
	uint32_t hash;
	uint32_t id; /* number + 1; 0 = free */
};

struct id_set {
	struct id_slot *slots;
	size_t cap, n;
};

enum {
	NODE_OPAQUE = 1 << 0,   /* `.wh..wh..opq` stood in it */
	NODE_WHITEOUT = 1 << 1, /* `.wh.<name>` stood beside it */
};

struct node {
	uint32_t parent;
	uint32_t name_off;   /* in builder.names */
	uint32_t record;     /* of the last entry with this path; NO_RECORD: implied directory, or whiteout alone */
	uint32_t n_children; /* names below it, whiteouts included */
	uint32_t table;      /* where their hash table begins in builder.tables; 2^table_bits slots */
	uint8_t table_bits;  /* 0: none, for want of children */
	uint8_t name_n;
	uint8_t flags;
};

struct record {
	uint8_t type;
	uint32_t attr;
	uint32_t mtime_ns;
	uint32_t added; /* how many came before it */
	int64_t mtime_s;
	union {
		struct {
			uint64_t size;
			uint32_t first_chunk, n_chunks;
			struct digest content;
		} reg;
		struct {
			uint32_t off, n; /* symlink and hard link: text in builder.texts */
		} link;
		struct {
			uint32_t major, minor;
		} dev;
	};
};

/* A chunk. Of a file's only one this is all: the rest is the file's. */
struct chunk {
	uint64_t blob_offset;
	uint32_t blob_bytes; /* 0: not known yet */
	uint32_t inner_offset;
	uint32_t bytes; /* uncompressed; 0: a hole, which has no place either */
	uint32_t part;  /* one of several: the rest of it, in builder.parts */
};

struct chunk_part {
	uint64_t file_offset, bytes;
	struct digest digest;
};

struct attr {
	uint32_t mode, uid, gid;
	uint32_t first_xattr, n_xattrs;
};

struct xattr_ref {
	uint32_t name_off, name_n, value_off, value_n; /* in builder.texts */
};

struct esgz_index_builder {
	VEC(struct node) nodes;
	VEC(struct record) records;
	VEC(struct attr) attrs;
	VEC(struct xattr_ref) xattrs;
	VEC(struct chunk) chunks;
	VEC(struct chunk_part) parts;
	struct buf names, texts;
	VEC(struct id_slot) tables; /* of the directories: their children by name */
	struct id_set attr_set;     /* by value, xattrs included */
	uint64_t secret[2];         /* of the hashes: names come from outside */
	uint32_t last_attr;
	uint32_t n_added;
	struct buf late_link; /* path of the first one, once finished */
	bool any_nsec;
	bool open_ended;           /* chunks come without blob_bytes */
	struct buf path, last_dir; /* scratch: cleaned path; directory of the entry before */
	uint32_t last_dir_node;
};

/* Node of `name` in `parent`, or NO_RECORD. */
uint32_t index_tree_find(const struct esgz_index_builder *b, uint32_t parent, struct str name);

/* Makes room for about so many entries, so that the arrays need not move while they grow. */
void index_tree_expect(struct esgz_index_builder *b, size_t entries);

/* A TOC says where chunks begin, and seldom where they end. After the first call chunks are taken with blob_bytes = 0; the
 * second gives each of these the bytes up to the next larger offset of any chunk, or up to data_end. */
void index_tree_open_ended(struct esgz_index_builder *b);
void index_tree_end_chunks(struct esgz_index_builder *b, uint64_t data_end);

static inline struct str node_name(const struct esgz_index_builder *b, const struct node *n)
{
	return str_make(b->names.p + n->name_off, n->name_n);
}

#endif
