#include "estargz/convert/units.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

struct units {
	const struct codec *codec;
	units_deliver_fn deliver;
	void *arg;
	struct codec_watch watch;
	atomic_bool dropped; /* nobody wants what is under way */
	struct pool *pool;
	struct unit *ring;
	unsigned n_ring;
	bool filling;                  /* the owner has unit `submitted` */
	uint64_t submitted, delivered; /* unit i is ring[i % n_ring] */
	pthread_mutex_t lock;
	pthread_cond_t done;
	void **states; /* lock: those that no thread uses */
	unsigned n_states;
};

/* No more threads than states use one. */
static void *take_state(struct units *us)
{
	void *state;

	pthread_mutex_lock(&us->lock);
	state = us->states[--us->n_states];
	pthread_mutex_unlock(&us->lock);
	return state;
}

static void finish(struct units *us, struct unit *u, void *state)
{
	pthread_mutex_lock(&us->lock);
	us->states[us->n_states++] = state;
	u->done = true;
	pthread_cond_signal(&us->done);
	pthread_mutex_unlock(&us->lock);
}

static int go_on(void *arg, struct err *err)
{
	struct units *us = arg;

	if (atomic_load(&us->dropped))
		return err_set(err, ERR_CANCELLED, "given up");
	return codec_watch(&us->watch, err);
}

static int pack(struct units *us, struct unit *u, void *state)
{
	const struct codec_watch w = {go_on, us};

	TRY(go_on(us, &u->err));
	vec_each(&u->chunks, c)
		digest_of(u->plain.p + c->at, c->bytes, &c->digest);
	buf_clear(&u->packed);
	return us->codec->pack(state, buf_str(&u->plain), &u->packed, &w, &u->err);
}

static void work(struct pool_job *job)
{
	struct unit *u = CONTAINER_OF(job, struct unit, job);
	struct units *us = u->owner;
	void *state = take_state(us);

	u->result = pack(us, u, state);
	finish(us, u, state);
}

int units_new(const struct codec *c, int level, unsigned threads, units_deliver_fn deliver, void *arg,
              struct units **out, struct err *err)
{
	AUTO(units) struct units *us = xcalloc(1, sizeof(*us));

	us->codec = c;
	us->deliver = deliver;
	us->arg = arg;
	us->n_ring = 2 * threads + 1; /* one is being filled, and no thread waits for the next */
	us->ring = xcalloc(us->n_ring, sizeof(*us->ring));
	us->states = xcalloc(threads, sizeof(*us->states));
	pthread_mutex_init(&us->lock, NULL);
	pthread_cond_init(&us->done, NULL);
	atomic_init(&us->dropped, false);
	for (unsigned i = 0; i < us->n_ring; i++) {
		us->ring[i].owner = us;
		us->ring[i].job.fn = work;
	}
	for (; us->n_states < threads; us->n_states++) {
		us->states[us->n_states] = c->state_new(level ? level : c->level_default);
		if (!us->states[us->n_states])
			return err_set(err, ERR_EXHAUSTED, "no memory for %s of level %d", c->name, level);
	}
	TRY(pool_new(threads, c->name, &us->pool, err));
	*out = STEAL(us);
	return 0;
}

void units_watch(struct units *us, struct codec_watch w)
{
	us->watch = w;
}

void units_free(struct units *us)
{
	if (!us)
		return;
	atomic_store(&us->dropped, true);
	pool_free(us->pool);
	for (unsigned i = 0; i < us->n_ring; i++) {
		buf_fini(&us->ring[i].plain);
		buf_fini(&us->ring[i].packed);
		vec_fini(&us->ring[i].chunks);
	}
	free(us->ring);
	while (us->n_states > 0)
		us->codec->state_free(us->states[--us->n_states]);
	free(us->states);
	pthread_mutex_destroy(&us->lock);
	pthread_cond_destroy(&us->done);
	free(us);
}

static int deliver_one(struct units *us, struct err *err)
{
	struct unit *u = &us->ring[us->delivered % us->n_ring];

	pthread_mutex_lock(&us->lock);
	while (!u->done)
		pthread_cond_wait(&us->done, &us->lock);
	pthread_mutex_unlock(&us->lock);
	us->delivered++;
	if (u->result < 0) {
		if (err)
			*err = u->err;
		return u->result;
	}
	return us->deliver(us->arg, u, err);
}

int units_fill(struct units *us, struct unit **out, struct err *err)
{
	struct unit *u = &us->ring[us->submitted % us->n_ring];

	*out = u;
	if (us->filling)
		return 0;
	if (us->submitted - us->delivered == us->n_ring)
		TRY(deliver_one(us, err));
	buf_clear(&u->plain);
	vec_clear(&u->chunks);
	u->done = false;
	us->filling = true;
	return 0;
}

void units_submit(struct units *us)
{
	struct unit *u = &us->ring[us->submitted % us->n_ring];

	assert(us->filling);
	us->filling = false;
	us->submitted++;
	pool_submit(us->pool, POOL_BACKGROUND, &u->job);
}

int units_drain(struct units *us, struct err *err)
{
	while (us->delivered < us->submitted)
		TRY(deliver_one(us, err));
	return 0;
}

int units_write(struct units *us, struct str plain, size_t unit_bytes, struct err *err)
{
	while (plain.n > 0) {
		struct unit *u;
		struct str part;

		TRY(units_fill(us, &u, err));
		part = str_sub(plain, 0, unit_bytes - u->plain.n);
		buf_addstr(&u->plain, part);
		plain = str_sub(plain, part.n, plain.n);
		if (u->plain.n == unit_bytes)
			units_submit(us);
	}
	return 0;
}

int units_write_end(struct units *us, struct err *err)
{
	struct unit *u;

	TRY(units_fill(us, &u, err));
	if (u->plain.n > 0 || us->submitted == 0)
		units_submit(us);
	return units_drain(us, err);
}

size_t units_stream_bytes(enum esgz_compression kind)
{
	return kind == ESGZ_ZSTD ? 4u << 20 : 1u << 20;
}
