#include "contentd/collect/sim/world.h"

#include "base/testing.h"

#include <stdio.h>

#define PULLS 3 /* at a time, of each sort */

/* contentd's own pull: what it looks at and makes is announced until it ends; its index is pinned in contentfs. */
struct pull {
	uint8_t step; /* 0: idle */
	uint8_t ns, image, manifest, layer, index, parent, snapshot, metadata;
	struct cd_use use;
	uint8_t used[16];
	unsigned n_used;
	bool pinned;
};

/* A client that pulls call by call, under a lease of its own. */
struct client {
	uint8_t step;
	uint8_t ns, lease, image, ingest, manifest, layer, parent, snapshot;
	uint32_t lease_generation;
	uint8_t looked; /* slot that a call which is under way has looked at, or SIM_NONE */
	bool was_there;
	struct cd_use use; /* of that call */
};

struct sim_clients {
	enum sim_break broken;
	struct pull pulls[PULLS];
	struct client clients[PULLS];
};

static void announce(struct sim *s, struct cd_use *use, uint8_t i)
{
	if (s->clients->broken == SIM_BREAK_USES)
		s->slots[i].used++;
	else
		sim_use(s, use, i);
}

static bool there(const struct sim *s, uint8_t i)
{
	return s->slots[i].exists;
}

/* A file that is about to be deleted: who wants it waits until it is. */
static bool going(const struct sim *s, uint8_t i)
{
	return s->slots[i].condemned && s->clients->broken != SIM_BREAK_GOING;
}

/* ---- a pull of contentd ---- */

static void pull_use(struct sim *s, struct pull *p, uint8_t i)
{
	announce(s, &p->use, i);
	p->used[p->n_used++] = i;
}

static void pin(struct sim *s, uint8_t index, bool on)
{
	s->slots[index].pinned = on;
	if (there(s, index))
		sim_put(s, index);
}

static bool is_pinned_by_other(const struct sim *s, const struct pull *p)
{
	for (int i = 0; i < PULLS; i++)
		if (&s->clients->pulls[i] != p && s->clients->pulls[i].pinned && s->clients->pulls[i].index == p->index)
			return true;
	return false;
}

static void pull_end(struct sim *s, struct pull *p)
{
	for (unsigned i = 0; i < p->n_used; i++)
		s->slots[p->used[i]].used--;
	cd_use_end(&p->use);
	if (p->pinned && !is_pinned_by_other(s, p))
		pin(s, p->index, false);
	*p = (struct pull){0};
}

static void pull_start(struct sim *s, struct pull *p)
{
	p->ns = (uint8_t)sim_below(s, SIM_NS);
	p->image = sim_any(s, GC_IMAGE, p->ns);
	p->manifest = sim_slot(GC_CONTENT, p->ns, sim_below(s, 2));
	p->layer = sim_slot(GC_CONTENT, p->ns, 2 + sim_below(s, SIM_CONTENTS - 2));
	p->index = sim_any(s, GC_INDEX, 0);
	p->parent = sim_slot(GC_SNAPSHOT, p->ns, sim_below(s, 2));
	p->snapshot = sim_slot(GC_SNAPSHOT, p->ns, 2 + sim_below(s, SIM_SNAPSHOTS - 2));
	cd_use_begin(&p->use, cd_meta_uses(s->store.meta));
	pull_use(s, p, p->manifest);
	pull_use(s, p, p->layer);
	pull_use(s, p, sim_blob_of(p->manifest));
	pull_use(s, p, sim_blob_of(p->layer));
	pull_use(s, p, p->parent);
	pull_use(s, p, p->snapshot);
	p->step = 1;
}

/* The file first, then the record that owns it. */
static bool make_content(struct sim *s, uint8_t content)
{
	uint8_t blob = sim_blob_of(content);

	if (there(s, content))
		return true;
	if (going(s, blob))
		return false;
	if (!there(s, blob)) {
		sim_blank(s, blob);
		sim_put(s, blob);
		return false;
	}
	sim_blank(s, content);
	sim_ref(s, content, blob, GC_OWN);
	sim_put(s, content);
	return true;
}

