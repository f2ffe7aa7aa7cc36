#include "bench/coldbench/sample.h"

#include "base/clock.h"
#include "base/file.h"

#include <fcntl.h>
#include <math.h>

/* Raw data may come from elsewhere: bounds on what is taken. A run of some hours stays far below. */
#define FILE_BYTES_MAX (256u << 20)
#define LINE_BYTES_MAX (1u << 20)
#define TEXT_BYTES_MAX 4096
#define METRICS_MAX 1024
#define SAMPLES_MAX 1000000

/* ---- in memory ---- */

void sample_init(struct sample *s, const struct bench_case *c, unsigned repetition, unsigned order)
{
	char at[40];

	*s = (struct sample){
	    .group = xstrdup(c->group),
	    .mode = xstrdup(c->mode),
	    .image = xstrdup(c->image),
	    .form = xstrdup(c->form),
	    .engine = xstrdup(c->engine),
	    .network = xstrdup(c->network->name),
	    .rtt_ms = c->network->rtt_ms,
	    .mbit = c->network->mbit,
	    .faults = c->network->faults ? xstrdup(c->network->faults) : NULL,
	    .count = c->count,
	    .repetition = repetition,
	    .order = order,
	};
	s->at = xstrdup(time_rfc3339((struct timespec){.tv_sec = clock_wall().tv_sec}, at));
}

void sample_fini(struct sample *s)
{
	vec_each(&s->metrics, m)
		free(m->name);
	vec_fini(&s->metrics);
	free(s->group);
	free(s->mode);
	free(s->image);
	free(s->form);
	free(s->engine);
	free(s->network);
	free(s->faults);
	free(s->at);
	free(s->error);
	*s = (struct sample){0};
}

static struct metric *find(const struct sample *s, struct str name)
{
	vec_each(&s->metrics, m)
		if (str_eqc(name, m->name))
			return m;
	return NULL;
}

static void put(struct sample *s, struct str name, double value)
{
	struct metric *m = find(s, name);

	if (m)
		m->value = value;
	else
		vec_push(&s->metrics, (struct metric){xstrndup(name.p, name.n), value});
}

void sample_set(struct sample *s, const char *name, double value)
{
	put(s, str_of(name), value);
}

void sample_setf(struct sample *s, double value, const char *fmt, ...)
{
	AUTO(buf) struct buf name = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&name, fmt, ap);
	va_end(ap);
	put(s, buf_str(&name), value);
}

double sample_get(const struct sample *s, const char *name)
{
	const struct metric *m = find(s, str_of(name));

	return m ? m->value : NAN;
}

/* ---- lines ---- */

void sample_write(const struct sample *s, struct buf *out)
{
	struct json_writer w;

	json_writer_init(&w, out, NULL);
	json_w_object_begin(&w);
	json_w_kcstr(&w, "group", s->group);
	json_w_kcstr(&w, "mode", s->mode);
	json_w_kcstr(&w, "image", s->image);
	json_w_kcstr(&w, "form", s->form);
	json_w_kcstr(&w, "engine", s->engine);
	json_w_kcstr(&w, "network", s->network);
	json_w_key(&w, "rtt_ms");
	json_w_double(&w, s->rtt_ms);
	json_w_key(&w, "mbit");
	json_w_double(&w, s->mbit);
	if (s->faults)
		json_w_kcstr(&w, "faults", s->faults);
	json_w_ki64(&w, "count", s->count);
	json_w_ki64(&w, "repetition", s->repetition);
	json_w_ki64(&w, "order", s->order);
	json_w_kcstr(&w, "at", s->at);
	if (s->error)
		json_w_kcstr(&w, "error", s->error);
	json_w_key(&w, "metrics");
	json_w_object_begin(&w);
	vec_each(&s->metrics, m) {
		if (!isfinite(m->value))
			continue; /* JSON has no such numbers: absent reads as NaN */
		json_w_key(&w, m->name);
		json_w_double(&w, m->value);
	}
	json_w_object_end(&w);
	json_w_object_end(&w);
	buf_addc(out, '\n');
}

static int parse_text(struct json_reader *r, const char *key, char **out, struct err *err)
{
	struct str text;

	TRY_WRAP(json_string(r, &text, err), err, "%s", key);
	if (text.n > TEXT_BYTES_MAX || memchr(text.p ? text.p : "", 0, text.n))
		return err_set(err, ERR_INVALID, "%s: no usable text", key);
	free(*out);
	*out = xstrndup(text.p ? text.p : "", text.n);
	return 0;
}

static int parse_unsigned(struct json_reader *r, const char *key, unsigned *out, struct err *err)
{
	uint64_t n;

	TRY_WRAP(json_u64(r, &n, err), err, "%s", key);
	if (n > UINT32_MAX)
		return err_set(err, ERR_INVALID, "%s: %llu is too large", key, (unsigned long long)n);
	*out = (unsigned)n;
	return 0;
}

