/*
 * An HTTP server inside our process that costs next to nothing: what stands behind a network whose accuracy is measured.
 * GET /N answers N bytes, PUT answers when all has come. A thread per connection.
 */
#ifndef BENCH_COLDBENCH_PAYLOAD_H
#define BENCH_COLDBENCH_PAYLOAD_H

#include "base/err.h"

#include <stdint.h>

struct payload;

/* Listens on a free port of 127.0.0.1. */
int payload_start(struct payload **out, struct err *err);

/* Ends all connections and threads; NULL is fine. */
void payload_stop(struct payload *p);

/* For AUTO(payload). */
static inline void payload_cleanup(struct payload **p)
{
	payload_stop(*p);
}

/* Bytes of the whole answer to a GET /N, and with N = 0 to a PUT. */
uint64_t payload_answer_bytes(uint64_t n);

/* "127.0.0.1:PORT"; borrowed. */
const char *payload_address(const struct payload *p);
unsigned payload_port(const struct payload *p);

#endif
