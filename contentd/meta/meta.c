#include "contentd/meta/meta.h"

#include "base/map.h"
#include "contentd/collect/records.h"
#include "contentd/collect/uses.h"
#include "contentd/ident.h"
#include "contentd/meta/schema.h"
#include "gc/label.h"
#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/leases.pb-c.h"
#include "rpc/proto/namespaces.pb-c.h"

#include <pthread.h>
#include <stdio.h>

#define STRIPES 32 /* ThreadSanitizer follows 64 locks held at once, and one may hold them all */

struct cd_meta {
	struct kv kv;
	pthread_mutex_t stripes[STRIPES]; /* each guards the records that hash to it: held for a read and a commit */
	pthread_mutex_t lock;
	struct map namespaces; /* names known to exist; lock */
	struct cd_uses *uses;
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
    {CD_SANDBOX, &types__sandbox__descriptor, "sandbox"},
    {CD_RESOURCE, &records__resource__descriptor, "lease resource"},
};

bool cd_meta_is_kind(char letter)
{
	for (size_t i = 0; i < ARRAY_LEN(KINDS); i++)
		if ((char)KINDS[i].kind == letter)
			return true;
	return false;
}

static size_t kind_index(enum cd_kind kind)
{
	size_t i = 0;

	while (KINDS[i].kind != kind)
		i++;
	return i;
}

int cd_meta_new(const struct kv *kv, struct cd_meta **out, struct err *err)
{
	AUTO(cd_meta) struct cd_meta *m = xcalloc(1, sizeof(*m));

	m->kv = *kv;
	m->uses = cd_uses_new();
	pthread_mutex_init(&m->lock, NULL);
	for (size_t i = 0; i < STRIPES; i++)
		pthread_mutex_init(&m->stripes[i], NULL);
	TRY(cd_schema_check(kv, err));
	*out = STEAL(m);
	return 0;
}

