/* Programs of other suites: where they are, and which. */
#include "bench/coldbench/peers/peers.h"

#include "base/clock.h"
#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/verb.h"

#include <errno.h>
#include <stdlib.h>

#define QUESTION_NS (30 * NS_PER_S)

bool peers_parse_version(struct str printed, struct str *out)
{
	struct str line, word;

	if (!str_split(&printed, '\n', &line))
		return false;
	while (str_split(&line, ' ', &word)) {
		word = str_trim(word);
		if (word.n > 1 && word.p[0] == 'v')
			word = str_sub(word, 1, word.n);
		if (word.n && word.p[0] >= '0' && word.p[0] <= '9') {
			*out = word;
			return true;
		}
	}
	return false;
}

/* The path that `SCRIPT --path SUITE` prints; nothing need be there. */
static int path_by(const char *script, const char *suite, int cancel_fd, char **out, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO(buf) struct buf printed = BUF_INIT;
	struct str path;
	int status;

	argv_addf(&argv, "%s/%s", source_dir(), script);
	argv_addl(&argv, "--path", suite, NULL);
	TRY(command_output(&argv, true, clock_mono_ns() + QUESTION_NS, cancel_fd, &printed, &status, err));
	path = str_trim(buf_str(&printed));
	if (status || !path.n)
		return err_set(err, ERR_INTERNAL, "%s --path %s: " STR_FMT, argv.p[0], suite, STR_ARG(path));
	*out = xstrndup(path.p, path.n);
	return 0;
}

static bool is_host(const char *suite)
{
	return !strcmp(suite, "host");
}

static bool is_known(const char *suite)
{
	return is_host(suite) || !strcmp(suite, "trixie") || !strcmp(suite, "sid");
}

int peers_root(const char *suite, int cancel_fd, char **out, struct err *err)
{
	AUTO_FREE char *path = NULL;

	*out = NULL;
	if (!is_known(suite))
		return err_set(err, ERR_INVALID, "no suite '%s': host, trixie or sid", suite);
	if (is_host(suite))
		return 0;
	TRY(path_by("tests/peers.sh", suite, cancel_fd, &path, err));
	if (access(path, F_OK))
		return err_set(err, ERR_UNAVAILABLE, "programs of %s are not here: run `coldbench peers setup %s`",
		               suite, suite);
	*out = STEAL(path);
	return 0;
}

int peers_stargz(const struct engine_options *o, int cancel_fd, char **out, struct err *err)
{
	/* The compiled one is static: it serves this machine's containerd as well. */
	const char *suite = is_host(o->suite) ? "sid" : o->suite;
	AUTO_FREE char *path = NULL;

	if (o->stargz_grpc) {
		path = realpath(o->stargz_grpc, NULL);
		if (!path || access(path, X_OK))
			return err_errno(err, errno, "%s", o->stargz_grpc);
		*out = STEAL(path);
		return 0;
	}
	if (is_host(o->suite))
		program_find("containerd-stargz-grpc", &path, NULL);
	if (!path)
		TRY(path_by("bench/peers/stargz.sh", suite, cancel_fd, &path, err));
	if (access(path, X_OK))
		return err_set(err, ERR_UNAVAILABLE,
		               "containerd-stargz-grpc is not here: run `coldbench peers setup %s`, "
		               "or name one with --stargz-grpc",
		               suite);
	*out = STEAL(path);
	return 0;
}

static const char *base_name(const char *program)
{
	const char *slash = strrchr(program, '/');

	return slash ? slash + 1 : program;
}

static int add_version(const struct room *room, const char *suite, const char *program, int cancel_fd,
                       struct buf *versions, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO(buf) struct buf printed = BUF_INIT;
	struct str version = STR("of unknown version");
	int status = 0, r;

	argv.room = room;
	argv_addl(&argv, program, "--version", NULL);
	r = command_output(&argv, true, clock_mono_ns() + QUESTION_NS, cancel_fd, &printed, &status, err);
	if (r == -ERR_NOT_FOUND)
		return err_set(err, ERR_UNAVAILABLE, is_host(suite) ? "%s is not installed" : "no %s in %s", program,
		               suite);
	TRY_WRAP(r, err, "%s --version", program);
	if (status)
		return err_set(err, ERR_UNAVAILABLE, "%s does not run: " STR_FMT, program,
		               STR_ARG(str_trim(buf_str(&printed))));
	peers_parse_version(buf_str(&printed), &version);
	buf_addf(versions, "%s%s " STR_FMT, versions->n ? ", " : "", base_name(program), STR_ARG(version));
	return 0;
}

int peers_versions(const char *suite, const char *const *programs, int cancel_fd, struct buf *versions, struct err *err)
{
	AUTO(room) struct room *room = NULL;
	AUTO_FREE char *root = NULL;

	TRY(peers_root(suite, cancel_fd, &root, err));
	TRY(room_open(&(struct room_spec){.root = root}, &room, err));
	for (; *programs; programs++)
		TRY(add_version(room, suite, *programs, cancel_fd, versions, err));
	return 0;
}
