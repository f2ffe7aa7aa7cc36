/* What the verbs share. */
#include "bench/coldbench/verb.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *source_dir(void)
{
	const char *dir = getenv("CONTENTD_SOURCE");

	return dir && *dir ? dir : COLDBENCH_SOURCE_DIR;
}

int verb_fail(const struct err *err)
{
	fflush(stdout);
	fprintf(stderr, "coldbench: %s\n", err->msg);
	return EXIT_FAILED;
}

int verb_usage(const char *verb, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "coldbench %s: ", verb);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry `coldbench %s --help'.\n", verb);
	return EXIT_USAGE;
}
