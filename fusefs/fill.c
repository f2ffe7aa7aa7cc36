#include "fusefs/core.h"

#include <errno.h>
#include <stdlib.h>

#define PROBE_STEP 128
#define REPORT_NS (50 * NS_PER_MS)
#define LULL_NS (20 * NS_PER_MS)      /* after a reader's request, before an explicit fill goes on */
#define FAILURES_MAX 5                /* requests in a row, then an explicit fill ends */
#define DISK_PAUSE_NS (10 * NS_PER_S) /* of the background, when what it brings cannot be kept */
#define RETRY_FIRST_NS (200 * NS_PER_MS)
#define RETRY_MAX_NS (60 * NS_PER_S)

void fills_wake(struct ffs_data *d)
{
	d->woken = true;
	pthread_cond_signal(&d->wake);
}

static void fill_add(struct ffs_data *d, struct fill *f)
{
	struct fill **at = &d->fills;

	/* Explicit ones first, each kind in its order. */
	while (*at && ((*at)->id || !f->id))
		at = &(*at)->next;
	f->next = *at;
	*at = f;
	layer_ref(f->layer);
	fills_wake(d);
}

int ffs_data_fill(struct ffs_data *d, const struct ffs_fill_query *q, uint64_t *id, struct err *err)
{
	struct layer *l;
	struct fill *f;

	pthread_mutex_lock(&d->lock);
	l = layer_find(d, &q->index_key);
	if (!l || d->stopping) {
		pthread_mutex_unlock(&d->lock);
		return err_set(err, ERR_NOT_FOUND, "the layer is not loaded");
	}
	f = xcalloc(1, sizeof(*f));
	*f = (struct fill){.id = ++d->next_fill_id,
	                   .layer = l,
	                   .lane = q->lane > FFS_DEMAND ? q->lane : FFS_BACKGROUND,
	                   .deadline_ns = q->deadline_ns,
	                   .progress = q->progress,
	                   .done = q->done,
	                   .arg = q->arg};
	if (id)
		*id = f->id;
	fill_add(d, f);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

/* Lock held. */
static void fill_cancel(struct ffs_data *d, struct fill *f, enum err_code code, const char *why)
{
	if (f->ended)
		return;
	f->ended = true;
	err_set(&f->err, code, "%s", why);
	for (struct request *r = d->requests; r; r = r->next)
		if (r->fill == f && !r->cancelled) {
			r->cancelled = r->cancel_due = true;
			r->refs++;
			vec_push(&d->outbox, r);
		}
	fills_wake(d);
}

void ffs_data_fill_cancel(struct ffs_data *d, uint64_t id)
{
	pthread_mutex_lock(&d->lock);
	for (struct fill *f = d->fills; f; f = f->next)
		if (f->id == id && id)
			fill_cancel(d, f, ERR_CANCELLED, "cancelled");
	pthread_mutex_unlock(&d->lock);
	fetch_send(d);
}

void fills_drop_layer(struct ffs_data *d, struct layer *l)
{
	for (struct fill *f = d->fills; f; f = f->next)
		if (f->layer == l)
			fill_cancel(d, f, ERR_NOT_FOUND, "the layer was removed");
}

void fills_cancel_all(struct ffs_data *d)
{
	for (struct fill *f = d->fills; f; f = f->next)
		fill_cancel(d, f, ERR_CANCELLED, "contentfs ends");
}

void ffs_data_set_pinned(struct ffs_data *d, const struct digest *index_key, bool pinned)
{
	struct layer *l;
	struct fill *f;

	pthread_mutex_lock(&d->lock);
	l = layer_find(d, index_key);
	if (l && l->pinned != pinned && !d->stopping) {
		l->pinned = pinned;
		for (f = d->fills; f && !pinned; f = f->next)
			if (f->layer == l && !f->id)
				fill_cancel(d, f, ERR_CANCELLED, "unpinned");
		if (pinned && !l->info->n_chunks)
			prover_add(d, l);
		if (pinned && l->info->n_chunks && d->opts.background != FFS_BACKGROUND_OFF) {
			f = xcalloc(1, sizeof(*f));
			*f = (struct fill){
			    .layer = l, .lane = FFS_BACKGROUND, .deadline_ns = INT64_MAX, .began_ns = clock_mono_ns()};
			fill_add(d, f);
		}
	}
	pthread_mutex_unlock(&d->lock);
	fetch_send(d);
}

void fill_request_done(struct ffs_data *d, struct fill *f, int result, const struct err *err)
{
	int64_t wait;

	f->inflight--;
	if (result == 0) {
		f->failures = 0;
		return;
	}
	f->cursor = 0; /* what it did not bring is somewhere behind */
	if (result == -ERR_CANCELLED || f->ended)
		return;
	if (!f->ended)
		f->err = *err;
	wait = RETRY_FIRST_NS << (f->failures < 9 ? f->failures : 9);
	f->failures++;
	f->not_before = clock_mono_ns() + (wait < RETRY_MAX_NS ? wait : RETRY_MAX_NS);
	if (f->id && (f->failures >= FAILURES_MAX || !err_is_transient(err)))
		fill_cancel(d, f, err->code, err->msg);
	else if (!f->id)
		log_warn("background fill of %s: %s", layer_reference(f->layer), err->msg);
}

/* ---- what is here already ---- */

/* Zeros that no member brings. */
static bool has_hole(const struct layer *l, const struct esgz_entry *e)
{
	for (uint32_t k = 0; l->n_holes > 0 && k < e->n_chunks; k++) {
		struct esgz_chunk c;

		esgz_index_chunk(l->ix, e->first_chunk + k, &c);
		if (c.hole)
			return true;
	}
	return false;
}

/* Marks members whose chunks are all on this machine, so that they are not fetched again. No lock held; the layer is
 * referenced by the fill. */
static void fill_probe(struct ffs_data *d, struct layer *l)
{
	AUTO_FREE uint8_t *here = NULL; /* per chunk */
	int partial_dir = ffs_store_dir(d->store, FFS_DIR_PARTIAL);
	struct err err;

	here = xcalloc((size_t)l->info->n_chunks + 1, 1);
	for (uint32_t i = 0; i < l->info->n_entries; i++) {
		struct esgz_entry e;
		struct ffs_file *f;

		esgz_index_entry(l->ix, i, &e);
		/* It takes a while, and this thread has more to do than that. */
		if (i % PROBE_STEP == PROBE_STEP - 1) {
			reads_expire(d, clock_mono_ns());
			flights_retry(d, clock_mono_ns());
		}
		if (e.type != ESGZ_REG || !e.n_chunks)
			continue;
		if (entry_published(d, &e)) {
			memset(here + e.first_chunk, 1, e.n_chunks);
			pthread_mutex_lock(&d->lock);
			l->published[i] = 1;
			pthread_mutex_unlock(&d->lock);
			continue;
		}
		if (e.n_chunks == 1 || !partial_exists(partial_dir, &e.claim))
			continue;
		pthread_mutex_lock(&d->lock);
		f = file_of_entry(d, l, i, &e);
		f->busy++;
		pthread_mutex_unlock(&d->lock);
		if (file_probe(d, f, &err) < 0)
			disk_failed(d, &err);
		pthread_mutex_lock(&d->lock);
		for (uint32_t c = 0; c < e.n_chunks && f->present; c++)
			here[e.first_chunk + c] = bit_get(f->present, c);
		file_unbusy(d, f);
		pthread_mutex_unlock(&d->lock);
	}
	pthread_mutex_lock(&d->lock);
	for (uint32_t m = 0; m < l->n_members; m++) {
		bool all = true;

		for (uint32_t i = 0; i < member_chunks(l, m); i++)
			all &= here[l->order[l->members[m].first + i]];
		if (all && l->state[m] == MEMBER_ABSENT)
			l->state[m] = MEMBER_DONE;
	}
	pthread_mutex_unlock(&d->lock);
}

/* Holes that the file lacks: it was begun for a layer where they are data. Lock held, and given up in between. */
static void store_holes(struct ffs_data *d, struct ffs_file *f, const struct layer *l, const struct esgz_entry *e)
{
	for (uint32_t i = 0; i < e->n_chunks; i++) {
		struct esgz_chunk c;

		esgz_index_chunk(l->ix, e->first_chunk + i, &c);
		if (!c.hole || c.bytes > ESGZ_CHUNK_BYTES_MAX || f->state != FILE_FILLING || bit_get(f->present, i))
			continue;
		pthread_mutex_unlock(&d->lock);
		chunk_is_zeros(d, f, i, (uint32_t)c.bytes);
		pthread_mutex_lock(&d->lock);
	}
}

/* Makes files of what lacks nothing but holes; each is complete at once, so that only the publisher makes them fewer. True
 * when none is left to make. Lock held, and given up in between. */
static bool fill_make_holes(struct ffs_data *d, struct fill *fill)
{
	struct layer *l = fill->layer;

	if (l->n_holes == 0)
		fill->hole = l->info->n_entries;
	for (; fill->hole < l->info->n_entries; fill->hole++) {
		struct esgz_entry e;
		struct ffs_file *f;
		struct err err;
		int r;

		if (fill->ended)
			return false;
		esgz_index_entry(l->ix, fill->hole, &e);
		if (e.type != ESGZ_REG || !e.n_chunks || l->published[fill->hole] || !has_hole(l, &e))
			continue;
		if (d->n_open > d->opts.open_files)
			return false;
		f = file_of_entry(d, l, fill->hole, &e);
		f->busy++;
		pthread_mutex_unlock(&d->lock);
		r = file_probe(d, f, &err);
		pthread_mutex_lock(&d->lock);
		if (r >= 0)
			store_holes(d, f, l, &e);
		if (r >= 0 &&
		    f->n_present == f->n_chunks) /* one that mounts know stays when it could not be made before */
			r = file_open_partial(d, f, &err);
		file_unbusy(d, f);
		if (r < 0) {
			pthread_mutex_unlock(&d->lock);
			disk_failed(d, &err);
			pthread_mutex_lock(&d->lock);
		}
	}
	return !fill->ended;
}

/* ---- one fill, one step ---- */

enum publish_state { PUBLISH_DONE, PUBLISH_WAIT, PUBLISH_STUCK, PUBLISH_LOST };

static bool entry_is_impossible(const struct layer *l, const struct esgz_entry *e)
{
	bool impossible = false;

	for (uint32_t k = 0; k < e->n_chunks; k++) {
		struct esgz_chunk c;

		esgz_index_chunk(l->ix, e->first_chunk + k, &c);
		impossible |= !c.hole && l->members[layer_member_of(l, &c)].bytes == 0;
	}
	return impossible;
}

/* Where an entry with content is on its way to an object; STUCK and LOST (what came was not kept) say why it is none.
 * Lock held, also while the store is asked for the few files that nobody saw published. */
static enum publish_state entry_state(struct ffs_data *d, struct layer *l, uint32_t i, struct err *err)
{
	struct esgz_entry e;
	struct ffs_file *f;

	esgz_index_entry(l->ix, i, &e);
	if (e.type != ESGZ_REG || !e.n_chunks || l->published[i])
		return PUBLISH_DONE;
	f = file_lookup(d, &e.claim);
	if (f && (f->state == FILE_READY || f->busy))
		return PUBLISH_WAIT;
	if (f && f->state == FILE_FALSE) {
		err_set(err, ERR_DATA_LOSS, "/" STR_FMT ": the content is not what the image promises",
		        STR_ARG(e.path));
		return PUBLISH_STUCK;
	}
	if (entry_published(d, &e)) {
		l->published[i] = 1;
		return PUBLISH_DONE;
	}
	if (entry_is_impossible(l, &e)) {
		err_set(err, ERR_INVALID, "/" STR_FMT ": " FFS_IMPOSSIBLE_MEMBER, STR_ARG(e.path));
		return PUBLISH_STUCK;
	}
	err_set(err, d->disk_err.code != ERR_OK ? d->disk_err.code : ERR_UNAVAILABLE,
	        "/" STR_FMT ": its chunks came but could not be kept on disk%s%s", STR_ARG(e.path),
	        d->disk_err.code != ERR_OK ? ": " : "", d->disk_err.code != ERR_OK ? d->disk_err.msg : "");
	return PUBLISH_LOST;
}

/* Has the members of an entry fetched once more. */
static void entry_forget_members(struct layer *l, uint32_t i)
{
	struct esgz_entry e;

	esgz_index_entry(l->ix, i, &e);
	for (uint32_t k = 0; k < e.n_chunks; k++) {
		struct esgz_chunk c;
		uint32_t m;

		esgz_index_chunk(l->ix, e.first_chunk + k, &c);
		if (c.hole)
			continue;
		m = layer_member_of(l, &c);
		if (l->state[m] == MEMBER_DONE)
			l->state[m] = MEMBER_ABSENT;
	}
}

/* Has all that did not get to the disk fetched once more. Lock held. */
static void fill_forget_lost(struct ffs_data *d, struct fill *f)
{
	struct err ignored;

	for (uint32_t i = f->entry; i < f->layer->info->n_entries; i++)
		if (entry_state(d, f->layer, i, &ignored) == PUBLISH_LOST)
			entry_forget_members(f->layer, i);
	f->cursor = f->hole = 0;
}

/* All members were asked for. True when the fill is over. Lock held. */
static bool fill_check_end(struct ffs_data *d, struct fill *f)
{
	struct layer *l = f->layer;
	uint32_t first, end;
	struct err err;

	for (uint32_t m = 0; m < l->n_members; m++)
		if (l->state[m] == MEMBER_INFLIGHT || l->state[m] == MEMBER_INFLATING)
			return false;
	if (plan_bulk(l, 0, FFS_BULK_BYTES, FFS_BULK_GAP, &first, &end)) {
		f->cursor = 0;
		if (++f->pass < 2)
			return false;
		if (f->err.code == ERR_OK)
			err_set(&f->err, ERR_DATA_LOSS, "%s",
			        l->error[0] ? l->error : "chunks do not come as promised");
		f->ended = true;
		return true;
	}
	for (; f->entry < l->info->n_entries; f->entry++) {
		enum publish_state s = entry_state(d, l, f->entry, &err);

		if (s == PUBLISH_WAIT)
			return false;
		if (s == PUBLISH_LOST && f->pass++ == 0) {
			fill_forget_lost(d, f); /* the disk may have been full for a moment */
			return false;
		}
		if (s != PUBLISH_DONE) {
			f->err = err;
			f->ended = true;
			return true;
		}
	}
	f->err.code = ERR_OK;
	f->ended = true;
	return true;
}

static uint64_t fill_done_bytes(const struct fill *f)
{
	uint64_t sum = 0;

	for (uint32_t m = 0; m < f->layer->n_members; m++)
		if (f->layer->state[m] == MEMBER_DONE)
			sum += f->layer->members[m].bytes;
	return sum;
}

/* When this fill may send its next request; `now` or earlier: at once. A layer is pinned just before its first container
 * starts: the background begins with a quiet time, too, or it would take the line from that start. Lock held. */
static int64_t fill_allowed(struct ffs_data *d, const struct fill *f)
{
	int64_t quiet = f->id ? LULL_NS : d->opts.background == FFS_BACKGROUND_EAGER ? 0 : d->opts.quiet_ns;
	int64_t since = d->last_demand_ns > f->began_ns ? d->last_demand_ns : f->began_ns;
	int64_t at = since ? since + quiet : 0;

	if (d->n_demand)
		return INT64_MAX; /* its end wakes us */
	if (!f->id && d->disk_failed_ns && at < d->disk_failed_ns + DISK_PAUSE_NS)
		at = d->disk_failed_ns + DISK_PAUSE_NS;
	return at > f->not_before ? at : f->not_before;
}

static unsigned bulk_requests(struct ffs_data *d)
{
	unsigned n = 0;

	for (struct request *r = d->requests; r; r = r->next)
		n += r->lane != FFS_DEMAND;
	return n;
}

/* Sends what may be sent now. Lock held. The time to come back. */
static int64_t fill_step(struct ffs_data *d, struct fill *f, int64_t now)
{
	while (!f->ended) {
		int64_t at = fill_allowed(d, f);
		uint32_t first, end;

		if (at > now)
			return at;
		if (bulk_requests(d) >= FFS_BULK_REQUESTS)
			return INT64_MAX;
		if (!plan_bulk(f->layer, f->cursor, FFS_BULK_BYTES, FFS_BULK_GAP, &first, &end)) {
			if (!f->inflight && fill_make_holes(d, f))
				fill_check_end(d, f);
			/* A publisher's batch, or another's transfer, wakes us; a file may also be just let go. */
			return f->ended ? now : now + 10 * NS_PER_MS;
		}
		f->cursor = end;
		f->inflight++;
		fetch_members(d, f->layer, first, end, f->lane, f);
	}
	return now;
}

/* Takes a fill that is over off the list and tells its owner. Lock held and given up. */
static void fill_end(struct ffs_data *d, struct fill *f)
{
	struct fill **at = &d->fills;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	if (!f->id && f->err.code == ERR_OK)
		log_info("layer of %s is here as a whole", layer_reference(f->layer));
	if (f->err.code == ERR_OK)
		prover_add(d, f->layer);
	pthread_mutex_unlock(&d->lock);
	/* Its contents will not pass again, whenever it is proven. */
	if (f->err.code == ERR_OK && f->layer->gaps)
		fetch_flush_gaps(d, f->layer);
	if (f->done)
		f->done(f->arg, -(int)f->err.code, &f->err);
	pthread_mutex_lock(&d->lock);
	layer_unref(f->layer);
	free(f);
}

/* A background fill that failed for now begins again later. */
static bool fill_restart(struct ffs_data *d, struct fill *f, int64_t now)
{
	if (f->id || f->err.code == ERR_OK || f->layer->removed || !f->layer->pinned || d->stopping)
		return false;
	log_warn("background fill of %s: %s", layer_reference(f->layer), f->err.msg);
	f->ended = false;
	f->pass = f->cursor = f->entry = f->hole = 0;
	f->not_before = now + RETRY_MAX_NS;
	f->err = ERR_INIT;
	return true;
}

static int64_t fill_visit(struct ffs_data *d, struct fill *f, int64_t now)
{
	int64_t next = INT64_MAX;

	if (!f->ended && now >= f->deadline_ns)
		fill_cancel(d, f, ERR_DEADLINE, "the fill did not end in time");
	if (!f->ended && !f->probed && fill_allowed(d, f) <= now) {
		f->probed = true;
		pthread_mutex_unlock(&d->lock);
		fill_probe(d, f->layer);
		pthread_mutex_lock(&d->lock);
	}
	if (!f->ended)
		next = f->probed ? fill_step(d, f, now) : fill_allowed(d, f);
	if (f->progress && !f->ended && now - f->reported_ns >= REPORT_NS) {
		uint64_t done = fill_done_bytes(f);

		f->reported_ns = now;
		pthread_mutex_unlock(&d->lock);
		f->progress(f->arg, done, f->layer->member_bytes);
		pthread_mutex_lock(&d->lock);
	}
	if (f->progress && !f->ended && f->reported_ns + REPORT_NS < next)
		next = f->reported_ns + REPORT_NS;
	return f->deadline_ns < next ? f->deadline_ns : next;
}

static int64_t fills_run(struct ffs_data *d, int64_t now)
{
	int64_t next = INT64_MAX, at;

	pthread_mutex_lock(&d->lock);
	/* Only this thread removes fills; others append, and mark them. */
	for (struct fill *f = d->fills, *following; f; f = following) {
		at = fill_visit(d, f, now);
		following = f->next;
		if (f->ended && f->inflight == 0 && !fill_restart(d, f, now))
			fill_end(d, f);
		else if (!f->ended && at < next)
			next = at;
	}
	pthread_mutex_unlock(&d->lock);
	fetch_send(d);
	return next;
}

/* ---- the thread ---- */

static void wait_until(struct ffs_data *d, int64_t when)
{
	struct timespec ts = {.tv_sec = when / NS_PER_S, .tv_nsec = when % NS_PER_S};

	if (when == INT64_MAX)
		pthread_cond_wait(&d->wake, &d->lock);
	else
		pthread_cond_timedwait(&d->wake, &d->lock, &ts);
}

static void *scheduler_main(void *arg)
{
	struct ffs_data *d = arg;

	for (;;) {
		int64_t now = clock_mono_ns(), next, at;

		pthread_mutex_lock(&d->lock);
		d->woken = false;
		if (!d->scheduler_on) {
			pthread_mutex_unlock(&d->lock);
			return NULL;
		}
		pthread_mutex_unlock(&d->lock);
		next = reads_expire(d, now);
		at = flights_retry(d, now);
		next = at < next ? at : next;
		at = fills_run(d, now);
		next = at < next ? at : next;
		pthread_mutex_lock(&d->lock);
		while (!d->woken && clock_mono_ns() < next)
			wait_until(d, next);
		pthread_mutex_unlock(&d->lock);
	}
}

int fills_start(struct ffs_data *d, struct err *err)
{
	pthread_condattr_t attr;
	int r;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->wake, &attr);
	pthread_condattr_destroy(&attr);
	d->scheduler_on = true;
	r = pthread_create(&d->scheduler, NULL, scheduler_main, d);
	if (r == 0)
		return 0;
	d->scheduler_on = false;
	return err_errno(err, r, "start the scheduler");
}

void fills_stop(struct ffs_data *d)
{
	bool on;

	pthread_mutex_lock(&d->lock);
	on = d->scheduler_on;
	d->scheduler_on = false;
	fills_wake(d);
	pthread_mutex_unlock(&d->lock);
	if (on)
		pthread_join(d->scheduler, NULL);
	/* Their requests are over (fetch_stop came first), so they can end here. */
	fills_run(d, clock_mono_ns());
}
