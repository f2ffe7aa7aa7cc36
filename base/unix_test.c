#include "base/unix.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char dir[] = "/tmp/contentd-unix-test-XXXXXX";
static char path[64];

static int set_up(void **state)
{
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/sock", dir);
	return 0;
}

static int tear_down(void **state)
{
	unlink(path);
	return rmdir(dir);
}

static void listen_and_connect(void **state)
{
	AUTO_FD int server = -1;
	AUTO_FD int client = -1;
	AUTO_FD int peer = -1;
	struct err err = ERR_INIT;
	struct ucred who;
	struct stat st;
	mode_t old = umask(0077);

	assert_int_equal(unix_connect(path, SOCK_STREAM, &client, &err), -ERR_UNAVAILABLE);
	assert_int_equal(unix_listen(path, SOCK_STREAM, 0660, &server, &err), 0);
	umask(old);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0660);
	assert_true(fcntl(server, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(server, F_GETFL) & O_NONBLOCK);
	assert_int_equal(unix_connect(path, SOCK_STREAM, &client, &err), 0);
	assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
	assert_false(fcntl(client, F_GETFL) & O_NONBLOCK);
	peer = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	assert_true(peer >= 0);
	assert_int_equal(unix_peer(peer, &who, &err), 0);
	assert_int_equal(who.pid, getpid());
	assert_int_equal(who.uid, getuid());
}

static void a_second_listener_is_refused(void **state)
{
	AUTO_FD int first = -1;
	AUTO_FD int second = -1;
	struct err err = ERR_INIT;

	assert_int_equal(unix_listen(path, SOCK_SEQPACKET, 0600, &first, &err), 0);
	assert_int_equal(unix_listen(path, SOCK_SEQPACKET, 0600, &second, &err), -ERR_EXISTS);
	assert_int_equal(unix_listen(path, SOCK_STREAM, 0600, &second, &err), -ERR_EXISTS);
	close(STEAL_FD(first)); /* leaves the file behind */
	assert_int_equal(unix_connect(path, SOCK_SEQPACKET, &second, &err), -ERR_UNAVAILABLE);
	assert_int_equal(unix_listen(path, SOCK_STREAM, 0600, &second, &err), 0);
}

static void other_files_are_not_removed(void **state)
{
	struct err err = ERR_INIT;
	int fd;

	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(unix_listen(path, SOCK_STREAM, 0600, &fd, &err), -ERR_EXISTS);
	assert_int_equal(access(path, F_OK), 0);
}

static void long_paths(void **state)
{
	char longest[UNIX_PATH_MAX_BYTES + 2];
	struct err err = ERR_INIT;
	AUTO_FD int fd = -1;
	size_t n;

	n = (size_t)snprintf(longest, sizeof(longest), "%s/", dir);
	memset(longest + n, 'x', sizeof(longest) - n);
	longest[UNIX_PATH_MAX_BYTES + 1] = 0;
	assert_int_equal(unix_listen(longest, SOCK_STREAM, 0600, &fd, &err), -ERR_INVALID);
	assert_int_equal(unix_connect(longest, SOCK_STREAM, &fd, &err), -ERR_INVALID);
	assert_int_equal(unix_connect("", SOCK_STREAM, &fd, &err), -ERR_INVALID);
	longest[UNIX_PATH_MAX_BYTES] = 0;
	assert_int_equal(unix_listen(longest, SOCK_STREAM, 0600, &fd, &err), 0);
	unlink(longest);
}

static void messages_with_descriptors(void **state)
{
	int ends[2], fds[UNIX_FDS_MAX], pipe_ends[2];
	struct err err = ERR_INIT;
	char got[64];
	size_t n;
	unsigned n_fds;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
	assert_int_equal(unix_send(ends[0], STR("one"), &pipe_ends[1], 1, &err), 0);
	assert_int_equal(unix_send(ends[0], STR("two"), NULL, 0, &err), 0);
	assert_int_equal(unix_recv(ends[1], got, sizeof(got), &n, fds, &n_fds, &err), 0);
	assert_int_equal(n, 3);
	assert_memory_equal(got, "one", 3);
	assert_int_equal(n_fds, 1);
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(fds[0], "x", 1), 1);
	assert_int_equal(read(pipe_ends[0], got, 1), 1);
	close(fds[0]);
	assert_int_equal(unix_recv(ends[1], got, sizeof(got), &n, fds, &n_fds, &err), 0);
	assert_int_equal(n, 3);
	assert_int_equal(n_fds, 0);
	assert_int_equal(unix_send(ends[0], STR_NONE, NULL, 0, &err), -ERR_INVALID);
	close(ends[0]);
	assert_int_equal(unix_recv(ends[1], got, sizeof(got), &n, NULL, NULL, &err), 0);
	assert_int_equal(n, 0);
	close(ends[1]);
	close(pipe_ends[0]);
	close(pipe_ends[1]);
}

