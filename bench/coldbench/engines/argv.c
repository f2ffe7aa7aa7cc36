/* Command lines. */
#include "bench/coldbench/engines/engine.h"

static void argv_take(struct argv *a, TAKE(char *) text)
{
	if (a->n + 2 > a->cap) {
		a->cap = a->cap ? a->cap * 2 : 16;
		a->p = xrealloc(a->p, a->cap * sizeof(*a->p));
	}
	a->p[a->n++] = text;
	a->p[a->n] = NULL;
}

void argv_add(struct argv *a, const char *text)
{
	argv_take(a, xstrdup(text));
}

void argv_addf(struct argv *a, const char *fmt, ...)
{
	AUTO(buf) struct buf text = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&text, fmt, ap);
	va_end(ap);
	argv_take(a, buf_steal(&text));
}

void argv_addl(struct argv *a, ...)
{
	const char *text;
	va_list ap;

	va_start(ap, a);
	while ((text = va_arg(ap, const char *)))
		argv_add(a, text);
	va_end(ap);
}

void argv_addv(struct argv *a, const char *const *texts)
{
	for (; texts && *texts; texts++)
		argv_add(a, *texts);
}

void argv_fini(struct argv *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->p[i]);
	free(a->p);
	*a = ARGV_INIT;
}
