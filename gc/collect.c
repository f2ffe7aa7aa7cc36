#include "base/map.h"
#include "gc/names.h"
#include "gc/sink.h"

#include <assert.h>
#include <pthread.h>

#define BATCH_DEFAULT 16
#define CLEAR_UNITS 32 /* what giving back one block costs, in units of work */
#define HELD_UNITS 64  /* of work on late writes that a hold is worth */

enum phase {
	IDLE,
	SCAN,   /* all records into the graph; roots are marked as they come */
	MARK,   /* along the edges until nothing is grey */
	GATHER, /* all records once more: the names of those not marked */
	COUNT,  /* for each candidate, how many candidates refer to it */
	SWEEP,  /* candidates that nothing refers to, in batches, again and again */
	RESET,  /* rings are left: COUNT and SWEEP once more by a looser order */
	CLEAR,  /* gives the memory back */
};

/* Which references make a candidate wait for another. */
enum order {
	BY_ALL,
	BY_OWN,  /* what labels make may be a ring; what records are made of is none */
	BY_NONE, /* unless the owner says so */
};

/* A node that was not marked when its name was read. */
struct candidate {
	const char *name;
	uint32_t node;
	uint32_t referrers; /* references to it from candidates that still stand */
	bool counted;       /* its own references are in those numbers */
	bool queued;        /* it was, or is, in `ready` or `gone` */
};

/* What the write barrier was told of a name: only of a reference to it, or of the record itself. */
#define TOUCH_REFERRED ((void *)1)
#define TOUCH_WROTE ((void *)2)

struct gc {
	const struct gc_graph *graph;
	struct gc_run run;
	struct gc_stats stats;
	enum phase phase;
	struct gc_nodes nodes;
	struct gc_sink records, naming; /* of SCAN and the barrier; of GATHER */
	struct buf cursor;

	VEC(uint32_t) grey;
	uint32_t marking, marking_edge; /* the node whose edges are being followed (GC_NIL: none), the next of them */

	struct gc_blocks candidates;
	struct gc_names names;
	uint32_t next;                  /* candidate that COUNT, or the search of SWEEP, looks at */
	uint32_t walking, walking_edge; /* the candidate whose references are being counted or taken off; the next */
	VEC(uint32_t) ready;            /* candidates that nothing refers to */
	VEC(uint32_t) gone;             /* candidates whose references are to be taken off */
	enum order order;

	uint64_t begun, done, failed; /* numbers of cycles: the last one begun, ended well, ended badly */

	/* Names that steps deal with, and how far they are. Each name stands in it once, however often it is written. */
	struct map seeing;
	size_t seeing_at;

	pthread_mutex_t lock; /* guards what follows */
	bool listening;       /* a cycle is on */
	struct map touched;   /* name -> TOUCH_*, since the steps took the last ones */
	struct buf name;      /* scratch */
};

struct gc *gc_new(const struct gc_graph *graph)
{
	struct gc *gc = xcalloc(1, sizeof(*gc));

	gc->graph = graph;
	gc->stats.next_expiry = GC_NEVER;
	gc_nodes_init(&gc->nodes);
	pthread_mutex_init(&gc->lock, NULL);
	return gc;
}

/* Gives back what grew with the number of records; true when all is given back. */
static bool clear(struct gc *gc, unsigned blocks)
{
	blocks = gc_names_drop(&gc->names, blocks);
	blocks = gc_blocks_drop(&gc->candidates, blocks);
	return blocks && gc_nodes_clear(&gc->nodes, blocks);
}

/* What else a cycle needed. */
static void forget(struct gc *gc)
{
	vec_fini(&gc->grey);
	vec_fini(&gc->ready);
	vec_fini(&gc->gone);
	buf_fini(&gc->cursor);
	map_fini(&gc->seeing);
	pthread_mutex_lock(&gc->lock);
	gc->listening = false;
	map_fini(&gc->touched);
	buf_fini(&gc->name);
	pthread_mutex_unlock(&gc->lock);
}