/* Number of open descriptors of this process. */
static unsigned count_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void what_does_not_fit_is_refused_and_closed(void **state)
{
	int ends[2], fds[UNIX_FDS_MAX], many[UNIX_FDS_MAX];
	unsigned n_fds, before;
	struct err err = ERR_INIT;
	char got[4];
	size_t n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	for (size_t i = 0; i < UNIX_FDS_MAX; i++)
		many[i] = ends[0];
	before = count_fds();
	assert_int_equal(unix_recv(ends[1], got, sizeof(got), &n, fds, &n_fds, &err), -ERR_UNAVAILABLE);
	assert_int_equal(err.sys, EAGAIN);
	assert_int_equal(unix_send(ends[0], STR("12345"), many, 2, &err), 0);
	assert_int_equal(unix_recv(ends[1], got, sizeof(got), &n, fds, &n_fds, &err), -ERR_INVALID);
	assert_int_equal(unix_send(ends[0], STR("1"), many, 2, &err), 0);
	assert_int_equal(unix_recv(ends[1], got, sizeof(got), &n, NULL, NULL, &err), -ERR_INVALID);
	assert_int_equal(count_fds(), before);
	assert_int_equal(unix_send(ends[0], STR("1"), many, UNIX_FDS_MAX, &err), 0);
	assert_int_equal(unix_recv(ends[1], got, sizeof(got), &n, fds, &n_fds, &err), 0);
	assert_int_equal(n_fds, UNIX_FDS_MAX);
	while (n_fds)
		close(fds[--n_fds]);
	close(ends[0]);
	/* A gone peer is an error, not a signal. */
	assert_int_equal(unix_send(ends[1], STR("1"), NULL, 0, &err), -ERR_UNAVAILABLE);
	close(ends[1]);
}

/* A stream that takes less than the message: all of it arrives, the descriptors once. */
static void a_long_message_on_a_stream(void **state)
{
	AUTO_FREE char *data = xmalloc(4 << 20);
	int ends[2], fds[UNIX_FDS_MAX], status;
	struct err err = ERR_INIT;
	unsigned n_fds, fds_seen = 0;
	size_t n, total = 0;
	pid_t child;

	memset(data, 'x', 4 << 20);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	child = fork();
	if (!child)
		_exit(unix_send(ends[0], str_make(data, 4 << 20), &ends[0], 1, NULL) ? 1 : 0);
	close(ends[0]);
	do {
		struct pollfd p = {.fd = ends[1], .events = POLLIN};

		assert_int_equal(poll(&p, 1, 60000), 1);
		assert_int_equal(unix_recv(ends[1], data, 4 << 20, &n, fds, &n_fds, &err), 0);
		total += n;
		fds_seen += n_fds;
		while (n_fds)
			close(fds[--n_fds]);
	} while (n);
	assert_int_equal(total, 4 << 20);
	assert_int_equal(fds_seen, 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(ends[1]);
}

/* Runs a shell command with its output in a pipe. */
static void run_shell(struct spawn s, const char *command, struct buf *out, int *status)
{
	const char *const argv[] = {"sh", "-c", command, NULL};
	struct err err = ERR_INIT;
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	s.argv = argv;
	s.stdio[1] = ends[1];
	if (spawn_start(&s, &pid, &err))
		fail_msg("%s", err.msg);
	close(ends[1]);
	assert_int_equal(fd_read_all(ends[0], 1 << 16, out, &err), 0);
	close(ends[0]);
	assert_int_equal(spawn_wait(pid, status, &err), 0);
}

#define NO_STDIO                                                                                                       \
	{                                                                                                              \
		-1, -1, -1                                                                                             \
	}

static void spawn_output_and_status(void **state)
{
	AUTO(buf) struct buf out = BUF_INIT;
	const char *const env[] = {"PATH=/usr/bin:/bin", "X=y", NULL};
	int status;

	run_shell((struct spawn){.stdio = NO_STDIO, .envp = env, .cwd = "/usr"}, "echo $X; pwd; cat; exit 3", &out,
	          &status);
	assert_string_equal(out.p, "y\n/usr\n"); /* and standard input is empty */
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 3);
}

