#include "estargz/index/index_format.h"
#include "estargz/index/index_tree.h"

#include <inttypes.h>
#include <stdlib.h>

/* What laying out needs to know about a node. */
struct planned {
	uint32_t entry;  /* its number in the file */
	uint32_t target; /* hard link: node of the file that is meant; NO_RECORD: not looked up yet */
	uint16_t path_n;
};

struct plan {
	struct esgz_index_builder *b;
	const struct esgz_index_info *info;
	uint32_t *order;       /* node of each entry, in the order of the file */
	struct planned *nodes; /* by node number */
	uint32_t counts[S_N];
	uint32_t n_single, n_multi;
	bool any_outside;    /* a chunk lies outside of the blob, be it of an entry that another replaced */
	uint64_t path_bytes; /* of all paths written out */
	uint64_t content_bytes;
};

static void plan_fini(struct plan *p)
{
	free(p->order);
	free(p->nodes);
}
DEFINE_AUTO_FINI(plan);

static const struct record *node_record(const struct plan *p, uint32_t i)
{
	uint32_t r = p->b->nodes.p[i].record;

	return r == NO_RECORD ? NULL : &p->b->records.p[r];
}

static enum esgz_type node_type(const struct plan *p, uint32_t i)
{
	const struct node *n = &p->b->nodes.p[i];

	if (n->record != NO_RECORD)
		return (enum esgz_type)p->b->records.p[n->record].type;
	return (n->flags & NODE_WHITEOUT) && !(n->flags & NODE_OPAQUE) && n->n_children == 0 ? ESGZ_WHITEOUT : ESGZ_DIR;
}

/* Entries come in another order than their records lie in memory: what those a few places on need is fetched while this one
 * is worked at. The order of fetching is that of pointing, each some entries before the next. */
static void fetch_ahead(const struct plan *p, size_t at)
{
	const struct esgz_index_builder *b = p->b;
	const struct node *n;

	if (at + 48 >= b->nodes.n)
		return;
	__builtin_prefetch(&b->nodes.p[p->order[at + 48]]);
	n = &b->nodes.p[p->order[at + 32]];
	if (n->record != NO_RECORD) {
		const char *r = (const char *)&b->records.p[n->record];

		__builtin_prefetch(r);
		__builtin_prefetch(r + 64);
	}
	n = &b->nodes.p[p->order[at + 16]];
	if (n->record != NO_RECORD && b->records.p[n->record].type == ESGZ_REG) {
		const char *c = (const char *)&b->chunks.p[b->records.p[n->record].reg.first_chunk];

		__builtin_prefetch(c);
		__builtin_prefetch(c + sizeof(struct chunk) - 1);
	}
}

/* Writes the path of node i, path_n bytes. */
static void put_path(const struct plan *p, uint32_t i, char *dst)
{
	char *end = dst + p->nodes[i].path_n;

	while (i != NODE_ROOT) {
		const struct node *n = &p->b->nodes.p[i];

		end -= n->name_n;
		memcpy(end, p->b->names.p + n->name_off, n->name_n);
		i = n->parent;
		if (i != NODE_ROOT)
			*--end = '/';
	}
}

/* Sets an error about node i. */
static int node_err(const struct plan *p, uint32_t i, struct err *err, const char *what)
{
	AUTO_FREE char *path = xcalloc(1, (size_t)p->nodes[i].path_n + 1);

	put_path(p, i, path);
	return err_set(err, ERR_INVALID, "%s: %s", path, what);
}

/* ---- order ---- */

struct sort_key {
	uint64_t prefix; /* first bytes of the name, as a big-endian number */
	uint32_t node;
};

static int cmp_key(const void *a, const void *b, void *builder)
{
	const struct sort_key *x = a, *y = b;
	const struct esgz_index_builder *from = builder;

	if (x->prefix != y->prefix)
		return x->prefix < y->prefix ? -1 : 1;
	return str_cmp(node_name(from, &from->nodes.p[x->node]), node_name(from, &from->nodes.p[y->node]));
}

#define FEW_KEYS 24

