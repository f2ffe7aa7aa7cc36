#include "contentd/config/config.h"

#include "base/file.h"
#include "contentd/config/toml.h"
#include "contentd/ident.h"
#include "contentd/ops/metrics_server.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/un.h>

#define CONFIG_BYTES_MAX (1u << 20)
/* The longest name that is put behind the address: ".ttrpc". */
#define ADDRESS_SUFFIX_BYTES 6

enum kind { TEXT, PATH, NUMBER, REAL, SWITCH, NAMES, HOSTS, NUMBERS };
enum when { START, RELOAD };

/* clang-format off */
static const struct key {
	const char *name;
	enum kind kind;
	enum when when;
	size_t offset;
	const char *fallback; /* TOML */
	const char *about;    /* lines, without "# " */
	const char *choices;  /* texts that are allowed, "|"-separated */
	double min, max;
} KEYS[] = {
#define ANY .choices = NULL
#define CHOICE(texts) .choices = texts
#define RANGE(from, to) .min = from, .max = to
#define X(kind_, field_, name_, fallback_, constraint_, when_, about_)                                                 \
	{.name = name_, .kind = kind_, .when = when_, .offset = offsetof(struct cd_config, field_),                    \
	 .fallback = fallback_, .about = about_, constraint_},
	CD_CONFIG_KEYS(X)
#undef X
#undef RANGE
#undef CHOICE
#undef ANY
};
/* clang-format on */

static void *at(const struct cd_config *c, const struct key *k)
{
	return (char *)c + k->offset;
}

static void names_clear(struct cd_names *names)
{
	vec_each(names, name)
		free(*name);
	vec_clear(names);
}

const char *cd_config_key(size_t i)
{
	return i < ARRAY_LEN(KEYS) ? KEYS[i].name : NULL;
}

const char *cd_config_key_default(size_t i)
{
	return i < ARRAY_LEN(KEYS) ? KEYS[i].fallback : NULL;
}

/* ---- one value ---- */

struct reading {
	struct cd_config *config;
	const char *name;
	struct buf *mistakes; /* or NULL */
	struct err *err;      /* the first mistake */
	bool failed;
};

