/*
 * The event exchange: publishers hand in a topic and a message, subscribers get envelopes in the order of publication.
 * Delivery begins with the subscription. A subscriber that does not keep up (CD_EVENTS_QUEUE_MAX bytes behind) loses its
 * subscription, not single events. Publishing never waits for subscribers. Any thread.
 *
 * When a daemon starts again, containers that it finds go on, but those who follow them (dockerd, a kubelet) come back
 * when they next try to: Go's clients after up to 3.6 s. So what such containers do is kept for a while after the start,
 * and a subscription made in that time begins with it.
 */
#ifndef CONTENTD_EVENTS_H
#define CONTENTD_EVENTS_H

#include "base/buf.h"
#include "base/err.h"
#include "rpc/proto/types.pb-c.h"

#define CD_EVENTS_QUEUE_MAX (16u << 20)
#define CD_EVENTS_KEPT_MAX (1u << 20)

struct cd_events;
struct cd_events *cd_events_new(int64_t keep_ns); /* how long from now on events are kept */
void cd_events_free(struct cd_events *e);         /* subscriptions must be gone */
DEFINE_AUTO_FREE(cd_events);

/* An event of our own, stamped now. `topic` is one of containerd's, "/tasks/start"; the Any gets the message's full
 * name as its type URL. */
void cd_events_publish(struct cd_events *e, const char *ns, const char *topic, const ProtobufCMessage *event);

/* An envelope from outside, taken as it is. ERR_INVALID when namespace, topic or time stamp are missing or malformed. */
int cd_events_forward(struct cd_events *e, const Types__Envelope *envelope, struct err *err);

/* The same two for what is kept, if it is time for that. */
void cd_events_publish_kept(struct cd_events *e, const char *ns, const char *topic, const ProtobufCMessage *event);
int cd_events_forward_kept(struct cd_events *e, const Types__Envelope *envelope, struct err *err);

struct cd_subscription;

/* Filters: contentd/filter/filter.h over namespace, topic and event.<field>; ERR_INVALID. */
int cd_events_subscribe(struct cd_events *e, const char *const *filters, size_t n, struct cd_subscription **out,
                        struct err *err);
void cd_subscription_free(struct cd_subscription *s);
DEFINE_AUTO_FREE(cd_subscription);

/* Waits for the next event: 1 with its Types__Envelope in wire form appended to `wire`, 0 after cd_subscription_stop,
 * ERR_EXHAUSTED when it did not keep up. */
int cd_subscription_next(struct cd_subscription *s, struct buf *wire, struct err *err);

/* Ends the wait, now and later. Never blocks: fit for rpc_on_cancel. */
void cd_subscription_stop(struct cd_subscription *s);

#endif