void gc_free(struct gc *gc)
{
	if (!gc)
		return;
	forget(gc);
	clear(gc, UINT32_MAX);
	pthread_mutex_destroy(&gc->lock);
	free(gc);
}

bool gc_running(const struct gc *gc)
{
	return gc->phase != IDLE;
}

const struct gc_stats *gc_stats(const struct gc *gc)
{
	return &gc->stats;
}

/* ---- the write barrier ---- */

static void touch(struct gc *gc, const struct gc_id *id, void *how)
{
	pthread_mutex_lock(&gc->lock);
	if (gc->listening) {
		buf_clear(&gc->name);
		gc_name_write(&gc->name, id);
		if (how == TOUCH_WROTE || !map_has(&gc->touched, buf_str(&gc->name)))
			map_put(&gc->touched, buf_str(&gc->name), how);
	}
	pthread_mutex_unlock(&gc->lock);
}

void gc_wrote(struct gc *gc, const struct gc_id *id)
{
	touch(gc, id, TOUCH_WROTE);
}

void gc_referred(struct gc *gc, const struct gc_id *to)
{
	touch(gc, to, TOUCH_REFERRED);
}

/* Takes over what was touched, once all of the last is dealt with: what comes meanwhile waits for the next step, so that
 * a busy writer does not keep the cycle from going on. */
static void take_touched(struct gc *gc)
{
	if (gc->seeing.n)
		return;
	map_fini(&gc->seeing);
	gc->seeing_at = 0;
	pthread_mutex_lock(&gc->lock);
	gc->seeing = gc->touched;
	gc->touched = MAP_INIT;
	pthread_mutex_unlock(&gc->lock);
}

static void shade(void *arg, uint32_t node, uint8_t marks)
{
	struct gc *gc = arg;
	struct gc_node *n = gc_node_at(&gc->nodes, node);

	if (!(marks & ~n->flags))
		return;
	n->flags |= marks;
	vec_push(&gc->grey, node);
}

/* Ends a call of the owner's that reported to `sink`; the work it did comes off *left. */
static int reported(struct gc_sink *sink, int r, long *left, struct err *err)
{
	int end = gc_sink_end(sink, r < 0 ? NULL : err);

	*left -= sink->work ? (long)sink->work : 1;
	sink->work = 0;
	return r < 0 ? r : end < 0 ? end : r;
}

static int see_one(struct gc *gc, struct str name, void *how, long *left, struct err *err)
{
	struct gc_id id = gc_name_read(name.p);
	uint32_t i = gc_nodes_intern(&gc->nodes, gc_nodes_hash(&gc->nodes, &id), id.kind);

	if (i == GC_NIL)
		return err_set(err, ERR_EXHAUSTED, "more records than a collection can hold");
	shade(gc, i, GC_REACHED | GC_FULL);
	--*left;
	if (how != TOUCH_WROTE)
		return 0;
	return reported(&gc->records, gc->graph->node(gc->graph->arg, &id, &gc->records, err), left, err);
}

/* Marks what was touched. A record is read again, since it may refer to what it did not when the scan saw it. */
static int see_touched(struct gc *gc, long *left, struct err *err)
{
	struct str name;
	void *how;

	take_touched(gc);
	while (*left > 0 && map_next(&gc->seeing, &gc->seeing_at, &name, &how)) {
		TRY(see_one(gc, name, how, left, err));
		map_del(&gc->seeing, name);
	}
	return 0;
}

/* ---- marking ---- */

static void saw_record(void *arg, uint32_t node)
{
	struct gc *gc = arg;
	struct gc_node *n = gc_node_at(&gc->nodes, node);

	if (!(n->flags & GC_SEEN))
		gc->stats.seen[n->kind]++;
	n->flags |= GC_SEEN;
}

