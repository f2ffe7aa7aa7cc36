#include "contentd/collect/ask.h"

#include "base/clock.h"
#include "contentd/collect/records.h"
#include "contentd/collect/store.h"
#include "snapshotter/collect.h"

#define STEP_UNITS 4096

static struct cd_graph *graph_new(struct cd_daemon *d, bool objects)
{
	struct cd_collector_store table = cd_file_store_table(d->files);

	return cd_graph_new(d->meta, &table.files, objects);
}

void cd_collect_name(const struct gc_id *id, struct buf *out)
{
	if (id->kind < GC_BLOB)
		buf_addf(out, STR_FMT "/", STR_ARG(id->ns));
	if (id->space.n)
		buf_addf(out, STR_FMT "/", STR_ARG(id->space));
	buf_addstr(out, id->key);
}

/* ---- what would be removed ---- */

int cd_collect_dry(struct cd_daemon *d, void (*found)(void *arg, const struct gc_id *id), void *arg, struct err *err)
{
	AUTO(cd_graph) struct cd_graph *graph = graph_new(d, true);
	AUTO(gc) struct gc *gc = gc_new(cd_graph_gc(graph));
	const struct gc_run run = {.now = clock_wall(), .dry_run = true, .found = found, .arg = arg};
	int r;

	cd_uses_begin_dry(cd_meta_uses(d->meta), gc, &run);
	while ((r = gc_step(gc, STEP_UNITS, err)) > 0)
		;
	return r;
}

struct counting {
	struct arena *arena;
	Node__Collected *of[GC_KINDS_N];
};

static Node__Collected *collected(struct counting *c, enum gc_kind kind)
{
	if (!c->of[kind]) {
		c->of[kind] = pb_new(c->arena, &node__collected__descriptor);
		c->of[kind]->kind = gc_kind_name(kind);
	}
	return c->of[kind];
}

static void count_found(void *arg, const struct gc_id *id)
{
	struct counting *c = arg;
	Node__Collected *of = collected(c, id->kind);
	AUTO(buf) struct buf name = BUF_INIT;

	of->count++;
	if (!of->names)
		of->names = arena_alloc(c->arena, CD_NAMES_MAX * sizeof(*of->names));
	if (of->n_names == CD_NAMES_MAX)
		return;
	cd_collect_name(id, &name);
	of->names[of->n_names++] = arena_str(c->arena, buf_str(&name));
}

static void answer_counts(struct counting *c, Node__CollectResponse *out)
{
	out->collected = arena_alloc(c->arena, GC_KINDS_N * sizeof(*out->collected));
	for (size_t i = 0; i < GC_KINDS_N; i++)
		if (c->of[i] && c->of[i]->count)
			out->collected[out->n_collected++] = c->of[i];
}

/* Whatever went since the call came, also by a run that was under way. */
static int collect_now(struct cd_daemon *d, struct rpc_call *call, struct counting *c, struct err *err)
{
	struct cd_collector *collector = cd_collector_now(d);
	struct cd_collector_stats before, after;

	if (!collector)
		return err_set(err, ERR_UNAVAILABLE, "the data plane is not there: nothing is collected");
	cd_collector_stats(collector, &before);
	TRY(cd_collector_run_all(collector, call, err));
	cd_collector_stats(collector, &after);
	for (size_t i = 0; i < GC_KINDS_N; i++)
		if (after.removed[i] != before.removed[i])
			collected(c, i)->count = after.removed[i] - before.removed[i];
	if (c->of[GC_OBJECT])
		c->of[GC_OBJECT]->bytes = after.swept_bytes - before.swept_bytes;
	return 0;
}

int cd_collect_answer(struct cd_daemon *d, struct rpc_call *call, bool dry_run, Node__CollectResponse *out,
                      struct err *err)
{
	struct counting c = {.arena = rpc_arena(call)};

	if (dry_run)
		TRY(cd_collect_dry(d, count_found, &c, err));
	else
		TRY(collect_now(d, call, &c, err));
	answer_counts(&c, out);
	return 0;
}

/* ---- what keeps a thing ---- */

#define ABBREVIATED_MIN 6 /* hex digits of a digest */

static const char *how_text(enum gc_how how)
{
	switch (how) {
	case GC_LABEL:
		return "label";
	case GC_FLAT:
		return "flat lease";
	case GC_BACK:
		return "back reference";
	default:
		return "reference";
	}
}

static Node__Link *link_new(struct arena *a, const struct gc_id *id, const char *how)
{
	Node__Link *l = pb_new(a, &node__link__descriptor);

	l->kind = gc_kind_name(id->kind);
	l->namespace_ = arena_str(a, id->ns);
	l->snapshotter = arena_str(a, id->space);
	l->key = arena_str(a, id->key);
	l->how = how;
	return l;
}

static Node__Why *why_new(struct arena *a, const struct gc_id *id, const struct gc_chain *chain)
{
	Node__Why *w = pb_new(a, &node__why__descriptor);

	w->thing = link_new(a, id, "");
	if (!chain->links.n)
		return w;
	w->root = gc_root_text(chain->root);
	w->chain = arena_alloc(a, chain->links.n * sizeof(*w->chain));
	for (size_t i = 0; i < chain->links.n; i++)
		w->chain[w->n_chain++] = link_new(a, &chain->links.p[i].id, i ? how_text(chain->links.p[i].how) : "");
	return w;
}

