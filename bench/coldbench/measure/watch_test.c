/* Process events of real namespaces: needs root in the initial ones. */
#include "base/testing.h"
#include "bench/coldbench/measure/watch.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/unix.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#define SOON (clock_mono_ns() + 60 * NS_PER_S)

static struct watch *watch;

static pid_t start(const char *const *argv)
{
	pid_t pid = 0;

	OK(spawn_start(&(struct spawn){.argv = argv, .stdio = {-1, -1, -1}}, &pid, err));
	return pid;
}

static int ended(pid_t pid)
{
	int status = -1;

	OK(spawn_wait(pid, &status, err));
	return status;
}

/* Kills a container and waits for the news of it, so that the next test begins with none. */
static void end(const struct watch_init *init, pid_t pid)
{
	struct watch_init last;

	assert_int_equal(kill(init->pid, SIGKILL), 0);
	OK(watch_wait_exit(watch, init->pid, SOON, -1, &last, err));
	assert_true(WIFSIGNALED(last.status) && WTERMSIG(last.status) == SIGKILL);
	ended(pid);
}

static void needs_events(void)
{
	if (!watch)
		skip();
	watch_reset(watch);
}

static void status_tells_first_processes(void **state)
{
	assert_true(watch_status_is_init(STR("Name:\tx\nNSpid:\t123\t1\nNSpgid:\t0\t0\n")));
	assert_true(watch_status_is_init(STR("NSpid:\t123\t45\t1")));
	assert_false(watch_status_is_init(STR("Name:\tx\nNSpid:\t1\nNSpgid:\t0\t1\n")));
	assert_false(watch_status_is_init(STR("NSpid:\t123\t2\n")));
	assert_false(watch_status_is_init(STR("NSpid:\t123\t11\n")));
	assert_false(watch_status_is_init(STR("Name:\tNSpid:\t1\t1\n")));
	assert_false(watch_status_is_init(STR("")));
}

static void control_groups_name_containers(void **state)
{
	const struct str cgroup = STR("9:name=systemd:/bench/c1\n8:pids:/other\n0::/\n");

	assert_true(watch_cgroup_names(cgroup, STR("c1")));
	assert_true(watch_cgroup_names(cgroup, STR("bench")));
	assert_true(watch_cgroup_names(cgroup, STR("other")));
	assert_false(watch_cgroup_names(cgroup, STR("c")));
	assert_false(watch_cgroup_names(cgroup, STR("c11")));
	assert_false(watch_cgroup_names(cgroup, STR("pids")));
	assert_false(watch_cgroup_names(STR(""), STR("c1")));
}

static void a_first_process_is_seen(void **state)
{
	const char *argv[] = {"unshare", "-fp", "sh", "-c", "exec sleep 1000", "sh", "c1", NULL};
	struct watch_init init = {0}, later;
	int64_t before_ns = clock_mono_ns();
	pid_t pid;

	needs_events();
	pid = start(argv);
	OK(watch_wait_exec(watch, "c1", SOON, -1, &init, err));
	assert_int_not_equal(init.pid, pid);
	assert_true(before_ns < init.forked_ns && init.forked_ns < init.exec_ns);
	assert_true(init.exec_ns <= clock_mono_ns());
	assert_int_equal(kill(init.pid, SIGKILL), 0);
	OK(watch_wait_exit(watch, init.pid, SOON, -1, &later, err));
	assert_int_equal(later.exec_ns, init.exec_ns); /* sh executed sleep: the mark stays */
	assert_true(later.exit_ns > later.exec_ns && later.exit_ns <= clock_mono_ns());
	assert_true(WIFSIGNALED(later.status) && WTERMSIG(later.status) == SIGKILL);
	ended(pid);
	assert_int_equal(watch_lost(watch), 0);
}

/* As a runtime that starts its own file anew inside: that is not the program yet. */
static void a_runtime_that_executes_itself_is_not_the_program(void **state)
{
	const char *argv[] = {"unshare", "-fp", "unshare", "sleep", "1000", NULL};
	struct watch_init init = {0};
	pid_t pid;

	needs_events();
	pid = start(argv);
	OK(watch_wait_exec(watch, NULL, SOON, -1, &init, err));
	end(&init, pid);
}

static void a_runtime_alone_is_no_program(void **state)
{
	const char *argv[] = {"unshare", "-fp", "--kill-child", "unshare", "-f", "sleep", "1000", NULL};
	struct watch_init init;
	pid_t pid;

	needs_events();
	pid = start(argv);
	FAILS(watch_wait_exec(watch, NULL, clock_mono_ns() + 300 * NS_PER_MS, -1, &init, err), ERR_DEADLINE);
	kill(pid, SIGKILL);
	ended(pid);
}

