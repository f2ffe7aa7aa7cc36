/* Whole files: brought chunk by chunk until they are published, and what only a whole file can tell. */
#include "fusefs/core.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#define CANDIDATES_MAX 16 /* claims of one content that are tried one after the other */

/* ---- whole files ---- */

/* Brings the missing chunks step by step, then waits for the publisher. */
struct settle {
	struct ffs_data *d;
	struct ffs_file *file; /* busy */
	uint64_t at;           /* what lies before was brought */
	bool again;            /* second pass: something was still being written at the end of the first */
	void (*fn)(void *arg, bool published, const struct err *err);
	void *arg;
};

static void settle_end(struct settle *s, bool published, const struct err *err)
{
	s->fn(s->arg, published, err);
	pthread_mutex_lock(&s->d->lock);
	file_unbusy(s->d, s->file);
	pthread_mutex_unlock(&s->d->lock);
	free(s);
}

static void settle_published(void *arg, bool published, const struct err *err)
{
	settle_end(arg, published, err);
}

static void settle_step(struct settle *s);

static void settle_stepped(void *arg, struct str bytes, const struct err *err)
{
	if (err)
		settle_end(arg, false, err);
	else
		settle_step(arg);
}

/* The next range with something missing; false when nothing is. Lock held. */
static bool settle_next(struct settle *s, size_t *n)
{
	struct ffs_file *f = s->file;

	for (uint32_t i = file_chunk_at(f, s->at); i < f->n_chunks && s->at < f->size; i++) {
		struct esgz_chunk c;

		file_chunk(f, i, &c);
		s->at = c.file_offset;
		if (bit_get(f->present, i))
			continue;
		*n = f->size - s->at < FFS_STEP_BYTES ? f->size - s->at : FFS_STEP_BYTES;
		return true;
	}
	return false;
}

static void settle_step(struct settle *s)
{
	struct ffs_data *d = s->d;
	struct ffs_file *f = s->file;
	struct whole_wait *w;
	enum file_state state;
	struct err err;
	uint64_t at;
	size_t n = 0;
	bool found;

	if (file_probe(d, f, &err) < 0) {
		settle_end(s, false, &err);
		return;
	}
	pthread_mutex_lock(&d->lock);
	found = f->state == FILE_FILLING && f->home && settle_next(s, &n);
	if (f->state == FILE_FILLING && f->home && !found && !s->again) {
		s->again = true;
		s->at = 0;
		found = settle_next(s, &n);
	}
	if (found) {
		at = s->at;
		s->at += n;
		pthread_mutex_unlock(&d->lock);
		file_bring(d, f, at, n, settle_stepped, s);
		return;
	}
	if (f->state == FILE_READY && !d->stopping) {
		w = xcalloc(1, sizeof(*w));
		*w = (struct whole_wait){.fn = settle_published, .arg = s, .next = f->whole};
		f->whole = w;
		pthread_mutex_unlock(&d->lock);
		return;
	}
	state = f->state;
	pthread_mutex_unlock(&d->lock);
	if (state == FILE_PUBLISHED) {
		settle_end(s, true, NULL);
		return;
	}
	err_set(&err, ERR_DATA_LOSS,
	        state == FILE_FALSE ? "the content of the file is not what the image promises"
	                            : "the file could not be kept on disk as a whole");
	settle_end(s, false, &err);
}

void file_settle(struct ffs_data *d, struct ffs_file *f, void (*fn)(void *arg, bool published, const struct err *err),
                 void *arg)
{
	struct settle *s = xcalloc(1, sizeof(*s));
	struct err err;
	bool published;

	*s = (struct settle){.d = d, .file = f, .fn = fn, .arg = arg};
	pthread_mutex_lock(&d->lock);
	f->busy++;
	published = f->state == FILE_PUBLISHED;
	pthread_mutex_unlock(&d->lock);
	/* Who comes here misses the object under the name of its content; what has the claim's name is the same. */
	if (published && !ffs_object_has(d->store, &f->content, f->size) &&
	    ffs_object_alias(d->store, &f->key, &f->content, &err) < 0) {
		pthread_mutex_lock(&d->lock);
		if (f->state == FILE_PUBLISHED)
			file_vanished(d, f);
		pthread_mutex_unlock(&d->lock);
	}
	settle_step(s);
}

/* ---- objects known by their content alone ---- */

/* Claims that promise a content; tried one after the other until one is true. */
struct candidates {
	struct ffs_data *d;
	struct digest content;
	uint64_t sizes[CANDIDATES_MAX];
	struct ffs_file *files[CANDIDATES_MAX]; /* busy */
	unsigned n, at;
	void (*fn)(void *arg, bool published, uint64_t size, const struct err *err);
	void *arg;
};

/* `size` 0: any. Lock held. */
static void candidates_find(struct candidates *c, uint64_t size)
{
	uint32_t at = 0, entry;
	struct layer *l;
	struct esgz_entry e;

	while (c->n < CANDIDATES_MAX && claims_next(&c->d->claims, &c->content, true, &at, &l, &e, &entry)) {
		struct ffs_file *f;
		bool known = false;

		if (!e.n_chunks || (size && e.size != size))
			continue;
		f = file_of_entry(c->d, l, entry, &e);
		for (unsigned i = 0; i < c->n; i++)
			known |= c->files[i] == f;
		if (known || f->state == FILE_FALSE)
			continue;
		f->busy++;
		c->sizes[c->n] = e.size;
		c->files[c->n++] = f;
	}
}

