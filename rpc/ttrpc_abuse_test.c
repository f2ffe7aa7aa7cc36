/* The ttrpc server, in a process of its own, against clients that mean it ill. */
#include "base/file.h"
#include "base/unix.h"
#include "rpc/testing/raw.h"
#include "rpc/ttrpc_wire.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/socket.h>

#define MIB ((size_t)1 << 20)
#define CONNECTIONS_MAX 60

static void serve_type(const char *path, int type)
{
	static struct echo echo;
	struct ttrpc_server_opts opts = {.max_connections = CONNECTIONS_MAX, .max_workers = 8};
	struct rpc_service svc = echo_ttrpc_service(&echo);
	struct ttrpc_server *s = NULL;
	int fd;

	mallopt(M_ARENA_MAX, 2);
	OK(ttrpc_server_new(&opts, &s, err));
	OK(ttrpc_server_add(s, &svc, err));
	OK(unix_listen(path, type, 0600, &fd, err));
	OK(ttrpc_server_listen(s, fd, err));
	OK(ttrpc_server_start(s, err));
}

static void streams(const char *path)
{
	serve_type(path, SOCK_STREAM);
}

static void packets(const char *path)
{
	serve_type(path, SOCK_SEQPACKET);
}

static int setup(void **state)
{
	struct served *s = xcalloc(1, sizeof(*s));

	serve(s, SOCK_STREAM, streams);
	*state = s;
	return 0;
}

static int setup_packets(void **state)
{
	struct served *s = xcalloc(1, sizeof(*s));

	serve(s, SOCK_SEQPACKET, packets);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	unserve(*state);
	free(*state);
	return 0;
}

static bool answers(const char *path, int type)
{
	AUTO(ttrpc_client) struct ttrpc_client *c = NULL;
	AUTO(pb) EchoReply *rsp = NULL;
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = {
	    .svc = ECHO, .method = "Unary", .msg = &msg.base, .deadline_ns = clock_mono_ns() + WAIT_NS};
	int fd;

	msg.text = "still there";
	if (unix_connect(path, type, &fd, &err) < 0 || ttrpc_client_new(fd, NULL, &c, &err) < 0 ||
	    ttrpc_call(c, &req, &rsp, NULL, &err) < 0) {
		fprintf(stderr, "not served: %s\n", err.msg);
		return false;
	}
	return !strcmp(rsp->text, msg.text);
}

static bool is_served(const char *path)
{
	return answers(path, SOCK_STREAM);
}

static bool is_served_packets(const char *path)
{
	return answers(path, SOCK_SEQPACKET);
}

static void put_call(struct buf *out, uint32_t id, const char *method, const EchoRequest *msg)
{
	AUTO(buf) struct buf payload = BUF_INIT;
	Ttrpc__Request req = TTRPC__REQUEST__INIT;

	pb_pack(&msg->base, &payload);
	req.service = ECHO_SERVICE;
	req.method = method;
	req.payload = (ProtobufCBinaryData){payload.n, (uint8_t *)payload.p};
	ttrpc_put_request(out, id, &req);
}

/* The status of the next answer on the connection; its stream in *id. */
static int next_status(struct raw *r, uint32_t *id)
{
	struct ttrpc_cutter cutter = {0};
	struct str in, payload;
	struct ttrpc_frame f;
	struct err err = ERR_INIT;
	struct arena a;
	int code;

	for (;;) {
		in = buf_str(&r->in);
		if (ttrpc_cut(&cutter, &in, TTRPC_FRAME_MAX, &f))
			break;
		ttrpc_cutter_fini(&cutter);
		assert_true(raw_wait_bytes(r, r->in.n + 1));
	}
	*id = f.stream_id;
	arena_init(&a, SIZE_MAX);
	code = ttrpc_response_parse(&a, f.data, &payload, &err) < 0 ? (int)err.code : 0;
	arena_fini(&a);
	ttrpc_cutter_fini(&cutter);
	memmove(r->in.p, in.p, in.n);
	r->in.n = in.n;
	return code;
}

/* ---- frames ---- */

static void bad_stream_ids(void **state)
{
	struct served *s = *state;
	const uint32_t ids[] = {0, 2, 5, 5, 3, 1, 0xfffffffe, 0xffffffff};
	const int codes[] = {ERR_INVALID, ERR_INVALID, 0, ERR_INVALID, ERR_INVALID, ERR_INVALID, ERR_INVALID, 0};
	struct raw r = raw_dial(s->path, SOCK_STREAM);
	EchoRequest msg = echo_request();

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		AUTO(buf) struct buf out = BUF_INIT;
		uint32_t id;

		put_call(&out, ids[i], "Unary", &msg);
		assert_true(raw_send(&r, buf_str(&out)));
		assert_int_equal(next_status(&r, &id), codes[i]);
		assert_int_equal(id, ids[i]);
	}
	raw_close(&r);
	assert_true(in_another_process(is_served, s->path));
}

