/*
 * The model of the simulation: what there is, what refers to what, and what therefore must stay. Every change is made
 * here and, by the store of collect/testing.h, in real records and modelled files at once; the judgement ("live") shares
 * no code with the collector. One thread.
 */
#ifndef CONTENTD_COLLECT_SIM_MODEL_H
#define CONTENTD_COLLECT_SIM_MODEL_H

#include "contentd/collect/testing.h"

/* Slots of each kind; those of the first block in each namespace. */
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
	SIM_METADATA = 48, /* chains that have ever been */
	SIM_BLOBS = SIM_CONTENTS,
	SIM_SLOTS = SIM_NS * SIM_PER_NS + SIM_BLOBS + SIM_INDEXES + SIM_METADATA,
	SIM_OBJECTS = 6,
	SIM_REFS = 12,
	SIM_NONE = 255,
};

struct sim_ref {
	uint8_t to;
	uint8_t how; /* GC_OWN, GC_LABEL, GC_BACK (then `to` is what keeps this one) */
};

struct sim_slot {
	char id[96]; /* as collect/testing.h writes it; "" : a chain that is not yet named */
	enum gc_kind kind;
	uint8_t ns;
	bool exists, flat, root_label, active, in_use, pinned;
	bool touched;        /* written or used since the cycle began */
	bool condemned;      /* a file that is removed, and not deleted yet */
	unsigned lost_write; /* a record that is removed by this write, which is not synced; 0: none */
	uint8_t used;        /* announced uses */
	uint8_t n_refs;
	uint8_t index; /* snapshot: slot of its index, or SIM_NONE */
	uint8_t n_lower;
	uint8_t lower[SIM_SNAPSHOTS]; /* active: slots of the indexes it is mounted with, base first */
	uint32_t generation;
	int64_t expires; /* 0: not set */
	struct sim_ref refs[SIM_REFS];
};

struct sim {
	uint64_t random;
	int64_t now; /* seconds after TEXT_NOW */
	struct sim_slot slots[SIM_SLOTS];
	bool objects[SIM_OBJECTS]; /* of contentfs: there */
	uint8_t live[SIM_SLOTS];   /* as of the last hold */
	bool held;
	struct text_store store;
	bool trace;
	uint64_t steps, cycles, removed, pulls, crashes;
	char wrong[256]; /* what was lost, "" while all is well */
	struct sim_clients *clients;
};

void sim_model_init(struct sim *s);

uint32_t sim_below(struct sim *s, uint32_t n);
static inline bool sim_chance(struct sim *s, uint32_t one_in)
{
	return !sim_below(s, one_in);
}

void sim_trace(const struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_wrong(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The i-th slot of a kind; ns is ignored where slots have none. */
uint8_t sim_slot(enum gc_kind kind, uint32_t ns, uint32_t i);
uint8_t sim_any(struct sim *s, enum gc_kind kind, uint32_t ns);
static inline uint8_t sim_blob_of(uint8_t content)
{
	return sim_slot(GC_BLOB, 0, content % SIM_PER_NS);
}
/* The metadata image of the chain that ends in a committed snapshot; SIM_NONE when it has none, or no slot is left. */
uint8_t sim_meta_of(struct sim *s, uint8_t snapshot);
/* Slots of the chain's indexes, base first; their number. */
uint8_t sim_indexes_of(const struct sim *s, uint8_t snapshot, uint8_t out[static SIM_SNAPSHOTS]);

/* ---- changes: of the model first, then written by sim_put ---- */

/* An empty one in its place, which does not exist before sim_put. */
void sim_blank(struct sim *s, uint8_t i);
/* References to what the slot has already are not added again; of too many the oldest label goes. */
void sim_ref(struct sim *s, uint8_t from, uint8_t to, enum gc_how how);
void sim_unref(struct sim *s, uint8_t from, uint8_t to);
/* Writes the record or file as the model has it, and nothing for a lease's list but additions. */
void sim_put(struct sim *s, uint8_t i);
/* A client, or contentfs, removes it. */
void sim_remove(struct sim *s, uint8_t i);

/* From a look on until the work is done. */
void sim_use(struct sim *s, struct cd_use *use, uint8_t i);

/* ---- judgement ---- */

/* 0 not live, 1 kept by a flat lease, 2 in full. */
void sim_find_live(const struct sim *s, uint8_t live[static SIM_SLOTS]);
/* Compares the store with the model, name by name. */
void sim_compare(struct sim *s);
/* All that is garbage must be gone; for when nobody is at work. */
void sim_check_settled(struct sim *s);
/* The daemon dies and comes back; uses must have ended. */
void sim_crash(struct sim *s);

#endif