static void sort_keys(struct sort_key *keys, uint32_t n, struct esgz_index_builder *b)
{
	uint32_t sorted = 1;

	/* As a rule a layer has them in this order. */
	while (sorted < n && cmp_key(&keys[sorted - 1], &keys[sorted], b) < 0)
		sorted++;
	if (sorted < n && n > FEW_KEYS) {
		qsort_r(keys, n, sizeof(*keys), cmp_key, b);
		return;
	}
	for (uint32_t i = sorted; i < n; i++) {
		struct sort_key key = keys[i];
		uint32_t at = i;

		for (; at > 0 && cmp_key(&key, &keys[at - 1], b) < 0; at--)
			keys[at] = keys[at - 1];
		keys[at] = key;
	}
}

static uint64_t name_prefix(struct str name)
{
	uint8_t first[8] = {0};
	uint64_t v;

	memcpy(first, name.p, name.n < 8 ? name.n : 8);
	memcpy(&v, first, 8);
	return be64toh(v);
}

/* The nodes by their parents: the children of i end at ends[i] in `children`. */
static void gather_children(const struct esgz_index_builder *b, uint32_t *children, uint32_t *ends)
{
	uint32_t at = 0;

	for (size_t i = 0; i < b->nodes.n; i++) {
		ends[i] = at;
		at += b->nodes.p[i].n_children;
	}
	for (uint32_t i = 1; i < b->nodes.n; i++)
		children[ends[b->nodes.p[i].parent]++] = i;
}

/* Sorts the n children of a node by name. */
static void sort_children(struct esgz_index_builder *b, uint32_t *children, uint32_t n, struct sort_key *keys)
{
	for (uint32_t c = 0; c < n; c++)
		keys[c] = (struct sort_key){name_prefix(node_name(b, &b->nodes.p[children[c]])), children[c]};
	sort_keys(keys, n, b);
	for (uint32_t c = 0; c < n; c++)
		children[c] = keys[c].node;
}

static void plan_node(struct plan *p, uint32_t i, uint32_t entry)
{
	const struct node *node = &p->b->nodes.p[i];
	uint32_t before = node->parent == NODE_ROOT ? 0 : p->nodes[node->parent].path_n + 1u;

	p->nodes[i] = (struct planned){.entry = entry, .target = NO_RECORD};
	if (i != NODE_ROOT)
		p->nodes[i].path_n = (uint16_t)(before + node->name_n);
	p->order[entry] = i;
}

/* Depth first, children by name: that is path order with '/' below every other byte. */
static void plan_order(struct plan *p)
{
	const struct esgz_index_builder *b = p->b;
	uint32_t n = (uint32_t)b->nodes.n, depth = 1;
	AUTO_FREE uint32_t *memory = xmalloc((size_t)3 * n * sizeof(*memory));
	AUTO_FREE struct sort_key *keys = xmalloc(n * sizeof(*keys));
	uint32_t *children = memory, *ends = memory + n, *stack = memory + 2 * (size_t)n;

	p->order = xmalloc(n * sizeof(*p->order));
	p->nodes = xmalloc(n * sizeof(*p->nodes));
	gather_children(b, children, ends);
	stack[0] = NODE_ROOT;
	for (uint32_t entry = 0; entry < n; entry++) {
		uint32_t i = stack[--depth], n_children = b->nodes.p[i].n_children;
		uint32_t *own = children + ends[i] - n_children;

		plan_node(p, i, entry);
		sort_children(p->b, own, n_children, keys);
		for (uint32_t c = n_children; c > 0; c--)
			stack[depth++] = own[c - 1];
	}
}

/* ---- links and checks ---- */

/* Node of a cleaned path, or NO_RECORD. */
static uint32_t find_path(const struct esgz_index_builder *b, struct str path)
{
	uint32_t i = NODE_ROOT;
	struct str name;

	if (path.n == 0)
		return i;
	while (i != NO_RECORD && str_split(&path, '/', &name))
		i = index_tree_find(b, i, name);
	return i;
}

/* Entries of one name replace each other, and so the file at node `to` may not be the one that the link was made to. */
static void note_order(struct plan *p, uint32_t link, uint32_t to)
{
	struct buf *path = &p->b->late_link;

	if (path->n == 0 && node_record(p, to)->added > node_record(p, link)->added) {
		put_path(p, link, buf_reserve(path, p->nodes[link].path_n));
		path->n = p->nodes[link].path_n;
	}
}

