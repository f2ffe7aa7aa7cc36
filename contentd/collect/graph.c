#include "contentd/collect/graph.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "contentd/collect/records.h"
#include "gc/label.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/leases.pb-c.h"
#include "snapshotter/collect.h"

#define DROP_AT 64             /* removals that wait: one sync, and one call to contentfs, for so many */
#define RESOURCES_AT_ONCE 1000 /* of a lease that is gone, in one batch */

/* The order of the scan: a cursor is the number of the stage, and where in it. */
enum stage_type { RECORDS, SNAPSHOTS, FILES, FILES_WITH_OBJECTS };

static const struct stage {
	enum stage_type type;
	int kind; /* enum cd_kind or enum gc_kind */
} stages[] = {
    {RECORDS, CD_IMAGE},
    {RECORDS, CD_CONTAINER},
    {RECORDS, CD_SANDBOX},
    {RECORDS, CD_LEASE},
    {RECORDS, CD_RESOURCE},
    {RECORDS, CD_CONTENT},
    {SNAPSHOTS, 0},
    {FILES, GC_INGEST},
    {FILES, GC_BLOB},
    {FILES, GC_METADATA},
    {FILES, GC_INDEX},
    {FILES, GC_STREAM},
    {FILES, GC_PROFILE},
    {FILES_WITH_OBJECTS, GC_OBJECT},
    {FILES_WITH_OBJECTS, GC_PARTIAL},
};

struct cd_graph {
	struct gc_graph gc;
	struct cd_meta *meta;
	struct cd_store store;
	bool objects;

	/* The scan's: what a directory held when its stage began. */
	VEC(struct cd_file) files;
	struct arena file_texts;
	size_t next_file;

	/* A hold's. */
	struct cd_batch batch;
	VEC(struct kv_op) ops; /* of the snapshotter */
	struct arena op_texts;
	size_t n_held; /* of `gone`: since the hold began */
	int64_t held_ns, held_sum_ns;

	/* Removed, not finished. */
	VEC(struct cd_gone) gone;
	struct arena gone_texts;
	VEC(struct gc_id) leases; /* whose lists are to be removed; texts as `gone` */
};

/* ---- reporting ---- */

struct report {
	struct cd_graph *g;
	struct gc_sink *sink;
	const char *lease; /* RESOURCE: the one being reported; NULL: none yet */
	const char *lease_ns;
	Leases__Lease *lease_record; /* NULL: it is gone */
	struct gc_id id;             /* the record being reported */
	struct arena *arena;
};

static void ref_meta_of(struct report *r, struct snap_space space, const char *chain)
{
	struct digest meta;
	char hex[65];

	if (snap_chain_meta(cd_meta_kv(r->g->meta), space, chain, &meta, NULL) > 0)
		gc_sink_label_ref(r->sink, &(struct gc_id){.kind = GC_METADATA, .key = str_of(digest_hex(&meta, hex))});
}

/* What an image leads to is ready to be mounted: the label that names its chain keeps the chain's metadata image, too.
 * Those of the chains below go once nothing is mounted with them. */
static void ref_meta(struct report *r, struct str key, struct str value)
{
	struct gc_label label = gc_label_parse(r->id.kind, key, value);

	if (label.type == GC_LABEL_REF && label.id.kind == GC_SNAPSHOT)
		ref_meta_of(r, (struct snap_space){arena_str(r->arena, r->id.ns), arena_str(r->arena, label.id.space)},
		            arena_str(r->arena, label.id.key));
}

static void sink_node(void *arg, const struct gc_id *id)
{
	struct report *r = arg;

	r->id = *id;
	gc_sink_node(r->sink, id);
}

static void sink_label(void *arg, struct str key, struct str value)
{
	struct report *r = arg;

	gc_sink_label(r->sink, key, value);
	ref_meta(r, key, value);
}

static void report_ref(void *arg, const struct gc_id *to)
{
	gc_sink_ref(((struct report *)arg)->sink, to);
}

static void report_record(struct report *r, enum cd_kind kind, const char *ns, struct str name, const void *record)
{
	const struct cd_record_out out = {sink_node, sink_label, report_ref, r};

	cd_record_report(kind, str_of(ns), name, record, &out);
}

static int on_record(void *arg, enum cd_kind kind, const char *ns, struct str name, void *record)
{
	struct report *r = arg;

	report_record(r, kind, ns, name, record);
	return 0;
}

