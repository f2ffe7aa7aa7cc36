#include "bench/coldbench/stage.h"

#include "bench/coldbench/verb.h"

#include <errno.h>

/* ---- engines ---- */

static struct stage_engine *find_engine(struct stage *st, const char *name)
{
	vec_each(&st->engines, e)
		if (!strcmp(e->name, name))
			return e;
	return NULL;
}

static void probe(struct stage *st, const char *name, struct progress *p)
{
	struct stage_engine *e = vec_add(&st->engines);
	AUTO(buf) struct buf versions = BUF_INIT;
	struct err why = ERR_INIT;

	e->name = name;
	progress_step(p, "engine %s", name);
	if (engine_find(name)->probe(&st->options, st->world.cancel_fd, &versions, &why) >= 0) {
		e->versions = buf_steal(&versions);
		return;
	}
	if (why.code == ERR_CANCELLED)
		return;
	e->is_out = true;
	e->why = xstrdup(why.msg);
	progress_say(p, "%s is left out: %s", name, why.msg);
}

/* ---- images ---- */

static struct stage_image *find_image(struct stage *st, struct str name, const char *form)
{
	AUTO_FREE char *key = xasprintf(STR_FMT ":%s", STR_ARG(name), form);

	vec_each(&st->images, i)
		if (!strcmp(i->key, key))
			return i;
	return NULL;
}

static void make_image(struct stage *st, struct str name, const char *form, struct progress *p)
{
	struct stage_image *i = vec_add(&st->images);
	AUTO_FREE char *text = str_dup(name);
	struct err why = ERR_INIT;

	i->key = xasprintf("%s:%s", text, form);
	progress_step(p, "image %s as %s", text, form);
	if (image_build(text, form, st->world.cancel_fd, &i->image, &why) >= 0 || why.code == ERR_CANCELLED)
		return;
	i->why = xstrdup(why.msg);
	progress_say(p, "%s is left out: %s", i->key, why.msg);
}

static int make_images(struct stage *st, const struct bench_case *c, struct progress *p, struct err *err)
{
	struct str rest = str_of(c->image), name;

	while (str_split(&rest, '+', &name)) {
		if (verb_is_cancelled(st->world.cancel_fd))
			return err_set(err, ERR_CANCELLED, "cancelled");
		if (!find_image(st, name, c->form))
			make_image(st, name, c->form, p);
	}
	return 0;
}

static int push_images(struct stage *st, struct progress *p, struct err *err)
{
	vec_each(&st->images, i) {
		AUTO_FREE char *name = xasprintf("bench/%s", i->key);

		if (i->why)
			continue;
		progress_step(p, "%s to the registry", i->key);
		TRY_WRAP(registry_push(st->world.registry, &i->image, name, err), err, "push %s", name);
		i->ref = xasprintf("%s/%s", net_address(st->world.net), name);
		if (verb_is_cancelled(st->world.cancel_fd))
			return err_set(err, ERR_CANCELLED, "cancelled");
	}
	return 0;
}

/* ---- the whole ---- */

static int make_all(struct stage *st, const struct suite *suite, const struct plan *plan, struct progress *p,
                    struct err *err)
{
	const struct network *network = suite->cases[plan->items.p[0].i_case].network;

	vec_each(&plan->items, item) {
		if (verb_is_cancelled(st->world.cancel_fd))
			return err_set(err, ERR_CANCELLED, "cancelled");
		if (!find_engine(st, suite->cases[item->i_case].engine))
			probe(st, suite->cases[item->i_case].engine, p);
	}
	vec_each(&plan->items, item) {
		const struct bench_case *c = &suite->cases[item->i_case];

		if (!find_engine(st, c->engine)->is_out)
			TRY(make_images(st, c, p, err));
	}
	if (verb_is_cancelled(st->world.cancel_fd))
		return err_set(err, ERR_CANCELLED, "cancelled");
	progress_step(p, "registry, network");
	TRY(registry_start(st->dir, st->world.cancel_fd, &st->world.registry, err));
	TRY(net_start(registry_host(st->world.registry), network->rtt_ms, network->mbit, st->dir, &st->world.net, err));
	TRY(push_images(st, p, err));
	return watch_start(&st->world.watch, err);
}

int stage_open(struct stage *st, const char *work, const struct engine_options *o, const struct suite *suite,
               const struct plan *plan, int cancel_fd, bool keep, struct progress *p, struct err *err)
{
	AUTO_FREE char *dir = xasprintf("%s/coldbench.XXXXXX", work);

	*st = (struct stage){.options = *o};
	if (!mkdtemp(dir))
		return err_errno(err, errno, "make a folder in %s", work);
	st->dir = STEAL(dir);
	st->world = (struct world){.options = &st->options, .dir = st->dir, .cancel_fd = cancel_fd, .keep = keep};
	return make_all(st, suite, plan, p, err);
}

int stage_close(struct stage *st, struct err *err)
{
	int r = 0;

	watch_stop(st->world.watch);
	net_stop(st->world.net);
	registry_stop(st->world.registry);
	if (st->dir && !st->world.keep)
		r = folder_remove(st->dir, err);
	vec_each(&st->engines, e) {
		free(e->versions);
		free(e->why);
	}
	vec_each(&st->images, i) {
		image_fini(&i->image);
		free(i->key);
		free(i->ref);
		free(i->why);
	}
	vec_fini(&st->engines);
	vec_fini(&st->images);
	free(st->dir);
	*st = (struct stage){0};
	return r;
}

bool stage_find(struct stage *st, const struct bench_case *c, struct stage_engine **engine,
                struct target out[static CASE_IMAGES_MAX])
{
	struct str rest = str_of(c->image), name;

	*engine = find_engine(st, c->engine);
	if ((*engine)->is_out)
		return false;
	while (str_split(&rest, '+', &name)) {
		const struct stage_image *i = find_image(st, name, c->form);

		if (!i || i->why)
			return false;
		*out++ = (struct target){&i->image, i->ref};
	}
	return true;
}

void stage_write(const struct stage *st, struct json_writer *w)
{
	json_w_key(w, "engines");
	json_w_object_begin(w);
	vec_each(&st->engines, e)
		if (e->versions)
			json_w_kcstr(w, e->name, e->versions);
	json_w_object_end(w);
	json_w_key(w, "images");
	json_w_object_begin(w);
	vec_each(&st->images, i) {
		if (i->why)
			continue;
		json_w_key(w, i->key);
		json_w_object_begin(w);
		json_w_ki64(w, "layer_bytes", (int64_t)i->image.layer_bytes);
		json_w_ki64(w, "layers", i->image.n_layers);
		json_w_object_end(w);
	}
	json_w_object_end(w);
	json_w_key(w, "skipped");
	json_w_object_begin(w);
	vec_each(&st->engines, e)
		if (e->why)
			json_w_kcstr(w, e->name, e->why);
	vec_each(&st->images, i)
		if (i->why)
			json_w_kcstr(w, i->key, i->why);
	json_w_object_end(w);
}
