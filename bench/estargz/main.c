/*
 * Speed of the format library, in CPU time of one thread (best of the rounds), so that a busy machine disturbs less:
 *
 *	estargz_bench [--json] BENCH [ARGUMENT]
 *
 *	toc [ENTRIES]         a made-up TOC: sha256 of it, a read of all its values by us and by yajl, index from it, opening
 *	                      that; the ratios are of sha256 and index to sha256 and one of the reads
 *	tree [ENTRIES]        four made-up layers merged
 *	erofs [ENTRIES]       the same, and the metadata image of them
 *	inflate LAYER         a layer's compressed bytes to plain ones
 *	hash                  sha256 of a stream in pieces, of small files one by one
 *	stream-unpack LAYER   an ordinary layer: inflate, hashes, tar, index; all but writing files
 *	gzseek LAYER          the seekable index of a gzip layer: built by two threads (wall), its size, each chunk read from it
 *	chunks                single chunks of several sizes and places, in gzip members and zstd frames, with their digests
 *	convert LAYER         into every format, on one thread and on all CPUs (one more reads): wall and CPU time of all
 */
#include "bench/estargz/bench.h"

#include <stdio.h>

static const struct verb {
	const char *name, *argument; /* in brackets: may be left out */
	int (*run)(const char *argument, struct err *err);
} verbs[] = {
    {"toc", "[ENTRIES]", bench_toc},     {"tree", "[ENTRIES]", bench_tree}, {"erofs", "[ENTRIES]", bench_erofs},
    {"inflate", "LAYER", bench_inflate}, {"hash", "", bench_hash},          {"stream-unpack", "LAYER", bench_unpack},
    {"gzseek", "LAYER", bench_gzseek},   {"chunks", "", bench_chunks},      {"convert", "LAYER", bench_convert},
};

static int usage(void)
{
	fputs("usage: estargz_bench [--json] BENCH [ARGUMENT]\n", stderr);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		fprintf(stderr, "       %s %s\n", verbs[i].name, verbs[i].argument);
	return 2;
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;

	if (argc > 1 && strcmp(argv[1], "--json") == 0) {
		bench_json = true;
		argv++;
		argc--;
	}
	for (size_t i = 0; i < ARRAY_LEN(verbs) && argc > 1; i++) {
		const struct verb *v = &verbs[i];

		if (strcmp(argv[1], v->name) != 0)
			continue;
		if (argc > (*v->argument ? 3 : 2) || (argc < 3 && *v->argument && *v->argument != '['))
			return usage();
		if (v->run(argv[2], &err) == 0)
			return 0;
		fprintf(stderr, "estargz_bench: %s\n", err.msg);
		return 1;
	}
	return usage();
}
