#include "bench/coldbench/doctor/plant.h"

#include "base/clock.h"
#include "base/unix.h"
#include "bench/coldbench/verb.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
	const struct plant *p = plant_of(e);

	argv_addl(out, p->program, "doctor", PLANT_WAIT, NULL);
	argv_addf(out, "%.3f", p->delay_ms);
	return AS_BASE(e, run, e, ref, id, detach, args, out, err);
}

static int mount(struct engine *e, const char *ref, const char *at, struct err *err)
{
	return AS_BASE(e, mount, e, ref, at, err);
}

int plant_init(struct plant *p, const struct engine_kind *base, double delay_ms, const char *suffix, struct err *err)
{
	*p = (struct plant){.kind = *base, .base = base, .delay_ms = delay_ms};
	TRY(program_path(&p->program, err));
	snprintf(p->name, sizeof(p->name), "%s+%s", base->name, suffix);
	snprintf(p->title, sizeof(p->title), "%s, planted %s", base->title, suffix);
	p->kind.name = p->name;
	p->kind.title = p->title;
	p->kind.start = start;
	p->kind.stop = stop;
	p->kind.pull = pull;
	p->kind.run = run;
	p->kind.mount = base->mount ? mount : NULL;
	return 0;
}

void plant_fini(struct plant *p)
{
	free(p->program);
	*p = (struct plant){0};
}

int plant_wait_then(int argc, char **argv)
{
	int64_t due = clock_mono_ns();
	struct timespec at;
	char *end;
	double ms;

	if (argc < 2)
		return EXIT_USAGE;
	ms = strtod(argv[0], &end);
	if (*end || !(ms >= 0 && ms < 3600e3))
		return EXIT_USAGE;
	due += (int64_t)(ms * NS_PER_MS);
	at = (struct timespec){due / NS_PER_S, due % NS_PER_S};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
