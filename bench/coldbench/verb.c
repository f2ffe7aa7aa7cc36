/* What the verbs share. */
#include "bench/coldbench/verb.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>

const char *source_dir(void)
{
	const char *dir = getenv("CONTENTD_SOURCE");

	return dir && *dir ? dir : COLDBENCH_SOURCE_DIR;
}

int verb_fail(const struct err *err)
{
	fflush(stdout);
	if (err->code == ERR_CANCELLED)
		return EXIT_INTERRUPTED;
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

int verb_open_cancel(int *out, struct err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	*out = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return *out < 0 ? err_errno(err, errno, "signalfd") : 0;
}

bool verb_is_cancelled(int cancel_fd)
{
	struct pollfd p = {.fd = cancel_fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

int verb_check(int cancel_fd, struct err *err)
{
	return verb_is_cancelled(cancel_fd) ? err_set(err, ERR_CANCELLED, "stopped") : 0;
}
