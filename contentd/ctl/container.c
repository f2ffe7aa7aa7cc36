#include "contentd/ctl/container.h"

#include "rpc/proto/snapshots.pb-c.h"

/* Answers live on the heap of the call and are moved into the arena by packing: they are small. */
static int keep(struct ctl *c, const ProtobufCMessage *m, void *out, struct err *err)
{
	AUTO(buf) struct buf wire = BUF_INIT;

	pb_pack(m, &wire);
	return pb_unpack_in(&c->arena, m->descriptor, buf_str(&wire), out, err);
}

static int absent_is_fine(int r, struct err *err)
{
	if (r < 0 && err->code == ERR_NOT_FOUND) {
		*err = ERR_INIT;
		return 0;
	}
	return r;
}

int container_get(struct ctl *c, const char *id, Containers__Container **out, struct err *err)
{
	Containers__GetContainerRequest req = CONTAINERS__GET_CONTAINER_REQUEST__INIT;
	AUTO(pb) Containers__GetContainerResponse *rsp = NULL;

	req.id = id;
	TRY(rpc_call(c->client, &containers__containers__descriptor, "Get", NULL, &req.base, &rsp, err));
	if (!rsp->container)
		return err_set(err, ERR_INTERNAL, "the daemon's answer about container %s is empty", id);
	return keep(c, &rsp->container->base, out, err);
}

int container_task(struct ctl *c, const char *id, TaskTypes__Process **out, struct err *err)
{
	Tasks__GetRequest req = TASKS__GET_REQUEST__INIT;
	AUTO(pb) Tasks__GetResponse *rsp = NULL;

	*out = NULL;
	req.container_id = id;
	TRY(absent_is_fine(rpc_call(c->client, &tasks__tasks__descriptor, "Get", NULL, &req.base, &rsp, err), err));
	return rsp && rsp->process ? keep(c, &rsp->process->base, out, err) : 0;
}

int container_delete_task(struct ctl *c, const char *id, struct err *err)
{
	Tasks__DeleteTaskRequest req = TASKS__DELETE_TASK_REQUEST__INIT;

	req.container_id = id;
	return absent_is_fine(rpc_call(c->client, &tasks__tasks__descriptor, "Delete", NULL, &req.base, NULL, err),
	                      err);
}

int container_delete_record(struct ctl *c, const char *id, struct err *err)
{
	Containers__DeleteContainerRequest req = CONTAINERS__DELETE_CONTAINER_REQUEST__INIT;

	req.id = id;
	return rpc_call(c->client, &containers__containers__descriptor, "Delete", NULL, &req.base, NULL, err);
}

int container_delete_snapshot(struct ctl *c, const char *key, struct err *err)
{
	Snapshots__RemoveSnapshotRequest req = SNAPSHOTS__REMOVE_SNAPSHOT_REQUEST__INIT;

	req.snapshotter = CTL_SNAPSHOTTER;
	req.key = key;
	return absent_is_fine(
	    rpc_call(c->client, &snapshots__snapshots__descriptor, "Remove", NULL, &req.base, NULL, err), err);
}

int container_kill(struct ctl *c, const char *id, uint32_t signal, bool all, struct err *err)
{
	Tasks__KillRequest req = TASKS__KILL_REQUEST__INIT;

	req.container_id = id;
	req.signal = signal;
	req.all = all;
	return rpc_call(c->client, &tasks__tasks__descriptor, "Kill", NULL, &req.base, NULL, err);
}

/* What runc says is all there is to tell them apart. */
int container_fail(const struct ctl *c, const struct err *err)
{
	int status = ctl_fail(c, err);

	if (!strstr(err->msg, "OCI runtime"))
		return status;
	if (strstr(err->msg, "executable file not found") || strstr(err->msg, "no such file or directory"))
		return 127;
	return strstr(err->msg, "permission denied") ? 126 : status;
}
