#include "bench/netproxy/rig.h"

#include "bench/netproxy/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>

char pattern(size_t i)
{
	return (char)(i * 31 + (i >> 8));
}

/* --- the server --- */

int listen_any(unsigned *port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && !bind(fd, (struct sockaddr *)&at, n) && !listen(fd, 64));
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
	*port = ntohs(at.sin_port);
	return fd;
}

void send_all(int fd, struct str s)
{
	while (s.n) {
		ssize_t put = send(fd, s.p, s.n, MSG_NOSIGNAL);

		if (put <= 0)
			return;
		s = str_sub(s, (size_t)put, SIZE_MAX);
	}
}

static void serve_get(int fd, const struct http_msg *m)
{
	AUTO(buf) struct buf out = BUF_INIT;
	uint64_t n = 0, from = 0, to;
	struct str range = m->range;
	struct str target = str_sub(m->target, 1, SIZE_MAX);
	struct str word;
	bool closes;

	str_split(&target, '?', &word);
	closes = str_eqc(target, "close");
	str_u64(word, 10, &n);
	to = n;
	if (str_skip(&range, STR("bytes=")) && str_split(&range, '-', &word) && str_u64(word, 10, &from) &&
	    str_u64(range, 10, &to))
		to++;
	buf_addf(&out, "HTTP/1.1 %s\r\n", m->range.n ? "206 Partial" : "200 OK");
	if (!closes)
		buf_addf(&out, "Content-Length: %llu\r\n", (unsigned long long)(to - from));
	buf_adds(&out, "\r\n");
	if (str_eqc(m->method, "GET"))
		for (uint64_t i = from; i < to; i++)
			buf_addc(&out, pattern(i));
	send_all(fd, buf_str(&out));
	if (closes)
		shutdown(fd, SHUT_RDWR);
}

static void serve_put(int fd, size_t right)
{
	AUTO_FREE char *text = xasprintf("%zu", right);
	AUTO_FREE char *answer = xasprintf("HTTP/1.1 201 Created\r\nContent-Length: %zu\r\n\r\n%s", strlen(text), text);

	send_all(fd, str_of(answer));
}

static atomic_uint n_served;

unsigned requests_served(void)
{
	return atomic_load(&n_served);
}

static void *serve(void *arg)
{
	AUTO_FD int fd = (int)(intptr_t)arg;
	AUTO(http) struct http h = {0};
	size_t at = 0, right = 0;
	char in[65536];
	ssize_t got;

	http_init(&h, HTTP_REQUEST);
	while ((got = recv(fd, in, sizeof(in), 0)) > 0) {
		struct str rest = {in, (size_t)got};
		enum http_what what;
		struct str piece;

		while ((what = http_next(&h, &rest, &piece)) != HTTP_MORE) {
			if (what == HTTP_OPAQUE)
				send_all(fd, piece);
			for (size_t i = 0; what == HTTP_BODY && i < piece.n; i++, at++)
				right += piece.p[i] == pattern(at);
			if (what == HTTP_END)
				atomic_fetch_add(&n_served, 1);
			if (what == HTTP_END && str_eqc(h.msg.method, "PUT"))
				serve_put(fd, right);
			else if (what == HTTP_END)
				serve_get(fd, &h.msg);
		}
	}
	return NULL;
}

