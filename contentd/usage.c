#include "contentd/usage.h"

#include "base/file.h"
#include "base/map.h"
#include "contentd/containers.h"
#include "contentd/refs.h"
#include "estargz/index.h"
#include "rpc/proto/contentd_records.pb-c.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define NAMES_MAX 1000 /* of unreferenced things, a category */
#define INDEX_BYTES_MAX (1u << 30)

enum category { BLOBS, INGESTS, OBJECTS, PARTIAL, INDEX, META, SNAPSHOTS, CATEGORIES };

static const char *const NAMES[CATEGORIES] = {"blobs", "ingests", "objects", "partial", "index", "meta", "snapshots"};

/* A set of digests: filled, then sorted once, then asked. */
struct digests {
	VEC(struct digest) v;
};

struct usage {
	struct cd_daemon *d;
	struct snap_store *snaps;
	struct arena *arena;
	Node__Category *categories[CATEGORIES];
	struct map content;     /* digests that are referenced */
	struct map snapshots;   /* "<namespace>/<snapshotter>/<name>" that are referenced */
	struct digests indexes; /* keys that referenced snapshots have */
	struct digests metas;   /* names of the metadata images of referenced chains */
	struct digests objects; /* names that those indexes have */
};

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct digest));
}

static void digests_sort(struct digests *s)
{
	if (s->v.n)
		qsort(s->v.p, s->v.n, sizeof(struct digest), compare);
}

static bool digests_has(const struct digests *s, const struct digest *d)
{
	return s->v.n && bsearch(d, s->v.p, s->v.n, sizeof(*d), compare);
}

/* ---- what is referenced ---- */

static const char *snapshot_name(struct usage *u, struct snap_space space, const char *name)
{
	return arena_printf(u->arena, "%s/%s/%s", space.ns, space.snapshotter, name);
}

static int mark_content(void *arg, const char *image, const char *ns, const char *digest, struct err *err)
{
	struct usage *u = arg;

	map_put(&u->content, str_of(digest), NULL);
	return 0;
}

static void mark_meta(struct usage *u, struct snap_space space, const char *chain)
{
	AUTO_FREE struct digest *keys = NULL;
	struct digest name;
	unsigned n = 0;

	if (snap_chain_indexes(u->snaps, space, chain, &keys, &n, NULL) < 0 || !n)
		return;
	snap_meta_key(keys, n, &name);
	vec_push(&u->metas.v, name);
}

/* The snapshot and all below it. What does not exist is not worth an error. */
static int mark_chain(void *arg, const char *image, struct snap_space space, const char *chain, struct err *err)
{
	AUTO_FREE char *name = xstrdup(chain);
	struct usage *u = arg;

	mark_meta(u, space, chain);
	while (*name && !map_has(&u->snapshots, str_of(snapshot_name(u, space, name)))) {
		AUTO(snap_info) struct snap_info info = {0};

		map_put(&u->snapshots, str_of(snapshot_name(u, space, name)), NULL);
		if (snap_stat(u->snaps, space, name, &info, NULL) < 0)
			return 0;
		if (info.indexed)
			vec_push(&u->indexes.v, info.index_key);
		free(name);
		name = xstrdup(info.parent);
	}
	return 0;
}

struct root {
	const char *ns, *type, *id; /* type as in leases */
};

struct roots {
	struct arena *arena;
	VEC(struct root) v;
};

static int note_container(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	const Containers__Container *c = record;
	struct roots *r = arg;

	if (*c->snapshot_key)
		vec_push(&r->v, (struct root){arena_strdup(r->arena, ns),
		                              arena_printf(r->arena, "snapshots/%s", c->snapshotter), c->snapshot_key});
	return 0;
}

static int note_resource(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	const Records__Resource *from = record;
	struct roots *r = arg;

	vec_push(&r->v, (struct root){arena_strdup(r->arena, ns), from->type, from->id});
	return 0;
}

static int mark_root(struct usage *u, const struct root *root, const struct cd_refs *refs, struct err *err)
{
	struct str type = str_of(root->type);

	if (str_eqc(type, "content"))
		return cd_refs_of(u->d, "", root->ns, root->id, refs, err);
	if (str_skip(&type, STR("snapshots/")))
		return mark_chain(u, "", (struct snap_space){root->ns, type.p}, root->id, err);
	return 0;
}

