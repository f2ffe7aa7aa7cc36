/*
 * What the tests of the client share: a client, a scripted server (or two) and a blob; and the collector of an
 * asynchronous answer. To be included after cmocka's own needs (setjmp.h and so on).
 */
#ifndef REGISTRY_TESTWORLD_H
#define REGISTRY_TESTWORLD_H

#include "registry/client.h"
#include "registry/testserver.h"

#include <pthread.h>

#define BLOB_BYTES 300000

/* What a handler may look at. */
struct world {
	struct testserver *server, *other; /* other: a second origin, for redirects and tokens */
	struct reg_client *client;
	struct reg_ref ref;
	struct digest digest; /* of blob */
	char blob[BLOB_BYTES];
	char digest_text[DIGEST_TEXT_MAX];
};

/* Both are short where silence, instead of an answer or within one, is what the test is about; elsewhere a slow machine
 * must not look like it. */
struct world *world_new_impatient(testserver_fn *fn, testserver_fn *other, unsigned answer_ms, unsigned stall_ms);
struct world *world_new(testserver_fn *fn, testserver_fn *other);
void world_free(struct world *w);
DEFINE_AUTO_FREE(world);

struct str blob_of(struct world *w);

/* A deadline. */
int64_t in_s(int s);

/* Collects an asynchronous answer. */
struct result {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done, disorder;
	unsigned times;
	int result, status;
	struct err err;
	struct buf body, streamed;
	uint64_t offset, length, blob_size;
	/* What the data callback does. */
	uint64_t expect_offset, stop_at;
	bool pause_once;
	pthread_cond_t paused_cond;
	bool paused;
};

void result_init(struct result *r);
void result_fini(struct result *r);
DEFINE_AUTO_FINI(result);

/* Callbacks whose argument is a struct result. */
void on_done(void *arg, struct reg_answer *a);
enum reg_flow on_data(void *arg, uint64_t offset, struct str bytes);

void await(struct result *r);

/* A demand request of the world's blob that gathers its bytes, to be changed to taste; submitted and awaited by run(). */
struct reg_blob_get question(struct world *w, struct result *r, uint64_t offset, uint64_t length);
void run(struct world *w, const struct reg_blob_get *q, struct result *r);

void assert_body(struct world *w, const struct buf *body, uint64_t offset, uint64_t length);

/* For handlers: whether the path contains the text; the blob, or a 404 that tries to draw on the terminal. */
bool is_path(struct exchange *x, const char *part);
bool serve_blob(struct exchange *x);
/* Silence until the client hangs up. */
bool serve_nothing(struct exchange *x);

/* A manifest without layers. */
extern const char *const MANIFEST;

#endif
