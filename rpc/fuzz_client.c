/*
 * The gRPC client with a server that sends anything: HTTP/2, headers, framing, messages, statuses. Input: all that the
 * server ever sends; the client makes a unary call and has a stream and a two-way stream open meanwhile.
 */
#include "base/clock.h"
#include "rpc/client.h"
#include "rpc/pb.h"
#include "rpc/testing/echo.h"

#include <sys/socket.h>

#define INPUT_MAX 65536 /* what a socket takes without anybody reading */
#define ECHO (&contentd__testing__echo__descriptor)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void drain(struct rpc_stream *s)
{
	int r;

	do {
		AUTO(pb) Contentd__Testing__EchoReply *rsp = NULL;

		r = rpc_stream_recv(s, INT64_MAX, &rsp, NULL);
	} while (r == RPC_MESSAGE);
}

static void talk(struct rpc_client *c)
{
	Contentd__Testing__EchoRequest req = CONTENTD__TESTING__ECHO_REQUEST__INIT;
	AUTO(rpc_stream) struct rpc_stream *down = NULL, *chat = NULL;
	AUTO(pb) Contentd__Testing__EchoReply *rsp = NULL;

	if (rpc_stream_open(c, ECHO, "Down", NULL, &down, NULL) < 0 ||
	    rpc_stream_open(c, ECHO, "Chat", NULL, &chat, NULL) < 0)
		return;
	rpc_stream_send(down, &req.base, NULL);
	rpc_stream_close_send(down, NULL);
	rpc_stream_send(chat, &req.base, NULL);
	rpc_call(c, ECHO, "Unary", NULL, &req.base, &rsp, NULL);
	drain(down);
	drain(chat);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(rpc_client) struct rpc_client *c = NULL;
	AUTO_FD int server = -1;
	int fds[2];

	if (n > INPUT_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return 0;
	server = fds[0];
	/* The end of what it sends; it goes on to listen. */
	if (send(server, data, n, MSG_DONTWAIT) != (ssize_t)n || shutdown(server, SHUT_WR))
		abort();
	if (rpc_client_new(fds[1], &c, NULL) < 0)
		abort();
	talk(c);
	return 0;
}
