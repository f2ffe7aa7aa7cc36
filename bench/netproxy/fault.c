#include "bench/netproxy/fault.h"

#define RULES_MAX 1024

static const struct {
	const char *name;
	enum fault_action action;
	bool takes_value;
} actions[] = {
    {"stall", FAULT_STALL, false}, {"reset", FAULT_RESET, false},  {"truncate", FAULT_TRUNCATE, true},
    {"flip", FAULT_FLIP, true},    {"status", FAULT_STATUS, true}, {"norange", FAULT_NORANGE, false},
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

static int parse_value(struct str value, struct fault *out, struct err *err)
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

static int parse_action(struct str word, struct fault *out, struct err *err)
{
	struct str value = word;
	struct str name;

	str_split(&value, '=', &name);
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		if (!str_eqc(name, actions[i].name))
			continue;
		out->action = actions[i].action;
		if (actions[i].takes_value != (name.n < word.n))
			return err_set(err, ERR_INVALID, "fault: '%s' %s a value", actions[i].name,
			               actions[i].takes_value ? "needs" : "takes no");
		if (!actions[i].takes_value)
			return 0;
		TRY(parse_value(value, out, err));
		if (out->action == FAULT_STATUS && (out->percent || out->value < 200 || out->value > 599))
			return err_set(err, ERR_INVALID, "fault: a status is a number from 200 to 599");
		return 0;
	}
	return err_set(err, ERR_INVALID,
	               "fault: no action '" STR_FMT "' (stall, reset, truncate=, flip=, status=, norange)",
	               STR_ARG(name));
}

int fault_rules_add(struct fault_rules *f, struct str line, struct err *err)
{
	struct str rest = str_trim(line);
	struct str spec = rest;
	struct fault_rule r = {0};
	struct str action, count;

	if (f->rules.n >= RULES_MAX)
		return err_set(err, ERR_EXHAUSTED, "fault: more than %d rules", RULES_MAX);
	if (!str_split(&rest, ' ', &action) || !str_split(&rest, ' ', &count) || !rest.n)
		return err_set(err, ERR_INVALID, "fault: '" STR_FMT "' is not ACTION[=ARG] COUNT TEXT", STR_ARG(spec));
	TRY(parse_action(action, &r.fault, err));
	r.left = UINT64_MAX;
	if (!str_eqc(count, "all") && (!str_u64(count, 10, &r.left) || !r.left))
		return err_set(err, ERR_INVALID, "fault: count '" STR_FMT "' is neither a positive number nor 'all'",
		               STR_ARG(count));
	r.spec = xstrndup(spec.p, spec.n);
	r.text = xstrndup(rest.p, rest.n);
	vec_push(&f->rules, r);
	return 0;
}

static bool contains(struct str s, const char *text)
{
	return memmem(s.p, s.n, text, strlen(text)) != NULL;
}

struct fault fault_rules_match(struct fault_rules *f, struct str description)
{
	vec_each(&f->rules, r) {
		if (!r->left || !contains(description, r->text))
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
