/* What a run was measured on: without it no figure says anything. */
#ifndef BENCH_COLDBENCH_FINGERPRINT_H
#define BENCH_COLDBENCH_FINGERPRINT_H

#include "base/json.h"

/* Writes an object:
 *
 *	{"cpu": "...", "cpus": 2, "memory_bytes": ..., "virtual": true, "kernel": "6.1.0 x86_64", "cgroup": "v1"|"hybrid"|"v2",
 *	 "distribution": "Debian GNU/Linux 12 (bookworm)", "disk": "ext4 on /dev/sda1", "load": 0.3, "coldbench": "0.4.0",
 *	 "governor": "performance", "turbo": false}
 *
 * What the machine does not tell is left out. `dir`: where engines work. */
void fingerprint_write(struct json_writer *w, const char *dir);

/* The tree of control groups: "v1", "hybrid" (v1 with a v2 tree beside it) or "v2"; NULL when there is none. */
const char *fingerprint_cgroup(void);

#endif
