/*
 * The life of one container as a careful client leads it: with a lease until the record holds what it needs, every step
 * repeated when the daemon went away, every answer compared with the plot.
 */
#include "tests/chaos/chaos.h"

#include "base/file.h"
#include "contentd/ctl/container.h"
#include "contentd/ctl/image.h"
#include "contentd/ctl/spec.h"
#include "rpc/proto/leases.pb-c.h"
#include "rpc/proto/snapshots.pb-c.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>

#define TERM_STATUS 7
#define EXEC_STATUS 3
#define START_NS (5 * NS_PER_S)
#define TASKS (&tasks__tasks__descriptor)

struct life {
	struct chaos *c;
	struct container *k;
	struct dice *d;
	struct peer peer;
	const char *image;
	struct image img;
	Snapshots__PrepareSnapshotResponse *snapshot;
	char *log; /* file:// URI of its output */
	uint32_t pid;
	struct spec_process process;
};

void life_plan(struct container *k, struct dice *d)
{
	static const uint32_t killed = 128 + SIGKILL;

	k->plot = (enum plot)dice_below(d, PLOTS);
	k->started = k->plot != PLOT_UNSTARTED;
	k->waited = k->told = NO_STATUS;
	k->status = k->plot == PLOT_EXIT   ? (uint32_t)dice_below(d, 100)
	            : k->plot == PLOT_TERM ? TERM_STATUS
	            : k->started           ? killed
	                                   : NO_STATUS;
}

static char *command_of(const struct container *k)
{
	switch (k->plot) {
	case PLOT_EXIT:
		return xasprintf("echo %s; exit %u", k->id, k->status);
	case PLOT_TERM:
		return xasprintf("trap 'exit %d' TERM; while :; do sleep 0.02; done", TERM_STATUS);
	default:
		return xstrdup("sleep 100000");
	}
}

/* ---- until the record is there ---- */

static int lease(struct life *l, struct err *err)
{
	Leases__CreateRequest req = LEASES__CREATE_REQUEST__INIT;

	req.id = l->k->id;
	TRY(peer_insist(&l->peer, &leases__leases__descriptor, "Create", &req.base, ERR_EXISTS, err));
	l->peer.lease = l->k->id;
	rpc_client_set_metadata(l->peer.ctl.client, "containerd-lease", l->peer.lease);
	return 0;
}

static int release(struct life *l, struct err *err)
{
	Leases__DeleteRequest req = LEASES__DELETE_REQUEST__INIT;

	l->peer.lease = NULL;
	peer_disconnect(&l->peer);
	req.id = l->k->id;
	return peer_insist(&l->peer, &leases__leases__descriptor, "Delete", &req.base, ERR_NOT_FOUND, err);
}

static int load_image(struct life *l, struct err *err)
{
	int64_t until = clock_mono_ns() + PATIENCE_NS;

	for (;;) {
		struct err why = ERR_INIT;

		TRY(peer_connect(&l->peer, err));
		buf_clear(&l->img.config);
		if (image_load(&l->peer.ctl, l->image, &l->img, &why) >= 0)
			return 0;
		if (clock_mono_ns() > until)
			return err_set(err, why.code, "%s: %s", l->image, why.msg);
		if (why.code == ERR_UNAVAILABLE)
			peer_disconnect(&l->peer);
		else if (why.code == ERR_NOT_FOUND)
			images_pull(l->c, l->image);
		else
			return err_set(err, why.code, "%s: %s", l->image, why.msg);
	}
}

static int mounts(struct life *l, struct err *err)
{
	Snapshots__MountsRequest req = SNAPSHOTS__MOUNTS_REQUEST__INIT;
	AUTO(pb) Snapshots__MountsResponse *rsp = NULL;

	req.snapshotter = CTL_SNAPSHOTTER;
	req.key = l->k->id;
	TRY(peer_call(&l->peer, &snapshots__snapshots__descriptor, "Mounts", &req.base, &rsp, NULL, err));
	/* The two messages have the same shape. */
	l->snapshot = (Snapshots__PrepareSnapshotResponse *)(void *)STEAL(rsp);
	return 0;
}

