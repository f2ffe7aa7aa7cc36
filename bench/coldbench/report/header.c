#include "bench/coldbench/report/header.h"

#include "base/json.h"

#define PAIRS_MAX 256
#define TEXT_BYTES_MAX 2000

static void pairs_fini(pairs *p)
{
	vec_each(p, it) {
		free(it->key);
		free(it->value);
	}
	vec_fini(p);
}

const char *pairs_get(const pairs *p, const char *key)
{
	vec_each(p, it)
		if (!strcmp(it->key, key))
			return it->value;
	return NULL;
}

/* Text of any value but an object: what it says, or how it stands there. */
static int value_text(struct json_reader *r, struct buf *out, struct err *err)
{
	enum json_type type;
	struct str s;
	int more;

	TRY(json_peek(r, &type, err));
	switch (type) {
	case JSON_STRING:
		TRY(json_string(r, &s, err));
		break;
	case JSON_ARRAY:
		TRY(json_array_begin(r, err));
		while ((more = json_array_next(r, err)) > 0) {
			if (out->n)
				buf_adds(out, ", ");
			TRY(value_text(r, out, err));
		}
		return more;
	case JSON_OBJECT:
		return err_set(err, ERR_INVALID, "the header has an object where text belongs");
	default:
		TRY(json_raw(r, &s, err));
	}
	if (out->n < TEXT_BYTES_MAX)
		buf_addstr(out, str_sub(s, 0, TEXT_BYTES_MAX - out->n));
	return 0;
}

static int read_text(struct json_reader *r, char **out, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;

	TRY(value_text(r, &text, err));
	free(*out);
	*out = xstrdup(buf_cstr(&text));
	return 0;
}

static int read_pairs(struct json_reader *r, const char *prefix, pairs *out, struct err *err)
{
	struct str key;
	int more;

	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		AUTO_FREE char *name =
		    xasprintf("%s%s" STR_FMT, prefix, *prefix ? "." : "", STR_ARG(str_sub(key, 0, TEXT_BYTES_MAX)));
		AUTO_FREE char *value = NULL;
		enum json_type type;

		TRY(json_peek(r, &type, err));
		if (out->n >= PAIRS_MAX || strlen(name) > TEXT_BYTES_MAX) {
			TRY(json_skip(r, err));
		} else if (type == JSON_OBJECT) {
			TRY(read_pairs(r, name, out, err));
		} else {
			TRY(read_text(r, &value, err));
			vec_push(out, (struct pair){STEAL(name), STEAL(value)});
		}
	}
	return more;
}

static int read_key(struct json_reader *r, struct str key, struct header *h, struct err *err)
{
	if (json_key_is(key, "suite"))
		return read_text(r, &h->suite, err);
	if (json_key_is(key, "title"))
		return read_text(r, &h->title, err);
	if (json_key_is(key, "command"))
		return read_text(r, &h->command, err);
	if (json_key_is(key, "begun"))
		return read_text(r, &h->begun, err);
	if (json_key_is(key, "machine"))
		return read_pairs(r, "", &h->machine, err);
	if (json_key_is(key, "engines"))
		return read_pairs(r, "", &h->engines, err);
	if (json_key_is(key, "skipped"))
		return read_pairs(r, "", &h->skipped, err);
	if (json_key_is(key, "images"))
		return read_pairs(r, "", &h->images, err);
	return json_skip(r, err);
}

int header_parse(struct str json, struct header *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *r = json_reader_new(json);
	AUTO(header) struct header h = {0};
	struct str key;
	int more;

	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0)
		TRY_WRAP(read_key(r, key, &h, err), err, "header");
	TRY(more);
	TRY(json_end(r, err));
	*out = h;
	h = (struct header){0};
	return 0;
}

void header_fini(struct header *h)
{
	free(h->suite);
	free(h->title);
	free(h->command);
	free(h->begun);
	pairs_fini(&h->machine);
	pairs_fini(&h->engines);
	pairs_fini(&h->skipped);
	pairs_fini(&h->images);
	*h = (struct header){0};
}

static bool has_all(const pairs *of, const pairs *in)
{
	vec_each(of, it) {
		const char *value = pairs_get(in, it->key);

		if (strcmp(it->key, "load") != 0 && (!value || strcmp(value, it->value) != 0))
			return false;
	}
	return true;
}

bool header_same_machine(const struct header *a, const struct header *b)
{
	return has_all(&a->machine, &b->machine) && has_all(&b->machine, &a->machine);
}
