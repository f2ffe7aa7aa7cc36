#include "gc/sim_bench.h"

#include "base/clock.h"
#include "gc/gc.h"

#include <stdio.h>

/*
 * Images of 1000 records each: an image, its manifest, ten layers, an index for each, and objects, each named by two
 * indexes. Every other image is gone.
 */
#define PER_IMAGE 1000
#define LAYERS 10
#define FIRST_INDEX (2 + LAYERS)
#define FIRST_OBJECT (2 + 2 * LAYERS)

/* Of this thread: what the machine gives to others meanwhile does not count. */
static int64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

struct store {
	uint64_t nodes, removed;
	int64_t hold_began, hold_max;
};

/* Digests that look like digests, so that hashing them costs what it costs. */
static void key_of(uint64_t i, char key[static 80])
{
	snprintf(key, 80, "sha256:%016llx%016llx%016llx%016llx", (unsigned long long)(i * 0x9e3779b97f4a7c15),
	         (unsigned long long)(i * 0xbf58476d1ce4e5b9), (unsigned long long)(i * 0x94d049bb133111eb),
	         (unsigned long long)i);
}

static enum gc_kind kind_of(uint64_t i)
{
	i %= PER_IMAGE;
	return i == 0 ? GC_IMAGE : i < FIRST_INDEX ? GC_CONTENT : i < FIRST_OBJECT ? GC_INDEX : GC_OBJECT;
}

static struct gc_id id_of(uint64_t i, char key[static 80])
{
	enum gc_kind kind = kind_of(i);

	key_of(i, key);
	return (struct gc_id){.kind = kind, .ns = kind < GC_BLOB ? STR("default") : STR_NONE, .key = str_of(key)};
}

static void ref(struct gc_sink *sink, uint64_t to)
{
	char key[80];
	struct gc_id id = id_of(to, key);

	gc_sink_ref(sink, &id);
}

static void report(uint64_t i, struct gc_sink *sink)
{
	uint64_t image = i - i % PER_IMAGE, at = i % PER_IMAGE;
	char key[80], to[80];
	struct gc_id id = id_of(i, key);

	gc_sink_node(sink, &id);
	if (at == 0) {
		ref(sink, image + 1);
	} else if (at == 1) {
		for (int k = 0; k < LAYERS; k++) {
			char label[64];

			snprintf(label, sizeof(label), "containerd.io/gc.ref.content.l.%d", k);
			key_of(image + 2 + k, to);
			gc_sink_label(sink, str_of(label), str_of(to));
		}
	} else if (at < FIRST_INDEX) {
		ref(sink, i + LAYERS);
	} else if (at < FIRST_OBJECT) {
		for (uint64_t k = FIRST_OBJECT; k < PER_IMAGE; k++)
			if (k % LAYERS == at - FIRST_INDEX || (k + 1) % LAYERS == at - FIRST_INDEX)
				ref(sink, image + k);
	}
}

static int scan(void *arg, struct buf *cursor, unsigned max, struct gc_sink *sink, struct err *err)
{
	const struct store *s = arg;
	uint64_t i = 0;

	if (cursor->n)
		memcpy(&i, cursor->p, sizeof(i));
	for (; i < s->nodes && max && !gc_sink_full(sink); i++, max--)
		if (i % (2 * PER_IMAGE)) /* the images of every other thousand are gone */
			report(i, sink);
	buf_clear(cursor);
	buf_add(cursor, &i, sizeof(i));
	return i == s->nodes;
}

static int node(void *arg, const struct gc_id *id, struct gc_sink *sink, struct err *err)
{
	return 0;
}

static void hold(void *arg)
{
	struct store *s = arg;

	s->hold_began = cpu_ns();
}

static int release(void *arg, struct err *err)
{
	struct store *s = arg;
	int64_t took = cpu_ns() - s->hold_began;

	if (took > s->hold_max)
		s->hold_max = took;
	return 0;
}

static int remove_one(void *arg, const struct gc_id *id, struct err *err)
{
	struct store *s = arg;

	s->removed++;
	return 0;
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

int sim_bench(uint64_t nodes, unsigned budget)
{
	struct store store = {.nodes = nodes};
	const struct gc_graph graph = {scan, node, hold, release, remove_one, &store};
	AUTO(gc) struct gc *gc = gc_new(&graph);
	VEC(int64_t) steps = VEC_INIT;
	struct err err = ERR_INIT;
	int64_t begin = clock_mono_ns(), cpu_begin = cpu_ns(), end, cpu_end;
	int r = 1;

	gc_begin(gc, &(struct gc_run){.now = {.tv_sec = 1750000000}});
	while (r > 0) {
		int64_t at = cpu_ns();

		r = gc_step(gc, budget, &err);
		vec_push(&steps, cpu_ns() - at);
	}
	end = clock_mono_ns();
	cpu_end = cpu_ns();
	if (r < 0) {
		fprintf(stderr, "gc_sim: %s\n", err.msg);
		vec_fini(&steps);
		return 1;
	}
	qsort(steps.p, steps.n, sizeof(*steps.p), by_size);
	printf("%llu nodes, %llu removed: %.2f s, %.2f s of CPU, in %zu steps of %u; CPU of a step p50 %.0f us, p99 "
	       "%.0f us, longest %.0f us; "
	       "longest hold %.0f us; %.0f bytes per node\n",
	       (unsigned long long)nodes, (unsigned long long)store.removed, (end - begin) / 1e9,
	       (cpu_end - cpu_begin) / 1e9, steps.n, budget, steps.p[steps.n / 2] / 1e3,
	       steps.p[steps.n * 99 / 100] / 1e3, steps.p[steps.n - 1] / 1e3, store.hold_max / 1e3,
	       (double)gc_stats(gc)->memory_bytes / nodes);
	vec_fini(&steps);
	return 0;
}
