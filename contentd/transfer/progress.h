/*
 * What a transfer tells its client while it works: Progress messages in containerd's form, on a stream that the client
 * has opened for them. A message without a name is a headline; an image is named by its reference, its parts by
 * "layer-sha256:...", with the image as their parent. Any thread.
 */
#ifndef CONTENTD_TRANSFER_PROGRESS_H
#define CONTENTD_TRANSFER_PROGRESS_H

#include "contentd/streams.h"
#include "rpc/proto/xfer.pb-c.h"

#include <pthread.h>

struct cd_progress {
	struct cd_stream *stream; /* NULL: nobody listens */
	pthread_mutex_t lock;     /* one sender at a time */
	bool gone;                /* lock */
};

void cd_progress_init(struct cd_progress *p, struct cd_stream *stream); /* borrowed */
void cd_progress_fini(struct cd_progress *p);
DEFINE_AUTO_FINI(cd_progress);

/* As it is. Who does not listen any more may still want what is being made: no error. NULL is fine. */
void cd_progress_send(struct cd_progress *p, const Xfer__Progress *m);

/* "Importing": no name, no numbers. */
void cd_progress_headline(struct cd_progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A step of something: `parent` and `of` may be NULL. */
void cd_progress_step(struct cd_progress *p, const char *event, const char *name, const char *parent,
                      const Types__Descriptor *of, int64_t done, int64_t total);

/* The name of a part, as containerd makes it: "layer-sha256:...", "manifest-...", "index-...", "config-...", or
 * "unknown-..." by the media type. Caller frees. */
char *cd_progress_name(const char *media_type, const char *digest);

#endif
