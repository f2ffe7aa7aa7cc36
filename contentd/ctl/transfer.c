#include "contentd/ctl/transfer.h"

#include "base/file.h"
#include "base/json.h"
#include "registry/auth.h"
#include "registry/manifest.h"
#include "rpc/proto/streaming.pb-c.h"
#include "rpc/proto/transfer.pb-c.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/random.h>

#define HELPER_PATIENCE (30 * NS_PER_S)
#define FRAME_BYTES (32u << 10)
#define WINDOW_BYTES (1 << 20)
#define WINDOW_STEP (256 << 10)

void ctl_transfer_init(struct ctl_transfer *t, struct ctl *c)
{
	*t = (struct ctl_transfer){.c = c, .in_fd = -1, .out_fd = -1, .bars = TERM_PROGRESS_INIT(c->tty && !c->json)};
	arena_init(&t->frame, 16u << 20);
}

void ctl_transfer_fini(struct ctl_transfer *t)
{
	rpc_stream_free(t->auth);
	rpc_stream_free(t->progress);
	rpc_stream_free(t->bytes);
	rpc_stream_free(t->transfer);
	vec_each(&t->saved, name)
		free(*name);
	vec_fini(&t->saved);
	arena_fini(&t->frame);
}

/* ---- streams ---- */

static const char *stream_id(struct ctl *c, const char *what)
{
	uint64_t random = 0;

	if (getrandom(&random, sizeof(random), 0) < 0)
		random = (uint64_t)clock_mono_ns();
	return arena_printf(&c->arena, "%s-%d-%016llx", what, (int)getpid(), (unsigned long long)random);
}

static int open_stream(struct ctl_transfer *t, const char *what, const char **id, struct rpc_stream **out,
                       struct err *err)
{
	Streaming__StreamInit init = STREAMING__STREAM_INIT__INIT;
	AUTO(pb) Pb__Any *ack = NULL;
	int r;

	init.id = *id = stream_id(t->c, what);
	TRY(rpc_stream_open(t->c->client, &streaming__streaming__descriptor, "Stream", NULL, out, err));
	TRY(rpc_stream_send(*out, &pb_any_new(&t->c->arena, &init.base)->base, err));
	r = rpc_stream_recv(*out, INT64_MAX, &ack, err);
	if (r < 0)
		return err_wrap(err, "open stream");
	return r == RPC_MESSAGE ? 0 : err_set(err, ERR_INTERNAL, "the daemon closed a stream at once");
}

int ctl_transfer_open(struct ctl_transfer *t, bool auth, bool bytes, struct err *err)
{
	if (auth)
		TRY(open_stream(t, "auth", &t->auth_id, &t->auth, err));
	if (bytes)
		TRY(open_stream(t, "archive", &t->bytes_id, &t->bytes, err));
	return open_stream(t, "progress", &t->progress_id, &t->progress, err);
}

static int find_credentials(struct ctl_transfer *t, const char *host, struct reg_credentials *out, struct err *err)
{
	if (t->creds)
		return reg_credentials_parse(str_of(t->creds), out, err);
	return reg_docker_config_lookup(NULL, str_of(host), clock_mono_ns() + HELPER_PATIENCE, out, err);
}

