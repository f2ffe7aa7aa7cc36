/* Namespaces, images, containers, leases, introspection and events, as clients see them: codes and answers. */
#include "base/clock.h"
#include "contentd/testing/world.h"
#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/event.pb-c.h"
#include "rpc/proto/events.pb-c.h"
#include "rpc/proto/health.pb-c.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/introspection.pb-c.h"
#include "rpc/proto/leases.pb-c.h"
#include "rpc/proto/namespaces.pb-c.h"
#include "rpc/proto/snapshots.pb-c.h"
#include "rpc/proto/version.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* ---- namespaces ---- */

static int ns_create(struct world *w, const char *name, const char *labels)
{
	Namespaces__CreateNamespaceRequest req = NAMESPACES__CREATE_NAMESPACE_REQUEST__INIT;
	Namespaces__Namespace n = NAMESPACES__NAMESPACE__INIT;

	n.name = name;
	WORLD_KVS(w, &n, labels, labels);
	req.namespace_ = &n;
	return world_call(w, &namespaces__namespaces__descriptor, "Create", &req, NULL);
}

static int ns_update(struct world *w, const char *name, const char *labels, const char *mask)
{
	Namespaces__UpdateNamespaceRequest req = NAMESPACES__UPDATE_NAMESPACE_REQUEST__INIT;
	Namespaces__Namespace n = NAMESPACES__NAMESPACE__INIT;
	Pb__FieldMask m = PB__FIELD_MASK__INIT;

	n.name = name;
	WORLD_KVS(w, &n, labels, labels);
	req.namespace_ = &n;
	m.paths = &mask;
	m.n_paths = 1;
	req.update_mask = mask ? &m : NULL;
	return world_call(w, &namespaces__namespaces__descriptor, "Update", &req, NULL);
}

static const char *ns_labels(struct world *w, const char *name)
{
	Namespaces__GetNamespaceRequest req = NAMESPACES__GET_NAMESPACE_REQUEST__INIT;
	Namespaces__GetNamespaceResponse *rsp;

	req.name = name;
	OK(world_call(w, &namespaces__namespaces__descriptor, "Get", &req, &rsp));
	assert_string_equal(rsp->namespace_->name, name);
	return world_kvs_text(w, rsp->namespace_->labels, rsp->namespace_->n_labels);
}

static int ns_delete(struct world *w, const char *name)
{
	Namespaces__DeleteNamespaceRequest req = NAMESPACES__DELETE_NAMESPACE_REQUEST__INIT;

	req.name = name;
	return world_call(w, &namespaces__namespaces__descriptor, "Delete", &req, NULL);
}

static const char *ns_list(struct world *w)
{
	Namespaces__ListNamespacesRequest req = NAMESPACES__LIST_NAMESPACES_REQUEST__INIT;
	Namespaces__ListNamespacesResponse *rsp;
	AUTO(buf) struct buf b = BUF_INIT;

	OK(world_call(w, &namespaces__namespaces__descriptor, "List", &req, &rsp));
	for (size_t i = 0; i < rsp->n_namespaces; i++)
		buf_addf(&b, "%s ", rsp->namespaces[i]->name);
	return arena_str(&w->a, buf_str(&b));
}

static int image_create(struct world *w, const char *name, const char *labels);

static void namespaces(void **state)
{
	Namespaces__CreateNamespaceRequest nothing = NAMESPACES__CREATE_NAMESPACE_REQUEST__INIT;
	struct world *w = *state;

	FAILS(ns_create(w, "a--b", ""), ERR_INVALID);
	FAILS(world_call(w, &namespaces__namespaces__descriptor, "Create", &nothing, NULL), ERR_INVALID);
	OK(ns_create(w, "one", "a=1 b="));
	FAILS(ns_create(w, "one", ""), ERR_EXISTS);
	assert_string_equal(ns_labels(w, "one"), "a=1");
	assert_string_equal(ns_labels(w, "unknown"), "");
	OK(ns_update(w, "one", "c=3 d=4", "labels.c"));
	assert_string_equal(ns_labels(w, "one"), "a=1 c=3");
	FAILS(ns_update(w, "one", "c=3", "labels"), ERR_INVALID);
	FAILS(ns_update(w, "one", "c=3", "name"), ERR_INVALID);
	OK(ns_update(w, "one", "e=5", NULL));
	assert_string_equal(ns_labels(w, "one"), "e=5");
	OK(ns_update(w, "two", "a=1", NULL)); /* makes it */
	assert_string_equal(ns_list(w), "one two ");
	OK(image_create(w, "img", "")); /* in "ns", which comes into being */
	assert_string_equal(ns_list(w), "ns one two ");
	FAILS(ns_delete(w, "ns"), ERR_PRECONDITION);
	assert_non_null(strstr(w->err.msg, "images"));
	OK(ns_delete(w, "one"));
	FAILS(ns_delete(w, "one"), ERR_NOT_FOUND);
	assert_string_equal(ns_list(w), "ns two ");
}

