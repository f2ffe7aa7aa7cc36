/*
 * Calls of the Snapshots service, and the files behind the mounts that it gives, for tests over a world. Functions that give
 * a code leave the error in w->err; the others end the test when they fail. Answers live as long as the world.
 */
#ifndef CONTENTD_TESTING_SNAPSHOTS_H
#define CONTENTD_TESTING_SNAPSHOTS_H

#include "contentd/testing/world.h"
#include "rpc/proto/snapshots.pb-c.h"

#include <sys/stat.h>

struct mounts {
	Types__Mount **list;
	size_t n;
};

/* ---- calls, to the snapshotter w->snapshotter; labels: "k=v k=v"; what is asked for may be NULL ---- */

int snapshot_prepare(struct world *w, const char *key, const char *parent, const char *labels, struct mounts *out);
int snapshot_view(struct world *w, const char *key, const char *parent, const char *labels, struct mounts *out);
int snapshot_commit(struct world *w, const char *name, const char *key, const char *parent, const char *labels);
int snapshot_remove(struct world *w, const char *key);
int snapshot_mounts(struct world *w, const char *key, struct mounts *out);
int snapshot_stat(struct world *w, const char *key, Snapshots__Info **out);
/* mask: one path, or NULL. */
int snapshot_update(struct world *w, const char *key, const char *parent, const char *labels, const char *mask);

/* ---- files ---- */

/* The root of the mounts: as a client mounts them, but seen by nobody else. The caller closes it. */
int mounts_tree(struct world *w, const struct mounts *m);

void put_file(int dir_fd, const char *path, const char *text, mode_t mode);
void put_folder(int dir_fd, const char *path);

/* All zero when there is nothing of that name. */
struct stat look_at_file(int dir_fd, const char *path);
bool has_file(int dir_fd, const char *path);

/* The file must have this text. */
#define expect_file(dir_fd, path, text) expect_file_at((dir_fd), (path), (text), __FILE__, __LINE__)
void expect_file_at(int dir_fd, const char *path, const char *text, const char *source, int line);

#endif
