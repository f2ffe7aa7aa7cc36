#include "contentd/transfer/testing.h"

#include "base/clock.h"
#include "estargz/tar/tar_write.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/leases.pb-c.h"
#include "rpc/proto/streaming.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* ---- archives ---- */

void archive_add(struct buf *tar, const char *path, struct str bytes)
{
	struct esgz_entry e = {.type = ESGZ_REG, .mode = 0644, .size = bytes.n, .path = str_of(path)};

	assert_int_equal(tar_write_header(&e, NULL, 0, tar, NULL), 0);
	buf_addstr(tar, bytes);
	tar_write_padding(bytes.n, tar);
}

void archive_add_link(struct buf *tar, const char *path, const char *target)
{
	struct esgz_entry e = {.type = ESGZ_SYMLINK, .mode = 0777, .path = str_of(path), .link = str_of(target)};

	assert_int_equal(tar_write_header(&e, NULL, 0, tar, NULL), 0);
}

void archive_add_dir(struct buf *tar, const char *path)
{
	struct esgz_entry e = {.type = ESGZ_DIR, .mode = 0755, .path = str_of(path)};

	assert_int_equal(tar_write_header(&e, NULL, 0, tar, NULL), 0);
}

void archive_end(struct buf *tar)
{
	buf_addz(tar, 1024);
}

struct blob blob_of(struct world *w, const char *text)
{
	struct digest d;
	char t[DIGEST_TEXT_MAX];

	digest_of(text, strlen(text), &d);
	digest_text(&d, t);
	return (struct blob){text, arena_strdup(&w->a, t), arena_strdup(&w->a, t + 7), strlen(text)};
}

void archive_add_blob(struct world *w, struct buf *tar, struct blob b)
{
	archive_add(tar, arena_printf(&w->a, "blobs/sha256/%s", b.hex), str_make(b.text, b.n));
}

const char *descriptor_of(struct world *w, const char *type, struct blob b, const char *more)
{
	return arena_printf(&w->a, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu%s}", type, b.digest, b.n,
	                    more);
}

struct shape shape_of(struct world *w, const char *text, const char *layer_type, const char *arch)
{
	struct shape s = {.layer = blob_of(w, text)};

	s.config = blob_of(w, arena_printf(&w->a,
	                                   "{\"architecture\":\"%s\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\","
	                                   "\"diff_ids\":[\"%s\"]}}",
	                                   arch, s.layer.digest));
	s.manifest = blob_of(
	    w, arena_printf(&w->a,
	                    "{\"schemaVersion\":2,\"mediaType\":\"" OCI_MANIFEST "\",\"config\":%s,\"layers\":[%s]}",
	                    descriptor_of(w, OCI_CONFIG, s.config, ""), descriptor_of(w, layer_type, s.layer, "")));
	return s;
}

struct shape shape_plain(struct world *w, const char *text)
{
	return shape_of(w, text, OCI_LAYER, "amd64");
}

void archive_add_shape(struct world *w, struct buf *tar, const struct shape *s)
{
	archive_add_blob(w, tar, s->layer);
	archive_add_blob(w, tar, s->config);
	archive_add_blob(w, tar, s->manifest);
}

const char *annotated(struct world *w, const char *annotation, const char *name)
{
	return arena_printf(&w->a, ",\"annotations\":{\"%s\":\"%s\"}", annotation, name);
}

const char *index_of(struct world *w, const char *entries)
{
	return arena_printf(&w->a, "{\"schemaVersion\":2,\"manifests\":[%s]}", entries);
}

void archive_finish_layout(struct buf *tar, const char *index)
{
	archive_add(tar, "index.json", str_of(index));
	archive_add(tar, "oci-layout", STR(OCI_LAYOUT));
	archive_end(tar);
}

void archive_simple(struct world *w, struct buf *tar, const char *more)
{
	struct shape s = shape_plain(w, "layer one");

	archive_add_shape(w, tar, &s);
	archive_finish_layout(tar, index_of(w, descriptor_of(w, OCI_MANIFEST, s.manifest, more)));
}

/* ---- transfers ---- */

struct rpc_stream *transfer_stream(struct world *w, const char *id)
{
	Streaming__StreamInit init = STREAMING__STREAM_INIT__INIT;
	AUTO(pb) Pb__Any *ack = NULL;
	struct rpc_stream *s = NULL;

	init.id = id;
	OK(rpc_stream_open(w->c, &streaming__streaming__descriptor, "Stream", NULL, &s, &w->err));
	OK(rpc_stream_send(s, &pb_any_new(&w->a, &init.base)->base, &w->err));
	assert_int_equal(rpc_stream_recv(s, INT64_MAX, &ack, &w->err), RPC_MESSAGE);
	return s;
}

struct rpc_stream *transfer_begin(struct world *w, const ProtobufCMessage *from, const ProtobufCMessage *to)
{
	Transfer__TransferRequest req = TRANSFER__TRANSFER_REQUEST__INIT;
	struct rpc_stream *s = NULL;

	req.source = pb_any_new(&w->a, from);
	req.destination = pb_any_new(&w->a, to);
	OK(rpc_stream_open(w->c, &transfer__transfer__descriptor, "Transfer", NULL, &s, &w->err));
	OK(rpc_stream_send(s, &req.base, &w->err));
	OK(rpc_stream_close_send(s, &w->err));
	return s;
}

