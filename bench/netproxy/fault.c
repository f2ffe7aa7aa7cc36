#include "bench/netproxy/fault.h"

#include "base/clock.h"

#define RULES_MAX 1024
#define MS_MAX (24 * 3600 * 1000ULL)

enum value { VALUE_NONE, VALUE_OFFSET, VALUE_STATUS, VALUE_MS_OR_NONE };

static const struct {
	const char *name;
	enum fault_action action;
	enum value value;
} actions[] = {
    {"stall", FAULT_STALL, VALUE_MS_OR_NONE}, {"reset", FAULT_RESET, VALUE_NONE},
    {"lose", FAULT_LOSE, VALUE_NONE},         {"truncate", FAULT_TRUNCATE, VALUE_OFFSET},
    {"flip", FAULT_FLIP, VALUE_OFFSET},       {"status", FAULT_STATUS, VALUE_STATUS},
    {"norange", FAULT_NORANGE, VALUE_NONE},
};

static void rule_fini(struct fault_rule *r)
{
	free(r->spec);
	free(r->text);
}

void fault_rules_clear(struct fault_rules *f)
{
	vec_each(&f->rules, r)
		rule_fini(r);
	vec_clear(&f->rules);
}

void fault_rules_fini(struct fault_rules *f)
{
	fault_rules_clear(f);
	vec_fini(&f->rules);
}

static int parse_offset(struct str value, struct fault *out, struct err *err)
{
	struct str number = value;

	if (value.n && value.p[value.n - 1] == '%') {
		out->percent = true;
		number.n--;
	}
	if (!str_u64(number, 10, &out->value) || (out->percent && out->value > 100))
		return err_set(err, ERR_INVALID, "fault: '" STR_FMT "' is neither a number nor 0%% to 100%%",
		               STR_ARG(value));
	return 0;
}

static int parse_number(struct str text, uint64_t min, uint64_t max, const char *what, uint64_t *out, struct err *err)
{
	if (!str_u64(text, 10, out) || *out < min || *out > max)
		return err_set(err, ERR_INVALID, "fault: %s '" STR_FMT "' is not a number from %llu to %llu", what,
		               STR_ARG(text), (unsigned long long)min, (unsigned long long)max);
	return 0;
}

static int parse_value(struct str text, enum value kind, struct fault *out, struct err *err)
{
	switch (kind) {
	case VALUE_OFFSET:
		return parse_offset(text, out, err);
	case VALUE_STATUS:
		return parse_number(text, 200, 599, "status", &out->value, err);
	default:
		return parse_number(text, 1, MS_MAX, "time in ms", &out->value, err);
	}
}

static int parse_action(struct str word, struct fault *out, struct err *err)
{
	struct str value = word;
	struct str name;
	bool has_value;

	str_split(&value, '=', &name);
	has_value = name.n < word.n;
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		if (!str_eqc(name, actions[i].name))
			continue;
		out->action = actions[i].action;
		if (has_value && actions[i].value == VALUE_NONE)
			return err_set(err, ERR_INVALID, "fault: '%s' takes no value", actions[i].name);
		if (!has_value && (actions[i].value == VALUE_OFFSET || actions[i].value == VALUE_STATUS))
			return err_set(err, ERR_INVALID, "fault: '%s' needs a value", actions[i].name);
		return has_value ? parse_value(value, actions[i].value, out, err) : 0;
	}
	return err_set(err, ERR_INVALID,
	               "fault: no action '" STR_FMT "' (stall[=], reset, truncate=, flip=, status=, norange)",
	               STR_ARG(name));
}

