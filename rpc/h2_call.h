/* A gRPC call on an HTTP/2 stream: between h2_call.c (queues, flow control, status) and h2_conn.c (the session). */
#ifndef RPC_H2_CALL_H
#define RPC_H2_CALL_H

#include "rpc/grpc.h"
#include "rpc/h2.h"
#include "rpc/msgq.h"

#include <nghttp2/nghttp2.h>

/* A message waiting to be read or sent. */
struct h2_call {
	struct rpc_call base;
	struct h2_env *env;
	struct h2_peer *account; /* a reference */

	/* The I/O thread's. */
	struct h2_conn *conn;        /* NULL once the stream is closed */
	struct h2_call *next, *prev; /* of the connection */
	int32_t stream_id;
	size_t header_bytes;
	char *path, *content_type, *encoding;
	bool is_post, has_timeout, bad_timeout, input_ended, headers_sent, status_sent;
	struct loop_timer *timer;
	struct grpc_cutter cutter;
	unsigned n_messages; /* received */
	size_t charged;      /* bytes this call has in conn->buffered */
	size_t credit;       /* bytes received for which the sender has no new credit yet */

	/* Guarded by env->lock. */
	struct h2_call *next_ready;
	bool is_ready;

	/* Guarded by base.lock. What is in `out` is charged to account->unsent. */
	struct msgq in, out;
	bool in_end;
	size_t taken;      /* bytes taken by the handler since the I/O thread looked */
	bool wants_taken;  /* it waits for that: wake it */
	size_t out_offset; /* sent of the first message */
	bool finished;     /* there is a status */
	enum err_code code;
	char *message; /* NULL: none */
};

struct h2_conn {
	struct h2_env *env;
	nghttp2_session *session;
	struct ucred peer;
	struct err *refusal; /* NULL: calls are served */
	size_t refused_bytes;
	struct h2_peer *account;
	struct worker_share *share; /* NULL without workers */
	void (*output)(void *arg);
	void *arg;
	struct h2_call *calls;
	size_t n_calls;
	size_t buffered;            /* request bytes received for calls and not taken by handlers */
	bool full;                  /* `buffered` has passed the soft bound: senders wait */
	struct h2_call *privileged; /* while full, the one call that may complete its message */
	struct buf *pull_out;       /* during h2_conn_pull */
	size_t pull_max;
	bool stopping;
	bool greeted;          /* preface and settings have come */
	bool flooded;          /* `control` ran out */
	unsigned control;      /* what is left of H2_CONTROL_BURST */
	int64_t control_at_ns; /* when it was filled up the last time */
};

struct h2_call *h2_call_new(struct h2_conn *conn, int32_t stream_id);

/* The stream is closed (or its connection goes): cancels what still runs, drops the connection's reference. */
void h2_call_close(struct h2_call *c);

/* A request header; what is not gRPC's own becomes metadata. */
void h2_call_header(struct h2_call *c, struct str name, struct str value);

/* All request headers are here: starts the call, or refuses it. */
void h2_call_headers_done(struct h2_call *c);

/* Bytes of the request's body. */
void h2_call_data(struct h2_call *c, struct str bytes);

/* The client has closed its side. */
void h2_call_input_end(struct h2_call *c);

/* Ends the call from this side, now, whatever its handler does. */
void h2_call_abort(struct h2_call *c, enum err_code code, const char *message);

/* Brings the session up to what workers did to the call. */
void h2_call_service(struct h2_call *c);

/* The next bytes of the response's body: how many may go now, at most `max`; *eof when they are the last. */
size_t h2_call_body(struct h2_call *c, size_t max, bool *eof);
/* Moves n of them to `out`. */
void h2_call_body_take(struct h2_call *c, size_t n, struct buf *out);

/* Submits the trailers. */
int h2_call_submit_status(struct h2_call *c);

#endif
