#include "base/metrics.h"
#include "fusefs/core.h"

#include <stdlib.h>

METRIC_COUNTER(reads_total, "contentfs_reads_total",
               "Reads that the FUSE mount has answered: hit (all of it was here), miss (had to wait), error.",
               "result");
METRIC_HISTOGRAM(miss_seconds, "contentfs_miss_seconds", "How long reads that missed have waited for their bytes.");

/*
 * One read. Its parts arrive in any order from several threads; the last one answers. A read of one chunk is answered
 * from the buffer that the chunk was inflated into; others gather in a buffer of their own.
 */
struct read_op {
	struct ffs_data *d;
	struct ffs_file *file; /* busy */
	uint64_t at;
	size_t n;
	bool discard; /* only wants the chunks to be here */
	int64_t began_ns;
	ffs_read_fn *done;
	void *arg;
	atomic_uint refs;

	/* Guarded by d->lock. */
	unsigned missing; /* parts that are not here yet */
	bool over;        /* answered, or about to be */
	bool missed;      /* had to wait for a chunk */
	int64_t deadline_ns;
	struct read_op *next, *prev; /* d->ops, when queued */
	bool queued;

	uint8_t *bytes; /* n, made before parts arrive; NULL for a single chunk and for discard */
	bool single;
};

bool flight_has_live_waiters(const struct flight *f)
{
	for (const struct waiter *w = f->waiters; w; w = w->next)
		if (!w->op->over)
			return true;
	return false;
}

/* ---- life of a read ---- */

/* Lock held. */
static struct read_op *op_new(struct ffs_data *d, struct ffs_file *f, uint64_t at, size_t n, ffs_read_fn *done,
                              void *arg)
{
	struct read_op *op = xcalloc(1, sizeof(*op));

	*op = (struct read_op){.d = d, .file = f, .at = at, .n = n, .done = done, .arg = arg, .missing = 1};
	atomic_init(&op->refs, 1);
	f->busy++;
	op->began_ns = clock_mono_ns();
	op->deadline_ns = op->began_ns + d->opts.read_timeout_ns;
	op->queued = true;
	op->prev = d->ops_last;
	*(d->ops_last ? &d->ops_last->next : &d->ops_first) = op;
	d->ops_last = op;
	if (d->ops_first == op)
		fills_wake(d); /* the scheduler had no deadline to wait for */
	return op;
}

/* Lock held. */
static void op_dequeue(struct read_op *op)
{
	struct ffs_data *d = op->d;

	if (!op->queued)
		return;
	*(op->prev ? &op->prev->next : &d->ops_first) = op->next;
	*(op->next ? &op->next->prev : &d->ops_last) = op->prev;
	op->queued = false;
}

static void op_unref(struct read_op *op)
{
	if (atomic_fetch_sub(&op->refs, 1) != 1)
		return;
	pthread_mutex_lock(&op->d->lock);
	file_unbusy(op->d, op->file);
	pthread_mutex_unlock(&op->d->lock);
	free(op->bytes);
	free(op);
}

/* Reads of programs: not those by which we bring a file ourselves. */
static void count_answer(const struct read_op *op, bool missed, bool failed)
{
	if (op->discard)
		return;
	metric_add(&reads_total, 1, failed ? "error" : missed ? "miss" : "hit");
	if (missed && !failed)
		metric_observe_ns(&miss_seconds, clock_mono_ns() - op->began_ns);
}

/* Answers, unless that was done; `bytes` or `err`. */
static void op_answer(struct read_op *op, struct str bytes, const struct err *err)
{
	struct ffs_data *d = op->d;
	bool mine, missed;

	pthread_mutex_lock(&d->lock);
	mine = !op->over;
	missed = op->missed;
	op->over = true;
	op_dequeue(op);
	if (mine && err && !d->stopping)
		d->counters.read_errors++;
	pthread_mutex_unlock(&d->lock);
	if (!mine)
		return;
	count_answer(op, missed, err);
	op->done(op->arg, bytes, err);
}

/* Copies what chunk [c_at, c_at + buf->n) and the read have in common. */
static void op_copy(struct read_op *op, uint64_t c_at, const struct cbuf *buf)
{
	uint64_t from = c_at > op->at ? c_at : op->at;
	uint64_t until = c_at + buf->n < op->at + op->n ? c_at + buf->n : op->at + op->n;

	if (op->bytes && from < until)
		memcpy(op->bytes + (from - op->at), buf->bytes + (from - c_at), until - from);
}