/* Follows the hard link at node i to its end, and lets all links on the way point there. */
static int resolve_link(struct plan *p, uint32_t i, struct err *err)
{
	const struct esgz_index_builder *b = p->b;
	uint32_t end = i, steps = 0;

	while (node_type(p, end) == ESGZ_HARDLINK) {
		const struct record *r = node_record(p, end);
		uint32_t next = p->nodes[end].target;

		if (next == NO_RECORD)
			next = find_path(b, str_make(b->texts.p + r->link.off, r->link.n));
		if (next == NO_RECORD || node_type(p, next) == ESGZ_WHITEOUT)
			return node_err(p, i, err, "hard link to a file that the layer does not have");
		if (node_type(p, next) == ESGZ_DIR)
			return node_err(p, i, err, "hard link to a directory");
		if (p->nodes[end].target == NO_RECORD)
			note_order(p, end, next);
		if (++steps > b->nodes.n)
			return node_err(p, i, err, "hard link that leads back to itself");
		p->nodes[end].target = next;
		end = next;
	}
	while (i != end) {
		uint32_t next = p->nodes[i].target;

		p->nodes[i].target = end;
		i = next;
	}
	return 0;
}

static bool is_outside(const struct plan *p, const struct chunk *c)
{
	return c->blob_offset > p->info->blob_bytes || c->blob_bytes > p->info->blob_bytes - c->blob_offset;
}

static int plan_file(struct plan *p, uint32_t i, const struct record *r, struct err *err)
{
	const struct chunk *c = p->b->chunks.p + r->reg.first_chunk;

	if (r->reg.size > 0 && r->reg.n_chunks == 0 && p->info->trust == ESGZ_TRUST_TOC)
		return node_err(p, i, err, "file without chunks");
	for (uint32_t k = 0; p->any_outside && k < r->reg.n_chunks; k++)
		if (is_outside(p, &c[k]))
			return node_err(p, i, err, "a chunk lies outside of the blob");
	if (p->content_bytes + r->reg.size > INT64_MAX)
		return node_err(p, i, err, "the files of the layer are larger than any disk");
	p->content_bytes += r->reg.size;
	p->counts[S_FILES]++;
	if (r->reg.n_chunks == 1) {
		p->n_single++;
	} else if (r->reg.n_chunks > 1) {
		p->n_multi++;
		p->counts[S_CHUNKS] += r->reg.n_chunks;
	}
	return 0;
}

/* Counts what there is of each kind, and refuses what cannot be. */
static int plan_count(struct plan *p, struct err *err)
{
	const struct esgz_index_builder *b = p->b;

	/* In the order of memory, which is not that of paths. */
	vec_each(&b->chunks, c)
		p->any_outside |= is_outside(p, c);
	for (uint32_t at = 0; at < b->nodes.n; at++) {
		uint32_t i = p->order[at];
		const struct node *n = &b->nodes.p[i];
		enum esgz_type type = node_type(p, i);

		fetch_ahead(p, at);
		if (type != ESGZ_DIR && (n->n_children > 0 || (n->flags & NODE_OPAQUE)))
			return node_err(p, i, err, "has entries below it and is not a directory");
		p->path_bytes += p->nodes[i].path_n;
		if (type == ESGZ_REG)
			TRY(plan_file(p, i, node_record(p, i), err));
		else if (type == ESGZ_HARDLINK)
			TRY(resolve_link(p, i, err));
		else if (type == ESGZ_SYMLINK || type == ESGZ_CHAR || type == ESGZ_BLOCK)
			p->counts[S_LINKS]++;
	}
	if (p->info->prefetch_end > p->info->blob_bytes && p->info->prefetch_end != ESGZ_NO_PREFETCH)
		return err_set(err, ERR_INVALID, "prefetched up to %" PRIu64 " of %" PRIu64 " bytes",
		               p->info->prefetch_end, p->info->blob_bytes);
	if (p->path_bytes > index_paths_max((uint32_t)b->nodes.n) || b->names.n + b->texts.n > UINT32_MAX)
		return err_set(err, ERR_INVALID, "layer with %" PRIu64 " bytes of paths", p->path_bytes);
	p->counts[S_ENTRIES] = (uint32_t)b->nodes.n;
	p->counts[S_NSEC] = b->any_nsec ? (uint32_t)b->nodes.n : 0;
	p->counts[S_ATTRS] = (uint32_t)b->attrs.n;
	p->counts[S_XATTRS] = (uint32_t)b->xattrs.n;
	p->counts[S_SINGLES] = p->n_single;
	p->counts[S_MULTIS] = p->n_multi;
	p->counts[S_STRINGS] = (uint32_t)(b->names.n + b->texts.n);
	return 0;
}

