/* Containers and their tasks, as several verbs need them. */
#ifndef CTL_CONTAINER_H
#define CTL_CONTAINER_H

#include "contentd/ctl/ctl.h"

#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/tasks.pb-c.h"

/* Type URLs of JSON payloads (containerd's typeurl). */
#define CTL_SPEC_TYPE "types.containerd.io/opencontainers/runtime-spec/1/Spec"
#define CTL_PROCESS_TYPE "types.containerd.io/opencontainers/runtime-spec/1/Process"

/* Label of a detached container: the file that its output goes to. */
#define CTL_LOG_LABEL "contentd.io/log"

/* *out: in the arena. ERR_NOT_FOUND. */
int container_get(struct ctl *c, const char *id, Containers__Container **out, struct err *err);

/* State of a task, or *out = NULL when the container has none. In the arena. */
int container_task(struct ctl *c, const char *id, TaskTypes__Process **out, struct err *err);

/* Deletes a stopped task; absent is fine. */
int container_delete_task(struct ctl *c, const char *id, struct err *err);
int container_delete_record(struct ctl *c, const char *id, struct err *err);
/* The snapshot of a container has the container's id. Absent is fine. */
int container_delete_snapshot(struct ctl *c, const char *key, struct err *err);

/* Sends a signal to the first process (all: to every process). */
int container_kill(struct ctl *c, const char *id, uint32_t signal, bool all, struct err *err);

/* Says on stderr why a program could not be started, and returns the exit status for that: as shells and other runtimes
 * have it, 127 for a program that is not there and 126 for one that cannot be executed. */
int container_fail(const struct ctl *c, const struct err *err);

#endif
