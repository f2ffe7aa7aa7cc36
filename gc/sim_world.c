#include "gc/sim_world.h"

#include "base/clock.h"

#include <stdio.h>

#define EPOCH 1750000000 /* the world's times are seconds after it */

static void trace(const struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void trace(const struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (!s->trace)
		return;
	printf("%6llu  ", (unsigned long long)s->steps);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static const char *name_of(const struct sim *s, uint32_t i, char dst[static 128])
{
	const struct gc_id *id = &s->slots[i].id;

	snprintf(dst, 128, "%s %.*s/%.*s", gc_kind_name(id->kind), STR_ARG(id->ns), STR_ARG(id->key));
	return dst;
}
#define NAME(s, i) name_of((s), (i), (char[128]){0})

/* xorshift64* (Vigna, 2014) */
uint32_t sim_below(struct sim *s, uint32_t n)
{
	s->random ^= s->random >> 12;
	s->random ^= s->random << 25;
	s->random ^= s->random >> 27;
	return (uint32_t)((s->random * 0x2545f4914f6cdd1d) >> 32) % n;
}

static bool chance(struct sim *s, uint32_t one_in)
{
	return !sim_below(s, one_in);
}

/* ---- slots ---- */

static const struct {
	enum gc_kind kind;
	unsigned n;
} plan[] = {
    {GC_CONTENT, SIM_CONTENTS}, {GC_SNAPSHOT, SIM_SNAPSHOTS}, {GC_IMAGE, SIM_IMAGES},
    {GC_LEASE, SIM_LEASES},     {GC_INGEST, SIM_INGESTS},     {GC_CONTAINER, SIM_CONTAINERS},
    {GC_INDEX, SIM_INDEXES},    {GC_OBJECT, SIM_OBJECTS},     {GC_METADATA, SIM_METADATA},
};

/* The i-th slot of a kind; ns counts for the first block of kinds only. */
static uint8_t slot(enum gc_kind kind, uint32_t ns, uint32_t i)
{
	uint32_t at = kind < GC_BLOB ? ns * SIM_PER_NS : SIM_NS * SIM_PER_NS;

	for (size_t k = 0; plan[k].kind != kind; k++)
		if ((plan[k].kind < GC_BLOB) == (kind < GC_BLOB))
			at += plan[k].n;
	return at + i;
}

static uint8_t any(struct sim *s, enum gc_kind kind, uint32_t ns)
{
	for (size_t k = 0;; k++)
		if (plan[k].kind == kind)
			return slot(kind, ns, sim_below(s, plan[k].n));
}

static void name_slots(struct sim *s)
{
	for (size_t k = 0; k < sizeof(plan) / sizeof(plan[0]); k++) {
		for (uint32_t ns = 0; ns < (plan[k].kind < GC_BLOB ? SIM_NS : 1); ns++) {
			for (uint32_t i = 0; i < plan[k].n; i++) {
				struct sim_slot *at = &s->slots[slot(plan[k].kind, ns, i)];

				/* Names are the same in both namespaces: references must not cross. */
				snprintf(at->key_text, sizeof(at->key_text), "%s-%u", gc_kind_name(plan[k].kind), i);
				at->id = (struct gc_id){.kind = plan[k].kind, .key = str_of(at->key_text)};
				if (plan[k].kind < GC_BLOB)
					at->id.ns = ns ? STR("beta") : STR("alpha");
				if (plan[k].kind == GC_SNAPSHOT)
					at->id.space = i % 2 ? STR("overlayfs") : STR("stargz");
			}
		}
	}
}

/* ---- what is live, by the model ---- */

static bool expired(const struct sim *s, const struct sim_slot *n)
{
	return n->expires && s->now > n->expires;
}

static bool is_root(const struct sim *s, const struct sim_slot *n)
{
	switch (n->id.kind) {
	case GC_LEASE:
	case GC_IMAGE:
		if (!expired(s, n))
			return true;
		break;
	case GC_INGEST:
		if (n->expires && !expired(s, n))
			return true;
		break;
	case GC_CONTAINER:
		return true;
	default:
		break;
	}
	return n->root_label || n->pins;
}

/* To a fixed point over all slots, in no clever order: 0 not live, 1 flat, 2 in full. */
static void find_live(const struct sim *s, uint8_t live[SIM_SLOTS])
{
	bool changed = true;

	for (int i = 0; i < SIM_SLOTS; i++)
		live[i] = s->slots[i].exists && is_root(s, &s->slots[i]) ? 2 : 0;
	while (changed) {
		changed = false;
		for (int i = 0; i < SIM_SLOTS; i++) {
			const struct sim_slot *n = &s->slots[i];

			for (int k = 0; n->exists && k < n->n_refs; k++) {
				const struct sim_ref *ref = &n->refs[k];
				uint8_t *to = ref->how == GC_BACK ? &live[i] : &live[ref->to];
				uint8_t gives = ref->how == GC_BACK ? live[ref->to] : live[i];

				if (ref->how != GC_OWN && gives != 2)
					gives = 0;
				if (n->flat && gives)
					gives = 1;
				if (gives > *to) {
					*to = gives;
					changed = true;
				}
			}
		}
	}
}

__attribute__((format(printf, 2, 3))) static void wrong(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (s->wrong[0])
		return;
	va_start(ap, fmt);
	vsnprintf(s->wrong, sizeof(s->wrong), fmt, ap);
	va_end(ap);
	trace(s, "WRONG: %s", s->wrong);
}

/* ---- the table that the collector asks ---- */

static void report_label(struct gc_sink *sink, const struct sim *s, const struct sim_ref *ref, int k)
{
	const struct gc_id *to = &s->slots[ref->to].id;
	char key[128];
	int n = snprintf(key, sizeof(key), "containerd.io/gc.%s.%s", ref->how == GC_BACK ? "bref" : "ref",
	                 gc_kind_name(to->kind));

	if (to->kind == GC_SNAPSHOT)
		snprintf(key + n, sizeof(key) - n, ".%.*s/%d", STR_ARG(to->space), k);
	else
		snprintf(key + n, sizeof(key) - n, ".%d", k);
	gc_sink_label(sink, str_of(key), to->key);
}

static void report(const struct sim *s, const struct sim_slot *n, struct gc_sink *sink)
{
	char when[40];

	gc_sink_node(sink, &n->id);
	if (n->expires && n->id.kind == GC_INGEST)
		gc_sink_expires(sink, (struct timespec){.tv_sec = EPOCH + n->expires});
	else if (n->expires)
		gc_sink_label(sink, STR("containerd.io/gc.expire"),
		              str_of(time_rfc3339((struct timespec){.tv_sec = EPOCH + n->expires}, when)));
	if (n->root_label)
		gc_sink_label(sink, STR("containerd.io/gc.root"), STR("x"));
	if (n->id.kind == GC_LEASE &&
	    ((n->flat && s->broken != SIM_BREAK_FLAT) || (!n->flat && s->broken == SIM_BREAK_NOT_FLAT)))
		gc_sink_label(sink, STR("containerd.io/gc.flat"), STR("true"));
	for (int k = 0; k < n->n_refs; k++)
		if (n->refs[k].how != GC_OWN)
			report_label(sink, s, &n->refs[k], k);
	for (int k = 0; k < n->n_refs; k++)
		if (n->refs[k].how == GC_OWN)
			gc_sink_ref(sink, &s->slots[n->refs[k].to].id);
}

/* In the order of slots, which is not that of references. The cursor is the next slot. */
static int graph_scan(void *arg, struct buf *cursor, unsigned max, struct gc_sink *sink, struct err *err)
{
	const struct sim *s = arg;
	int i = cursor->n ? (unsigned char)cursor->p[0] : 0;
	char next;

	for (; i < SIM_SLOTS && max && !gc_sink_full(sink); i++) {
		if (!s->slots[i].exists)
			continue;
		report(s, &s->slots[i], sink);
		max--;
	}
	next = i;
	buf_clear(cursor);
	buf_add(cursor, &next, 1);
	return i == SIM_SLOTS;
}

static int find_slot(const struct sim *s, const struct gc_id *id)
{
	for (int i = 0; i < SIM_SLOTS; i++)
		if (gc_id_eq(&s->slots[i].id, id))
			return i;
	return -1;
}

static int graph_node(void *arg, const struct gc_id *id, struct gc_sink *sink, struct err *err)
{
	const struct sim *s = arg;
	int i = find_slot(s, id);

	if (i >= 0 && s->slots[i].exists)
		report(s, &s->slots[i], sink);
	return 0;
}

static void tell_all(struct sim *s)
{
	for (unsigned i = 0; i < s->n_in_flight; i++)
		if (s->broken != SIM_BREAK_BARRIER)
			gc_wrote(s->gc, &s->slots[s->in_flight[i]].id);
	s->n_in_flight = 0;
}

/* The lock that writers share is theirs no more: each has told of its write. */
static void graph_hold(void *arg)
{
	struct sim *s = arg;
	uint8_t live[SIM_SLOTS];

	tell_all(s);
	find_live(s, live);
	for (int i = 0; i < SIM_SLOTS; i++)
		s->live[i] = live[i];
	s->held = true;
}

static int graph_release(void *arg, struct err *err)
{
	struct sim *s = arg;

	s->held = false;
	return 0;
}

static int graph_remove(void *arg, const struct gc_id *id, struct err *err)
{
	struct sim *s = arg;
	int i = find_slot(s, id);

	if (i < 0 || !s->held) {
		wrong(s, "removal of something unknown, or outside a hold");
		return 0;
	}
	if (!s->slots[i].exists)
		return 0;
	if (s->slots[i].pins && s->broken != SIM_BREAK_LAST_CHECK)
		return GC_KEEP;
	trace(s, "gc: removes %s", NAME(s, i));
	if (s->live[i])
		wrong(s, "%s was live, and removed", NAME(s, i));
	if (s->slots[i].touched)
		wrong(s, "%s was touched in this cycle, and removed", NAME(s, i));
	for (int k = 0; k < SIM_SLOTS; k++)
		for (int r = 0; s->slots[k].exists && r < s->slots[k].n_refs; r++)
			if (s->slots[k].refs[r].how == GC_OWN && s->slots[k].refs[r].to == i)
				wrong(s, "%s was removed before its referrer, slot %d", NAME(s, i), k);
	s->slots[i].exists = false;
	s->removed++;
	return 0;
}

/* ---- writing ---- */

/* A record is new or changed. The collector hears of it now, or later, but before anything else can be removed. */
static void wrote(struct sim *s, uint8_t i)
{
	s->slots[i].touched = true;
	if (s->n_in_flight == sizeof(s->in_flight))
		tell_all(s);
	s->in_flight[s->n_in_flight++] = i;
	if (chance(s, 2))
		tell_all(s);
}

static void create(struct sim *s, uint8_t i)
{
	struct sim_slot *n = &s->slots[i];

	n->exists = true;
	n->generation++;
	n->flat = n->root_label = false;
	n->n_refs = 0;
	n->expires = 0;
}

static void drop_ref(struct sim *s, uint8_t from, uint8_t to)
{
	struct sim_slot *n = &s->slots[from];

	for (int k = n->n_refs; k-- > 0;)
		if (n->refs[k].to == to)
			n->refs[k] = n->refs[--n->n_refs];
}

static void add_ref(struct sim *s, uint8_t from, uint8_t to, enum gc_how how)
{
	struct sim_slot *n = &s->slots[from];

	if (n->n_refs == SIM_REFS) /* the oldest goes */
		memmove(&n->refs[0], &n->refs[1], --n->n_refs * sizeof(n->refs[0]));
	n->refs[n->n_refs++] = (struct sim_ref){to, how};
}

/* Adds to a lease what is there or will be; half of the time only the target is told, as for leases of many. */
static void lease_add(struct sim *s, uint8_t lease, uint8_t what)
{
	drop_ref(s, lease, what);
	add_ref(s, lease, what, GC_OWN);
	if (chance(s, 2)) {
		wrote(s, lease);
	} else {
		s->slots[what].touched = true;
		if (s->broken != SIM_BREAK_BARRIER)
			gc_referred(s->gc, &s->slots[what].id);
	}
}

/* ---- clients ---- */

#define PULLER_DEAD 100 /* killed; its pins stay until somebody reconciles them */

static void puller_end(struct sim *s, struct sim_puller *p)
{
	if (p->pinned) {
		s->slots[p->index].pins--;
		s->slots[p->objects[0]].pins--;
		s->slots[p->objects[1]].pins--;
	}
	*p = (struct sim_puller){0};
}

static void puller_start(struct sim *s, struct sim_puller *p)
{
	p->ns = sim_below(s, SIM_NS);
	p->lease = any(s, GC_LEASE, p->ns);
	if (s->slots[p->lease].exists)
		return;
	p->image = any(s, GC_IMAGE, p->ns);
	p->ingest = any(s, GC_INGEST, p->ns);
	p->manifest = slot(GC_CONTENT, p->ns, sim_below(s, 2));
	p->layer = slot(GC_CONTENT, p->ns, 2 + sim_below(s, SIM_CONTENTS - 2));
	p->index = slot(GC_INDEX, 0, p->layer % SIM_INDEXES);
	p->objects[0] = slot(GC_OBJECT, 0, p->layer % SIM_OBJECTS);
	p->objects[1] = slot(GC_OBJECT, 0, (p->layer * 3 + 1) % SIM_OBJECTS);
	p->parent = slot(GC_SNAPSHOT, p->ns, sim_below(s, 2));
	p->snapshot = slot(GC_SNAPSHOT, p->ns, 2 + sim_below(s, SIM_SNAPSHOTS - 2));
	p->metadata = any(s, GC_METADATA, 0);
	create(s, p->lease);
	s->slots[p->lease].expires = chance(s, 4) ? 0 : s->now + 1 + sim_below(s, 200);
	s->slots[p->lease].flat = chance(s, 8);
	wrote(s, p->lease);
	p->lease_generation = s->slots[p->lease].generation;
	p->step = 1;
}

/* Content under a lease: what is there is leased, what is not comes through an ingest. */
static bool take_content(struct sim *s, struct sim_puller *p, uint8_t what)
{
	if (s->slots[what].exists) {
		lease_add(s, p->lease, what);
		return true;
	}
	if (!s->slots[p->ingest].exists) {
		create(s, p->ingest);
		add_ref(s, p->ingest, what, GC_OWN);
		wrote(s, p->ingest);
		lease_add(s, p->lease, p->ingest);
		return false;
	}
	if (chance(s, 2))
		return false; /* bytes arrive */
	s->slots[p->ingest].exists = false;
	drop_ref(s, p->lease, p->ingest);
	create(s, what);
	wrote(s, what);
	lease_add(s, p->lease, what);
	return true;
}

static void take_snapshot(struct sim *s, struct sim_puller *p, uint8_t what, uint8_t parent, uint8_t metadata)
{
	if (!s->slots[what].exists) {
		create(s, what);
		if (parent != SIM_NONE)
			add_ref(s, what, parent, GC_OWN);
		if (metadata != SIM_NONE && s->slots[metadata].exists)
			add_ref(s, what, metadata, GC_OWN);
		wrote(s, what);
	}
	lease_add(s, p->lease, what);
}

/* Pinned before anyone looks whether it is there, and until the layer's record names it. */
static void fill(struct sim *s, struct sim_puller *p)
{
	if (s->slots[p->index].exists)
		return;
	for (int i = 0; i < 2; i++) {
		if (!s->slots[p->objects[i]].exists) {
			create(s, p->objects[i]);
			wrote(s, p->objects[i]);
			return;
		}
	}
	create(s, p->index);
	add_ref(s, p->index, p->objects[0], GC_OWN);
	add_ref(s, p->index, p->objects[1], GC_OWN);
	wrote(s, p->index);
}

/* All that a pull has, while its lease lives, must be there. */
static void puller_check(struct sim *s, const struct sim_puller *p)
{
	const uint8_t has[] = {p->manifest, p->layer, p->parent, p->snapshot};
	static const uint8_t from_step[] = {3, 4, 8, 9};

	for (int i = 0; i < 4; i++)
		if (p->step >= from_step[i] && !s->slots[has[i]].exists)
			wrong(s, "%s is gone under a pull that has it", NAME(s, has[i]));
	if (p->step == 7 && (!s->slots[p->index].exists || !s->slots[p->objects[0]].exists))
		wrong(s, "%s is gone under its pin", NAME(s, p->index));
}

static void publish(struct sim *s, struct sim_puller *p)
{
	if (!s->slots[p->layer].n_refs || s->slots[p->layer].refs[0].to != p->index) {
		drop_ref(s, p->layer, p->index);
		add_ref(s, p->layer, p->index, GC_OWN);
		wrote(s, p->layer);
	}
	if (!s->slots[p->metadata].exists) {
		create(s, p->metadata);
		wrote(s, p->metadata);
	}
	add_ref(s, p->metadata, p->index, GC_OWN);
	wrote(s, p->metadata);
}

static void name_image(struct sim *s, struct sim_puller *p)
{
	add_ref(s, p->manifest, p->layer, GC_LABEL);
	add_ref(s, p->manifest, p->snapshot, GC_LABEL);
	wrote(s, p->manifest);
	create(s, p->image);
	add_ref(s, p->image, p->manifest, GC_OWN);
	wrote(s, p->image);
	s->pulls++;
}

static void puller_step(struct sim *s, struct sim_puller *p)
{
	if (!p->step) {
		puller_start(s, p);
		return;
	}
	trace(s, "pull of %s: step %d", NAME(s, p->image), p->step);
	if (p->step == PULLER_DEAD || !s->slots[p->lease].exists || expired(s, &s->slots[p->lease]) ||
	    s->slots[p->lease].generation != p->lease_generation) {
		puller_end(s, p);
		return;
	}
	puller_check(s, p);
	switch (p->step) {
	case 1:
		p->step += take_content(s, p, p->manifest);
		p->step += p->step == 2;
		break;
	case 3:
		p->step += take_content(s, p, p->layer);
		break;
	case 4:
		s->slots[p->index].pins++;
		s->slots[p->objects[0]].pins++;
		s->slots[p->objects[1]].pins++;
		p->pinned = true;
		p->step++;
		break;
	case 5:
	case 6:
		fill(s, p);
		p->step += s->slots[p->index].exists ? 7 - p->step : 0;
		break;
	case 7:
		publish(s, p);
		take_snapshot(s, p, p->parent, SIM_NONE, p->metadata);
		p->step++;
		break;
	case 8:
		take_snapshot(s, p, p->snapshot, p->parent, SIM_NONE);
		p->step++;
		break;
	default:
		name_image(s, p);
		if (chance(s, 4))
			s->slots[p->lease].exists = false;
		puller_end(s, p);
	}
}

/* ---- everybody else ---- */

static bool in_use(const struct sim *s, uint8_t lease)
{
	for (int i = 0; i < SIM_PULLERS; i++)
		if (s->pullers[i].step && s->pullers[i].lease == lease)
			return true;
	return false;
}

static void act_on_lease(struct sim *s, uint32_t ns)
{
	uint8_t lease = any(s, GC_LEASE, ns);
	struct sim_slot *n = &s->slots[lease];
	static const enum gc_kind kinds[] = {GC_CONTENT, GC_SNAPSHOT, GC_IMAGE, GC_INGEST, GC_CONTENT};

	if (!n->exists) {
		create(s, lease);
		n->flat = chance(s, 2);
		n->expires = chance(s, 2) ? 0 : s->now + 1 + sim_below(s, 60);
		wrote(s, lease);
	} else if (chance(s, 4)) {
		trace(s, "lease delete %s", NAME(s, lease));
		n->exists = false;
	} else if (chance(s, 4) && !expired(s, n)) {
		n->expires = s->now + sim_below(s, 60);
		wrote(s, lease);
	} else if (chance(s, 4) && !in_use(s, lease)) {
		if (n->n_refs)
			n->n_refs--;
	} else {
		lease_add(s, lease, any(s, kinds[sim_below(s, 5)], ns));
	}
}

static void act_on_labels(struct sim *s, uint32_t ns)
{
	static const enum gc_kind on[] = {GC_CONTENT, GC_SNAPSHOT, GC_IMAGE, GC_CONTAINER};
	static const enum gc_kind to[] = {GC_CONTENT, GC_SNAPSHOT, GC_IMAGE};
	uint8_t i = any(s, on[sim_below(s, 4)], ns);
	uint8_t other = any(s, to[sim_below(s, 3)], ns);
	struct sim_slot *n = &s->slots[i];

	if (!n->exists)
		return;
	if (chance(s, 3) && n->n_refs && n->refs[n->n_refs - 1].how != GC_OWN)
		n->n_refs--;
	else if (chance(s, 4) && (n->id.kind == GC_CONTENT || n->id.kind == GC_SNAPSHOT))
		n->root_label = !n->root_label;
	else if (n->n_refs < SIM_REFS && i != other)
		add_ref(s, i, other, n->id.kind != GC_CONTAINER && chance(s, 3) ? GC_BACK : GC_LABEL);
	trace(s, "labels of %s changed", NAME(s, i));
	wrote(s, i);
}

static void act_on_image(struct sim *s, uint32_t ns)
{
	uint8_t image = any(s, GC_IMAGE, ns);
	uint8_t target = any(s, GC_CONTENT, ns);
	struct sim_slot *n = &s->slots[image];

	if (n->exists && chance(s, 2)) {
		trace(s, "rmi %s", NAME(s, image));
		n->exists = false;
	} else if (n->exists) {
		n->expires = chance(s, 2) ? 0 : s->now + sim_below(s, 60);
		wrote(s, image);
	} else if (s->slots[target].exists) {
		create(s, image);
		add_ref(s, image, target, GC_OWN);
		wrote(s, image);
	}
}

static void act_on_container(struct sim *s, uint32_t ns)
{
	uint8_t container = any(s, GC_CONTAINER, ns);
	uint8_t snapshot = any(s, GC_SNAPSHOT, ns);

	if (s->slots[container].exists) {
		s->slots[container].exists = false;
	} else if (s->slots[snapshot].exists) {
		create(s, container);
		add_ref(s, container, snapshot, GC_OWN);
		wrote(s, container);
	}
}

static void act_on_ingest(struct sim *s, uint32_t ns)
{
	uint8_t ingest = any(s, GC_INGEST, ns);

	for (int i = 0; i < SIM_PULLERS; i++)
		if (s->pullers[i].step && s->pullers[i].ingest == ingest)
			return;
	if (s->slots[ingest].exists) {
		s->slots[ingest].exists = false;
		return;
	}
	create(s, ingest);
	s->slots[ingest].expires = chance(s, 2) ? 0 : s->now + sim_below(s, 60);
	wrote(s, ingest);
}

static void prune(struct sim *s, uint32_t ns)
{
	trace(s, "prune %u", ns);
	for (uint32_t i = 0; i < SIM_IMAGES; i++)
		s->slots[slot(GC_IMAGE, ns, i)].exists = false;
	for (uint32_t i = 0; chance(s, 4) && i < SIM_LEASES; i++)
		s->slots[slot(GC_LEASE, ns, i)].exists = false;
}

/* The daemon dies: clients with it, the collector's colours, what it was not told yet. Records and pins stay. */
static void restart(struct sim *s)
{
	trace(s, "restart");
	gc_free(s->gc);
	s->gc = gc_new(&s->graph);
	s->n_in_flight = 0;
	for (int i = 0; i < SIM_PULLERS; i++)
		if (s->pullers[i].step)
			s->pullers[i].step = PULLER_DEAD;
}

void sim_act(struct sim *s)
{
	uint32_t ns = sim_below(s, SIM_NS);
	uint32_t what = sim_below(s, 100);

	s->steps++;
	if (what < 50)
		puller_step(s, &s->pullers[sim_below(s, SIM_PULLERS)]);
	else if (what < 62)
		act_on_lease(s, ns);
	else if (what < 74)
		act_on_labels(s, ns);
	else if (what < 82)
		act_on_image(s, ns);
	else if (what < 87)
		act_on_container(s, ns);
	else if (what < 90)
		act_on_ingest(s, ns);
	else if (what < 97)
		s->now += sim_below(s, 20);
	else if (what < 99)
		prune(s, ns);
	else if (chance(s, 3))
		restart(s);
}

/* ---- the collector ---- */

static void begin(struct sim *s)
{
	struct gc_run run = {.now = {.tv_sec = EPOCH + s->now}, .batch = 1 + sim_below(s, 4)};

	trace(s, "gc: cycle");
	for (int i = 0; i < SIM_SLOTS; i++)
		s->slots[i].touched = false;
	gc_begin(s->gc, &run);
	s->cycles++;
}

void sim_collect(struct sim *s, bool begin_one)
{
	struct err err = ERR_INIT;

	s->steps++;
	if (!gc_running(s->gc) && begin_one)
		begin(s);
	if (gc_running(s->gc) && gc_step(s->gc, 1 + sim_below(s, 24), &err) < 0)
		wrong(s, "the cycle failed: %s", err.msg);
}

void sim_settle(struct sim *s)
{
	uint8_t live[SIM_SLOTS];
	uint64_t ticket;

	for (int i = 0; i < SIM_PULLERS; i++)
		puller_end(s, &s->pullers[i]);
	tell_all(s);
	ticket = gc_ticket(s->gc);
	while (!s->wrong[0] && gc_ticket_state(s->gc, ticket, NULL) == 0)
		sim_collect(s, true);
	find_live(s, live);
	for (int i = 0; i < SIM_SLOTS; i++)
		if (s->slots[i].exists && !live[i])
			wrong(s, "%s is garbage, and was not removed", NAME(s, i));
}

void sim_init(struct sim *s, uint64_t seed, enum sim_break broken, bool trace_it)
{
	*s = (struct sim){.random = seed * 0x9e3779b97f4a7c15 + 1, .broken = broken, .trace = trace_it};
	s->graph = (struct gc_graph){graph_scan, graph_node, graph_hold, graph_release, graph_remove, s};
	name_slots(s);
	s->gc = gc_new(&s->graph);
	if (!s->random)
		s->random = 1;
}

void sim_fini(struct sim *s)
{
	gc_free(s->gc);
}
