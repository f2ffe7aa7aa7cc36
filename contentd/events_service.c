#include "base/clock.h"
#include "contentd/daemon.h"
#include "contentd/ident.h"
#include "contentd/services.h"
#include "rpc/proto/events.pb-c.h"

static int events_publish(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Events__PublishRequest *req = request;
	Types__Envelope envelope = TYPES__ENVELOPE__INIT;
	struct cd_daemon *d = svc;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	envelope.timestamp = pb_time_new(rpc_arena(c), clock_wall());
	envelope.namespace_ = ns;
	envelope.topic = req->topic;
	envelope.event = req->event;
	return cd_events_forward(d->events, &envelope, err);
}

static int events_forward(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Events__ForwardRequest *req = request;
	struct cd_daemon *d = svc;

	return cd_events_forward(d->events, req->envelope, err);
}

static void stop(void *arg)
{
	cd_subscription_stop(arg);
}

static int deliver(struct rpc_call *c, struct cd_subscription *s, struct err *err)
{
	for (;;) {
		AUTO(buf) struct buf wire = BUF_INIT;
		int r;

		rpc_raw_begin(&wire);
		r = cd_subscription_next(s, &wire, err);
		if (r <= 0)
			return r < 0 ? r : rpc_cancelled(c, err);
		TRY(rpc_send_raw(c, &wire, err));
	}
}

static int events_subscribe(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Events__SubscribeRequest *req = request;
	AUTO(cd_subscription) struct cd_subscription *s = NULL;
	struct cd_daemon *d = svc;
	int r;

	TRY(cd_events_subscribe(d->events, (const char *const *)req->filters, req->n_filters, &s, err));
	rpc_on_cancel(c, stop, s);
	r = deliver(c, s, err);
	rpc_off_cancel(c, s);
	return r;
}

static const struct rpc_method methods[] = {
    {"Publish", 0, events_publish},
    {"Forward", 0, events_forward},
    {"Subscribe", RPC_SERVER_STREAM | RPC_LONG, events_subscribe},
};

const struct rpc_service cd_events_service = {&events__events__descriptor, methods, ARRAY_LEN(methods)};
