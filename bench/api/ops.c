#include "bench/api/ops.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/random.h"
#include "rpc/pb.h"
#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/content.pb-c.h"
#include "rpc/proto/events.pb-c.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/leases.pb-c.h"
#include "rpc/proto/snapshots.pb-c.h"
#include "rpc/proto/version.pb-c.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_BYTES (1u << 20) /* what containerd's clients send and read at a time */
#define NAME_MAX_BYTES 96
#define SNAPSHOTTER "overlayfs"

/* Clients protect what they made by a lease or by this label; else the collector may take it at any time. */
static Kv__Entry gc_root = {PROTOBUF_C_MESSAGE_INIT(&kv__entry__descriptor), "containerd.io/gc.root", "bench"};
static Kv__Entry *gc_root_list[] = {&gc_root};

struct op_data {
	char bytes[CHUNK_BYTES];
};

struct op_data *op_data_new(void)
{
	struct op_data *d = xmalloc(sizeof(*d));

	random_bytes(d->bytes, sizeof(d->bytes));
	return d;
}

void op_data_free(struct op_data *d)
{
	free(d);
}

/* ---- helpers ---- */

static const char *name_of(const struct op_client *c, char dst[static NAME_MAX_BYTES])
{
	snprintf(dst, NAME_MAX_BYTES, "%s-%" PRIu64, c->prefix, c->serial);
	return dst;
}

/* A unary call, and how long it took. */
static int timed(struct op_client *c, const ProtobufCServiceDescriptor *svc, const char *method,
                 const ProtobufCMessage *req, int64_t *ns, struct err *err)
{
	AUTO(pb) ProtobufCMessage *rsp = NULL;
	int64_t begin = clock_mono_ns();
	int r = rpc_call(c->rpc, svc, method, NULL, req, &rsp, err);

	*ns = clock_mono_ns() - begin;
	return r;
}

/* ---- reading records ---- */

static int version(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	Pb__Empty req = PB__EMPTY__INIT;

	return timed(c, &version__version__descriptor, "Version", &req.base, &ns[0], err);
}

static const char *image_name(unsigned i, char dst[static NAME_MAX_BYTES])
{
	snprintf(dst, NAME_MAX_BYTES, "registry.example/bench/image:%u", i);
	return dst;
}

static int images_get(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	Images__GetImageRequest req = IMAGES__GET_IMAGE_REQUEST__INIT;
	char name[NAME_MAX_BYTES];

	req.name = image_name((unsigned)(c->serial % OP_IMAGES), name);
	return timed(c, &images__images__descriptor, "Get", &req.base, &ns[0], err);
}

static int images_list(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	Images__ListImagesRequest req = IMAGES__LIST_IMAGES_REQUEST__INIT;

	return timed(c, &images__images__descriptor, "List", &req.base, &ns[0], err);
}

static int image_setup(struct rpc_client *c, unsigned i, struct err *err)
{
	Images__CreateImageRequest req = IMAGES__CREATE_IMAGE_REQUEST__INIT;
	Images__Image image = IMAGES__IMAGE__INIT;
	Types__Descriptor target = TYPES__DESCRIPTOR__INIT;
	char name[NAME_MAX_BYTES], digest[DIGEST_TEXT_MAX];
	struct digest d;
	struct err why = ERR_INIT;

	image.name = image_name(i, name);
	digest_of(name, strlen(name), &d);
	target.media_type = "application/vnd.oci.image.manifest.v1+json";
	target.digest = digest_text(&d, digest);
	target.size = 1000;
	image.target = &target;
	req.image = &image;
	if (rpc_call(c, &images__images__descriptor, "Create", NULL, &req.base, NULL, &why) < 0 &&
	    why.code != ERR_EXISTS)
		return err_set(err, why.code, "%s", why.msg);
	return 0;
}

/* ---- content ---- */

static int exchange(struct rpc_stream *s, const Content__WriteContentRequest *req, Content__WriteContentResponse **rsp,
                    struct err *err)
{
	int r;

	TRY(rpc_stream_send(s, &req->base, err));
	r = rpc_stream_recv(s, INT64_MAX, rsp, err);
	return r == RPC_END ? err_set(err, ERR_INTERNAL, "the server has ended the write") : r;
}

/* As containerd's writer: a question where the ingest stands, chunks that are answered one by one, the commit. The blob
 * is new by its first bytes. */