static bool marking(const struct gc *gc)
{
	return gc->marking != GC_NIL || gc->grey.n;
}

static void mark(struct gc *gc, long *left)
{
	while (*left > 0 && marking(gc)) {
		if (gc->marking == GC_NIL) {
			gc->marking = vec_pop(&gc->grey);
			gc->marking_edge = gc_node_at(&gc->nodes, gc->marking)->edges;
		}
		for (; gc->marking_edge != GC_NIL && *left > 0; --*left) {
			const struct gc_edge *e = gc_edge_at(&gc->nodes, gc->marking_edge);

			shade(gc, e->to, gc_marks_along(gc_node_at(&gc->nodes, gc->marking)->flags, e->how));
			gc->marking_edge = e->next;
		}
		if (gc->marking_edge == GC_NIL)
			gc->marking = GC_NIL;
		--*left;
	}
}

/* One call of the owner's scan; 1 at the end of the records. */
static int read_some(struct gc *gc, struct gc_sink *sink, long *left, struct err *err)
{
	int r;

	sink->enough = *left;
	r = gc->graph->scan(gc->graph->arg, &gc->cursor, *left, sink, err);
	TRY(r = reported(sink, r, left, err));
	if (r)
		buf_clear(&gc->cursor);
	return r;
}

static struct candidate *candidate_at(const struct gc *gc, uint32_t i)
{
	return (struct candidate *)gc->candidates.blocks.p[i / GC_BLOCK] + i % GC_BLOCK;
}

static void gather(void *arg, uint32_t node, const struct gc_id *id)
{
	struct gc *gc = arg;
	struct gc_node *n = gc_node_at(&gc->nodes, node);

	if ((n->flags & (GC_SEEN | GC_REACHED | GC_GATHERED)) != GC_SEEN)
		return;
	n->flags |= GC_GATHERED;
	n->aux = gc_blocks_add(&gc->candidates, sizeof(struct candidate));
	*candidate_at(gc, n->aux) = (struct candidate){.name = gc_names_put(&gc->names, id), .node = node};
}

/* ---- the order of the sweep ---- */

static bool orders(const struct gc *gc, enum gc_how how)
{
	return gc->order == BY_ALL || (gc->order == BY_OWN && (how == GC_OWN || how == GC_FLAT));
}

/* Follows the references of a candidate to other candidates, and changes their numbers; true at the last. */
static bool walk(struct gc *gc, uint32_t of, int change, long *left)
{
	if (gc->walking != of) {
		gc->walking = of;
		gc->walking_edge = gc_node_at(&gc->nodes, candidate_at(gc, of)->node)->edges;
	}
	for (; gc->walking_edge != GC_NIL && *left > 0; --*left) {
		const struct gc_edge *e = gc_edge_at(&gc->nodes, gc->walking_edge);
		const struct gc_node *to = gc_node_at(&gc->nodes, e->to);
		struct candidate *c = to->flags & GC_GATHERED ? candidate_at(gc, to->aux) : NULL;

		gc->walking_edge = e->next;
		if (!c || c->queued || to->aux == of || !orders(gc, e->how))
			continue;
		if (change < 0 && !c->referrers)
			continue; /* the edge came after the counting; its target was touched, and stays */
		c->referrers += change;
		if (!c->referrers) {
			c->queued = true;
			vec_push(&gc->ready, to->aux);
		}
	}
	--*left;
	if (gc->walking_edge != GC_NIL)
		return false;
	gc->walking = GC_NIL;
	return true;
}

static bool is_reached(const struct gc *gc, const struct candidate *c)
{
	return gc_node_at(&gc->nodes, c->node)->flags & GC_REACHED;
}

static void count(struct gc *gc, long *left)
{
	while (*left > 0 && gc->next < gc->candidates.n) {
		struct candidate *c = candidate_at(gc, gc->next);

		if (c->queued || (!c->counted && is_reached(gc, c))) {
			gc->next++;
			--*left;
			continue;
		}
		c->counted = true;
		if (walk(gc, gc->next, 1, left))
			gc->next++;
	}
}