/* Objects, then the index that names them; pinned before anyone looks whether it is there. */
static bool make_index(struct sim *s, uint8_t index)
{
	uint32_t number = index - sim_slot(GC_INDEX, 0, 0);

	if (there(s, index))
		return true;
	if (going(s, index))
		return false;
	for (uint32_t i = number; i < number + 2; i++) {
		if (!s->objects[i]) {
			s->objects[i] = true;
			return false;
		}
	}
	s->slots[index].n_refs = 0;
	s->slots[index].generation++;
	sim_put(s, index);
	return true;
}

/* A committed snapshot; an index makes it an indexed one. */
static void make_snapshot(struct sim *s, uint8_t snapshot, uint8_t parent, uint8_t index)
{
	if (there(s, snapshot))
		return;
	sim_blank(s, snapshot);
	s->slots[snapshot].index = index;
	if (parent != SIM_NONE)
		sim_ref(s, snapshot, parent, GC_OWN);
	if (index != SIM_NONE)
		sim_ref(s, snapshot, index, GC_OWN);
	sim_put(s, snapshot);
}

static bool is_committed(const struct sim *s, uint8_t snapshot)
{
	return there(s, snapshot) && !s->slots[snapshot].active;
}

/* The snapshot was there with an index that was only claimed: it gets the one that this pull has proven. */
static void settle_snapshot(struct sim *s, uint8_t snapshot, uint8_t index)
{
	struct sim_slot *n = &s->slots[snapshot];

	if (!is_committed(s, snapshot) || n->index == SIM_NONE || n->index == index)
		return;
	sim_unref(s, snapshot, n->index);
	n->index = index;
	sim_ref(s, snapshot, index, GC_OWN);
	sim_put(s, snapshot);
}

/* Its metadata image is mounted, ready to start. */
static bool mount(struct sim *s, struct pull *p)
{
	uint8_t meta = sim_meta_of(s, p->snapshot);

	if (meta == SIM_NONE)
		return true;
	if (p->metadata != meta) {
		p->metadata = meta;
		pull_use(s, p, meta);
	}
	if (going(s, meta))
		return false;
	if (!there(s, meta)) {
		sim_blank(s, meta);
		sim_put(s, meta);
	}
	return true;
}

static void name_image(struct sim *s, uint8_t image, uint8_t manifest, uint8_t layer, uint8_t snapshot)
{
	sim_ref(s, manifest, layer, GC_LABEL);
	sim_ref(s, manifest, snapshot, GC_LABEL);
	sim_put(s, manifest);
	sim_blank(s, image);
	sim_ref(s, image, manifest, GC_OWN);
	sim_put(s, image);
	s->pulls++;
}

/* All that a pull has must be there, until a client removes it under its hands. */
static void pull_check(struct sim *s, const struct pull *p)
{
	const uint8_t has[] = {p->manifest, p->layer, p->index, p->parent, p->snapshot};
	static const uint8_t from_step[] = {2, 3, 5, 6, 7};

	for (int i = 0; i < 5; i++)
		if (p->step >= from_step[i] && !there(s, has[i]))
			sim_wrong(s, "%s is gone under a pull that has it", s->slots[has[i]].id);
}

static void pull_go_on(struct sim *s, struct pull *p)
{
	switch (p->step) {
	case 1:
		p->step += make_content(s, p->manifest);
		break;
	case 2:
		p->step += make_content(s, p->layer);
		break;
	case 3:
		if (going(s, p->index))
			break;
		p->pinned = true;
		pin(s, p->index, s->clients->broken != SIM_BREAK_PINS);
		p->step++;
		break;
	case 4:
		p->step += make_index(s, p->index);
		break;
	case 5:
		make_snapshot(s, p->parent, SIM_NONE, p->index);
		settle_snapshot(s, p->parent, p->index);
		p->step++;
		break;
	case 6:
		make_snapshot(s, p->snapshot, is_committed(s, p->parent) ? p->parent : SIM_NONE, p->index);
		settle_snapshot(s, p->snapshot, p->index);
		p->step++;
		break;
	case 7:
		p->step += mount(s, p);
		break;
	default:
		name_image(s, p->image, p->manifest, p->layer, p->snapshot);
		pull_end(s, p);
	}
}

