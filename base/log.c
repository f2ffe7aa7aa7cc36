#include "base/log.h"

#include "base/clock.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>

#define MESSAGE_MAX 4096 /* longer ones are cut */

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static atomic_int level_now = LOG_INFO;
static const char *program_name = "contentd"; /* set once by log_init, before threads */
static atomic_bool as_json;

void log_init(const char *program, enum log_level level, bool json)
{
	program_name = program;
	log_set(level, json);
}

void log_set(enum log_level level, bool json)
{
	atomic_store_explicit(&as_json, json, memory_order_relaxed);
	atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

int log_reopen(const char *path, struct err *err)
{
	AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		return err_errno(err, errno, "log file %s", path);
	return 0;
}

bool log_is_json(void)
{
	return atomic_load_explicit(&as_json, memory_order_relaxed);
}

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

bool log_level_parse(const char *text, enum log_level *out)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++)
		if (!strcmp(text, level_names[i])) {
			*out = (enum log_level)i;
			return true;
		}
	return false;
}

enum log_level log_level_get(void)
{
	return (enum log_level)atomic_load_explicit(&level_now, memory_order_relaxed);
}

static void put_line(const char *p, size_t n)
{
	/* A log that cannot be written has nowhere to complain. */
	while (write(STDERR_FILENO, p, n) < 0 && errno == EINTR)
		;
}

static void put_json(enum log_level level, const char *when, const char *msg)
{
	AUTO(buf) struct buf line = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &line, NULL);
	json_w_object_begin(&w);
	json_w_kcstr(&w, "time", when);
	json_w_kcstr(&w, "level", level_names[level]);
	json_w_kcstr(&w, "program", program_name);
	json_w_kcstr(&w, "msg", msg);
	json_w_object_end(&w);
	buf_addc(&line, '\n');
	put_line(line.p, line.n);
}

void log_at(enum log_level level, const char *fmt, ...)
{
	char msg[MESSAGE_MAX], when[40], line[MESSAGE_MAX + 128];
	int saved = errno, n;
	va_list ap;

	if (level > log_level_get())
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	text_clean(msg);
	time_rfc3339(clock_wall(), when);
	if (log_is_json()) {
		put_json(level, when, msg);
	} else {
		n = snprintf(line, sizeof(line), "%s %s %s: %s\n", when, level_names[level], program_name, msg);
		if ((size_t)n >= sizeof(line)) {
			n = (int)sizeof(line);
			line[n - 1] = '\n';
		}
		put_line(line, (size_t)n);
	}
	errno = saved;
}
