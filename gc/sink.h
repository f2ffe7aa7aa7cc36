/*
 * From what the owner reports to nodes, edges and roots: the rules of each kind. Inside gc/ only. Reports build the graph,
 * or, when `name` is set, only tell which names its nodes have.
 */
#ifndef GC_SINK_H
#define GC_SINK_H

#include "gc/nodes.h"

struct gc_sink {
	struct gc_nodes *g;
	struct timespec now;
	/* A record; called before its edges come. May be NULL. */
	void (*node)(void *arg, uint32_t node);
	/* An edge leads from a reached node to `node`: that gets these marks. May be NULL. */
	void (*shade)(void *arg, uint32_t node, uint8_t marks);
	/* Set: nothing is added to the graph; called for each record that it knows, and on demand for what records
	 * refer to. */
	void (*name)(void *arg, uint32_t node, const struct gc_id *id);
	bool name_targets;
	void *arg;
	struct timespec next_expiry; /* the first one after `now` that was reported */

	uint64_t work, enough; /* records and references reported so far, and asked for */
	int failed;            /* what a sink function could not return; with err */
	struct err err;

	struct gc_id id; /* the record being reported */
	uint32_t at;     /* its node; GC_NIL: none, or names only */
	enum gc_root root;
	bool flat, expired, expires;
};

#define GC_NEVER ((struct timespec){.tv_sec = INT64_MAX})

void gc_sink_init(struct gc_sink *s, struct gc_nodes *g, struct timespec now);

/* Ends the report of the last record; the error that came up since, if any. */
int gc_sink_end(struct gc_sink *s, struct err *err);

/* The marks that an edge carries on: 0 where it is not followed. */
static inline uint8_t gc_marks_along(uint8_t from_flags, enum gc_how how)
{
	if (how == GC_FLAT)
		return from_flags & GC_REACHED;
	if (how == GC_OWN)
		return from_flags & (GC_REACHED | GC_FULL);
	return from_flags & GC_FULL ? GC_REACHED | GC_FULL : 0;
}

#endif
