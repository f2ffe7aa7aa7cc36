/* coldbench: measures cold starts of containers. The table of verbs. */
#include "bench/coldbench/verb.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

static const struct verb VERBS[] = {
    {"run", "SUITE.toml", "take the samples of a suite, and report them", run_verb},
    {"list", "", "engines with their versions, images, modes, suites", list_verb},
    {"images", "build|list|prune", "make the benchmark's images, tell what there is", images_verb},
    {"report", "DIR|FILE.jsonl...", "reports of what was measured: table, page, CSV", report_verb},
    {"peers", "list|setup [SUITE]", "the programs of newer Debian suites", peers_verb},
    {"doctor", "[--quick]", "can figures from here be trusted? machine, network, overhead, power", doctor_verb},
    {0},
};

static void print_help(FILE *to)
{
	fputs("Usage: coldbench VERB [ARG...]\n"
	      "Measures when a program in a container is ready: ours beside the peers'.\n\n",
	      to);
	for (const struct verb *v = VERBS; v->name; v++)
		fprintf(to, "  %-7s %-18s %s\n", v->name, v->args, v->help);
	fputs("\n`coldbench VERB --help` tells more of each.\n", to);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	char program[64];

	log_init("coldbench", LOG_INFO, false);
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
		print_help(stdout);
		return EXIT_OK;
	}
	if (!strcmp(name, "--version")) {
		puts("coldbench " CONTENTD_VERSION);
		return EXIT_OK;
	}
	for (const struct verb *v = VERBS; v->name; v++) {
		if (strcmp(v->name, name) != 0)
			continue;
		snprintf(program, sizeof(program), "coldbench %s", name);
		argv[1] = program;
		return v->run(argc - 1, argv + 1);
	}
	if (*name)
		fprintf(stderr, "coldbench: unknown verb '%s'\n", name);
	print_help(stderr);
	return EXIT_USAGE;
}
