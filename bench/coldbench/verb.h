/* The verbs of coldbench: each parses its own options (argp), prints its own errors, and returns the exit status. */
#ifndef BENCH_COLDBENCH_VERB_H
#define BENCH_COLDBENCH_VERB_H

#include "base/err.h"

#include <argp.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

struct verb {
	const char *name, *args, *help;
	int (*run)(int argc, char **argv); /* argv[0] is "coldbench NAME" */
};

int run_verb(int argc, char **argv);
int list_verb(int argc, char **argv);
int report_verb(int argc, char **argv);
int images_verb(int argc, char **argv);
int peers_verb(int argc, char **argv);
int doctor_verb(int argc, char **argv);

/* "coldbench: MESSAGE" on stderr; returns EXIT_FAILED. After ERR_CANCELLED: nothing, EXIT_INTERRUPTED. */
int verb_fail(const struct err *err);

/* "coldbench VERB: MESSAGE" and where help is; returns EXIT_USAGE. */
int verb_usage(const char *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* From here on SIGINT, SIGTERM and SIGHUP make *out readable (the caller closes it) instead of ending the process, and SIGPIPE is
 * ignored. Before there are threads. */
int verb_open_cancel(int *out, struct err *err);
/* cancel_fd -1: never. Any thread. */
bool verb_is_cancelled(int cancel_fd);
/* ERR_CANCELLED when it is. */
int verb_check(int cancel_fd, struct err *err);

/* The source tree whose scripts (images, peers) and programs (beside coldbench itself) are used: $CONTENTD_SOURCE, or the one
 * it was built from. Static. */
const char *source_dir(void);

#endif
