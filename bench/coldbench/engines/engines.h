/* The kinds of engines, for the table in engine.c: each is described in its own file of this folder. */
#ifndef BENCH_COLDBENCH_ENGINES_ENGINES_H
#define BENCH_COLDBENCH_ENGINES_ENGINES_H

#include "bench/coldbench/engines/engine.h"

extern const struct engine_kind ENGINE_CONTENTD, ENGINE_CONTENTD_PLAIN, ENGINE_CONTENTD_EXACT;
extern const struct engine_kind ENGINE_CONTAINERD_CONTENTD, ENGINE_CONTAINERD, ENGINE_CONTAINERD_CRUN;
extern const struct engine_kind ENGINE_CONTAINERD_STARGZ, ENGINE_PODMAN;

#endif
