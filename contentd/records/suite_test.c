/*
 * The cases of containerd's unit tests of its metadata, through the services: images, containers, leases,
 * namespaces. One test for each of theirs; its cases are the rows of a table. docs/conformance.md lists them.
 */
#include "base/clock.h"
#include "contentd/records/suite.h"
#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/leases.pb-c.h"
#include "rpc/proto/namespaces.pb-c.h"
#include "rpc/proto/sandbox.pb-c.h"
#include "rpc/proto/snapshots.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define IMAGES(method, req, rsp) world_call(w, &images__images__descriptor, method, (req), (rsp))
#define CONTAINERS(method, req, rsp) world_call(w, &containers__containers__descriptor, method, (req), (rsp))
#define SANDBOXES(method, req, rsp) world_call(w, &sandbox__store__descriptor, method, (req), (rsp))

/* ---- images ---- */

struct image {
	const char *labels, *annotations, *digest;
	int64_t size;
	const char *type;
};

static Images__Image *image_new(struct world *w, const char *name, const struct image *from)
{
	Images__Image *i = pb_new(&w->a, &images__image__descriptor);

	i->name = name;
	WORLD_KVS(w, i, labels, from->labels);
	if (!from->digest)
		return i;
	i->target = pb_new(&w->a, &types__descriptor__descriptor);
	i->target->digest = from->digest;
	i->target->size = from->size;
	i->target->media_type = from->type;
	WORLD_KVS(w, i->target, annotations, from->annotations);
	return i;
}

static int image_create(struct world *w, const char *name, const struct image *from)
{
	Images__CreateImageRequest req = IMAGES__CREATE_IMAGE_REQUEST__INIT;

	req.image = image_new(w, name, from);
	return IMAGES("Create", &req, NULL);
}

static Images__Image *image_get(struct world *w, const char *name)
{
	Images__GetImageRequest req = IMAGES__GET_IMAGE_REQUEST__INIT;
	Images__GetImageResponse *rsp = NULL;

	req.name = name;
	OK(IMAGES("Get", &req, &rsp));
	return rsp->image;
}

static void expect_image(struct world *w, const char *name, const Images__Image *got, const struct image *want)
{
	suite_expect_text(name, "labels", world_kvs_text(w, got->labels, got->n_labels), want->labels);
	suite_expect_text(name, "annotations", world_kvs_text(w, got->target->annotations, got->target->n_annotations),
	                  want->annotations);
	suite_expect_text(name, "digest", got->target->digest, want->digest);
	suite_expect_text(name, "media type", got->target->media_type, want->type);
	assert_int_equal(got->target->size, want->size);
}

