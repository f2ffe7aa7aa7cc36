/*
 * How contentd reaches contentfs, and brings it back.
 *
 *   nobody has a role of the mount that we keep ──► start one that resumes on what we kept
 *   connect ─ refused ──► start one anew
 *      └─ ok ──► Keep (your descriptors) ─ silence ──► from the top, while patience lasts
 *                   └──► calls … broken ──► from the top, and the call again
 *
 * We hold the listening socket too, so that a connection succeeds even when nobody is left to serve it. Who lives is
 * told by the locks of the roles (link.h), not by process ids: whoever it was that we knew may have been replaced.
 */
#include "fusefs/client_internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/unix.h"
#include "fusefs/link.h"
#include "fusefs/options.h"
#include "rpc/pb.h"
#include "rpc/ttrpc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>

#define N_KEPT (FFS_FDS_KEPT - FFS_FD_FUSE)
#define PATIENCE_NS (30 * NS_PER_S) /* for a worker to be replaced, or a start */
#define SILENCE_NS (1 * NS_PER_S)   /* of who accepted us: then we look whether anybody lives, and try again */
#define ATTEMPTS_MAX 5              /* of one call, whose workers die under it */
#define ANSWER_NS (30 * NS_PER_S)   /* for verbs that need no network, unless the options say otherwise */
#define TRY_AGAIN_NS (1 * NS_PER_S) /* how long who tries whether it answers again waits, and how long after the last */
#define LOG_TAIL_BYTES 512

struct conn {
	struct ttrpc_client *rpc;
	unsigned refs; /* guarded by the client's lock */
};

struct ffs_client {
	char *root, *state, *program, *config, *socket;
	char **extra; /* further arguments, NULL-terminated */
	void (*lost)(void *arg);
	void *lost_arg;
	struct ffs_client_watch watch;
	struct rpc_io *io;
	struct rpc_call *own; /* on behalf of which calls are made that nobody can cancel */
	int64_t answer_ns;
	pthread_mutex_t lock;       /* guards conn and its references, and the silence */
	bool silent;                /* it has not answered in time */
	int64_t next_try_ns;        /* while silent */
	pthread_mutex_t connecting; /* held while connecting or starting; guards what follows */
	struct conn *conn;
	int kept[N_KEPT]; /* -1: none */
	pid_t child;      /* that we started and have not reaped, or 0 */
};

/* ---- processes ---- */

static void reap(struct ffs_client *c)
{
	if (c->child > 0 && waitpid(c->child, NULL, WNOHANG) != 0)
		c->child = 0;
}

/* Somebody holds a role of the mount that we keep: the locks of holder and worker, which end with their process, are in
 * the lock file that we keep as well. */
static bool held_by_others(const struct ffs_client *c)
{
	static const short roles[] = {FFS_LOCK_HOLDER, FFS_LOCK_WORKER};

	for (unsigned i = 0; i < ARRAY_LEN(roles); i++) {
		struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = roles[i], .l_len = 1};

		if (fcntl(c->kept[FFS_FD_LOCK - FFS_FD_FUSE], F_GETLK, &l) < 0 || l.l_type != F_UNLCK)
			return true;
	}
	return false;
}

static bool keeps(const struct ffs_client *c)
{
	return c->kept[0] >= 0;
}

static void drop_kept(struct ffs_client *c)
{
	for (unsigned i = 0; i < N_KEPT; i++)
		if (c->kept[i] >= 0)
			close(STEAL_FD(c->kept[i]));
}

static char *log_tail(const struct ffs_client *c)
{
	AUTO_FREE char *path = xasprintf("%s/contentfs.log", c->state);
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = xcalloc(1, LOG_TAIL_BYTES + 1);
	char *line;

	if (fd >= 0) {
		off_t size = lseek(fd, 0, SEEK_END);

		if (pread(fd, text, LOG_TAIL_BYTES, size > LOG_TAIL_BYTES ? size - LOG_TAIL_BYTES : 0) < 0)
			text[0] = '\0';
	}
	while (*text && text[strlen(text) - 1] == '\n')
		text[strlen(text) - 1] = '\0';
	line = strrchr(text, '\n');
	if (line)
		memmove(text, line + 1, strlen(line));
	return text;
}

