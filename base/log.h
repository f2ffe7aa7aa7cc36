/*
 * Logging to stderr, one line a message, text or JSON lines. Any thread; each line is written by one write(2).
 * Level and format are process-wide and may change at any time. Secrets are never passed to it.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* `program` (static text) prefixes each line. Before there are threads. */
void log_init(const char *program, enum log_level level, bool json);

/* What log_init gave, anew. */
void log_set(enum log_level level, bool json);

/* Has stderr be the file from now on (appended to; mode 0600 when it is made): at the start, and again after somebody has
 * moved the file away. What is being written goes to the one or the other whole. */
int log_reopen(const char *path, struct err *err);

/* "error", "warn", "info", "debug"; false on other text. */
bool log_level_parse(const char *text, enum log_level *out);

enum log_level log_level_get(void);
bool log_is_json(void);
const char *log_level_name(enum log_level level);

void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
/* Arguments are evaluated only when debug is on. */
#define log_debug(...)                                                                                                 \
	do {                                                                                                           \
		if (log_level_get() >= LOG_DEBUG)                                                                      \
			log_at(LOG_DEBUG, __VA_ARGS__);                                                                \
	} while (0)

#endif
