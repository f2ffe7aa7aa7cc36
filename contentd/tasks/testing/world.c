#include "contentd/tasks/testing/world.h"

#include "base/testing.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/unix.h"
#include "contentd/ctl/spec.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#define SETTLED (100 * NS_PER_MS)

/* ---- the daemon's part ---- */

static int host_container(void *arg, const char *ns, const char *id, struct arena *a, Containers__Container **out,
                          struct err *err)
{
	struct world *w = arg;
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	AUTO(buf) struct buf json = BUF_INIT, spec = BUF_INIT;
	char *args[] = {(char *)"/bin/sh", (char *)"-c", w->command};
	struct spec_opts opts = {.id = id, .ns = w->ns};
	Containers__Container *c = pb_new(a, &containers__container__descriptor);
	Pb__Any *any = pb_new(a, &pb__any__descriptor);

	if (strcmp(ns, w->ns) != 0 || id[0] != 'c' || w->forgotten)
		return err_set(err, ERR_NOT_FOUND, "container %s does not exist", id);
	TRY(spec_process_from_image(STR("{\"config\":{}}"), NULL, args, 3, &p, err));
	spec_write(&opts, &p, &json);
	buf_adds(&spec, w->grouped ? "{\"annotations\":{\"io.containerd.runc.v2.group\":\"g\"}," : "{");
	buf_addstr(&spec, str_sub(buf_str(&json), 1, SIZE_MAX));
	c->id = arena_strdup(a, id);
	any->value.len = spec.n;
	any->value.data = (uint8_t *)arena_str(a, buf_str(&spec));
	c->spec = any;
	*out = c;
	return 0;
}

static int host_ns(void *arg, struct rpc_call *c, const char **ns, struct err *err)
{
	struct world *w = arg;

	*ns = w->ns;
	return 0;
}

static void note(struct world *w, const char *topic, bool inherited)
{
	pthread_mutex_lock(&w->lock);
	buf_addf(&w->topics, "%s%s%s", w->topics.n ? " " : "", inherited ? "~" : "", topic + strlen("/tasks/"));
	pthread_cond_broadcast(&w->arrived);
	pthread_mutex_unlock(&w->lock);
}

static int host_forward(void *arg, const Types__Envelope *e, bool inherited, struct err *err)
{
	struct world *w = arg;

	assert_string_equal(e->namespace_, w->ns);
	note(w, e->topic, inherited);
	return 0;
}

static void host_publish(void *arg, const char *ns, const char *topic, const ProtobufCMessage *event, bool inherited)
{
	note(arg, topic, inherited);
}

void world_start_daemon(struct world *w)
{
	struct cd_tasks_opts opts = {.root = w->root,
	                             .state = w->state,
	                             .address = w->address,
	                             .runtime = "io.containerd.runc.v2",
	                             .patience_ns = w->shim_patience,
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

void world_stop_daemon(struct world *w)
{
	rpc_client_free(w->client);
	rpc_server_free(w->server);
	cd_tasks_free(w->tasks);
	w->client = NULL;
	w->server = NULL;
	w->tasks = NULL;
}

int world_set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	AUTO_FREE char *command = NULL;

	snprintf(w->ns, sizeof(w->ns), "tasks-test-%d", (int)getpid());
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
	world_start_daemon(w);
	*state = w;
	return 0;
}

bool world_has_cgroup(const struct world *w)
{
	AUTO_FREE char *pattern = xasprintf("/sys/fs/cgroup{,/*}/%s", w->ns);
	glob_t g;
	bool has = glob(pattern, GLOB_BRACE, NULL, &g) == 0;

	globfree(&g);
	return has;
}

int world_tear_down(void **state)
{
	struct world *w = *state;
	AUTO_FD int tmp = open("/tmp", O_DIRECTORY | O_CLOEXEC);
	int r;

	world_stop_daemon(w);
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

int world_call(struct world *w, const char *method, const ProtobufCMessage *req, void *rsp, struct err *err)
{
	struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + w->patience};

	return rpc_call(w->client, &tasks__tasks__descriptor, method, &opts, req, rsp, err);
}

int world_create(struct world *w, const char *id, const char *out, struct err *err)
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
	return world_call(w, "Create", &req.base, NULL, err);
}

int world_start(struct world *w, const char *id, const char *exec, struct err *err)
{
	Tasks__StartRequest req = TASKS__START_REQUEST__INIT;

	req.container_id = id;
	req.exec_id = exec;
	return world_call(w, "Start", &req.base, NULL, err);
}

int world_wait(struct world *w, const char *id, const char *exec, uint32_t *status, struct err *err)
{
	Tasks__WaitRequest req = TASKS__WAIT_REQUEST__INIT;
	AUTO(pb) Tasks__WaitResponse *rsp = NULL;

	req.container_id = id;
	req.exec_id = exec;
	TRY(world_call(w, "Wait", &req.base, &rsp, err));
	*status = rsp->exit_status;
	return 0;
}

