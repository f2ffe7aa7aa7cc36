#include "rpc/testing/echo.h"

#include "base/file.h"
#include "rpc/pb.h"
#include "rpc/ttrpc.h"

#include <poll.h>
#include <unistd.h>

typedef Contentd__Testing__EchoRequest EchoRequest;
typedef Contentd__Testing__EchoReply EchoReply;

static const EchoReply reply_init = CONTENTD__TESTING__ECHO_REPLY__INIT;

static void enter(struct echo *e)
{
	int now = atomic_fetch_add(&e->running, 1) + 1, max = atomic_load(&e->max_running);

	while (now > max && !atomic_compare_exchange_weak(&e->max_running, &max, now))
		;
}

static int leave(struct echo *e, struct rpc_call *c, struct err *err)
{
	int r = rpc_cancelled(c, err);

	if (r < 0) {
		atomic_store(&e->last_code, -r);
		atomic_fetch_add(&e->cancelled, 1);
	}
	atomic_fetch_sub(&e->running, 1);
	return r;
}

static int echo_unary(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const EchoRequest *req = request;
	EchoReply rsp = reply_init;

	if (req->code)
		return err_set(err, (enum err_code)req->code, "%s", req->text);
	rsp.text = req->text;
	rsp.data = req->data;
	rsp.index = req->count;
	if (req->key[0])
		rsp.text = (char *)(rpc_metadata(c, req->key) ?: "none");
	return rpc_reply(c, &rsp.base, err);
}

/* Until cancelled. */
static int echo_wait(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	struct pollfd p = {.fd = rpc_cancel_fd(c), .events = POLLIN};

	enter(svc);
	while (poll(&p, 1, -1) < 0)
		;
	return leave(svc, c, err);
}

/* For wait_ms, or until cancelled. */
static int echo_slow(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const EchoRequest *req = request;
	struct echo *e = svc;
	struct pollfd p = {.fd = rpc_cancel_fd(c), .events = POLLIN};

	enter(e);
	while (atomic_load(&e->stuck))
		usleep(1000);
	poll(&p, 1, (int)req->wait_ms);
	TRY(leave(svc, c, err));
	return echo_unary(c, request, svc, err);
}

static int echo_down(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const EchoRequest *req = request;
	EchoReply rsp = reply_init;
	int r = 0;

	enter(svc);
	rsp.data = req->data;
	for (rsp.index = 0; !r && rsp.index < req->count; rsp.index++)
		r = rpc_send(c, &rsp.base, err);
	leave(svc, c, NULL);
	if (!r && req->code)
		return err_set(err, (enum err_code)req->code, "%s", req->text);
	return r;
}

static int echo_up(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	struct echo *e = svc;
	EchoReply rsp = reply_init;
	EchoRequest *req;
	int r;

	enter(e);
	while (atomic_load(&e->hold) && !rpc_cancelled(c, NULL))
		usleep(1000);
	while ((r = rpc_recv(c, &req, err)) > 0)
		rsp.index += req->data.len;
	leave(e, c, NULL);
	TRY(r);
	return rpc_reply(c, &rsp.base, err);
}

static int echo_chat(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	EchoReply rsp = reply_init;
	EchoRequest *req;
	int r;

	enter(svc);
	while ((r = rpc_recv(c, &req, err)) > 0) {
		rsp.text = req->text;
		rsp.data = req->data;
		if (req->code)
			r = err_set(err, (enum err_code)req->code, "%s", req->text);
		else
			r = rpc_send(c, &rsp.base, err);
		if (r < 0)
			break;
		rsp.index++;
	}
	leave(svc, c, NULL);
	return r;
}

/* As Chat, without unpacking: fields 1 and 2 of request and reply are the same. */
static int echo_raw(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	AUTO(buf) struct buf in = BUF_INIT, out = BUF_INIT;
	int r;

	while ((r = rpc_recv_raw(c, &in, err)) > 0) {
		rpc_raw_begin(&out);
		buf_addstr(&out, buf_str(&in));
		TRY(rpc_send_raw(c, &out, err));
	}
	return r;
}

/* Takes descriptor 0, a file, and answers its content; sends a file with the request's data back, `count` times. */
static int echo_fds(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const EchoRequest *req = request;
	AUTO(buf) struct buf content = BUF_INIT;
	EchoReply rsp = reply_init;
	AUTO_FD int fd = ttrpc_call_fd(c, 0);

	if (fd >= 0)
		TRY(fd_read_all(fd, 4096, &content, err));
	for (unsigned i = 0; i < req->count; i++) {
		AUTO_FD int out = -1;

		TRY(memfd_of("echo", str_make(req->data.data, req->data.len), &out, err));
		TRY(ttrpc_reply_fd(c, STEAL_FD(out), err));
	}
	rsp.text = (char *)buf_cstr(&content);
	return rpc_reply(c, &rsp.base, err);
}

static int echo_progress(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const EchoRequest *req = request;
	EchoReply rsp = reply_init;
	int r = 0;

	enter(svc);
	rsp.data = req->data;
	for (; rsp.index < req->count && !r; rsp.index++)
		r = ttrpc_progress(c, &rsp.base, err);
	leave(svc, c, NULL);
	TRY(r);
	return echo_unary(c, request, svc, err);
}

struct rpc_service echo_ttrpc_service(struct echo *e)
{
	static const struct rpc_method methods[] = {
	    {"Unary", 0, echo_unary},      {"Quick", RPC_INLINE, echo_unary},
	    {"Wait", RPC_LONG, echo_wait}, {"Slow", 0, echo_slow},
	    {"Fds", 0, echo_fds},          {"Progress", 0, echo_progress},
	};

	return (struct rpc_service){&contentd__testing__echo__descriptor, methods, ARRAY_LEN(methods), e};
}

struct rpc_service echo_service(struct echo *e)
{
	static const struct rpc_method methods[] = {
	    {"Unary", 0, echo_unary},
	    {"Quick", RPC_INLINE, echo_unary},
	    {"Wait", RPC_LONG, echo_wait},
	    {"Slow", 0, echo_slow},
	    {"Down", RPC_SERVER_STREAM, echo_down},
	    {"Up", RPC_CLIENT_STREAM, echo_up},
	    {"Chat", RPC_CLIENT_STREAM | RPC_SERVER_STREAM, echo_chat},
	    {"Raw", RPC_CLIENT_STREAM | RPC_SERVER_STREAM, echo_raw},
	};

	return (struct rpc_service){&contentd__testing__echo__descriptor, methods, ARRAY_LEN(methods), e};
}
