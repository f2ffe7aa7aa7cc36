#include "gc/nodes.h"

#include "base/bytes.h"
#include "base/random.h"
#include "base/siphash.h"

void gc_nodes_init(struct gc_nodes *g)
{
	*g = (struct gc_nodes){.nodes = {VEC_INIT}, .edges = {VEC_INIT}};
	random_bytes(g->key, sizeof(g->key));
}

/* ---- blocks ---- */

uint32_t gc_blocks_add(struct gc_blocks *b, size_t elem_bytes)
{
	if (b->n % GC_BLOCK == 0)
		vec_push(&b->blocks, xmalloc(GC_BLOCK * elem_bytes));
	return b->n++;
}

unsigned gc_blocks_drop(struct gc_blocks *b, unsigned n)
{
	for (; n && b->blocks.n; n--)
		free(vec_pop(&b->blocks));
	b->n = 0;
	if (!b->blocks.n)
		vec_fini(&b->blocks);
	return n;
}

bool gc_nodes_clear(struct gc_nodes *g, unsigned blocks)
{
	blocks = gc_blocks_drop(&g->edges, blocks);
	blocks = gc_blocks_drop(&g->nodes, blocks);
	if (!blocks)
		return false;
	for (size_t i = 0; g->table_bytes && i < GC_SHARDS; i++) {
		if (!g->shards[i].slots)
			continue;
		if (!blocks--)
			return false;
		free(g->shards[i].slots);
		g->table_bytes -= (uint64_t)g->shards[i].cap * sizeof(uint32_t);
		g->shards[i] = (struct gc_shard){0};
	}
	return true;
}

uint64_t gc_nodes_bytes(const struct gc_nodes *g)
{
	return g->table_bytes + g->nodes.blocks.n * GC_BLOCK * sizeof(struct gc_node) +
	       g->edges.blocks.n * GC_BLOCK * sizeof(struct gc_edge);
}

/* ---- hashing ---- */

/*
 * SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012, and their reference code of 2014). Two names with one
 * hash would share one fate, so the hash is wide, and keyed: names come from images and clients.
 */

/* A text with its length before it, padded to whole words: no two lists of texts look the same. */
static void hash_text(struct siphash *s, struct str text)
{
	size_t i = 0;
	uint64_t last = 0;

	siphash_word(s, text.n, 2);
	for (; text.n - i >= 8; i += 8)
		siphash_word(s, get_le64(text.p + i), 2);
	if (i < text.n) {
		memcpy(&last, text.p + i, text.n - i);
		siphash_word(s, le64toh(last), 2);
	}
}

struct gc_hash gc_nodes_hash(const struct gc_nodes *g, const struct gc_id *id)
{
	struct siphash s = siphash_begin(g->key[0], g->key[1]);
	struct gc_hash h;

	s.v[1] ^= 0xee;
	siphash_word(&s, id->kind, 2);
	hash_text(&s, id->ns);
	hash_text(&s, id->space);
	hash_text(&s, id->key);
	s.v[2] ^= 0xee;
	siphash_rounds(&s, 4);
	h.a = siphash_out(&s);
	s.v[1] ^= 0xdd;
	siphash_rounds(&s, 4);
	h.b = siphash_out(&s);
	return h;
}

/* ---- the table ---- */

/* The low bits of `a` choose the shard, `b` the slot. */
static size_t shard_of(struct gc_hash hash)
{
	return hash.a % GC_SHARDS;
}

static void shard_put(struct gc_shard *s, struct gc_hash hash, uint32_t node)
{
	uint32_t at = hash.b & (s->cap - 1);

	while (s->slots[at])
		at = (at + 1) & (s->cap - 1);
	s->slots[at] = node + 1;
	s->n++;
}

static void shard_grow(struct gc_nodes *g, struct gc_shard *s)
{
	struct gc_shard bigger = {.cap = s->cap ? s->cap * 2 : 8};

	bigger.slots = xcalloc(bigger.cap, sizeof(uint32_t));
	for (uint32_t i = 0; i < s->cap; i++)
		if (s->slots[i])
			shard_put(&bigger, gc_node_at(g, s->slots[i] - 1)->hash, s->slots[i] - 1);
	g->table_bytes += (uint64_t)(bigger.cap - s->cap) * sizeof(uint32_t);
	free(s->slots);
	*s = bigger;
}

uint32_t gc_nodes_find(const struct gc_nodes *g, struct gc_hash hash)
{
	const struct gc_shard *s = &g->shards[shard_of(hash)];

	if (!s->cap)
		return GC_NIL;
	for (uint32_t at = hash.b & (s->cap - 1); s->slots[at]; at = (at + 1) & (s->cap - 1)) {
		const struct gc_node *n = gc_node_at(g, s->slots[at] - 1);

		if (n->hash.a == hash.a && n->hash.b == hash.b)
			return s->slots[at] - 1;
	}
	return GC_NIL;
}

uint32_t gc_nodes_intern(struct gc_nodes *g, struct gc_hash hash, enum gc_kind kind)
{
	struct gc_shard *s = &g->shards[shard_of(hash)];
	uint32_t i = gc_nodes_find(g, hash);

	if (i != GC_NIL || g->nodes.n >= GC_NODES_MAX)
		return i;
	if (s->n + s->n / 3 >= s->cap)
		shard_grow(g, s);
	i = gc_blocks_add(&g->nodes, sizeof(struct gc_node));
	*gc_node_at(g, i) = (struct gc_node){.hash = hash, .edges = GC_NIL, .kind = kind};
	shard_put(s, hash, i);
	return i;
}

int gc_nodes_link(struct gc_nodes *g, uint32_t from, uint32_t to, enum gc_how how, struct err *err)
{
	struct gc_node *n = gc_node_at(g, from);
	uint32_t i;

	if (g->edges.n == GC_NIL)
		return err_set(err, ERR_EXHAUSTED, "more references than a collection can hold");
	i = gc_blocks_add(&g->edges, sizeof(struct gc_edge));
	*gc_edge_at(g, i) = (struct gc_edge){.to = to, .how = how, .next = n->edges};
	n->edges = i;
	return 0;
}