static int parse_metrics(struct json_reader *r, struct sample *s, struct err *err)
{
	enum json_type type;
	struct str key;
	double value;
	int more;

	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		if (!key.n || key.n > 256 || memchr(key.p, 0, key.n) || s->metrics.n >= METRICS_MAX)
			return err_set(err, ERR_INVALID, "metrics: more than %d, or one without a usable name",
			               METRICS_MAX);
		TRY(json_peek(r, &type, err));
		if (type == JSON_NULL) {
			TRY(json_skip(r, err));
			continue;
		}
		TRY_WRAP(json_double(r, &value, err), err, "metric " STR_FMT, STR_ARG(key));
		put(s, key, value);
	}
	return more;
}

static int parse_key(struct json_reader *r, struct str key, struct sample *s, struct err *err)
{
	const struct {
		const char *name;
		char **text;
	} texts[] = {{"group", &s->group}, {"mode", &s->mode},     {"image", &s->image},
	             {"form", &s->form},   {"engine", &s->engine}, {"network", &s->network},
	             {"at", &s->at},       {"error", &s->error},   {"faults", &s->faults}};
	const struct {
		const char *name;
		unsigned *number;
	} numbers[] = {{"count", &s->count}, {"repetition", &s->repetition}, {"order", &s->order}};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (str_eqc(key, texts[i].name))
			return parse_text(r, texts[i].name, texts[i].text, err);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		if (str_eqc(key, numbers[i].name))
			return parse_unsigned(r, numbers[i].name, numbers[i].number, err);
	if (str_eqc(key, "rtt_ms"))
		return json_double(r, &s->rtt_ms, err);
	if (str_eqc(key, "mbit"))
		return json_double(r, &s->mbit, err);
	if (str_eqc(key, "metrics"))
		return parse_metrics(r, s, err);
	return json_skip(r, err);
}

static int check(const struct sample *s, struct err *err)
{
	const char *const texts[] = {s->group, s->mode, s->image, s->form, s->engine, s->network, s->at};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (!texts[i] || !*texts[i])
			return err_set(err, ERR_INVALID,
			               "a sample needs group, mode, image, form, engine, network and at");
	if (!(s->rtt_ms >= 0) || !(s->mbit >= 0))
		return err_set(err, ERR_INVALID, "rtt_ms and mbit cannot be negative");
	return 0;
}

int sample_parse(struct str line, struct sample *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *r = NULL;
	AUTO(sample) struct sample s = {.count = 1};
	struct str key;
	int more;

	if (line.n > LINE_BYTES_MAX)
		return err_set(err, ERR_INVALID, "a sample of %zu bytes", line.n);
	r = json_reader_new(line);
	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0)
		TRY(parse_key(r, key, &s, err));
	TRY(more);
	TRY(json_end(r, err));
	TRY(check(&s, err));
	*out = s;
	s = (struct sample){0};
	return 0;
}

/* ---- files ---- */

/* Version 1 of the raw data, an object as the header says. */
static int check_header(struct str line, struct err *err)
{
	AUTO(json_reader) struct json_reader *r = NULL;
	uint64_t version = 0;
	struct str key;
	int more;

	if (line.n > LINE_BYTES_MAX)
		return err_set(err, ERR_INVALID, "a header of %zu bytes", line.n);
	r = json_reader_new(line);
	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0)
		if (str_eqc(key, "coldbench"))
			TRY(json_u64(r, &version, err));
		else
			TRY(json_skip(r, err));
	TRY(more);
	TRY(json_end(r, err));
	if (version != 1)
		return err_set(err, ERR_INVALID, "no raw data of coldbench: its first line is {\"coldbench\": 1, ...}");
	return 0;
}

static int add_line(struct sample_set *set, struct str line, size_t number, struct err *err)
{
	if (number == 1) {
		TRY(check_header(line, err));
		buf_addstr(&set->header, line);
		return 0;
	}
	if (str_empty(str_trim(line)))
		return 0;
	if (set->samples.n >= SAMPLES_MAX)
		return err_set(err, ERR_INVALID, "more than %d samples", SAMPLES_MAX);
	TRY(sample_parse(line, vec_add(&set->samples), err));
	return 0;
}

int sample_set_read(const char *path, struct sample_set *out, struct err *err)
{
	AUTO(sample_set) struct sample_set set = {0};
	AUTO(buf) struct buf text = BUF_INIT;
	struct str rest, line;
	ptrdiff_t end;

	TRY(file_read(AT_FDCWD, path, FILE_BYTES_MAX, &text, err));
	rest = buf_str(&text);
	/* What has no line end was being written when the run was killed. */
	end = str_rfind(rest, '\n');
	rest = end < 0 ? STR_NONE : str_sub(rest, 0, (size_t)end);
	if (end < 0)
		return err_set(err, ERR_INVALID, "%s:1: no raw data of coldbench", path);
	for (size_t number = 1; str_split(&rest, '\n', &line); number++)
		TRY_WRAP(add_line(&set, line, number, err), err, "%s:%zu", path, number);
	*out = set;
	set = (struct sample_set){0};
	return 0;
}

void sample_set_fini(struct sample_set *s)
{
	vec_each(&s->samples, sample)
		sample_fini(sample);
	vec_fini(&s->samples);
	buf_fini(&s->header);
	*s = (struct sample_set){0};
}