static int mark_objects(struct usage *u, const struct digest *key, struct err *err)
{
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(buf) struct buf bytes = BUF_INIT;
	struct esgz_entry e;
	char hex[65];
	AUTO_FREE char *path = xasprintf("%s/index/%s", u->d->config.root, digest_hex(key, hex));

	if (file_read(AT_FDCWD, path, INDEX_BYTES_MAX, &bytes, NULL) < 0)
		return 0; /* contentfs makes it anew when it is asked for */
	TRY_WRAP(esgz_index_open(buf_str(&bytes), &ix, err), err, "layer index %s", hex);
	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_entries; i++) {
		esgz_index_entry(ix, i, &e);
		if (e.type != ESGZ_REG || !e.size)
			continue;
		vec_push(&u->objects.v, e.content);
		if (!digest_eq(&e.content, &e.claim))
			vec_push(&u->objects.v, e.claim);
	}
	return 0;
}

struct names {
	struct arena *arena;
	VEC(const char *) v;
};

static int note_name(void *arg, const struct snap_info *i, struct err *err)
{
	struct names *n = arg;

	vec_push(&n->v, arena_strdup(n->arena, i->name));
	return 0;
}

/* What a containerd in front has: it alone knows what for. */
static int mark_proxied(struct usage *u, const char *snapshotter, struct err *err)
{
	struct snap_space space = {"", snapshotter};
	struct names names = {.arena = u->arena};
	int r = snap_list(u->snaps, space, note_name, &names, err);

	for (size_t i = 0; i < names.v.n && r >= 0; i++)
		r = mark_chain(u, "", space, names.v.p[i], err);
	vec_fini(&names.v);
	return r;
}

static int mark(struct usage *u, struct err *err)
{
	struct cd_refs refs = {mark_content, mark_chain, u};
	struct roots roots = {.arena = u->arena};
	int r;

	TRY(cd_refs_of_images(u->d, &refs, err));
	vec_each(&u->d->config.snapshotter_proxy_names, name)
		TRY(mark_proxied(u, *name, err));
	r = cd_meta_scan(u->d->meta, CD_CONTAINER, NULL, STR_NONE, u->arena, note_container, &roots, err);
	if (r >= 0)
		r = cd_meta_scan(u->d->meta, CD_RESOURCE, NULL, STR_NONE, u->arena, note_resource, &roots, err);
	for (size_t i = 0; i < roots.v.n && r >= 0; i++)
		r = mark_root(u, &roots.v.p[i], &refs, err);
	vec_fini(&roots.v);
	TRY(r);
	digests_sort(&u->indexes);
	digests_sort(&u->metas);
	for (size_t i = 0; i < u->indexes.v.n; i++)
		if (!i || !digest_eq(&u->indexes.v.p[i - 1], &u->indexes.v.p[i]))
			TRY(mark_objects(u, &u->indexes.v.p[i], err));
	digests_sort(&u->objects);
	return 0;
}

/* ---- what is there ---- */

static void count(struct usage *u, enum category which, const char *name, int64_t bytes, bool referenced)
{
	Node__Category *c = u->categories[which];

	c->count++;
	c->bytes += (uint64_t)bytes;
	if (referenced)
		return;
	c->unreferenced_count++;
	c->unreferenced_bytes += (uint64_t)bytes;
	if (c->n_unreferenced < NAMES_MAX)
		c->unreferenced[c->n_unreferenced++] = arena_strdup(u->arena, name);
}

static int count_blob(void *arg, const struct digest *d, int64_t bytes, struct err *err)
{
	char text[DIGEST_TEXT_MAX];
	struct usage *u = arg;

	digest_text(d, text);
	count(u, BLOBS, text, bytes, map_has(&u->content, str_of(text)));
	return 0;
}

static int count_ingest(void *arg, const struct cd_ingest_status *s, struct err *err)
{
	AUTO_FREE char *name = xasprintf("%s/%s", s->ns, s->ref);
	struct usage *u = arg;

	count(u, INGESTS, name, s->offset, cd_ingest_is_busy(u->d->content, s->ns, s->ref));
	return 0;
}

