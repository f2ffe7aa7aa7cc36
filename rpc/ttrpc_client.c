#include "base/clock.h"
#include "base/map.h"
#include "rpc/pb.h"
#include "rpc/ttrpc_link.h"

#include <errno.h>
#include <pthread.h>

/* A message of progress that its caller has not seen yet. */
struct progress {
	struct progress *next;
	struct buf wire;
};

/* A call without an answer yet. */
struct pending {
	uint32_t stream_id;
	const ProtobufCMessageDescriptor *rsp_type;
	/* ttrpc_call_async; NULL: somebody waits on `cond`. */
	void (*done)(void *arg, int rc, void *rsp, const struct err *why);
	void *arg;
	struct loop_timer *timer; /* the I/O thread's; async calls with a deadline */
	int64_t deadline_ns;
	struct ttrpc_client *client;

	/* Guarded by client->lock. */
	pthread_cond_t cond;
	struct progress *progress, **progress_tail;
	bool wants_progress, cancelled, answered;
	bool lost;         /* the caller's: the peer is not there any more */
	struct err status; /* when answered */
	struct buf answer; /* the Response, when the status is OK */
	struct ttrpc_fds fds;
};

struct ttrpc_client {
	struct ttrpc_client_opts opts;
	struct rpc_io *io;
	bool own_io;
	struct ttrpc_link *link;

	pthread_mutex_t lock;
	pthread_cond_t left; /* n_waiting has become 0 */
	/* Guarded by lock. */
	struct map pending; /* stream id -> struct pending; whoever removes an entry answers it */
	uint32_t next_id;
	unsigned n_waiting; /* threads in ttrpc_call */
	bool closed;
	struct err why; /* when closed */
};

/* ---- calls ---- */

static struct str id_key(const uint64_t *id)
{
	return map_key_u64(id);
}

/* With the lock held: NULL when it has been answered or given up. */
static struct pending *take(struct ttrpc_client *c, uint32_t stream_id)
{
	uint64_t id = stream_id;

	return map_del(&c->pending, id_key(&id));
}

static struct pending *pending_new(struct ttrpc_client *c, const ProtobufCMessageDescriptor *rsp_type)
{
	struct pending *p = xcalloc(1, sizeof(*p));
	pthread_condattr_t attr;

	p->client = c;
	p->rsp_type = rsp_type;
	p->deadline_ns = INT64_MAX;
	p->progress_tail = &p->progress;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->cond, &attr);
	pthread_condattr_destroy(&attr);
	return p;
}

static void pending_free(struct pending *p)
{
	while (p->progress) {
		struct progress *m = p->progress;

		p->progress = m->next;
		buf_fini(&m->wire);
		free(m);
	}
	if (p->timer)
		loop_timer_free(p->timer);
	buf_fini(&p->answer);
	ttrpc_fds_fini(&p->fds);
	pthread_cond_destroy(&p->cond);
	free(p);
}

/* Packs and sends the request; the call is in the table before its answer can come. An async call may be over, and
 * `p` gone, when this returns 0. */
static int submit(struct ttrpc_client *c, const struct ttrpc_req *req, struct pending *p, uint32_t *stream_id,
                  struct err *err)
{
	AUTO(buf) struct buf payload = BUF_INIT, frame = BUF_INIT;
	Ttrpc__Request m = TTRPC__REQUEST__INIT;
	Ttrpc__KeyValue ns = TTRPC__KEY_VALUE__INIT, *md[] = {&ns};
	uint64_t id;
	int r;