static void pull_step(struct sim *s, struct pull *p)
{
	if (!p->step) {
		pull_start(s, p);
		return;
	}
	sim_trace(s, "pull of %s: step %d", s->slots[p->image].id, p->step);
	pull_check(s, p);
	pull_go_on(s, p);
}

/* ---- a client with a lease ---- */

static bool lease_lives(const struct sim *s, const struct client *c)
{
	const struct sim_slot *lease = &s->slots[c->lease];

	return lease->exists && lease->generation == c->lease_generation &&
	       !(lease->expires && s->now > lease->expires);
}

static void call_end(struct sim *s, struct client *c)
{
	if (c->looked != SIM_NONE)
		s->slots[c->looked].used--;
	c->looked = SIM_NONE;
	cd_use_end(&c->use);
}

static void client_end(struct sim *s, struct client *c)
{
	call_end(s, c);
	if (c->step && there(s, c->ingest) && s->slots[c->ingest].in_use) {
		s->slots[c->ingest].in_use = false;
		sim_put(s, c->ingest);
	}
	*c = (struct client){.looked = SIM_NONE};
}

static void client_start(struct sim *s, struct client *c)
{
	c->ns = (uint8_t)sim_below(s, SIM_NS);
	c->lease = sim_any(s, GC_LEASE, c->ns);
	if (there(s, c->lease))
		return;
	c->image = sim_any(s, GC_IMAGE, c->ns);
	c->ingest = sim_any(s, GC_INGEST, c->ns);
	c->manifest = sim_slot(GC_CONTENT, c->ns, sim_below(s, 2));
	c->layer = sim_slot(GC_CONTENT, c->ns, 2 + sim_below(s, SIM_CONTENTS - 2));
	c->parent = sim_slot(GC_SNAPSHOT, c->ns, sim_below(s, 2));
	c->snapshot = sim_slot(GC_SNAPSHOT, c->ns, 2 + sim_below(s, SIM_SNAPSHOTS - 2));
	sim_blank(s, c->lease);
	s->slots[c->lease].expires = sim_chance(s, 4) ? 0 : s->now + 1 + sim_below(s, 200);
	s->slots[c->lease].flat = sim_chance(s, 8);
	sim_put(s, c->lease);
	c->lease_generation = s->slots[c->lease].generation;
	c->step = 1;
}

static void lease_add(struct sim *s, uint8_t lease, uint8_t what)
{
	sim_ref(s, lease, what, GC_OWN);
	sim_put(s, lease);
}

/* The first half of a call: it looks, and others may come between that and what it does about it. */
static void look(struct sim *s, struct client *c, uint8_t at)
{
	cd_use_begin(&c->use, cd_meta_uses(s->store.meta));
	announce(s, &c->use, at);
	c->looked = at;
	c->was_there = there(s, at);
}

/* Content under a lease: what is there is leased, what is not comes through an ingest. */
static bool take_content(struct sim *s, struct client *c, uint8_t what)
{
	uint8_t blob = sim_blob_of(what);

	if (c->was_there) {
		lease_add(s, c->lease, what);
		return true;
	}
	if (going(s, c->ingest) || going(s, blob))
		return false;
	if (!there(s, c->ingest)) {
		sim_blank(s, c->ingest);
		s->slots[c->ingest].in_use = true;
		sim_ref(s, c->ingest, what, GC_OWN);
		sim_put(s, c->ingest);
		lease_add(s, c->lease, c->ingest);
		return false;
	}
	if (!s->slots[c->ingest].in_use || sim_chance(s, 2))
		return false; /* another writer's, or bytes arrive */
	sim_remove(s, c->ingest);
	sim_unref(s, c->lease, c->ingest);
	while (!make_content(s, what))
		;
	lease_add(s, c->lease, what);
	return true;
}

