/* contentctl content: blobs and the ingests that become them. */
#include "contentd/ctl/content.h"
#include "contentd/ctl/ctl.h"
#include "contentd/ctl/term.h"

#include "base/file.h"
#include "base/json.h"
#include "rpc/proto/content.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define CONTENT(c, method, req, rsp, err)                                                                              \
	rpc_call((c)->client, &content__content__descriptor, method, NULL, &(req).base, rsp, err)

/* ---- what all sub-verbs take ---- */

struct args {
	char **v; /* positional */
	unsigned n, min, max;
	bool quiet;
	const char *digest;
	int64_t offset, size;
	VEC(const char *) labels;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;
	char *end;

	switch (key) {
	case 'q':
		a->quiet = true;
		return 0;
	case 'd':
		a->digest = arg;
		return 0;
	case 'l':
		if (!strchr(arg, '='))
			argp_error(state, "'%s' is no KEY=VALUE", arg);
		vec_push(&a->labels, arg);
		return 0;
	case 'o':
	case 's':
		*(key == 'o' ? &a->offset : &a->size) = strtoll(arg, &end, 10);
		if (!*arg || *end || a->offset < 0 || a->size < 0)
			argp_error(state, "'%s' is no number of bytes", arg);
		return 0;
	case ARGP_KEY_ARGS:
		a->v = state->argv + state->next;
		a->n = (unsigned)(state->argc - state->next);
		state->next = state->argc;
		return 0;
	case ARGP_KEY_END:
		if (a->n < a->min || a->n > a->max)
			argp_error(state, a->n < a->min ? "an argument is missing" : "too many arguments");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* What failed for one argument of several. */
static int fail_one(struct ctl *c, const char *what, struct err *err)
{
	err_wrap(err, "%s", what);
	return ctl_fail(c, err);
}

/* ---- lists ---- */

static const char *labels_text(struct ctl *c, Kv__Entry *const *list, size_t n)
{
	AUTO(buf) struct buf b = BUF_INIT;

	for (size_t i = 0; i < n; i++)
		buf_addf(&b, "%s%s=%s", i ? "," : "", list[i]->key, list[i]->value);
	return n ? arena_str(&c->arena, buf_str(&b)) : "-";
}

static void print_info_json(const Content__Info *i, struct json_writer *w)
{
	char created[40];

	json_w_object_begin(w);
	json_w_kcstr(w, "digest", i->digest);
	json_w_ki64(w, "size", i->size);
	json_w_kcstr(w, "created", time_rfc3339(pb_time(i->created_at), created));
	json_w_kcstr(w, "updated", time_rfc3339(pb_time(i->updated_at), created));
	json_w_key(w, "labels");
	json_w_object_begin(w);
	for (size_t k = 0; k < i->n_labels; k++)
		json_w_kcstr(w, i->labels[k]->key, i->labels[k]->value);
	json_w_object_end(w);
	json_w_object_end(w);
}

/* A server's stream of messages, one after the other. */
static int open_list(struct ctl *c, const char *method, const ProtobufCMessage *req, struct rpc_stream **s,
                     struct err *err)
{
	TRY(ctl_connect(c, err));
	TRY(rpc_stream_open(c->client, &content__content__descriptor, method, NULL, s, err));
	TRY(rpc_stream_send(*s, req, err));
	return rpc_stream_close_send(*s, err);
}

struct listed {
	struct term_table table;
	struct json_writer json;
};

static void list_message(struct ctl *c, const struct args *a, const Content__ListContentResponse *m, struct listed *l)
{
	char size[16], age[32];

	for (size_t i = 0; i < m->n_info; i++) {
		const Content__Info *info = m->info[i];

		if (c->json)
			print_info_json(info, &l->json);
		else if (a->quiet)
			printf("%s\n", info->digest);
		else
			term_row(&l->table, info->digest, term_size(info->size, size),
			         term_age(pb_time(info->created_at), age),
			         labels_text(c, info->labels, info->n_labels));
	}
}

static int list(struct ctl *c, const struct args *a, struct err *err)
{
	Content__ListContentRequest req = CONTENT__LIST_CONTENT_REQUEST__INIT;
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	AUTO(buf) struct buf out = BUF_INIT;
	struct listed l = {.table = {.columns = 4, .cells = VEC_INIT}};
	int r;

	req.filters = (const char **)a->v;
	req.n_filters = a->n;
	TRY(open_list(c, "List", &req.base, &s, err));
	json_writer_init(&l.json, &out, "  ");
	json_w_array_begin(&l.json);
	term_row(&l.table, "DIGEST", "SIZE", "CREATED", "LABELS");
	do {
		AUTO(pb) Content__ListContentResponse *m = NULL;

		r = rpc_stream_recv(s, INT64_MAX, &m, err);
		if (r == RPC_MESSAGE)
			list_message(c, a, m, &l);
	} while (r == RPC_MESSAGE);
	json_w_array_end(&l.json);
	if (r >= 0 && c->json)
		printf("%s\n", buf_cstr(&out));
	if (r < 0 || c->json || a->quiet)
		vec_clear(&l.table.cells);
	term_table_print(&l.table);
	return r;
}

static int ls_verb(struct ctl *c, int argc, char **argv)
{
	static const struct argp_option options[] = {{"quiet", 'q', NULL, 0, "digests only", 0}, {0}};
	struct argp argp = {options, parse, "[FILTER...]", "Lists blobs; several filters: any of them.",
	                    NULL,    NULL,  NULL};
	struct args a = {.max = UINT_MAX};
	struct err err = ERR_INIT;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	return list(c, &a, &err) < 0 ? ctl_fail(c, &err) : 0;
}

static void print_statuses(struct ctl *c, const Content__ListStatusesResponse *rsp)
{
	struct term_table t = {.columns = 4, .cells = VEC_INIT};
	char done[16], total[16], age[32];

	term_row(&t, "REF", "WRITTEN", "OF", "UPDATED");
	for (size_t i = 0; i < rsp->n_statuses; i++) {
		const Content__Status *s = rsp->statuses[i];

		term_row(&t, s->ref, term_size(s->offset, done), s->total ? term_size(s->total, total) : "?",
		         term_age(pb_time(s->updated_at), age));
	}
	term_table_print(&t);
}

static void print_statuses_json(const Content__ListStatusesResponse *rsp)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;
	char at[40];

	json_writer_init(&w, &b, "  ");
	json_w_array_begin(&w);
	for (size_t i = 0; i < rsp->n_statuses; i++) {
		const Content__Status *s = rsp->statuses[i];

		json_w_object_begin(&w);
		json_w_kcstr(&w, "ref", s->ref);
		json_w_ki64(&w, "offset", s->offset);
		json_w_ki64(&w, "total", s->total);
		json_w_kcstr(&w, "expected", s->expected);
		json_w_kcstr(&w, "started", time_rfc3339(pb_time(s->started_at), at));
		json_w_kcstr(&w, "updated", time_rfc3339(pb_time(s->updated_at), at));
		json_w_object_end(&w);
	}
	json_w_array_end(&w);
	printf("%s\n", buf_cstr(&b));
}

static int list_ingests(struct ctl *c, const struct args *a, struct err *err)
{
	Content__ListStatusesRequest req = CONTENT__LIST_STATUSES_REQUEST__INIT;
	AUTO(pb) Content__ListStatusesResponse *rsp = NULL;

	req.filters = (const char **)a->v;
	req.n_filters = a->n;
	TRY(ctl_connect(c, err));
	TRY(CONTENT(c, "ListStatuses", req, &rsp, err));
	if (c->json)
		print_statuses_json(rsp);
	else
		print_statuses(c, rsp);
	return 0;
}

static int ingests_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {
	    NULL, parse, "[FILTER...]", "Lists blobs that are being written, or were and can be resumed.",
	    NULL, NULL,  NULL};
	struct args a = {.max = UINT_MAX};
	struct err err = ERR_INIT;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	return list_ingests(c, &a, &err) < 0 ? ctl_fail(c, &err) : 0;
}