static void a_namespace_with_a_snapshot_is_not_empty(void **state)
{
	Snapshots__PrepareSnapshotRequest req = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;
	struct world *w = *state;

	req.snapshotter = "overlayfs";
	req.key = "k";
	OK(world_call(w, &snapshots__snapshots__descriptor, "Prepare", &req, NULL));
	FAILS(ns_delete(w, "ns"), ERR_PRECONDITION);
	assert_non_null(strstr(w->err.msg, "snapshots of overlayfs"));
}

static void the_header(void **state)
{
	Images__ListImagesRequest req = IMAGES__LIST_IMAGES_REQUEST__INIT;
	struct world *w = *state;

	rpc_client_set_metadata(w->c, "containerd-namespace", NULL);
	FAILS(world_call(w, &images__images__descriptor, "List", &req, NULL), ERR_PRECONDITION);
	rpc_client_set_metadata(w->c, "containerd-namespace", "a--b");
	FAILS(world_call(w, &images__images__descriptor, "List", &req, NULL), ERR_INVALID);
	rpc_client_set_metadata(w->c, "containerd-namespace", "fine");
	OK(world_call(w, &images__images__descriptor, "List", &req, NULL));
}

/* ---- images ---- */

static Types__Descriptor *target(struct world *w, const char *digest, int64_t size)
{
	Types__Descriptor *t = pb_new(&w->a, &types__descriptor__descriptor);

	t->media_type = "application/vnd.oci.image.manifest.v1+json";
	t->digest = digest;
	t->size = size;
	return t;
}

static int image_create(struct world *w, const char *name, const char *labels)
{
	Images__CreateImageRequest req = IMAGES__CREATE_IMAGE_REQUEST__INIT;
	Images__Image i = IMAGES__IMAGE__INIT;

	i.name = name;
	i.target = target(w, SHA_A, 10);
	WORLD_KVS(w, &i, labels, labels);
	req.image = &i;
	return world_call(w, &images__images__descriptor, "Create", &req, NULL);
}

static Images__Image *image_get(struct world *w, const char *name)
{
	Images__GetImageRequest req = IMAGES__GET_IMAGE_REQUEST__INIT;
	Images__GetImageResponse *rsp;

	req.name = name;
	OK(world_call(w, &images__images__descriptor, "Get", &req, &rsp));
	return rsp->image;
}

static int image_update(struct world *w, const char *name, const char *labels, Types__Descriptor *t, const char *mask)
{
	Images__UpdateImageRequest req = IMAGES__UPDATE_IMAGE_REQUEST__INIT;
	Pb__FieldMask m = PB__FIELD_MASK__INIT;
	Images__Image i = IMAGES__IMAGE__INIT;

	i.name = name;
	i.target = t;
	WORLD_KVS(w, &i, labels, labels);
	req.image = &i;
	m.paths = &mask;
	m.n_paths = 1;
	req.update_mask = mask ? &m : NULL;
	return world_call(w, &images__images__descriptor, "Update", &req, NULL);
}

static const char *image_list(struct world *w, const char *filter)
{
	Images__ListImagesRequest req = IMAGES__LIST_IMAGES_REQUEST__INIT;
	Images__ListImagesResponse *rsp;
	AUTO(buf) struct buf b = BUF_INIT;

	req.filters = &filter;
	req.n_filters = 1;
	OK(world_call(w, &images__images__descriptor, "List", &req, &rsp));
	for (size_t i = 0; i < rsp->n_images; i++)
		buf_addf(&b, "%s ", rsp->images[i]->name);
	return arena_str(&w->a, buf_str(&b));
}

