/* Who follows events: each container's create, start, exit and delete come in this order, each once in a subscription, with
 * the status that it must have; and a subscription that lasts as long as the container hears of all of them. */
#include "tests/chaos/chaos.h"

#include "rpc/proto/event.pb-c.h"
#include "rpc/proto/events.pb-c.h"

#include <stdio.h>
#include <string.h>

#define EVENTS (&events__events__descriptor)
#define PROBE "/chaos/probe"

enum stage { STAGE_NONE, STAGE_CREATE, STAGE_START, STAGE_EXIT, STAGE_DELETE };

struct watch {
	struct chaos *c;
	struct peer peer;
	struct rpc_stream *stream;
	unsigned epoch; /* counts subscriptions */
	char probe[40]; /* the namespace's label that says that a subscription works */
	bool probed;
};

static atomic_bool s_ending;
static pthread_t s_thread;

/* ---- what is heard ---- */

static struct container *container_of_id(struct chaos *c, const char *id)
{
	unsigned i;

	if (sscanf(id, "c%u", &i) != 1 || i >= c->n_containers || strcmp(c->containers[i].id, id) != 0)
		return NULL;
	return &c->containers[i];
}

static void hear(struct watch *w, const char *id, enum stage stage, uint32_t status)
{
	struct container *k = container_of_id(w->c, id);
	bool again;

	if (!k) {
		chaos_fail(w->c, "an event of %s, which nobody made", id);
		return;
	}
	again = stage == k->stage && w->epoch != k->stage_epoch;
	if (stage == STAGE_CREATE && atomic_load(&k->create_cut))
		again = true;
	if (stage <= k->stage && !again)
		chaos_fail(w->c, "%s: event %d after event %d in %s subscription", id, stage, k->stage,
		           w->epoch == k->stage_epoch ? "one" : "a later");
	if (k->started && stage == STAGE_DELETE && k->stage == STAGE_EXIT && w->epoch == k->stage_epoch &&
	    status != k->told)
		chaos_fail(w->c, "%s: exit with status %u, delete with %u", id, k->told, status);
	if (stage >= STAGE_EXIT)
		k->told = status;
	k->stage = stage;
	k->stage_epoch = w->epoch;
	k->heard |= 1u << stage;
}

static void take(struct watch *w, const Types__Envelope *e)
{
	struct arena *a = &w->peer.ctl.arena;
	Event__TaskCreate *create;
	Event__TaskStart *start;
	Event__TaskExit *exit;
	Event__TaskDelete *gone;

	if (strcmp(e->namespace_, w->c->ns) != 0)
		return;
	if (!strcmp(e->topic, PROBE))
		w->probed = true;
	else if (!strcmp(e->topic, "/tasks/create") &&
	         pb_any_unpack_in(a, e->event, &event__task_create__descriptor, &create, NULL) >= 0)
		hear(w, create->container_id, STAGE_CREATE, 0);
	else if (!strcmp(e->topic, "/tasks/start") &&
	         pb_any_unpack_in(a, e->event, &event__task_start__descriptor, &start, NULL) >= 0)
		hear(w, start->container_id, STAGE_START, 0);
	else if (!strcmp(e->topic, "/tasks/exit") &&
	         pb_any_unpack_in(a, e->event, &event__task_exit__descriptor, &exit, NULL) >= 0 &&
	         !strcmp(exit->id, exit->container_id))
		hear(w, exit->container_id, STAGE_EXIT, exit->exit_status);
	else if (!strcmp(e->topic, "/tasks/delete") &&
	         pb_any_unpack_in(a, e->event, &event__task_delete__descriptor, &gone, NULL) >= 0)
		hear(w, gone->container_id, STAGE_DELETE, gone->exit_status);
}

/* ---- subscribing ---- */

/* An event of our own: when it comes back, all that was published before has come. */
static int probe(struct watch *w, struct err *err)
{
	Events__PublishRequest req = EVENTS__PUBLISH_REQUEST__INIT;
	Event__NamespaceCreate event = EVENT__NAMESPACE_CREATE__INIT;
	AUTO(buf) struct buf wire = BUF_INIT;
	Pb__Any any = PB__ANY__INIT;

	event.name = "probe";
	pb_pack(&event.base, &wire);
	any.type_url = "containerd.events.NamespaceCreate";
	any.value = (ProtobufCBinaryData){wire.n, (uint8_t *)wire.p};
	req.topic = PROBE;
	req.event = &any;
	w->probed = false;
	return rpc_call(w->peer.ctl.client, EVENTS, "Publish", NULL, &req.base, NULL, err);
}