/* The image may be removed, and its layers collected, between any two steps. */
static int prepare(struct life *l, struct err *err)
{
	Snapshots__PrepareSnapshotRequest req = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;
	char parent[DIGEST_TEXT_MAX];

	for (int tries = 0;; tries++) {
		bool again;
		int r;

		TRY(load_image(l, err));
		req.snapshotter = CTL_SNAPSHOTTER;
		req.key = l->k->id;
		req.parent = digest_text(&l->img.chain_id, parent);
		r = peer_call(&l->peer, &snapshots__snapshots__descriptor, "Prepare", &req.base, &l->snapshot, &again,
		              err);
		if (r == -(int)ERR_EXISTS && again) {
			*err = ERR_INIT;
			return mounts(l, err);
		}
		if (r != -(int)ERR_NOT_FOUND || tries == 100)
			return r;
		*err = ERR_INIT;
		images_pull(l->c, l->image);
	}
}

static int create_container(struct life *l, struct err *err)
{
	Containers__CreateContainerRequest req = CONTAINERS__CREATE_CONTAINER_REQUEST__INIT;
	Containers__Container record = CONTAINERS__CONTAINER__INIT;
	Containers__Container__Runtime runtime = CONTAINERS__CONTAINER__RUNTIME__INIT;
	struct spec_opts opts = {.id = l->k->id, .ns = l->c->ns};
	AUTO_FREE char *command = command_of(l->k);
	char *args[] = {(char *)"/bin/sh", (char *)"-c", command};
	AUTO(buf) struct buf spec = BUF_INIT;
	Pb__Any any = PB__ANY__INIT;

	TRY(spec_process_from_image(buf_str(&l->img.config), NULL, args, 3, &l->process, err));
	spec_write(&opts, &l->process, &spec);
	any.type_url = CTL_SPEC_TYPE;
	any.value = (ProtobufCBinaryData){spec.n, (uint8_t *)spec.p};
	runtime.name = "io.containerd.runc.v2";
	record.id = l->k->id;
	record.image = l->image;
	record.snapshotter = CTL_SNAPSHOTTER;
	record.snapshot_key = l->k->id;
	record.runtime = &runtime;
	record.spec = &any;
	req.container = &record;
	return peer_insist(&l->peer, &containers__containers__descriptor, "Create", &req.base, ERR_EXISTS, err);
}

/* ---- the task ---- */

static int state(struct life *l, const char *exec, TaskTypes__Status *status, struct err *err)
{
	Tasks__GetRequest req = TASKS__GET_REQUEST__INIT;
	AUTO(pb) Tasks__GetResponse *rsp = NULL;

	req.container_id = l->k->id;
	req.exec_id = exec;
	TRY(peer_call(&l->peer, TASKS, "Get", &req.base, &rsp, NULL, err));
	*status = rsp->process->status;
	l->pid = *exec ? l->pid : rsp->process->pid;
	return 0;
}

static int create_task(struct life *l, struct err *err)
{
	Tasks__CreateTaskRequest req = TASKS__CREATE_TASK_REQUEST__INIT;
	TaskTypes__Status status;
	bool again;
	int r;

	req.container_id = l->k->id;
	req.rootfs = l->snapshot->mounts;
	req.n_rootfs = l->snapshot->n_mounts;
	req.stdout = req.stderr = l->log;
	r = peer_call(&l->peer, TASKS, "Create", &req.base, NULL, &again, err);
	if (again)
		atomic_store(&l->k->create_cut, true);
	if (r == -(int)ERR_EXISTS && again)
		*err = ERR_INIT;
	else
		TRY(r);
	TRY(state(l, "", &status, err));
	if (status != TASK_TYPES__STATUS__CREATED)
		chaos_fail(l->c, "%s: a task that was just created has status %d", l->k->id, status);
	return 0;
}