static void creating_images(void **state)
{
	Images__CreateImageRequest req = IMAGES__CREATE_IMAGE_REQUEST__INIT;
	Pb__Timestamp epoch = PB__TIMESTAMP__INIT;
	Images__Image i = IMAGES__IMAGE__INIT;
	struct world *w = *state;

	FAILS(world_call(w, &images__images__descriptor, "Create", &req, NULL), ERR_INVALID);
	req.image = &i;
	FAILS(world_call(w, &images__images__descriptor, "Create", &req, NULL), ERR_INVALID);
	i.name = "x";
	FAILS(world_call(w, &images__images__descriptor, "Create", &req, NULL), ERR_INVALID); /* no target */
	i.target = target(w, "sha256:short", 10);
	FAILS(world_call(w, &images__images__descriptor, "Create", &req, NULL), ERR_INVALID);
	i.target = target(w, SHA_A, 0);
	FAILS(world_call(w, &images__images__descriptor, "Create", &req, NULL), ERR_INVALID);
	i.target = target(w, SHA_A, 1);
	i.target->media_type = "";
	FAILS(world_call(w, &images__images__descriptor, "Create", &req, NULL), ERR_INVALID);
	i.target->media_type = "t";
	epoch.seconds = 1000;
	req.source_date_epoch = &epoch;
	OK(world_call(w, &images__images__descriptor, "Create", &req, NULL));
	FAILS(world_call(w, &images__images__descriptor, "Create", &req, NULL), ERR_EXISTS);
	assert_int_equal(image_get(w, "x")->created_at->seconds, 1000);
	assert_int_equal(image_get(w, "x")->updated_at->seconds, 1000);
}

static void updating_images(void **state)
{
	struct world *w = *state;
	Images__Image *before, *after;

	FAILS(image_update(w, "x", "", target(w, SHA_A, 1), NULL), ERR_NOT_FOUND);
	OK(image_create(w, "x", "a=1 b.c/d=2"));
	before = image_get(w, "x");
	assert_memory_equal(&before->created_at->seconds, &before->updated_at->seconds, sizeof(int64_t));
	assert_int_equal(before->created_at->nanos, before->updated_at->nanos);
	OK(image_update(w, "x", "b.c/d=3 z=9", NULL, "labels.b.c/d"));
	after = image_get(w, "x");
	assert_string_equal(world_kvs_text(w, after->labels, after->n_labels), "a=1 b.c/d=3");
	assert_int_equal(after->created_at->nanos, before->created_at->nanos);
	assert_true(after->updated_at->nanos != before->updated_at->nanos);
	OK(image_update(w, "x", "", NULL, "labels.a"));
	OK(image_update(w, "x", "n=1", NULL, "labels"));
	after = image_get(w, "x");
	assert_string_equal(world_kvs_text(w, after->labels, after->n_labels), "n=1");
	assert_string_equal(after->target->digest, SHA_A);
	OK(image_update(w, "x", "", target(w, SHA_B, 2), "target"));
	assert_string_equal(image_get(w, "x")->target->digest, SHA_B);
	FAILS(image_update(w, "x", "", target(w, SHA_B, 0), "target"), ERR_INVALID);
	FAILS(image_update(w, "x", "", NULL, "target"), ERR_INVALID);
	FAILS(image_update(w, "x", "", NULL, NULL), ERR_INVALID);
	FAILS(image_update(w, "x", "", NULL, "name"), ERR_INVALID);
	OK(image_update(w, "x", "q=1", target(w, SHA_A, 1), NULL));
	after = image_get(w, "x");
	assert_string_equal(world_kvs_text(w, after->labels, after->n_labels), "q=1");
}

