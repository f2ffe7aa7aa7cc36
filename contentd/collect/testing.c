#include "contentd/collect/testing.h"

#include "base/clock.h"
#include "base/testing.h"
#include "contentd/collect/watched.h"
#include "contentd/records/leases.h"
#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/leases.pb-c.h"
#include "snapshotter/collect.h"
#include "snapshotter/record.h"

/* ---- names ---- */

/* "#x" and "@x" written out. */
static const char *expand(struct arena *a, struct str text)
{
	char hex[65];

	if (text.n != 2 || (text.p[0] != '#' && text.p[0] != '@'))
		return arena_str(a, text);
	memset(hex, text.p[1], 64);
	hex[64] = '\0';
	return arena_printf(a, "%s%s", text.p[0] == '#' ? "sha256:" : "", hex);
}

/* The other way. */
static void shorten(struct str key, struct buf *out)
{
	struct str hex = key;
	bool digest = str_skip(&hex, STR("sha256:"));

	if (hex.n != 64) {
		buf_addstr(out, key);
		return;
	}
	buf_addc(out, digest ? '#' : '@');
	buf_addc(out, hex.p[0]);
}

static struct gc_id parse_id(struct arena *a, const char *text)
{
	struct str rest = str_of(text), kind;
	struct gc_id id = {0};

	str_split(&rest, '/', &kind);
	while (!str_eqc(kind, gc_kind_name(id.kind)))
		id.kind++;
	str_split(&rest, '/', &id.ns);
	str_split(&rest, '/', &id.space);
	id.ns = str_of(arena_str(a, id.ns));
	id.space = str_of(arena_str(a, id.space));
	id.key = str_of(expand(a, rest));
	return id;
}

/* The value of "name=value" among the facts, or NULL. */
static const char *fact(struct arena *a, const char *facts, const char *name)
{
	struct str rest = str_of(facts), word;

	while (str_split(&rest, ' ', &word))
		if (str_skip(&word, str_of(name)) && str_skip(&word, STR("=")))
			return expand(a, word);
	return NULL;
}

static bool has_fact(const char *facts, const char *name)
{
	struct str rest = str_of(facts), word;

	while (str_split(&rest, ' ', &word))
		if (str_eqc(word, name))
			return true;
	return false;
}

static Kv__Entry **labels_of(struct arena *a, const char *facts, size_t *n)
{
	Kv__Entry **list = arena_alloc(a, 64 * sizeof(*list));
	struct str rest = str_of(facts), word;

	*n = 0;
	while (str_split(&rest, ' ', &word)) {
		ptrdiff_t at = str_find(word, '=');

		if (!str_skip(&word, STR("+")))
			continue;
		list[(*n)++] = pb_kv_new(
		    a, arena_printf(a, "containerd.io/gc." STR_FMT, STR_ARG(str_sub(word, 0, (size_t)at - 1))),
		    expand(a, str_sub(word, (size_t)at, SIZE_MAX)));
	}
	return list;
}

const char *text_sha(char c)
{
	static char texts[4][DIGEST_TEXT_MAX];
	static unsigned next;
	char *text = texts[next++ % 4];

	memcpy(text, "sha256:", 7);
	memset(text + 7, c, 64);
	text[71] = '\0';
	return text;
}

/* ---- records ---- */

static void put_record(struct text_store *s, enum cd_kind kind, const struct gc_id *id, const ProtobufCMessage *m)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;

	cd_batch_put(&b, kind, id->ns.p, id->key, m);
	OK(cd_meta_commit(s->meta, &b, err));
}

static void put_image(struct text_store *s, struct arena *a, const struct gc_id *id, const char *facts)
{
	Types__Descriptor target = TYPES__DESCRIPTOR__INIT;
	Images__Image m = IMAGES__IMAGE__INIT;

	target.digest = fact(a, facts, "target") ?: "";
	m.name = id->key.p;
	m.target = &target;
	m.labels = labels_of(a, facts, &m.n_labels);
	put_record(s, CD_IMAGE, id, &m.base);
}