/* ---- get ---- */

static int get(struct ctl *c, const struct args *a, struct err *err)
{
	Content__ReadContentRequest req = CONTENT__READ_CONTENT_REQUEST__INIT;
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	int r;

	req.digest = a->v[0];
	req.offset = a->offset;
	req.size = a->size;
	TRY(open_list(c, "Read", &req.base, &s, err));
	do {
		AUTO(pb) Content__ReadContentResponse *m = NULL;

		r = rpc_stream_recv(s, INT64_MAX, &m, err);
		if (r == RPC_MESSAGE && fwrite(m->data.data, 1, m->data.len, stdout) != m->data.len)
			return 0; /* main says what became of standard output */
	} while (r == RPC_MESSAGE);
	return r;
}

static int get_verb(struct ctl *c, int argc, char **argv)
{
	static const struct argp_option options[] = {
	    {"offset", 'o', "BYTES", 0, "begin there", 0}, {"size", 's', "BYTES", 0, "at most so many", 0}, {0}};
	struct argp argp = {options, parse, "DIGEST", "Writes a blob to standard output.", NULL, NULL, NULL};
	struct args a = {.min = 1, .max = 1};
	struct err err = ERR_INIT;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	return get(c, &a, &err) < 0 ? ctl_fail(c, &err) : 0;
}