static int start(struct ffs_client *c, bool resume, struct err *err)
{
	AUTO_FREE char *log = xasprintf("%s/contentfs.log", c->state);
	AUTO_FD int log_fd = -1;
	struct {
		VEC(const char *) v;
	} args = {VEC_INIT};
	struct spawn s = {.stdio = {-1, -1, -1}, .detach = true, .cwd = "/"};
	int r;

	TRY(dir_make(c->state, 0711, err));
	log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log_fd < 0)
		return err_errno(err, errno, "open %s", log);
	vec_push(&args.v, c->program);
	vec_push(&args.v, "--root");
	vec_push(&args.v, c->root);
	vec_push(&args.v, "--state");
	vec_push(&args.v, c->state);
	if (c->config) {
		vec_push(&args.v, "--config");
		vec_push(&args.v, c->config);
	}
	for (char **e = c->extra; e && *e; e++)
		vec_push(&args.v, *e);
	if (resume)
		vec_push(&args.v, "--resume");
	vec_push(&args.v, NULL);
	s.argv = args.v.p;
	s.stdio[1] = s.stdio[2] = log_fd;
	s.keep = resume ? c->kept : NULL;
	s.n_keep = resume ? N_KEPT : 0;
	log_info("%s contentfs", resume ? "resuming" : "starting");
	r = spawn_start(&s, &c->child, err);
	vec_fini(&args.v);
	return r < 0 ? err_wrap(err, "start %s", c->program) : 0;
}

/* ---- connecting ---- */

static int take_kept(struct ffs_client *c, struct ttrpc_fds *fds, struct err *err)
{
	if (fds->n != N_KEPT)
		return err_set(err, ERR_INTERNAL, "contentfs handed over %u descriptors, not %d", fds->n, N_KEPT);
	drop_kept(c);
	for (unsigned i = 0; i < N_KEPT; i++)
		c->kept[i] = STEAL_FD(fds->fd[i]);
	return 0;
}

/* Greets whoever serves the connection. ERR_DEADLINE when nobody answers. */
static int greet(struct ffs_client *c, struct ttrpc_client *rpc, int64_t deadline_ns, struct err *err)
{
	AUTO(ttrpc_fds) struct ttrpc_fds fds = TTRPC_FDS_INIT;
	AUTO(pb) Contentd__Contentfs__V1__KeepResponse *rsp = NULL;
	Contentd__Contentfs__V1__Empty empty = CONTENTD__CONTENTFS__V1__EMPTY__INIT;
	struct ttrpc_req req = {.svc = &contentd__contentfs__v1__data__descriptor,
	                        .method = "Keep",
	                        .msg = &empty.base,
	                        .deadline_ns = deadline_ns,
	                        .can_cancel = true};

	TRY(ttrpc_call(rpc, &req, &rsp, &fds, err));
	return take_kept(c, &fds, err);
}

static void on_close(void *arg, const struct err *why)
{
	struct ffs_client *c = arg;

	if (c->lost)
		c->lost(c->lost_arg);
}

/* One try. *refused: nobody listens. */
static int try_connect(struct ffs_client *c, int64_t deadline_ns, bool *refused, struct conn **out, struct err *err)
{
	struct ttrpc_client_opts opts = {.io = c->io, .on_close = on_close, .arg = c};
	int64_t silence = clock_mono_ns() + SILENCE_NS;
	AUTO(ttrpc_client) struct ttrpc_client *rpc = NULL;
	AUTO_FD int fd = -1;
	int r;

	r = unix_connect(c->socket, SOCK_SEQPACKET, &fd, err);
	*refused = r == -(int)ERR_UNAVAILABLE;
	TRY(r);
	TRY(ttrpc_client_new(STEAL_FD(fd), &opts, &rpc, err));
	TRY(greet(c, rpc, silence < deadline_ns ? silence : deadline_ns, err));
	*out = xcalloc(1, sizeof(**out));
	(*out)->rpc = STEAL(rpc);
	(*out)->refs = 1;
	return 0;
}

