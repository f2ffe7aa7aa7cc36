/* What the files of snapshotter/ share; not for others. */
#ifndef SNAPSHOTTER_INTERNAL_H
#define SNAPSHOTTER_INTERNAL_H

#include "base/map.h"
#include "snapshotter/meta.h"
#include "snapshotter/record.h"

#include <pthread.h>

struct snap_store {
	char *root, *state;
	int snapshots_fd; /* <root>/snapshots */
	const struct kv *kv;
	struct snap_meta *meta;
	enum snap_level level;
	char *level_reason;
	struct snap_reaper *reaper;
	/* Orders changes of records: each is decided and written under it. Never held across mounts, builds, removal of
	 * trees, or the wait for the disk (kv_sync): that those who come together have together. Who sees a change before
	 * it is on disk and makes another one of it comes behind it in the log. */
	pthread_mutex_t lock;
	struct map making; /* lock: records whose directories are being made, by their keys in the table */
	pthread_cond_t made;
};

/* Waits, with the lock held, until nobody is at work on making the snapshot `key`: then it is there as a whole, or not at
 * all. For who takes it away, or makes something else of it. */
void snap_wait_made(struct snap_store *s, struct snap_space sp, const char *key);

/* The chain of committed snapshots from `name` down to the base, nearest first. */
struct snap_chain {
	VEC(uint64_t) plain;        /* directory ids, nearest first */
	VEC(struct digest) indexes; /* of the indexed part, base first */
};
#define SNAP_CHAIN_INIT ((struct snap_chain){VEC_INIT, VEC_INIT})
void snap_chain_fini(struct snap_chain *c);
DEFINE_AUTO_FINI(snap_chain);

/* The record of a parent, which has to be committed (ERR_INVALID); nothing for "". */
int snap_check_parent(struct snap_store *s, struct snap_space sp, const char *parent, struct snap_record *out,
                      struct err *err);

/* `name` "" gives an empty chain. A directory below an index is ERR_DATA_LOSS: nothing makes such a chain. */
int snap_chain_load(struct snap_store *s, struct snap_space sp, const char *name, struct snap_chain *out,
                    struct err *err);

/* The chain that an active snapshot or view is mounted over: that of its parents, of the indexes that its record names if
 * it names any, and the one that it has itself. */
int snap_chain_of(struct snap_store *s, struct snap_space sp, const struct snap_record *r, struct snap_chain *out,
                  struct err *err);

/* The mounts of an active snapshot or view with directory `id` above `chain`. */
int snap_mounts_make(struct snap_store *s, enum snap_kind kind, uint64_t id, const struct snap_chain *chain,
                     struct snap_mounts *out, struct err *err);

/* Makes <root>/snapshots/<id> with fs/ (and work/ when active); fs/ looks like the root directory of the chain. */
int snap_dirs_make(struct snap_store *s, enum snap_kind kind, uint64_t id, const struct snap_chain *chain,
                   struct err *err);

/* An index has become the lowest layer of an active snapshot: while nothing was written, its directory looks like the root
 * of the chain with it. */
int snap_dirs_follow(struct snap_store *s, uint64_t id, const struct snap_chain *chain, struct err *err);

/* Brings records and directories together after a crash. */
int snap_sweep(struct snap_store *s, struct err *err);

struct snap_reaper;
int snap_reaper_new(struct snap_store *s, struct snap_reaper **out, struct err *err);
void snap_reaper_free(struct snap_reaper *r); /* what is left is found by the next sweep */

/* Whether nothing is in the directory of an active snapshot. */
int snap_dir_is_empty(struct snap_store *s, uint64_t id, bool *out, struct err *err);

#define SNAP_LINKS "l" /* <state>/l/<id>: short names of plain layers, see mounts.c */

/* Bytes allocated and inodes below a directory, hard links counted once. */
int snap_disk_usage(int dir_fd, const char *path, int64_t *bytes, int64_t *inodes, struct err *err);

#endif
