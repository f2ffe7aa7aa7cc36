#include "snapshotter/meta.h"

#include "base/failpoint.h"
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "estargz/erofs/erofs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define INDEX_BYTES_MAX (1ull << 32)
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

struct image {
	bool ready, building;
	uint64_t tree;     /* the FUSE mount that the tree was mounted over; 0: there is none */
	bool spared_ready; /* `ready`, from a condemnation until it is dropped or spared */
};

struct snap_meta {
	char *root, *state;
	int index_fd, objects_fd;
	enum snap_level level;
	pthread_mutex_t lock; /* guards images and every image in it */
	pthread_cond_t changed;
	struct map images; /* digest bytes -> struct image */
};

void snap_meta_key(const struct digest *indexes, unsigned n, struct digest *out)
{
	AUTO(hasher) struct hasher *h = hasher_new();

	hasher_add(h, "contentd-meta-1", sizeof("contentd-meta-1"));
	hasher_add(h, indexes, (size_t)n * sizeof(*indexes));
	hasher_done(h, out);
}

/* ---- building ---- */

struct mapped {
	struct str bytes;
	struct esgz_index *ix;
};

static void mapped_drop(struct mapped *m, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		esgz_index_free(m[i].ix);
		if (m[i].bytes.p)
			munmap((void *)m[i].bytes.p, m[i].bytes.n);
	}
	free(m);
}

static int map_index(int dir_fd, const struct digest *key, struct mapped *out, struct err *err)
{
	AUTO_FD int fd = -1;
	char hex[65];
	struct stat st;
	void *p;

	fd = openat(dir_fd, digest_hex(key, hex), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "layer index %s", hex);
	if (st.st_size <= 0 || (uint64_t)st.st_size > INDEX_BYTES_MAX)
		return err_set(err, ERR_DATA_LOSS, "layer index %s: %lld bytes", hex, (long long)st.st_size);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_errno(err, errno, "map layer index %s", hex);
	out->bytes = str_make(p, (size_t)st.st_size);
	TRY_WRAP(esgz_index_open(out->bytes, &out->ix, err), err, "layer index %s", hex);
	return 0;
}

/* objects/ as it was when an image was begun. Where nothing was published yet, nothing is looked for. */
struct objects {
	int fd;
	bool has[256]; /* objects/<2 hex> */
};

static void objects_look(struct objects *o, int fd)
{
	char name[3];

	o->fd = fd;
	for (unsigned i = 0; i < ARRAY_LEN(o->has); i++) {
		snprintf(name, sizeof(name), "%02x", i);
		o->has[i] = faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	}
}

static bool is_published(void *arg, const struct digest *content, uint64_t size)
{
	const struct objects *o = arg;
	char hex[65], path[68];
	struct stat st;

	if (!o->has[content->b[0]])
		return false;
	digest_hex(content, hex);
	memcpy(path, hex, 2);
	path[2] = '/';
	memcpy(path + 3, hex + 2, 63);
	return fstatat(o->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       (uint64_t)st.st_size == size;
}

static int write_image(const char *path, struct str image, struct err *err)
{
	AUTO_FREE char *tmp = xasprintf("%s.new", path);
	AUTO_FD int fd = -1;

	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, errno, "create %s", tmp);
	if (fd_write_all(fd, image, err) < 0) {
		unlink(tmp);
		return err_wrap(err, "write %s", tmp);
	}
	FAILPOINT("meta-written");
	if (rename(tmp, path) < 0)
		return err_errno(err, errno, "rename %s", tmp);
	return 0;
}

int snap_meta_build(int index_dir_fd, int objects_fd, const struct digest *indexes, unsigned n, const char *path,
                    struct err *err)
{
	AUTO(buf) struct buf image = BUF_INIT;
	AUTO(esgz_tree) struct esgz_tree *tree = NULL;
	struct objects objects;
	struct mapped *maps = xcalloc(n, sizeof(*maps));
	AUTO_FREE const struct esgz_index **layers = xcalloc(n, sizeof(*layers));
	int r = 0;

	objects_look(&objects, objects_fd);
	for (unsigned i = 0; i < n && r >= 0; i++) {
		r = map_index(index_dir_fd, &indexes[i], &maps[i], err);
		layers[i] = maps[i].ix;
	}
	if (r >= 0)
		r = esgz_tree_build(layers, n, &tree, err);
	if (r >= 0)
		r = esgz_erofs_write(tree, is_published, &objects, &image, err);
	if (r >= 0)
		r = write_image(path, buf_str(&image), err);
	mapped_drop(maps, n);
	return r;
}

