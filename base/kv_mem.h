/* A key-value table in memory, for tests and for tools: kv.h over one sorted array. Any thread. */
#ifndef BASE_KV_MEM_H
#define BASE_KV_MEM_H

#include "base/cleanup.h"
#include "base/kv.h"

struct kv_mem;
struct kv_mem *kv_mem_new(void);
void kv_mem_free(struct kv_mem *m);
DEFINE_AUTO_FREE(kv_mem);

/* The table's functions; valid as long as `m`. */
const struct kv *kv_mem_kv(struct kv_mem *m);

/* Makes the write after `n_writes` more and all later ones fail with `code`, as a full or broken disk would;
 * ERR_OK takes it back. */
void kv_mem_fail_after(struct kv_mem *m, unsigned n_writes, enum err_code code);

/* Writes that nothing has synced yet, if kv_mem_remember was called before them; and what a crash does: all but the first
 * `keep` of them are undone. */
void kv_mem_remember(struct kv_mem *m);
unsigned kv_mem_unsynced(struct kv_mem *m);
void kv_mem_crash(struct kv_mem *m, unsigned keep);

#endif
