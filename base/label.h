/*
 * Labels: small ordered sets of key-value pairs as containerd's API carries them. Owned; one owner.
 */
#ifndef BASE_LABEL_H
#define BASE_LABEL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"

#define LABEL_BYTES_MAX 4096 /* key and value of one label together (containerd pkg/labels) */

struct label {
	char *key, *value;
};

struct labels {
	VEC(struct label) v; /* sorted by key, no duplicates, no empty values */
};

#define LABELS_INIT ((struct labels){VEC_INIT})

void labels_fini(struct labels *l);
DEFINE_AUTO_FINI(labels);

/* Sets one label; an empty value removes it. Over LABEL_BYTES_MAX: ERR_INVALID. */
int labels_set(struct labels *l, const char *key, const char *value, struct err *err);
/* The value, or NULL. Borrowed. */
const char *labels_get(const struct labels *l, const char *key);
void labels_copy(const struct labels *from, struct labels *to); /* `to` is replaced */

#endif
