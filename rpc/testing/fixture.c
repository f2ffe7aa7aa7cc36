#include "rpc/testing/fixture.h"

#include "base/unix.h"

#include <stdio.h>

void socket_path(char path[static 64])
{
	static atomic_int serial;

	snprintf(path, 64, "/tmp/rpc_test.%d.%d", getpid(), atomic_fetch_add(&serial, 1));
}

struct rpc_client *grpc_dial(const char *path)
{
	struct rpc_client *c = NULL;

	OK(rpc_client_connect(path, &c, err));
	return c;
}

struct grpc_fixture *grpc_start(struct rpc_server_opts opts)
{
	struct grpc_fixture *f = xcalloc(1, sizeof(*f));
	struct rpc_service svc = echo_service(&f->echo);
	int fd;

	socket_path(f->path);
	OK(rpc_server_new(&opts, &f->server, err));
	OK(rpc_server_add(f->server, &svc, err));
	OK(unix_listen(f->path, SOCK_STREAM, 0600, &fd, err));
	OK(rpc_server_listen(f->server, fd, err));
	OK(rpc_server_start(f->server, err));
	f->client = grpc_dial(f->path);
	return f;
}

void grpc_stop(struct grpc_fixture *f)
{
	rpc_client_free(f->client);
	rpc_server_free(f->server);
	unlink(f->path);
	free(f);
}

void until(atomic_int *value, int wanted)
{
	int64_t end = clock_mono_ns() + WAIT_NS;

	while (atomic_load(value) != wanted) {
		if (clock_mono_ns() > end)
			fail_msg("still %d, not %d", atomic_load(value), wanted);
		usleep(1000);
	}
}

EchoRequest echo_request(void)
{
	return (EchoRequest)CONTENTD__TESTING__ECHO_REQUEST__INIT;
}

ProtobufCBinaryData bytes_of(size_t n)
{
	uint8_t *p = xmalloc(n + 1);

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 2654435761u >> 24);
	return (ProtobufCBinaryData){n, p};
}

void assert_bytes(ProtobufCBinaryData got, ProtobufCBinaryData want)
{
	assert_int_equal(got.len, want.len);
	assert_memory_equal(got.data, want.data, want.len);
}

struct rpc_stream *open_stream(struct rpc_client *c, const char *method, const EchoRequest *first, bool more)
{
	struct rpc_stream *s = NULL;

	OK(rpc_stream_open(c, ECHO, method, NULL, &s, err));
	if (first)
		OK(rpc_stream_send(s, &first->base, err));
	if (!more)
		OK(rpc_stream_close_send(s, err));
	return s;
}

EchoReply *must_recv(struct rpc_stream *s)
{
	struct err err = ERR_INIT;
	EchoReply *rsp = NULL;
	int r = rpc_stream_recv(s, clock_mono_ns() + WAIT_NS, &rsp, &err);

	if (r != RPC_MESSAGE)
		fail_msg("expected a message, got %d: %s", r, err.msg);
	return rsp;
}

int status_of(struct rpc_stream *s, struct err *err)
{
	AUTO(pb) EchoReply *rsp = NULL;

	return rpc_stream_recv(s, clock_mono_ns() + WAIT_NS, &rsp, err);
}
