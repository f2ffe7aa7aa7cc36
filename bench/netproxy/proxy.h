/*
 * netproxy's process: the listening socket, the two links, the counters, and the list of connections. One thread, in
 * the callbacks of one loop.
 */
#ifndef BENCH_NETPROXY_PROXY_H
#define BENCH_NETPROXY_PROXY_H

#include "base/json.h"
#include "base/loop.h"
#include "bench/netproxy/fault.h"
#include "bench/netproxy/history.h"
#include "bench/netproxy/link.h"
#include "bench/netproxy/record.h"
#include "bench/netproxy/trips.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

/* What has happened since the start or the last reset. Bytes to each side are counted by the links. */
struct counters {
	uint64_t connections, requests, body_bytes, faults;
	uint64_t status[6]; /* responses by hundreds; 0 = none came */
};

struct mark {
	char *name;
	int64_t time_ns; /* CLOCK_MONOTONIC */
	uint64_t to_server_bytes, to_client_bytes, round_trips;
	struct counters counters;
};

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
	socklen_t n;
};

struct conn;

struct proxy {
	struct loop *loop;
	struct link to_server, to_client;
	int64_t rtt_ns;
	double mbit;
	struct address server;
	int listen_fd;
	unsigned port;
	struct loop_io *listen_io;
	struct loop_timer *timer;
	int64_t next_ns; /* when something is due; the timer goes off a little earlier */
	struct conn *conns;
	uint64_t n_open;
	unsigned n_accepted; /* since the start */
	bool down;           /* connections are reset as soon as they come */
	int64_t reset_ns;    /* when the counters were last zero */
	struct counters counters;
	struct history history;
	struct trips trips;
	struct records records;
	struct fault_rules faults;
	VEC(struct mark) marks;
	FILE *log; /* a line per exchange, or NULL */
};

/* Listens on `listen` (port 0 = any free one, then in p->port) and forwards to `server`. The proxy stays where it is in
 * memory until proxy_fini. */
int proxy_init(struct proxy *p, struct loop *loop, const struct address *listen, const struct address *server,
               struct err *err);
void proxy_fini(struct proxy *p);

/* A new round-trip time and bandwidth (0 = unlimited), for what is sent from now on. */
void proxy_set_network(struct proxy *p, int64_t rtt_ns, double mbit);

/* Moves what is due and sets the timer for the rest. To be called last in a callback that has sent something: it may
 * free any connection. */
void proxy_run(struct proxy *p);

enum proxy_down { PROXY_UP, PROXY_RESET, PROXY_SILENT };

/* RESET: all connections are reset, and new ones at once. SILENT: nothing arrives any more, in neither direction, until
 * UP, which lets all that waited go on. */
void proxy_set_down(struct proxy *p, enum proxy_down how);

/* Counters to zero; marks, history and exchanges forgotten; schedules of faults begun anew. */
void proxy_reset_counters(struct proxy *p);

/* Keeps the present counters under a name; ERR_EXHAUSTED after many. */
int proxy_mark(struct proxy *p, struct str name, struct err *err);

/* All counters, marks and rules as a JSON object. */
void proxy_write_stats(const struct proxy *p, struct json_writer *w);

/* {"at": [{...}]}: the counters as they were at each of these moments. */
void proxy_write_at(const struct proxy *p, const int64_t *times_ns, size_t count, struct json_writer *w);

/* "127.0.0.1:80", "[::1]:80", "localhost:80". */
int address_parse(const char *text, struct address *out, struct err *err);

#endif
