/*
 * Labels and field masks over API messages. Labels are lists of Kv__Entry there (rpc/pb.h); these functions keep them
 * as containerd does: sorted by key, one entry a key, none with an empty value. What is added lives in the arena;
 * entries are otherwise borrowed. Any thread.
 */
#ifndef CONTENTD_KVS_H
#define CONTENTD_KVS_H

#include "base/label.h"
#include "rpc/pb.h"

/* A list in a message: &image->labels, &image->n_labels. */
#define KVS(message, field) &(message)->field, &(message)->n_##field

/* Brings a list that came from a client into order; `max_pair_bytes` bounds key and value of one entry together
 * (0: unbounded). ERR_INVALID. */
int cd_kvs_clean(struct arena *a, Kv__Entry ***list, size_t *n, size_t max_pair_bytes, struct err *err);

/* Sets one entry, or removes it when value is NULL or empty. */
void cd_kvs_set(struct arena *a, Kv__Entry ***list, size_t *n, const char *key, const char *value);

/* Copies from and to the labels of base/label.h. */
void cd_kvs_from_labels(struct arena *a, const struct labels *l, Kv__Entry ***list, size_t *n);
int cd_kvs_to_labels(Kv__Entry *const *list, size_t n, struct labels *out, struct err *err);

/* A path of a field mask: "labels", or "labels.some.key/with.dots" (everything after the first dot is the key). */
struct cd_mask_path {
	struct str field;
	const char *key; /* NULL when there is no dot */
};
struct cd_mask_path cd_mask_path(const char *path);

/* Applies one path to a list: key NULL replaces the whole, else sets or removes that entry, as `from` has it. Both lists
 * are clean. */
void cd_kvs_apply(struct arena *a, const char *key, Kv__Entry *const *from, size_t n_from, Kv__Entry ***list,
                  size_t *n);

/* The same for a map to Any (extensions): key NULL replaces the whole, else replaces, adds or removes that entry. */
void cd_kvs_apply_any(struct arena *a, const char *key, Kv__AnyEntry *const *from, size_t n_from, Kv__AnyEntry ***list,
                      size_t *n);

/* Filter access: the entry whose key is the pieces joined by dots. */
bool cd_kvs_field(Kv__Entry *const *list, size_t n, const struct str *path, size_t n_path, struct str *value);

#endif
