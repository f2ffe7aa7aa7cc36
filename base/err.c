#include "base/err.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

/* Ends a message that vsnprintf has cut with "...", on a character's border. */
static void mark_cut(char *msg)
{
	size_t at = ERR_MSG_MAX - 4;

	while (at && ((unsigned char)msg[at] & 0xc0) == 0x80)
		at--;
	memcpy(msg + at, "...", 4);
}

static void add_frame(struct err *err, const char *file, int line)
{
	if (err->n_frames >= ERR_FRAMES_MAX)
		return;
	err->frames[err->n_frames].file = file;
	err->frames[err->n_frames].line = line;
	err->n_frames++;
}

static void set(struct err *err, enum err_code code, int sys, const char *file, int line, const char *fmt, va_list ap)
{
	err->code = code;
	err->sys = sys;
	err->n_frames = 0;
	add_frame(err, file, line);
	if (vsnprintf(err->msg, sizeof(err->msg), fmt, ap) >= ERR_MSG_MAX)
		mark_cut(err->msg);
	text_clean(err->msg);
}

int err_set_at(struct err *err, enum err_code code, int sys, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	assert(code != ERR_OK);
	if (err) {
		va_start(ap, fmt);
		set(err, code, sys, file, line, fmt, ap);
		va_end(ap);
	}
	return -(int)code;
}

int err_errno_at(struct err *err, int sys, const char *file, int line, const char *fmt, ...)
{
	enum err_code code = err_code_from_errno(sys);
	const char *text = strerrordesc_np(sys);
	size_t used;
	va_list ap;
	int n;

	if (!err)
		return -(int)code;
	va_start(ap, fmt);
	set(err, code, sys, file, line, fmt, ap);
	va_end(ap);
	used = strlen(err->msg);
	if (text)
		n = snprintf(err->msg + used, sizeof(err->msg) - used, ": %s", text);
	else
		n = snprintf(err->msg + used, sizeof(err->msg) - used, ": errno %d", sys);
	if (used + (size_t)n >= sizeof(err->msg))
		mark_cut(err->msg);
	return -(int)code;
}

int err_wrap_at(struct err *err, const char *file, int line, const char *fmt, ...)
{
	char old[ERR_MSG_MAX];
	size_t used;
	va_list ap;

	if (!err)
		return -(int)ERR_UNKNOWN;
	assert(err->code != ERR_OK);
	memcpy(old, err->msg, sizeof(old));
	va_start(ap, fmt);
	if (vsnprintf(err->msg, sizeof(err->msg), fmt, ap) >= ERR_MSG_MAX)
		mark_cut(err->msg);
	va_end(ap);
	text_clean(err->msg);
	used = strlen(err->msg);
	if (used + (size_t)snprintf(err->msg + used, sizeof(err->msg) - used, ": %s", old) >= sizeof(err->msg))
		mark_cut(err->msg);
	add_frame(err, file, line);
	return -(int)err->code;
}

enum err_code err_code_from_errno(int sys)
{
	switch (sys) {
	case EPERM:
	case EACCES:
		return ERR_PERMISSION;
	case ENOENT:
	case ESRCH:
	case ENXIO:
	case ENODEV:
	case ENODATA:
		return ERR_NOT_FOUND;
	case EEXIST:
	case EADDRINUSE:
		return ERR_EXISTS;
	case EINVAL:
	case E2BIG:
	case EISDIR:
	case ELOOP:
	case EMSGSIZE:
	case ENAMETOOLONG:
	case ENOTDIR:
		return ERR_INVALID;
	case EBUSY:
	case ENOTEMPTY:
	case EROFS:
	case ETXTBSY:
	case EXDEV:
		return ERR_PRECONDITION;
	case EDQUOT:
	case EFBIG:
	case EMFILE:
	case EMLINK:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
	case ENOSPC:
		return ERR_EXHAUSTED;
	case ETIMEDOUT:
	case ETIME:
		return ERR_DEADLINE;
	case ECANCELED:
		return ERR_CANCELLED;
	case EINTR:
	case EDEADLK:
	case ESTALE:
		return ERR_ABORTED;
	case ENOSYS:
	case EOPNOTSUPP:
	case EPROTONOSUPPORT:
	case EAFNOSUPPORT:
		return ERR_UNIMPLEMENTED;
	case EAGAIN:
	case ECONNABORTED:
	case ECONNREFUSED:
	case ECONNRESET:
	case EHOSTUNREACH:
	case ENETDOWN:
	case ENETUNREACH:
	case ENOTCONN:
	case EPIPE:
		return ERR_UNAVAILABLE;
	case EOVERFLOW:
	case ERANGE:
		return ERR_OUT_OF_RANGE;
	case EBADMSG:
	case EUCLEAN:
		return ERR_DATA_LOSS;
	case EBADF:
	case EFAULT:
		return ERR_INTERNAL;
	default:
		return ERR_UNKNOWN;
	}
}

int err_to_errno(const struct err *err)
{
	if (err->sys)
		return err->sys;
	switch (err->code) {
	case ERR_OK:
		return 0;
	case ERR_INVALID:
	case ERR_OUT_OF_RANGE:
		return EINVAL;
	case ERR_NOT_FOUND:
		return ENOENT;
	case ERR_EXISTS:
		return EEXIST;
	case ERR_PERMISSION:
	case ERR_UNAUTHENTICATED:
		return EACCES;
	case ERR_UNIMPLEMENTED:
		return EOPNOTSUPP; /* not ENOSYS: a FUSE client would never ask again */
	default:
		return EIO;
	}
}

const char *err_code_name(enum err_code code)
{
	switch (code) {
#define X(name, number, text)                                                                                          \
	case ERR_##name:                                                                                               \
		return text;
		ERR_CODES(X)
#undef X
	}
	return "unknown";
}

const char *err_code_camel(enum err_code code)
{
	static const char *const names[] = {
	    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
	    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
	    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
	    "DataLoss", "Unauthenticated"};

	return (unsigned)code < ARRAY_LEN(names) ? names[code] : "Unknown";
}

bool err_is_transient(const struct err *err)
{
	return err->code == ERR_UNAVAILABLE || err->code == ERR_DEADLINE || err->code == ERR_ABORTED ||
	       err->code == ERR_EXHAUSTED;
}
