/* Flights: chunks that somebody waits for; see core.h. Their life from the first reader to the last attempt. */
#include "fusefs/core.h"

#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_FIRST_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (2 * NS_PER_S)

/* Readers whose flight failed for good: told by fetch_send. */
struct failed {
	struct waiter *waiters;
	struct err err;
	struct failed *next;
};

/* ---- life ---- */

struct flight *flight_find(struct ffs_file *f, uint32_t chunk)
{
	for (struct flight *it = f->flights; it; it = it->next)
		if (it->chunk == chunk)
			return it;
	return NULL;
}

struct flight *flight_new(struct ffs_file *f, uint32_t chunk)
{
	struct flight *fl = xcalloc(1, sizeof(*fl));

	fl->file = f;
	fl->chunk = chunk;
	fl->next = f->flights;
	f->flights = fl;
	f->busy++;
	return fl;
}

static void flight_unretry(struct ffs_data *d, struct flight *fl)
{
	struct flight **at = &d->retries;

	if (!fl->retry_ns)
		return;
	while (*at != fl)
		at = &(*at)->retry_next;
	*at = fl->retry_next;
	fl->retry_ns = 0;
}

void flight_free(struct ffs_data *d, struct flight *fl)
{
	struct flight **at = &fl->file->flights;
	struct ffs_file *f = fl->file;

	flight_unretry(d, fl);
	while (*at != fl)
		at = &(*at)->next;
	*at = fl->next;
	free(fl->err);
	free(fl);
	file_unbusy(d, f);
}

void flight_retry(struct ffs_data *d, struct flight *fl, int64_t at)
{
	flight_unretry(d, fl);
	fl->from = NULL;
	fl->retry_ns = at > 0 ? at : 1;
	fl->retry_next = d->retries;
	d->retries = fl;
	fills_wake(d);
}

static unsigned count_sources(struct ffs_data *d, struct ffs_file *f)
{
	uint32_t at = 0, entry;
	struct esgz_entry e;
	struct layer *l;
	unsigned n = 0;

	while (claims_next(&d->claims, &f->key, false, &at, &l, &e, &entry))
		n++;
	return n;
}

void file_complain(struct ffs_data *d, struct ffs_file *f, const char *why)
{
	struct layer *l = f->home;
	int64_t now = clock_mono_ns();
	char blob[DIGEST_TEXT_MAX];
	struct esgz_entry e;

	if (!l)
		return;
	snprintf(l->error, sizeof(l->error), "%s", why);
	if (l->logged_ns && now - l->logged_ns < NS_PER_S) {
		l->suppressed++;
		return;
	}
	esgz_index_entry(l->ix, f->entry, &e);
	log_error("image %s, layer %s, file /" STR_FMT ": %s%s", layer_reference(l), digest_text(&l->info->blob, blob),
	          STR_ARG(e.path), why, l->suppressed ? " (and more of this layer in the last second)" : "");
	l->logged_ns = now;
	l->suppressed = 0;
}

void flight_give_up(struct ffs_data *d, struct flight *fl, const struct err *err)
{
	struct failed *failed = xcalloc(1, sizeof(*failed));

	if (flight_has_live_waiters(fl) && !d->stopping)
		file_complain(d, fl->file, err->msg);
	failed->err = *err;
	failed->waiters = STEAL(fl->waiters);
	failed->next = d->failed;
	d->failed = failed;
	flight_free(d, fl);
}

void flight_failed(struct ffs_data *d, struct flight *fl, const struct err *err)
{
	int64_t now = clock_mono_ns(), wait;

	if (d->stopping || !fl->file->home || fl->file->state == FILE_FALSE) {
		flight_give_up(d, fl, err);
		return;
	}
	if (!fl->err)
		fl->err = xmalloc(sizeof(*fl->err));
	*fl->err = *err;
	if (err->code == ERR_CANCELLED) {
		flight_retry(d, fl, now);
		return;
	}
	if (err->code == ERR_DATA_LOSS && fl->corrupt++ == 0) {
		/* The line or a cache on the way may be at fault: once more, by a new request. */
		flight_retry(d, fl, now);
		return;
	}
	if (err_is_transient(err) && err->code != ERR_DATA_LOSS) {
		wait = BACKOFF_FIRST_NS << (fl->attempts < 5 ? fl->attempts : 5);
		fl->attempts++;
		flight_retry(d, fl, now + (wait < BACKOFF_MAX_NS ? wait : BACKOFF_MAX_NS));
		return;
	}
	/* A layer that was removed is none of those that are counted. */
	if ((fl->file->home->removed || ++fl->sources_tried < count_sources(d, fl->file)) &&
	    file_find_home(d, fl->file, fl->file->home)) {
		fl->corrupt = 0;
		flight_retry(d, fl, now);
		return;
	}
	flight_give_up(d, fl, err);
}

