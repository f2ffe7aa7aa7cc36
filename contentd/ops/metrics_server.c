#include "contentd/ops/metrics_server.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/unix.h"
#include "contentd/ops/http_head.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#define CONNS_MAX 16
#define CONN_NS (10 * NS_PER_S) /* from accept to end */
#define BACKLOG 64

enum state { READING, WRITING, DRAINING };

struct conn {
	int fd; /* -1: free */
	enum state state;
	int64_t deadline_ns;
	char head[HTTP_HEAD_BYTES_MAX];
	size_t n_head;
	struct buf out;
	size_t out_at;
};

struct cd_metrics_server {
	void (*print)(void *arg, struct buf *out);
	void *arg;
	int listen_fd, stop_fd;
	char *path; /* of the UNIX socket, or NULL */
	unsigned port;
	pthread_t thread;
	bool started;
	struct conn conns[CONNS_MAX]; /* the thread's */
};

/* ---- answers ---- */

static const char *reason(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 431:
		return "Request Header Fields Too Large";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Bad Request";
	}
}

static void answer(struct cd_metrics_server *s, struct conn *c, int status, const struct http_head *head)
{
	AUTO(buf) struct buf body = BUF_INIT;

	if (status == 200 && !str_eqc(head->path, "/metrics"))
		status = 404;
	if (status == 200)
		s->print(s->arg, &body);
	else
		buf_addf(&body, "%s\n", reason(status));
	buf_addf(&c->out,
	         "HTTP/1.1 %d %s\r\nContent-Type: text/plain; %scharset=utf-8\r\nContent-Length: %zu\r\n%s"
	         "Connection: close\r\n\r\n",
	         status, reason(status), status == 200 ? "version=0.0.4; " : "", body.n,
	         status == 405 ? "Allow: GET, HEAD\r\n" : "");
	if (!head->is_head)
		buf_addstr(&c->out, buf_str(&body));
	c->state = WRITING;
}

/* ---- connections ---- */

static void conn_close(struct conn *c)
{
	close(c->fd);
	buf_fini(&c->out);
	*c = (struct conn){.fd = -1};
}

static bool is_over(ssize_t n)
{
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void conn_read(struct cd_metrics_server *s, struct conn *c)
{
	struct http_head head = {0};
	ssize_t n = recv(c->fd, c->head + c->n_head, sizeof(c->head) - c->n_head, MSG_DONTWAIT);
	int status;

	if (is_over(n)) {
		conn_close(c);
		return;
	}
	if (n < 0)
		return;
	c->n_head += (size_t)n;
	status = http_head_parse(str_make(c->head, c->n_head), &head);
	if (status)
		answer(s, c, status, &head);
}

static void conn_write(struct conn *c)
{
	ssize_t n = send(c->fd, c->out.p + c->out_at, c->out.n - c->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (is_over(n)) {
		conn_close(c);
		return;
	}
	if (n > 0)
		c->out_at += (size_t)n;
	if (c->out_at < c->out.n)
		return;
	/* To close with bytes unread would reset the connection, and the answer with it. */
	shutdown(c->fd, SHUT_WR);
	c->state = DRAINING;
}

static void conn_drain(struct conn *c)
{
	if (is_over(recv(c->fd, c->head, sizeof(c->head), MSG_DONTWAIT)))
		conn_close(c);
}

static void conn_step(struct cd_metrics_server *s, struct conn *c)
{
	if (c->state == READING)
		conn_read(s, c);
	if (c->fd >= 0 && c->state == WRITING)
		conn_write(c);
	else if (c->fd >= 0 && c->state == DRAINING)
		conn_drain(c);
}

static struct conn *conn_free_slot(struct cd_metrics_server *s)
{
	for (size_t i = 0; i < CONNS_MAX; i++)
		if (s->conns[i].fd < 0)
			return &s->conns[i];
	return NULL;
}

static void conn_accept(struct cd_metrics_server *s)
{
	struct conn *c = conn_free_slot(s);
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			poll(NULL, 0, 100); /* the socket stays readable: wait instead of spinning */
		return;
	}
	*c = (struct conn){.fd = fd, .state = READING, .deadline_ns = clock_mono_ns() + CONN_NS};
}

/* ---- the thread ---- */

static int patience_ms(const struct cd_metrics_server *s)
{
	int64_t first = INT64_MAX, now = clock_mono_ns();

	for (size_t i = 0; i < CONNS_MAX; i++)
		if (s->conns[i].fd >= 0 && s->conns[i].deadline_ns < first)
			first = s->conns[i].deadline_ns;
	if (first == INT64_MAX)
		return -1;
	return first <= now ? 0 : (int)((first - now) / NS_PER_MS) + 1;
}

/* False at the end. */
static bool step(struct cd_metrics_server *s)
{
	struct pollfd p[CONNS_MAX + 2] = {
	    {.fd = s->stop_fd, .events = POLLIN},
	    {.fd = conn_free_slot(s) ? s->listen_fd : -1, .events = POLLIN},
	};

	for (size_t i = 0; i < CONNS_MAX; i++)
		p[2 + i] =
		    (struct pollfd){.fd = s->conns[i].fd, .events = s->conns[i].state == WRITING ? POLLOUT : POLLIN};
	if (poll(p, ARRAY_LEN(p), patience_ms(s)) < 0)
		return errno == EINTR;
	if (p[0].revents)
		return false;
	for (size_t i = 0; i < CONNS_MAX; i++) {
		if (p[2 + i].revents)
			conn_step(s, &s->conns[i]);
		if (s->conns[i].fd >= 0 && clock_mono_ns() >= s->conns[i].deadline_ns)
			conn_close(&s->conns[i]);
	}
	if (p[1].revents)
		conn_accept(s);
	return true;
}

static void *serve(void *arg)
{
	struct cd_metrics_server *s = arg;

	while (step(s))
		;
	return NULL;
}

/* ---- the address ---- */

/* "1.2.3.4:80", "[::1]:80"; a name would need a resolver. */
static int parse_address(const char *text, struct sockaddr_storage *out, socklen_t *n, struct err *err)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;
	struct sockaddr_in *four = (struct sockaddr_in *)out;
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN];
	uint64_t port;
	struct str h;

	*out = (struct sockaddr_storage){0};
	if (colon && str_u64(str_of(colon + 1), 10, &port) && port <= 65535) {
		h = str_make(text, (size_t)(colon - text));
		if (str_copy(h, host, sizeof(host)) && inet_pton(AF_INET, host, &four->sin_addr) == 1) {
			four->sin_family = AF_INET;
			four->sin_port = htons((uint16_t)port);
			*n = sizeof(*four);
			return 0;
		}
		if (h.n > 2 && h.p[0] == '[' && h.p[h.n - 1] == ']' &&
		    str_copy(str_sub(h, 1, h.n - 2), host, sizeof(host)) &&
		    inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
			six->sin6_family = AF_INET6;
			six->sin6_port = htons((uint16_t)port);
			*n = sizeof(*six);
			return 0;
		}
	}
	return err_set(err, ERR_INVALID, "\"%s\" is neither a path nor IP:PORT", text);
}

