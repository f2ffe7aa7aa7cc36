/*
 * Hash map from a byte-string key (copied) or a 64-bit key to a pointer-sized value. Open addressing, one array; no
 * per-entry allocation except the copied keys. Not thread-safe: the owner guards it. Iteration order is unspecified.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/cleanup.h"
#include "base/str.h"

struct map_slot {
	uint64_t hash;
	char *key; /* owned copy; NULL = free, or deleted */
	size_t key_n;
	void *value;
};

struct map {
	struct map_slot *slots;
	size_t cap;  /* power of two, or 0 */
	size_t n;    /* live entries */
	size_t used; /* live and deleted */
};

#define MAP_INIT ((struct map){NULL, 0, 0, 0})

/* Frees keys and table, not the values. */
void map_fini(struct map *m);

/* The value, or NULL when absent (values stored as NULL cannot be told apart: use map_has). */
void *map_get(const struct map *m, struct str key);
bool map_has(const struct map *m, struct str key);

/* Stores; returns the old value or NULL. */
void *map_put(struct map *m, struct str key, void *value);

/* Removes; returns the value or NULL. */
void *map_del(struct map *m, struct str key);

/* Iterates: start with *at = 0; false at the end. Deleting the entry just returned is allowed, putting is not. */
bool map_next(const struct map *m, size_t *at, struct str *key, void **value);

/* Fixed binary keys. */
static inline struct str map_key_u64(const uint64_t *k)
{
	return (struct str){(const char *)k, sizeof(*k)};
}

DEFINE_AUTO_FINI(map);

#endif
