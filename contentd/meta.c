#include "contentd/meta.h"

#include "base/map.h"
#include "contentd/ident.h"
#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/leases.pb-c.h"
#include "rpc/proto/namespaces.pb-c.h"

#include <pthread.h>
#include <stdio.h>

#define STRIPES 32 /* ThreadSanitizer follows 64 locks held at once, and one may hold them all */
#define SCHEMA_KEY STR("schema")
#define SCHEMA_VERSION 1
#define RECORD_VERSION 1 /* the byte before a message */

struct cd_meta {
	struct kv kv;
	pthread_mutex_t stripes[STRIPES]; /* each guards the records that hash to it: held for a read and a commit */
	pthread_mutex_t lock;
	struct map namespaces; /* names known to exist; lock */
};

static const struct {
	enum cd_kind kind;
	const ProtobufCMessageDescriptor *type;
	const char *noun;
} KINDS[] = {
    {CD_NAMESPACE, &namespaces__namespace__descriptor, "namespace"},
    {CD_IMAGE, &images__image__descriptor, "image"},
    {CD_CONTAINER, &containers__container__descriptor, "container"},
    {CD_CONTENT, &records__content__descriptor, "content"},
    {CD_LEASE, &leases__lease__descriptor, "lease"},
    {CD_RESOURCE, &records__resource__descriptor, "lease resource"},
};

static size_t kind_index(enum cd_kind kind)
{
	size_t i = 0;

	while (KINDS[i].kind != kind)
		i++;
	return i;
}

/* ---- schema ---- */

static int schema_check(struct cd_meta *m, struct err *err)
{
	AUTO(buf) struct buf value = BUF_INIT;
	char text[24];
	uint64_t version;
	struct kv_op op;
	int r = kv_get(&m->kv, SCHEMA_KEY, &value, err);

	if (r == -ERR_NOT_FOUND) {
		snprintf(text, sizeof(text), "%d", SCHEMA_VERSION);
		op = (struct kv_op){SCHEMA_KEY, str_of(text), false};
		return kv_write(&m->kv, &op, 1, true, err);
	}
	TRY(r);
	if (!str_u64(buf_str(&value), 10, &version))
		return err_set(err, ERR_DATA_LOSS, "the database has no readable schema version");
	if (version > SCHEMA_VERSION)
		return err_set(
		    err, ERR_PRECONDITION,
		    "the database has schema version %llu, this contentd knows only up to %d: a newer contentd wrote "
		    "it; use that one, or another --root",
		    (unsigned long long)version, SCHEMA_VERSION);
	return 0;
}

int cd_meta_new(const struct kv *kv, struct cd_meta **out, struct err *err)
{
	AUTO(cd_meta) struct cd_meta *m = xcalloc(1, sizeof(*m));

	m->kv = *kv;
	pthread_mutex_init(&m->lock, NULL);
	for (size_t i = 0; i < STRIPES; i++)
		pthread_mutex_init(&m->stripes[i], NULL);
	TRY(schema_check(m, err));
	*out = STEAL(m);
	return 0;
}

