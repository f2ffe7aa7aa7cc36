#include "estargz/convert/order.h"

#include "estargz/convert/convert.h"
#include "estargz/toc/toc.h"

#include "base/map.h"
#include "base/vec.h"

/* More than directories nest (ESGZ_PATH_MAX / 2) plus any chain of hard links that was not made to hurt. */
#define DEPTH_MAX 4096

/* Of all hard links of a layer, any of which may turn out to be one that is listed; half a million and more of usual
 * length. */
#define LINKS_BYTES_MAX (128u << 20)
#define LINK_BYTES 64 /* of one, beside its texts */

/* A path that is wanted, and what the layer has there: of several entries the last, as for every reader. */
struct kept {
	char *path;
	bool found, emitted;
	struct esgz_tar_entry t; /* its texts lie in `texts` */
	VEC(struct esgz_xattr) xattrs;
	struct buf texts;
	struct buf content;
};

struct order {
	VEC(struct kept *) kept;
	struct map by_path; /* clean path -> struct kept */
	size_t n_listed;    /* the first so many of `kept` are the list */
	/* the scan */
	struct map links; /* all hard links: clean path -> char *, their clean target */
	struct kept *at;  /* whose content comes */
	uint64_t bytes;   /* of all that is kept */
	uint64_t link_bytes;
	struct buf path, link;
};

/* What is kept of it. */
static uint64_t kept_bytes(const struct kept *k)
{
	return k->content.n + k->texts.n + k->xattrs.n * sizeof(k->xattrs.p[0]);
}

static void kept_clear(struct kept *k)
{
	k->found = false;
	vec_clear(&k->xattrs);
	buf_clear(&k->texts);
	buf_fini(&k->content);
}

static void kept_free(struct kept *k)
{
	free(k->path);
	vec_fini(&k->xattrs);
	buf_fini(&k->texts);
	buf_fini(&k->content);
	free(k);
}

/* Wants a path; false if it was wanted before. */
static bool want(struct order *o, struct str path)
{
	struct kept *k;

	if (map_has(&o->by_path, path) || esgz_is_marker(path))
		return false;
	k = xcalloc(1, sizeof(*k));
	k->path = xstrndup(path.p ?: "", path.n);
	map_put(&o->by_path, path, k);
	vec_push(&o->kept, k);
	return true;
}

/* Wants the directories above a path. */
static void want_parents(struct order *o, struct str path)
{
	for (ptrdiff_t at; (at = str_rfind(path, '/')) >= 0;) {
		path = str_sub(path, 0, (size_t)at);
		want(o, path);
	}
	want(o, STR_NONE);
}

struct order *order_new(const struct str *paths, size_t n)
{
	struct order *o = xcalloc(1, sizeof(*o));

	for (size_t i = 0; i < n; i++)
		/* What is no path is not in the layer. */
		if (esgz_path_clean(paths[i], &o->path, NULL) == 0)
			want(o, buf_str(&o->path));
	o->n_listed = o->kept.n;
	for (size_t i = 0; i < o->n_listed; i++)
		want_parents(o, str_of(o->kept.p[i]->path));
	return o;
}

void order_free(struct order *o)
{
	struct str path;
	void *target;

	if (!o)
		return;
	for (size_t at = 0; map_next(&o->links, &at, &path, &target);)
		free(target);
	map_fini(&o->links);
	vec_each(&o->kept, k)
		kept_free(*k);
	vec_fini(&o->kept);
	map_fini(&o->by_path);
	buf_fini(&o->path);
	buf_fini(&o->link);
	free(o);
}

/* ---- the scan ---- */

static struct str keep_text(struct kept *k, struct str s)
{
	size_t at = k->texts.n;

	buf_addstr(&k->texts, s);
	return str_make(k->texts.p + at, s.n);
}

static void keep_entry(struct kept *k, const struct esgz_tar_entry *t)
{
	size_t bytes = t->e.path.n + t->e.link.n;

	kept_clear(k);
	k->found = true;
	k->t = *t;
	for (uint32_t i = 0; i < t->n_xattrs; i++)
		bytes += t->xattrs[i].name.n + t->xattrs[i].value.n;
	buf_reserve(&k->texts, bytes); /* does not move after that */
	k->t.e.path = keep_text(k, t->e.path);
	k->t.e.link = keep_text(k, t->e.link);
	for (uint32_t i = 0; i < t->n_xattrs; i++)
		vec_push(&k->xattrs,
		         (struct esgz_xattr){keep_text(k, t->xattrs[i].name), keep_text(k, t->xattrs[i].value)});
	k->t.xattrs = k->xattrs.p;
	/* Written anew, a sparse file is one like any other. */
	k->t.extents = NULL;
	k->t.n_extents = 0;
}