static void reset(struct gc *gc, long *left)
{
	for (; *left > 0 && gc->next < gc->candidates.n; gc->next++, --*left) {
		candidate_at(gc, gc->next)->referrers = 0;
		candidate_at(gc, gc->next)->counted = false;
	}
}

/* Fills `ready` for a batch. False: nothing is left that this order allows. */
static bool find_ready(struct gc *gc, long *left)
{
	while (*left > 0 && gc->gone.n)
		if (walk(gc, *vec_last(&gc->gone), -1, left))
			gc->gone.n--;
	for (; *left > 0 && gc->ready.n < gc->run.batch && gc->next < gc->candidates.n; gc->next++, --*left) {
		struct candidate *c = candidate_at(gc, gc->next);

		if (c->queued || (c->referrers && !is_reached(gc, c)))
			continue;
		c->queued = true;
		if (!is_reached(gc, c))
			vec_push(&gc->ready, gc->next);
		else if (c->counted) /* kept since it was counted: what it does not keep must not wait for it */
			vec_push(&gc->gone, gc->next);
	}
	return gc->ready.n || gc->gone.n || gc->next < gc->candidates.n;
}

/* ---- removing ---- */

static int remove_one(struct gc *gc, const struct candidate *c, struct err *err)
{
	struct gc_id id = gc_name_read(c->name);

	if (!gc->run.dry_run)
		return gc->graph->remove(gc->graph->arg, &id, err);
	if (gc->run.found)
		gc->run.found(gc->run.arg, &id);
	return 0;
}

/* In a hold. Ends early when a node is kept, since what it leads to must be marked before anything else goes. */
static int remove_batch(struct gc *gc, long *left, struct err *err)
{
	for (unsigned n = 0; n < gc->run.batch && gc->ready.n; n++) {
		uint32_t i = vec_pop(&gc->ready);
		const struct candidate *c = candidate_at(gc, i);
		int r;

		--*left;
		if (is_reached(gc, c)) {
			if (c->counted)
				vec_push(&gc->gone, i);
			continue;
		}
		TRY(r = remove_one(gc, c, err));
		if (r == GC_KEEP) {
			gc->stats.kept++;
			shade(gc, c->node, GC_REACHED | GC_FULL);
			return 0;
		}
		gc->stats.removed[gc_node_at(&gc->nodes, c->node)->kind]++;
		vec_push(&gc->gone, i);
	}
	return 0;
}

static int remove_held(struct gc *gc, long *left, struct err *err)
{
	const struct gc_graph *g = gc->graph;
	long units = HELD_UNITS;
	int r, end = 0;

	if (gc->run.dry_run)
		return remove_batch(gc, left, err);
	gc->stats.held++;
	if (g->hold)
		g->hold(g->arg);
	/* No write is under way; those that ended before the hold are marked first, or there is no removal this time. */
	r = see_touched(gc, &units, err);
	if (r >= 0 && !gc->seeing.n)
		r = see_touched(gc, &units, err);
	if (r >= 0)
		mark(gc, &units);
	if (r >= 0 && !gc->seeing.n && !marking(gc))
		r = remove_batch(gc, left, err);
	if (g->release)
		end = g->release(g->arg, r < 0 ? NULL : err);
	return r < 0 ? r : end;
}

/* ---- the cycle ---- */

