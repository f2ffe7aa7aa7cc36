#include "fusefs/table.h"

#include "base/buf.h"
#include "fusefs/keyhash.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define TREES_AT (64u << 10)
#define OBJECTS_AT (4u << 20)
#define VERSION 1

struct header {
	char magic[8];
	uint32_t version, init_bytes;
	uint8_t init[TABLE_INIT_MAX];
	_Atomic uint64_t generation;
	_Atomic uint64_t n_objects, n_trees; /* valid entries */
	_Atomic uint64_t counters[FFS_COUNTS];
};

struct object {
	struct digest key;
	uint64_t size;
};

#define FILE_BYTES (OBJECTS_AT + (size_t)TABLE_OBJECT_MAX * sizeof(struct object))

_Static_assert(sizeof(struct header) <= TREES_AT, "the header has 64 KiB");
_Static_assert(TREES_AT + TABLE_TREE_MAX * sizeof(struct digest) <= OBJECTS_AT, "the trees end before the objects");

/* Open addressing over numbers; the keys are in the mapped file. */
struct index {
	uint32_t *slots; /* number + 1 */
	size_t cap;      /* power of two */
};

struct ffs_table {
	struct header *header;
	struct digest *trees;
	struct object *objects;
	pthread_mutex_t lock; /* additions, and the indexes */
	struct index by_object, by_tree;
};

static const char MAGIC[8] = "CFSTATE1";

int ffs_table_create(struct str init, int *fd, struct err *err)
{
	struct header h = {.version = VERSION, .init_bytes = (uint32_t)init.n};
	AUTO_FD int f = -1;

	if (init.n > sizeof(h.init))
		return err_set(err, ERR_INTERNAL, "an INIT request of %zu bytes", init.n);
	memcpy(h.magic, MAGIC, sizeof(MAGIC));
	memcpy(h.init, init.p, init.n);
	f = memfd_create("contentfs-state", MFD_CLOEXEC);
	/* Sparse: only what is written takes memory. */
	if (f < 0 || ftruncate(f, (off_t)FILE_BYTES) < 0)
		return err_errno(err, errno, "make the state of the mount");
	if (pwrite(f, &h, sizeof(h), 0) != sizeof(h))
		return err_errno(err, errno, "write the state of the mount");
	*fd = STEAL_FD(f);
	return 0;
}

/* ---- indexes ---- */

static const struct digest *key_of(const struct ffs_table *t, const struct index *ix, uint32_t number)
{
	return ix == &t->by_tree ? &t->trees[number] : &t->objects[number].key;
}

/* The slot of a key: where it is, or the free one where it belongs. */
static uint32_t *index_slot(const struct ffs_table *t, const struct index *ix, const struct digest *key)
{
	size_t i = key_hash(key) & (ix->cap - 1);

	while (ix->slots[i] && !digest_eq(key_of(t, ix, ix->slots[i] - 1), key))
		i = (i + 1) & (ix->cap - 1);
	return &ix->slots[i];
}

/* Makes room for entry `n`, so that the index stays at most half full. */
static void index_grow(struct ffs_table *t, struct index *ix, uint64_t n)
{
	size_t cap = ix->cap ? ix->cap : 1024;

	while (cap < 2 * (n + 1))
		cap *= 2;
	if (cap == ix->cap)
		return;
	free(ix->slots);
	ix->slots = xcalloc(cap, sizeof(*ix->slots));
	ix->cap = cap;
	for (uint32_t i = 0; i < n; i++)
		*index_slot(t, ix, key_of(t, ix, i)) = i + 1;
}

int ffs_table_open(int fd, struct ffs_table **out, struct err *err)
{
	AUTO(ffs_table) struct ffs_table *t = NULL;
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "state of the mount");
	if ((uint64_t)st.st_size != FILE_BYTES)
		return err_set(err, ERR_DATA_LOSS, "the state of the mount has the wrong size");
	t = xcalloc(1, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
	p = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return err_errno(err, errno, "map the state of the mount");
	t->header = p;
	t->trees = (struct digest *)((char *)p + TREES_AT);
	t->objects = (struct object *)((char *)p + OBJECTS_AT);
	if (memcmp(t->header->magic, MAGIC, sizeof(MAGIC)) || t->header->version != VERSION ||
	    t->header->init_bytes > TABLE_INIT_MAX || t->header->n_objects > TABLE_OBJECT_MAX ||
	    t->header->n_trees > TABLE_TREE_MAX)
		return err_set(err, ERR_DATA_LOSS, "the state of the mount is of another version");
	index_grow(t, &t->by_object, t->header->n_objects);
	index_grow(t, &t->by_tree, t->header->n_trees);
	*out = STEAL(t);
	return 0;
}

