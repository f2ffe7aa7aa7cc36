/*
 * Engines: what pulls an image and starts containers. Each is driven through its own public interface, as its users do:
 * daemons, and two commands, one that pulls and one that runs.
 *
 * An engine object is one life of it: start() in an empty folder, any number of commands, stop(). One thread.
 */
#ifndef BENCH_COLDBENCH_ENGINES_ENGINE_H
#define BENCH_COLDBENCH_ENGINES_ENGINE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"

#include <sys/types.h>

struct room;

/* A command line: argv[n] is NULL; texts are its own. room_start (peers/room.h) makes a process of it. */
struct argv {
	char **p; /* NULL when n is 0 */
	size_t n, cap;
	const struct room *room; /* where it runs; NULL: here */
	int64_t wait_ns;         /* before it begins: a planted slow-down */
};
#define ARGV_INIT ((struct argv){0})

void argv_add(struct argv *a, const char *text);
void argv_addf(struct argv *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Several, up to a NULL. */
void argv_addl(struct argv *a, ...) __attribute__((sentinel));
/* Those of a list, up to its NULL; `texts` may be NULL. */
void argv_addv(struct argv *a, const char *const *texts);
void argv_fini(struct argv *a);
DEFINE_AUTO_FINI(argv);

/* What the user chose for a run. */
struct engine_options {
	const char *suite;       /* whose programs the peers are: "host", "trixie", "sid" */
	const char *stargz_grpc; /* path, or NULL: what `coldbench peers setup` made */
	const char *runtime;     /* "runc" or "crun", where the engine has no own */
};

struct engine {
	const struct engine_kind *kind;
	const struct engine_options *options;
	const char *dir; /* its own, empty at the start; removed by the harness after stop */
	int cancel_fd;   /* readable once the user wants to stop: then start and mount give ERR_CANCELLED; -1: none */
	void *own;       /* the kind's */
};

struct engine_kind {
	const char *name;  /* "containerd-stargz" */
	const char *title; /* "containerd + stargz-snapshotter" */
	const char *form;  /* of images, when the suite names none */
	bool lazy;         /* starts before the layers are there */
	bool of_suite;     /* its programs, the runtime included, are those of the options' suite */
	bool exact;        /* fetches nothing but what is read: what comes after the pull was touched (touched_bytes) */

	/* Is everything there? Appends "containerd 2.1.9, runc 1.3.6" to `versions`; ERR_UNAVAILABLE says what is missing and
	 * how to get it, ERR_CANCELLED that `cancel_fd` (-1: none) has become readable. */
	int (*probe)(const struct engine_options *o, int cancel_fd, struct buf *versions, struct err *err);

	/* Starts the daemons and waits until they answer. Their logs are files *.log in e->dir. */
	int (*start)(struct engine *e, struct err *err);

	/* Ends containers that are left, daemons, mounts; also after a start that failed half way, and when daemons have died.
	 * ERR_INTERNAL when something could not be ended: what and where. */
	int (*stop)(struct engine *e, struct err *err);

	/* The command that pulls `ref` ("127.0.0.1:5000/bench/python:estargz", plain HTTP). */
	int (*pull)(struct engine *e, const char *ref, struct argv *out, struct err *err);

	/* The command that runs it as container `id`: the image's own command, containerd's default capabilities and no seccomp
	 * filter (what ctr and contentctl do unless told otherwise, so that all engines do the same), a network namespace of its
	 * own with nothing but a loopback interface. In the foreground (the container's output is the
	 * command's, it ends with the container and removes it), or detached: returns when the container runs. `args` NULL:
	 * the image's own command. */
	int (*run)(struct engine *e, const char *ref, const char *id, bool detach, const char *const *args,
	           struct argv *out, struct err *err);

	/* Mounts the pulled image's files read-only at `at`, for the modes that read them; engine_umount undoes it.
	 * NULL: it cannot. */
	int (*mount)(struct engine *e, const char *ref, const char *at, struct err *err);
};

/* Unmounts what mount has mounted at `at`; the engine may keep its record of it until it ends. */
int engine_umount(struct engine *e, const char *at, struct err *err);

/* NULL when there is none of that name. */
const struct engine_kind *engine_find(const char *name);

/* All of them; NULL at the end. */
const struct engine_kind *engine_at(size_t i);

/* Another one that engine_find knows (engine_at does not) until it is removed: one that is made from one of these. One
 * thread. */
void engine_add(const struct engine_kind *kind);
void engine_remove(const struct engine_kind *kind);

/* The forms of images: gzip, zstd, estargz, esgz, esgz-opt, zstdchunked. */
bool form_is_known(const char *form);

#endif