/* TestImagesCreateUpdateDelete */
static void images_create_update_delete(void **state)
{
	static const struct {
		const char *name;
		struct image original;
		int create;
		struct image input;
		const char *mask;
		int update;
		struct image after;
	} rows[] = {
#define BASE {"foo=bar baz=boo", "a=1 b=2", SHA_A, 10, "t"}
#define SORTED                                                                                                         \
	{                                                                                                              \
		"baz=boo foo=bar", "a=1 b=2", SHA_A, 10, "t"                                                           \
	}
	    {"Touch", BASE, 0, BASE, NULL, 0, SORTED},
	    {"NoTarget", {"a=1", "", NULL, 0, NULL}, ERR_INVALID},
	    {"ReplaceLabels",
	     BASE,
	     0,
	     {"for=bar boo=boo", "a=1 b=2", SHA_A, 10, "t"},
	     NULL,
	     0,
	     {"boo=boo for=bar", "a=1 b=2", SHA_A, 10, "t"}},
	    {"ReplaceLabelsFieldPath",
	     BASE,
	     0,
	     {"for=bar boo=boo", "x=1", SHA_B, 20, "u"},
	     "labels",
	     0,
	     {"boo=boo for=bar", "a=1 b=2", SHA_A, 10, "t"}},
	    {"ReplaceLabelsAnnotationsFieldPath",
	     BASE,
	     0,
	     {"for=bar", "x=1", SHA_B, 20, "u"},
	     "annotations,labels",
	     0,
	     {"for=bar", "x=1", SHA_A, 10, "t"}},
	    {"ReplaceLabel",
	     BASE,
	     0,
	     {"foo=baz baz=bunk", "", SHA_A, 10, "t"},
	     "labels.foo",
	     0,
	     {"baz=boo foo=baz", "a=1 b=2", SHA_A, 10, "t"}},
	    {"ReplaceAnnotation",
	     BASE,
	     0,
	     {"foo=baz", "a=9 b=8", SHA_A, 10, "t"},
	     "annotations.a",
	     0,
	     {"baz=boo foo=bar", "a=9 b=2", SHA_A, 10, "t"}},
	    {"ReplaceTarget",
	     BASE,
	     0,
	     {"x=y", "c=3", SHA_B, 20, "u"},
	     "target",
	     0,
	     {"baz=boo foo=bar", "c=3", SHA_B, 20, "u"}},
	    {"ReplaceTargetAsUnit", BASE, 0, {"", "", SHA_B, 20, ""}, "target", ERR_INVALID},
	    {"PartOfTarget", BASE, 0, {"", "", SHA_B, 20, "u"}, "target.size", ERR_INVALID},
	    {"EmptySize", {"", "", SHA_A, 0, "t"}, ERR_INVALID},
	    {"EmptySizeOnUpdate", BASE, 0, {"", "", SHA_B, 0, "t"}, NULL, ERR_INVALID},
	    {"EmptyMediaType", {"", "", SHA_A, 10, ""}, ERR_INVALID},
	    {"EmptyMediaTypeOnUpdate", BASE, 0, {"", "", SHA_B, 10, ""}, NULL, ERR_INVALID},
	    {"TryUpdateNameFail", BASE, 0, BASE, "name", ERR_INVALID},
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		Images__UpdateImageRequest req = IMAGES__UPDATE_IMAGE_REQUEST__INIT;
		Images__DeleteImageRequest del = IMAGES__DELETE_IMAGE_REQUEST__INIT;
		Images__UpdateImageResponse *rsp = NULL;
		const char *name = rows[i].name;
		Images__Image *before, *after;

		suite_expect_code(w, name, "create", image_create(w, name, &rows[i].original), rows[i].create);
		if (rows[i].create)
			continue;
		before = image_get(w, name);
		assert_int_equal(suite_ns_of(before->created_at), suite_ns_of(before->updated_at));
		req.image = image_new(w, name, &rows[i].input);
		req.update_mask = suite_mask_of(w, rows[i].mask);
		suite_expect_code(w, name, "update", IMAGES("Update", &req, &rsp), rows[i].update);
		after = image_get(w, name);
		if (rows[i].update) { /* as if nothing had been said */
			assert_int_equal(suite_ns_of(after->updated_at), suite_ns_of(before->updated_at));
			expect_image(w, name, after, &(struct image)SORTED);
		} else {
			expect_image(w, name, rsp->image, &rows[i].after);
			expect_image(w, name, after, &rows[i].after);
			assert_int_equal(suite_ns_of(after->created_at), suite_ns_of(before->created_at));
			assert_true(suite_ns_of(after->updated_at) > suite_ns_of(before->updated_at));
		}
		del.name = name;
		OK(IMAGES("Delete", &del, NULL));
		FAILS(IMAGES("Delete", &del, NULL), ERR_NOT_FOUND);
		FAILS(IMAGES("Update", &req, NULL), ERR_NOT_FOUND);
	}
#undef BASE
#undef SORTED
}

