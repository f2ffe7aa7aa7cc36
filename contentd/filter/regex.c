/*
 * A recursive descent parser emits the program of a Thompson machine directly; search runs all its threads side by
 * side, so no expression can make it backtrack. x{n,m} repeats the code of x, within STEPS_MAX.
 */
#include "contentd/filter/regex.h"

#include "base/vec.h"

#define STEPS_MAX 4096
#define DEPTH_MAX 100
#define REPEAT_MAX 1000 /* as in RE2 */
#define RUNE_MAX 0x10ffff

enum op { OP_CLASS, OP_SPLIT, OP_JUMP, OP_ASSERT, OP_MATCH };
enum assertion { AT_TEXT_BEGIN, AT_TEXT_END, AT_LINE_BEGIN, AT_LINE_END, AT_WORD, AT_NOT_WORD };

struct step {
	enum op op;
	uint32_t a, b; /* targets relative to this step; CLASS: first range and their number; ASSERT: which */
};

struct range {
	uint32_t lo, hi;
};

struct cd_regex {
	VEC(struct step) steps;
	VEC(struct range) ranges;
};

struct parser {
	struct cd_regex *re;
	struct str in;
	size_t at;
	unsigned depth;
	bool icase, dot_all, multi_line;
	struct err *err;
};

/* ---- text ---- */

static uint32_t rune_next(struct str s, size_t *at)
{
	const uint8_t *p = (const uint8_t *)s.p + *at;
	size_t left = s.n - *at, n;
	uint32_t r;

	if (p[0] < 0x80) {
		*at += 1;
		return p[0];
	}
	n = p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;
	if (!n || n > left || p[0] >= 0xf5) {
		*at += 1;
		return 0xfffd;
	}
	r = p[0] & (0x7f >> n);
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80) {
			*at += 1;
			return 0xfffd;
		}
		r = r << 6 | (p[i] & 0x3f);
	}
	*at += n;
	return r;
}

static bool is_word(uint32_t r)
{
	return (r >= '0' && r <= '9') || (r >= 'A' && r <= 'Z') || (r >= 'a' && r <= 'z') || r == '_';
}

/* ---- building ---- */

static int fail(struct parser *p, const char *why)
{
	return err_set(p->err, ERR_INVALID, "regular expression " STR_FMT ": %s", STR_ARG(p->in), why);
}

static int emit(struct parser *p, enum op op, uint32_t a, uint32_t b)
{
	if (p->re->steps.n >= STEPS_MAX)
		return fail(p, "too large");
	vec_push(&p->re->steps, (struct step){op, a, b});
	return 0;
}

/* Makes room for one step at `at`; targets are relative and lie on one side of it, so nothing needs mending. */
static int insert(struct parser *p, size_t at, enum op op, uint32_t a, uint32_t b)
{
	TRY(emit(p, op, a, b));
	memmove(&p->re->steps.p[at + 1], &p->re->steps.p[at], (p->re->steps.n - 1 - at) * sizeof(struct step));
	p->re->steps.p[at] = (struct step){op, a, b};
	return 0;
}

static void add_range(struct parser *p, uint32_t lo, uint32_t hi)
{
	vec_push(&p->re->ranges, (struct range){lo, hi});
	if (!p->icase)
		return;
	for (uint32_t c = 'A'; c <= 'Z'; c++) {
		if (c >= lo && c <= hi)
			vec_push(&p->re->ranges, (struct range){c + 32, c + 32});
		if (c + 32 >= lo && c + 32 <= hi)
			vec_push(&p->re->ranges, (struct range){c, c});
	}
}

/* Replaces the ranges from `first` on by their complement. */
static void negate(struct parser *p, size_t first)
{
	VEC(struct range) out = VEC_INIT;
	uint32_t next = 0;

	for (;;) {
		const struct range *low = NULL;

		for (size_t i = first; i < p->re->ranges.n; i++) {
			const struct range *r = &p->re->ranges.p[i];

			if (r->hi >= next && (!low || r->lo < low->lo))
				low = r;
		}
		if (!low)
			break;
		if (low->lo > next)
			vec_push(&out, (struct range){next, low->lo - 1});
		next = low->hi + 1;
	}
	if (next <= RUNE_MAX)
		vec_push(&out, (struct range){next, RUNE_MAX});
	p->re->ranges.n = first;
	vec_each(&out, r)
		vec_push(&p->re->ranges, *r);
	vec_fini(&out);
}

static int emit_class(struct parser *p, size_t first)
{
	return emit(p, OP_CLASS, (uint32_t)first, (uint32_t)(p->re->ranges.n - first));
}

