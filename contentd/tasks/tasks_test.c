/* Tasks with the real shim and the real runc, through the real gRPC server and client. Needs root. */
#include "base/testing.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/vec.h"
#include "contentd/ctl/spec.h"
#include "contentd/tasks/tasks.h"
#include "rpc/client.h"
#include "rpc/pb.h"
#include "rpc/proto/tasks.pb-c.h"
#include "rpc/server.h"

#include "base/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define PATIENCE (20 * NS_PER_S)

/* Of this run alone: runc keeps containers by namespace and id, whoever started them. Also the name of the control group. */
static char NS[40];

struct world {
	char dir[64];
	char *root, *state, *address, *rootfs;
	struct cd_tasks *tasks;
	struct rpc_server *server;
	struct rpc_client *client;
	char *command; /* of the container "c": sh -c … */
	int64_t patience;
	pthread_mutex_t lock;
	pthread_cond_t arrived;
	struct buf topics; /* "/tasks/create /tasks/start …"; lock */
};

/* ---- the daemon's part ---- */

static int host_container(void *arg, const char *ns, const char *id, struct arena *a, Containers__Container **out,
                          struct err *err)
{
	struct world *w = arg;
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	AUTO(buf) struct buf spec = BUF_INIT;
	char *args[] = {(char *)"/bin/sh", (char *)"-c", w->command};
	struct spec_opts opts = {.id = id, .ns = NS};
	Containers__Container *c = pb_new(a, &containers__container__descriptor);
	Pb__Any *any = pb_new(a, &pb__any__descriptor);

	if (strcmp(ns, NS) != 0 || id[0] != 'c')
		return err_set(err, ERR_NOT_FOUND, "container %s does not exist", id);
	TRY(spec_process_from_image(STR("{\"config\":{}}"), NULL, args, 3, &p, err));
	spec_write(&opts, &p, &spec);
	c->id = arena_strdup(a, id);
	any->value.len = spec.n;
	any->value.data = (uint8_t *)arena_str(a, buf_str(&spec));
	c->spec = any;
	*out = c;
	return 0;
}

static int host_ns(void *arg, struct rpc_call *c, const char **ns, struct err *err)
{
	*ns = NS;
	return 0;
}

static void note(struct world *w, const char *topic)
{
	pthread_mutex_lock(&w->lock);
	buf_addf(&w->topics, "%s%s", w->topics.n ? " " : "", topic + strlen("/tasks/"));
	pthread_cond_broadcast(&w->arrived);
	pthread_mutex_unlock(&w->lock);
}

static int host_forward(void *arg, const Types__Envelope *e, struct err *err)
{
	assert_string_equal(e->namespace_, NS);
	note(arg, e->topic);
	return 0;
}

static void host_publish(void *arg, const char *ns, const char *topic, const ProtobufCMessage *event)
{
	note(arg, topic);
}

static void start_daemon(struct world *w)
{
	struct cd_tasks_opts opts = {.root = w->root,
	                             .state = w->state,
	                             .address = w->address,
	                             .runtime = "io.containerd.runc.v2",
	                             .host = {host_container, host_ns, host_forward, host_publish, w}};
	struct rpc_service service;
	int fd;

	OK(cd_tasks_new(&opts, &w->tasks, err));
	OK(cd_tasks_load(w->tasks, err));
	service = cd_tasks_service(w->tasks);
	OK(rpc_server_new(NULL, &w->server, err));
	OK(rpc_server_add(w->server, &service, err));
	OK(unix_listen(w->address, SOCK_STREAM, 0600, &fd, err));
	OK(rpc_server_listen(w->server, fd, err));
	OK(rpc_server_start(w->server, err));
	OK(rpc_client_connect(w->address, &w->client, err));
}

