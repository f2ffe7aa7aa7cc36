/*
 * Modes: what is measured. A mode takes one sample of one case in a world that the harness has made ready.
 */
#ifndef BENCH_COLDBENCH_MODES_MODE_H
#define BENCH_COLDBENCH_MODES_MODE_H

#include "bench/coldbench/images/images.h"
#include "bench/coldbench/measure/launch.h"
#include "bench/coldbench/suite.h"

/* Everything a repetition needs. */
struct world {
	const struct engine_options *options;
	struct registry *registry;
	struct net *net; /* in front of the registry: engines pull through it */
	struct watch *watch;
	const char *dir;    /* for engines' folders and logs; on a disk */
	bool keep;          /* folders of engines stay */
	unsigned n_engines; /* that had a folder */
	int cancel_fd;      /* readable once the user wants to stop */
	int64_t timeout_ns; /* of one start */
};

/* An image that is in the registry, as `ref` (through the network). */
struct target {
	const struct image *img;
	const char *ref;
};

struct mode {
	const char *name, *title;
	const char *figure; /* the metric that says it in a number, "ready_ms" */
	bool less_is_better;
	bool takes_several; /* images in a case; the others get one */
	/* The network is that of the case, still without its faults (steps_begin_network); `targets` are its images
	 * (c->n_images). Sets metrics of `s`. */
	int (*measure)(struct world *w, const struct bench_case *c, const struct target *targets, struct sample *s,
	               struct err *err);
};

const struct mode *mode_find(const char *name);
const struct mode *mode_at(size_t i);

/* The table's entries, each in modes/NAME.c, where its metrics are described. */
extern const struct mode start_mode, warm_mode, burst_mode, read_mode, datapath_mode, density_mode, unpack_mode,
    touched_mode;

/* For modes: an engine in a fresh folder of w->dir, started. One at a time: every process that comes from here on, below this
 * one, counts as the engine's (usage.h). */
int engine_up(struct world *w, const char *name, struct engine *out, struct err *err);

/* Ends it and removes the folder; also one that engine_up could not start, or zeroes. ERR_INTERNAL names what could not be
 * ended, and processes and mounts that the engine left behind: they are ended here. */
int engine_down(struct world *w, struct engine *e, struct err *err);

/* rm -r of an absolute path, stopping at mount points (dir_remove). */
int folder_remove(const char *path, struct err *err);

#endif