/* TestImagesList */
static void images_list(void **state)
{
	static const struct suite_list_row rows[] = {
	    {"FullSet", "", "image-1 image-2 image-3 image-4 "},
	    {"FullSetFiltered", "labels.a;labels.b", "image-1 image-2 image-3 image-4 "},
	    {"ByName", "name==image-2", "image-2 "},
	    {"ByRegexp", "name~=image-[13]$", "image-1 image-3 "},
	    {"OneOrOther", "name==image-1;name==image-4", "image-1 image-4 "},
	    {"ByLabel", "labels.a==1", "image-1 image-3 "},
	    {"NotByLabel", "labels.a!=1", "image-2 image-4 "},
	    {"ByMediaType", "target.mediatype==odd", "image-1 image-3 "},
	    {"ByDigest", "target.digest==" SHA_B, "image-2 image-4 "},
	    {"ByAnnotation", "annotations.x", "image-4 "},
	    {"All", "labels.b==1,target.mediatype==even,name!=image-4", "image-2 "},
	    {"None", "name==none", ""},
	};
	Images__ListImagesRequest req = IMAGES__LIST_IMAGES_REQUEST__INIT;
	Images__DeleteImageRequest del = IMAGES__DELETE_IMAGE_REQUEST__INIT;
	Images__ListImagesResponse *rsp = NULL;
	struct world *w = *state;
	const char *got;

	for (int i = 1; i <= 4; i++)
		OK(image_create(w, arena_printf(&w->a, "image-%d", i),
		                &(struct image){i % 2 ? "a=1" : "b=1", i == 4 ? "x=y" : "", i % 2 ? SHA_A : SHA_B, 1,
		                                i % 2 ? "odd" : "even"}));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		req.filters = suite_filters_of(w, rows[i].filters, &req.n_filters);
		OK(IMAGES("List", &req, &rsp));
		SUITE_NAMES_OF(got, rsp->images, rsp->n_images, name);
		suite_expect_text(rows[i].name, "the list", got, rows[i].want);
	}
	for (int i = 1; i <= 4; i++) {
		del.name = arena_printf(&w->a, "image-%d", i);
		OK(IMAGES("Delete", &del, NULL));
	}
	req.n_filters = 0;
	OK(IMAGES("List", &req, &rsp));
	assert_int_equal(rsp->n_images, 0);
}

/* ---- containers ---- */

struct container {
	const char *labels, *image, *runtime, *spec, *snapshotter, *key, *extensions;
};

static Containers__Container *container_new(struct world *w, const char *id, const struct container *from)
{
	Containers__Container *c = pb_new(&w->a, &containers__container__descriptor);

	c->id = id;
	c->image = from->image;
	c->snapshotter = from->snapshotter;
	c->snapshot_key = from->key;
	c->runtime = pb_new(&w->a, &containers__container__runtime__descriptor);
	c->runtime->name = from->runtime;
	if (*from->spec)
		c->spec = suite_any(w, from->spec);
	WORLD_KVS(w, c, labels, from->labels);
	c->extensions = suite_extensions_of(w, from->extensions, &c->n_extensions);
	return c;
}

static Containers__Container *container_get(struct world *w, const char *id)
{
	Containers__GetContainerRequest req = CONTAINERS__GET_CONTAINER_REQUEST__INIT;
	Containers__GetContainerResponse *rsp = NULL;

	req.id = id;
	OK(CONTAINERS("Get", &req, &rsp));
	return rsp->container;
}

static void expect_container(struct world *w, const char *name, const Containers__Container *got,
                             const struct container *want)
{
	suite_expect_text(name, "labels", world_kvs_text(w, got->labels, got->n_labels), want->labels);
	suite_expect_text(name, "image", got->image, want->image);
	suite_expect_text(name, "runtime", got->runtime->name, want->runtime);
	suite_expect_text(name, "spec", got->spec->type_url, want->spec);
	suite_expect_text(name, "snapshotter", got->snapshotter, want->snapshotter);
	suite_expect_text(name, "snapshot key", got->snapshot_key, want->key);
	suite_expect_text(name, "extensions", suite_extensions_text(w, got->extensions, got->n_extensions),
	                  want->extensions);
}

