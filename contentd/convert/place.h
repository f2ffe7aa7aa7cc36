/*
 * Places that hold images: an OCI layout directory, an OCI archive, or a repository of a registry, behind one table of
 * functions. Names as skopeo writes them: "oci:DIR[:TAG]", "oci-archive:FILE[:TAG]", "[docker://]REFERENCE". Blobs come
 * and go as streams: nothing here holds a whole one. Blocking; one thread, but for place_cancel and for a source, which
 * another thread may read.
 */
#ifndef CONVERT_PLACE_H
#define CONVERT_PLACE_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "registry/client.h"
#include "registry/manifest.h"

#include <stdatomic.h>

/* Documents that are read of one place in a conversion: the images of every platform and then some. */
#define PLACE_DOCUMENTS_MAX 4096
#define PLACE_DOCUMENT_BYTES_MAX (32u << 20)
#define PLACE_ATTEMPTS 3 /* at a blob that the registry has taken, and lost (ERR_ABORTED) */

struct place;

/* The bytes of a blob, one after the other; not verified. */
struct place_source {
	/* Up to `n` bytes; *got = 0 at the end. */
	int (*read)(struct place_source *s, void *dst, size_t n, size_t *got, struct err *err);
	void (*free)(struct place_source *s);
	/* Ends a read that another thread waits in, and lets all later ones fail. NULL: none waits for long. */
	void (*stop)(struct place_source *s);
};
void place_source_free(struct place_source *s); /* NULL is fine */
DEFINE_AUTO_FREE(place_source);

/* A blob that is being written. */
struct place_sink {
	int (*write)(struct place_sink *s, struct str bytes, struct err *err);
	/* It is this blob, of so many bytes: from now on it is there. */
	int (*finish)(struct place_sink *s, const struct digest *digest, uint64_t bytes, struct err *err);
	void (*free)(struct place_sink *s); /* without finish nothing is left of it */
};
void place_sink_free(struct place_sink *s); /* NULL is fine */
DEFINE_AUTO_FREE(place_sink);

/* A manifest or an index that gets a name. */
struct place_document {
	const char *suffix; /* behind the tag; "" for the name itself */
	struct str bytes, media_type;
};

struct place_ops {
	/* Bytes and media type of the document that the name means, a manifest or an index. With a suffix: that the tag with
	 * this at its end means. ERR_NOT_FOUND. */
	int (*get_root)(struct place *p, const char *suffix, struct buf *bytes, struct buf *media_type,
	                struct err *err);
	/* A manifest that an index names; NULL: it is a blob as others. Digest and size are checked by the caller. */
	int (*get_manifest)(struct place *p, const struct reg_descriptor *d, struct buf *bytes, struct err *err);
	/* Its bytes from `offset` on, at most its size. ERR_NOT_FOUND; ERR_DATA_LOSS when it is known to be of another size. */
	int (*open_blob)(struct place *p, const struct reg_descriptor *d, uint64_t offset, struct place_source **out,
	                 struct err *err);

	/* 1 when a blob of so many bytes is there already, else 0. */
	int (*has_blob)(struct place *p, const struct digest *digest, uint64_t bytes, struct err *err);
	/* Whether blobs may come from there without being sent; NULL: never. Then mount_blob tries: 1 when a blob is there
	 * now, 2 when it was there already, 0 when it has to be sent. */
	bool (*can_mount)(struct place *p, struct place *from);
	int (*mount_blob)(struct place *p, struct place *from, const struct reg_descriptor *d, struct err *err);
	int (*begin_blob)(struct place *p, struct place_sink **out, struct err *err); /* one at a time */
	/* Stores a manifest or an index by its digest alone. */
	int (*put_manifest)(struct place *p, struct str bytes, struct str media_type, struct err *err);
	/* The last step: stores documents under the place's name. All or none where the place can do that, else one closely
	 * after the other in their order, when all have been taken by their digests. */
	int (*put_named)(struct place *p, const struct place_document *docs, size_t n, struct err *err);
	/* Whether a manifest of this digest and artifact type refers to a subject: 1 or 0. Then one is stored, whose blobs
	 * are there, so that it is found by its subject. NULL: impossible here. */
	int (*has_referrer)(struct place *p, const struct digest *subject, struct str artifact_type,
	                    const struct digest *digest, struct err *err);
	int (*put_referrer)(struct place *p, struct str manifest, struct err *err);
	/* NULL, or why nothing can be named so here. */
	const char *(*why_unnamed)(struct place *p, const char *suffix);
	void (*cancel)(struct place *p); /* NULL: nothing that waits for others */
	void (*free)(struct place *p);
};