static void *serve_all(void *arg)
{
	int listener = (int)(intptr_t)arg;
	pthread_t threads[256];
	unsigned n = 0;
	int fd;

	while (n < ARRAY_LEN(threads) && (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		assert_int_equal(pthread_create(&threads[n++], NULL, serve, (void *)(intptr_t)fd), 0);
	while (n)
		pthread_join(threads[--n], NULL);
	return NULL;
}

/* --- the rig --- */

static void *run_loop(void *arg)
{
	struct err err = ERR_INIT;

	assert_int_equal(loop_run(arg, &err), 0);
	return NULL;
}

void rig_halt(struct rig *r)
{
	loop_quit(r->loop);
	pthread_join(r->looper, NULL);
}

void rig_go(struct rig *r)
{
	assert_int_equal(pthread_create(&r->looper, NULL, run_loop, r->loop), 0);
}

int rig_up(void **state)
{
	struct rig *r = xcalloc(1, sizeof(*r));
	struct address any, server;
	struct err err = ERR_INIT;
	AUTO_FREE char *to = NULL;
	unsigned port;

	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->done, NULL);
	r->server_fd = listen_any(&port);
	to = xasprintf("127.0.0.1:%u", port);
	assert_int_equal(address_parse("127.0.0.1:0", &any, &err), 0);
	assert_int_equal(address_parse(to, &server, &err), 0);
	assert_int_equal(loop_new(&r->loop, &err), 0);
	assert_int_equal(proxy_init(&r->proxy, r->loop, &any, &server, &err), 0);
	assert_int_equal(pthread_create(&r->server, NULL, serve_all, (void *)(intptr_t)r->server_fd), 0);
	rig_go(r);
	*state = r;
	return 0;
}

int rig_down(void **state)
{
	struct rig *r = *state;

	rig_halt(r);
	proxy_fini(&r->proxy);
	loop_free(r->loop);
	shutdown(r->server_fd, SHUT_RDWR);
	pthread_join(r->server, NULL);
	close(r->server_fd);
	free(r);
	return 0;
}

struct command {
	struct rig *rig;
	struct str line;
	struct buf answer;
	bool done;
};

static void execute(void *arg)
{
	struct command *c = arg;

	control_execute(&c->rig->proxy, c->line, &c->answer);
	pthread_mutex_lock(&c->rig->lock);
	c->done = true;
	pthread_cond_signal(&c->rig->done);
	pthread_mutex_unlock(&c->rig->lock);
}

void tell(struct rig *r, const char *line, struct buf *answer)
{
	struct command c = {.rig = r, .line = str_of(line)};

	loop_post(r->loop, execute, &c);
	pthread_mutex_lock(&r->lock);
	while (!c.done)
		pthread_cond_wait(&r->done, &r->lock);
	pthread_mutex_unlock(&r->lock);
	if (answer)
		*answer = c.answer;
	else
		buf_fini(&c.answer);
}

int64_t counter(struct rig *r, const char *name)
{
	AUTO(json_reader) struct json_reader *j = NULL;
	AUTO(buf) struct buf answer = BUF_INIT;
	struct err err = ERR_INIT;
	int64_t value = -1;
	struct str key;

	tell(r, "stats", &answer);
	j = json_reader_new(buf_str(&answer));
	assert_int_equal(json_object_begin(j, &err), 0);
	while (json_object_next(j, &key, &err) == 1) {
		if (str_eqc(key, name))
			assert_int_equal(json_i64(j, &value, &err), 0);
		else
			assert_int_equal(json_skip(j, &err), 0);
	}
	return value;
}

/* --- the client --- */

void response_fini(struct response *a)
{
	buf_fini(&a->body);
}

int dial(struct rig *r)
{
	return dial_port(r->proxy.port);
}

int dial_port(unsigned port)
{
	struct sockaddr_in to = {
	    .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to)));
	return fd;
}

bool is_readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

void receive(int fd, bool head, struct response *a)
{
	AUTO(http) struct http h = {0};

	*a = (struct response){0};
	http_init(&h, HTTP_RESPONSE);
	while (!a->complete) {
		char in[65536];
		struct str rest, piece;
		enum http_what what;
		ssize_t got;

		assert_true(is_readable(fd, ANSWER_MS));
		got = recv(fd, in, sizeof(in), 0);
		if (got <= 0) {
			a->sys = got < 0 ? errno : 0;
			return;
		}
		a->bytes += (size_t)got;
		rest = str_make(in, (size_t)got);
		while ((what = http_next(&h, &rest, &piece)) != HTTP_MORE) {
			if (what == HTTP_HEAD && head)
				http_no_body(&h);
			if (what == HTTP_HEAD)
				a->status = h.msg.status;
			else if (what == HTTP_BODY)
				buf_addstr(&a->body, piece);
			else if (what == HTTP_END)
				a->complete = true;
		}
	}
}

void ask(int fd, const char *line, struct response *a)
{
	AUTO_FREE char *text = xasprintf("%s\r\nHost: test\r\n\r\n", line);

	send_all(fd, str_of(text));
	receive(fd, !strncmp(line, "HEAD", 4), a);
}

size_t wrong_bytes(const struct buf *body, size_t from, size_t *where)
{
	size_t wrong = 0;

	for (size_t i = 0; i < body->n; i++) {
		if (body->p[i] == pattern(from + i))
			continue;
		wrong++;
		*where = i;
	}
	return wrong;
}

void assert_answer(const struct response *a, unsigned status, size_t n)
{
	size_t where = 0;

	assert_true(a->complete);
	assert_int_equal(a->status, status);
	assert_int_equal(a->body.n, n);
	assert_int_equal(wrong_bytes(&a->body, 0, &where), 0);
}

void assert_works(struct rig *r)
{
	AUTO(response) struct response a = {0};
	AUTO_FD int fd = dial(r);

	ask(fd, "GET /1000 HTTP/1.1", &a);
	assert_answer(&a, 200, 1000);
}
