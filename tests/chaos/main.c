/* chaos --address SOCKET --namespace NS --dir DIR --contentctl FILE --image NAME... -- DAEMON ARGS... */
#include "tests/chaos/chaos.h"

#include "base/random.h"

#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#define FAILURES_MAX 20u
#define STEADY 24u    /* containers of a round without kills */
#define KIB_MAX 8192u /* that the daemon may grow by in such a round */

/* ---- randomness ---- */

struct dice dice_make(uint64_t seed, uint64_t stream)
{
	/* Neighbouring streams begin far from each other. */
	uint64_t at = random_next(&seed) + stream;

	return (struct dice){random_next(&at)};
}

uint64_t dice_below(struct dice *d, uint64_t n)
{
	return random_next(&d->state) % n;
}

void dice_sleep(struct dice *d, unsigned min_ms, unsigned max_ms)
{
	usleep((min_ms + (unsigned)dice_below(d, max_ms - min_ms + 1)) * 1000);
}

/* ---- the run ---- */

void chaos_fail(struct chaos *c, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "WRONG: %s\n", text);
	if (atomic_fetch_add(&c->failures, 1) == FAILURES_MAX) {
		kill(c->daemon_pid, SIGKILL);
		exit(1);
	}
}

struct work {
	struct chaos *c;
	unsigned end; /* containers below this are this round's */
};

static void *worker(void *arg)
{
	struct work *w = arg;
	struct chaos *c = w->c;
	unsigned i;

	while ((i = atomic_fetch_add(&c->next, 1)) < w->end) {
		struct dice dice = dice_make(c->seed, 1000 + i);

		life_plan(&c->containers[i], &dice);
		life_run(c, &c->containers[i], &dice);
		atomic_fetch_add(&c->done, 1);
	}
	return NULL;
}

/* Lets the containers from..end-1 live. */
static void run_round(struct chaos *c, unsigned from, unsigned end)
{
	struct work w = {c, end};
	pthread_t threads[64];
	unsigned n = c->n_workers;

	atomic_store(&c->next, from);
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, worker, &w) != 0)
			exit(1);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

/* Without kills the daemon's size must stay: compared are two rounds of the same work. */
static void run_steady(struct chaos *c, unsigned from)
{
	unsigned fds[2], kib[2];

	run_round(c, from, from + STEADY);
	for (unsigned i = 0; i < 2; i++) {
		run_round(c, from + (i + 1) * STEADY, from + (i + 2) * STEADY);
		usleep(500000); /* shims that end, workers that retire */
		daemon_size(c, &fds[i], &kib[i]);
	}
	printf("daemon: %u descriptors, then %u; %u KiB, then %u\n", fds[0], fds[1], kib[0], kib[1]);
	if (fds[1] > fds[0] + 2)
		chaos_fail(c, "the daemon keeps descriptors: %u, then %u", fds[0], fds[1]);
	if (kib[1] > kib[0] + KIB_MAX)
		chaos_fail(c, "the daemon grows: %u KiB, then %u", kib[0], kib[1]);
}

static void run(struct chaos *c, unsigned n_wild)
{
	pthread_t killer, remover, watcher;
	int64_t begun = clock_mono_ns();

	if (daemon_start(c) < 0 || pthread_create(&watcher, NULL, watch_run, c) != 0 ||
	    pthread_create(&killer, NULL, daemon_killer, c) != 0 ||
	    pthread_create(&remover, NULL, images_remover, c) != 0)
		exit(1);
	run_round(c, 0, n_wild);
	atomic_store(&c->ending, true);
	pthread_join(killer, NULL);
	pthread_join(remover, NULL);
	printf("%u containers in %.1f s; the daemon was killed %u times, clients lost %u connections, %u images were "
	       "removed\n",
	       n_wild, (double)(clock_mono_ns() - begun) / NS_PER_S, atomic_load(&c->kills), atomic_load(&c->breaks),
	       atomic_load(&c->removals));
	run_steady(c, n_wild);
	watch_end(c);
	pthread_join(watcher, NULL);
	watch_judge(c);
	rest_check(c);
	daemon_end(c, SIGTERM);
}