static struct gc_id copy_id(struct arena *a, const struct gc_id *id)
{
	return (struct gc_id){id->kind, str_of(arena_str(a, id->ns)), str_of(arena_str(a, id->space)),
	                      str_of(arena_str(a, id->key))};
}

/* A lease is reported in pieces, each time with its labels. */
static int begin_lease(struct report *r, const char *ns, struct str lease, struct err *err)
{
	struct gc_id id = {.kind = GC_LEASE, .ns = str_of(ns), .key = lease};
	int found;

	if (r->lease && str_eqc(lease, r->lease) && !strcmp(ns, r->lease_ns))
		return 0;
	r->lease = arena_str(r->arena, lease);
	r->lease_ns = arena_strdup(r->arena, ns);
	found = cd_meta_get(r->g->meta, CD_LEASE, ns, lease, r->arena, &r->lease_record, err);
	if (found == -ERR_NOT_FOUND) {
		r->lease_record = NULL;
		vec_push(&r->g->leases, copy_id(&r->g->gone_texts, &id));
		return 0;
	}
	TRY(found);
	report_record(r, CD_LEASE, ns, lease, r->lease_record);
	return 0;
}

static int on_resource(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct report *r = arg;
	struct str lease, type, id;
	struct gc_id to;

	if (!cd_resource_split(name, &lease, &type, &id))
		return 0;
	TRY(begin_lease(r, ns, lease, err));
	if (r->lease_record && gc_id_of_resource(str_of(ns), type, id, &to, NULL) >= 0)
		gc_sink_ref(r->sink, &to);
	return 0;
}

#define ON_RECORD(name, kind)                                                                                          \
	static int on_##name(void *arg, const char *ns, struct str key, void *record, struct err *err)                 \
	{                                                                                                              \
		return on_record(arg, kind, ns, key, record);                                                          \
	}
ON_RECORD(image, CD_IMAGE)
ON_RECORD(container, CD_CONTAINER)
ON_RECORD(sandbox, CD_SANDBOX)
ON_RECORD(lease, CD_LEASE)
ON_RECORD(content, CD_CONTENT)

static cd_meta_fn on_kind(enum cd_kind kind)
{
	switch (kind) {
	case CD_IMAGE:
		return on_image;
	case CD_CONTAINER:
		return on_container;
	case CD_SANDBOX:
		return on_sandbox;
	case CD_LEASE:
		return on_lease;
	case CD_RESOURCE:
		return on_resource;
	default:
		return on_content;
	}
}

static int on_snapshot(void *arg, const struct snap_node *n, struct err *err)
{
	struct gc_id id = {GC_SNAPSHOT, str_of(n->space.ns), str_of(n->space.snapshotter), str_of(n->info->name)};
	struct report *r = arg;
	char hex[65];

	gc_sink_node(r->sink, &id);
	if (!*n->space
	          .ns) /* of a containerd that has contentd as its proxy plugin, and removes what it does not need */
		gc_sink_root(r->sink);
	vec_each(&n->info->labels.v, l)
		gc_sink_label(r->sink, str_of(l->key), str_of(l->value));
	if (*n->info->parent) {
		id.key = str_of(n->info->parent);
		gc_sink_ref(r->sink, &id);
	}
	if (n->info->indexed)
		gc_sink_ref(r->sink,
		            &(struct gc_id){.kind = GC_INDEX, .key = str_of(digest_hex(&n->info->index_key, hex))});
	/* Of what a containerd in front has, any snapshot may be a container's the next moment. */
	if (!*n->space.ns && n->info->kind == SNAP_COMMITTED && n->info->indexed)
		ref_meta_of(r, n->space, n->info->name);
	/* What it is mounted with, whatever layers its chain has by now. */
	for (size_t i = 0; i < n->n_lower; i++)
		gc_sink_ref(r->sink, &(struct gc_id){.kind = GC_INDEX, .key = str_of(digest_hex(&n->lower[i], hex))});
	if (n->has_meta)
		gc_sink_ref(r->sink, &(struct gc_id){.kind = GC_METADATA, .key = str_of(digest_hex(&n->meta, hex))});
	return 0;
}

static void sink_ref(void *arg, const struct gc_id *to)
{
	gc_sink_ref(arg, to);
}

static int report_file(struct cd_graph *g, const struct cd_file *f, struct gc_sink *sink, struct err *err)
{
	gc_sink_node(sink, &f->id);
	if (f->in_use)
		gc_sink_root(sink);
	if (f->expires)
		gc_sink_expires(sink, f->at);
	for (unsigned i = 0; i < f->n_refs; i++)
		gc_sink_ref(sink, &f->refs_to[i]);
	if (f->id.kind == GC_INDEX && g->objects && g->store.refs)
		return g->store.refs(g->store.arg, &f->id, sink_ref, sink, err);
	return 0;
}

