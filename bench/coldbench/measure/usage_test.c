#include "bench/coldbench/measure/usage.h"

#include "base/testing.h"
#include "base/unix.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static const struct usage_process *find(const struct usage *u, const char *name)
{
	vec_each(&u->processes, p)
		if (!strcmp(p->name, name))
			return p;
	return NULL;
}

/* Who may run on when a test fails: each with a group of its own. */
static pid_t workers[4];
static size_t n_workers;

static int end_workers(void **state)
{
	while (n_workers) {
		pid_t pid = workers[--n_workers];

		kill(-pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return 0;
}

/* A shell that works for some time, says so through the pipe, and runs `then`. It does not outlive this program, either. */
static pid_t start_worker(const char *then, int *said)
{
	AUTO_FREE char *script = xasprintf("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo; %s", then);
	const char *argv[] = {"setpriv", "--pdeathsig", "KILL", "/bin/sh", "-c", script, NULL};
	int ends[2];
	struct spawn s = {.argv = argv, .stdio = {-1, -1, 2}, .new_group = true};
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	s.stdio[1] = ends[1];
	OK(spawn_start(&s, &pid, err));
	assert_true(n_workers < ARRAY_LEN(workers));
	workers[n_workers++] = pid;
	close(ends[1]);
	*said = ends[0];
	return pid;
}

static void wait_for_word(int said)
{
	char c;

	assert_int_equal(read(said, &c, 1), 1);
	close(said);
}

static void end(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	OK(spawn_wait(pid, &status, err));
}

static void test_living(void **state)
{
	AUTO(usage) struct usage before = {0};
	AUTO(usage) struct usage after = {0};
	AUTO(usage) struct usage without = {0};
	AUTO(sample) struct sample s = {0};
	int said;
	pid_t pid;

	OK(usage_take(NULL, 0, false, &before, err));
	assert_null(find(&before, "sleep"));
	pid = start_worker("exec sleep 60", &said);
	wait_for_word(said);
	while (!find(&after, "sleep")) { /* exec */
		usage_fini(&after);
		OK(usage_take(NULL, 0, true, &after, err));
	}
	OK(usage_take(&pid, 1, false, &without, err));
	end(pid);

	assert_int_equal(find(&after, "sleep")->count, 1);
	assert_true(find(&after, "sleep")->cpu_s > 0);
	assert_true(find(&after, "sleep")->peak_bytes > 4096);
	assert_true(find(&after, "sleep")->pss_bytes > 4096);
	assert_true(find(&after, "sleep")->minflt > 0);
	assert_null(find(&without, "sleep"));
	usage_sample(&before, &after, &s);
	assert_true(sample_get(&s, "cpu_s.sleep") == find(&after, "sleep")->cpu_s);
	assert_true(sample_get(&s, "cpu_s") >= sample_get(&s, "cpu_s.sleep"));
	assert_true(sample_get(&s, "processes.sleep") == 1);
	assert_true(isnan(sample_get(&s, "processes.commands")));
}

/* What has ended is counted once: as long as nobody waits for it, and when we have. */
static void test_dead(void **state)
{
	AUTO(usage) struct usage before = {0};
	AUTO(usage) struct usage zombie = {0};
	AUTO(usage) struct usage waited = {0};
	AUTO(sample) struct sample first = {0};
	AUTO(sample) struct sample second = {0};
	siginfo_t info;
	int said, status;
	pid_t pid;

	OK(usage_take(NULL, 0, false, &before, err));
	pid = start_worker("exit 0", &said);
	wait_for_word(said);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	OK(usage_take(NULL, 0, false, &zombie, err));
	OK(spawn_wait(pid, &status, err));
	OK(usage_take(NULL, 0, false, &waited, err));

	usage_sample(&before, &zombie, &first);
	assert_true(sample_get(&first, "cpu_s.sh") > 0);
	assert_true(isnan(sample_get(&first, "cpu_s.commands")));
	usage_sample(&before, &waited, &second);
	assert_true(isnan(sample_get(&second, "cpu_s.sh")));
	assert_true(sample_get(&second, "cpu_s.commands") > 0);
	/* The clock of a process and the kernel's account of the dead differ by a tick at most. */
	assert_true(fabs(sample_get(&first, "cpu_s") - sample_get(&second, "cpu_s")) < 0.05);
}

/* An orphan comes to us, is counted, and ends with us. */
static void test_orphan(void **state)
{
	AUTO(usage) struct usage u = {0};
	AUTO(buf) struct buf left = BUF_INIT;
	AUTO_FREE char *name = NULL;
	char text[32] = "";
	int said, status;
	pid_t pid;
	FILE *f;

	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	pid = start_worker("sleep 60 >/dev/null & echo $!; exit 0", &said);
	OK(spawn_wait(pid, &status, err));
	f = fdopen(said, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f)); /* an empty line */
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	pid = atoi(text);
	while (!find(&u, "sleep")) {
		usage_fini(&u);
		OK(usage_take(NULL, 0, false, &u, err));
	}
	OK(usage_end(0, &left, err));
	name = xasprintf("sleep (%d)", pid);
	assert_string_equal(buf_cstr(&left), name);
	assert_int_equal(kill(pid, 0), -1);
	buf_clear(&left);
	OK(usage_end(0, &left, err));
	assert_string_equal(buf_cstr(&left), "");
}

/* What ran before stays out, with what it starts later. */
static void test_harness(void **state)
{
	AUTO(usage) struct usage u = {0};
	AUTO(usage) struct usage all = {0};
	int said;
	pid_t old = start_worker("while :; do sleep 0.01; done", &said), young;

	wait_for_word(said);
	OK(usage_begin(err));
	young = start_worker("exec cat /dev/zero >/dev/null", &said);
	wait_for_word(said);
	while (!find(&u, "cat")) {
		usage_fini(&u);
		OK(usage_take(NULL, 0, false, &u, err));
	}
	assert_null(find(&u, "sh"));
	assert_null(find(&u, "dash"));
	assert_null(find(&u, "sleep"));
	end(young);
	end(old);
	OK(usage_begin(err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_teardown(test_living, end_workers),
	    cmocka_unit_test_teardown(test_dead, end_workers),
	    cmocka_unit_test_teardown(test_orphan, end_workers),
	    cmocka_unit_test_teardown(test_harness, end_workers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