/* ---- writing ---- */

/* Where the next record of each section goes. */
struct out {
	uint8_t *at[S_N];
	uint32_t file[3]; /* next number of a file with one, several, no chunks */
	uint32_t link, chunk, entry;
	uint8_t *entries, *files;
	uint32_t texts_off; /* in the strings: behind the names */
};

static void put_chunk_place(uint8_t *dst, const struct chunk *c)
{
	put_le64(dst, c->bytes > 0 ? c->blob_offset : INDEX_HOLE);
	put_le32(dst + 8, c->blob_bytes);
	put_le32(dst + 12, c->inner_offset);
}

/* But for its claim key. */
static void put_single(const struct plan *p, struct out *o, const struct record *r)
{
	put_chunk_place(o->at[S_SINGLES], &p->b->chunks.p[r->reg.first_chunk]);
	o->at[S_SINGLES] += SINGLE_BYTES;
}

/* But for its claim key, too. */
static void put_multi(const struct plan *p, struct out *o, const struct record *r)
{
	const struct chunk *c = p->b->chunks.p + r->reg.first_chunk;

	put_le32(o->at[S_MULTIS], o->chunk);
	put_le32(o->at[S_MULTIS] + 4, r->reg.n_chunks);
	o->at[S_MULTIS] += MULTI_BYTES;
	o->chunk += r->reg.n_chunks;
	for (uint32_t k = 0; k < r->reg.n_chunks; k++) {
		const struct chunk_part *part = &p->b->parts.p[c[k].part];
		uint8_t *dst = o->at[S_CHUNKS];

		put_chunk_place(dst, &c[k]);
		put_le64(dst + 16, part->file_offset);
		put_le64(dst + 24, part->bytes);
		memcpy(dst + 32, part->digest.b, DIGEST_BYTES);
		o->at[S_CHUNKS] += CHUNK_BYTES;
	}
}

/* Writes what belongs to a regular file outside of its entry; returns its number. */
static uint32_t put_file(const struct plan *p, struct out *o, const struct record *r)
{
	unsigned kind = r->reg.n_chunks == 1 ? 0 : r->reg.n_chunks > 1 ? 1 : 2;
	uint32_t number = o->file[kind]++;
	uint8_t *dst = o->files + (size_t)number * FILE_BYTES;

	put_le64(dst, r->reg.size);
	memcpy(dst + 8, r->reg.content.b, DIGEST_BYTES);
	if (kind == 0) {
		put_single(p, o, r);
	} else if (kind == 1) {
		put_multi(p, o, r);
	}
	return number;
}

static uint32_t put_link(struct out *o, uint32_t a, uint32_t b)
{
	put_le32(o->at[S_LINKS], a);
	put_le32(o->at[S_LINKS] + 4, b);
	o->at[S_LINKS] += LINK_BYTES;
	return o->link++;
}

static uint32_t put_data(const struct plan *p, struct out *o, uint32_t i)
{
	const struct record *r = node_record(p, i);

	switch (node_type(p, i)) {
	case ESGZ_REG:
		return put_file(p, o, r);
	case ESGZ_SYMLINK:
		return put_link(o, o->texts_off + r->link.off, r->link.n);
	case ESGZ_CHAR:
	case ESGZ_BLOCK:
		return put_link(o, r->dev.major, r->dev.minor);
	case ESGZ_HARDLINK:
		return p->nodes[p->nodes[i].target].entry;
	default:
		return 0;
	}
}

static void put_entry(const struct plan *p, struct out *o, uint32_t i)
{
	const struct node *n = &p->b->nodes.p[i];
	const struct record *r = node_record(p, i);
	enum esgz_type type = node_type(p, i);
	uint8_t *dst = o->entries + (size_t)o->entry * ENTRY_BYTES;
	unsigned flags = 0;

	if (type == ESGZ_DIR && !r)
		flags |= ESGZ_IMPLIED;
	if (n->flags & NODE_OPAQUE)
		flags |= ESGZ_OPAQUE;
	if ((n->flags & NODE_WHITEOUT) && type != ESGZ_WHITEOUT)
		flags |= ESGZ_REPLACE;
	put_le32(dst + E_NAME, n->name_off);
	dst[E_NAME_N] = (uint8_t)n->name_n;
	dst[E_TYPE] = (uint8_t)type;
	dst[E_FLAGS] = (uint8_t)flags;
	dst[E_FLAGS + 1] = 0;
	put_le32(dst + E_PARENT, p->nodes[n->parent].entry);
	put_le32(dst + E_ATTR, r ? r->attr : ATTR_IMPLIED);
	put_le32(dst + E_DATA, put_data(p, o, i));
	put_le64(dst + E_MTIME, r ? (uint64_t)r->mtime_s : 0);
	if (p->counts[S_NSEC] > 0) {
		put_le32(o->at[S_NSEC], r ? r->mtime_ns : 0);
		o->at[S_NSEC] += NSEC_BYTES;
	}
	o->entry++;
}