/* ---- mounting ---- */

static int make_dir(const char *path, struct err *err)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, "mkdir %s", path);
	return 0;
}

static int mount_erofs(const char *image, const char *dir, struct err *err)
{
	TRY(make_dir(dir, err));
	if (mount(image, dir, "erofs", MS_RDONLY | MS_NOSUID | MS_NODEV, "") < 0)
		return err_errno(err, errno, "mount metadata image %s", image);
	return 0;
}

/* The FUSE mount of now. A tree over one that was lost keeps that one's device number taken. */
static uint64_t lazy_device(const struct snap_meta *m)
{
	AUTO_FREE char *lazy = xasprintf("%s/lazy", m->state);
	struct statx st;

	if (m->level == SNAP_LEVEL_TREE ||
	    statx(AT_FDCWD, lazy, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st) < 0)
		return 0;
	return makedev(st.stx_dev_major, st.stx_dev_minor);
}

static char *tree_path(const struct snap_meta *m, const struct digest *key, uint64_t lazy)
{
	char hex[65];

	return m->level == SNAP_LEVEL_TREE
	           ? xasprintf("%s/lazy/.trees/%s", m->state, digest_hex(key, hex))
	           : xasprintf("%s/meta/%s.%llx", m->state, digest_hex(key, hex), (unsigned long long)lazy);
}

static char *parts_of(const struct snap_meta *m, const char *erofs_dir)
{
	return xasprintf("%s::%s/objects::%s/lazy", erofs_dir, m->root, m->state);
}

static int mount_tree(struct snap_meta *m, const char *erofs_dir, const char *tree, struct err *err)
{
	AUTO_FREE char *parts = parts_of(m, erofs_dir);
	AUTO_FREE char *options = xasprintf("metacopy=on,lowerdir=%s", parts);

	TRY(make_dir(tree, err));
	if (mount("overlay", tree, "overlay", MS_RDONLY, options) < 0)
		return err_errno(err, errno, "mount the tree %s", tree);
	return 0;
}

