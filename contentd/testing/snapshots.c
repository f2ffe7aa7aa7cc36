#include "contentd/testing/snapshots.h"

#include "base/file.h"
#include "contentd/diff/trees.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CALL(method, req, rsp) world_call(w, &snapshots__snapshots__descriptor, method, (req), (rsp))

/* ---- calls ---- */

int snapshot_prepare(struct world *w, const char *key, const char *parent, const char *labels, struct mounts *out)
{
	Snapshots__PrepareSnapshotRequest req = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;
	Snapshots__PrepareSnapshotResponse *rsp = NULL;
	int r;

	req.snapshotter = w->snapshotter;
	req.key = key;
	req.parent = parent;
	WORLD_KVS(w, &req, labels, labels);
	r = CALL("Prepare", &req, &rsp);
	if (r >= 0 && out)
		*out = (struct mounts){rsp->mounts, rsp->n_mounts};
	return r;
}

int snapshot_view(struct world *w, const char *key, const char *parent, const char *labels, struct mounts *out)
{
	Snapshots__ViewSnapshotRequest req = SNAPSHOTS__VIEW_SNAPSHOT_REQUEST__INIT;
	Snapshots__ViewSnapshotResponse *rsp = NULL;
	int r;

	req.snapshotter = w->snapshotter;
	req.key = key;
	req.parent = parent;
	WORLD_KVS(w, &req, labels, labels);
	r = CALL("View", &req, &rsp);
	if (r >= 0 && out)
		*out = (struct mounts){rsp->mounts, rsp->n_mounts};
	return r;
}

int snapshot_commit(struct world *w, const char *name, const char *key, const char *parent, const char *labels)
{
	Snapshots__CommitSnapshotRequest req = SNAPSHOTS__COMMIT_SNAPSHOT_REQUEST__INIT;

	req.snapshotter = w->snapshotter;
	req.name = name;
	req.key = key;
	req.parent = parent;
	WORLD_KVS(w, &req, labels, labels);
	return CALL("Commit", &req, NULL);
}

int snapshot_remove(struct world *w, const char *key)
{
	Snapshots__RemoveSnapshotRequest req = SNAPSHOTS__REMOVE_SNAPSHOT_REQUEST__INIT;

	req.snapshotter = w->snapshotter;
	req.key = key;
	return CALL("Remove", &req, NULL);
}

int snapshot_mounts(struct world *w, const char *key, struct mounts *out)
{
	Snapshots__MountsRequest req = SNAPSHOTS__MOUNTS_REQUEST__INIT;
	Snapshots__MountsResponse *rsp = NULL;
	int r;

	req.snapshotter = w->snapshotter;
	req.key = key;
	r = CALL("Mounts", &req, &rsp);
	if (r >= 0 && out)
		*out = (struct mounts){rsp->mounts, rsp->n_mounts};
	return r;
}

int snapshot_stat(struct world *w, const char *key, Snapshots__Info **out)
{
	Snapshots__StatSnapshotRequest req = SNAPSHOTS__STAT_SNAPSHOT_REQUEST__INIT;
	Snapshots__StatSnapshotResponse *rsp = NULL;
	int r;

	req.snapshotter = w->snapshotter;
	req.key = key;
	r = CALL("Stat", &req, &rsp);
	if (r >= 0 && out)
		*out = rsp->info;
	return r;
}

int snapshot_update(struct world *w, const char *key, const char *parent, const char *labels, const char *mask)
{
	Snapshots__UpdateSnapshotRequest req = SNAPSHOTS__UPDATE_SNAPSHOT_REQUEST__INIT;
	Snapshots__Info info = SNAPSHOTS__INFO__INIT;
	Pb__FieldMask m = PB__FIELD_MASK__INIT;

	req.snapshotter = w->snapshotter;
	info.name = key;
	info.parent = parent;
	WORLD_KVS(w, &info, labels, labels);
	req.info = &info;
	m.paths = &mask;
	m.n_paths = 1;
	req.update_mask = mask ? &m : NULL;
	return CALL("Update", &req, NULL);
}

/* ---- files ---- */

int mounts_tree(struct world *w, const struct mounts *m)
{
	AUTO_FREE char *scratch = xasprintf("%s/mnt", w->dir);
	AUTO(tree_mounts) struct tree_mounts list = TREE_MOUNTS_INIT;
	int fd = -1;

	if (mkdir(scratch, 0755) < 0)
		assert_int_equal(errno, EEXIST);
	tree_mounts_of_api(m->list, m->n, &list);
	OK(tree_open(&list, scratch, &fd, &w->err));
	return fd;
}

void put_file(int dir_fd, const char *path, const char *text, mode_t mode)
{
	AUTO_FD int f = openat(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	SYS(f);
	assert_int_equal(write(f, text, strlen(text)), strlen(text));
	SYS(fchmod(f, mode));
}

void put_folder(int dir_fd, const char *path)
{
	SYS(mkdirat(dir_fd, path, 0755));
}

struct stat look_at_file(int dir_fd, const char *path)
{
	struct stat st;

	return fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st : (struct stat){0};
}

bool has_file(int dir_fd, const char *path)
{
	return look_at_file(dir_fd, path).st_mode;
}

void expect_file_at(int dir_fd, const char *path, const char *text, const char *source, int line)
{
	AUTO(buf) struct buf got = BUF_INIT;
	struct err err = ERR_INIT;

	if (file_read(dir_fd, path, 1 << 20, &got, &err) < 0)
		fail_msg("%s:%d, %s: %s", source, line, path, err.msg);
	if (strcmp(buf_cstr(&got), text))
		fail_msg("%s:%d, %s: \"%s\" is not \"%s\"", source, line, path, buf_cstr(&got), text);
}