/* Takes what comes for a while, or until the probe has come. */
static int listen(struct watch *w, int64_t until, struct err *err)
{
	while (!w->probed) {
		AUTO(pb) Types__Envelope *e = NULL;
		int r = rpc_stream_recv(w->stream, until, &e, err);

		if (r == -(int)ERR_DEADLINE) {
			*err = ERR_INIT;
			return 0;
		}
		TRY(r);
		if (r == RPC_END)
			return err_set(err, ERR_UNAVAILABLE, "the subscription has ended");
		take(w, e);
	}
	return 0;
}

static int subscribe(struct watch *w, struct err *err)
{
	Events__SubscribeRequest req = EVENTS__SUBSCRIBE_REQUEST__INIT;

	TRY(peer_connect(&w->peer, err));
	TRY(rpc_stream_open(w->peer.ctl.client, EVENTS, "Subscribe", NULL, &w->stream, err));
	TRY(rpc_stream_send(w->stream, &req.base, err));
	TRY(rpc_stream_close_send(w->stream, err));
	w->epoch++;
	/* Nothing says when a subscription begins: probes are sent until one is heard. */
	do {
		TRY(probe(w, err));
		TRY(listen(w, clock_mono_ns() + 50 * NS_PER_MS, err));
	} while (!w->probed);
	atomic_store(&w->c->epoch, w->epoch);
	return 0;
}

static int follow(struct watch *w, struct err *err)
{
	TRY(subscribe(w, err));
	while (!atomic_load(&s_ending)) {
		w->probed = false;
		TRY(listen(w, clock_mono_ns() + 100 * NS_PER_MS, err));
	}
	TRY(probe(w, err));
	return listen(w, clock_mono_ns() + PATIENCE_NS, err);
}

void *watch_run(void *chaos)
{
	struct watch w = {.c = chaos};
	bool heard_all = false;

	s_thread = pthread_self();
	peer_init(&w.peer, w.c);
	while (!heard_all) {
		struct err err = ERR_INIT;

		heard_all = follow(&w, &err) >= 0;
		atomic_store(&w.c->epoch, 0);
		if (!heard_all && err.code != ERR_UNAVAILABLE)
			chaos_fail(w.c, "events: %s", err.msg);
		rpc_stream_free(STEAL(w.stream));
		peer_disconnect(&w.peer);
		arena_fini(&w.peer.ctl.arena);
		arena_init(&w.peer.ctl.arena, 64u << 20);
		usleep(10000);
	}
	peer_fini(&w.peer);
	return NULL;
}

void watch_end(struct chaos *c)
{
	(void)c;
	atomic_store(&s_ending, true);
}

void watch_judge(struct chaos *c)
{
	unsigned whole = 0, unheard = 0;

	for (unsigned i = 0; i < c->n_containers; i++) {
		const struct container *k = &c->containers[i];
		unsigned all = 1u << STAGE_CREATE | 1u << STAGE_EXIT | 1u << STAGE_DELETE;

		if (k->started)
			all |= 1u << STAGE_START;
		unheard += !(k->heard & 1u << STAGE_EXIT);
		if (k->told != NO_STATUS && k->waited != NO_STATUS && k->told != k->waited)
			chaos_fail(c, "%s: the event says %u, its client heard %u", k->id, k->told, k->waited);
		if (k->told != NO_STATUS && k->waited == NO_STATUS && k->plot == PLOT_SHIM && !k->start_cut &&
		    k->told != k->status)
			chaos_fail(c, "%s: the event says %u, not %u", k->id, k->told, k->status);
		if (!k->first_epoch || k->first_epoch != k->last_epoch)
			continue;
		whole++;
		if ((k->heard & all) != all)
			chaos_fail(c, "%s: one subscription heard of %#x, not of %#x", k->id, k->heard, all);
	}
	printf("events: %u lives heard of by one subscription; %u exits fell between two\n", whole, unheard);
}