static void listing_and_deleting_images(void **state)
{
	Images__DeleteImageRequest del = IMAGES__DELETE_IMAGE_REQUEST__INIT;
	struct world *w = *state;

	OK(image_create(w, "reg/a:1", "k=v"));
	OK(image_create(w, "reg/b:1", "dotted.key/x=v"));
	assert_string_equal(image_list(w, ""), "reg/a:1 reg/b:1 ");
	assert_string_equal(image_list(w, "name==\"reg/a:1\""), "reg/a:1 ");
	assert_string_equal(image_list(w, "labels.\"dotted.key/x\"==v"), "reg/b:1 ");
	assert_string_equal(image_list(w, "target.digest~=^sha256:a,target.mediatype~=manifest"), "reg/a:1 reg/b:1 ");
	assert_string_equal(image_list(w, "target.digest==\"" SHA_B "\""), "");
	del.name = "reg/a:1";
	del.target = target(w, SHA_B, 1);
	FAILS(world_call(w, &images__images__descriptor, "Delete", &del, NULL), ERR_NOT_FOUND);
	del.target = target(w, SHA_A, 1);
	OK(world_call(w, &images__images__descriptor, "Delete", &del, NULL));
	FAILS(world_call(w, &images__images__descriptor, "Delete", &del, NULL), ERR_NOT_FOUND);
	assert_string_equal(image_list(w, ""), "reg/b:1 ");
	rpc_client_set_metadata(w->c, "containerd-namespace", "other");
	assert_string_equal(image_list(w, ""), "");
}

/* ---- containers ---- */

static Containers__Container *container(struct world *w, const char *id)
{
	Containers__Container *c = pb_new(&w->a, &containers__container__descriptor);

	c->id = id;
	c->image = "img";
	c->runtime = pb_new(&w->a, &containers__container__runtime__descriptor);
	c->runtime->name = "io.containerd.runc.v2";
	c->spec = pb_new(&w->a, &pb__any__descriptor);
	c->spec->type_url = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
	c->spec->value = (ProtobufCBinaryData){3, (uint8_t *)"{ }"};
	return c;
}

static int container_create(struct world *w, Containers__Container *c)
{
	Containers__CreateContainerRequest req = CONTAINERS__CREATE_CONTAINER_REQUEST__INIT;

	req.container = c;
	return world_call(w, &containers__containers__descriptor, "Create", &req, NULL);
}

static int container_update(struct world *w, Containers__Container *c, const char *mask)
{
	Containers__UpdateContainerRequest req = CONTAINERS__UPDATE_CONTAINER_REQUEST__INIT;
	Pb__FieldMask m = PB__FIELD_MASK__INIT;

	m.paths = &mask;
	m.n_paths = 1;
	req.container = c;
	req.update_mask = mask ? &m : NULL;
	return world_call(w, &containers__containers__descriptor, "Update", &req, NULL);
}

static Containers__Container *container_get(struct world *w, const char *id)
{
	Containers__GetContainerRequest req = CONTAINERS__GET_CONTAINER_REQUEST__INIT;
	Containers__GetContainerResponse *rsp;

	req.id = id;
	OK(world_call(w, &containers__containers__descriptor, "Get", &req, &rsp));
	return rsp->container;
}

static void add_extension(struct world *w, Containers__Container *c, const char *key, const char *value)
{
	Kv__AnyEntry **list = arena_alloc(&w->a, (c->n_extensions + 1) * sizeof(*list));
	Kv__AnyEntry *e = pb_new(&w->a, &kv__any_entry__descriptor);

	for (size_t i = 0; i < c->n_extensions; i++)
		list[i] = c->extensions[i];
	e->key = key;
	e->value = pb_new(&w->a, &pb__any__descriptor);
	e->value->type_url = value;
	list[c->n_extensions++] = e;
	c->extensions = list;
}

