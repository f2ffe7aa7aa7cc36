/* Programs of other suites: where they are, and which. */
#include "bench/coldbench/peers/peers.h"

#include "base/file.h"
#include "base/unix.h"
#include "bench/coldbench/verb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define OUTPUT_BYTES_MAX (64u << 10)

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

/* What a command prints, and its status as the shell has it. */
static int output_of(const char *const *argv, struct buf *out, int *status, struct err *err)
{
	AUTO_FD int fd = -1;
	pid_t pid;
	int how;

	fd = memfd_create("output", MFD_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "memfd_create");
	TRY(spawn_start(&(struct spawn){.argv = argv, .stdio = {-1, fd, fd}}, &pid, err));
	TRY(spawn_wait(pid, &how, err));
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, errno, "lseek");
	*status = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
	return fd_read_all(fd, OUTPUT_BYTES_MAX, out, err);
}

/* The path that `SCRIPT --path SUITE` prints; nothing need be there. */
static int path_by(const char *script, const char *suite, char **out, struct err *err)
{
	AUTO_FREE char *program = xasprintf("%s/%s", source_dir(), script);
	AUTO(buf) struct buf printed = BUF_INIT;
	const char *argv[] = {program, "--path", suite, NULL};
	struct str path;
	int status;

	TRY(output_of(argv, &printed, &status, err));
	path = str_trim(buf_str(&printed));
	if (status || !path.n)
		return err_set(err, ERR_INTERNAL, "%s --path %s: " STR_FMT, program, suite, STR_ARG(path));
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

int peers_root(const char *suite, char **out, struct err *err)
{
	AUTO_FREE char *path = NULL;

	*out = NULL;
	if (!is_known(suite))
		return err_set(err, ERR_INVALID, "no suite '%s': host, trixie or sid", suite);
	if (is_host(suite))
		return 0;
	TRY(path_by("tests/peers.sh", suite, &path, err));
	if (access(path, F_OK))
		return err_set(err, ERR_UNAVAILABLE, "programs of %s are not here: run `coldbench peers setup %s`",
		               suite, suite);
	*out = STEAL(path);
	return 0;
}

/* A program of this machine's own, found as a shell would; NULL when there is none. */
static char *find_program(const char *name)
{
	struct str rest = str_of(getenv("PATH")), dir;

	while (str_split(&rest, ':', &dir)) {
		AUTO_FREE char *path = xasprintf(STR_FMT "/%s", STR_ARG(dir), name);

		if (path[0] == '/' && !access(path, X_OK))
			return STEAL(path);
	}
	return NULL;
}

int peers_stargz(const struct engine_options *o, char **out, struct err *err)
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
		path = find_program("containerd-stargz-grpc");
	if (!path)
		TRY(path_by("bench/peers/stargz.sh", suite, &path, err));
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

static int add_version(const struct room *room, const char *suite, const char *program, struct buf *versions,
                       struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO(buf) struct buf printed = BUF_INIT;
	struct str version = STR("of unknown version");
	int status = 0;

	room_enter(room, &argv);
	argv_addl(&argv, program, "--version", NULL);
	if (output_of((const char *const *)argv.p, &printed, &status, err) < 0 || status == 127)
		return err_set(err, ERR_UNAVAILABLE, is_host(suite) ? "%s is not installed" : "no %s in %s", program,
		               suite);
	if (status)
		return err_set(err, ERR_UNAVAILABLE, "%s does not run: " STR_FMT, program,
		               STR_ARG(str_trim(buf_str(&printed))));
	peers_parse_version(buf_str(&printed), &version);
	buf_addf(versions, "%s%s " STR_FMT, versions->n ? ", " : "", base_name(program), STR_ARG(version));
	return 0;
}

int peers_versions(const char *suite, const char *const *programs, struct buf *versions, struct err *err)
{
	AUTO(room) struct room *room = NULL;
	AUTO_FREE char *root = NULL;

	TRY(peers_root(suite, &root, err));
	TRY(room_open(&(struct room_spec){.root = root}, &room, err));
	for (; *programs; programs++)
		TRY(add_version(room, suite, *programs, versions, err));
	return 0;
}
