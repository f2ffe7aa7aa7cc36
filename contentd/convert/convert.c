#include "contentd/convert/internal.h"

#include <stdarg.h>

struct convert *convert_new(struct place *from, struct place *to, const struct convert_opts *opts)
{
	struct convert *c = xcalloc(1, sizeof(*c));

	c->from = from;
	c->to = to;
	c->opts = *opts;
	atomic_init(&c->cancelled, false);
	return c;
}

int convert_run(struct convert *c, struct err *err)
{
	struct err why = ERR_INIT;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < c->layers.n; i++)
		r = convert_layer_run(c, i, &why);
	if (r >= 0)
		r = convert_put_documents(c, &why);
	if (r < 0)
		TRY(convert_check_cancelled(c, err)); /* that, and not what broke by it */
	if (r < 0 && err)
		*err = why;
	return r;
}

void convert_cancel(struct convert *c)
{
	atomic_store(&c->cancelled, true);
	place_cancel(c->from);
	place_cancel(c->to);
	for (size_t i = 0; i < c->opts.n_reuse; i++)
		place_cancel(c->opts.reuse[i]);
}

int convert_check_cancelled(struct convert *c, struct err *err)
{
	return atomic_load(&c->cancelled) ? err_set(err, ERR_CANCELLED, "interrupted") : 0;
}

void convert_note(struct convert *c, const char *fmt, ...)
{
	AUTO(buf) struct buf text = BUF_INIT;
	va_list ap;

	if (c->notes.n == CONVERT_NOTES_MAX) {
		c->more_notes++;
		return;
	}
	va_start(ap, fmt);
	buf_vaddf(&text, fmt, ap);
	va_end(ap);
	text_clean((char *)buf_cstr(&text));
	vec_push(&c->notes, xstrdup(buf_cstr(&text)));
}

void convert_node_free(struct convert_node *n)
{
	if (!n)
		return;
	vec_each(&n->children, child)
		convert_node_free(*child);
	vec_fini(&n->children);
	vec_fini(&n->layers);
	reg_config_free(n->config);
	free(n);
}

static void layer_free(struct convert_layer *l)
{
	vec_each(&l->annotations, a) {
		free((char *)a->key.p);
		free((char *)a->value.p);
	}
	vec_fini(&l->annotations);
	free(l->platform);
	free(l);
}

void convert_free(struct convert *c)
{
	if (!c)
		return;
	convert_node_free(c->root);
	vec_each(&c->layers, l)
		layer_free(*l);
	vec_fini(&c->layers);
	vec_each(&c->notes, note)
		free(*note);
	vec_fini(&c->notes);
	vec_fini(&c->reuse);
	vec_each(&c->documents, m)
		reg_manifest_free(*m);
	vec_fini(&c->documents);
	map_fini(&c->by_digest);
	map_fini(&c->nodes);
	map_fini(&c->by_layer);
	map_fini(&c->by_source);
	free(c->how);
	free(c);
}
