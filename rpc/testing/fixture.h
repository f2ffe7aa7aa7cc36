/* What the tests of rpc/ share: the echo service behind a gRPC server, with a client; requests, waiting, bytes. */
#ifndef RPC_TESTING_FIXTURE_H
#define RPC_TESTING_FIXTURE_H

#include "base/testing.h"

#include "base/clock.h"
#include "rpc/client.h"
#include "rpc/pb.h"
#include "rpc/server.h"
#include "rpc/testing/echo.h"

#define ECHO (&contentd__testing__echo__descriptor)
#define WAIT_NS (30 * NS_PER_S)      /* for what must happen: only reached when it does not */
#define ARRIVES_NS (500 * NS_PER_MS) /* a deadline before which a call has reached its handler */

typedef Contentd__Testing__EchoRequest EchoRequest;
typedef Contentd__Testing__EchoReply EchoReply;

struct grpc_fixture {
	struct echo echo;
	struct rpc_server *server;
	struct rpc_client *client;
	char path[64];
};

struct grpc_fixture *grpc_start(struct rpc_server_opts opts);
void grpc_stop(struct grpc_fixture *f);
struct rpc_client *grpc_dial(const char *path);

/* A file name for a socket, new in this process. */
void socket_path(char path[static 64]);

/* Waits until the value is there; fails the test when it does not come. */
void until(atomic_int *value, int wanted);

EchoRequest echo_request(void);
ProtobufCBinaryData bytes_of(size_t n); /* data.data: the caller's (free) */
void assert_bytes(ProtobufCBinaryData got, ProtobufCBinaryData want);

/* An open call, after the first message (unless NULL); with its side closed unless `more`. */
struct rpc_stream *open_stream(struct rpc_client *c, const char *method, const EchoRequest *first, bool more);
EchoReply *must_recv(struct rpc_stream *s); /* the caller's */
int status_of(struct rpc_stream *s, struct err *err);

#endif