static void put_container(struct text_store *s, struct arena *a, const struct gc_id *id, const char *facts)
{
	Containers__Container m = CONTAINERS__CONTAINER__INIT;
	struct str rest = str_of(fact(a, facts, "snapshot") ?: ""), snapshotter = STR_NONE;

	str_split(&rest, '/', &snapshotter);
	m.id = id->key.p;
	m.snapshotter = arena_str(a, snapshotter);
	m.snapshot_key = arena_str(a, rest);
	m.labels = labels_of(a, facts, &m.n_labels);
	put_record(s, CD_CONTAINER, id, &m.base);
}

static void put_sandbox(struct text_store *s, struct arena *a, const struct gc_id *id, const char *facts)
{
	Types__Sandbox m = TYPES__SANDBOX__INIT;

	m.sandbox_id = id->key.p;
	m.labels = labels_of(a, facts, &m.n_labels);
	put_record(s, CD_SANDBOX, id, &m.base);
}

static void put_content(struct text_store *s, struct arena *a, const struct gc_id *id, const char *facts)
{
	Records__Content m = RECORDS__CONTENT__INIT;
	Content__Info info = CONTENT__INFO__INIT;

	info.digest = id->key.p;
	info.labels = labels_of(a, facts, &info.n_labels);
	m.info = &info;
	put_record(s, CD_CONTENT, id, &m.base);
}

static void put_lease(struct text_store *s, struct arena *a, const struct gc_id *id, const char *facts)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	struct str rest = str_of(facts), word, type;
	Leases__Lease m = LEASES__LEASE__INIT;

	m.id = id->key.p;
	m.labels = labels_of(a, facts, &m.n_labels);
	cd_batch_put(&b, CD_LEASE, id->ns.p, id->key, &m.base);
	while (str_split(&rest, ' ', &word))
		if (str_skip(&word, STR(">")) && str_split(&word, ':', &type))
			cd_lease_add(&b, id->ns.p, id->key.p, arena_str(a, type), expand(a, word));
	OK(cd_meta_commit(s->meta, &b, err));
}

/* "@x@y": keys in a row. */
static void add_lower(struct snap_record *r, struct arena *a, const char *facts)
{
	struct str rest = str_of(facts), word;

	while (str_split(&rest, ' ', &word))
		if (str_skip(&word, STR("lower=")))
			for (; word.n; word = str_sub(word, 2, SIZE_MAX))
				assert_true(
				    digest_from_hex(str_of(expand(a, str_sub(word, 0, 2))), vec_add(&r->lower)));
}

static void put_snapshot(struct text_store *s, struct arena *a, const struct gc_id *id, const char *facts)
{
	AUTO(snap_record) struct snap_record r = {0};
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf value = BUF_INIT;
	struct snap_space sp = {id->ns.p, id->space.p};
	const struct kv kv = cd_watched_kv(s->meta); /* as the snapshotter writes */
	const char *index = fact(a, facts, "index");
	size_t n;
	Kv__Entry **labels = labels_of(a, facts, &n);
	struct kv_op op;

	r.info.name = xstrdup(id->key.p);
	r.info.parent = xstrdup(fact(a, facts, "parent") ?: "");
	r.info.kind = has_fact(facts, "active") ? SNAP_ACTIVE : SNAP_COMMITTED;
	r.info.indexed = index && digest_from_hex(str_of(index), &r.info.index_key);
	r.id = r.info.indexed ? 0 : 7;
	add_lower(&r, a, facts);
	for (size_t i = 0; i < n; i++)
		OK(labels_set(&r.info.labels, labels[i]->key, labels[i]->value, err));
	snap_key_record(sp, id->key.p, &key);
	snap_record_encode(&r, &value);
	op = (struct kv_op){buf_str(&key), buf_str(&value), false};
	OK(kv_write(&kv, &op, 1, true, err));
}

static void put_file(struct text_store *s, const struct gc_id *id, const char *facts)
{
	vec_each(&s->files, f)
		if (f->kind == id->kind && str_eqc(id->key, f->key) && str_eqc(id->ns, f->ns)) {
			free(f->facts);
			f->facts = xstrdup(facts);
			return;
		}
	vec_push(&s->files, (struct text_file){id->kind, str_dup(id->ns), str_dup(id->key), xstrdup(facts), false});
}

