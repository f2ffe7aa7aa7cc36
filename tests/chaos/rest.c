#include "tests/chaos/chaos.h"

#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/content.pb-c.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/leases.pb-c.h"
#include "rpc/proto/snapshots.pb-c.h"
#include "rpc/proto/tasks.pb-c.h"

static void expect_none(struct chaos *c, const char *what, size_t n)
{
	if (n)
		chaos_fail(c, "%zu %s left", n, what);
}

/* Committed snapshots are of images; of containers none may be left. */
static size_t count_active(struct peer *p, struct err *err)
{
	Snapshots__ListSnapshotsRequest req = SNAPSHOTS__LIST_SNAPSHOTS_REQUEST__INIT;
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	size_t n = 0;
	int r;

	req.snapshotter = CTL_SNAPSHOTTER;
	TRY(rpc_stream_open(p->ctl.client, &snapshots__snapshots__descriptor, "List", NULL, &s, err));
	TRY(rpc_stream_send(s, &req.base, err));
	TRY(rpc_stream_close_send(s, err));
	for (;;) {
		AUTO(pb) Snapshots__ListSnapshotsResponse *part = NULL;

		r = rpc_stream_recv(s, INT64_MAX, &part, err);
		if (r != RPC_MESSAGE)
			return n;
		for (size_t i = 0; i < part->n_info; i++)
			n += part->info[i]->kind != SNAPSHOTS__KIND__COMMITTED;
	}
}

/* A pull that was cut off leaves the daemon's own lease, which keeps its part for the next pull for a day. */
static void end_leases(struct peer *p)
{
	Leases__ListRequest req = LEASES__LIST_REQUEST__INIT;
	AUTO(pb) Leases__ListResponse *have = NULL;

	if (peer_call(p, &leases__leases__descriptor, "List", &req.base, &have, NULL, NULL) < 0)
		return;
	for (size_t i = 0; i < have->n_leases; i++) {
		const Leases__Lease *l = have->leases[i];
		Leases__DeleteRequest end = LEASES__DELETE_REQUEST__INIT;

		end.id = l->id;
		if (pb_kv_get(l->labels, l->n_labels, "containerd.io/gc.expire"))
			peer_call(p, &leases__leases__descriptor, "Delete", &end.base, NULL, NULL, NULL);
	}
}

void rest_check(struct chaos *c)
{
	Containers__ListContainersRequest containers = CONTAINERS__LIST_CONTAINERS_REQUEST__INIT;
	Tasks__ListTasksRequest tasks = TASKS__LIST_TASKS_REQUEST__INIT;
	Leases__ListRequest leases = LEASES__LIST_REQUEST__INIT;
	Content__ListStatusesRequest ingests = CONTENT__LIST_STATUSES_REQUEST__INIT;
	AUTO(pb) Containers__ListContainersResponse *have_containers = NULL;
	AUTO(pb) Tasks__ListTasksResponse *have_tasks = NULL;
	AUTO(pb) Leases__ListResponse *have_leases = NULL;
	AUTO(pb) Content__ListStatusesResponse *have_ingests = NULL;
	struct err err = ERR_INIT;
	struct peer p;

	peer_init(&p, c);
	/* What a pull has begun the next one takes up. */
	for (unsigned i = 0; i < c->n_images; i++)
		images_pull(c, c->images[i]);
	end_leases(&p);
	for (unsigned i = 0; i < c->n_images; i++)
		images_remove(&p, c->images[i], true);
	if (peer_call(&p, &containers__containers__descriptor, "List", &containers.base, &have_containers, NULL, &err) <
	        0 ||
	    peer_call(&p, &tasks__tasks__descriptor, "List", &tasks.base, &have_tasks, NULL, &err) < 0 ||
	    peer_call(&p, &leases__leases__descriptor, "List", &leases.base, &have_leases, NULL, &err) < 0 ||
	    peer_call(&p, &content__content__descriptor, "ListStatuses", &ingests.base, &have_ingests, NULL, &err) <
	        0) {
		chaos_fail(c, "the last lists: %s", err.msg);
	} else {
		expect_none(c, "containers", have_containers->n_containers);
		expect_none(c, "tasks", have_tasks->n_tasks);
		for (size_t i = 0; i < have_leases->n_leases; i++)
			chaos_fail(c, "lease %s is left", have_leases->leases[i]->id);
		for (size_t i = 0; i < have_ingests->n_statuses; i++)
			chaos_fail(c, "ingest %s is left, with %lld bytes", have_ingests->statuses[i]->ref,
			           (long long)have_ingests->statuses[i]->offset);
		expect_none(c, "snapshots of containers", count_active(&p, &err));
	}
	peer_fini(&p);
}
