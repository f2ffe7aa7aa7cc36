#include "rpc/ttrpc_link.h"

#include "base/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

_Static_assert(TTRPC_FDS_MAX == UNIX_FDS_MAX, "descriptors beside one frame");

#define READ_BYTES (64u << 10)
#define READS_PER_EVENT 16
#define SNDBUF_BYTES (4 * TTRPC_PACKET_MAX) /* a packet is charged with the memory it takes, up to twice its length */

/* A frame, or the rest of one, that the socket did not take yet. */
struct pending {
	struct pending *next;
	struct buf bytes;
	size_t sent;
	struct ttrpc_fds fds;
};

struct ttrpc_link {
	atomic_uint refs;
	int fd; /* open as long as the link lives: a sender may be in send(2) while it is being closed */
	bool is_packets;
	struct ucred peer;
	struct loop *loop;

	/* The I/O thread's. */
	const struct ttrpc_link_ops *ops;
	void *arg;
	struct loop_io *io; /* NULL before the start and after the close */
	struct ttrpc_cutter cutter;
	struct buf in;
	uint32_t events;

	pthread_mutex_t lock;
	/* Guarded by lock. */
	struct pending *head, **tail;
	size_t queued;
	bool posted; /* the I/O thread will look at the queue */
	bool closed;
};

void ttrpc_fds_fini(struct ttrpc_fds *f)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->fd[i] >= 0)
			close(f->fd[i]);
	f->n = 0;
}

