#include "rpc/pb.h"

/* A message of many small strings takes about 3 times its wire size, empty sub-messages some 40 times: the bound lets
 * through what is real and stops what is not. */
#define MEMORY_FACTOR 8
#define MEMORY_FLOOR (1u << 20)

size_t pb_memory_limit(size_t wire_bytes)
{
	return wire_bytes > (SIZE_MAX - MEMORY_FLOOR) / MEMORY_FACTOR ? SIZE_MAX
	                                                              : wire_bytes * MEMORY_FACTOR + MEMORY_FLOOR;
}

void pb_pack(const ProtobufCMessage *m, struct buf *out)
{
	size_t n = protobuf_c_message_get_packed_size(m);

	protobuf_c_message_pack(m, (uint8_t *)buf_reserve(out, n));
	out->n += n;
	if (out->cap)
		out->p[out->n] = '\0';
}

static int unpacked(ProtobufCMessage *m, const ProtobufCMessageDescriptor *d, size_t n, void *out, struct err *err)
{
	if (!m)
		return err_set(err, ERR_INVALID, "malformed or oversized message of type %s (%zu bytes)", d->name, n);
	*(ProtobufCMessage **)out = m;
	return 0;
}

int pb_unpack_in(struct arena *a, const ProtobufCMessageDescriptor *d, struct str wire, void *out, struct err *err)
{
	return unpacked(protobuf_c_message_unpack(d, &a->allocator, wire.n, (const uint8_t *)wire.p), d, wire.n, out,
	                err);
}

/* Heap allocation with a budget, counted in allocations' requested sizes; what is freed meanwhile is not given back. */
struct budget {
	size_t left;
};

static void *budget_alloc(void *arg, size_t n)
{
	struct budget *b = arg;

	if (n > b->left)
		return NULL;
	b->left -= n;
	return malloc(n ? n : 1);
}

static void budget_release(void *arg, void *p)
{
	free(p);
}

int pb_unpack(const ProtobufCMessageDescriptor *d, struct str wire, void *out, struct err *err)
{
	struct budget b = {pb_memory_limit(wire.n)};
	ProtobufCAllocator allocator = {budget_alloc, budget_release, &b};

	return unpacked(protobuf_c_message_unpack(d, &allocator, wire.n, (const uint8_t *)wire.p), d, wire.n, out, err);
}

void pb_free(void *message)
{
	if (message)
		protobuf_c_message_free_unpacked(message, NULL);
}

void *pb_new(struct arena *a, const ProtobufCMessageDescriptor *d)
{
	void *m = arena_alloc(a, d->sizeof_message);

	protobuf_c_message_init(d, m);
	return m;
}

const char *pb_kv_get(Kv__Entry *const *entries, size_t n, const char *key)
{
	while (n-- > 0)
		if (strcmp(entries[n]->key, key) == 0)
			return entries[n]->value;
	return NULL;
}

Kv__Entry *pb_kv_new(struct arena *a, const char *key, const char *value)
{
	Kv__Entry *e = pb_new(a, &kv__entry__descriptor);

	e->key = key;
	e->value = value;
	return e;
}

struct timespec pb_time(const Pb__Timestamp *t)
{
	return t ? (struct timespec){.tv_sec = t->seconds, .tv_nsec = t->nanos} : (struct timespec){0};
}

Pb__Timestamp *pb_time_new(struct arena *a, struct timespec t)
{
	Pb__Timestamp *p = pb_new(a, &pb__timestamp__descriptor);

	p->seconds = t.tv_sec;
	p->nanos = (int32_t)t.tv_nsec;
	return p;
}

bool pb_any_is(const Pb__Any *any, const ProtobufCMessageDescriptor *d)
{
	const char *slash;

	if (!any)
		return false;
	slash = strrchr(any->type_url, '/');
	return strcmp(slash ? slash + 1 : any->type_url, d->name) == 0;
}

int pb_any_unpack_in(struct arena *a, const Pb__Any *any, const ProtobufCMessageDescriptor *d, void *out,
                     struct err *err)
{
	if (!any)
		return err_set(err, ERR_INVALID, "%s is missing", d->name);
	if (!pb_any_is(any, d))
		return err_set(err, ERR_INVALID, "expected %s, got %.200s", d->name, any->type_url);
	TRY(pb_check_text(d, str_make(any->value.data, any->value.len), err));
	return pb_unpack_in(a, d, str_make(any->value.data, any->value.len), out, err);
}

Pb__Any *pb_any_new(struct arena *a, const ProtobufCMessage *m)
{
	Pb__Any *any = pb_new(a, &pb__any__descriptor);
	size_t n = protobuf_c_message_get_packed_size(m);

	any->type_url = m->descriptor->name;
	any->value.len = n;
	any->value.data = arena_alloc(a, n);
	protobuf_c_message_pack(m, any->value.data);
	return any;
}