/* ---- the scan ---- */

static int take_file(void *arg, const struct cd_file *f, struct err *err)
{
	struct cd_graph *g = arg;
	struct cd_file *copy = vec_add(&g->files);

	*copy = *f;
	copy->id = copy_id(&g->file_texts, &f->id);
	for (unsigned i = 0; i < f->n_refs; i++)
		copy->refs_to[i] = copy_id(&g->file_texts, &f->refs_to[i]);
	return 0;
}

static void forget_files(struct cd_graph *g)
{
	vec_fini(&g->files);
	arena_clear(&g->file_texts);
	g->next_file = 0;
}

/* A directory is listed at once, and told in pieces. */
static int scan_files(struct cd_graph *g, enum gc_kind kind, struct buf *at, unsigned max, struct report *r,
                      struct err *err)
{
	if (!at->n) {
		forget_files(g);
		TRY(g->store.list(g->store.arg, kind, take_file, g, err));
		buf_addc(at, 1);
	}
	while (g->next_file < g->files.n && max-- && !gc_sink_full(r->sink))
		TRY(report_file(g, &g->files.p[g->next_file++], r->sink, err));
	if (g->next_file < g->files.n)
		return 0;
	forget_files(g);
	return 1;
}

static int scan_stage(struct cd_graph *g, const struct stage *s, struct buf *at, unsigned max, struct report *r,
                      struct err *err)
{
	switch (s->type) {
	case RECORDS:
		return cd_meta_piece(g->meta, s->kind, at, max, r->arena, on_kind(s->kind), r, err);
	case SNAPSHOTS:
		return snap_nodes(cd_meta_kv(g->meta), at, max, on_snapshot, r, err);
	case FILES_WITH_OBJECTS:
		if (!g->objects)
			return 1;
		/* fall through */
	case FILES:
		return scan_files(g, s->kind, at, max, r, err);
	}
	return 1;
}

static int graph_scan(void *arg, struct buf *cursor, unsigned max, struct gc_sink *sink, struct err *err)
{
	struct cd_graph *g = arg;
	AUTO(buf) struct buf at = BUF_INIT;
	struct arena a;
	struct report r = {.g = g, .sink = sink, .arena = &a};
	size_t stage = cursor->n ? (unsigned char)cursor->p[0] : 0;
	int done;

	if (cursor->n)
		buf_add(&at, cursor->p + 1, cursor->n - 1);
	arena_init(&a, SIZE_MAX);
	done = scan_stage(g, &stages[stage], &at, max, &r, err);
	arena_fini(&a);
	TRY(done);
	buf_clear(cursor);
	buf_addc(cursor, (char)(stage + done));
	if (!done)
		buf_addstr(cursor, buf_str(&at));
	return stage + done == ARRAY_LEN(stages);
}

/* ---- one record ---- */

static int node_record(struct cd_graph *g, enum cd_kind kind, const struct gc_id *id, struct report *r, struct err *err)
{
	const char *ns = arena_str(r->arena, id->ns);
	void *record;
	int found = cd_meta_get(g->meta, kind, ns, id->key, r->arena, &record, err);

	if (found < 0)
		return found == -ERR_NOT_FOUND ? 0 : found;
	report_record(r, kind, ns, id->key, record);
	if (kind != CD_LEASE)
		return 0;
	return cd_meta_scan(g->meta, CD_RESOURCE, ns, str_make(arena_str(r->arena, id->key), id->key.n + 1), r->arena,
	                    on_resource, r, err);
}

static int node(struct cd_graph *g, const struct gc_id *id, struct report *r, struct err *err)
{
	switch (id->kind) {
	case GC_IMAGE:
		return node_record(g, CD_IMAGE, id, r, err);
	case GC_CONTAINER:
		return node_record(g, CD_CONTAINER, id, r, err);
	case GC_SANDBOX:
		return node_record(g, CD_SANDBOX, id, r, err);
	case GC_LEASE:
		return node_record(g, CD_LEASE, id, r, err);
	case GC_CONTENT:
		return node_record(g, CD_CONTENT, id, r, err);
	case GC_SNAPSHOT:
		return snap_node_read(cd_meta_kv(g->meta),
		                      (struct snap_space){arena_str(r->arena, id->ns), arena_str(r->arena, id->space)},
		                      arena_str(r->arena, id->key), on_snapshot, r, err);
	case GC_INDEX:
		return report_file(g, &(struct cd_file){.id = *id}, r->sink, err);
	default:
		return 0;
	}
}

