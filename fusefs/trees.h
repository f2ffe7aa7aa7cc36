/*
 * Trees of names served from metadata images: <root>/meta/<64 hex>, mapped. An image stays mapped as long as the worker
 * lives, since the kernel may hold any of its nodes. Any thread.
 */
#ifndef FUSEFS_TREES_H
#define FUSEFS_TREES_H

#include "estargz/erofs/erofs.h"
#include "fusefs/table.h"

struct ffs_trees;

struct ffs_trees *ffs_trees_new(const char *root, struct ffs_table *table);

/* Node ids: the slot of the image and the number of the inode in it. */
static inline uint64_t ffs_tree_node(uint32_t slot, uint64_t nid)
{
	return ((uint64_t)slot + 1) << 32 | nid;
}
static inline bool ffs_is_tree_node(uint64_t node)
{
	return node >> 32;
}
static inline uint64_t ffs_tree_nid(uint64_t node)
{
	return node & UINT32_MAX;
}
static inline uint32_t ffs_tree_slot(uint64_t node)
{
	return (uint32_t)(node >> 32) - 1;
}

/* The image of a name below .trees, and its slot. ERR_NOT_FOUND. */
int ffs_trees_lookup(struct ffs_trees *t, const struct digest *key, uint32_t *slot, const struct esgz_erofs **out,
                     struct err *err);

/* The image of a node id. */
int ffs_trees_get(struct ffs_trees *t, uint32_t slot, const struct esgz_erofs **out, struct err *err);

#endif
