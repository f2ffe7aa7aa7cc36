#include "contentd/filter/filter.h"

#include "base/vec.h"
#include "contentd/filter/regex.h"

enum filter_op { OP_PRESENT, OP_EQUAL, OP_NOT_EQUAL, OP_MATCHES };

struct selector {
	VEC(struct str) path; /* pieces are owned: str_dup */
	enum filter_op op;
	struct buf value;
	struct cd_regex *regex; /* OP_MATCHES; NULL: broken, matches nothing */
};

struct clause {
	VEC(struct selector) selectors; /* all must hold */
};

struct cd_filter {
	VEC(struct clause) clauses; /* any must hold; none: everything */
};

struct parser {
	struct str in;
	size_t at;
	struct err *err;
};

static void selector_fini(struct selector *s)
{
	vec_each(&s->path, piece)
		free((char *)piece->p);
	vec_fini(&s->path);
	buf_fini(&s->value);
	cd_regex_free(s->regex);
}

void cd_filter_free(struct cd_filter *f)
{
	if (!f)
		return;
	vec_each(&f->clauses, c) {
		vec_each(&c->selectors, s)
			selector_fini(s);
		vec_fini(&c->selectors);
	}
	vec_fini(&f->clauses);
	free(f);
}

/* ---- parsing ---- */