static int emit_rune(struct parser *p, uint32_t r)
{
	size_t first = p->re->ranges.n;

	add_range(p, r, r);
	return emit_class(p, first);
}

/* ---- parsing ---- */

static bool more(const struct parser *p)
{
	return p->at < p->in.n;
}

static char peek(const struct parser *p)
{
	return more(p) ? p->in.p[p->at] : '\0';
}

static bool accept(struct parser *p, const char *text)
{
	if (!str_starts(str_sub(p->in, p->at, SIZE_MAX), str_of(text)))
		return false;
	p->at += strlen(text);
	return true;
}

/* \d \s \w and their negations; false when c is none of them. */
static bool perl_class(struct parser *p, char c)
{
	size_t first = p->re->ranges.n;

	switch (c | 0x20) {
	case 'd':
		add_range(p, '0', '9');
		break;
	case 's':
		add_range(p, '\t', '\n');
		add_range(p, '\f', '\r');
		add_range(p, ' ', ' ');
		break;
	case 'w':
		add_range(p, '0', '9');
		add_range(p, 'A', 'Z');
		add_range(p, 'a', 'z');
		add_range(p, '_', '_');
		break;
	default:
		return false;
	}
	if (!(c & 0x20))
		negate(p, first);
	return true;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	                              : -1;
}

static int parse_hex(struct parser *p, uint32_t *out)
{
	bool braces = accept(p, "{");
	unsigned n = 0;

	for (*out = 0; more(p) && hex_digit(peek(p)) >= 0 && n < (braces ? 8 : 2); n++)
		*out = *out << 4 | (uint32_t)hex_digit(p->in.p[p->at++]);
	if (!n || (!braces && n != 2) || *out > RUNE_MAX || (braces && !accept(p, "}")))
		return fail(p, "bad \\x escape");
	return 0;
}

/* The rune of an escape whose backslash is consumed. */
static int parse_escape(struct parser *p, uint32_t *out)
{
	static const char names[] = "a\af\fn\nr\rt\tv\v";
	char c = peek(p);

	if (!more(p))
		return fail(p, "ends in a backslash");
	p->at++;
	for (size_t i = 0; i + 1 < sizeof(names); i += 2)
		if (names[i] == c) {
			*out = (uint32_t)names[i + 1];
			return 0;
		}
	if (c == 'x')
		return parse_hex(p, out);
	if (c == '0' || (c >= '1' && c <= '7' && peek(p) >= '0' && peek(p) <= '7')) {
		*out = (uint32_t)(c - '0');
		for (int i = 0; i < 2 && peek(p) >= '0' && peek(p) <= '7'; i++)
			*out = *out * 8 + (uint32_t)(p->in.p[p->at++] - '0');
		return 0;
	}
	if ((uint8_t)c < 0x80 && !is_word((uint8_t)c)) {
		*out = (uint8_t)c;
		return 0;
	}
	return fail(p, "unknown escape");
}

static int parse_named_class(struct parser *p)
{
	static const struct {
		const char *name;
		struct range r[4];
	} classes[] = {
	    {"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}},
	    {"alpha", {{'A', 'Z'}, {'a', 'z'}}},
	    {"ascii", {{0, 0x7f}}},
	    {"blank", {{'\t', '\t'}, {' ', ' '}}},
	    {"cntrl", {{0, 0x1f}, {0x7f, 0x7f}}},
	    {"digit", {{'0', '9'}}},
	    {"graph", {{'!', '~'}}},
	    {"lower", {{'a', 'z'}}},
	    {"print", {{' ', '~'}}},
	    {"punct", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}},
	    {"space", {{'\t', '\r'}, {' ', ' '}}},
	    {"upper", {{'A', 'Z'}}},
	    {"word", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}, {'_', '_'}}},
	    {"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}},
	};
	bool negated = accept(p, "^");
	size_t first = p->re->ranges.n;

	for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
		size_t n = strlen(classes[i].name);

		if (!str_starts(str_sub(p->in, p->at, SIZE_MAX), str_of(classes[i].name)) ||
		    !str_starts(str_sub(p->in, p->at + n, SIZE_MAX), STR(":]")))
			continue;
		p->at += n + 2;
		for (size_t k = 0; k < 4 && (classes[i].r[k].hi || !k); k++)
			add_range(p, classes[i].r[k].lo, classes[i].r[k].hi);
		if (negated)
			negate(p, first);
		return 0;
	}
	return fail(p, "unknown class name");
}

static int parse_class_rune(struct parser *p, uint32_t *out)
{
	if (!more(p))
		return fail(p, "missing ]");
	if (accept(p, "\\"))
		return parse_escape(p, out);
	*out = rune_next(p->in, &p->at);
	return 0;
}