static int graph_node(void *arg, const struct gc_id *id, struct gc_sink *sink, struct err *err)
{
	struct cd_graph *g = arg;
	struct arena a;
	struct report r = {.g = g, .sink = sink, .arena = &a};
	int result;

	arena_init(&a, SIZE_MAX);
	/* Of a lease the list only: on_resource must not look for its record while it scans. */
	if (id->kind == GC_LEASE) {
		r.lease = arena_str(&a, id->key);
		r.lease_ns = arena_str(&a, id->ns);
		r.lease_record = pb_new(&a, &leases__lease__descriptor);
	}
	result = node(g, id, &r, err);
	arena_fini(&a);
	return result;
}

/* ---- removing ---- */

static void graph_hold(void *arg)
{
	struct cd_graph *g = arg;

	cd_uses_hold(cd_meta_uses(g->meta));
	g->held_ns = clock_mono_ns();
	g->n_held = 0;
}

static void note_gone(struct cd_graph *g, const struct gc_id *id, uint64_t dir)
{
	vec_push(&g->gone, (struct cd_gone){copy_id(&g->gone_texts, id), dir});
	g->n_held++;
}

static void leave(struct cd_graph *g, const struct gc_id *id)
{
	struct gc_id copy = copy_id(&g->op_texts, id);

	cd_uses_leave(cd_meta_uses(g->meta), &copy);
}

static void remove_record(struct cd_graph *g, enum cd_kind kind, const struct gc_id *id)
{
	leave(g, id);
	cd_batch_remove(&g->batch, kind, arena_str(&g->op_texts, id->ns), id->key);
	if (id->kind == GC_LEASE)
		vec_push(&g->leases, copy_id(&g->gone_texts, id));
	else if (id->kind == GC_IMAGE)
		note_gone(g, id, 0);
}

static struct str keep_text(struct cd_graph *g, const struct buf *b)
{
	return str_make(arena_str(&g->op_texts, buf_str(b)), b->n);
}

static int remove_snapshot(struct cd_graph *g, const struct gc_id *id, struct err *err)
{
	AUTO(snap_removal) struct snap_removal removal = {BUF_INIT, BUF_INIT, 0};
	struct snap_space space = {arena_str(&g->op_texts, id->ns), arena_str(&g->op_texts, id->space)};
	int r = snap_removal_make(cd_meta_kv(g->meta), space, arena_str(&g->op_texts, id->key), &removal, err);

	if (r < 0)
		return r == -ERR_NOT_FOUND ? 0 : r;
	vec_push(&g->ops, (struct kv_op){.key = keep_text(g, &removal.record_key), .remove = true});
	if (removal.child_key.n)
		vec_push(&g->ops, (struct kv_op){.key = keep_text(g, &removal.child_key), .remove = true});
	leave(g, id);
	note_gone(g, id, removal.dir);
	return 0;
}

static int remove_file(struct cd_graph *g, const struct gc_id *id, struct err *err)
{
	int r = g->store.condemn(g->store.arg, id, err);

	TRY(r);
	if (r != GC_KEEP)
		note_gone(g, id, 0);
	return r;
}

static int graph_remove(void *arg, const struct gc_id *id, struct err *err)
{
	struct cd_graph *g = arg;

	switch (id->kind) {
	case GC_IMAGE:
		remove_record(g, CD_IMAGE, id);
		return 0;
	case GC_LEASE:
		remove_record(g, CD_LEASE, id);
		return 0;
	case GC_CONTENT:
		remove_record(g, CD_CONTENT, id);
		return 0;
	case GC_SNAPSHOT:
		return remove_snapshot(g, id, err);
	case GC_CONTAINER:
	case GC_SANDBOX:
		return GC_KEEP;
	default:
		return remove_file(g, id, err);
	}
}

static bool is_file(enum gc_kind kind)
{
	return kind == GC_INGEST || kind >= GC_STREAM;
}

/* The last n of what is gone are not. */
static void spare(struct cd_graph *g, size_t n)
{
	for (; n; n--) {
		const struct cd_gone *it = &vec_pop(&g->gone);

		if (is_file(it->id.kind))
			g->store.spare(g->store.arg, &it->id);
	}
}

