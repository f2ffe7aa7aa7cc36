#include "contentd/records/containers.h"

#include "base/clock.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/records/listing.h"
#include "contentd/services.h"
#include "rpc/proto/event.pb-c.h"

int cd_container_get(struct cd_daemon *d, const char *ns, const char *id, struct arena *a, Containers__Container **out,
                     struct err *err)
{
	return cd_meta_get(d->meta, CD_CONTAINER, ns, str_of(id), a, out, err);
}

/* ---- reading ---- */

static bool field(const void *object, const struct str *path, size_t n, struct str *value)
{
	const Containers__Container *c = object;

	if (n == 1 && (str_eqc(path[0], "id") || str_eqc(path[0], "image"))) {
		*value = str_of(str_eqc(path[0], "id") ? c->id : c->image);
		return value->n > 0;
	}
	if (n == 2 && str_eqc(path[0], "runtime") && str_eqc(path[1], "name")) {
		*value = str_of(c->runtime ? c->runtime->name : NULL);
		return value->n > 0;
	}
	return n > 1 && str_eqc(path[0], "labels") && cd_kvs_field(c->labels, c->n_labels, path + 1, n - 1, value);
}

static int containers_get(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Containers__GetContainerRequest *req = request;
	Containers__GetContainerResponse rsp = CONTAINERS__GET_CONTAINER_RESPONSE__INIT;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_container_get(svc, ns, req->id, rpc_arena(c), &rsp.container, err));
	return rpc_reply(c, &rsp.base, err);
}

static int containers_list(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Containers__ListContainersRequest *req = request;
	Containers__ListContainersResponse rsp = CONTAINERS__LIST_CONTAINERS_RESPONSE__INIT;
	AUTO(cd_listing) struct cd_listing l = {0};

	TRY(cd_list(c, svc, CD_CONTAINER, (const char *const *)req->filters, req->n_filters, field, &l, err));
	rsp.containers = (Containers__Container **)l.found.p;
	rsp.n_containers = l.found.n;
	return rpc_reply(c, &rsp.base, err);
}

static int containers_list_stream(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Containers__ListContainersRequest *req = request;
	Containers__ListContainerMessage msg = CONTAINERS__LIST_CONTAINER_MESSAGE__INIT;
	AUTO(cd_listing) struct cd_listing l = {0};

	TRY(cd_list(c, svc, CD_CONTAINER, (const char *const *)req->filters, req->n_filters, field, &l, err));
	vec_each(&l.found, container) {
		msg.container = *container;
		TRY(rpc_send(c, &msg.base, err));
	}
	return 0;
}

/* ---- changing ---- */

static int check(const Containers__Container *c, struct err *err)
{
	TRY(cd_ident_check("container id", c->id, err));
	if (!c->runtime || !*c->runtime->name)
		return err_set(err, ERR_INVALID, "container \"%s\" has no runtime name", c->id);
	if (!c->spec)
		return err_set(err, ERR_INVALID, "container \"%s\" has no spec", c->id);
	if (*c->snapshot_key && !*c->snapshotter)
		return err_set(err, ERR_INVALID, "container \"%s\" has a snapshot key, but no snapshotter", c->id);
	for (size_t i = 0; i < c->n_extensions; i++)
		if (!*c->extensions[i]->key)
			return err_set(err, ERR_INVALID, "container \"%s\" has an extension without a key", c->id);
	return 0;
}

static int create(struct cd_daemon *d, const char *ns, const Containers__Container *c, struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_CONTAINER, ns, str_of(c->id));

	TRY(cd_meta_absent(d->meta, CD_CONTAINER, ns, str_of(c->id), err));
	return cd_meta_put(d->meta, CD_CONTAINER, ns, str_of(c->id), &c->base, err);
}

static void publish_create(struct cd_daemon *d, const char *ns, const Containers__Container *c)
{
	Event__ContainerCreate event = EVENT__CONTAINER_CREATE__INIT;
	Event__ContainerCreate__Runtime runtime = EVENT__CONTAINER_CREATE__RUNTIME__INIT;

	runtime.name = c->runtime->name;
	runtime.options = c->runtime->options;
	event.id = c->id;
	event.image = c->image;
	event.runtime = &runtime;
	cd_events_publish(d->events, ns, "/containers/create", &event.base);
}

