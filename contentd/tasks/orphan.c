/*
 * Tasks whose container's record is gone: a daemon died between the removal of the record and that of the task, or the
 * record was removed under a running task. No call reaches such a task any more. After a restart it is ended as its own
 * client would have done it, so that all who follow events hear of it.
 */
#include "contentd/tasks/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <signal.h>

#define END_PATIENCE (10 * NS_PER_S)
#define RECORD_BYTES_MAX (64u << 20)

bool task_is_orphan(struct task *task)
{
	const struct cd_tasks_host *host = &task->owner->host;
	Containers__Container *record;
	struct err err = ERR_INIT;
	struct arena a;
	int r;

	arena_init(&a, RECORD_BYTES_MAX);
	r = host->container(host->arg, task->bundle.ns, task->bundle.id, &a, &record, &err);
	arena_fini(&a);
	return r == -(int)ERR_NOT_FOUND;
}

/* Kills it and waits for its end; of one that has ended already both are done. */
static int kill_and_wait(struct task *task, struct err *err)
{
	Shim__KillRequest kill = SHIM__KILL_REQUEST__INIT;
	Shim__WaitRequest wait = SHIM__WAIT_REQUEST__INIT;
	int r;

	kill.id = wait.id = task->bundle.id;
	kill.signal = SIGKILL;
	kill.all = true;
	r = shim_call_within(task->shim, "Kill", &kill.base, END_PATIENCE, NULL, err);
	if (r < 0 && r != -(int)ERR_NOT_FOUND)
		return r;
	return shim_call_within(task->shim, "Wait", &wait.base, END_PATIENCE, NULL, err);
}

int task_end_orphan(struct task *task, struct err *err)
{
	Shim__DeleteRequest req = SHIM__DELETE_REQUEST__INIT;
	AUTO(pb) Shim__DeleteResponse *rsp = NULL;
	struct task_end end;

	log_warn("task %s/%s has no container any more: ended", task->bundle.ns, task->bundle.id);
	TRY(kill_and_wait(task, err));
	req.id = task->bundle.id;
	TRY(shim_call_within(task->shim, "Delete", &req.base, END_PATIENCE, &rsp, err));
	end = (struct task_end){rsp->exit_status, pb_time(rsp->exited_at)};
	news_ended(task, rsp->pid, end);
	task_ask_shutdown(task);
	return 0;
}