/* The second half. */
static bool act(struct sim *s, struct client *c)
{
	switch (c->step) {
	case 1:
		return take_content(s, c, c->manifest);
	case 2:
		return take_content(s, c, c->layer);
	case 3:
	case 4:
		if (!c->was_there && c->step == 3)
			make_snapshot(s, c->parent, SIM_NONE, SIM_NONE);
		else if (!c->was_there)
			make_snapshot(s, c->snapshot, is_committed(s, c->parent) ? c->parent : SIM_NONE, SIM_NONE);
		if (!there(s, c->looked))
			return false;
		lease_add(s, c->lease, c->looked);
		return true;
	default:
		if (!c->was_there)
			return true;
		name_image(s, c->image, c->manifest, c->layer, c->snapshot);
		if (sim_chance(s, 3))
			sim_remove(s, c->lease);
		return true;
	}
}

static void client_check(struct sim *s, const struct client *c)
{
	const uint8_t has[] = {c->manifest, c->layer, c->parent, c->snapshot};

	if (c->looked != SIM_NONE && c->was_there && !there(s, c->looked))
		sim_wrong(s, "%s is gone under a call that has seen it", s->slots[c->looked].id);
	for (int i = 0; i < 4; i++)
		if (c->step > i + 1 && !there(s, has[i]))
			sim_wrong(s, "%s is gone under a client that leases it", s->slots[has[i]].id);
}

static void client_step(struct sim *s, struct client *c)
{
	const uint8_t looks_at[] = {0, c->manifest, c->layer, c->parent, c->snapshot, c->manifest};

	if (!c->step) {
		client_start(s, c);
		return;
	}
	sim_trace(s, "client with %s: step %d%s", s->slots[c->lease].id, c->step, c->looked != SIM_NONE ? " acts" : "");
	if (!lease_lives(s, c)) {
		client_end(s, c);
		return;
	}
	client_check(s, c);
	if (c->looked == SIM_NONE) {
		look(s, c, looks_at[c->step]);
		return;
	}
	/* Somebody else may have made it meanwhile. */
	if (c->was_there == there(s, c->looked) && act(s, c))
		c->step++;
	call_end(s, c);
	if (c->step > 5)
		client_end(s, c);
}

/* ---- everybody else ---- */

static bool works(const struct sim *s, uint8_t slot)
{
	for (int i = 0; i < PULLS; i++) {
		const struct client *c = &s->clients->clients[i];

		if (c->step && (c->lease == slot || c->ingest == slot))
			return true;
	}
	return false;
}

static void act_on_lease(struct sim *s, uint32_t ns)
{
	uint8_t lease = sim_any(s, GC_LEASE, ns);
	struct sim_slot *n = &s->slots[lease];
	static const enum gc_kind kinds[] = {GC_CONTENT, GC_SNAPSHOT, GC_IMAGE, GC_INGEST, GC_CONTENT};

	if (!n->exists) {
		sim_blank(s, lease);
		n->flat = sim_chance(s, 2);
		n->expires = sim_chance(s, 2) ? 0 : s->now + 1 + sim_below(s, 60);
		sim_put(s, lease);
	} else if (sim_chance(s, 4)) {
		sim_remove(s, lease);
	} else if (sim_chance(s, 4) && !works(s, lease)) {
		if (n->n_refs)
			sim_unref(s, lease, n->refs[sim_below(s, n->n_refs)].to);
	} else if (n->n_refs < SIM_REFS / 2) { /* the rest is for who pulls with it */
		lease_add(s, lease, sim_any(s, kinds[sim_below(s, 5)], ns));
	}
}