/* An earlier try may have started it, or have been cut off on the way: then the state tells, if it does not stay created
 * for good. */
static int start(struct life *l, const char *exec, struct err *err)
{
	Tasks__StartRequest req = TASKS__START_REQUEST__INIT;
	TaskTypes__Status status;
	bool again;
	int r;

	req.container_id = l->k->id;
	req.exec_id = exec;
	r = peer_call_within(&l->peer, START_NS, TASKS, "Start", &req.base, &again, err);
	if (again)
		atomic_store(*exec ? &l->k->exec_cut : &l->k->start_cut, true);
	if (r >= 0 || !again)
		return r;
	*err = ERR_INIT;
	return *exec ? 0 : state(l, exec, &status, err);
}

static int send_signal(struct peer *p, const char *id, int signal, struct err *err)
{
	Tasks__KillRequest req = TASKS__KILL_REQUEST__INIT;
	int r;

	req.container_id = id;
	req.signal = (uint32_t)signal;
	r = peer_call(p, TASKS, "Kill", &req.base, NULL, NULL, err);
	if (r == -(int)ERR_NOT_FOUND) {
		*err = ERR_INIT; /* it has ended already */
		return 0;
	}
	return r;
}

static int wait_for(struct life *l, const char *exec, uint32_t *status, struct err *err)
{
	Tasks__WaitRequest req = TASKS__WAIT_REQUEST__INIT;
	AUTO(pb) Tasks__WaitResponse *rsp = NULL;

	req.container_id = l->k->id;
	req.exec_id = exec;
	TRY(peer_call(&l->peer, TASKS, "Wait", &req.base, &rsp, NULL, err));
	*status = rsp->exit_status;
	return 0;
}

static int exec(struct life *l, struct err *err)
{
	Tasks__ExecProcessRequest req = TASKS__EXEC_PROCESS_REQUEST__INIT;
	Tasks__DeleteProcessRequest forget = TASKS__DELETE_PROCESS_REQUEST__INIT;
	AUTO(buf) struct buf process = BUF_INIT;
	Pb__Any any = PB__ANY__INIT;
	uint32_t status;

	free(l->process.args.p[2]);
	l->process.args.p[2] = xasprintf("exit %d", EXEC_STATUS);
	spec_write_process(&l->process, &process);
	any.type_url = CTL_PROCESS_TYPE;
	any.value = (ProtobufCBinaryData){process.n, (uint8_t *)process.p};
	req.container_id = forget.container_id = l->k->id;
	req.exec_id = forget.exec_id = "e1";
	req.spec = &any;
	TRY(peer_insist(&l->peer, TASKS, "Exec", &req.base, ERR_EXISTS, err));
	TRY(start(l, "e1", err));
	TRY(wait_for(l, "e1", &status, err));
	if (status != EXEC_STATUS && !l->k->exec_cut)
		chaos_fail(l->c, "%s: a program in it ended with %u, not %d", l->k->id, status, EXEC_STATUS);
	return peer_insist(&l->peer, TASKS, "DeleteProcess", &forget.base, ERR_NOT_FOUND, err);
}

static int pause_and_resume(struct life *l, struct err *err)
{
	Tasks__PauseTaskRequest pause = TASKS__PAUSE_TASK_REQUEST__INIT;
	Tasks__ResumeTaskRequest resume = TASKS__RESUME_TASK_REQUEST__INIT;
	TaskTypes__Status status;
	bool again;

	/* The stock shim and the runtime may be of two minds about one that was cut off: then nothing is asked. */
	pause.container_id = resume.container_id = l->k->id;
	peer_call(&l->peer, TASKS, "Pause", &pause.base, NULL, &again, NULL);
	if (!again) {
		TRY(state(l, "", &status, err));
		if (status != TASK_TYPES__STATUS__PAUSED)
			chaos_fail(l->c, "%s: paused, it has status %d", l->k->id, status);
	}
	peer_call(&l->peer, TASKS, "Resume", &resume.base, NULL, &again, NULL);
	if (!again) {
		TRY(state(l, "", &status, err));
		if (status != TASK_TYPES__STATUS__RUNNING)
			chaos_fail(l->c, "%s: resumed, it has status %d", l->k->id, status);
	}
	return 0;
}