int world_delete(struct world *w, const char *id, uint32_t *status, struct err *err)
{
	Tasks__DeleteTaskRequest req = TASKS__DELETE_TASK_REQUEST__INIT;
	AUTO(pb) Tasks__DeleteResponse *rsp = NULL;

	req.container_id = id;
	TRY(world_call(w, "Delete", &req.base, &rsp, err));
	*status = rsp->exit_status;
	return 0;
}

int world_add_process(struct world *w, const char *id, const char *exec, const char *command, struct err *err)
{
	Tasks__ExecProcessRequest req = TASKS__EXEC_PROCESS_REQUEST__INIT;
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	AUTO(buf) struct buf process = BUF_INIT;
	Pb__Any any = PB__ANY__INIT;
	char *args[] = {(char *)"/bin/sh", (char *)"-c", (char *)command};

	TRY(spec_process_from_image(STR("{\"config\":{}}"), NULL, args, 3, &p, err));
	spec_write_process(&p, &process);
	any.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process";
	any.value = (ProtobufCBinaryData){process.n, (uint8_t *)process.p};
	req.container_id = id;
	req.exec_id = exec;
	req.spec = &any;
	return world_call(w, "Exec", &req.base, NULL, err);
}

int world_kill_all(struct world *w, const char *id, int signal, struct err *err)
{
	Tasks__KillRequest req = TASKS__KILL_REQUEST__INIT;

	req.container_id = id;
	req.signal = (uint32_t)signal;
	req.all = true;
	return world_call(w, "Kill", &req.base, NULL, err);
}

unsigned world_count_tasks(struct world *w, uint32_t *status, uint32_t *pid)
{
	Tasks__ListTasksRequest req = TASKS__LIST_TASKS_REQUEST__INIT;
	AUTO(pb) Tasks__ListTasksResponse *rsp = NULL;

	OK(world_call(w, "List", &req.base, &rsp, err));
	if (rsp->n_tasks) {
		*status = rsp->tasks[0]->status;
		*pid = rsp->tasks[0]->pid;
	}
	return (unsigned)rsp->n_tasks;
}

pid_t world_run_to_end(struct world *w, uint32_t want)
{
	uint32_t status, pid = 0;
	pid_t shim;

	free(w->command);
	w->command = xasprintf("read x; exit %u", want);
	OK(world_create(w, "c1", NULL, err));
	assert_int_equal(world_count_tasks(w, &status, &pid), 1);
	shim = process_parent(pid);
	OK(world_start(w, "c1", "", err));
	OK(world_wait(w, "c1", "", &status, err));
	assert_int_equal(status, want);
	world_expect_topics(w, "create start exit");
	return shim;
}

void world_expect_topics(struct world *w, const char *want)
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

void world_expect_no_traces(const struct world *w)
{
	AUTO_FREE char *bundle = xasprintf("%s/tasks/%s/c1", w->state, w->ns);
	AUTO_FREE char *work = xasprintf("%s/tasks/%s/c1", w->root, w->ns);
	AUTO(buf) struct buf mounts = BUF_INIT;

	/* A call that was given up may only be about to begin: nothing is there for a while. */
	for (int64_t now = clock_mono_ns(), until = now + PATIENCE, since = now;
	     now < until && now < since + SETTLED;) {
		usleep(1000);
		now = clock_mono_ns();
		if (access(bundle, F_OK) == 0 || access(work, F_OK) == 0 || world_has_cgroup(w))
			since = now;
	}
	assert_int_equal(access(bundle, F_OK), -1);
	assert_int_equal(access(work, F_OK), -1);
	assert_false(world_has_cgroup(w));
	OK(file_read(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &mounts, err));
	assert_null(strstr(buf_cstr(&mounts), w->dir));
}

pid_t process_parent(uint32_t pid)
{
	AUTO_FREE char *path = xasprintf("/proc/%u/stat", pid);
	AUTO(buf) struct buf stat = BUF_INIT;
	int parent = 0;

	OK(file_read(AT_FDCWD, path, 4096, &stat, err));
	assert_int_equal(sscanf(strrchr(buf_cstr(&stat), ')') + 1, " %*c %d", &parent), 1);
	assert_true(parent > 1);
	return parent;
}

bool process_has_ended(uint32_t pid)
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

bool world_has_shims(const struct world *w)
{
	AUTO_FREE char *command =
	    xasprintf("for i in $(seq 200); do grep -lza -x '%s' /proc/[0-9]*/cmdline 2>/dev/null || exit 0; "
	              "sleep 0.02; done; exit 1",
	              w->address);

	return system(command) != 0;
}
