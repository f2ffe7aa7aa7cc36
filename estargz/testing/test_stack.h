/*
 * For the tests of the merge and of metadata images: stacks of layers, given as lists of tar-like entries; the tree
 * that they make when they are extracted one over the other, by the plainest code that could be right (test_model.c);
 * and both as text (test_dump.h), to compare the two.
 */
#ifndef ESTARGZ_TEST_STACK_H
#define ESTARGZ_TEST_STACK_H

#include "estargz/testing/test_dump.h"

#define STACK_XATTRS_MAX 4

/* One entry of a layer's tar. Whiteouts are regular files with their .wh. names. */
struct stack_entry {
	char *path;
	char *link; /* symlink text or hard link target, or NULL */
	enum esgz_type type;
	uint32_t mode, uid, gid, dev_major, dev_minor;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint64_t size;
	uint32_t n_chunks;
	struct digest content;
	uint32_t n_xattrs;
	struct stack_xattr {
		char *name;
		struct buf value;
	} xattrs[STACK_XATTRS_MAX];
};

/* A layer in which some file has chunks is a lazy one: all its files with content must have some. */
struct stack_layer {
	VEC(struct stack_entry) entries;
};

struct stack {
	VEC(struct stack_layer) layers; /* base first */
};

void stack_fini(struct stack *s);
DEFINE_AUTO_FINI(stack);

/* A new layer on top. */
void stack_push(struct stack *s);

/* A new entry of the topmost layer: mode 0644 (directories 0755), a time of its own; regular files get `size` and a
 * content of their own. Valid until the next call. */
struct stack_entry *stack_add(struct stack *s, enum esgz_type type, const char *path);
struct stack_entry *stack_file(struct stack *s, const char *path, uint64_t size, uint32_t n_chunks);
struct stack_entry *stack_link(struct stack *s, enum esgz_type type, const char *path, const char *to);
void stack_xattr(struct stack_entry *e, const char *name, const void *value, size_t n);
/* As formats have it; borrows. */
struct esgz_entry stack_as_entry(const struct stack_entry *e);
/* The entry of a path, or NULL. */
const struct stack_entry *stack_find(const struct stack_layer *l, struct str path);
/* The key of a file's object. */
void stack_key(const struct stack_entry *e, struct digest *key);

/* A random stack; the same for the same seed. */
void stack_random(struct stack *s, uint32_t seed);

/* The layers' indexes; merged; as image. */
struct stack_image {
	VEC(struct buf) indexes;
	VEC(struct esgz_index *) opened;
	struct esgz_tree *tree;
	struct buf image;
};

void stack_image_fini(struct stack_image *im);
DEFINE_AUTO_FINI(stack_image);
int stack_build(const struct stack *s, struct stack_image *out, struct err *err);

/* What esgz_erofs_write is told here: every other content is published. */
bool stack_published(void *arg, const struct digest *content, uint64_t size);

/* Content of the object `key`, as the tests have it: the key's hex digits over and over. */
void stack_content(const struct digest *key, uint64_t size, struct buf *out);

/* What they make when they are extracted one over the other, dumped. */
void stack_dump(const struct stack *s, unsigned flags, struct buf *out);

/* Makes objects for all files of the stack below `dir` (<2 hex>/<62 hex>). */
void stack_objects(const struct stack *s, const char *dir);

#endif