int ttrpc_link_new(int fd, struct loop *loop, const struct ttrpc_link_ops *ops, void *arg, struct ttrpc_link **out,
                   struct err *err)
{
	AUTO_FD int owned = fd;
	struct ttrpc_link *l;
	struct ucred peer;
	int type, size = SNDBUF_BYTES, flags = fcntl(fd, F_GETFL);
	socklen_t n = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return err_errno(err, errno, "not a usable socket");
	if (type != SOCK_STREAM && type != SOCK_SEQPACKET)
		return err_set(err, ERR_INVALID, "ttrpc needs a stream or seqpacket socket");
	TRY(unix_peer(fd, &peer, err));
	/* Without the privilege frames are bounded by net.core.wmem_max, and sending longer ones fails. */
	if (type == SOCK_SEQPACKET && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	l = xcalloc(1, sizeof(*l));
	atomic_init(&l->refs, 1);
	l->fd = STEAL_FD(owned);
	l->is_packets = type == SOCK_SEQPACKET;
	l->peer = peer;
	l->loop = loop;
	l->ops = ops;
	l->arg = arg;
	l->tail = &l->head;
	pthread_mutex_init(&l->lock, NULL);
	*out = l;
	return 0;
}

struct ttrpc_link *ttrpc_link_ref(struct ttrpc_link *l)
{
	atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
	return l;
}

static void pending_free(struct pending *p)
{
	buf_fini(&p->bytes);
	ttrpc_fds_fini(&p->fds);
	free(p);
}

static void drop_queue(struct ttrpc_link *l)
{
	while (l->head) {
		struct pending *p = l->head;

		l->head = p->next;
		pending_free(p);
	}
	l->tail = &l->head;
	l->queued = 0;
}

void ttrpc_link_unref(struct ttrpc_link *l)
{
	if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
		return;
	drop_queue(l);
	close(l->fd);
	ttrpc_cutter_fini(&l->cutter);
	buf_fini(&l->in);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

uint32_t ttrpc_link_frame_max(const struct ttrpc_link *l)
{
	return l->is_packets ? TTRPC_PACKET_MAX : TTRPC_FRAME_MAX;
}

bool ttrpc_link_has_fds(const struct ttrpc_link *l)
{
	return l->is_packets;
}

const struct ucred *ttrpc_link_peer(const struct ttrpc_link *l)
{
	return &l->peer;
}

bool ttrpc_link_alive(struct ttrpc_link *l)
{
	bool alive;

	pthread_mutex_lock(&l->lock);
	alive = !l->closed;
	pthread_mutex_unlock(&l->lock);
	return alive;
}

size_t ttrpc_link_queued(struct ttrpc_link *l)
{
	size_t n;

	pthread_mutex_lock(&l->lock);
	n = l->queued;
	pthread_mutex_unlock(&l->lock);
	return n;
}

/* ---- sending ---- */

/* A peer that is gone is gone at once, also before the I/O thread sees the end of its stream. err->sys stays set, which
 * tells it from an answer of the peer with the same code. With the lock held. */
static int send_failed(struct ttrpc_link *l, int sys, struct err *err)
{
	if (sys == EPIPE || sys == ECONNRESET || sys == ENOTCONN)
		l->closed = true;
	err_set(err, ERR_UNAVAILABLE, "send: %s", strerror(sys));
	if (err)
		err->sys = sys;
	return -(int)ERR_UNAVAILABLE;
}

/* Writes what the socket takes: bytes written, 0 when it is full, negative on error. With the lock held, so that frames
 * stay whole and in order; the socket does not block. */
static ssize_t write_some(struct ttrpc_link *l, struct str bytes, const int *fds, unsigned n_fds, struct err *err)
{
	struct err why = ERR_INIT;
	ssize_t n;

	if (l->is_packets) {
		if (unix_send(l->fd, bytes, fds, n_fds, &why) == 0)
			return (ssize_t)bytes.n;
		if (why.sys == EAGAIN)
			return 0;
		if (why.sys == EMSGSIZE || why.sys == ENOBUFS || why.sys == ETOOMANYREFS)
			return err_set(err, ERR_EXHAUSTED, "send %zu bytes in one packet: %s", bytes.n,
			               strerror(why.sys));
		return why.sys ? send_failed(l, why.sys, err) : err_set(err, ERR_UNAVAILABLE, "%s", why.msg);
	}
	do
		n = send(l->fd, bytes.p, bytes.n, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	return errno == EAGAIN ? 0 : send_failed(l, errno, err);
}

/* Sends from the queue until it is empty or the socket is full. With the lock held. */
static int flush(struct ttrpc_link *l, struct err *err)
{
	while (l->head) {
		struct pending *p = l->head;
		ssize_t n = write_some(l, str_sub(buf_str(&p->bytes), p->sent, SIZE_MAX), p->fds.fd, p->fds.n, err);

		if (n <= 0)
			return (int)n;
		p->sent += (size_t)n;
		l->queued -= (size_t)n;
		if (p->sent < p->bytes.n)
			continue;
		l->head = p->next;
		if (!l->head)
			l->tail = &l->head;
		pending_free(p);
	}
	return 0;
}

static int enqueue(struct ttrpc_link *l, struct str rest, const int *fds, unsigned n_fds, struct err *err)
{
	struct pending *p = xcalloc(1, sizeof(*p));

	for (; p->fds.n < n_fds; p->fds.n++) {
		p->fds.fd[p->fds.n] = fcntl(fds[p->fds.n], F_DUPFD_CLOEXEC, 3);
		if (p->fds.fd[p->fds.n] < 0) {
			pending_free(p);
			return err_errno(err, errno, "keep a descriptor for sending");
		}
	}
	buf_addstr(&p->bytes, rest);
	*l->tail = p;
	l->tail = &p->next;
	l->queued += rest.n;
	return 0;
}

static void watch(struct ttrpc_link *l);

static void on_posted(void *arg)
{
	struct ttrpc_link *l = arg;

	pthread_mutex_lock(&l->lock);
	l->posted = false;
	pthread_mutex_unlock(&l->lock);
	watch(l);
	ttrpc_link_unref(l);
}

int ttrpc_link_send(struct ttrpc_link *l, struct str frame, const int *fds, unsigned n_fds, struct err *err)
{
	bool post = false;
	ssize_t n = 0;
	int r = 0;

	if (frame.n - TTRPC_HEADER_BYTES > ttrpc_link_frame_max(l))
		return err_set(err, ERR_EXHAUSTED, "message of %zu bytes exceeds the limit of %u of a frame", frame.n,
		               ttrpc_link_frame_max(l));
	if (n_fds && !l->is_packets)
		return err_set(err, ERR_PRECONDITION, "descriptors cannot be sent on this connection");
	pthread_mutex_lock(&l->lock);
	if (!l->closed && l->queued + frame.n > TTRPC_QUEUED_HARD) {
		/* The I/O thread sees the end of the stream and does the rest. */
		l->closed = true;
		drop_queue(l);
		shutdown(l->fd, SHUT_RDWR);
	}
	if (l->closed)
		r = err_set(err, ERR_UNAVAILABLE, "the connection is closed");
	else if (!l->head)
		n = write_some(l, frame, fds, n_fds, err);
	if (n < 0)
		r = (int)n;
	if (!r && (size_t)n < frame.n) {
		r = enqueue(l, str_sub(frame, (size_t)n, SIZE_MAX), fds, n_fds, err);
		post = !r && !l->posted;
		l->posted = l->posted || post;
	}
	pthread_mutex_unlock(&l->lock);
	if (post)
		loop_post(l->loop, on_posted, ttrpc_link_ref(l));
	return r;
}

/* ---- the I/O thread ---- */

/* Asks the loop for what the state calls for. */
static void watch(struct ttrpc_link *l)
{
	uint32_t events = EPOLLIN;
	size_t queued = ttrpc_link_queued(l);

	if (!l->io)
		return;
	if (queued)
		events |= EPOLLOUT;
	if (l->ops->pause_reading && queued > TTRPC_PAUSE_BYTES)
		events &= ~(uint32_t)EPOLLIN;
	if (events != l->events)
		loop_io_set(l->io, events);
	l->events = events;
}

static void end(struct ttrpc_link *l, const struct err *why)
{
	pthread_mutex_lock(&l->lock);
	l->closed = true;
	drop_queue(l);
	pthread_mutex_unlock(&l->lock);
	if (l->io)
		loop_io_free(STEAL(l->io));
	l->ops->on_close(l->arg, why);
}

static int read_stream(struct ttrpc_link *l, bool *more, struct err *err)
{
	char *room = buf_reserve(&l->in, READ_BYTES);
	ssize_t n = recv(l->fd, room, READ_BYTES, 0);
	struct ttrpc_frame f;
	struct str bytes;

	*more = false;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return err_set(err, ERR_UNAVAILABLE, "receive: %s", strerror(errno));
	if (n == 0)
		return err_set(err, ERR_UNAVAILABLE, "the peer has closed the connection");
	*more = n == READ_BYTES;
	bytes = str_make(room, (size_t)n);
	while (l->io && ttrpc_cut(&l->cutter, &bytes, TTRPC_FRAME_MAX, &f)) {
		AUTO(ttrpc_fds) struct ttrpc_fds none = TTRPC_FDS_INIT;

		l->ops->on_frame(l->arg, &f, &none);
	}
	return 0;
}

static int read_packet(struct ttrpc_link *l, bool *more, struct err *err)
{
	AUTO(ttrpc_fds) struct ttrpc_fds fds = TTRPC_FDS_INIT;
	const size_t max = TTRPC_HEADER_BYTES + TTRPC_PACKET_MAX;
	struct err why = ERR_INIT;
	struct ttrpc_frame f;
	size_t n;

	*more = false;
	if (unix_recv(l->fd, buf_reserve(&l->in, max), max, &n, fds.fd, &fds.n, &why) < 0) {
		if (why.sys == EAGAIN)
			return 0;
		return err_set(err, why.sys ? ERR_UNAVAILABLE : why.code, "%s", why.msg);
	}
	if (n == 0)
		return err_set(err, ERR_UNAVAILABLE, "the peer has closed the connection");
	*more = true;
	TRY(ttrpc_packet(str_make(l->in.p, n), &f, err));
	l->ops->on_frame(l->arg, &f, &fds);
	return 0;
}

static void on_io(void *arg, uint32_t events)
{
	struct ttrpc_link *l = ttrpc_link_ref(arg);
	struct err err = ERR_INIT;
	bool more = true, drained = false;
	int r = 0;

	if (events & EPOLLOUT) {
		pthread_mutex_lock(&l->lock);
		r = flush(l, &err);
		drained = l->queued <= TTRPC_QUEUED_MAX;
		pthread_mutex_unlock(&l->lock);
		if (!r && drained && l->ops->on_drain)
			l->ops->on_drain(l->arg);
	}
	if (events & ~(uint32_t)EPOLLOUT)
		for (int i = 0; i < READS_PER_EVENT && !r && more && l->io; i++)
			r = l->is_packets ? read_packet(l, &more, &err) : read_stream(l, &more, &err);
	if (l->io && r < 0)
		end(l, &err);
	else
		watch(l);
	ttrpc_link_unref(l);
}

int ttrpc_link_start(struct ttrpc_link *l, struct err *err)
{
	l->events = EPOLLIN;
	return loop_io_new(l->loop, l->fd, EPOLLIN, on_io, l, &l->io, err);
}

void ttrpc_link_close(struct ttrpc_link *l)
{
	pthread_mutex_lock(&l->lock);
	l->closed = true;
	/* What is queued gets a last chance: the final answers of a server that stops. */
	flush(l, NULL);
	drop_queue(l);
	pthread_mutex_unlock(&l->lock);
	if (l->io)
		loop_io_free(STEAL(l->io));
	shutdown(l->fd, SHUT_RDWR);
	ttrpc_link_unref(l);
}
