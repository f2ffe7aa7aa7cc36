#include "estargz/tree/tree.h"

#include "base/vec.h"

/*
 * The entries of an index are the walk of a tree, parents first and siblings in order. Once it is known where the
 * entries below each one end, the children of a directory are found by hopping from end to end; merging a directory is
 * then a merge of sorted lists, one for each layer that still has a say in it. Directories are taken in the order in
 * which they were found, which makes the result breadth-first.
 */

#define NO_INODE UINT32_MAX

/* What the merge needs to know of one entry. */
struct rec {
	const char *name;
	uint32_t name_n;
	uint32_t end;    /* first entry that is not below this one */
	uint32_t target; /* hard link: the file; else the entry itself */
	uint32_t inode;  /* of files: given when the first of its names is met */
	uint8_t type, flags;
};

struct layer {
	const struct esgz_index *ix;
	struct rec *recs;
	uint32_t n;
};

/* A directory of one layer that shows through in a merged one. */
struct part {
	uint32_t layer, entry;
};

struct dir {
	uint32_t node;
	size_t first_part, n_parts; /* topmost layer first */
};

struct open_dir {
	uint32_t entry;
	struct str path;
};

/* The children of one part: the entries that are still to come. */
struct cursor {
	struct rec *recs;
	uint32_t layer, at, end;
};

struct merge {
	struct layer *layers;
	unsigned n_layers;
	VEC(struct open_dir) open;
	VEC(struct esgz_node) nodes;
	VEC(struct dir) dirs; /* found so far; those from `next_dir` on have no children yet */
	size_t next_dir;
	VEC(struct part) parts;
	VEC(struct cursor) cursors;
	VEC(struct part) hits; /* entries of one name, topmost layer first */
	uint32_t n_inodes;
};

static void merge_fini(struct merge *m)
{
	for (unsigned i = 0; i < m->n_layers; i++)
		free(m->layers[i].recs);
	free(m->layers);
	vec_fini(&m->open);
	vec_fini(&m->nodes);
	vec_fini(&m->dirs);
	vec_fini(&m->parts);
	vec_fini(&m->cursors);
	vec_fini(&m->hits);
}
DEFINE_AUTO_FINI(merge);

static struct str rec_name(const struct rec *r)
{
	return str_make(r->name, r->name_n);
}

/* If `path` lies directly or indirectly below `dir`, gives the rest of it. */
static bool path_below(struct str path, struct str dir, struct str *rest)
{
	if (dir.n == 0) {
		*rest = path;
		return path.n > 0;
	}
	if (path.n <= dir.n + 1 || path.p[dir.n] != '/' || memcmp(path.p, dir.p, dir.n) != 0)
		return false;
	*rest = str_make(path.p + dir.n + 1, path.n - dir.n - 1);
	return true;
}

static int check_links(const struct layer *l, struct err *err)
{
	for (uint32_t i = 0; i < l->n; i++) {
		uint32_t to = l->recs[i].target;

		if (to == i)
			continue;
		if (to >= l->n || l->recs[to].type == ESGZ_DIR || l->recs[to].type == ESGZ_HARDLINK ||
		    l->recs[to].type == ESGZ_WHITEOUT) {
			struct esgz_entry e;

			esgz_index_entry(l->ix, i, &e);
			return err_set(err, ERR_INVALID, "hard link " STR_FMT " does not lead to a file",
			               STR_ARG(e.path));
		}
	}
	return 0;
}

/* Fills l->recs: names, and where each subtree ends. m->open: the directories that the walk is in. */
static int layer_scan(struct merge *m, struct layer *l, const struct esgz_index *ix, struct err *err)
{
	l->ix = ix;
	l->n = esgz_index_get_info(ix)->n_entries;
	l->recs = xcalloc(l->n ? l->n : 1, sizeof(*l->recs));
	vec_clear(&m->open);
	for (uint32_t i = 0; i < l->n; i++) {
		struct str name = STR_NONE;
		struct esgz_entry e;

		esgz_index_entry(ix, i, &e);
		while (m->open.n > 0 && !path_below(e.path, vec_last(&m->open)->path, &name))
			l->recs[vec_pop(&m->open).entry].end = i;
		if (i == 0 ? e.type != ESGZ_DIR || e.path.n > 0 : m->open.n == 0 || memchr(name.p, '/', name.n) != NULL)
			return err_set(err, ERR_INVALID, STR_FMT " lies in no directory", STR_ARG(e.path));
		l->recs[i] = (struct rec){.name = name.p,
		                          .name_n = (uint32_t)name.n,
		                          .end = i + 1,
		                          .target = e.type == ESGZ_HARDLINK ? e.target : i,
		                          .inode = NO_INODE,
		                          .type = (uint8_t)e.type,
		                          .flags = (uint8_t)e.flags};
		if (e.type == ESGZ_DIR)
			vec_push(&m->open, (struct open_dir){i, e.path});
	}
	while (m->open.n > 0)
		l->recs[vec_pop(&m->open).entry].end = l->n;
	return check_links(l, err);
}

