#include "fusefs/core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define SYNCFS_FROM 8 /* one syncfs is cheaper than this many journal commits */
#define HASH_STEP (1u << 20)
#define HASH_LOOK (16u << 20) /* so many bytes of a batch are hashed between looks at whether that is still wanted */

void publisher_add(struct ffs_data *d, struct ffs_file *f)
{
	f->busy++;
	f->publish_next = NULL;
	*d->publish_last = f;
	d->publish_last = &f->publish_next;
	pthread_cond_signal(&d->publish_wake);
}

void whole_waits_run(struct ffs_data *d, struct whole_wait *w, bool published, const struct err *err)
{
	while (w) {
		struct whole_wait *next = w->next;

		w->fn(w->arg, published, err);
		free(w);
		w = next;
	}
}

#define VERIFY_FALSE 1
#define UNWANTED 2
#define STOPPED 3

#define NOT_CLAIMED "no layer that is here delivers it any more"

static bool is_claimed(struct ffs_data *d, const struct ffs_file *f)
{
	return ffs_data_is_claimed(d, &f->key) || ffs_data_is_claimed(d, &f->content);
}

/* What has been hashed of a batch. */
struct hashed {
	uint64_t bytes, next_look;
	bool ends; /* the publisher is to end */
};

/* Holes make files of any size, and there may be many: 0, STOPPED, or UNWANTED. */
static int still_wanted(struct ffs_data *d, const struct ffs_file *f, struct hashed *hashed, struct err *err)
{
	bool removed = false;

	if (!hashed->ends && hashed->bytes >= hashed->next_look) {
		hashed->next_look = hashed->bytes + HASH_LOOK;
		pthread_mutex_lock(&d->lock);
		hashed->ends = d->publisher_stopping;
		removed = f->home && f->home->removed;
		pthread_mutex_unlock(&d->lock);
	}
	if (hashed->ends)
		return err_set(err, ERR_CANCELLED, "contentfs ends"), STOPPED;
	if (removed && !is_claimed(d, f))
		return err_set(err, ERR_NOT_FOUND, NOT_CLAIMED), UNWANTED;
	return 0;
}

/* Is the whole what it is claimed to be? A file of one chunk was verified when that chunk was, unless that is a hole.
 * VERIFY_FALSE (and err): it is not. STOPPED, UNWANTED: it was not hashed to its end. */
static int verify_whole(struct ffs_data *d, struct ffs_file *f, int fd, struct hashed *hashed, struct err *err)
{
	AUTO(hasher) struct hasher *h = NULL;
	AUTO_FREE uint8_t *buf = NULL;
	char want[DIGEST_TEXT_MAX], have[DIGEST_TEXT_MAX];
	struct digest sum;

	if (f->n_chunks == 1 && f->n_holes == 0)
		return 0;
	h = hasher_new();
	buf = xmalloc(HASH_STEP);
	for (uint64_t at = 0; at < f->size;) {
		size_t n = f->size - at < HASH_STEP ? f->size - at : HASH_STEP;
		int r = still_wanted(d, f, hashed, err);

		if (r)
			return r;
		TRY(partial_read(fd, buf, n, at, err));
		hasher_add(h, buf, n);
		hashed->bytes += n;
		at += n;
	}
	hasher_done(h, &sum);
	if (digest_eq(&sum, &f->content))
		return 0;
	err_set(err, ERR_DATA_LOSS, "the image promises %s, its chunks make %s", digest_text(&f->content, want),
	        digest_text(&sum, have));
	return VERIFY_FALSE;
}

/* Gives the file its two names. When another image published the content first, that object gets the claim's name. */
static int link_wanted(struct ffs_data *d, struct ffs_file *f, int fd, struct err *err)
{
	if (!is_claimed(d, f))
		return err_set(err, ERR_NOT_FOUND, NOT_CLAIMED), UNWANTED;
	TRY(ffs_object_link(d->store, fd, &f->content, err));
	if (!ffs_object_has(d->store, &f->content, f->size))
		return err_set(err, ERR_INTERNAL, "the object of that content has another size: it is damaged");
	return ffs_object_alias(d->store, &f->content, &f->key, err);
}