/* A part is here. */
static void op_part(struct read_op *op)
{
	bool last;

	pthread_mutex_lock(&op->d->lock);
	last = --op->missing == 0;
	pthread_mutex_unlock(&op->d->lock);
	if (last)
		op_answer(op, op->bytes ? str_make(op->bytes, op->n) : STR_NONE, NULL);
}

void waiters_deliver(struct ffs_data *d, struct waiter *w, struct ffs_file *f, uint32_t chunk, const struct cbuf *buf)
{
	struct esgz_chunk c = {0};

	if (!w)
		return;
	pthread_mutex_lock(&d->lock);
	file_chunk(f, chunk, &c);
	pthread_mutex_unlock(&d->lock);
	while (w) {
		struct waiter *next = w->next;
		struct read_op *op = w->op;

		if (op->single)
			op_answer(op, str_sub(str_make(buf->bytes, buf->n), op->at - c.file_offset, op->n), NULL);
		else
			op_copy(op, c.file_offset, buf);
		op_part(op);
		op_unref(op);
		free(w);
		w = next;
	}
}

struct waiter *waiters_of_disk(struct waiter **all)
{
	struct waiter *taken = NULL;

	for (struct waiter **at = all; *at;) {
		struct waiter *w = *at;

		if (!w->op->discard) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->next = taken;
		taken = w;
	}
	return taken;
}

void waiters_fail(struct ffs_data *d, struct waiter *w, const struct err *err)
{
	while (w) {
		struct waiter *next = w->next;

		op_answer(w->op, STR_NONE, err);
		op_unref(w->op);
		free(w);
		w = next;
	}
}

/* ---- deadlines ---- */

/* Why the file's chunks do not come, as far as it is known. Lock held. */
static void expiry_error(struct read_op *op, struct err *err)
{
	const struct err *last = NULL;

	if (op->d->stopping) {
		err_set(err, ERR_CANCELLED, "contentfs ends");
		return;
	}
	for (struct flight *fl = op->file->flights; fl; fl = fl->next)
		if (fl->err)
			last = fl->err;
	err_set(err, ERR_DEADLINE, "nothing came within %lld ms%s%s",
	        (long long)(op->d->opts.read_timeout_ns / NS_PER_MS), last ? "; last failure: " : "",
	        last ? last->msg : "");
}

int64_t reads_expire(struct ffs_data *d, int64_t now)
{
	for (;;) {
		struct read_op *op;
		struct err err;

		pthread_mutex_lock(&d->lock);
		op = d->ops_first;
		if (!op || op->deadline_ns > now) {
			int64_t next = op ? op->deadline_ns : INT64_MAX;

			pthread_mutex_unlock(&d->lock);
			return next;
		}
		atomic_fetch_add(&op->refs, 1);
		op_dequeue(op);
		expiry_error(op, &err);
		if (!d->stopping)
			file_complain(d, op->file, err.msg);
		pthread_mutex_unlock(&d->lock);
		op_answer(op, STR_NONE, &err);
		op_unref(op);
	}
}

void reads_cancel_all(struct ffs_data *d)
{
	reads_expire(d, INT64_MAX - 1);
}

/* ---- reading what a layer claims ---- */

/* Bytes of a published object. */
static int read_object(struct ffs_data *d, struct ffs_file *f, uint64_t at, size_t n, void *dst, struct err *err)
{
	AUTO_FD int fd = -1;

	TRY(file_open_object(d, f, &fd, err));
	return partial_read(fd, dst, n, at, err);
}

/* What has to be done for the chunks of a read, decided under the lock. */
struct part {
	struct cbuf *buf; /* cached, or NULL */
	uint32_t chunk;
	bool on_disk;
	struct esgz_chunk c;
};

#define PARTS_INLINE 8