static void act_on_labels(struct sim *s, uint32_t ns)
{
	static const enum gc_kind on[] = {GC_CONTENT, GC_SNAPSHOT, GC_IMAGE, GC_CONTAINER};
	static const enum gc_kind to[] = {GC_CONTENT, GC_SNAPSHOT, GC_IMAGE};
	uint8_t i = sim_any(s, on[sim_below(s, 4)], ns);
	uint8_t other = sim_any(s, to[sim_below(s, 3)], ns);
	struct sim_slot *n = &s->slots[i];

	if (!n->exists)
		return;
	if (sim_chance(s, 3) && n->n_refs && n->refs[n->n_refs - 1].how != GC_OWN)
		n->n_refs--;
	else if (sim_chance(s, 4) && (n->kind == GC_CONTENT || n->kind == GC_SNAPSHOT))
		n->root_label = !n->root_label;
	else if (i != other)
		sim_ref(s, i, other, n->kind != GC_CONTAINER && sim_chance(s, 3) ? GC_BACK : GC_LABEL);
	sim_put(s, i);
}

static void act_on_image(struct sim *s, uint32_t ns)
{
	uint8_t image = sim_any(s, GC_IMAGE, ns);
	uint8_t target = sim_any(s, GC_CONTENT, ns);
	struct sim_slot *n = &s->slots[image];

	if (n->exists && sim_chance(s, 2)) {
		sim_remove(s, image);
	} else if (n->exists) {
		n->expires = sim_chance(s, 2) ? 0 : s->now + sim_below(s, 60);
		sim_put(s, image);
	} else if (there(s, target)) {
		sim_blank(s, image);
		sim_ref(s, image, target, GC_OWN);
		sim_put(s, image);
	}
}

/* A container with a snapshot of its own, prepared from a committed one. */
static void act_on_container(struct sim *s, uint32_t ns)
{
	uint8_t container = sim_any(s, GC_CONTAINER, ns);
	uint8_t snapshot = sim_any(s, GC_SNAPSHOT, ns);
	uint8_t parent = sim_any(s, GC_SNAPSHOT, ns), meta;

	if (there(s, container)) {
		sim_remove(s, container);
		return;
	}
	if (!there(s, snapshot) && is_committed(s, parent)) {
		sim_blank(s, snapshot);
		s->slots[snapshot].active = true;
		sim_ref(s, snapshot, parent, GC_OWN);
		meta = sim_meta_of(s, parent);
		if (meta != SIM_NONE)
			sim_ref(s, snapshot, meta, GC_OWN);
		s->slots[snapshot].n_lower = sim_indexes_of(s, parent, s->slots[snapshot].lower);
		for (int i = 0; i < s->slots[snapshot].n_lower; i++)
			sim_ref(s, snapshot, s->slots[snapshot].lower[i], GC_OWN);
		sim_put(s, snapshot);
	}
	if (there(s, snapshot)) {
		sim_blank(s, container);
		sim_ref(s, container, snapshot, GC_OWN);
		sim_put(s, container);
	}
}

static void act_on_ingest(struct sim *s, uint32_t ns)
{
	uint8_t ingest = sim_any(s, GC_INGEST, ns);
	AUTO(cd_use) struct cd_use use;

	cd_use_begin(&use, cd_meta_uses(s->store.meta));
	if (works(s, ingest) || going(s, ingest))
		return;
	if (there(s, ingest)) {
		sim_remove(s, ingest);
		return;
	}
	announce(s, &use, ingest);
	s->slots[ingest].used--; /* the call ends below */
	sim_blank(s, ingest);
	s->slots[ingest].expires = sim_chance(s, 2) ? 0 : s->now + sim_below(s, 60);
	sim_put(s, ingest);
}

static void prune(struct sim *s, uint32_t ns)
{
	for (uint32_t i = 0; i < SIM_IMAGES; i++)
		if (there(s, sim_slot(GC_IMAGE, ns, i)))
			sim_remove(s, sim_slot(GC_IMAGE, ns, i));
	for (uint32_t i = 0; sim_chance(s, 4) && i < SIM_LEASES; i++)
		if (there(s, sim_slot(GC_LEASE, ns, i)))
			sim_remove(s, sim_slot(GC_LEASE, ns, i));
}

static void end_all(struct sim *s)
{
	for (int i = 0; i < PULLS; i++) {
		pull_end(s, &s->clients->pulls[i]);
		client_end(s, &s->clients->clients[i]);
	}
}

