#include "snapshotter/collect.h"

#include "snapshotter/internal.h"

/* ---- chains ---- */

struct keys {
	VEC(struct digest) v;
};

/* Index keys of a chain, base first. ERR_NOT_FOUND when some of it is not there. */
static int chain_keys(const struct kv *kv, struct snap_space sp, const char *name, struct keys *out, struct err *err)
{
	AUTO_FREE char *at = xstrdup(name);

	while (*at) {
		AUTO(snap_record) struct snap_record rec = {0};

		TRY(snap_record_load(kv, sp, at, &rec, err));
		if (rec.info.indexed)
			vec_push(&out->v, rec.info.index_key);
		free(at);
		at = STEAL(rec.info.parent);
	}
	for (size_t i = 0, k = out->v.n; i + 1 < k; i++) {
		struct digest swap = out->v.p[i];

		out->v.p[i] = out->v.p[--k];
		out->v.p[k] = swap;
	}
	return 0;
}

/* r: of what has found the keys. */
static int name_of(const struct keys *k, int r, struct digest *out)
{
	if (r < 0)
		return r == -ERR_NOT_FOUND ? 0 : r;
	if (!k->v.n)
		return 0;
	snap_meta_key(k->v.p, (unsigned)k->v.n, out);
	return 1;
}

int snap_chain_meta(const struct kv *kv, struct snap_space sp, const char *name, struct digest *out, struct err *err)
{
	struct keys k = {VEC_INIT};
	int r = name_of(&k, chain_keys(kv, sp, name, &k, err), out);

	vec_fini(&k.v);
	return r;
}

/* As snap_chain_of. */
static int node_meta(const struct kv *kv, struct snap_space sp, const struct snap_record *rec, struct digest *out,
                     struct err *err)
{
	struct keys k = {VEC_INIT};
	int r = 0;

	vec_each(&rec->lower, key)
		vec_push(&k.v, *key);
	if (!rec->lower.n)
		r = chain_keys(kv, sp, rec->info.parent, &k, err);
	if (rec->info.indexed)
		vec_push(&k.v, rec->info.index_key);
	r = name_of(&k, r, out);
	vec_fini(&k.v);
	return r;
}

static int tell(const struct kv *kv, struct snap_space sp, const struct snap_record *rec, snap_node_fn fn, void *arg,
                struct err *err)
{
	struct snap_node n = {.space = sp, .info = &rec->info, .lower = rec->lower.p, .n_lower = rec->lower.n};
	int r = 0;

	if (rec->info.kind != SNAP_COMMITTED)
		r = node_meta(kv, sp, rec, &n.meta, err);
	TRY(r);
	n.has_meta = r > 0;
	return fn(arg, &n, err);
}

/* ---- reading ---- */

struct nodes {
	const struct kv *kv;
	snap_node_fn fn;
	void *arg;
};

static int tell_raw(void *arg, struct str key, struct str value, struct err *err)
{
	AUTO(snap_record) struct snap_record rec = {0};
	const struct nodes *to = arg;
	struct str ns, snapshotter, name;

	if (!snap_key_split(key, &ns, &snapshotter, &name))
		return err_set(err, ERR_DATA_LOSS, "bad snapshot key in the metadata");
	TRY(snap_record_decode(name, value, &rec, err));
	return tell(to->kv, (struct snap_space){ns.p, snapshotter.p}, &rec, to->fn, to->arg, err);
}

int snap_nodes(const struct kv *kv, struct buf *cursor, unsigned max, snap_node_fn fn, void *arg, struct err *err)
{
	return kv_piece(kv, SNAP_KEY_RECORDS, cursor, max, tell_raw, &(struct nodes){kv, fn, arg}, err);
}

int snap_node_read(const struct kv *kv, struct snap_space sp, const char *name, snap_node_fn fn, void *arg,
                   struct err *err)
{
	AUTO(snap_record) struct snap_record rec = {0};
	int r = snap_record_load(kv, sp, name, &rec, err);

	if (r < 0)
		return r == -ERR_NOT_FOUND ? 0 : r;
	return tell(kv, sp, &rec, fn, arg, err);
}

/* ---- removing ---- */

void snap_removal_fini(struct snap_removal *r)
{
	buf_fini(&r->record_key);
	buf_fini(&r->child_key);
}

int snap_removal_make(const struct kv *kv, struct snap_space sp, const char *name, struct snap_removal *out,
                      struct err *err)
{
	AUTO(snap_record) struct snap_record rec = {0};

	*out = (struct snap_removal){BUF_INIT, BUF_INIT, 0};
	TRY(snap_record_load(kv, sp, name, &rec, err));
	snap_key_record(sp, name, &out->record_key);
	if (*rec.info.parent)
		snap_key_child(sp, rec.info.parent, name, &out->child_key);
	out->dir = rec.id;
	return 0;
}

/* ---- what is kept in files ---- */

int snap_images_each(struct snap_store *s,
                     int (*fn)(void *arg, const struct digest *name, int64_t bytes, struct err *err), void *arg,
                     struct err *err)
{
	return snap_meta_each(s->meta, fn, arg, err);
}

bool snap_image_condemn(struct snap_store *s, const struct digest *name)
{
	return snap_meta_condemn(s->meta, name);
}

void snap_image_spare(struct snap_store *s, const struct digest *name)
{
	snap_meta_spare(s->meta, name);
}

void snap_image_drop(struct snap_store *s, const struct digest *name)
{
	snap_meta_drop(s->meta, name);
}