/* TestContainersCreateUpdateDelete */
static void containers_create_update_delete(void **state)
{
	static const struct {
		const char *name;
		struct container original;
		int create;
		struct container input;
		const char *mask;
		int update;
		struct container after;
	} rows[] = {
#define BASE {"a=1 b=2", "img", "rt", "spec", "snap", "key", "one=1 two=2"}
#define WITH(labels, image, spec, key, extensions)                                                                     \
	{                                                                                                              \
		labels, image, "rt", spec, "snap", key, extensions                                                     \
	}
	    {"NoRuntime", {"", "", "", "spec", "", "", ""}, ERR_INVALID},
	    {"NoSpec", {"", "", "rt", "", "", "", ""}, ERR_INVALID},
	    {"KeyWithoutSnapshotter", {"", "", "rt", "spec", "", "key", ""}, ERR_INVALID},
	    {"ExtensionWithoutKey", {"", "", "rt", "spec", "", "", "=x"}, ERR_INVALID},
	    {"UpdateIDFail", BASE, 0, BASE, "id", ERR_INVALID},
	    {"UpdateRuntimeFail", BASE, 0, {"a=1 b=2", "img", "other", "spec", "snap", "key", ""}, NULL, ERR_INVALID},
	    {"UpdateRuntimeFieldPathFail", BASE, 0, BASE, "runtime", ERR_INVALID},
	    {"UpdateRuntimeClearFail", BASE, 0, {"", "img", "", "spec", "snap", "key", ""}, NULL, ERR_INVALID},
	    {"UpdateSpec", BASE, 0, WITH("x=1", "other", "new", "k2", ""), "spec", 0,
	     WITH("a=1 b=2", "img", "new", "key", "one=1 two=2")},
	    {"UpdateSnapshotKey", BASE, 0, WITH("x=1", "other", "new", "k2", ""), "snapshotkey", 0,
	     WITH("a=1 b=2", "img", "spec", "k2", "one=1 two=2")},
	    {"UpdateSnapshotKeyOtherSpelling", BASE, 0, BASE, "snapshot_key", ERR_INVALID},
	    {"UpdateImage", BASE, 0, WITH("x=1", "other", "new", "k2", ""), "image", 0,
	     WITH("a=1 b=2", "other", "spec", "key", "one=1 two=2")},
	    {"UpdateLabels", BASE, 0, WITH("x=1 y=2", "img", "spec", "key", ""), "labels", 0,
	     WITH("x=1 y=2", "img", "spec", "key", "one=1 two=2")},
	    {"DeleteAllLabels", BASE, 0, WITH("", "img", "spec", "key", ""), "labels", 0,
	     WITH("", "img", "spec", "key", "one=1 two=2")},
	    {"DeleteLabel", BASE, 0, WITH("b=2", "img", "spec", "key", ""), "labels.a", 0,
	     WITH("b=2", "img", "spec", "key", "one=1 two=2")},
	    {"UpdateLabel", BASE, 0, WITH("a=9 b=9", "img", "spec", "key", ""), "labels.a", 0,
	     WITH("a=9 b=2", "img", "spec", "key", "one=1 two=2")},
	    {"UpdateSnapshotterImmutable", BASE, 0, {"", "img", "rt", "spec", "other", "key", ""}, NULL, ERR_INVALID},
	    {"UpdateSnapshotterFieldPath", BASE, 0, BASE, "snapshotter", ERR_INVALID},
	    {"UpdateKeyWithoutSnapshotter",
	     {"", "img", "rt", "spec", "", "", ""},
	     0,
	     {"", "img", "rt", "spec", "", "key", ""},
	     "snapshotkey",
	     ERR_INVALID},
	    {"UpdateEverything", BASE, 0, WITH("z=1", "other", "new", "k2", "three=3"), NULL, 0,
	     WITH("z=1", "other", "new", "k2", "three=3")},
	    {"UpdateExtensionsFull", BASE, 0, WITH("", "", "spec", "", "three=3"), "extensions", 0,
	     WITH("a=1 b=2", "img", "spec", "key", "three=3")},
	    {"UpdateExtensionsNotInFieldpath", BASE, 0, WITH("q=1", "img", "spec", "key", "three=3"), "labels", 0,
	     WITH("q=1", "img", "spec", "key", "one=1 two=2")},
	    {"UpdateExtensionsFieldPath", BASE, 0, WITH("q=1", "x", "x", "x", "one=9 three=3"), "extensions.three", 0,
	     WITH("a=1 b=2", "img", "spec", "key", "one=1 two=2 three=3")},
	    {"UpdateExtensionsFieldPathIsolated", BASE, 0, WITH("", "", "spec", "", "one=9 two=9"), "extensions.two", 0,
	     WITH("a=1 b=2", "img", "spec", "key", "one=1 two=9")},
	    {"DeleteExtensionFieldPath", BASE, 0, WITH("", "", "spec", "", ""), "extensions.one", 0,
	     WITH("a=1 b=2", "img", "spec", "key", "two=2")},
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		Containers__CreateContainerRequest create = CONTAINERS__CREATE_CONTAINER_REQUEST__INIT;
		Containers__UpdateContainerRequest req = CONTAINERS__UPDATE_CONTAINER_REQUEST__INIT;
		Containers__DeleteContainerRequest del = CONTAINERS__DELETE_CONTAINER_REQUEST__INIT;
		Containers__UpdateContainerResponse *rsp = NULL;
		const char *name = rows[i].name;
		Containers__Container *before, *after;

		create.container = container_new(w, name, &rows[i].original);
		suite_expect_code(w, name, "create", CONTAINERS("Create", &create, NULL), rows[i].create);
		if (rows[i].create)
			continue;
		FAILS(CONTAINERS("Create", &create, NULL), ERR_EXISTS);
		before = container_get(w, name);
		assert_int_equal(suite_ns_of(before->created_at), suite_ns_of(before->updated_at));
		req.container = container_new(w, name, &rows[i].input);
		req.update_mask = suite_mask_of(w, rows[i].mask);
		suite_expect_code(w, name, "update", CONTAINERS("Update", &req, &rsp), rows[i].update);
		after = container_get(w, name);
		expect_container(w, name, after, rows[i].update ? &rows[i].original : &rows[i].after);
		if (rows[i].update == 0)
			expect_container(w, name, rsp->container, &rows[i].after);
		assert_int_equal(suite_ns_of(after->created_at), suite_ns_of(before->created_at));
		assert_int_equal(suite_ns_of(after->updated_at) > suite_ns_of(before->updated_at), rows[i].update == 0);
		del.id = name;
		OK(CONTAINERS("Delete", &del, NULL));
		FAILS(CONTAINERS("Delete", &del, NULL), ERR_NOT_FOUND);
		FAILS(CONTAINERS("Update", &req, NULL), ERR_NOT_FOUND);
	}
#undef BASE
#undef WITH
}