/* After "[". */
static int parse_class(struct parser *p)
{
	bool negated = accept(p, "^");
	size_t first = p->re->ranges.n, start = p->at;

	while (p->at == start || peek(p) != ']') {
		uint32_t lo, hi;

		if (!more(p))
			return fail(p, "missing ]");
		if (accept(p, "[:")) {
			TRY(parse_named_class(p));
			continue;
		}
		if (peek(p) == '\\' && p->at + 1 < p->in.n && perl_class(p, p->in.p[p->at + 1])) {
			p->at += 2;
			continue;
		}
		TRY(parse_class_rune(p, &lo));
		hi = lo;
		if (peek(p) == '-' && p->at + 1 < p->in.n && p->in.p[p->at + 1] != ']') {
			p->at++;
			TRY(parse_class_rune(p, &hi));
		}
		if (hi < lo)
			return fail(p, "range out of order");
		add_range(p, lo, hi);
		if (p->re->ranges.n > 16 * STEPS_MAX)
			return fail(p, "too large");
	}
	p->at++;
	if (negated)
		negate(p, first);
	return emit_class(p, first);
}

static int parse_alternatives(struct parser *p);

/* After "(?": flags, a name, or nothing. *group is false when it was only flags for what follows. */
static int parse_group_head(struct parser *p, bool *group)
{
	bool off = false;

	*group = true;
	if (accept(p, "P<") || accept(p, "<")) {
		size_t start = p->at;

		while (more(p) && is_word((uint8_t)peek(p)))
			p->at++;
		return p->at > start && accept(p, ">") ? 0 : fail(p, "bad group name");
	}
	for (; more(p); p->at++) {
		switch (peek(p)) {
		case 'i':
			p->icase = !off;
			break;
		case 's':
			p->dot_all = !off;
			break;
		case 'm':
			p->multi_line = !off;
			break;
		case 'U': /* swaps greedy and lazy: no difference here */
			break;
		case '-':
			if (off)
				return fail(p, "bad flags");
			off = true;
			break;
		case ':':
			p->at++;
			return 0;
		case ')':
			p->at++;
			*group = false;
			return 0;
		default:
			return fail(p, "bad flags");
		}
	}
	return fail(p, "missing )");
}

/* After "(". */
static int parse_group(struct parser *p)
{
	bool icase = p->icase, dot_all = p->dot_all, multi_line = p->multi_line, group = true;

	if (++p->depth > DEPTH_MAX)
		return fail(p, "nested too deep");
	if (accept(p, "?"))
		TRY(parse_group_head(p, &group));
	if (group) {
		TRY(parse_alternatives(p));
		if (!accept(p, ")"))
			return fail(p, "missing )");
		p->icase = icase;
		p->dot_all = dot_all;
		p->multi_line = multi_line;
	}
	p->depth--;
	return 0;
}

/* A backslash outside of a class, consumed. */
static int parse_backslash(struct parser *p)
{
	static const struct {
		char c;
		enum assertion at;
	} assertions[] = {{'A', AT_TEXT_BEGIN}, {'z', AT_TEXT_END}, {'b', AT_WORD}, {'B', AT_NOT_WORD}};
	size_t first = p->re->ranges.n;
	uint32_t r;

	for (size_t i = 0; more(p) && i < ARRAY_LEN(assertions); i++)
		if (peek(p) == assertions[i].c) {
			p->at++;
			return emit(p, OP_ASSERT, assertions[i].at, 0);
		}
	if (more(p) && perl_class(p, peek(p))) {
		p->at++;
		return emit_class(p, first);
	}
	if (accept(p, "Q")) {
		while (more(p) && !accept(p, "\\E"))
			TRY(emit_rune(p, rune_next(p->in, &p->at)));
		return 0;
	}
	TRY(parse_escape(p, &r));
	return emit_rune(p, r);
}

static int parse_atom(struct parser *p)
{
	size_t first = p->re->ranges.n;

	if (accept(p, "("))
		return parse_group(p);
	if (accept(p, "["))
		return parse_class(p);
	if (accept(p, "\\"))
		return parse_backslash(p);
	if (accept(p, "^"))
		return emit(p, OP_ASSERT, p->multi_line ? AT_LINE_BEGIN : AT_TEXT_BEGIN, 0);
	if (accept(p, "$"))
		return emit(p, OP_ASSERT, p->multi_line ? AT_LINE_END : AT_TEXT_END, 0);
	if (accept(p, ".")) {
		if (p->dot_all)
			vec_push(&p->re->ranges, (struct range){0, RUNE_MAX});
		else {
			vec_push(&p->re->ranges, (struct range){0, '\n' - 1});
			vec_push(&p->re->ranges, (struct range){'\n' + 1, RUNE_MAX});
		}
		return emit_class(p, first);
	}
	if (strchr("*+?", peek(p)))
		return fail(p, "nothing to repeat");
	return emit_rune(p, rune_next(p->in, &p->at));
}