	pb_pack(req->msg, &payload);
	m.service = req->service ?: req->svc->name;
	m.method = req->method;
	m.payload.data = (uint8_t *)payload.p;
	m.payload.len = payload.n;
	if (p->deadline_ns != INT64_MAX) {
		m.timeout_nano = p->deadline_ns - clock_mono_ns();
		if (m.timeout_nano <= 0)
			return err_set(err, ERR_DEADLINE, "%s: no time is left for the call", req->method);
	}
	if (req->ns) {
		ns.key = "containerd-namespace-ttrpc";
		ns.value = req->ns;
		m.metadata = md;
		m.n_metadata = 1;
	}
	/* Ids grow on the wire, so the frame is sent under the lock that gave its id; sending does not block. */
	pthread_mutex_lock(&c->lock);
	if (c->closed) {
		r = err_set(err, ERR_UNAVAILABLE, "%s", c->why.msg);
	} else if (c->next_id > UINT32_MAX - 2) {
		r = err_set(err, ERR_UNAVAILABLE, "the connection has used up its stream ids");
	} else {
		p->stream_id = *stream_id = c->next_id;
		c->next_id += 2;
		id = p->stream_id;
		map_put(&c->pending, id_key(&id), p);
		ttrpc_put_request(&frame, p->stream_id, &m);
		r = ttrpc_link_send(c->link, buf_str(&frame), req->fds, req->n_fds, err);
		if (r < 0)
			take(c, p->stream_id);
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* Tells a server of ours that nobody waits any more. */
static void send_cancel(struct ttrpc_client *c, uint32_t stream_id)
{
	AUTO(buf) struct buf frame = BUF_INIT;

	ttrpc_put_data(&frame, stream_id, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, STR_NONE);
	ttrpc_link_send(c->link, buf_str(&frame), NULL, 0, NULL);
}

static int parse_answer(struct pending *p, void *rsp, struct err *err)
{
	struct arena a;
	struct str payload;
	int r;

	arena_init(&a, pb_memory_limit(p->answer.n));
	r = ttrpc_response_parse(&a, buf_str(&p->answer), &payload, err);
	if (r >= 0 && rsp)
		r = pb_unpack(p->rsp_type, payload, rsp, err);
	arena_fini(&a);
	return r;
}

/* On the I/O thread, with `p` taken out of the table. */
static void finish_async(struct pending *p, const struct err *failed)
{
	struct err err = ERR_INIT;
	void *rsp = NULL;
	int r;

	r = failed ? err_set(&err, failed->code, "%s", failed->msg) : parse_answer(p, &rsp, &err);
	p->done(p->arg, r < 0 ? r : 0, rsp, &err);
	pending_free(p);
}

/* Ends a call that was taken out of the table: on the I/O thread. */
static void finish(struct ttrpc_client *c, struct pending *p, const struct err *failed)
{
	if (p->done) {
		finish_async(p, failed);
		return;
	}
	pthread_mutex_lock(&c->lock);
	p->answered = true;
	if (failed)
		p->status = *failed;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&c->lock);
}

/* ---- the I/O thread ---- */

static void on_progress(struct ttrpc_client *c, const struct ttrpc_frame *f)
{
	uint64_t id = f->stream_id;
	struct pending *p;

	if (f->flags & TTRPC_NO_DATA)
		return;
	pthread_mutex_lock(&c->lock);
	p = map_get(&c->pending, id_key(&id));
	if (p && p->wants_progress) {
		struct progress *m = xcalloc(1, sizeof(*m));

		buf_addstr(&m->wire, f->data);
		*p->progress_tail = m;
		p->progress_tail = &m->next;
		pthread_cond_signal(&p->cond);
	}
	pthread_mutex_unlock(&c->lock);
}

static void on_frame(void *arg, const struct ttrpc_frame *f, struct ttrpc_fds *fds)
{
	struct ttrpc_client *c = arg;
	struct err too_long = ERR_INIT;
	struct pending *p;

	if (f->type == TTRPC_DATA)
		on_progress(c, f);
	if (f->type != TTRPC_RESPONSE)
		return;
	pthread_mutex_lock(&c->lock);
	p = take(c, f->stream_id);
	if (p) {
		buf_addstr(&p->answer, f->data);
		p->fds = *fds;
		fds->n = 0;
	}
	pthread_mutex_unlock(&c->lock);
	/* Else nobody waits for it any more. */
	if (!p)
		return;
	if (f->oversized)
		err_set(&too_long, ERR_EXHAUSTED, "the answer exceeds the limit of %u bytes of a frame",
		        TTRPC_FRAME_MAX);
	finish(c, p, f->oversized ? &too_long : NULL);
}

/* No call comes after this; those that wait fail. */
static void fail_all(struct ttrpc_client *c, const struct err *why)
{
	struct map pending;
	void *value;
	struct str key;

	pthread_mutex_lock(&c->lock);
	if (!c->closed)
		c->why = *why;
	c->closed = true;
	pending = c->pending;
	c->pending = MAP_INIT;
	pthread_mutex_unlock(&c->lock);
	for (size_t at = 0; map_next(&pending, &at, &key, &value);)
		finish(c, value, why);
	map_fini(&pending);
}

static void on_close(void *arg, const struct err *why)
{
	struct ttrpc_client *c = arg;
	struct err gone = ERR_INIT;

	err_set(&gone, ERR_UNAVAILABLE, "%s", why->msg);
	fail_all(c, &gone);
	if (c->opts.on_close)
		c->opts.on_close(c->opts.arg, &gone);
}

static const struct ttrpc_link_ops link_ops = {.on_frame = on_frame, .on_close = on_close};

struct start {
	struct ttrpc_client *c;
	struct err *err;
	int r;
};

static void start_on_io(void *arg)
{
	struct start *s = arg;

	s->r = ttrpc_link_start(s->c->link, s->err);
}

static void close_on_io(void *arg)
{
	struct ttrpc_client *c = arg;
	struct err why = ERR_INIT;

	err_set(&why, ERR_UNAVAILABLE, "the connection was closed");
	fail_all(c, &why);
	ttrpc_link_close(c->link);
}

/* ---- life ---- */

int ttrpc_client_new(int fd, const struct ttrpc_client_opts *opts, struct ttrpc_client **out, struct err *err)
{
	AUTO_FD int owned = fd;
	struct ttrpc_client *c = xcalloc(1, sizeof(*c));
	struct start start = {c, err, 0};
	int r = 0;

	if (opts)
		c->opts = *opts;
	c->next_id = 1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->left, NULL);
	c->io = c->opts.io;
	c->own_io = !c->io;
	if (c->own_io)
		r = rpc_io_new(&c->io, err);
	if (r >= 0)
		r = ttrpc_link_new(STEAL_FD(owned), rpc_io_loop(c->io), &link_ops, c, &c->link, err);
	if (r >= 0) {
		rpc_io_run(c->io, start_on_io, &start);
		r = start.r;
	}
	if (r < 0) {
		ttrpc_client_free(c);
		return r;
	}
	*out = c;
	return 0;
}

