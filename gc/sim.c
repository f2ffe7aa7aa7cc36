/*
 * The simulation of the collector: random clients beside it in a model store, each run from one seed.
 *
 *     gc_sim [--runs N] [--seed FIRST] [--steps N] [--break barrier|flat|not-flat|last-check]
 *     gc_sim --seed N --trace              one run, told step by step
 *     gc_sim --bench [NODES] [--budget N]  time of a collection and of its longest step
 *
 * Ends with 1, and says how to replay it, when something live was removed or garbage stayed.
 */
#include "base/clock.h"
#include "base/random.h"
#include "gc/sim_bench.h"
#include "gc/sim_world.h"

#include <getopt.h>
#include <stdio.h>

struct options {
	uint64_t runs, seed, steps, nodes, budget;
	enum sim_break broken;
	const char *broken_name;
	bool trace, bench;
};

struct totals {
	uint64_t steps, cycles, removed, pulls;
};

static const char *const breaks[] = {
    [SIM_BREAK_BARRIER] = "barrier",
    [SIM_BREAK_FLAT] = "flat",
    [SIM_BREAK_NOT_FLAT] = "not-flat",
    [SIM_BREAK_LAST_CHECK] = "last-check",
};

/* Clients and the collector take turns at random, at different speeds in different runs. */
static void run(struct sim *s, uint64_t steps)
{
	uint32_t share = 1 + sim_below(s, 9);
	uint32_t rest = 1 + sim_below(s, 20);

	while (s->steps < steps && !s->wrong[0]) {
		if (sim_below(s, 10) < share)
			sim_act(s);
		else
			sim_collect(s, sim_below(s, rest) == 0);
	}
	if (!s->wrong[0])
		sim_settle(s);
}

static int run_all(const struct options *o)
{
	struct totals t = {0};
	int64_t begin = clock_mono_ns();
	uint64_t i;

	for (i = 0; i < o->runs; i++) {
		struct sim s;

		sim_init(&s, o->seed + i, o->broken, o->trace);
		run(&s, o->steps);
		t.steps += s.steps;
		t.cycles += s.cycles;
		t.removed += s.removed;
		t.pulls += s.pulls;
		sim_fini(&s);
		if (s.wrong[0]) {
			printf("seed %llu, step %llu: %s\n", (unsigned long long)(o->seed + i),
			       (unsigned long long)s.steps, s.wrong);
			printf("replay: gc_sim --seed %llu --steps %llu%s%s --trace\n",
			       (unsigned long long)(o->seed + i), (unsigned long long)o->steps,
			       o->broken ? " --break " : "", o->broken ? o->broken_name : "");
			return 1;
		}
	}
	printf("%llu interleavings, %llu steps, %llu cycles, %llu nodes removed, %llu pulls finished: %.1f s\n",
	       (unsigned long long)i, (unsigned long long)t.steps, (unsigned long long)t.cycles,
	       (unsigned long long)t.removed, (unsigned long long)t.pulls, (clock_mono_ns() - begin) / 1e9);
	return 0;
}

static bool number(const char *text, uint64_t *out)
{
	return str_u64(str_of(text), 10, out);
}

static bool find_break(const char *name, struct options *o)
{
	for (size_t i = 1; i < ARRAY_LEN(breaks); i++) {
		if (!strcmp(breaks[i], name)) {
			o->broken = i;
			o->broken_name = breaks[i];
			return true;
		}
	}
	return false;
}

static bool parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
	    {"runs", required_argument, NULL, 'r'},   {"seed", required_argument, NULL, 's'},
	    {"steps", required_argument, NULL, 'n'},  {"break", required_argument, NULL, 'b'},
	    {"budget", required_argument, NULL, 'u'}, {"trace", no_argument, NULL, 't'},
	    {"bench", no_argument, NULL, 'B'},        {0},
	};
	bool ok = true, runs = false;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'r':
			ok &= runs = number(optarg, &o->runs);
			break;
		case 's':
			ok &= number(optarg, &o->seed);
			break;
		case 'n':
			ok &= number(optarg, &o->steps);
			break;
		case 'u':
			ok &= number(optarg, &o->budget) && o->budget && o->budget <= 1000000;
			break;
		case 'b':
			ok &= find_break(optarg, o);
			break;
		case 't':
			o->trace = true;
			break;
		case 'B':
			o->bench = true;
			break;
		default:
			return false;
		}
	}
	if (o->trace && !runs)
		o->runs = 1;
	if (o->bench && optind < argc)
		ok &= number(argv[optind++], &o->nodes) && o->nodes >= 1000 && o->nodes <= 100000000;
	return ok && optind == argc;
}

int main(int argc, char **argv)
{
	struct options o = {.runs = 1000, .seed = 1, .steps = 150, .nodes = 1000000, .budget = 256};

	if (!parse(argc, argv, &o)) {
		fprintf(stderr, "usage: gc_sim [--runs N] [--seed N] [--steps N] [--break WHAT] [--trace]\n"
		                "       gc_sim --bench [NODES] [--budget N]\n");
		return 2;
	}
	random_fix();
	return o.bench ? sim_bench(o.nodes, o.budget) : run_all(&o);
}
