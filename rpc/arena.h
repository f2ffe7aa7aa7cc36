/*
 * Memory that goes away at once: what a call's messages live in. Small pieces come from blocks, large ones are
 * allocated alone, and all of it is charged against a limit, because the messages in it come from outside: a wire
 * message can ask for some forty times its own size when it is unpacked (an empty sub-message is 2 bytes on the wire).
 * One owner; not thread-safe.
 */
#ifndef RPC_ARENA_H
#define RPC_ARENA_H

#include "base/buf.h"
#include "base/cleanup.h"

#include <protobuf-c/protobuf-c.h>

struct arena_block;
struct arena_large;

struct arena {
	struct arena_block *blocks;
	struct arena_large *large;
	size_t used_bytes, max_bytes;
	ProtobufCAllocator allocator; /* for protobuf-c; gives NULL at the limit */
};

/* The arena must not move afterwards: its allocator points to it. */
void arena_init(struct arena *a, size_t max_bytes);
void arena_fini(struct arena *a);
void arena_clear(struct arena *a); /* frees everything, the arena stays usable */
DEFINE_AUTO_FINI(arena);

/* Never NULL and not charged: for what our own code builds, of bounded size. 16-byte aligned. */
void *arena_alloc(struct arena *a, size_t n);               /* not initialised */
void *arena_zalloc(struct arena *a, size_t n, size_t size); /* n elements, zeroed */

/* Copies, NUL-terminated. */
char *arena_str(struct arena *a, struct str s);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
