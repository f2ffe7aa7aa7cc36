/* What tasks use, may use, and how they are held up: Metrics, Update, ListPids, Pause, with the real shim and runc. */
#include "base/testing.h"

#include "base/file.h"
#include "contentd/tasks/testing/world.h"
#include "rpc/proto/cgroups_v1.pb-c.h"
#include "rpc/proto/cgroups_v2.pb-c.h"
#include "rpc/proto/runc.pb-c.h"

#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>

/* What a file of the container's control group holds, in either version of the tree. */
static uint64_t cgroup_value(const struct world *w, const char *controller, const char *v1, const char *v2)
{
	AUTO_FREE char *pattern = xasprintf("/sys/fs/cgroup{/%s/%s/c1/%s,/%s/c1/%s}", controller, w->ns, v1, w->ns, v2);
	AUTO(buf) struct buf text = BUF_INIT;
	uint64_t value;
	glob_t g;

	assert_int_equal(glob(pattern, GLOB_BRACE, NULL, &g), 0);
	OK(file_read(AT_FDCWD, g.gl_pathv[0], 100, &text, err));
	globfree(&g);
	assert_true(str_u64(str_trim(buf_str(&text)), 10, &value));
	return value;
}

/* From a task's metrics. */
struct figures {
	uint64_t memory, memory_limit, pids, pids_limit;
};

static struct figures figures_of(const Pb__Any *data)
{
	struct str wire = str_make(data->value.data, data->value.len);
	AUTO(pb) CgroupsV1__Metrics *v1 = NULL;
	AUTO(pb) CgroupsV2__Metrics *v2 = NULL;

	if (pb_any_is(data, &cgroups_v1__metrics__descriptor)) {
		OK(pb_unpack(&cgroups_v1__metrics__descriptor, wire, &v1, err));
		assert_true(v1->memory && v1->memory->usage && v1->pids);
		return (struct figures){v1->memory->usage->usage, v1->memory->usage->limit, v1->pids->current,
		                        v1->pids->limit};
	}
	assert_true(pb_any_is(data, &cgroups_v2__metrics__descriptor));
	OK(pb_unpack(&cgroups_v2__metrics__descriptor, wire, &v2, err));
	assert_true(v2->memory && v2->pids);
	return (struct figures){v2->memory->usage, v2->memory->usage_limit, v2->pids->current, v2->pids->limit};
}

static struct figures figures(struct world *w)
{
	Tasks__MetricsRequest req = TASKS__METRICS_REQUEST__INIT;
	AUTO(pb) Tasks__MetricsResponse *rsp = NULL;
	const char *filters[] = {"id==c1"};

	req.filters = filters;
	req.n_filters = 1;
	OK(world_call(w, "Metrics", &req.base, &rsp, err));
	assert_int_equal(rsp->n_metrics, 1);
	assert_string_equal(rsp->metrics[0]->id, "c1");
	assert_true(rsp->metrics[0]->timestamp && rsp->metrics[0]->timestamp->seconds > 0);
	return figures_of(rsp->metrics[0]->data);
}

static int update(struct world *w, const char *id, const char *resources, struct err *err)
{
	Tasks__UpdateTaskRequest req = TASKS__UPDATE_TASK_REQUEST__INIT;
	Pb__Any any = PB__ANY__INIT;

	any.type_url = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
	any.value = (ProtobufCBinaryData){strlen(resources), (uint8_t *)resources};
	req.container_id = id;
	req.resources = &any;
	return world_call(w, "Update", &req.base, NULL, err);
}

#define MEMORY_LIMIT (48u << 20)

static void update_reaches_the_control_group(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *both = xasprintf("{\"memory\":{\"limit\":%u},\"pids\":{\"limit\":33}}", MEMORY_LIMIT);
	struct figures before, after;
	struct err why = ERR_INIT;
	uint32_t status, pid = 0;

	OK(world_create(w, "c1", NULL, err));
	OK(world_start(w, "c1", "", err));
	before = figures(w);
	assert_true(before.memory > 0 && before.pids > 0);
	assert_int_not_equal(before.memory_limit, MEMORY_LIMIT);
	OK(update(w, "c1", both, err));
	assert_int_equal(cgroup_value(w, "memory", "memory.limit_in_bytes", "memory.max"), MEMORY_LIMIT);
	assert_int_equal(cgroup_value(w, "pids", "pids.max", "pids.max"), 33);
	after = figures(w);
	assert_int_equal(after.memory_limit, MEMORY_LIMIT);
	assert_int_equal(after.pids_limit, 33);
	/* One value changes alone. */
	OK(update(w, "c1", "{\"pids\":{\"limit\":44}}", err));
	assert_int_equal(cgroup_value(w, "pids", "pids.max", "pids.max"), 44);
	assert_int_equal(cgroup_value(w, "memory", "memory.limit_in_bytes", "memory.max"), MEMORY_LIMIT);
	/* What cannot be changes nothing. */
	assert_true(update(w, "c1", "{\"pids\":\"many\"}", &why) < 0);
	assert_int_equal(cgroup_value(w, "pids", "pids.max", "pids.max"), 44);
	FAILS(update(w, "c2", both, err), ERR_NOT_FOUND);
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	assert_int_equal(status, TASK_TYPES__STATUS__RUNNING);
	OK(world_kill_all(w, "c1", SIGKILL, err));
	OK(world_wait(w, "c1", "", &status, err));
	OK(world_delete(w, "c1", &status, err));
	world_expect_no_traces(w);
}

