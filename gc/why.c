#include "gc/names.h"
#include "gc/sink.h"

#define SCAN_MAX 4096

/* How a node was first reached, for each of the two marks: in full (1), and flat (0). */
struct reached {
	uint32_t from; /* state: node * 2 + full; GC_NIL: not reached; FROM_ROOT */
	uint8_t how;
};

#define FROM_ROOT (GC_NIL - 1)

struct why {
	const struct gc_graph *graph;
	struct gc_nodes nodes;
	struct gc_sink sink;
	VEC(struct reached) states;
	VEC(uint32_t) queue; /* breadth first */
	VEC(uint32_t) path;  /* states, from the node to its root */
	struct gc_names names;
	VEC(const char *) path_names; /* beside path; NULL: not seen again */
};

static void why_fini(struct why *w)
{
	gc_nodes_clear(&w->nodes, UINT32_MAX);
	vec_fini(&w->states);
	vec_fini(&w->queue);
	vec_fini(&w->path);
	gc_names_fini(&w->names);
	vec_fini(&w->path_names);
}
DEFINE_AUTO_FINI(why);

void gc_chain_fini(struct gc_chain *c)
{
	vec_fini(&c->links);
	buf_fini(&c->text);
	c->root = GC_ROOT_NONE;
}

static int scan_all(struct why *w, struct err *err)
{
	AUTO(buf) struct buf cursor = BUF_INIT;
	int r = 0;

	while (!r) {
		TRY(r = w->graph->scan(w->graph->arg, &cursor, SCAN_MAX, &w->sink, err));
		TRY(gc_sink_end(&w->sink, err));
	}
	return 0;
}

static void saw_record(void *arg, uint32_t node)
{
	struct why *w = arg;

	gc_node_at(&w->nodes, node)->flags |= GC_SEEN;
}

static void reach(struct why *w, uint32_t state, uint32_t from, enum gc_how how)
{
	if (w->states.p[state].from != GC_NIL)
		return;
	w->states.p[state] = (struct reached){from, how};
	vec_push(&w->queue, state);
}

static void search(struct why *w)
{
	vec_reserve(&w->states, (size_t)w->nodes.nodes.n * 2);
	for (w->states.n = 0; w->states.n < (size_t)w->nodes.nodes.n * 2; w->states.n++)
		w->states.p[w->states.n].from = GC_NIL;
	for (uint32_t i = 0; i < w->nodes.nodes.n; i++)
		if (gc_node_at(&w->nodes, i)->root)
			reach(w, i * 2 + 1, FROM_ROOT, GC_OWN);
	for (size_t at = 0; at < w->queue.n; at++) {
		uint32_t state = w->queue.p[at];
		uint8_t flags = GC_REACHED | (state & 1 ? GC_FULL : 0);

		for (uint32_t i = gc_node_at(&w->nodes, state / 2)->edges; i != GC_NIL;
		     i = gc_edge_at(&w->nodes, i)->next) {
			const struct gc_edge *e = gc_edge_at(&w->nodes, i);
			uint8_t marks = gc_marks_along(flags, e->how);

			if (marks)
				reach(w, e->to * 2 + !!(marks & GC_FULL), state, e->how);
		}
	}
}

static void name_path(void *arg, uint32_t node, const struct gc_id *id)
{
	struct why *w = arg;

	for (size_t i = 0; i < w->path.n; i++)
		if (w->path.p[i] / 2 == node && !w->path_names.p[i])
			w->path_names.p[i] = gc_names_put(&w->names, id);
}

/* Two marks may have reached it; the shorter chain counts, and the queue is in the order of length. */
static uint32_t first_state_of(const struct why *w, uint32_t node)
{
	for (size_t i = 0; i < w->queue.n; i++)
		if (w->queue.p[i] / 2 == node)
			return w->queue.p[i];
	return GC_NIL;
}

static int tell(struct why *w, struct gc_chain *chain, struct err *err)
{
	size_t at = 0;

	for (size_t i = 0; i < w->path.n; i++) {
		struct gc_id id;

		if (!w->path_names.p[i])
			return err_set(err, ERR_ABORTED, "a record on the way was removed meanwhile");
		id = gc_name_read(w->path_names.p[i]);
		buf_addstr(&chain->text, id.ns);
		buf_addstr(&chain->text, id.space);
		buf_addstr(&chain->text, id.key);
	}
	/* The text does not move any more. It is in the order of the path, the links in the opposite one. */
	vec_reserve(&chain->links, w->path.n);
	chain->links.n = w->path.n;
	for (size_t i = 0; i < w->path.n; i++) {
		struct gc_link *link = &chain->links.p[w->path.n - 1 - i];

		link->how = w->states.p[w->path.p[i]].how;
		link->id = gc_name_read(w->path_names.p[i]);
		link->id.ns.p = chain->text.p + at;
		link->id.space.p = link->id.ns.p + link->id.ns.n;
		link->id.key.p = link->id.space.p + link->id.space.n;
		at += link->id.ns.n + link->id.space.n + link->id.key.n;
	}
	chain->root = gc_node_at(&w->nodes, *vec_last(&w->path) / 2)->root;
	return 0;
}

int gc_why(const struct gc_graph *graph, const struct gc_id *id, struct timespec now, struct gc_chain *chain,
           struct err *err)
{
	AUTO(why) struct why w = {.graph = graph};
	uint32_t node, state;

	gc_chain_fini(chain);
	gc_nodes_init(&w.nodes);
	gc_sink_init(&w.sink, &w.nodes, now);
	w.sink.node = saw_record;
	w.sink.arg = &w;
	TRY(scan_all(&w, err));
	node = gc_nodes_find(&w.nodes, gc_nodes_hash(&w.nodes, id));
	if (node == GC_NIL || !(gc_node_at(&w.nodes, node)->flags & GC_SEEN))
		return err_set(err, ERR_NOT_FOUND, "%s \"" STR_FMT "\" does not exist", gc_kind_name(id->kind),
		               STR_ARG(id->key));
	search(&w);
	state = first_state_of(&w, node);
	if (state == GC_NIL)
		return 0;
	for (; state != FROM_ROOT; state = w.states.p[state].from) {
		vec_push(&w.path, state);
		vec_push(&w.path_names, NULL);
	}
	gc_sink_init(&w.sink, &w.nodes, now);
	w.sink.name = name_path;
	w.sink.name_targets = true; /* a back reference may lead over a name without a record */
	w.sink.arg = &w;
	TRY(scan_all(&w, err));
	return tell(&w, chain, err);
}
