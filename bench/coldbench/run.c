/* coldbench run: takes the samples of a suite. */
#include "bench/coldbench/fingerprint.h"
#include "bench/coldbench/report/report.h"
#include "bench/coldbench/stage.h"
#include "bench/coldbench/verb.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>

/* A start may take this long and three times what the network needs for all of the case's images. */
#define TIMEOUT_S 120
/* When an engine is given up: samples that it had, more than half of which failed. */
#define TRIALS 4

struct run {
	const char *path, *out, *work;
	struct plan_filter filter;
	struct engine_options engine;
	uint64_t seed;
	bool has_seed, json, keep;
	char *command;

	struct suite suite;
	struct plan plan;
	struct stage stage;
	struct progress progress;
	int cancel_fd, samples_fd;
	char *dir; /* of the results */
	unsigned order, n_failed;
	struct sample_set set;
};

static void run_fini(struct run *r)
{
	plan_fini(&r->plan);
	suite_fini(&r->suite);
	sample_set_fini(&r->set);
	free(r->command);
	free(r->dir);
	if (r->cancel_fd >= 0)
		close(r->cancel_fd);
	if (r->samples_fd >= 0)
		close(r->samples_fd);
}
DEFINE_AUTO_FINI(run);

/* ---- options ---- */

enum { OPT_ONLY = 256, OPT_ENGINES, OPT_SUITE, OPT_STARGZ_GRPC, OPT_RUNTIME, OPT_SEED, OPT_WORK, OPT_JSON, OPT_KEEP };

static const struct argp_option OPTIONS[] = {
    {"out", 'o', "DIR", 0, "where samples.jsonl, samples.csv and report.html go (default: coldbench-SUITE-TIME)", 0},
    {"repetitions", 'n', "N", 0, "instead of what the suite says", 0},
    {"only", OPT_ONLY, "REGEX", 0, "cases whose GROUP/IMAGE/FORM/ENGINE/NETWORK matches", 0},
    {"engines", OPT_ENGINES, "LIST", 0, "these alone, separated by commas", 0},
    {"suite", OPT_SUITE, "SUITE", 0, "whose programs the peers are: host, trixie, sid (default: host)", 0},
    {"stargz-grpc", OPT_STARGZ_GRPC, "PATH", 0, "the daemon of stargz-snapshotter", 0},
    {"runtime", OPT_RUNTIME, "NAME", 0, "runc or crun, where an engine leaves the choice (default: runc)", 0},
    {"seed", OPT_SEED, "N", 0, "the order of a run before (it is in the raw data)", 0},
    {"work", OPT_WORK, "DIR", 0, "where engines have their files; on a disk (default: /var/tmp)", 0},
    {"json", OPT_JSON, NULL, 0, "print the samples instead of the table, a line of JSON each", 0},
    {"keep", OPT_KEEP, NULL, 0, "keep the engines' folders, with their logs", 0},
    {0},
};

static const char *one_of(const char *a, const char *b, const char *c, const char *arg, struct argp_state *state)
{
	if (strcmp(arg, a) != 0 && strcmp(arg, b) != 0 && strcmp(arg, c) != 0)
		argp_error(state, "'%s' is none of %s, %s%s%s", arg, a, b, c == b ? "" : ", ", c == b ? "" : c);
	return arg;
}

static uint64_t number(const char *arg, uint64_t max, struct argp_state *state)
{
	uint64_t n = 0;

	if (!str_u64(str_of(arg), 10, &n) || n > max)
		argp_error(state, "'%s' is no number up to %llu", arg, (unsigned long long)max);
	return n;
}