void gc_begin(struct gc *gc, const struct gc_run *run)
{
	assert(gc->phase == IDLE);
	gc->run = *run;
	if (!gc->run.batch)
		gc->run.batch = BATCH_DEFAULT;
	gc->stats = (struct gc_stats){.next_expiry = GC_NEVER};
	gc_nodes_init(&gc->nodes);
	gc_sink_init(&gc->records, &gc->nodes, run->now);
	gc->records.node = saw_record;
	gc->records.shade = shade;
	gc->records.arg = gc;
	gc_sink_init(&gc->naming, &gc->nodes, run->now);
	gc->naming.name = gather;
	gc->naming.arg = gc;
	gc->marking = gc->walking = GC_NIL;
	gc->next = 0;
	gc->order = BY_ALL;
	gc->begun += !run->dry_run;
	gc->phase = SCAN;
	pthread_mutex_lock(&gc->lock);
	gc->listening = true;
	pthread_mutex_unlock(&gc->lock);
}

/* The last removal is made. */
static void finish(struct gc *gc)
{
	gc->stats.next_expiry = gc->records.next_expiry;
	gc->stats.memory_bytes = gc_nodes_bytes(&gc->nodes) + gc->names.bytes + gc->grey.cap * sizeof(*gc->grey.p) +
	                         gc->candidates.blocks.n * GC_BLOCK * sizeof(struct candidate) +
	                         (gc->ready.cap + gc->gone.cap) * sizeof(uint32_t);
	if (!gc->run.dry_run)
		gc->done = gc->begun;
	forget(gc);
	gc->phase = CLEAR;
}

static int sweep(struct gc *gc, long *left, struct err *err)
{
	if (!find_ready(gc, left)) {
		if (gc->order == BY_NONE) {
			finish(gc);
		} else {
			gc->order++;
			gc->next = 0;
			gc->phase = RESET;
		}
		return 0;
	}
	/* What is gone gives way first: it makes ready what should go before the rest. */
	return *left > 0 && !gc->gone.n && gc->ready.n ? remove_held(gc, left, err) : 0;
}

static int advance(struct gc *gc, long *left, struct err *err)
{
	int r;

	switch (gc->phase) {
	case IDLE:
		break;
	case SCAN:
		TRY(r = read_some(gc, &gc->records, left, err));
		if (r)
			gc->phase = MARK;
		break;
	case MARK: /* the marking itself is part of every step */
		gc->phase = GATHER;
		break;
	case GATHER:
		TRY(r = read_some(gc, &gc->naming, left, err));
		if (r)
			gc->phase = COUNT;
		break;
	case COUNT:
		count(gc, left);
		if (gc->next == gc->candidates.n) {
			gc->next = 0;
			gc->phase = SWEEP;
		}
		break;
	case RESET:
		reset(gc, left);
		if (gc->next == gc->candidates.n) {
			gc->next = 0;
			gc->phase = COUNT;
		}
		break;
	case SWEEP:
		return sweep(gc, left, err);
	case CLEAR:
		if (clear(gc, 1 + *left / CLEAR_UNITS))
			gc->phase = IDLE;
		*left = 0;
		break;
	}
	return 0;
}

static int step(struct gc *gc, long left, struct err *err)
{
	while (left > 0 && gc->phase != IDLE) {
		if (gc->phase != CLEAR)
			TRY(see_touched(gc, &left, err));
		if (gc->phase != SCAN)
			mark(gc, &left);
		if (left > 0)
			TRY(advance(gc, &left, err));
	}
	return 0;
}

int gc_step(struct gc *gc, unsigned budget, struct err *err)
{
	int r = step(gc, budget ? budget : 1, err);

	if (r < 0) {
		if (!gc->run.dry_run)
			gc->failed = gc->begun;
		forget(gc);
		clear(gc, UINT32_MAX);
		gc->phase = IDLE;
		return r;
	}
	return gc->phase != IDLE;
}

uint64_t gc_ticket(const struct gc *gc)
{
	return gc->begun + 1;
}

int gc_ticket_state(const struct gc *gc, uint64_t ticket, struct err *err)
{
	if (gc->done >= ticket)
		return 1;
	if (gc->failed >= ticket)
		return err_set(err, ERR_ABORTED, "garbage collection failed");
	return 0;
}
