#include "base/file.h"
#include "fusefs/core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

/* ---- the table of files ---- */

static struct ffs_file **bucket_of(struct ffs_data *d, const struct digest *key)
{
	return &d->buckets[key_hash(key) & (d->n_buckets - 1)];
}

static void files_grow(struct ffs_data *d)
{
	struct ffs_file **old = d->buckets;
	size_t n = d->n_buckets;

	d->n_buckets = n ? 2 * n : 1024;
	d->buckets = xcalloc(d->n_buckets, sizeof(*d->buckets));
	for (size_t i = 0; i < n; i++)
		while (old[i]) {
			struct ffs_file *f = old[i];
			struct ffs_file **b = bucket_of(d, &f->key);

			old[i] = f->hash_next;
			f->hash_next = *b;
			*b = f;
		}
	free(old);
}

struct ffs_file *file_lookup(struct ffs_data *d, const struct digest *key)
{
	if (!d->n_buckets)
		return NULL;
	for (struct ffs_file *f = *bucket_of(d, key); f; f = f->hash_next)
		if (digest_eq(&f->key, key))
			return f;
	return NULL;
}

struct ffs_file *file_new(struct ffs_data *d, const struct digest *key, uint64_t size)
{
	struct ffs_file *f = xcalloc(1, sizeof(*f));
	struct ffs_file **b;

	if (d->n_files >= d->n_buckets)
		files_grow(d);
	f->key = *key;
	f->size = size;
	f->fd = f->stale_fd = -1;
	b = bucket_of(d, key);
	f->hash_next = *b;
	*b = f;
	d->n_files++;
	return f;
}

static void file_set_home(struct ffs_file *f, struct layer *l, uint32_t entry, const struct esgz_entry *e)
{
	if (f->home)
		layer_unref(f->home);
	layer_ref(l);
	f->home = l;
	f->entry = entry;
	f->first_chunk = e->first_chunk;
	f->n_chunks = e->n_chunks;
	f->content = e->content;
}

struct ffs_file *file_of_entry(struct ffs_data *d, struct layer *l, uint32_t entry, const struct esgz_entry *e)
{
	struct ffs_file *f = file_lookup(d, &e->claim);

	if (!f)
		f = file_new(d, &e->claim, e->size);
	if (!f->home)
		file_set_home(f, l, entry, e);
	return f;
}

bool file_find_home(struct ffs_data *d, struct ffs_file *f, const struct layer *not_this)
{
	uint32_t at = 0, entry, first_entry = 0;
	struct layer *l, *first = NULL;
	struct esgz_entry e, first_e;
	bool passed = false;

	/* The claim after the present one, else the first: repeated calls go round. */
	while (claims_next(&d->claims, &f->key, false, &at, &l, &e, &entry)) {
		if (l == not_this) {
			passed = true;
			continue;
		}
		if (!first) {
			first = l;
			first_e = e;
			first_entry = entry;
		}
		if (passed || !not_this) {
			file_set_home(f, l, entry, &e);
			return true;
		}
	}
	if (first)
		file_set_home(f, first, first_entry, &first_e);
	return first;
}

void file_chunk(const struct ffs_file *f, uint32_t i, struct esgz_chunk *out)
{
	esgz_index_chunk(f->home->ix, f->first_chunk + i, out);
}