void cd_meta_free(struct cd_meta *m)
{
	if (!m)
		return;
	map_fini(&m->namespaces);
	cd_uses_free(m->uses);
	for (size_t i = 0; i < STRIPES; i++)
		pthread_mutex_destroy(&m->stripes[i]);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

const struct kv *cd_meta_kv(const struct cd_meta *m)
{
	return &m->kv;
}

struct cd_uses *cd_meta_uses(const struct cd_meta *m)
{
	return m->uses;
}

/* ---- records ---- */

void cd_meta_key(struct buf *b, enum cd_kind kind, const char *ns, struct str name)
{
	buf_addc(b, (char)kind);
	buf_addc(b, '\0');
	buf_adds(b, ns);
	buf_addc(b, '\0');
	buf_addstr(b, name);
}

int cd_meta_unpack(enum cd_kind kind, struct str value, struct arena *a, void *out, struct err *err)
{
	const char *noun = KINDS[kind_index(kind)].noun;
	size_t max = a->max_bytes, used = a->used_bytes;
	int r;

	if (value.n < 1 || value.p[0] != CD_RECORD_VERSION)
		return err_set(err, ERR_DATA_LOSS, "%s record of unknown version", noun);
	/* The limit of a call's arena is for what came with the call. */
	a->max_bytes = SIZE_MAX;
	r = pb_unpack_in(a, KINDS[kind_index(kind)].type, str_sub(value, 1, SIZE_MAX), out, NULL);
	a->max_bytes = max > SIZE_MAX - (a->used_bytes - used) ? SIZE_MAX : max + (a->used_bytes - used);
	return r < 0 ? err_set(err, ERR_DATA_LOSS, "%s record cannot be read", noun) : 0;
}

#define NAME_SHOWN 200 /* bytes, in messages, whose end has to be seen: a name may be longer than they are */

static struct str shown(enum cd_kind kind, const char *ns, struct str name)
{
	return str_sub(kind == CD_NAMESPACE ? str_of(ns) : name, 0, NAME_SHOWN);
}

static int not_found(enum cd_kind kind, const char *ns, struct str name, struct err *err)
{
	struct str text = shown(kind, ns, name);

	return err_set(err, ERR_NOT_FOUND, "%s \"" STR_FMT "\": not found", KINDS[kind_index(kind)].noun,
	               STR_ARG(text));
}

int cd_meta_get(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, struct arena *a, void *out,
                struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf value = BUF_INIT;
	int r;

	cd_meta_key(&key, kind, ns, name);
	r = kv_get(&m->kv, buf_str(&key), &value, err);
	if (r == -ERR_NOT_FOUND)
		return not_found(kind, ns, name, err);
	TRY(r);
	return cd_meta_unpack(kind, buf_str(&value), a, out, err);
}

int cd_meta_has(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf value = BUF_INIT;
	int r;

	cd_meta_key(&key, kind, ns, name);
	r = kv_get(&m->kv, buf_str(&key), &value, err);
	return r == -ERR_NOT_FOUND ? 0 : r < 0 ? r : 1;
}

int cd_meta_absent(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, struct err *err)
{
	struct str text = shown(kind, ns, name);
	int r = cd_meta_has(m, kind, ns, name, err);

	if (r <= 0)
		return r;
	return err_set(err, ERR_EXISTS, "%s \"" STR_FMT "\": already exists", KINDS[kind_index(kind)].noun,
	               STR_ARG(text));
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

	TRY(cd_meta_unpack(s->kind, value, s->a, &record, err));
	return s->fn(s->arg, ns, name, record, err);
}

int cd_meta_scan(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str prefix, struct arena *a,
                 cd_meta_fn fn, void *arg, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	struct scan s = {kind, a, fn, arg};

	if (ns)
		cd_meta_key(&key, kind, ns, prefix);
	else {
		buf_addc(&key, (char)kind);
		buf_addc(&key, '\0');
	}
	return kv_scan(&m->kv, buf_str(&key), scan_one, &s, err);
}

int cd_meta_piece(struct cd_meta *m, enum cd_kind kind, struct buf *cursor, unsigned max, struct arena *a,
                  cd_meta_fn fn, void *arg, struct err *err)
{
	const char prefix[] = {(char)kind, '\0'};
	struct scan s = {kind, a, fn, arg};

	return kv_piece(&m->kv, str_make(prefix, sizeof(prefix)), cursor, max, scan_one, &s, err);
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
	return (struct cd_hold){.m = m, .stripes = stripes};
}

/* The collector keeps what is held, from before anybody looks at it. */
static void use_held(struct cd_hold *h, enum cd_kind kind, const char *ns, const struct str *names, size_t n)
{
	struct gc_id id;

	if (!cd_record_id(kind, str_of(ns), STR_NONE, &id))
		return;
	h->use = xcalloc(1, sizeof(*h->use));
	cd_use_begin(h->use, h->m->uses);
	for (size_t i = 0; i < n; i++) {
		cd_record_id(kind, str_of(ns), names[i], &id);
		cd_use_add(h->use, &id);
	}
}

struct cd_hold cd_meta_hold(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name)
{
	return cd_meta_hold_many(m, kind, ns, &name, 1);
}

struct cd_hold cd_meta_hold_many(struct cd_meta *m, enum cd_kind kind, const char *ns, const struct str *names,
                                 size_t n)
{
	uint64_t stripes = 0;
	struct cd_hold h;

	for (size_t i = 0; i < n; i++)
		stripes |= stripe_of(kind, ns, names[i]);
	h = hold(m, stripes);
	use_held(&h, kind, ns, names, n);
	return h;
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
	if (h->use)
		cd_use_end(h->use);
	free(h->use);
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
	cd_meta_key(&b->bytes, kind, ns, name);
	op->key_bytes = b->bytes.n - op->key_at;
	return op;
}

void cd_batch_put(struct cd_batch *b, enum cd_kind kind, const char *ns, struct str name,
                  const ProtobufCMessage *record)
{
	struct cd_batch_op *op = batch_add(b, kind, ns, name);

	op->value_at = b->bytes.n;
	buf_addc(&b->bytes, CD_RECORD_VERSION);
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

/* What a batch means to the collector. */
struct told {
	struct cd_use use;       /* what is written, and what that refers to: ends when all is told */
	struct cd_written sums;  /* for the schedule */
	struct gc_id id;         /* being reported */
	VEC(struct gc_id) wrote; /* borrow from the batch */
	unsigned removed, let_go;
	bool put;
	struct arena arena;
};

static void told_fini(struct told *t)
{
	cd_use_end(&t->use);
	vec_fini(&t->wrote);
	arena_fini(&t->arena);
}
DEFINE_AUTO_FINI(told);

static void tell_label(void *arg, struct str key, struct str value)
{
	struct told *t = arg;
	struct gc_label label = gc_label_parse(t->id.kind, key, value);

	if (label.type == GC_LABEL_REF) {
		label.id.ns = t->id.ns;
		cd_use_add(&t->use, &label.id);
	} else if (label.type == GC_LABEL_EXPIRE && gc_time_after(t->sums.expires, label.at)) {
		t->sums.expires = label.at;
	}
}

static void tell_ref(void *arg, const struct gc_id *to)
{
	cd_use_add(&((struct told *)arg)->use, to);
}

static int tell_op(struct told *t, const struct cd_batch *b, const struct cd_batch_op *op, struct err *err)
{
	const struct cd_record_out out = {NULL, tell_label, tell_ref, t};
	struct str ns = str_of(b->bytes.p + op->ns_at);
	struct str key = str_make(b->bytes.p + op->key_at, op->key_bytes);
	struct str name = str_sub(key, 2 + ns.n + 1, SIZE_MAX);
	bool node = cd_record_id(op->kind, ns, name, &t->id);
	void *record = NULL;

	t->sums.writes++;
	if (op->remove) {
		t->removed += op->kind != CD_RESOURCE && op->kind != CD_NAMESPACE;
		t->let_go += op->kind == CD_RESOURCE;
		return 0;
	}
	t->put = true;
	if (node) {
		cd_use_add(&t->use, &t->id);
		vec_push(&t->wrote, t->id);
		TRY(cd_meta_unpack(op->kind, str_make(b->bytes.p + op->value_at, op->value_bytes), &t->arena, &record,
		                   err));
	}
	cd_record_report(op->kind, ns, name, record, &out);
	return 0;
}

int cd_meta_commit(struct cd_meta *m, const struct cd_batch *b, struct err *err)
{
	AUTO(cd_batch) struct cd_batch more = CD_BATCH_INIT;
	AUTO_FREE struct kv_op *ops = NULL;
	AUTO(told) struct told told = {.sums = CD_WRITTEN_NONE};

	arena_init(&told.arena, SIZE_MAX);
	TRY(add_namespaces(m, &more, b, err));
	if (b->ops.n + more.ops.n == 0)
		return 0;
	cd_use_begin(&told.use, m->uses);
	vec_each(&b->ops, op)
		TRY(tell_op(&told, b, op, err));
	ops = xcalloc(b->ops.n + more.ops.n, sizeof(*ops));
	add_ops(b, ops);
	add_ops(&more, ops + b->ops.n);
	TRY_WRAP(kv_write(&m->kv, ops, (unsigned)(b->ops.n + more.ops.n), true, err), err, "metadata");
	vec_each(&told.wrote, id)
		cd_uses_wrote(m->uses, id);
	/* A lease that has something else instead has let go of nothing. */
	told.sums.deletions = told.removed + (told.put ? 0 : told.let_go);
	cd_uses_written(m->uses, &told.sums);
	remember(m, b);
	remember(m, &more);
	return 0;
}

int cd_meta_put(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, const ProtobufCMessage *record,
                struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;

	cd_batch_put(&b, kind, ns, name, record);
	return cd_meta_commit(m, &b, err);
}

int cd_meta_remove(struct cd_meta *m, enum cd_kind kind, const char *ns, struct str name, struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(m, kind, ns, name);
	int r = cd_meta_has(m, kind, ns, name, err);

	TRY(r);
	if (!r)
		return not_found(kind, ns, name, err);
	cd_batch_remove(&b, kind, ns, name);
	return cd_meta_commit(m, &b, err);
}

int cd_meta_apply(struct cd_meta *m, const struct cd_batch *b, const struct kv_op *more, unsigned n_more,
                  struct err *err)
{
	AUTO_FREE struct kv_op *ops = xcalloc(b->ops.n + n_more + 1, sizeof(*ops));

	add_ops(b, ops);
	for (unsigned i = 0; i < n_more; i++)
		ops[b->ops.n + i] = more[i];
	TRY_WRAP(kv_write(&m->kv, ops, (unsigned)b->ops.n + n_more, false, err), err, "metadata");
	return 0;
}

int cd_meta_sync(struct cd_meta *m, struct err *err)
{
	TRY_WRAP(kv_sync(&m->kv, err), err, "metadata");
	return 0;
}

int cd_meta_touch(struct cd_meta *m, const char *ns, struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(m, CD_NAMESPACE, ns, STR_NONE);
	Namespaces__Namespace none = NAMESPACES__NAMESPACE__INIT;
	int r = namespace_exists(m, ns, err);

	if (r)
		return r < 0 ? r : 0;
	return cd_meta_put(m, CD_NAMESPACE, ns, STR_NONE, &none.base, err);
}