static int parse_condition(struct str word, struct fault_rule *r, struct err *err)
{
	struct str value = word;
	uint64_t ms;

	if (str_skip(&value, STR("every=")))
		return parse_number(value, 1, UINT32_MAX, "every", &r->every, err);
	if (str_skip(&value, STR("from="))) {
		TRY(parse_number(value, 0, MS_MAX, "from", &ms, err));
		r->from_ns = (int64_t)ms * NS_PER_MS;
		return 0;
	}
	if (str_skip(&value, STR("for="))) {
		TRY(parse_number(value, 1, MS_MAX, "for", &ms, err));
		r->to_ns = (int64_t)ms * NS_PER_MS;
		return 0;
	}
	if (str_eqc(word, "all") || (str_u64(word, 10, &r->left) && r->left))
		return 0;
	return err_set(err, ERR_INVALID,
	               "fault: '" STR_FMT "' is not a positive number, 'all', every=N, from=MS or for=MS",
	               STR_ARG(word));
}

/* "3,every=2,from=100,for=50": to_ns, which was read as a length, becomes the end. */
static int parse_when(struct str when, struct fault_rule *r, struct err *err)
{
	struct str word;

	*r = (struct fault_rule){.fault = r->fault, .left = UINT64_MAX, .every = 1};
	while (str_split(&when, ',', &word))
		TRY(parse_condition(word, r, err));
	r->to_ns = r->to_ns ? r->from_ns + r->to_ns : INT64_MAX;
	return 0;
}

int fault_rules_add(struct fault_rules *f, struct str line, struct err *err)
{
	struct str rest = str_trim(line);
	struct str spec = rest;
	struct fault_rule r = {0};
	struct str action, when;

	if (f->rules.n >= RULES_MAX)
		return err_set(err, ERR_EXHAUSTED, "fault: more than %d rules", RULES_MAX);
	if (!str_split(&rest, ' ', &action) || !str_split(&rest, ' ', &when) || !rest.n)
		return err_set(err, ERR_INVALID, "fault: '" STR_FMT "' is not ACTION[=ARG] WHEN TEXT", STR_ARG(spec));
	TRY(parse_action(action, &r.fault, err));
	TRY(parse_when(when, &r, err));
	r.spec = xstrndup(spec.p, spec.n);
	r.text = xstrndup(rest.p, rest.n);
	vec_push(&f->rules, r);
	return 0;
}

static bool contains(struct str s, const char *text)
{
	return memmem(s.p, s.n, text, strlen(text)) != NULL;
}

void fault_rules_rewind(struct fault_rules *f)
{
	vec_each(&f->rules, r)
		r->seen = 0;
}

struct fault fault_rules_match(struct fault_rules *f, struct str description, int64_t elapsed_ns)
{
	vec_each(&f->rules, r) {
		if (!r->left || elapsed_ns < r->from_ns || elapsed_ns >= r->to_ns || !contains(description, r->text))
			continue;
		if (++r->seen % r->every)
			continue;
		if (r->left != UINT64_MAX)
			r->left--;
		r->hits++;
		return r->fault;
	}
	return (struct fault){0};
}

void fault_rules_write(const struct fault_rules *f, struct json_writer *w)
{
	json_w_array_begin(w);
	vec_each(&f->rules, r) {
		json_w_object_begin(w);
		json_w_kcstr(w, "rule", r->spec);
		json_w_ki64(w, "hits", (int64_t)r->hits);
		json_w_key(w, "left");
		if (r->left == UINT64_MAX)
			json_w_cstr(w, "all");
		else
			json_w_u64(w, r->left);
		json_w_object_end(w);
	}
	json_w_array_end(w);
}

uint64_t fault_offset(const struct fault *f, int64_t length)
{
	if (f->action != FAULT_TRUNCATE && f->action != FAULT_FLIP)
		return UINT64_MAX;
	if (!f->percent)
		return f->value;
	if (length < 0)
		return UINT64_MAX;
	/* 100 % is the last byte. */
	if (f->value == 100 && length > 0 && f->action == FAULT_FLIP)
		return (uint64_t)length - 1;
	return (uint64_t)length / 100 * f->value + (uint64_t)length % 100 * f->value / 100;
}
