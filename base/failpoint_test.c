#include "base/failpoint.h"

#include "base/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a child ends that comes to the place "here" with this in its environment. */
static int end_of(const char *value)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setenv("CONTENTD_FAILPOINT", value, 1);
		failpoint_init();
		FAILPOINT("here");
		_exit(7);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void dies_once(void **state)
{
	char file[] = "/tmp/failpoint.XXXXXX", value[64];
	int fd = mkstemp(file);

	assert_true(fd >= 0);
	close(fd);
	snprintf(value, sizeof(value), "there:%s", file);
	assert_int_equal(end_of(value), 7);
	snprintf(value, sizeof(value), "her:%s", file);
	assert_int_equal(end_of(value), 7);
	assert_int_equal(end_of("here"), 7);
	snprintf(value, sizeof(value), "here:%s", file);
	assert_int_equal(end_of(value), -9);
	assert_int_equal(access(file, F_OK), -1);
	assert_int_equal(end_of(value), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(dies_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