/* Its shim is the parent of its first process. */
static int kill_shim(struct life *l, struct err *err)
{
	AUTO_FREE char *path = xasprintf("/proc/%u/stat", l->pid);
	AUTO(buf) struct buf text = BUF_INIT;
	int parent = 0;

	TRY(file_read(AT_FDCWD, path, 4096, &text, err));
	if (sscanf(strrchr(buf_cstr(&text), ')') + 1, " %*c %d", &parent) != 1 || parent < 2)
		return err_set(err, ERR_INTERNAL, "no shim for process %u", l->pid);
	kill(parent, SIGKILL);
	return 0;
}

/* Its shim may be gone, by the plot or by what was cut off. */
static bool may_be_lost(const struct life *l)
{
	return l->k->plot == PLOT_SHIM || l->k->exec_cut;
}

/* Its start was cut off: how it ends is anybody's guess, but all must say the same. */
static bool is_open(const struct life *l)
{
	return l->k->start_cut || l->k->exec_cut;
}

/* What is done with a running container, between its start and its end. */
static int act(struct life *l, struct err *err)
{
	int r = 0;

	if (l->k->plot == PLOT_EXEC)
		r = exec(l, err);
	else if (l->k->plot == PLOT_PAUSE && !is_open(l))
		r = pause_and_resume(l, err);
	if (r < 0 && is_open(l)) {
		*err = ERR_INIT;
		return 0;
	}
	return r;
}

/* Somebody else ends the container while its client waits. */
struct killer {
	struct life *life;
	unsigned after_ms;
	atomic_bool ended;
};

static void *kill_later(void *arg)
{
	struct killer *k = arg;
	struct life *l = k->life;
	struct err err = ERR_INIT;
	struct peer p;

	peer_init(&p, l->c);
	usleep(k->after_ms * 1000);
	if (l->k->plot == PLOT_SHIM && !is_open(l)) {
		if (kill_shim(l, &err) < 0)
			chaos_fail(l->c, "%s: %s", l->k->id, err.msg);
	} else if (is_open(l)) {
		send_signal(&p, l->k->id, SIGKILL, &err);
	} else if (l->k->plot == PLOT_TERM) {
		/* Until it listens: the first process of a container ignores what it does not handle. */
		while (!atomic_load(&k->ended) && send_signal(&p, l->k->id, SIGTERM, &err) >= 0)
			usleep(50000);
	} else if (l->k->plot != PLOT_EXIT) {
		send_signal(&p, l->k->id, SIGKILL, &err);
	}
	if (err.code != ERR_OK)
		chaos_fail(l->c, "%s: end it: %s", l->k->id, err.msg);
	peer_fini(&p);
	return NULL;
}

static int wait_and_kill(struct life *l, struct err *err)
{
	struct killer k = {.life = l, .after_ms = (unsigned)dice_below(l->d, 100)};
	uint32_t status = NO_STATUS;
	pthread_t thread;
	int r;

	if (pthread_create(&thread, NULL, kill_later, &k) != 0)
		return err_set(err, ERR_EXHAUSTED, "no thread");
	r = wait_for(l, "", &status, err);
	atomic_store(&k.ended, true);
	pthread_join(thread, NULL);
	/* A task whose shim died is cleaned up by the daemon itself: who asks too late finds none. */
	if (r == -(int)ERR_NOT_FOUND && may_be_lost(l)) {
		*err = ERR_INIT;
		return 0;
	}
	TRY(r);
	l->k->waited = status;
	if (status != l->k->status && !is_open(l))
		chaos_fail(l->c, "%s ended with %u, not %u", l->k->id, status, l->k->status);
	return 0;
}

