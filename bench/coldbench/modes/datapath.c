/*
 * Mode datapath: what files of a mounted image cost once all of them are local and cached, and what they cost when the page
 * cache has been dropped. The engine "containerd" is the reference: native overlayfs over unpacked layers.
 *
 * The image is pulled, mounted and read through, and the engine is left alone until it has settled: what it fetches and stores
 * on demand is then there. It is mounted a second time, as for the next container, and the operations of ops.h are timed in
 * turns: a round is 30 ms of each, a metric the median of the rounds. Before the first one each was done once.
 *
 *	geomean_ns               geometric mean of all NAME_ns: the figure; of two engines, the ratio is the mean of their ratios
 *	NAME_ns                  per operation, hot; NAME and what an operation is: ops.h. seq: per 4 KiB
 *	seq_mb_per_s             the same in 10^6 bytes a second
 *	first.NAME_ns, ...       of the first mount likewise, through which the files were fetched
 *	cold.NAME_ns             one pass each, after the caches were dropped
 *	hot.cpu_s                processor time of the engine's processes during the hot rounds: 0 when no daemon is in the path
 *	tree.entries, tree.hash  says that two engines had the same work
 *	settle_ms                how long the engine was busy after everything had been read
 */
#include "bench/coldbench/measure/cold.h"
#include "bench/coldbench/modes/ops.h"
#include "bench/coldbench/modes/steps.h"
#include "bench/coldbench/stats.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>

#define OPS_MAX 16
#define HOT_ROUNDS 5
#define HOT_NS (30 * NS_PER_MS)
#define SEQ_BYTES 4096 /* of one operation (ops.h) */

static int read_through(struct steps *t, const char *at, struct err *err)
{
	AUTO_FD int fd = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t n_files, bytes;

	if (fd < 0)
		return err_errno(err, errno, "open %s", at);
	return tree_read_all(fd, &t->stop, &n_files, &bytes, err);
}

/* Everything is local after this, and the engine is at rest. */
static int fetch_all(struct steps *t, const char *at, struct err *err)
{
	int64_t settled_ns;

	TRY_WRAP(steps_on_mount(t, read_through, at, err), err, "read the image");
	TRY(steps_settle(t, &settled_ns, err));
	sample_set(t->s, "settle_ms", (double)settled_ns / NS_PER_MS);
	return 0;
}

/* Of those that live: commands that this process ran, as the operation exec does, are not the engine's. */
static int engine_cpu_s(double *sum, struct err *err)
{
	AUTO(usage) struct usage u = {VEC_INIT};

	TRY(usage_take(NULL, 0, false, &u, err));
	*sum = 0;
	vec_each(&u.processes, p)
		*sum += p->count ? p->cpu_s : 0;
	return 0;
}

static double median(double *values, size_t n)
{
	struct summary s;

	stats_summary(values, n, 1, &s);
	return s.median;
}

/* Metrics are PREFIX.NAME_ns and so on; *cpu_s is that of the engine's processes meanwhile. */
static int measure_hot(struct op_files *f, struct sample *s, const char *prefix, double *cpu_s, struct err *err)
{
	double ns[OPS_MAX][HOT_ROUNDS], log_sum = 0, before_s;
	unsigned n = 0;

	for (const struct op *op = OPS_OF_FILES; op->name; op++)
		if (op->applies(f))
			TRY(op_measure(op, f, 0, &ns[0][0], err));
	TRY(engine_cpu_s(&before_s, err));
	for (unsigned round = 0; round < HOT_ROUNDS; round++)
		for (unsigned i = 0; OPS_OF_FILES[i].name; i++)
			if (OPS_OF_FILES[i].applies(f))
				TRY(op_measure(&OPS_OF_FILES[i], f, HOT_NS, &ns[i][round], err));
	TRY(engine_cpu_s(cpu_s, err));
	*cpu_s -= before_s;
	for (unsigned i = 0; OPS_OF_FILES[i].name; i++) {
		double m;

		if (!OPS_OF_FILES[i].applies(f))
			continue;
		m = median(ns[i], HOT_ROUNDS);
		sample_setf(s, m, "%s%s_ns", prefix, OPS_OF_FILES[i].name);
		if (!strcmp(OPS_OF_FILES[i].name, "seq"))
			sample_setf(s, SEQ_BYTES * 1e3 / m, "%sseq_mb_per_s", prefix);
		log_sum += log(m);
		n++;
	}
	if (n)
		sample_setf(s, exp(log_sum / n), "%sgeomean_ns", prefix);
	return 0;
}

static int measure_cold(struct op_files *f, struct sample *s, struct err *err)
{
	double ns;

	for (const struct op *op = OPS_OF_FILES; op->name; op++) {
		if (!op->cold || !op->applies(f))
			continue;
		TRY(cold_drop(err));
		TRY(op_measure(op, f, 0, &ns, err));
		sample_setf(s, ns, "cold.%s_ns", op->name);
	}
	return 0;
}

static int measure_mount(struct steps *t, const char *at, struct err *err)
{
	struct op_files f;
	double cpu_s;
	int r;

	TRY(op_files_open(at, &t->stop, &f, err));
	sample_set(t->s, "tree.entries", (double)f.tree.entries.n);
	sample_set(t->s, "tree.hash", tree_hash(&f.tree));
	r = measure_hot(&f, t->s, "", &cpu_s, err);
	if (r >= 0) {
		sample_set(t->s, "hot.cpu_s", cpu_s);
		r = measure_cold(&f, t->s, err);
	}
	op_files_close(&f);
	return r;
}

static int measure_first_mount(struct steps *t, const char *at, struct err *err)
{
	struct op_files f;
	double cpu_s;
	int r;

	TRY(op_files_open(at, &t->stop, &f, err));
	r = measure_hot(&f, t->s, "first.", &cpu_s, err);
	op_files_close(&f);
	return r;
}

/* Both mounts stand until the end, as those of two containers do. */
static int measure_both(struct steps *t, const char *first, const char *second, struct err *err)
{
	TRY_WRAP(steps_on_mount(t, measure_first_mount, first, err), err, "the first mount");
	return steps_on_mount(t, measure_mount, second, err);
}

static int fetch_and_measure(struct steps *t, struct err *err)
{
	AUTO_FREE char *first = NULL;
	AUTO_FREE char *second = NULL;
	int r, umounted;

	TRY(steps_pull(t, NULL, err));
	TRY(steps_mount(t, "first", &first, err));
	r = fetch_all(t, first, err);
	if (r >= 0)
		r = steps_mount(t, "second", &second, err);
	if (r >= 0) {
		r = measure_both(t, first, second, err);
		umounted = steps_umount(t, second, r < 0 ? NULL : err);
		r = r < 0 ? r : umounted;
	}
	umounted = steps_umount(t, first, r < 0 ? NULL : err);
	return r < 0 ? r : umounted;
}

static int measure(struct world *w, const struct bench_case *c, const struct target *targets, struct sample *s,
                   struct err *err)
{
	struct steps t = {.w = w, .c = c, .targets = targets, .s = s};

	return steps_with_engine(&t, fetch_and_measure, err);
}

const struct mode datapath_mode = {
    .name = "datapath",
    .title = "files of a mounted image, local and cached",
    .figure = "geomean_ns",
    .less_is_better = true,
    .measure = measure,
};
