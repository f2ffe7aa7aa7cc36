/*
 * What the records of the metadata are to the collector: their names there, and what they refer to. For the graph
 * (graph.h), and for cd_meta_commit, which tells what it writes. No state; any thread.
 */
#ifndef CONTENTD_COLLECT_RECORDS_H
#define CONTENTD_COLLECT_RECORDS_H

#include "contentd/meta/meta.h"
#include "gc/id.h"

/* Where a record is reported: first itself, then its labels and what it refers to besides. Texts are borrowed. */
struct cd_record_out {
	void (*node)(void *arg, const struct gc_id *id); /* may be NULL */
	void (*label)(void *arg, struct str key, struct str value);
	void (*ref)(void *arg, const struct gc_id *to);
	void *arg;
};

/* False for kinds that are no nodes: namespaces, and resources (their lease is one). */
bool cd_record_id(enum cd_kind kind, struct str ns, struct str name, struct gc_id *id);

/* Reports a record. A resource reports its lease, without labels, and what the lease refers to by it. */
void cd_record_report(enum cd_kind kind, struct str ns, struct str name, const void *record,
                      const struct cd_record_out *out);

/* Takes the name of a resource record apart. */
bool cd_resource_split(struct str name, struct str *lease, struct str *type, struct str *id);

#endif
