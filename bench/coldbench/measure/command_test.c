#include "base/testing.h"
#include "bench/coldbench/measure/command.h"

#include "base/clock.h"
#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>

static char output[] = "/tmp/coldbench-command.XXXXXX";

static int64_t in_s(int s)
{
	return clock_mono_ns() + s * NS_PER_S;
}

static int run(const char *script, int64_t deadline_ns, int cancel_fd, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;

	argv_addl(&argv, "sh", "-c", script, NULL);
	return command_run(&argv, output, deadline_ns, cancel_fd, err);
}

static void output_is_added_to_the_file(void **state)
{
	AUTO(buf) struct buf got = BUF_INIT;

	assert_int_equal(truncate(output, 0), 0);
	OK(run("echo one", in_s(60), -1, err));
	OK(run("echo two >&2", in_s(60), -1, err));
	OK(file_read(AT_FDCWD, output, 100, &got, err));
	assert_string_equal(buf_cstr(&got), "one\ntwo\n");
}

static void a_failure_has_the_last_words(void **state)
{
	struct err err = ERR_INIT;
	AUTO_FREE char *words = NULL;

	assert_true(run("echo first; printf 'no \\033[1mluck\\n\\n' >&2; exit 3", in_s(60), -1, &err) < 0);
	assert_int_equal(err.code, ERR_INTERNAL);
	assert_non_null(strstr(err.msg, "status 3: no ?[1mluck"));
	words = last_words(output);
	assert_string_equal(words, "no ?[1mluck");
}

static void a_signal_is_a_failure(void **state)
{
	struct err err = ERR_INIT;

	assert_true(run("kill -USR1 $$", in_s(60), -1, &err) < 0);
	assert_non_null(strstr(err.msg, "signal 10"));
}

/* The pipe ends when nobody has it any more: the whole group is gone, not the shell alone. */
static void its_group_ends_with_the_deadline(void **state)
{
	AUTO_FREE char *script = NULL;
	char byte;
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	script = xasprintf("exec >/proc/%d/fd/%d; sleep 1000 & wait", getpid(), pipes[1]);
	FAILS(run(script, clock_mono_ns() + 200 * NS_PER_MS, -1, err), ERR_DEADLINE);
	close(pipes[1]);
	assert_int_equal(read(pipes[0], &byte, 1), 0);
	close(pipes[0]);
}

static void it_ends_when_it_is_cancelled(void **state)
{
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(write(pipes[1], "x", 1), 1);
	FAILS(run("sleep 1000", in_s(60), pipes[0], err), ERR_CANCELLED);
	close(pipes[0]);
	close(pipes[1]);
}

static void it_may_tidy_up_first(void **state)
{
	AUTO(buf) struct buf got = BUF_INIT;

	assert_int_equal(truncate(output, 0), 0);
	FAILS(run("trap 'echo tidy; exit' TERM; sleep 1000 & wait", clock_mono_ns() + 200 * NS_PER_MS, -1, err),
	      ERR_DEADLINE);
	OK(file_read(AT_FDCWD, output, 100, &got, err));
	assert_string_equal(buf_cstr(&got), "tidy\n");
}

static int ask(const char *script, bool with_errors, struct buf *out, int *status, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;

	argv_addl(&argv, "sh", "-c", script, NULL);
	return command_output(&argv, with_errors, in_s(60), -1, out, status, err);
}

static void what_it_prints_is_had(void **state)
{
	AUTO(buf) struct buf got = BUF_INIT;
	int status;

	OK(ask("echo one; echo two >&2; exit 3", true, &got, &status, err));
	assert_string_equal(buf_cstr(&got), "one\ntwo\n");
	assert_int_equal(status, 3);
	OK(ask("exec 2>/dev/null; echo three; kill -USR1 $$", false, &got, &status, err));
	assert_string_equal(buf_cstr(&got), "one\ntwo\nthree\n");
	assert_int_equal(status, 128 + 10);
	FAILS(ask("head -c 70000 /dev/zero", true, &got, &status, err), ERR_EXHAUSTED);
}

static void errors_are_ours_unless_they_are_asked_for(void **state)
{
	AUTO(buf) struct buf got = BUF_INIT;
	AUTO(buf) struct buf ours = BUF_INIT;
	AUTO_FD int was = dup(STDERR_FILENO);
	AUTO_FD int fd = open(output, O_WRONLY | O_TRUNC | O_CLOEXEC);
	int asked, status;

	assert_true(was >= 0 && fd >= 0);
	dup2(fd, STDERR_FILENO);
	asked = ask("echo one; echo two >&2", false, &got, &status, NULL);
	dup2(was, STDERR_FILENO);
	assert_int_equal(asked, 0);
	assert_string_equal(buf_cstr(&got), "one\n");
	OK(file_read(AT_FDCWD, output, 100, &ours, err));
	assert_string_equal(buf_cstr(&ours), "two\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(output_is_added_to_the_file),  cmocka_unit_test(a_failure_has_the_last_words),
	    cmocka_unit_test(a_signal_is_a_failure),        cmocka_unit_test(its_group_ends_with_the_deadline),
	    cmocka_unit_test(it_ends_when_it_is_cancelled), cmocka_unit_test(it_may_tidy_up_first),
	    cmocka_unit_test(what_it_prints_is_had),        cmocka_unit_test(errors_are_ours_unless_they_are_asked_for),
	};
	int fd = mkstemp(output), failed;

	assert_true(fd >= 0);
	close(fd);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(output);
	return failed;
}