/* "{n}", "{n,}", "{n,m}"; anything else is a literal brace: false, nothing consumed. max is -1 for no end. */
static bool parse_counts(struct parser *p, int *min, int *max)
{
	size_t at = p->at;
	int v[2] = {-1, -1};
	bool comma = false;

	if (!accept(p, "{"))
		return false;
	for (; more(p) && peek(p) != '}'; p->at++) {
		char c = peek(p);
		int *n = &v[comma];

		if (c == ',' && !comma)
			comma = true;
		else if (c >= '0' && c <= '9' && *n < 100000)
			*n = (*n < 0 ? 0 : *n) * 10 + c - '0';
		else
			break;
	}
	if (v[0] < 0 || !accept(p, "}")) {
		p->at = at;
		return false;
	}
	*min = v[0];
	*max = comma ? v[1] : v[0];
	return true;
}

/* Appends a copy of steps [from, to). */
static int copy_steps(struct parser *p, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		TRY(emit(p, p->re->steps.p[i].op, p->re->steps.p[i].a, p->re->steps.p[i].b));
	return 0;
}

/* Makes [from, end) match min to max times. */
static int repeat(struct parser *p, size_t from, int min, int max)
{
	size_t n = p->re->steps.n - from;

	if (min > REPEAT_MAX || max > REPEAT_MAX || (max >= 0 && max < min))
		return fail(p, "bad repeat count");
	if (n == 0)
		return 0; /* nothing, any number of times */
	if (max == 0) {
		p->re->steps.n = from;
		return 0;
	}
	for (int i = 1; i < min; i++)
		TRY(copy_steps(p, from, from + n));
	if (max < 0 && min > 0) /* x+: back over the last copy */
		return emit(p, OP_SPLIT, (uint32_t) - (int32_t)n, 1);
	if (max < 0) { /* x*: skip or enter, and come back */
		TRY(insert(p, from, OP_SPLIT, 1, (uint32_t)n + 2));
		return emit(p, OP_JUMP, (uint32_t) - (int32_t)(n + 1), 0);
	}
	if (min == 0) { /* the first one becomes optional; `from` moves with it */
		TRY(insert(p, from, OP_SPLIT, 1, (uint32_t)n + 1));
		from++;
		min = 1;
	}
	for (int i = min; i < max; i++) {
		TRY(emit(p, OP_SPLIT, 1, (uint32_t)n + 1));
		TRY(copy_steps(p, from, from + n));
	}
	return 0;
}

/* One of * + ? {n,m}, consumed; false when there is none. max is -1 for no end. */
static bool parse_repeat(struct parser *p, int *min, int *max)
{
	static const struct {
		const char *text;
		int min, max;
	} operators[] = {{"*", 0, -1}, {"+", 1, -1}, {"?", 0, 1}};

	for (size_t i = 0; i < ARRAY_LEN(operators); i++)
		if (accept(p, operators[i].text)) {
			*min = operators[i].min;
			*max = operators[i].max;
			return true;
		}
	return parse_counts(p, min, max);
}

static int parse_repeated(struct parser *p)
{
	size_t from = p->re->steps.n;
	int min, max;

	TRY(parse_atom(p));
	if (!parse_repeat(p, &min, &max))
		return 0;
	accept(p, "?"); /* lazy */
	TRY(repeat(p, from, min, max));
	return parse_repeat(p, &min, &max) ? fail(p, "repeats a repeat") : 0;
}

static int parse_alternatives(struct parser *p)
{
	VEC(size_t) exits = VEC_INIT;
	size_t from = p->re->steps.n;
	int r = 0;

	for (;;) {
		while (r >= 0 && more(p) && peek(p) != '|' && peek(p) != ')')
			r = parse_repeated(p);
		if (r < 0 || !accept(p, "|"))
			break;
		/* split here or behind; leave for the end, whose place is set below */
		r = insert(p, from, OP_SPLIT, 1, (uint32_t)(p->re->steps.n - from) + 2);
		if (r >= 0)
			r = emit(p, OP_JUMP, 0, 0);
		if (r < 0)
			break;
		vec_push(&exits, p->re->steps.n - 1);
		from = p->re->steps.n;
	}
	vec_each(&exits, at)
		p->re->steps.p[*at].a = (uint32_t)(p->re->steps.n - *at);
	vec_fini(&exits);
	return r < 0 ? r : 0;
}

