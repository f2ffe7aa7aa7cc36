#include "bench/netproxy/conn.h"

#include "base/clock.h"
#include "bench/netproxy/tap.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <netinet/tcp.h>

#define TO_SERVER_MAX_BYTES (1u << 20) /* held for a server that does not read */
/* How late we may be in reading what has come, without it counting as time on the network. What has lain there for longer
 * did so because the window was full. */
#define LATE_MAX_NS (2 * NS_PER_MS)

struct conn {
	struct proxy *proxy;
	struct conn *next, **at;  /* in proxy->conns */
	int client_fd, server_fd; /* server_fd -1: gone, what still comes for it is dropped */
	struct loop_io *client_io, *server_io;
	struct loop_timer *hold_timer; /* of the tap's output; NULL until it is needed */
	uint32_t client_events, server_events;
	struct pipe up, down;
	struct tap tap;
	bool connecting;             /* to the server */
	bool client_ended;           /* its FIN was read */
	bool server_ended;           /* nothing more goes down: its FIN, or a fault, stands in the pipe */
	bool up_closed, down_closed; /* the FIN was passed on */
};

static void conn_free(struct conn *c)
{
	struct proxy *p = c->proxy;

	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	p->n_open--;
	pipe_fini(&c->up);
	pipe_fini(&c->down);
	tap_fini(&c->tap);
	loop_io_free(c->client_io);
	loop_io_free(c->server_io);
	loop_timer_free(c->hold_timer);
	close(c->client_fd);
	if (c->server_fd >= 0)
		close(c->server_fd);
	free(c);
}

void socket_reset(int fd)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static void set_reset_on_close(int fd)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void conn_reset(struct conn *c)
{
	set_reset_on_close(c->client_fd);
	set_reset_on_close(c->server_fd);
	conn_free(c);
}

void conn_reset_all(struct proxy *p)
{
	while (p->conns)
		conn_reset(p->conns);
}

static void drop_server(struct conn *c)
{
	loop_io_free(c->server_io);
	c->server_io = NULL;
	c->server_events = 0;
	if (c->server_fd >= 0)
		close(c->server_fd);
	c->server_fd = -1;
	c->connecting = false;
}

static void on_client(void *arg, uint32_t events);
static void on_server(void *arg, uint32_t events);

/* Watches for what is wanted; for nothing, not even a hang-up, when nothing is (a hang-up that cannot be acted upon yet
 * would wake the loop for ever). False when the kernel refuses. */
static bool watch(struct conn *c, int fd, struct loop_io **io, uint32_t *have, uint32_t want,
                  void (*fn)(void *arg, uint32_t events))
{
	if (*have == want)
		return true;
	if (!want) {
		loop_io_free(*io);
		*io = NULL;
	} else if (*io) {
		loop_io_set(*io, want);
	} else if (loop_io_new(c->proxy->loop, fd, want, fn, c, io, NULL) < 0) {
		return false;
	}
	*have = want;
	return true;
}

/* Sets what both sockets are watched for; ends the connection when both directions are done. */
static void conn_update(struct conn *c)
{
	uint32_t client = 0, server = 0;

	if (c->down_closed && (c->up_closed || (c->server_fd < 0 && c->client_ended))) {
		conn_free(c);
		return;
	}
	if (!c->client_ended && c->up.held_bytes < link_window_bytes(c->up.link))
		client |= EPOLLIN;
	if (pipe_ready(&c->down))
		client |= EPOLLOUT;
	if (c->server_fd >= 0) {
		if (c->connecting || (tap_output(&c->tap).n && c->tap.hold_until_ns <= clock_mono_ns()))
			server |= EPOLLOUT;
		if (!c->connecting && !c->server_ended && c->down.held_bytes < link_window_bytes(c->down.link))
			server |= EPOLLIN;
	}
	if (!watch(c, c->client_fd, &c->client_io, &c->client_events, client, on_client) ||
	    !watch(c, c->server_fd, &c->server_io, &c->server_events, server, on_server))
		conn_reset(c);
}

/* Asks the kernel to note when bytes come; where it cannot, they come when they are read. */
static void note_times(int fd)
{
	const int what = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;

	setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &what, sizeof(what));
}

