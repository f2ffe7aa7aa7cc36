/*
 * Archives and transfers for tests of the Transfer service over a world. Functions that give a code leave the error in
 * w->err; the others end the test when they fail. Answers live as long as the world.
 */
#ifndef CONTENTD_TRANSFER_TESTING_H
#define CONTENTD_TRANSFER_TESTING_H

#include "contentd/testing/world.h"
#include "rpc/proto/content.pb-c.h"
#include "rpc/proto/transfer.pb-c.h"
#include "rpc/proto/xfer.pb-c.h"

#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define OCI_LAYOUT "{\"imageLayoutVersion\":\"1.0.0\"}" /* the file oci-layout */

/* ---- archives ---- */

void archive_add(struct buf *tar, const char *path, struct str bytes);
void archive_add_link(struct buf *tar, const char *path, const char *target);
void archive_add_dir(struct buf *tar, const char *path);
void archive_end(struct buf *tar);

/* What a test calls a blob: its bytes, and how a document refers to it. */
struct blob {
	const char *text, *digest, *hex;
	size_t n;
};

struct blob blob_of(struct world *w, const char *text);
void archive_add_blob(struct world *w, struct buf *tar, struct blob b);
/* `more` goes into the object as it is: ",\"platform\":..." */
const char *descriptor_of(struct world *w, const char *type, struct blob b, const char *more);

/* One image, of a layer that is the text. */
struct shape {
	struct blob layer, config, manifest;
};

struct shape shape_of(struct world *w, const char *text, const char *layer_type, const char *arch);
struct shape shape_plain(struct world *w, const char *text);
void archive_add_shape(struct world *w, struct buf *tar, const struct shape *s);

/* For descriptor_of: an annotation; a tag. */
const char *annotated(struct world *w, const char *annotation, const char *name);
#define TAG(w, name) annotated(w, "org.opencontainers.image.ref.name", name)
const char *index_of(struct world *w, const char *entries);
void archive_finish_layout(struct buf *tar, const char *index);
/* An OCI archive of one image with the tag. */
void archive_simple(struct world *w, struct buf *tar, const char *more);

/* ---- transfers ---- */

struct rpc_stream *transfer_stream(struct world *w, const char *id);
struct rpc_stream *transfer_begin(struct world *w, const ProtobufCMessage *from, const ProtobufCMessage *to);

/* Sends within the credit, in frames, and closes behind the last. */
struct sender {
	struct rpc_stream *s;
	struct str left;
	int64_t credit;
	unsigned grants; /* that were needed */
	bool closed;
};

void sender_go_on(struct world *w, struct sender *o);

/* The result of a transfer to which the bytes are sent. */
int import_bytes(struct world *w, struct str bytes, const Xfer__ImageStore *store, bool compress);
int import_archive(struct world *w, const struct buf *tar, const Xfer__ImageStore *store);
/* A store with a prefix for what the archive names. */
Xfer__ImageStore *store_with_prefix(struct world *w, const char *prefix, bool overwrite);

/* ---- what came of it ---- */

/* Names of all images, and the type of what they are. */
const char *image_names(struct world *w);
Types__Descriptor *image_target(struct world *w, const char *name);
/* NULL: there is none. */
Content__Info *info_of(struct world *w, const char *digest);
const char *label_of(struct world *w, const char *digest, const char *key);
unsigned ingest_count(struct world *w);
unsigned lease_count(struct world *w);

#endif
