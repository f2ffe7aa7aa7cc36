/*
 * The simulation of collection in the daemon: pulls, clients and crashes beside the collector, over the real metadata and
 * graph on a table in memory and a model of the files; each run from one seed.
 *
 *     collect_sim [--runs N] [--seed FIRST] [--steps N] [--break uses|pins|going]
 *     collect_sim --seed N --trace         one run, told step by step
 *
 * Ends with 1, and says how to replay it, when something live was removed, garbage stayed, or store and model differ.
 */
#include "base/clock.h"
#include "base/random.h"
#include "contentd/collect/sim/world.h"

#include <getopt.h>
#include <stdio.h>

struct options {
	uint64_t runs, seed, steps;
	enum sim_break broken;
	bool trace;
};

struct totals {
	uint64_t steps, cycles, removed, pulls, crashes;
};

static const char *const breaks[] = {
    [SIM_BREAK_NOTHING] = "nothing",
    [SIM_BREAK_USES] = "uses",
    [SIM_BREAK_PINS] = "pins",
    [SIM_BREAK_GOING] = "going",
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

static void tell_replay(const struct options *o, uint64_t seed, const struct sim *s)
{
	printf("seed %llu, step %llu: %s\n", (unsigned long long)seed, (unsigned long long)s->steps, s->wrong);
	printf("replay: collect_sim --seed %llu --steps %llu%s%s --trace\n", (unsigned long long)seed,
	       (unsigned long long)o->steps, o->broken ? " --break " : "", o->broken ? breaks[o->broken] : "");
}

static int run_all(const struct options *o)
{
	struct totals t = {0};
	int64_t begin = clock_mono_ns();

	for (uint64_t i = 0; i < o->runs; i++) {
		struct sim s;

		sim_init(&s, o->seed + i, o->broken, o->trace);
		run(&s, o->steps);
		t.steps += s.steps;
		t.cycles += s.cycles;
		t.removed += s.removed;
		t.pulls += s.pulls;
		t.crashes += s.crashes;
		sim_fini(&s);
		if (s.wrong[0]) {
			tell_replay(o, o->seed + i, &s);
			return 1;
		}
	}
	printf(
	    "%llu interleavings, %llu steps, %llu cycles, %llu removals, %llu pulls finished, %llu crashes: %.1f s\n",
	    (unsigned long long)o->runs, (unsigned long long)t.steps, (unsigned long long)t.cycles,
	    (unsigned long long)t.removed, (unsigned long long)t.pulls, (unsigned long long)t.crashes,
	    (clock_mono_ns() - begin) / 1e9);
	return 0;
}

static bool number(const char *text, uint64_t *out)
{
	return str_u64(str_of(text), 10, out);
}

static bool find_break(const char *name, enum sim_break *out)
{
	for (size_t i = 1; i < ARRAY_LEN(breaks); i++) {
		if (!strcmp(breaks[i], name)) {
			*out = (enum sim_break)i;
			return true;
		}
	}
	return false;
}

static bool parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
	    {"runs", required_argument, NULL, 'r'},  {"seed", required_argument, NULL, 's'},
	    {"steps", required_argument, NULL, 'n'}, {"break", required_argument, NULL, 'b'},
	    {"trace", no_argument, NULL, 't'},       {0},
	};
	bool ok = true, runs = false;
	int c;

	while (ok && (c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'r')
			ok = runs = number(optarg, &o->runs);
		else if (c == 's')
			ok = number(optarg, &o->seed);
		else if (c == 'n')
			ok = number(optarg, &o->steps);
		else if (c == 'b')
			ok = find_break(optarg, &o->broken);
		else if (c == 't')
			o->trace = true;
		else
			ok = false;
	}
	if (o->trace && !runs)
		o->runs = 1;
	return ok && optind == argc;
}

int main(int argc, char **argv)
{
	struct options o = {.runs = 1000, .seed = 1, .steps = 150};

	if (!parse(argc, argv, &o)) {
		fprintf(stderr, "usage: collect_sim [--runs N] [--seed N] [--steps N] [--break uses|pins|going] "
		                "[--trace]\n");
		return 2;
	}
	random_fix();
	return run_all(&o);
}
