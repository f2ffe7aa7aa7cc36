#include "bench/coldbench/modes/single.h"

#include "bench/coldbench/measure/cold.h"
#include "bench/coldbench/measure/phases.h"

static struct launch_spec spec_of(struct steps *t, const char *id, bool pull)
{
	return (struct launch_spec){
	    .engine = &t->engine,
	    .ref = t->targets->ref,
	    .id = id,
	    .ready = &t->targets->img->ready,
	    .pull = pull,
	    .timeout_ns = t->w->timeout_ns,
	    .cancel_fd = t->w->cancel_fd,
	    .output = t->output,
	    .config_digest = t->targets->img->config_digest,
	};
}

int single_discard(struct steps *t, struct err *err)
{
	struct launch_spec spec = spec_of(t, "discarded", true);
	struct launch l = {0};

	watch_reset(t->w->watch);
	TRY(launch_begin(t->w->watch, &spec, &l, err));
	return launch_end(&l, err);
}

/* The container runs; everything here looks back. */
static int look(struct steps *t, const struct launch *l, struct err *err)
{
	AUTO(usage) struct usage after = {0};

	TRY(usage_take(&l->init.pid, 1, false, &after, err));
	usage_sample(&t->before, &after, t->s);
	TRY(launch_sample(l, t->w->net, t->s, err));
	if (watch_lost(t->w->watch))
		return err_set(err, ERR_DATA_LOSS, "the kernel has dropped %llu events about processes",
		               (unsigned long long)watch_lost(t->w->watch));
	return 0;
}

int single_measure(struct steps *t, bool pull, struct err *err)
{
	struct launch_spec spec = spec_of(t, "measured", pull);
	struct launch l = {0};
	int looked, ended;

	sample_set(t->s, "noise.spin_ms", noise_spin_ms());
	watch_reset(t->w->watch);
	TRY(steps_begin_counting(t, err));
	TRY(launch_begin(t->w->watch, &spec, &l, err));
	looked = look(t, &l, err);
	ended = launch_end(&l, looked < 0 ? NULL : err);
	return looked < 0 ? looked : ended;
}

static int sample_touched(struct steps *t, const struct launch *l, struct err *err)
{
	AUTO(net_exchange_list) struct net_exchange_list exchanges = {.items = VEC_INIT};

	TRY(net_exchanges(t->w->net, &exchanges, err));
	if (exchanges.left_out)
		return err_set(err, ERR_EXHAUSTED, "the network keeps no list of so many exchanges: %llu are left out",
		               (unsigned long long)exchanges.left_out);
	sample_set(t->s, "touched_bytes", (double)phases_touched_bytes(l, exchanges.items.p, exchanges.items.n));
	return 0;
}

int single_touched(struct steps *t, struct err *err)
{
	struct launch_spec spec = spec_of(t, "touched", true);
	struct launch l = {0};
	int sampled, ended;

	watch_reset(t->w->watch);
	TRY(steps_begin_network(t, err));
	TRY(launch_begin(t->w->watch, &spec, &l, err));
	sampled = sample_touched(t, &l, err);
	ended = launch_end(&l, sampled < 0 ? NULL : err);
	return sampled < 0 ? sampled : ended;
}