static int give_up(struct ffs_client *c, const struct err *why, struct err *err)
{
	AUTO_FREE char *tail = log_tail(c);

	return err_set(err, ERR_UNAVAILABLE, "contentfs does not serve %s: %s%s%s", c->socket, why->msg,
	               *tail ? "; it said: " : "", tail);
}

/* What has been tried to bring contentfs back. */
struct revival {
	bool resumed, started;
};

/* Nobody is left of the mount that we keep: goes on with it, once; when that fails it is lost. */
static int revive_kept(struct ffs_client *c, struct revival *v, struct err *err)
{
	if (!keeps(c) || c->child || held_by_others(c))
		return 0;
	if (v->resumed) {
		log_error("contentfs cannot be resumed: its mount is lost");
		drop_kept(c); /* and with it the listening socket, so that the next try is refused */
		return 0;
	}
	v->resumed = true;
	return start(c, true, err);
}

/* Nobody listens. 1: no more can be done. */
static int revive_refused(struct ffs_client *c, struct revival *v, struct err *err)
{
	if (v->started)
		return c->child ? 0 : 1; /* what we started has ended */
	drop_kept(c);                    /* the socket is gone: so is the mount that they belong to */
	v->started = true;
	return start(c, false, err);
}

static int connect_or_start(struct ffs_client *c, struct conn **out, struct err *err)
{
	int64_t deadline = clock_mono_ns() + PATIENCE_NS;
	struct revival v = {0};
	bool refused, over;

	for (;;) {
		struct err why = ERR_INIT;

		reap(c);
		TRY(rpc_cancelled(c->own, err));
		TRY(revive_kept(c, &v, err));
		if (try_connect(c, deadline, &refused, out, &why) >= 0)
			return 0;
		reap(c);
		over = clock_mono_ns() >= deadline;
		if (!over && refused) {
			int r = revive_refused(c, &v, err);

			TRY(r);
			over = r > 0;
		}
		if (over)
			return give_up(c, &why, err);
		poll(NULL, 0, 5);
	}
}

static struct conn *conn_current(struct ffs_client *c)
{
	struct conn *conn;

	pthread_mutex_lock(&c->lock);
	conn = c->conn && ttrpc_client_alive(c->conn->rpc) ? c->conn : NULL;
	if (conn)
		conn->refs++;
	pthread_mutex_unlock(&c->lock);
	return conn;
}

static void conn_unref(struct ffs_client *c, struct conn *conn)
{
	bool last;

	if (!conn)
		return;
	pthread_mutex_lock(&c->lock);
	last = --conn->refs == 0;
	pthread_mutex_unlock(&c->lock);
	if (!last)
		return;
	ttrpc_client_free(conn->rpc);
	free(conn);
}

/* It is of no use to later calls. */
static void conn_drop(struct ffs_client *c, struct conn *conn)
{
	bool ours;

	pthread_mutex_lock(&c->lock);
	ours = c->conn == conn;
	if (ours)
		c->conn = NULL;
	pthread_mutex_unlock(&c->lock);
	if (ours)
		conn_unref(c, conn);
}

static int conn_get(struct ffs_client *c, struct conn **out, struct err *err)
{
	struct conn *fresh = NULL, *old;
	int r = 0;

	*out = conn_current(c);
	if (*out)
		return 0;
	pthread_mutex_lock(&c->connecting);
	*out = conn_current(c); /* somebody else was quicker */
	if (!*out)
		r = connect_or_start(c, &fresh, err);
	if (r >= 0 && fresh) {
		pthread_mutex_lock(&c->lock);
		old = c->conn;
		c->conn = fresh;
		fresh->refs++;
		pthread_mutex_unlock(&c->lock);
		conn_unref(c, old);
		*out = fresh;
	}
	pthread_mutex_unlock(&c->connecting);
	return r;
}

/* ---- calls ---- */