static int fail(struct parser *p, const char *why)
{
	return err_set(p->err, ERR_INVALID, "filter \"" STR_FMT "\" at %zu: %s", STR_ARG(p->in), p->at, why);
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_field_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

/* The next character that is not white space, or NUL at the end. */
static char peek(struct parser *p)
{
	while (p->at < p->in.n && is_space(p->in.p[p->at]))
		p->at++;
	return p->at < p->in.n ? p->in.p[p->at] : '\0';
}

static void add_utf8(struct buf *b, uint32_t r)
{
	if (r > 0x10ffff || (r >= 0xd800 && r < 0xe000))
		r = 0xfffd;
	if (r < 0x80)
		buf_addc(b, (char)r);
	else if (r < 0x800) {
		buf_addc(b, (char)(0xc0 | r >> 6));
		buf_addc(b, (char)(0x80 | (r & 0x3f)));
	} else if (r < 0x10000) {
		buf_addc(b, (char)(0xe0 | r >> 12));
		buf_addc(b, (char)(0x80 | (r >> 6 & 0x3f)));
		buf_addc(b, (char)(0x80 | (r & 0x3f)));
	} else {
		buf_addc(b, (char)(0xf0 | r >> 18));
		buf_addc(b, (char)(0x80 | (r >> 12 & 0x3f)));
		buf_addc(b, (char)(0x80 | (r >> 6 & 0x3f)));
		buf_addc(b, (char)(0x80 | (r & 0x3f)));
	}
}

/* n digits of a numeric escape. */
static int parse_number(struct parser *p, int base, unsigned n, uint64_t *out)
{
	struct str digits = str_sub(p->in, p->at, n);

	*out = 0;
	for (size_t i = 0; i < digits.n; i++) {
		char c = digits.p[i];
		int v = c >= '0' && c <= '9'                     ? c - '0'
		        : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
		                                                 : 99;

		if (v >= base)
			return fail(p, "bad digit in escape");
		*out = *out * (uint64_t)base + (uint64_t)v;
	}
	if (digits.n < n)
		return fail(p, "escape is cut short");
	p->at += n;
	return 0;
}

/* After a backslash. \x and octal give a byte, \u and \U a character, as in Go. */
static int parse_escape(struct parser *p, char quote, struct buf *out)
{
	static const char names[] = "a\ab\bf\fn\nr\rt\tv\v\\\\";
	char c = p->at < p->in.n ? p->in.p[p->at] : '\0';
	uint64_t v;

	for (size_t i = 0; i + 1 < sizeof(names); i += 2)
		if (names[i] == c) {
			p->at++;
			buf_addc(out, names[i + 1]);
			return 0;
		}
	if (c == quote) {
		p->at++;
		buf_addc(out, c);
		return 0;
	}
	if (c >= '0' && c <= '7') {
		TRY(parse_number(p, 8, 3, &v));
		if (v > 0xff)
			return fail(p, "octal escape is out of range");
		buf_addc(out, (char)v);
		return 0;
	}
	if (c != 'x' && c != 'u' && c != 'U')
		return fail(p, "unknown escape");
	p->at++;
	TRY(parse_number(p, 16, c == 'x' ? 2 : c == 'u' ? 4 : 8, &v));
	if (c == 'x')
		buf_addc(out, (char)v);
	else if (v > 0x10ffff)
		return fail(p, "escape is out of range");
	else
		add_utf8(out, (uint32_t)v);
	return 0;
}

/* At the opening quote. */
static int parse_quoted(struct parser *p, struct buf *out)
{
	char quote = p->in.p[p->at++];

	while (p->at < p->in.n) {
		char c = p->in.p[p->at++];

		if (c == quote)
			return 0;
		if (c == '\n')
			return fail(p, "line break in a quoted string");
		if (c == '\\')
			TRY(parse_escape(p, quote, out));
		else
			buf_addc(out, c);
	}
	return fail(p, "quoted string does not end");
}

static int parse_field(struct parser *p, struct selector *s)
{
	AUTO(buf) struct buf b = BUF_INIT;
	size_t start, n;

	if (s->path.n >= CD_FILTER_DEPTH_MAX)
		return fail(p, "too many fields in a path");
	if (peek(p) == '"')
		TRY(parse_quoted(p, &b));
	else {
		start = p->at;
		while (p->at < p->in.n && is_field_char(p->in.p[p->at]))
			p->at++;
		if (p->at == start)
			return fail(p, "a field is expected");
		buf_add(&b, p->in.p + start, p->at - start);
	}
	n = b.n;
	vec_push(&s->path, (struct str){buf_steal(&b), n});
	return 0;
}

static int parse_operator(struct parser *p, enum filter_op *op)
{
	static const char chars[] = "=!~";
	size_t start;
	struct str text;

	peek(p);
	start = p->at;
	while (p->at < p->in.n && strchr(chars, p->in.p[p->at]) && p->in.p[p->at])
		p->at++;
	text = str_sub(p->in, start, p->at - start);
	if (str_eqc(text, "=="))
		*op = OP_EQUAL;
	else if (str_eqc(text, "!="))
		*op = OP_NOT_EQUAL;
	else if (str_eqc(text, "~="))
		*op = OP_MATCHES;
	else
		return fail(p, text.n ? "unknown operator" : "an operator, a comma or the end is expected");
	return 0;
}

static int parse_value(struct parser *p, struct selector *s)
{
	char c = peek(p);
	size_t start = p->at;

	if (c == '"' || (s->op == OP_MATCHES && (c == '/' || c == '|')))
		return parse_quoted(p, &s->value);
	if (c == '/' || c == '|')
		return fail(p, "only an expression can stand between such quotes");
	while (p->at < p->in.n && (uint8_t)p->in.p[p->at] > ' ' && p->in.p[p->at] != ',' && p->in.p[p->at] != 0x7f)
		p->at++;
	if (p->at == start)
		return fail(p, "a value is expected");
	buf_add(&s->value, p->in.p + start, p->at - start);
	return 0;
}

/* What directly follows: white space may stand before tokens, but not at the end of a path or a value. */
static char here(const struct parser *p)
{
	return p->at < p->in.n ? p->in.p[p->at] : '\0';
}

static int parse_selector(struct parser *p, struct selector *s)
{
	TRY(parse_field(p, s));
	while (here(p) == '.') {
		p->at++;
		TRY(parse_field(p, s));
	}
	if (p->at == p->in.n || here(p) == ',')
		return 0;
	TRY(parse_operator(p, &s->op));
	TRY(parse_value(p, s));
	if (s->op == OP_MATCHES)
		cd_regex_new(buf_str(&s->value), &s->regex, NULL); /* a broken one stays NULL */
	return 0;
}

static int parse_clause(struct str text, struct clause *c, struct err *err)
{
	struct parser p = {.in = text, .err = err};

	if (text.n == 0)
		return 0;
	do {
		TRY(parse_selector(&p, vec_add(&c->selectors)));
	} while (here(&p) == ',' && ++p.at);
	if (p.at < p.in.n)
		return fail(&p, "comma or end is expected");
	return 0;
}

int cd_filter_new(const char *const *texts, size_t n, struct cd_filter **out, struct err *err)
{
	AUTO(cd_filter) struct cd_filter *f = xcalloc(1, sizeof(*f));

	for (size_t i = 0; i < n; i++)
		TRY(parse_clause(str_of(texts[i]), vec_add(&f->clauses), err));
	*out = STEAL(f);
	return 0;
}

/* ---- matching ---- */

static bool selector_match(const struct selector *s, cd_filter_field field, const void *object)
{
	struct str value = STR_NONE;
	bool present = field(object, s->path.p, s->path.n, &value);

	switch (s->op) {
	case OP_PRESENT:
		return present;
	case OP_EQUAL:
		return present && str_eq(value, buf_str(&s->value));
	case OP_NOT_EQUAL:
		return !present || !str_eq(value, buf_str(&s->value));
	case OP_MATCHES:
		return s->regex && cd_regex_search(s->regex, present ? value : STR_NONE);
	}
	return false;
}

bool cd_filter_match(const struct cd_filter *f, cd_filter_field field, const void *object)
{
	if (f->clauses.n == 0)
		return true;
	vec_each(&f->clauses, c) {
		bool all = true;

		vec_each(&c->selectors, s)
			all = all && selector_match(s, field, object);
		if (all)
			return true;
	}
	return false;
}