struct place {
	const struct place_ops *ops;
	char *name; /* as given, for messages */
	atomic_bool cancelled;
	unsigned n_documents; /* read by place_get, against the bounds above */
	uint64_t document_bytes;
};

struct place_opts {
	const char *creds;   /* USER:PASSWORD, or NULL: the docker configuration is asked */
	const char *ca_file; /* or NULL */
	bool insecure;       /* plain HTTP elsewhere than on loopback, too */
};

/* writing: a layout is made when absent. */
int place_open(const char *name, bool writing, const struct place_opts *opts, struct place **out, struct err *err);
/* What was written, but is reached by no name, is removed where that is possible. */
void place_free(struct place *p);
DEFINE_AUTO_FREE(place);

/* Ends what it is doing and all that comes, with ERR_CANCELLED, but for what cleans up. Any thread. */
void place_cancel(struct place *p);

/* ERR_CANCELLED after place_cancel. */
int place_check_cancelled(const struct place *p, struct err *err);

/* A document by its descriptor, whole and verified; is_manifest: else a blob. ERR_EXHAUSTED beyond the bounds above. */
int place_get(struct place *p, const struct reg_descriptor *d, bool is_manifest, struct buf *out, struct err *err);
/* Stores a small blob, unless it is there. */
int place_put(struct place *p, struct str bytes, struct digest *digest, struct err *err);

bool place_can_mount(struct place *to, struct place *from);

enum place_copied { PLACE_PRESENT, PLACE_MOUNTED, PLACE_COPIED };
/* Brings a blob from one place into another, by the cheapest way, verified. `progress` may be NULL. */
int place_copy(struct place *to, struct place *from, const struct reg_descriptor *d, enum place_copied *how,
               void (*progress)(void *arg, uint64_t bytes), void *arg, struct err *err);

/* For place_open. */
int place_layout_open(const char *name, const char *dir, const char *tag, bool writing, struct place **out,
                      struct err *err);
int place_archive_open(const char *name, const char *file, const char *tag, bool writing, struct place **out,
                       struct err *err);
int place_registry_open(const char *name, const char *reference, bool writing, const struct place_opts *opts,
                        struct place **out, struct err *err);

/* index.json of layouts and archives (image-spec image-layout.md): */
#define PLACE_LAYOUT_TEXT "{\"imageLayoutVersion\":\"1.0.0\"}"
/* The image of this tag with the suffix, into `out`; views live as long as the index. tag NULL: the one without a name, else
 * the only one; those have no suffixes. */
int place_index_find(const struct reg_manifest *index, const char *tag, const char *suffix, const char *name,
                     struct reg_descriptor *out, struct err *err);
/* The text of an index that is `old` (or NULL) but for the documents, under this tag and their suffixes; tag NULL: as the
 * one without a name, so that place_index_find finds it. */
int place_index_write(const struct reg_manifest *old, const char *tag, const struct place_document *docs, size_t n,
                      const char *name, struct buf *out, struct err *err);
/* A place_ops.why_unnamed for a tag that may be NULL. */
const char *place_index_why_unnamed(const char *tag, const char *suffix);

#endif
