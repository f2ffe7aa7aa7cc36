/* What modes have in common. */
#include "bench/coldbench/modes/steps.h"

#include "base/clock.h"
#include "base/file.h"
#include "bench/coldbench/measure/cold.h"
#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/peers/peers.h"
#include "bench/coldbench/stats.h"
#include "bench/coldbench/verb.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>

#define SETTLE_STEP_NS (250 * NS_PER_MS)
#define SETTLE_STEPS 4 /* in a row */
#define SETTLE_BUSY_S 0.005
/* After it has been told to stop, work that is not held by a file system needs a read or a single operation. */
#define RETURN_NS (500 * NS_PER_MS)
/* Of the time that a start may take, the part in which work is free once the engine has been killed: half a minute. */
#define FREE_PART 4

int steps_with_engine(struct steps *t, int (*body)(struct steps *t, struct err *err), struct err *err)
{
	int r = engine_up(t->w, t->c->engine, &t->engine, err);
	int down;

	if (r >= 0) {
		t->output = xasprintf("%s/commands.log", t->engine.dir);
		r = body(t, err);
	}
	down = engine_down(t->w, &t->engine, r < 0 ? NULL : err);
	usage_fini(&t->before);
	free(t->output);
	t->output = NULL;
	return r < 0 ? r : down;
}

static int run_argv(struct steps *t, const struct argv *a, int64_t *ns, struct err *err)
{
	int64_t begun_ns = clock_mono_ns();

	TRY(command_run(a, t->output, begun_ns + t->w->timeout_ns, t->w->cancel_fd, err));
	if (ns)
		*ns = clock_mono_ns() - begun_ns;
	return 0;
}

int steps_drop_caches(struct steps *t, struct err *err)
{
	/* The daemons' own programs are mapped. */
	static const char *const programs[] = {
	    "contentctl", "ctr", "ctr-remote", "containerd-shim-runc-v2", "podman", "conmon", "runc", "crun", NULL};
	AUTO_FREE char *root = NULL;
	uint64_t bytes;

	if (t->engine.kind->of_suite)
		TRY(peers_root(t->engine.options->suite, t->w->cancel_fd, &root, err));
	TRY(cold_drop(err));
	TRY(cold_resident_bytes(programs, root, &bytes, err));
	sample_set(t->s, "cold.resident_bytes", (double)bytes);
	return cold_drop(err); /* the look has read folders */
}

int steps_pull(struct steps *t, int64_t *ns, struct err *err)
{
	AUTO(argv) struct argv a = {0};

	TRY(t->engine.kind->pull(&t->engine, t->targets->ref, &a, err));
	TRY_WRAP(run_argv(t, &a, ns, err), err, "pull");
	return 0;
}

int steps_run(struct steps *t, const char *id, const char *const *args, struct err *err)
{
	AUTO(argv) struct argv a = {0};

	TRY(t->engine.kind->run(&t->engine, t->targets->ref, id, false, args, &a, err));
	TRY_WRAP(run_argv(t, &a, NULL, err), err, "run");
	return 0;
}

int steps_mount(struct steps *t, const char *name, char **at, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/%s", t->engine.dir, name);

	if (!t->engine.kind->mount)
		return err_set(err, ERR_UNIMPLEMENTED, "%s mounts no images", t->engine.kind->name);
	TRY(dir_make(path, 0700, err));
	TRY_WRAP(t->engine.kind->mount(&t->engine, t->targets->ref, path, err), err, "mount");
	*at = STEAL(path);
	return 0;
}

int steps_umount(struct steps *t, const char *at, struct err *err)
{
	TRY_WRAP(engine_umount(&t->engine, at, err), err, "unmount");
	return 0;
}

/* ---- work on a mount ---- */

struct errand {
	struct steps *t;
	int (*fn)(struct steps *t, const char *at, struct err *err);
	const char *at;
	pthread_t thread;
	int done_fd;
	int result;
	struct err err;
};

static void *do_errand(void *arg)
{
	struct errand *e = arg;

	e->result = e->fn(e->t, e->at, &e->err);
	eventfd_write(e->done_fd, 1);
	return NULL;
}