int cd_metrics_address_check(const char *address, struct err *err)
{
	struct sockaddr_storage at;
	socklen_t n;

	if (address[0] != '/')
		return parse_address(address, &at, &n, err);
	return strlen(address) <= UNIX_PATH_MAX_BYTES
	           ? 0
	           : err_set(err, ERR_INVALID, "\"%s\" is longer than %d bytes", address, UNIX_PATH_MAX_BYTES);
}

static bool is_loopback(const struct sockaddr_storage *at)
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)at;
	const struct sockaddr_in *four = (const struct sockaddr_in *)at;

	return at->ss_family == AF_INET6 ? IN6_IS_ADDR_LOOPBACK(&six->sin6_addr)
	                                 : ntohl(four->sin_addr.s_addr) >> 24 == 127;
}

static int listen_tcp(struct cd_metrics_server *s, const char *address, struct err *err)
{
	struct sockaddr_storage at;
	socklen_t n;
	int on = 1;

	TRY(parse_address(address, &at, &n, err));
	if (!is_loopback(&at))
		log_warn("metrics are open to whoever reaches %s", address);
	s->listen_fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listen_fd < 0)
		return err_errno(err, errno, "socket");
	setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(s->listen_fd, (struct sockaddr *)&at, n) < 0 || listen(s->listen_fd, BACKLOG) < 0 ||
	    getsockname(s->listen_fd, (struct sockaddr *)&at, &n) < 0)
		return err_errno(err, errno, "listen at %s", address);
	/* Both families have the port at the same place. */
	s->port = ntohs(((struct sockaddr_in *)&at)->sin_port);
	return 0;
}

/* ---- life ---- */

static int start(struct cd_metrics_server *s, const char *address, struct err *err)
{
	int r;

	TRY(cd_metrics_address_check(address, err));
	if (address[0] == '/') {
		TRY(unix_listen(address, SOCK_STREAM, 0660, &s->listen_fd, err));
		s->path = xstrdup(address);
	} else {
		TRY(listen_tcp(s, address, err));
	}
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->stop_fd < 0)
		return err_errno(err, errno, "eventfd");
	r = pthread_create(&s->thread, NULL, serve, s);
	s->started = r == 0;
	return r ? err_errno(err, r, "pthread_create") : 0;
}

int cd_metrics_server_start(const char *address, void (*print)(void *arg, struct buf *out), void *arg,
                            struct cd_metrics_server **out, struct err *err)
{
	AUTO(cd_metrics_server) struct cd_metrics_server *s = xcalloc(1, sizeof(*s));

	s->print = print;
	s->arg = arg;
	s->listen_fd = s->stop_fd = -1;
	for (size_t i = 0; i < CONNS_MAX; i++)
		s->conns[i].fd = -1;
	TRY_WRAP(start(s, address, err), err, "metrics");
	*out = STEAL(s);
	return 0;
}

unsigned cd_metrics_server_port(const struct cd_metrics_server *s)
{
	return s->port;
}

void cd_metrics_server_free(struct cd_metrics_server *s)
{
	if (!s)
		return;
	if (s->started) {
		eventfd_write(s->stop_fd, 1);
		pthread_join(s->thread, NULL);
	}
	for (size_t i = 0; i < CONNS_MAX; i++)
		if (s->conns[i].fd >= 0)
			conn_close(&s->conns[i]);
	if (s->listen_fd >= 0)
		close(s->listen_fd);
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	if (s->path)
		unlink(s->path);
	free(s->path);
	free(s);
}