void flights_tell_failed(struct ffs_data *d)
{
	struct failed *failed;

	pthread_mutex_lock(&d->lock);
	failed = STEAL(d->failed);
	pthread_mutex_unlock(&d->lock);
	while (failed) {
		struct failed *next = failed->next;

		waiters_fail(d, failed->waiters, &failed->err);
		free(failed);
		failed = next;
	}
}

/* ---- bytes ---- */

void chunk_verified(struct ffs_data *d, struct ffs_file *f, uint32_t chunk, struct cbuf *buf, bool warm)
{
	struct waiter *readers = NULL, *others;
	struct flight *fl;

	pthread_mutex_lock(&d->lock);
	fl = flight_find(f, chunk);
	if (fl) {
		readers = STEAL(fl->waiters);
		flight_free(d, fl);
	}
	others = waiters_of_disk(&readers);
	if (readers || warm)
		cache_put(d, f, chunk, buf);
	if (warm && !readers)
		f->warm = true;
	pthread_mutex_unlock(&d->lock);
	waiters_deliver(d, readers, f, chunk, buf);
	file_store(d, f, chunk, buf);
	waiters_deliver(d, others, f, chunk, buf);
}

void chunk_is_zeros(struct ffs_data *d, struct ffs_file *f, uint32_t chunk, uint32_t bytes)
{
	struct cbuf *buf = cbuf_new(d, bytes);

	memset(buf->bytes, 0, bytes);
	chunk_verified(d, f, chunk, buf, false);
	cbuf_unref(buf);
}

/* ---- trying again ---- */

/* A chunk that is here after all, for a flight. NULL: not here. f is busy; no lock held. */
static struct cbuf *chunk_local(struct ffs_data *d, struct ffs_file *f, uint32_t chunk)
{
	struct cbuf *buf = NULL;
	struct esgz_chunk c;
	AUTO_FD int object = -1;
	struct err err;
	bool published;
	int fd = -1;

	if (file_probe(d, f, &err) < 0)
		return NULL;
	pthread_mutex_lock(&d->lock);
	buf = cache_get(d, f, chunk);
	if (buf || !f->home) {
		pthread_mutex_unlock(&d->lock);
		return buf;
	}
	file_chunk(f, chunk, &c);
	if ((f->state == FILE_FILLING || f->state == FILE_READY) && bit_get(f->present, chunk))
		fd = f->fd;
	published = f->state == FILE_PUBLISHED;
	pthread_mutex_unlock(&d->lock);
	if (published && file_open_object(d, f, &object, &err) == 0)
		fd = object;
	if (fd < 0)
		return NULL;
	buf = cbuf_new(d, c.bytes);
	if (partial_read(fd, buf->bytes, c.bytes, c.file_offset, &err) == 0)
		return buf;
	cbuf_unref(buf);
	return NULL;
}

static void flight_again(struct ffs_data *d, struct ffs_file *f, uint32_t chunk)
{
	struct cbuf *buf = chunk_local(d, f, chunk);
	struct flight *fl;
	struct err err;

	if (buf) {
		chunk_verified(d, f, chunk, buf, false);
		cbuf_unref(buf);
		return;
	}
	pthread_mutex_lock(&d->lock);
	fl = flight_find(f, chunk);
	if (fl && !fl->retry_ns && f->state == FILE_FALSE) {
		err_set(&err, ERR_DATA_LOSS, "the content of the file is not what the image promises");
		flight_give_up(d, fl, &err);
	} else if (fl && !fl->retry_ns) {
		fetch_flight(d, fl, 0);
	}
	pthread_mutex_unlock(&d->lock);
}