static void spawn_passes_only_the_descriptors_named(void **state)
{
	AUTO(buf) struct buf out = BUF_INIT;
	int keep[3], leaks[3], status;

	/* Descriptors of this process that are not close-on-exec, low and high. */
	leaks[0] = open("/dev/zero", O_RDONLY);
	leaks[1] = fcntl(leaks[0], F_DUPFD, 200);
	leaks[2] = fcntl(leaks[0], F_DUPFD, 3);
	/* Kept ones whose numbers are among the targets, in the wrong order. */
	assert_int_equal(dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 5), 5);
	assert_int_equal(dup2(open("/dev/full", O_RDONLY | O_CLOEXEC), 3), 3);
	keep[0] = 5, keep[1] = 3, keep[2] = leaks[1];
	run_shell((struct spawn){.stdio = NO_STDIO, .keep = keep, .n_keep = 3},
	          "readlink /proc/$$/fd/3 /proc/$$/fd/4 /proc/$$/fd/5; for i in /proc/$$/fd/*; do echo -n \"${i##*/} "
	          "\"; done",
	          &out, &status);
	assert_true(str_starts(buf_str(&out), STR("/dev/null\n/dev/full\n/dev/zero\n0 1 2 3 4 5 ")));
	for (size_t i = 0; i < ARRAY_LEN(leaks); i++)
		close(leaks[i]);
	close(5);
	close(3);
}

static void spawn_swaps_stdio(void **state)
{
	AUTO_FD int out = -1;
	AUTO_FD int fds = memfd_create("err", 0);
	struct err err = ERR_INIT;
	const char *const argv[] = {"/bin/sh", "-c", "echo to-out; echo to-err >&2", NULL};
	AUTO(buf) struct buf a = BUF_INIT;
	AUTO(buf) struct buf b = BUF_INIT;
	int saved1 = dup(1), saved2 = dup(2), status;
	pid_t pid;

	/* Ours exchanged for the child: 1 becomes its 2 and 2 its 1. */
	out = memfd_create("out", 0);
	dup2(out, 1);
	dup2(fds, 2);
	assert_int_equal(spawn_start(&(struct spawn){.argv = argv, .stdio = {-1, 2, 1}}, &pid, &err), 0);
	dup2(saved1, 1);
	dup2(saved2, 2);
	close(saved1);
	close(saved2);
	assert_int_equal(spawn_wait(pid, &status, &err), 0);
	assert_int_equal(status, 0);
	lseek(out, 0, SEEK_SET);
	lseek(fds, 0, SEEK_SET);
	assert_int_equal(fd_read_all(out, 100, &a, &err), 0);
	assert_int_equal(fd_read_all(fds, 100, &b, &err), 0);
	assert_string_equal(a.p, "to-err\n");
	assert_string_equal(b.p, "to-out\n");
}

