/*
 * Mode burst: many starts at once, from nothing, as when a fleet scales out: `count` of them, each a pull and a run of its
 * own. Of several images ("python+nginx") they take turns: the first python, the second nginx, the third python.
 *
 *	ready_ms                         from the first exec of a command until the last program is ready: the figure
 *	start.ready_ms.p50, .p95, .max   of each, from its own exec
 *	start.IMAGE.ready_ms.p50, ...    of those of an image, where there are several
 *	starts_per_s                     count / ready_ms
 *	net.*, cpu_s.*, peak_bytes.*     until the last is ready (sample.h); net.bytes beside that of a case with count 1 says
 *	                                 whether the starts shared what they fetched
 *	net.repeated_bytes               of blobs, asked for again: 0 when each chunk was requested once (repeats.h)
 */
#include "bench/coldbench/modes/repeats.h"
#include "bench/coldbench/modes/steps.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#define COUNT_MAX 1000

struct start {
	struct burst *burst;
	const struct target *target;
	char id[32];
	char *output;
	pthread_t thread;
	struct launch launch;
	struct err err;
	int result;
};

struct burst {
	struct steps *t;
	struct start *starts;
	unsigned n;
	pthread_rwlock_t gate; /* held for writing until all threads are there */
	bool abandoned;
};

/* All commands begin within what it takes to make that many processes. */
static void *start_one(void *arg)
{
	struct start *s = arg;
	struct steps *t = s->burst->t;

	pthread_rwlock_rdlock(&s->burst->gate);
	pthread_rwlock_unlock(&s->burst->gate);
	if (s->burst->abandoned)
		return NULL;
	s->result = launch_begin(t->w->watch,
	                         &(struct launch_spec){
				     .engine = &t->engine,
				     .ref = s->target->ref,
				     .id = s->id,
				     .ready = &s->target->img->ready,
				     .pull = true,
				     /* one start has the machine alone, these share it */
				     .timeout_ns = t->w->timeout_ns * (1 + s->burst->n / 10),
				     .cancel_fd = t->w->cancel_fd,
				     .output = s->output,
				     .config_digest = s->target->img->config_digest,
				 },
	                         &s->launch, &s->err);
	return NULL;
}

/* Returns when each start is ready or has failed. */
static int start_all(struct burst *b, struct err *err)
{
	unsigned n;
	int r = 0;

	pthread_rwlock_init(&b->gate, NULL);
	pthread_rwlock_wrlock(&b->gate);
	for (n = 0; n < b->n; n++) {
		struct start *s = &b->starts[n];

		s->burst = b;
		s->target = &b->t->targets[n % b->t->c->n_images];
		snprintf(s->id, sizeof(s->id), "burst-%03u", n);
		s->output = xasprintf("%s/%s.log", b->t->engine.dir, s->id);
		r = pthread_create(&s->thread, NULL, start_one, s);
		if (r)
			break;
	}
	b->abandoned = r;
	pthread_rwlock_unlock(&b->gate);
	for (unsigned i = 0; i < n; i++)
		pthread_join(b->starts[i].thread, NULL);
	pthread_rwlock_destroy(&b->gate);
	return r ? err_errno(err, r, "start thread %u of %u", n + 1, b->n) : 0;
}

static int first_failure(struct burst *b, struct err *err)
{
	const struct start *failed = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < b->n; i++) {
		if (b->starts[i].result >= 0)
			continue;
		n++;
		failed = failed ?: &b->starts[i];
	}
	if (!failed)
		return 0;
	*err = failed->err;
	return err_wrap(err, "%u of %u starts failed, the first", n, b->n);
}

static int count_repeats(struct net *net, struct sample *s, struct err *err)
{
	AUTO(net_exchange_list) struct net_exchange_list list = {0};
	struct repeats r;

	TRY(net_exchanges(net, &list, err));
	/* An incomplete list would look like a clean one. */
	if (list.left_out) {
		sample_set(s, "net.left_out", (double)list.left_out);
		return 0;
	}
	repeats_count(&list, &r);
	sample_set(s, "net.repeated_bytes", (double)(r.asked_bytes - r.distinct_bytes));
	return 0;
}

