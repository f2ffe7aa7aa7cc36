#include "contentd/records/suite.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

int64_t suite_ns_of(const Pb__Timestamp *t)
{
	assert_non_null(t);
	return t->seconds * NS_PER_S + t->nanos;
}

void suite_expect_code(struct world *w, const char *name, const char *what, int r, int want)
{
	if ((r < 0 ? -r : 0) != want)
		fail_msg("%s: %s gave %s, not %s: %s", name, what, err_code_name(r < 0 ? -r : 0), err_code_name(want),
		         w->err.msg);
}

void suite_expect_text(const char *name, const char *what, const char *got, const char *want)
{
	if (strcmp(got, want))
		fail_msg("%s: %s is \"%s\", not \"%s\"", name, what, got, want);
}

Pb__FieldMask *suite_mask_of(struct world *w, const char *text)
{
	Pb__FieldMask *m = text ? pb_new(&w->a, &pb__field_mask__descriptor) : NULL;
	struct str rest = str_of(text), one;

	if (!m)
		return NULL;
	m->paths = arena_alloc(&w->a, 16 * sizeof(*m->paths));
	while (str_split(&rest, ',', &one))
		m->paths[m->n_paths++] = arena_str(&w->a, one);
	return m;
}

Pb__Any *suite_any(struct world *w, const char *type_url)
{
	Pb__Any *a = pb_new(&w->a, &pb__any__descriptor);

	a->type_url = type_url;
	return a;
}

Kv__AnyEntry **suite_extensions_of(struct world *w, const char *text, size_t *n)
{
	Kv__Entry **from = world_kvs(w, text, n);
	Kv__AnyEntry **list = arena_alloc(&w->a, (*n + 1) * sizeof(*list));

	for (size_t i = 0; i < *n; i++) {
		list[i] = pb_new(&w->a, &kv__any_entry__descriptor);
		list[i]->key = from[i]->key;
		list[i]->value = suite_any(w, from[i]->value);
	}
	return list;
}

const char *suite_extensions_text(struct world *w, Kv__AnyEntry *const *list, size_t n)
{
	AUTO(buf) struct buf b = BUF_INIT;

	for (size_t i = 0; i < n; i++)
		buf_addf(&b, "%s%s=%s", i ? " " : "", list[i]->key, list[i]->value->type_url);
	return arena_str(&w->a, buf_str(&b));
}

const char **suite_filters_of(struct world *w, const char *text, size_t *n)
{
	const char **list = arena_alloc(&w->a, 8 * sizeof(*list));
	struct str rest = str_of(text), one;

	*n = 0;
	while (str_split(&rest, ';', &one))
		list[(*n)++] = arena_str(&w->a, one);
	return list;
}