static void stop_daemon(struct world *w)
{
	rpc_client_free(w->client);
	rpc_server_free(w->server);
	cd_tasks_free(w->tasks);
	w->client = NULL;
	w->server = NULL;
	w->tasks = NULL;
}

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	AUTO_FREE char *command = NULL;

	strcpy(w->dir, "/tmp/tasks-test-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->root = xasprintf("%s/r", w->dir);
	w->state = xasprintf("%s/s", w->dir);
	w->address = xasprintf("%s/sock", w->dir);
	w->rootfs = xasprintf("%s/rootfs", w->dir);
	w->command = xstrdup("sleep 1000");
	w->patience = PATIENCE;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->arrived, NULL);
	command = xasprintf("mkdir -p %s/bin %s/proc %s/dev %s/sys %s/run %s/tmp && cp /usr/bin/busybox %s/bin/sh && "
	                    "for i in sleep echo cat kill true; do ln -s sh %s/bin/$i; done",
	                    w->rootfs, w->rootfs, w->rootfs, w->rootfs, w->rootfs, w->rootfs, w->rootfs, w->rootfs);
	if (system(command) != 0)
		return -1;
	start_daemon(w);
	*state = w;
	return 0;
}

/* In any hierarchy. */
static bool has_cgroup(void)
{
	AUTO_FREE char *pattern = xasprintf("/sys/fs/cgroup{,/*}/%s", NS);
	glob_t g;
	bool has = glob(pattern, GLOB_BRACE, NULL, &g) == 0;

	globfree(&g);
	return has;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	AUTO_FD int tmp = open("/tmp", O_DIRECTORY | O_CLOEXEC);
	int r;

	stop_daemon(w);
	r = dir_remove(tmp, strrchr(w->dir, '/') + 1, NULL);
	free(w->root);
	free(w->state);
	free(w->address);
	free(w->rootfs);
	free(w->command);
	buf_fini(&w->topics);
	free(w);
	return r;
}

/* ---- what a client does ---- */

static int do_call(struct world *w, const char *method, const ProtobufCMessage *req, void *rsp, struct err *err)
{
	struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + w->patience};

	return rpc_call(w->client, &tasks__tasks__descriptor, method, &opts, req, rsp, err);
}

static int create(struct world *w, const char *id, const char *out, struct err *err)
{
	Tasks__CreateTaskRequest req = TASKS__CREATE_TASK_REQUEST__INIT;
	Types__Mount mount = TYPES__MOUNT__INIT;
	Types__Mount *mounts[] = {&mount};
	const char *options[] = {"rbind", "rw"};

	mount.type = "bind";
	mount.source = w->rootfs;
	mount.options = options;
	mount.n_options = 2;
	req.container_id = id;
	req.rootfs = mounts;
	req.n_rootfs = 1;
	req.stdout = req.stderr = out ?: ""; /* as clients send it: the stock shim dies of one without the other */
	return do_call(w, "Create", &req.base, NULL, err);
}

static int start(struct world *w, const char *id, const char *exec, struct err *err)
{
	Tasks__StartRequest req = TASKS__START_REQUEST__INIT;

	req.container_id = id;
	req.exec_id = exec;
	return do_call(w, "Start", &req.base, NULL, err);
}

static int wait_for(struct world *w, const char *id, const char *exec, uint32_t *status, struct err *err)
{
	Tasks__WaitRequest req = TASKS__WAIT_REQUEST__INIT;
	AUTO(pb) Tasks__WaitResponse *rsp = NULL;

	req.container_id = id;
	req.exec_id = exec;
	TRY(do_call(w, "Wait", &req.base, &rsp, err));
	*status = rsp->exit_status;
	return 0;
}

static int delete (struct world *w, const char *id, uint32_t *status, struct err *err)
{
	Tasks__DeleteTaskRequest req = TASKS__DELETE_TASK_REQUEST__INIT;
	AUTO(pb) Tasks__DeleteResponse *rsp = NULL;

	req.container_id = id;
	TRY(do_call(w, "Delete", &req.base, &rsp, err));
	*status = rsp->exit_status;
	return 0;
}

static int kill_all(struct world *w, const char *id, int signal, struct err *err)
{
	Tasks__KillRequest req = TASKS__KILL_REQUEST__INIT;

	req.container_id = id;
	req.signal = (uint32_t)signal;
	req.all = true;
	return do_call(w, "Kill", &req.base, NULL, err);
}

