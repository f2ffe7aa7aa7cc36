#include "contentd/collect/refs.h"

#include "base/map.h"
#include "gc/label.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/images.pb-c.h"

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

static int follow(struct walk *w, const Kv__Entry *label, struct err *err)
{
	struct gc_label l = gc_label_parse(GC_CONTENT, str_of(label->key), str_of(label->value));

	if (l.type != GC_LABEL_REF)
		return 0;
	if (l.id.kind == GC_SNAPSHOT && w->refs->chain)
		return w->refs->chain(w->refs->arg, w->image,
		                      (struct snap_space){w->ns, arena_str(&w->arena, l.id.space)}, label->value, err);
	return l.id.kind == GC_CONTENT ? visit(w, label->value, err) : 0;
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
