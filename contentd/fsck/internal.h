/*
 * What the parts of the check share; not for others. They run in this order, each over what the ones before have left:
 *
 *	records.c    the table: every key and value can be read; what they say is taken into memory
 *	layers.c     indexes, then objects by what indexes say of them, partial files, pins, metadata images
 *	content.c    blobs and ingests against content records
 *	snapshots.c  chains, directories, indexes that they need
 *	refs.c       images, containers, leases, namespaces against all of that
 */
#ifndef CONTENTD_FSCK_INTERNAL_H
#define CONTENTD_FSCK_INTERNAL_H

#include "base/map.h"
#include "contentd/fsck/fsck.h"
#include "contentd/meta/meta.h"
#include "fusefs/store.h"
#include "snapshotter/record.h"

/* A record of the table, in the arena. */
struct fsck_record {
	enum cd_kind kind;
	const char *ns;
	struct str name;
	void *message;
	bool gone; /* was dropped */
};

struct fsck_snapshot {
	struct snap_space space;
	struct snap_record record;
	bool gone, seen;     /* dropped; told of */
	unsigned children;   /* that are not gone */
	int way;             /* to its base (snapshots.c) */
	const char *problem; /* a static text; NULL: none */
};

struct fsck {
	const struct cd_fsck_opts *opts;
	struct cd_fsck_result *result;
	int root_fd;
	bool data_in_use; /* a contentfs runs: what it has under way is left alone */
	const struct kv *kv;
	struct ffs_store *store;
	struct arena arena;
	VEC(struct fsck_record) records;
	struct map contents;   /* digest text of content records that stay */
	struct map namespaces; /* names that have a record */
	VEC(struct fsck_snapshot) snapshots;
	struct map indexes;        /* hex key of good ones */
	struct cd_finding pending; /* being repaired */
};

/* ---- findings ---- */

/* A thing is wrong. True when it is to be repaired now, which the caller does and tells by fsck_repaired. remedy NULL: it
 * cannot be repaired. Without repairs the check goes on as if this one had been made, so that it tells what a repair will
 * come to. */
bool fsck_found(struct fsck *f, const char *area, const char *name, const char *remedy, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* r, err: of the repair that fsck_found asked for. Returns true when it succeeded. */
bool fsck_repaired(struct fsck *f, int r, const struct err *err);

/* ---- repairs ---- */

/* Moves a file or directory to <root>/lost+found/<area>/. */
int fsck_lose(struct fsck *f, int dir_fd, const char *name, const char *area, struct err *err);
int fsck_unlink(int dir_fd, const char *name, struct err *err);
/* Removes a key of the table; key and value are kept in lost+found/records/. */
int fsck_lose_key(struct fsck *f, struct str key, struct err *err);
/* Finds a record to be wrong, and drops it. */
void fsck_drop_record(struct fsck *f, const char *area, const char *name, struct fsck_record *r, const char *remedy,
                      const char *problem);
int fsck_put(struct fsck *f, struct str key, struct str value, struct err *err);

/* ---- looking ---- */

/* Opens a directory below the root; -ERR_NOT_FOUND when it is not there, which is fine for all of them. */
int fsck_dir(struct fsck *f, const char *path, int *fd, struct err *err);
/* Names in a directory, read before anything in it is changed. */
struct fsck_names {
	VEC(char *) v;
};
void fsck_names_fini(struct fsck_names *n);
DEFINE_AUTO_FINI(fsck_names);
int fsck_names(int dir_fd, struct fsck_names *out, struct err *err);
bool fsck_is_hex64(const char *name);
bool fsck_exists(int dir_fd, struct str name);
/* sha256 of a whole file equals; 1 or 0. */
int fsck_digest_matches(int dir_fd, const char *name, const struct digest *want, struct err *err);

/* ---- the parts ---- */

int fsck_records(struct fsck *f, struct err *err);
int fsck_layers(struct fsck *f, struct err *err);
int fsck_content(struct fsck *f, struct err *err);
int fsck_snapshots(struct fsck *f, struct err *err);
int fsck_refs(struct fsck *f, struct err *err);
int fsck_pins(struct fsck *f, struct err *err);

#endif