static error_t on_option(int key, char *arg, struct argp_state *state)
{
	struct run *r = state->input;

	switch (key) {
	case 'o':
		r->out = arg;
		return 0;
	case 'n':
		r->filter.repetitions = (unsigned)number(arg, 1000, state);
		return 0;
	case OPT_ONLY:
		r->filter.only = arg;
		return 0;
	case OPT_ENGINES:
		r->filter.engines = arg;
		return 0;
	case OPT_SUITE:
		r->engine.suite = one_of("host", "trixie", "sid", arg, state);
		return 0;
	case OPT_STARGZ_GRPC:
		r->engine.stargz_grpc = arg;
		return 0;
	case OPT_RUNTIME:
		r->engine.runtime = one_of("runc", "crun", "crun", arg, state);
		return 0;
	case OPT_SEED:
		r->seed = number(arg, UINT32_MAX, state);
		r->has_seed = true;
		return 0;
	case OPT_WORK:
		r->work = arg;
		return 0;
	case OPT_JSON:
		r->json = true;
		return 0;
	case OPT_KEEP:
		r->keep = true;
		return 0;
	case ARGP_KEY_ARG:
		if (r->path)
			argp_error(state, "one suite at a time: '%s'", arg);
		r->path = arg;
		return 0;
	case ARGP_KEY_END:
		if (!r->path)
			argp_error(state, "which suite? (coldbench list names them)");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- the raw data ---- */

static int append(struct run *r, struct str line, struct err *err)
{
	TRY_WRAP(fd_write_all(r->samples_fd, line, err), err, "%s/samples.jsonl", r->dir);
	return 0;
}

static int write_header(struct run *r, struct err *err)
{
	struct json_writer w;
	char at[40];

	json_writer_init(&w, &r->set.header, NULL);
	json_w_object_begin(&w);
	json_w_ki64(&w, "coldbench", 1);
	json_w_kcstr(&w, "suite", r->suite.name);
	json_w_kcstr(&w, "title", r->suite.title);
	json_w_kcstr(&w, "command", r->command);
	json_w_kcstr(&w, "begun", time_rfc3339((struct timespec){.tv_sec = clock_wall().tv_sec}, at));
	json_w_ki64(&w, "seed", (int64_t)r->seed);
	json_w_kcstr(&w, "peers", r->engine.suite);
	json_w_kcstr(&w, "runtime", r->engine.runtime);
	json_w_key(&w, "machine");
	fingerprint_write(&w, r->stage.dir);
	stage_write(&r->stage, &w);
	json_w_object_end(&w);
	TRY(append(r, buf_str(&r->set.header), err));
	return append(r, STR("\n"), err);
}

/* The folder of the results. Samples take an hour to measure: nothing writes over those of another run. */
static int name_results(struct run *r, struct err *err)
{
	AUTO_FREE char *path = NULL;
	time_t now = time(NULL);
	struct tm t;

	if (r->out)
		r->dir = xstrdup(r->out);
	else
		r->dir = localtime_r(&now, &t)
		             ? xasprintf("coldbench-%s-%04d%02d%02dT%02d%02d%02d", r->suite.name, t.tm_year + 1900,
		                         t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec)
		             : xasprintf("coldbench-%s", r->suite.name);
	path = xasprintf("%s/samples.jsonl", r->dir);
	if (!access(path, F_OK))
		return err_set(err, ERR_EXISTS, "%s holds samples of another run: name another --out", r->dir);
	return 0;
}

/* The file that grows in it. */
static int open_results(struct run *r, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/samples.jsonl", r->dir);

	TRY(dir_make(r->dir, 0755, err));
	r->samples_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	return r->samples_fd < 0 ? err_errno(err, errno, "open %s", path) : 0;
}

/* ---- samples ---- */

static int64_t timeout_of(const struct bench_case *c, const struct target *targets)
{
	double bytes = 0, wire_s;

	for (unsigned i = 0; i < c->n_images; i++)
		bytes += (double)targets[i].img->layer_bytes;
	wire_s = c->network->mbit > 0 ? bytes * 8 / (c->network->mbit * 1e6) : 0;
	return (int64_t)((TIMEOUT_S + 3 * wire_s) * NS_PER_S);
}

/* The sample's figure for people. */
static void figure(const struct bench_case *c, const struct sample *s, char *dst, size_t bytes)
{
	const struct mode *mode = mode_find(c->mode);
	double value = sample_get(s, mode->figure);
	struct str name = str_of(mode->figure);

	if (s->error)
		snprintf(dst, bytes, "failed");
	else if (isnan(value))
		snprintf(dst, bytes, "done");
	else if (str_ends(name, STR("_ms")))
		snprintf(dst, bytes, "%.0f ms", value);
	else
		snprintf(dst, bytes, "%s %.4g", mode->figure, value);
}

static int keep_sample(struct run *r, const struct sample *s, struct err *err)
{
	AUTO(buf) struct buf line = BUF_INIT;

	sample_write(s, &line);
	if (r->json)
		fwrite(line.p, 1, line.n, stdout);
	fflush(stdout);
	return append(r, buf_str(&line), err);
}

/* An engine that does not work here costs a time-out for each of its samples: enough is enough. Over a network with faults,
 * failures are what is asked for, and nobody is judged by them. */
static void judge(struct run *r, struct stage_engine *e, bool failed)
{
	e->n++;
	e->n_failed += failed;
	if (e->n < TRIALS || e->n > 2 * TRIALS || e->n_failed * 2 <= e->n)
		return;
	e->is_out = true;
	progress_say(&r->progress, "%s is given up: %u of its first %u samples failed", e->name, e->n_failed, e->n);
}

/* Its faults come with what is measured (steps_begin_network). Nothing is counted that was before. */
static int set_network(struct net *net, const struct network *as, struct err *err)
{
	TRY(net_set(net, as->rtt_ms, as->mbit, err));
	TRY(net_set_faults(net, NULL, err));
	return net_reset(net, err);
}

static void count_faults(struct net *net, struct sample *s)
{
	uint64_t n;

	if (s->faults && net_faults(net, &n, NULL) >= 0)
		sample_set(s, "net.faults", (double)n);
}

/* ERR_CANCELLED: and no sample of it. */
static int take(struct run *r, const struct bench_case *c, const struct target *targets, struct stage_engine *e,
                unsigned repetition, struct err *err)
{
	AUTO_FREE char *name = case_name(c);
	AUTO_FREE char *title = xasprintf("%s %s", c->group, name);
	struct err why = ERR_INIT;
	struct sample s;
	char text[64];
	int status;

	progress_case(&r->progress, title);
	sample_init(&s, c, repetition, ++r->order);
	r->stage.world.timeout_ns = timeout_of(c, targets);
	status = set_network(r->stage.world.net, c->network, &why);
	if (status >= 0)
		status = mode_find(c->mode)->measure(&r->stage.world, c, targets, &s, &why);
	if (verb_is_cancelled(r->cancel_fd)) {
		sample_fini(&s);
		return err_set(err, ERR_CANCELLED, "interrupted");
	}
	if (status < 0) {
		s.error = xstrdup(why.msg);
		r->n_failed++;
		progress_say(&r->progress, "%s: %s", title, why.msg);
	}
	count_faults(r->stage.world.net, &s);
	vec_push(&r->set.samples, s);
	figure(c, &s, text, sizeof(text));
	progress_done(&r->progress, title, text);
	if (!c->network->faults)
		judge(r, e, status < 0);
	return keep_sample(r, &s, err);
}

static int take_all(struct run *r, struct err *err)
{
	struct target targets[CASE_IMAGES_MAX];
	size_t total = 0;

	vec_each(&r->plan.items, item) {
		struct stage_engine *e;

		total += stage_find(&r->stage, &r->suite.cases[item->i_case], &e, targets);
	}
	if (!total)
		return err_set(err, ERR_UNAVAILABLE, "none of the suite's engines and images is to be had here");
	TRY(open_results(r, err));
	TRY(write_header(r, err));
	progress_begin(&r->progress, stderr, total);
	vec_each(&r->plan.items, item) {
		const struct bench_case *c = &r->suite.cases[item->i_case];
		struct stage_engine *e;

		if (stage_find(&r->stage, c, &e, targets))
			TRY(take(r, c, targets, e, item->repetition, err));
	}
	return 0;
}

/* ---- the whole ---- */

static int report(struct run *r, struct err *err)
{
	AUTO_FREE char *raw = xasprintf("%s/samples.jsonl", r->dir);
	AUTO_FREE char *html = xasprintf("%s/report.html", r->dir);
	AUTO_FREE char *csv = xasprintf("%s/samples.csv", r->dir);

	if (!r->set.samples.n)
		return 0;
	TRY(report_write(raw, html, csv, err));
	if (!r->json)
		report_print_table(&r->set, stdout);
	progress_say(&r->progress, "%zu samples, %u of them failed: %s", r->set.samples.n, r->n_failed, html);
	return 0;
}

/* What was measured is reported whatever ended the run. */
static int measure(struct run *r, struct err *err)
{
	struct err later = ERR_INIT;
	int status, end;

	progress_begin(&r->progress, stderr, 0);
	status =
	    stage_open(&r->stage, r->work, &r->engine, &r->suite, &r->plan, r->cancel_fd, r->keep, &r->progress, err);
	if (status >= 0)
		status = take_all(r, err);
	progress_end(&r->progress);
	if (r->keep && r->stage.dir)
		progress_say(&r->progress, "kept: %s", r->stage.dir);
	end = stage_close(&r->stage, status < 0 ? &later : err);
	status = status < 0 ? status : end;
	end = report(r, status < 0 ? &later : err);
	return status < 0 ? status : end;
}

static int run(struct run *r, struct err *err)
{
	if (geteuid() != 0)
		return err_set(err, ERR_PERMISSION, "only root can start engines and drop caches");
	if (!r->has_seed)
		r->seed = random_u64() & UINT32_MAX;
	TRY(suite_read(r->path, &r->suite, err));
	TRY(plan_make(&r->suite, &r->filter, r->seed, &r->plan, err));
	TRY(name_results(r, err));
	TRY(verb_open_cancel(&r->cancel_fd, err));
	return measure(r, err);
}

static char *join(int argc, char **argv)
{
	AUTO(buf) struct buf b = BUF_INIT;

	for (int i = 0; i < argc; i++)
		buf_addf(&b, "%s%s", i ? " " : "", argv[i]);
	return buf_steal(&b);
}

int run_verb(int argc, char **argv)
{
	const struct argp argp = {
	    OPTIONS,
	    on_option,
	    "SUITE.toml",
	    "Takes all samples of a suite, engines in turn in a random order, and writes the raw data, a table and a "
	    "report.\vEngines that are not there are named and left out. Ctrl-C ends the run; what was measured is "
	    "kept and reported. A folder that holds samples of another run is not written to.",
	};
	AUTO(run)
	struct run r = {
	    .work = "/var/tmp",
	    .engine = {.suite = "host", .runtime = "runc"},
	    .cancel_fd = -1,
	    .samples_fd = -1,
	};
	struct err err = ERR_INIT;

	r.command = join(argc, argv);
	argp_parse(&argp, argc, argv, 0, NULL, &r);
	if (run(&r, &err) >= 0)
		return r.set.samples.n > r.n_failed ? EXIT_OK : EXIT_FAILED;
	return verb_fail(&err);
}