void ffs_table_close(struct ffs_table *t)
{
	if (!t)
		return;
	if (t->header)
		munmap(t->header, FILE_BYTES);
	free(t->by_object.slots);
	free(t->by_tree.slots);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

struct str ffs_table_init_request(const struct ffs_table *t)
{
	return str_make(t->header->init, t->header->init_bytes);
}

uint64_t ffs_table_next_generation(struct ffs_table *t)
{
	return atomic_fetch_add(&t->header->generation, 1) + 1;
}

void ffs_table_count(struct ffs_table *t, enum ffs_table_counter c)
{
	atomic_fetch_add_explicit(&t->header->counters[c], 1, memory_order_relaxed);
}

uint64_t ffs_table_counter(const struct ffs_table *t, enum ffs_table_counter c)
{
	return atomic_load_explicit(&t->header->counters[c], memory_order_relaxed);
}

static int64_t index_find(struct ffs_table *t, struct index *ix, const struct digest *key)
{
	int64_t number;

	pthread_mutex_lock(&t->lock);
	number = (int64_t)*index_slot(t, ix, key) - 1;
	pthread_mutex_unlock(&t->lock);
	return number;
}

int64_t ffs_table_find(struct ffs_table *t, const struct digest *key)
{
	return index_find(t, &t->by_object, key);
}

int64_t ffs_table_find_tree(struct ffs_table *t, const struct digest *key)
{
	return index_find(t, &t->by_tree, key);
}

int ffs_table_add(struct ffs_table *t, const struct digest *key, uint64_t size, uint32_t *number, struct err *err)
{
	uint32_t *slot;
	uint64_t n;
	int r = 0;

	pthread_mutex_lock(&t->lock);
	n = atomic_load(&t->header->n_objects);
	index_grow(t, &t->by_object, n);
	slot = index_slot(t, &t->by_object, key);
	if (!*slot && n == TABLE_OBJECT_MAX) {
		r = err_set(err, ERR_EXHAUSTED, "the mount knows %u objects and has no number for another one",
		            TABLE_OBJECT_MAX);
	} else if (!*slot) {
		t->objects[n] = (struct object){*key, size};
		atomic_store_explicit(&t->header->n_objects, n + 1, memory_order_release);
		*slot = (uint32_t)n + 1;
	}
	if (r == 0)
		*number = *slot - 1;
	pthread_mutex_unlock(&t->lock);
	return r;
}

bool ffs_table_object(const struct ffs_table *t, uint64_t number, struct digest *key, uint64_t *size)
{
	if (number >= atomic_load_explicit(&t->header->n_objects, memory_order_acquire))
		return false;
	*key = t->objects[number].key;
	*size = t->objects[number].size;
	return true;
}

int ffs_table_add_tree(struct ffs_table *t, const struct digest *key, uint32_t *out, struct err *err)
{
	uint32_t *slot;
	uint64_t n;
	int r = 0;

	pthread_mutex_lock(&t->lock);
	n = atomic_load(&t->header->n_trees);
	index_grow(t, &t->by_tree, n);
	slot = index_slot(t, &t->by_tree, key);
	if (!*slot && n == TABLE_TREE_MAX) {
		r = err_set(err, ERR_EXHAUSTED, "the mount knows %u trees and has no number for another one",
		            TABLE_TREE_MAX);
	} else if (!*slot) {
		t->trees[n] = *key;
		atomic_store_explicit(&t->header->n_trees, n + 1, memory_order_release);
		*slot = (uint32_t)n + 1;
	}
	if (r == 0)
		*out = *slot - 1;
	pthread_mutex_unlock(&t->lock);
	return r;
}

bool ffs_table_tree(const struct ffs_table *t, uint64_t slot, struct digest *key)
{
	if (slot >= atomic_load_explicit(&t->header->n_trees, memory_order_acquire))
		return false;
	*key = t->trees[slot];
	return true;
}
