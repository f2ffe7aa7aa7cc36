#include "base/metrics.h"
#include "fusefs/core.h"

#include <stdlib.h>

METRIC_COUNTER(fetches_total, "contentfs_fetches_total", "Ranges of blobs asked of registries: ok, error, cancelled.",
               "lane", "result");
METRIC_HISTOGRAM(fetch_seconds, "contentfs_fetch_seconds", "From the request of a range to its last byte.", "lane");

#define TAIL_BYTES_MAX                                                                                                 \
	(64u << 10)     /* compressed, that a reader's job inflates on behind its last chunk, for the proof */
#define BULK_JOBS_MAX 8 /* members that nobody waits for at the pool: a reader's member waits behind few of them */

/* ---- starting transfers ---- */

static void request_unref(struct request *r)
{
	struct ffs_data *d = r->d;
	void *handle;

	pthread_mutex_lock(&d->lock);
	if (--r->refs) {
		pthread_mutex_unlock(&d->lock);
		return;
	}
	layer_unref(r->layer);
	handle = r->handle;
	pthread_mutex_unlock(&d->lock);
	if (handle)
		d->blobs.unref(d->blobs.self, handle);
	free(r);
	pthread_mutex_lock(&d->lock);
	d->n_requests--;
	pthread_cond_broadcast(&d->idle);
	pthread_mutex_unlock(&d->lock);
}

static void outbox_add(struct ffs_data *d, struct request *r)
{
	r->refs++;
	vec_push(&d->outbox, r);
}

static void request_cancel(struct ffs_data *d, struct request *r)
{
	if (r->cancelled || r->over)
		return;
	r->cancelled = true;
	r->cancel_due = true;
	outbox_add(d, r);
}

void fetch_preempt(struct ffs_data *d)
{
	if (d->opts.background == FFS_BACKGROUND_EAGER)
		return;
	for (struct request *r = d->requests; r; r = r->next)
		if (r->lane != FFS_DEMAND)
			request_cancel(d, r);
}

struct request *fetch_members(struct ffs_data *d, struct layer *l, uint32_t first, uint32_t end, enum ffs_lane lane,
                              struct fill *fill)
{
	struct request *r = xcalloc(1, sizeof(*r));
	const struct member *last = &l->members[end - 1];

	*r = (struct request){
	    .d = d, .layer = l, .lane = lane, .fill = fill, .first = first, .end = end, .member = first};
	r->pos = l->members[first].offset;
	r->until = last->offset + last->bytes;
	r->refs = 1; /* given back when done came */
	layer_ref(l);
	for (uint32_t m = first; m < end; m++)
		if (l->state[m] == MEMBER_ABSENT && l->members[m].bytes)
			l->state[m] = MEMBER_INFLIGHT;
	r->next = d->requests;
	d->requests = r;
	d->n_requests++;
	d->n_demand += lane == FFS_DEMAND;
	outbox_add(d, r);
	return r;
}

/* A miss right behind what the last one brought is that of somebody who reads on: he gets twice as much each time. */
static uint32_t demand_window(const struct ffs_data *d, const struct layer *l, uint32_t m)
{
	if (d->opts.no_window)
		return 0;
	if (m != l->run_end || 2 * l->run_bytes <= l->window)
		return l->window;
	return 2 * l->run_bytes < FFS_WINDOW_MAX ? (uint32_t)(2 * l->run_bytes) : FFS_WINDOW_MAX;
}

void fetch_flight(struct ffs_data *d, struct flight *fl, uint64_t need_until)
{
	struct layer *l = fl->file->home;
	struct esgz_chunk c;
	uint32_t m, end;

	if (!l || l->removed) {
		struct err err;

		if (!file_find_home(d, fl->file, NULL)) {
			err_set(&err, ERR_NOT_FOUND, "no layer that is here delivers it any more");
			flight_give_up(d, fl, &err);
			return;
		}
		l = fl->file->home;
	}
	file_chunk(fl->file, fl->chunk, &c);
	fl->from = l;
	if (c.hole && c.bytes <= ESGZ_CHUNK_BYTES_MAX) { /* larger ones are data nowhere, so nobody waits for them */
		fetch_zeros(d, fl, (uint32_t)c.bytes);
		return;
	}
	m = layer_member_of(l, &c);
	if (l->state[m] == MEMBER_INFLIGHT) {
		for (struct request *r = d->requests; r; r = r->next)
			if (r->layer == l && m >= r->first && m < r->end && r->lane != FFS_DEMAND)
				request_cancel(d, r);
		return;
	}
	if (l->state[m] == MEMBER_INFLATING)
		return;
	if (l->members[m].bytes == 0) {
		struct err err;

		err_set(&err, ERR_INVALID, FFS_IMPOSSIBLE_MEMBER);
		flight_failed(d, fl, &err);
		return;
	}
	l->state[m] = MEMBER_ABSENT;
	plan_demand(l, m, demand_window(d, l, m), need_until, &end);
	l->run_end = end;
	l->run_bytes = l->members[end - 1].offset + l->members[end - 1].bytes - l->members[m].offset;
	fetch_members(d, l, m, end, FFS_DEMAND, NULL);
}