void text_put(struct text_store *s, const char *id, const char *facts)
{
	struct arena a;
	struct gc_id it;

	arena_init(&a, SIZE_MAX);
	it = parse_id(&a, id);
	switch (it.kind) {
	case GC_IMAGE:
		put_image(s, &a, &it, facts);
		break;
	case GC_CONTAINER:
		put_container(s, &a, &it, facts);
		break;
	case GC_SANDBOX:
		put_sandbox(s, &a, &it, facts);
		break;
	case GC_CONTENT:
		put_content(s, &a, &it, facts);
		break;
	case GC_LEASE:
		put_lease(s, &a, &it, facts);
		break;
	case GC_SNAPSHOT:
		put_snapshot(s, &a, &it, facts);
		break;
	default:
		put_file(s, &it, facts);
	}
	arena_fini(&a);
}

static enum cd_kind record_kind(enum gc_kind kind)
{
	return kind == GC_IMAGE       ? CD_IMAGE
	       : kind == GC_CONTAINER ? CD_CONTAINER
	       : kind == GC_SANDBOX   ? CD_SANDBOX
	       : kind == GC_LEASE     ? CD_LEASE
	                              : CD_CONTENT;
}

/* The key of a resource record: "type:id" in a lease's facts. */
static void remove_resource(struct arena *a, struct cd_batch *b, const struct gc_id *lease, struct str resource)
{
	struct str type;

	str_split(&resource, ':', &type);
	cd_lease_remove(b, lease->ns.p, lease->key.p, arena_str(a, type), expand(a, resource));
}

static int remove_resources(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	cd_batch_remove(arg, CD_RESOURCE, ns, name);
	return 0;
}

static void remove_snapshot(struct text_store *s, const struct gc_id *id)
{
	AUTO(snap_removal) struct snap_removal r = {BUF_INIT, BUF_INIT, 0};
	struct kv_op ops[2];

	OK(snap_removal_make(cd_meta_kv(s->meta), (struct snap_space){id->ns.p, id->space.p}, id->key.p, &r, err));
	ops[0] = (struct kv_op){.key = buf_str(&r.record_key), .remove = true};
	ops[1] = (struct kv_op){.key = buf_str(&r.child_key), .remove = true};
	OK(kv_write(cd_meta_kv(s->meta), ops, r.child_key.n ? 2 : 1, true, err));
}

static void remove_record(struct text_store *s, struct arena *a, const struct gc_id *id)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;

	cd_batch_remove(&b, record_kind(id->kind), id->ns.p, id->key);
	if (id->kind == GC_LEASE)
		OK(cd_meta_scan(s->meta, CD_RESOURCE, id->ns.p, str_make(id->key.p, id->key.n + 1), a, remove_resources,
		                &b, err));
	OK(cd_meta_commit(s->meta, &b, err));
}

static struct text_file *find_file(struct text_store *s, const struct gc_id *id)
{
	vec_each(&s->files, f)
		if (f->kind == id->kind && str_eqc(id->key, f->key) && str_eqc(id->ns, f->ns))
			return f;
	return NULL;
}

static void remove_file(struct text_store *s, struct text_file *f)
{
	free(f->ns);
	free(f->key);
	free(f->facts);
	vec_swap_remove(&s->files, f - s->files.p);
}

void text_remove(struct text_store *s, const char *id)
{
	struct arena a;
	struct gc_id it;

	arena_init(&a, SIZE_MAX);
	it = parse_id(&a, id);
	if (it.kind == GC_SNAPSHOT)
		remove_snapshot(s, &it);
	else if (find_file(s, &it))
		remove_file(s, find_file(s, &it));
	else
		remove_record(s, &a, &it);
	arena_fini(&a);
}

void text_unlease(struct text_store *s, const char *lease, const char *resource)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	struct arena a;
	struct gc_id it;

	arena_init(&a, SIZE_MAX);
	it = parse_id(&a, lease);
	remove_resource(&a, &b, &it, str_of(resource));
	OK(cd_meta_commit(s->meta, &b, err));
	arena_fini(&a);
}

