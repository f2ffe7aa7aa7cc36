/*
 * Batches of new objects. Most files of a layer are small and many are known already: up to HOLD_BYTES of a file are
 * kept in memory until its digest is known, so that a known one costs no system call but a stat, and a new one is
 * written in one piece.
 */
#include "fusefs/store_internal.h"

#include "base/failpoint.h"
#include "base/file.h"
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define HOLD_BYTES (1u << 20)
#define NAME_BYTES 16

struct made {
	uint32_t number; /* file <number> in the batch's directory */
	struct digest key;
};

/* In the store: how many batches rely on an object. */
struct relied {
	unsigned batches;
};

struct ffs_batch {
	struct ffs_store *store;
	char *name; /* below partial/ */
	int dir_fd;
	VEC(struct made) made;
	struct map seen; /* digest -> anything: contents of this very batch, new or found */
	uint32_t next;
	/* the file at hand */
	uint64_t size, got;
	struct buf held;
	int fd; /* -1 while it is held in memory */
};

static char *file_name(uint32_t number, char dst[static NAME_BYTES])
{
	snprintf(dst, NAME_BYTES, "%u", number);
	return dst;
}

int ffs_batch_new(struct ffs_store *s, struct ffs_batch **out, struct err *err)
{
	AUTO(ffs_batch) struct ffs_batch *b = xcalloc(1, sizeof(*b));
	static _Atomic unsigned serial;

	b->store = s;
	b->dir_fd = b->fd = -1;
	b->seen = MAP_INIT;
	b->name = xasprintf(FFS_BATCH_PREFIX "%d-%u", (int)getpid(), serial++);
	TRY_WRAP(dir_open(s->dirs[FFS_DIR_PARTIAL], b->name, 0700, &b->dir_fd, err), err, "partial/%s", b->name);
	*out = STEAL(b);
	return 0;
}

/* From here on a sweep spares the object; true when it is there. */
static bool rely_on(struct ffs_batch *b, const struct digest *content)
{
	struct str key = str_make(content, sizeof(*content));
	struct ffs_store *s = b->store;
	struct relied *r;
	bool there;

	map_put(&b->seen, key, b);
	ffs_store_rely_begin(s);
	pthread_mutex_lock(&s->relied_lock);
	r = map_get(&s->relied, key);
	if (!r) {
		r = xcalloc(1, sizeof(*r));
		map_put(&s->relied, key, r);
	}
	r->batches++;
	pthread_mutex_unlock(&s->relied_lock);
	there = ffs_object_has(s, content, b->size);
	ffs_store_rely_end(s);
	return there;
}

static void rely_on_none(struct ffs_batch *b)
{
	struct ffs_store *s = b->store;
	struct str key;

	pthread_mutex_lock(&s->relied_lock);
	for (size_t at = 0; map_next(&b->seen, &at, &key, NULL);) {
		struct relied *r = map_get(&s->relied, key);

		if (--r->batches == 0)
			free(map_del(&s->relied, key));
	}
	pthread_mutex_unlock(&s->relied_lock);
}

void ffs_batch_free(struct ffs_batch *b)
{
	if (!b)
		return;
	rely_on_none(b);
	if (b->fd >= 0)
		close(b->fd);
	if (b->dir_fd >= 0) {
		close(b->dir_fd);
		dir_remove(b->store->dirs[FFS_DIR_PARTIAL], b->name, NULL);
	}
	vec_fini(&b->made);
	map_fini(&b->seen);
	buf_fini(&b->held);
	free(b->name);
	free(b);
}

int ffs_batch_begin(struct ffs_batch *b, uint64_t size, struct err *err)
{
	(void)err;
	b->size = size;
	b->got = 0;
	buf_clear(&b->held);
	return 0;
}

static int open_file(struct ffs_batch *b, struct err *err)
{
	char name[NAME_BYTES];

	b->fd = openat(b->dir_fd, file_name(b->next, name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (b->fd < 0)
		return err_errno(err, errno, "create partial/%s/%s", b->name, name);
	return 0;
}

static int spill(struct ffs_batch *b, struct err *err)
{
	TRY(open_file(b, err));
	TRY_WRAP(fd_write_all(b->fd, buf_str(&b->held), err), err, "write object");
	buf_clear(&b->held);
	return 0;
}

static int count(struct ffs_batch *b, uint64_t bytes, struct err *err)
{
	if (bytes > b->size - b->got)
		return err_set(err, ERR_DATA_LOSS, "more bytes than the %llu announced", (unsigned long long)b->size);
	b->got += bytes;
	return 0;
}

int ffs_batch_hole(struct ffs_batch *b, uint64_t bytes, struct err *err)
{
	TRY(count(b, bytes, err));
	if (b->size <= HOLD_BYTES) {
		buf_addz(&b->held, bytes);
		return 0;
	}
	if (b->fd < 0)
		TRY(open_file(b, err));
	TRY_WRAP(fd_write_hole(b->fd, bytes, err), err, "write object");
	return 0;
}

int ffs_batch_write(struct ffs_batch *b, struct str bytes, struct err *err)
{
	TRY(count(b, bytes.n, err));
	if (b->size <= HOLD_BYTES) {
		buf_addstr(&b->held, bytes);
		return 0;
	}
	if (b->fd < 0)
		TRY(open_file(b, err));
	TRY_WRAP(fd_write_all(b->fd, bytes, err), err, "write object");
	return 0;
}

static void drop_file(struct ffs_batch *b)
{
	char name[NAME_BYTES];

	if (b->fd < 0)
		return;
	close(STEAL_FD(b->fd));
	unlinkat(b->dir_fd, file_name(b->next, name), 0);
}

int ffs_batch_end(struct ffs_batch *b, const struct digest *content, struct err *err)
{
	struct str key = str_make(content, sizeof(*content));

	if (b->got != b->size)
		return err_set(err, ERR_DATA_LOSS, "%llu bytes instead of the %llu announced",
		               (unsigned long long)b->got, (unsigned long long)b->size);
	if (map_has(&b->seen, key) || rely_on(b, content)) {
		drop_file(b);
		return 0;
	}
	if (b->fd < 0)
		TRY(spill(b, err));
	close(STEAL_FD(b->fd));
	vec_push(&b->made, (struct made){b->next++, *content});
	return 0;
}

int ffs_batch_publish(struct ffs_batch *b, struct err *err)
{
	char name[NAME_BYTES];

	if (!b->made.n)
		return 0;
	FAILPOINT("objects-written");
	TRY(ffs_objects_sync(b->store, err));
	vec_each(&b->made, m) {
		TRY(ffs_object_adopt(b->store, b->dir_fd, file_name(m->number, name), &m->key, false, err));
		FAILPOINT("object-adopted");
	}
	vec_clear(&b->made);
	FAILPOINT("objects-adopted");
	return ffs_objects_sync(b->store, err);
}