void sender_go_on(struct world *w, struct sender *o)
{
	AUTO(pb) Pb__Any *any = NULL;
	Xfer__WindowUpdate *grant;
	Xfer__Data m = XFER__DATA__INIT;

	while (rpc_stream_try_recv(o->s, &any, NULL) == RPC_MESSAGE) {
		OK(pb_any_unpack_in(&w->a, any, &xfer__window_update__descriptor, &grant, &w->err));
		o->credit += grant->update;
		o->grants++;
		pb_free(STEAL(any));
	}
	while (o->left.n && o->credit > 0) {
		m.data.len = o->left.n < 32768 ? o->left.n : 32768;
		m.data.len = (int64_t)m.data.len < o->credit ? m.data.len : (size_t)o->credit;
		m.data.data = (uint8_t *)o->left.p;
		if (rpc_stream_send(o->s, &pb_any_new(&w->a, &m.base)->base, NULL) < 0)
			return;
		o->left = str_sub(o->left, m.data.len, o->left.n);
		o->credit -= (int64_t)m.data.len;
	}
	if (!o->left.n && !o->closed) {
		o->closed = true;
		rpc_stream_close_send(o->s, NULL);
	}
}

int import_bytes(struct world *w, struct str bytes, const Xfer__ImageStore *store, bool compress)
{
	Xfer__ImageImportStream from = XFER__IMAGE_IMPORT_STREAM__INIT;
	static unsigned serial; /* the daemon may still be busy with the end of an earlier one */
	const char *id = arena_printf(&w->a, "in-%u", serial++);
	AUTO(rpc_stream) struct rpc_stream *in = transfer_stream(w, id);
	struct sender o = {.s = in, .left = bytes};
	int r = RPC_AGAIN;

	from.stream = id;
	from.force_compress = compress;
	AUTO(rpc_stream) struct rpc_stream *t = transfer_begin(w, &from.base, &store->base);

	while (r == RPC_AGAIN) {
		AUTO(pb) Pb__Empty *done = NULL;

		sender_go_on(w, &o);
		w->err = ERR_INIT;
		r = rpc_stream_try_recv(t, &done, &w->err);
		if (r == RPC_AGAIN)
			rpc_client_poll(w->c, NULL, 0, clock_mono_ns() + 20 * NS_PER_MS, NULL);
	}
	return r < 0 ? r : 0;
}

Xfer__ImageStore *store_with_prefix(struct world *w, const char *prefix, bool overwrite)
{
	Xfer__ImageStore *s = pb_new(&w->a, &xfer__image_store__descriptor);
	Xfer__ImageReference *r = pb_new(&w->a, &xfer__image_reference__descriptor);

	r->name = prefix;
	r->is_prefix = true;
	r->allow_overwrite = overwrite;
	s->extra_references = arena_zalloc(&w->a, 1, sizeof(r));
	s->extra_references[0] = r;
	s->n_extra_references = 1;
	return s;
}

int import_archive(struct world *w, const struct buf *tar, const Xfer__ImageStore *store)
{
	return import_bytes(w, buf_str(tar), store, false);
}

const char *image_names(struct world *w)
{
	Images__ListImagesRequest req = IMAGES__LIST_IMAGES_REQUEST__INIT;
	Images__ListImagesResponse *rsp;
	AUTO(buf) struct buf text = BUF_INIT;

	OK(world_call(w, &images__images__descriptor, "List", &req, &rsp));
	for (size_t i = 0; i < rsp->n_images; i++)
		buf_addf(&text, "%s%s%s", i ? " " : "", rsp->images[i]->name,
		         strstr(rsp->images[i]->target->media_type, "index") ? "(index)" : "");
	return arena_strdup(&w->a, buf_cstr(&text));
}

Types__Descriptor *image_target(struct world *w, const char *name)
{
	Images__GetImageRequest req = IMAGES__GET_IMAGE_REQUEST__INIT;
	Images__GetImageResponse *rsp;

	req.name = name;
	OK(world_call(w, &images__images__descriptor, "Get", &req, &rsp));
	return rsp->image->target;
}

Content__Info *info_of(struct world *w, const char *digest)
{
	Content__InfoRequest req = CONTENT__INFO_REQUEST__INIT;
	Content__InfoResponse *rsp;

	req.digest = digest;
	if (world_call(w, &content__content__descriptor, "Info", &req, &rsp) < 0)
		return NULL;
	return rsp->info;
}

const char *label_of(struct world *w, const char *digest, const char *key)
{
	const Content__Info *i = info_of(w, digest);

	return i ? pb_kv_get(i->labels, i->n_labels, key) : NULL;
}

unsigned ingest_count(struct world *w)
{
	Content__ListStatusesRequest req = CONTENT__LIST_STATUSES_REQUEST__INIT;
	Content__ListStatusesResponse *rsp;

	OK(world_call(w, &content__content__descriptor, "ListStatuses", &req, &rsp));
	return (unsigned)rsp->n_statuses;
}

unsigned lease_count(struct world *w)
{
	Leases__ListRequest req = LEASES__LIST_REQUEST__INIT;
	Leases__ListResponse *rsp;

	OK(world_call(w, &leases__leases__descriptor, "List", &req, &rsp));
	return (unsigned)rsp->n_leases;
}