static int write_blob(struct rpc_client *c, const char *ref, struct op_data *d, int64_t total, bool keep,
                      char digest[static DIGEST_TEXT_MAX], struct err *err)
{
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	AUTO(pb) Content__WriteContentResponse *last = NULL;
	Content__WriteContentRequest req = CONTENT__WRITE_CONTENT_REQUEST__INIT;
	int64_t at = 0;
	int r;

	snprintf(d->bytes, NAME_MAX_BYTES, "%s", ref);
	req.ref = ref;
	req.total = total;
	TRY(rpc_stream_open(c, &content__content__descriptor, "Write", NULL, &s, err));
	TRY(exchange(s, &req, &last, err));
	while (at < total) {
		int64_t n = total - at < CHUNK_BYTES ? total - at : CHUNK_BYTES;

		req.action = CONTENT__WRITE_ACTION__WRITE;
		req.offset = at;
		req.data = (ProtobufCBinaryData){(size_t)n, (uint8_t *)d->bytes};
		pb_free(STEAL(last));
		TRY(exchange(s, &req, &last, err));
		at += n;
	}
	req.action = CONTENT__WRITE_ACTION__COMMIT;
	req.offset = total;
	req.data = (ProtobufCBinaryData){0, NULL};
	req.labels = gc_root_list;
	req.n_labels = keep;
	pb_free(STEAL(last));
	TRY(exchange(s, &req, &last, err));
	snprintf(digest, DIGEST_TEXT_MAX, "%s", last->digest);
	TRY(rpc_stream_close_send(s, err));
	/* containerd repeats its last answer when the client has closed its side. */
	do {
		pb_free(STEAL(last));
		r = rpc_stream_recv(s, INT64_MAX, &last, err);
	} while (r == RPC_MESSAGE);
	return r;
}

static int write_timed(struct op_client *c, int64_t total, int64_t *ns, struct err *err)
{
	Content__DeleteContentRequest req = CONTENT__DELETE_CONTENT_REQUEST__INIT;
	char ref[NAME_MAX_BYTES], digest[DIGEST_TEXT_MAX];
	struct err why = ERR_INIT;
	int64_t begin = clock_mono_ns();

	TRY(write_blob(c->rpc, name_of(c, ref), c->data, total, false, digest, err));
	*ns = clock_mono_ns() - begin;
	req.digest = digest;
	/* The collector may have been faster. */
	if (rpc_call(c->rpc, &content__content__descriptor, "Delete", NULL, &req.base, NULL, &why) < 0 &&
	    why.code != ERR_NOT_FOUND)
		return err_set(err, why.code, "%s", why.msg);
	return 0;
}

static int write_1k(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	return write_timed(c, 1 << 10, &ns[0], err);
}

static int write_1m(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	return write_timed(c, 1 << 20, &ns[0], err);
}

static int write_64m(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	return write_timed(c, 64 << 20, &ns[0], err);
}

static char blob_1m[DIGEST_TEXT_MAX], blob_64m[DIGEST_TEXT_MAX];

static int read_blob(struct op_client *c, const char *digest, int64_t total, int64_t *ns, struct err *err)
{
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	Content__ReadContentRequest req = CONTENT__READ_CONTENT_REQUEST__INIT;
	int64_t begin = clock_mono_ns(), got = 0;
	int r;

	req.digest = digest;
	TRY(rpc_stream_open(c->rpc, &content__content__descriptor, "Read", NULL, &s, err));
	TRY(rpc_stream_send(s, &req.base, err));
	TRY(rpc_stream_close_send(s, err));
	for (;;) {
		AUTO(pb) Content__ReadContentResponse *rsp = NULL;

		r = rpc_stream_recv(s, INT64_MAX, &rsp, err);
		if (r != RPC_MESSAGE)
			break;
		got += (int64_t)rsp->data.len;
	}
	*ns = clock_mono_ns() - begin;
	if (r >= 0 && got != total)
		return err_set(err, ERR_DATA_LOSS, "read %" PRId64 " bytes of %" PRId64, got, total);
	return r;
}

static int read_1m(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	return read_blob(c, blob_1m, 1 << 20, &ns[0], err);
}

static int read_64m(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	return read_blob(c, blob_64m, 64 << 20, &ns[0], err);
}

/* The same bytes for every daemon; one that has them from another run keeps them. */
static int blob_setup(struct rpc_client *c, const char *ref, int64_t total, char digest[static DIGEST_TEXT_MAX],
                      struct err *err)
{
	AUTO(op_data) struct op_data *d = xcalloc(1, sizeof(*d));
	struct err why = ERR_INIT;
	char got[DIGEST_TEXT_MAX];
	AUTO(hasher) struct hasher *h = hasher_new();
	struct digest want;

	snprintf(d->bytes, NAME_MAX_BYTES, "%s", ref);
	for (int64_t at = 0; at < total; at += CHUNK_BYTES)
		hasher_add(h, d->bytes, CHUNK_BYTES);
	hasher_done(h, &want);
	digest_text(&want, digest);
	if (write_blob(c, ref, d, total, true, got, &why) < 0 && why.code != ERR_EXISTS)
		return err_set(err, why.code, "%s", why.msg);
	return 0;
}

/* ---- creating and removing records ---- */