int cd_regex_new(struct str pattern, struct cd_regex **out, struct err *err)
{
	AUTO(cd_regex) struct cd_regex *re = xcalloc(1, sizeof(*re));
	struct parser p = {.re = re, .in = pattern, .err = err};

	TRY(parse_alternatives(&p));
	if (more(&p))
		return fail(&p, "unexpected )");
	/* OP_MATCH is always there: the last step may exceed STEPS_MAX by one. */
	vec_push(&re->steps, (struct step){OP_MATCH, 0, 0});
	*out = STEAL(re);
	return 0;
}

void cd_regex_free(struct cd_regex *re)
{
	if (!re)
		return;
	vec_fini(&re->steps);
	vec_fini(&re->ranges);
	free(re);
}

/* ---- searching ---- */

/* A set of program positions with constant-time membership. */
struct threads {
	uint32_t *list, *mark; /* mark[pc] == generation: in the list */
	size_t n;
};

struct run {
	const struct cd_regex *re;
	struct threads now, next;
	uint32_t *stack;
	uint32_t generation;
};

struct place {
	bool at_begin, at_end;
	uint32_t before, after; /* runes; valid when not at_begin, at_end */
};

static bool holds(enum assertion a, const struct place *at)
{
	bool word = (!at->at_begin && is_word(at->before)) != (!at->at_end && is_word(at->after));

	switch (a) {
	case AT_TEXT_BEGIN:
		return at->at_begin;
	case AT_TEXT_END:
		return at->at_end;
	case AT_LINE_BEGIN:
		return at->at_begin || at->before == '\n';
	case AT_LINE_END:
		return at->at_end || at->after == '\n';
	case AT_WORD:
		return word;
	case AT_NOT_WORD:
		return !word;
	}
	return false;
}

/* Adds pc and all that it reaches without reading; true when the end of the program is among it. */
static bool follow(struct run *r, struct threads *t, uint32_t pc, const struct place *at)
{
	size_t n = 0;

	r->stack[n++] = pc;
	while (n) {
		const struct step *s = &r->re->steps.p[pc = r->stack[--n]];

		if (t->mark[pc] == r->generation)
			continue;
		t->mark[pc] = r->generation;
		if (s->op == OP_MATCH)
			return true;
		if (s->op == OP_CLASS)
			t->list[t->n++] = pc;
		else if (s->op == OP_JUMP)
			r->stack[n++] = pc + s->a;
		else if (s->op == OP_ASSERT && holds((enum assertion)s->a, at))
			r->stack[n++] = pc + 1;
		else if (s->op == OP_SPLIT) {
			r->stack[n++] = pc + s->a;
			r->stack[n++] = pc + s->b;
		}
	}
	return false;
}

static bool class_has(const struct cd_regex *re, const struct step *s, uint32_t rune)
{
	for (uint32_t i = 0; i < s->b; i++)
		if (rune >= re->ranges.p[s->a + i].lo && rune <= re->ranges.p[s->a + i].hi)
			return true;
	return false;
}

static bool run(struct run *r, struct str text)
{
	struct place at = {.at_begin = true, .at_end = text.n == 0};
	size_t pos = 0, ahead = 0;

	if (text.n)
		at.after = rune_next(text, &ahead);
	r->generation = 1;
	for (;;) {
		struct threads swap;
		uint32_t rune = at.after;

		if (follow(r, &r->now, 0, &at)) /* a search begins anywhere */
			return true;
		if (pos >= text.n)
			return false;
		pos = ahead;
		at = (struct place){.before = rune, .at_end = pos >= text.n};
		if (!at.at_end)
			at.after = rune_next(text, &ahead);
		r->generation++;
		r->next.n = 0;
		for (size_t i = 0; i < r->now.n; i++)
			if (class_has(r->re, &r->re->steps.p[r->now.list[i]], rune) &&
			    follow(r, &r->next, r->now.list[i] + 1, &at))
				return true;
		swap = r->now;
		r->now = r->next;
		r->next = swap;
	}
}

bool cd_regex_search(const struct cd_regex *re, struct str text)
{
	size_t n = re->steps.n;
	AUTO_FREE uint32_t *memory = xcalloc(6 * n + 1, sizeof(*memory));
	struct run r = {.re = re,
	                .now = {memory, memory + n, 0},
	                .next = {memory + 2 * n, memory + 3 * n, 0},
	                .stack = memory + 4 * n};

	/* A step is pushed at most once per edge into it, and marked steps push nothing: 2 n + 1 places suffice. */
	return run(&r, text);
}