static void spawn_resets_signals(void **state)
{
	AUTO(buf) struct buf out = BUF_INIT;
	sigset_t some, old;
	int status;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&some);
	sigaddset(&some, SIGUSR1);
	sigprocmask(SIG_BLOCK, &some, &old);
	run_shell((struct spawn){.stdio = NO_STDIO}, "grep -E 'Sig(Blk|Ign)' /proc/self/status", &out, &status);
	sigprocmask(SIG_SETMASK, &old, NULL);
	signal(SIGPIPE, SIG_DFL);
	assert_string_equal(out.p, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

static void spawn_sessions_and_groups(void **state)
{
	AUTO(buf) struct buf out = BUF_INIT;
	int status, pid, group, session;

	/* pid, group and session are fields 1, 5 and 6 of stat (no field before them holds a space: comm is "sh"). */
	run_shell((struct spawn){.stdio = NO_STDIO, .detach = true}, "cut -d' ' -f1,5,6 /proc/$$/stat", &out, &status);
	assert_int_equal(sscanf(out.p, "%d %d %d", &pid, &group, &session), 3);
	assert_int_equal(group, pid);
	assert_int_equal(session, pid);
	buf_clear(&out);
	run_shell((struct spawn){.stdio = NO_STDIO, .new_group = true}, "cut -d' ' -f1,5,6 /proc/$$/stat", &out,
	          &status);
	assert_int_equal(sscanf(out.p, "%d %d %d", &pid, &group, &session), 3);
	assert_int_equal(group, pid);
	assert_int_equal(session, getsid(0));
}

static void spawn_failures_are_reported(void **state)
{
	const char *const absent[] = {"/nowhere/program", NULL}, *const unknown[] = {"no-such-program-here", NULL};
	const char *const ok[] = {"true", NULL};
	unsigned before = count_fds();
	struct err err = ERR_INIT;
	pid_t pid;

	assert_int_equal(spawn_start(&(struct spawn){.argv = absent, .stdio = NO_STDIO}, &pid, &err), -ERR_NOT_FOUND);
	assert_non_null(strstr(err.msg, "/nowhere/program"));
	assert_int_equal(spawn_start(&(struct spawn){.argv = unknown, .stdio = NO_STDIO}, &pid, &err), -ERR_NOT_FOUND);
	assert_int_equal(spawn_start(&(struct spawn){.argv = ok, .stdio = NO_STDIO, .cwd = "/nowhere"}, &pid, &err),
	                 -ERR_NOT_FOUND);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left to reap */
	assert_int_equal(errno, ECHILD);
	assert_int_equal(count_fds(), before);
}

static void the_path_of_this_program(void **state)
{
	AUTO_FREE char *self = NULL;
	struct stat one, other;

	assert_int_equal(program_path(&self, NULL), 0);
	assert_true(self[0] == '/');
	assert_string_equal(strrchr(self, '/'), "/base_unix_test");
	assert_int_equal(stat(self, &one), 0);
	assert_int_equal(stat("/proc/self/exe", &other), 0);
	assert_int_equal(one.st_ino, other.st_ino);
}

static void programs_are_found_in_path(void **state)
{
	AUTO_FREE char *old = xstrdup(getenv("PATH"));
	AUTO_FREE char *program = xasprintf("%s/program", dir);
	AUTO_FREE char *folder = xasprintf("%s/folder", dir);
	AUTO_FREE char *list = xasprintf("::relative:/nowhere:%s", dir);
	AUTO_FREE char *found = NULL;
	struct err err = ERR_INIT;

	close(open(program, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	assert_int_equal(mkdir(folder, 0755), 0);
	setenv("PATH", list, 1);
	assert_int_equal(program_find("program", &found, &err), -ERR_NOT_FOUND); /* nobody may execute it */
	assert_int_equal(program_find("folder", &found, &err), -ERR_NOT_FOUND);
	assert_int_equal(chmod(program, 0755), 0);
	assert_int_equal(program_find("program", &found, &err), 0);
	assert_string_equal(found, program);
	unsetenv("PATH");
	assert_int_equal(program_find("program", &found, &err), -ERR_NOT_FOUND);
	setenv("PATH", old, 1);
	unlink(program);
	rmdir(folder);
}

#define UNIX_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIX_TEST(listen_and_connect),
	    UNIX_TEST(a_second_listener_is_refused),
	    UNIX_TEST(other_files_are_not_removed),
	    UNIX_TEST(long_paths),
	    cmocka_unit_test(messages_with_descriptors),
	    cmocka_unit_test(what_does_not_fit_is_refused_and_closed),
	    cmocka_unit_test(a_long_message_on_a_stream),
	    cmocka_unit_test(spawn_output_and_status),
	    cmocka_unit_test(spawn_passes_only_the_descriptors_named),
	    cmocka_unit_test(spawn_swaps_stdio),
	    cmocka_unit_test(spawn_resets_signals),
	    cmocka_unit_test(spawn_sessions_and_groups),
	    cmocka_unit_test(spawn_failures_are_reported),
	    cmocka_unit_test(the_path_of_this_program),
	    UNIX_TEST(programs_are_found_in_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