/* TestContainersList */
static void containers_list(void **state)
{
	static const struct suite_list_row rows[] = {
	    {"FullSet", "", "c-1 c-2 c-3 c-4 "},      {"FullSetFiltered", "labels.odd;labels.even", "c-1 c-2 c-3 c-4 "},
	    {"Even", "labels.even", "c-2 c-4 "},      {"EvenByValue", "labels.even==true", "c-2 c-4 "},
	    {"Odd", "labels.even!=true", "c-1 c-3 "}, {"ById", "id==c-3", "c-3 "},
	    {"ByIds", "id==c-3;id==c-1", "c-1 c-3 "}, {"NotById", "id!=c-3", "c-1 c-2 c-4 "},
	    {"ByRegexp", "id~=c-[24]", "c-2 c-4 "},   {"ByRuntime", "runtime.name==rt-4", "c-4 "},
	    {"ByImage", "image==img-1", "c-1 "},      {"None", "id==none", ""},
	};
	Containers__ListContainersRequest req = CONTAINERS__LIST_CONTAINERS_REQUEST__INIT;
	Containers__ListContainersResponse *rsp = NULL;
	struct world *w = *state;
	const char *got;
	void **messages;
	size_t n;

	for (int i = 1; i <= 4; i++) {
		Containers__CreateContainerRequest create = CONTAINERS__CREATE_CONTAINER_REQUEST__INIT;
		struct container c = {i % 2 ? "odd=true" : "even=true",
		                      arena_printf(&w->a, "img-%d", i),
		                      arena_printf(&w->a, "rt-%d", i),
		                      "spec",
		                      "",
		                      "",
		                      ""};

		create.container = container_new(w, arena_printf(&w->a, "c-%d", i), &c);
		OK(CONTAINERS("Create", &create, NULL));
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		req.filters = suite_filters_of(w, rows[i].filters, &req.n_filters);
		OK(CONTAINERS("List", &req, &rsp));
		SUITE_NAMES_OF(got, rsp->containers, rsp->n_containers, id);
		suite_expect_text(rows[i].name, "the list", got, rows[i].want);
		OK(world_stream(w, &containers__containers__descriptor, "ListStream", &req,
		                &containers__list_container_message__descriptor, &messages, &n));
		assert_int_equal(n, rsp->n_containers);
	}
}