static void namespaces_within_are_none_of_ours(void **state)
{
	const char *argv[] = {"unshare", "-fp", "sh", "-c", "unshare -fp sh -c 'exit 4'; exec sleep 1000", "c2", NULL};
	struct watch_init outer = {0}, init;
	pid_t pid;

	needs_events();
	pid = start(argv);
	OK(watch_wait_exec(watch, NULL, SOON, -1, &outer, err));
	usleep(300000); /* for the inner one, which must not come */
	OK(watch_wait_exec(watch, NULL, SOON, -1, &init, err));
	assert_int_equal(init.pid, outer.pid);
	end(&outer, pid);
}

static void containers_are_told_apart(void **state)
{
	const char *first[] = {"unshare", "-fp", "sleep", "1000", NULL};
	const char *second[] = {"unshare", "-fp", "sleep", "1001", NULL};
	struct watch_init a = {0}, b = {0}, any = {0};
	pid_t pids[2];

	needs_events();
	pids[0] = start(first);
	OK(watch_wait_exec(watch, "1000", SOON, -1, &a, err));
	pids[1] = start(second);
	OK(watch_wait_exec(watch, "1001", SOON, -1, &b, err));
	OK(watch_wait_exec(watch, NULL, SOON, -1, &any, err));
	assert_int_not_equal(a.pid, b.pid);
	assert_int_equal(any.pid, b.pid); /* the one made last */
	FAILS(watch_wait_exec(watch, "100", clock_mono_ns() + 20 * NS_PER_MS, -1, &any, err), ERR_DEADLINE);
	end(&a, pids[0]);
	end(&b, pids[1]);
}

/* A daemon that was known before is still, so that a container it starts afterwards is seen. */
static void a_pause_hides_what_comes_in_it(void **state)
{
	const char *daemon[] = {"sh", "-c", "read go; exec unshare -fp --kill-child sleep 1001", NULL};
	struct watch_init init = {0};
	pid_t pids[2];
	int go[2];

	needs_events();
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	OK(spawn_start(&(struct spawn){.argv = daemon, .stdio = {go[0], -1, -1}}, &pids[0], err));
	OK(watch_pause(watch, err));
	pids[1] = start((const char *[]){"unshare", "-fp", "--kill-child", "sleep", "1000", NULL});
	FAILS(watch_wait_exec(watch, NULL, clock_mono_ns() + 300 * NS_PER_MS, -1, &init, err), ERR_DEADLINE);
	OK(watch_resume(watch, err));
	assert_int_equal(write(go[1], "\n", 1), 1);
	OK(watch_wait_exec(watch, "1001", SOON, -1, &init, err));
	FAILS(watch_wait_exec(watch, "1000", clock_mono_ns() + 20 * NS_PER_MS, -1, &init, err), ERR_DEADLINE);
	end(&init, pids[0]);
	kill(pids[1], SIGKILL);
	ended(pids[1]);
	close(go[0]);
	close(go[1]);
}

/* What runs is known after a reset, what has ended is not. */
static void a_reset_keeps_what_runs(void **state)
{
	struct watch_init dead = {0}, alive = {0}, init;
	pid_t pids[2];

	needs_events();
	pids[0] = start((const char *[]){"unshare", "-fp", "sleep", "1001", NULL});
	OK(watch_wait_exec(watch, "1001", SOON, -1, &dead, err));
	end(&dead, pids[0]);
	pids[1] = start((const char *[]){"unshare", "-fp", "sleep", "1000", NULL});
	OK(watch_wait_exec(watch, "1000", SOON, -1, &alive, err));
	watch_reset(watch);
	assert_false(watch_lookup(watch, dead.pid, &init));
	assert_true(watch_lookup(watch, alive.pid, &init));
	assert_int_equal(init.forked_ns, alive.forked_ns);
	end(&alive, pids[1]);
}

static void waiting_is_cancelled(void **state)
{
	struct watch_init init;
	int pipes[2];

	needs_events();
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(write(pipes[1], "x", 1), 1);
	FAILS(watch_wait_exec(watch, "c1", SOON, pipes[0], &init, err), ERR_CANCELLED);
	close(pipes[0]);
	close(pipes[1]);
	FAILS(watch_wait_exit(watch, getpid(), SOON, -1, &init, err), ERR_NOT_FOUND);
}

static int set_up(void **state)
{
	struct err err = ERR_INIT;

	if (watch_start(&watch, &err) < 0)
		print_message("without process events: %s\n", err.msg);
	return 0;
}

static int tear_down(void **state)
{
	watch_stop(watch);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(status_tells_first_processes),
	    cmocka_unit_test(control_groups_name_containers),
	    cmocka_unit_test(a_first_process_is_seen),
	    cmocka_unit_test(a_runtime_that_executes_itself_is_not_the_program),
	    cmocka_unit_test(a_runtime_alone_is_no_program),
	    cmocka_unit_test(namespaces_within_are_none_of_ours),
	    cmocka_unit_test(containers_are_told_apart),
	    cmocka_unit_test(a_pause_hides_what_comes_in_it),
	    cmocka_unit_test(a_reset_keeps_what_runs),
	    cmocka_unit_test(waiting_is_cancelled),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
