/*
 * Growable owned bytes. Appending never fails softly: memory exhaustion of these small sizes aborts the process, and
 * sizes that come from outside must be bounded by the caller before they are reserved. One owner; not thread-safe.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/cleanup.h"
#include "base/str.h"

#include <stdarg.h>

struct buf {
	char *p;    /* NULL only when cap is 0; p[n] is always NUL when cap > 0 */
	size_t n;   /* bytes used */
	size_t cap; /* bytes allocated */
};

#define BUF_INIT ((struct buf){NULL, 0, 0})

void buf_fini(struct buf *b);  /* frees, leaves BUF_INIT */
void buf_clear(struct buf *b); /* n = 0, keeps memory */

/* Makes room for `more` bytes after n (and a NUL) and returns the place to write them; n is unchanged. */
char *buf_reserve(struct buf *b, size_t more);

void buf_add(struct buf *b, const void *p, size_t n);
void buf_addc(struct buf *b, char c);
void buf_adds(struct buf *b, const char *cstr);
void buf_addstr(struct buf *b, struct str s);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vaddf(struct buf *b, const char *fmt, va_list ap);
void buf_addz(struct buf *b, size_t n); /* n zero bytes */

/* Little- and big-endian integers. */
void buf_le16(struct buf *b, uint16_t v);
void buf_le32(struct buf *b, uint32_t v);
void buf_le64(struct buf *b, uint64_t v);
void buf_be32(struct buf *b, uint32_t v);

static inline struct str buf_str(const struct buf *b)
{
	return (struct str){b->p, b->n};
}

/* The bytes as a C string ("" when empty), borrowed until the next change. */
static inline const char *buf_cstr(const struct buf *b)
{
	return b->p ? b->p : "";
}

/* Hands over the allocation (NUL-terminated, never NULL); b becomes BUF_INIT. Caller frees. */
char *buf_steal(struct buf *b);

DEFINE_AUTO_FINI(buf);

/* Allocation that aborts instead of returning NULL: for small, bounded sizes. */
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
/* Says of a large allocation that all of it will be written soon: the kernel may then give 2 MiB a fault, not 4 KiB. (In
 * a virtual machine faults were a third of the time of making 20 MB.) */
void expect_use(void *p, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
