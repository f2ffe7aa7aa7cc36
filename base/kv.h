/*
 * The ordered key-value table that keeps contentd's metadata, as a table of functions: RocksDB in the daemon, a map in
 * tests. Keys and values are bytes; order is bytewise. Any thread.
 */
#ifndef BASE_KV_H
#define BASE_KV_H

#include "base/buf.h"
#include "base/err.h"

struct kv_op {
	struct str key, value;
	bool remove; /* value ignored */
};

struct kv {
	/* Appends the value to `value`; ERR_NOT_FOUND. */
	int (*get)(void *arg, struct str key, struct buf *value, struct err *err);

	/* Calls fn for all pairs whose key starts with prefix and comes after `after` (empty: all of them), in order,
	 * over one consistent view; a negative return of fn ends the scan with that code, a positive one ends it with
	 * 0. fn must not call back into the table. */
	int (*scan)(void *arg, struct str prefix, struct str after,
	            int (*fn)(void *fn_arg, struct str key, struct str value, struct err *err), void *fn_arg,
	            struct err *err);

	/* All or nothing, and in order: what a crash leaves is all writes up to some one. With `sync` it is on disk, with
	 * all that others wrote before, when the call returns; they may see it earlier. n_ops 0: only that. */
	int (*write)(void *arg, const struct kv_op *ops, unsigned n_ops, bool sync, struct err *err);

	void *arg;
};

static inline int kv_get(const struct kv *kv, struct str key, struct buf *value, struct err *err)
{
	return kv->get(kv->arg, key, value, err);
}

static inline int kv_write(const struct kv *kv, const struct kv_op *ops, unsigned n_ops, bool sync, struct err *err)
{
	return kv->write(kv->arg, ops, n_ops, sync, err);
}

/* What was written before the call is on disk. Concurrent calls share the work. */
static inline int kv_sync(const struct kv *kv, struct err *err)
{
	return kv->write(kv->arg, NULL, 0, true, err);
}

static inline int kv_scan(const struct kv *kv, struct str prefix,
                          int (*fn)(void *fn_arg, struct str key, struct str value, struct err *err), void *fn_arg,
                          struct err *err)
{
	return kv->scan(kv->arg, prefix, STR_NONE, fn, fn_arg, err);
}

/* The same from the key behind `after` on. */
static inline int kv_scan_after(const struct kv *kv, struct str prefix, struct str after,
                                int (*fn)(void *fn_arg, struct str key, struct str value, struct err *err),
                                void *fn_arg, struct err *err)
{
	return kv->scan(kv->arg, prefix, after, fn, fn_arg, err);
}

/* How a long scan is done in pieces, each with a view of its own: at most `max` pairs behind *cursor (empty at first),
 * which is moved once fn has seen them all. 1 when there are no more. A negative return of fn ends the piece with that
 * code. fn may call back into the table. */
int kv_piece(const struct kv *kv, struct str prefix, struct buf *cursor, unsigned max,
             int (*fn)(void *fn_arg, struct str key, struct str value, struct err *err), void *fn_arg, struct err *err);

#endif
