/* Who works in the simulation: pulls of contentd, clients that pull under a lease, others, and the collector. */
#ifndef CONTENTD_COLLECT_SIM_WORLD_H
#define CONTENTD_COLLECT_SIM_WORLD_H

#include "contentd/collect/sim/model.h"

/* What is done wrong on purpose, to see that it is noticed. */
enum sim_break {
	SIM_BREAK_NOTHING,
	SIM_BREAK_USES,  /* nobody announces what he looks at */
	SIM_BREAK_PINS,  /* contentfs lets go of what is pinned */
	SIM_BREAK_GOING, /* nobody waits for a file that is about to be deleted */
};

void sim_init(struct sim *s, uint64_t seed, enum sim_break broken, bool trace);
void sim_fini(struct sim *s);

/* One thing that some client, or the world, does. */
void sim_act(struct sim *s);
/* One step of the collector; starts a cycle when none runs and `begin`. */
void sim_collect(struct sim *s, bool begin);
/* All clients are gone, one whole cycle: then what is left must be what is live. */
void sim_settle(struct sim *s);

#endif
