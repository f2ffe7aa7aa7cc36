#include "contentd/events.h"

#include "base/clock.h"
#include "base/vec.h"
#include "contentd/filter/filter.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "rpc/pb.h"
#include "rpc/proto/event.pb-c.h"
#include "rpc/proto/images.pb-c.h"

#include <pthread.h>
#include <stdatomic.h>

/* One event, shared by the queues that it is in. */
struct event {
	atomic_uint refs;
	struct buf wire;
};

struct link {
	struct link *next;
	struct event *event;
};

struct cd_subscription {
	struct cd_events *exchange;
	struct cd_filter *filter;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct link *first, **last; /* lock */
	size_t queued_bytes;        /* lock */
	bool behind, stopped;       /* lock */
};

struct cd_events {
	pthread_mutex_t lock; /* held while an event is put into the queues: it orders events */
	VEC(struct cd_subscription *) subscriptions;
	int64_t keep_until;
	VEC(struct event *) kept; /* references */
	size_t kept_bytes;
};

struct cd_events *cd_events_new(int64_t keep_ns)
{
	struct cd_events *e = xcalloc(1, sizeof(*e));

	pthread_mutex_init(&e->lock, NULL);
	e->keep_until = clock_mono_ns() + keep_ns;
	return e;
}

static void event_unref(struct event *ev)
{
	if (atomic_fetch_sub(&ev->refs, 1) != 1)
		return;
	buf_fini(&ev->wire);
	free(ev);
}

static void forget_kept(struct cd_events *e)
{
	vec_each(&e->kept, ev)
		event_unref(*ev);
	vec_fini(&e->kept);
	e->kept_bytes = 0;
}

void cd_events_free(struct cd_events *e)
{
	if (!e)
		return;
	forget_kept(e);
	vec_fini(&e->subscriptions);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

/* ---- filters over envelopes ---- */

/* Payloads whose fields can be asked for. */
static const ProtobufCMessageDescriptor *const PAYLOADS[] = {
    &event__container_create__descriptor, &event__container_update__descriptor, &event__container_delete__descriptor,
    &event__content_create__descriptor,   &event__content_delete__descriptor,   &images__image_create__descriptor,
    &images__image_update__descriptor,    &images__image_delete__descriptor,    &event__namespace_create__descriptor,
    &event__namespace_update__descriptor, &event__namespace_delete__descriptor, &event__sandbox_create__descriptor,
    &event__sandbox_start__descriptor,    &event__sandbox_exit__descriptor,     &event__snapshot_prepare__descriptor,
    &event__snapshot_commit__descriptor,  &event__snapshot_remove__descriptor,  &event__task_create__descriptor,
    &event__task_start__descriptor,       &event__task_delete__descriptor,      &event__task_exit__descriptor,
    &event__task_oom__descriptor,         &event__task_exec_added__descriptor,  &event__task_exec_started__descriptor,
    &event__task_paused__descriptor,      &event__task_resumed__descriptor,     &event__task_checkpointed__descriptor,
};

/* An envelope that is being matched; the payload is unpacked when a filter first asks for it. */
struct candidate {
	const Types__Envelope *envelope;
	struct arena arena;
	const ProtobufCMessage *payload;
	bool looked;
};

/* A string field of a message by its path; entries of a string map by the rest of the path. */
static bool message_field(const ProtobufCMessage *m, const struct str *path, size_t n_path, struct str *value)
{
	AUTO_FREE char *name = str_dup(path[0]);
	const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);
	const char *at = (const char *)m + (f ? f->offset : 0);

	if (!f)
		return false;
	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return f->descriptor == &kv__entry__descriptor && n_path > 1 &&
		       cd_kvs_field(*(Kv__Entry *const *const *)at,
		                    *(const size_t *)((const char *)m + f->quantifier_offset), path + 1, n_path - 1,
		                    value);
	if (f->type == PROTOBUF_C_TYPE_STRING && n_path == 1) {
		*value = str_of(*(const char *const *)at);
		return value->n > 0;
	}
	if (f->type == PROTOBUF_C_TYPE_MESSAGE && n_path > 1 && *(const ProtobufCMessage *const *)at)
		return message_field(*(const ProtobufCMessage *const *)at, path + 1, n_path - 1, value);
	return false;
}

