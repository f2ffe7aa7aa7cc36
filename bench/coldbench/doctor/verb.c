/* coldbench doctor: examines what the figures rest on. */
#include "bench/coldbench/verb.h"
#include "bench/coldbench/doctor/doctor.h"
#include "bench/coldbench/fingerprint.h"

#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define WIDTH 100

static const struct section {
	const char *name;
	int (*run)(const struct doctor *d, struct sheet *s, struct err *err);
} SECTIONS[] = {
    {"machine", machine_section},
    {"proxy", proxy_section},
    {"overhead", overhead_section},
    {"power", power_section},
};

struct options {
	struct doctor doctor;
	bool wanted[ARRAY_LEN(SECTIONS)];
	bool json;
	const char *work;
};

enum { OPT_QUICK = 256, OPT_ONLY, OPT_SUITE, OPT_STARGZ_GRPC, OPT_RUNTIME, OPT_ENGINE, OPT_IMAGE, OPT_WORK, OPT_JSON };

static const struct argp_option OPTIONS[] = {
    {"quick", OPT_QUICK, NULL, 0, "fewer repetitions: about a minute instead of five", 0},
    {"only", OPT_ONLY, "SECTION", 0, "machine, proxy, overhead or power (repeat for several)", 0},
    {"engine", OPT_ENGINE, "NAME", 0, "whose starts are measured (default: contentd)", 0},
    {"image", OPT_IMAGE, "NAME", 0, "which image is started; it has a shell (default: shell)", 0},
    {"suite", OPT_SUITE, "SUITE", 0, "whose programs the peers are: host, trixie, sid (default: host)", 0},
    {"stargz-grpc", OPT_STARGZ_GRPC, "PATH", 0, "the daemon of stargz-snapshotter", 0},
    {"runtime", OPT_RUNTIME, "NAME", 0, "runc or crun, where an engine leaves the choice (default: runc)", 0},
    {"work", OPT_WORK, "DIR", 0, "where engines have their files; on a disk (default: /var/tmp)", 0},
    {"json", OPT_JSON, NULL, 0, "print JSON", 0},
    {0},
};

static void want(struct options *o, const char *name, struct argp_state *state)
{
	for (size_t i = 0; i < ARRAY_LEN(SECTIONS); i++)
		if (!strcmp(SECTIONS[i].name, name)) {
			o->wanted[i] = true;
			return;
		}
	argp_error(state, "no section '%s'", name);
}

static void finish_options(struct options *o, struct argp_state *state)
{
	const char *suite = o->doctor.engines.suite, *runtime = o->doctor.engines.runtime;
	bool any = false;

	if (strcmp(suite, "host") != 0 && strcmp(suite, "trixie") != 0 && strcmp(suite, "sid") != 0)
		argp_error(state, "no suite '%s'", suite);
	if (strcmp(runtime, "runc") != 0 && strcmp(runtime, "crun") != 0)
		argp_error(state, "no runtime '%s'", runtime);
	if (!engine_find(o->doctor.engine))
		argp_error(state, "no engine '%s'", o->doctor.engine);
	for (size_t i = 0; i < ARRAY_LEN(SECTIONS); i++)
		any |= o->wanted[i];
	for (size_t i = 0; !any && i < ARRAY_LEN(SECTIONS); i++)
		o->wanted[i] = true;
}

