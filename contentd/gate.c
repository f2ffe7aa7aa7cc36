#include "contentd/gate.h"

#include "rpc/service.h"

void cd_gate_init(struct cd_gate *g)
{
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->cond, NULL);
}

void cd_gate_fini(struct cd_gate *g)
{
	pthread_mutex_destroy(&g->lock);
	pthread_cond_destroy(&g->cond);
}

void cd_gate_set(struct cd_gate *g, const struct err *why)
{
	pthread_mutex_lock(&g->lock);
	if (g->state != CD_GATE_OPEN) {
		g->state = why ? CD_GATE_FAILED : CD_GATE_OPEN;
		if (why)
			g->why = *why;
	}
	pthread_cond_broadcast(&g->cond);
	pthread_mutex_unlock(&g->lock);
}

bool cd_gate_is_open(struct cd_gate *g)
{
	bool open;

	pthread_mutex_lock(&g->lock);
	open = g->state == CD_GATE_OPEN;
	pthread_mutex_unlock(&g->lock);
	return open;
}

struct waiting {
	struct cd_gate *gate;
	bool cancelled; /* gate->lock */
};

static void stop_waiting(void *arg)
{
	struct waiting *w = arg;

	pthread_mutex_lock(&w->gate->lock);
	w->cancelled = true;
	pthread_cond_broadcast(&w->gate->cond);
	pthread_mutex_unlock(&w->gate->lock);
}

int cd_gate_wait(struct cd_gate *g, struct rpc_call *c, const char *what, struct err *err)
{
	struct waiting w = {.gate = g};
	struct err why = ERR_INIT;
	bool failed;

	if (cd_gate_is_open(g))
		return 0;
	if (c)
		rpc_on_cancel(c, stop_waiting, &w);
	pthread_mutex_lock(&g->lock);
	while (g->state == CD_GATE_CLOSED && !w.cancelled)
		pthread_cond_wait(&g->cond, &g->lock);
	failed = g->state == CD_GATE_FAILED;
	if (failed)
		why = g->why;
	pthread_mutex_unlock(&g->lock);
	if (c) {
		rpc_off_cancel(c, &w);
		TRY(rpc_cancelled(c, err));
	}
	return failed ? err_set(err, ERR_UNAVAILABLE, "%s: %s", what, why.msg) : 0;
}
