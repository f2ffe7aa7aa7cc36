/*
 * For tests of the verbs: a worker without a mount in this process, with the real client, data, store and socket, and a
 * registry in memory whose images have layers made here.
 */
#ifndef FUSEFS_TESTVERBS_H
#define FUSEFS_TESTVERBS_H

#include "base/testing.h"

#include "fusefs/client.h"
#include "fusefs/secrets.h"
#include "fusefs/service.h"
#include "registry/client.h"
#include "registry/testserver.h"
#include "rpc/proto/contentfs.pb-c.h"

#include <pthread.h>
#include <stdatomic.h>

#define PB(name) Contentd__Contentfs__V1__##name

/* As FAILS of testing.h, and the message contains the text. */
#define FAILS_SAYING(expr, c, text)                                                                                    \
	do {                                                                                                           \
		struct err e_ = ERR_INIT;                                                                              \
		struct err *err = &e_;                                                                                 \
		assert_true((expr) < 0);                                                                               \
		if (e_.code != (c) || !strstr(e_.msg, (text)))                                                         \
			fail_msg("%s: %s: %s", #expr, err_code_name(e_.code), e_.msg);                                 \
	} while (0)

/* ---- the world of a test ---- */

struct resource {
	char *path; /* "blobs/sha256:...", "manifests/latest" */
	struct buf bytes;
	bool stalls;
};

struct world {
	char dir[48];
	struct testserver *server;
	VEC(struct resource) resources; /* complete before the first request */
	atomic_uint stalled, given_up;  /* questions that were not answered; of these, whose client has gone */
	atomic_bool password;           /* who does not say bob:s3cret is turned away */
	_Atomic(const char *) withheld; /* a path that other/image does not have */
	_Atomic(const char *) held;     /* a path that is not answered while it stands here */
	char reference[64];
	struct ffs_options opts;
	struct ffs_worker w;
	struct ffs_service *service;
	struct ffs_client *client;
};

/* For cmocka: *state is a struct world, with a worker. */
int set_up(void **state);
int tear_down(void **state);
/* Another worker on the same store. */
void worker_end(struct world *w);
void worker_start(struct world *w);

/* ---- what the registry has ---- */

struct layer {
	struct buf blob;
	struct digest digest, diff_id, toc;
	bool lazy; /* the manifest names the TOC */
};
void layer_fini(struct layer *l);
DEFINE_AUTO_FINI(layer);

/* A tar of `files` small files and one of 1 MiB: "file-<seed>-<i>" and "big-<seed>". */
void layer_plain(struct layer *l, unsigned seed, unsigned files);
/* The same as eStargz. */
void layer_lazy(struct layer *l, unsigned seed, unsigned files);

/* Images are asked for in this repository: "some/image", at first; "other/image" has the same. */
void refer_to(struct world *w, const char *repository);

struct resource *add_resource(struct world *w, const char *path, struct str bytes);
struct digest add_blob(struct world *w, struct str bytes);
struct resource *find_blob(struct world *w, const struct digest *d);
/* Adds the blobs, a configuration and the manifest "latest". `diff_ids`: how many of them the configuration has. */
void add_image(struct world *w, const struct layer *layers, unsigned n, unsigned diff_ids);

/* ---- asking, and looking ---- */

int ask_open(struct world *w, bool lazy, PB(OpenResponse) * *out, struct err *err);
/* Unpacks a layer's blob; fd: as from_fd, or as ingest (tee), or -1. */
int ask_unpack(struct world *w, const struct layer *l, const struct digest *diff_id, int fd, bool tee,
               PB(UnpackResponse) * *out, struct err *err);

/* Who asks on a thread of his own. */
struct racer {
	struct world *w;
	const struct layer *l;
	pthread_t thread;
	PB(UnpackResponse) * rsp;
	int index_fd;
	struct err err;
};
/* A thread: unpacks the racer's layer from the registry, whatever its DiffID is. */
void *race_for_layer(void *racer);

/* Unpacks a layer from memory. The index key: heap. */
char *unpack_local(struct world *w, const struct layer *l);
/* Opens the image of one lazy layer, and fills it. The index key: heap. */
char *open_and_fill(struct world *w);

/* A regular file of an index. */
struct listed {
	uint64_t size;
	struct digest content, claim;
};
/* The caller's (free); *n: how many. */
struct listed *list_files(const struct world *w, const char *index_key, unsigned *n);

/* Names in one of the store's directories. */
unsigned count_files(const struct world *w, enum ffs_dir which);
void assert_nothing_published(const struct world *w);
/* Names of objects. */
unsigned count_objects(const struct world *w);
bool has_object(const struct world *w, const struct digest *name);
/* Changes the byte at `at` of a stored file. */
void damage(const struct world *w, enum ffs_dir which, const char *path, off_t at);
void damage_object(const struct world *w, const struct digest *name);
/* Such that it shows when the index is opened, and not to those who have it open. */
void damage_index(const struct world *w, const char *index_key);

/* The content of every file of the index is in the store; `files` counts empty ones, too. */
void assert_objects(const struct world *w, const char *index_key, unsigned files);

#endif