/* All things that a name may stand for. */
struct named {
	struct arena *arena;
	const char *name;
	struct str ns;
	char hex[64]; /* when the name is the beginning of a digest, as lists show it: its hex digits; else empty */
	VEC(struct gc_id) ids;
};

static bool is_called(const struct named *n, struct str key)
{
	if (!*n->hex)
		return str_eqc(key, n->name);
	str_skip(&key, STR("sha256:"));
	return str_starts(key, str_of(n->hex)) && n->ids.n < CD_NAMES_MAX;
}

/* "sha256:0123abcd", or "0123abcd". */
static bool abbreviate(struct named *n)
{
	struct str hex = str_of(n->name);

	str_skip(&hex, STR("sha256:"));
	for (size_t i = 0; i < hex.n; i++)
		if (!strchr("0123456789abcdef", hex.p[i]))
			return false;
	return hex.n >= ABBREVIATED_MIN && str_copy(hex, n->hex, sizeof(n->hex));
}

static void add_named(struct named *n, enum gc_kind kind, struct str ns, struct str space, struct str key)
{
	vec_push(&n->ids, (struct gc_id){kind, ns, space, key});
}

static int match_file(void *arg, const struct cd_file *f, struct err *err)
{
	struct named *n = arg;

	if (is_called(n, f->id.key) && (!f->id.ns.n || str_eq(f->id.ns, n->ns)))
		add_named(n, f->id.kind, str_of(arena_str(n->arena, f->id.ns)), STR_NONE,
		          str_of(arena_str(n->arena, f->id.key)));
	return 0;
}

static int match_snapshot(void *arg, const struct snap_node *s, struct err *err)
{
	struct named *n = arg;

	if (is_called(n, str_of(s->info->name)) && str_eqc(n->ns, s->space.ns))
		add_named(n, GC_SNAPSHOT, n->ns, str_of(arena_strdup(n->arena, s->space.snapshotter)),
		          str_of(arena_strdup(n->arena, s->info->name)));
	return 0;
}

static int match_snapshots(struct cd_daemon *d, struct named *n, struct err *err)
{
	AUTO(buf) struct buf cursor = BUF_INIT;
	int r = 0;

	while (!r)
		r = snap_nodes(cd_meta_kv(d->meta), &cursor, 1000, match_snapshot, n, err);
	return r;
}

static int match_content(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct named *n = arg;

	if (is_called(n, name))
		add_named(n, GC_CONTENT, n->ns, STR_NONE, str_of(arena_str(n->arena, name)));
	return 0;
}

static int match_records(struct cd_daemon *d, struct named *n, struct err *err)
{
	static const enum cd_kind records[] = {CD_IMAGE, CD_CONTAINER, CD_SANDBOX, CD_LEASE, CD_CONTENT};
	AUTO_FREE char *digests = xasprintf("sha256:%s", n->hex);
	struct gc_id id;

	if (*n->hex)
		return cd_meta_scan(d->meta, CD_CONTENT, n->ns.p, str_of(digests), n->arena, match_content, n, err);
	for (size_t i = 0; i < ARRAY_LEN(records); i++) {
		int r = cd_meta_has(d->meta, records[i], n->ns.p, str_of(n->name), err);

		TRY(r);
		if (r && cd_record_id(records[i], n->ns, str_of(n->name), &id))
			vec_push(&n->ids, id);
	}
	return 0;
}

static int match_all(struct cd_daemon *d, struct named *n, struct err *err)
{
	static const enum gc_kind files[] = {GC_INGEST, GC_BLOB, GC_METADATA, GC_INDEX, GC_OBJECT, GC_PARTIAL};
	struct cd_collector_store store = cd_file_store_table(d->files);

	TRY(match_records(d, n, err));
	TRY(match_snapshots(d, n, err));
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		TRY(store.files.list(store.files.arg, files[i], match_file, n, err));
	return 0;
}

static int find_named(struct cd_daemon *d, struct named *n, struct err *err)
{
	TRY(match_all(d, n, err));
	if (!n->ids.n && abbreviate(n))
		TRY(match_all(d, n, err));
	return n->ids.n ? 0 : err_set(err, ERR_NOT_FOUND, "nothing is called \"%.200s\": not found", n->name);
}

static int why_each(struct cd_daemon *d, struct named *n, Node__WhyResponse *out, struct err *err)
{
	out->things = arena_alloc(n->arena, n->ids.n * sizeof(*out->things));
	vec_each(&n->ids, id) {
		bool objects = id->kind == GC_OBJECT || id->kind == GC_PARTIAL;
		AUTO(cd_graph) struct cd_graph *graph = graph_new(d, objects);
		AUTO(gc_chain) struct gc_chain chain = GC_CHAIN_INIT;
		int r = gc_why(cd_graph_gc(graph), id, clock_wall(), &chain, err);

		if (r == -ERR_NOT_FOUND)
			continue; /* just gone */
		TRY(r);
		out->things[out->n_things++] = why_new(n->arena, id, &chain);
	}
	return 0;
}

int cd_why_answer(struct cd_daemon *d, struct arena *a, const char *ns, const char *name, Node__WhyResponse *out,
                  struct err *err)
{
	struct named n = {.arena = a, .name = name, .ns = str_of(ns)};
	int r = find_named(d, &n, err);

	if (r >= 0)
		r = why_each(d, &n, out, err);
	vec_fini(&n.ids);
	return r;
}