void cd_meta_free(struct cd_meta *m)
{
	if (!m)
		return;
	map_fini(&m->namespaces);
	for (size_t i = 0; i < STRIPES; i++)
		pthread_mutex_destroy(&m->stripes[i]);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

const struct kv *cd_meta_kv(const struct cd_meta *m)
{
	return &m->kv;
}

/* ---- records ---- */

static void add_key(struct buf *b, enum cd_kind kind, const char *ns, struct str name)
{
	buf_addc(b, (char)kind);
	buf_addc(b, '\0');
	buf_adds(b, ns);
	buf_addc(b, '\0');
	buf_addstr(b, name);
}

static int unpack(enum cd_kind kind, struct str value, struct arena *a, void *out, struct err *err)
{
	const char *noun = KINDS[kind_index(kind)].noun;
	size_t max = a->max_bytes, used = a->used_bytes;
	int r;

	if (value.n < 1 || value.p[0] != RECORD_VERSION)
		return err_set(err, ERR_DATA_LOSS, "%s record of unknown version", noun);
	/* The limit of a call's arena is for what came with the call. */
	a->max_bytes = SIZE_MAX;
	r = pb_unpack_in(a, KINDS[kind_index(kind)].type, str_sub(value, 1, SIZE_MAX), out, NULL);
	a->max_bytes = max > SIZE_MAX - (a->used_bytes - used) ? SIZE_MAX : max + (a->used_bytes - used);
	return r < 0 ? err_set(err, ERR_DATA_LOSS, "%s record cannot be read", noun) : 0;
}

int cd_meta_get(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, struct arena *a, void *out,
                struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf value = BUF_INIT;
	int r;

	add_key(&key, kind, ns, name);
	r = kv_get(&m->kv, buf_str(&key), &value, err);
	if (r == -ERR_NOT_FOUND)
		return err_set(err, ERR_NOT_FOUND, "%s \"" STR_FMT "\": not found", KINDS[kind_index(kind)].noun,
		               STR_ARG(kind == CD_NAMESPACE ? str_of(ns) : name));
	TRY(r);
	return unpack(kind, buf_str(&value), a, out, err);
}

int cd_meta_has(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf value = BUF_INIT;
	int r;

	add_key(&key, kind, ns, name);
	r = kv_get(&m->kv, buf_str(&key), &value, err);
	return r == -ERR_NOT_FOUND ? 0 : r < 0 ? r : 1;
}

struct scan {
	enum cd_kind kind;
	struct arena *a;
	cd_meta_fn fn;
	void *arg;
};

static int scan_one(void *arg, struct str key, struct str value, struct err *err)
{
	struct scan *s = arg;
	const char *ns = key.p + 2; /* NUL-terminated: the separator */
	struct str name = str_sub(key, 2 + strlen(ns) + 1, SIZE_MAX);
	void *record;

	TRY(unpack(s->kind, value, s->a, &record, err));
	return s->fn(s->arg, ns, name, record, err);
}

int cd_meta_scan(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str prefix, struct arena *a,
                 cd_meta_fn fn, void *arg, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	struct scan s = {kind, a, fn, arg};

	if (ns)
		add_key(&key, kind, ns, prefix);
	else {
		buf_addc(&key, (char)kind);
		buf_addc(&key, '\0');
	}
	return kv_scan(&m->kv, buf_str(&key), scan_one, &s, err);
}

/* ---- holds ---- */

static uint64_t stripe_of(enum cd_kind kind, const char *ns, struct str name)
{
	return 1ull << ((str_hash(name) ^ str_hash(str_of(ns)) * 31 ^ (uint64_t)kind) % STRIPES);
}

/* Always in ascending order: holders of several cannot wait for each other in a circle. */
static struct cd_hold hold(struct cd_meta *m, uint64_t stripes)
{
	for (unsigned i = 0; i < STRIPES; i++)
		if (stripes >> i & 1)
			pthread_mutex_lock(&m->stripes[i]);
	return (struct cd_hold){m, stripes};
}

struct cd_hold cd_meta_hold(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name)
{
	return hold(m, stripe_of(kind, ns, name));
}

struct cd_hold cd_meta_hold_many(struct cd_meta *m, enum cd_kind kind, const char *ns, const struct str *names,
                                 size_t n)
{
	uint64_t stripes = 0;

	for (size_t i = 0; i < n; i++)
		stripes |= stripe_of(kind, ns, names[i]);
	return hold(m, stripes);
}

struct cd_hold cd_meta_hold_all(struct cd_meta *m)
{
	return hold(m, ~0ull);
}

void cd_meta_release(struct cd_hold *h)
{
	for (unsigned i = 0; i < STRIPES; i++)
		if (h->stripes >> i & 1)
			pthread_mutex_unlock(&h->m->stripes[i]);
	*h = CD_HOLD_NONE;
}

/* ---- batches ---- */

void cd_batch_fini(struct cd_batch *b)
{
	vec_fini(&b->ops);
	buf_fini(&b->bytes);
}

static struct cd_batch_op *batch_add(struct cd_batch *b, enum cd_kind kind, const char *ns, struct str name)
{
	struct cd_batch_op *op = vec_add(&b->ops);

	op->kind = kind;
	op->ns_at = b->bytes.n;
	buf_adds(&b->bytes, ns);
	buf_addc(&b->bytes, '\0');
	op->key_at = b->bytes.n;
	add_key(&b->bytes, kind, ns, name);
	op->key_bytes = b->bytes.n - op->key_at;
	return op;
}

void cd_batch_put(struct cd_batch *b, enum cd_kind kind, const char *ns, struct str name,
                  const ProtobufCMessage *record)
{
	struct cd_batch_op *op = batch_add(b, kind, ns, name);

	op->value_at = b->bytes.n;
	buf_addc(&b->bytes, RECORD_VERSION);
	pb_pack(record, &b->bytes);
	op->value_bytes = b->bytes.n - op->value_at;
}

void cd_batch_remove(struct cd_batch *b, enum cd_kind kind, const char *ns, struct str name)
{
	batch_add(b, kind, ns, name)->remove = true;
}

/* 1 when the namespace has a record; remembers that. */
static int namespace_exists(struct cd_meta *m, const char *ns, struct err *err)
{
	bool known;
	int r;

	pthread_mutex_lock(&m->lock);
	known = map_has(&m->namespaces, str_of(ns));
	pthread_mutex_unlock(&m->lock);
	if (known)
		return 1;
	r = cd_meta_has(m, CD_NAMESPACE, ns, STR_NONE, err);
	TRY(r);
	if (r) {
		pthread_mutex_lock(&m->lock);
		map_put(&m->namespaces, str_of(ns), NULL);
		pthread_mutex_unlock(&m->lock);
	}
	return r;
}

/* Adds a record for each namespace that the batch puts something into and that has none. Two commits may both do so at
 * once: they write the same empty record, and whoever writes another one (with labels) holds all stripes. */
static int add_namespaces(struct cd_meta *m, struct cd_batch *more, const struct cd_batch *b, struct err *err)
{
	Namespaces__Namespace none = NAMESPACES__NAMESPACE__INIT;
	const char *last = NULL;

	vec_each(&b->ops, op) {
		const char *ns = b->bytes.p + op->ns_at;
		int r;

		if (op->remove || op->kind == CD_NAMESPACE || (last && !strcmp(last, ns)))
			continue;
		r = namespace_exists(m, ns, err);
		TRY(r);
		if (!r)
			cd_batch_put(more, CD_NAMESPACE, ns, STR_NONE, &none.base);
		last = ns;
	}
	return 0;
}

static void add_ops(const struct cd_batch *b, struct kv_op *ops)
{
	vec_each(&b->ops, op)
		*ops++ = (struct kv_op){str_make(b->bytes.p + op->key_at, op->key_bytes),
		                        str_make(b->bytes.p + op->value_at, op->value_bytes), op->remove};
}

/* Namespaces that a commit made or removed. */
static void remember(struct cd_meta *m, const struct cd_batch *b)
{
	pthread_mutex_lock(&m->lock);
	vec_each(&b->ops, op) {
		struct str ns = str_of(b->bytes.p + op->ns_at);

		if (op->kind != CD_NAMESPACE)
			continue;
		if (op->remove)
			map_del(&m->namespaces, ns);
		else
			map_put(&m->namespaces, ns, NULL);
	}
	pthread_mutex_unlock(&m->lock);
}

int cd_meta_commit(struct cd_meta *m, const struct cd_batch *b, struct err *err)
{
	AUTO(cd_batch) struct cd_batch more = CD_BATCH_INIT;
	AUTO_FREE struct kv_op *ops = NULL;

	TRY(add_namespaces(m, &more, b, err));
	if (b->ops.n + more.ops.n == 0)
		return 0;
	ops = xcalloc(b->ops.n + more.ops.n, sizeof(*ops));
	add_ops(b, ops);
	add_ops(&more, ops + b->ops.n);
	TRY_WRAP(kv_write(&m->kv, ops, (unsigned)(b->ops.n + more.ops.n), true, err), err, "metadata");
	remember(m, b);
	remember(m, &more);
	return 0;
}

int cd_meta_touch(struct cd_meta *m, const char *ns, struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(m, CD_NAMESPACE, ns, STR_NONE);
	Namespaces__Namespace none = NAMESPACES__NAMESPACE__INIT;
	int r = namespace_exists(m, ns, err);

	if (r)
		return r < 0 ? r : 0;
	cd_batch_put(&b, CD_NAMESPACE, ns, STR_NONE, &none.base);
	return cd_meta_commit(m, &b, err);
}
