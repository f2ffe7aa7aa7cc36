#include "rpc/call.h"

#include "base/clock.h"
#include "rpc/pb.h"

#include <assert.h>
#include <sys/eventfd.h>

void rpc_call_init(struct rpc_call *c, const struct rpc_call_ops *ops)
{
	c->ops = ops;
	c->deadline_ns = INT64_MAX;
	c->cancel_fd = -1;
	atomic_init(&c->refs, 1);
	arena_init(&c->arena, SIZE_MAX);
	arena_init(&c->recv_arena, SIZE_MAX);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->cond, NULL);
}

void rpc_call_fini(struct rpc_call *c)
{
	vec_each(&c->md, m) {
		free(m->key);
		free(m->value);
	}
	vec_fini(&c->md);
	vec_fini(&c->on_cancel);
	vec_fini(&c->at_end);
	buf_fini(&c->request);
	buf_fini(&c->reply);
	arena_fini(&c->arena);
	arena_fini(&c->recv_arena);
	if (c->cancel_fd >= 0)
		close(c->cancel_fd);
	pthread_cond_destroy(&c->cond);
	pthread_mutex_destroy(&c->lock);
}

struct rpc_call *rpc_call_ref(struct rpc_call *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void rpc_call_unref(struct rpc_call *c)
{
	if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		c->ops->free(c);
}

void rpc_call_add_metadata(struct rpc_call *c, struct str key, struct str value)
{
	vec_push(&c->md, (struct rpc_metadatum){xstrndup(key.p, key.n), xstrndup(value.p ?: "", value.n)});
}

/* ---- cancellation ---- */

void rpc_call_cancel_locked(struct rpc_call *c, enum err_code why)
{
	if (c->cancelled)
		return;
	c->cancelled = why;
	pthread_cond_broadcast(&c->cond);
	if (c->cancel_fd >= 0)
		eventfd_write(c->cancel_fd, 1);
	vec_each(&c->on_cancel, hook)
		hook->fn(hook->arg);
	vec_clear(&c->on_cancel);
}

void rpc_call_cancel(struct rpc_call *c, enum err_code why)
{
	pthread_mutex_lock(&c->lock);
	rpc_call_cancel_locked(c, why);
	pthread_mutex_unlock(&c->lock);
}

int rpc_call_cancelled_locked(struct rpc_call *c, struct err *err)
{
	switch (c->cancelled) {
	case ERR_OK:
		return 0;
	case ERR_DEADLINE:
		return err_set(err, ERR_DEADLINE, "the deadline of the call has passed");
	case ERR_UNAVAILABLE:
		return err_set(err, ERR_UNAVAILABLE, "the server is stopping");
	case ERR_CANCELLED:
		return err_set(err, ERR_CANCELLED, "the client has cancelled the call");
	default:
		return err_set(err, c->cancelled, "the call was ended by the server");
	}
}

int rpc_cancelled(struct rpc_call *c, struct err *err)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = rpc_call_cancelled_locked(c, err);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int rpc_cancel_fd(struct rpc_call *c)
{
	int fd;

	pthread_mutex_lock(&c->lock);
	if (c->cancel_fd < 0)
		c->cancel_fd = eventfd(c->cancelled ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
	fd = c->cancel_fd;
	pthread_mutex_unlock(&c->lock);
	return fd;
}

void rpc_on_cancel(struct rpc_call *c, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&c->lock);
	if (c->cancelled) {
		fn(arg);
	} else {
		vec_push(&c->on_cancel, (struct rpc_cancel_hook){fn, arg});
	}
	pthread_mutex_unlock(&c->lock);
}

void rpc_off_cancel(struct rpc_call *c, const void *arg)
{
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->on_cancel.n; i++)
		if (c->on_cancel.p[i].arg == arg) {
			vec_swap_remove(&c->on_cancel, i);
			break;
		}
	pthread_mutex_unlock(&c->lock);
}

void rpc_at_end(struct rpc_call *c, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&c->lock);
	vec_push(&c->at_end, (struct rpc_cancel_hook){fn, arg});
	pthread_mutex_unlock(&c->lock);
}

/* ---- running ---- */

/* The handler has returned: nobody adds any more. */
static void run_at_end(struct rpc_call *c)
{
	while (c->at_end.n) {
		struct rpc_cancel_hook hook = vec_pop(&c->at_end);

		hook.fn(hook.arg);
	}
}

static int run_handler(struct rpc_call *c, struct err *err)
{
	const struct rpc_entry *m = c->method;
	void *request = NULL;
	int r;

	if (c->hook && c->hook->before)
		TRY(c->hook->before(c, c->hook->arg, err));
	TRY(rpc_cancelled(c, err));
	if (!(m->flags & RPC_CLIENT_STREAM)) {
		TRY(pb_check_text(m->req, buf_str(&c->request), err));
		c->arena.max_bytes = pb_memory_limit(c->request.n);
		TRY(pb_unpack_in(&c->arena, m->req, buf_str(&c->request), &request, err));
		buf_fini(&c->request);
	}
	r = m->fn(c, request, m->svc, err);
	if (r < 0)
		return r;
	if (!(m->flags & RPC_SERVER_STREAM) && !c->reply.n)
		buf_addz(&c->reply, c->reply_prefix_bytes);
	return 0;
}

void rpc_call_run(struct rpc_call *c)
{
	int64_t began_ns = clock_mono_ns();
	struct err err = ERR_INIT;
	int r = run_handler(c, &err);

	run_at_end(c);
	if (c->hook && c->hook->after)
		c->hook->after(c, c->hook->arg, r, &err, clock_mono_ns() - began_ns);
	pthread_mutex_lock(&c->lock);
	vec_clear(&c->on_cancel);
	pthread_mutex_unlock(&c->lock);
	c->ops->finish(c, r, &err);
	/* The call lives until its answer has been read, which is up to the client. */
	arena_fini(&c->arena);
	arena_fini(&c->recv_arena);
}

