/* Shims that are there and do not answer, and tasks without a container, with the real shim and the real runc. */
#include "base/testing.h"

#include "base/file.h"
#include "base/unix.h"
#include "contentd/tasks/process.h"
#include "contentd/tasks/testing/world.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define HASTE (300 * NS_PER_MS) /* what is said to be hung after this, is */
#define MANY 100                /* calls; more than there are places for handlers */

static int set_up_hasty(void **state)
{
	struct world *w;

	if (world_set_up(state) < 0)
		return -1;
	w = *state;
	world_stop_daemon(w);
	w->shim_patience = HASTE;
	world_start_daemon(w);
	return 0;
}

/* A running c1; its first process. */
static uint32_t run_one(struct world *w)
{
	uint32_t status, pid = 0;

	OK(world_create(w, "c1", NULL, err));
	OK(world_start(w, "c1", "", err));
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	return pid;
}

static void send_to(pid_t pid, int signal)
{
	assert_int_equal(kill(pid, signal), 0);
}

static int kill_with(struct world *w, const char *id, int signal, struct err *err)
{
	Tasks__KillRequest req = TASKS__KILL_REQUEST__INIT;

	req.container_id = id;
	req.signal = (uint32_t)signal;
	return world_call(w, "Kill", &req.base, NULL, err);
}

static void expect_nothing_left(struct world *w, const char *topics)
{
	world_expect_topics(w, topics);
	world_expect_no_traces(w);
	assert_false(world_has_shims(w));
}

static void who_kills_ends_a_hung_shim(void **state)
{
	struct world *w = *state;
	uint32_t status, pid = run_one(w);
	pid_t shim = process_parent(pid);

	send_to(shim, SIGSTOP);
	FAILS(kill_with(w, "c1", SIGURG, err), ERR_UNAVAILABLE);
	FAILS(world_delete(w, "c1", &status, err), ERR_UNAVAILABLE);
	assert_true(process_runs(pid) && process_runs((uint32_t)shim));
	OK(kill_with(w, "c1", SIGKILL, err));
	assert_true(process_has_ended((uint32_t)shim));
	assert_true(process_has_ended(pid));
	expect_nothing_left(w, "create start exit delete");
	/* The name is free. */
	OK(world_create(w, "c1", NULL, err));
	OK(world_delete(w, "c1", &status, err));
}

/* One that never told which process it is. */
static void an_unknown_shim_is_found(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *note = xasprintf("%s/tasks/%s/c1/shim-process", w->state, w->ns);
	pid_t shim = process_parent(run_one(w));

	send_to(shim, SIGSTOP);
	assert_int_equal(unlink(note), 0);
	OK(kill_with(w, "c1", SIGKILL, err));
	assert_true(process_has_ended((uint32_t)shim));
	expect_nothing_left(w, "create start exit delete");
}

static void what_has_ended_is_deleted(void **state)
{
	struct world *w = *state;
	pid_t shim = world_run_to_end(w, 4);
	uint32_t status;

	send_to(shim, SIGSTOP);
	OK(world_delete(w, "c1", &status, err));
	assert_int_equal(status, 4);
	expect_nothing_left(w, "create start exit delete");
}

/* One that was killed. */
static void delete_killed(struct world *w, const char *id)
{
	uint32_t status;

	OK(world_wait(w, id, "", &status, err));
	OK(world_delete(w, id, &status, err));
	assert_int_equal(status, 128 + SIGKILL);
}

static void kill_and_delete(struct world *w, const char *id)
{
	OK(kill_with(w, id, SIGKILL, err));
	delete_killed(w, id);
}

