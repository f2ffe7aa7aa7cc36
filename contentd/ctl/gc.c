/* Verbs gc and why: the collector, asked. */
#include "base/json.h"
#include "contentd/ctl/ctl.h"
#include "contentd/ctl/term.h"
#include "rpc/proto/node.pb-c.h"

#include <stdio.h>

/* ---- gc ---- */

static void print_collected(const Node__CollectResponse *rsp, bool dry_run)
{
	char bytes[16];

	if (!rsp->n_collected)
		printf("nothing to collect\n");
	for (size_t i = 0; i < rsp->n_collected; i++) {
		const Node__Collected *k = rsp->collected[i];

		if (!dry_run) {
			printf("%s: %llu removed", k->kind, (unsigned long long)k->count);
			printf(k->bytes ? ", %s\n" : "\n", term_size((int64_t)k->bytes, bytes));
			continue;
		}
		for (size_t n = 0; n < k->n_names; n++)
			printf("%s %s\n", k->kind, k->names[n]);
		if (k->count > k->n_names)
			printf("%s: %llu more\n", k->kind, (unsigned long long)(k->count - k->n_names));
	}
}

static void print_collected_json(const Node__CollectResponse *rsp)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &b, "  ");
	json_w_array_begin(&w);
	for (size_t i = 0; i < rsp->n_collected; i++) {
		const Node__Collected *k = rsp->collected[i];

		json_w_object_begin(&w);
		json_w_kcstr(&w, "kind", k->kind);
		json_w_ki64(&w, "count", (int64_t)k->count);
		json_w_ki64(&w, "bytes", (int64_t)k->bytes);
		json_w_key(&w, "names");
		json_w_array_begin(&w);
		for (size_t n = 0; n < k->n_names; n++)
			json_w_cstr(&w, k->names[n]);
		json_w_array_end(&w);
		json_w_object_end(&w);
	}
	json_w_array_end(&w);
	printf("%s\n", buf_cstr(&b));
}

static const struct argp_option GC_OPTIONS[] = {
    {"dry-run", 'n', NULL, 0, "only say what would be removed", 0},
    {0},
};

static error_t parse_gc(int key, char *arg, struct argp_state *state)
{
	if (key == 'n')
		*(bool *)state->input = true;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "gc takes no argument");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

int ctl_gc_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {GC_OPTIONS, parse_gc, "",  "Removes what nothing refers to, and waits until it is gone.",
	                    NULL,       NULL,     NULL};
	Node__CollectRequest req = NODE__COLLECT_REQUEST__INIT;
	AUTO(pb) Node__CollectResponse *rsp = NULL;
	struct err err = ERR_INIT;
	bool dry_run = false;

	ctl_parse(c, &argp, 0, argc, argv, &dry_run);
	req.dry_run = dry_run;
	if (ctl_connect(c, &err) < 0 ||
	    rpc_call(c->client, &node__node__descriptor, "Collect", NULL, &req.base, &rsp, &err) < 0)
		return ctl_fail(c, &err);
	if (c->json)
		print_collected_json(rsp);
	else
		print_collected(rsp, dry_run);
	return 0;
}

/* ---- why ---- */

static void print_link(const Node__Link *l)
{
	printf("%s ", l->kind);
	if (*l->namespace_)
		printf("%s/", l->namespace_);
	if (*l->snapshotter)
		printf("%s/", l->snapshotter);
	printf("%s", l->key);
}

static void print_why(const Node__Why *w)
{
	if (!w->n_chain) {
		print_link(w->thing);
		printf(": nothing keeps it\n");
		return;
	}
	for (size_t i = 0; i < w->n_chain; i++) {
		if (i)
			printf("%*s%s -> ", (int)(2 * i), "", w->chain[i]->how);
		print_link(w->chain[i]);
		printf(i ? "\n" : " (%s)\n", w->root);
	}
}

static void write_link(struct json_writer *w, const Node__Link *l)
{
	json_w_object_begin(w);
	json_w_kcstr(w, "kind", l->kind);
	json_w_kcstr(w, "namespace", l->namespace_);
	json_w_kcstr(w, "snapshotter", l->snapshotter);
	json_w_kcstr(w, "key", l->key);
	json_w_kcstr(w, "how", l->how);
	json_w_object_end(w);
}

static void print_why_json(const Node__WhyResponse *rsp)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &b, "  ");
	json_w_array_begin(&w);
	for (size_t i = 0; i < rsp->n_things; i++) {
		const Node__Why *why = rsp->things[i];

		json_w_object_begin(&w);
		json_w_key(&w, "thing");
		write_link(&w, why->thing);
		json_w_kcstr(&w, "root", why->root);
		json_w_key(&w, "chain");
		json_w_array_begin(&w);
		for (size_t n = 0; n < why->n_chain; n++)
			write_link(&w, why->chain[n]);
		json_w_array_end(&w);
		json_w_object_end(&w);
	}
	json_w_array_end(&w);
	printf("%s\n", buf_cstr(&b));
}

static error_t parse_why(int key, char *arg, struct argp_state *state)
{
	const char **name = state->input;

	if (key == ARGP_KEY_ARG && !*name)
		*name = arg;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "one name at a time");
	else if (key == ARGP_KEY_NO_ARGS)
		argp_error(state, "why what?");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

int ctl_why_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {
	    NULL,
	    parse_why,
	    "NAME",
	    "Shows what keeps a thing: an image, a snapshot, a container, a lease, an ingest by its name, a "
	    "blob by its digest, an index or an object by its 64 hex digits. The beginning of a digest will do.",
	    NULL,
	    NULL,
	    NULL};
	Node__WhyRequest req = NODE__WHY_REQUEST__INIT;
	AUTO(pb) Node__WhyResponse *rsp = NULL;
	const char *name = NULL;
	struct err err = ERR_INIT;

	ctl_parse(c, &argp, 0, argc, argv, &name);
	req.name = name;
	if (ctl_connect(c, &err) < 0 ||
	    rpc_call(c->client, &node__node__descriptor, "Why", NULL, &req.base, &rsp, &err) < 0)
		return ctl_fail(c, &err);
	if (c->json)
		print_why_json(rsp);
	else
		for (size_t i = 0; i < rsp->n_things; i++)
			print_why(rsp->things[i]);
	return 0;
}
