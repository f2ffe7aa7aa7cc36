#include "fusefs/trees.h"

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define IMAGE_BYTES_MAX (4ull << 30)

struct ffs_trees {
	char *root;
	struct ffs_table *table;
	pthread_mutex_t lock;                                /* opening */
	_Atomic(struct esgz_erofs *) images[TABLE_TREE_MAX]; /* by slot; NULL: not opened by this worker */
};

struct ffs_trees *ffs_trees_new(const char *root, struct ffs_table *table)
{
	struct ffs_trees *t = xcalloc(1, sizeof(*t));

	t->root = xstrdup(root);
	t->table = table;
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

static int open_image(struct ffs_trees *t, const struct digest *key, struct esgz_erofs **out, struct err *err)
{
	char hex[65];
	AUTO_FREE char *path = NULL;
	AUTO_FD int fd = -1;
	struct stat st;
	void *p;
	int r;

	path = xasprintf("%s/meta/%s", t->root, digest_hex(key, hex));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "open %s", path);
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (uint64_t)st.st_size > IMAGE_BYTES_MAX)
		return err_set(err, ERR_DATA_LOSS, "%s is no metadata image", path);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_errno(err, errno, "map %s", path);
	r = esgz_erofs_open(str_make(p, (size_t)st.st_size), out, err);
	if (r == 0)
		return 0;
	munmap(p, (size_t)st.st_size);
	return err_wrap(err, "%s", path);
}

int ffs_trees_get(struct ffs_trees *t, uint32_t slot, const struct esgz_erofs **out, struct err *err)
{
	struct esgz_erofs *image;
	struct digest key;
	int r = 0;

	if (!ffs_table_tree(t->table, slot, &key))
		return err_set(err, ERR_NOT_FOUND, "no tree has the number %u", slot);
	image = atomic_load_explicit(&t->images[slot], memory_order_acquire);
	if (!image) {
		pthread_mutex_lock(&t->lock);
		image = atomic_load(&t->images[slot]);
		if (!image)
			r = open_image(t, &key, &image, err);
		if (r == 0)
			atomic_store_explicit(&t->images[slot], image, memory_order_release);
		pthread_mutex_unlock(&t->lock);
	}
	*out = image;
	return r;
}

int ffs_trees_lookup(struct ffs_trees *t, const struct digest *key, uint32_t *slot, const struct esgz_erofs **out,
                     struct err *err)
{
	int64_t known = ffs_table_find_tree(t->table, key);
	struct esgz_erofs *image = NULL;
	struct esgz_erofs *none = NULL;

	if (known >= 0) {
		*slot = (uint32_t)known;
		return ffs_trees_get(t, *slot, out, err);
	}
	/* Only what is there gets a number. */
	TRY(open_image(t, key, &image, err));
	TRY(ffs_table_add_tree(t->table, key, slot, err));
	if (!atomic_compare_exchange_strong(&t->images[*slot], &none, image)) {
		esgz_erofs_close(image); /* another thread was quicker; our mapping stays, and is harmless */
		image = none;
	}
	*out = image;
	return 0;
}