static void creating_containers(void **state)
{
	struct world *w = *state;
	Containers__Container *c = container(w, "c1"), *got;

	FAILS(container_create(w, NULL), ERR_INVALID);
	FAILS(container_create(w, container(w, "no good")), ERR_INVALID);
	c->runtime->name = "";
	FAILS(container_create(w, c), ERR_INVALID);
	c = container(w, "c1");
	c->spec = NULL;
	FAILS(container_create(w, c), ERR_INVALID);
	c = container(w, "c1");
	c->snapshot_key = "k";
	FAILS(container_create(w, c), ERR_INVALID);
	c->snapshotter = "overlayfs";
	add_extension(w, c, "", "x");
	FAILS(container_create(w, c), ERR_INVALID);
	c->n_extensions = 0;
	add_extension(w, c, "ext", "their.Type");
	WORLD_KVS(w, c, labels, "a=1");
	OK(container_create(w, c));
	FAILS(container_create(w, c), ERR_EXISTS);
	got = container_get(w, "c1");
	assert_int_equal(got->spec->value.len, 3);
	assert_memory_equal(got->spec->value.data, "{ }", 3); /* byte for byte */
	assert_string_equal(got->extensions[0]->value->type_url, "their.Type");
	assert_int_equal(got->created_at->nanos, got->updated_at->nanos);
}

static void updating_containers(void **state)
{
	struct world *w = *state;
	Containers__Container *c = container(w, "c1"), *u = container(w, "c1"), *got;

	FAILS(container_update(w, container(w, ""), NULL), ERR_INVALID);
	FAILS(container_update(w, u, NULL), ERR_NOT_FOUND);
	c->snapshotter = u->snapshotter = "overlayfs";
	c->snapshot_key = "k1";
	add_extension(w, c, "one", "1");
	add_extension(w, c, "two", "2");
	WORLD_KVS(w, c, labels, "a=1 b=2");
	OK(container_create(w, c));

	WORLD_KVS(w, u, labels, "b=3");
	u->snapshot_key = "k2";
	u->image = "other";
	add_extension(w, u, "two", "22");
	OK(container_update(w, u, "labels.b"));
	OK(container_update(w, u, "extensions.two"));
	OK(container_update(w, u, "extensions.one")); /* not in what was sent: removed */
	OK(container_update(w, u, "snapshotkey"));
	got = container_get(w, "c1");
	assert_string_equal(world_kvs_text(w, got->labels, got->n_labels), "a=1 b=3");
	assert_int_equal(got->n_extensions, 1);
	assert_string_equal(got->extensions[0]->value->type_url, "22");
	assert_string_equal(got->snapshot_key, "k2");
	assert_string_equal(got->image, "img");
	FAILS(container_update(w, u, "id"), ERR_INVALID);
	FAILS(container_update(w, u, "runtime"), ERR_INVALID);
	FAILS(container_update(w, u, "snapshot_key"), ERR_INVALID);
	FAILS(container_update(w, u, "snapshotter"), ERR_INVALID);
	OK(container_update(w, u, NULL));
	got = container_get(w, "c1");
	assert_string_equal(got->image, "other");
	assert_string_equal(world_kvs_text(w, got->labels, got->n_labels), "b=3");
	u->runtime->name = "another";
	FAILS(container_update(w, u, NULL), ERR_INVALID);
	u->runtime->name = c->runtime->name;
	u->snapshotter = "stargz";
	FAILS(container_update(w, u, NULL), ERR_INVALID);
}

static void listing_and_deleting_containers(void **state)
{
	Containers__ListContainersRequest req = CONTAINERS__LIST_CONTAINERS_REQUEST__INIT;
	Containers__DeleteContainerRequest del = CONTAINERS__DELETE_CONTAINER_REQUEST__INIT;
	const char *filters[] = {"id~=^c,labels.k==v", "runtime.name==other"}, *bad = "id=";
	Containers__ListContainersResponse *rsp;
	struct world *w = *state;
	Containers__Container *c;
	void **all;
	size_t n;

	OK(world_stream(w, &containers__containers__descriptor, "ListStream", &req,
	                &containers__list_container_message__descriptor, &all, &n));
	assert_int_equal(n, 0);
	OK(container_create(w, container(w, "c1")));
	c = container(w, "c2");
	WORLD_KVS(w, c, labels, "k=v");
	OK(container_create(w, c));
	c = container(w, "d1");
	c->runtime->name = "other";
	OK(container_create(w, c));
	OK(world_stream(w, &containers__containers__descriptor, "ListStream", &req,
	                &containers__list_container_message__descriptor, &all, &n));
	assert_int_equal(n, 3);
	req.filters = filters;
	req.n_filters = 2;
	OK(world_call(w, &containers__containers__descriptor, "List", &req, &rsp));
	assert_int_equal(rsp->n_containers, 2);
	assert_string_equal(rsp->containers[0]->id, "c2");
	assert_string_equal(rsp->containers[1]->id, "d1");
	req.filters = &bad;
	req.n_filters = 1;
	FAILS(world_call(w, &containers__containers__descriptor, "List", &req, NULL), ERR_INVALID);
	del.id = "c1";
	OK(world_call(w, &containers__containers__descriptor, "Delete", &del, NULL));
	FAILS(world_call(w, &containers__containers__descriptor, "Delete", &del, NULL), ERR_NOT_FOUND);
}

