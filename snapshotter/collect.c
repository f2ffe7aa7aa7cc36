#include "snapshotter/collect.h"

#include "snapshotter/internal.h"

/* ---- chains ---- */

int snap_chain_meta(const struct kv *kv, struct snap_space sp, const char *name, struct digest *out, struct err *err)
{
	VEC(struct digest) keys = VEC_INIT; /* nearest first */
	AUTO_FREE char *at = xstrdup(name);
	int r = 0, found = 0;

	while (*at && r >= 0) {
		AUTO(snap_record) struct snap_record rec = {0};

		r = snap_record_load(kv, sp, at, &rec, err);
		if (r < 0)
			break;
		if (rec.info.indexed)
			vec_push(&keys, rec.info.index_key);
		free(at);
		at = STEAL(rec.info.parent);
	}
	if (r >= 0 && keys.n) {
		for (size_t i = 0, k = keys.n - 1; i < k; i++, k--) {
			struct digest swap = keys.p[i];

			keys.p[i] = keys.p[k];
			keys.p[k] = swap;
		}
		found = 1;
		snap_meta_key(keys.p, (unsigned)keys.n, out);
	}
	vec_fini(&keys);
	return r == -ERR_NOT_FOUND ? 0 : r < 0 ? r : found;
}

static int tell(const struct kv *kv, struct snap_space sp, const struct snap_record *rec, snap_node_fn fn, void *arg,
                struct err *err)
{
	struct snap_node n = {.space = sp, .info = &rec->info};
	int r = 0;

	/* An active one may have an index itself: the lowest of its own layers. */
	if (rec->info.kind != SNAP_COMMITTED)
		r = snap_chain_meta(kv, sp, rec->info.indexed ? rec->info.name : rec->info.parent, &n.meta, err);
	TRY(r);
	n.has_meta = r > 0;
	return fn(arg, &n, err);
}

/* ---- reading ---- */

struct piece {
	VEC(struct buf) keys, values;
	unsigned max;
};

static void piece_fini(struct piece *p)
{
	vec_each(&p->keys, b)
		buf_fini(b);
	vec_each(&p->values, b)
		buf_fini(b);
	vec_fini(&p->keys);
	vec_fini(&p->values);
}
DEFINE_AUTO_FINI(piece);

static int take(void *arg, struct str key, struct str value, struct err *err)
{
	struct piece *p = arg;

	if (p->keys.n == p->max)
		return 1;
	buf_addstr(vec_add(&p->keys), key);
	buf_addstr(vec_add(&p->values), value);
	return 0;
}

static int tell_raw(const struct kv *kv, struct str key, struct str value, snap_node_fn fn, void *arg, struct err *err)
{
	AUTO(snap_record) struct snap_record rec = {0};
	struct str ns, snapshotter, name;

	if (!snap_key_split(key, &ns, &snapshotter, &name))
		return err_set(err, ERR_DATA_LOSS, "bad snapshot key in the metadata");
	TRY(snap_record_decode(name, value, &rec, err));
	return tell(kv, (struct snap_space){ns.p, snapshotter.p}, &rec, fn, arg, err);
}

int snap_nodes(const struct kv *kv, struct buf *cursor, unsigned max, snap_node_fn fn, void *arg, struct err *err)
{
	AUTO(piece) struct piece p = {.max = max};

	TRY(kv_scan_after(kv, SNAP_KEY_RECORDS, buf_str(cursor), take, &p, err));
	for (size_t i = 0; i < p.keys.n; i++)
		TRY(tell_raw(kv, buf_str(&p.keys.p[i]), buf_str(&p.values.p[i]), fn, arg, err));
	if (p.keys.n) {
		buf_clear(cursor);
		buf_addstr(cursor, buf_str(vec_last(&p.keys)));
	}
	return p.keys.n < max;
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