static void own_free(struct rpc_call *c)
{
	rpc_call_fini(c);
	free(c);
}

struct rpc_call *rpc_own_begin(void)
{
	static const struct rpc_call_ops ops = {.free = own_free};
	struct rpc_call *c = xcalloc(1, sizeof(*c));

	rpc_call_init(c, &ops);
	return c;
}

void rpc_own_cancel(struct rpc_call *c, enum err_code why)
{
	rpc_call_cancel(c, why);
}

void rpc_own_end(struct rpc_call *c)
{
	run_at_end(c);
	rpc_call_unref(c);
}

static void run_job(struct worker_job *job)
{
	struct rpc_call *c = CONTAINER_OF(job, struct rpc_call, job);

	rpc_call_run(c);
	rpc_call_unref(c);
}

int rpc_call_submit(struct rpc_call *c, struct err *err)
{
	int r;

	rpc_call_ref(c);
	c->job.fn = run_job;
	r = c->method->flags & RPC_LONG ? workers_submit_long(c->workers, &c->job, err)
	                                : workers_submit(c->share, &c->job, err);
	if (r < 0)
		rpc_call_unref(c);
	return r;
}

int rpc_wait_begin(struct rpc_call *c, struct err *err)
{
	assert(c->workers);
	return c->method->flags & RPC_LONG ? 0 : workers_block_begin(c->workers, &c->job, err);
}

void rpc_wait_end(struct rpc_call *c)
{
	if (!(c->method->flags & RPC_LONG))
		workers_block_end(c->workers, &c->job);
}

int rpc_call_wait(struct rpc_call *c, bool (*wanted)(struct rpc_call *c), struct err *err)
{
	int r;

	pthread_mutex_unlock(&c->lock);
	r = rpc_wait_begin(c, err);
	pthread_mutex_lock(&c->lock);
	TRY(r);
	while (!c->cancelled && !wanted(c))
		pthread_cond_wait(&c->cond, &c->lock);
	pthread_mutex_unlock(&c->lock);
	rpc_wait_end(c);
	pthread_mutex_lock(&c->lock);
	return 0;
}

/* ---- what handlers use ---- */

static int too_big(const struct rpc_call *c, size_t n, struct err *err)
{
	return err_set(err, ERR_EXHAUSTED, "%s: message of %zu bytes exceeds the limit of %zu", c->method->name, n,
	               c->max_message_bytes);
}

int rpc_reply(struct rpc_call *c, const ProtobufCMessage *msg, struct err *err)
{
	assert(msg->descriptor == c->method->rsp && !c->reply.n);
	buf_addz(&c->reply, c->reply_prefix_bytes);
	pb_pack(msg, &c->reply);
	if (c->reply.n - c->reply_prefix_bytes > c->max_message_bytes)
		return too_big(c, c->reply.n - c->reply_prefix_bytes, err);
	return 0;
}

void rpc_recv_stop(struct rpc_call *c)
{
	pthread_mutex_lock(&c->lock);
	c->recv_stopped = true;
	pthread_cond_broadcast(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

int rpc_recv_raw(struct rpc_call *c, struct buf *out, struct err *err)
{
	buf_fini(out);
	return c->ops->recv(c, out, err);
}

int rpc_recv(struct rpc_call *c, void *out, struct err *err)
{
	AUTO(buf) struct buf wire = BUF_INIT;
	int r;

	arena_clear(&c->recv_arena);
	r = c->ops->recv(c, &wire, err);
	if (r <= 0)
		return r;
	TRY(pb_check_text(c->method->req, buf_str(&wire), err));
	c->recv_arena.max_bytes = pb_memory_limit(wire.n);
	TRY(pb_unpack_in(&c->recv_arena, c->method->req, buf_str(&wire), out, err));
	return 1;
}

void rpc_raw_begin(struct buf *msg)
{
	buf_clear(msg);
	buf_addz(msg, RPC_RAW_PREFIX_BYTES);
}

int rpc_send_raw(struct rpc_call *c, struct buf *msg, struct err *err)
{
	assert(msg->n >= RPC_RAW_PREFIX_BYTES && (c->method->flags & RPC_SERVER_STREAM));
	if (msg->n - RPC_RAW_PREFIX_BYTES > c->max_message_bytes)
		return too_big(c, msg->n - RPC_RAW_PREFIX_BYTES, err);
	return c->ops->send(c, msg, err);
}

int rpc_send(struct rpc_call *c, const ProtobufCMessage *msg, struct err *err)
{
	AUTO(buf) struct buf wire = BUF_INIT;

	assert(msg->descriptor == c->method->rsp);
	rpc_raw_begin(&wire);
	pb_pack(msg, &wire);
	return rpc_send_raw(c, &wire, err);
}

const char *rpc_metadata(const struct rpc_call *c, const char *key)
{
	for (size_t i = 0; i < c->md.n; i++)
		if (strcmp(c->md.p[i].key, key) == 0)
			return c->md.p[i].value;
	return NULL;
}

const char *rpc_call_name(const struct rpc_call *c)
{
	return c->method->name;
}

int64_t rpc_deadline_ns(const struct rpc_call *c)
{
	return c->deadline_ns;
}

const struct ucred *rpc_peer(const struct rpc_call *c)
{
	return &c->peer;
}

struct arena *rpc_arena(struct rpc_call *c)
{
	return &c->arena;
}
