#include "contentd/collect/refs.h"

#include "base/map.h"
#include "contentd/kvs.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/images.pb-c.h"

#define REF_CONTENT "containerd.io/gc.ref.content"
#define REF_SNAPSHOT "containerd.io/gc.ref.snapshot."
#define WALK_MAX 100000 /* records on the way from one image: labels are the client's */

/* ---- one image ---- */

/* Records that were found and not yet looked into, breadth first. */
struct walk {
	struct cd_daemon *d;
	const struct cd_refs *refs;
	const char *image, *ns;
	VEC(const char *) queue; /* digests, in the arena */
	struct map seen;
	struct arena arena;
};

static int visit(struct walk *w, const char *digest, struct err *err)
{
	if (w->queue.n >= WALK_MAX || map_has(&w->seen, str_of(digest)))
		return 0;
	map_put(&w->seen, str_of(digest), NULL);
	vec_push(&w->queue, digest);
	return w->refs->content ? w->refs->content(w->refs->arg, w->image, w->ns, digest, err) : 0;
}

/* "overlayfs" of "containerd.io/gc.ref.snapshot.overlayfs", which may have more behind a slash. */
static const char *snapshotter_of(struct arena *a, struct str key)
{
	struct str name;

	return str_skip(&key, STR(REF_SNAPSHOT)) && str_split(&key, '/', &name) ? arena_str(a, name) : NULL;
}

/* "containerd.io/gc.ref.content", or that and a dot or slash and anything. */
static bool is_content_ref(struct str key)
{
	return str_skip(&key, STR(REF_CONTENT)) && (!key.n || key.p[0] == '.' || key.p[0] == '/');
}

static int follow(struct walk *w, const Kv__Entry *label, struct err *err)
{
	const char *snapshotter = snapshotter_of(&w->arena, str_of(label->key));

	if (snapshotter && w->refs->chain)
		return w->refs->chain(w->refs->arg, w->image, (struct snap_space){w->ns, snapshotter}, label->value,
		                      err);
	return is_content_ref(str_of(label->key)) ? visit(w, label->value, err) : 0;
}

static int walk(struct walk *w, const char *target, struct err *err)
{
	TRY(visit(w, target, err));
	for (size_t at = 0; at < w->queue.n; at++) {
		Records__Content *record;
		int r = cd_meta_get(w->d->meta, CD_CONTENT, w->ns, str_of(w->queue.p[at]), &w->arena, &record, err);

		if (r == -ERR_NOT_FOUND)
			continue; /* not every reference has to exist */
		TRY(r);
		for (size_t i = 0; record->info && i < record->info->n_labels; i++)
			TRY(follow(w, record->info->labels[i], err));
	}
	return 0;
}

int cd_refs_of(struct cd_daemon *d, const char *image, const char *ns, const char *target, const struct cd_refs *refs,
               struct err *err)
{
	struct walk w = {.d = d, .refs = refs, .image = image, .ns = ns};
	int r;

	arena_init(&w.arena, SIZE_MAX);
	r = walk(&w, target, err);
	vec_fini(&w.queue);
	map_fini(&w.seen);
	arena_fini(&w.arena);
	return r;
}

/* ---- all images ---- */

struct image {
	char *ns, *label, *target;
};

struct images {
	VEC(struct image) v;
};

static void images_fini(struct images *l)
{
	vec_each(&l->v, i) {
		free(i->ns);
		free(i->label);
		free(i->target);
	}
	vec_fini(&l->v);
}
DEFINE_AUTO_FINI(images);

static int note_image(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	const Images__Image *i = record;
	struct images *l = arg;

	if (i->target)
		vec_push(&l->v,
		         (struct image){xstrdup(ns), xasprintf("%s/%s", ns, i->name), xstrdup(i->target->digest)});
	return 0;
}

int cd_refs_of_images(struct cd_daemon *d, const struct cd_refs *refs, struct err *err)
{
	AUTO(images) struct images images = {0};
	struct arena a;
	int r;

	arena_init(&a, SIZE_MAX);
	r = cd_meta_scan(d->meta, CD_IMAGE, NULL, STR_NONE, &a, note_image, &images, err);
	arena_fini(&a);
	for (size_t i = 0; i < images.v.n && r >= 0; i++)
		r = cd_refs_of(d, images.v.p[i].label, images.v.p[i].ns, images.v.p[i].target, refs, err);
	return r < 0 ? r : 0;
}
