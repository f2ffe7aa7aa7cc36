/*
 * Helpers around protobuf-c messages: packing, bounded unpacking, maps, times, Any. Message types are in
 * "rpc/proto/<file>.pb-c.h". Any thread; no state.
 *
 * Strings of an unpacked message are never NULL. Sub-messages are NULL when absent: check them, they come from
 * outside. Maps are repeated entries (Kv__Entry for string to string, Kv__AnyEntry for string to Any).
 */
#ifndef RPC_PB_H
#define RPC_PB_H

#include "base/buf.h"
#include "base/err.h"
#include "rpc/arena.h"
#include "rpc/proto/kv.pb-c.h"
#include "rpc/proto/pb.pb-c.h"

#include <time.h>

/* Unpacking may use this many bytes of memory for a message of `wire_bytes`. */
size_t pb_memory_limit(size_t wire_bytes);

/* Appends the wire form. */
void pb_pack(const ProtobufCMessage *m, struct buf *out);

/* ERR_INVALID when a string of the message, or of a message in it, is not UTF-8 or has a NUL (unpacking would cut it there),
 * or when nesting passes protobuf's limit of 100. For what comes from clients: what they may store, others must be able to
 * read, and Go's protobuf refuses whole answers for one bad string. Requests and pb_any_unpack_in are checked. */
int pb_check_text(const ProtobufCMessageDescriptor *d, struct str wire, struct err *err);

/* Unpacks into the arena: ERR_INVALID when malformed or beyond the arena's limit. *out: T **, borrowed from it. */
int pb_unpack_in(struct arena *a, const ProtobufCMessageDescriptor *d, struct str wire, void *out, struct err *err);

/* Unpacks onto the heap, with the limit above. *out: T **, the caller's: pb_free, or AUTO(pb) T *m = NULL. */
int pb_unpack(const ProtobufCMessageDescriptor *d, struct str wire, void *out, struct err *err);
void pb_free(void *message); /* NULL is fine */

static inline void pb_cleanup(void *at)
{
	pb_free(*(void **)at);
}

/* A new initialised message in the arena: Types__Mount *m = pb_new(a, &types__mount__descriptor). */
void *pb_new(struct arena *a, const ProtobufCMessageDescriptor *d);

/* Map entry of `key`: NULL when absent. The last entry of a key wins, as everywhere in protobuf. */
const char *pb_kv_get(Kv__Entry *const *entries, size_t n, const char *key);
Kv__Entry *pb_kv_new(struct arena *a, const char *key, const char *value); /* both borrowed */

/* Absent: the zero time. */
struct timespec pb_time(const Pb__Timestamp *t);
Pb__Timestamp *pb_time_new(struct arena *a, struct timespec t);

/* Any: type URLs are full message names, without a prefix as containerd writes them; one is accepted. */
bool pb_any_is(const Pb__Any *any, const ProtobufCMessageDescriptor *d);
/* ERR_INVALID also when it holds another type, or is absent. As pb_unpack_in. */
int pb_any_unpack_in(struct arena *a, const Pb__Any *any, const ProtobufCMessageDescriptor *d, void *out,
                     struct err *err);
/* Packs `m`; everything lives in the arena. */
Pb__Any *pb_any_new(struct arena *a, const ProtobufCMessage *m);

#endif
