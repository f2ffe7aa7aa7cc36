/*
 * The list of HTTP exchanges since the last reset: what was asked when, over which connection and after how many round
 * trips, and when the answer was there. Bounded; what comes when it is full is only counted. One thread.
 */
#ifndef BENCH_NETPROXY_RECORD_H
#define BENCH_NETPROXY_RECORD_H

#include "base/json.h"
#include "base/vec.h"

#define RECORDS_MAX (1u << 14)
#define RECORD_TARGET_MAX_BYTES 1024 /* longer ones are cut */

/* Times as at the client's end, 0 = not yet. */
struct record {
	char *method, *target, *range;
	unsigned status; /* 0 = no answer yet */
	int64_t begun_ns, first_byte_ns, end_ns;
	uint64_t body_bytes; /* of the answer, that have left the server */
	unsigned connection, depth;
};

struct records {
	VEC(struct record) items;
	uint64_t left_out;
	unsigned epoch; /* one more with each records_clear */
};

/* A record that may have been forgotten meanwhile. */
struct record_id {
	unsigned epoch, index; /* index UINT_MAX: was left out */
};

void records_fini(struct records *r);

/* Forgets all. */
void records_clear(struct records *r);

/* Adds an exchange that has begun. */
struct record_id records_add(struct records *r, struct str method, struct str target, struct str range,
                             int64_t begun_ns, unsigned connection, unsigned depth);

/* True when nothing was forgotten since the record was added. */
static inline bool record_is_current(const struct records *r, struct record_id id)
{
	return id.epoch == r->epoch;
}

/* NULL when it was forgotten or left out; valid until the next records_add. */
struct record *records_get(struct records *r, struct record_id id);

/* {"exchanges": [{...}], "left_out": N} */
void records_write(const struct records *r, struct json_writer *w);

#endif