/* ---- members as they arrive ---- */

struct job {
	struct pool_job pool;
	struct ffs_data *d;
	struct layer *layer;
	uint32_t member;
	bool bulk; /* counted in n_bulk_jobs */
	bool warm;
	bool gaps; /* are kept */
	uint8_t *bytes;
	size_t n;
};

/* The file and, when somebody waits for it, the flight of the i-th chunk of a member; NULL when nobody asked for the
 * file yet. Lock held. */
static struct ffs_file *member_file(struct ffs_data *d, struct layer *l, uint32_t m, uint32_t i, struct flight **fl)
{
	uint32_t chunk = l->order[l->members[m].first + i];
	struct ffs_file *f;
	struct esgz_entry e;

	esgz_index_entry(l->ix, l->entry_of[chunk], &e);
	f = file_lookup(d, &e.claim);
	*fl = f ? flight_find(f, chunk - e.first_chunk) : NULL;
	return f;
}

static bool member_awaited(struct ffs_data *d, struct layer *l, uint32_t m)
{
	for (uint32_t i = 0; i < member_chunks(l, m); i++) {
		struct flight *fl;

		member_file(d, l, m, i, &fl);
		if (fl)
			return true;
	}
	return false;
}

/* Flights of a member that nothing brings any more are tried again, or failed. Lock held. */
static void member_flights_failed(struct ffs_data *d, struct layer *l, uint32_t m, const struct err *err)
{
	for (uint32_t i = 0; i < member_chunks(l, m); i++) {
		struct flight *fl;

		member_file(d, l, m, i, &fl);
		if (fl && !fl->retry_ns && fl->from == l)
			flight_failed(d, fl, err);
	}
}

void requests_resume(struct ffs_data *d)
{
	for (struct request *r = d->requests; r; r = r->next)
		if (r->paused) {
			r->paused = false;
			r->resume_due = true;
			outbox_add(d, r);
		}
}

/* The chunk that a job is at. */
struct arriving {
	uint32_t number, entry;
	struct esgz_chunk c;
	struct ffs_file *f; /* busy */
	uint32_t of_file;   /* the chunk's number there */
	struct cbuf *buf;
};

/* The i-th chunk of the member: false when it is not wanted. */
static bool chunk_begin(struct job *j, uint32_t i, bool awaited_only, struct arriving *a)
{
	struct ffs_data *d = j->d;
	struct layer *l = j->layer;
	struct esgz_entry e;
	struct flight *fl;
	struct err err;
	bool wanted;

	a->number = l->order[l->members[j->member].first + i];
	a->entry = l->entry_of[a->number];
	esgz_index_entry(l->ix, a->entry, &e);
	esgz_index_chunk(l->ix, a->number, &a->c);
	a->of_file = a->number - e.first_chunk;
	pthread_mutex_lock(&d->lock);
	a->f = member_file(d, l, j->member, i, &fl);
	if (awaited_only ? !fl : l->published[a->entry] && !fl) {
		pthread_mutex_unlock(&d->lock);
		return false;
	}
	if (!a->f)
		a->f = file_of_entry(d, l, a->entry, &e);
	a->f->busy++;
	pthread_mutex_unlock(&d->lock);

	if (file_probe(d, a->f, &err) < 0)
		log_debug("look for an object: %s", err.msg);
	pthread_mutex_lock(&d->lock);
	wanted = flight_find(a->f, a->of_file) || (a->f->state == FILE_FILLING && !bit_get(a->f->present, a->of_file));
	if (a->f->state == FILE_PUBLISHED)
		l->published[a->entry] = 1;
	if (!wanted)
		file_unbusy(d, a->f);
	pthread_mutex_unlock(&d->lock);
	if (wanted)
		a->buf = cbuf_new(d, a->c.bytes);
	return wanted;
}