static void unmount(const char *dir)
{
	if (umount2(dir, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		log_warn("unmount %s: %s", dir, strerror(errno));
	rmdir(dir);
}

static bool is_mounted(const char *dir)
{
	AUTO_FREE char *parent = xasprintf("%s/..", dir);
	struct stat a, b;

	return stat(dir, &a) == 0 && stat(parent, &b) == 0 && a.st_dev != b.st_dev;
}

static int build_and_mount(struct snap_meta *m, const struct digest *key, const struct digest *indexes, unsigned n,
                           uint64_t lazy, struct err *err)
{
	char hex[65];
	AUTO_FREE char *image = xasprintf("%s/meta/%s", m->root, digest_hex(key, hex));
	AUTO_FREE char *dir = xasprintf("%s/meta/%s", m->state, hex);
	AUTO_FREE char *tree = tree_path(m, key, lazy);

	if (access(image, F_OK) < 0)
		TRY(snap_meta_build(m->index_fd, m->objects_fd, indexes, n, image, err));
	if (m->level == SNAP_LEVEL_TREE)
		return 0;
	if (!is_mounted(dir))
		TRY(mount_erofs(image, dir, err));
	return mount_tree(m, dir, tree, err);
}

static struct image *image_get(struct snap_meta *m, const struct digest *key)
{
	struct str k = str_make(key, sizeof(*key));
	struct image *im = map_get(&m->images, k);

	if (!im) {
		im = xcalloc(1, sizeof(*im));
		map_put(&m->images, k, im);
	}
	return im;
}

void snap_lower_fini(struct snap_lower *l)
{
	free(l->tree);
	free(l->parts);
}

static void describe(struct snap_meta *m, const struct digest *key, uint64_t lazy, struct snap_lower *out)
{
	char hex[65];
	AUTO_FREE char *dir = xasprintf("%s/meta/%s", m->state, digest_hex(key, hex));

	out->tree = tree_path(m, key, lazy);
	out->parts = m->level == SNAP_LEVEL_OVERLAY ? parts_of(m, dir) : NULL;
}

static void drop_tree(struct snap_meta *m, const struct digest *key, uint64_t lazy)
{
	AUTO_FREE char *tree = tree_path(m, key, lazy);

	if (lazy)
		unmount(tree);
}

int snap_meta_ensure(struct snap_meta *m, const struct digest *indexes, unsigned n, struct snap_lower *out,
                     struct err *err)
{
	uint64_t lazy = lazy_device(m);
	struct digest key;
	struct image *im;
	int r = 0;

	snap_meta_key(indexes, n, &key);
	pthread_mutex_lock(&m->lock);
	im = image_get(m, &key);
	while (im->building) {
		pthread_cond_wait(&m->changed, &m->lock);
		im = image_get(m, &key);
	}
	if (!im->ready || im->tree != lazy) {
		uint64_t before = im->tree;

		im->building = true;
		pthread_mutex_unlock(&m->lock);
		drop_tree(m, &key, before);
		r = build_and_mount(m, &key, indexes, n, lazy, err);
		pthread_mutex_lock(&m->lock);
		im = image_get(m, &key); /* not released meanwhile: building images are left alone */
		im->building = false;
		im->ready = r >= 0;
		im->tree = r >= 0 ? lazy : 0;
		pthread_cond_broadcast(&m->changed);
	}
	pthread_mutex_unlock(&m->lock);
	if (r >= 0)
		describe(m, &key, lazy, out);
	return r;
}

static void drop_image(struct snap_meta *m, const struct digest *key, uint64_t lazy)
{
	char hex[65];
	AUTO_FREE char *dir = xasprintf("%s/meta/%s", m->state, digest_hex(key, hex));
	AUTO_FREE char *image = xasprintf("%s/meta/%s", m->root, hex);

	drop_tree(m, key, lazy);
	unmount(dir);
	if (unlink(image) < 0 && errno != ENOENT)
		log_warn("remove metadata image %s: %s", image, strerror(errno));
}

bool snap_meta_condemn(struct snap_meta *m, const struct digest *key)
{
	struct image *im;
	bool free_to_go;

	pthread_mutex_lock(&m->lock);
	im = image_get(m, key);
	free_to_go = !im->building;
	if (free_to_go) {
		im->spared_ready = im->ready;
		im->ready = false;
		im->building = true;
	}
	pthread_mutex_unlock(&m->lock);
	return free_to_go;
}

void snap_meta_spare(struct snap_meta *m, const struct digest *key)
{
	struct image *im;

	pthread_mutex_lock(&m->lock);
	im = image_get(m, key);
	im->ready = im->spared_ready;
	im->building = false;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

void snap_meta_drop(struct snap_meta *m, const struct digest *key)
{
	struct image *im;
	uint64_t lazy;

	pthread_mutex_lock(&m->lock);
	lazy = image_get(m, key)->tree;
	pthread_mutex_unlock(&m->lock);
	drop_image(m, key, lazy);
	pthread_mutex_lock(&m->lock);
	im = image_get(m, key);
	im->building = false;
	im->tree = 0;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

int snap_meta_each(struct snap_meta *m, int (*fn)(void *arg, const struct digest *key, int64_t bytes, struct err *err),
                   void *arg, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/meta", m->root);
	struct dirent *e;
	int r = 0;
	DIR *d;

	/* There is no mount to take away, and the kernel may know inode numbers of the image for as long as the FUSE mount
	 * lives: one that is built again need not have the same. */
	if (m->level == SNAP_LEVEL_TREE)
		return 0;
	d = opendir(path);
	if (!d)
		return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", path);
	while (r >= 0 && (e = readdir(d))) {
		struct digest key;
		struct stat st;

		if (digest_from_hex(str_of(e->d_name), &key) &&
		    fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			r = fn(arg, &key, (int64_t)st.st_blocks * 512, err);
	}
	closedir(d);
	return r < 0 ? r : 0;
}

/* ---- life-cycle ---- */

/* Forgets images of another boot: they were never synced. */
static int check_boot(const char *root, struct err *err)
{
	AUTO(buf) struct buf now = BUF_INIT;
	AUTO(buf) struct buf then = BUF_INIT;
	AUTO_FREE char *meta = xasprintf("%s/meta", root);
	AUTO_FD int root_fd = -1;
	AUTO_FD int meta_fd = -1;

	root_fd = open(root, O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return err_errno(err, errno, "open %s", root);
	TRY(file_read(AT_FDCWD, BOOT_ID_PATH, 128, &now, err));
	if (file_read(root_fd, "meta/.boot", 128, &then, NULL) >= 0 && str_eq(buf_str(&now), buf_str(&then)))
		return 0;
	TRY(dir_remove(root_fd, "meta", err));
	TRY(dir_open(root_fd, "meta", 0700, &meta_fd, err));
	return file_write_atomic(meta_fd, ".boot", buf_str(&now), 0600, err);
}

/* Whether <state>/meta/<name>, of an image or the tree of one, is what this process would have mounted. */
static bool is_ours(struct snap_meta *m, const char *name, const struct digest *key, uint64_t lazy)
{
	char hex[65];
	AUTO_FREE char *image = xasprintf("%s/meta/%s", m->root, digest_hex(key, hex));
	AUTO_FREE char *dir = xasprintf("%s/meta/%s", m->state, hex);
	AUTO_FREE char *path = xasprintf("%s/meta/%s", m->state, name);
	AUTO_FREE char *tree = tree_path(m, key, lazy);

	return m->level != SNAP_LEVEL_TREE && access(image, F_OK) == 0 && is_mounted(dir) &&
	       (!name[64] || (!strcmp(path, tree) && is_mounted(tree)));
}

/* Takes over what an earlier process of this boot has mounted, or left half done. */
static int adopt_mounts(struct snap_meta *m, struct err *err)
{
	AUTO_FREE char *dir = xasprintf("%s/meta", m->state);
	uint64_t lazy = lazy_device(m);
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d)
		return err_errno(err, errno, "open %s", dir);
	while ((e = readdir(d))) {
		AUTO_FREE char *path = xasprintf("%s/%s", dir, e->d_name);
		struct str name = str_of(e->d_name);
		struct digest key;

		if (!digest_from_hex(str_sub(name, 0, 64), &key))
			continue;
		if (!is_ours(m, e->d_name, &key, lazy)) {
			unmount(path);
		} else if (name.n > 64) {
			image_get(m, &key)->tree = lazy;
			image_get(m, &key)->ready = true;
		}
	}
	closedir(d);
	return 0;
}

static int open_dirs(struct snap_meta *m, struct err *err)
{
	AUTO_FREE char *index = xasprintf("%s/index", m->root);
	AUTO_FREE char *objects = xasprintf("%s/objects", m->root);
	AUTO_FREE char *mounts = xasprintf("%s/meta", m->state);

	TRY(dir_make(index, 0700, err));
	TRY(dir_make(objects, 0700, err));
	TRY(dir_make(mounts, 0700, err));
	m->index_fd = open(index, O_DIRECTORY | O_CLOEXEC);
	m->objects_fd = open(objects, O_DIRECTORY | O_CLOEXEC);
	if (m->index_fd < 0 || m->objects_fd < 0)
		return err_errno(err, errno, "open %s and %s", index, objects);
	return check_boot(m->root, err);
}

int snap_meta_open(const char *root, const char *state, struct snap_meta **out, struct err *err)
{
	struct snap_meta *m = xcalloc(1, sizeof(*m));

	m->root = xstrdup(root);
	m->state = xstrdup(state);
	m->index_fd = m->objects_fd = -1;
	m->level = SNAP_LEVEL_OVERLAY;
	m->images = MAP_INIT;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	if (open_dirs(m, err) < 0) {
		snap_meta_close(m);
		return err ? -(int)err->code : -(int)ERR_INTERNAL;
	}
	*out = m;
	return 0;
}

void snap_meta_set_level(struct snap_meta *m, enum snap_level level)
{
	struct err err = ERR_INIT;

	m->level = level;
	if (adopt_mounts(m, &err) < 0)
		log_warn("metadata images: %s", err.msg);
}

void snap_meta_close(struct snap_meta *m)
{
	struct str k;
	void *value;

	if (!m)
		return;
	for (size_t at = 0; map_next(&m->images, &at, &k, &value);)
		free(value);
	map_fini(&m->images);
	if (m->index_fd >= 0)
		close(m->index_fd);
	if (m->objects_fd >= 0)
		close(m->objects_fd);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	free(m->root);
	free(m->state);
	free(m);
}