/* Uses die with the daemon; pins of pulls that it does not know are taken off at its start, ingests have no writer. */
static void crash(struct sim *s)
{
	struct sim_clients *c = s->clients;

	for (int i = 0; i < SIM_SLOTS; i++)
		s->slots[i].used = 0;
	for (int i = 0; i < PULLS; i++) {
		cd_use_end(&c->pulls[i].use);
		cd_use_end(&c->clients[i].use);
	}
	memset(c->pulls, 0, sizeof(c->pulls));
	for (int i = 0; i < PULLS; i++)
		c->clients[i] = (struct client){.looked = SIM_NONE};
	sim_crash(s);
	for (int i = 0; i < SIM_SLOTS; i++) {
		struct sim_slot *n = &s->slots[i];

		if (n->pinned || (n->in_use && n->exists)) {
			n->pinned = n->in_use = false;
			if (n->exists)
				sim_put(s, (uint8_t)i);
		}
	}
}

void sim_act(struct sim *s)
{
	uint32_t ns = sim_below(s, SIM_NS);
	uint32_t what = sim_below(s, 100);

	s->steps++;
	if (what < 30)
		pull_step(s, &s->clients->pulls[sim_below(s, PULLS)]);
	else if (what < 56)
		client_step(s, &s->clients->clients[sim_below(s, PULLS)]);
	else if (what < 66)
		act_on_lease(s, ns);
	else if (what < 76)
		act_on_labels(s, ns);
	else if (what < 83)
		act_on_image(s, ns);
	else if (what < 88)
		act_on_container(s, ns);
	else if (what < 91)
		act_on_ingest(s, ns);
	else if (what < 97)
		s->now += sim_below(s, 20);
	else if (what < 99)
		prune(s, ns);
	else if (sim_chance(s, 2))
		crash(s);
}

/* ---- the collector ---- */

static void begin(struct sim *s)
{
	struct gc_run run = {.now = {.tv_sec = TEXT_NOW.tv_sec + s->now}, .batch = 1 + sim_below(s, 4)};

	sim_trace(s, "gc: cycle");
	for (int i = 0; i < SIM_SLOTS; i++)
		s->slots[i].touched = s->slots[i].used;
	cd_uses_begin_cycle(cd_meta_uses(s->store.meta), &run);
	s->cycles++;
}

void sim_collect(struct sim *s, bool begin_one)
{
	struct err err = ERR_INIT;

	s->steps++;
	if (!gc_running(s->store.gc) && begin_one)
		begin(s);
	if (!gc_running(s->store.gc))
		return;
	if (gc_step(s->store.gc, 1 + sim_below(s, 24), &err) < 0)
		sim_wrong(s, "the cycle failed: %s", err.msg);
	if (gc_running(s->store.gc) ? sim_chance(s, 10) && cd_graph_drop(s->store.graph, &err) < 0
	                            : cd_graph_finish(s->store.graph, &err) < 0)
		sim_wrong(s, "removals are not finished: %s", err.msg);
	buf_clear(&s->store.dropped);
}

void sim_settle(struct sim *s)
{
	uint64_t ticket;

	end_all(s);
	ticket = gc_ticket(s->store.gc);
	while (!s->wrong[0] && gc_ticket_state(s->store.gc, ticket, NULL) == 0)
		sim_collect(s, true);
	if (cd_graph_finish(s->store.graph, NULL) < 0)
		sim_wrong(s, "removals are not finished");
	sim_check_settled(s);
}

void sim_init(struct sim *s, uint64_t seed, enum sim_break broken, bool trace)
{
	*s = (struct sim){.random = seed * 0x9e3779b97f4a7c15 + 1, .trace = trace};
	if (!s->random)
		s->random = 1;
	s->clients = xcalloc(1, sizeof(*s->clients));
	s->clients->broken = broken;
	for (int i = 0; i < PULLS; i++)
		s->clients->clients[i].looked = SIM_NONE;
	sim_model_init(s);
}

void sim_fini(struct sim *s)
{
	if (s->wrong[0])
		end_all(s);
	text_store_fini(&s->store);
	free(s->clients);
}
