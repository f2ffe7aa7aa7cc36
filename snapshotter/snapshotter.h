/*
 * Snapshots: the state machine (active, view, committed) over a key-value table, and the mounts they stand for.
 *
 * A committed snapshot is either *indexed* (a layer index of the data plane; it has no directory) or *plain* (a
 * directory <root>/snapshots/<id>/fs). Keys and names share one space per (namespace, snapshotter). The mounts of a
 * chain: one EROFS metadata image for its indexed part (built and mounted when first asked for, <state>/meta/<key>),
 * the object directory and the node-wide FUSE mount as data-only layers, plain directories above; forms and error
 * codes are containerd's (docs/conformance.md). Any thread: one mutex orders changes, mounts are made outside of it.
 */
#ifndef SNAPSHOTTER_SNAPSHOTTER_H
#define SNAPSHOTTER_SNAPSHOTTER_H

#include "base/digest.h"
#include "base/kv.h"
#include "base/label.h"

#include <time.h>

/* How overlay, EROFS and FUSE are put together; found by snap_probe, or forced by configuration. */
enum snap_level {
	SNAP_LEVEL_AUTO = 0,
	SNAP_LEVEL_OVERLAY = 1, /* one overlay: EROFS :: objects :: FUSE */
	SNAP_LEVEL_NESTED = 2,  /* an inner read-only overlay with metacopy, a plain one above */
	SNAP_LEVEL_TREE = 3,    /* the FUSE mount serves names too */
};

struct snap_opts {
	const char *root, *state; /* absolute, without comma or colon; copied */
	const struct kv *kv;      /* borrowed */
	enum snap_level level;
};

enum snap_kind { SNAP_VIEW = 1, SNAP_ACTIVE = 2, SNAP_COMMITTED = 3 }; /* numbers of containerd's API */

struct snap_info {
	char *name, *parent; /* parent "" = none */
	enum snap_kind kind;
	struct timespec created, updated;
	struct labels labels;
	bool indexed;
	struct digest index_key; /* indexed only */
};
void snap_info_fini(struct snap_info *i);
DEFINE_AUTO_FINI(snap_info);

struct snap_mount {
	char *type, *source;
	VEC(char *) options;
};

struct snap_mounts {
	VEC(struct snap_mount) v;
};
#define SNAP_MOUNTS_INIT ((struct snap_mounts){VEC_INIT})
void snap_mounts_fini(struct snap_mounts *m);
DEFINE_AUTO_FINI(snap_mounts);

/* One key space. Borrowed texts. */
struct snap_space {
	const char *ns, *snapshotter;
};

struct snap_store;

/* Opens; directories of active snapshots that the table does not name are removed. With SNAP_LEVEL_AUTO the level is
 * probed (needs the FUSE mount at <state>/lazy only at level 3). */
int snap_store_new(const struct snap_opts *opts, struct snap_store **out, struct err *err);
void snap_store_free(struct snap_store *s);
DEFINE_AUTO_FREE(snap_store);

enum snap_level snap_store_level(const struct snap_store *s);
/* Why the level is what it is, one line. Borrowed. */
const char *snap_store_level_reason(const struct snap_store *s);

/* New active snapshot (view: read-only). parent "" or a committed one. Conditions: ERR_EXISTS, ERR_NOT_FOUND (parent),
 * ERR_INVALID (parent not committed). */
int snap_prepare(struct snap_store *s, struct snap_space sp, const char *key, const char *parent,
                 const struct labels *labels, struct snap_mounts *out, struct err *err);
int snap_view(struct snap_store *s, struct snap_space sp, const char *key, const char *parent,
              const struct labels *labels, struct snap_mounts *out, struct err *err);

/* Mounts of an active snapshot or a view; ERR_PRECONDITION for a committed one. */
int snap_mounts(struct snap_store *s, struct snap_space sp, const char *key, struct snap_mounts *out, struct err *err);

/* Active -> committed under `name`, which gets exactly `labels`. */
int snap_commit(struct snap_store *s, struct snap_space sp, const char *name, const char *key,
                const struct labels *labels, struct err *err);

/* A committed snapshot that is a layer index: what pulling makes, no directory, no mount. The parent chain must be
 * indexed too (ERR_PRECONDITION otherwise). usage: bytes and inodes answered by snap_usage. */
int snap_add_indexed(struct snap_store *s, struct snap_space sp, const char *name, const char *parent,
                     const struct digest *index_key, int64_t usage_bytes, int64_t usage_inodes,
                     const struct labels *labels, struct err *err);

/* Gives a committed indexed snapshot another index: the same layer's, where the old one was only claimed and the new one
 * is proven. Mounts that exist stay as they are. ERR_PRECONDITION when it is not indexed. */
int snap_replace_indexed(struct snap_store *s, struct snap_space sp, const char *name, const struct digest *index_key,
                         int64_t usage_bytes, int64_t usage_inodes, struct err *err);

/* ERR_PRECONDITION when it has children. The directory of an active snapshot is removed. */
int snap_remove(struct snap_store *s, struct snap_space sp, const char *key, struct err *err);

int snap_stat(struct snap_store *s, struct snap_space sp, const char *key, struct snap_info *out, struct err *err);

/* Replaces the labels. */
int snap_update_labels(struct snap_store *s, struct snap_space sp, const char *key, const struct labels *labels,
                       struct snap_info *out, struct err *err);

/* All snapshots of a space, in key order; fn must not call the store; a negative return ends with that code. */
int snap_list(struct snap_store *s, struct snap_space sp,
              int (*fn)(void *arg, const struct snap_info *i, struct err *err), void *arg, struct err *err);

/* Own bytes and inodes, without parents: live for active, recorded for committed, zero for views. */
int snap_usage(struct snap_store *s, struct snap_space sp, const char *key, int64_t *bytes, int64_t *inodes,
               struct err *err);

/* Index keys of a committed indexed chain, base first (the caller frees the array). */
int snap_chain_indexes(struct snap_store *s, struct snap_space sp, const char *name, struct digest **keys, unsigned *n,
                       struct err *err);

/* Name of the metadata image <root>/meta/<64 hex> of a chain: sha256("contentd-meta-1\0" ‖ its index keys, base first). */
void snap_meta_key(const struct digest *indexes, unsigned n, struct digest *out);

/* Builds and mounts the metadata image of a chain ahead of the first snap_mounts, so that a pull ends ready to start. */
int snap_warm(struct snap_store *s, struct snap_space sp, const char *name, struct err *err);

/* Unmounts and deletes every metadata image that no active snapshot or view and none of the chains in `keep` (committed
 * names, each with its space) needs. Mounts of containers are not touched. */
struct snap_keep {
	struct snap_space space;
	const char *name;
};
int snap_release(struct snap_store *s, const struct snap_keep *keep, unsigned n_keep, struct err *err);

/* Tries the levels from the top on this machine with a small image of its own below `root` and `state`: mounts, reads a
 * known object, compares. Returns the level and the reason (caller frees). */
int snap_probe(const char *root, const char *state, enum snap_level *level, char **reason, struct err *err);

#endif
