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

/* A suite and what it has, a line each; what is missing is said, too. */
static void list_suite(const char *suite, int cancel_fd)
{
	static const char *const PROGRAMS[] = {"containerd", "runc", "crun", "podman", "conmon", "skopeo"};
	const struct engine_options options = {.suite = suite};
	AUTO_FREE char *root = NULL, *stargz = NULL;
	struct err err = ERR_INIT;

	if (peers_root(suite, &root, &err) < 0) {
		printf("%-7s %s\n", suite, err.msg);
		return;
	}
	printf("%-7s %s\n", suite, root ? root : "this machine's own");
	for (size_t i = 0; i < ARRAY_LEN(PROGRAMS) && !verb_is_cancelled(cancel_fd); i++) {
		AUTO(buf) struct buf line = BUF_INIT;

		if (peers_versions(suite, (const char *const[]){PROGRAMS[i], NULL}, cancel_fd, &line, &err) < 0)
			printf("        - %s\n", err.msg);
		else
			printf("        %s\n", buf_cstr(&line));
	}
	if (peers_stargz(&options, &stargz, &err) < 0) {
		printf("        - %s\n", err.msg);
	} else {
		AUTO(buf) struct buf line = BUF_INIT;

		if (peers_versions("host", (const char *const[]){stargz, NULL}, cancel_fd, &line, &err) < 0)
			printf("        - %s\n", err.msg);
		else
			printf("        %s\n", buf_cstr(&line));
	}
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
