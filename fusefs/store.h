/*
 * Object store of the node: objects/<2 hex>/<62 hex> (complete, verified, immutable), partial/ (files being filled),
 * index/<64 hex> (layer indexes, each with <64 hex>.source: where its blob can be fetched), pins/<name>.
 * contentfs alone writes here. Publishing never writes in place: data, then sync, then link or rename, then the
 * directory. Any thread; each function says what it locks. Names: design of keys in estargz/index.h.
 */
#ifndef FUSEFS_STORE_H
#define FUSEFS_STORE_H

#include "base/digest.h"
#include "base/err.h"
#include "estargz/index.h"

struct ffs_store;

int ffs_store_open(const char *root, struct ffs_store **out, struct err *err);
void ffs_store_close(struct ffs_store *s);

/* Directories of the root, made by ffs_store_open; the descriptors are the store's. */
enum ffs_dir { FFS_DIR_OBJECTS, FFS_DIR_PARTIAL, FFS_DIR_INDEX, FFS_DIR_PINS, FFS_DIR_META, FFS_DIRS };
int ffs_store_dir(const struct ffs_store *s, enum ffs_dir dir);
const char *ffs_store_root(const struct ffs_store *s);

/* ---- objects ---- */

/* "<2 hex>/<62 hex>" and a NUL: the name of an object below objects/ and of its partial file below partial/. */
#define FFS_NAME_BYTES 66
char *ffs_object_name(const struct digest *key, char dst[static FFS_NAME_BYTES]);

/* Gives a complete, verified and synced file (fd, on the store's file system) the name of `key`. Another file that has
 * the name already stays when its size is the same (0 is returned), and is ERR_DATA_LOSS when it is not. */
int ffs_object_link(struct ffs_store *s, int fd, const struct digest *key, uint64_t size, struct err *err);

/* Opens a published object for reading; ERR_NOT_FOUND when absent. A size that differs is ERR_DATA_LOSS and the
 * object is not handed out. */
int ffs_object_open(struct ffs_store *s, const struct digest *key, uint64_t size, int *fd, struct err *err);
bool ffs_object_has(struct ffs_store *s, const struct digest *key, uint64_t size);

/* A batch of new objects, as unpacking makes them: files are written under a private name, and all become visible
 * together by ffs_batch_publish (one syncfs, then renames, then the directories). One owner; freeing drops what was
 * not published. */
struct ffs_batch;
int ffs_batch_new(struct ffs_store *s, struct ffs_batch **out, struct err *err);
void ffs_batch_free(struct ffs_batch *b);
DEFINE_AUTO_FREE(ffs_batch);
int ffs_batch_begin(struct ffs_batch *b, uint64_t size, struct err *err);
int ffs_batch_write(struct ffs_batch *b, struct str bytes, struct err *err);
/* The content hashed to `content`: skipped when that object exists already. */
int ffs_batch_end(struct ffs_batch *b, const struct digest *content, struct err *err);
int ffs_batch_publish(struct ffs_batch *b, struct err *err);

/* ---- indexes ---- */

/* Where a layer's blob comes from. */
struct ffs_source {
	char *reference;     /* registry host and repository: "docker.io/library/alpine" */
	struct digest blob;
	uint64_t blob_bytes;
	char *media_type;
};

/* Writes an index and its source durably; replaces what is there. */
int ffs_index_put(struct ffs_store *s, const struct digest *key, struct str index, const struct ffs_source *src,
                  struct err *err);
bool ffs_index_has(struct ffs_store *s, const struct digest *key);

void ffs_source_fini(struct ffs_source *src);
DEFINE_CLEANUP(ffs_source, struct ffs_source, ffs_source_fini(it));

/* Maps an index read-only (page-aligned; munmap'ed by ffs_index_unmap) and reads its source. The bytes are not checked
 * here: esgz_index_open does that. ERR_NOT_FOUND when either is absent. */
int ffs_index_map(struct ffs_store *s, const struct digest *key, struct str *bytes, struct ffs_source *src,
                  struct err *err);
void ffs_index_unmap(struct str bytes);

/* Removes both files; absent is fine. Maps stay good. */
int ffs_index_remove(struct ffs_store *s, const struct digest *key, struct err *err);

/* Calls fn for each index that has a source; a false answer ends the walk. */
int ffs_index_each(struct ffs_store *s, bool (*fn)(void *arg, const struct digest *key), void *arg, struct err *err);

#endif
