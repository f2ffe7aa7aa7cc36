/*
 * Bundles: the directory of one task, <state>/tasks/<namespace>/<id>/, as shims expect it (containerd's runtime v2):
 *	config.json        the container's specification, byte for byte
 *	rootfs/            the shim mounts on it
 *	work               symbolic link to <root>/tasks/<namespace>/<id>
 *	log                FIFO the shim writes its log to
 *	start              FIFO: the output of the shim's `start` action; open for writing as long as that runs
 *	shim-binary-path   which shim serves it, for `delete`
 *	bootstrap.json     where the shim listens; as the daemon got it
 *	address            the same, written by the shim itself, earlier
 *	told               what was published about the task (news.c)
 * Any thread; each bundle has one owner.
 */
#ifndef TASKS_BUNDLE_H
#define TASKS_BUNDLE_H

#include "base/buf.h"
#include "base/err.h"

#define BUNDLE_START_FIFO "start"

struct bundle {
	char *ns, *id;
	char *path;      /* of the bundle */
	char *work_path; /* of its work directory */
};
#define BUNDLE_INIT ((struct bundle){NULL, NULL, NULL, NULL})

/* Names the bundle; touches nothing. A name that is not one path component: ERR_INVALID. */
int bundle_init(struct bundle *b, const char *root, const char *state, const char *ns, const char *id, struct err *err);
void bundle_fini(struct bundle *b);
DEFINE_AUTO_FINI(bundle);

/* The group outside of which the container's root is, by its specification (linux.gidMappings); 0 when that is root's, or
 * nothing is said; negative when the specification cannot be read. */
int64_t bundle_root_group(struct str config);

/* Makes it on disk; what a dead task of this name left behind is removed first. Only root gets into it; of a container
 * with a user namespace, the group of its root gets through, too. */
int bundle_make(const struct bundle *b, struct str config, struct err *err);

/* Unmounts what is mounted on rootfs and removes everything. Never descends into a mount. Absent is fine. After a crash
 * in the middle the bundle is either there, whole, or no longer under its name (bundle_sweep). */
int bundle_remove(const struct bundle *b, struct err *err);

/* Finds the bundles below `state` and calls fn for each; then removes what crashes have left: halves of bundles, work
 * directories without a bundle, empty directories of namespaces. While nothing else uses them. */
int bundle_sweep(const char *root, const char *state, void (*fn)(void *arg, const char *ns, const char *id), void *arg,
                 struct err *err);

/* Programs made for containerd look for bundles below <state>/io.containerd.runtime.v2.task: that leads here, unless
 * something else has the name. */
int bundle_link(const char *state, struct err *err);

/* Small text files in the bundle, without the white space at their ends; ERR_NOT_FOUND. */
int bundle_read(const struct bundle *b, const char *file, char **out, struct err *err);
int bundle_write(const struct bundle *b, const char *file, const char *text, struct err *err);
/* Over what the file holds, which must not be longer: a crash leaves the one or the other. */
int bundle_rewrite(const struct bundle *b, const char *file, const char *text, struct err *err);

/* Opens the log FIFO for both, so that neither side ever sees the other's absence; non-blocking. */
int bundle_open_log(const struct bundle *b, int *fd, struct err *err);

#endif