static void candidates_end(struct candidates *c, bool published, uint64_t size, const struct err *err)
{
	c->fn(c->arg, published, size, err);
	pthread_mutex_lock(&c->d->lock);
	for (unsigned i = 0; i < c->n; i++)
		file_unbusy(c->d, c->files[i]);
	pthread_mutex_unlock(&c->d->lock);
	free(c);
}

static void candidate_settled(void *arg, bool published, const struct err *err)
{
	struct candidates *c = arg;

	if (published)
		candidates_end(c, true, c->sizes[c->at], NULL);
	else if (++c->at < c->n)
		file_settle(c->d, c->files[c->at], candidate_settled, c);
	else
		candidates_end(c, false, 0, err);
}

static void candidates_try(struct candidates *c)
{
	struct err err;

	if (c->n) {
		file_settle(c->d, c->files[0], candidate_settled, c);
		return;
	}
	err_set(&err, ERR_NOT_FOUND, "no layer that is here delivers it any more");
	candidates_end(c, false, 0, &err);
}

static struct candidates *candidates_new(struct ffs_data *d, const struct digest *content,
                                         void (*fn)(void *arg, bool published, uint64_t size, const struct err *err),
                                         void *arg)
{
	struct candidates *c = xcalloc(1, sizeof(*c));

	c->d = d;
	c->content = *content;
	c->fn = fn;
	c->arg = arg;
	return c;
}

void content_settle(struct ffs_data *d, const struct digest *content, uint64_t size,
                    void (*fn)(void *arg, bool published, uint64_t size, const struct err *err), void *arg)
{
	struct candidates *c = candidates_new(d, content, fn, arg);

	pthread_mutex_lock(&d->lock);
	candidates_find(c, size);
	pthread_mutex_unlock(&d->lock);
	candidates_try(c);
}

/* ---- names ---- */

struct find_later {
	struct ffs_data *d;
	struct digest key;
	ffs_find_fn *fn;
	void *arg;
};

static void find_settled(void *arg, bool published, uint64_t size, const struct err *err)
{
	struct find_later *later = arg;
	struct ffs_file *f = NULL;

	if (published) {
		pthread_mutex_lock(&later->d->lock);
		f = file_lookup(later->d, &later->key);
		if (!f)
			f = file_new(later->d, &later->key, size);
		f->exposed = true;
		size = f->size;
		pthread_mutex_unlock(&later->d->lock);
	}
	later->fn(later->arg, f, size, err);
	free(later);
}

/* What the loaded layers say about a content: *sizes = 0, 1 or 2 (they differ). Lock held. */
static void content_sizes(struct ffs_data *d, const struct digest *content, unsigned *n_sizes, uint64_t *size)
{
	uint32_t at = 0, entry;
	struct layer *l;
	struct esgz_entry e;

	*n_sizes = 0;
	while (claims_next(&d->claims, content, true, &at, &l, &e, &entry)) {
		if (l->info->trust == ESGZ_TRUST_DIFFID) {
			*n_sizes = 1; /* it was proven once */
			*size = e.size;
			return;
		}
		if (*n_sizes == 0) {
			*n_sizes = 1;
			*size = e.size;
		} else if (*size != e.size) {
			*n_sizes = 2;
		}
	}
}

/* Of a published object; 0 when there is none. */
static uint64_t object_size(struct ffs_data *d, const struct digest *key)
{
	char name[FFS_OBJECT_PATH_MAX];
	struct stat st;

	if (fstatat(ffs_store_dir(d->store, FFS_DIR_OBJECTS), ffs_object_path(key, name), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
}

int ffs_data_find(struct ffs_data *d, const struct digest *key, uint64_t size_hint, struct ffs_file **out,
                  uint64_t *size, ffs_find_fn *later_fn, void *arg, struct err *err)
{
	struct find_later *later;
	uint64_t known = size_hint;
	uint32_t at = 0, entry;
	struct ffs_file *f;
	struct layer *l;
	struct esgz_entry e;
	unsigned n_sizes = 0;

	pthread_mutex_lock(&d->lock);
	f = file_lookup(d, key);
	if (!f && claims_next(&d->claims, key, false, &at, &l, &e, &entry))
		f = file_of_entry(d, l, entry, &e);
	if (!f && !known)
		known = object_size(d, key);
	if (!f && !known)
		content_sizes(d, key, &n_sizes, &known);
	if (!f && known && n_sizes < 2)
		f = file_new(d, key, known);
	if (f) {
		f->exposed = true;
		*out = f;
		*size = f->size;
		pthread_mutex_unlock(&d->lock);
		return 0;
	}
	if (n_sizes < 2) {
		pthread_mutex_unlock(&d->lock);
		return err_set(err, ERR_NOT_FOUND, "nobody claims it");
	}
	pthread_mutex_unlock(&d->lock);
	later = xcalloc(1, sizeof(*later));
	*later = (struct find_later){.d = d, .key = *key, .fn = later_fn, .arg = arg};
	content_settle(d, key, 0, find_settled, later);
	return FFS_FIND_LATER;
}