/* At o->path there is a hard link to o->link now, or none. */
static int note_link(struct order *o, bool is_link, struct err *err)
{
	struct str path = buf_str(&o->path);
	char *old = map_get(&o->links, path);

	if (old)
		o->link_bytes -= LINK_BYTES + path.n + strlen(old);
	if (!is_link) {
		free(map_del(&o->links, path));
		return 0;
	}
	o->link_bytes += LINK_BYTES + path.n + o->link.n;
	if (o->link_bytes > LINKS_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED,
		               "the layer has hard links of more than %u bytes: too many to look for "
		               "those of the priority list",
		               LINKS_BYTES_MAX);
	free(map_put(&o->links, path, xstrndup(buf_cstr(&o->link), o->link.n)));
	return 0;
}

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct order *o = arg;

	TRY(esgz_path_clean(t->e.path, &o->path, err));
	if (t->e.type == ESGZ_HARDLINK)
		TRY(esgz_path_clean(t->e.link, &o->link, err));
	TRY(note_link(o, t->e.type == ESGZ_HARDLINK, err));
	o->at = map_get(&o->by_path, buf_str(&o->path));
	if (!o->at)
		return 0;
	o->bytes -= kept_bytes(o->at);
	keep_entry(o->at, t);
	o->bytes += kept_bytes(o->at); /* its content is still to come */
	if (t->e.size > ESGZ_PRIORITY_BYTES_MAX || o->bytes + t->e.size > ESGZ_PRIORITY_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED,
		               "the files of the priority list have more than %u bytes in this layer",
		               ESGZ_PRIORITY_BYTES_MAX);
	return 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct order *o = arg;

	if (o->at) {
		buf_addstr(&o->at->content, bytes);
		o->bytes += bytes.n;
	}
	return 0;
}

static int on_end(void *arg, struct err *err)
{
	return 0;
}

void order_scan_begin(struct order *o, struct esgz_tar_sink *sink)
{
	vec_each(&o->kept, k)
		kept_clear(*k);
	o->bytes = 0;
	*sink = (struct esgz_tar_sink){.entry = on_entry, .data = on_data, .end = on_end, .arg = o};
}

bool order_scan_end(struct order *o)
{
	bool again = false;

	/* `kept` grows meanwhile: chains are followed to their end. */
	for (size_t i = 0; i < o->kept.n; i++) {
		const char *target = map_get(&o->links, str_of(o->kept.p[i]->path));

		if (!target || !want(o, str_of(target)))
			continue;
		want_parents(o, str_of(target));
		again = true;
	}
	return again;
}

/* ---- the result ---- */

static int emit(struct order *o, struct str path, const struct esgz_tar_sink *to, size_t *n, unsigned depth,
                struct err *err)
{
	struct kept *k = map_get(&o->by_path, path);
	ptrdiff_t slash = str_rfind(path, '/');
	const char *target;

	if (!k || k->emitted)
		return 0;
	if (depth > DEPTH_MAX)
		return err_set(err, ERR_INVALID, STR_FMT ": hard links go on and on", STR_ARG(path));
	k->emitted = true; /* now already: links may go round in circles */
	if (path.n > 0)
		TRY(emit(o, slash < 0 ? STR_NONE : str_sub(path, 0, (size_t)slash), to, n, depth + 1, err));
	if (!k->found)
		return 0;
	target = map_get(&o->links, path);
	if (target)
		TRY(emit(o, str_of(target), to, n, depth + 1, err));
	TRY(to->entry(to->arg, &k->t, err));
	if (k->t.e.type == ESGZ_REG) {
		if (k->content.n > 0)
			TRY(to->data(to->arg, buf_str(&k->content), err));
		TRY(to->end(to->arg, err));
	}
	buf_fini(&k->content);
	++*n;
	return 0;
}

int order_emit(struct order *o, const struct esgz_tar_sink *to, size_t *n, struct err *err)
{
	*n = 0;
	for (size_t i = 0; i < o->n_listed; i++)
		if (o->kept.p[i]->found)
			TRY(emit(o, str_of(o->kept.p[i]->path), to, n, 0, err));
	return 0;
}

bool order_has(const struct order *o, struct str path)
{
	const struct kept *k = map_get(&o->by_path, path);

	return k && k->emitted && k->found;
}
