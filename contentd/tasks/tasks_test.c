/* Tasks with the real shim and the real runc: their lives, restarts of the daemon, and what goes wrong. */
#include "base/testing.h"

#include "base/file.h"
#include "contentd/tasks/testing/world.h"

#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

static void a_life(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *out = xasprintf("file://%s/out", w->dir);
	AUTO(buf) struct buf text = BUF_INIT;
	uint32_t status = 99, pid;

	free(w->command);
	w->command = xstrdup("echo hello; exit 7");
	OK(world_create(w, "c1", out, err));
	FAILS(world_create(w, "c1", out, err), ERR_EXISTS);
	OK(world_start(w, "c1", "", err));
	OK(world_wait(w, "c1", "", &status, err));
	assert_int_equal(status, 7);
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	assert_int_equal(status, TASK_TYPES__STATUS__STOPPED);
	OK(world_wait(w, "c1", "", &status, err));
	assert_int_equal(status, 7);
	OK(world_delete(w, "c1", &status, err));
	assert_int_equal(status, 7);
	FAILS(world_delete(w, "c1", &status, err), ERR_NOT_FOUND);
	OK(file_read(AT_FDCWD, out + strlen("file://"), 100, &text, err));
	assert_string_equal(buf_cstr(&text), "hello\n");
	world_expect_topics(w, "create start exit delete");
	world_expect_no_traces(w);
}

static void exec_and_kill(void **state)
{
	struct world *w = *state;
	Tasks__DeleteProcessRequest forget = TASKS__DELETE_PROCESS_REQUEST__INIT;
	uint32_t status;

	OK(world_create(w, "c1", NULL, err));
	OK(world_start(w, "c1", "", err));
	FAILS(world_delete(w, "c1", &status, err), ERR_PRECONDITION);
	OK(world_add_process(w, "c1", "e1", "exit 3", err));
	FAILS(world_add_process(w, "c1", "e1", "exit 3", err), ERR_EXISTS);
	OK(world_start(w, "c1", "e1", err));
	OK(world_wait(w, "c1", "e1", &status, err));
	assert_int_equal(status, 3);
	forget.container_id = "c1";
	forget.exec_id = "e1";
	OK(world_call(w, "DeleteProcess", &forget.base, NULL, err));
	FAILS(world_start(w, "c1", "e2", err), ERR_NOT_FOUND);
	OK(world_kill_all(w, "c1", SIGKILL, err));
	OK(world_wait(w, "c1", "", &status, err));
	assert_int_equal(status, 128 + SIGKILL);
	OK(world_delete(w, "c1", &status, err));
	world_expect_no_traces(w);
}

struct killer {
	struct rpc_client *client;
	atomic_bool *done;
	struct err why; /* of the first answer that is neither success nor "not found" */
};

/* As a client that hands on every signal it gets. */
static void *kill_all_the_time(void *arg)
{
	Tasks__KillRequest req = TASKS__KILL_REQUEST__INIT;
	struct killer *k = arg;

	req.container_id = "c1";
	req.signal = SIGURG;
	while (!atomic_load(k->done)) {
		struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + PATIENCE};
		struct err err = ERR_INIT;

		if (rpc_call(k->client, &tasks__tasks__descriptor, "Kill", &opts, &req.base, NULL, &err) < 0 &&
		    err.code != ERR_NOT_FOUND && !k->why.code)
			k->why = err;
	}
	return NULL;
}

static void what_is_being_deleted_is_not_found(void **state)
{
	struct world *w = *state;
	atomic_bool done = false;
	struct killer killers[3];
	pthread_t threads[ARRAY_LEN(killers)];
	uint32_t status;

	free(w->command);
	w->command = xstrdup("exit 0");
	OK(world_create(w, "c1", NULL, err));
	OK(world_start(w, "c1", "", err));
	OK(world_wait(w, "c1", "", &status, err));
	for (size_t i = 0; i < ARRAY_LEN(killers); i++) {
		killers[i] = (struct killer){.done = &done, .why = ERR_INIT};
		OK(rpc_client_connect(w->address, &killers[i].client, err));
		assert_int_equal(pthread_create(&threads[i], NULL, kill_all_the_time, &killers[i]), 0);
	}
	OK(world_delete(w, "c1", &status, err));
	atomic_store(&done, true);
	for (size_t i = 0; i < ARRAY_LEN(killers); i++) {
		pthread_join(threads[i], NULL);
		rpc_client_free(killers[i].client);
		if (killers[i].why.code)
			fail_msg("%s: %s", err_code_name(killers[i].why.code), killers[i].why.msg);
	}
	world_expect_no_traces(w);
}

