/*
 * Mode density: what containers cost beside each other, of an image that is local and warm.
 *
 *	containers_per_s                  4 workers run /bin/true from start to end for 8 s, one container after the other: the
 *	                                  figure. A container is the engine's running command from exec to end, its removal
 *	                                  included
 *	run_ms.p50, .p95, .max            of these commands
 *	cpu_ms_per_container              of all processes of the engine, commands, shims and runtimes included
 *	pss_bytes, pss_bytes.PROGRAM      memory of the daemons, idle: one container has been there. Proportional shares, so that
 *	                                  a library that two processes use is counted once
 *	containers                        how many idle containers (`sleep`) run for what follows: the case's count
 *	per_container_bytes               growth with each of them: daemons, shims, whatever else the engine leaves beside a
 *	                                  container; its own processes are left out
 *	per_container_bytes.PROGRAM       of it
 *	containers.processes.PROGRAM      how many of them there are
 *
 * A program of the idle engine that is gone when the containers run, or a process whose memory cannot be read, fails the
 * sample.
 */
#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/modes/steps.h"

#include "base/clock.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#define WORKERS 4
#define RUN_NS (8 * NS_PER_S)
#define CONTAINERS_MAX 1000
/* Who comes and goes beside the daemons may end while it is read. */
#define TAKES_MAX 5
#define TAKES_STEP_NS (200 * NS_PER_MS)

/* ---- start to end ---- */

struct run {
	struct steps *t;
	int64_t until_ns;
	atomic_uint next_id;
	atomic_bool failed;
};

struct worker {
	struct run *run;
	pthread_t thread;
	VEC(double) ns; /* of commands that ended in time */
	struct err err;
};

static const char *const TRUE_ARGS[] = {"/bin/true", NULL};

static void *work(void *arg)
{
	struct worker *k = arg;
	struct run *r = k->run;

	while (clock_mono_ns() < r->until_ns && !r->failed) {
		int64_t begun_ns = clock_mono_ns(), end_ns;
		char id[32];

		snprintf(id, sizeof(id), "true-%05u", r->next_id++);
		if (steps_run(r->t, id, TRUE_ARGS, &k->err) < 0)
			r->failed = true;
		end_ns = clock_mono_ns();
		if (end_ns <= r->until_ns && !r->failed)
			vec_push(&k->ns, (double)(end_ns - begun_ns));
	}
	return NULL;
}

static int run_workers(struct run *r, struct worker workers[static WORKERS], struct err *err)
{
	unsigned n;
	int created = 0;

	for (n = 0; n < WORKERS && !created; n++) {
		workers[n].run = r;
		created = pthread_create(&workers[n].thread, NULL, work, &workers[n]);
	}
	if (created) {
		r->failed = true;
		n--;
	}
	for (unsigned i = 0; i < n; i++)
		pthread_join(workers[i].thread, NULL);
	if (created)
		return err_errno(err, created, "start a thread");
	for (unsigned i = 0; i < WORKERS; i++)
		if (workers[i].err.code) {
			*err = workers[i].err;
			return -(int)err->code;
		}
	return 0;
}

static int measure_rate(struct steps *t, struct err *err)
{
	struct run run = {.t = t};
	struct worker workers[WORKERS] = {0};
	VEC(double) all = VEC_INIT;
	double cpu_s;
	int r;

	TRY(steps_begin_counting(t, err));
	run.until_ns = clock_mono_ns() + RUN_NS;
	r = run_workers(&run, workers, err);
	for (unsigned i = 0; i < WORKERS; i++) {
		vec_each(&workers[i].ns, ns)
			vec_push(&all, *ns);
		vec_fini(&workers[i].ns);
	}
	if (r >= 0 && !all.n)
		r = err_set(err, ERR_DEADLINE, "no container ended within %d s", (int)(RUN_NS / NS_PER_S));
	if (r >= 0)
		r = steps_end_counting(t, clock_mono_ns(), NULL, 0, err);
	if (r >= 0) {
		sample_set(t->s, "containers_per_s", (double)all.n * NS_PER_S / RUN_NS);
		steps_quantiles(t->s, "run_ms", all.p, all.n);
		cpu_s = sample_get(t->s, "cpu_s");
		if (!isnan(cpu_s))
			sample_set(t->s, "cpu_ms_per_container", cpu_s * 1e3 / run.next_id);
	}
	vec_fini(&all);
	return r;
}

/* ---- memory ---- */

static const struct usage_process *find_process(const struct usage *u, const char *name)
{
	vec_each(&u->processes, p)
		if (!strcmp(p->name, name))
			return p;
	return NULL;
}

