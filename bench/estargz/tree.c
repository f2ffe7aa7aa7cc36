#include "bench/estargz/bench.h"

#include "estargz/erofs/erofs.h"

#include <stdio.h>
#include <stdlib.h>

#define LAYERS 4

/* The paths of a system's files: 1 directory in 12 entries, 1 link; every layer but the base changes some directories of
 * those below it. */
static int make_layer(unsigned layer, unsigned first, unsigned end, struct buf *out, struct err *err)
{
	static const char *const dirs[] = {"usr/lib/python3/dist-packages", "usr/share/doc", "usr/share/man/man3",
	                                   "usr/lib/x86_64-linux-gnu", "usr/include/c++/12/bits"};
	const struct esgz_index_info info = {
	    .trust = ESGZ_TRUST_DIFFID, .compression = ESGZ_GZIP, .blob_bytes = 1 << 20};
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	uint32_t seed = layer + 1;
	char dir[100] = "etc", path[200];

	for (unsigned i = first; i < end; i++) {
		struct esgz_entry e = {.type = i % 12 == 0   ? ESGZ_DIR
		                               : i % 12 == 1 ? ESGZ_SYMLINK
		                                             : ESGZ_REG,
		                       .mode = i % 12 == 0 ? 0755 : 0644,
		                       .mtime_s = 1600000000 + bench_random(&seed) % 100000000};

		if (i % 12 == 0)
			snprintf(dir, sizeof(dir), "%s/package-%u", dirs[bench_random(&seed) % 5],
			         layer > 0 && i % 24 == 0 ? bench_random(&seed) % (first / 12) * 12 : i);
		snprintf(path, sizeof(path), "%s", dir);
		if (i % 12 != 0)
			snprintf(path, sizeof(path), "%s/module_%u.py", dir, bench_random(&seed) % 1000 * 100000 + i);
		e.path = str_of(path);
		if (e.type == ESGZ_SYMLINK)
			e.link = STR("../module.py");
		if (e.type == ESGZ_REG) {
			e.size = bench_random(&seed) % 20000 + 1;
			digest_of(&i, sizeof(i), &e.content);
		}
		TRY(esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, err));
	}
	return esgz_index_finish(b, &info, out, err);
}

struct layers {
	struct buf bytes[LAYERS];
	struct esgz_index *opened[LAYERS];
};

static void layers_fini(struct layers *l)
{
	for (unsigned i = 0; i < LAYERS; i++) {
		esgz_index_free(l->opened[i]);
		buf_fini(&l->bytes[i]);
	}
}
DEFINE_AUTO_FINI(layers);

/* Half of the entries in the base, the rest in the layers above it. */
static int make_layers(unsigned entries, struct layers *l, struct err *err)
{
	unsigned at = 0;

	for (unsigned i = 0; i < LAYERS; i++) {
		unsigned n = i == 0 ? entries / 2 : entries / 2 / (LAYERS - 1);

		TRY(make_layer(i, at, at + n, &l->bytes[i], err));
		at += n;
	}
	return 0;
}

/* As new: what an index keeps for its later users is not there yet. */
static int open_layers(struct layers *l, struct err *err)
{
	for (unsigned i = 0; i < LAYERS; i++) {
		esgz_index_free(STEAL(l->opened[i]));
		TRY(esgz_index_open(buf_str(&l->bytes[i]), &l->opened[i], err));
	}
	return 0;
}

static int run(const char *name, const char *arg, bool image, struct err *err)
{
	unsigned entries = arg ? (unsigned)atoi(arg) : 100000;
	double merge = 0, write = 0, both = 0;
	uint32_t nodes = 0;
	size_t bytes = 0;
	AUTO(layers) struct layers l = {0};

	TRY(make_layers(entries, &l, err));
	for (int i = 0; i < BENCH_ROUNDS; i++) {
		AUTO(esgz_tree) struct esgz_tree *t = NULL;
		AUTO(buf) struct buf out = BUF_INIT;
		double begin, merged;

		TRY(open_layers(&l, err));
		begin = bench_cpu_ms();
		TRY(esgz_tree_build((const struct esgz_index *const *)l.opened, LAYERS, &t, err));
		merged = bench_cpu_ms();
		bench_keep_best(&merge, merged - begin);
		nodes = t->n_nodes;
		if (!image)
			continue;
		TRY(esgz_erofs_write(t, NULL, NULL, &out, err));
		bench_keep_best(&write, bench_cpu_ms() - merged);
		bench_keep_best(&both, bench_cpu_ms() - begin);
		bytes = out.n;
	}
	bench_begin(name);
	bench_count("entries", entries);
	bench_count("layers", LAYERS);
	bench_count("names", nodes);
	bench_value("tree_ms", merge);
	if (image) {
		bench_value("write_ms", write);
		bench_value("ms", both);
		bench_count("image_bytes", bytes);
	}
	bench_end();
	return 0;
}

int bench_tree(const char *entries, struct err *err)
{
	return run("tree", entries, false, err);
}

int bench_erofs(const char *entries, struct err *err)
{
	return run("erofs", entries, true, err);
}
