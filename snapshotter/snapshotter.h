/*
 * Snapshots: the state machine (active, view, committed) over a key-value table, and the mounts they stand for.
 *
 * A committed snapshot is *indexed* (a layer index of the data plane), *plain* (a directory <root>/snapshots/<id>/fs), or
 * both: an index, and above it a directory with what was written over it before it was committed. In a chain nothing
 * indexed lies above a directory. Keys and names share one space per (namespace, snapshotter). The mounts of a
 * chain: one EROFS metadata image for its indexed part (built and mounted when first asked for, <state>/meta/<key>),
 * the object directory and the node-wide FUSE mount as data-only layers, plain directories above; forms and error
 * codes are containerd's (docs/conformance.md). Any thread: one mutex orders changes, mounts and waits for the disk are
 * outside of it. Commits, removals, labels and layers are on disk when the calls return; an active snapshot or a view is
 * when anything that was written later is.
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
	bool indexed;            /* has a layer index; an active one: what snap_apply_index has given it */
	bool has_dir;            /* has a directory: every active snapshot and view, and plain layers */
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

/* Active -> committed under `name`, which gets exactly `labels`. parent: "" for the one that it has; another one only
 * when it has none ("rebase", ERR_INVALID otherwise; ERR_PRECONDITION when that one is not committed, or has a directory
 * where this one is an index: see snap_drop_index). An index that nothing was written over becomes an indexed layer, and
 * its directory goes. */
int snap_commit(struct snap_store *s, struct snap_space sp, const char *name, const char *key, const char *parent,
                const struct labels *labels, struct err *err);

/* ---- layers that are unpacked into an active snapshot ---- */

/* The active snapshot whose directory `path` is ("<root>/snapshots/<id>/fs", as the mounts have it). The texts are the
 * caller's. ERR_NOT_FOUND for every other path. */
int snap_find(struct snap_store *s, const char *path, char **ns, char **snapshotter, char **key, struct err *err);

/* Makes a layer index the contents of an active snapshot: mounts asked for from now on have it, between the parents and
 * the directory. 1, and nothing done, when it has to be unpacked into the directory instead: something was written there,
 * there is an index already, or a parent is a plain directory. */
int snap_apply_index(struct snap_store *s, struct snap_space sp, const char *key, const struct digest *index_key,
                     int64_t usage_bytes, int64_t usage_inodes, struct err *err);

/* Takes the index away again, for who has unpacked the layer into the directory. */
int snap_drop_index(struct snap_store *s, struct snap_space sp, const char *key, struct err *err);

/* Mounts of the directory of an active snapshot above the chain `parent`, whether or not that is its parent yet, and
 * without an index that it has: for who unpacks a layer into it. ERR_PRECONDITION when something is in it. */
int snap_dir_mounts(struct snap_store *s, struct snap_space sp, const char *key, const char *parent,
                    struct snap_mounts *out, struct err *err);

/* ---- layers that pulling makes ---- */

/* A committed snapshot that is a layer index: no directory, no mount. usage: bytes and inodes answered by snap_usage.
 * ERR_PRECONDITION when the parent has a directory: such a layer has to be unpacked into one, too. */
int snap_add_indexed(struct snap_store *s, struct snap_space sp, const char *name, const char *parent,
                     const struct digest *index_key, int64_t usage_bytes, int64_t usage_inodes,
                     const struct labels *labels, struct err *err);

/* The same for the layers of a chain, base first, with one wait for the disk. Ends early, with less than n in *done, before a
 * layer whose parent has a directory. Those that are there already are left as they are. */
struct snap_layer {
	const char *name, *parent;
	struct digest index_key;
	int64_t usage_bytes, usage_inodes;
	const struct labels *labels;
	bool existed; /* out */
};
int snap_add_chain(struct snap_store *s, struct snap_space sp, struct snap_layer *layers, unsigned n, unsigned *done,
                   struct err *err);

/* Gives a committed indexed snapshot another index: the same layer's, where the old one was only claimed and the new one
 * is proven. Active snapshots and views that stand on it stay made of the old one. ERR_PRECONDITION when it is not
 * indexed. */
int snap_replace_indexed(struct snap_store *s, struct snap_space sp, const char *name, const struct digest *index_key,
                         int64_t usage_bytes, int64_t usage_inodes, struct err *err);

/* ERR_PRECONDITION when it has children. Its directory is moved out of the way, and removed by a thread. */
int snap_remove(struct snap_store *s, struct snap_space sp, const char *key, struct err *err);

/* Takes the directory <root>/snapshots/<id> of a snapshot whose record is gone away, and leaves the work to a thread. */
void snap_drop_dir(struct snap_store *s, uint64_t id);

/* Waits until that thread has nothing left to do: what snap_remove and snap_drop_dir were told to remove is gone. */
void snap_cleanup(struct snap_store *s);

int snap_stat(struct snap_store *s, struct snap_space sp, const char *key, struct snap_info *out, struct err *err);

/* Replaces the labels. */
int snap_update_labels(struct snap_store *s, struct snap_space sp, const char *key, const struct labels *labels,
                       struct snap_info *out, struct err *err);

/* All snapshots of a space, in key order; fn must not call the store; a negative return ends with that code. */
int snap_list(struct snap_store *s, struct snap_space sp,
              int (*fn)(void *arg, const struct snap_info *i, struct err *err), void *arg, struct err *err);

/* Own bytes and inodes, without parents: live for active, recorded for committed, zero for views. Of a directory what is
 * allocated on disk; of an index the sizes and the number of its regular files, each counted in every layer that has it,
 * whether or not its bytes are shared with others, and here yet. */
int snap_usage(struct snap_store *s, struct snap_space sp, const char *key, int64_t *bytes, int64_t *inodes,
               struct err *err);

/* Index keys of a committed indexed chain, base first (the caller frees the array). */
int snap_chain_indexes(struct snap_store *s, struct snap_space sp, const char *name, struct digest **keys, unsigned *n,
                       struct err *err);

/* Name of the metadata image <root>/meta/<64 hex> of a chain: sha256("contentd-meta-1\0" ‖ its index keys, base first). */
void snap_meta_key(const struct digest *indexes, unsigned n, struct digest *out);

/* Builds and mounts the metadata image of a chain ahead of the first snap_mounts, so that a pull ends ready to start. */
int snap_warm(struct snap_store *s, struct snap_space sp, const char *name, struct err *err);

/* Tries the levels from the top on this machine with a small image of its own below `root` and `state`: mounts, reads a
 * known object, compares. Returns the level and the reason (caller frees). */
int snap_probe(const char *root, const char *state, enum snap_level *level, char **reason, struct err *err);

#endif
