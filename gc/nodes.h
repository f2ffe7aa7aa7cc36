/*
 * The graph in memory during a cycle; inside gc/ only. A node is known by a keyed 128-bit hash of its id, so that a
 * million of them need no names: 32 bytes each, 8 for an edge, and about 8 for the table that finds them. All arrays
 * grow in blocks and the table in shards, so that no single insertion takes long. One thread.
 */
#ifndef GC_NODES_H
#define GC_NODES_H

#include "gc/gc.h"

#define GC_NIL UINT32_MAX

enum gc_node_flag {
	GC_SEEN = 1,     /* the scan found a record; without it the node is only referred to */
	GC_REACHED = 2,  /* marked: stays, with what it owns */
	GC_FULL = 4,     /* marked in full: what its labels name stays too. Comes with GC_REACHED */
	GC_GATHERED = 8, /* `aux` is its place among the candidates */
};

struct gc_hash {
	uint64_t a, b;
};

struct gc_node {
	struct gc_hash hash;
	uint32_t edges; /* the first, or GC_NIL */
	uint32_t aux;
	uint8_t flags; /* enum gc_node_flag */
	uint8_t kind;
	uint8_t root; /* enum gc_root */
};

struct gc_edge {
	uint32_t to : 30;
	uint32_t how : 2; /* enum gc_how */
	uint32_t next;
};

#define GC_NODES_MAX (1u << 30) /* what an edge can name */

/* Elements at fixed addresses, allocated a block at a time. */
struct gc_blocks {
	VEC(char *) blocks;
	uint32_t n;
};

#define GC_BLOCK 1024 /* elements */

/* The number of a new element, whose bytes are not set. */
uint32_t gc_blocks_add(struct gc_blocks *b, size_t elem_bytes);

/* Empties it and frees at most `n` blocks; how many of these were not needed. */
unsigned gc_blocks_drop(struct gc_blocks *b, unsigned n);

#define GC_SHARDS 1024

struct gc_shard {
	uint32_t *slots; /* node + 1; 0 = free */
	uint32_t n, cap;
};

struct gc_nodes {
	struct gc_blocks nodes, edges;
	struct gc_shard shards[GC_SHARDS];
	uint64_t table_bytes;
	uint64_t key[2];
};

void gc_nodes_init(struct gc_nodes *g); /* draws a new key */

/* Gives back some memory; true when all is given back and the table is empty again. */
bool gc_nodes_clear(struct gc_nodes *g, unsigned blocks);

struct gc_hash gc_nodes_hash(const struct gc_nodes *g, const struct gc_id *id);

/* GC_NIL when there is none. */
uint32_t gc_nodes_find(const struct gc_nodes *g, struct gc_hash hash);

/* The node of that hash, made when there is none; GC_NIL at GC_NODES_MAX. */
uint32_t gc_nodes_intern(struct gc_nodes *g, struct gc_hash hash, enum gc_kind kind);

/* ERR_EXHAUSTED at 2^32 edges. */
int gc_nodes_link(struct gc_nodes *g, uint32_t from, uint32_t to, enum gc_how how, struct err *err);

uint64_t gc_nodes_bytes(const struct gc_nodes *g);

static inline struct gc_node *gc_node_at(const struct gc_nodes *g, uint32_t i)
{
	return (struct gc_node *)(g->nodes.blocks.p[i / GC_BLOCK]) + i % GC_BLOCK;
}

static inline struct gc_edge *gc_edge_at(const struct gc_nodes *g, uint32_t i)
{
	return (struct gc_edge *)(g->edges.blocks.p[i / GC_BLOCK]) + i % GC_BLOCK;
}

#endif
