/*
 * The model store of the simulation: a small world of named slots, in which images are pulled, leased, labelled, deleted
 * and pruned. It answers the collector through struct gc_graph as a daemon would (records as labels and references), and
 * judges it by its own idea of what is live, which shares no code with the collector. One thread.
 */
#ifndef GC_SIM_WORLD_H
#define GC_SIM_WORLD_H

#include "gc/gc.h"

/* Slots of each kind: in each namespace the first block, once the second. */
enum {
	SIM_NS = 2,
	SIM_CONTENTS = 6,
	SIM_SNAPSHOTS = 6,
	SIM_IMAGES = 3,
	SIM_LEASES = 4,
	SIM_INGESTS = 3,
	SIM_CONTAINERS = 2,
	SIM_PER_NS = SIM_CONTENTS + SIM_SNAPSHOTS + SIM_IMAGES + SIM_LEASES + SIM_INGESTS + SIM_CONTAINERS,
	SIM_INDEXES = 4,
	SIM_OBJECTS = 8,
	SIM_METADATA = 3,
	SIM_SLOTS = SIM_NS * SIM_PER_NS + SIM_INDEXES + SIM_OBJECTS + SIM_METADATA,
	SIM_REFS = 10,
	SIM_PULLERS = 3,
	SIM_NONE = 255,
};

/* What is done wrong on purpose, to see that it is noticed. */
enum sim_break {
	SIM_BREAK_NOTHING,
	SIM_BREAK_BARRIER,    /* the owner tells nothing of its writes */
	SIM_BREAK_FLAT,       /* flat leases look like others */
	SIM_BREAK_NOT_FLAT,   /* other leases look flat */
	SIM_BREAK_LAST_CHECK, /* the owner removes what is pinned */
};

struct sim_ref {
	uint8_t to;
	uint8_t how; /* GC_OWN, GC_LABEL, GC_BACK (then `to` is what keeps this one) */
};

struct sim_slot {
	struct gc_id id;
	char key_text[80];
	bool exists, flat, root_label, touched; /* touched: since the cycle began */
	uint8_t pins;
	uint8_t n_refs;
	uint32_t generation; /* of that name: changes when it is created anew */
	int64_t expires;     /* 0: not set */
	struct sim_ref refs[SIM_REFS];
};

struct sim_puller {
	uint8_t step; /* 0: idle */
	uint8_t ns, lease, image, ingest, manifest, layer, index, metadata, snapshot, parent;
	uint8_t objects[2];
	uint32_t lease_generation;
	bool pinned;
};

struct sim {
	uint64_t random;
	int64_t now;
	struct sim_slot slots[SIM_SLOTS];
	struct sim_puller pullers[SIM_PULLERS];
	bool live[SIM_SLOTS]; /* as of the last hold */
	bool held;
	uint8_t in_flight[16]; /* writes that are visible, and that the collector has not been told of */
	unsigned n_in_flight;
	enum sim_break broken;
	struct gc_graph graph;
	struct gc *gc;
	bool trace;
	uint64_t steps, removed, cycles, pulls;
	char wrong[256]; /* what was lost, "" while all is well */
};

void sim_init(struct sim *s, uint64_t seed, enum sim_break broken, bool trace);
void sim_fini(struct sim *s);

uint32_t sim_below(struct sim *s, uint32_t n);

/* One thing that some client, or the world, does. */
void sim_act(struct sim *s);

/* One step of the collector; starts a cycle when none runs and `begin`. */
void sim_collect(struct sim *s, bool begin);

/* All clients are gone, all writes told of, one whole cycle: then what is left must be what is live. */
void sim_settle(struct sim *s);

#endif
