/*
 * Pulling through the daemon: Transfer(OCIRegistry -> ImageStore) beside two streams, one on which the daemon asks for
 * credentials, one on which it reports progress (containerd's Streaming service).
 */
#include "contentd/ctl/image.h"
#include "contentd/ctl/term.h"

#include "base/json.h"
#include "registry/auth.h"
#include "registry/manifest.h"
#include "registry/reference.h"
#include "rpc/proto/streaming.pb-c.h"
#include "rpc/proto/transfer.pb-c.h"
#include "rpc/proto/xfer.pb-c.h"

#include <stdio.h>
#include <sys/random.h>

#define HELPER_PATIENCE (30 * NS_PER_S)

struct pull {
	struct ctl *c;
	const char *name;
	const char *creds; /* --creds, or NULL */
	struct rpc_stream *auth, *progress, *transfer;
	struct term_progress bars;
	struct image_times *times;
};

/* ---- streams ---- */

static int open_stream(struct pull *p, const char *id, struct rpc_stream **out, struct err *err)
{
	Streaming__StreamInit init = STREAMING__STREAM_INIT__INIT;
	AUTO(pb) Pb__Any *ack = NULL;
	int r;

	init.id = id;
	TRY(rpc_stream_open(p->c->client, &streaming__streaming__descriptor, "Stream", NULL, out, err));
	TRY(rpc_stream_send(*out, &pb_any_new(&p->c->arena, &init.base)->base, err));
	r = rpc_stream_recv(*out, INT64_MAX, &ack, err);
	if (r < 0)
		return err_wrap(err, "open stream");
	return r == RPC_MESSAGE ? 0 : err_set(err, ERR_INTERNAL, "the daemon closed a stream at once");
}

static int find_credentials(struct pull *p, const char *host, struct reg_credentials *out, struct err *err)
{
	if (p->creds)
		return reg_credentials_parse(str_of(p->creds), out, err);
	return reg_docker_config_lookup(NULL, str_of(host), clock_mono_ns() + HELPER_PATIENCE, out, err);
}

static int answer_auth(struct pull *p, const Pb__Any *any, struct err *err)
{
	AUTO(reg_credentials) struct reg_credentials found = REG_CREDENTIALS_INIT;
	Xfer__AuthResponse rsp = XFER__AUTH_RESPONSE__INIT;
	Xfer__AuthRequest *req;
	struct err why = ERR_INIT;

	TRY(pb_any_unpack_in(&p->c->arena, any, &xfer__auth_request__descriptor, &req, err));
	if (find_credentials(p, req->host, &found, &why) < 0)
		fprintf(stderr, "contentctl: credentials for %s: %s\n", req->host, why.msg);
	if (found.identity_token) {
		rsp.authtype = XFER__AUTH_TYPE__REFRESH;
		rsp.secret = found.identity_token;
	} else if (found.password) {
		rsp.authtype = XFER__AUTH_TYPE__CREDENTIALS;
		rsp.username = found.username ?: "";
		rsp.secret = found.password;
	}
	return rpc_stream_send(p->auth, &pb_any_new(&p->c->arena, &rsp.base)->base, err);
}

/* ---- progress ---- */

static void note_phase(struct image_times *t, const char *name, int64_t ns)
{
	if (!strcmp(name, "resolve"))
		t->resolve_ns = ns;
	else if (!strcmp(name, "open layers"))
		t->open_ns = ns;
	else if (!strcmp(name, "unpack"))
		t->unpack_ns = ns;
	else if (!strcmp(name, "mount"))
		t->mount_ns = ns;
}

static void print_json(const Xfer__Progress *m)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &b, NULL);
	json_w_object_begin(&w);
	json_w_kcstr(&w, "event", m->event);
	json_w_kcstr(&w, "name", m->name);
	json_w_ki64(&w, "progress", m->progress);
	json_w_ki64(&w, "total", m->total);
	json_w_object_end(&w);
	fprintf(stderr, "%s\n", buf_cstr(&b));
}

static int show_progress(struct pull *p, const Pb__Any *any, struct err *err)
{
	Xfer__Progress *m;
	const char *name;

	TRY(pb_any_unpack_in(&p->c->arena, any, &xfer__progress__descriptor, &m, err));
	if (!strcmp(m->event, "phase")) {
		if (p->times)
			note_phase(p->times, m->name, m->progress);
		return 0;
	}
	if (p->c->json)
		print_json(m);
	/* "layer-sha256:0123..." -> "layer 0123456789ab"; names of images stay */
	name = strstr(m->name, "sha256:");
	name = name ? arena_printf(&p->c->arena, "%.*s%.12s", (int)(name - m->name), m->name, name + 7) : m->name;
	term_progress_set(&p->bars, name, m->event, m->progress, m->total);
	return 0;
}

/* ---- the transfer ---- */

static int start_transfer(struct pull *p, const char *lazy, const char *auth_id, const char *progress_id,
                          struct err *err)
{
	struct arena *a = &p->c->arena;
	Transfer__TransferRequest req = TRANSFER__TRANSFER_REQUEST__INIT;
	Transfer__TransferOptions options = TRANSFER__TRANSFER_OPTIONS__INIT;
	Xfer__OCIRegistry source = XFER__OCIREGISTRY__INIT;
	Xfer__RegistryResolver resolver = XFER__REGISTRY_RESOLVER__INIT;
	Xfer__ImageStore store = XFER__IMAGE_STORE__INIT;
	Xfer__UnpackConfiguration unpack = XFER__UNPACK_CONFIGURATION__INIT;
	Xfer__UnpackConfiguration *unpacks[] = {&unpack};
	const struct reg_platform host = reg_platform_host();
	Types__Platform platform = TYPES__PLATFORM__INIT, *platforms[] = {&platform};
	Kv__Entry *labels[] = {pb_kv_new(a, "contentd.io/lazy", lazy)};