static int containers_create(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Containers__CreateContainerRequest *req = request;
	Containers__CreateContainerResponse rsp = CONTAINERS__CREATE_CONTAINER_RESPONSE__INIT;
	Containers__Container *added = req->container;
	struct arena *a = rpc_arena(c);
	struct cd_daemon *d = svc;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	if (!added)
		return err_set(err, ERR_INVALID, "container is missing");
	TRY(check(added, err));
	TRY(cd_kvs_clean(a, KVS(added, labels), LABEL_BYTES_MAX, err));
	added->created_at = added->updated_at = pb_time_new(a, clock_wall());
	TRY(create(d, ns, added, err));
	publish_create(d, ns, added);
	rsp.container = added;
	return rpc_reply(c, &rsp.base, err);
}

static int apply_path(struct arena *a, const char *text, const Containers__Container *from, Containers__Container *to,
                      struct err *err)
{
	struct cd_mask_path path = cd_mask_path(text);

	if (str_eqc(path.field, "labels"))
		cd_kvs_apply(a, path.key, from->labels, from->n_labels, KVS(to, labels));
	else if (str_eqc(path.field, "extensions"))
		cd_kvs_apply_any(a, path.key, from->extensions, from->n_extensions, KVS(to, extensions));
	else if (!strcmp(text, "spec"))
		to->spec = from->spec;
	else if (!strcmp(text, "image"))
		to->image = from->image;
	else if (!strcmp(text, "snapshotkey")) /* spelled like that */
		to->snapshot_key = from->snapshot_key;
	else
		return err_set(err, ERR_INVALID, "field \"%s\" of a container cannot be updated", text);
	return 0;
}

static int apply_all(struct arena *a, const Containers__Container *from, Containers__Container *to, struct err *err)
{
	static const char *const paths[] = {"labels", "extensions", "spec", "image", "snapshotkey"};

	if (strcmp(from->snapshotter, to->snapshotter))
		return err_set(err, ERR_INVALID, "the snapshotter of a container cannot be changed");
	if (strcmp(from->runtime ? from->runtime->name : "", to->runtime->name))
		return err_set(err, ERR_INVALID, "the runtime of a container cannot be changed");
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		TRY(apply_path(a, paths[i], from, to, err));
	return 0;
}

static int update(struct cd_daemon *d, struct arena *a, const char *ns, const Containers__Container *from,
                  const Pb__FieldMask *mask, Containers__Container **out, struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_CONTAINER, ns, str_of(from->id));
	Containers__Container *stored;

	TRY(cd_container_get(d, ns, from->id, a, &stored, err));
	for (size_t i = 0; mask && i < mask->n_paths; i++)
		TRY(apply_path(a, mask->paths[i], from, stored, err));
	if (!mask || !mask->n_paths)
		TRY(apply_all(a, from, stored, err));
	TRY(check(stored, err));
	stored->updated_at = pb_time_new(a, clock_wall());
	*out = stored;
	return cd_meta_put(d->meta, CD_CONTAINER, ns, str_of(stored->id), &stored->base, err);
}

static int containers_update(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Containers__UpdateContainerRequest *req = request;
	Containers__UpdateContainerResponse rsp = CONTAINERS__UPDATE_CONTAINER_RESPONSE__INIT;
	Event__ContainerUpdate event = EVENT__CONTAINER_UPDATE__INIT;
	Containers__Container *from = req->container;
	struct arena *a = rpc_arena(c);
	struct cd_daemon *d = svc;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	if (!from || !*from->id)
		return err_set(err, ERR_INVALID, "container id must not be empty");
	TRY(cd_kvs_clean(a, KVS(from, labels), LABEL_BYTES_MAX, err));
	TRY(update(d, a, ns, from, req->update_mask, &rsp.container, err));
	event.id = rsp.container->id;
	event.image = rsp.container->image;
	event.labels = rsp.container->labels;
	event.n_labels = rsp.container->n_labels;
	event.snapshot_key = rsp.container->snapshot_key;
	cd_events_publish(d->events, ns, "/containers/update", &event.base);
	return rpc_reply(c, &rsp.base, err);
}

/* Tasks are not looked at: clients delete the task first. */
static int containers_delete(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Containers__DeleteContainerRequest *req = request;
	Event__ContainerDelete event = EVENT__CONTAINER_DELETE__INIT;
	struct cd_daemon *d = svc;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_meta_remove(d->meta, CD_CONTAINER, ns, str_of(req->id), err));
	event.id = req->id;
	cd_events_publish(d->events, ns, "/containers/delete", &event.base);
	return 0;
}

static const struct rpc_method methods[] = {
    {"Get", 0, containers_get},
    {"List", 0, containers_list},
    {"ListStream", RPC_SERVER_STREAM, containers_list_stream},
    {"Create", 0, containers_create},
    {"Update", 0, containers_update},
    {"Delete", 0, containers_delete},
};

const struct rpc_service cd_containers_service = {&containers__containers__descriptor, methods, ARRAY_LEN(methods)};