/* A frame of 4 GiB is refused when it ends, and nothing of it is kept; the next one is served. */
static void oversized_frames(void **state)
{
	struct served *s = *state;
	struct raw r = raw_dial(s->path, SOCK_STREAM);
	char header[TTRPC_HEADER_BYTES];
	static const char zeros[1 << 20];
	AUTO(buf) struct buf out = BUF_INIT;
	EchoRequest msg = echo_request();
	uint32_t id;

	ttrpc_header_put(header, 64 << 20, 1, TTRPC_REQUEST, 0);
	assert_true(raw_send(&r, str_make(header, sizeof(header))));
	for (int i = 0; i < 64; i++)
		assert_true(raw_send(&r, str_make(zeros, sizeof(zeros))));
	assert_int_equal(next_status(&r, &id), ERR_EXHAUSTED);
	put_call(&out, 3, "Unary", &msg);
	assert_true(raw_send(&r, buf_str(&out)));
	assert_int_equal(next_status(&r, &id), 0);
	ttrpc_header_put(header, UINT32_MAX, 5, TTRPC_REQUEST, 0);
	assert_true(raw_send(&r, str_make(header, sizeof(header))));
	assert_growth(s, 8 * MIB);
	assert_true(in_another_process(is_served, s->path));
	raw_close(&r);
}

static void frames_of_no_sense(void **state)
{
	struct served *s = *state;
	struct raw r = raw_dial(s->path, SOCK_STREAM);
	AUTO(buf) struct buf out = BUF_INIT;
	EchoRequest msg = echo_request();
	uint32_t id;

	/* Types that nobody knows, answers, data and cancellations of calls that are not there. */
	for (unsigned type = 0; type < 256; type++) {
		char header[TTRPC_HEADER_BYTES];

		if (type == TTRPC_REQUEST)
			continue;
		ttrpc_header_put(header, 3, type, (uint8_t)type, (uint8_t)(type * 7));
		buf_add(&out, header, sizeof(header));
		buf_adds(&out, "abc");
	}
	for (uint32_t i = 1; i < 100000; i += 2)
		ttrpc_put_data(&out, i, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, STR_NONE);
	put_call(&out, 7, "Unary", &msg);
	assert_true(raw_send(&r, buf_str(&out)));
	assert_int_equal(next_status(&r, &id), 0);
	assert_int_equal(id, 7);
	/* An envelope that is none. */
	buf_clear(&out);
	buf_add(&out, "\0\0\0\4\0\0\0\x9\1\0\xff\xff\xff\xff", 14);
	assert_true(raw_send(&r, buf_str(&out)));
	assert_int_equal(next_status(&r, &id), ERR_INVALID);
	raw_close(&r);
	assert_true(in_another_process(is_served, s->path));
}

static void clients_that_vanish(void **state)
{
	struct served *s = *state;
	AUTO(buf) struct buf out = BUF_INIT;
	EchoRequest msg = echo_request();
	size_t fds;

	msg.wait_ms = 600000;
	put_call(&out, 1, "Slow", &msg);
	put_call(&out, 3, "Wait", &msg);
	assert_true(in_another_process(is_served, s->path));
	fds = served_fds(s);
	for (int round = 0; round < 5; round++)
		for (size_t n = 0; n <= out.n; n++) {
			struct raw r = raw_dial(s->path, SOCK_STREAM);

			raw_send(&r, str_sub(buf_str(&out), 0, n));
			raw_close(&r);
		}
	await_fds(s, fds);
	assert_true(in_another_process(is_served, s->path));
	assert_growth(s, 32 * MIB);
}

/* ---- what is held ---- */

/* Calls that are never answered, with requests as large as they may be. */
static void outstanding_requests(void **state)
{
	struct served *s = *state;
	struct raw r = raw_dial(s->path, SOCK_STREAM);
	EchoRequest msg = echo_request();
	unsigned refused = 0;

	msg.wait_ms = 600000;
	msg.data = bytes_of(3 << 20);
	for (uint32_t i = 0; i < 60; i++) {
		AUTO(buf) struct buf out = BUF_INIT;

		put_call(&out, 2 * i + 1, "Wait", &msg);
		assert_true(raw_send(&r, buf_str(&out)));
	}
	/* 21 of them make 63 MiB. */
	for (; refused < 39; refused++) {
		uint32_t id;

		assert_int_equal(next_status(&r, &id), ERR_EXHAUSTED);
	}
	assert_growth(s, 160 * MIB);
	assert_true(in_another_process(is_served, s->path));
	raw_close(&r);
	free(msg.data.data);
}