/* Stock shims die of what is missing here, and take the container along. */
static void calls_without_their_messages_hurt_nobody(void **state)
{
	struct world *w = *state;
	Tasks__UpdateTaskRequest req = TASKS__UPDATE_TASK_REQUEST__INIT;
	Tasks__ExecProcessRequest exec = TASKS__EXEC_PROCESS_REQUEST__INIT;
	uint32_t status, pid = 0;

	req.container_id = exec.container_id = "c1";
	exec.exec_id = "e1";
	OK(world_create(w, "c1", NULL, err));
	OK(world_start(w, "c1", "", err));
	FAILS(world_call(w, "Update", &req.base, NULL, err), ERR_INVALID);
	FAILS(world_call(w, "Exec", &exec.base, NULL, err), ERR_INVALID);
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	assert_int_equal(status, TASK_TYPES__STATUS__RUNNING);
	OK(world_kill_all(w, "c1", SIGKILL, err));
	OK(world_wait(w, "c1", "", &status, err));
	OK(world_delete(w, "c1", &status, err));
	assert_int_equal(status, 128 + SIGKILL);
	world_expect_no_traces(w);
}

/* The exec that a process belongs to, "" for the container's own; NULL: no such process. */
static const char *exec_of(const Tasks__ListPidsResponse *rsp, uint32_t pid)
{
	static char id[32];
	AUTO(pb) Runc__ProcessDetails *details = NULL;

	for (size_t i = 0; i < rsp->n_processes; i++) {
		const Pb__Any *info = rsp->processes[i]->info;

		if (rsp->processes[i]->pid != pid)
			continue;
		if (!info)
			return "";
		assert_true(pb_any_is(info, &runc__process_details__descriptor));
		OK(pb_unpack(&runc__process_details__descriptor, str_make(info->value.data, info->value.len), &details,
		             err));
		snprintf(id, sizeof(id), "%s", details->exec_id);
		return id;
	}
	return NULL;
}

static void pids_are_told_with_their_execs(void **state)
{
	struct world *w = *state;
	Tasks__ListPidsRequest req = TASKS__LIST_PIDS_REQUEST__INIT;
	Tasks__StartRequest go = TASKS__START_REQUEST__INIT;
	AUTO(pb) Tasks__ListPidsResponse *pids = NULL;
	AUTO(pb) Tasks__StartResponse *started = NULL;
	uint32_t status, pid = 0;

	req.container_id = go.container_id = "c1";
	FAILS(world_call(w, "ListPids", &req.base, NULL, err), ERR_NOT_FOUND);
	OK(world_create(w, "c1", NULL, err));
	OK(world_start(w, "c1", "", err));
	OK(world_add_process(w, "c1", "e1", "sleep 1000", err));
	go.exec_id = "e1";
	OK(world_call(w, "Start", &go.base, &started, err));
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	assert_int_not_equal(started->pid, pid);
	OK(world_call(w, "ListPids", &req.base, &pids, err));
	assert_string_equal(exec_of(pids, pid), "");
	assert_string_equal(exec_of(pids, started->pid), "e1");
	assert_null(exec_of(pids, (uint32_t)getpid()));
	assert_true(figures(w).pids >= 2);
	OK(world_kill_all(w, "c1", SIGKILL, err));
	OK(world_wait(w, "c1", "", &status, err));
	OK(world_delete(w, "c1", &status, err));
	world_expect_no_traces(w);
}

static void pause_stats_and_checkpoint(void **state)
{
	struct world *w = *state;
	Tasks__PauseTaskRequest pause = TASKS__PAUSE_TASK_REQUEST__INIT;
	Tasks__ResumeTaskRequest resume = TASKS__RESUME_TASK_REQUEST__INIT;
	Tasks__MetricsRequest metrics = TASKS__METRICS_REQUEST__INIT;
	Tasks__CheckpointTaskRequest checkpoint = TASKS__CHECKPOINT_TASK_REQUEST__INIT;
	AUTO(pb) Tasks__MetricsResponse *all = NULL, *none = NULL;
	const char *filters[] = {"id==c2"};
	uint32_t status, pid = 0;

	OK(world_create(w, "c1", NULL, err));
	OK(world_start(w, "c1", "", err));
	pause.container_id = resume.container_id = checkpoint.container_id = "c1";
	OK(world_call(w, "Pause", &pause.base, NULL, err));
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	assert_int_equal(status, TASK_TYPES__STATUS__PAUSED);
	OK(world_call(w, "Resume", &resume.base, NULL, err));
	OK(world_call(w, "Metrics", &metrics.base, &all, err));
	assert_int_equal(all->n_metrics, 1);
	assert_string_equal(all->metrics[0]->id, "c1");
	assert_true(strstr(all->metrics[0]->data->type_url, "io.containerd.cgroups.v") != NULL);
	metrics.filters = filters;
	metrics.n_filters = 1;
	OK(world_call(w, "Metrics", &metrics.base, &none, err));
	assert_int_equal(none->n_metrics, 0);
	filters[0] = "id==";
	FAILS(world_call(w, "Metrics", &metrics.base, NULL, err), ERR_INVALID);
	FAILS(world_call(w, "Checkpoint", &checkpoint.base, NULL, err), ERR_UNIMPLEMENTED);
	OK(world_kill_all(w, "c1", SIGKILL, err));
	OK(world_wait(w, "c1", "", &status, err));
	OK(world_delete(w, "c1", &status, err));
	world_expect_topics(w, "create start paused resumed exit delete");
	world_expect_no_traces(w);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(pause_stats_and_checkpoint),
	    TEST(update_reaches_the_control_group),
	    TEST(calls_without_their_messages_hurt_nobody),
	    TEST(pids_are_told_with_their_execs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