/* Its bytes are in the buffer, or `why` not. */
static void chunk_end(struct job *j, struct arriving *a, int result, const struct err *why)
{
	struct ffs_data *d = j->d;
	AUTO_FREE struct err *err = NULL;
	struct flight *fl;

	if (result == 0)
		chunk_verified(d, a->f, a->of_file, a->buf, j->warm);
	cbuf_unref(STEAL(a->buf));
	if (result < 0) {
		err = xmalloc(sizeof(*err));
		*err = *why;
		err_wrap(err, "chunk at %llu of the file does not come as the image promises",
		         (unsigned long long)a->c.file_offset);
	}
	pthread_mutex_lock(&d->lock);
	if (err) {
		d->counters.corrupt_chunks++;
		prover_suspect(d, j->layer);
		fl = flight_find(a->f, a->of_file);
		if (!fl)
			file_complain(d, a->f, err->msg);
		else if (fl->from == j->layer)
			flight_failed(d, fl, err);
	}
	file_unbusy(d, a->f);
	pthread_mutex_unlock(&d->lock);
}

static int one_chunk(struct job *j, struct esgz_inflater *z, const struct arriving *a, struct err *err)
{
	struct str in = str_make(j->bytes, j->n);
	struct esgz_point from;

	if (!j->layer->points)
		return esgz_inflate_chunk(z, j->layer->info->compression, in, &a->c, a->buf->bytes, err);
	layer_point(j->layer, j->member, &from);
	return esgz_inflate_chunk_at(z, &from, in, &a->c, a->buf->bytes, err);
}

/* Of a member with many chunks: those that somebody waits for come before the others. */
static bool member_awaited_first(struct job *j, struct esgz_inflater *z, uint32_t n)
{
	bool ok = true;

	for (uint32_t i = 0; i < n; i++) {
		struct arriving a = {0};
		AUTO_FREE struct err *err = NULL;
		int r;

		if (!chunk_begin(j, i, true, &a))
			continue;
		err = xmalloc(sizeof(*err));
		r = one_chunk(j, z, &a, err);
		chunk_end(j, &a, r, err);
		ok &= r == 0;
	}
	return ok;
}

/* A member on its way through the inflater. */
struct passing {
	struct job *j;
	struct arriving at;
	bool ok;
	struct buf gap;
};

static uint8_t *on_chunk_begin(void *arg, uint32_t i)
{
	struct passing *p = arg;

	p->at = (struct arriving){0};
	return chunk_begin(p->j, i, false, &p->at) ? p->at.buf->bytes : NULL;
}

static void on_chunk(void *arg, uint32_t i, int result, const struct err *err)
{
	struct passing *p = arg;

	chunk_end(p->j, &p->at, result, err);
	p->ok &= result == 0;
}

static bool on_gap(void *arg, struct str plain)
{
	struct passing *p = arg;

	if (plain.n > GAPS_PIECE_MAX - p->gap.n)
		return false;
	buf_addstr(&p->gap, plain);
	return true;
}

static void gaps_job(struct pool_job *pool)
{
	struct job *j = CONTAINER_OF(pool, struct job, pool);
	struct ffs_data *d = j->d;

	gaps_flush(j->layer->gaps);
	pthread_mutex_lock(&d->lock);
	layer_unref(j->layer);
	pthread_mutex_unlock(&d->lock);
	free(j);
	fetch_job_end(d);
}

void fetch_flush_gaps(struct ffs_data *d, struct layer *l)
{
	struct job *j = xcalloc(1, sizeof(*j));

	*j = (struct job){.pool = {.fn = gaps_job}, .d = d, .layer = l};
	pthread_mutex_lock(&d->lock);
	layer_ref(l);
	d->n_jobs++;
	pthread_mutex_unlock(&d->lock);
	pool_submit(d->pool, POOL_BACKGROUND, &j->pool);
}

/* A span: that all of it came out is known by how much it was. */
static bool span_pass(struct job *j, struct esgz_inflater *z, const struct esgz_chunk *chunks, uint32_t n,
                      size_t tail_max, const struct esgz_member_sink *sink)
{
	const struct passing *p = sink->arg;
	struct esgz_point from;
	uint32_t at = layer_point(j->layer, j->member, &from);
	uint64_t plain = 0;

	if (!esgz_inflate_span(z, &from, str_make(j->bytes, j->n), chunks, n, tail_max, sink))
		return false;
	for (uint32_t i = 0; i < n; i++)
		plain += chunks[i].bytes;
	return plain + p->gap.n == esgz_points_span_end(j->layer->points, at) - from.place.plain_offset;
}

