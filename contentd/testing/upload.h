/*
 * Streams of Content.Write, and what else the tests of the content store ask for, over a world's client. Functions that
 * give a code leave the error in w->err; the others end the test when they fail. Answers live as long as the world.
 */
#ifndef CONTENTD_TESTING_UPLOAD_H
#define CONTENTD_TESTING_UPLOAD_H

#include "contentd/testing/world.h"
#include "rpc/proto/content.pb-c.h"

struct upload {
	struct world *w;
	struct rpc_stream *s;
};

/* A stream on which nothing has been said yet. */
struct upload upload_begin(struct world *w);
/* Closes it. The server learns of it soon; whoever opens the ref next may have to try again. */
void upload_end(struct upload *u);

/* One message and its answer; *rsp may be NULL. */
int upload_say(struct upload *u, const Content__WriteContentRequest *req, Content__WriteContentResponse **rsp);
int upload_stat(struct upload *u, const char *ref, int64_t total, const char *expected,
                Content__WriteContentResponse **rsp);
int upload_write(struct upload *u, int64_t offset, struct str data, Content__WriteContentResponse **rsp);
/* labels: "k=v k=v". */
int upload_commit(struct upload *u, int64_t offset, int64_t total, const char *expected, const char *labels,
                  Content__WriteContentResponse **rsp);

/* Begins and asks for the ref's state, however long the last writer takes to be gone. */
struct upload upload_open(struct world *w, const char *ref, int64_t total, const char *expected,
                          Content__WriteContentResponse **rsp);

/* A blob from begin to end. */
void upload_blob(struct world *w, const char *ref, struct str bytes, const char *labels);

/* ---- the other calls ---- */

/* "sha256:..." of bytes. */
const char *sha_of(struct world *w, struct str bytes);

int content_status(struct world *w, const char *ref, Content__Status **out);
int content_info(struct world *w, const char *digest, Content__Info **out);
/* The messages must follow each other; *messages (may be NULL): how many there were. */
int content_read(struct world *w, const char *digest, int64_t offset, int64_t size, struct str *out, size_t *messages);
/* mask NULL: none. */
int content_update(struct world *w, const char *digest, const char *labels, const char *mask, Content__Info **out);
int content_delete(struct world *w, const char *digest);

#endif
