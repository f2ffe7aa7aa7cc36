#include "bench/coldbench/doctor/stand.h"

#include "base/clock.h"
#include "base/random.h"
#include "bench/coldbench/images/registry.h"
#include "bench/coldbench/measure/usage.h"
#include "bench/coldbench/verb.h"

#include <stdio.h>

/* A local network: the least noise that has all parts of a start in it. */
#define RTT_MS 1
#define MBIT 1000
#define TIMEOUT_S 60

static int bring_image(struct stand *s, const struct doctor *d, struct err *err)
{
	AUTO_FREE char *name = xasprintf("bench/%s:%s", d->image, s->c.form);

	TRY(image_build(d->image, s->c.form, d->cancel_fd, &s->image, err));
	TRY(registry_push(s->world.registry, &s->image, name, err));
	s->ref = xasprintf("%s/%s", net_address(s->world.net), name);
	s->target = (struct target){&s->image, s->ref};
	return 0;
}

static int open_parts(struct stand *s, const struct doctor *d, struct err *err)
{
	TRY(registry_start(d->dir, d->cancel_fd, &s->world.registry, err));
	TRY(net_start(registry_host(s->world.registry), RTT_MS, MBIT, d->dir, &s->world.net, err));
	TRY(usage_begin(err));
	return bring_image(s, d, err);
}

int stand_start(const struct doctor *d, struct stand *out, struct err *err)
{
	const struct engine_kind *kind = engine_find(d->engine);
	AUTO(buf) struct buf versions = BUF_INIT;
	int r;

	*out = (struct stand){
	    .network = {.name = (char *)"lan", .rtt_ms = RTT_MS, .mbit = MBIT},
	    .world = {.options = &d->engines,
	              .dir = d->dir,
	              .cancel_fd = d->cancel_fd,
	              .timeout_ns = TIMEOUT_S * NS_PER_S},
	};
	if (!kind)
		return err_set(err, ERR_NOT_FOUND, "there is no engine %s", d->engine);
	TRY(kind->probe(&d->engines, d->cancel_fd, &versions, err));
	out->c = (struct bench_case){.group = "doctor",
	                             .mode = "start",
	                             .image = d->image,
	                             .engine = d->engine,
	                             .form = kind->form,
	                             .network = &out->network,
	                             .n_images = 1,
	                             .count = 1};
	r = open_parts(out, d, err);
	if (r < 0)
		stand_stop(out);
	return r;
}

void stand_stop(struct stand *s)
{
	if (s->world.watch)
		watch_stop(s->world.watch);
	net_stop(s->world.net);
	registry_stop(s->world.registry);
	image_fini(&s->image);
	free(s->ref);
	*s = (struct stand){0};
}

int stand_watch(struct stand *s, bool on, struct err *err)
{
	if (on && !s->world.watch)
		TRY(watch_start(&s->world.watch, err));
	else if (on != s->watching)
		TRY(on ? watch_resume(s->world.watch, err) : watch_pause(s->world.watch, err));
	s->watching = on;
	return 0;
}

const char *stand_next_id(struct stand *s, char dst[static 32])
{
	snprintf(dst, 32, "doctor-%u", s->launches++);
	return dst;
}

void stand_order(unsigned *out, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned j = (unsigned)(random_u64() % (i + 1));

		out[i] = out[j];
		out[j] = i;
	}
}

int stand_check(const struct stand *s, struct err *err)
{
	return verb_check(s->world.cancel_fd, err);
}
