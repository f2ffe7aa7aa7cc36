/* The operation "task": a container's life from Create to Delete, its root file system bound from a directory. */
#include "bench/api/ops.h"

#include "base/clock.h"
#include "contentd/ctl/spec.h"
#include "rpc/pb.h"
#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/tasks.pb-c.h"

#include <inttypes.h>
#include <stdio.h>

#define ID_BYTES 64

const char *op_rootfs;

static int make_spec(const char *id, struct buf *out, struct err *err)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	struct spec_opts opts = {.id = id, .ns = OP_NAMESPACE};
	char *args[] = {(char *)"/bin/true"};

	TRY(spec_process_from_image(STR("{\"config\":{}}"), NULL, args, 1, &p, err));
	spec_write(&opts, &p, out);
	return 0;
}

static int create_record(struct op_client *c, const char *id, struct err *err)
{
	Containers__CreateContainerRequest req = CONTAINERS__CREATE_CONTAINER_REQUEST__INIT;
	Containers__Container m = CONTAINERS__CONTAINER__INIT;
	Containers__Container__Runtime runtime = CONTAINERS__CONTAINER__RUNTIME__INIT;
	AUTO(buf) struct buf json = BUF_INIT;
	Pb__Any spec = PB__ANY__INIT;

	TRY(make_spec(id, &json, err));
	spec.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
	spec.value = (ProtobufCBinaryData){json.n, (uint8_t *)json.p};
	runtime.name = "io.containerd.runc.v2";
	m.id = id;
	m.runtime = &runtime;
	m.spec = &spec;
	req.container = &m;
	return rpc_call(c->rpc, &containers__containers__descriptor, "Create", NULL, &req.base, NULL, err);
}

static int delete_record(struct op_client *c, const char *id, struct err *err)
{
	Containers__DeleteContainerRequest req = CONTAINERS__DELETE_CONTAINER_REQUEST__INIT;

	req.id = id;
	return rpc_call(c->rpc, &containers__containers__descriptor, "Delete", NULL, &req.base, NULL, err);
}

static int call(struct op_client *c, const char *method, const ProtobufCMessage *req, int64_t *ns, struct err *err)
{
	int64_t begin = clock_mono_ns();

	TRY_WRAP(rpc_call(c->rpc, &tasks__tasks__descriptor, method, NULL, req, NULL, err), err, "%s", method);
	*ns = clock_mono_ns() - begin;
	return 0;
}

static int create_task(struct op_client *c, const char *id, int64_t *ns, struct err *err)
{
	Tasks__CreateTaskRequest req = TASKS__CREATE_TASK_REQUEST__INIT;
	Types__Mount mount = TYPES__MOUNT__INIT;
	Types__Mount *mounts[] = {&mount};
	const char *options[] = {"rbind", "ro"};

	mount.type = "bind";
	mount.source = op_rootfs;
	mount.options = options;
	mount.n_options = ARRAY_LEN(options);
	req.container_id = id;
	req.rootfs = mounts;
	req.n_rootfs = 1;
	return call(c, "Create", &req.base, ns, err);
}

int op_task(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	Tasks__StartRequest start = TASKS__START_REQUEST__INIT;
	Tasks__WaitRequest wait = TASKS__WAIT_REQUEST__INIT;
	Tasks__DeleteTaskRequest delete = TASKS__DELETE_TASK_REQUEST__INIT;
	char id[ID_BYTES];

	snprintf(id, sizeof(id), "%s-%" PRIu64, c->prefix, c->serial);
	start.container_id = wait.container_id = delete.container_id = id;
	TRY(create_record(c, id, err));
	TRY(create_task(c, id, &ns[0], err));
	TRY(call(c, "Start", &start.base, &ns[1], err));
	TRY(call(c, "Wait", &wait.base, &ns[2], err));
	TRY(call(c, "Delete", &delete.base, &ns[3], err));
	ns[4] = ns[0] + ns[1] + ns[2] + ns[3];
	return delete_record(c, id, err);
}