static const ProtobufCMessage *payload_of(struct candidate *c)
{
	const Pb__Any *any = c->envelope->event;
	void *m = NULL;

	if (c->looked || !any)
		return c->payload;
	c->looked = true;
	for (size_t i = 0; i < ARRAY_LEN(PAYLOADS) && !c->payload; i++)
		if (pb_any_is(any, PAYLOADS[i]) && pb_any_unpack_in(&c->arena, any, PAYLOADS[i], &m, NULL) == 0)
			c->payload = m;
	return c->payload;
}

static bool envelope_field(const void *object, const struct str *path, size_t n_path, struct str *value)
{
	struct candidate *c = *(struct candidate *const *)object;
	const ProtobufCMessage *payload;

	if (n_path == 1 && str_eqc(path[0], "namespace")) {
		*value = str_of(c->envelope->namespace_);
		return value->n > 0;
	}
	if (n_path == 1 && str_eqc(path[0], "topic")) {
		*value = str_of(c->envelope->topic);
		return value->n > 0;
	}
	if (n_path < 2 || !str_eqc(path[0], "event"))
		return false;
	payload = payload_of(c);
	return payload && message_field(payload, path + 1, n_path - 1, value);
}

/* ---- delivery ---- */

static void drop_queue(struct cd_subscription *s)
{
	struct link *l;

	while ((l = s->first)) {
		s->first = l->next;
		event_unref(l->event);
		free(l);
	}
	s->last = &s->first;
	s->queued_bytes = 0;
}

