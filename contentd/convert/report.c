#include "contentd/convert/report.h"

#include "base/json.h"
#include "contentd/convert/internal.h"
#include "contentd/ctl/term.h"

#include <stdio.h>

#define SHORT_DIGEST 19 /* "sha256:" and twelve digits */

static const char *const ACTIONS[] = {
    [CONVERT_CONVERT] = "convert",
    [CONVERT_KEEP] = "keep",
    [CONVERT_REUSE] = "reuse",
};

/* Of a layer that is kept only the type may change. */
static const char *to_format(const struct convert *c, const struct convert_layer *l)
{
	return l->action == CONVERT_KEEP ? l->from_format : esgz_format_name(c->opts.layer.format);
}

static char *action_text(const struct convert_layer *l)
{
	char text[DIGEST_TEXT_MAX];

	if (l->action == CONVERT_REUSE)
		return xasprintf("reuse %.*s%s", SHORT_DIGEST, digest_text(&l->reuse->layer->digest, text),
		                 l->mounts ? " (mount)" : "");
	return xasprintf("%s%s", ACTIONS[l->action], l->mounts ? " (mount)" : "");
}

static void print_notes(const struct convert *c)
{
	vec_each(&c->notes, note)
		fprintf(stderr, "contentctl convert: %s\n", *note);
	if (c->more_notes)
		fprintf(stderr, "contentctl convert: %zu more were left out in such ways\n", c->more_notes);
}

/* ---- JSON ---- */

static void write_layer(struct json_writer *w, const struct convert *c, const struct convert_layer *l, bool done)
{
	char text[DIGEST_TEXT_MAX];

	json_w_object_begin(w);
	json_w_kcstr(w, "layer", digest_text(&l->from->digest, text));
	json_w_ki64(w, "size", (int64_t)l->from->size);
	json_w_kcstr(w, "platform", l->platform);
	json_w_kcstr(w, "from", l->from_format);
	json_w_kcstr(w, "to", to_format(c, l));
	json_w_kcstr(w, "action", ACTIONS[l->action]);
	json_w_kbool(w, "mount", done ? l->action != CONVERT_CONVERT && l->how == PLACE_MOUNTED : l->mounts);
	if (l->action == CONVERT_REUSE)
		json_w_kcstr(w, "reuses", digest_text(&l->reuse->layer->digest, text));
	if (done) {
		json_w_kcstr(w, "result", digest_text(&l->to.digest, text));
		json_w_ki64(w, "resultSize", (int64_t)l->to.size);
		json_w_kbool(w, "transferred", l->action == CONVERT_CONVERT || l->how == PLACE_COPIED);
	}
	json_w_object_end(w);
}

static void print_json(const struct convert *c, bool done)
{
	AUTO(buf) struct buf b = BUF_INIT;
	char text[DIGEST_TEXT_MAX];
	struct json_writer w;

	json_writer_init(&w, &b, NULL);
	json_w_object_begin(&w);
	if (done)
		json_w_kcstr(&w, "digest", digest_text(&c->manifest, text));
	json_w_key(&w, "layers");
	json_w_array_begin(&w);
	vec_each(&c->layers, l)
		write_layer(&w, c, *l, done);
	json_w_array_end(&w);
	json_w_key(&w, "notes");
	json_w_array_begin(&w);
	vec_each(&c->notes, note)
		json_w_cstr(&w, *note);
	json_w_array_end(&w);
	json_w_ki64(&w, "moreNotes", (int64_t)c->more_notes);
	json_w_object_end(&w);
	printf("%s\n", buf_cstr(&b));
}

/* ---- for people ---- */

void report_plan(const struct convert *c, bool json)
{
	struct term_table t = {.columns = 6};

	if (json) {
		print_json(c, false);
		return;
	}
	term_row(&t, "LAYER", "SIZE", "PLATFORM", "FROM", "TO", "ACTION");
	vec_each(&c->layers, l) {
		char digest[DIGEST_TEXT_MAX], size[16];
		AUTO_FREE char *action = action_text(*l);

		digest_text(&(*l)->from->digest, digest)[SHORT_DIGEST] = '\0';
		term_row(&t, digest, term_size((int64_t)(*l)->from->size, size), (*l)->platform, (*l)->from_format,
		         to_format(c, *l), action);
	}
	term_table_print(&t);
	print_notes(c);
}

void report_result(const struct convert *c, bool json)
{
	char digest[DIGEST_TEXT_MAX], in[16], out[16];
	uint64_t bytes_in = 0, bytes_out = 0;
	size_t n[ARRAY_LEN(ACTIONS)] = {0};

	if (json) {
		print_json(c, true);
		return;
	}
	vec_each(&c->layers, l) {
		n[(*l)->action]++;
		bytes_in += (*l)->from->size;
		bytes_out += (*l)->to.size;
	}
	print_notes(c);
	printf("%s\n", digest_text(&c->manifest, digest));
	fprintf(stderr, "%zu layers: %zu converted, %zu kept, %zu reused; %s became %s\n", c->layers.n,
	        n[CONVERT_CONVERT], n[CONVERT_KEEP], n[CONVERT_REUSE], term_size((int64_t)bytes_in, in),
	        term_size((int64_t)bytes_out, out));
}
