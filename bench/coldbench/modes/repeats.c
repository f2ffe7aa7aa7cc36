/* What was asked for more than once. */
#include "bench/coldbench/modes/repeats.h"

/* No blob is that large; what names places beyond means nothing. Suffixes lie behind all of them. */
#define PLACES_MAX (UINT64_C(1) << 50)
#define SUFFIX_END (PLACES_MAX * 4)

struct span {
	const char *blob;
	uint64_t from, to;
};

typedef VEC(struct span) spans;

/* "100-199", "100-" (body_bytes tells how far), "-100"; false: none that means anything. */
static bool parse_range(struct str text, uint64_t body_bytes, struct span *s)
{
	struct str first;
	uint64_t a, b;

	text = str_trim(text);
	if (!str_split(&text, '-', &first))
		return false;
	if (!first.n) {
		if (!str_u64(text, 10, &b) || b > PLACES_MAX)
			return false;
		s->from = SUFFIX_END - b;
		s->to = SUFFIX_END;
		return true;
	}
	if (!str_u64(first, 10, &a) || a >= PLACES_MAX || body_bytes > PLACES_MAX)
		return false;
	s->from = a;
	if (!text.n) {
		s->to = a + body_bytes;
		return true;
	}
	if (!str_u64(text, 10, &b) || b < a || b >= PLACES_MAX)
		return false;
	s->to = b + 1;
	return true;
}

static void add_spans(const struct net_exchange *x, spans *out)
{
	struct str rest = str_of(x->range), part;
	/* "/v2/NAME/blobs/DIGEST": images of several names may share a blob. */
	struct span s = {.blob = strstr(x->target, "/blobs/")};

	if (!str_skip(&rest, STR("bytes=")) || x->status != 206) {
		s.to = x->body_bytes;
		vec_push(out, s);
		return;
	}
	while (str_split(&rest, ',', &part))
		if (parse_range(part, x->body_bytes, &s))
			vec_push(out, s);
}

static int by_blob_and_place(const void *a, const void *b)
{
	const struct span *x = a, *y = b;
	int c = strcmp(x->blob, y->blob);

	return c ? c : (x->from > y->from) - (x->from < y->from);
}

void repeats_count(const struct net_exchange_list *l, struct repeats *out)
{
	spans all = VEC_INIT;
	const char *blob = NULL;
	uint64_t end = 0;

	*out = (struct repeats){0};
	vec_each(&l->items, x)
		if (!strcmp(x->method, "GET") && (x->status == 200 || x->status == 206) && strstr(x->target, "/blobs/"))
			add_spans(x, &all);
	if (all.n)
		qsort(all.p, all.n, sizeof(*all.p), by_blob_and_place);
	vec_each(&all, s) {
		if (!blob || strcmp(blob, s->blob) != 0) {
			blob = s->blob;
			end = 0;
		}
		out->asked_bytes += s->to - s->from;
		if (s->to <= end)
			continue;
		out->distinct_bytes += s->to - (s->from > end ? s->from : end);
		end = s->to;
	}
	vec_fini(&all);
}
