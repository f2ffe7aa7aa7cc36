/* The ttrpc socket to which shims send their events. */
#include "contentd/tasks/internal.h"

#include "base/log.h"
#include "base/unix.h"
#include "rpc/proto/event.pb-c.h"
#include "rpc/proto/events_ttrpc.pb-c.h"

/* Events of tasks; each has its container's id in a field of this name. */
static const ProtobufCMessageDescriptor *const PAYLOADS[] = {
    &event__task_create__descriptor,       &event__task_start__descriptor,      &event__task_exit__descriptor,
    &event__task_delete__descriptor,       &event__task_exec_added__descriptor, &event__task_exec_started__descriptor,
    &event__task_oom__descriptor,          &event__task_paused__descriptor,     &event__task_resumed__descriptor,
    &event__task_checkpointed__descriptor,
};

static const ProtobufCMessage *payload_of(struct arena *a, const Pb__Any *any)
{
	ProtobufCMessage *m = NULL;

	for (size_t i = 0; any && i < ARRAY_LEN(PAYLOADS); i++)
		if (pb_any_is(any, PAYLOADS[i]) && pb_any_unpack_in(a, any, PAYLOADS[i], &m, NULL) == 0)
			return m;
	return NULL;
}

static const char *container_of_event(const ProtobufCMessage *m)
{
	const ProtobufCFieldDescriptor *f =
	    protobuf_c_message_descriptor_get_field_by_name(m->descriptor, "container_id");

	return *(const char *const *)((const char *)m + f->offset);
}

struct waiting {
	struct cd_tasks *t;
	bool cancelled; /* t->lock */
};

static void stop_waiting(void *arg)
{
	struct waiting *w = arg;

	pthread_mutex_lock(&w->t->lock);
	w->cancelled = true;
	pthread_cond_broadcast(&w->t->changed);
	pthread_mutex_unlock(&w->t->lock);
}

/* Until the tasks of an earlier daemon are in the table, nobody knows whose an event is. */
static int wait_found(struct cd_tasks *t, struct rpc_call *c, struct err *err)
{
	struct waiting w = {.t = t};

	rpc_on_cancel(c, stop_waiting, &w);
	pthread_mutex_lock(&t->lock);
	while (!t->found && !w.cancelled)
		pthread_cond_wait(&t->changed, &t->lock);
	pthread_mutex_unlock(&t->lock);
	rpc_off_cancel(c, &w);
	return rpc_cancelled(c, err);
}

static int forward(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Types__Envelope *envelope = ((const EventsTtrpc__ForwardRequest *)request)->envelope;
	AUTO(task) struct task *task = NULL;
	const ProtobufCMessage *m;
	struct cd_tasks *t = svc;

	if (!envelope)
		return err_set(err, ERR_INVALID, "no event in the request");
	m = payload_of(rpc_arena(c), envelope->event);
	if (!m)
		return t->host.forward(t->host.arg, envelope, false, err);
	TRY(wait_found(t, c, err));
	task = task_peek(t, envelope->namespace_, container_of_event(m));
	if (task)
		return news_forward(task, envelope, m, err);
	log_debug("%s of %s/%s, which is gone", envelope->topic, envelope->namespace_, container_of_event(m));
	return 0;
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
	struct ttrpc_server_opts opts = {.io = t->io, .allow = is_root, .quiet_stop = true};
	int fd;

	TRY(ttrpc_server_new(&opts, &t->events, err));
	TRY(ttrpc_server_add(t->events, &service, err));
	TRY_WRAP(unix_listen(t->ttrpc_address, SOCK_STREAM, 0600, &fd, err), err, "socket for events");
	TRY(ttrpc_server_listen(t->events, fd, err));
	return ttrpc_server_start(t->events, err);
}

void cd_tasks_stop_events(struct cd_tasks *t)
{
	ttrpc_server_stop(t->events);
}
