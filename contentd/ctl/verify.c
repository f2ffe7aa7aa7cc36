/* contentctl content verify. */
#include "contentd/ctl/content.h"
#include "contentd/ctl/term.h"

#include "base/json.h"
#include "rpc/proto/node.pb-c.h"

#include <stdio.h>

struct verifying {
	struct ctl *c;
	struct term_progress bars;
	struct buf json;
	struct json_writer w;
	uint64_t damaged, repaired;
};

static void print_damage(const Node__Damage *d)
{
	printf("%s: %s\n", d->path, d->reason);
	for (size_t i = 0; i < d->n_images; i++)
		printf("  used by %s\n", d->images[i]);
	if (*d->outcome)
		printf("  %s\n", d->outcome);
}

static void write_damage(struct json_writer *w, const Node__Damage *d)
{
	json_w_object_begin(w);
	json_w_kcstr(w, "kind", d->kind);
	json_w_kcstr(w, "name", d->name);
	json_w_kcstr(w, "path", d->path);
	json_w_kcstr(w, "reason", d->reason);
	json_w_key(w, "images");
	json_w_array_begin(w);
	for (size_t i = 0; i < d->n_images; i++)
		json_w_cstr(w, d->images[i]);
	json_w_array_end(w);
	json_w_kcstr(w, "outcome", d->outcome);
	json_w_kbool(w, "repaired", d->repaired);
	json_w_object_end(w);
}

static void write_summary(struct verifying *v, const Node__VerifySummary *s)
{
	json_w_array_end(&v->w);
	json_w_ki64(&v->w, "blobs", (int64_t)s->blobs);
	json_w_ki64(&v->w, "indexes", (int64_t)s->indexes);
	json_w_ki64(&v->w, "objects", (int64_t)s->objects);
	json_w_ki64(&v->w, "bytes", (int64_t)s->bytes);
	json_w_ki64(&v->w, "damaged", (int64_t)s->damaged);
	json_w_ki64(&v->w, "repaired", (int64_t)s->repaired);
	json_w_object_end(&v->w);
	printf("%s\n", buf_cstr(&v->json));
}

static void print_summary(const Node__VerifySummary *s)
{
	char bytes[16];

	printf("%llu blobs, %llu layer indexes and %llu objects read (%s): ", (unsigned long long)s->blobs,
	       (unsigned long long)s->indexes, (unsigned long long)s->objects, term_size((int64_t)s->bytes, bytes));
	if (!s->damaged)
		printf("all are what they should be\n");
	else
		printf("%llu damaged, %llu repaired\n", (unsigned long long)s->damaged,
		       (unsigned long long)s->repaired);
}

static void take(struct verifying *v, const Node__VerifyEvent *e)
{
	if (*e->phase)
		term_progress_set(&v->bars, e->phase, "verifying", e->done, e->total);
	if (e->damage && v->c->json)
		write_damage(&v->w, e->damage);
	else if (e->damage)
		print_damage(e->damage);
	if (!e->summary)
		return;
	v->damaged = e->summary->damaged;
	v->repaired = e->summary->repaired;
	term_progress_end(&v->bars, false);
	if (v->c->json)
		write_summary(v, e->summary);
	else
		print_summary(e->summary);
}

/* An interrupt ends this process, and with it the call: the server stops reading. */
static int run(struct verifying *v, bool repair, struct err *err)
{
	Node__VerifyRequest req = NODE__VERIFY_REQUEST__INIT;
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	int r;

	req.repair = repair;
	TRY(ctl_connect(v->c, err));
	TRY(rpc_stream_open(v->c->client, &node__node__descriptor, "Verify", NULL, &s, err));
	TRY(rpc_stream_send(s, &req.base, err));
	TRY(rpc_stream_close_send(s, err));
	do {
		AUTO(pb) Node__VerifyEvent *e = NULL;

		r = rpc_stream_recv(s, INT64_MAX, &e, err);
		if (r == RPC_MESSAGE)
			take(v, e);
	} while (r == RPC_MESSAGE);
	return r;
}

static const struct argp_option OPTIONS[] = {
    {"repair", 'r', NULL, 0, "fetch or make again what is damaged, or remove it where that cannot be", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	if (key == 'r')
		*(bool *)state->input = true;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "verify takes no argument");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

int ctl_verify_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {OPTIONS,
	                    parse,
	                    "",
	                    "Reads all blobs, layer indexes and objects of all namespaces and holds them against their "
	                    "digests. Status 1: something is damaged, and was not repaired.",
	                    NULL,
	                    NULL,
	                    NULL};
	struct verifying v = {.c = c, .json = BUF_INIT};
	struct err err = ERR_INIT;
	bool repair = false;
	int r;

	ctl_parse(c, &argp, 0, argc, argv, &repair);
	v.bars = TERM_PROGRESS_INIT(c->tty);
	json_writer_init(&v.w, &v.json, "  ");
	json_w_object_begin(&v.w);
	json_w_key(&v.w, "damages");
	json_w_array_begin(&v.w);
	r = run(&v, repair, &err);
	term_progress_end(&v.bars, false);
	buf_fini(&v.json);
	if (r < 0)
		return ctl_fail(c, &err);
	return v.damaged > v.repaired ? 1 : 0;
}