/* Lets the read wait for a chunk. Lock held. */
static void op_wait(struct read_op *op, struct ffs_file *f, uint32_t chunk, uint64_t need_until)
{
	struct flight *fl = flight_find(f, chunk);
	struct waiter *w = xcalloc(1, sizeof(*w));
	bool fresh = !fl;

	if (fresh)
		fl = flight_new(f, chunk);
	w->op = op;
	w->next = fl->waiters;
	fl->waiters = w;
	op->missing++;
	op->missed = true;
	atomic_fetch_add(&op->refs, 1);
	if (fresh && f->unsure && bit_get(f->unsure, chunk))
		fetch_verify_local(op->d, fl);
	else if (fresh)
		fetch_flight(op->d, fl, need_until);
}

/* Takes the parts that are on disk into the read's buffer. Damage makes the file absent and the read fail: the next
 * one fetches it again. */
static int op_read_parts(struct read_op *op, int fd, struct part *parts, unsigned n, struct err *err)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t from = parts[i].c.file_offset, until = from + parts[i].c.bytes;

		if (parts[i].buf)
			op_copy(op, from, parts[i].buf);
		if (!parts[i].on_disk || !op->bytes)
			continue;
		from = from > op->at ? from : op->at;
		until = until < op->at + op->n ? until : op->at + op->n;
		if (fd < 0) /* holes alone are here without a file */
			memset(op->bytes + (from - op->at), 0, until - from);
		else
			TRY(partial_read(fd, op->bytes + (from - op->at), until - from, from, err));
	}
	return 0;
}

/* Nothing of a file is trusted any more whose disk has failed. */
static void forget_file(struct ffs_data *d, struct ffs_file *f)
{
	if (f->n_chunks > 1)
		partial_remove(ffs_store_dir(d->store, FFS_DIR_PARTIAL), &f->key);
	pthread_mutex_lock(&d->lock);
	if (f->state == FILE_FILLING)
		file_vanished(d, f);
	pthread_mutex_unlock(&d->lock);
}

/* A read of a file that is being filled. Lock held at entry, given up. */
static void read_filling(struct ffs_data *d, struct read_op *op)
{
	struct ffs_file *f = op->file;
	uint32_t first = file_chunk_at(f, op->at), last = file_chunk_at(f, op->at + op->n - 1);
	struct part inline_parts[PARTS_INLINE], *parts = inline_parts;
	unsigned n = last - first + 1, n_missing = 0;
	uint64_t need_until = 0;
	struct err err;
	int fd = f->fd;

	if (n > PARTS_INLINE)
		parts = xcalloc(n, sizeof(*parts));
	for (unsigned i = 0; i < n; i++) {
		/* A whole file wants its chunks on disk: in the cache they may be on their way there. */
		parts[i] = (struct part){.chunk = first + i, .buf = op->discard ? NULL : cache_get(d, f, first + i)};
		file_chunk(f, first + i, &parts[i].c);
		parts[i].on_disk = !parts[i].buf && bit_get(f->present, first + i);
		if (parts[i].buf || parts[i].on_disk)
			continue;
		n_missing++;
		if (!parts[i].c.hole)
			need_until = parts[i].c.blob_offset + parts[i].c.blob_bytes;
	}
	op->single = !op->discard && n == 1;
	if (!op->discard && !(op->single && (n_missing || parts[0].buf)))
		op->bytes = xmalloc(op->n);
	for (unsigned i = 0; i < n && n_missing; i++)
		if (!parts[i].buf && !parts[i].on_disk)
			op_wait(op, f, first + i, need_until);
	if (n_missing) {
		d->last_demand_ns = clock_mono_ns();
		fetch_preempt(d);
	}
	pthread_mutex_unlock(&d->lock);
	if (n_missing)
		fetch_send(d); /* first of all the network */

	if (op->single && parts[0].buf)
		op_answer(
		    op, str_sub(str_make(parts[0].buf->bytes, parts[0].buf->n), op->at - parts[0].c.file_offset, op->n),
		    NULL);
	else if (op_read_parts(op, fd, parts, n, &err) < 0) {
		forget_file(d, f);
		op_answer(op, STR_NONE, &err);
	}
	for (unsigned i = 0; i < n; i++)
		cbuf_unref(parts[i].buf);
	if (parts != inline_parts)
		free(parts);
	op_part(op);
	op_unref(op);
}

static void op_fail(struct read_op *op, const struct err *err)
{
	op_answer(op, STR_NONE, err);
	op_unref(op);
}