static unsigned count_tasks(struct world *w, uint32_t *status, uint32_t *pid)
{
	Tasks__ListTasksRequest req = TASKS__LIST_TASKS_REQUEST__INIT;
	AUTO(pb) Tasks__ListTasksResponse *rsp = NULL;

	OK(do_call(w, "List", &req.base, &rsp, err));
	if (rsp->n_tasks) {
		*status = rsp->tasks[0]->status;
		*pid = rsp->tasks[0]->pid;
	}
	return (unsigned)rsp->n_tasks;
}

static void expect_topics(struct world *w, const char *want)
{
	int64_t until = clock_mono_ns() + PATIENCE;
	struct timespec deadline = {until / NS_PER_S, until % NS_PER_S};

	pthread_mutex_lock(&w->lock);
	while (strlen(want) > w->topics.n &&
	       pthread_cond_clockwait(&w->arrived, &w->lock, CLOCK_MONOTONIC, &deadline) == 0)
		;
	assert_string_equal(buf_cstr(&w->topics), want);
	pthread_mutex_unlock(&w->lock);
}

static void expect_no_traces(const struct world *w)
{
	AUTO_FREE char *bundle = xasprintf("%s/tasks/%s/c1", w->state, NS);
	AUTO_FREE char *work = xasprintf("%s/tasks/%s/c1", w->root, NS);
	AUTO(buf) struct buf mounts = BUF_INIT;

	for (int64_t until = clock_mono_ns() + PATIENCE;
	     clock_mono_ns() < until && (access(bundle, F_OK) == 0 || access(work, F_OK) == 0 || has_cgroup());)
		usleep(1000);
	assert_int_equal(access(bundle, F_OK), -1);
	assert_int_equal(access(work, F_OK), -1);
	assert_false(has_cgroup());
	OK(file_read(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &mounts, err));
	assert_null(strstr(buf_cstr(&mounts), w->dir));
}

/* The shim of our task: the parent of its first process. */
static pid_t parent_of(uint32_t pid)
{
	AUTO_FREE char *path = xasprintf("/proc/%u/stat", pid);
	AUTO(buf) struct buf stat = BUF_INIT;
	int parent = 0;

	OK(file_read(AT_FDCWD, path, 4096, &stat, err));
	assert_int_equal(sscanf(strrchr(buf_cstr(&stat), ')') + 1, " %*c %d", &parent), 1);
	assert_true(parent > 1);
	return parent;
}

/* Gone, or a zombie whose new parent has not looked yet. */
static bool has_ended(uint32_t pid)
{
	AUTO_FREE char *path = xasprintf("/proc/%u/stat", pid);

	for (int64_t until = clock_mono_ns() + PATIENCE; clock_mono_ns() < until; usleep(1000)) {
		AUTO(buf) struct buf text = BUF_INIT;
		char state = 0;

		if (file_read(AT_FDCWD, path, 4096, &text, NULL) < 0)
			return true;
		if (sscanf(strrchr(buf_cstr(&text), ')') + 1, " %c", &state) == 1 && state == 'Z')
			return true;
	}
	return false;
}

/* Processes that have our socket among their arguments; those that are ending get a moment. */
static int count_shims(const struct world *w)
{
	AUTO_FREE char *command =
	    xasprintf("for i in $(seq 200); do grep -lza -x '%s' /proc/[0-9]*/cmdline 2>/dev/null || exit 0; "
	              "sleep 0.02; done; exit 1",
	              w->address);

	return system(command);
}

/* ---- tests ---- */

