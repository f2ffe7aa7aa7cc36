/*
 * What contentfs keeps on disk below the root:
 *	objects/<2 hex>/<62 hex>   complete, verified, immutable file contents, by key (keys: estargz/index/index.h)
 *	partial/                   files being filled, and unpack-XXXXXX/ of batches that are not published yet
 *	index/<64 hex>             layer indexes; <64 hex>.source beside each: where its blob can be fetched, and what is known
 *	                           of it; <64 hex>.gaps: see proof/gaps.h
 *	pins/<64 hex>              pins, by the hash of their name
 * contentfs alone writes here. Publishing never writes in place: data, then sync, then link or rename, then the
 * directory. Any thread may call anything here; the file system is the only shared state, batches have one owner.
 */
#ifndef FUSEFS_STORE_H
#define FUSEFS_STORE_H

#include "base/digest.h"
#include "base/err.h"
#include "base/vec.h"
#include "estargz/index/index.h"

struct ffs_store;

enum ffs_dir { FFS_DIR_OBJECTS, FFS_DIR_PARTIAL, FFS_DIR_INDEX, FFS_DIR_PINS, FFS_DIRS };

/* Opens, making what is absent. Batches that a dead process left unpublished are removed. */
int ffs_store_open(const char *root, struct ffs_store **out, struct err *err);
/* The same for a look at a store, perhaps beside a contentfs: removes nothing. */
int ffs_store_look(const char *root, struct ffs_store **out, struct err *err);
void ffs_store_close(struct ffs_store *s);
static inline void ffs_store_cleanup(struct ffs_store **s)
{
	ffs_store_close(*s);
}

/* A directory's descriptor: the store's, for *at calls. */
int ffs_store_dir(const struct ffs_store *s, enum ffs_dir which);

/* Between the two no object is deleted by a sweep (sweep.c): for who makes names of objects known that it would spare. */
void ffs_store_rely_begin(struct ffs_store *s);
void ffs_store_rely_end(struct ffs_store *s);

/* ---- objects ---- */

#define FFS_OBJECT_PATH_MAX 66 /* "<2 hex>/<62 hex>" and a NUL */

/* Name of an object below objects/ (and of its like below partial/). */
char *ffs_object_path(const struct digest *key, char dst[static FFS_OBJECT_PATH_MAX]);

/* Opens a published object for reading; ERR_NOT_FOUND when absent. A size that differs is ERR_DATA_LOSS and the object
 * is not handed out. */
int ffs_object_open(struct ffs_store *s, const struct digest *key, uint64_t size, int *fd, struct err *err);
bool ffs_object_has(struct ffs_store *s, const struct digest *key, uint64_t size);

/* Gives a complete, synced file below `dir_fd` the name of an object. link: its old name stays. An object of that name
 * that is there already is kept (the old name goes all the same, unless link). Not synced: see ffs_objects_sync. */
int ffs_object_adopt(struct ffs_store *s, int dir_fd, const char *name, const struct digest *key, bool link,
                     struct err *err);

/* The same for an open file on the store's file system, also one without a name (O_TMPFILE). */
int ffs_object_link(struct ffs_store *s, int fd, const struct digest *key, struct err *err);

/* Another name for a published object. */
int ffs_object_alias(struct ffs_store *s, const struct digest *have, const struct digest *also, struct err *err);

/* Everything written so far is on disk when it returns (one syncfs). */
int ffs_objects_sync(struct ffs_store *s, struct err *err);

/* ---- batches: new objects, as unpacking makes them ---- */

/* Files are written under private names and become visible together by ffs_batch_publish (one syncfs, the renames,
 * one syncfs). Freeing drops what was not published. Until then no sweep takes away an object of the batch, new or found:
 * free it when the index that names them is known. */
struct ffs_batch;
int ffs_batch_new(struct ffs_store *s, struct ffs_batch **out, struct err *err);
void ffs_batch_free(struct ffs_batch *b);
DEFINE_AUTO_FREE(ffs_batch);
int ffs_batch_begin(struct ffs_batch *b, uint64_t size, struct err *err);
int ffs_batch_write(struct ffs_batch *b, struct str bytes, struct err *err);
/* Zeros that a sparse file does not store; nor does the object, unless it is small. */
int ffs_batch_hole(struct ffs_batch *b, uint64_t bytes, struct err *err);
/* The content hashed to `content`: dropped when that object exists already. ERR_DATA_LOSS when not `size` bytes came. */
int ffs_batch_end(struct ffs_batch *b, const struct digest *content, struct err *err);
int ffs_batch_publish(struct ffs_batch *b, struct err *err);

/* ---- indexes ---- */

enum ffs_tree {
	FFS_TREE_UNKNOWN, /* not looked at, or its tar cannot be read, or not as who unpacks it does */
	FFS_TREE_SAME,    /* TOC and tar say the same */
	FFS_TREE_DIFFERS,
};

/* What a tar ends with: two blocks of zeros at least, and up to a whole record, as tar writes it. Some blobs lack them. */
#define FFS_PADDED_MAX 20

/* What was found of a lazy layer once all of its blob had been here (proof/README.md). */
struct ffs_facts {
	struct digest diff_id; /* zeros: nothing yet */
	/* Of bytes that have the blob's digest: `diff_id` is theirs, `padded` what it is with 1, 2, ... blocks of zeros behind
	 * them, and that holds whatever is promised. Else only for who promises diff_id, be it padded or not. */
	bool of_blob;
	/* Zeros: not of the blob, or found by an older version, which lost them. */
	struct digest padded[FFS_PADDED_MAX];
	enum ffs_tree tree;
	char *difference; /* DIFFERS: the first one; UNKNOWN: why; else NULL */
};

