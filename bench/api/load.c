#include "bench/api/load.h"

#include "base/clock.h"
#include "base/random.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- samples ---- */

void samples_add_all(struct samples *to, const struct samples *from)
{
	vec_each(&from->ns, ns)
		vec_push(&to->ns, *ns);
}

void samples_fini(struct samples *s)
{
	vec_fini(&s->ns);
}

void op_samples_fini(struct op_samples *s)
{
	for (size_t i = 0; i < OP_PHASES; i++)
		samples_fini(&s->phases[i]);
}

static int ascending(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* The nearest rank: the value that q of all do not exceed. */
static int64_t quantile(const struct samples *s, double q)
{
	size_t rank = (size_t)(q * (double)s->ns.n + 0.999999);

	return s->ns.p[rank ? rank - 1 : 0];
}

struct stat_line samples_stat(struct samples *s)
{
	double sum = 0;

	if (!s->ns.n)
		return (struct stat_line){0};
	qsort(s->ns.p, s->ns.n, sizeof(*s->ns.p), ascending);
	vec_each(&s->ns, ns)
		sum += (double)*ns;
	return (struct stat_line){s->ns.n, quantile(s, 0.5), quantile(s, 0.99), *vec_last(&s->ns),
	                          sum / (double)s->ns.n};
}

/* ---- threads ---- */

struct run {
	const struct load *load;
	pthread_barrier_t ready;
	atomic_bool failed;
};

struct thread {
	struct run *run;
	pthread_t id;
	char prefix[32];
	struct op_samples *samples; /* by operation */
	struct err err;
};

static int work(struct thread *t, struct rpc_client *rpc, struct op_data *data)
{
	const struct load *l = t->run->load;
	struct op_client c = {rpc, t->prefix, 0, data};

	while (c.serial < l->n_ops || (!atomic_load(&t->run->failed) && l->more(l->arg))) {
		size_t i = c.serial % l->n_ops;
		int64_t ns[OP_PHASES] = {0};

		TRY_WRAP(l->ops[i]->run(&c, ns, &t->err), &t->err, "%s", l->ops[i]->name);
		for (size_t p = 0; p < OP_PHASES && l->ops[i]->phases[p]; p++)
			vec_push(&t->samples[i].phases[p].ns, ns[p]);
		c.serial++;
	}
	return 0;
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	const struct load *l = t->run->load;
	AUTO(op_data) struct op_data *data = op_data_new();
	AUTO(rpc_client) struct rpc_client *rpc = NULL;
	int r = rpc_client_connect(l->socket, &rpc, &t->err);

	if (r >= 0)
		rpc_client_set_metadata(rpc, "containerd-namespace", l->namespace_);
	pthread_barrier_wait(&t->run->ready);
	if (r < 0 || work(t, rpc, data) < 0)
		atomic_store(&t->run->failed, true);
	return NULL;
}

int load_run(const struct load *l, struct op_samples *out, struct err *err)
{
	AUTO_FREE struct thread *threads = xcalloc(l->n_clients, sizeof(*threads));
	struct run run = {.load = l};
	int r = 0;

	pthread_barrier_init(&run.ready, NULL, l->n_clients);
	for (unsigned i = 0; i < l->n_clients; i++) {
		threads[i].run = &run;
		threads[i].samples = xcalloc(l->n_ops, sizeof(*threads[i].samples));
		random_hex(threads[i].prefix, 8);
		if (pthread_create(&threads[i].id, NULL, thread_main, &threads[i]))
			abort();
	}
	for (unsigned i = 0; i < l->n_clients; i++) {
		struct thread *t = &threads[i];

		pthread_join(t->id, NULL);
		if (t->err.code && !r)
			r = err_set(err, t->err.code, "%s", t->err.msg);
		for (size_t op = 0; op < l->n_ops; op++) {
			for (size_t p = 0; p < OP_PHASES; p++)
				samples_add_all(&out[op].phases[p], &t->samples[op].phases[p]);
			op_samples_fini(&t->samples[op]);
		}
		free(t->samples);
	}
	pthread_barrier_destroy(&run.ready);
	return r;
}
