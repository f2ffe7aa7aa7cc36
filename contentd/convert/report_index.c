#include "contentd/convert/report.h"

#include "base/clock.h"
#include "base/json.h"
#include "contentd/ctl/term.h"

#include <stdio.h>

#define SHORT_DIGEST 19 /* "sha256:" and twelve digits */

/* Of the bytes that were read. */
static double mb_s(const struct index_layer *l)
{
	return l->took_ns > 0 ? (double)l->of->from->size * 1e3 / (double)l->took_ns : 0;
}

static double percent(const struct index_layer *l)
{
	return 100.0 * (double)l->artifact.n / (double)l->of->from->size;
}

/* ---- JSON ---- */

static void write_layer(struct json_writer *w, const struct index_layer *l, bool done)
{
	char text[DIGEST_TEXT_MAX];
	struct digest digest;

	json_w_object_begin(w);
	json_w_kcstr(w, "layer", digest_text(&l->of->from->digest, text));
	json_w_ki64(w, "size", (int64_t)l->of->from->size);
	json_w_kcstr(w, "platform", l->of->platform);
	json_w_kcstr(w, "action", l->why_none ? "skip" : "index");
	if (l->why_none)
		json_w_kcstr(w, "reason", l->why_none);
	if (done && !l->why_none) {
		digest_of(l->artifact.p, l->artifact.n, &digest);
		json_w_kcstr(w, "index", digest_text(&digest, text));
		json_w_ki64(w, "indexSize", (int64_t)l->artifact.n);
		json_w_ki64(w, "plainSize", (int64_t)l->plain_bytes);
		json_w_ki64(w, "milliseconds", l->took_ns / NS_PER_MS);
	}
	json_w_object_end(w);
}

static void write_image(struct json_writer *w, const struct index_image *image, bool done)
{
	char text[DIGEST_TEXT_MAX];

	json_w_object_begin(w);
	json_w_kcstr(w, "manifest", digest_text(&image->subject.digest, text));
	if (done && image->has_referrer) {
		json_w_kcstr(w, "referrer", digest_text(&image->referrer, text));
		json_w_kbool(w, "present", image->was_there);
	}
	json_w_object_end(w);
}

static void print_json(const struct indexing *x, bool done)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &b, NULL);
	json_w_object_begin(&w);
	json_w_key(&w, "layers");
	json_w_array_begin(&w);
	vec_each(&x->layers, l)
		write_layer(&w, l, done);
	json_w_array_end(&w);
	json_w_key(&w, "images");
	json_w_array_begin(&w);
	vec_each(&x->images, image)
		write_image(&w, image, done);
	json_w_array_end(&w);
	json_w_object_end(&w);
	printf("%s\n", buf_cstr(&b));
}

/* ---- for people ---- */

static void print_row(struct term_table *t, const struct index_layer *l, bool done)
{
	char digest[DIGEST_TEXT_MAX], size[16], index[16];
	AUTO_FREE char *part = xasprintf("%.2f %%", percent(l));
	AUTO_FREE char *speed = xasprintf("%.0f", mb_s(l));
	AUTO_FREE char *none = l->why_none ? xasprintf("none: %s", l->why_none) : NULL;

	digest_text(&l->of->from->digest, digest)[SHORT_DIGEST] = '\0';
	term_size((int64_t)l->of->from->size, size);
	if (!done || none)
		term_row(t, digest, size, l->of->platform, none ?: "to be built", "", "");
	else
		term_row(t, digest, size, l->of->platform, term_size((int64_t)l->artifact.n, index), part, speed);
}

static void print_image(const struct index_image *image)
{
	char subject[DIGEST_TEXT_MAX], referrer[DIGEST_TEXT_MAX];

	digest_text(&image->subject.digest, subject);
	if (!image->has_referrer)
		printf("image %s: no layer of it has an index\n", subject);
	else if (image->was_there)
		printf("image %s: its indexes are there already, as referrer %s\n", subject,
		       digest_text(&image->referrer, referrer));
	else
		printf("image %s: its indexes are published as referrer %s\n", subject,
		       digest_text(&image->referrer, referrer));
}

void report_indexes(const struct indexing *x, bool done, bool json)
{
	struct term_table t = {.columns = 6};

	if (json) {
		print_json(x, done);
		return;
	}
	term_row(&t, "LAYER", "SIZE", "PLATFORM", "INDEX", "PART", "MB/S");
	vec_each(&x->layers, l)
		print_row(&t, l, done);
	term_table_print(&t);
	if (!done)
		return;
	vec_each(&x->images, image)
		print_image(image);
}
