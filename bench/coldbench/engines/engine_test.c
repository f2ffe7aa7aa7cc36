#include "base/testing.h"
#include "bench/coldbench/engines/daemon.h"

#include "bench/coldbench/modes/mode.h"

#include <fcntl.h>

static void command_lines_grow(void **state)
{
	AUTO(argv) struct argv a = ARGV_INIT;
	const char *more[] = {"x", "y", NULL};

	argv_addv(&a, NULL);
	assert_null(a.p);
	argv_addl(&a, "one", "two", NULL);
	argv_addf(&a, "--n=%d", 3);
	for (int i = 0; i < 50; i++)
		argv_addv(&a, more);
	assert_int_equal(a.n, 103);
	assert_string_equal(a.p[1], "two");
	assert_string_equal(a.p[2], "--n=3");
	assert_string_equal(a.p[102], "y");
	assert_null(a.p[103]);
}

static void engines_are_complete_and_found_by_name(void **state)
{
	size_t n = 0;

	for (const struct engine_kind *k; (k = engine_at(n)); n++) {
		assert_ptr_equal(engine_find(k->name), k);
		assert_true(form_is_known(k->form));
		assert_true(k->title && k->probe && k->start && k->stop && k->pull && k->run);
	}
	assert_true(n >= 7);
	assert_null(engine_find("docker"));
	assert_null(engine_find(""));
	assert_false(form_is_known("tar"));
}

static void one_may_be_added_for_a_time(void **state)
{
	struct engine_kind a = *engine_at(0), b = *engine_at(0);
	size_t n = 0;

	a.name = "a+5%";
	b.name = "b+5%";
	engine_add(&a);
	engine_add(&b);
	assert_ptr_equal(engine_find("a+5%"), &a);
	assert_ptr_equal(engine_find("b+5%"), &b);
	for (const struct engine_kind *k; (k = engine_at(n)); n++)
		assert_true(k != &a && k != &b);
	engine_remove(&a);
	assert_null(engine_find("a+5%"));
	assert_ptr_equal(engine_find("b+5%"), &b);
	engine_remove(&b);
	assert_null(engine_find("b+5%"));
}

/* A stop without a start, which is what remains of a start that failed at once. */
static void what_never_started_stops(void **state)
{
	struct engine e = {.dir = "/nothing/there"};

	for (size_t i = 0; (e.kind = engine_at(i)); i++)
		OK(e.kind->stop(&e, err));
}

/* It would not answer in time. */
static void waiting_for_a_daemon_can_be_stopped(void **state)
{
	char dir[] = "/tmp/coldbench-engine.XXXXXX";
	struct engine e = {.dir = dir};
	AUTO(argv) struct argv argv = ARGV_INIT;
	struct daemon d = {0};
	int pipes[2];

	assert_non_null(mkdtemp(dir));
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(write(pipes[1], "x", 1), 1);
	e.cancel_fd = pipes[0];
	argv_addl(&argv, "sleep", "60", NULL);
	OK(daemon_start(&d, &e, "sleeper", &argv, err));
	FAILS(daemon_await(&d, &e, &argv, err), ERR_CANCELLED);
	daemon_stop(&d);
	assert_int_equal(d.pid, 0);
	close(pipes[0]);
	close(pipes[1]);
	OK(folder_remove(dir, err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(command_lines_grow),
	    cmocka_unit_test(engines_are_complete_and_found_by_name),
	    cmocka_unit_test(one_may_be_added_for_a_time),
	    cmocka_unit_test(what_never_started_stops),
	    cmocka_unit_test(waiting_for_a_daemon_can_be_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
