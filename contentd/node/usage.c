#include "contentd/node/usage.h"

#include "base/map.h"
#include "contentd/collect/ask.h"
#include "contentd/collect/store.h"
#include "snapshotter/collect.h"

/* The kinds of things on disk, in the order of the answer. */
static const struct {
	const char *name;
	enum gc_kind kind;
} CATEGORIES[] = {
    {"blobs", GC_BLOB},  {"ingests", GC_INGEST}, {"objects", GC_OBJECT},     {"partial", GC_PARTIAL},
    {"index", GC_INDEX}, {"meta", GC_METADATA},  {"snapshots", GC_SNAPSHOT},
};

struct usage {
	struct cd_daemon *d;
	struct snap_store *snaps;
	struct arena *arena;
	struct map garbage; /* "<kind> <name>" of what a collection would remove */
	struct buf key;     /* scratch */
	Node__Category *category;
};

/* Until the next one. */
static struct str key_of(struct usage *u, const struct gc_id *id)
{
	buf_clear(&u->key);
	buf_addf(&u->key, "%s ", gc_kind_name(id->kind));
	cd_collect_name(id, &u->key);
	return buf_str(&u->key);
}

static void note_garbage(void *arg, const struct gc_id *id)
{
	struct usage *u = arg;

	map_put(&u->garbage, key_of(u, id), NULL);
}

static void count(struct usage *u, const struct gc_id *id, int64_t bytes)
{
	Node__Category *c = u->category;
	struct str key = key_of(u, id);

	c->count++;
	c->bytes += (uint64_t)bytes;
	if (!map_has(&u->garbage, key))
		return;
	c->unreferenced_count++;
	c->unreferenced_bytes += (uint64_t)bytes;
	if (c->n_unreferenced < CD_NAMES_MAX)
		c->unreferenced[c->n_unreferenced++] =
		    arena_str(u->arena, str_sub(key, strlen(gc_kind_name(id->kind)) + 1, SIZE_MAX));
}

static int count_file(void *arg, const struct cd_file *f, struct err *err)
{
	count(arg, &f->id, f->bytes);
	return 0;
}

static int count_snapshot(void *arg, const struct snap_node *n, struct err *err)
{
	const struct gc_id id = {GC_SNAPSHOT, str_of(n->space.ns), str_of(n->space.snapshotter), str_of(n->info->name)};
	struct usage *u = arg;
	int64_t bytes = 0, inodes = 0;

	if (n->info->indexed && n->info->kind == SNAP_COMMITTED)
		return 0;                                                     /* it has no files of its own */
	snap_usage(u->snaps, n->space, n->info->name, &bytes, &inodes, NULL); /* it may just have been removed */
	count(u, &id, bytes);
	return 0;
}

static int count_snapshots(struct usage *u, struct err *err)
{
	AUTO(buf) struct buf cursor = BUF_INIT;
	int r = 0;

	while (!r)
		r = snap_nodes(cd_meta_kv(u->d->meta), &cursor, 1000, count_snapshot, u, err);
	return r;
}

static int measure(struct usage *u, Node__DiskUsageResponse *out, struct err *err)
{
	struct cd_collector_store store = cd_file_store_table(u->d->files);

	TRY(cd_collect_dry(u->d, note_garbage, u, err));
	for (size_t i = 0; i < ARRAY_LEN(CATEGORIES); i++) {
		u->category = pb_new(u->arena, &node__category__descriptor);
		u->category->name = CATEGORIES[i].name;
		u->category->unreferenced = arena_alloc(u->arena, CD_NAMES_MAX * sizeof(char *));
		out->categories[out->n_categories++] = u->category;
		if (CATEGORIES[i].kind == GC_SNAPSHOT)
			TRY(count_snapshots(u, err));
		else
			TRY(store.files.list(store.files.arg, CATEGORIES[i].kind, count_file, u, err));
	}
	return 0;
}

int cd_usage(struct cd_daemon *d, struct arena *a, Node__DiskUsageResponse *out, struct err *err)
{
	struct usage u = {.d = d, .arena = a, .garbage = MAP_INIT, .key = BUF_INIT};
	int r;

	TRY(cd_snapshots(d, NULL, &u.snaps, err));
	out->categories = arena_alloc(a, sizeof(*out->categories) * ARRAY_LEN(CATEGORIES));
	r = measure(&u, out, err);
	map_fini(&u.garbage);
	buf_fini(&u.key);
	return r;
}
