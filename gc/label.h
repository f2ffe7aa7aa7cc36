/*
 * The labels that steer collection, as containerd's clients write them (docs/garbage-collection.md there). Bytes in,
 * views of them out; any thread.
 *
 *     containerd.io/gc.root                                    content, snapshot: a root, whatever the value
 *     containerd.io/gc.ref.content[.x | /x]    = digest        also image, stream, mount: refers to that, same namespace
 *     containerd.io/gc.ref.snapshot.SNAPSHOTTER[/x] = key
 *     containerd.io/gc.bref.container[.x | /x] = id            also content, image, snapshot.SNAPSHOTTER[/x]: is kept
 *                                                              while that one is
 *     containerd.io/gc.expire                  = RFC 3339      lease, image: no root after it
 *     containerd.io/gc.flat                                    lease: keeps what it lists, not what labels there name
 *
 * A key that goes on with anything but '.' or '/' is none of these.
 */
#ifndef GC_LABEL_H
#define GC_LABEL_H

#include "gc/id.h"

#include <time.h>

enum gc_label_type {
	GC_LABEL_NONE, /* nothing to the collector, in its place: not every label matters on every kind */
	GC_LABEL_ROOT,
	GC_LABEL_REF,
	GC_LABEL_BREF,
	GC_LABEL_EXPIRE,
	GC_LABEL_IS_FLAT,
};

struct gc_label {
	enum gc_label_type type;
	struct gc_id id;    /* REF, BREF: what the value names; ns is empty. Borrows key and value */
	struct timespec at; /* EXPIRE */
};

/* What a label on a node of this kind says. An expiry that is no time, and empty values, say nothing. */
struct gc_label gc_label_parse(enum gc_kind on, struct str key, struct str value);

/* Strictly later: at the very moment itself nothing has expired. */
bool gc_time_after(struct timespec a, struct timespec b);

#endif
