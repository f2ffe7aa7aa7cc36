#include "base/testing.h"
#include "bench/coldbench/engines/leftovers.h"

#include "base/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PIDS "/sys/fs/cgroup/pids"

static void mounts_are_found_below_the_folder_alone(void **state)
{
	static const char text[] = "20 1 8:1 / / rw - ext4 /dev/a rw\n"
				   "21 20 0:1 / /d rw shared:1 - tmpfs t rw\n"
				   "22 21 0:2 / /d/with\\040blank\\134 rw - tmpfs t rw\n"
				   "23 20 0:3 / /dd rw - tmpfs t rw\n"
				   "24 20 0:4 /d /e/d rw - tmpfs t rw\n"
				   "25 22 0:5 / /d/x/y rw - tmpfs t rw\n"
				   "garbage\n";
	AUTO(argv) struct argv found = ARGV_INIT;

	leftovers_mounts(str_of(text), "/d", &found);
	assert_int_equal(found.n, 3);
	assert_string_equal(found.p[0], "/d/x/y");
	assert_string_equal(found.p[1], "/d/with blank\\");
	assert_string_equal(found.p[2], "/d");
}

static void names_differ(void **state)
{
	AUTO_FREE char *a = leftovers_name();
	AUTO_FREE char *b = leftovers_name();

	assert_string_not_equal(a, b);
}

static pid_t start(const char *const *argv)
{
	pid_t pid = 0;

	OK(spawn_start(&(struct spawn){.argv = argv, .stdio = {-1, -1, -1}}, &pid, err));
	return pid;
}

static void enter_group(const char *group, pid_t pid)
{
	AUTO_FREE char *procs = xasprintf("%s/cgroup.procs", group);
	FILE *f = fopen(procs, "w");

	assert_non_null(f);
	assert_true(fprintf(f, "%d", (int)pid) > 0);
	assert_int_equal(fclose(f), 0);
}

static bool runs(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == 0;
}

/* A mount within a mount, a daemon with a child that does not name the folder, a container; and one of each of somebody else. */
static void everything_of_an_engine_ends(void **state)
{
	char dir[] = "/tmp/coldbench-leftovers.XXXXXX";
	AUTO_FREE char *name = leftovers_name();
	AUTO_FREE char *inner = NULL;
	AUTO_FREE char *neighbour = NULL;
	AUTO_FREE char *parent = xasprintf(PIDS "/%s", name);
	AUTO_FREE char *group = xasprintf("%s/c1", parent);
	AUTO_FREE char *script = NULL;
	struct engine e = {.dir = dir};
	pid_t daemon, container, other;
	int pipes[2];
	char byte;

	if (geteuid() != 0 || access(PIDS, W_OK))
		skip();
	assert_non_null(mkdtemp(dir));
	inner = xasprintf("%s/inner", dir);
	neighbour = xasprintf("%s.neighbour", dir);
	assert_int_equal(mount("t", dir, "tmpfs", 0, NULL), 0);
	assert_int_equal(mkdir(inner, 0700), 0);
	assert_int_equal(mount("t", inner, "tmpfs", 0, NULL), 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	script = xasprintf("exec >/proc/%d/fd/%d; sleep 1000 & wait # %s/daemon.sock", getpid(), pipes[1], dir);
	daemon = start((const char *[]){"sh", "-c", script, inner, NULL});
	container = start((const char *[]){"sleep", "1000", NULL});
	other = start((const char *[]){"sh", "-c", "kill -STOP $$; :", neighbour, NULL});
	assert_true(mkdir(parent, 0755) == 0 && mkdir(group, 0755) == 0);
	enter_group(group, container);

	OK(leftovers_end(&e, name, err));
	close(pipes[1]);
	assert_int_equal(read(pipes[0], &byte, 1), 0); /* the daemon and its child have ended */
	close(pipes[0]);
	assert_int_equal(waitpid(daemon, NULL, 0), -1); /* and it is reaped */
	assert_false(runs(container));
	assert_true(access(parent, F_OK) && errno == ENOENT);
	assert_true(access(inner, F_OK) && errno == ENOENT);
	assert_int_equal(rmdir(dir), 0);
	assert_true(runs(other));
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	OK(leftovers_end(&e, name, err)); /* there is nothing */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(mounts_are_found_below_the_folder_alone),
	    cmocka_unit_test(names_differ),
	    cmocka_unit_test(everything_of_an_engine_ends),
	};

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