static int fail(struct reading *r, const struct toml_value *v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Notes a mistake; the rest of the file is read for others. */
static int fail(struct reading *r, const struct toml_value *v, const char *fmt, ...)
{
	AUTO(buf) struct buf b = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	if (!r->failed)
		err_set(r->err, ERR_INVALID, "%s:%d: %s", r->name, v->line, buf_cstr(&b));
	if (r->mistakes)
		buf_addf(r->mistakes, "%s:%d: %s\n", r->name, v->line, buf_cstr(&b));
	r->failed = true;
	return 0;
}

static bool is_choice(const char *choices, const char *value)
{
	struct str rest = str_of(choices), one;

	while (str_split(&rest, '|', &one))
		if (str_eqc(one, value))
			return true;
	return false;
}

static int set_text(struct reading *r, const struct key *k, const struct toml_value *v)
{
	char **text = at(r->config, k);

	if (v->type != TOML_STRING)
		return fail(r, v, "%s must be a string", k->name);
	if (k->choices && !is_choice(k->choices, v->string))
		return fail(r, v, "%s is \"%s\", it must be one of %s", k->name, v->string, k->choices);
	if (k->kind == PATH && *v->string && v->string[0] != '/')
		return fail(r, v, "%s is \"%s\", it must be an absolute path", k->name, v->string);
	free(*text);
	*text = xstrdup(v->string);
	return 0;
}

static int set_names(struct reading *r, const struct key *k, const struct toml_value *v)
{
	struct cd_names *names = at(r->config, k);

	if (v->type != TOML_STRINGS || !v->n_items)
		return fail(r, v, "%s must be a list of strings, with at least one", k->name);
	for (size_t i = 0; i < v->n_items; i++)
		if (cd_ident_check("name", v->strings[i], NULL) < 0)
			return fail(r, v, "%s: \"%s\" is no identifier", k->name, v->strings[i]);
	names_clear(names);
	for (size_t i = 0; i < v->n_items; i++)
		vec_push(names, xstrdup(v->strings[i]));
	return 0;
}

/* What options of contentfs can carry as a list. */
static bool is_host(const char *s)
{
	return !strcmp(s, "*") ||
	       (*s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]") == strlen(s));
}

static int set_hosts(struct reading *r, const struct key *k, const struct toml_value *v)
{
	struct cd_names *hosts = at(r->config, k);

	if (v->type != TOML_STRINGS)
		return fail(r, v, "%s must be a list of strings", k->name);
	for (size_t i = 0; i < v->n_items; i++)
		if (!is_host(v->strings[i]))
			return fail(r, v, "%s: \"%s\" is no host[:port]", k->name, v->strings[i]);
	names_clear(hosts);
	for (size_t i = 0; i < v->n_items; i++)
		vec_push(hosts, xstrdup(v->strings[i]));
	return 0;
}

static int set_numbers(struct reading *r, const struct key *k, const struct toml_value *v)
{
	struct cd_numbers *numbers = at(r->config, k);
	bool right = v->type == TOML_INTEGERS || (v->type == TOML_STRINGS && !v->n_items);

	for (size_t i = 0; right && i < v->n_items; i++)
		right = (double)v->integers[i] >= k->min && (double)v->integers[i] <= k->max;
	if (!right)
		return fail(r, v, "%s must be a list of integers from %.0f to %.0f", k->name, k->min, k->max);
	vec_clear(numbers);
	for (size_t i = 0; i < v->n_items; i++)
		vec_push(numbers, v->integers[i]);
	return 0;
}

static int set_number(struct reading *r, const struct key *k, const struct toml_value *v)
{
	if (v->type != TOML_INTEGER || (double)v->integer < k->min || (double)v->integer > k->max)
		return fail(r, v, "%s must be an integer from %.0f to %.0f", k->name, k->min, k->max);
	*(int64_t *)at(r->config, k) = v->integer;
	return 0;
}

static int set_real(struct reading *r, const struct key *k, const struct toml_value *v)
{
	double x = v->type == TOML_INTEGER ? (double)v->integer : v->real;

	if ((v->type != TOML_REAL && v->type != TOML_INTEGER) || !(x >= k->min && x <= k->max))
		return fail(r, v, "%s must be a number from %g to %g", k->name, k->min, k->max);
	*(double *)at(r->config, k) = x;
	return 0;
}

static int set_switch(struct reading *r, const struct key *k, const struct toml_value *v)
{
	if (v->type != TOML_BOOLEAN)
		return fail(r, v, "%s must be true or false", k->name);
	*(bool *)at(r->config, k) = v->boolean;
	return 0;
}

static const struct key *find(const char *name)
{
	for (const struct key *k = KEYS; k < KEYS + ARRAY_LEN(KEYS); k++)
		if (!strcmp(k->name, name))
			return k;
	return NULL;
}

static bool is_table(const char *name)
{
	size_t n = strlen(name);

	for (const struct key *k = KEYS; k < KEYS + ARRAY_LEN(KEYS); k++)
		if (!strncmp(k->name, name, n) && k->name[n] == '.')
			return true;
	return false;
}

static int set_value(void *arg, const struct toml_value *v)
{
	static int (*const set[])(struct reading *, const struct key *, const struct toml_value *) = {
	    [TEXT] = set_text,     [PATH] = set_text,   [NUMBER] = set_number, [REAL] = set_real,
	    [SWITCH] = set_switch, [NAMES] = set_names, [HOSTS] = set_hosts,   [NUMBERS] = set_numbers,
	};
	const struct key *k = find(v->key);
	struct reading *r = arg;

	if (k)
		return set[k->kind](r, k, v);
	if (v->type == TOML_TABLE)
		return is_table(v->key) ? 0 : fail(r, v, "unknown table [%s]", v->key);
	return is_table(v->key) ? fail(r, v, "%s is a table: [%s]", v->key, v->key)
	                        : fail(r, v, "unknown key %s", v->key);
}

/* ---- the whole ---- */

int cd_config_parse(struct cd_config *c, const char *name, struct str text, struct buf *mistakes, struct err *err)
{
	struct reading r = {c, name, mistakes, err, false};
	char why[512] = "";

	if (toml_each(text.p ? text.p : "", text.n, set_value, &r, why, sizeof(why)) >= 0)
		return r.failed ? -ERR_INVALID : 0;
	if (mistakes)
		buf_addf(mistakes, "%s:%s\n", name, why);
	return err_set(err, ERR_INVALID, "%s:%s", name, why);
}

int cd_config_read(struct cd_config *c, const char *path, struct buf *mistakes, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;

	TRY(file_read(AT_FDCWD, path, CONFIG_BYTES_MAX, &text, err));
	TRY(cd_config_parse(c, path, buf_str(&text), mistakes, err));
	free(c->file);
	c->file = xstrdup(path);
	return 0;
}

/* A basic string of TOML. */
static void print_text(const char *text, struct buf *out)
{
	buf_addc(out, '"');
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			buf_addf(out, "\\%c", *text);
		else if ((unsigned char)*text < ' ' || *text == 0x7f)
			buf_addf(out, "\\u%04x", (unsigned)(unsigned char)*text);
		else
			buf_addc(out, *text);
	buf_addc(out, '"');
}

/* Shortest form that reads back as the same number, and as a float. */
static void print_real(double x, struct buf *out)
{
	char text[40];

	for (int digits = 1; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, x);
		if (strtod(text, NULL) == x)
			break;
	}
	buf_addf(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static void print_value(const struct cd_config *c, const struct key *k, struct buf *out)
{
	const struct cd_numbers *numbers = at(c, k);
	const struct cd_names *names = at(c, k);

	switch (k->kind) {
	case TEXT:
	case PATH:
		print_text(*(char **)at(c, k), out);
		break;
	case NUMBER:
		buf_addf(out, "%lld", (long long)*(int64_t *)at(c, k));
		break;
	case REAL:
		print_real(*(double *)at(c, k), out);
		break;
	case SWITCH:
		buf_adds(out, *(bool *)at(c, k) ? "true" : "false");
		break;
	case NAMES:
	case HOSTS:
		buf_addc(out, '[');
		for (size_t i = 0; i < names->n; i++) {
			buf_adds(out, i ? ", " : "");
			print_text(names->p[i], out);
		}
		buf_addc(out, ']');
		break;
	case NUMBERS:
		buf_addc(out, '[');
		for (size_t i = 0; i < numbers->n; i++)
			buf_addf(out, "%s%lld", i ? ", " : "", (long long)numbers->p[i]);
		buf_addc(out, ']');
		break;
	}
}

static void print_key(const struct cd_config *c, const struct key *k, struct str *table, struct buf *out)
{
	struct str name = str_of(k->name), about = str_of(k->about), line;
	ptrdiff_t dot = str_find(name, '.');
	struct str in = dot < 0 ? STR_NONE : str_sub(name, 0, (size_t)dot);

	buf_addc(out, '\n');
	if (!str_eq(in, *table))
		buf_addf(out, "[" STR_FMT "]\n", STR_ARG(in));
	*table = in;
	while (str_split(&about, '\n', &line))
		buf_addf(out, "# " STR_FMT "\n", STR_ARG(line));
	if (k->when == RELOAD)
		buf_adds(out, "# A reload takes it again.\n");
	buf_addf(out, "%s = ", k->name + dot + 1);
	if (c)
		print_value(c, k, out);
	else
		buf_adds(out, k->fallback);
	buf_addc(out, '\n');
}

void cd_config_print(const struct cd_config *c, struct buf *out)
{
	struct str table = STR_NONE;

	buf_addf(out, "# contentd, with %s. Command line options come before this file.\n",
	         c ? "the values in force" : "its defaults");
	for (const struct key *k = KEYS; k < KEYS + ARRAY_LEN(KEYS); k++)
		print_key(c, k, &table, out);
}

void cd_config_init(struct cd_config *c)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct err err = ERR_INIT;

	*c = (struct cd_config){0};
	cd_config_print(NULL, &text);
	if (cd_config_parse(c, "defaults", buf_str(&text), NULL, &err) < 0) {
		log_error("%s", err.msg); /* keys.h is wrong */
		abort();
	}
}

static void value_fini(struct cd_config *c, const struct key *k)
{
	if (k->kind == TEXT || k->kind == PATH) {
		free(*(char **)at(c, k));
	} else if (k->kind == NAMES || k->kind == HOSTS) {
		names_clear(at(c, k));
		vec_fini((struct cd_names *)at(c, k));
	} else if (k->kind == NUMBERS) {
		vec_fini((struct cd_numbers *)at(c, k));
	}
}

void cd_config_fini(struct cd_config *c)
{
	for (const struct key *k = KEYS; k < KEYS + ARRAY_LEN(KEYS); k++)
		value_fini(c, k);
	free(c->file);
	*c = (struct cd_config){0};
}

/* ---- copies ---- */

/* Sets a key to what another configuration has. */
static void take(struct cd_config *c, const struct cd_config *from, const struct key *k)
{
	switch (k->kind) {
	case TEXT:
	case PATH:
		free(*(char **)at(c, k));
		*(char **)at(c, k) = xstrdup(*(char **)at(from, k));
		break;
	case NUMBER:
		*(int64_t *)at(c, k) = *(int64_t *)at(from, k);
		break;
	case REAL:
		*(double *)at(c, k) = *(double *)at(from, k);
		break;
	case SWITCH:
		*(bool *)at(c, k) = *(bool *)at(from, k);
		break;
	case NAMES:
	case HOSTS:
		names_clear(at(c, k));
		vec_each((struct cd_names *)at(from, k), name)
			vec_push((struct cd_names *)at(c, k), xstrdup(*name));
		break;
	case NUMBERS:
		vec_clear((struct cd_numbers *)at(c, k));
		vec_each((struct cd_numbers *)at(from, k), number)
			vec_push((struct cd_numbers *)at(c, k), *number);
		break;
	}
}

void cd_config_copy(struct cd_config *dst, const struct cd_config *src)
{
	*dst = (struct cd_config){.file = src->file ? xstrdup(src->file) : NULL};
	for (const struct key *k = KEYS; k < KEYS + ARRAY_LEN(KEYS); k++)
		take(dst, src, k);
}

void cd_config_reload(struct cd_config *c, const struct cd_config *fresh, struct buf *ignored)
{
	for (const struct key *k = KEYS; k < KEYS + ARRAY_LEN(KEYS); k++) {
		AUTO(buf) struct buf old = BUF_INIT;
		AUTO(buf) struct buf new = BUF_INIT;

		print_value(c, k, &old);
		print_value(fresh, k, &new);
		if (str_eq(buf_str(&old), buf_str(&new)))
			continue;
		if (k->when == RELOAD)
			take(c, fresh, k);
		else
			buf_addf(ignored, "%s%s", ignored->n ? ", " : "", k->name);
	}
}

/* ---- the values together ---- */

/* Removes slashes at the end. Mount options are separated by commas and colons: no path of ours may have one. */
static int check_dir(const char *what, char *path, struct err *err)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		path[--n] = '\0';
	if (path[0] != '/')
		return err_set(err, ERR_INVALID, "the %s directory \"%s\" must be an absolute path", what, path);
	if (strpbrk(path, ",:\\\n"))
		return err_set(err, ERR_INVALID, "the %s directory \"%s\" must not contain a comma, colon or backslash",
		               what, path);
	return 0;
}

int cd_config_finish(struct cd_config *c, struct err *err)
{
	const size_t address_max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 - ADDRESS_SUFFIX_BYTES;

	TRY(check_dir("root", c->root, err));
	TRY(check_dir("state", c->state, err));
	if (!*c->address) {
		free(c->address);
		c->address = xasprintf("%s/contentd.sock", c->state);
	}
	if (c->address[0] != '/')
		return err_set(err, ERR_INVALID, "the address \"%s\" must be an absolute path", c->address);
	if (strlen(c->address) > address_max)
		return err_set(err, ERR_INVALID, "the address \"%s\" is longer than %zu bytes", c->address,
		               address_max);
	if (*c->metrics_address)
		TRY_WRAP(cd_metrics_address_check(c->metrics_address, err), err, "metrics.address");
	return 0;
}
