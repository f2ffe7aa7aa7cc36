/*
 * Named streams: a client opens Streaming.Stream, names it, and then makes another call that refers to the name; that
 * call sends and receives messages (as Any) on the stream and closes it when done. A stream belongs to the namespace it
 * was opened in. Any thread; on one stream one sender and one receiver at a time.
 */
#ifndef CONTENTD_STREAMS_H
#define CONTENTD_STREAMS_H

#include "base/cleanup.h"
#include "rpc/pb.h"
#include "rpc/service.h"

struct cd_streams;
struct cd_stream;

struct cd_streams *cd_streams_new(void);
void cd_streams_free(struct cd_streams *s); /* all calls must have ended */
DEFINE_AUTO_FREE(cd_streams);

/* ERR_NOT_FOUND. *out: cd_stream_close. */
int cd_streams_get(struct cd_streams *s, const char *ns, const char *id, struct cd_stream **out, struct err *err);

/* Packs into an Any and sends. Fails when the client is gone. */
int cd_stream_send(struct cd_stream *s, const ProtobufCMessage *msg, struct err *err);

/* Waits for the next message, which must be of type `d`; *out: T **, in the arena. 1 with it, 0 when the client has
 * closed its side, ERR_UNAVAILABLE when its stream broke off before that. Ends early, with an error, when `on_behalf` (may
 * be NULL) is cancelled or at the deadline (CLOCK_MONOTONIC ns, INT64_MAX: none). */
int cd_stream_recv(struct cd_stream *s, const ProtobufCMessageDescriptor *d, struct rpc_call *on_behalf,
                   int64_t deadline_ns, struct arena *a, void *out, struct err *err);

/* Ends the stream for the client, and gives it up. NULL is fine. */
void cd_stream_close(struct cd_stream *s);

static inline void cd_stream_cleanup(struct cd_stream **s)
{
	cd_stream_close(*s);
}

#endif
