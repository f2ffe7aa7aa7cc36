/*
 * A suite says what to run: networks, and cases, each a cross product of images, engines and networks in one mode.
 *
 *	title = "..."
 *	repetitions = 10
 *
 *	[network.lan]
 *	rtt_ms = 1
 *	mbit = 1000                        # 0 or absent: unlimited
 *	faults = ["status=503 every=20 /blobs/"]   # rules of bench/netproxy/fault.h; absent: none
 *
 *	[case.start]
 *	mode = "start"
 *	images = ["python", "nginx"]       # in mode burst also "python+nginx": several that take turns
 *	engines = ["contentd", "containerd", "containerd-stargz:esgz-opt"]   # :FORM of the image, else the engine's own
 *	networks = ["lan"]
 *	count = 1                          # of starts at once, of containers: as the mode says
 *	repetitions = 5                    # else the suite's
 */
#ifndef BENCH_COLDBENCH_SUITE_H
#define BENCH_COLDBENCH_SUITE_H

#include "base/err.h"
#include "base/str.h"
#include "base/vec.h"

struct network {
	char *name;
	double rtt_ms, mbit;
	char *faults; /* its rules with "; " between; NULL: none */
};

#define CASE_IMAGES_MAX 16

/* One cell of the product: what samples have in common. Texts are the suite's. */
struct bench_case {
	const char *group;                        /* the [case.GROUP] it comes from */
	const char *mode, *image, *engine, *form; /* image: "python"; n_images of them with '+' between */
	const struct network *network;
	unsigned count, repetitions, n_images;
};

struct suite {
	char *name, *title; /* name: that of the file without ".toml" */
	struct bench_case *cases;
	size_t n_cases;
	struct network *networks;
	size_t n_networks;
	char **texts; /* owns what the cases point to */
	size_t n_texts;
};

/* Unknown keys, modes, engines, forms and networks are ERR_INVALID with "file:line". */
int suite_read(const char *path, struct suite *out, struct err *err);
int suite_parse(const char *name, struct str text, struct suite *out, struct err *err);
void suite_fini(struct suite *s);

/* "image/form/engine/network", and "/xCOUNT" behind it when that is not 1; the caller's. Names a case within its mode. */
char *case_name(const struct bench_case *c);

#endif
