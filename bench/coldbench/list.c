/* coldbench list: what there is to run. */
#include "bench/coldbench/modes/mode.h"
#include "bench/coldbench/verb.h"

#include "base/file.h"

#include <dirent.h>
#include <stdio.h>

enum { OPT_SUITE = 256, OPT_STARGZ_GRPC };

static const struct argp_option OPTIONS[] = {
    {"suite", OPT_SUITE, "SUITE", 0, "whose programs the peers are: host, trixie, sid (default: host)", 0},
    {"stargz-grpc", OPT_STARGZ_GRPC, "PATH", 0, "the daemon of stargz-snapshotter", 0},
    {0},
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
	struct engine_options *o = state->input;

	switch (key) {
	case OPT_SUITE:
		if (strcmp(arg, "host") != 0 && strcmp(arg, "trixie") != 0 && strcmp(arg, "sid") != 0)
			argp_error(state, "'%s' is none of host, trixie, sid", arg);
		o->suite = arg;
		return 0;
	case OPT_STARGZ_GRPC:
		o->stargz_grpc = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "no argument is expected: '%s'", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int list_engines(const struct engine_options *o, struct err *err)
{
	AUTO_FD int cancel_fd = -1;
	const struct engine_kind *kind;

	TRY(verb_open_cancel(&cancel_fd, err));
	puts("Engines:");
	for (size_t i = 0; (kind = engine_at(i)); i++) {
		AUTO(buf) struct buf versions = BUF_INIT;
		struct err why = ERR_INIT;
		bool there = kind->probe(o, cancel_fd, &versions, &why) >= 0;

		if (why.code == ERR_CANCELLED)
			return err_set(err, ERR_CANCELLED, "interrupted");
		printf("  %-20s %s%s (images as %s%s)\n", kind->name,
		       there ? "" : "not here: ", there ? buf_cstr(&versions) : why.msg, kind->form,
		       kind->lazy ? ", lazily" : "");
		fflush(stdout);
	}
	return 0;
}

static void list_images(void)
{
	const char *name;

	puts("\nImages:");
	for (size_t i = 0; (name = image_name_at(i)); i++)
		printf("%s%s", i ? " " : "  ", name);
	putchar('\n');
}

static void list_modes(void)
{
	const struct mode *mode;

	puts("\nModes:");
	for (size_t i = 0; (mode = mode_at(i)); i++)
		printf("  %-20s %s (%s)%s\n", mode->name, mode->title, mode->figure,
		       mode->takes_several ? "; takes several images, \"python+nginx\"" : "");
}

static int is_suite(const struct dirent *e)
{
	return str_ends(str_of(e->d_name), STR(".toml"));
}

static void list_suites(void)
{
	AUTO_FREE char *dir = xasprintf("%s/bench/suites", source_dir());
	struct dirent **entries = NULL;
	int n = scandir(dir, &entries, is_suite, alphasort);

	puts("\nSuites:");
	for (int i = 0; i < n; i++) {
		AUTO_FREE char *path = xasprintf("%s/%s", dir, entries[i]->d_name);
		struct suite suite = {0};
		struct err why = ERR_INIT;
		bool right = suite_read(path, &suite, &why) >= 0;

		printf("  %s\n    %s\n", path, right ? suite.title : why.msg);
		suite_fini(&suite);
		free(entries[i]);
	}
	free(entries);
}

int list_verb(int argc, char **argv)
{
	const struct argp argp = {OPTIONS, on_option, NULL,
	                          "Lists engines with their versions, images, modes and suites."};
	struct engine_options o = {.suite = "host", .runtime = "runc"};
	struct err err = ERR_INIT;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (list_engines(&o, &err) < 0)
		return verb_fail(&err);
	list_images();
	list_modes();
	list_suites();
	return EXIT_OK;
}
