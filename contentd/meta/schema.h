/*
 * The version of what the table holds, under the key "schema": written into an empty one, refused when it is newer than
 * what this program knows, and brought up to date step by step when it is older.
 *
 * A step reads the table as version n has it and says what is to be written for version n + 1; that and the new number are
 * one synced batch, so a crash leaves one version or the next and never something in between. A new version is a new
 * entry at the end of STEPS in schema.c, and a test over a table as the version before has left it. Before other users of
 * the table.
 */
#ifndef CONTENTD_META_SCHEMA_H
#define CONTENTD_META_SCHEMA_H

#include "base/kv.h"
#include "base/vec.h"

#define CD_SCHEMA_KEY STR("schema")

/* What a step wants written. */
struct cd_schema_op {
	size_t key_at, key_bytes, value_at, value_bytes; /* in `bytes` */
	bool remove;
};

struct cd_schema_ops {
	VEC(struct cd_schema_op) ops;
	struct buf bytes;
};

void cd_schema_put(struct cd_schema_ops *ops, struct str key, struct str value);
void cd_schema_remove(struct cd_schema_ops *ops, struct str key);

typedef int (*cd_schema_step)(const struct kv *kv, struct cd_schema_ops *ops, struct err *err);

/* Brings the table to the version that this program has. ERR_PRECONDITION: it is newer; ERR_DATA_LOSS: it has no readable
 * version. */
int cd_schema_check(const struct kv *kv, struct err *err);

/* The same with other steps: steps[i] leads from version i + 1 to i + 2, so n of them make version n + 1. */
int cd_schema_upgrade(const struct kv *kv, const cd_schema_step *steps, unsigned n, struct err *err);

#endif
