#include "bench/coldbench/suite.h"

#include "base/file.h"
#include "bench/coldbench/modes/mode.h"
#include "bench/netproxy/fault.h"
#include "contentd/config/toml.h"

#include <fcntl.h>
#include <libgen.h>

#define FILE_BYTES_MAX (1u << 20)
#define TABLES_MAX 100
#define LIST_MAX 100
#define CASES_MAX 10000
#define NAME_BYTES_MAX 60
#define FAULTS_BYTES_MAX 1000

/* A list of the file, to be looked up when all of the file is known. */
struct names {
	int line; /* 0: not there */
	VEC(char *) items;
};

/* A [case.NAME] as it stands in the file. */
struct block {
	char *name, *mode;
	int line, mode_line;
	struct names images, engines, networks;
	unsigned count, repetitions;
};

struct reading {
	const char *file;
	struct err *err;
	char *title;
	unsigned repetitions;
	VEC(struct network) networks;
	VEC(struct block) blocks;
};

static void names_fini(struct names *n)
{
	vec_each(&n->items, item)
		free(*item);
	vec_fini(&n->items);
}

static void network_fini(struct network *n)
{
	free(n->name);
	free(n->faults);
}

static void reading_fini(struct reading *r)
{
	free(r->title);
	vec_each(&r->networks, n)
		network_fini(n);
	vec_fini(&r->networks);
	vec_each(&r->blocks, b) {
		free(b->name);
		free(b->mode);
		names_fini(&b->images);
		names_fini(&b->engines);
		names_fini(&b->networks);
	}
	vec_fini(&r->blocks);
}
DEFINE_AUTO_FINI(reading);