void ttrpc_client_free(struct ttrpc_client *c)
{
	if (!c)
		return;
	if (c->link)
		rpc_io_run(c->io, close_on_io, c);
	pthread_mutex_lock(&c->lock);
	while (c->n_waiting)
		pthread_cond_wait(&c->left, &c->lock);
	pthread_mutex_unlock(&c->lock);
	if (c->own_io)
		rpc_io_free(c->io);
	map_fini(&c->pending);
	pthread_cond_destroy(&c->left);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

bool ttrpc_client_alive(const struct ttrpc_client *c)
{
	struct ttrpc_client *it = (struct ttrpc_client *)c;
	bool alive;

	pthread_mutex_lock(&it->lock);
	alive = !it->closed;
	pthread_mutex_unlock(&it->lock);
	return alive && ttrpc_link_alive(it->link);
}

/* ---- a call with a waiting thread ---- */

/* Hands over what has come, without the lock. */
static void report_progress(struct ttrpc_client *c, struct pending *p, const struct ttrpc_req *req)
{
	struct progress *m = p->progress;

	p->progress = NULL;
	p->progress_tail = &p->progress;
	pthread_mutex_unlock(&c->lock);
	while (m) {
		struct progress *next = m->next;

		req->progress(req->arg, buf_str(&m->wire));
		buf_fini(&m->wire);
		free(m);
		m = next;
	}
	pthread_mutex_lock(&c->lock);
}

/* Is it worth waiting longer? Without the lock. */
static bool ask_still_there(struct ttrpc_client *c, const struct ttrpc_req *req)
{
	bool there;

	pthread_mutex_unlock(&c->lock);
	there = req->still_there(req->arg);
	pthread_mutex_lock(&c->lock);
	return there;
}

/* False when `until` has passed. */
static bool wait_until(struct ttrpc_client *c, struct pending *p, int64_t until)
{
	struct timespec ts = {until / NS_PER_S, until % NS_PER_S};

	if (until == INT64_MAX)
		return pthread_cond_wait(&p->cond, &c->lock) == 0;
	return pthread_cond_timedwait(&p->cond, &c->lock, &ts) != ETIMEDOUT;
}

/* Until there is an answer, the time is over, the call was cancelled or the peer is lost; with the lock held. */
static void wait_for_answer(struct ttrpc_client *c, struct pending *p, const struct ttrpc_req *req)
{
	int64_t ask_at = req->still_there ? clock_mono_ns() + req->patience_ns : INT64_MAX;

	while (p->progress || !(p->answered || p->cancelled)) {
		bool asks = ask_at < p->deadline_ns;

		if (p->progress) {
			report_progress(c, p, req);
		} else if (!wait_until(c, p, asks ? ask_at : p->deadline_ns)) {
			p->lost = asks && !ask_still_there(c, req);
			if (p->lost || !asks)
				return;
			ask_at = clock_mono_ns() + req->patience_ns;
		}
	}
}

static void on_parent_cancelled(void *arg)
{
	struct pending *p = arg;

	pthread_mutex_lock(&p->client->lock);
	p->cancelled = true;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->client->lock);
}

