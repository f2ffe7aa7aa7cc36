#include "base/buf.h"

#include <endian.h>
#include <stdio.h>
#include <sys/mman.h>

static _Noreturn void out_of_memory(void)
{
	static const char text[] = "out of memory\n";

	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		abort();
	abort();
}

void *xmalloc(size_t n)
{
	void *p = malloc(n ? n : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *xcalloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *xrealloc(void *p, size_t n)
{
	void *q = realloc(p, n ? n : 1);

	if (!q)
		out_of_memory();
	return q;
}

#define HUGE_PAGE ((uintptr_t)2 << 20)

void expect_use(void *p, size_t n)
{
	uintptr_t from = ((uintptr_t)p + HUGE_PAGE - 1) & -HUGE_PAGE, end = ((uintptr_t)p + n) & -HUGE_PAGE;

	if (from < end)
		madvise((void *)from, end - from, MADV_HUGEPAGE); /* only speed is lost where it fails */
}

char *xstrdup(const char *s)
{
	return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = xmalloc(len + 1);

	memcpy(p, s, len);
	p[len] = 0;
	return p;
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *p = NULL;

	va_start(ap, fmt);
	if (vasprintf(&p, fmt, ap) < 0)
		out_of_memory();
	va_end(ap);
	return p;
}

void buf_fini(struct buf *b)
{
	free(b->p);
	*b = BUF_INIT;
}

void buf_clear(struct buf *b)
{
	b->n = 0;
	if (b->p)
		b->p[0] = 0;
}

char *buf_reserve(struct buf *b, size_t more)
{
	size_t want, cap;

	if (__builtin_add_overflow(b->n, more, &want) || __builtin_add_overflow(want, 1, &want))
		out_of_memory();
	if (want > b->cap) {
		cap = b->cap + b->cap / 2;
		if (cap < want)
			cap = want;
		if (cap < 64)
			cap = 64;
		b->p = xrealloc(b->p, cap);
		b->cap = cap;
		b->p[b->n] = 0;
	}
	return b->p + b->n;
}

/* The bytes after n were written: count them and keep the NUL. */
static void buf_commit(struct buf *b, size_t n)
{
	b->n += n;
	b->p[b->n] = 0;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
	char *at = buf_reserve(b, n);

	if (n)
		memcpy(at, p, n);
	buf_commit(b, n);
}

void buf_addc(struct buf *b, char c)
{
	*buf_reserve(b, 1) = c;
	buf_commit(b, 1);
}

void buf_adds(struct buf *b, const char *cstr)
{
	buf_add(b, cstr, strlen(cstr));
}

void buf_addstr(struct buf *b, struct str s)
{
	buf_add(b, s.p, s.n);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(b, fmt, ap);
	va_end(ap);
}

void buf_vaddf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	char *at = buf_reserve(b, 64);
	size_t room = b->cap - b->n;
	int n;

	va_copy(again, ap);
	n = vsnprintf(at, room, fmt, ap);
	if (n < 0)
		abort(); /* the format itself is wrong */
	if ((size_t)n >= room) {
		at = buf_reserve(b, (size_t)n);
		vsnprintf(at, (size_t)n + 1, fmt, again);
	}
	va_end(again);
	buf_commit(b, (size_t)n);
}

void buf_addz(struct buf *b, size_t n)
{
	memset(buf_reserve(b, n), 0, n);
	buf_commit(b, n);
}

void buf_le16(struct buf *b, uint16_t v)
{
	v = htole16(v);
	buf_add(b, &v, sizeof(v));
}

void buf_le32(struct buf *b, uint32_t v)
{
	v = htole32(v);
	buf_add(b, &v, sizeof(v));
}

void buf_le64(struct buf *b, uint64_t v)
{
	v = htole64(v);
	buf_add(b, &v, sizeof(v));
}

void buf_be32(struct buf *b, uint32_t v)
{
	v = htobe32(v);
	buf_add(b, &v, sizeof(v));
}

char *buf_steal(struct buf *b)
{
	char *p;

	buf_reserve(b, 0);
	p = b->p;
	*b = BUF_INIT;
	return p;
}
