/*
 * Which rung of the ladder this machine stands on: a one-file image is put together in each way, mounted, and the file
 * read back. What a kernel claims does not count, only the bytes that come out.
 */
#include "snapshotter/internal.h"

#include "base/file.h"
#include "estargz/erofs/erofs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define PROBE_TEXT "these bytes come from an object behind a redirect\n"

struct probe {
	char *dir; /* scratch directory, removed at the end */
	struct digest content, index_key;
};

/* An index of a layer with one regular file /probe, whose content is published as an object. */
static int write_index(struct probe *p, struct err *err)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf bytes = BUF_INIT;
	struct esgz_index_info info = {.trust = ESGZ_TRUST_DIFFID, .compression = ESGZ_PLAIN};
	struct esgz_entry e = {.type = ESGZ_REG, .mode = 0644, .path = STR("probe"), .size = sizeof(PROBE_TEXT) - 1};
	AUTO_FD int dir = -1;
	char hex[65];

	e.content = info.blob = info.trusted = p->index_key = p->content;
	info.blob_bytes = e.size;
	TRY(esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, err));
	TRY(esgz_index_finish(b, &info, &bytes, err));
	dir = open(p->dir, O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(err, errno, "open %s", p->dir);
	return file_write_atomic(dir, digest_hex(&p->index_key, hex), buf_str(&bytes), 0600, err);
}

static int make_subdir(const struct probe *p, const char *name, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/%s", p->dir, name);

	return dir_make(path, 0755, err);
}

static int write_object(const struct probe *p, struct err *err)
{
	char hex[65];
	AUTO_FREE char *sub = xasprintf("objects/%.2s", digest_hex(&p->content, hex));
	AUTO_FREE char *path = xasprintf("%s/%s/%s", p->dir, sub, hex + 2);
	AUTO_FD int fd = -1;

	TRY(make_subdir(p, sub, err));
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_errno(err, errno, "create %s", path);
	return fd_write_all(fd, STR(PROBE_TEXT), err);
}

static int prepare(struct probe *p, struct err *err)
{
	AUTO_FREE char *image = xasprintf("%s/image", p->dir);
	AUTO_FREE char *objects = xasprintf("%s/objects", p->dir);
	AUTO_FD int dir_fd = -1;
	AUTO_FD int objects_fd = -1;

	static const char *const subdirs[] = {"objects", "lazy", "e", "tree", "fs", "work", "m"};

	digest_of(PROBE_TEXT, sizeof(PROBE_TEXT) - 1, &p->content);
	for (size_t i = 0; i < ARRAY_LEN(subdirs); i++)
		TRY(make_subdir(p, subdirs[i], err));
	TRY(write_object(p, err));
	TRY(write_index(p, err));
	dir_fd = open(p->dir, O_DIRECTORY | O_CLOEXEC);
	objects_fd = open(objects, O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0 || objects_fd < 0)
		return err_errno(err, errno, "open %s", p->dir);
	return snap_meta_build(dir_fd, objects_fd, &p->index_key, 1, image, err);
}

static void unmount(const struct probe *p, const char *name)
{
	AUTO_FREE char *path = xasprintf("%s/%s", p->dir, name);

	umount2(path, MNT_DETACH);
}

static int mount_overlay(const struct probe *p, const char *at, unsigned long flags, const char *options,
                         struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/%s", p->dir, at);

	if (mount("overlay", path, "overlay", flags, options) < 0)
		return err_errno(err, errno, "mount an overlay at %s", at);
	return 0;
}

static int read_back(const struct probe *p, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/m/probe", p->dir);
	AUTO(buf) struct buf got = BUF_INIT;

	TRY(file_read(AT_FDCWD, path, 4096, &got, err));
	if (!str_eq(buf_str(&got), STR(PROBE_TEXT)))
		return err_set(err, ERR_UNIMPLEMENTED, "the overlay does not follow redirects: wrong bytes");
	return 0;
}

/* The form of a container's mount. */
static int try_container(const struct probe *p, const char *parts, struct err *err)
{
	AUTO_FREE char *options = xasprintf("index=off,xino=on,upperdir=%s/fs,lowerdir=%s/tree,workdir=%s/work%s",
	                                    p->dir, p->dir, p->dir, parts);
	int r;

	TRY(mount_overlay(p, "m", 0, options, err));
	r = read_back(p, err);
	unmount(p, "m");
	return r;
}

/* The tree of a chain has to work at all: others read it, and mount it read-only below an upper directory. */
static void choose_overlay(const struct probe *p, enum snap_level *level, struct buf *reason)
{
	AUTO_FREE char *parts = xasprintf("lowerdir=%s/e::%s/objects::%s/lazy", p->dir, p->dir, p->dir);
	AUTO_FREE char *tree = xasprintf("metacopy=on,%s", parts);
	AUTO_FREE char *second = xasprintf(",%s", parts);
	struct err err = ERR_INIT;

	if (mount_overlay(p, "tree", MS_RDONLY, tree, &err) < 0) {
		buf_addf(reason, "no overlay of EROFS, objects and FUSE: %s", err.msg);
		return;
	}
	if (try_container(p, "", &err) < 0) {
		buf_addf(reason, "no nested overlays: %s", err.msg);
	} else if (try_container(p, second, &err) < 0) {
		*level = SNAP_LEVEL_NESTED;
		buf_addf(reason, "probed: nested overlays; one is not enough: %s", err.msg);
	} else {
		*level = SNAP_LEVEL_OVERLAY;
		buf_adds(reason, "probed: one overlay over EROFS, objects and FUSE");
	}
	unmount(p, "tree");
}

static void choose(const struct probe *p, enum snap_level *level, struct buf *reason)
{
	AUTO_FREE char *image = xasprintf("%s/image", p->dir);
	AUTO_FREE char *dir = xasprintf("%s/e", p->dir);

	*level = SNAP_LEVEL_TREE;
	if (mount(image, dir, "erofs", MS_RDONLY, "") < 0) {
		buf_addf(reason, "no EROFS mount from a file: %s", strerror(errno));
		return;
	}
	choose_overlay(p, level, reason);
	unmount(p, "e");
}

int snap_probe(const char *root, const char *state, enum snap_level *level, char **reason, struct err *err)
{
	AUTO_FREE char *dir = xasprintf("%s/snapshots/.probe-XXXXXX", root);
	struct probe p = {.dir = dir};
	AUTO(buf) struct buf why = BUF_INIT;
	AUTO_FD int parent = -1;
	struct utsname kernel;
	int r;

	if (!mkdtemp(dir))
		return err_errno(err, errno, "make %s", dir);
	parent = open(root, O_DIRECTORY | O_CLOEXEC);
	r = prepare(&p, err);
	if (r >= 0) {
		choose(&p, level, &why);
		if (uname(&kernel) == 0)
			buf_addf(&why, " (kernel %s)", kernel.release);
		*reason = buf_steal(&why);
	}
	if (parent >= 0)
		dir_remove(parent, dir + strlen(root) + 1, NULL);
	return r;
}
