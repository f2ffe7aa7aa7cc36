/*
 * Mounts that a client names, as directories that this process can walk: a bind mount is its source, everything else is
 * mounted in a mount namespace of a thread of its own and outlives it as a descriptor alone, so that nobody else ever sees
 * it. Any thread; the calls block for as long as mount(2) does.
 */
#ifndef DIFF_TREES_H
#define DIFF_TREES_H

#include "base/vec.h"
#include "rpc/proto/types.pb-c.h"
#include "snapshotter/snapshotter.h"

/* One mount as in the API. */
struct tree_mount {
	const char *type, *source, *target;
	const char *const *options;
	size_t n_options;
};

struct tree_mounts {
	VEC(struct tree_mount) v; /* borrowed texts */
};
#define TREE_MOUNTS_INIT ((struct tree_mounts){VEC_INIT})
void tree_mounts_fini(struct tree_mounts *m);
DEFINE_AUTO_FINI(tree_mounts);

void tree_mounts_of_api(Types__Mount *const *list, size_t n, struct tree_mounts *out);
void tree_mounts_of_snapshot(const struct snap_mounts *from, struct tree_mounts *out);

/* The value of an option ("upperdir=": with the sign), or NULL. */
const char *tree_option(const struct tree_mount *m, const char *name);

/* The directory that can be written through one plain mount: the source of a writable bind mount, the upperdir of an
 * overlay; NULL when there is none. */
const char *tree_writable_dir(const struct tree_mounts *m);

/* The root of the mounts, mounted over each other in order (none: an empty directory): a descriptor for reading. `scratch`
 * is an empty directory. */
int tree_open(const struct tree_mounts *m, const char *scratch, int *fd, struct err *err);

#endif