/* How long to wait for an answer to a local verb. Of those that come while contentfs is silent, one at a time tries. */
static int patience(struct ffs_client *c, const struct ffs_call *k, int64_t *out, struct err *err)
{
	int64_t now = clock_mono_ns();
	bool wait = true;

	*out = c->answer_ns;
	pthread_mutex_lock(&c->lock);
	if (c->silent) {
		wait = now >= c->next_try_ns;
		*out = TRY_AGAIN_NS < c->answer_ns ? TRY_AGAIN_NS : c->answer_ns;
	}
	if (c->silent && wait)
		c->next_try_ns = now + 2 * *out;
	pthread_mutex_unlock(&c->lock);
	return wait ? 0 : err_set(err, ERR_UNAVAILABLE, "contentfs does not answer: %s has to wait", k->method);
}

static int note_silence(struct ffs_client *c, const struct ffs_call *k, int64_t waited_ns, struct err *err)
{
	bool news;

	pthread_mutex_lock(&c->lock);
	news = !c->silent;
	c->silent = true;
	c->next_try_ns = clock_mono_ns() + TRY_AGAIN_NS;
	pthread_mutex_unlock(&c->lock);
	if (news)
		log_error("contentfs does not answer: it is there, but %s has taken more than %.1f s", k->method,
		          (double)waited_ns / NS_PER_S);
	return err_set(err, ERR_DEADLINE, "contentfs does not answer: no answer to %s in %.1f s", k->method,
	               (double)waited_ns / NS_PER_S);
}

static void note_answer(struct ffs_client *c)
{
	bool news;

	pthread_mutex_lock(&c->lock);
	news = c->silent;
	c->silent = false;
	pthread_mutex_unlock(&c->lock);
	if (news)
		log_info("contentfs answers again");
}

/* Of the peer of a local verb. */
struct life {
	bool sign; /* of it, since the last look */
	bool lost;
};

static void take_sign(void *arg, struct str wire)
{
	struct life *l = arg;

	l->sign = true;
}

static bool shows_life(void *arg)
{
	struct life *l = arg;

	l->lost = !l->sign;
	l->sign = false;
	return !l->lost;
}

static int call_once(struct ffs_client *c, const struct ffs_call *k, void *rsp, struct ttrpc_fds *fds, bool *broken,
                     struct err *err)
{
	struct ttrpc_req req = {.svc = &contentd__contentfs__v1__data__descriptor,
	                        .method = k->method,
	                        .msg = k->msg,
	                        .fds = &k->fd,
	                        .n_fds = k->fd >= 0 ? 1 : 0,
	                        .can_cancel = true,
	                        .deadline_ns = k->deadline_ns,
	                        .on_behalf = k->on_behalf ?: c->own,
	                        .progress = k->progress,
	                        .arg = k->arg};
	struct life life = {0};
	struct conn *conn = NULL;
	int r;

	*broken = false;
	if (k->local) {
		TRY(patience(c, k, &req.patience_ns, err));
		req.still_there = shows_life;
		req.progress = take_sign;
		req.arg = &life;
	}
	TRY(conn_get(c, &conn, err));
	r = ttrpc_call(conn->rpc, &req, rsp, fds, err);
	if (life.lost && r == -(int)ERR_UNAVAILABLE)
		r = note_silence(c, k, req.patience_ns, err);
	else if (r != -(int)ERR_DEADLINE && r != -(int)ERR_UNAVAILABLE && r != -(int)ERR_CANCELLED)
		note_answer(c);
	/* An error of the system under it is the connection's, not the answer of somebody who is there. */
	*broken = r == -(int)ERR_UNAVAILABLE && (err->sys || !ttrpc_client_alive(conn->rpc));
	if (*broken)
		conn_drop(c, conn);
	conn_unref(c, conn);
	return r;
}

/* It may be the very layer that contentfs dies of. */
static int call_lost(const struct ffs_call *k, const struct err *why, struct err *err)
{
	err_set(err, why->code, "contentfs went away %d times during %s: %s", ATTEMPTS_MAX, k->method, why->msg);
	if (k->blob)
		err_wrap(err, "layer %s", k->blob);
	return k->image ? err_wrap(err, "image %s", k->image) : -(int)why->code;
}

