/* WWW-Authenticate: RFC 9110, sections 11.2, 11.3 and 11.6.1. */
#include "registry/auth.h"

static bool is_token_char(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token68_char(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c && strchr("-._~+/", c));
}

static void skip_chars(struct str *s, const char *set)
{
	while (s->n && s->p[0] && strchr(set, s->p[0]))
		*s = str_sub(*s, 1, SIZE_MAX);
}

static struct str take_token(struct str *s)
{
	struct str token = {s->p, 0};

	while (token.n < s->n && is_token_char(s->p[token.n]))
		token.n++;
	*s = str_sub(*s, token.n, SIZE_MAX);
	return token;
}

/* Credentials in one lump ("Negotiate YII…=="), which nobody here wants: consumed when that is what follows. */
static void skip_token68(struct str *s)
{
	struct str rest = *s;

	while (rest.n && is_token68_char(rest.p[0]))
		rest = str_sub(rest, 1, SIZE_MAX);
	skip_chars(&rest, "=");
	skip_chars(&rest, " \t");
	if (rest.n == 0 || rest.p[0] == ',')
		*s = rest;
}

/* A token or a quoted string, unescaped into c->text; false on junk. */
static bool take_value(struct reg_challenges *c, struct str *s, struct str *out)
{
	char *start = c->text.p + c->text.n;

	if (!s->n || s->p[0] != '"') {
		struct str token = take_token(s);

		buf_addstr(&c->text, token);
		*out = str_make(start, token.n);
		return token.n > 0;
	}
	*s = str_sub(*s, 1, SIZE_MAX);
	for (size_t n = 0; s->n; n++) {
		char ch = s->p[0];

		*s = str_sub(*s, 1, SIZE_MAX);
		if (ch == '"') {
			*out = str_make(start, n);
			return true;
		}
		if (ch == '\\') {
			if (!s->n)
				return false;
			ch = s->p[0];
			*s = str_sub(*s, 1, SIZE_MAX);
		}
		buf_addc(&c->text, ch);
	}
	return false;
}

static void set_parameter(struct reg_challenge *ch, struct str name, struct str value)
{
	if (str_ieq(name, STR("realm")))
		ch->realm = value;
	else if (str_ieq(name, STR("service")))
		ch->service = value;
	else if (str_ieq(name, STR("scope")))
		ch->scope = value;
	else if (str_ieq(name, STR("error")))
		ch->error = value;
}

void reg_challenges_parse(struct reg_challenges *c, struct str s)
{
	struct reg_challenge *ch = NULL;

	/* One allocation for all, so that views never move; unescaping does not lengthen. */
	if (!c->text.p)
		buf_reserve(&c->text, REG_CHALLENGE_BYTES_MAX);
	if (s.n > REG_CHALLENGE_BYTES_MAX - c->text.n)
		return;

	while (skip_chars(&s, ", \t"), s.n) {
		struct str token = take_token(&s), rest = s, value;

		if (!token.n)
			return;
		skip_chars(&rest, " \t");
		if (ch && rest.n && rest.p[0] == '=') {
			s = str_sub(rest, 1, SIZE_MAX);
			skip_chars(&s, " \t");
			if (!take_value(c, &s, &value))
				return;
			set_parameter(ch, token, value);
			continue;
		}
		if (c->n == REG_CHALLENGES_MAX)
			return;
		ch = &c->v[c->n++];
		*ch = (struct reg_challenge){
		    .scheme = str_ieq(token, STR("bearer"))  ? REG_AUTH_BEARER
		              : str_ieq(token, STR("basic")) ? REG_AUTH_BASIC
		                                             : REG_AUTH_OTHER,
		};
		s = rest;
		skip_token68(&s);
	}
}

const struct reg_challenge *reg_challenges_choose(const struct reg_challenges *c)
{
	const struct reg_challenge *basic = NULL;

	for (unsigned i = 0; i < c->n; i++) {
		if (c->v[i].scheme == REG_AUTH_BEARER && c->v[i].realm.n)
			return &c->v[i];
		if (c->v[i].scheme == REG_AUTH_BASIC && !basic)
			basic = &c->v[i];
	}
	return basic;
}

void reg_challenges_fini(struct reg_challenges *c)
{
	buf_fini(&c->text);
	c->n = 0;
}