/* All chunks of the member in one pass, and behind them, for the proof, what is no chunk. */
static bool member_pass(struct job *j, struct esgz_inflater *z, uint32_t n)
{
	struct layer *l = j->layer;
	const struct member *m = &l->members[j->member];
	struct passing p = {.j = j, .ok = true, .gap = BUF_INIT};
	struct esgz_member_sink sink = {.begin = on_chunk_begin, .chunk = on_chunk, .arg = &p};
	AUTO_FREE struct esgz_chunk *chunks = xcalloc(n + 1, sizeof(*chunks));
	size_t tail_max = j->bulk ? SIZE_MAX : TAIL_BYTES_MAX;
	bool whole;

	for (uint32_t i = 0; i < n; i++)
		esgz_index_chunk(l->ix, l->order[m->first + i], &chunks[i]);
	if (j->gaps)
		sink.gap = on_gap;
	whole = l->points ? span_pass(j, z, chunks, n, tail_max, &sink)
	                  : esgz_inflate_member(z, l->info->compression, str_make(j->bytes, j->n), chunks, n, tail_max,
	                                        &sink);
	if (whole && gaps_add(l->gaps, m->offset, m->offset + j->n, n, buf_str(&p.gap)))
		fetch_flush_gaps(j->d, l);
	buf_fini(&p.gap);
	return p.ok;
}

static void member_job(struct pool_job *pool)
{
	struct job *j = CONTAINER_OF(pool, struct job, pool);
	struct ffs_data *d = j->d;
	struct inflater_slot *z = inflater_take(d);
	uint32_t n = member_chunks(j->layer, j->member);
	bool ok;

	/* What was just found broken is not tried again from the same bytes, and nothing of them is kept. */
	ok = (n == 1 || member_awaited_first(j, z->z, n)) && member_pass(j, z->z, n);
	inflater_give(d, z);

	pthread_mutex_lock(&d->lock);
	j->layer->state[j->member] = ok ? MEMBER_DONE : MEMBER_ABSENT;
	/* Who came after his chunk was dealt with finds it in the cache or on disk. */
	for (uint32_t i = 0; i < n; i++) {
		struct flight *fl;

		member_file(d, j->layer, j->member, i, &fl);
		if (fl && !fl->retry_ns && fl->from == j->layer)
			flight_retry(d, fl, 0);
	}
	d->memory -= j->n;
	d->n_bulk_jobs -= j->bulk;
	requests_resume(d);
	layer_unref(j->layer);
	fills_wake(d);
	pthread_mutex_unlock(&d->lock);
	free(j->bytes);
	free(j);
	fetch_job_end(d);
}

static void member_arrived(struct request *r)
{
	struct ffs_data *d = r->d;
	struct job *j = xcalloc(1, sizeof(*j));
	enum pool_lane lane;

	*j = (struct job){.pool = {.fn = member_job}, .d = d, .layer = r->layer, .member = r->member, .n = r->got};
	j->bytes = STEAL(r->buf);
	pthread_mutex_lock(&d->lock);
	r->layer->state[r->member] = MEMBER_INFLATING;
	layer_ref(r->layer);
	j->warm = r->lane == FFS_DEMAND;
	j->bulk = r->lane != FFS_DEMAND;
	j->gaps = prover_wants_gaps(d, r->layer, j->bulk);
	lane = member_awaited(d, r->layer, r->member) ? POOL_DEMAND
	       : r->lane == FFS_DEMAND                ? POOL_READAHEAD
	                                              : (enum pool_lane)r->lane;
	d->n_jobs++;
	d->n_bulk_jobs += j->bulk;
	pthread_mutex_unlock(&d->lock);
	pool_submit(d->pool, lane, &j->pool);
}

/* Memory for the member at r->member, or the reason not to go on. Memory is taken for a member as a whole, so that
 * whatever has begun can end. */
enum begin { BEGIN_OK, BEGIN_SKIP, BEGIN_PAUSE, BEGIN_STOP };

