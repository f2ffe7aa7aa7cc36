#include "base/testing.h"
#include "bench/coldbench/images/registry.h"

#include "base/clock.h"
#include "base/file.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

static char dir[] = "/tmp/coldbench-registry.XXXXXX";

static bool is_served(const char *host)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	AUTO_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_port = htons((uint16_t)atoi(strchr(host, ':') + 1));
	return connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0;
}

static bool is_mounted(void)
{
	AUTO(buf) struct buf mounts = BUF_INIT;

	OK(file_read(AT_FDCWD, "/proc/self/mounts", 4u << 20, &mounts, err));
	return strstr(buf_cstr(&mounts), dir);
}

static void it_serves_until_it_is_stopped(void **state)
{
	struct registry *r = NULL;
	char host[32];

	OK(registry_start(dir, -1, &r, err));
	snprintf(host, sizeof(host), "%s", registry_host(r));
	assert_true(is_served(host));
	assert_false(is_mounted()); /* nothing that could be left behind */
	registry_stop(r);
	assert_false(is_served(host));
}

/* Tells its address, and waits for its end. */
static _Noreturn void start_and_wait(int fd)
{
	struct registry *r = NULL;

	if (registry_start(dir, -1, &r, NULL) < 0 || write(fd, registry_host(r), strlen(registry_host(r))) < 0)
		_exit(1);
	pause();
	_exit(0);
}

static void it_ends_with_whoever_started_it(void **state)
{
	int64_t deadline_ns = clock_mono_ns() + 30 * NS_PER_S;
	char host[32] = "";
	int pipes[2];
	pid_t pid;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	if (!pid)
		start_and_wait(pipes[1]);
	close(pipes[1]); /* if it fails, reading ends */
	assert_true(read(pipes[0], host, sizeof(host) - 1) > 0);
	assert_true(is_served(host));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	while (is_served(host) && clock_mono_ns() < deadline_ns)
		usleep(10000);
	assert_false(is_served(host));
	close(pipes[0]);
}

static void starting_can_be_stopped(void **state)
{
	struct registry *r = NULL;
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(write(pipes[1], "x", 1), 1);
	FAILS(registry_start(dir, pipes[0], &r, err), ERR_CANCELLED);
	close(pipes[0]);
	close(pipes[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_serves_until_it_is_stopped),
	    cmocka_unit_test(it_ends_with_whoever_started_it),
	    cmocka_unit_test(starting_can_be_stopped),
	};
	AUTO_FD int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int failed;

	if (geteuid() || !mkdtemp(dir))
		return geteuid() ? 0 : 1; /* its memory needs root */
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	dir_remove(tmp, dir + strlen("/tmp/"), NULL);
	return failed;
}