void text_graph_remove(struct text_store *s, const char *id)
{
	const struct gc_graph *g = cd_graph_gc(s->graph);
	struct arena a;
	struct gc_id it;

	arena_init(&a, SIZE_MAX);
	it = parse_id(&a, id);
	OK(g->remove(g->arg, &it, err));
	arena_fini(&a);
}

/* ---- the files ---- */

static int list(void *arg, enum gc_kind kind, cd_file_fn fn, void *fn_arg, struct err *err)
{
	struct text_store *s = arg;
	struct arena a;
	int r = 0;

	arena_init(&a, SIZE_MAX);
	for (size_t i = 0; i < s->files.n && r >= 0; i++) {
		const struct text_file *f = &s->files.p[i];
		struct cd_file out = {.id = {kind, str_of(f->ns), STR_NONE, str_of(f->key)}};
		struct str rest = str_of(f->facts), word;
		const char *at = fact(&a, f->facts, "expires");

		if (f->kind != kind)
			continue;
		out.in_use = has_fact(f->facts, "in-use");
		out.expires = at && time_parse_rfc3339(str_of(at), &out.at);
		while (kind == GC_INGEST && str_split(&rest, ' ', &word))
			if (str_skip(&word, STR(">")))
				out.refs_to[out.n_refs++] =
				    (struct gc_id){GC_CONTENT, out.id.ns, STR_NONE, str_of(expand(&a, word))};
		r = fn(fn_arg, &out, err);
	}
	arena_fini(&a);
	return r;
}

static int refs(void *arg, const struct gc_id *id, void (*fn)(void *fn_arg, const struct gc_id *to), void *fn_arg,
                struct err *err)
{
	const struct text_file *f = find_file(arg, id);
	struct str rest = str_of(f ? f->facts : NULL), word;
	struct arena a;

	arena_init(&a, SIZE_MAX);
	while (f && str_split(&rest, ' ', &word))
		if (str_skip(&word, STR(">")))
			fn(fn_arg, &(struct gc_id){.kind = GC_OBJECT, .key = str_of(expand(&a, word))});
	arena_fini(&a);
	return 0;
}

static int condemn(void *arg, const struct gc_id *id, struct err *err)
{
	struct text_file *f = find_file(arg, id);

	if (f && has_fact(f->facts, "pinned"))
		return GC_KEEP;
	if (f)
		f->condemned = true;
	return 0;
}

static void spare(void *arg, const struct gc_id *id)
{
	struct text_file *f = find_file(arg, id);

	if (f)
		f->condemned = false;
}

static void drop(void *arg, const struct cd_gone *gone, size_t n)
{
	struct text_store *s = arg;

	s->drops++;
	for (size_t i = 0; i < n; i++) {
		struct text_file *f = find_file(s, &gone[i].id);

		buf_addf(&s->dropped, "%s/", gc_kind_name(gone[i].id.kind));
		shorten(gone[i].id.key, &s->dropped);
		buf_addc(&s->dropped, ' ');
		if (f && f->condemned) /* else it was gone by then, and is a new one */
			remove_file(s, f);
		if (s->watch.dropped)
			s->watch.dropped(s->watch.arg, &gone[i].id);
	}
}

/* ---- the whole ---- */

static int watched_scan(void *arg, struct buf *cursor, unsigned max, struct gc_sink *sink, struct err *err)
{
	const struct gc_graph *g = cd_graph_gc(((struct text_store *)arg)->graph);

	return g->scan(g->arg, cursor, max, sink, err);
}

static int watched_node(void *arg, const struct gc_id *id, struct gc_sink *sink, struct err *err)
{
	const struct gc_graph *g = cd_graph_gc(((struct text_store *)arg)->graph);

	return g->node(g->arg, id, sink, err);
}

static void watched_hold(void *arg)
{
	struct text_store *s = arg;
	const struct gc_graph *g = cd_graph_gc(s->graph);

	g->hold(g->arg);
	if (s->watch.hold)
		s->watch.hold(s->watch.arg);
}

static int watched_release(void *arg, struct err *err)
{
	const struct gc_graph *g = cd_graph_gc(((struct text_store *)arg)->graph);

	return g->release(g->arg, err);
}