/* The answer, or why there is none. With the lock held on entry, not on return. */
static int conclude(struct ttrpc_client *c, struct pending *p, const struct ttrpc_req *req, void *rsp, struct err *err)
{
	bool gave_up = false, cancelled;

	/* Somebody may be about to answer: then it is out of the table, and the answer comes at once. */
	if (!p->answered && take(c, p->stream_id))
		gave_up = true;
	while (!p->answered && !gave_up)
		pthread_cond_wait(&p->cond, &c->lock);
	cancelled = p->cancelled;
	pthread_mutex_unlock(&c->lock);
	if (gave_up) {
		if (req->can_cancel)
			send_cancel(c, p->stream_id);
		if (cancelled)
			TRY(rpc_cancelled(req->on_behalf, err));
		if (p->lost)
			return err_set(err, ERR_UNAVAILABLE, "%s: the peer does not answer", req->method);
		return err_set(err, ERR_DEADLINE, "%s: no answer in time", req->method);
	}
	if (p->status.code != ERR_OK)
		return err_set(err, p->status.code, "%s", p->status.msg);
	return parse_answer(p, rsp, err);
}

int ttrpc_call(struct ttrpc_client *c, const struct ttrpc_req *req, void *rsp, struct ttrpc_fds *fds, struct err *err)
{
	const ProtobufCMethodDescriptor *m = protobuf_c_service_descriptor_get_method_by_name(req->svc, req->method);
	struct pending *p;
	uint32_t stream_id;
	int r;

	if (!m)
		return err_set(err, ERR_INVALID, "%s is not a method of %s", req->method, req->svc->name);
	p = pending_new(c, m->output);
	p->wants_progress = req->progress;
	if (req->deadline_ns)
		p->deadline_ns = req->deadline_ns;
	if (req->on_behalf && rpc_deadline_ns(req->on_behalf) < p->deadline_ns)
		p->deadline_ns = rpc_deadline_ns(req->on_behalf);
	pthread_mutex_lock(&c->lock);
	c->n_waiting++;
	pthread_mutex_unlock(&c->lock);

	r = submit(c, req, p, &stream_id, err);
	if (r >= 0) {
		if (req->on_behalf)
			rpc_on_cancel(req->on_behalf, on_parent_cancelled, p);
		pthread_mutex_lock(&c->lock);
		wait_for_answer(c, p, req);
		r = conclude(c, p, req, rsp, err);
		if (req->on_behalf)
			rpc_off_cancel(req->on_behalf, p);
	}
	if (r >= 0 && fds) {
		*fds = p->fds;
		p->fds.n = 0;
	}
	pending_free(p);
	pthread_mutex_lock(&c->lock);
	if (--c->n_waiting == 0)
		pthread_cond_signal(&c->left);
	pthread_mutex_unlock(&c->lock);
	return r < 0 ? r : 0;
}

/* ---- a call without one ---- */

static void on_timer(void *arg)
{
	struct pending *p = arg;
	struct ttrpc_client *c = p->client;
	struct err late = ERR_INIT;

	pthread_mutex_lock(&c->lock);
	take(c, p->stream_id);
	pthread_mutex_unlock(&c->lock);
	err_set(&late, ERR_DEADLINE, "no answer in time");
	finish_async(p, &late);
}

struct arm {
	struct ttrpc_client *c;
	uint32_t stream_id;
};

/* The call may have been answered meanwhile: look it up. */
static void arm_on_io(void *arg)
{
	struct arm *arm = arg;
	uint64_t id = arm->stream_id;
	struct pending *p;

	pthread_mutex_lock(&arm->c->lock);
	p = map_get(&arm->c->pending, id_key(&id));
	pthread_mutex_unlock(&arm->c->lock);
	if (p && loop_timer_new(rpc_io_loop(arm->c->io), on_timer, p, &p->timer, NULL) >= 0)
		loop_timer_set(p->timer, p->deadline_ns);
	free(arm);
}

int ttrpc_call_async(struct ttrpc_client *c, const struct ttrpc_req *req,
                     void (*done)(void *arg, int rc, void *rsp, const struct err *why), void *arg, struct err *err)
{
	const ProtobufCMethodDescriptor *m = protobuf_c_service_descriptor_get_method_by_name(req->svc, req->method);
	struct arm *arm;
	struct pending *p;
	bool has_deadline;
	uint32_t stream_id;
	int r;

	if (!m)
		return err_set(err, ERR_INVALID, "%s is not a method of %s", req->method, req->svc->name);
	p = pending_new(c, m->output);
	p->done = done;
	p->arg = arg;
	if (req->deadline_ns)
		p->deadline_ns = req->deadline_ns;
	has_deadline = p->deadline_ns != INT64_MAX;
	arm = has_deadline ? xcalloc(1, sizeof(*arm)) : NULL;
	r = submit(c, req, p, &stream_id, err);
	if (r < 0) {
		free(arm);
		pending_free(p);
		return r;
	}
	if (has_deadline) {
		*arm = (struct arm){c, stream_id};
		loop_post(rpc_io_loop(c->io), arm_on_io, arm);
	}
	return 0;
}
