/* The ttrpc socket to which shims send their events. */
#include "contentd/tasks/internal.h"

#include "base/unix.h"
#include "rpc/proto/events_ttrpc.pb-c.h"

static int forward(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const EventsTtrpc__ForwardRequest *req = request;
	struct cd_tasks *t = svc;

	(void)c;
	if (!req->envelope)
		return err_set(err, ERR_INVALID, "no event in the request");
	return t->host.forward(t->host.arg, req->envelope, err);
}

static bool is_root(const struct ucred *peer, void *arg)
{
	(void)arg;
	return peer->uid == 0;
}

int tasks_serve_events(struct cd_tasks *t, struct err *err)
{
	static const struct rpc_method methods[] = {{"Forward", 0, forward}};
	struct rpc_service service = {&events_ttrpc__events__descriptor, methods, ARRAY_LEN(methods), t, NULL};
	struct ttrpc_server_opts opts = {.io = t->io, .allow = is_root};
	int fd;

	TRY(ttrpc_server_new(&opts, &t->events, err));
	TRY(ttrpc_server_add(t->events, &service, err));
	TRY_WRAP(unix_listen(t->ttrpc_address, SOCK_STREAM, 0600, &fd, err), err, "socket for events");
	TRY(ttrpc_server_listen(t->events, fd, err));
	return ttrpc_server_start(t->events, err);
}