static int answer_auth(struct ctl_transfer *t, const Pb__Any *any, struct err *err)
{
	AUTO(reg_credentials) struct reg_credentials found = REG_CREDENTIALS_INIT;
	Xfer__AuthResponse rsp = XFER__AUTH_RESPONSE__INIT;
	Xfer__AuthRequest *req;
	struct err why = ERR_INIT;

	TRY(pb_any_unpack_in(&t->c->arena, any, &xfer__auth_request__descriptor, &req, err));
	if (find_credentials(t, req->host, &found, &why) < 0)
		fprintf(stderr, "contentctl: credentials for %s: %s\n", req->host, why.msg);
	if (found.identity_token) {
		rsp.authtype = XFER__AUTH_TYPE__REFRESH;
		rsp.secret = found.identity_token;
	} else if (found.password) {
		rsp.authtype = XFER__AUTH_TYPE__CREDENTIALS;
		rsp.username = found.username ?: "";
		rsp.secret = found.password;
	}
	return rpc_stream_send(t->auth, &pb_any_new(&t->c->arena, &rsp.base)->base, err);
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

static int show_progress(struct ctl_transfer *t, const Pb__Any *any, struct err *err)
{
	Xfer__Progress *m;
	const char *name;

	arena_clear(&t->frame);
	TRY(pb_any_unpack_in(&t->frame, any, &xfer__progress__descriptor, &m, err));
	if (!strcmp(m->event, "phase")) {
		if (t->times)
			note_phase(t->times, m->name, m->progress);
		return 0;
	}
	if (!strcmp(m->event, "saved"))
		vec_push(&t->saved, xstrdup(m->name));
	if (t->c->json)
		print_json(m);
	if (!*m->name)
		return 0; /* a headline: we say ourselves what we do */
	/* "layer-sha256:0123..." -> "layer 0123456789ab"; names of images stay */
	name = strstr(m->name, "-sha256:");
	name = name ? arena_printf(&t->frame, "%.*s %.12s", (int)(name - m->name), m->name, name + 8) : m->name;
	term_progress_set(&t->bars, name, m->event, m->progress, m->total);
	return 0;
}

/* ---- the archive ---- */

static int take_credit(struct ctl_transfer *t, const Pb__Any *any, struct err *err)
{
	Xfer__WindowUpdate *m;

	arena_clear(&t->frame);
	TRY(pb_any_unpack_in(&t->frame, any, &xfer__window_update__descriptor, &m, err));
	if (m->update > 0)
		t->credit += m->update;
	return 0;
}

/* A daemon that has sent all of it needs no more. */
static void give_credit(struct ctl_transfer *t)
{
	Xfer__WindowUpdate m = XFER__WINDOW_UPDATE__INIT;

	m.update = (int32_t)(WINDOW_BYTES - t->credit);
	if (m.update < WINDOW_STEP)
		return;
	t->credit += m.update;
	arena_clear(&t->frame);
	rpc_stream_send(t->bytes, &pb_any_new(&t->frame, &m.base)->base, NULL);
}

static int take_bytes(struct ctl_transfer *t, const Pb__Any *any, struct err *err)
{
	Xfer__Data *m;

	arena_clear(&t->frame);
	TRY(pb_any_unpack_in(&t->frame, any, &xfer__data__descriptor, &m, err));
	TRY(fd_write_all(t->out_fd, str_make(m->data.data, m->data.len), err));
	t->credit -= (int64_t)m->data.len;
	t->moved += (int64_t)m->data.len;
	give_credit(t);
	return 0;
}

static int send_bytes(struct ctl_transfer *t, struct err *err)
{
	Xfer__Data m = XFER__DATA__INIT;
	char bytes[FRAME_BYTES];
	ssize_t n = read(t->in_fd, bytes, t->credit < (int64_t)sizeof(bytes) ? (size_t)t->credit : sizeof(bytes));

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : err_errno(err, errno, "read the archive");
	if (!n) {
		t->at_end = true;
		return rpc_stream_close_send(t->bytes, err);
	}
	m.data.data = (uint8_t *)bytes;
	m.data.len = (size_t)n;
	t->credit -= n;
	t->moved += n;
	arena_clear(&t->frame);
	return rpc_stream_send(t->bytes, &pb_any_new(&t->frame, &m.base)->base, err);
}

/* ---- the call ---- */

typedef int take_fn(struct ctl_transfer *t, const Pb__Any *any, struct err *err);

static int drain(struct ctl_transfer *t, struct rpc_stream *s, take_fn *fn, struct err *err)
{
	struct err ended = ERR_INIT;

	while (s) {
		AUTO(pb) Pb__Any *any = NULL;

		/* The end of a stream is no news: the transfer's own answer counts. */
		if (rpc_stream_try_recv(s, &any, &ended) != RPC_MESSAGE)
			return 0;
		TRY(fn(t, any, err));
	}
	return 0;
}

static int drain_all(struct ctl_transfer *t, struct err *err)
{
	TRY(drain(t, t->auth, answer_auth, err));
	TRY(drain(t, t->progress, show_progress, err));
	return drain(t, t->bytes, t->out_fd >= 0 ? take_bytes : take_credit, err);
}

static int start(struct ctl_transfer *t, const ProtobufCMessage *source, const ProtobufCMessage *destination,
                 struct err *err)
{
	Transfer__TransferRequest req = TRANSFER__TRANSFER_REQUEST__INIT;
	Transfer__TransferOptions options = TRANSFER__TRANSFER_OPTIONS__INIT;

	options.progress_stream = t->progress_id;
	req.source = pb_any_new(&t->c->arena, source);
	req.destination = pb_any_new(&t->c->arena, destination);
	req.options = &options;
	TRY(rpc_stream_open(t->c->client, &transfer__transfer__descriptor, "Transfer", NULL, &t->transfer, err));
	TRY(rpc_stream_send(t->transfer, &req.base, err));
	TRY(rpc_stream_close_send(t->transfer, err));
	if (t->out_fd >= 0)
		give_credit(t);
	return 0;
}

static int wait_for_more(struct ctl_transfer *t, struct err *err)
{
	struct pollfd in = {.fd = t->in_fd, .events = POLLIN};
	bool sends = t->in_fd >= 0 && !t->at_end && t->credit > 0;

	TRY(rpc_client_poll(t->c->client, &in, sends, INT64_MAX, err));
	if (!sends || !in.revents)
		return 0;
	/* A transfer that has ended says so itself, better than the stream that it does not read any more. */
	if (send_bytes(t, NULL) < 0)
		t->at_end = true;
	return 0;
}

static int pump(struct ctl_transfer *t, struct err *err)
{
	for (;;) {
		AUTO(pb) Pb__Empty *done = NULL;
		int r;

		TRY(drain_all(t, err));
		r = rpc_stream_try_recv(t->transfer, &done, err);
		if (r < 0)
			return r;
		if (r != RPC_AGAIN)
			return drain_all(t, err);
		TRY(wait_for_more(t, err));
	}
}

/* Both calls end at the same time; what is under way of the archive comes first. */
static int take_rest(struct ctl_transfer *t, struct err *err)
{
	while (t->out_fd >= 0) {
		AUTO(pb) Pb__Any *any = NULL;
		int r = rpc_stream_recv(t->bytes, INT64_MAX, &any, err);

		if (r <= 0)
			return r;
		TRY(take_bytes(t, any, err));
	}
	return 0;
}

int ctl_transfer_run(struct ctl_transfer *t, const ProtobufCMessage *source, const ProtobufCMessage *destination,
                     struct err *err)
{
	int r = start(t, source, destination, err);

	if (r >= 0)
		r = pump(t, err);
	if (r >= 0)
		r = take_rest(t, err);
	term_progress_end(&t->bars, r < 0);
	return r;
}

/* ---- platforms ---- */

int ctl_platform(struct ctl *c, const char *text, Types__Platform **out, struct err *err)
{
	Types__Platform *p = pb_new(&c->arena, &types__platform__descriptor);
	struct reg_platform parsed;

	TRY_WRAP(reg_platform_parse(str_of(text), &parsed, err), err, "--platform");
	p->os = arena_str(&c->arena, parsed.os);
	p->architecture = arena_str(&c->arena, parsed.architecture);
	p->variant = arena_str(&c->arena, parsed.variant);
	*out = p;
	return 0;
}

Types__Platform *ctl_platform_own(struct ctl *c)
{
	Types__Platform *p = pb_new(&c->arena, &types__platform__descriptor);
	struct reg_platform host = reg_platform_host();

	p->os = arena_str(&c->arena, host.os);
	p->architecture = arena_str(&c->arena, host.architecture);
	return p;
}

bool ctl_platforms_parse(struct ctl_platforms *p, int key, char *arg)
{
	if (key == 'p')
		vec_push(&p->names, (const char *)arg);
	else if (key == 'A')
		p->all = true;
	else
		return false;
	return true;
}

int ctl_platforms_list(struct ctl *c, const struct ctl_platforms *p, Types__Platform ***out, size_t *n, struct err *err)
{
	*out = arena_zalloc(&c->arena, p->names.n + 1, sizeof(**out));
	*n = 0;
	if (p->all)
		return 0;
	for (size_t i = 0; i < p->names.n; i++)
		TRY(ctl_platform(c, p->names.p[i], &(*out)[(*n)++], err));
	if (!*n)
		(*out)[(*n)++] = ctl_platform_own(c);
	return 0;
}
