#include "bench/coldbench/net/payload.h"

#include "base/vec.h"
#include "bench/netproxy/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>

#define BUFFER_BYTES (256u << 10)

/* A connection and its thread; lives until payload_stop. */
struct caller {
	pthread_t thread;
	pthread_mutex_t lock;
	int fd; /* -1: closed. Changed by its thread alone, under the lock. */
};

struct payload {
	int fd;
	unsigned port;
	char *address;
	pthread_t thread;             /* accepts */
	VEC(struct caller *) callers; /* of that thread; of payload_stop when it has ended */
};

static const char zeros[BUFFER_BYTES];

static bool send_all(int fd, struct str s, int flags)
{
	while (s.n) {
		ssize_t put = send(fd, s.p, s.n, MSG_NOSIGNAL | flags);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return false;
		s = str_sub(s, (size_t)put, SIZE_MAX);
	}
	return true;
}

static void add_head(struct buf *out, uint64_t n)
{
	buf_addf(out, "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\n", (unsigned long long)n);
}

uint64_t payload_answer_bytes(uint64_t n)
{
	AUTO(buf) struct buf head = BUF_INIT;

	add_head(&head, n);
	return head.n + n;
}

static bool answer(int fd, const struct http_msg *m)
{
	AUTO(buf) struct buf head = BUF_INIT;
	uint64_t n = 0;

	if (str_eqc(m->method, "GET"))
		str_u64(str_sub(m->target, 1, SIZE_MAX), 10, &n);
	add_head(&head, n);
	if (!send_all(fd, buf_str(&head), n ? MSG_MORE : 0))
		return false;
	while (n) {
		size_t piece = n < sizeof(zeros) ? (size_t)n : sizeof(zeros);

		if (!send_all(fd, str_make(zeros, piece), 0))
			return false;
		n -= piece;
	}
	return true;
}

/* Until the caller leaves. */
static void converse(int fd)
{
	AUTO(http) struct http h = {0};
	AUTO_FREE char *in = xmalloc(BUFFER_BYTES);

	http_init(&h, HTTP_REQUEST);
	for (;;) {
		ssize_t got = recv(fd, in, BUFFER_BYTES, 0);
		struct str rest, piece;
		enum http_what what;

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return;
		rest = str_make(in, (size_t)got);
		while ((what = http_next(&h, &rest, &piece)) != HTTP_MORE)
			if (what == HTTP_OPAQUE || (what == HTTP_END && !answer(fd, &h.msg)))
				return;
	}
}

static void *serve(void *arg)
{
	struct caller *c = arg;

	converse(c->fd);
	pthread_mutex_lock(&c->lock);
	close(c->fd);
	c->fd = -1;
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static void *accept_all(void *arg)
{
	struct payload *p = arg;
	const int one = 1;

	for (;;) {
		int fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC);
		struct caller *c;

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0)
			return NULL;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		c = xcalloc(1, sizeof(*c));
		c->fd = fd;
		pthread_mutex_init(&c->lock, NULL);
		if (pthread_create(&c->thread, NULL, serve, c)) {
			close(fd);
			free(c);
			continue;
		}
		vec_push(&p->callers, c);
	}
}

int payload_start(struct payload **out, struct err *err)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(at);
	struct payload *p;
	AUTO_FD int fd = -1;
	int sys;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, n) || listen(fd, 256) ||
	    getsockname(fd, (struct sockaddr *)&at, &n))
		return err_errno(err, errno, "a server on the loopback interface");
	p = xcalloc(1, sizeof(*p));
	p->fd = fd;
	p->port = ntohs(at.sin_port);
	p->address = xasprintf("127.0.0.1:%u", p->port);
	sys = pthread_create(&p->thread, NULL, accept_all, p);
	if (sys) {
		free(p->address);
		free(p);
		return err_errno(err, sys, "a server's thread");
	}
	STEAL_FD(fd);
	*out = p;
	return 0;
}

void payload_stop(struct payload *p)
{
	if (!p)
		return;
	shutdown(p->fd, SHUT_RDWR);
	pthread_join(p->thread, NULL);
	vec_each(&p->callers, at) {
		struct caller *c = *at;

		pthread_mutex_lock(&c->lock);
		if (c->fd >= 0)
			shutdown(c->fd, SHUT_RDWR);
		pthread_mutex_unlock(&c->lock);
		pthread_join(c->thread, NULL);
		pthread_mutex_destroy(&c->lock);
		free(c);
	}
	vec_fini(&p->callers);
	close(p->fd);
	free(p->address);
	free(p);
}

const char *payload_address(const struct payload *p)
{
	return p->address;
}

unsigned payload_port(const struct payload *p)
{
	return p->port;
}
