/*
 * Logging to stderr, one line a message, text or JSON lines. Any thread; each line is written by one write(2).
 * The level is process-wide and set once at start. Secrets are never passed to it.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* `program` (static text) prefixes each line. */
void log_init(const char *program, enum log_level level, bool json);

/* "error", "warn", "info", "debug"; false on other text. */
bool log_level_parse(const char *text, enum log_level *out);

enum log_level log_level_get(void);

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