/* ---- leases ---- */

/* TestLeasesList */
static void leases_list(void **state)
{
	static const struct suite_list_row rows[] = {
	    {"All", "", "lease1 lease2 lease3 lease4 "},          {"ID", "id==lease1", "lease1 "},
	    {"IDx2", "id==lease1;id==lease2", "lease1 lease2 "},  {"Label1", "labels.label1", "lease1 lease4 "},
	    {"Label1value1", "labels.label1==value1", "lease1 "}, {"Label1value2", "labels.label1==value2", "lease4 "},
	    {"Label1value3", "labels.label1==value3", ""},        {"Label3", "labels.label3", "lease3 lease4 "},
	};
	static const char *const labels[] = {"label1=value1", "label2=value2", "label3=value3",
	                                     "label1=value2 label3=v"};
	Leases__ListRequest req = LEASES__LIST_REQUEST__INIT;
	Leases__ListResponse *rsp = NULL;
	struct world *w = *state;
	const char *got;

	for (int i = 0; i < 4; i++) {
		Leases__CreateRequest create = LEASES__CREATE_REQUEST__INIT;

		create.id = arena_printf(&w->a, "lease%d", i + 1);
		WORLD_KVS(w, &create, labels, labels[i]);
		OK(world_call(w, &leases__leases__descriptor, "Create", &create, NULL));
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		req.filters = suite_filters_of(w, rows[i].filters, &req.n_filters);
		OK(world_call(w, &leases__leases__descriptor, "List", &req, &rsp));
		SUITE_NAMES_OF(got, rsp->leases, rsp->n_leases, id);
		suite_expect_text(rows[i].name, "the list", got, rows[i].want);
	}
}

/* ---- namespaces ---- */

static int ns_delete(struct world *w, const char *name)
{
	Namespaces__DeleteNamespaceRequest req = NAMESPACES__DELETE_NAMESPACE_REQUEST__INIT;

	req.name = name;
	return world_call(w, &namespaces__namespaces__descriptor, "Delete", &req, NULL);
}

/* One object of a kind in the namespace "ns". */
static void add_image(struct world *w)
{
	OK(image_create(w, "img", &(struct image){"", "", SHA_A, 1, "t"}));
}

static void remove_image(struct world *w)
{
	Images__DeleteImageRequest req = IMAGES__DELETE_IMAGE_REQUEST__INIT;

	req.name = "img";
	OK(IMAGES("Delete", &req, NULL));
}

static void add_container(struct world *w)
{
	Containers__CreateContainerRequest req = CONTAINERS__CREATE_CONTAINER_REQUEST__INIT;

	req.container = container_new(w, "c", &(struct container){"", "", "rt", "spec", "", "", ""});
	OK(CONTAINERS("Create", &req, NULL));
}

