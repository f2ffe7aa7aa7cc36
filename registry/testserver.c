#include "registry/testserver.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

#define CONNECTIONS_MAX 256
#define REQUEST_MAX (16u << 20)

struct connection {
	struct testserver *server;
	int fd;
	pthread_t thread;
};

struct testserver {
	testserver_fn *fn;
	void *arg;
	int fd;
	unsigned port;
	pthread_t thread;
	pthread_mutex_t lock;
	bool stopping;                                  /* lock */
	struct connection connections[CONNECTIONS_MAX]; /* lock; never reused */
	unsigned n_connections;                         /* lock */
	unsigned n_requests;                            /* lock */
	struct buf log;                                 /* lock */
};

struct str exchange_header(const struct exchange *x, const char *name)
{
	struct str rest = x->headers, line;

	while (str_split(&rest, '\n', &line)) {
		ptrdiff_t colon = str_find(line, ':');

		if (colon > 0 && str_ieq(str_sub(line, 0, (size_t)colon), str_of(name)))
			return str_trim(str_sub(line, (size_t)colon + 1, SIZE_MAX));
	}
	return STR_NONE;
}

bool exchange_send(struct exchange *x, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		ssize_t sent = send(x->fd, at, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		at += sent;
		n -= (size_t)sent;
	}
	return true;
}

bool exchange_printf(struct exchange *x, const char *fmt, ...)
{
	AUTO(buf) struct buf b = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	return exchange_send(x, b.p, b.n);
}

bool exchange_reply(struct exchange *x, int status, const char *headers, struct str body)
{
	return exchange_printf(x, "HTTP/1.1 %d Text\r\nContent-Length: %zu\r\n%s\r\n", status, body.n, headers) &&
	       (str_eqc(x->method, "HEAD") || exchange_send(x, body.p, body.n));
}

bool exchange_blob(struct exchange *x, struct str blob)
{
	struct str range = exchange_header(x, "Range"), first, last;
	uint64_t a = 0, b = blob.n - 1;
	char headers[128];

	if (!str_skip(&range, STR("bytes=")))
		return exchange_reply(x, 200, "", blob);
	str_split(&range, '-', &first);
	str_split(&range, '-', &last);
	if (first.n == 0) {
		str_u64(last, 10, &a);
		a = a < blob.n ? blob.n - a : 0;
	} else {
		str_u64(first, 10, &a);
		if (last.n)
			str_u64(last, 10, &b);
	}
	if (a >= blob.n) {
		snprintf(headers, sizeof(headers), "Content-Range: bytes */%zu\r\n", blob.n);
		return exchange_reply(x, 416, headers, STR_NONE);
	}
	if (b >= blob.n)
		b = blob.n - 1;
	snprintf(headers, sizeof(headers), "Content-Range: bytes %llu-%llu/%zu\r\n", (unsigned long long)a,
	         (unsigned long long)b, blob.n);
	return exchange_reply(x, 206, headers, str_sub(blob, (size_t)a, (size_t)(b - a + 1)));
}

/* Reads until `in` holds a whole request; false at the end of the connection. */
static bool read_request(int fd, struct buf *in, size_t *head, size_t *total)
{
	for (;;) {
		char *end = in->n ? memmem(in->p, in->n, "\r\n\r\n", 4) : NULL;

		if (end) {
			struct exchange probe = {.headers = str_make(in->p, (size_t)(end - in->p))};
			uint64_t length = 0;

			str_u64(exchange_header(&probe, "Content-Length"), 10, &length);
			*head = (size_t)(end - in->p) + 4;
			*total = *head + length;
			assert(*total <= REQUEST_MAX);
			if (in->n >= *total)
				return true;
		}
		ssize_t n = read(fd, buf_reserve(in, 65536), 65536);
		if (n <= 0)
			return false;
		in->n += (size_t)n;
	}
}

static void record(struct testserver *s, struct exchange *x)
{
	struct str authorization = exchange_header(x, "Authorization");

	pthread_mutex_lock(&s->lock);
	x->n = s->n_requests++;
	buf_addf(&s->log, STR_FMT " " STR_FMT " " STR_FMT "\n", STR_ARG(x->method), STR_ARG(x->path),
	         STR_ARG(authorization));
	pthread_mutex_unlock(&s->lock);
}

static void *serve(void *arg)
{
	struct connection *c = arg;
	struct testserver *s = c->server;
	AUTO(buf) struct buf in = BUF_INIT;
	size_t head, total;
	bool more = true;

	while (more && read_request(c->fd, &in, &head, &total)) {
		struct exchange x = {.server = s, .fd = c->fd, .arg = s->arg};
		struct str rest = str_make(in.p, head), line;

		str_split(&rest, '\n', &line);
		str_split(&line, ' ', &x.method);
		str_split(&line, ' ', &x.path);
		x.headers = rest;
		x.body = str_make(in.p + head, total - head);
		record(s, &x);
		more = s->fn(&x);
		memmove(in.p, in.p + total, in.n - total);
		in.n -= total;
	}
	shutdown(c->fd, SHUT_RDWR); /* closed when the thread is joined, so that the number is not reused before */
	return NULL;
}

static void *accept_loop(void *arg)
{
	struct testserver *s = arg;

	for (;;) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);

		pthread_mutex_lock(&s->lock);
		if (s->stopping || fd < 0 || s->n_connections == CONNECTIONS_MAX) {
			pthread_mutex_unlock(&s->lock);
			if (fd >= 0)
				close(fd);
			return NULL;
		}
		struct connection *c = &s->connections[s->n_connections++];
		c->server = s;
		c->fd = fd;
		pthread_create(&c->thread, NULL, serve, c);
		pthread_mutex_unlock(&s->lock);
	}
}

struct testserver *testserver_new(testserver_fn *fn, void *arg)
{
	struct testserver *s = xcalloc(1, sizeof(*s));
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(at);

	s->fn = fn;
	s->arg = arg;
	pthread_mutex_init(&s->lock, NULL);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&at, sizeof(at)) || listen(s->fd, 64) ||
	    getsockname(s->fd, (struct sockaddr *)&at, &n)) {
		perror("testserver");
		abort();
	}
	s->port = ntohs(at.sin_port);
	pthread_create(&s->thread, NULL, accept_loop, s);
	return s;
}

void testserver_free(struct testserver *s)
{
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	for (unsigned i = 0; i < s->n_connections; i++)
		shutdown(s->connections[i].fd, SHUT_RDWR);
	pthread_mutex_unlock(&s->lock);
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	for (unsigned i = 0; i < s->n_connections; i++) {
		pthread_join(s->connections[i].thread, NULL);
		close(s->connections[i].fd);
	}
	close(s->fd);
	buf_fini(&s->log);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

unsigned testserver_port(const struct testserver *s)
{
	return s->port;
}

char *testserver_log(struct testserver *s)
{
	pthread_mutex_lock(&s->lock);
	char *copy = xstrdup(buf_cstr(&s->log));
	pthread_mutex_unlock(&s->lock);
	return copy;
}

unsigned testserver_count(struct testserver *s, const char *text)
{
	AUTO_FREE char *log = testserver_log(s);
	struct str rest = str_of(log), line;
	unsigned n = 0;

	while (str_split(&rest, '\n', &line))
		n += memmem(line.p, line.n, text, strlen(text)) != NULL;
	return n;
}