/* When the bytes of a message had come, by our clock. */
static int64_t time_of(struct msghdr *m)
{
	int64_t now = clock_mono_ns();

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct scm_timestamping t;
		struct timespec wall;
		int64_t late;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPING)
			continue;
		memcpy(&t, CMSG_DATA(c), sizeof(t));
		clock_gettime(CLOCK_REALTIME, &wall);
		late = (wall.tv_sec - t.ts[0].tv_sec) * NS_PER_S + wall.tv_nsec - t.ts[0].tv_nsec;
		return t.ts[0].tv_sec && late > 0 && late <= LATE_MAX_NS ? now - late : now;
	}
	return now;
}

/* Reads once; the block also says how the stream ended, and *sent_ns when the bytes had come. NULL when there is nothing to
 * read now. */
static struct block *read_block(int fd, const struct link *l, int64_t *sent_ns)
{
	uint32_t grain = link_grain_bytes(l);
	struct block *b = block_new(grain);
	struct iovec into = {.iov_base = b->p, .iov_len = b->cap};
	char control[CMSG_SPACE(sizeof(struct scm_timestamping))];
	struct msghdr m = {
	    .msg_iov = &into, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t got;

	do
		got = recvmsg(fd, &m, 0);
	while (got < 0 && errno == EINTR);
	*sent_ns = got > 0 ? time_of(&m) : clock_mono_ns();
	if (got > 0) {
		b->n = (uint32_t)got;
		b = b->n < grain / 2 ? block_shrink(b) : b;
	} else if (got == 0) {
		b->end = BLOCK_FIN;
	} else if (errno == EAGAIN) {
		block_free(b);
		return NULL;
	} else {
		b->end = BLOCK_RESET;
	}
	return b;
}

/* The last thing that goes to the client. */
static void send_end(struct conn *c, enum block_end end)
{
	struct block *b = block_new(0);

	b->end = end;
	c->server_ended = true;
	pipe_send(&c->down, b, clock_mono_ns());
}

/* Sends down what the tap answers by itself. */
static void send_answers(struct conn *c)
{
	struct block *b;

	while (!c->server_ended && (b = tap_answer(&c->tap))) {
		c->server_ended = b->end != BLOCK_DATA;
		pipe_send(&c->down, b, clock_mono_ns());
	}
	if (c->server_ended && tap_is_broken(&c->tap))
		drop_server(c);
}

static void on_hold_over(void *arg);

/* Writes what the tap lets through; false when the server is gone. */
static bool write_server(struct conn *c)
{
	if (tap_output(&c->tap).n && c->tap.hold_until_ns > clock_mono_ns()) {
		if (!c->hold_timer && loop_timer_new(c->proxy->loop, on_hold_over, c, &c->hold_timer, NULL) < 0)
			return false;
		loop_timer_set(c->hold_timer, c->tap.hold_until_ns);
		return true;
	}
	while (tap_output(&c->tap).n) {
		struct str out = tap_output(&c->tap);
		ssize_t put = send(c->server_fd, out.p, out.n, MSG_NOSIGNAL);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return errno == EAGAIN;
		tap_written(&c->tap, (size_t)put);
	}
	return true;
}

/* Takes what has crossed the network to the server. */
static void up_arrived(struct pipe *p)
{
	struct conn *c = CONTAINER_OF(p, struct conn, up);
	struct block *b;

	while (!c->connecting && tap_output(&c->tap).n < TO_SERVER_MAX_BYTES && (b = pipe_ready(&c->up))) {
		enum block_end end = b->end;

		if (end == BLOCK_RESET) {
			conn_reset(c);
			return;
		}
		if (c->server_fd >= 0)
			tap_request(&c->tap, str_make(b->p, b->n), b->sent_ns);
		pipe_pop(&c->up);
		send_answers(c);
		if (c->server_fd >= 0 && !write_server(c)) {
			drop_server(c);
			if (!c->server_ended)
				send_end(c, BLOCK_RESET);
		}
		c->up_closed = c->up_closed || end == BLOCK_FIN;
	}
	if (c->up_closed && c->server_fd >= 0 && !tap_output(&c->tap).n)
		shutdown(c->server_fd, SHUT_WR);
	conn_update(c);
}

/* Writes to the client what has crossed the network. */
static void down_arrived(struct pipe *p)
{
	struct conn *c = CONTAINER_OF(p, struct conn, down);
	struct block *b;

	while ((b = pipe_ready(&c->down))) {
		while (b->from < b->n) {
			/* Before the bytes are there: the client may read the clock before we run again. */
			int64_t now = clock_mono_ns();
			ssize_t put = send(c->client_fd, b->p + b->from, b->n - b->from, MSG_NOSIGNAL);

			if (put < 0 && errno == EINTR)
				continue;
			if (put < 0 && errno == EAGAIN) {
				conn_update(c);
				return;
			}
			if (put < 0) {
				conn_reset(c);
				return;
			}
			b->from += (uint32_t)put;
			tap_delivered(&c->tap, (size_t)put, now);
		}
		if (b->end == BLOCK_RESET) {
			conn_reset(c);
			return;
		}
		if (b->end == BLOCK_FIN) {
			tap_delivered(&c->tap, 0, clock_mono_ns());
			shutdown(c->client_fd, SHUT_WR);
			c->down_closed = true;
		}
		pipe_pop(&c->down);
	}
	conn_update(c);
}

static void client_input(struct conn *c)
{
	int64_t sent_ns;
	struct block *b = read_block(c->client_fd, c->up.link, &sent_ns);

	if (!b)
		return;
	if (b->end == BLOCK_RESET) {
		block_free(b);
		conn_reset(c);
		return;
	}
	c->client_ended = b->end == BLOCK_FIN;
	pipe_send(&c->up, b, sent_ns);
	conn_update(c);
}

static void on_client(void *arg, uint32_t events)
{
	struct conn *c = arg;
	struct proxy *p = c->proxy;

	/* One of the two, for either may free c. The window keeps input from starving output. What was wanted when the
	 * events were gathered may be done by now: then there is nothing to do. */
	if (!c->client_ended && (events & ~(uint32_t)EPOLLOUT))
		client_input(c);
	else if (pipe_ready(&c->down))
		down_arrived(&c->down);
	proxy_run(p);
}

static void server_output(struct conn *c)
{
	if (write_server(c))
		up_arrived(&c->up);
	else
		conn_reset(c);
}

static void on_hold_over(void *arg)
{
	struct conn *c = arg;
	struct proxy *p = c->proxy;

	if (c->server_fd >= 0)
		server_output(c);
	proxy_run(p);
}

static void server_connected(struct conn *c)
{
	int sys = 0;
	socklen_t n = sizeof(sys);

	c->connecting = false;
	if (getsockopt(c->server_fd, SOL_SOCKET, SO_ERROR, &sys, &n) || sys) {
		drop_server(c);
		send_end(c, BLOCK_RESET);
	}
	up_arrived(&c->up);
}

static void server_input(struct conn *c)
{
	int64_t sent_ns;
	struct block *b = read_block(c->server_fd, c->down.link, &sent_ns);

	if (!b)
		return;
	tap_response(&c->tap, b);
	if (b->end != BLOCK_DATA)
		c->server_ended = true;
	pipe_send(&c->down, b, sent_ns);
	if (tap_is_broken(&c->tap))
		drop_server(c);
	else
		send_answers(c);
	conn_update(c);
}

static void on_server(void *arg, uint32_t events)
{
	struct conn *c = arg;
	struct proxy *p = c->proxy;

	if (c->connecting)
		server_connected(c);
	else if (!c->server_ended && (events & ~(uint32_t)EPOLLOUT))
		server_input(c);
	else if (tap_output(&c->tap).n)
		server_output(c);
	proxy_run(p);
}

static int connect_server(struct conn *c)
{
	const int one = 1;

	c->server_fd = socket(c->proxy->server.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->server_fd < 0)
		return -1;
	setsockopt(c->server_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	note_times(c->server_fd);
	if (!connect(c->server_fd, &c->proxy->server.any, c->proxy->server.n))
		return 0;
	c->connecting = true;
	return errno == EINPROGRESS ? 0 : -1;
}

void conn_start(struct proxy *p, int client_fd)
{
	struct conn *c = xcalloc(1, sizeof(*c));
	int64_t now = clock_mono_ns();
	const int one = 1;

	*c = (struct conn){.proxy = p, .client_fd = client_fd, .server_fd = -1, .next = p->conns, .at = &p->conns};
	if (c->next)
		c->next->at = &c->next;
	p->conns = c;
	p->n_open++;
	p->counters.connections++;
	setsockopt(client_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	note_times(client_fd);
	/* The kernel has accepted at once; over the network the client could have spoken a round trip later, and the
	 * server when that had arrived. */
	pipe_init(&c->up, &p->to_server, now + p->rtt_ns, up_arrived);
	pipe_init(&c->down, &p->to_client, now + p->rtt_ns + p->rtt_ns / 2, down_arrived);
	tap_init(&c->tap, p, now, now + p->rtt_ns);
	if (connect_server(c) < 0)
		conn_reset(c);
	else
		conn_update(c);
}
