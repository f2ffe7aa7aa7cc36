/*
 * What tests of the proxy share: a small HTTP server on one side, a client on the other, the proxy with real sockets
 * and its loop in a thread of its own between them. Failures fail the cmocka test that runs.
 */
#ifndef BENCH_NETPROXY_RIG_H
#define BENCH_NETPROXY_RIG_H

#include "base/testing.h"
#include "bench/netproxy/control.h"

#include <pthread.h>

#define SILENCE_MS 150 /* how long nothing has to come to count as silence */
#define ANSWER_MS 20000

/* Byte i of every body. */
char pattern(size_t i);

/* Listens on a free port of the loopback interface; the descriptor is the caller's. */
int listen_any(unsigned *port);

/* The server: GET and HEAD /N answer N bytes, ranges included, /N?close without a length; PUT answers how
 * many right bytes came; anything that is not HTTP is echoed. */
struct rig {
	int server_fd;
	struct loop *loop;
	struct proxy proxy;
	pthread_t server, looper;
	pthread_mutex_t lock;
	pthread_cond_t done;
};

/* Setup and teardown of a test: *state is a struct rig. */
int rig_up(void **state);
int rig_down(void **state);

#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

/* Ends the thread of the loop, and starts it again. */
void rig_halt(struct rig *r);
void rig_go(struct rig *r);

/* A control command, carried out on the loop's thread; answer NULL = not wanted. */
void tell(struct rig *r, const char *line, struct buf *answer);

/* Requests that servers of this process have got; of a difference, those between. */
unsigned requests_served(void);

/* One number of the top level of `stats`. */
int64_t counter(struct rig *r, const char *name);

/* An answer, as far as it came. */
struct response {
	unsigned status;
	struct buf body;
	size_t bytes; /* received in all */
	bool complete;
	int sys; /* of the read that failed */
};

void response_fini(struct response *a);
DEFINE_AUTO_FINI(response);

/* A connection to the proxy; the caller's. */
int dial(struct rig *r);
int dial_port(unsigned port);
void send_all(int fd, struct str s);
bool is_readable(int fd, int timeout_ms);

/* Reads one response, until it is complete, the connection ends, or nothing comes. */
void receive(int fd, bool head, struct response *a);

/* Sends a head ("GET /5 HTTP/1.1", further lines) and reads the answer. */
void ask(int fd, const char *line, struct response *a);

/* Bytes that are not pattern(from + i); *where = the last of them. */
size_t wrong_bytes(const struct buf *body, size_t from, size_t *where);

void assert_answer(const struct response *a, unsigned status, size_t n);

/* Asks on a connection of its own and expects a good answer. */
void assert_works(struct rig *r);

#endif