static enum begin member_begin(struct request *r)
{
	struct ffs_data *d = r->d;
	const struct member *m = &r->layer->members[r->member];
	enum begin result = BEGIN_OK;
	uint64_t in_use, bound;

	pthread_mutex_lock(&d->lock);
	in_use = d->memory - d->memory_cached;
	bound = r->lane == FFS_DEMAND ? d->opts.memory_bytes : d->opts.memory_bytes / 2;
	if (r->cancelled)
		result = BEGIN_STOP;
	else if (r->layer->state[r->member] != MEMBER_INFLIGHT)
		result = BEGIN_SKIP;
	else if ((in_use && in_use + m->bytes > bound) || (r->lane != FFS_DEMAND && d->n_bulk_jobs >= BULK_JOBS_MAX)) {
		r->paused = true;
		result = BEGIN_PAUSE;
	} else {
		d->memory += m->bytes;
		cache_trim(d);
	}
	pthread_mutex_unlock(&d->lock);
	if (result == BEGIN_OK) {
		r->buf = xmalloc(m->bytes);
		r->got = 0;
	}
	return result;
}

static enum ffs_flow request_data(void *arg, uint64_t at, struct str bytes)
{
	struct request *r = arg;
	const struct member *members = r->layer->members;

	if (at < r->pos) {
		/* Came before, up to where we paused. */
		uint64_t seen = r->pos - at;

		bytes = str_sub(bytes, seen < bytes.n ? seen : bytes.n, SIZE_MAX);
	}
	while (bytes.n && r->member < r->end) {
		const struct member *m = &members[r->member];
		size_t n;

		if (!r->buf && r->pos < m->offset) {
			n = m->offset - r->pos < bytes.n ? m->offset - r->pos : bytes.n;
		} else if (!r->buf) {
			enum begin begin = m->bytes ? member_begin(r) : BEGIN_SKIP;

			if (begin == BEGIN_PAUSE)
				return FFS_FLOW_PAUSE;
			if (begin == BEGIN_STOP)
				return FFS_FLOW_STOP;
			if (begin == BEGIN_SKIP)
				r->member++;
			continue;
		} else {
			n = m->bytes - r->got < bytes.n ? m->bytes - r->got : bytes.n;
			memcpy(r->buf + r->got, bytes.p, n);
			r->got += n;
		}
		bytes = str_sub(bytes, n, SIZE_MAX);
		r->pos += n;
		if (r->buf && r->got == m->bytes) {
			member_arrived(r);
			r->member++;
		}
	}
	/* Stopping at the very end would cost the connection. */
	return r->member < r->end || r->pos >= r->until ? FFS_FLOW_MORE : FFS_FLOW_STOP;
}

static uint32_t window_of(struct ffs_data *d, const char *reference)
{
	uint64_t bandwidth = 0;
	int64_t rtt = 0;
	double bytes;

	d->blobs.estimate(d->blobs.self, reference, &rtt, &bandwidth);
	bytes = 1.5 * (double)rtt / (double)NS_PER_S * (double)bandwidth;
	return bytes < FFS_WINDOW_MIN ? FFS_WINDOW_MIN : bytes > FFS_WINDOW_MAX ? FFS_WINDOW_MAX : (uint32_t)bytes;
}

static void count_done(const struct request *r, int result)
{
	static const char *const lanes[FFS_LANES] = {[FFS_DEMAND] = "demand",
	                                             [FFS_READAHEAD] = "readahead",
	                                             [FFS_PREFETCH] = "prefetch",
	                                             [FFS_BACKGROUND] = "background"};
	const char *lane = lanes[r->lane];

	metric_add(&fetches_total, 1, lane, r->cancelled ? "cancelled" : result < 0 ? "error" : "ok");
	if (result >= 0 && !r->cancelled)
		metric_observe_ns(&fetch_seconds, clock_mono_ns() - r->sent_ns, lane);
}

