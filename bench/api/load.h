/* Runs operations from several threads and keeps how long each phase took. */
#ifndef BENCH_API_LOAD_H
#define BENCH_API_LOAD_H

#include "base/vec.h"
#include "bench/api/ops.h"

/* Durations in nanoseconds; sorted by samples_stat. */
struct samples {
	VEC(int64_t) ns;
};

struct stat_line {
	size_t calls;
	int64_t p50_ns, p99_ns, max_ns;
	double mean_ns;
};

void samples_add_all(struct samples *to, const struct samples *from);
void samples_fini(struct samples *s);
struct stat_line samples_stat(struct samples *s);

/* One operation's samples, by phase. */
struct op_samples {
	struct samples phases[OP_PHASES];
};
void op_samples_fini(struct op_samples *s);

struct load {
	const char *socket; /* of the daemon */
	const char *namespace_;
	const struct op *const *ops; /* each thread does them in turn */
	size_t n_ops;
	unsigned n_clients; /* threads, each with a connection */
	/* Asked before every operation, from any thread: false ends the load. Each operation runs at least once. */
	bool (*more)(void *arg);
	void *arg;
};

/* Adds what was measured to out[n_ops]. Fails when any operation fails. */
int load_run(const struct load *l, struct op_samples *out, struct err *err);

#endif