/* False: the object was evicted and has to be looked for again; the reference is kept. */
static bool read_published(struct read_op *op, bool last_try)
{
	struct err err;

	if (op->discard) {
		op_part(op);
		op_unref(op);
		return true;
	}
	if (!op->bytes)
		op->bytes = xmalloc(op->n);
	if (read_object(op->d, op->file, op->at, op->n, op->bytes, &err) == 0) {
		op_answer(op, str_make(op->bytes, op->n), NULL);
		op_unref(op);
		return true;
	}
	if (err.code == ERR_NOT_FOUND) {
		pthread_mutex_lock(&op->d->lock);
		if (op->file->state == FILE_PUBLISHED) /* else another read has seen it before */
			file_vanished(op->d, op->file);
		pthread_mutex_unlock(&op->d->lock);
		if (!last_try)
			return false;
	}
	op_fail(op, &err);
	return true;
}

static void by_content_settled(void *arg, bool published, uint64_t size, const struct err *err)
{
	struct read_op *op = arg;

	if (!published) {
		op_fail(op, err);
		return;
	}
	pthread_mutex_lock(&op->d->lock);
	if (op->file->state == FILE_UNKNOWN)
		op->file->state = FILE_PUBLISHED;
	pthread_mutex_unlock(&op->d->lock);
	read_published(op, true);
}

/* The object was there once and is gone: it comes back as a whole, verified, or not at all. */
static void read_by_content(struct read_op *op)
{
	content_settle(op->d, &op->file->key, op->file->size, by_content_settled, op);
}

/* Starts a read that was made by op_new: sees where the file is and goes on from there. No lock held; consumes the
 * reference. */
static void op_start(struct read_op *op)
{
	struct ffs_data *d = op->d;
	struct ffs_file *f = op->file;
	struct err err;
	bool vanished = false;
	int r;

again:
	if (file_probe(d, f, &err) < 0 && err.code != ERR_NOT_FOUND) {
		op_fail(op, &err);
		return;
	}
	pthread_mutex_lock(&d->lock);
	if (d->stopping) {
		pthread_mutex_unlock(&d->lock);
		err_set(&err, ERR_CANCELLED, "contentfs ends");
		op_fail(op, &err);
		return;
	}
	if (!f->home)
		file_find_home(d, f, NULL);
	switch (f->state) {
	case FILE_PUBLISHED:
		pthread_mutex_unlock(&d->lock);
		if (!read_published(op, vanished)) {
			vanished = true;
			goto again;
		}
		return;
	case FILE_FALSE:
		pthread_mutex_unlock(&d->lock);
		err_set(&err, ERR_DATA_LOSS, "the content of the file is not what the image promises");
		op_fail(op, &err);
		return;
	case FILE_FILLING:
	case FILE_READY:
		if (!f->home)
			break;
		if (f->fd >= 0 || f->n_present == f->n_holes) {
			read_filling(d, op);
			return;
		}
		/* It was only closed to save descriptors. */
		r = file_open_partial(d, f, &err);
		pthread_mutex_unlock(&d->lock);
		if (r == 0)
			goto again;
		op_fail(op, &err);
		return;
	case FILE_UNKNOWN:
		if (f->home) {
			pthread_mutex_unlock(&d->lock);
			goto again;
		}
		break;
	}
	pthread_mutex_unlock(&d->lock);
	read_by_content(op);
}

void ffs_data_read(struct ffs_data *d, struct ffs_file *f, uint64_t at, size_t n, ffs_read_fn *done, void *arg)
{
	struct read_op *op;

	if (at >= f->size || n == 0) {
		done(arg, STR_NONE, NULL);
		return;
	}
	if (n > f->size - at)
		n = f->size - at;
	if (n > FFS_READ_MAX)
		n = FFS_READ_MAX;
	pthread_mutex_lock(&d->lock);
	op = op_new(d, f, at, n, done, arg);
	pthread_mutex_unlock(&d->lock);
	op_start(op);
}

void file_bring(struct ffs_data *d, struct ffs_file *f, uint64_t at, size_t n, ffs_read_fn *done, void *arg)
{
	struct read_op *op;

	pthread_mutex_lock(&d->lock);
	op = op_new(d, f, at, n, done, arg);
	op->discard = true;
	pthread_mutex_unlock(&d->lock);
	op_start(op);
}