int64_t flights_retry(struct ffs_data *d, int64_t now)
{
	int64_t next = INT64_MAX;

	pthread_mutex_lock(&d->lock);
	for (struct flight *fl = d->retries; fl;) {
		struct ffs_file *f = fl->file;
		uint32_t chunk = fl->chunk;

		if (fl->retry_ns > now) {
			next = fl->retry_ns < next ? fl->retry_ns : next;
			fl = fl->retry_next;
			continue;
		}
		f->busy++;
		flight_unretry(d, fl);
		if (flight_has_live_waiters(fl) && !d->stopping) {
			d->last_demand_ns = now;
			pthread_mutex_unlock(&d->lock);
			flight_again(d, f, chunk);
			pthread_mutex_lock(&d->lock);
		} else {
			struct err err;

			err_set(&err, ERR_CANCELLED, "nobody waits any more");
			flight_give_up(d, fl, &err);
		}
		file_unbusy(d, f);
		fl = d->retries; /* anything may have happened to the list */
		next = INT64_MAX;
	}
	pthread_mutex_unlock(&d->lock);
	fetch_send(d);
	return next;
}

/* ---- chunks that are here: of an earlier boot, or zeros ---- */

struct local_job {
	struct pool_job pool;
	struct ffs_data *d;
	struct ffs_file *file;
	uint32_t chunk;
	uint32_t zeros; /* all that it is; 0: what is on disk */
};

static void local_job(struct pool_job *pool)
{
	struct local_job *j = CONTAINER_OF(pool, struct local_job, pool);
	struct ffs_data *d = j->d;
	struct cbuf *buf = NULL;
	struct esgz_chunk c;
	struct digest have;
	struct flight *fl;
	struct err err;
	bool good;
	int fd;

	pthread_mutex_lock(&d->lock);
	fd = j->file->fd;
	if (j->file->home)
		file_chunk(j->file, j->chunk, &c);
	else
		fd = -1;
	pthread_mutex_unlock(&d->lock);
	if (fd >= 0) {
		buf = cbuf_new(d, c.bytes);
		good = partial_read(fd, buf->bytes, c.bytes, c.file_offset, &err) == 0;
		if (good)
			digest_of(buf->bytes, c.bytes, &have);
		good = good && digest_eq(&have, &c.digest);
		if (good)
			chunk_verified(d, j->file, j->chunk, buf, false);
		cbuf_unref(buf);
	}
	pthread_mutex_lock(&d->lock);
	if (j->file->unsure)
		bit_clear(j->file->unsure, j->chunk);
	fl = flight_find(j->file, j->chunk);
	if (fl && !fl->retry_ns)
		flight_retry(d, fl, 0);
	file_unbusy(d, j->file);
	pthread_mutex_unlock(&d->lock);
	free(j);
	fetch_job_end(d);
}

static void zeros_job(struct pool_job *pool)
{
	struct local_job *j = CONTAINER_OF(pool, struct local_job, pool);
	struct ffs_data *d = j->d;

	chunk_is_zeros(d, j->file, j->chunk, j->zeros);
	pthread_mutex_lock(&d->lock);
	file_unbusy(d, j->file);
	pthread_mutex_unlock(&d->lock);
	free(j);
	fetch_job_end(d);
}

static void local_job_submit(struct ffs_data *d, const struct flight *fl, uint32_t zeros)
{
	struct local_job *j = xcalloc(1, sizeof(*j));

	*j = (struct local_job){.pool = {.fn = zeros ? zeros_job : local_job},
	                        .d = d,
	                        .file = fl->file,
	                        .chunk = fl->chunk,
	                        .zeros = zeros};
	fl->file->busy++;
	d->n_jobs++;
	pool_submit(d->pool, POOL_DEMAND, &j->pool);
}

void fetch_verify_local(struct ffs_data *d, struct flight *fl)
{
	local_job_submit(d, fl, 0);
}

void fetch_zeros(struct ffs_data *d, struct flight *fl, uint32_t bytes)
{
	local_job_submit(d, fl, bytes);
}
