/*
 * Errors as values.
 *
 * A function that can fail returns 0 or a negative code (-(int)enum err_code) and fills the `struct err *err` on the
 * caller's stack: nothing is allocated, so an error can be reported when memory is gone. The codes are gRPC's status
 * codes, so the answer of an API call is a cast and the errno answer of a FUSE request is err_to_errno(). A positive
 * return value, where a function documents one, is a named condition of that very function and not an error.
 * `err` may be NULL when the caller wants the code alone. Any thread.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>

/* Numbers and names: gRPC, doc/statuscodes.md. */
#define ERR_CODES(X)                                                                                                   \
	X(OK, 0, "ok")                                                                                                 \
	X(CANCELLED, 1, "cancelled")                                                                                   \
	X(UNKNOWN, 2, "unknown")                                                                                       \
	X(INVALID, 3, "invalid argument")                                                                              \
	X(DEADLINE, 4, "deadline exceeded")                                                                            \
	X(NOT_FOUND, 5, "not found")                                                                                   \
	X(EXISTS, 6, "already exists")                                                                                 \
	X(PERMISSION, 7, "permission denied")                                                                          \
	X(EXHAUSTED, 8, "resource exhausted")                                                                          \
	X(PRECONDITION, 9, "failed precondition")                                                                      \
	X(ABORTED, 10, "aborted")                                                                                      \
	X(OUT_OF_RANGE, 11, "out of range")                                                                            \
	X(UNIMPLEMENTED, 12, "not implemented")                                                                        \
	X(INTERNAL, 13, "internal")                                                                                    \
	X(UNAVAILABLE, 14, "unavailable")                                                                              \
	X(DATA_LOSS, 15, "data loss")                                                                                  \
	X(UNAUTHENTICATED, 16, "unauthenticated")

enum err_code {
#define X(name, number, text) ERR_##name = number,
	ERR_CODES(X)
#undef X
};

#define ERR_MSG_MAX 1024 /* longer messages are cut, and end in "..." */
#define ERR_FRAMES_MAX 8

struct err {
	enum err_code code;
	int sys;               /* errno behind it, 0 if none */
	char msg[ERR_MSG_MAX]; /* NUL-terminated, UTF-8, one line */
	struct {
		const char *file;
		int line;
	} frames[ERR_FRAMES_MAX]; /* origin first, then each err_wrap */
	unsigned n_frames;
};

#define ERR_INIT ((struct err){.code = ERR_OK})

/* Sets `err` and returns -(code). `code` is not ERR_OK. */
#define err_set(err, code, ...) err_set_at((err), (code), 0, __FILE__, __LINE__, __VA_ARGS__)

/* As err_set with the code that fits `sys` (an errno value); ": <strerror>" is appended to the message. */
#define err_errno(err, sys, ...) err_errno_at((err), (sys), __FILE__, __LINE__, __VA_ARGS__)

/* Puts "<context>: " before the message of an error that is already set, keeps its code, returns -(code). */
#define err_wrap(err, ...) err_wrap_at((err), __FILE__, __LINE__, __VA_ARGS__)

/* Returns from the enclosing function when `expr` is negative. */
#define TRY(expr)                                                                                                      \
	do {                                                                                                           \
		int try_r_ = (expr);                                                                                   \
		if (try_r_ < 0)                                                                                        \
			return try_r_;                                                                                 \
	} while (0)

/* As TRY, and adds context to `err` on the way out. */
#define TRY_WRAP(expr, err, ...)                                                                                       \
	do {                                                                                                           \
		int try_r_ = (expr);                                                                                   \
		if (try_r_ < 0) {                                                                                      \
			err_wrap((err), __VA_ARGS__);                                                                  \
			return try_r_;                                                                                 \
		}                                                                                                      \
	} while (0)

int err_set_at(struct err *err, enum err_code code, int sys, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
int err_errno_at(struct err *err, int sys, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
int err_wrap_at(struct err *err, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The code that fits an errno value; ERR_UNKNOWN for what has no counterpart. */
enum err_code err_code_from_errno(int sys);

/* The errno for a FUSE or system-call answer: err->sys if set, else what fits the code (EIO for most). */
int err_to_errno(const struct err *err);

/* Static text of a code as gRPC and containerd spell it, e.g. "not found". */
const char *err_code_name(enum err_code code);

/* The same in gRPC's own spelling, for metrics: "NotFound". */
const char *err_code_camel(enum err_code code);

/* True for errors that the same call may outlive when repeated later (unavailable, deadline, aborted, exhausted). */
bool err_is_transient(const struct err *err);

#endif
