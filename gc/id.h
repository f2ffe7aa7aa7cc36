/* Names of what is collected. Values; texts are borrowed. Any thread. */
#ifndef GC_ID_H
#define GC_ID_H

#include "base/err.h"
#include "base/str.h"

/* The first block has containerd's names and lives in namespaces; the second is ours, shared by all (ns is empty). */
#define GC_KINDS(X)                                                                                                    \
	X(CONTENT, "content")                                                                                          \
	X(SNAPSHOT, "snapshot")                                                                                        \
	X(CONTAINER, "container")                                                                                      \
	X(IMAGE, "image")                                                                                              \
	X(LEASE, "lease")                                                                                              \
	X(INGEST, "ingest")                                                                                            \
	X(SANDBOX, "sandbox")                                                                                          \
	X(STREAM, "stream")                                                                                            \
	X(MOUNT, "mount")                                                                                              \
	X(BLOB, "blob")                                                                                                \
	X(INDEX, "index")                                                                                              \
	X(OBJECT, "object")                                                                                            \
	X(PARTIAL, "partial")                                                                                          \
	X(METADATA, "metadata")                                                                                        \
	X(PROFILE, "profile")

enum gc_kind {
#define X(name, text) GC_##name,
	GC_KINDS(X)
#undef X
	    GC_KINDS_N,
};

struct gc_id {
	enum gc_kind kind;
	struct str ns;
	struct str space; /* the snapshotter of a snapshot; else empty */
	struct str key;   /* digest, snapshot key, image name, lease id, ref, ... */
};

const char *gc_kind_name(enum gc_kind kind);
bool gc_id_eq(const struct gc_id *a, const struct gc_id *b);

/*
 * The id of a lease's resource, as containerd's API spells its type: "content" (its id a digest), "ingests", "images",
 * "snapshots/<snapshotter>". ERR_INVALID for a malformed one, ERR_UNIMPLEMENTED for any other type. `out` borrows all
 * three.
 */
int gc_id_of_resource(struct str ns, struct str type, struct str id, struct gc_id *out, struct err *err);

#endif
