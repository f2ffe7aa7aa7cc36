#include "rpc/testing/raw.h"

#include "base/unix.h"
#include "rpc/grpc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define IN_MAX (1u << 20)
#define DEAF_MS 500 /* a deaf client that cannot send for so long has been stopped by the server */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* ---- the server ---- */

static size_t status_number(const struct served *s, const char *key)
{
	char path[64], line[256];
	size_t value = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)s->pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			value = strtoull(line + strlen(key), NULL, 10);
	fclose(f);
	return value;
}

void serve(struct served *s, int type, void (*run)(const char *path))
{
	char byte;
	int fds[2];

	socket_path(s->path);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (!s->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(s->path);
		if (write(fds[1], "x", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	close(fds[1]);
	if (read(fds[0], &byte, 1) != 1)
		fail_msg("the server did not start");
	close(fds[0]);
	s->base_bytes = status_number(s, "VmRSS:") << 10;
}

void unserve(struct served *s)
{
	int status;

	assert_int_equal(waitpid(s->pid, &status, WNOHANG), 0);
	kill(s->pid, SIGKILL);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	unlink(s->path);
}

size_t served_growth(const struct served *s)
{
	size_t peak = status_number(s, "VmHWM:") << 10;

	return peak > s->base_bytes ? peak - s->base_bytes : 0;
}

size_t served_threads(const struct served *s)
{
	return status_number(s, "Threads:");
}

size_t served_fds(const struct served *s)
{
	char path[64];
	size_t n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)s->pid);
	d = opendir(path);
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

void await_fds(const struct served *s, size_t fds)
{
	int64_t end = clock_mono_ns() + WAIT_NS;

	while (served_fds(s) > fds)
		assert_true(clock_mono_ns() < end);
}

void assert_growth(const struct served *s, size_t max_bytes)
{
	size_t growth = served_growth(s);

	if (!SANITIZED && growth > max_bytes)
		fail_msg("the server has grown by %zu bytes, more than %zu", growth, max_bytes);
}

bool in_another_process(bool (*fn)(const char *path), const char *path)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid)
		_exit(fn(path) ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return !status;
}

/* ---- a connection ---- */

struct raw raw_dial(const char *path, int type)
{
	struct raw r = {.in = BUF_INIT};

	OK(unix_connect(path, type, &r.fd, err));
	fcntl(r.fd, F_SETFL, fcntl(r.fd, F_GETFL) | O_NONBLOCK);
	return r;
}

void raw_close(struct raw *r)
{
	close(r->fd);
	buf_fini(&r->in);
}

static void take(struct raw *r)
{
	ssize_t n;

	if (r->in.n > IN_MAX) {
		memmove(r->in.p, r->in.p + r->in.n - IN_MAX / 2, IN_MAX / 2);
		r->in.n = IN_MAX / 2;
	}
	n = recv(r->fd, buf_reserve(&r->in, 65536), 65536, 0);
	if (n > 0)
		r->in.n += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		r->closed = true;
}

bool raw_send(struct raw *r, struct str bytes)
{
	while (bytes.n && !r->closed) {
		struct pollfd p = {r->fd, (short)(POLLOUT | (r->deaf ? 0 : POLLIN)), 0};
		ssize_t n;

		if (poll(&p, 1, r->deaf ? DEAF_MS : (int)(WAIT_NS / NS_PER_MS)) == 0) {
			if (!r->deaf)
				fail_msg("the server takes nothing");
			r->stalled = true;
			return true;
		}
		if (p.revents & POLLIN)
			take(r);
		n = send(r->fd, bytes.p, bytes.n, MSG_NOSIGNAL);
		if (n >= 0)
			bytes = str_sub(bytes, (size_t)n, SIZE_MAX);
		else if (errno != EAGAIN && errno != EINTR)
			r->closed = true;
	}
	/* What the server said before it closed. */
	for (bool end = false; r->closed && !end && !r->deaf;) {
		size_t before = r->in.n;

		take(r);
		end = r->in.n <= before;
	}
	return !r->closed;
}

bool raw_flood(struct raw *r, struct str bytes, unsigned times)
{
	/* Few system calls: as fast as can be. */
	AUTO(buf) struct buf many = BUF_INIT;
	unsigned per = bytes.n < 32768 ? (unsigned)(32768 / bytes.n) : 1;

	for (unsigned i = 0; i < per; i++)
		buf_addstr(&many, bytes);
	for (unsigned i = 0; i < times; i += per)
		if (!raw_send(r, buf_str(&many)))
			return true;
	return false;
}

void raw_wait_closed(struct raw *r)
{
	while (!r->closed) {
		struct pollfd p = {r->fd, POLLIN, 0};

		if (poll(&p, 1, (int)(WAIT_NS / NS_PER_MS)) == 0)
			fail_msg("the server has not closed the connection");
		take(r);
	}
}

bool raw_wait_bytes(struct raw *r, size_t n)
{
	while (!r->closed && r->in.n < n) {
		struct pollfd p = {r->fd, POLLIN, 0};

		if (poll(&p, 1, (int)(WAIT_NS / NS_PER_MS)) == 0)
			fail_msg("%zu bytes came instead of %zu", r->in.n, n);
		take(r);
	}
	return r->in.n >= n;
}

/* ---- HTTP/2 ---- */

void h2_greet(struct buf *out, struct str settings)
{
	buf_adds(out, H2_PREFACE);
	h2_frame(out, H2_SETTINGS, 0, 0, settings);
	h2_frame(out, H2_SETTINGS, 1, 0, STR_NONE);
}

struct raw h2_dial(const char *path)
{
	struct raw r = raw_dial(path, SOCK_STREAM);
	AUTO(buf) struct buf out = BUF_INIT;

	h2_greet(&out, STR_NONE);
	raw_send(&r, buf_str(&out));
	return r;
}

void h2_frame(struct buf *out, unsigned type, unsigned flags, uint32_t id, struct str payload)
{
	buf_addc(out, (char)(payload.n >> 16));
	buf_addc(out, (char)(payload.n >> 8));
	buf_addc(out, (char)payload.n);
	buf_addc(out, (char)type);
	buf_addc(out, (char)flags);
	buf_be32(out, id);
	buf_addstr(out, payload);
}

/* A literal without indexing and with a new name (RFC 7541, 6.2.2); both are short. */
static void literal(struct buf *out, const char *name, const char *value)
{
	buf_addc(out, 0);
	buf_addc(out, (char)strlen(name));
	buf_adds(out, name);
	buf_addc(out, (char)strlen(value));
	buf_adds(out, value);
}

void h2_block(struct buf *out, const char *method)
{
	AUTO_FREE char *path = xasprintf("/" ECHO_SERVICE "/%s", method);

	literal(out, ":method", "POST");
	literal(out, ":scheme", "http");
	literal(out, ":path", path);
	literal(out, ":authority", "x");
	literal(out, "te", "trailers");
	literal(out, "content-type", "application/grpc");
}

void h2_message(struct buf *out, uint32_t id, const EchoRequest *req, bool end)
{
	AUTO(buf) struct buf m = BUF_INIT;

	buf_addz(&m, GRPC_PREFIX_BYTES);
	pb_pack(&req->base, &m);
	grpc_prefix_put(m.p, m.n - GRPC_PREFIX_BYTES);
	for (struct str rest = buf_str(&m); rest.n; rest = str_sub(rest, 16384, SIZE_MAX))
		h2_frame(out, H2_DATA, end && rest.n <= 16384 ? H2_END_STREAM : 0, id, str_sub(rest, 0, 16384));
}

void h2_call(struct buf *out, uint32_t id, const char *method, const EchoRequest *req, bool end)
{
	AUTO(buf) struct buf block = BUF_INIT;

	h2_block(&block, method);
	h2_frame(out, H2_HEADERS, H2_END_HEADERS | (end && !req ? H2_END_STREAM : 0), id, buf_str(&block));
	if (req)
		h2_message(out, id, req, end);
}

static uint32_t be32(const char *p)
{
	const uint8_t *u = (const uint8_t *)p;

	return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

/* Walks the frames that came, whole ones. */
static bool next_frame(struct str *in, struct str *frame)
{
	const uint8_t *p = (const uint8_t *)in->p;
	size_t n;

	if (in->n < 9)
		return false;
	n = 9 + ((size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2]);
	if (in->n < n)
		return false;
	*frame = str_sub(*in, 0, n);
	*in = str_sub(*in, n, SIZE_MAX);
	return true;
}

int64_t h2_goaway(const struct raw *r)
{
	struct str in = buf_str(&r->in), frame;

	while (next_frame(&in, &frame))
		if (frame.p[3] == H2_GOAWAY && frame.n >= 17)
			return be32(frame.p + 13);
	return -1;
}

unsigned h2_count(const struct raw *r, unsigned type, uint32_t id)
{
	struct str in = buf_str(&r->in), frame;
	unsigned n = 0;

	while (next_frame(&in, &frame))
		n += (unsigned char)frame.p[3] == type && (!id || be32(frame.p + 5) == id);
	return n;
}

unsigned h2_count_bodies(const struct raw *r)
{
	struct str in = buf_str(&r->in), frame;
	unsigned n = 0;

	while (next_frame(&in, &frame))
		n += frame.p[3] == H2_HEADERS && !(frame.p[4] & H2_END_STREAM);
	return n;
}