uint32_t file_chunk_at(const struct ffs_file *f, uint64_t at)
{
	uint32_t lo = 0, hi = f->n_chunks;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;
		struct esgz_chunk c;

		file_chunk(f, mid, &c);
		if (c.file_offset <= at)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* Forgets what is known of its presence. */
static void file_close(struct ffs_data *d, struct ffs_file *f)
{
	if (f->fd >= 0) {
		close(f->fd);
		d->n_open--;
	}
	if (f->stale_fd >= 0)
		close(f->stale_fd);
	f->fd = f->stale_fd = -1;
	free(f->present);
	free(f->storing);
	free(f->unsure);
	f->present = f->storing = f->unsure = NULL;
	f->n_present = f->n_holes = 0;
}

void file_vanished(struct ffs_data *d, struct ffs_file *f)
{
	f->state = FILE_UNKNOWN;
	if (f->home)
		f->home->published[f->entry] = 0;
	if (f->present)
		memset(f->present, 0, bits_words(f->n_chunks) * 8);
	free(f->unsure);
	f->unsure = NULL;
	f->n_present = f->n_holes = 0;
	if (f->fd < 0)
		return;
	/* Somebody may be reading from it this moment: the number must not be given to another file. */
	if (f->stale_fd >= 0 && f->busy <= 1)
		close(STEAL_FD(f->stale_fd));
	d->n_open--;
	if (f->stale_fd < 0)
		f->stale_fd = f->fd;
	else
		log_warn("a descriptor is lost: a file vanished again while it was being read");
	f->fd = -1;
}

void file_free(struct ffs_data *d, struct ffs_file *f)
{
	struct ffs_file **at = bucket_of(d, &f->key);

	while (*at != f)
		at = &(*at)->hash_next;
	*at = f->hash_next;
	d->n_files--;
	file_close(d, f);
	if (f->home)
		layer_unref(f->home);
	free(f);
}

static void file_release_idle(struct ffs_data *d, struct ffs_file *f)
{
	if (f->busy || f->probing || f->flights || f->whole)
		return;
	if (f->state == FILE_PUBLISHED || f->state == FILE_FALSE)
		file_close(d, f);
	else if (f->fd >= 0 && f->n_chunks > 1 && d->n_open > d->opts.open_files) {
		close(f->fd);
		f->fd = -1;
		d->n_open--;
	}
	/* What the kernel does not know can be found again on disk, but not that it is false. */
	if (!f->exposed && !f->cached && f->state != FILE_FALSE)
		file_free(d, f);
}

void file_unbusy(struct ffs_data *d, struct ffs_file *f)
{
	f->busy--;
	file_release_idle(d, f);
}

/* ---- on disk ---- */

bool entry_published(struct ffs_data *d, const struct esgz_entry *e)
{
	return (e->n_chunks && ffs_object_has(d->store, &e->claim, e->size)) ||
	       ffs_object_has(d->store, &e->content, e->size);
}

/* Opens the object that has the content, published by whatever image, and gives it the claim's name as well. */
static int open_by_content(struct ffs_data *d, const struct ffs_file *f, int *fd, struct err *err)
{
	struct err ignored;

	TRY(ffs_object_open(d->store, &f->content, f->size, fd, err));
	if (ffs_object_alias(d->store, &f->content, &f->key, &ignored) < 0)
		log_debug("link a claim to its object: %s", ignored.msg);
	return 0;
}

int file_open_object(struct ffs_data *d, const struct ffs_file *f, int *fd, struct err *err)
{
	int r = ffs_object_open(d->store, &f->key, f->size, fd, err);

	if (r == 0 || err->code != ERR_NOT_FOUND || !f->home)
		return r;
	return open_by_content(d, f, fd, err);
}

/* On its way to an object once all of it is in its file. Lock held. */
static void file_check_ready(struct ffs_data *d, struct ffs_file *f)
{
	if (f->state != FILE_FILLING || f->fd < 0 || f->n_present < f->n_chunks)
		return;
	f->state = FILE_READY;
	publisher_add(d, f);
}

/* Nothing of the file is here but its holes. Lock held. */
static void file_begin(struct ffs_file *f)
{
	if (!f->present) {
		f->present = xcalloc(bits_words(f->n_chunks), 8);
		f->storing = xcalloc(bits_words(f->n_chunks), 8);
	}
	f->n_present = f->n_holes = 0;
	for (uint32_t i = 0; f->home && f->home->n_holes > 0 && i < f->n_chunks; i++) {
		struct esgz_chunk c;

		file_chunk(f, i, &c);
		if (c.hole) {
			bit_set(f->present, i);
			f->n_holes++;
		}
	}
	f->n_present = f->n_holes;
}

/* Takes over what the file on disk has. What an earlier boot may have torn is no hole: it is looked at first. Lock held. */
static void file_take_map(struct ffs_file *f, const uint64_t *present, uint64_t **unsure)
{
	for (uint32_t i = 0; i < f->n_chunks; i++) {
		bool hole = bit_get(f->present, i);

		if (bit_get(present, i) && !hole) {
			bit_set(f->present, i);
			f->n_present++;
		} else if (*unsure && bit_get(*unsure, i) && hole) {
			bit_clear(f->present, i);
			f->n_present--;
			f->n_holes--;
		}
	}
	if (*unsure) {
		free(f->unsure);
		f->unsure = STEAL(*unsure);
	}
}

int file_probe(struct ffs_data *d, struct ffs_file *f, struct err *err)
{
	enum file_state found = FILE_UNKNOWN;
	AUTO_FD int fd = -1;
	bool claimed;
	int r;

	pthread_mutex_lock(&d->lock);
	while (f->probing)
		pthread_cond_wait(&d->probed, &d->lock);
	if (f->state != FILE_UNKNOWN) {
		pthread_mutex_unlock(&d->lock);
		return 0;
	}
	f->probing = true;
	claimed = f->home != NULL;
	pthread_mutex_unlock(&d->lock);

	r = file_open_object(d, f, &fd, err);
	if (r == 0)
		found = FILE_PUBLISHED;
	else if (err->code == ERR_NOT_FOUND && claimed)
		found = FILE_FILLING;

	pthread_mutex_lock(&d->lock);
	if (found != FILE_UNKNOWN) {
		r = 0;
		f->state = found;
	}
	if (found == FILE_FILLING)
		file_begin(f);
	f->probing = false;
	/* What is nothing but holes is complete, and wants to become an object. */
	if (found == FILE_FILLING &&
	    (f->n_holes == f->n_chunks ||
	     (f->n_chunks > 1 && partial_exists(ffs_store_dir(d->store, FFS_DIR_PARTIAL), &f->key))))
		r = file_open_partial(d, f, err);
	pthread_cond_broadcast(&d->probed);
	pthread_mutex_unlock(&d->lock);
	return r;
}

static int open_nameless(struct ffs_data *d, uint64_t zeros, int *fd, struct err *err)
{
	AUTO_FD int file = openat(ffs_store_dir(d->store, FFS_DIR_OBJECTS), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);

	if (file < 0)
		return err_errno(err, errno, "open a new object");
	if (zeros > 0 && ftruncate(file, (off_t)zeros) < 0)
		return err_errno(err, errno, "make a hole of %llu bytes", (unsigned long long)zeros);
	*fd = STEAL_FD(file);
	return 0;
}

int file_open_partial(struct ffs_data *d, struct ffs_file *f, struct err *err)
{
	size_t words = bits_words(f->n_chunks);
	bool any_unsure = false, holes = f->n_holes > 0;
	uint64_t *present, *unsure;
	int fd = -1, r;

	while (f->probing)
		pthread_cond_wait(&d->probed, &d->lock);
	if (f->fd >= 0 || f->state != FILE_FILLING)
		return 0;
	f->probing = true;
	pthread_mutex_unlock(&d->lock);
	present = xcalloc(words, 8);
	unsure = xcalloc(words, 8);
	if (f->n_chunks == 1)
		r = open_nameless(d, holes ? f->size : 0, &fd, err);
	else
		r = partial_open(ffs_store_dir(d->store, FFS_DIR_PARTIAL), &f->key, f->size, f->n_chunks, &fd, present,
		                 unsure, &any_unsure, err);
	pthread_mutex_lock(&d->lock);
	if (r == 0 && !any_unsure)
		free(STEAL(unsure));
	/* Bits already in memory (the file was only closed to save descriptors) are as good as the map's. */
	if (r == 0 && f->n_present == f->n_holes)
		file_take_map(f, present, &unsure);
	if (r == 0) {
		f->fd = fd;
		d->n_open++;
	}
	free(present);
	free(unsure);
	f->probing = false;
	pthread_cond_broadcast(&d->probed);
	/* All of it may have arrived before an earlier worker could publish. */
	file_check_ready(d, f);
	return r;
}

void disk_failed(struct ffs_data *d, const struct err *why)
{
	static _Atomic int64_t last; /* complaint: the first, then one in 10 s */
	int64_t now = clock_mono_ns(), before = atomic_load(&last);

	pthread_mutex_lock(&d->lock);
	d->disk_failed_ns = now;
	d->disk_err = *why;
	pthread_mutex_unlock(&d->lock);
	if ((before == 0 || now - before > 10 * NS_PER_S) && atomic_compare_exchange_strong(&last, &before, now))
		log_error("fetched data cannot be kept: %s", why->msg);
}

/* whole: it is the only one of the file. */
static int write_chunk(struct ffs_file *f, int fd, uint32_t chunk, bool whole, const struct esgz_chunk *c,
                       const struct cbuf *buf, struct err *err)
{
	if (whole)
		return fd_pwrite_all(fd, str_make(buf->bytes, buf->n), 0, err);
	TRY(partial_write(fd, buf->bytes, buf->n, c->file_offset, err));
	return partial_mark(fd, f->size, chunk, err);
}

void file_store(struct ffs_data *d, struct ffs_file *f, uint32_t chunk, const struct cbuf *buf)
{
	struct esgz_chunk c;
	struct err err;
	int r, fd = -1;
	bool whole;

	pthread_mutex_lock(&d->lock);
	whole = f->n_chunks == 1;
	r = file_open_partial(d, f, &err);
	if (r == 0 &&
	    (f->state != FILE_FILLING || bit_get(f->present, chunk) || bit_get(f->storing, chunk) || !f->home)) {
		pthread_mutex_unlock(&d->lock);
		return;
	}
	if (r == 0) {
		bit_set(f->storing, chunk);
		fd = f->fd;
		file_chunk(f, chunk, &c);
	}
	pthread_mutex_unlock(&d->lock);
	/* `busy` keeps fd open, and a file with a chunk to come is not sealed. */
	if (r == 0)
		r = write_chunk(f, fd, chunk, whole, &c, buf, &err);
	if (r < 0)
		disk_failed(d, &err);
	pthread_mutex_lock(&d->lock);
	if (f->storing)
		bit_clear(f->storing, chunk);
	if (r == 0 && f->state == FILE_FILLING && f->fd == fd) {
		bit_set(f->present, chunk);
		if (f->unsure)
			bit_clear(f->unsure, chunk);
		f->n_present++;
		file_check_ready(d, f);
	}
	pthread_mutex_unlock(&d->lock);
}

/* ---- chunk buffers and their cache ---- */

struct cbuf *cbuf_new(struct ffs_data *d, size_t n)
{
	struct cbuf *b = xmalloc(sizeof(*b) + n);

	atomic_init(&b->refs, 1);
	b->d = d;
	b->n = n;
	pthread_mutex_lock(&d->lock);
	d->memory += n;
	cache_trim(d);
	pthread_mutex_unlock(&d->lock);
	return b;
}

void cbuf_ref(struct cbuf *b)
{
	atomic_fetch_add(&b->refs, 1);
}

/* As cbuf_unref, with the lock held. */
static void cbuf_unref_locked(struct ffs_data *d, struct cbuf *b)
{
	if (atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	d->memory -= b->n;
	free(b);
}

void cbuf_unref(struct cbuf *b)
{
	struct ffs_data *d;

	if (!b)
		return;
	d = b->d;
	if (atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	pthread_mutex_lock(&d->lock);
	d->memory -= b->n;
	requests_resume(d);
	if (d->outbox.n)
		fills_wake(d); /* its thread sends them on */
	pthread_mutex_unlock(&d->lock);
	free(b);
}

static void lru_remove(struct ffs_data *d, struct cached *c)
{
	*(c->newer ? &c->newer->older : &d->newest) = c->older;
	*(c->older ? &c->older->newer : &d->oldest) = c->newer;
}

static void lru_push(struct ffs_data *d, struct cached *c)
{
	c->newer = NULL;
	c->older = d->newest;
	*(d->newest ? &d->newest->newer : &d->oldest) = c;
	d->newest = c;
}

static void cache_remove(struct ffs_data *d, struct cached *c)
{
	struct cached **at = &c->file->cached;

	while (*at != c)
		at = &(*at)->file_next;
	*at = c->file_next;
	lru_remove(d, c);
	d->memory_cached -= c->buf->n;
	cbuf_unref_locked(d, c->buf);
	free(c);
}

struct cbuf *cache_get(struct ffs_data *d, struct ffs_file *f, uint32_t chunk)
{
	for (struct cached *c = f->cached; c; c = c->file_next)
		if (c->chunk == chunk) {
			lru_remove(d, c);
			lru_push(d, c);
			c->used_ns = clock_mono_ns();
			cbuf_ref(c->buf);
			return c->buf;
		}
	return NULL;
}

void cache_put(struct ffs_data *d, struct ffs_file *f, uint32_t chunk, struct cbuf *buf)
{
	struct cached *c;

	for (c = f->cached; c; c = c->file_next)
		if (c->chunk == chunk)
			return;
	/* One buffer may take at most an eighth: a cache of one is none. */
	if (buf->n > d->opts.memory_bytes / 8)
		return;
	c = xcalloc(1, sizeof(*c));
	cbuf_ref(buf);
	*c = (struct cached){.buf = buf, .file = f, .chunk = chunk, .file_next = f->cached, .used_ns = clock_mono_ns()};
	f->cached = c;
	lru_push(d, c);
	d->memory_cached += buf->n;
	cache_trim(d);
}

void cache_drop(struct ffs_data *d, struct ffs_file *f)
{
	while (f->cached)
		cache_remove(d, f->cached);
}

static void evict_oldest(struct ffs_data *d)
{
	struct ffs_file *f = d->oldest->file;

	cache_remove(d, d->oldest);
	file_release_idle(d, f);
}

void cache_trim(struct ffs_data *d)
{
	while (d->oldest && (d->memory > d->opts.memory_bytes || d->memory_cached > d->opts.memory_bytes / 2))
		evict_oldest(d);
}

void cache_age(struct ffs_data *d, int64_t before_ns)
{
	while (d->oldest && d->oldest->used_ns < before_ns)
		evict_oldest(d);
}