static void a_life(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *out = xasprintf("file://%s/out", w->dir);
	AUTO(buf) struct buf text = BUF_INIT;
	uint32_t status = 99, pid;

	free(w->command);
	w->command = xstrdup("echo hello; exit 7");
	OK(create(w, "c1", out, err));
	FAILS(create(w, "c1", out, err), ERR_EXISTS);
	OK(start(w, "c1", "", err));
	OK(wait_for(w, "c1", "", &status, err));
	assert_int_equal(status, 7);
	assert_int_equal(count_tasks(w, &status, &pid), 1);
	assert_int_equal(status, TASK_TYPES__STATUS__STOPPED);
	OK(wait_for(w, "c1", "", &status, err));
	assert_int_equal(status, 7);
	OK(delete (w, "c1", &status, err));
	assert_int_equal(status, 7);
	FAILS(delete (w, "c1", &status, err), ERR_NOT_FOUND);
	OK(file_read(AT_FDCWD, out + strlen("file://"), 100, &text, err));
	assert_string_equal(buf_cstr(&text), "hello\n");
	expect_topics(w, "create start exit delete");
	expect_no_traces(w);
}

static void exec_and_kill(void **state)
{
	struct world *w = *state;
	Tasks__ExecProcessRequest req = TASKS__EXEC_PROCESS_REQUEST__INIT;
	Tasks__DeleteProcessRequest forget = TASKS__DELETE_PROCESS_REQUEST__INIT;
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	AUTO(buf) struct buf process = BUF_INIT;
	Pb__Any any = PB__ANY__INIT;
	char *args[] = {(char *)"/bin/sh", (char *)"-c", (char *)"exit 3"};
	uint32_t status;

	OK(create(w, "c1", NULL, err));
	OK(start(w, "c1", "", err));
	FAILS(delete (w, "c1", &status, err), ERR_PRECONDITION);
	OK(spec_process_from_image(STR("{\"config\":{}}"), NULL, args, 3, &p, err));
	spec_write_process(&p, &process);
	any.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process";
	any.value = (ProtobufCBinaryData){process.n, (uint8_t *)process.p};
	req.container_id = "c1";
	req.exec_id = "e1";
	req.spec = &any;
	OK(do_call(w, "Exec", &req.base, NULL, err));
	FAILS(do_call(w, "Exec", &req.base, NULL, err), ERR_EXISTS);
	OK(start(w, "c1", "e1", err));
	OK(wait_for(w, "c1", "e1", &status, err));
	assert_int_equal(status, 3);
	forget.container_id = "c1";
	forget.exec_id = "e1";
	OK(do_call(w, "DeleteProcess", &forget.base, NULL, err));
	FAILS(start(w, "c1", "e2", err), ERR_NOT_FOUND);
	OK(kill_all(w, "c1", SIGKILL, err));
	OK(wait_for(w, "c1", "", &status, err));
	assert_int_equal(status, 128 + SIGKILL);
	OK(delete (w, "c1", &status, err));
	expect_no_traces(w);
}

static void a_failed_create_leaves_nothing(void **state)
{
	struct world *w = *state;
	struct err why = ERR_INIT;
	AUTO_FREE char *sh = xasprintf("%s/bin/sh", w->rootfs);

	assert_int_equal(unlink(sh), 0);
	assert_true(create(w, "c1", NULL, &why) < 0);
	if (!strstr(why.msg, "/bin/sh"))
		fail_msg("the reason is not told: %s", why.msg);
	expect_no_traces(w);
	FAILS(create(w, "unknown", NULL, err), ERR_NOT_FOUND);
	FAILS(start(w, "c1", "", err), ERR_NOT_FOUND);
}

static void a_dead_shim_is_cleaned_up_after(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *address_file = xasprintf("%s/tasks/%s/c1/address", w->state, NS);
	AUTO(buf) struct buf address = BUF_INIT;
	uint32_t status, pid = 0;

	OK(create(w, "c1", NULL, err));
	OK(start(w, "c1", "", err));
	assert_int_equal(count_tasks(w, &status, &pid), 1);
	OK(file_read(AT_FDCWD, address_file, 200, &address, err));
	assert_int_equal(access(buf_cstr(&address) + strlen("unix://"), F_OK), 0);
	assert_int_equal(kill(parent_of(pid), SIGKILL), 0);
	OK(wait_for(w, "c1", "", &status, err));
	assert_int_equal(status, 128 + SIGKILL);
	expect_topics(w, "create start exit delete");
	assert_int_equal(count_tasks(w, &status, &pid), 0);
	assert_true(has_ended(pid));
	assert_int_equal(access(buf_cstr(&address) + strlen("unix://"), F_OK), -1);
	expect_no_traces(w);
}

