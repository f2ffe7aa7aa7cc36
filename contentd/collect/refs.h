/*
 * What images lead to: target -> content by gc.ref.content labels, content -> chains of snapshots by gc.ref.snapshot
 * labels, as containerd's collector follows them. Reads records only. Any thread.
 */
#ifndef CONTENTD_COLLECT_REFS_H
#define CONTENTD_COLLECT_REFS_H

#include "contentd/daemon.h"

/* What to do with what is found; each may be NULL. A negative return ends the walk with that code. `image` is
 * "<namespace>/<name>"; texts are borrowed for the call. A thing that several images lead to is reported for each. */
struct cd_refs {
	int (*content)(void *arg, const char *image, const char *ns, const char *digest, struct err *err);
	int (*chain)(void *arg, const char *image, struct snap_space space, const char *chain, struct err *err);
	void *arg;
};

/* From all images of all namespaces. */
int cd_refs_of_images(struct cd_daemon *d, const struct cd_refs *refs, struct err *err);

/* From one image, or from any other record that names content by digest. */
int cd_refs_of(struct cd_daemon *d, const char *image, const char *ns, const char *target, const struct cd_refs *refs,
               struct err *err);

#endif
