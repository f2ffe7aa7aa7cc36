#include "bench/coldbench/plan.h"

#include "base/random.h"
#include "bench/coldbench/engines/engine.h"

#include <regex.h>

struct expression {
	regex_t regex;
	bool there;
};

static void expression_fini(struct expression *e)
{
	if (e->there)
		regfree(&e->regex);
}
DEFINE_AUTO_FINI(expression);

static int compile(const char *text, struct expression *e, struct err *err)
{
	char why[128];
	int r;

	if (!text)
		return 0;
	r = regcomp(&e->regex, text, REG_EXTENDED | REG_NOSUB);
	if (r) {
		regerror(r, &e->regex, why, sizeof(why));
		return err_set(err, ERR_INVALID, "\"%s\": %s", text, why);
	}
	e->there = true;
	return 0;
}

static bool matches(const struct expression *e, const struct bench_case *c)
{
	AUTO_FREE char *name = case_name(c);
	AUTO_FREE char *with_group = xasprintf("%s/%s", c->group, name);

	return !e->there || !regexec(&e->regex, with_group, 0, NULL, 0);
}

static bool is_listed(const char *list, const char *name)
{
	struct str rest = str_of(list), one;

	if (!list)
		return true;
	while (str_split(&rest, ',', &one))
		if (str_eqc(str_trim(one), name))
			return true;
	return false;
}

static int check_engines(const char *list, struct err *err)
{
	struct str rest = str_of(list), one;

	while (list && str_split(&rest, ',', &one)) {
		AUTO_FREE char *name = str_dup(str_trim(one));

		if (!engine_find(name))
			return err_set(err, ERR_INVALID, "there is no engine \"%s\"", name);
	}
	return 0;
}

/* Fisher and Yates. */
static void shuffle(struct plan_item *items, size_t n, uint64_t *state)
{
	for (size_t i = n; i > 1; i--) {
		size_t k = (size_t)(random_next(state) % i); /* i is small: the bias is far below 2^-50 */
		struct plan_item other = items[k];

		items[k] = items[i - 1];
		items[i - 1] = other;
	}
}

int plan_make(const struct suite *s, const struct plan_filter *f, uint64_t seed, struct plan *out, struct err *err)
{
	AUTO(expression) struct expression e = {0};
	AUTO(plan) struct plan plan = {0};
	size_t begin;

	TRY(compile(f->only, &e, err));
	TRY(check_engines(f->engines, err));
	for (unsigned repetition = 1, more = 1; more; repetition++) {
		begin = plan.items.n;
		more = 0;
		for (size_t i = 0; i < s->n_cases; i++) {
			unsigned n = f->repetitions ? f->repetitions : s->cases[i].repetitions;

			more |= n > repetition;
			if (n >= repetition && is_listed(f->engines, s->cases[i].engine) && matches(&e, &s->cases[i]))
				vec_push(&plan.items, (struct plan_item){i, repetition});
		}
		shuffle(plan.items.p + begin, plan.items.n - begin, &seed);
	}
	if (!plan.items.n)
		return err_set(err, ERR_NOT_FOUND, "the suite has no such case");
	*out = plan;
	plan = (struct plan){0};
	return 0;
}

void plan_fini(struct plan *p)
{
	vec_fini(&p->items);
}
