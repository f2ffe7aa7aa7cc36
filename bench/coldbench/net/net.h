/*
 * coldbench's handle on a network: one netproxy process (bench/netproxy) between the engines and a server.
 *
 * Nobody asks it anything while something is measured: it keeps the history of its counters and a list of exchanges
 * since the last net_reset, so that the caller notes moments and asks afterwards what had happened until then. All
 * times are CLOCK_MONOTONIC ns and those of the client's end of the modelled network. One owner; the calls block until
 * the process has answered.
 */
#ifndef BENCH_COLDBENCH_NET_NET_H
#define BENCH_COLDBENCH_NET_NET_H

#include "base/err.h"
#include "base/vec.h"

#include <sys/types.h>

/* What had happened by `time_ns`, since the last net_reset. */
struct net_counters {
	int64_t time_ns;
	uint64_t to_server_bytes, to_client_bytes; /* taken by the bottleneck of that direction */
	uint64_t connections, requests;
	uint64_t round_trips; /* the longest chain that was answered (bench/netproxy/trips.h) */
};

/* One HTTP request and its answer. */
struct net_exchange {
	char *method, *target, *range; /* range: as the header says it, "" = none; a long target is cut */
	unsigned status;               /* 0 = no answer yet */
	int64_t begun_ns;              /* the head of the request had left the client */
	int64_t first_byte_ns;         /* the head of the answer had reached the client; 0 = never */
	int64_t end_ns;                /* as had its last byte; 0 = never */
	uint64_t body_bytes;           /* of the answer, as they left the server */
	unsigned connection;           /* its number since the start */
	unsigned depth;                /* length of the longest chain of round trips that ends with this one */
};

struct net_exchange_list {
	VEC(struct net_exchange) items; /* in the order in which they reached the server */
	uint64_t left_out;              /* more than the process keeps */
};

void net_exchange_list_fini(struct net_exchange_list *l);
DEFINE_AUTO_FINI(net_exchange_list);

struct net;

/* Starts a netproxy in front of HOST:PORT on a free port of 127.0.0.1; it accepts connections when this returns. rtt_ms
 * 0 = none, mbit 0 = unlimited. Its socket and its files lie in `dir`, which exists and whose path is short
 * (UNIX_PATH_MAX_BYTES with a name). The program is the one beside ours, or in ../bin from there. */
int net_start(const char *host_port, double rtt_ms, double mbit, const char *dir, struct net **out, struct err *err);

/* Ends the process; NULL is fine. */
void net_stop(struct net *n);

/* For AUTO(net). */
static inline void net_cleanup(struct net **n)
{
	net_stop(*n);
}

/* Where clients connect: "127.0.0.1:PORT"; borrowed. */
const char *net_address(const struct net *n);
unsigned net_port(const struct net *n);

/* For whoever accounts processes. */
pid_t net_pid(const struct net *n);

/* Another round-trip time and bandwidth, for what is sent from now on. */
int net_set(struct net *n, double rtt_ms, double mbit, struct err *err);

/* Counters to zero, history and exchanges forgotten, schedules of faults begun anew. Connections stay: what uses them
 * afterwards pays no set-up. */
int net_reset(struct net *n, struct err *err);

/* The counters as they were at each of these moments; ERR_OUT_OF_RANGE for one that has not come. Within 0.1 ms, coarser
 * the longer the last reset is ago. Before the reset all are zero. */
int net_at(struct net *n, const int64_t *times_ns, size_t count, struct net_counters *out, struct err *err);

/* All exchanges since the last reset, added to *out. */
int net_exchanges(struct net *n, struct net_exchange_list *out, struct err *err);

/* These rules of bench/netproxy/fault.h, with ';' between, in place of those before; NULL: none. ERR_INVALID says what is wrong
 * with one; those before it hold. */
int net_set_faults(struct net *n, const char *rules, struct err *err);

/* How many requests the rules have struck since the last net_reset. */
int net_faults(struct net *n, uint64_t *out, struct err *err);

#endif