/* Programs differ in how long they take. */
static void set_images(struct burst *b, const double *ns)
{
	AUTO_FREE double *own = xcalloc(b->n, sizeof(*own));
	unsigned n_images = b->t->c->n_images;

	for (unsigned k = 0; n_images > 1 && k < n_images; k++) {
		AUTO_FREE char *prefix = xasprintf("start.%s.ready_ms", b->t->targets[k].img->name);
		unsigned n = 0;

		for (unsigned i = k; i < b->n; i += n_images)
			own[n++] = ns[i];
		steps_quantiles(b->t->s, prefix, own, n);
	}
}

static int set_metrics(struct burst *b, struct err *err)
{
	AUTO_FREE double *ns = xcalloc(b->n, sizeof(*ns));
	AUTO_FREE pid_t *inits = xcalloc(b->n, sizeof(*inits));
	int64_t first_ns = INT64_MAX, last_ns = 0;

	for (unsigned i = 0; i < b->n; i++) {
		const struct launch *l = &b->starts[i].launch;

		ns[i] = (double)(l->ready_ns - l->begun_ns);
		if (l->begun_ns < first_ns)
			first_ns = l->begun_ns;
		if (l->ready_ns > last_ns)
			last_ns = l->ready_ns;
		inits[i] = l->init.pid;
	}
	TRY(steps_end_counting(b->t, last_ns, inits, b->n, err));
	set_images(b, ns);
	steps_quantiles(b->t->s, "start.ready_ms", ns, b->n);
	sample_set(b->t->s, "ready_ms", (double)(last_ns - first_ns) / NS_PER_MS);
	sample_set(b->t->s, "starts_per_s", (double)b->n * NS_PER_S / (double)(last_ns - first_ns));
	if (watch_lost(b->t->w->watch))
		return err_set(err, ERR_DATA_LOSS, "the kernel has dropped %llu events about processes",
		               (unsigned long long)watch_lost(b->t->w->watch));
	return count_repeats(b->t->w->net, b->t->s, err);
}

static int burst_and_end(struct burst *b, struct err *err)
{
	int r;

	TRY(steps_drop_caches(b->t, err));
	watch_reset(b->t->w->watch);
	TRY(steps_begin_counting(b->t, err));
	TRY(start_all(b, err));
	r = first_failure(b, err);
	if (r >= 0)
		r = set_metrics(b, err);
	for (unsigned i = 0; i < b->n; i++) {
		struct start *s = &b->starts[i];

		if (s->result >= 0 && launch_end(&s->launch, r < 0 ? NULL : err) < 0 && r >= 0)
			r = -(int)err->code;
	}
	return r;
}

static int burst(struct steps *t, struct err *err)
{
	struct burst b = {.t = t, .n = t->c->count};
	int r;

	if (b.n > COUNT_MAX)
		return err_set(err, ERR_INVALID, "%u starts at once are more than %d", b.n, COUNT_MAX);
	b.starts = xcalloc(b.n, sizeof(*b.starts));
	r = burst_and_end(&b, err);
	for (unsigned i = 0; i < b.n; i++)
		free(b.starts[i].output);
	free(b.starts);
	return r;
}

static int measure(struct world *w, const struct bench_case *c, const struct target *targets, struct sample *s,
                   struct err *err)
{
	struct steps t = {.w = w, .c = c, .targets = targets, .s = s};

	return steps_with_engine(&t, burst, err);
}

const struct mode burst_mode = {
    .name = "burst",
    .title = "many cold starts at once",
    .figure = "ready_ms",
    .less_is_better = true,
    .takes_several = true,
    .measure = measure,
};
