/*
 * The merged tree of a chain of layers: layer indexes applied from the base up by the OCI rules (whiteouts, opaque
 * directories, replacement of files by directories and back). The result holds no whiteouts. Names and values point
 * into the indexes, which must outlive the tree. One owner while it is built; any thread afterwards.
 */
#ifndef ESTARGZ_TREE_H
#define ESTARGZ_TREE_H

#include "estargz/index/index.h"

#define ESGZ_TREE_NODES_MAX (8u << 20) /* names in a merged tree */

struct esgz_node {
	struct str name;                  /* "" for the root */
	const struct esgz_index *ix;      /* the layer that gives its attributes; NULL for an implied directory */
	uint32_t entry;                   /* entry number there (of the real file, for hard links) */
	uint32_t inode;                   /* names with the same number are the same file; dense from 0 (the root) */
	uint32_t first_child, n_children; /* directories: nodes[first_child ...], sorted by name bytewise */
	uint32_t parent;                  /* the root is its own */
	bool is_dir;
};

struct esgz_tree {
	struct esgz_node *nodes; /* [0] is the root; breadth-first: children of one directory are consecutive */
	uint32_t n_nodes;
	uint32_t n_inodes;
};

/* layers[0] is the base; no layers give an empty root. An index in which something lies below a file, or a hard link
 * does not lead to one: ERR_INVALID; too many names: ERR_EXHAUSTED. */
int esgz_tree_build(const struct esgz_index *const *layers, unsigned n_layers, struct esgz_tree **out, struct err *err);
void esgz_tree_free(struct esgz_tree *t);
DEFINE_AUTO_FREE(esgz_tree);

#endif