/* Adds the node of one name, whose entries in the layers are m->hits; whiteouts add none. */
static int merge_name(struct merge *m, uint32_t parent, struct str name, struct err *err)
{
	struct dir d = {.node = (uint32_t)m->nodes.n, .first_part = m->parts.n};
	struct esgz_node node = {.name = name, .parent = parent};
	bool children_hidden = false;

	vec_each(&m->hits, h) {
		const struct layer *l = &m->layers[h->layer];
		struct rec *r = &l->recs[h->entry];

		if (r->type != ESGZ_DIR) {
			/* Above everything it is the file; below a directory it is gone, and all below it too. */
			if (node.is_dir || r->type == ESGZ_WHITEOUT)
				break;
			node.ix = l->ix;
			node.entry = r->target;
			r = &l->recs[r->target];
			if (r->inode == NO_INODE)
				r->inode = m->n_inodes++;
			node.inode = r->inode;
			break;
		}
		node.is_dir = true;
		if (!children_hidden)
			vec_push(&m->parts, *h);
		if (!node.ix && !(r->flags & ESGZ_IMPLIED)) {
			node.ix = l->ix;
			node.entry = h->entry;
		}
		children_hidden |= (r->flags & ESGZ_OPAQUE) != 0;
		if ((r->flags & ESGZ_REPLACE) || (children_hidden && node.ix))
			break;
	}
	if (!node.is_dir && !node.ix)
		return 0;
	if (m->nodes.n >= ESGZ_TREE_NODES_MAX)
		return err_set(err, ERR_EXHAUSTED, "the image has more than %u names", ESGZ_TREE_NODES_MAX);
	if (node.is_dir) {
		node.inode = m->n_inodes++;
		d.n_parts = m->parts.n - d.first_part;
		vec_push(&m->dirs, d);
	}
	vec_push(&m->nodes, node);
	return 0;
}

/* Takes the entries with the least name off the cursors, into m->hits. */
static struct str next_name(struct merge *m)
{
	const struct rec *least = NULL;
	size_t taken = 0;

	vec_clear(&m->hits);
	vec_each(&m->cursors, c) {
		const struct rec *r = &c->recs[c->at];
		int cmp;

		if (c->at == c->end)
			continue;
		cmp = least ? str_cmp(rec_name(r), rec_name(least)) : -1;
		if (cmp > 0)
			continue;
		if (cmp < 0) {
			least = r;
			vec_clear(&m->hits);
		}
		vec_push(&m->hits, (struct part){c->layer, c->at});
	}
	if (!least)
		return STR_NONE;
	/* Hits are in the order of the cursors. */
	vec_each(&m->cursors, c) {
		if (taken < m->hits.n && m->hits.p[taken].layer == c->layer) {
			c->at = c->recs[c->at].end;
			taken++;
		}
	}
	return rec_name(least);
}

static int merge_dir(struct merge *m, struct dir d, struct err *err)
{
	uint32_t first = (uint32_t)m->nodes.n;
	struct str name;

	vec_clear(&m->cursors);
	for (size_t i = d.first_part; i < d.first_part + d.n_parts; i++) {
		const struct part *p = &m->parts.p[i];
		struct rec *recs = m->layers[p->layer].recs;

		if (p->entry + 1 < recs[p->entry].end)
			vec_push(&m->cursors, (struct cursor){recs, p->layer, p->entry + 1, recs[p->entry].end});
	}
	if (m->cursors.n == 1) { /* by far the most frequent: nothing to compare */
		struct cursor c = m->cursors.p[0];

		for (; c.at < c.end; c.at = c.recs[c.at].end) {
			vec_clear(&m->hits);
			vec_push(&m->hits, (struct part){c.layer, c.at});
			TRY(merge_name(m, d.node, rec_name(&c.recs[c.at]), err));
		}
	} else {
		while ((name = next_name(m)).n > 0)
			TRY(merge_name(m, d.node, name, err));
	}
	m->nodes.p[d.node].first_child = first;
	m->nodes.p[d.node].n_children = (uint32_t)m->nodes.n - first;
	return 0;
}

int esgz_tree_build(const struct esgz_index *const *layers, unsigned n_layers, struct esgz_tree **out, struct err *err)
{
	AUTO(merge)
	struct merge m = {.layers = xcalloc(n_layers ? n_layers : 1, sizeof(*m.layers)), .n_layers = n_layers};
	struct esgz_tree *t;

	for (unsigned i = 0; i < n_layers; i++)
		TRY_WRAP(layer_scan(&m, &m.layers[i], layers[i], err), err, "layer %u", i + 1);
	for (unsigned i = n_layers; i-- > 0;)
		if (m.layers[i].n > 0)
			vec_push(&m.hits, (struct part){i, 0});
	TRY(merge_name(&m, 0, STR_NONE, err));
	if (m.nodes.n == 0) { /* no layers at all */
		vec_push(&m.nodes, (struct esgz_node){.is_dir = true});
		vec_push(&m.dirs, (struct dir){0});
		m.n_inodes = 1;
	}
	while (m.next_dir < m.dirs.n)
		TRY(merge_dir(&m, m.dirs.p[m.next_dir++], err));

	t = xcalloc(1, sizeof(*t));
	t->n_nodes = (uint32_t)m.nodes.n;
	t->n_inodes = m.n_inodes;
	t->nodes = STEAL(m.nodes.p);
	*out = t;
	return 0;
}

void esgz_tree_free(struct esgz_tree *t)
{
	if (!t)
		return;
	free(t->nodes);
	free(t);
}