int ffs_client_call(struct ffs_client *c, const struct ffs_call *k, void *rsp, struct ttrpc_fds *fds, struct err *err)
{
	struct err why = ERR_INIT;
	bool broken;
	int r;

	for (unsigned i = 0; i < ATTEMPTS_MAX; i++) {
		why = ERR_INIT;
		r = call_once(c, k, rsp, fds, &broken, &why);
		if (!broken)
			return r < 0 ? err_set(err, why.code, "%s", why.msg) : r;
		log_warn("contentfs went away during %s%s", k->method, i + 1 < ATTEMPTS_MAX ? ": asking again" : "");
		if (k->tee && ftruncate(k->fd, 0) < 0)
			return err_errno(err, errno, "truncate the copy of a layer");
	}
	return call_lost(k, &why, err);
}

uint64_t ffs_client_asked(struct ffs_client *c)
{
	return c->watch.asked ? c->watch.asked(c->watch.arg) : 0;
}

bool ffs_client_answered(struct ffs_client *c, uint64_t asked, const struct ffs_call *k, const char *const *keys,
                         size_t n)
{
	return c->watch.answered && c->watch.answered(c->watch.arg, asked, k->on_behalf, keys, n);
}

int ffs_client_metrics(struct ffs_client *c, int64_t deadline_ns, struct buf *out, struct err *err)
{
	Contentd__Contentfs__V1__Empty empty = CONTENTD__CONTENTFS__V1__EMPTY__INIT;
	AUTO(pb) Contentd__Contentfs__V1__MetricsResponse *rsp = NULL;
	struct ttrpc_req req = {.svc = &contentd__contentfs__v1__data__descriptor,
	                        .method = "Metrics",
	                        .msg = &empty.base,
	                        .deadline_ns = deadline_ns,
	                        .can_cancel = true};
	struct conn *conn = conn_current(c);
	int r;

	if (!conn)
		return err_set(err, ERR_UNAVAILABLE, "contentfs is not connected");
	r = ttrpc_call(conn->rpc, &req, &rsp, NULL, err);
	conn_unref(c, conn);
	TRY(r);
	buf_adds(out, rsp->text);
	return 0;
}

/* ---- life-cycle ---- */

static char **copy_extra(const char *const *extra)
{
	size_t n = 0;
	char **copy;

	while (extra && extra[n])
		n++;
	copy = xcalloc(n + 1, sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(extra[i]);
	return copy;
}

int ffs_client_new(const struct ffs_client_opts *opts, struct ffs_client **out, struct err *err)
{
	struct ffs_client *c = xcalloc(1, sizeof(*c));
	struct conn *conn = NULL;
	int r;

	c->root = xstrdup(opts->root);
	c->state = xstrdup(opts->state);
	c->program = xstrdup(opts->program);
	c->config = opts->config ? xstrdup(opts->config) : NULL;
	c->extra = copy_extra(opts->extra);
	c->lost = opts->lost;
	c->lost_arg = opts->arg;
	c->watch = opts->watch;
	c->answer_ns = opts->answer_ns ?: ANSWER_NS;
	c->own = rpc_own_begin();
	c->socket = xasprintf("%s/contentfs.sock", opts->state);
	for (unsigned i = 0; i < N_KEPT; i++)
		c->kept[i] = -1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->connecting, NULL);
	r = rpc_io_new(&c->io, err);
	if (r >= 0)
		r = conn_get(c, &conn, err);
	conn_unref(c, conn);
	if (r < 0) {
		ffs_client_free(c);
		return r;
	}
	*out = c;
	return 0;
}

void ffs_client_abort(struct ffs_client *c)
{
	rpc_own_cancel(c->own, ERR_UNAVAILABLE);
}

void ffs_client_free(struct ffs_client *c)
{
	if (!c)
		return;
	conn_unref(c, c->conn);
	rpc_io_free(c->io);
	rpc_own_end(c->own);
	drop_kept(c);
	for (char **e = c->extra; *e; e++)
		free(*e);
	free(c->extra);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->connecting);
	free(c->root);
	free(c->state);
	free(c->program);
	free(c->config);
	free(c->socket);
	free(c);
}
