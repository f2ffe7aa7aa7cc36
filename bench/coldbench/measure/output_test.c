#include "base/testing.h"
#include "bench/coldbench/measure/output.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#define SOON (clock_mono_ns() + 60 * NS_PER_S)
#define KEPT_BYTES (1u << 20)

static char path[] = "/tmp/coldbench-output.XXXXXX";

static off_t file_bytes(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void start(struct output **o, int *to)
{
	assert_int_equal(truncate(path, 0), 0);
	OK(output_start(path, o, to, err));
}

static void say(int to, const char *text)
{
	OK(fd_write_all(to, str_of(text), err));
}

static void the_first_whole_line_counts(void **state)
{
	AUTO(buf) struct buf got = BUF_INIT;
	struct output *o;
	int64_t at_ns = 0, after_ns;
	int to;

	start(&o, &to);
	say(to, "rea");
	FAILS(output_wait_line(o, clock_mono_ns() + 50 * NS_PER_MS, -1, &at_ns, err), ERR_DEADLINE);
	after_ns = clock_mono_ns();
	say(to, "dy\nand");
	OK(output_wait_line(o, SOON, -1, &at_ns, err));
	assert_true(at_ns >= after_ns && at_ns <= clock_mono_ns());
	output_stop(o); /* the end that writes is open still */
	OK(file_read(AT_FDCWD, path, 100, &got, err));
	assert_string_equal(buf_cstr(&got), "ready\nand");
	close(to);
}

static void an_end_without_a_line_is_told(void **state)
{
	struct output *o;
	int64_t at_ns;
	int to;

	start(&o, &to);
	say(to, "no");
	close(to);
	FAILS(output_wait_line(o, SOON, -1, &at_ns, err), ERR_UNAVAILABLE);
	output_stop(o);
	assert_int_equal(file_bytes(), 2);
}

static void *flood(void *arg)
{
	static const char text[65536] = "\n";

	while (write(*(int *)arg, text, sizeof(text)) > 0)
		;
	return NULL;
}

/* It neither waits for the end of the program that has its pipe, nor stops it until it is stopped itself. */
static void a_flood_ends_with_the_stop_and_is_not_kept(void **state)
{
	struct output *o;
	int64_t at_ns;
	pthread_t thread;
	int to;

	start(&o, &to);
	assert_int_equal(pthread_create(&thread, NULL, flood, &to), 0);
	OK(output_wait_line(o, SOON, -1, &at_ns, err));
	while (file_bytes() < KEPT_BYTES)
		usleep(1000);
	usleep(50000); /* for more, which must not come */
	output_stop(o);
	pthread_join(thread, NULL);
	close(to);
	assert_in_range(file_bytes(), KEPT_BYTES + 1, KEPT_BYTES + 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_first_whole_line_counts),
	    cmocka_unit_test(an_end_without_a_line_is_told),
	    cmocka_unit_test(a_flood_ends_with_the_stop_and_is_not_kept),
	};
	int fd = mkstemp(path), failed;

	assert_true(fd >= 0);
	close(fd);
	signal(SIGPIPE, SIG_IGN);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed;
}
