/*
 * What is done to the files of a mounted image to time it. Each operation is a pass over a fixed set of files (tree.h) in a
 * loop of bare system calls: no clock, no allocation, nothing printed in it, so that its own part is a few nanoseconds
 * of each. One thread; while it touches mapped pages, the process' handler of SIGBUS is the operation's.
 *
 *	lstat         fstatat of every entry
 *	readdir       every directory opened, read with getdents64 and closed; per entry
 *	walk          both, from the root down, as find does it; per entry
 *	open          open and close of up to 4000 regular files
 *	small         open, read to the end and close of up to 2000 files of 1 byte to 16 KiB
 *	seq           the largest file, read from its start to its end by 128 KiB; per 4 KiB
 *	rand4k        4 KiB of it at a time, at random page-aligned places, the same in each pass
 *	mmap          all of it mapped, each page touched in turn, unmapped; per page
 *	exec          /bin/true run to its end, with the image as its root: loader and libc are the image's
 *	exec_static   ldconfig --version likewise: a static program, in images that have it
 */
#ifndef BENCH_COLDBENCH_MODES_OPS_H
#define BENCH_COLDBENCH_MODES_OPS_H

#include "bench/coldbench/modes/tree.h"

/* The work on one mount. */
struct op_files {
	int root_fd;
	const atomic_bool *stop; /* ends passes before the next entry, or piece of a file: ERR_CANCELLED */
	struct tree tree;
	tree_picks dirs, files, small;
	const struct tree_entry *large; /* NULL: there is none of at least a page */
	const char *dynamic, *static_;  /* programs, or NULL */
	char *buffer;
};

int op_files_open(const char *root, const atomic_bool *stop, struct op_files *out, struct err *err);
void op_files_close(struct op_files *f);

struct op {
	const char *name;
	/* Is there something for it to do? Else it has no pass. */
	bool (*applies)(const struct op_files *f);
	/* One pass; *n is how many operations it was. */
	int (*pass)(struct op_files *f, uint64_t *n, struct err *err);
	bool cold; /* worth measuring with dropped caches as well */
};

/* In the order in which rounds do them; the last has no name. */
extern const struct op OPS_OF_FILES[];

/* Passes until min_ns are over, at least one; ns per operation. */
int op_measure(const struct op *op, struct op_files *f, int64_t min_ns, double *ns, struct err *err);

#endif
