#include "rpc/arena.h"

#include <stdarg.h>
#include <stdio.h>

#define ALIGN 16u
#define BLOCK_BYTES 4080u /* with malloc's header a page */
#define LARGE_BYTES 1024u /* from here on a piece is malloc'ed alone */

struct arena_block {
	struct arena_block *next;
	size_t used; /* of data */
	_Alignas(ALIGN) char data[];
};

struct arena_large {
	struct arena_large *next;
	_Alignas(ALIGN) char data[];
};

static void *small_new(struct arena *a, size_t n)
{
	const size_t room = BLOCK_BYTES - sizeof(struct arena_block);
	struct arena_block *b = a->blocks;
	void *p;

	n = (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if (!b || b->used + n > room) {
		b = malloc(BLOCK_BYTES);
		if (!b)
			return NULL;
		b->next = a->blocks;
		b->used = 0;
		a->blocks = b;
	}
	p = b->data + b->used;
	b->used += n;
	return p;
}

static void *large_new(struct arena *a, size_t n)
{
	struct arena_large *l;

	if (n > SIZE_MAX - sizeof(*l) || !(l = malloc(sizeof(*l) + n)))
		return NULL;
	l->next = a->large;
	a->large = l;
	return l->data;
}

static void *pb_alloc(void *arg, size_t n)
{
	struct arena *a = arg;
	void *p;

	if (n > a->max_bytes - a->used_bytes)
		return NULL;
	p = n < LARGE_BYTES ? small_new(a, n) : large_new(a, n);
	if (p)
		a->used_bytes += n;
	return p;
}

/* Everything stays until the arena goes, the parser's scratch tables too: they are charged like the rest. */
static void pb_release(void *arg, void *p) {}

void arena_init(struct arena *a, size_t max_bytes)
{
	*a = (struct arena){.max_bytes = max_bytes, .allocator = {pb_alloc, pb_release, a}};
}

void arena_clear(struct arena *a)
{
	while (a->blocks) {
		struct arena_block *b = a->blocks;

		a->blocks = b->next;
		free(b);
	}
	while (a->large) {
		struct arena_large *l = a->large;

		a->large = l->next;
		free(l);
	}
	a->used_bytes = 0;
}

void arena_fini(struct arena *a)
{
	arena_clear(a);
}

void *arena_alloc(struct arena *a, size_t n)
{
	void *p = n < LARGE_BYTES ? small_new(a, n) : large_new(a, n);

	if (!p)
		abort();
	return p;
}

void *arena_zalloc(struct arena *a, size_t n, size_t size)
{
	size_t bytes;
	void *p;

	if (__builtin_mul_overflow(n, size, &bytes))
		abort();
	p = arena_alloc(a, bytes);
	memset(p, 0, bytes);
	return p;
}

char *arena_str(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n + 1);

	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_str(a, str_of(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	int n;
	char *p;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	p = arena_alloc(a, (size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return p;
}
