#include "bench/coldbench/modes/steps.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/testing.h"
#include "base/unix.h"
#include "bench/coldbench/verb.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

/* A server on which work hangs: it has the other end of a pipe, and says nothing. */
static pid_t server;
static int pipe_fd = -1;

static int start_server(void **state)
{
	int ends[2];

	OK(usage_begin(err));
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	OK(spawn_start(&(struct spawn){.argv = (const char *[]){"sleep", "60", NULL}, .stdio = {-1, ends[1], -1}},
	               &server, err));
	close(ends[1]);
	pipe_fd = ends[0];
	return 0;
}

static int end_server(void **state)
{
	if (server) {
		kill(server, SIGKILL);
		waitpid(server, NULL, 0);
	}
	close(pipe_fd);
	server = 0;
	return 0;
}

static bool is_running(void)
{
	return waitpid(server, NULL, WNOHANG) == 0;
}

static int fail_there(struct steps *t, const char *at, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "nothing at %s", at);
}

/* Three times as long as one answer may take. */
static int work_slowly(struct steps *t, const char *at, struct err *err)
{
	int64_t end_ns = clock_mono_ns() + 3 * t->w->timeout_ns;

	while (!t->stop && clock_mono_ns() < end_ns)
		usleep(1000);
	return 0;
}

/* Longer asleep than an answer may take. */
static int sleep_until_stopped(struct steps *t, const char *at, struct err *err)
{
	while (!t->stop)
		usleep(100000);
	return 0;
}

static int hang(struct steps *t, const char *at, struct err *err)
{
	char c;

	return read(pipe_fd, &c, 1) == 0 ? 0 : err_set(err, ERR_INTERNAL, "the server has said something");
}

static int hang_for_good(struct steps *t, const char *at, struct err *err)
{
	while (pause() < 0)
		;
	return 0;
}

static const struct bench_case one = {.engine = "containerd"};

static void what_it_comes_to_is_told(void **state)
{
	struct world w = {.cancel_fd = -1, .timeout_ns = 60 * NS_PER_S};
	struct steps t = {.w = &w, .c = &one};
	struct err failure = ERR_INIT;

	assert_int_equal(steps_on_mount(&t, fail_there, "/mnt", &failure), -ERR_NOT_FOUND);
	assert_string_equal(failure.msg, "nothing at /mnt");
	assert_true(is_running());
}

static void work_may_be_slow(void **state)
{
	struct world w = {.cancel_fd = -1, .timeout_ns = 250 * NS_PER_MS};
	struct steps t = {.w = &w, .c = &one};

	OK(steps_on_mount(&t, work_slowly, "/mnt", err));
	assert_true(is_running());
}

static void work_that_listens_ends_by_itself(void **state)
{
	struct world w = {.cancel_fd = -1, .timeout_ns = 10 * NS_PER_MS};
	struct steps t = {.w = &w, .c = &one};

	FAILS(steps_on_mount(&t, sleep_until_stopped, "/mnt", err), ERR_DEADLINE);
	assert_true(is_running());
}

static void work_that_hangs_is_freed(void **state)
{
	struct world w = {.cancel_fd = eventfd(1, EFD_CLOEXEC), .timeout_ns = 60 * NS_PER_S};
	struct steps t = {.w = &w, .c = &one};
	int status = 0;

	FAILS(steps_on_mount(&t, hang, "/mnt", err), ERR_CANCELLED);
	assert_int_equal(waitpid(server, &status, 0), server);
	server = 0;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(w.cancel_fd);
}

/* In a process of its own, whose end it is. */
static void work_that_nothing_frees_ends_coldbench(void **state)
{
	AUTO(buf) struct buf said = BUF_INIT;
	int ends[2], status = 0;
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		struct world w = {.cancel_fd = eventfd(1, EFD_CLOEXEC), .timeout_ns = 10 * NS_PER_MS};
		struct steps t = {.w = &w, .c = &one};

		dup2(ends[1], 2);
		alarm(20);
		steps_on_mount(&t, hang_for_good, "/mnt", NULL);
		_exit(99);
	}
	close(ends[1]);
	OK(fd_read_all(ends[0], 4096, &said, err));
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), EXIT_FAILED);
	assert_non_null(strstr(buf_cstr(&said), "work on /mnt hangs"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(what_it_comes_to_is_told, start_server, end_server),
	    cmocka_unit_test_setup_teardown(work_may_be_slow, start_server, end_server),
	    cmocka_unit_test_setup_teardown(work_that_listens_ends_by_itself, start_server, end_server),
	    cmocka_unit_test_setup_teardown(work_that_hangs_is_freed, start_server, end_server),
	    cmocka_unit_test_setup_teardown(work_that_nothing_frees_ends_coldbench, start_server, end_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
