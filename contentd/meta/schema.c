#include "contentd/meta/schema.h"

#include "base/log.h"

#include <stdio.h>

/* Version 1 is the first one; nothing leads to it. */
static const cd_schema_step *const STEPS = NULL;
#define N_STEPS 0

static struct cd_schema_op *add(struct cd_schema_ops *ops, struct str key)
{
	struct cd_schema_op *op = vec_add(&ops->ops);

	op->key_at = ops->bytes.n;
	op->key_bytes = key.n;
	buf_addstr(&ops->bytes, key);
	return op;
}

void cd_schema_put(struct cd_schema_ops *ops, struct str key, struct str value)
{
	struct cd_schema_op *op = add(ops, key);

	op->value_at = ops->bytes.n;
	op->value_bytes = value.n;
	buf_addstr(&ops->bytes, value);
}

void cd_schema_remove(struct cd_schema_ops *ops, struct str key)
{
	add(ops, key)->remove = true;
}

/* Everything, and the version that it makes. */
static int write_all(const struct kv *kv, struct cd_schema_ops *ops, unsigned version, struct err *err)
{
	AUTO_FREE struct kv_op *list = NULL;
	char text[24];

	snprintf(text, sizeof(text), "%u", version);
	cd_schema_put(ops, CD_SCHEMA_KEY, str_of(text));
	list = xcalloc(ops->ops.n, sizeof(*list));
	for (size_t i = 0; i < ops->ops.n; i++) {
		const struct cd_schema_op *op = &ops->ops.p[i];

		list[i] = (struct kv_op){str_make(ops->bytes.p + op->key_at, op->key_bytes),
		                         str_make(ops->bytes.p + op->value_at, op->value_bytes), op->remove};
	}
	return kv_write(kv, list, (unsigned)ops->ops.n, true, err);
}

static int run_step(const struct kv *kv, cd_schema_step step, unsigned version, struct err *err)
{
	struct cd_schema_ops ops = {.bytes = BUF_INIT};
	int r = step ? step(kv, &ops, err) : 0;

	if (r >= 0)
		r = write_all(kv, &ops, version, err);
	vec_fini(&ops.ops);
	buf_fini(&ops.bytes);
	return r < 0 ? err_wrap(err, "bring the metadata to version %u", version) : 0;
}

int cd_schema_upgrade(const struct kv *kv, const cd_schema_step *steps, unsigned n, struct err *err)
{
	AUTO(buf) struct buf value = BUF_INIT;
	uint64_t version;
	int r = kv_get(kv, CD_SCHEMA_KEY, &value, err);

	if (r == -ERR_NOT_FOUND)
		return run_step(kv, NULL, n + 1, err);
	TRY(r);
	if (!str_u64(buf_str(&value), 10, &version) || !version)
		return err_set(err, ERR_DATA_LOSS, "the database has no readable schema version");
	if (version > n + 1)
		return err_set(
		    err, ERR_PRECONDITION,
		    "the database has schema version %llu, this contentd knows only up to %u: a newer contentd wrote "
		    "it; use that one, or another --root",
		    (unsigned long long)version, n + 1);
	for (; version <= n; version++) {
		TRY(run_step(kv, steps[version - 1], (unsigned)version + 1, err));
		log_info("the metadata has schema version %llu now", (unsigned long long)version + 1);
	}
	return 0;
}

int cd_schema_check(const struct kv *kv, struct err *err)
{
	return cd_schema_upgrade(kv, STEPS, N_STEPS, err);
}