/* The decision is made; its records are written outside of the lock. */
static int graph_release(void *arg, struct err *err)
{
	struct cd_graph *g = arg;
	int r = 0;

	g->held_sum_ns += clock_mono_ns() - g->held_ns;
	cd_uses_release(cd_meta_uses(g->meta));
	FAILPOINT("gc-condemned");
	if (g->batch.ops.n + g->ops.n)
		r = cd_meta_apply(g->meta, &g->batch, g->ops.p, (unsigned)g->ops.n, err);
	if (r < 0)
		spare(g, g->n_held);
	cd_uses_landed(cd_meta_uses(g->meta));
	cd_batch_fini(&g->batch);
	g->batch = CD_BATCH_INIT;
	vec_clear(&g->ops);
	arena_clear(&g->op_texts);
	TRY(r);
	return g->gone.n >= DROP_AT ? cd_graph_drop(g, err) : 0;
}

/* ---- finishing ---- */

struct list_drop {
	struct cd_batch batch;
	unsigned n;
};

static int drop_resource(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct list_drop *d = arg;

	cd_batch_remove(&d->batch, CD_RESOURCE, ns, name);
	return ++d->n == RESOURCES_AT_ONCE;
}

/* What a lease listed that is gone. One of that name that was made meanwhile has thrown these out itself. */
static int drop_list(struct cd_graph *g, const struct gc_id *lease, struct err *err)
{
	struct arena a;
	int r, more = 1;

	arena_init(&a, SIZE_MAX);
	while (more > 0) {
		AUTO(cd_hold) struct cd_hold h = cd_meta_hold(g->meta, CD_LEASE, lease->ns.p, lease->key);
		struct list_drop d = {CD_BATCH_INIT, 0};

		r = cd_meta_has(g->meta, CD_LEASE, lease->ns.p, lease->key, err);
		if (!r)
			r = cd_meta_scan(g->meta, CD_RESOURCE, lease->ns.p, str_make(lease->key.p, lease->key.n + 1),
			                 &a, drop_resource, &d, err);
		if (r >= 0 && d.n)
			r = cd_meta_apply(g->meta, &d.batch, NULL, 0, err);
		cd_batch_fini(&d.batch);
		arena_clear(&a);
		more = r < 0 ? r : d.n == RESOURCES_AT_ONCE;
	}
	arena_fini(&a);
	return more;
}

int cd_graph_drop(struct cd_graph *g, struct err *err)
{
	int r = 0;

	if (g->gone.n) {
		FAILPOINT("gc-applied");
		r = cd_meta_sync(g->meta, err);
		FAILPOINT("gc-synced");
		if (r < 0)
			spare(g, g->gone.n);
		else
			g->store.drop(g->store.arg, g->gone.p, g->gone.n);
	}
	vec_clear(&g->gone);
	return r;
}

int cd_graph_finish(struct cd_graph *g, struct err *err)
{
	int r = cd_graph_drop(g, err);

	FAILPOINT("gc-dropped");
	for (size_t i = 0; i < g->leases.n && r >= 0; i++)
		r = drop_list(g, &g->leases.p[i], err);
	vec_clear(&g->leases);
	arena_clear(&g->gone_texts);
	return r;
}

int64_t cd_graph_held(struct cd_graph *g)
{
	int64_t held = g->held_sum_ns;

	g->held_sum_ns = 0;
	return held;
}

/* ---- life ---- */

struct cd_graph *cd_graph_new(struct cd_meta *meta, const struct cd_store *store, bool objects)
{
	struct cd_graph *g = xcalloc(1, sizeof(*g));

	g->gc = (struct gc_graph){graph_scan, graph_node, graph_hold, graph_release, graph_remove, g};
	g->meta = meta;
	g->store = *store;
	g->objects = objects;
	g->batch = CD_BATCH_INIT;
	arena_init(&g->file_texts, SIZE_MAX);
	arena_init(&g->op_texts, SIZE_MAX);
	arena_init(&g->gone_texts, SIZE_MAX);
	return g;
}

void cd_graph_free(struct cd_graph *g)
{
	if (!g)
		return;
	spare(g, g->gone.n);
	forget_files(g);
	cd_batch_fini(&g->batch);
	vec_fini(&g->ops);
	vec_fini(&g->gone);
	vec_fini(&g->leases);
	arena_fini(&g->file_texts);
	arena_fini(&g->op_texts);
	arena_fini(&g->gone_texts);
	free(g);
}

const struct gc_graph *cd_graph_gc(const struct cd_graph *g)
{
	return &g->gc;
}
