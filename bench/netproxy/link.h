/*
 * The network that netproxy pretends to be: two links, one per direction, each shared by all connections.
 *
 *	pipe ─┐ waiting      bottleneck            wire                 ready
 *	pipe ─┼─ blocks ──► one at a time, ──► due one propagation ──► at the far end,
 *	pipe ─┘             in turns            delay later             for the pipe's owner
 *
 * A block takes its turn when the link is free, occupies it for bytes / rate, and arrives a propagation delay later;
 * what is sent back to back is therefore delayed once. Pipes that wait are served round robin, as competing TCP flows
 * would share; those of connections that are still being set up do not wait there yet. The virtual time at which the link
 * is free again (not the moment at which the process happens to run) decides when a block is due, so late wake-ups cost no
 * bandwidth. No loss, no slow start, no packet headers.
 *
 * Sans-I/O: time comes in as an argument. One thread.
 */
#ifndef BENCH_NETPROXY_LINK_H
#define BENCH_NETPROXY_LINK_H

#include "base/vec.h"

/* What follows the bytes of a block. */
enum block_end { BLOCK_DATA, BLOCK_FIN, BLOCK_RESET };

/* Bytes under way, and the memory they were read into. */
struct block {
	struct block *next;
	struct pipe *pipe;
	int64_t sent_ns; /* by the client or server */
	int64_t due_ns;
	uint32_t from, n, cap; /* [from, n) is still to be delivered */
	enum block_end end;
	char p[];
};

struct block_list {
	struct block *head, *tail;
};

/* Room for `cap` bytes; empty. block_shrink gives back what is not used. */
struct block *block_new(uint32_t cap);
struct block *block_shrink(TAKE(struct block *) b);
void block_free(struct block *b);

struct link {
	double ns_per_byte; /* 0 = unlimited */
	int64_t delay_ns;
	bool frozen;          /* nothing moves: an unplugged cable */
	int64_t free_ns;      /* when the bottleneck has sent what it took */
	struct pipe *turn;    /* ring of pipes with waiting blocks: the one served last */
	struct pipe *opening; /* pipes with waiting blocks whose time has not come, the earliest first */
	struct block_list wire;
	uint64_t bytes; /* taken by the bottleneck; the owner may set it back */
};

/* One direction of one connection. */
struct pipe {
	struct link *link;
	void (*arrived)(struct pipe *p); /* `ready` has grown; may free the pipe */
	struct block_list waiting, ready;
	struct pipe *next_turn; /* NULL = not in the ring */
	struct pipe *next_opening;
	bool is_opening;
	size_t held_bytes;   /* waiting, on the wire, and ready */
	unsigned on_wire;    /* blocks */
	int64_t earliest_ns; /* the bottleneck takes nothing before it: connection set-up */
	int64_t last_due_ns;
};

/* mbit 0 = unlimited. May be called again while blocks are under way; these keep their times. */
void link_set(struct link *l, double mbit, int64_t delay_ns);

/* Bytes that a single read should take at most: the grain of sharing, about 100 us of the link. */
uint32_t link_grain_bytes(const struct link *l);

/* What one pipe may hold: the link's bandwidth-delay product and a queue in front of it. */
size_t link_window_bytes(const struct link *l);

void pipe_init(struct pipe *p, struct link *l, int64_t earliest_ns, void (*arrived)(struct pipe *p));

/* Frees all blocks of the pipe, wherever they are. */
void pipe_fini(struct pipe *p);

/* Queues a block (data, or none with an end) that was sent at `sent_ns`, which may be a little while ago. link_run moves it
 * on. */
void pipe_send(struct pipe *p, TAKE(struct block *) b, int64_t sent_ns);

/* The oldest block that has arrived, or NULL; pipe_pop takes it off and frees it. */
static inline struct block *pipe_ready(const struct pipe *p)
{
	return p->ready.head;
}
void pipe_pop(struct pipe *p);

/* Lets everything happen that is due by now; returns when to call again (INT64_MAX: after the next pipe_send). */
int64_t link_run(struct link *l, int64_t now_ns);

#endif