/* ---- leases ---- */

static int lease_create(struct world *w, const char *id, const char *labels)
{
	Leases__CreateRequest req = LEASES__CREATE_REQUEST__INIT;

	req.id = id;
	WORLD_KVS(w, &req, labels, labels);
	return world_call(w, &leases__leases__descriptor, "Create", &req, NULL);
}

static int lease_add(struct world *w, const char *method, const char *lease, const char *type, const char *id)
{
	/* AddResourceRequest and DeleteResourceRequest are alike on the wire. */
	Leases__AddResourceRequest add = LEASES__ADD_RESOURCE_REQUEST__INIT;
	Leases__DeleteResourceRequest del = LEASES__DELETE_RESOURCE_REQUEST__INIT;
	Leases__Resource r = LEASES__RESOURCE__INIT;

	r.type = type;
	r.id = id;
	add.id = del.id = lease;
	add.resource = del.resource = type ? &r : NULL;
	return world_call(w, &leases__leases__descriptor, method,
	                  method[0] == 'A' ? (const void *)&add : (const void *)&del, NULL);
}

static const char *lease_resources(struct world *w, const char *lease)
{
	Leases__ListResourcesRequest req = LEASES__LIST_RESOURCES_REQUEST__INIT;
	Leases__ListResourcesResponse *rsp;
	AUTO(buf) struct buf b = BUF_INIT;

	req.id = lease;
	OK(world_call(w, &leases__leases__descriptor, "ListResources", &req, &rsp));
	for (size_t i = 0; i < rsp->n_resources; i++)
		buf_addf(&b, "%s:%.12s ", rsp->resources[i]->type, rsp->resources[i]->id);
	return arena_str(&w->a, buf_str(&b));
}

static void leases(void **state)
{
	Leases__ListRequest list = LEASES__LIST_REQUEST__INIT;
	Leases__DeleteRequest del = LEASES__DELETE_REQUEST__INIT;
	Leases__CreateRequest anonymous = LEASES__CREATE_REQUEST__INIT;
	const char *filter = "labels.k==v", *bad = "id=";
	Leases__CreateResponse *created;
	Leases__ListResponse *listed;
	struct world *w = *state;

	OK(lease_create(w, "l", "k=v"));
	FAILS(lease_create(w, "l", ""), ERR_EXISTS);
	OK(world_call(w, &leases__leases__descriptor, "Create", &anonymous, &created));
	assert_true(strlen(created->lease->id) > 5);
	list.filters = &filter;
	list.n_filters = 1;
	OK(world_call(w, &leases__leases__descriptor, "List", &list, &listed));
	assert_int_equal(listed->n_leases, 1);
	list.filters = &bad;
	FAILS(world_call(w, &leases__leases__descriptor, "List", &list, NULL), ERR_INVALID);

	FAILS(lease_add(w, "AddResource", "none", "images", "i"), ERR_NOT_FOUND);
	FAILS(lease_add(w, "AddResource", "l", "snapshots", "s"), ERR_INVALID);
	FAILS(lease_add(w, "AddResource", "l", "snapshots/a/b", "s"), ERR_INVALID);
	FAILS(lease_add(w, "AddResource", "l", "snapshotter/overlayfs", "s"), ERR_UNIMPLEMENTED);
	FAILS(lease_add(w, "AddResource", "l", "content", "bad"), ERR_INVALID);
	FAILS(lease_add(w, "AddResource", "l", NULL, NULL), ERR_INVALID);
	OK(lease_add(w, "AddResource", "l", "snapshots/overlayfs", "key 1"));
	OK(lease_add(w, "AddResource", "l", "ingests", "r"));
	OK(lease_add(w, "AddResource", "l", "images", "i"));
	OK(lease_add(w, "AddResource", "l", "content", SHA_A));
	OK(lease_add(w, "AddResource", "l", "content", SHA_A));
	assert_string_equal(lease_resources(w, "l"),
	                    "content:sha256:aaaaa images:i ingests:r snapshots/overlayfs:key 1 ");
	OK(lease_add(w, "DeleteResource", "l", "images", "i"));
	OK(lease_add(w, "DeleteResource", "l", "images", "i"));
	assert_string_equal(lease_resources(w, "l"), "content:sha256:aaaaa ingests:r snapshots/overlayfs:key 1 ");

	del.id = "l";
	del.sync = true;
	OK(world_call(w, &leases__leases__descriptor, "Delete", &del, NULL));
	FAILS(world_call(w, &leases__leases__descriptor, "Delete", &del, NULL), ERR_NOT_FOUND);
	OK(lease_create(w, "l", ""));
	assert_string_equal(lease_resources(w, "l"), ""); /* nothing of the old one of that name */
}