/* ---- the command line ---- */

enum { OPT_DIR = 256, OPT_CONTENTCTL, OPT_IMAGE, OPT_SEED, OPT_CONTAINERS, OPT_WORKERS, OPT_KILL };

static const struct argp_option OPTIONS[] = {
    {"address", 'a', "SOCKET", 0, "where the daemon will listen", 0},
    {"namespace", 'n', "NAME", 0, "namespace of the containers", 0},
    {"dir", OPT_DIR, "DIR", 0, "for logs and output", 0},
    {"contentctl", OPT_CONTENTCTL, "FILE", 0, "the client that pulls", 0},
    {"image", OPT_IMAGE, "NAME", 0, "an image to run, in full; several", 0},
    {"seed", OPT_SEED, "N", 0, "of all that is random", 0},
    {"containers", OPT_CONTAINERS, "N", 0, "how many live while the daemon is killed (300)", 0},
    {"workers", OPT_WORKERS, "N", 0, "how many at once (6)", 0},
    {"kill-after", OPT_KILL, "MS-MS", 0, "how long each daemon lives (50-1500)", 0},
    {0},
};

static void add_image(struct chaos *c, char *name)
{
	c->images = xrealloc(c->images, (c->n_images + 1) * sizeof(*c->images));
	c->images[c->n_images++] = name;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct chaos *c = state->input;

	switch (key) {
	case 'a':
		c->address = arg;
		return 0;
	case 'n':
		c->ns = arg;
		return 0;
	case OPT_DIR:
		c->dir = arg;
		return 0;
	case OPT_CONTENTCTL:
		c->contentctl = arg;
		return 0;
	case OPT_IMAGE:
		add_image(c, arg);
		return 0;
	case OPT_SEED:
		c->seed = strtoull(arg, NULL, 0);
		return 0;
	case OPT_CONTAINERS:
		c->n_containers = (unsigned)strtoul(arg, NULL, 10);
		return 0;
	case OPT_WORKERS:
		c->n_workers = (unsigned)strtoul(arg, NULL, 10);
		return c->n_workers && c->n_workers <= 64 ? 0 : EINVAL;
	case OPT_KILL:
		return sscanf(arg, "%u-%u", &c->kill_min_ms, &c->kill_max_ms) == 2 && c->kill_max_ms >= c->kill_min_ms
		           ? 0
		           : EINVAL;
	case ARGP_KEY_ARGS:
		c->daemon = state->argv + state->next;
		return 0;
	case ARGP_KEY_END:
		if (!c->address || !c->ns || !c->dir || !c->contentctl || !c->n_images || !c->daemon)
			argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int main(int argc, char **argv)
{
	static const struct argp argp = {.options = OPTIONS, .parser = parse, .args_doc = "-- DAEMON ARGS..."};
	struct chaos c = {.n_containers = 300, .n_workers = 6, .kill_min_ms = 50, .kill_max_ms = 1500};
	unsigned n_wild;

	c.seed = (uint64_t)clock_wall().tv_nsec;
	argp_parse(&argp, argc, argv, 0, NULL, &c);
	signal(SIGPIPE, SIG_IGN);
	mallopt(M_ARENA_MAX, 2);
	setvbuf(stdout, NULL, _IOLBF, 0);
	n_wild = c.n_containers;
	c.n_containers += 3 * STEADY;
	c.containers = xcalloc(c.n_containers, sizeof(*c.containers));
	for (unsigned i = 0; i < c.n_containers; i++)
		snprintf(c.containers[i].id, sizeof(c.containers[i].id), "c%u", i);
	printf("seed %llu\n", (unsigned long long)c.seed);
	run(&c, n_wild);
	printf("%u wrong\n", atomic_load(&c.failures));
	free(c.containers);
	free(c.images);
	return atomic_load(&c.failures) ? 1 : 0;
}