/* ---- rm, abort, label ---- */

static int each(struct ctl *c, const struct args *a, int (*fn)(struct ctl *c, const char *what, struct err *err))
{
	struct err err = ERR_INIT;
	int status = 0;

	if (ctl_connect(c, &err) < 0)
		return ctl_fail(c, &err);
	for (unsigned i = 0; i < a->n; i++) {
		err = ERR_INIT;
		if (fn(c, a->v[i], &err) < 0)
			status = fail_one(c, a->v[i], &err);
		else
			printf("%s\n", a->v[i]);
	}
	return status;
}

static int remove_one(struct ctl *c, const char *digest, struct err *err)
{
	Content__DeleteContentRequest req = CONTENT__DELETE_CONTENT_REQUEST__INIT;

	req.digest = digest;
	return CONTENT(c, "Delete", req, NULL, err);
}

static int rm_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {
	    NULL, parse, "DIGEST...", "Removes blobs from the namespace. The bytes go when nobody has them.",
	    NULL, NULL,  NULL};
	struct args a = {.min = 1, .max = UINT_MAX};

	ctl_parse(c, &argp, 0, argc, argv, &a);
	return each(c, &a, remove_one);
}

static int abort_one(struct ctl *c, const char *ref, struct err *err)
{
	Content__AbortRequest req = CONTENT__ABORT_REQUEST__INIT;

	req.ref = ref;
	return CONTENT(c, "Abort", req, NULL, err);
}

static int abort_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {NULL, parse, "REF...", "Ends ingests and drops what was written.", NULL, NULL, NULL};
	struct args a = {.min = 1, .max = UINT_MAX};

	ctl_parse(c, &argp, 0, argc, argv, &a);
	return each(c, &a, abort_one);
}

static Kv__Entry **labels_of(struct ctl *c, char *const *texts, size_t n)
{
	Kv__Entry **list = arena_alloc(&c->arena, (n + 1) * sizeof(*list));

	for (size_t i = 0; i < n; i++) {
		const char *equals = strchr(texts[i], '=');

		list[i] = pb_kv_new(&c->arena, arena_str(&c->arena, str_make(texts[i], (size_t)(equals - texts[i]))),
		                    equals + 1);
	}
	return list;
}