enum ffs_verdict { FFS_UNPROVEN, FFS_PROVEN, FFS_FALSE };
/* "unproven", "proven", "false" */
const char *ffs_verdict_name(enum ffs_verdict v);
/* Whether a promise is one of these: the DiffID of a stream, and those of it with zeros behind it. */
bool ffs_promise_fits(const struct digest *promised, const struct digest *diff_id,
                      const struct digest padded[static FFS_PADDED_MAX]);
bool ffs_facts_fit(const struct ffs_facts *f, const struct digest *promised);
/* Whether they say anything to a configuration that promises this DiffID. */
bool ffs_facts_decide(const struct ffs_facts *f, const struct digest *promised);
/* What follows from the facts for a configuration that promises this DiffID (zeros: none is known); `why` (may be NULL)
 * gets the reason for FALSE, and for UNPROVEN if there is one. */
enum ffs_verdict ffs_facts_verdict(const struct ffs_facts *f, const struct digest *promised, struct buf *why);
/* Whether that is FFS_FALSE whatever is promised: two trees in one blob. */
bool ffs_facts_always_false(const struct ffs_facts *f);

/* The tar-split of a layer, if its TOC or its image vouches for one: a place in the blob, and the digest of what is there. */
struct ffs_split {
	uint64_t offset, packed_bytes, plain_bytes; /* packed_bytes 0: none */
	struct digest digest;
};

/* Where a layer's blob comes from, and what is known of it. */
struct ffs_source {
	char *reference; /* registry host and repository: "docker.io/library/alpine" */
	char *owner;     /* by whose account (secrets.h); NULL is "" */
	struct digest blob;
	uint64_t blob_bytes;
	char *media_type;
	struct ffs_split split;
	struct digest promised; /* DiffID of the last configuration that named the layer; zeros: none known */
	struct ffs_facts facts;
};
void ffs_source_fini(struct ffs_source *src);
DEFINE_AUTO_FINI(ffs_source);

/* Writes an index and its source, and the points that the index needs (gzseek/points.h; STR_NONE: none): an index never stands
 * without them. Replaces what is there, but tar-split, promise and facts that `src` does not have stay: another image may
 * know less of the same layer. durable: on disk when it returns; else a power loss may lose or tear it, which its checksum
 * shows (lazy ones: they can be fetched again). */
int ffs_index_put(struct ffs_store *s, const struct digest *key, struct str index, struct str points,
                  const struct ffs_source *src, bool durable, struct err *err);
bool ffs_index_has(struct ffs_store *s, const struct digest *key);

/* Maps an index file (read-only; munmap it by ffs_index_unmap). ERR_NOT_FOUND. */
int ffs_index_map(struct ffs_store *s, const struct digest *key, struct str *bytes, struct err *err);
void ffs_index_unmap(struct str bytes);
/* The same of its points; unmapped alike. */
int ffs_index_map_points(struct ffs_store *s, const struct digest *key, struct str *bytes, struct err *err);
/* Whether the points that an index needs are there, whole, and fit it; *bytes grows by what was read. ERR_DATA_LOSS. */
int ffs_index_check_points(struct ffs_store *s, const struct digest *key, const struct esgz_index *ix, uint64_t *bytes,
                           struct err *err);
int ffs_index_source(struct ffs_store *s, const struct digest *key, struct ffs_source *out, struct err *err);

/* The blob comes from this registry and repository, by this owner's account, from now on. Not synced: a power loss may
 * bring the old ones back. */
int ffs_index_set_origin(struct ffs_store *s, const struct digest *key, const char *reference, const char *owner,
                         struct err *err);

/* The same for what is promised, and for what was found. */
int ffs_index_set_promised(struct ffs_store *s, const struct digest *key, const struct digest *diff_id,
                           struct err *err);
int ffs_index_set_facts(struct ffs_store *s, const struct digest *key, const struct ffs_facts *facts, struct err *err);

/* Removes the index and what is beside it; absent is fine. The source of a layer that is false under any configuration
 * stays: who asks for the layer again is told. */
int ffs_index_remove(struct ffs_store *s, const struct digest *key, struct err *err);

/* Of such sources the youngest stay, for a while: a layer that is asked for again is looked through again. */
#define FFS_ALONE_MAX 1000
#define FFS_ALONE_S (180ll * 24 * 3600)
int ffs_index_forget_old(struct ffs_store *s, struct err *err);

struct ffs_keys {
	VEC(struct digest) v;
};
#define FFS_KEYS_INIT ((struct ffs_keys){VEC_INIT})
static inline void ffs_keys_fini(struct ffs_keys *k)
{
	vec_fini(&k->v);
}
DEFINE_AUTO_FINI(ffs_keys);

/* Keys of all indexes that have a source, in no order. */
int ffs_index_list(struct ffs_store *s, struct ffs_keys *out, struct err *err);

/* ---- pins ---- */

#define FFS_PIN_NAME_MAX 1024
#define FFS_PIN_KEYS_MAX 4096

/* Durable; replaces the pin of that name. */
int ffs_pin_put(struct ffs_store *s, const char *name, const struct digest *keys, size_t n, struct err *err);
/* Absent is fine. */
int ffs_pin_remove(struct ffs_store *s, const char *name, struct err *err);
/* Calls fn for each pin; a negative return ends the walk with that code. Damaged pin files are logged and passed over. */
int ffs_pin_list(struct ffs_store *s,
                 int (*fn)(void *arg, const char *name, const struct digest *keys, size_t n, struct err *err),
                 void *arg, struct err *err);

#endif
