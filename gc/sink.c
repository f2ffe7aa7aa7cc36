#include "gc/sink.h"

#include "gc/label.h"

void gc_sink_init(struct gc_sink *s, struct gc_nodes *g, struct timespec now)
{
	*s = (struct gc_sink){.g = g, .now = now, .at = GC_NIL, .next_expiry = GC_NEVER, .enough = UINT64_MAX};
}

bool gc_sink_full(const struct gc_sink *s)
{
	return s->work >= s->enough;
}

const char *gc_root_text(enum gc_root root)
{
	static const char *const texts[] = {
#define X(name, text) [GC_ROOT_##name] = text,
	    GC_ROOTS(X)
#undef X
	};

	return texts[root];
}

/* What makes a record a root once all of its labels are known; the owner's own word and gc.root came before. */
static enum gc_root root_of(const struct gc_sink *s)
{
	switch (s->id.kind) {
	case GC_LEASE:
		return s->expired ? GC_ROOT_NONE : GC_ROOT_LEASE;
	case GC_IMAGE:
		return s->expired ? GC_ROOT_NONE : GC_ROOT_IMAGE;
	case GC_INGEST:
		return s->expires && !s->expired ? GC_ROOT_INGEST : GC_ROOT_NONE;
	case GC_CONTAINER:
		return GC_ROOT_CONTAINER;
	case GC_SANDBOX:
		return GC_ROOT_SANDBOX;
	default:
		return GC_ROOT_NONE;
	}
}

static void finish_record(struct gc_sink *s)
{
	if (s->at == GC_NIL)
		return;
	if (s->root == GC_ROOT_NONE)
		s->root = root_of(s);
	if (s->root != GC_ROOT_NONE) {
		gc_node_at(s->g, s->at)->root = s->root;
		if (s->shade)
			s->shade(s->arg, s->at, GC_REACHED | GC_FULL);
	}
	s->at = GC_NIL;
}

int gc_sink_end(struct gc_sink *s, struct err *err)
{
	int r = s->failed;

	finish_record(s);
	s->failed = 0;
	if (r < 0 && err)
		*err = s->err;
	return r;
}

static uint32_t intern(struct gc_sink *s, const struct gc_id *id)
{
	uint32_t i = gc_nodes_intern(s->g, gc_nodes_hash(s->g, id), id->kind);

	if (i == GC_NIL)
		s->failed = err_set(&s->err, ERR_EXHAUSTED, "more records than a collection can hold");
	return i;
}

static void tell_name(struct gc_sink *s, const struct gc_id *id)
{
	uint32_t i = gc_nodes_find(s->g, gc_nodes_hash(s->g, id));

	if (i != GC_NIL)
		s->name(s->arg, i, id);
}

void gc_sink_node(struct gc_sink *s, const struct gc_id *id)
{
	finish_record(s);
	s->work++;
	s->id = *id;
	if (s->name) {
		tell_name(s, id);
		return;
	}
	s->at = intern(s, id);
	s->root = GC_ROOT_NONE;
	s->flat = s->expired = s->expires = false;
	if (s->at != GC_NIL && s->node)
		s->node(s->arg, s->at);
}

static void link_nodes(struct gc_sink *s, uint32_t from, uint32_t to, enum gc_how how)
{
	uint8_t marks;
	int r;

	if (from == GC_NIL || to == GC_NIL)
		return;
	s->work++;
	r = gc_nodes_link(s->g, from, to, how, &s->err);
	if (r < 0)
		s->failed = r;
	marks = gc_marks_along(gc_node_at(s->g, from)->flags, how);
	if (marks && s->shade)
		s->shade(s->arg, to, marks);
}

void gc_sink_ref(struct gc_sink *s, const struct gc_id *to)
{
	s->work += !!s->name;
	if (s->name_targets)
		tell_name(s, to);
	if (s->at != GC_NIL)
		link_nodes(s, s->at, intern(s, to), s->flat ? GC_FLAT : GC_OWN);
}

void gc_sink_label_ref(struct gc_sink *s, const struct gc_id *to)
{
	s->work += !!s->name;
	if (s->name_targets)
		tell_name(s, to);
	if (s->at != GC_NIL)
		link_nodes(s, s->at, intern(s, to), GC_LABEL);
}

void gc_sink_root(struct gc_sink *s)
{
	s->root = GC_ROOT_OWNER;
}

void gc_sink_expires(struct gc_sink *s, struct timespec at)
{
	if (s->at == GC_NIL)
		return;
	s->expires = true;
	s->expired = gc_time_after(s->now, at);
	if (!s->expired && gc_time_after(s->next_expiry, at))
		s->next_expiry = at;
}

void gc_sink_label(struct gc_sink *s, struct str key, struct str value)
{
	struct gc_label label;

	if (s->at == GC_NIL && !s->name_targets)
		return;
	label = gc_label_parse(s->id.kind, key, value);
	label.id.ns = s->id.ns;
	if (s->name_targets) {
		if (label.type == GC_LABEL_REF || label.type == GC_LABEL_BREF)
			tell_name(s, &label.id);
		return;
	}
	switch (label.type) {
	case GC_LABEL_NONE:
		break;
	case GC_LABEL_ROOT:
		s->root = GC_ROOT_LABEL;
		break;
	case GC_LABEL_REF:
		link_nodes(s, s->at, intern(s, &label.id), GC_LABEL);
		break;
	case GC_LABEL_BREF:
		link_nodes(s, intern(s, &label.id), s->at, GC_BACK);
		break;
	case GC_LABEL_EXPIRE:
		gc_sink_expires(s, label.at);
		break;
	case GC_LABEL_IS_FLAT:
		s->flat = true;
		break;
	}
}