/* Calls fn for the files of one directory below the root; an absent one has none. */
static void each_file(struct usage *u, const char *dir,
                      void (*fn)(struct usage *u, const char *dir, const char *name, const struct stat *st))
{
	AUTO_FREE char *path = xasprintf("%s/%s", u->d->config.root, dir);
	DIR *stream = opendir(path);
	struct dirent *e;

	if (!stream)
		return;
	while ((e = readdir(stream))) {
		struct stat st;

		if (e->d_name[0] != '.' && fstatat(dirfd(stream), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			fn(u, dir, e->d_name, &st);
	}
	closedir(stream);
}

/* An object published under both of its names is one file with two links: each counts for its share. */
static void count_object(struct usage *u, const char *dir, const char *name, const struct stat *st)
{
	AUTO_FREE char *hex = xasprintf("%s%s", dir + strlen("objects/"), name);
	struct digest d;

	if (S_ISREG(st->st_mode) && digest_from_hex(str_of(hex), &d))
		count(u, OBJECTS, hex, (int64_t)st->st_blocks * 512 / (int64_t)st->st_nlink,
		      digests_has(&u->objects, &d));
}

static void count_objects(struct usage *u, const char *dir, const char *name, const struct stat *st)
{
	AUTO_FREE char *sub = xasprintf("%s/%s", dir, name);

	if (S_ISDIR(st->st_mode))
		each_file(u, sub, count_object);
}

/* "<hex>", or "<hex>.<what>" beside it. */
static bool leading_digest(const char *name, struct digest *out)
{
	return strlen(name) >= 64 && digest_from_hex(str_sub(str_of(name), 0, 64), out);
}

static void count_partial(struct usage *u, const char *dir, const char *name, const struct stat *st)
{
	struct digest d;

	count(u, PARTIAL, name, (int64_t)st->st_blocks * 512, leading_digest(name, &d) && digests_has(&u->objects, &d));
}

static void count_index(struct usage *u, const char *dir, const char *name, const struct stat *st)
{
	struct digest d;

	count(u, INDEX, name, (int64_t)st->st_blocks * 512, leading_digest(name, &d) && digests_has(&u->indexes, &d));
}

static void count_meta(struct usage *u, const char *dir, const char *name, const struct stat *st)
{
	struct digest d;

	count(u, META, name, (int64_t)st->st_blocks * 512, leading_digest(name, &d) && digests_has(&u->metas, &d));
}

struct space_usage {
	struct usage *usage;
	struct snap_space space;
	VEC(const char *) names;
};

static int note_snapshot(void *arg, const struct snap_info *i, struct err *err)
{
	struct space_usage *s = arg;

	if (i->has_dir)
		vec_push(&s->names, arena_strdup(s->usage->arena, i->name));
	return 0;
}

static int count_space(struct usage *u, struct snap_space space, struct err *err)
{
	struct space_usage s = {.usage = u, .space = space};
	int r = snap_list(u->snaps, space, note_snapshot, &s, err);

	for (size_t i = 0; i < s.names.n && r >= 0; i++) {
		const char *name = snapshot_name(u, space, s.names.p[i]);
		int64_t bytes = 0, inodes = 0;

		snap_usage(u->snaps, space, s.names.p[i], &bytes, &inodes, NULL); /* it may just have been removed */
		count(u, SNAPSHOTS, name, bytes, map_has(&u->snapshots, str_of(name)));
	}
	vec_fini(&s.names);
	return r;
}

struct namespaces {
	VEC(char *) v;
};

static void namespaces_fini(struct namespaces *n)
{
	vec_each(&n->v, ns)
		free(*ns);
	vec_fini(&n->v);
}
DEFINE_AUTO_FINI(namespaces);

static int note_namespace(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct namespaces *n = arg;

	vec_push(&n->v, xstrdup(ns));
	return 0;
}

static int count_snapshots(struct usage *u, struct err *err)
{
	AUTO(namespaces) struct namespaces all = {0};

	TRY(cd_meta_scan(u->d->meta, CD_NAMESPACE, NULL, STR_NONE, u->arena, note_namespace, &all, err));
	vec_each(&all.v, ns)
		vec_each(&u->d->config.snapshotter_names, snapshotter)
			TRY(count_space(u, (struct snap_space){*ns, *snapshotter}, err));
	vec_each(&u->d->config.snapshotter_proxy_names, snapshotter)
		TRY(count_space(u, (struct snap_space){"", *snapshotter}, err));
	return 0;
}

static int measure(struct usage *u, struct err *err)
{
	TRY(mark(u, err));
	TRY(cd_blob_each(u->d->content, count_blob, u, err));
	TRY(cd_ingest_each(u->d->content, NULL, count_ingest, u, err));
	each_file(u, "objects", count_objects);
	each_file(u, "partial", count_partial);
	each_file(u, "index", count_index);
	each_file(u, "meta", count_meta);
	return count_snapshots(u, err);
}

int cd_usage(struct cd_daemon *d, struct arena *a, Node__DiskUsageResponse *out, struct err *err)
{
	struct usage u = {.d = d, .arena = a};
	int r;

	TRY(cd_snapshots(d, NULL, &u.snaps, err));
	for (size_t i = 0; i < CATEGORIES; i++) {
		u.categories[i] = pb_new(a, &node__category__descriptor);
		u.categories[i]->name = NAMES[i];
		u.categories[i]->unreferenced = arena_alloc(a, NAMES_MAX * sizeof(char *));
	}
	r = measure(&u, err);
	map_fini(&u.content);
	map_fini(&u.snapshots);
	vec_fini(&u.indexes.v);
	vec_fini(&u.metas.v);
	vec_fini(&u.objects.v);
	out->categories = arena_alloc(a, sizeof(u.categories));
	memcpy(out->categories, u.categories, sizeof(u.categories));
	out->n_categories = CATEGORIES;
	return r;
}
