/*
 * Checking a root directory that no daemon uses: records against each other and against the disk, and repairing what can
 * be repaired. What is lost that way is either fetched again at its next use, or lies in <root>/lost+found afterwards:
 * nothing that may be somebody's only copy is deleted. One thread.
 */
#ifndef CONTENTD_FSCK_FSCK_H
#define CONTENTD_FSCK_FSCK_H

#include "base/err.h"

/* What is wrong with one thing. Borrowed. */
struct cd_finding {
	const char *area;    /* database, record, snapshot, image, container, lease, blob, ingest, index, object, ... */
	const char *name;    /* of the thing, within its area */
	const char *problem; /* "has 3 bytes, not 5" */
	const char *remedy;  /* what a repair does, or has done; NULL: it cannot be repaired */
	const char *failure; /* why the repair has failed, or NULL */
	bool repaired;
};

struct cd_fsck_opts {
	const char *root, *state;
	bool repair;
	bool contents; /* reads all blobs and objects and compares digests, not only sizes */
	void (*found)(void *arg, const struct cd_finding *finding);
	void *arg;
};

struct cd_fsck_result {
	unsigned found, repaired;
	unsigned long long blobs, ingests, indexes, objects, partials, snapshots, records; /* that were looked at */
};

/* ERR_EXISTS: a daemon uses the root, or (for a repair) a contentfs the state directory. Other errors: the check could not
 * be brought to its end. */
int cd_fsck(const struct cd_fsck_opts *opts, struct cd_fsck_result *out, struct err *err);

/* `contentd fsck`: checks, prints, and returns the exit status of fsck(8): 0 nothing found, 1 all of it repaired, 4 some of
 * it is left, 8 could not be done. */
int cd_fsck_main(const char *root, const char *state, bool repair, bool contents, bool json);

#endif