static int fail(struct reading *r, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int fail(struct reading *r, int line, const char *fmt, ...)
{
	AUTO(buf) struct buf b = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	return err_set(r->err, ERR_INVALID, "%s:%d: %s", r->file, line, buf_cstr(&b));
}

/* ---- values ---- */

/* Names become parts of paths and of metrics. */
static int check_name(struct reading *r, const struct toml_value *v, const char *name)
{
	size_t n = strlen(name);

	if (!n || n > NAME_BYTES_MAX || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != n || *name == '.')
		return fail(r, v->line, "\"%.*s\" is no name: up to %d of a-z, 0-9, '-', '_' and '.'", NAME_BYTES_MAX,
		            name, NAME_BYTES_MAX);
	return 0;
}

static int take_text(struct reading *r, const struct toml_value *v, char **out)
{
	if (v->type != TOML_STRING)
		return fail(r, v->line, "%s must be a string", v->key);
	free(*out);
	*out = xstrdup(v->string);
	return 0;
}

static int take_count(struct reading *r, const struct toml_value *v, unsigned *out)
{
	if (v->type != TOML_INTEGER || v->integer < 1 || v->integer > 1000)
		return fail(r, v->line, "%s must be an integer from 1 to 1000", v->key);
	*out = (unsigned)v->integer;
	return 0;
}

static int take_real(struct reading *r, const struct toml_value *v, double max, double *out)
{
	double x = v->type == TOML_INTEGER ? (double)v->integer : v->real;

	if ((v->type != TOML_REAL && v->type != TOML_INTEGER) || !(x >= 0 && x <= max))
		return fail(r, v->line, "%s must be a number from 0 to %g", v->key, max);
	*out = x;
	return 0;
}

static int take_names(struct reading *r, const struct toml_value *v, struct names *out)
{
	if (v->type != TOML_STRINGS || !v->n_items || v->n_items > LIST_MAX)
		return fail(r, v->line, "%s must be a list of 1 to %d strings", v->key, LIST_MAX);
	out->line = v->line;
	for (size_t i = 0; i < v->n_items; i++) {
		for (size_t k = 0; k < i; k++)
			if (!strcmp(v->strings[i], v->strings[k]))
				return fail(r, v->line, "%s has \"%s\" twice", v->key, v->strings[i]);
		vec_push(&out->items, xstrdup(v->strings[i]));
	}
	return 0;
}

static void fault_rules_cleanup(struct fault_rules *f)
{
	fault_rules_fini(f);
}

/* Rules as netproxy will take them, so that a wrong one is found before anything runs. */
static int take_faults(struct reading *r, const struct toml_value *v, char **out)
{
	__attribute__((cleanup(fault_rules_cleanup))) struct fault_rules rules = {0};
	AUTO(buf) struct buf text = BUF_INIT;
	struct err why = ERR_INIT;

	if (v->type != TOML_STRINGS || v->n_items > LIST_MAX)
		return fail(r, v->line, "%s must be a list of up to %d strings", v->key, LIST_MAX);
	for (size_t i = 0; i < v->n_items; i++) {
		const char *rule = v->strings[i];

		if (strpbrk(rule, ";\r\n"))
			return fail(r, v->line, "%s: a rule is one line without ';'", v->key);
		if (fault_rules_add(&rules, str_of(rule), &why) < 0)
			return fail(r, v->line, "%s: %s", v->key, why.msg);
		buf_addf(&text, "%s%s", i ? "; " : "", rule);
	}
	if (text.n > FAULTS_BYTES_MAX)
		return fail(r, v->line, "%s has more than %d characters", v->key, FAULTS_BYTES_MAX);
	free(*out);
	*out = text.n ? buf_steal(&text) : NULL;
	return 0;
}

/* ---- tables ---- */

static int take_network(struct reading *r, const struct toml_value *v)
{
	struct network *found = NULL;

	vec_each(&r->networks, n)
		if (!strcmp(n->name, v->path[1]))
			found = n;
	if (!found) {
		TRY(check_name(r, v, v->path[1]));
		if (r->networks.n >= TABLES_MAX)
			return fail(r, v->line, "more than %d networks", TABLES_MAX);
		found = vec_add(&r->networks);
		found->name = xstrdup(v->path[1]);
	}
	if (v->n_path == 2)
		return v->type == TOML_TABLE ? 0 : fail(r, v->line, "%s must be a table", v->key);
	if (v->n_path == 3 && !strcmp(v->path[2], "rtt_ms"))
		return take_real(r, v, 10000, &found->rtt_ms);
	if (v->n_path == 3 && !strcmp(v->path[2], "mbit"))
		return take_real(r, v, 1000000, &found->mbit);
	if (v->n_path == 3 && !strcmp(v->path[2], "faults"))
		return take_faults(r, v, &found->faults);
	return fail(r, v->line, "unknown key %s", v->key);
}

static int take_block_value(struct reading *r, const struct toml_value *v, struct block *b)
{
	const char *key = v->path[2];

	if (!strcmp(key, "mode")) {
		b->mode_line = v->line;
		return take_text(r, v, &b->mode);
	}
	if (!strcmp(key, "images"))
		return take_names(r, v, &b->images);
	if (!strcmp(key, "engines"))
		return take_names(r, v, &b->engines);
	if (!strcmp(key, "networks"))
		return take_names(r, v, &b->networks);
	if (!strcmp(key, "count"))
		return take_count(r, v, &b->count);
	if (!strcmp(key, "repetitions"))
		return take_count(r, v, &b->repetitions);
	return fail(r, v->line, "unknown key %s", v->key);
}

static int take_block(struct reading *r, const struct toml_value *v)
{
	struct block *found = NULL;

	vec_each(&r->blocks, b)
		if (!strcmp(b->name, v->path[1]))
			found = b;
	if (!found) {
		TRY(check_name(r, v, v->path[1]));
		if (r->blocks.n >= TABLES_MAX)
			return fail(r, v->line, "more than %d cases", TABLES_MAX);
		found = vec_add(&r->blocks);
		found->name = xstrdup(v->path[1]);
		found->line = v->line;
		found->count = 1;
	}
	if (v->n_path == 2)
		return v->type == TOML_TABLE ? 0 : fail(r, v->line, "%s must be a table", v->key);
	return v->n_path == 3 ? take_block_value(r, v, found) : fail(r, v->line, "unknown key %s", v->key);
}

static int take_value(void *arg, const struct toml_value *v)
{
	struct reading *r = arg;
	bool in_network = !strcmp(v->path[0], "network"), in_case = !strcmp(v->path[0], "case");

	if (v->n_path == 1 && (in_network || in_case))
		return v->type == TOML_TABLE ? 0 : fail(r, v->line, "%s is a table: [%s.NAME]", v->key, v->key);
	if (in_network)
		return take_network(r, v);
	if (in_case)
		return take_block(r, v);
	if (!strcmp(v->key, "title"))
		return take_text(r, v, &r->title);
	if (!strcmp(v->key, "repetitions"))
		return take_count(r, v, &r->repetitions);
	return fail(r, v->line, v->type == TOML_TABLE ? "unknown table [%s]" : "unknown key %s", v->key);
}

/* ---- the product ---- */

struct cases {
	VEC(struct bench_case) items;
	VEC(char *) texts;
};

static const char *keep(struct cases *c, const char *text)
{
	vec_push(&c->texts, xstrdup(text));
	return *vec_last(&c->texts);
}

static bool image_is_known(struct str name)
{
	const char *one;

	for (size_t i = 0; (one = image_name_at(i)); i++)
		if (str_eqc(name, one))
			return true;
	return false;
}

static bool has_before(struct str names, struct str name)
{
	struct str one;

	while (str_split(&names, '+', &one) && one.p < name.p)
		if (str_eq(one, name))
			return true;
	return false;
}

/* "python", "python+nginx"; *n is how many they are. */
static int check_images(struct reading *r, const struct block *b, const char *text, unsigned *n)
{
	struct str rest = str_of(text), name;

	*n = 0;
	while (str_split(&rest, '+', &name)) {
		if (!image_is_known(name))
			return fail(r, b->images.line, "unknown image \"" STR_FMT "\"", STR_ARG(name));
		if (has_before(str_of(text), name))
			return fail(r, b->images.line, "\"%s\" has " STR_FMT " twice", text, STR_ARG(name));
		if (++*n > CASE_IMAGES_MAX)
			return fail(r, b->images.line, "more than %d images in a case", CASE_IMAGES_MAX);
	}
	if (*n > 1 && !mode_find(b->mode)->takes_several)
		return fail(r, b->images.line, "mode %s takes one image at a time, not \"%s\"", b->mode, text);
	if (*n > 1 && *n > b->count)
		return fail(r, b->line, "[case.%s] starts %u containers of \"%s\", which are %u images", b->name,
		            b->count, text, *n);
	return 0;
}

static const struct network *network_of(const struct reading *r, const char *name)
{
	vec_each(&r->networks, n)
		if (!strcmp(n->name, name))
			return n;
	return NULL;
}

/* "containerd-stargz:esgz-opt" */
static int take_engine(struct reading *r, int line, const char *text, struct cases *to, struct bench_case *c)
{
	struct str name = str_of(text);
	ptrdiff_t colon = str_find(name, ':');
	AUTO_FREE char *engine = xstrndup(text, colon < 0 ? name.n : (size_t)colon);
	const struct engine_kind *kind = engine_find(engine);
	const char *form = colon < 0 ? (kind ? kind->form : "") : text + colon + 1;

	if (!kind)
		return fail(r, line, "unknown engine \"%s\"", engine);
	if (!form_is_known(form))
		return fail(r, line, "unknown form \"%s\" of images, for engine %s", form, engine);
	c->engine = keep(to, engine);
	c->form = keep(to, form);
	return 0;
}

static int check_block(struct reading *r, const struct block *b)
{
	const struct names *lists[] = {&b->images, &b->engines, &b->networks};
	static const char *const keys[] = {"images", "engines", "networks"};

	if (!b->mode)
		return fail(r, b->line, "[case.%s] has no mode", b->name);
	if (!mode_find(b->mode))
		return fail(r, b->mode_line, "unknown mode \"%s\"", b->mode);
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		if (!lists[i]->line)
			return fail(r, b->line, "[case.%s] has no %s", b->name, keys[i]);
	vec_each(&b->networks.items, network)
		if (!network_of(r, *network))
			return fail(r, b->networks.line, "unknown network \"%s\"", *network);
	return 0;
}

static int multiply(struct reading *r, const struct block *b, struct cases *to)
{
	struct bench_case c = {.count = b->count, .repetitions = b->repetitions ? b->repetitions : r->repetitions};

	TRY(check_block(r, b));
	if (b->images.items.n * b->engines.items.n * b->networks.items.n > CASES_MAX - to->items.n)
		return fail(r, b->line, "more than %d cases", CASES_MAX);
	c.group = keep(to, b->name);
	c.mode = keep(to, b->mode);
	vec_each(&b->engines.items, engine) {
		TRY(take_engine(r, b->engines.line, *engine, to, &c));
		vec_each(&b->images.items, image) {
			TRY(check_images(r, b, *image, &c.n_images));
			c.image = keep(to, *image);
			vec_each(&b->networks.items, network) {
				c.network = network_of(r, *network);
				vec_push(&to->items, c);
			}
		}
	}
	return 0;
}

static int multiply_all(struct reading *r, struct cases *to)
{
	vec_each(&r->blocks, b)
		TRY(multiply(r, b, to));
	return to->items.n ? 0 : fail(r, 1, "there is no [case.NAME]");
}

static char *name_of(const char *file)
{
	AUTO_FREE char *copy = xstrdup(file);
	struct str name = str_of(basename(copy));

	if (str_ends(name, STR(".toml")))
		name.n -= 5;
	return xstrndup(name.p, name.n);
}

int suite_parse(const char *name, struct str text, struct suite *out, struct err *err)
{
	AUTO(reading) struct reading r = {.file = name, .err = err, .repetitions = 10};
	struct cases cases = {0};
	char why[512] = "";
	int status;

	status = toml_each(text.p ? text.p : "", text.n, take_value, &r, why, sizeof(why));
	if (status < 0 && *why)
		return err_set(err, ERR_INVALID, "%s:%s", name, why);
	TRY(status);
	status = multiply_all(&r, &cases);
	/* The suite owns what the cases point to from here on, of an unfinished one, too. */
	*out = (struct suite){
	    .name = name_of(name),
	    .title = r.title ? STEAL(r.title) : xstrdup(""),
	    .cases = cases.items.p,
	    .n_cases = cases.items.n,
	    .networks = r.networks.p,
	    .n_networks = r.networks.n,
	    .texts = cases.texts.p,
	    .n_texts = cases.texts.n,
	};
	r.networks.p = NULL;
	r.networks.n = 0;
	if (status < 0)
		suite_fini(out);
	return status;
}

int suite_read(const char *path, struct suite *out, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;

	TRY(file_read(AT_FDCWD, path, FILE_BYTES_MAX, &text, err));
	return suite_parse(path, buf_str(&text), out, err);
}

void suite_fini(struct suite *s)
{
	for (size_t i = 0; i < s->n_texts; i++)
		free(s->texts[i]);
	for (size_t i = 0; i < s->n_networks; i++)
		network_fini(&s->networks[i]);
	free(s->texts);
	free(s->networks);
	free(s->cases);
	free(s->name);
	free(s->title);
	*s = (struct suite){0};
}

char *case_name(const struct bench_case *c)
{
	AUTO(buf) struct buf name = BUF_INIT;

	buf_addf(&name, "%s/%s/%s/%s", c->image, c->form, c->engine, c->network->name);
	if (c->count != 1)
		buf_addf(&name, "/x%u", c->count);
	return buf_steal(&name);
}
