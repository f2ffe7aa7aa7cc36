/*
 * The tree of an image in the content store: index, manifests, configurations, layers, read from the documents that a
 * namespace knows. What a push, an export and an import walk along. One owner; reading documents may wait.
 */
#ifndef CONTENTD_TRANSFER_TREE_H
#define CONTENTD_TRANSFER_TREE_H

#include "contentd/daemon.h"
#include "registry/manifest.h"
#include "rpc/proto/types.pb-c.h"

#define CD_TREE_NODES_MAX 65536

enum cd_tree_kind { CD_TREE_INDEX, CD_TREE_MANIFEST, CD_TREE_CONFIG, CD_TREE_LAYER };

struct cd_tree_node {
	enum cd_tree_kind kind;
	struct reg_descriptor d;        /* as its parent names it */
	const struct reg_manifest *doc; /* of an index or a manifest */
	size_t parent;                  /* position of the first one that names it; its own for the root */
	size_t place;                   /* in its parent's list of entries or layers */
	size_t first_child, n_children; /* in cd_tree.children */
};

struct cd_tree {
	VEC(struct cd_tree_node) nodes; /* parents before children; each digest once */
	VEC(size_t) children;           /* positions of the chosen children of each node, in order of the document */
	VEC(struct reg_manifest *) docs;
};
void cd_tree_fini(struct cd_tree *t);
DEFINE_AUTO_FINI(cd_tree);

/* Which entries of indexes belong to the tree. Zeroed: all. */
struct cd_tree_filter {
	Types__Platform *const *platforms; /* entries for one of these, and entries that name no platform */
	size_t n_platforms;                /* 0: any */
	bool all_metadata;                 /* other entries too, without their layers, as far as they are here */
	unsigned limit;    /* at most so many entries of one index, best platform first; 0: any number */
	bool skip_foreign; /* leave layers out that are not to be given to others */
	bool skip_missing; /* entries of indexes that are not here are left out; otherwise they are ERR_NOT_FOUND */
};

/* `root` and its texts must outlive the tree. Documents that are records without a file are fetched first. ERR_NOT_FOUND names the document and its platform. */
int cd_tree_load(struct cd_daemon *d, struct rpc_call *c, const char *ns, const Types__Descriptor *root,
                 const struct cd_tree_filter *filter, struct cd_tree *out, struct err *err);

/* NULL when the tree has no part with that digest. */
const struct cd_tree_node *cd_tree_find(const struct cd_tree *t, const struct digest *d);

/* True when an image for `have` suits one of the platforms; with none, or when the descriptor names no platform, too. */
bool cd_platform_wanted(const struct reg_descriptor *have, Types__Platform *const *wanted, size_t n);

/* The bytes of a blob that the namespace knows, at most `max` of them. */
int cd_tree_read(struct cd_daemon *d, struct rpc_call *c, const char *ns, const char *digest, size_t max,
                 struct buf *out, struct err *err);

#endif