/* Answers that nobody reads. */
static void unread_answers(void **state)
{
	struct served *s = *state;
	struct raw r = raw_dial(s->path, SOCK_STREAM);
	EchoRequest msg = echo_request();
	bool closed = false;

	/* Requests wait when 8 MiB of answers do. */
	r.deaf = true;
	msg.data = bytes_of(MIB);
	for (uint32_t i = 0; i < 500 && !closed && !r.stalled; i++) {
		AUTO(buf) struct buf out = BUF_INIT;

		put_call(&out, 2 * i + 1, "Unary", &msg);
		closed = !raw_send(&r, buf_str(&out));
	}
	assert_true(closed || r.stalled);
	assert_growth(s, 64 * MIB);
	assert_true(in_another_process(is_served, s->path));
	raw_close(&r);
	free(msg.data.data);
}

static void too_many_connections(void **state)
{
	struct served *s = *state;
	struct raw r[CONNECTIONS_MAX + 20];
	EchoRequest msg = echo_request();
	AUTO(buf) struct buf out = BUF_INIT;
	unsigned refused = 0;
	size_t fds;

	put_call(&out, 1, "Unary", &msg);
	assert_true(in_another_process(is_served, s->path));
	fds = served_fds(s);
	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		r[i] = raw_dial(s->path, SOCK_STREAM);
		raw_send(&r[i], buf_str(&out));
		refused += !raw_wait_bytes(&r[i], 1);
	}
	assert_int_equal(refused, 20);
	for (size_t i = 0; i < ARRAY_LEN(r); i++)
		raw_close(&r[i]);
	await_fds(s, fds);
	assert_true(in_another_process(is_served, s->path));
}

/* ---- packets with descriptors ---- */

/* As many as fit beside a packet, more than are taken, to calls that end, wait, or do not exist. */
static void descriptor_floods(void **state)
{
	struct served *s = *state;
	struct raw r = raw_dial(s->path, SOCK_SEQPACKET);
	const char *methods[] = {"Unary", "Absent", "Fds"};
	EchoRequest msg = echo_request();
	AUTO_FD int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	size_t before;

	assert_true(in_another_process(is_served_packets, s->path));
	before = served_fds(s);
	for (uint32_t i = 0; i < 300; i++) {
		char control[CMSG_SPACE(100 * sizeof(int))] = {0};
		AUTO(buf) struct buf out = BUF_INIT;
		struct iovec iov;
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
		unsigned n = i % 2 ? 16 : 100;
		struct cmsghdr *c = (struct cmsghdr *)control;

		put_call(&out, 2 * i + 1, methods[i % 3], &msg);
		iov = (struct iovec){out.p, out.n};
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		for (unsigned j = 0; j < n; j++)
			((int *)(void *)CMSG_DATA(c))[j] = fd;
		if (sendmsg(r.fd, &m, MSG_NOSIGNAL) < 0) {
			/* The server takes no packet with too many; or its answers are in the way. */
			raw_close(&r);
			r = raw_dial(s->path, SOCK_SEQPACKET);
		}
	}
	raw_close(&r);
	await_fds(s, before);
	assert_true(in_another_process(is_served_packets, s->path));
}

static void broken_packets(void **state)
{
	struct served *s = *state;
	const struct str bad[] = {
	    STR("x"),
	    STR("\0\0\0\0\0\0\0\1\1"), /* no whole header */
	    STR("\0\0\0\5\0\0\0\1\1\0"
	        "abc"), /* shorter than it says */
	    STR("\0\0\0\1\0\0\0\1\1\0"
	        "abc"), /* longer */
	    STR("\xff\xff\xff\xff\0\0\0\1\1\0"
	        "a"),
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct raw r = raw_dial(s->path, SOCK_SEQPACKET);

		assert_true(raw_send(&r, bad[i]));
		raw_wait_closed(&r);
		raw_close(&r);
	}
	assert_true(in_another_process(is_served_packets, s->path));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define PACKETS(fn) cmocka_unit_test_setup_teardown(fn, setup_packets, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(bad_stream_ids),       T(oversized_frames),        T(frames_of_no_sense),
	    T(clients_that_vanish),  T(outstanding_requests),    T(unread_answers),
	    T(too_many_connections), PACKETS(descriptor_floods), PACKETS(broken_packets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
