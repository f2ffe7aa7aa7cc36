/*
 * Metadata: records of namespaces, images, containers, content and leases over a key-value table. A record is a message
 * of the API (or of contentd_records.proto) after a version byte; keys are "<kind><NUL><namespace><NUL><name>".
 *
 * Reading needs no lock. Whoever changes records holds them meanwhile (cd_meta_hold), reads what is there, builds a
 * batch and commits it: all of it or nothing. Commits are on disk when they return. A namespace comes into being with
 * the first record in it. What an object means is its service's affair (contentd/records). Any thread.
 */
#ifndef CONTENTD_META_META_H
#define CONTENTD_META_META_H

#include "base/kv.h"
#include "base/vec.h"
#include "rpc/pb.h"

/* The letters stand in the database, beside the snapshotter's keys (snapshotter/README.md). */
enum cd_kind {
	CD_NAMESPACE = 'n', /* Namespaces__Namespace; name "": exists, with its labels */
	CD_IMAGE = 'i',     /* Images__Image */
	CD_CONTAINER = 'c', /* Containers__Container */
	CD_CONTENT = 'b',   /* Records__Content, by digest */
	CD_LEASE = 'l',     /* Leases__Lease */
	CD_RESOURCE = 'r',  /* Records__Resource, by "<lease><NUL><type><NUL><id>" */
	CD_SANDBOX = 'x',   /* Types__Sandbox */
	CD_SNAPSHOT = 's',  /* the snapshotter has the records: only to be held */
};

struct cd_meta;
struct cd_use;
struct cd_uses;

/* Checks the schema version of the table, and writes it into an empty one. Newer than ours: ERR_PRECONDITION. `kv` is
 * borrowed. */
int cd_meta_new(const struct kv *kv, struct cd_meta **out, struct err *err);
void cd_meta_free(struct cd_meta *m);
DEFINE_AUTO_FREE(cd_meta);

const struct kv *cd_meta_kv(const struct cd_meta *m);

/* ---- reading ---- */

/* *out: T **, in the arena. ERR_NOT_FOUND names kind and name. */
int cd_meta_get(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, struct arena *a, void *out,
                struct err *err);
/* 1 when it is there, 0 when not. */
int cd_meta_has(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, struct err *err);
/* 0 when it is not there; ERR_EXISTS names kind and name. */
int cd_meta_absent(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, struct err *err);

/* Calls fn for each record of a kind in a namespace whose name starts with `prefix`, in order of names. `record` is
 * unpacked into `a`, which the caller clears when he likes. ns NULL: all namespaces. A negative return of fn ends the
 * scan with that code, a positive one ends it with 0. fn must not call cd_meta_. */
typedef int (*cd_meta_fn)(void *arg, const char *ns, struct str name, void *record, struct err *err);
int cd_meta_scan(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str prefix, struct arena *a,
                 cd_meta_fn fn, void *arg, struct err *err);

/* The same in pieces, over all namespaces: at most `max` records after *cursor (empty at first), which is moved. 1 when
 * there are no more. fn may call cd_meta_. */
int cd_meta_piece(struct cd_meta *m, enum cd_kind kind, struct buf *cursor, unsigned max, struct arena *a,
                  cd_meta_fn fn, void *arg, struct err *err);

/* ---- changing ---- */

/* What running work relies on, for the collector: contentd/collect/uses.h. Holding a record uses it, committing uses
 * what is committed and what that refers to. */
struct cd_uses *cd_meta_uses(const struct cd_meta *m);

/* Exclusive right to change some records. A thread has one hold at a time; waits are short (one commit). */
struct cd_hold {
	struct cd_meta *m;
	uint64_t stripes;
	struct cd_use *use; /* of what is held */
};
#define CD_HOLD_NONE ((struct cd_hold){NULL, 0, NULL})

struct cd_hold cd_meta_hold(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name);
/* Of several names of one kind. */
struct cd_hold cd_meta_hold_many(struct cd_meta *m, enum cd_kind kind, const char *ns, const struct str *names,
                                 size_t n);
/* Of everything: nobody else changes any record. */
struct cd_hold cd_meta_hold_all(struct cd_meta *m);
void cd_meta_release(struct cd_hold *h);
DEFINE_CLEANUP(cd_hold, struct cd_hold, cd_meta_release(it));

struct cd_batch_op {
	enum cd_kind kind;
	size_t ns_at, key_at, key_bytes, value_at, value_bytes; /* in `bytes` */
	bool remove;
};

struct cd_batch {
	VEC(struct cd_batch_op) ops;
	struct buf bytes;
};
#define CD_BATCH_INIT ((struct cd_batch){.bytes = BUF_INIT})
void cd_batch_fini(struct cd_batch *b);
DEFINE_AUTO_FINI(cd_batch);

void cd_batch_put(struct cd_batch *b, enum cd_kind kind, const char *ns, struct str name,
                  const ProtobufCMessage *record);
void cd_batch_remove(struct cd_batch *b, enum cd_kind kind, const char *ns, struct str name);

/* Writes, with a namespace record for each namespace that has none yet. Syncs, and tells the collector. */
int cd_meta_commit(struct cd_meta *m, const struct cd_batch *b, struct err *err);

/* A batch of one record, for who holds it. */
int cd_meta_put(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, const ProtobufCMessage *record,
                struct err *err);
/* Holds a record that stands alone, and removes it; ERR_NOT_FOUND names kind and name. */
int cd_meta_remove(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, struct err *err);

/* Committing in two steps, for the collector: applied, in the order of the calls, and on disk after cd_meta_sync. Makes
 * no namespace, tells nobody. `more` are removals of other owners of the table. */
int cd_meta_apply(struct cd_meta *m, const struct cd_batch *b, const struct kv_op *more, unsigned n_more,
                  struct err *err);
int cd_meta_sync(struct cd_meta *m, struct err *err);

/* Makes sure that a namespace exists: for objects that are kept elsewhere (snapshots). Not while holding. */
int cd_meta_touch(struct cd_meta *m, const char *ns, struct err *err);

/* ---- the table itself: for a check of one that nobody uses (contentd/fsck) ---- */

#define CD_RECORD_VERSION 1 /* the byte before a message */

/* Has somebody's record a key that begins so? */
bool cd_meta_is_kind(char letter);

/* Appends the key of a record. */
void cd_meta_key(struct buf *out, enum cd_kind kind, const char *ns, struct str name);

/* Unpacks the value of a record: *out: T **, in the arena. ERR_DATA_LOSS. */
int cd_meta_unpack(enum cd_kind kind, struct str value, struct arena *a, void *out, struct err *err);

#endif