static int watched_remove(void *arg, const struct gc_id *id, struct err *err)
{
	struct text_store *s = arg;
	const struct gc_graph *g = cd_graph_gc(s->graph);
	int r = g->remove(g->arg, id, err);

	if (!r && s->watch.removing)
		s->watch.removing(s->watch.arg, id);
	return r;
}

static void open_store(struct text_store *s)
{
	OK(cd_meta_new(kv_mem_kv(s->mem), &s->meta, err));
	s->graph = cd_graph_new(s->meta, &(struct cd_store){list, refs, condemn, spare, drop, s}, false);
	s->table = (struct gc_graph){watched_scan, watched_node, watched_hold, watched_release, watched_remove, s};
	s->gc = gc_new(&s->table);
	cd_uses_bind(cd_meta_uses(s->meta), s->gc, NULL, NULL);
}

static void close_store(struct text_store *s)
{
	cd_uses_bind(cd_meta_uses(s->meta), NULL, NULL, NULL);
	gc_free(s->gc);
	cd_graph_free(s->graph);
	cd_meta_free(s->meta);
}

void text_store_init(struct text_store *s)
{
	*s = (struct text_store){.now = TEXT_NOW, .dropped = BUF_INIT, .found = BUF_INIT};
	s->mem = kv_mem_new();
	kv_mem_remember(s->mem);
	open_store(s);
}

void text_store_crash(struct text_store *s, unsigned keep)
{
	close_store(s);
	kv_mem_crash(s->mem, keep);
	open_store(s);
}

void text_store_fini(struct text_store *s)
{
	close_store(s);
	kv_mem_free(s->mem);
	vec_each(&s->files, f) {
		free(f->ns);
		free(f->key);
		free(f->facts);
	}
	vec_fini(&s->files);
	buf_fini(&s->dropped);
	buf_fini(&s->found);
}

void text_collect(struct text_store *s)
{
	cd_uses_begin_cycle(cd_meta_uses(s->meta), &(struct gc_run){.now = s->now, .batch = 2});
	while (gc_running(s->gc))
		OK(gc_step(s->gc, 3, err));
	OK(cd_graph_finish(s->graph, err));
}

struct left {
	VEC(char *) ids;
};

static void add_left(struct left *l, enum gc_kind kind, const char *ns, const char *space, struct str key)
{
	AUTO(buf) struct buf b = BUF_INIT;

	buf_addf(&b, "%s/%s/%s/", gc_kind_name(kind), ns, space);
	shorten(key, &b);
	vec_push(&l->ids, xstrdup(buf_cstr(&b)));
}

static int left_record(void *arg, struct str key, struct str value, struct err *err)
{
	const char *ns = key.p + 2;
	struct str name = str_sub(key, 2 + strlen(ns) + 1, SIZE_MAX), snapshotter, space_ns;

	if (snap_key_split(key, &space_ns, &snapshotter, &name))
		add_left(arg, GC_SNAPSHOT, space_ns.p, snapshotter.p, name);
	else if (str_starts(key, str_make("i\0", 2)))
		add_left(arg, GC_IMAGE, ns, "", name);
	else if (str_starts(key, str_make("c\0", 2)))
		add_left(arg, GC_CONTAINER, ns, "", name);
	else if (str_starts(key, str_make("x\0", 2)))
		add_left(arg, GC_SANDBOX, ns, "", name);
	else if (str_starts(key, str_make("b\0", 2)))
		add_left(arg, GC_CONTENT, ns, "", name);
	else if (str_starts(key, str_make("l\0", 2)))
		add_left(arg, GC_LEASE, ns, "", name);
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char *text_left(struct text_store *s)
{
	struct left l = {VEC_INIT};
	AUTO(buf) struct buf b = BUF_INIT;

	OK(kv_scan(cd_meta_kv(s->meta), STR_NONE, left_record, &l, err));
	vec_each(&s->files, f)
		if (!f->condemned)
			add_left(&l, f->kind, f->ns, "", str_of(f->key));
	if (l.ids.n)
		qsort(l.ids.p, l.ids.n, sizeof(*l.ids.p), compare);
	vec_each(&l.ids, id) {
		buf_addf(&b, "%s%s", b.n ? " " : "", *id);
		free(*id);
	}
	vec_fini(&l.ids);
	return xstrdup(buf_cstr(&b));
}