static int label(struct ctl *c, const struct args *a, struct err *err)
{
	Content__UpdateRequest req = CONTENT__UPDATE_REQUEST__INIT;
	AUTO(pb) Content__UpdateResponse *rsp = NULL;
	Content__Info info = CONTENT__INFO__INIT;
	Pb__FieldMask mask = PB__FIELD_MASK__INIT;
	size_t n = a->n - 1;

	for (size_t i = 1; i < a->n; i++)
		if (!strchr(a->v[i], '='))
			return err_set(err, ERR_INVALID, "'%s' is no KEY=VALUE", a->v[i]);
	info.digest = a->v[0];
	info.labels = labels_of(c, a->v + 1, n);
	info.n_labels = n;
	mask.paths = arena_alloc(&c->arena, (n + 1) * sizeof(*mask.paths));
	for (; mask.n_paths < n; mask.n_paths++)
		mask.paths[mask.n_paths] = arena_printf(&c->arena, "labels.%s", info.labels[mask.n_paths]->key);
	req.info = &info;
	req.update_mask = &mask;
	TRY(ctl_connect(c, err));
	TRY(CONTENT(c, "Update", req, &rsp, err));
	if (rsp->info)
		printf("%s\n", labels_text(c, rsp->info->labels, rsp->info->n_labels));
	return 0;
}

static int label_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {NULL, parse, "DIGEST KEY=VALUE...", "Sets labels; KEY= takes one away.", NULL, NULL, NULL};
	struct args a = {.min = 2, .max = UINT_MAX};
	struct err err = ERR_INIT;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	return label(c, &a, &err) < 0 ? ctl_fail(c, &err) : 0;
}

/* ---- put ---- */

#define PUT_BYTES (1u << 20)

struct put {
	struct ctl *c;
	const struct args *args;
	struct rpc_stream *s;
	int fd;
	int64_t offset;
	const char *digest; /* in the arena of c */
};

static int say(struct put *p, const Content__WriteContentRequest *req, struct err *err)
{
	AUTO(pb) Content__WriteContentResponse *rsp = NULL;
	int r;

	rpc_stream_send(p->s, &req->base, NULL); /* why it failed, the answer says */
	r = rpc_stream_recv(p->s, INT64_MAX, &rsp, err);
	TRY(r);
	if (r != RPC_MESSAGE)
		return err_set(err, ERR_INTERNAL, "the server ended the write without an answer");
	p->offset = rsp->offset;
	p->digest = arena_strdup(&p->c->arena, rsp->digest);
	return 0;
}

/* What the ingest has already is passed over. */
static int skip(struct put *p, char *bytes, struct err *err)
{
	int64_t left = p->offset;

	if (!left || lseek(p->fd, left, SEEK_CUR) >= 0)
		return 0;
	while (left) {
		ssize_t n = read(p->fd, bytes, left < PUT_BYTES ? (size_t)left : PUT_BYTES);

		if (n < 0)
			return err_errno(err, errno, "read");
		if (n == 0)
			return err_set(err, ERR_INVALID, "the input is shorter than what was written of it before");
		left -= n;
	}
	return 0;
}

static int copy(struct put *p, char *bytes, struct err *err)
{
	for (;;) {
		Content__WriteContentRequest req = CONTENT__WRITE_CONTENT_REQUEST__INIT;
		ssize_t n = read(p->fd, bytes, PUT_BYTES);

		if (n < 0)
			return err_errno(err, errno, "read");
		if (n == 0)
			return 0;
		req.action = CONTENT__WRITE_ACTION__WRITE;
		req.offset = p->offset;
		req.data = (ProtobufCBinaryData){(size_t)n, (uint8_t *)bytes};
		TRY(say(p, &req, err));
	}
}