static void put_tables(const struct plan *p, struct out *o)
{
	struct esgz_index_builder *b = p->b;

	vec_each(&b->attrs, a) {
		const uint32_t words[] = {a->mode, a->uid, a->gid, a->first_xattr, a->n_xattrs};

		for (size_t w = 0; w < ARRAY_LEN(words); w++)
			put_le32(o->at[S_ATTRS] + 4 * w, words[w]);
		o->at[S_ATTRS] += ATTR_BYTES;
	}
	vec_each(&b->xattrs, x) {
		const uint32_t words[] = {o->texts_off + x->name_off, x->name_n, o->texts_off + x->value_off,
		                          x->value_n};

		for (size_t w = 0; w < ARRAY_LEN(words); w++)
			put_le32(o->at[S_XATTRS] + 4 * w, words[w]);
		o->at[S_XATTRS] += XATTR_BYTES;
	}
	if (b->names.n > 0)
		memcpy(o->at[S_STRINGS], b->names.p, b->names.n);
	if (b->texts.n > 0)
		memcpy(o->at[S_STRINGS] + o->texts_off, b->texts.p, b->texts.n);
}

static void put_header(const struct plan *p, uint8_t *h, uint64_t file_bytes)
{
	memcpy(h + H_MAGIC, INDEX_MAGIC, 8);
	put_le32(h + H_VERSION, INDEX_VERSION);
	put_le32(h + H_HEADER_BYTES, H_END);
	put_le64(h + H_FILE_BYTES, file_bytes);
	memcpy(h + H_BLOB, p->info->blob.b, DIGEST_BYTES);
	memcpy(h + H_TRUSTED, p->info->trusted.b, DIGEST_BYTES);
	put_le32(h + H_TRUST, p->info->trust);
	put_le32(h + H_COMPRESSION, p->info->compression);
	put_le64(h + H_BLOB_BYTES, p->info->blob_bytes);
	put_le64(h + H_CONTENT_BYTES, p->content_bytes);
	put_le32(h + H_N_SINGLE, p->n_single);
	put_le32(h + H_N_MULTI, p->n_multi);
	for (int s = 0; s < S_N; s++)
		put_le32(h + H_COUNTS + 4 * s, p->counts[s]);
	put_le64(h + H_PREFETCH_END, p->info->prefetch_end);
}

static void write_file(const struct plan *p, struct buf *out)
{
	uint64_t at[S_N], file_bytes;
	struct out o = {.texts_off = (uint32_t)p->b->names.n};
	uint8_t *file;

	index_layout(H_END, p->counts, UINT64_MAX, at, &file_bytes);
	file = (uint8_t *)buf_reserve(out, file_bytes);
	expect_use(file, file_bytes);
	out->n += file_bytes;
	out->p[out->n] = 0;
	for (int s = 0; s < S_N; s++)
		o.at[s] = file + at[s];
	o.entries = o.at[S_ENTRIES];
	o.files = o.at[S_FILES];
	o.file[1] = p->n_single;
	o.file[2] = p->n_single + p->n_multi;
	for (uint32_t i = 0; i < p->counts[S_ENTRIES]; i++) {
		fetch_ahead(p, i);
		put_entry(p, &o, p->order[i]);
	}
	put_tables(p, &o);
	put_header(p, file, file_bytes);
	index_put_claims(file);
	index_seal(file, file_bytes);
}

int esgz_index_finish(struct esgz_index_builder *b, const struct esgz_index_info *info, struct buf *out,
                      struct err *err)
{
	AUTO(plan) struct plan p = {.b = b, .info = info};

	buf_clear(&b->late_link);
	plan_order(&p);
	TRY(plan_count(&p, err));
	write_file(&p, out);
	return 0;
}