static void remove_container(struct world *w)
{
	Containers__DeleteContainerRequest req = CONTAINERS__DELETE_CONTAINER_REQUEST__INIT;

	req.id = "c";
	OK(CONTAINERS("Delete", &req, NULL));
}

static void add_snapshot(struct world *w)
{
	Snapshots__PrepareSnapshotRequest req = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;

	req.snapshotter = "overlayfs";
	req.key = "k";
	OK(world_call(w, &snapshots__snapshots__descriptor, "Prepare", &req, NULL));
}

static void remove_snapshot(struct world *w)
{
	Snapshots__RemoveSnapshotRequest req = SNAPSHOTS__REMOVE_SNAPSHOT_REQUEST__INIT;

	req.snapshotter = "overlayfs";
	req.key = "k";
	OK(world_call(w, &snapshots__snapshots__descriptor, "Remove", &req, NULL));
}

static void add_lease_and_ingest_and_sandbox(struct world *w)
{
	Leases__CreateRequest lease = LEASES__CREATE_REQUEST__INIT;
	Sandbox__StoreCreateRequest sandbox = SANDBOX__STORE_CREATE_REQUEST__INIT;
	AUTO(cd_writer) struct cd_writer *writer = NULL;
	Types__Sandbox s = TYPES__SANDBOX__INIT;

	lease.id = "l";
	OK(world_call(w, &leases__leases__descriptor, "Create", &lease, NULL));
	s.sandbox_id = "s";
	sandbox.sandbox = &s;
	OK(SANDBOXES("Create", &sandbox, NULL));
	OK(cd_writer_open(w->d->content, "ns", "r", 0, "", &writer, &w->err));
}

/* TestCreateDelete */
static void namespaces_create_delete(void **state)
{
	static const struct {
		const char *noun;
		void (*add)(struct world *w), (*remove)(struct world *w);
	} rows[] = {{"images", add_image, remove_image},
	            {"containers", add_container, remove_container},
	            {"snapshots", add_snapshot, remove_snapshot}};
	Namespaces__CreateNamespaceRequest req = NAMESPACES__CREATE_NAMESPACE_REQUEST__INIT;
	Namespaces__Namespace n = NAMESPACES__NAMESPACE__INIT;
	Leases__ListRequest leases = LEASES__LIST_REQUEST__INIT;
	Leases__ListResponse *rsp = NULL;
	struct world *w = *state;

	n.name = "ns";
	req.namespace_ = &n;
	FAILS(ns_delete(w, "ns"), ERR_NOT_FOUND);
	OK(world_call(w, &namespaces__namespaces__descriptor, "Create", &req, NULL));
	OK(ns_delete(w, "ns")); /* empty */
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		rows[i].add(w); /* which makes the namespace */
		FAILS(ns_delete(w, "ns"), ERR_PRECONDITION);
		if (!strstr(w->err.msg, rows[i].noun))
			fail_msg("%s does not tell of %s", w->err.msg, rows[i].noun);
		rows[i].remove(w);
		OK(ns_delete(w, "ns"));
		FAILS(ns_delete(w, "ns"), ERR_NOT_FOUND);
	}
	/* These are in nobody's way, and do not come back with the name. */
	add_lease_and_ingest_and_sandbox(w);
	OK(ns_delete(w, "ns"));
	OK(world_call(w, &namespaces__namespaces__descriptor, "Create", &req, NULL));
	OK(world_call(w, &leases__leases__descriptor, "List", &leases, &rsp));
	assert_int_equal(rsp->n_leases, 0);
	FAILS(cd_ingest_abort(w->d->content, "ns", "r", NULL), ERR_NOT_FOUND);
	add_lease_and_ingest_and_sandbox(w); /* no duplicate */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(images_create_update_delete),
	    TEST(images_list),
	    TEST(containers_create_update_delete),
	    TEST(containers_list),
	    TEST(leases_list),
	    TEST(namespaces_create_delete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
