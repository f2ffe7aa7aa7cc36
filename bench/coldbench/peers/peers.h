/*
 * Whose programs the peers are: this machine's own (suite "host") or those of a newer Debian ("trixie", "sid"), which
 * `coldbench peers setup` fetches into a root of their own (tests/peers.sh, bench/peers/stargz.sh) and which run in rooms
 * (room.h). What asks other programs gives ERR_CANCELLED when its `cancel_fd` (-1: none) becomes readable. Any thread.
 */
#ifndef BENCH_COLDBENCH_PEERS_PEERS_H
#define BENCH_COLDBENCH_PEERS_PEERS_H

#include "bench/coldbench/peers/room.h"

/* The root of a suite, NULL for the host's; the caller's. ERR_UNAVAILABLE says how to get it, ERR_INVALID: no such suite. */
int peers_root(const char *suite, int cancel_fd, char **out, struct err *err);

/* The daemon of stargz-snapshotter, an absolute path of the caller: options' stargz_grpc, else (host) what PATH has, else what
 * `coldbench peers setup` compiled for the suite. ERR_UNAVAILABLE says what to do. */
int peers_stargz(const struct engine_options *o, int cancel_fd, char **out, struct err *err);

/* Appends "NAME VERSION" of each program (names, or absolute paths; NULL at the end), with ", " between them and before them
 * when there is something. ERR_UNAVAILABLE when one is missing, ERR_DEADLINE when one does not answer within 30 s. */
int peers_versions(const char *suite, const char *const *programs, int cancel_fd, struct buf *versions,
                   struct err *err);

/* The version in what `PROGRAM --version` prints: the first word of its first line that begins with a digit, or with "v" and
 * a digit. False when there is none. */
bool peers_parse_version(struct str printed, struct str *out);

#endif