static int lease(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	Leases__CreateRequest create = LEASES__CREATE_REQUEST__INIT;
	Leases__DeleteRequest delete = LEASES__DELETE_REQUEST__INIT;
	char name[NAME_MAX_BYTES];

	create.id = delete.id = name_of(c, name);
	TRY(timed(c, &leases__leases__descriptor, "Create", &create.base, &ns[0], err));
	return timed(c, &leases__leases__descriptor, "Delete", &delete.base, &ns[1], err);
}

static int snapshot(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	Snapshots__PrepareSnapshotRequest prepare = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;
	Snapshots__RemoveSnapshotRequest remove = SNAPSHOTS__REMOVE_SNAPSHOT_REQUEST__INIT;
	char name[NAME_MAX_BYTES];

	prepare.snapshotter = remove.snapshotter = SNAPSHOTTER;
	prepare.key = remove.key = name_of(c, name);
	prepare.labels = gc_root_list;
	prepare.n_labels = 1;
	TRY(timed(c, &snapshots__snapshots__descriptor, "Prepare", &prepare.base, &ns[0], err));
	return timed(c, &snapshots__snapshots__descriptor, "Remove", &remove.base, &ns[1], err);
}

static int container(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	Containers__CreateContainerRequest create = CONTAINERS__CREATE_CONTAINER_REQUEST__INIT;
	Containers__DeleteContainerRequest delete = CONTAINERS__DELETE_CONTAINER_REQUEST__INIT;
	Containers__Container m = CONTAINERS__CONTAINER__INIT;
	Containers__Container__Runtime runtime = CONTAINERS__CONTAINER__RUNTIME__INIT;
	Pb__Any spec = PB__ANY__INIT;
	static char json[4096]; /* about what an OCI spec has */
	char name[NAME_MAX_BYTES];

	runtime.name = "io.containerd.runc.v2";
	spec.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
	spec.value = (ProtobufCBinaryData){sizeof(json), (uint8_t *)json};
	m.id = delete.id = name_of(c, name);
	m.runtime = &runtime;
	m.spec = &spec;
	create.container = &m;
	TRY(timed(c, &containers__containers__descriptor, "Create", &create.base, &ns[0], err));
	return timed(c, &containers__containers__descriptor, "Delete", &delete.base, &ns[1], err);
}

static int publish(struct op_client *c, int64_t ns[static OP_PHASES], struct err *err)
{
	Events__PublishRequest req = EVENTS__PUBLISH_REQUEST__INIT;
	Pb__Any event = PB__ANY__INIT;
	char name[NAME_MAX_BYTES], wire[2 + NAME_MAX_BYTES];

	/* containerd.events.NamespaceCreate with its field 1. */
	name_of(c, name);
	event.type_url = "containerd.events.NamespaceCreate";
	event.value.len = (size_t)snprintf(wire, sizeof(wire), "\x0a%c%s", (char)strlen(name), name);
	event.value.data = (uint8_t *)wire;
	req.topic = "/bench/publish";
	req.event = &event;
	return timed(c, &events__events__descriptor, "Publish", &req.base, &ns[0], err);
}

/* ---- tables ---- */

const struct op OPS[] = {
    {"version", {"Version"}, version},
    {"images-get", {"Images.Get"}, images_get},
    {"images-list", {"Images.List of 100"}, images_list},
    {"write-1k", {"Content.Write 1 KiB"}, write_1k},
    {"write-1m", {"Content.Write 1 MiB"}, write_1m},
    {"write-64m", {"Content.Write 64 MiB"}, write_64m, 8},
    {"read-1m", {"Content.Read 1 MiB"}, read_1m},
    {"read-64m", {"Content.Read 64 MiB"}, read_64m, 8},
    {"lease", {"Leases.Create", "Leases.Delete"}, lease},
    {"snapshot", {"Snapshots.Prepare", "Snapshots.Remove"}, snapshot},
    {"container", {"Containers.Create", "Containers.Delete"}, container},
    {"publish", {"Events.Publish"}, publish},
    {"task", {"Tasks.Create", "Tasks.Start", "Tasks.Wait", "Tasks.Delete", "all four"}, op_task, 16, true},
};
const size_t N_OPS = ARRAY_LEN(OPS);

const struct op *op_find(const char *name)
{
	for (size_t i = 0; i < N_OPS; i++)
		if (!strcmp(OPS[i].name, name))
			return &OPS[i];
	return NULL;
}

int ops_setup(struct rpc_client *c, struct err *err)
{
	for (unsigned i = 0; i < OP_IMAGES; i++)
		TRY_WRAP(image_setup(c, i, err), err, "make images");
	TRY_WRAP(blob_setup(c, "bench-blob-1m", 1 << 20, blob_1m, err), err, "make a blob");
	TRY_WRAP(blob_setup(c, "bench-blob-64m", 64 << 20, blob_64m, err), err, "make a blob");
	return 0;
}
