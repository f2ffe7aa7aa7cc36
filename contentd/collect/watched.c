#include "contentd/collect/watched.h"

#include "contentd/collect/uses.h"
#include "snapshotter/record.h"

static int watched_get(void *arg, struct str key, struct buf *value, struct err *err)
{
	return kv_get(cd_meta_kv(arg), key, value, err);
}

static int watched_scan(void *arg, struct str prefix, struct str after,
                        int (*fn)(void *fn_arg, struct str key, struct str value, struct err *err), void *fn_arg,
                        struct err *err)
{
	return kv_scan_after(cd_meta_kv(arg), prefix, after, fn, fn_arg, err);
}

/* The snapshot that a key is the record of. */
static bool snapshot_of(struct str key, struct gc_id *id)
{
	id->kind = GC_SNAPSHOT;
	return snap_key_split(key, &id->ns, &id->space, &id->key);
}

/* What the record will refer to. A record that cannot be read refers to nothing. */
static void use_refs(struct cd_use *use, const struct gc_id *id, struct str value)
{
	AUTO(snap_record) struct snap_record r = {0};
	char hex[65];

	if (snap_record_decode(id->key, value, &r, NULL) < 0)
		return;
	if (*r.info.parent)
		cd_use_add(use, &(struct gc_id){GC_SNAPSHOT, id->ns, id->space, str_of(r.info.parent)});
	if (r.info.indexed)
		cd_use_add(use, &(struct gc_id){.kind = GC_INDEX, .key = str_of(digest_hex(&r.info.index_key, hex))});
	vec_each(&r.lower, key)
		cd_use_add(use, &(struct gc_id){.kind = GC_INDEX, .key = str_of(digest_hex(key, hex))});
}

static int watched_write(void *arg, const struct kv_op *ops, unsigned n_ops, bool sync, struct err *err)
{
	struct cd_written sums = CD_WRITTEN_NONE;
	struct cd_uses *all = cd_meta_uses(arg);
	AUTO(cd_use) struct cd_use use;
	struct gc_id id;

	cd_use_begin(&use, all);
	for (unsigned i = 0; i < n_ops; i++) {
		if (!snapshot_of(ops[i].key, &id))
			continue;
		sums.writes++;
		sums.deletions += ops[i].remove;
		if (ops[i].remove)
			continue;
		cd_use_add(&use, &id);
		use_refs(&use, &id, ops[i].value);
	}
	TRY(kv_write(cd_meta_kv(arg), ops, n_ops, sync, err));
	for (unsigned i = 0; i < n_ops; i++)
		if (!ops[i].remove && snapshot_of(ops[i].key, &id))
			cd_uses_wrote(all, &id);
	/* A commit gives a snapshot another name: nothing is let go of. */
	if (sums.deletions < sums.writes)
		sums.deletions = 0;
	if (sums.writes)
		cd_uses_written(all, &sums);
	return 0;
}

struct kv cd_watched_kv(struct cd_meta *meta)
{
	return (struct kv){watched_get, watched_scan, watched_write, meta};
}
