/*
 * Places that hold images: an OCI layout directory, an OCI archive, or a repository of a registry, behind one table of
 * functions. Names as skopeo writes them: "oci:DIR[:TAG]", "oci-archive:FILE[:TAG]", "[docker://]REFERENCE". Blocking;
 * one thread.
 */
#ifndef CONVERT_PLACE_H
#define CONVERT_PLACE_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "registry/client.h"
#include "registry/manifest.h"

struct place;

struct place_ops {
	/* Bytes and media type of the document that the name means: a manifest or an index. */
	int (*get_root)(struct place *p, struct buf *bytes, struct buf *media_type, struct err *err);
	/* A manifest that an index names, or a configuration that a manifest names. Digest and size are checked by the
	 * caller. */
	int (*get_document)(struct place *p, const struct reg_descriptor *d, bool is_manifest, struct buf *bytes,
	                    struct err *err);
	/* Writes the whole blob into fd, from offset 0; not verified. */
	int (*get_blob)(struct place *p, const struct reg_descriptor *d, int fd, struct err *err);
	/* 1 when a blob is there already. NULL: never. */
	int (*has_blob)(struct place *p, const struct digest *digest, struct err *err);
	/* Stores a blob from fd [0, size) or, with fd < 0, from `bytes`. */
	int (*put_blob)(struct place *p, const struct digest *digest, uint64_t size, int fd, struct str bytes,
	                struct err *err);
	/* Stores the manifest under the name; the last step. */
	int (*put_manifest)(struct place *p, struct str bytes, struct str media_type, struct err *err);
	void (*free)(struct place *p);
};

struct place {
	const struct place_ops *ops;
	char *name; /* as given, for messages */
};

struct place_opts {
	const char *creds;   /* USER:PASSWORD, or NULL: the docker configuration is asked */
	const char *ca_file; /* or NULL */
	bool insecure;       /* plain HTTP, and any certificate, elsewhere than on loopback too */
};

/* writing: a layout is made when absent. */
int place_open(const char *name, bool writing, const struct place_opts *opts, struct place **out, struct err *err);
void place_free(struct place *p);
DEFINE_AUTO_FREE(place);

/* For place_open. */
int place_layout_open(const char *name, const char *dir, const char *tag, bool writing, struct place **out,
                      struct err *err);
int place_archive_open(const char *name, const char *file, const char *tag, bool writing, struct place **out,
                       struct err *err);
int place_registry_open(const char *name, const char *reference, const struct place_opts *opts, struct place **out,
                        struct err *err);

#endif