static void a_failed_create_leaves_nothing(void **state)
{
	struct world *w = *state;
	struct err why = ERR_INIT;
	AUTO_FREE char *sh = xasprintf("%s/bin/sh", w->rootfs);

	assert_int_equal(unlink(sh), 0);
	assert_true(world_create(w, "c1", NULL, &why) < 0);
	if (!strstr(why.msg, "/bin/sh"))
		fail_msg("the reason is not told: %s", why.msg);
	world_expect_no_traces(w);
	FAILS(world_create(w, "unknown", NULL, err), ERR_NOT_FOUND);
	FAILS(world_start(w, "c1", "", err), ERR_NOT_FOUND);
}

static void a_dead_shim_is_cleaned_up_after(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *address_file = xasprintf("%s/tasks/%s/c1/address", w->state, w->ns);
	AUTO(buf) struct buf address = BUF_INIT;
	uint32_t status, pid = 0;

	OK(world_create(w, "c1", NULL, err));
	OK(world_start(w, "c1", "", err));
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	OK(file_read(AT_FDCWD, address_file, 200, &address, err));
	assert_int_equal(access(buf_cstr(&address) + strlen("unix://"), F_OK), 0);
	assert_int_equal(kill(process_parent(pid), SIGKILL), 0);
	OK(world_wait(w, "c1", "", &status, err));
	assert_int_equal(status, 128 + SIGKILL);
	world_expect_topics(w, "create start exit delete");
	assert_int_equal(world_count_tasks(w, &status, &pid), 0);
	assert_true(process_has_ended(pid));
	assert_int_equal(access(buf_cstr(&address) + strlen("unix://"), F_OK), -1);
	world_expect_no_traces(w);
}

static void containers_outlive_the_daemon(void **state)
{
	struct world *w = *state;
	uint32_t status, pid = 0, again = 0;

	OK(world_create(w, "c1", NULL, err));
	OK(world_start(w, "c1", "", err));
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	world_expect_topics(w, "create start");
	world_stop_daemon(w);
	assert_int_equal(kill((pid_t)pid, 0), 0);
	world_start_daemon(w);
	assert_int_equal(world_count_tasks(w, &status, &again), 1);
	assert_int_equal(status, TASK_TYPES__STATUS__RUNNING);
	assert_int_equal(again, pid);
	OK(world_kill_all(w, "c1", SIGTERM, err));
	OK(world_kill_all(w, "c1", SIGKILL, err));
	OK(world_wait(w, "c1", "", &status, err));
	OK(world_delete(w, "c1", &status, err));
	world_expect_topics(w, "create start ~exit ~delete");
	world_expect_no_traces(w);
}

static void shims_that_died_meanwhile_are_found(void **state)
{
	struct world *w = *state;
	uint32_t status, pid = 0;
	pid_t shim;

	OK(world_create(w, "c1", NULL, err));
	OK(world_start(w, "c1", "", err));
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	shim = process_parent(pid);
	world_expect_topics(w, "create start");
	world_stop_daemon(w);
	assert_int_equal(kill(shim, SIGKILL), 0);
	world_start_daemon(w);
	assert_int_equal(world_count_tasks(w, &status, &pid), 0);
	world_expect_topics(w, "create start ~exit ~delete");
	world_expect_no_traces(w);
}

/* An exit that nobody was there to hear of is told afterwards, once, whether the shim repeats it or not. */
static void an_exit_without_a_daemon_is_told(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *go = xasprintf("%s/tmp/go", w->rootfs);
	uint32_t status, pid = 0;

	free(w->command);
	w->command = xstrdup("while [ ! -e /tmp/go ]; do sleep 0.02; done; exit 5");
	OK(world_create(w, "c1", NULL, err));
	OK(world_start(w, "c1", "", err));
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	world_expect_topics(w, "create start");
	world_stop_daemon(w);
	assert_int_equal(mknod(go, S_IFREG | 0600, 0), 0);
	assert_true(process_has_ended(pid));
	world_start_daemon(w);
	world_expect_topics(w, "create start ~exit");
	OK(world_wait(w, "c1", "", &status, err));
	assert_int_equal(status, 5);
	OK(world_delete(w, "c1", &status, err));
	assert_int_equal(status, 5);
	world_expect_topics(w, "create start ~exit ~delete");
	world_expect_no_traces(w);
}