static void what_a_lease_header_does(void **state)
{
	struct world *w = *state;

	rpc_client_set_metadata(w->c, "containerd-lease", "l");
	FAILS(image_create(w, "x", ""), ERR_NOT_FOUND);
	OK(lease_create(w, "l", ""));
	OK(image_create(w, "x", ""));
	assert_string_equal(lease_resources(w, "l"), "");
	OK(image_create(w, "y", "containerd.io/gc.expire=2030-01-01T00:00:00Z"));
	assert_string_equal(lease_resources(w, "l"), "images:y ");
}

/* ---- introspection, version, health ---- */

static void introspection(void **state)
{
	Introspection__PluginsRequest req = INTROSPECTION__PLUGINS_REQUEST__INIT;
	Introspection__PluginInfoRequest info = INTROSPECTION__PLUGIN_INFO_REQUEST__INIT;
	const char *buildkit[] = {"type==io.containerd.runtime.v1", "type==io.containerd.runtime.v2"},
		   *snapshotters = "type==io.containerd.snapshotter.v1, id==overlayfs";
	Introspection__PluginsResponse *rsp;
	Introspection__ServerResponse *server;
	Pb__Empty empty = PB__EMPTY__INIT;
	struct world *w = *state;

	req.filters = buildkit;
	req.n_filters = 2;
	OK(world_call(w, &introspection__introspection__descriptor, "Plugins", &req, &rsp));
	assert_int_equal(rsp->n_plugins, 2);
	assert_string_equal(rsp->plugins[0]->platforms[0]->os, "linux"); /* the first one's count */
	req.filters = &snapshotters;
	req.n_filters = 1;
	OK(world_call(w, &introspection__introspection__descriptor, "Plugins", &req, &rsp));
	assert_int_equal(rsp->n_plugins, 1);
	assert_string_equal(rsp->plugins[0]->exports[0]->key, "root");
	info.type = "io.containerd.snapshotter.v1";
	info.id = "none";
	FAILS(world_call(w, &introspection__introspection__descriptor, "PluginInfo", &info, NULL), ERR_NOT_FOUND);
	info.id = "overlayfs";
	OK(world_call(w, &introspection__introspection__descriptor, "PluginInfo", &info, NULL));
	OK(world_call(w, &introspection__introspection__descriptor, "Server", &empty, &server));
	assert_int_equal(strlen(server->uuid), 36);
	assert_string_equal(server->uuid, w->d->uuid);
}