static int put_stream(struct put *p, struct err *err)
{
	Content__WriteContentRequest stat = CONTENT__WRITE_CONTENT_REQUEST__INIT;
	Content__WriteContentRequest commit = CONTENT__WRITE_CONTENT_REQUEST__INIT;
	AUTO_FREE char *bytes = xmalloc(PUT_BYTES);

	stat.action = CONTENT__WRITE_ACTION__STAT;
	stat.ref = p->args->v[0];
	stat.expected = p->args->digest ?: "";
	TRY(say(p, &stat, err));
	TRY(skip(p, bytes, err));
	TRY(copy(p, bytes, err));
	commit.action = CONTENT__WRITE_ACTION__COMMIT;
	commit.offset = p->offset;
	commit.total = p->offset;
	commit.expected = stat.expected;
	commit.labels = labels_of(p->c, (char *const *)p->args->labels.p, p->args->labels.n);
	commit.n_labels = p->args->labels.n;
	return say(p, &commit, err);
}

static int put(struct ctl *c, const struct args *a, struct err *err)
{
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	struct put p = {.c = c, .args = a, .fd = STDIN_FILENO};
	AUTO_FD int file = -1;

	if (a->n > 1) {
		p.fd = file = open(a->v[1], O_RDONLY | O_CLOEXEC);
		if (file < 0)
			return err_errno(err, errno, "open %s", a->v[1]);
	}
	TRY(ctl_connect(c, err));
	TRY(rpc_stream_open(c->client, &content__content__descriptor, "Write", NULL, &s, err));
	p.s = s;
	TRY(put_stream(&p, err));
	printf("%s\n", p.digest);
	return 0;
}

static int put_verb(struct ctl *c, int argc, char **argv)
{
	static const struct argp_option options[] = {
	    {"digest", 'd', "DIGEST", 0, "what it has to be", 0},
	    {"label", 'l', "KEY=VALUE", 0, "label of the blob; containerd.io/gc.root=1 keeps it", 0},
	    {0}};
	struct argp argp = {
	    options,
	    parse,
	    "REF [FILE]",
	    "Writes a blob from a file or standard input, and prints its digest. REF names the attempt: "
	    "one that was interrupted goes on where it was.",
	    NULL,
	    NULL,
	    NULL};
	struct args a = {.min = 1, .max = 2};
	struct err err = ERR_INIT;
	int r;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	r = put(c, &a, &err);
	vec_fini(&a.labels);
	return r < 0 ? ctl_fail(c, &err) : 0;
}

/* ---- the table ---- */

static const struct ctl_verb VERBS[] = {
    {"ls", "[FILTER...]", "list blobs", ls_verb},
    {"get", "DIGEST", "write a blob to standard output", get_verb},
    {"put", "REF [FILE]", "write a blob into the store", put_verb},
    {"rm", "DIGEST...", "remove blobs", rm_verb},
    {"label", "DIGEST KEY=VALUE...", "set labels of a blob", label_verb},
    {"ingests", "[FILTER...]", "list blobs that are being written", ingests_verb},
    {"abort", "REF...", "end ingests", abort_verb},
    {"verify", "[--repair]", "read everything and hold it against its digest", ctl_verify_verb},
};

static int help(int status)
{
	FILE *out = status ? stderr : stdout;

	fprintf(out, "Usage: contentctl content VERB [ARGS...]\n\n");
	for (size_t i = 0; i < ARRAY_LEN(VERBS); i++)
		fprintf(out, "  %-8s %-20s %s\n", VERBS[i].name, VERBS[i].args, VERBS[i].help);
	fprintf(out, "\n`contentctl content VERB --help' tells more of each.\n");
	return status;
}

int ctl_content_verb(struct ctl *c, int argc, char **argv)
{
	AUTO_FREE char *name = NULL;

	if (argc < 2)
		return help(CTL_EXIT_USAGE);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-?"))
		return help(0);
	for (size_t i = 0; i < ARRAY_LEN(VERBS); i++)
		if (!strcmp(argv[1], VERBS[i].name)) {
			argv[1] = name = xasprintf("contentctl content %s", VERBS[i].name);
			return VERBS[i].run(c, argc - 1, argv + 1);
		}
	return ctl_usage("content", "there is no verb '%s'", argv[1]);
}
