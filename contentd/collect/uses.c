#include "contentd/collect/uses.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <pthread.h>
#include <stdatomic.h>

METRIC_HISTOGRAM(wait_seconds, "contentd_gc_wait_seconds",
                 "How long announcements of calls waited for the collector; only those that did.");

struct cd_used_id {
	enum gc_kind kind;
	uint32_t at, ns, space, key; /* where its texts begin, and their lengths */
};

struct cd_uses {
	pthread_mutex_t lock;
	atomic_uint holds; /* of the collector: begun ones and ended ones, so odd while it holds the lock */
	pthread_cond_t landed;
	VEC(struct gc_id) leaving; /* lock: what is being removed; texts are the collector's */
	struct cd_use *first;      /* lock */
	struct gc *gc;             /* lock */
	void (*written)(void *arg, const struct cd_written *w);
	void *arg;
};

struct cd_uses *cd_uses_new(void)
{
	struct cd_uses *all = xcalloc(1, sizeof(*all));

	pthread_mutex_init(&all->lock, NULL);
	pthread_cond_init(&all->landed, NULL);
	return all;
}

void cd_uses_free(struct cd_uses *all)
{
	if (!all)
		return;
	vec_fini(&all->leaving);
	pthread_cond_destroy(&all->landed);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

/* Takes the lock. What the collector made it wait for is counted. */
static void enter(struct cd_uses *all)
{
	unsigned holds = atomic_load_explicit(&all->holds, memory_order_relaxed);
	int64_t began;

	if (pthread_mutex_trylock(&all->lock) == 0)
		return;
	began = clock_mono_ns();
	pthread_mutex_lock(&all->lock);
	if (holds % 2 || atomic_load_explicit(&all->holds, memory_order_relaxed) != holds)
		metric_observe_ns(&wait_seconds, clock_mono_ns() - began);
}

/* ---- uses ---- */

void cd_use_begin(struct cd_use *u, struct cd_uses *all)
{
	*u = (struct cd_use){.all = all, .text = BUF_INIT};
	enter(all);
	u->next = all->first;
	if (u->next)
		u->next->prev = u;
	all->first = u;
	pthread_mutex_unlock(&all->lock);
}

static struct gc_id id_at(const struct cd_use *u, const struct cd_used_id *i)
{
	const char *p = u->text.p + i->at;

	return (struct gc_id){.kind = i->kind,
	                      .ns = str_make(p, i->ns),
	                      .space = str_make(p + i->ns, i->space),
	                      .key = str_make(p + i->ns + i->space, i->key)};
}

/* With the lock. */
static bool is_leaving(const struct cd_uses *all, const struct gc_id *id)
{
	vec_each(&all->leaving, it)
		if (gc_id_eq(it, id))
			return true;
	return false;
}

/* Who looks for it afterwards must not find what is about to go. With the lock, which it lets go of. */
static void let_leave(struct cd_uses *all, const struct gc_id *id)
{
	int64_t began;

	if (!is_leaving(all, id))
		return;
	began = clock_mono_ns();
	while (is_leaving(all, id))
		pthread_cond_wait(&all->landed, &all->lock);
	metric_observe_ns(&wait_seconds, clock_mono_ns() - began);
}

void cd_use_add(struct cd_use *u, const struct gc_id *id)
{
	struct cd_uses *all = u->all;

	enter(all);
	let_leave(all, id);
	vec_push(&u->ids, (struct cd_used_id){id->kind, (uint32_t)u->text.n, (uint32_t)id->ns.n, (uint32_t)id->space.n,
	                                      (uint32_t)id->key.n});
	buf_addstr(&u->text, id->ns);
	buf_addstr(&u->text, id->space);
	buf_addstr(&u->text, id->key);
	if (all->gc)
		gc_referred(all->gc, id);
	pthread_mutex_unlock(&all->lock);
}

void cd_use_end(struct cd_use *u)
{
	struct cd_uses *all = u->all;

	if (!all)
		return;
	enter(all);
	if (u->prev)
		u->prev->next = u->next;
	else
		all->first = u->next;
	if (u->next)
		u->next->prev = u->prev;
	pthread_mutex_unlock(&all->lock);
	vec_fini(&u->ids);
	buf_fini(&u->text);
	u->all = NULL;
}

/* ---- what was written ---- */

void cd_uses_wrote(struct cd_uses *all, const struct gc_id *id)
{
	enter(all);
	if (all->gc)
		gc_wrote(all->gc, id);
	pthread_mutex_unlock(&all->lock);
}

void cd_uses_written(struct cd_uses *all, const struct cd_written *w)
{
	enter(all);
	if (all->written)
		all->written(all->arg, w);
	pthread_mutex_unlock(&all->lock);
}

/* ---- the collector's side ---- */

void cd_uses_bind(struct cd_uses *all, struct gc *gc, void (*written)(void *arg, const struct cd_written *w), void *arg)
{
	pthread_mutex_lock(&all->lock);
	all->gc = gc;
	all->written = written;
	all->arg = arg;
	pthread_mutex_unlock(&all->lock);
}

/* With the lock. */
static void begin(struct cd_uses *all, struct gc *gc, const struct gc_run *run)
{
	gc_begin(gc, run);
	for (const struct cd_use *u = all->first; u; u = u->next)
		vec_each(&u->ids, i) {
			struct gc_id id = id_at(u, i);

			gc_referred(gc, &id);
		}
}

void cd_uses_begin_cycle(struct cd_uses *all, const struct gc_run *run)
{
	pthread_mutex_lock(&all->lock);
	begin(all, all->gc, run);
	pthread_mutex_unlock(&all->lock);
}

void cd_uses_begin_dry(struct cd_uses *all, struct gc *gc, const struct gc_run *run)
{
	pthread_mutex_lock(&all->lock);
	begin(all, gc, run);
	pthread_mutex_unlock(&all->lock);
}

void cd_uses_hold(struct cd_uses *all)
{
	pthread_mutex_lock(&all->lock);
	atomic_fetch_add_explicit(&all->holds, 1, memory_order_relaxed);
}

void cd_uses_leave(struct cd_uses *all, const struct gc_id *id)
{
	vec_push(&all->leaving, *id);
}

void cd_uses_landed(struct cd_uses *all)
{
	pthread_mutex_lock(&all->lock);
	vec_clear(&all->leaving);
	pthread_cond_broadcast(&all->landed);
	pthread_mutex_unlock(&all->lock);
}

void cd_uses_release(struct cd_uses *all)
{
	atomic_fetch_add_explicit(&all->holds, 1, memory_order_relaxed);
	pthread_mutex_unlock(&all->lock);
}