	resolver.auth_stream = auth_id;
	source.reference = p->name;
	source.resolver = &resolver;
	unpack.snapshotter = CTL_SNAPSHOTTER;
	store.name = p->name;
	store.labels = labels;
	store.n_labels = 1;
	platform.os = host.os.p;
	platform.architecture = host.architecture.p;
	store.platforms = platforms;
	store.n_platforms = 1;
	unpack.platform = &platform;
	store.unpacks = unpacks;
	store.n_unpacks = 1;
	options.progress_stream = progress_id;
	req.source = pb_any_new(a, &source.base);
	req.destination = pb_any_new(a, &store.base);
	req.options = &options;
	TRY(rpc_stream_open(p->c->client, &transfer__transfer__descriptor, "Transfer", NULL, &p->transfer, err));
	TRY(rpc_stream_send(p->transfer, &req.base, err));
	return rpc_stream_close_send(p->transfer, err);
}

static int drain(struct pull *p, struct rpc_stream *s, int (*fn)(struct pull *p, const Pb__Any *any, struct err *err),
                 struct err *err)
{
	struct err ended = ERR_INIT;

	for (;;) {
		AUTO(pb) Pb__Any *any = NULL;

		/* The end of a stream is no news: the transfer's own answer counts. */
		if (rpc_stream_try_recv(s, &any, &ended) != RPC_MESSAGE)
			return 0;
		TRY(fn(p, any, err));
	}
}

static int pump(struct pull *p, struct err *err)
{
	for (;;) {
		AUTO(pb) Pb__Empty *done = NULL;
		int r;

		TRY(drain(p, p->auth, answer_auth, err));
		TRY(drain(p, p->progress, show_progress, err));
		r = rpc_stream_try_recv(p->transfer, &done, err);
		if (r < 0)
			return r;
		if (r != RPC_AGAIN)
			return drain(p, p->progress, show_progress, err);
		TRY(rpc_client_poll(p->c->client, NULL, 0, INT64_MAX, err));
	}
}

static const char *stream_id(struct ctl *c, const char *what)
{
	uint64_t random = 0;

	if (getrandom(&random, sizeof(random), 0) < 0)
		random = (uint64_t)clock_mono_ns();
	return arena_printf(&c->arena, "%s-%d-%016llx", what, (int)getpid(), (unsigned long long)random);
}

static int pull(struct pull *p, const char *lazy, struct err *err)
{
	const char *auth_id = stream_id(p->c, "auth"), *progress_id = stream_id(p->c, "progress");

	TRY(open_stream(p, auth_id, &p->auth, err));
	TRY(open_stream(p, progress_id, &p->progress, err));
	TRY(start_transfer(p, lazy, auth_id, progress_id, err));
	return pump(p, err);
}

static int pull_as(struct ctl *c, const char *full_name, const char *lazy, const char *creds, struct image_times *times,
                   struct err *err)
{
	struct pull p = {
	    .c = c, .name = full_name, .creds = creds, .bars = TERM_PROGRESS_INIT(c->tty && !c->json), .times = times};
	int64_t begun = clock_mono_ns();
	int r;

	r = pull(&p, lazy, err);
	term_progress_end(&p.bars, r < 0);
	rpc_stream_free(p.auth);
	rpc_stream_free(p.progress);
	rpc_stream_free(p.transfer);
	if (times)
		times->total_ns = clock_mono_ns() - begun;
	return r;
}

int image_pull(struct ctl *c, const char *full_name, const char *lazy, struct image_times *times, struct err *err)
{
	return pull_as(c, full_name, lazy, NULL, times, err);
}

/* ---- the verb ---- */

struct pull_args {
	const char *image, *lazy, *creds;
};

static const struct argp_option OPTIONS[] = {
    {"lazy", 'l', "auto|off", 0, "fetch contents on demand where the image allows (auto), or all of it now (off)", 0},
    {"creds", 'u', "USER:PASSWORD", 0, "credentials (default: those of `docker login')", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct pull_args *a = state->input;

	switch (key) {
	case 'l':
		if (strcmp(arg, "auto") != 0 && strcmp(arg, "off") != 0)
			argp_error(state, "--lazy takes auto or off, not '%s'", arg);
		a->lazy = arg;
		return 0;
	case 'u':
		a->creds = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (a->image)
			argp_error(state, "one image at a time");
		a->image = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which image?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int run(struct ctl *c, const struct pull_args *a, struct err *err)
{
	struct image_times times = {0};
	const char *name;

	TRY(image_name(c, a->image, &name, err));
	TRY(ctl_connect(c, err));
	TRY(pull_as(c, name, a->lazy, a->creds, &times, err));
	if (c->json)
		printf("{\"name\":\"%s\",\"ms\":%.1f}\n", name, (double)times.total_ns / NS_PER_MS);
	else
		printf("%s\n", name);
	return 0;
}

int ctl_pull_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {OPTIONS, parse, "IMAGE", "Fetches an image through the daemon.", NULL, NULL, NULL};
	struct pull_args a = {.lazy = "auto"};
	struct err err = ERR_INIT;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	return run(c, &a, &err) < 0 ? ctl_fail(c, &err) : 0;
}
