/*
 * The files of a mounted image: read as `tar` reads them, and picked for measuring by rules that know names and sizes alone,
 * so that every engine that mounts the same image gets the same work. One thread; another one ends it by setting *stop:
 * ERR_CANCELLED at the next entry, or piece of a file.
 */
#ifndef BENCH_COLDBENCH_MODES_TREE_H
#define BENCH_COLDBENCH_MODES_TREE_H

#include "base/err.h"
#include "base/vec.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct walk_entry {
	int dir_fd; /* where `name` is */
	const char *name;
	const char *path; /* from the root: "usr/bin/true" */
	const struct stat *st;
};

/* Calls fn for every entry below root_fd but the root itself: a directory before what is in it, else in the order in which the
 * file system lists them. Does not follow symlinks, does not cross into other mounts (a mount point is an entry). */
int tree_walk(int root_fd, const atomic_bool *stop, int (*fn)(void *arg, const struct walk_entry *e, struct err *err),
              void *arg, struct err *err);

/* Reads all regular files through in that order, by read(2) of 128 KiB. A file of several names is read under each. */
int tree_read_all(int root_fd, const atomic_bool *stop, uint64_t *n_files, uint64_t *bytes, struct err *err);

struct tree_entry {
	char *path;
	mode_t type;    /* S_IFREG, S_IFDIR, ... */
	uint64_t bytes; /* of regular files */
};

struct tree {
	VEC(struct tree_entry) entries; /* by path, bytewise */
};

int tree_list(int root_fd, const atomic_bool *stop, struct tree *out, struct err *err);
void tree_fini(struct tree *t);
DEFINE_AUTO_FINI(tree);

/* Paths, types and sizes in 32 bits: says whether two mounts have the same work. */
uint32_t tree_hash(const struct tree *t);

/* At most `want` of the entries of that type with min_bytes <= bytes <= max_bytes, spread evenly over the list. */
typedef VEC(const char *) tree_picks;
void tree_pick(const struct tree *t, mode_t type, uint64_t min_bytes, uint64_t max_bytes, size_t want, tree_picks *out);

/* The largest regular file, the first of several; NULL when there is none. */
const struct tree_entry *tree_largest(const struct tree *t);

#endif
