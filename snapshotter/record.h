/*
 * What the key-value table holds about a snapshot, and under which keys.
 *	snap/<ns>\0<snapshotter>\0<name>                 one record, JSON
 *	snapchild/<ns>\0<snapshotter>\0<parent>\0<name>  marks a child, empty
 *	snapid                                           last directory id given out, decimal
 * Changes are not on disk when the functions return (kv_sync), but a crash leaves them in order.
 * Internal to snapshotter/, but for a check of the table (contentd/fsck); no state, any thread.
 */
#ifndef SNAPSHOTTER_RECORD_H
#define SNAPSHOTTER_RECORD_H

#include "snapshotter/snapshotter.h"

#define SNAP_TRASH ".rm-" /* <root>/snapshots/.rm-<id>: to be removed; the next start goes on with it */

struct snap_record {
	struct snap_info info; /* info.name set */
	uint64_t id;           /* directory <root>/snapshots/<id>; 0: it has none */
	int64_t bytes, inodes; /* committed: what usage answers; active: the part of that which its index has */
	/* Of active ones and views: the index keys of the chain as it was when this was made, base first. Its mounts stay
	 * made of them when a layer of the chain gets another index (snap_replace_indexed), so they are kept as long as it
	 * is there. Empty: the chain has none, or the record is of version 1. */
	VEC(struct digest) lower;
};
void snap_record_fini(struct snap_record *r);
DEFINE_AUTO_FINI(snap_record);

void snap_key_record(struct snap_space sp, const char *name, struct buf *out);
void snap_key_children(struct snap_space sp, const char *parent, struct buf *out);
void snap_key_child(struct snap_space sp, const char *parent, const char *name, struct buf *out);
#define SNAP_KEY_ID STR("snapid")
#define SNAP_KEY_RECORDS STR("snap/")

/* Takes a record's key apart; the views point into `key`. false: not such a key. */
bool snap_key_split(struct str key, struct str *ns, struct str *snapshotter, struct str *name);

void snap_record_encode(const struct snap_record *r, struct buf *out);
int snap_record_decode(struct str name, struct str value, struct snap_record *out, struct err *err);

/* ERR_NOT_FOUND naming the snapshot. */
int snap_record_load(const struct kv *kv, struct snap_space sp, const char *name, struct snap_record *out,
                     struct err *err);

bool snap_record_exists(const struct kv *kv, struct snap_space sp, const char *name);
int snap_record_has_children(const struct kv *kv, struct snap_space sp, const char *name, bool *out, struct err *err);

/* Stores a record and its mark below the parent; `old` (may be NULL) is a key that ceases in the same step. */
int snap_record_put(const struct kv *kv, struct snap_space sp, const struct snap_record *r, const char *old,
                    struct err *err);
/* The same for one that gets a directory: sets its id, which no directory has had. */
int snap_record_create(const struct kv *kv, struct snap_space sp, struct snap_record *r, struct err *err);
int snap_record_delete(const struct kv *kv, struct snap_space sp, const struct snap_record *r, struct err *err);

/* It was made now. */
void snap_record_stamp(struct snap_record *r);

#endif
