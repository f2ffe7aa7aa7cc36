/*
 * Both ends of ttrpc over real sockets, with their threads. The input's first byte says which end it is sent to and over
 * which kind of socket; on SOCK_SEQPACKET the rest is cut into packets by bytes of length.
 */
#include "base/cleanup.h"
#include "rpc/pb.h"
#include "rpc/testing/echo.h"
#include "rpc/ttrpc.h"

#include <sys/socket.h>

#define INPUT_MAX 65536
#define ECHO (&contentd__testing__echo__descriptor)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct rpc_io *io;
static struct ttrpc_server *server;
static struct echo echo;

static void start(void)
{
	struct ttrpc_server_opts opts = {.max_workers = 4};
	struct rpc_service svc = echo_ttrpc_service(&echo);

	if (rpc_io_new(&io, NULL) < 0)
		abort();
	opts.io = io;
	if (ttrpc_server_new(&opts, &server, NULL) < 0 || ttrpc_server_add(server, &svc, NULL) < 0 ||
	    ttrpc_server_start(server, NULL) < 0)
		abort();
}

/* The other end may hang up at any moment, and answers may be in the way: then the rest stays unsent. */
static void send_all(int fd, int type, struct str in)
{
	while (in.n) {
		struct str part = in;
		ssize_t sent;

		if (type == SOCK_SEQPACKET) {
			part = str_sub(in, 1, (uint8_t)in.p[0]);
			in = str_sub(in, 1, SIZE_MAX);
		}
		sent = part.n ? send(fd, part.p, part.n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
		if (sent < 0)
			break;
		in = str_sub(in, part.n ? (size_t)sent : 0, SIZE_MAX);
	}
	shutdown(fd, SHUT_WR);
}

/* Until it hangs up, which it does when it has seen the end. */
static void wait_end(int fd)
{
	static char sink[65536];

	while (recv(fd, sink, sizeof(sink), 0) > 0)
		;
}

static void ignore(void *arg, struct str wire) {}

static void client(int fd)
{
	Contentd__Testing__EchoRequest msg = CONTENTD__TESTING__ECHO_REQUEST__INIT;
	struct ttrpc_client_opts opts = {.io = io};
	AUTO(ttrpc_client) struct ttrpc_client *c = NULL;
	struct ttrpc_req req = {.svc = ECHO, .method = "Progress", .msg = &msg.base, .progress = ignore};

	if (ttrpc_client_new(fd, &opts, &c, NULL) < 0)
		abort();
	for (int i = 0; i < 3; i++) {
		AUTO(pb) Contentd__Testing__EchoReply *rsp = NULL;
		AUTO(ttrpc_fds) struct ttrpc_fds fds = TTRPC_FDS_INIT;

		ttrpc_call(c, &req, &rsp, &fds, NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO_FD int peer = -1;
	int fds[2], type;

	if (!n || n > INPUT_MAX)
		return 0;
	if (!io)
		start();
	type = data[0] & 1 ? SOCK_SEQPACKET : SOCK_STREAM;
	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds))
		abort();
	peer = fds[0];
	if (data[0] & 2) {
		send_all(peer, type, str_make(data + 1, n - 1));
		client(fds[1]);
	} else {
		if (ttrpc_server_adopt(server, fds[1], NULL) < 0)
			abort();
		send_all(peer, type, str_make(data + 1, n - 1));
		wait_end(peer);
	}
	return 0;
}
