/* coldbench report: reports of raw data that is there. */
#include "bench/coldbench/verb.h"
#include "bench/coldbench/report/report.h"

#include <stdio.h>

enum { OPT_HTML = 256, OPT_CSV, OPT_JSON, OPT_REFERENCE };

struct arguments {
	struct report_options o;
	VEC(const char *) paths;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case OPT_HTML:
		a->o.html = arg;
		return 0;
	case OPT_CSV:
		a->o.csv = arg;
		return 0;
	case OPT_JSON:
		a->o.json = true;
		return 0;
	case OPT_REFERENCE:
		a->o.reference = arg;
		return 0;
	case ARGP_KEY_ARG:
		vec_push(&a->paths, arg);
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which raw data?");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int report_verb(int argc, char **argv)
{
	static const struct argp_option options[] = {
	    {"html", OPT_HTML, "FILE", 0, "write a page that stands alone", 0},
	    {"csv", OPT_CSV, "FILE", 0, "write every sample as CSV, and a summary beside it (NAME-summary.csv)", 0},
	    {"json", OPT_JSON, NULL, 0, "print the summary as JSON instead of the table", 0},
	    {"reference", OPT_REFERENCE, "ENGINE[:FORM]", 0, "what ratios are to (default: containerd)", 0},
	    {0},
	};
	static const struct argp argp = {
	    .options = options,
	    .parser = parse,
	    .args_doc = "DIR|FILE.jsonl...",
	    .doc = "Prints a table of what was measured. Several files are merged.",
	};
	struct arguments a = {.o = {.out = stdout, .warnings = stderr}, .paths = VEC_INIT};
	struct err err = ERR_INIT;
	int r;

	argp_err_exit_status = EXIT_USAGE;
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	a.o.paths = a.paths.p;
	a.o.n_paths = a.paths.n;
	r = report_make(&a.o, &err);
	vec_fini(&a.paths);
	return r < 0 ? verb_fail(&err) : EXIT_OK;
}