static void request_done(void *arg, int result, const struct err *err)
{
	struct request *r = arg, **at;
	struct ffs_data *d = r->d;
	struct err short_err;
	uint32_t window = window_of(d, layer_reference(r->layer));

	pthread_mutex_lock(&d->lock);
	count_done(r, result);
	r->over = true;
	for (at = &d->requests; *at != r;)
		at = &(*at)->next;
	*at = r->next;
	d->n_demand -= r->lane == FFS_DEMAND;
	r->layer->window = window;
	if (r->buf) {
		free(STEAL(r->buf));
		d->memory -= r->layer->members[r->member].bytes;
	}
	if (r->cancelled) {
		err_set(&short_err, ERR_CANCELLED, "cancelled");
		err = &short_err;
	} else if (result == 0) {
		err_set(&short_err, ERR_DATA_LOSS, "the registry's copy of the layer ends early");
		err = &short_err;
	}
	/* All states first: a flight that is tried again may plan over its neighbours. */
	for (uint32_t m = r->member; m < r->end; m++)
		if (r->layer->state[m] == MEMBER_INFLIGHT)
			r->layer->state[m] = MEMBER_ABSENT;
	for (uint32_t m = r->member; m < r->end; m++)
		member_flights_failed(d, r->layer, m, err);
	if (r->fill)
		fill_request_done(d, r->fill, r->cancelled ? -ERR_CANCELLED : result, err);
	requests_resume(d);
	fills_wake(d);
	pthread_mutex_unlock(&d->lock);
	fetch_send(d);
	request_unref(r);
}

static void request_send(struct request *r)
{
	struct ffs_data *d = r->d;
	struct err err;
	void *handle = NULL;
	const struct origin *from = atomic_load(&r->layer->origin);
	struct ffs_blob_query q = {
	    .reference = from->reference,
	    .owner = from->owner,
	    .blob = r->layer->info->blob,
	    .blob_bytes = r->layer->info->blob_bytes,
	    .offset = r->layer->members[r->first].offset,
	    .demand = r->lane == FFS_DEMAND,
	    .deadline_ns = r->lane == FFS_DEMAND ? clock_mono_ns() + d->opts.read_timeout_ns : INT64_MAX,
	    .data = request_data,
	    .done = request_done,
	    .arg = r,
	};

	q.length = r->until - q.offset;
	r->sent_ns = clock_mono_ns();
	if (d->blobs.get(d->blobs.self, &q, &handle, &err) < 0) {
		request_done(r, -(int)err.code, &err);
		return;
	}
	pthread_mutex_lock(&d->lock);
	r->handle = handle;
	d->counters.requests[r->lane]++;
	pthread_mutex_unlock(&d->lock);
}

/* One request of the outbox: what is due and can be done now. */
static void outbox_do(struct ffs_data *d, struct request *r)
{
	bool send, cancel, resume;
	struct err err;

	pthread_mutex_lock(&d->lock);
	send = !r->sent;
	r->sent = true;
	if (send && r->cancelled) {
		pthread_mutex_unlock(&d->lock);
		err_set(&err, ERR_CANCELLED, "cancelled");
		request_done(r, -ERR_CANCELLED, &err);
		return;
	}
	pthread_mutex_unlock(&d->lock);
	if (send)
		request_send(r);
	pthread_mutex_lock(&d->lock);
	/* Without a handle somebody is in get() with it, and does this afterwards. */
	cancel = r->handle && r->cancel_due;
	resume = r->handle && r->resume_due;
	if (cancel)
		r->cancel_due = false;
	if (resume)
		r->resume_due = false;
	pthread_mutex_unlock(&d->lock);
	if (cancel)
		d->blobs.cancel(d->blobs.self, r->handle);
	if (resume)
		d->blobs.resume(d->blobs.self, r->handle);
}

void fetch_send(struct ffs_data *d)
{
	for (;;) {
		struct request *r = NULL;

		pthread_mutex_lock(&d->lock);
		if (d->outbox.n)
			r = vec_pop(&d->outbox);
		pthread_mutex_unlock(&d->lock);
		if (!r)
			break;
		outbox_do(d, r);
		request_unref(r);
	}
	flights_tell_failed(d);
}

/* ---- the end ---- */

void fetch_job_end(struct ffs_data *d)
{
	fetch_send(d);
	pthread_mutex_lock(&d->lock);
	d->n_jobs--;
	pthread_cond_broadcast(&d->idle);
	pthread_mutex_unlock(&d->lock);
}

void fetch_stop(struct ffs_data *d)
{
	pthread_mutex_lock(&d->lock);
	for (struct request *r = d->requests; r; r = r->next)
		request_cancel(d, r);
	pthread_mutex_unlock(&d->lock);
	fetch_send(d);
	pthread_mutex_lock(&d->lock);
	while (d->n_requests || d->n_jobs)
		pthread_cond_wait(&d->idle, &d->lock);
	pthread_mutex_unlock(&d->lock);
	fetch_send(d);
}