static void containers_outlive_the_daemon(void **state)
{
	struct world *w = *state;
	uint32_t status, pid = 0, again = 0;

	OK(create(w, "c1", NULL, err));
	OK(start(w, "c1", "", err));
	assert_int_equal(count_tasks(w, &status, &pid), 1);
	expect_topics(w, "create start");
	stop_daemon(w);
	assert_int_equal(kill((pid_t)pid, 0), 0);
	start_daemon(w);
	assert_int_equal(count_tasks(w, &status, &again), 1);
	assert_int_equal(status, TASK_TYPES__STATUS__RUNNING);
	assert_int_equal(again, pid);
	OK(kill_all(w, "c1", SIGTERM, err));
	OK(kill_all(w, "c1", SIGKILL, err));
	OK(wait_for(w, "c1", "", &status, err));
	OK(delete (w, "c1", &status, err));
	expect_topics(w, "create start exit delete");
	expect_no_traces(w);
}

static void shims_that_died_meanwhile_are_found(void **state)
{
	struct world *w = *state;
	uint32_t status, pid = 0;
	pid_t shim;

	OK(create(w, "c1", NULL, err));
	OK(start(w, "c1", "", err));
	assert_int_equal(count_tasks(w, &status, &pid), 1);
	shim = parent_of(pid);
	expect_topics(w, "create start");
	stop_daemon(w);
	assert_int_equal(kill(shim, SIGKILL), 0);
	start_daemon(w);
	assert_int_equal(count_tasks(w, &status, &pid), 0);
	expect_topics(w, "create start exit delete");
	expect_no_traces(w);
}

/* An exit that nobody was there to hear of is told afterwards, once, whether the shim repeats it or not. */
static void an_exit_without_a_daemon_is_told(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *go = xasprintf("%s/tmp/go", w->rootfs);
	uint32_t status, pid = 0;

	free(w->command);
	w->command = xstrdup("while [ ! -e /tmp/go ]; do sleep 0.02; done; exit 5");
	OK(create(w, "c1", NULL, err));
	OK(start(w, "c1", "", err));
	assert_int_equal(count_tasks(w, &status, &pid), 1);
	expect_topics(w, "create start");
	stop_daemon(w);
	assert_int_equal(mknod(go, S_IFREG | 0600, 0), 0);
	assert_true(has_ended(pid));
	start_daemon(w);
	expect_topics(w, "create start exit");
	OK(wait_for(w, "c1", "", &status, err));
	assert_int_equal(status, 5);
	OK(delete (w, "c1", &status, err));
	assert_int_equal(status, 5);
	expect_topics(w, "create start exit delete");
	expect_no_traces(w);
}

/* A daemon that was told of the end, and then lost the shim, still knows the status. */
static void the_first_status_counts(void **state)
{
	struct world *w = *state;
	uint32_t status, pid = 0;
	pid_t shim;

	free(w->command);
	w->command = xstrdup("read x; exit 9");
	OK(create(w, "c1", NULL, err));
	assert_int_equal(count_tasks(w, &status, &pid), 1);
	shim = parent_of(pid);
	OK(start(w, "c1", "", err));
	OK(wait_for(w, "c1", "", &status, err));
	expect_topics(w, "create start exit");
	stop_daemon(w);
	assert_int_equal(kill(shim, SIGKILL), 0);
	start_daemon(w);
	OK(wait_for(w, "c1", "", &status, err));
	assert_int_equal(status, 9);
	OK(delete (w, "c1", &status, err));
	assert_int_equal(status, 9);
	expect_topics(w, "create start exit delete");
	FAILS(delete (w, "c1", &status, err), ERR_NOT_FOUND);
	expect_no_traces(w);
}

