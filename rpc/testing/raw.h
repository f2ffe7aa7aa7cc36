/*
 * For tests that attack a server: the server in a process of its own, so that its memory, threads and descriptors can be
 * looked at, and connections over which anything can be sent, also what no library would.
 */
#ifndef RPC_TESTING_RAW_H
#define RPC_TESTING_RAW_H

#include "rpc/testing/fixture.h"

/* ---- the server ---- */

struct served {
	pid_t pid;
	char path[64];
	size_t base_bytes; /* what it had when it was ready */
};

/* Forks; `run` serves the path in the child and returns when it is ready. A SOCK_SEQPACKET server: type says so. */
void serve(struct served *s, int type, void (*run)(const char *path));
/* Ends it; fails the test when it has died before. */
void unserve(struct served *s);

/* The most memory that it had since the start, above what it began with. */
size_t served_growth(const struct served *s);
size_t served_fds(const struct served *s);
/* Until it has no more than that: connections that were closed are over for it, too. */
void await_fds(const struct served *s, size_t fds);
size_t served_threads(const struct served *s);

/* Fails when the memory has grown by more; sanitizers keep freed memory, so they are left out. */
void assert_growth(const struct served *s, size_t max_bytes);

/* Runs fn in another process (which the server tells from this one): true when it returns true. */
bool in_another_process(bool (*fn)(const char *path), const char *path);

/* ---- a connection ---- */

struct raw {
	int fd;
	bool deaf;     /* reads nothing */
	bool closed;   /* by the server */
	bool stalled;  /* deaf, and the server takes no more */
	struct buf in; /* what came; the last megabyte of it */
};

struct raw raw_dial(const char *path, int type);
void raw_close(struct raw *r);

/* Sends it all, reading what comes meanwhile unless deaf; false when the server has closed. A server that takes nothing
 * for some seconds fails the test, or, for who is deaf, ends the sending (`stalled`). */
bool raw_send(struct raw *r, struct str bytes);
/* Sends it up to `times` times; true when the server closed the connection. */
bool raw_flood(struct raw *r, struct str bytes, unsigned times);
/* Reads until the server closes; fails the test when it does not. */
void raw_wait_closed(struct raw *r);
/* Reads until `n` bytes are there, or the end: false. */
bool raw_wait_bytes(struct raw *r, size_t n);

/* ---- HTTP/2 ---- */

enum { H2_DATA, H2_HEADERS, H2_PRIORITY, H2_RST, H2_SETTINGS, H2_PUSH, H2_PING, H2_GOAWAY, H2_WINDOW, H2_CONTINUATION };
#define H2_END_STREAM 1
#define H2_END_HEADERS 4
#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* The preface, settings, and the consent to the server's: without that calls have 64 KiB of window. */
void h2_greet(struct buf *out, struct str settings);
/* A connection after that, with empty settings. */
struct raw h2_dial(const char *path);

void h2_frame(struct buf *out, unsigned type, unsigned flags, uint32_t id, struct str payload);
/* The header block of a call of Echo, without state in HPACK's table. */
void h2_block(struct buf *out, const char *method);
/* A whole call: headers, and the message unless NULL. */
void h2_call(struct buf *out, uint32_t id, const char *method, const EchoRequest *req, bool end);
/* DATA frames with a gRPC message. */
void h2_message(struct buf *out, uint32_t id, const EchoRequest *req, bool end);

/* The error code of the GOAWAY that came; -1: none did. */
int64_t h2_goaway(const struct raw *r);
/* Frames of this type that came for the stream (0: for any). */
unsigned h2_count(const struct raw *r, unsigned type, uint32_t id);
/* Answers that began and were no refusals. */
unsigned h2_count_bodies(const struct raw *r);

#endif