static void set_idle(struct sample *s, const struct usage *idle)
{
	double sum = 0;

	vec_each(&idle->processes, p) {
		if (!p->pss_bytes)
			continue;
		sample_setf(s, (double)p->pss_bytes, "pss_bytes.%s", p->name);
		sum += (double)p->pss_bytes;
	}
	sample_set(s, "pss_bytes", sum);
}

/* A sum in which a program is missing would look like a good one. */
static int take_memory(const pid_t *inits, size_t n_inits, struct usage *out, struct err *err)
{
	for (unsigned i = 0; i < TAKES_MAX; i++) {
		if (i)
			nanosleep(&(struct timespec){.tv_nsec = TAKES_STEP_NS}, NULL);
		usage_fini(out);
		TRY(usage_take(inits, n_inits, true, out, err));
		if (!out->n_unread)
			return 0;
	}
	return err_errno(err, out->unread_errno, "read the memory of %u processes", out->n_unread);
}

static int set_growth(struct sample *s, const struct usage *idle, const struct usage *with, unsigned n, struct err *err)
{
	double sum = 0;

	vec_each(&idle->processes, p) {
		const struct usage_process *after = find_process(with, p->name);

		if (p->count > (after ? after->count : 0))
			return err_set(err, ERR_UNAVAILABLE,
			               "%s ended while containers ran: their memory cannot be told", p->name);
	}
	sample_set(s, "containers", n);
	vec_each(&with->processes, p) {
		const struct usage_process *before = find_process(idle, p->name);
		double growth = (double)p->pss_bytes - (before ? (double)before->pss_bytes : 0);

		if (!p->pss_bytes)
			continue;
		sample_setf(s, growth / n, "per_container_bytes.%s", p->name);
		sample_setf(s, p->count, "containers.processes.%s", p->name);
		sum += growth;
	}
	sample_set(s, "per_container_bytes", sum / n);
	return 0;
}

static int start_sleeper(struct steps *t, unsigned i, pid_t *init, struct err *err)
{
	static const char *const args[] = {"sleep", "100000", NULL};
	AUTO(argv) struct argv a = {0};
	int64_t deadline_ns = clock_mono_ns() + t->w->timeout_ns;
	struct watch_init found;
	char id[32];

	snprintf(id, sizeof(id), "sleep-%03u", i);
	TRY(t->engine.kind->run(&t->engine, t->targets->ref, id, true, args, &a, err));
	TRY_WRAP(command_run(&a, t->output, deadline_ns, t->w->cancel_fd, err), err, "run %s", id);
	TRY(watch_wait_exec(t->w->watch, id, deadline_ns, t->w->cancel_fd, &found, err));
	*init = found.pid;
	return 0;
}

static int measure_memory(struct steps *t, struct err *err)
{
	AUTO(usage) struct usage idle = {VEC_INIT};
	AUTO(usage) struct usage with = {VEC_INIT};
	AUTO_FREE pid_t *inits = xcalloc(t->c->count, sizeof(*inits));

	TRY(take_memory(NULL, 0, &idle, err));
	watch_reset(t->w->watch);
	for (unsigned i = 0; i < t->c->count; i++)
		TRY(start_sleeper(t, i, &inits[i], err));
	TRY(steps_settle(t, NULL, err));
	TRY(take_memory(inits, t->c->count, &with, err));
	set_idle(t->s, &idle);
	return set_growth(t->s, &idle, &with, t->c->count, err);
}

/* A lazy engine fetches the rest of the image once a container has been there; until it rests, nothing is warm or idle. */
static int warm_up(struct steps *t, struct err *err)
{
	TRY(steps_pull(t, NULL, err));
	TRY(steps_run(t, "first", TRUE_ARGS, err));
	return steps_settle(t, NULL, err);
}

static int warm_up_and_measure_memory(struct steps *t, struct err *err)
{
	TRY(warm_up(t, err));
	return measure_memory(t, err);
}

static int warm_up_and_measure_rate(struct steps *t, struct err *err)
{
	TRY(warm_up(t, err));
	return measure_rate(t, err);
}

/* A life of the engine for each: what a thousand containers leave behind in a daemon is not what it has when it is idle, and
 * idle containers are no company for a race. */
static int measure(struct world *w, const struct bench_case *c, const struct target *targets, struct sample *s,
                   struct err *err)
{
	struct steps t = {.w = w, .c = c, .targets = targets, .s = s};

	if (c->count > CONTAINERS_MAX)
		return err_set(err, ERR_INVALID, "%u containers are more than %d", c->count, CONTAINERS_MAX);
	TRY(steps_with_engine(&t, warm_up_and_measure_memory, err));
	return steps_with_engine(&t, warm_up_and_measure_rate, err);
}

const struct mode density_mode = {
    .name = "density",
    .title = "containers per second and their memory",
    .figure = "containers_per_s",
    .less_is_better = false,
    .measure = measure,
};