/* c1 and c2 in one shim; their first processes. */
static pid_t run_two(struct world *w, uint32_t pids[2])
{
	static const char *const ids[] = {"c1", "c2"};

	w->grouped = true;
	for (int i = 0; i < 2; i++) {
		Tasks__GetRequest req = TASKS__GET_REQUEST__INIT;
		AUTO(pb) Tasks__GetResponse *rsp = NULL;

		OK(world_create(w, ids[i], NULL, err));
		OK(world_start(w, ids[i], "", err));
		req.container_id = ids[i];
		OK(world_call(w, "Get", &req.base, &rsp, err));
		pids[i] = rsp->process->pid;
	}
	assert_int_equal(process_parent(pids[0]), process_parent(pids[1]));
	return process_parent(pids[0]);
}

static void a_shim_of_two_is_not_ended_for_one(void **state)
{
	struct world *w = *state;
	uint32_t pids[2];
	pid_t shim = run_two(w, pids);

	send_to(shim, SIGSTOP);
	FAILS(kill_with(w, "c1", SIGKILL, err), ERR_UNAVAILABLE);
	assert_true(process_runs(pids[0]) && process_runs(pids[1]) && process_runs((uint32_t)shim));
	send_to(shim, SIGCONT); /* and has the signal now */
	assert_true(process_has_ended(pids[0]));
	assert_true(process_runs(pids[1]));
	delete_killed(w, "c1");
	kill_and_delete(w, "c2");
	world_expect_no_traces(w);
	assert_false(world_has_shims(w));
}

static void hung_shims_are_ended_at_a_restart(void **state)
{
	struct world *w = *state;
	uint32_t status, pid = run_one(w);
	pid_t shim = process_parent(pid);

	world_expect_topics(w, "create start");
	world_stop_daemon(w);
	send_to(shim, SIGSTOP);
	world_start_daemon(w);
	assert_int_equal(world_count_tasks(w, &status, &pid), 0);
	assert_true(process_has_ended((uint32_t)shim));
	assert_true(process_has_ended(pid));
	expect_nothing_left(w, "create start ~exit ~delete");
}

static void and_those_of_several_tasks(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *second = xasprintf("%s/tasks/%s/c2", w->state, w->ns);
	uint32_t pids[2];
	pid_t shim = run_two(w, pids);

	world_stop_daemon(w);
	send_to(shim, SIGSTOP);
	world_start_daemon(w);
	assert_true(process_has_ended((uint32_t)shim));
	assert_true(process_has_ended(pids[0]) && process_has_ended(pids[1]));
	world_expect_no_traces(w);
	assert_int_equal(access(second, F_OK), -1);
	assert_false(world_has_shims(w));
}

/* However many wait for one shim, calls that have to do with others are answered, and the daemon stops. */
static void a_hung_shim_holds_up_nobody(void **state)
{
	struct world *w = *state;
	Tasks__ListPidsRequest req = TASKS__LIST_PIDS_REQUEST__INIT;
	struct rpc_stream *waiting[MANY];
	uint32_t status, pid = run_one(w);
	pid_t shim = process_parent(pid);

	req.container_id = "c1";
	send_to(shim, SIGSTOP);
	for (int i = 0; i < MANY; i++) {
		OK(rpc_stream_open(w->client, &tasks__tasks__descriptor, "ListPids", NULL, &waiting[i], err));
		OK(rpc_stream_send(waiting[i], &req.base, err));
		OK(rpc_stream_close_send(waiting[i], err));
	}
	w->patience = PATIENCE / 4; /* shorter than what the hung one is given */
	OK(world_create(w, "c2", NULL, err));
	OK(world_start(w, "c2", "", err));
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	assert_int_equal(status, TASK_TYPES__STATUS__RUNNING);
	kill_and_delete(w, "c2");
	for (int i = 0; i < MANY; i++)
		rpc_stream_free(waiting[i]);
	w->patience = PATIENCE;
	send_to(shim, SIGCONT);
	kill_and_delete(w, "c1");
	world_expect_no_traces(w);
}