/* The task is there after all: its answer and the client's deadline have crossed. Then it is the client's to delete. */
static bool have_crossed(struct world *w)
{
	AUTO_FREE char *bundle = xasprintf("%s/tasks/%s/c1", w->state, NS);
	uint32_t status, pid = 0;

	for (int64_t until = clock_mono_ns() + PATIENCE / 4; clock_mono_ns() < until && access(bundle, F_OK) == 0;)
		usleep(10000);
	return access(bundle, F_OK) == 0 && count_tasks(w, &status, &pid) == 1 && pid;
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
			r = create(w, "c1", NULL, &why);
		} while (r == -(int)ERR_EXISTS);
		w->patience = PATIENCE;
		if (r < 0)
			assert_int_equal(why.code, ERR_DEADLINE);
		if (r >= 0 || (ms > 1 && have_crossed(w)))
			OK(delete (w, "c1", &status, err));
		expect_no_traces(w);
		assert_int_equal(count_shims(w), 0);
	}
	FAILS(start(w, "c1", "", err), ERR_NOT_FOUND);
}

static void a_group_of_others_stays(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *pattern = xasprintf("/sys/fs/cgroup{,/*}/%s", NS);
	glob_t g;
	uint32_t status;

	assert_int_equal(glob("/sys/fs/cgroup{,/pids}", GLOB_BRACE | GLOB_ONLYDIR, NULL, &g), 0);
	AUTO_FREE char *path = xasprintf("%s/%s", g.gl_pathv[g.gl_pathc - 1], NS);
	globfree(&g);
	assert_int_equal(mkdir(path, 0755), 0);
	for (int i = 0; i < 2; i++) {
		OK(create(w, "c1", NULL, err));
		OK(delete (w, "c1", &status, err));
		assert_true(has_cgroup());
	}
	assert_int_equal(glob(pattern, GLOB_BRACE, NULL, &g), 0);
	for (size_t i = 0; i < g.gl_pathc; i++)
		assert_int_equal(rmdir(g.gl_pathv[i]), 0);
	globfree(&g);
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

	OK(create(w, "c1", NULL, err));
	OK(start(w, "c1", "", err));
	pause.container_id = resume.container_id = checkpoint.container_id = "c1";
	OK(do_call(w, "Pause", &pause.base, NULL, err));
	assert_int_equal(count_tasks(w, &status, &pid), 1);
	assert_int_equal(status, TASK_TYPES__STATUS__PAUSED);
	OK(do_call(w, "Resume", &resume.base, NULL, err));
	OK(do_call(w, "Metrics", &metrics.base, &all, err));
	assert_int_equal(all->n_metrics, 1);
	assert_string_equal(all->metrics[0]->id, "c1");
	assert_true(strstr(all->metrics[0]->data->type_url, "io.containerd.cgroups.v") != NULL);
	metrics.filters = filters;
	metrics.n_filters = 1;
	OK(do_call(w, "Metrics", &metrics.base, &none, err));
	assert_int_equal(none->n_metrics, 0);
	filters[0] = "id==";
	FAILS(do_call(w, "Metrics", &metrics.base, NULL, err), ERR_INVALID);
	FAILS(do_call(w, "Checkpoint", &checkpoint.base, NULL, err), ERR_UNIMPLEMENTED);
	OK(kill_all(w, "c1", SIGKILL, err));
	OK(wait_for(w, "c1", "", &status, err));
	OK(delete (w, "c1", &status, err));
	expect_topics(w, "create start paused resumed exit delete");
	expect_no_traces(w);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(a_life),
	    TEST(exec_and_kill),
	    TEST(a_failed_create_leaves_nothing),
	    TEST(a_dead_shim_is_cleaned_up_after),
	    TEST(containers_outlive_the_daemon),
	    TEST(shims_that_died_meanwhile_are_found),
	    TEST(an_exit_without_a_daemon_is_told),
	    TEST(the_first_status_counts),
	    TEST(an_abandoned_create_leaves_nothing),
	    TEST(a_group_of_others_stays),
	    TEST(pause_stats_and_checkpoint),
	};

	snprintf(NS, sizeof(NS), "tasks-test-%d", (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