/* A daemon that was told of the end, and then lost the shim, still knows the status. */
static void the_first_status_counts(void **state)
{
	struct world *w = *state;
	pid_t shim = world_run_to_end(w, 9);
	uint32_t status;

	world_stop_daemon(w);
	assert_int_equal(kill(shim, SIGKILL), 0);
	world_start_daemon(w);
	OK(world_wait(w, "c1", "", &status, err));
	assert_int_equal(status, 9);
	OK(world_delete(w, "c1", &status, err));
	assert_int_equal(status, 9);
	world_expect_topics(w, "create start exit ~delete");
	FAILS(world_delete(w, "c1", &status, err), ERR_NOT_FOUND);
	world_expect_no_traces(w);
}

/* The task is there after all: its answer and the client's deadline have crossed. Then it is the client's to delete. */
static bool have_crossed(struct world *w)
{
	AUTO_FREE char *bundle = xasprintf("%s/tasks/%s/c1", w->state, w->ns);
	uint32_t status, pid = 0;

	for (int64_t until = clock_mono_ns() + PATIENCE / 4; clock_mono_ns() < until && access(bundle, F_OK) == 0;)
		usleep(10000);
	return access(bundle, F_OK) == 0 && world_count_tasks(w, &status, &pid) == 1 && pid;
}

/* A client that does not wait for its Create leaves neither a task nor a shim, whenever it goes. */
static void an_abandoned_create_leaves_nothing(void **state)
{
	struct world *w = *state;

	for (int ms = 1; ms < 100; ms += 12) {
		struct err why = ERR_INIT;
		uint32_t status;
		int r;

		/* The name is free a moment after the traces are gone. */
		do {
			why = ERR_INIT;
			w->patience = ms * NS_PER_MS;
			r = world_create(w, "c1", NULL, &why);
		} while (r == -(int)ERR_EXISTS);
		w->patience = PATIENCE;
		if (r < 0)
			assert_int_equal(why.code, ERR_DEADLINE);
		if (r >= 0 || (ms > 1 && have_crossed(w)))
			OK(world_delete(w, "c1", &status, err));
		world_expect_no_traces(w);
		assert_false(world_has_shims(w));
	}
	FAILS(world_start(w, "c1", "", err), ERR_NOT_FOUND);
}

static void a_group_of_others_stays(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *pattern = xasprintf("/sys/fs/cgroup{,/*}/%s", w->ns);
	glob_t g;
	uint32_t status;

	assert_int_equal(glob("/sys/fs/cgroup{,/pids}", GLOB_BRACE | GLOB_ONLYDIR, NULL, &g), 0);
	AUTO_FREE char *path = xasprintf("%s/%s", g.gl_pathv[g.gl_pathc - 1], w->ns);
	globfree(&g);
	assert_int_equal(mkdir(path, 0755), 0);
	for (int i = 0; i < 2; i++) {
		OK(world_create(w, "c1", NULL, err));
		OK(world_delete(w, "c1", &status, err));
		assert_true(world_has_cgroup(w));
	}
	assert_int_equal(glob(pattern, GLOB_BRACE, NULL, &g), 0);
	for (size_t i = 0; i < g.gl_pathc; i++)
		assert_int_equal(rmdir(g.gl_pathv[i]), 0);
	globfree(&g);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(a_life),
	    TEST(exec_and_kill),
	    TEST(what_is_being_deleted_is_not_found),
	    TEST(a_failed_create_leaves_nothing),
	    TEST(a_dead_shim_is_cleaned_up_after),
	    TEST(containers_outlive_the_daemon),
	    TEST(shims_that_died_meanwhile_are_found),
	    TEST(an_exit_without_a_daemon_is_told),
	    TEST(the_first_status_counts),
	    TEST(an_abandoned_create_leaves_nothing),
	    TEST(a_group_of_others_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