static void version_and_health(void **state)
{
	Health__HealthCheckRequest req = HEALTH__HEALTH_CHECK_REQUEST__INIT;
	Health__HealthCheckResponse *health;
	Version__VersionResponse *version;
	Pb__Empty empty = PB__EMPTY__INIT;
	struct world *w = *state;

	rpc_client_set_metadata(w->c, "containerd-namespace", NULL);
	OK(world_call(w, &version__version__descriptor, "Version", &empty, &version));
	assert_int_equal(strncmp(version->version, "v1.7.", 5), 0);
	OK(world_call(w, &health__health__descriptor, "Check", &req, &health));
	assert_int_equal(health->status, HEALTH__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING);
	req.service = "containerd.services.images.v1.Images";
	OK(world_call(w, &health__health__descriptor, "Check", &req, &health));
	req.service = "no.such.Service";
	FAILS(world_call(w, &health__health__descriptor, "Check", &req, NULL), ERR_NOT_FOUND);
}

/* ---- events ---- */

static void events_of_records(void **state)
{
	Events__SubscribeRequest req = EVENTS__SUBSCRIBE_REQUEST__INIT;
	Events__PublishRequest pub = EVENTS__PUBLISH_REQUEST__INIT;
	Events__ForwardRequest fwd = EVENTS__FORWARD_REQUEST__INIT;
	const char *filter = "topic~=\"^/(images|mine)/\"";
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	AUTO(pb) Types__Envelope *first = NULL;
	AUTO(pb) Types__Envelope *second = NULL;
	AUTO(pb) Types__Envelope *third = NULL;
	struct world *w = *state;
	int64_t until = clock_mono_ns() + 10 * NS_PER_S;

	req.filters = &filter;
	req.n_filters = 1;
	OK(rpc_stream_open(w->c, &events__events__descriptor, "Subscribe", NULL, &s, &w->err));
	OK(rpc_stream_send(s, &req.base, &w->err));
	OK(rpc_stream_close_send(s, &w->err));
	/* Nothing tells that the subscription stands, so say something until it is heard. */
	pub.topic = "/mine/x";
	for (int r = RPC_AGAIN; r == RPC_AGAIN;) {
		OK(world_call(w, &events__events__descriptor, "Publish", &pub, NULL));
		OK(r = rpc_stream_try_recv(s, &first, &w->err));
		assert_true(clock_mono_ns() < until);
	}
	assert_string_equal(first->namespace_, "ns");
	OK(ns_create(w, "unseen", ""));
	OK(image_create(w, "x", ""));
	do { /* what was said meanwhile */
		pb_free(STEAL(second));
		assert_int_equal(rpc_stream_recv(s, until, &second, &w->err), RPC_MESSAGE);
	} while (!strcmp(second->topic, "/mine/x"));
	assert_string_equal(second->topic, "/images/create");
	assert_string_equal(second->event->type_url, "containerd.services.images.v1.ImageCreate");
	OK(image_update(w, "x", "", target(w, SHA_B, 1), NULL));
	assert_int_equal(rpc_stream_recv(s, until, &third, &w->err), RPC_MESSAGE);
	assert_string_equal(third->topic, "/images/update");

	pub.topic = "nope";
	FAILS(world_call(w, &events__events__descriptor, "Publish", &pub, NULL), ERR_INVALID);
	FAILS(world_call(w, &events__events__descriptor, "Forward", &fwd, NULL), ERR_INVALID);
	fwd.envelope = third;
	OK(world_call(w, &events__events__descriptor, "Forward", &fwd, NULL));
}

static void a_bad_filter_ends_the_subscription(void **state)
{
	Events__SubscribeRequest req = EVENTS__SUBSCRIBE_REQUEST__INIT;
	const char *filter = "topic=";
	struct world *w = *state;
	void **all;
	size_t n;

	req.filters = &filter;
	req.n_filters = 1;
	FAILS(world_stream(w, &events__events__descriptor, "Subscribe", &req, &types__envelope__descriptor, &all, &n),
	      ERR_INVALID);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(namespaces),
	    TEST(a_namespace_with_a_snapshot_is_not_empty),
	    TEST(the_header),
	    TEST(creating_images),
	    TEST(updating_images),
	    TEST(listing_and_deleting_images),
	    TEST(creating_containers),
	    TEST(updating_containers),
	    TEST(listing_and_deleting_containers),
	    TEST(leases),
	    TEST(what_a_lease_header_does),
	    TEST(introspection),
	    TEST(version_and_health),
	    TEST(events_of_records),
	    TEST(a_bad_filter_ends_the_subscription),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
