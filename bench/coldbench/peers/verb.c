/* coldbench peers: fetches the programs of a suite, and lists those that are there. */
#include "bench/coldbench/verb.h"
#include "bench/coldbench/peers/peers.h"

#include "base/unix.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static const char *const SUITES[] = {"host", "trixie", "sid"};

struct options {
	const char *what, *suite;
};

static bool is_suite(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(SUITES); i++)
		if (!strcmp(name, SUITES[i]))
			return true;
	return false;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case ARGP_KEY_ARG:
		if (!o->what)
			o->what = arg;
		else if (!o->suite)
			o->suite = arg;
		else
			argp_error(state, "too many arguments");
		return 0;
	case ARGP_KEY_END:
		if (!o->what || (strcmp(o->what, "list") != 0 && strcmp(o->what, "setup") != 0))
			argp_error(state, "list or setup?");
		if (o->suite && !is_suite(o->suite))
			argp_error(state, "no suite '%s': host, trixie or sid", o->suite);
		if (!strcmp(o->what, "setup") && o->suite && !strcmp(o->suite, "host"))
			argp_error(state, "setup is for trixie and sid: the host's programs come from its apt");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* A line that tells its version, or why there is none. False when the user wants to stop. */
static bool list_program(const char *suite, const char *program, int cancel_fd)
{
	AUTO(buf) struct buf line = BUF_INIT;
	struct err err = ERR_INIT;
	int r = peers_versions(suite, (const char *const[]){program, NULL}, cancel_fd, &line, &err);

	if (r == -ERR_CANCELLED)
		return false;
	printf("        %s%s\n", r < 0 ? "- " : "", r < 0 ? err.msg : buf_cstr(&line));
	return true;
}

/* A suite and what it has, a line each; what is missing is said, too. */
static void list_suite(const char *suite, int cancel_fd)
{
	static const char *const PROGRAMS[] = {"containerd", "runc", "crun", "podman", "conmon", "skopeo"};
	const struct engine_options options = {.suite = suite};
	AUTO_FREE char *root = NULL, *stargz = NULL;
	struct err err = ERR_INIT;
	int r = peers_root(suite, cancel_fd, &root, &err);

	if (r == -ERR_CANCELLED)
		return;
	printf("%-7s %s\n", suite, r < 0 ? err.msg : root ?: "this machine's own");
	if (r < 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(PROGRAMS); i++)
		if (!list_program(suite, PROGRAMS[i], cancel_fd))
			return;
	r = peers_stargz(&options, cancel_fd, &stargz, &err);
	if (r >= 0)
		list_program("host", stargz, cancel_fd);
	else if (r != -ERR_CANCELLED)
		printf("        - %s\n", err.msg);
}

/* Its output goes where ours goes: it takes minutes. */
static int run_script(const char *script, const char *suite, struct err *err)
{
	AUTO_FREE char *program = xasprintf("%s/%s", source_dir(), script);
	const char *argv[] = {program, suite, NULL};
	int status;
	pid_t pid;

	TRY(spawn_start(&(struct spawn){.argv = argv, .stdio = {-1, -1, -1}}, &pid, err));
	TRY(spawn_wait(pid, &status, err));
	if (status)
		return err_set(err, ERR_INTERNAL, "%s %s failed", program, suite);
	return 0;
}

int peers_verb(int argc, char **argv)
{
	static const struct argp ARGP = {
	    .parser = parse,
	    .args_doc = "list|setup [SUITE]",
	    .doc = "Programs that the engines beside ours are made of: those of this machine (host), or of a newer "
		   "Debian, "
		   "trixie or sid (default for setup), which setup fetches from a mirror into a root of their own; it "
		   "compiles the daemon of stargz-snapshotter, too, which takes minutes.",
	};
	AUTO_FD int cancel_fd = -1;
	struct options o = {0};
	struct err err = ERR_INIT;

	argp_parse(&ARGP, argc, argv, 0, NULL, &o);
	if (!strcmp(o.what, "setup")) {
		const char *suite = o.suite ? o.suite : "sid";

		if (run_script("tests/peers.sh", suite, &err) < 0 ||
		    run_script("bench/peers/stargz.sh", suite, &err) < 0)
			return verb_fail(&err);
		return EXIT_OK;
	}
	if (verb_open_cancel(&cancel_fd, &err) < 0)
		return verb_fail(&err);
	for (size_t i = 0; i < ARRAY_LEN(SUITES) && !verb_is_cancelled(cancel_fd); i++)
		if (!o.suite || !strcmp(o.suite, SUITES[i]))
			list_suite(SUITES[i], cancel_fd);
	return verb_is_cancelled(cancel_fd) ? EXIT_INTERRUPTED : EXIT_OK;
}