static void a_daemon_stops_beside_a_hung_shim(void **state)
{
	struct world *w = *state;
	Tasks__KillRequest req = TASKS__KILL_REQUEST__INIT;
	struct rpc_stream *waiting;
	pid_t shim = process_parent(run_one(w));

	world_expect_topics(w, "create start");
	req.container_id = "c1";
	req.signal = SIGURG;
	send_to(shim, SIGSTOP);
	OK(rpc_stream_open(w->client, &tasks__tasks__descriptor, "Kill", NULL, &waiting, err));
	OK(rpc_stream_send(waiting, &req.base, err));
	OK(rpc_stream_close_send(waiting, err));
	rpc_stream_free(waiting);
	world_stop_daemon(w);
	assert_true(process_runs((uint32_t)shim));
	send_to(shim, SIGCONT);
	world_start_daemon(w);
	kill_and_delete(w, "c1");
	expect_nothing_left(w, "create start ~exit ~delete");
}

/* ---- whose process it is ---- */

static void another_process_of_that_number_is_not_ended(void **state)
{
	const char *argv[] = {"/bin/sleep", "1000", NULL};
	char dir[] = "/tmp/hung-test-XXXXXX";
	struct bundle b = {(char *)"n", (char *)"c1", dir, NULL};
	struct shim_env env = {.address = "/nowhere/sock"};
	AUTO_FREE char *note = NULL, *path = NULL, *text = NULL;
	pid_t innocent;
	int status;

	assert_non_null(mkdtemp(dir));
	path = xasprintf("%s/shim-process", dir);
	OK(spawn_start(&(struct spawn){.argv = argv, .stdio = {-1, -1, -1}}, &innocent, err));
	/* No shim at all. */
	shim_process_note(&b, (uint32_t)innocent);
	FAILS(bundle_read(&b, "shim-process", &text, err), ERR_NOT_FOUND);
	/* One that began at another time. */
	note = xasprintf("%d 1\n", (int)innocent);
	OK(bundle_write(&b, "shim-process", note, err));
	FAILS(shim_process_end(&env, &b, err), ERR_NOT_FOUND);
	assert_true(process_runs((uint32_t)innocent));
	send_to(innocent, SIGKILL);
	OK(spawn_wait(innocent, &status, err));
	unlink(path);
	rmdir(dir);
}

/* ---- tasks without a container ---- */

static void a_task_without_a_container_is_ended_at_a_restart(void **state)
{
	struct world *w = *state;
	uint32_t status, pid = run_one(w);

	world_expect_topics(w, "create start");
	world_stop_daemon(w);
	w->forgotten = true;
	world_start_daemon(w);
	assert_int_equal(world_count_tasks(w, &status, &pid), 0);
	expect_nothing_left(w, "create start ~exit ~delete");
}

static void its_name_can_be_used_at_once(void **state)
{
	struct world *w = *state;
	uint32_t status, pid;

	OK(world_create(w, "c1", NULL, err)); /* never started */
	world_expect_topics(w, "create");
	world_stop_daemon(w);
	w->forgotten = true;
	world_start_daemon(w);
	w->forgotten = false;
	OK(world_create(w, "c1", NULL, err));
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	OK(world_delete(w, "c1", &status, err));
	world_expect_topics(w, "create ~exit ~delete create exit delete");
	world_expect_no_traces(w);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
#define HASTY(f) cmocka_unit_test_setup_teardown(f, set_up_hasty, world_tear_down)
	const struct CMUnitTest tests[] = {
	    HASTY(who_kills_ends_a_hung_shim),
	    HASTY(an_unknown_shim_is_found),
	    HASTY(what_has_ended_is_deleted),
	    HASTY(a_shim_of_two_is_not_ended_for_one),
	    HASTY(hung_shims_are_ended_at_a_restart),
	    HASTY(and_those_of_several_tasks),
	    TEST(a_hung_shim_holds_up_nobody),
	    TEST(a_daemon_stops_beside_a_hung_shim),
	    cmocka_unit_test(another_process_of_that_number_is_not_ended),
	    TEST(a_task_without_a_container_is_ended_at_a_restart),
	    TEST(its_name_can_be_used_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
