#include "bench/coldbench/doctor/plant.h"

#include "base/clock.h"

#include <stdio.h>

static const struct plant *plant_of(const struct engine *e)
{
	return CONTAINER_OF(e->kind, struct plant, kind);
}

/* The real engine's function, which may ask what kind of engine it has. */
#define AS_BASE(e, name, ...)                                                                                          \
	({                                                                                                             \
		const struct plant *plant_ = plant_of(e);                                                              \
		int as_base_r_;                                                                                        \
		(e)->kind = plant_->base;                                                                              \
		as_base_r_ = plant_->base->name(__VA_ARGS__);                                                          \
		(e)->kind = &plant_->kind;                                                                             \
		as_base_r_;                                                                                            \
	})

static int start(struct engine *e, struct err *err)
{
	return AS_BASE(e, start, e, err);
}

static int stop(struct engine *e, struct err *err)
{
	return AS_BASE(e, stop, e, err);
}

static int pull(struct engine *e, const char *ref, struct argv *out, struct err *err)
{
	return AS_BASE(e, pull, e, ref, out, err);
}

static int run(struct engine *e, const char *ref, const char *id, bool detach, const char *const *args,
               struct argv *out, struct err *err)
{
	out->wait_ns = (int64_t)(plant_of(e)->delay_ms * NS_PER_MS);
	return AS_BASE(e, run, e, ref, id, detach, args, out, err);
}

static int mount(struct engine *e, const char *ref, const char *at, struct err *err)
{
	return AS_BASE(e, mount, e, ref, at, err);
}

void plant_init(struct plant *p, const struct engine_kind *base, double delay_ms, const char *suffix)
{
	*p = (struct plant){.kind = *base, .base = base, .delay_ms = delay_ms};
	snprintf(p->name, sizeof(p->name), "%s+%s", base->name, suffix);
	snprintf(p->title, sizeof(p->title), "%s, planted %s", base->title, suffix);
	p->kind.name = p->name;
	p->kind.title = p->title;
	p->kind.start = start;
	p->kind.stop = stop;
	p->kind.pull = pull;
	p->kind.run = run;
	p->kind.mount = base->mount ? mount : NULL;
}