static int delete_task(struct life *l, struct err *err)
{
	Tasks__DeleteTaskRequest req = TASKS__DELETE_TASK_REQUEST__INIT;
	AUTO(pb) Tasks__DeleteResponse *rsp = NULL;
	bool again;
	int r;

	req.container_id = l->k->id;
	r = peer_call(&l->peer, TASKS, "Delete", &req.base, &rsp, &again, err);
	if (r == -(int)ERR_NOT_FOUND && (again || may_be_lost(l))) {
		*err = ERR_INIT;
		return 0;
	}
	TRY(r);
	if (l->k->waited != NO_STATUS && rsp->exit_status != l->k->waited)
		chaos_fail(l->c, "%s: deleted with status %u, ended with %u", l->k->id, rsp->exit_status, l->k->waited);
	return 0;
}

static int check_output(struct life *l, struct err *err)
{
	AUTO_FREE char *want = xasprintf("%s\n", l->k->id);
	AUTO(buf) struct buf got = BUF_INIT;

	if (l->k->plot != PLOT_EXIT || l->k->start_cut)
		return 0;
	TRY(file_read(AT_FDCWD, l->log + strlen("file://"), 4096, &got, err));
	if (!str_eqc(buf_str(&got), want))
		chaos_fail(l->c, "%s wrote '%s'", l->k->id, buf_cstr(&got));
	return 0;
}

/* ---- the whole ---- */

static int live(struct life *l, struct err *err)
{
	TRY_WRAP(lease(l, err), err, "lease");
	TRY_WRAP(prepare(l, err), err, "prepare");
	TRY_WRAP(create_container(l, err), err, "create");
	TRY_WRAP(release(l, err), err, "release");
	TRY_WRAP(create_task(l, err), err, "create the task");
	if (!l->k->started)
		return delete_task(l, err);
	TRY_WRAP(start(l, "", err), err, "start");
	TRY_WRAP(act(l, err), err, "act");
	TRY_WRAP(wait_and_kill(l, err), err, "wait");
	TRY_WRAP(delete_task(l, err), err, "delete the task");
	return check_output(l, err);
}

static int bury(struct life *l, struct err *err)
{
	Containers__DeleteContainerRequest req = CONTAINERS__DELETE_CONTAINER_REQUEST__INIT;
	Snapshots__RemoveSnapshotRequest remove = SNAPSHOTS__REMOVE_SNAPSHOT_REQUEST__INIT;

	req.id = remove.key = l->k->id;
	remove.snapshotter = CTL_SNAPSHOTTER;
	TRY(peer_insist(&l->peer, &containers__containers__descriptor, "Delete", &req.base, ERR_NOT_FOUND, err));
	/* Without its container nothing holds it: the collector may be faster. */
	if (peer_insist(&l->peer, &snapshots__snapshots__descriptor, "Remove", &remove.base, ERR_NOT_FOUND, err) < 0 &&
	    err->code != ERR_NOT_FOUND)
		return -(int)err->code;
	*err = ERR_INIT;
	unlink(l->log + strlen("file://"));
	return 0;
}

void life_run(struct chaos *c, struct container *k, struct dice *d)
{
	struct life l = {.c = c, .k = k, .d = d, .process = SPEC_PROCESS_INIT};
	struct err err = ERR_INIT;

	peer_init(&l.peer, c);
	l.image = c->images[dice_below(d, c->n_images)];
	l.log = xasprintf("file://%s/%s.out", c->dir, k->id);
	k->first_epoch = atomic_load(&c->epoch);
	if (live(&l, &err) < 0 || bury(&l, &err) < 0)
		chaos_fail(c, "%s (plot %d): %s", k->id, k->plot, err.msg);
	k->last_epoch = atomic_load(&c->epoch);
	spec_process_fini(&l.process);
	image_fini(&l.img);
	pb_free(l.snapshot);
	peer_fini(&l.peer);
	free(l.log);
}