static error_t on_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case OPT_QUICK:
		o->doctor.quick = true;
		return 0;
	case OPT_ONLY:
		want(o, arg, state);
		return 0;
	case OPT_ENGINE:
		o->doctor.engine = arg;
		return 0;
	case OPT_IMAGE:
		o->doctor.image = arg;
		return 0;
	case OPT_SUITE:
		o->doctor.engines.suite = arg;
		return 0;
	case OPT_STARGZ_GRPC:
		o->doctor.engines.stargz_grpc = arg;
		return 0;
	case OPT_RUNTIME:
		o->doctor.engines.runtime = arg;
		return 0;
	case OPT_WORK:
		o->work = arg;
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "no argument is expected: '%s'", arg);
		return 0;
	case ARGP_KEY_END:
		finish_options(o, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* A section that cannot be done is a bound that is missed; one that was stopped says nothing. */
static int run_section(const struct section *section, const struct doctor *d, struct sheet *s)
{
	struct err err = ERR_INIT;
	int r;

	s->name = section->name;
	s->title = "";
	fprintf(stderr, "doctor: %s ...\n", s->name);
	r = section->run(d, s, &err);
	if (verb_is_cancelled(d->cancel_fd))
		return EXIT_INTERRUPTED;
	if (r < 0) {
		struct finding *f = sheet_text(s, "done", "examined", "no");

		finding_judge(f, false, FINDING_BAD, NULL);
		finding_advise(f, "%s", err.msg);
	}
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}

static void print_verdict(size_t bad, size_t warnings)
{
	if (!bad && !warnings)
		puts("All is well.");
	else if (!bad)
		printf("Figures from here can be trusted; %zu warning%s above could make them better.\n", warnings,
		       warnings == 1 ? "" : "s");
	else
		printf("%zu finding%s marked MISSED above: see to %s before believing figures from here.\n", bad,
		       bad == 1 ? "" : "s", bad == 1 ? "it" : "them");
}

static void json_begin(struct json_writer *w, struct buf *out, const struct doctor *d)
{
	char at[40];

	json_writer_init(w, out, "  ");
	json_w_object_begin(w);
	json_w_ki64(w, "doctor", 1);
	json_w_kcstr(w, "version", CONTENTD_VERSION);
	json_w_kcstr(w, "at", time_rfc3339(clock_wall(), at));
	json_w_kbool(w, "quick", d->quick);
	json_w_key(w, "machine");
	fingerprint_write(w, d->dir);
	json_w_key(w, "sections");
	json_w_object_begin(w);
}

static void json_finish(struct json_writer *w, bool passed)
{
	json_w_object_end(w);
	json_w_kbool(w, "passed", passed);
	json_w_object_end(w);
}

static unsigned terminal_width(void)
{
	struct winsize size;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_col < 40 || size.ws_col > WIDTH ? WIDTH : size.ws_col;
}

static int examine(const struct options *o)
{
	AUTO(buf) struct buf json = BUF_INIT;
	size_t bad = 0, warnings = 0;
	struct json_writer w;
	int status = EXIT_OK;

	json_begin(&w, &json, &o->doctor);
	for (size_t i = 0; i < ARRAY_LEN(SECTIONS); i++) {
		AUTO(sheet) struct sheet s = {0};

		if (!o->wanted[i])
			continue;
		status = run_section(&SECTIONS[i], &o->doctor, &s);
		if (status == EXIT_INTERRUPTED)
			break;
		json_w_key(&w, s.name);
		sheet_json(&s, &w);
		if (!o->json)
			sheet_print(&s, stdout, terminal_width());
		fflush(stdout);
		bad += sheet_count(&s, FINDING_BAD);
		warnings += sheet_count(&s, FINDING_WARN);
	}
	json_finish(&w, !bad && status != EXIT_INTERRUPTED);
	if (o->json)
		puts(buf_cstr(&json));
	else if (status == EXIT_INTERRUPTED)
		puts("Stopped.");
	else
		print_verdict(bad, warnings);
	return status == EXIT_INTERRUPTED ? status : bad ? EXIT_FAILED : EXIT_OK;
}

/* With a folder of its own below `work`. */
static int examine_in(struct options *o, struct err *err)
{
	AUTO_FREE char *dir = xasprintf("%s/coldbench.XXXXXX", o->work);
	AUTO_FD int cancel_fd = -1;
	AUTO_FD int work_fd = -1;
	int status, removed;

	work_fd = open(o->work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (work_fd < 0)
		return err_errno(err, errno, "open %s", o->work);
	TRY(verb_open_cancel(&cancel_fd, err));
	if (!mkdtemp(dir))
		return err_errno(err, errno, "make a folder in %s", o->work);
	o->doctor.dir = dir;
	o->doctor.cancel_fd = cancel_fd;
	status = examine(o);
	removed = dir_remove(work_fd, dir + strlen(o->work) + 1, err);
	return removed < 0 ? removed : status;
}

int doctor_verb(int argc, char **argv)
{
	const struct argp argp = {
	    OPTIONS,
	    on_option,
	    NULL,
	    "Examines what coldbench's figures rest on: the machine, the modelled network, what measuring adds, and "
	    "how small a "
	    "difference is told. Ends with status 1 when a bound is missed.\v"
	    "Sections can be examined alone, e.g. `coldbench doctor --only machine` before a long run.",
	};
	struct options o = {
	    .doctor = {.engines = {.suite = "host", .runtime = "runc"}, .engine = "contentd", .image = "shell"},
	    .work = "/var/tmp",
	};
	struct err err = ERR_INIT;
	int status;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	status = examine_in(&o, &err);
	return status < 0 ? verb_fail(&err) : status;
}
