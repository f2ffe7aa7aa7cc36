/*
 * The key-value table over RocksDB. One file of ours knows its API; one process has a database open at a time.
 * Options are for a small, mostly idle daemon: bounded recovery, little private memory.
 */
#ifndef CONTENTD_META_KV_ROCKS_H
#define CONTENTD_META_KV_ROCKS_H

#include "base/cleanup.h"
#include "base/kv.h"

struct kv_rocks;

/* Opens or makes the database in `dir` (its parent exists). Takes some 10 to 100 ms. ERR_UNAVAILABLE when another
 * process has it open, ERR_DATA_LOSS when it is damaged. */
int kv_rocks_open(const char *dir, struct kv_rocks **out, struct err *err);
/* Makes a database that does not open into one that does, of what its files still have. Nobody has it open. */
int kv_rocks_repair(const char *dir, struct err *err);
void kv_rocks_close(struct kv_rocks *k);

/* There is little to do: the cache gives up what it holds, up to 8 MB, and fills again. Any thread, beside all else. */
void kv_rocks_calm(struct kv_rocks *k);

static inline void kv_rocks_cleanup(struct kv_rocks **k)
{
	kv_rocks_close(*k);
}

/* The table's functions; valid until kv_rocks_close. */
const struct kv *kv_rocks_kv(struct kv_rocks *k);

#endif