static void enqueue(struct cd_subscription *s, struct event *ev)
{
	struct link *l;

	pthread_mutex_lock(&s->lock);
	if (!s->behind && s->queued_bytes + ev->wire.n > CD_EVENTS_QUEUE_MAX) {
		s->behind = true;
		drop_queue(s);
	}
	if (!s->behind && !s->stopped) {
		l = xmalloc(sizeof(*l));
		*l = (struct link){NULL, ev};
		atomic_fetch_add(&ev->refs, 1);
		*s->last = l;
		s->last = &l->next;
		s->queued_bytes += ev->wire.n + sizeof(*l);
	}
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

/* With the lock held, as the next ones. */
static bool is_time_to_keep(const struct cd_events *e)
{
	return clock_mono_ns() < e->keep_until;
}

static void keep_event(struct cd_events *e, struct event *ev)
{
	if (!is_time_to_keep(e) || e->kept_bytes + ev->wire.n > CD_EVENTS_KEPT_MAX)
		return;
	atomic_fetch_add(&ev->refs, 1);
	vec_push(&e->kept, ev);
	e->kept_bytes += ev->wire.n;
}

static void enqueue_if_wanted(struct cd_subscription *s, struct event *ev)
{
	struct candidate candidate = {0}, *at = &candidate;
	AUTO(pb) Types__Envelope *envelope = NULL;

	if (pb_unpack(&types__envelope__descriptor, buf_str(&ev->wire), &envelope, NULL) < 0)
		return;
	candidate.envelope = envelope;
	arena_init(&candidate.arena, pb_memory_limit(ev->wire.n));
	if (cd_filter_match(s->filter, envelope_field, &at))
		enqueue(s, ev);
	arena_fini(&candidate.arena);
}

static void enqueue_kept(struct cd_events *e, struct cd_subscription *s)
{
	if (!is_time_to_keep(e))
		forget_kept(e);
	vec_each(&e->kept, ev)
		enqueue_if_wanted(s, *ev);
}

static void deliver(struct cd_events *e, const Types__Envelope *envelope, bool keep)
{
	struct event *ev = xcalloc(1, sizeof(*ev));
	struct candidate candidate = {.envelope = envelope}, *at = &candidate;

	atomic_init(&ev->refs, 1);
	pb_pack(&envelope->base, &ev->wire);
	arena_init(&candidate.arena, pb_memory_limit(ev->wire.n));
	pthread_mutex_lock(&e->lock);
	vec_each(&e->subscriptions, s)
		if (cd_filter_match((*s)->filter, envelope_field, &at))
			enqueue(*s, ev);
	if (keep)
		keep_event(e, ev);
	pthread_mutex_unlock(&e->lock);
	arena_fini(&candidate.arena);
	event_unref(ev);
}

static void publish(struct cd_events *e, const char *ns, const char *topic, const ProtobufCMessage *event, bool keep)
{
	struct timespec now = clock_wall();
	Pb__Timestamp stamp = PB__TIMESTAMP__INIT;
	Types__Envelope envelope = TYPES__ENVELOPE__INIT;
	struct arena a;

	arena_init(&a, SIZE_MAX);
	stamp.seconds = now.tv_sec;
	stamp.nanos = (int32_t)now.tv_nsec;
	envelope.timestamp = &stamp;
	envelope.namespace_ = ns;
	envelope.topic = topic;
	envelope.event = pb_any_new(&a, event);
	deliver(e, &envelope, keep);
	arena_fini(&a);
}

void cd_events_publish(struct cd_events *e, const char *ns, const char *topic, const ProtobufCMessage *event)
{
	publish(e, ns, topic, event, false);
}

void cd_events_publish_kept(struct cd_events *e, const char *ns, const char *topic, const ProtobufCMessage *event)
{
	publish(e, ns, topic, event, true);
}

static int forward(struct cd_events *e, const Types__Envelope *envelope, bool keep, struct err *err)
{
	if (!envelope)
		return err_set(err, ERR_INVALID, "envelope is missing");
	TRY(cd_ident_check("namespace", envelope->namespace_, err));
	TRY(cd_topic_check(envelope->topic, err));
	if (!envelope->timestamp || (!envelope->timestamp->seconds && !envelope->timestamp->nanos))
		return err_set(err, ERR_INVALID, "envelope has no timestamp");
	deliver(e, envelope, keep);
	return 0;
}

int cd_events_forward(struct cd_events *e, const Types__Envelope *envelope, struct err *err)
{
	return forward(e, envelope, false, err);
}

int cd_events_forward_kept(struct cd_events *e, const Types__Envelope *envelope, struct err *err)
{
	return forward(e, envelope, true, err);
}

/* ---- subscriptions ---- */

int cd_events_subscribe(struct cd_events *e, const char *const *filters, size_t n, struct cd_subscription **out,
                        struct err *err)
{
	AUTO(cd_filter) struct cd_filter *filter = NULL;
	struct cd_subscription *s;

	TRY(cd_filter_new(filters, n, &filter, err));
	s = xcalloc(1, sizeof(*s));
	s->exchange = e;
	s->filter = STEAL(filter);
	s->last = &s->first;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->cond, NULL);
	pthread_mutex_lock(&e->lock);
	enqueue_kept(e, s);
	vec_push(&e->subscriptions, s);
	pthread_mutex_unlock(&e->lock);
	*out = s;
	return 0;
}

void cd_subscription_free(struct cd_subscription *s)
{
	struct cd_events *e;

	if (!s)
		return;
	e = s->exchange;
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->subscriptions.n; i++)
		if (e->subscriptions.p[i] == s) {
			vec_swap_remove(&e->subscriptions, i);
			break;
		}
	pthread_mutex_unlock(&e->lock);
	drop_queue(s);
	cd_filter_free(s->filter);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->cond);
	free(s);
}

int cd_subscription_next(struct cd_subscription *s, struct buf *wire, struct err *err)
{
	struct link *l = NULL;
	bool behind;

	pthread_mutex_lock(&s->lock);
	while (!s->first && !s->behind && !s->stopped)
		pthread_cond_wait(&s->cond, &s->lock);
	behind = s->behind;
	if (!s->stopped && (l = s->first)) {
		s->first = l->next;
		if (!s->first)
			s->last = &s->first;
		s->queued_bytes -= l->event->wire.n + sizeof(*l);
	}
	pthread_mutex_unlock(&s->lock);
	if (behind)
		return err_set(err, ERR_EXHAUSTED, "the subscriber did not keep up with events");
	if (!l)
		return 0;
	buf_addstr(wire, buf_str(&l->event->wire));
	event_unref(l->event);
	free(l);
	return 1;
}

void cd_subscription_stop(struct cd_subscription *s)
{
	pthread_mutex_lock(&s->lock);
	s->stopped = true;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}