/* What was fetched for a layer that has been deleted meanwhile gets no names: the sweep after that has passed by. */
static int link_names(struct ffs_data *d, struct ffs_file *f, int fd, struct err *err)
{
	int r;

	ffs_store_rely_begin(d->store);
	r = link_wanted(d, f, fd, err);
	ffs_store_rely_end(d->store);
	return r;
}

static void finish(struct ffs_data *d, struct ffs_file *f, int result, const struct err *err)
{
	struct whole_wait *whole;

	if (result < 0)
		disk_failed(d, err);
	pthread_mutex_lock(&d->lock);
	if (result == 0) {
		f->state = FILE_PUBLISHED;
		if (f->home)
			f->home->published[f->entry] = 1;
		d->counters.published++;
	} else if (result == VERIFY_FALSE) {
		f->state = FILE_FALSE;
		cache_drop(d, f);
		file_complain(d, f, err->msg);
	} else {
		file_vanished(d, f);
	}
	whole = STEAL(f->whole);
	file_unbusy(d, f);
	fills_wake(d);
	pthread_mutex_unlock(&d->lock);
	whole_waits_run(d, whole, result == 0, err);
}

/* Makes the contents of a batch durable; each file's own write errors are seen. */
static int sync_one(struct ffs_file *f, bool synced_all, struct err *err)
{
	int r = synced_all
	            ? sync_file_range(f->fd, 0, 0,
	                              SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)
	            : fdatasync(f->fd);

	return r < 0 ? err_errno(err, errno, "sync") : 0;
}

/* One file of a batch is done with; consumes its `busy`. */
static void publish_end(struct ffs_data *d, struct ffs_file *f, int result, const struct err *err)
{
	if (f->n_chunks > 1 && result != STOPPED)
		partial_remove(ffs_store_dir(d->store, FFS_DIR_PARTIAL), &f->key);
	finish(d, f, result, err);
}

/* Verify, sync, link. The files are busy, so their descriptors stay open. */
static void publish_batch(struct ffs_data *d, struct ffs_file *first)
{
	struct hashed hashed = {.next_look = HASH_LOOK};
	bool synced_all;
	struct err err;
	unsigned n = 0;

	for (struct ffs_file **at = &first; *at;) {
		struct ffs_file *f = *at;
		int r = verify_whole(d, f, f->fd, &hashed, &err);

		if (r == 0 && f->n_chunks > 1) /* a nameless one has its size */
			r = partial_seal(f->fd, f->size, &err);
		if (r == 0) {
			at = &f->publish_next;
			n++;
		} else {
			*at = f->publish_next;
			publish_end(d, f, r, &err);
		}
	}
	synced_all = n >= SYNCFS_FROM && syncfs(first->fd) == 0;
	while (first) {
		struct ffs_file *f = first;
		int r = sync_one(f, synced_all, &err);

		first = f->publish_next;
		if (r == 0)
			r = link_names(d, f, f->fd, &err);
		if (r == 0 && !f->warm)
			(void)posix_fadvise(f->fd, 0, 0,
			                    POSIX_FADV_DONTNEED); /* readers have it in the mount's cache */
		publish_end(d, f, r, &err);
	}
}

static void *publisher_main(void *arg)
{
	struct ffs_data *d = arg;

	pthread_mutex_lock(&d->lock);
	for (;;) {
		struct ffs_file *first;

		while (!d->publish_first && !d->publisher_stopping)
			pthread_cond_wait(&d->publish_wake, &d->lock);
		if (!d->publish_first)
			break;
		first = d->publish_first;
		d->publish_first = NULL;
		d->publish_last = &d->publish_first;
		pthread_mutex_unlock(&d->lock);
		publish_batch(d, first);
		pthread_mutex_lock(&d->lock);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

int publisher_start(struct ffs_data *d, struct err *err)
{
	int r;

	d->publish_last = &d->publish_first;
	pthread_cond_init(&d->publish_wake, NULL);
	r = pthread_create(&d->publisher, NULL, publisher_main, d);
	if (r)
		return err_errno(err, r, "start the publisher");
	d->publisher_on = true;
	return 0;
}

void publisher_stop(struct ffs_data *d)
{
	if (!d->publisher_on)
		return;
	pthread_mutex_lock(&d->lock);
	d->publisher_stopping = true;
	pthread_cond_signal(&d->publish_wake);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->publisher, NULL);
	d->publisher_on = false;
}
