#include "estargz/convert/members.h"

#include <libdeflate.h>
#include <pthread.h>

struct members {
	members_deliver_fn deliver;
	void *arg;
	struct pool *pool;
	struct member *ring;
	unsigned n_ring;
	uint64_t submitted, delivered; /* member i is ring[i % n_ring] */
	pthread_mutex_t lock;
	pthread_cond_t compressed;
};

static void compress(struct pool_job *job)
{
	struct member *m = CONTAINER_OF(job, struct member, job);
	struct members *ms = m->owner;

	if (m->chunk_bytes > 0)
		digest_of(m->plain.p, m->chunk_bytes, &m->digest);
	buf_clear(&m->gz);
	buf_reserve(&m->gz, libdeflate_gzip_compress_bound(m->z, m->plain.n));
	m->gz.n = libdeflate_gzip_compress(m->z, m->plain.p, m->plain.n, m->gz.p, m->gz.cap);
	pthread_mutex_lock(&ms->lock);
	m->compressed = true;
	pthread_cond_signal(&ms->compressed);
	pthread_mutex_unlock(&ms->lock);
}

int members_new(int level, unsigned threads, members_deliver_fn deliver, void *arg, struct members **out,
                struct err *err)
{
	AUTO(members) struct members *ms = xcalloc(1, sizeof(*ms));

	ms->deliver = deliver;
	ms->arg = arg;
	ms->n_ring = 2 * threads + 1; /* one is being filled, and no thread waits for the next */
	ms->ring = xcalloc(ms->n_ring, sizeof(*ms->ring));
	pthread_mutex_init(&ms->lock, NULL);
	pthread_cond_init(&ms->compressed, NULL);
	for (unsigned i = 0; i < ms->n_ring; i++) {
		ms->ring[i].owner = ms;
		ms->ring[i].job.fn = compress;
		ms->ring[i].z = libdeflate_alloc_compressor(level);
		if (!ms->ring[i].z)
			return err_set(err, ERR_EXHAUSTED, "no memory for a compressor of level %d", level);
	}
	TRY(pool_new(threads, "compress", &ms->pool, err));
	*out = STEAL(ms);
	return 0;
}

void members_free(struct members *ms)
{
	if (!ms)
		return;
	pool_free(ms->pool);
	for (unsigned i = 0; i < ms->n_ring; i++) {
		buf_fini(&ms->ring[i].plain);
		buf_fini(&ms->ring[i].gz);
		libdeflate_free_compressor(ms->ring[i].z);
	}
	free(ms->ring);
	pthread_mutex_destroy(&ms->lock);
	pthread_cond_destroy(&ms->compressed);
	free(ms);
}

static int deliver_one(struct members *ms, struct err *err)
{
	struct member *m = &ms->ring[ms->delivered % ms->n_ring];

	pthread_mutex_lock(&ms->lock);
	while (!m->compressed)
		pthread_cond_wait(&ms->compressed, &ms->lock);
	pthread_mutex_unlock(&ms->lock);
	ms->delivered++;
	return ms->deliver(ms->arg, m, err);
}

int members_next(struct members *ms, struct member **out, struct err *err)
{
	struct member *m = &ms->ring[ms->submitted % ms->n_ring];

	if (ms->submitted - ms->delivered == ms->n_ring)
		TRY(deliver_one(ms, err));
	buf_clear(&m->plain);
	m->chunk_bytes = 0;
	m->compressed = false;
	*out = m;
	return 0;
}

void members_submit(struct members *ms, struct member *m)
{
	ms->submitted++;
	pool_submit(ms->pool, POOL_BACKGROUND, &m->job);
}

int members_drain(struct members *ms, struct err *err)
{
	while (ms->delivered < ms->submitted)
		TRY(deliver_one(ms, err));
	return 0;
}