static bool is_done(const struct errand *e, int64_t deadline_ns, int cancel_fd)
{
	struct pollfd p[] = {{.fd = e->done_fd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
	int64_t left_ns;

	while (!p[0].revents && !p[1].revents && (left_ns = deadline_ns - clock_mono_ns()) > 0)
		ppoll(p, ARRAY_LEN(p), &(struct timespec){left_ns / NS_PER_S, left_ns % NS_PER_S}, NULL);
	return p[0].revents;
}

/* What its thread has used; more than ever once that has ended. */
static int64_t cpu_ns(const struct errand *e)
{
	struct timespec t;
	clockid_t clock;

	if (pthread_getcpuclockid(e->thread, &clock) || clock_gettime(clock, &t))
		return INT64_MAX;
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* Files that are slow give a bad figure, those that hang give none: who gets answers uses the processor, however little. */
static bool ends_by_itself(const struct errand *e)
{
	const struct world *w = e->t->w;
	int64_t used_ns;

	do {
		used_ns = cpu_ns(e);
		if (is_done(e, clock_mono_ns() + w->timeout_ns, w->cancel_fd))
			return true;
	} while (!verb_is_cancelled(w->cancel_fd) && cpu_ns(e) > used_ns);
	return false;
}

/* Its thread cannot be left behind: it has what is its caller's, and holds the mount. Samples are in their file already. */
static _Noreturn void give_up(const struct errand *e)
{
	fprintf(stderr, "\ncoldbench: work on %s hangs, though %s has been killed: its mounts are left\n", e->at,
	        e->t->c->engine);
	_exit(EXIT_FAILED);
}

static void set_free(const struct errand *e)
{
	int64_t deadline_ns = clock_mono_ns() + e->t->w->timeout_ns / FREE_PART;

	while (!is_done(e, clock_mono_ns() + RETURN_NS, -1)) {
		if (clock_mono_ns() > deadline_ns)
			give_up(e);
		usage_kill(NULL);
	}
}

int steps_on_mount(struct steps *t, int (*fn)(struct steps *t, const char *at, struct err *err), const char *at,
                   struct err *err)
{
	AUTO_FD int done_fd = eventfd(0, EFD_CLOEXEC);
	struct errand e = {.t = t, .fn = fn, .at = at, .done_fd = done_fd};
	int r;

	if (done_fd < 0)
		return err_errno(err, errno, "eventfd");
	r = pthread_create(&e.thread, NULL, do_errand, &e);
	if (r)
		return err_errno(err, r, "start a thread");
	t->stop = !ends_by_itself(&e);
	if (t->stop)
		set_free(&e);
	pthread_join(e.thread, NULL);
	if (t->stop && verb_is_cancelled(t->w->cancel_fd))
		return err_set(err, ERR_CANCELLED, "stopped");
	if (t->stop)
		return err_set(err, ERR_DEADLINE, "the files of %s did not answer within %d s", t->c->engine,
		               (int)(t->w->timeout_ns / NS_PER_S));
	if (e.result < 0 && err)
		*err = e.err;
	return e.result;
}

/* ---- counters ---- */

int steps_begin_network(struct steps *t, struct err *err)
{
	TRY(net_set_faults(t->w->net, t->c->network->faults, err));
	return net_reset(t->w->net, err);
}

/* What tells whether it is at work: processor time, bytes. */
static int take_activity(struct steps *t, double *cpu_s, uint64_t *bytes, struct err *err)
{
	AUTO(usage) struct usage u = {VEC_INIT};
	struct net_counters c = {0};

	TRY(usage_take(NULL, 0, false, &u, err));
	TRY(net_at(t->w->net, &(int64_t){clock_mono_ns()}, 1, &c, err));
	*cpu_s = 0;
	vec_each(&u.processes, p)
		*cpu_s += p->cpu_s;
	*bytes = c.to_client_bytes;
	return 0;
}

int steps_settle(struct steps *t, int64_t *ns, struct err *err)
{
	int64_t begun_ns = clock_mono_ns(), busy_ns = begun_ns;
	double cpu_s, cpu_before_s;
	uint64_t bytes, bytes_before;

	TRY(take_activity(t, &cpu_before_s, &bytes_before, err));
	for (unsigned silent = 0; silent < SETTLE_STEPS;) {
		if (clock_mono_ns() - begun_ns > t->w->timeout_ns)
			return err_set(err, ERR_DEADLINE, "%s is still busy after %d s", t->engine.kind->name,
			               (int)(t->w->timeout_ns / NS_PER_S));
		if (verb_is_cancelled(t->w->cancel_fd))
			return err_set(err, ERR_CANCELLED, "stopped");
		nanosleep(&(struct timespec){.tv_nsec = SETTLE_STEP_NS}, NULL);
		TRY(take_activity(t, &cpu_s, &bytes, err));
		if (bytes != bytes_before || cpu_s - cpu_before_s > SETTLE_BUSY_S) {
			silent = 0;
			busy_ns = clock_mono_ns();
		} else {
			silent++;
		}
		cpu_before_s = cpu_s;
		bytes_before = bytes;
	}
	if (ns)
		*ns = busy_ns - begun_ns;
	return 0;
}

int steps_begin_counting(struct steps *t, struct err *err)
{
	usage_fini(&t->before);
	TRY(usage_take(NULL, 0, false, &t->before, err));
	return steps_begin_network(t, err);
}

int steps_end_counting(struct steps *t, int64_t at_ns, const pid_t *inits, size_t n_inits, struct err *err)
{
	AUTO(usage) struct usage after = {VEC_INIT};
	struct net_counters c;

	TRY(usage_take(inits, n_inits, false, &after, err));
	usage_sample(&t->before, &after, t->s);
	TRY(net_at(t->w->net, &at_ns, 1, &c, err));
	sample_set(t->s, "net.bytes", (double)c.to_client_bytes);
	sample_set(t->s, "net.requests", (double)c.requests);
	sample_set(t->s, "net.connections", (double)c.connections);
	sample_set(t->s, "net.round_trips", (double)c.round_trips);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void steps_quantiles(struct sample *s, const char *prefix, double *ns, size_t n)
{
	qsort(ns, n, sizeof(*ns), by_value);
	sample_setf(s, stats_quantile(ns, n, 0.5) / NS_PER_MS, "%s.p50", prefix);
	sample_setf(s, stats_quantile(ns, n, 0.95) / NS_PER_MS, "%s.p95", prefix);
	sample_setf(s, stats_quantile(ns, n, 1) / NS_PER_MS, "%s.max", prefix);
}
