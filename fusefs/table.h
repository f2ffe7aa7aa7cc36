/*
 * The state of a mount that outlives its workers: a memory file that holder and successors keep.
 *
 * It holds the kernel's INIT request, which every worker replays, and the node ids the kernel may know: of each object
 * that was ever looked up, and of each tree. Ids are given out once and never again; a table only grows. Layout, in
 * host byte order as it never leaves the machine:
 *
 *      0  header: magic, version, INIT bytes, counters
 *   64 Ki tree slots: TREE_MAX x key (32 bytes)          node id (slot + 1) << 32 | inode number in the image
 *    4 Mi objects: OBJECT_MAX x {key, size}              node id NODE_OBJECT_FIRST + number
 *
 * An entry is written before the count that makes it valid, so a worker may die at any instruction. One process writes
 * at a time; within it any thread may call anything.
 */
#ifndef FUSEFS_TABLE_H
#define FUSEFS_TABLE_H

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/err.h"

#define NODE_ROOT 1
#define NODE_FAN_FIRST 2 /* directories 00 .. ff */
#define NODE_FAN_LAST (NODE_FAN_FIRST + 255)
#define NODE_TREES (NODE_FAN_LAST + 1) /* directory .trees */
#define NODE_OBJECT_FIRST 65536ull
#define TABLE_OBJECT_MAX (1u << 26)
#define TABLE_TREE_MAX 65536u
#define TABLE_INIT_MAX 4096 /* bytes of an INIT request; 104 today */

struct ffs_table;

/* For the holder: makes the memory file of a new mount, with its INIT request. */
int ffs_table_create(struct str init, int *fd, struct err *err);

/* Maps the file (not owned) and rebuilds the look-up tables. ERR_DATA_LOSS when it is not one. */
int ffs_table_open(int fd, struct ffs_table **out, struct err *err);
void ffs_table_close(struct ffs_table *t);
static inline void ffs_table_cleanup(struct ffs_table **t)
{
	ffs_table_close(*t);
}

/* The INIT request, borrowed. */
struct str ffs_table_init_request(const struct ffs_table *t);

/* Counts one more worker and returns its number, from 1. */
uint64_t ffs_table_next_generation(struct ffs_table *t);

/* Counters of all workers of the mount. */
enum ffs_table_counter { FFS_COUNT_READS, FFS_COUNT_LOOKUPS, FFS_COUNTS };
void ffs_table_count(struct ffs_table *t, enum ffs_table_counter c);
uint64_t ffs_table_counter(const struct ffs_table *t, enum ffs_table_counter c);

/* Number of an object, or -1. */
int64_t ffs_table_find(struct ffs_table *t, const struct digest *key);
/* Its number, given out now if it has none; ERR_EXHAUSTED when the table is full. */
int ffs_table_add(struct ffs_table *t, const struct digest *key, uint64_t size, uint32_t *number, struct err *err);
/* False for a number that was never given out. */
bool ffs_table_object(const struct ffs_table *t, uint64_t number, struct digest *key, uint64_t *size);

/* The same for trees. */
int64_t ffs_table_find_tree(struct ffs_table *t, const struct digest *key);
int ffs_table_add_tree(struct ffs_table *t, const struct digest *key, uint32_t *slot, struct err *err);
bool ffs_table_tree(const struct ffs_table *t, uint64_t slot, struct digest *key);

#endif
