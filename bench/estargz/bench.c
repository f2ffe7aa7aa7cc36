#include "bench/estargz/bench.h"

#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define FILE_BYTES_MAX (4ull << 30)

double bench_cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void bench_keep_best(double *best, double ms)
{
	if (*best == 0 || ms < *best)
		*best = ms;
}

uint32_t bench_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

void bench_text(struct buf *out, size_t n)
{
	uint32_t seed = 7, words[512];

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		words[i] = bench_random(&seed);
	while (out->n < n)
		buf_addf(out, "%x%c", words[bench_random(&seed) % 512] >> (bench_random(&seed) % 12),
		         " \n_;("[bench_random(&seed) % 5]);
	out->n = n;
}

int bench_read(const char *path, struct buf *out, struct err *err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	return fd_read_all(fd, FILE_BYTES_MAX, out, err);
}

/* ---- results ---- */

bool bench_json;
static unsigned n_values;

void bench_begin(const char *name)
{
	n_values = 0;
	printf(bench_json ? "{\"bench\":\"%s\"" : "%s:", name);
}

static void key(const char *k)
{
	if (bench_json)
		printf(",\"%s\":", k);
	else
		printf("%s %s ", n_values++ > 0 ? "," : "", k);
}

void bench_text_value(const char *k, const char *value)
{
	key(k);
	printf(bench_json ? "\"%s\"" : "%s", value);
}

void bench_count(const char *k, uint64_t value)
{
	key(k);
	printf("%" PRIu64, value);
}

void bench_value(const char *k, double value)
{
	key(k);
	printf("%.2f", value);
}

void bench_end(void)
{
	puts(bench_json ? "}" : "");
	fflush(stdout);
}
