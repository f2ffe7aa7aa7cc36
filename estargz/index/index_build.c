#include "estargz/index/index_tree.h"

#include <inttypes.h>
#include <sys/random.h>

struct esgz_index_builder *esgz_index_builder_new(void)
{
	struct esgz_index_builder *b = xcalloc(1, sizeof(*b));

	/* Without entropy the hashes can be foreseen; that costs time against a hostile layer, nothing else. */
	if (getrandom(b->secret, sizeof(b->secret), GRND_NONBLOCK) < 0)
		b->secret[0] = b->secret[1] = (uintptr_t)b;
	vec_push(&b->nodes, (struct node){.record = NO_RECORD});
	vec_push(&b->attrs, (struct attr){.mode = 0755}); /* ATTR_IMPLIED */
	return b;
}

void esgz_index_builder_free(struct esgz_index_builder *b)
{
	if (!b)
		return;
	vec_fini(&b->nodes);
	vec_fini(&b->records);
	vec_fini(&b->attrs);
	vec_fini(&b->xattrs);
	vec_fini(&b->chunks);
	vec_fini(&b->parts);
	buf_fini(&b->names);
	buf_fini(&b->texts);
	buf_fini(&b->path);
	buf_fini(&b->last_dir);
	buf_fini(&b->late_link);
	vec_fini(&b->tables);
	free(b->attr_set.slots);
	free(b);
}

/* ---- hashing ---- */

/* Neither factor is known to who chooses the word: with a constant in its place a word of that value made it 0, and forgot
 * all that had gone in before. */
static uint64_t mix(const struct esgz_index_builder *b, uint64_t hash, uint64_t word)
{
	unsigned __int128 m = (unsigned __int128)(hash ^ b->secret[0]) * (word ^ b->secret[1]);

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t load64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

static uint64_t hash_bytes(const struct esgz_index_builder *b, uint64_t h, const void *p, size_t n)
{
	const char *at = p;
	uint64_t word = 0;

	h = mix(b, h, n);
	if (n >= 8) {
		const char *last = at + n - 8; /* once more what the words before it had of it */

		for (; at < last; at += 8)
			h = mix(b, h, load64(at));
		return mix(b, h, load64(last));
	}
	for (size_t i = 0; i < n; i++)
		word = word << 8 | (uint8_t)at[i];
	return mix(b, h, word);
}

static void set_put(struct id_set *s, struct id_slot slot)
{
	size_t at = slot.hash & (s->cap - 1);

	while (s->slots[at].id != 0)
		at = (at + 1) & (s->cap - 1);
	s->slots[at] = slot;
}

static void set_resize(struct id_set *s, size_t cap)
{
	struct id_set old = *s;

	s->cap = 256;
	while (s->cap < cap)
		s->cap *= 2;
	s->slots = xcalloc(s->cap, sizeof(*s->slots));
	for (size_t i = 0; i < old.cap; i++)
		if (old.slots[i].id != 0)
			set_put(s, old.slots[i]);
	free(old.slots);
}

/* Adds a number that is known to be absent. */
static void set_add(struct id_set *s, uint32_t hash, uint32_t id)
{
	if (s->cap < 2 * (s->n + 1))
		set_resize(s, 2 * s->cap);
	set_put(s, (struct id_slot){hash, id + 1});
	s->n++;
}

/* Walks the numbers with this hash: start with *at = hash; NO_RECORD at the end. */
static uint32_t set_next(const struct id_set *s, uint32_t hash, size_t *at)
{
	if (s->cap == 0)
		return NO_RECORD;
	for (*at &= s->cap - 1; s->slots[*at].id != 0; *at = (*at + 1) & (s->cap - 1))
		if (s->slots[*at].hash == hash)
			return s->slots[(*at)++].id - 1;
	return NO_RECORD;
}

/* ---- tree of names ---- */

#define TABLE_BITS_MIN 2

void index_tree_expect(struct esgz_index_builder *b, size_t entries)
{
	vec_reserve(&b->nodes, entries);
	vec_reserve(&b->records, entries);
	vec_reserve(&b->chunks, entries);
	vec_reserve(&b->tables, entries * 3);
	buf_reserve(&b->names, entries * 16);
	expect_use(b->nodes.p, b->nodes.cap * sizeof(*b->nodes.p));
	expect_use(b->records.p, b->records.cap * sizeof(*b->records.p));
	expect_use(b->chunks.p, b->chunks.cap * sizeof(*b->chunks.p));
	expect_use(b->tables.p, b->tables.cap * sizeof(*b->tables.p));
	expect_use(b->names.p, b->names.cap);
}

static uint32_t name_hash(const struct esgz_index_builder *b, struct str name)
{
	return (uint32_t)hash_bytes(b, 0, name.p, name.n);
}

/* Each directory has a table of its own: what is added to one directory tends to come at once, and finds it in the cache. */
static void table_put(struct id_slot *slots, uint32_t mask, struct id_slot slot)
{
	uint32_t at = slot.hash & mask;

	while (slots[at].id != 0)
		at = (at + 1) & mask;
	slots[at] = slot;
}

/* In slots. */
static uint32_t table_size(const struct node *n)
{
	return n->table_bits > 0 ? 1u << n->table_bits : 0;
}

/* A larger table; the one before stays unused, so that all of them take twice the room of the last ones at most. */
static void table_grow(struct esgz_index_builder *b, struct node *n)
{
	uint32_t old = n->table, old_size = table_size(n);

	n->table_bits = n->table_bits > 0 ? n->table_bits + 1 : TABLE_BITS_MIN;
	/* Slots: less than 16 an entry, so their number fits. */
	n->table = (uint32_t)b->tables.n;
	vec_reserve(&b->tables, b->tables.n + table_size(n));
	b->tables.n += table_size(n);
	memset(b->tables.p + n->table, 0, table_size(n) * sizeof(*b->tables.p));
	for (uint32_t i = 0; i < old_size; i++)
		if (b->tables.p[old + i].id != 0)
			table_put(b->tables.p + n->table, table_size(n) - 1, b->tables.p[old + i]);
}

/* Adds a child that is known to be absent. */
static void table_add(struct esgz_index_builder *b, uint32_t parent, uint32_t hash, uint32_t id)
{
	struct node *n = &b->nodes.p[parent];

	if ((uint64_t)(n->n_children + 1) * 4 > (uint64_t)table_size(n) * 3)
		table_grow(b, n);
	table_put(b->tables.p + n->table, table_size(n) - 1, (struct id_slot){hash, id + 1});
	n->n_children++;
}

static uint32_t node_lookup(const struct esgz_index_builder *b, uint32_t parent, struct str name, uint32_t hash)
{
	const struct node *dir = &b->nodes.p[parent];
	uint32_t mask = table_size(dir) - 1;
	const struct id_slot *slots;

	if (dir->table_bits == 0)
		return NO_RECORD;
	slots = b->tables.p + dir->table;
	for (uint32_t at = hash & mask; slots[at].id != 0; at = (at + 1) & mask)
		if (slots[at].hash == hash && str_eq(node_name(b, &b->nodes.p[slots[at].id - 1]), name))
			return slots[at].id - 1;
	return NO_RECORD;
}

uint32_t index_tree_find(const struct esgz_index_builder *b, uint32_t parent, struct str name)
{
	return node_lookup(b, parent, name, name_hash(b, name));
}

static int node_get(struct esgz_index_builder *b, uint32_t parent, struct str name, uint32_t *out, struct err *err)
{
	uint32_t hash = name_hash(b, name);

	*out = node_lookup(b, parent, name, hash);
	if (*out != NO_RECORD)
		return 0;
	if (b->nodes.n >= ESGZ_ENTRIES_MAX)
		return err_set(err, ERR_INVALID, "layer with more than %u entries", ESGZ_ENTRIES_MAX);
	*out = (uint32_t)b->nodes.n;
	/* Names: at most ESGZ_ENTRIES_MAX * ESGZ_NAME_MAX bytes, well below 2^32. */
	vec_push(&b->nodes, (struct node){.parent = parent,
	                                  .name_off = (uint32_t)b->names.n,
	                                  .name_n = (uint8_t)name.n,
	                                  .record = NO_RECORD});
	buf_addstr(&b->names, name);
	table_add(b, parent, hash, *out);
	return 0;
}

#define WH STR(".wh.")

/* How far the last directory is also the way to this one: its node, and in *done the bytes of `dir` that lead there. */
static uint32_t common_dir(const struct esgz_index_builder *b, struct str dir, size_t *done)
{
	struct str last = buf_str(&b->last_dir);
	uint32_t node = b->last_dir_node;
	size_t same = 0, at = last.n;

	while (same < last.n && same < dir.n && last.p[same] == dir.p[same])
		same++;
	while (at > 0 && (at > same || (at < dir.n && dir.p[at] != '/'))) {
		size_t name_n = b->nodes.p[node].name_n;

		at -= at > name_n ? name_n + 1 : name_n;
		node = b->nodes.p[node].parent;
	}
	*done = at;
	return node;
}

/* Node of a directory; missing ones are made on the way. *hidden: a component is a `.wh.` name, so nothing in it counts.
 * Entries of one directory tend to follow each other, and those beside it: the last one is remembered. */
static int dir_node(struct esgz_index_builder *b, struct str dir, uint32_t *out, bool *hidden, struct err *err)
{
	struct str rest, more, name;
	size_t done;

	*hidden = false;
	*out = common_dir(b, dir, &done);
	if (done == dir.n && done == b->last_dir.n)
		return 0;
	more = rest = str_sub(dir, done > 0 ? done + 1 : 0, dir.n);
	while (rest.n > 0 && str_split(&rest, '/', &name))
		if (str_starts(name, WH)) {
			*hidden = true;
			return 0;
		}
	while (more.n > 0 && str_split(&more, '/', &name))
		TRY(node_get(b, *out, name, out, err));
	buf_clear(&b->last_dir);
	buf_addstr(&b->last_dir, dir);
	b->last_dir_node = *out;
	return 0;
}

/* Whether a path is a plain name in the directory of the entry before, as most are: then it needs no cleaning. */
static bool is_beside(const struct esgz_index_builder *b, struct str path, struct str *name)
{
	size_t dir_n = b->last_dir.n, at = dir_n > 0 ? dir_n + 1 : 0;

	if (path.n <= at || path.n > ESGZ_PATH_MAX || path.n - at > ESGZ_NAME_MAX)
		return false;
	if (dir_n > 0 && (path.p[dir_n] != '/' || memcmp(path.p, b->last_dir.p, dir_n) != 0))
		return false;
	*name = str_make(path.p + at, path.n - at);
	return name->p[0] != '.' && !memchr(name->p, '/', name->n) && !memchr(name->p, 0, name->n);
}

/* The directory and the name of any path, clean; in b->path. */
static int split_path(struct esgz_index_builder *b, struct str raw, struct str *dir, struct str *name, struct err *err)
{
	struct str path;
	ptrdiff_t slash;

	TRY(esgz_path_clean(raw, &b->path, err));
	path = buf_str(&b->path);
	slash = str_rfind(path, '/');
	*dir = str_sub(path, 0, slash < 0 ? 0 : (size_t)slash);
	*name = str_sub(path, (size_t)(slash + 1), path.n);
	return 0;
}

/* ---- records ---- */

static int add_text(struct esgz_index_builder *b, struct str s, uint32_t *off, struct err *err)
{
	if (b->texts.n + s.n > ESGZ_LAYER_TEXTS_MAX)
		return err_set(err, ERR_EXHAUSTED, "layer with more than %u bytes of link texts and xattrs",
		               ESGZ_LAYER_TEXTS_MAX);
	*off = (uint32_t)b->texts.n;
	buf_addstr(&b->texts, s);
	return 0;
}

static bool is_overlay_xattr(struct str name)
{
	return str_starts(name, STR("trusted.overlay.")) || str_starts(name, STR("user.overlay."));
}

static int check_xattr(const struct esgz_xattr *x, struct err *err)
{
	/* Linux: XATTR_NAME_MAX, XATTR_SIZE_MAX. */
	if (x->name.n == 0 || x->name.n > 255 || memchr(x->name.p, 0, x->name.n))
		return err_set(err, ERR_INVALID, "xattr with a name of %zu bytes", x->name.n);
	if (x->value.n > 65536)
		return err_set(err, ERR_INVALID, "xattr " STR_FMT " of %zu bytes", STR_ARG(x->name), x->value.n);
	return 0;
}

static bool attr_eq(const struct esgz_index_builder *b, const struct attr *a, const struct attr *want,
                    const struct esgz_xattr *xattrs, uint32_t n_xattrs)
{
	uint32_t j = 0;

	if (a->mode != want->mode || a->uid != want->uid || a->gid != want->gid || a->n_xattrs != want->n_xattrs)
		return false;
	for (uint32_t i = 0; i < n_xattrs; i++) {
		const struct xattr_ref *r = &b->xattrs.p[a->first_xattr + j];

		if (is_overlay_xattr(xattrs[i].name))
			continue;
		if (!str_eq(str_make(b->texts.p + r->name_off, r->name_n), xattrs[i].name) ||
		    !str_eq(str_make(b->texts.p + r->value_off, r->value_n), xattrs[i].value))
			return false;
		j++;
	}
	return true;
}

/* Number of the combination of mode, owner and xattrs; each is stored once. */
static int attr_get(struct esgz_index_builder *b, const struct esgz_entry *e, const struct esgz_xattr *xattrs,
                    uint32_t n_xattrs, uint32_t *out, struct err *err)
{
	struct attr a = {.mode = e->mode & 07777, .uid = e->uid, .gid = e->gid, .first_xattr = (uint32_t)b->xattrs.n};
	uint64_t hash = mix(b, a.mode, (uint64_t)a.uid << 32 | a.gid);
	size_t at;

	for (uint32_t i = 0; i < n_xattrs; i++) {
		if (is_overlay_xattr(xattrs[i].name))
			continue;
		TRY(check_xattr(&xattrs[i], err));
		hash = hash_bytes(b, hash, xattrs[i].name.p, xattrs[i].name.n);
		hash = hash_bytes(b, hash, xattrs[i].value.p, xattrs[i].value.n);
		a.n_xattrs++;
	}
	if (b->attrs.n > 0 && attr_eq(b, &b->attrs.p[b->last_attr], &a, xattrs, n_xattrs)) {
		*out = b->last_attr;
		return 0;
	}
	at = (uint32_t)hash;
	while ((*out = set_next(&b->attr_set, (uint32_t)hash, &at)) != NO_RECORD)
		if (attr_eq(b, &b->attrs.p[*out], &a, xattrs, n_xattrs)) {
			b->last_attr = *out;
			return 0;
		}
	if (n_xattrs > ESGZ_LAYER_XATTRS_MAX - b->xattrs.n)
		return err_set(err, ERR_EXHAUSTED, "layer with more than %u xattrs", ESGZ_LAYER_XATTRS_MAX);
	for (uint32_t i = 0; i < n_xattrs; i++) {
		struct xattr_ref r = {.name_n = (uint32_t)xattrs[i].name.n, .value_n = (uint32_t)xattrs[i].value.n};

		if (is_overlay_xattr(xattrs[i].name))
			continue;
		TRY(add_text(b, xattrs[i].name, &r.name_off, err));
		TRY(add_text(b, xattrs[i].value, &r.value_off, err));
		vec_push(&b->xattrs, r);
	}
	*out = b->last_attr = (uint32_t)b->attrs.n;
	vec_push(&b->attrs, a);
	set_add(&b->attr_set, (uint32_t)hash, *out);
	return 0;
}

/* Compressed bytes to fetch for a chunk: as far as the caller knows it to reach, but no more than any sane encoder needs
 * for what has to be inflated. Behind a file may lie megabytes of headers before the next member begins. */
static uint32_t bound_blob_bytes(uint64_t inner_offset, uint64_t bytes, uint64_t blob_bytes)
{
	/* Fits: ESGZ_INNER_OFFSET_MAX, ESGZ_CHUNK_BYTES_MAX. */
	uint64_t plain = inner_offset + bytes, most = plain + plain / 8 + ESGZ_MEMBER_SLACK;

	return (uint32_t)(blob_bytes < most ? blob_bytes : most);
}

static bool is_hole(const struct chunk *c)
{
	return c->bytes == 0;
}

static int cmp_offset(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Index of the first of n ascending offsets that is larger; n if none is. */
static size_t first_above(const uint64_t *offsets, size_t n, uint64_t offset)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (offsets[mid] <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void index_tree_open_ended(struct esgz_index_builder *b)
{
	b->open_ended = true;
}

/* The chunk reaches no farther than `end`. */
static void set_end(struct chunk *c, uint64_t end)
{
	if (c->blob_bytes == 0)
		c->blob_bytes = bound_blob_bytes(c->inner_offset, c->bytes, end - c->blob_offset);
}

static bool is_in_blob_order(const struct esgz_index_builder *b)
{
	uint64_t at = 0;

	vec_each(&b->chunks, c) {
		if (is_hole(c))
			continue;
		if (c->blob_offset < at)
			return false;
		at = c->blob_offset;
	}
	return true;
}

static void end_ordered(struct esgz_index_builder *b, uint64_t data_end)
{
	uint64_t at = data_end, end = data_end; /* offset of the chunk behind, and the next larger one */

	for (size_t i = b->chunks.n; i-- > 0;) {
		struct chunk *c = &b->chunks.p[i];

		if (is_hole(c))
			continue;
		if (c->blob_offset < at)
			end = at;
		at = c->blob_offset;
		set_end(c, end);
	}
}

static void end_unordered(struct esgz_index_builder *b, uint64_t data_end)
{
	AUTO_FREE uint64_t *offsets = xmalloc(b->chunks.n * sizeof(*offsets));
	size_t n = 0, next;

	vec_each(&b->chunks, c)
		if (!is_hole(c))
			offsets[n++] = c->blob_offset;
	qsort(offsets, n, sizeof(*offsets), cmp_offset);
	vec_each(&b->chunks, c) {
		if (is_hole(c))
			continue;
		next = first_above(offsets, n, c->blob_offset);
		set_end(c, next < n ? offsets[next] : data_end);
	}
}

void index_tree_end_chunks(struct esgz_index_builder *b, uint64_t data_end)
{
	/* As a rule a TOC is in the order of the blob. */
	if (is_in_blob_order(b))
		end_ordered(b, data_end);
	else
		end_unordered(b, data_end);
}

void esgz_index_place(struct esgz_index_builder *b, void (*place)(void *arg, struct esgz_chunk_place *p), void *arg)
{
	vec_each(&b->chunks, c) {
		struct esgz_chunk_place p = {c->blob_offset, c->blob_bytes, c->inner_offset};

		if (is_hole(c))
			continue;
		place(arg, &p);
		c->blob_offset = p.blob_offset;
		c->blob_bytes = p.blob_bytes;
		c->inner_offset = p.inner_offset;
	}
}

void esgz_index_drop_chunks(struct esgz_index_builder *b)
{
	vec_each(&b->records, r)
		if (r->type == ESGZ_REG)
			r->reg.first_chunk = r->reg.n_chunks = 0;
	vec_clear(&b->chunks);
	vec_clear(&b->parts);
}

/* Of a chunk that check_chunks has passed. */
static void keep_chunk(struct esgz_index_builder *b, const struct esgz_chunk *c, bool only)
{
	struct chunk kept = {.part = (uint32_t)b->parts.n};

	if (!c->hole) {
		kept.blob_offset = c->blob_offset;
		kept.blob_bytes = bound_blob_bytes(c->inner_offset, c->bytes, c->blob_bytes);
		kept.inner_offset = (uint32_t)c->inner_offset;
		kept.bytes = (uint32_t)c->bytes;
	}
	vec_push(&b->chunks, kept);
	if (!only)
		vec_push(&b->parts, (struct chunk_part){c->file_offset, c->bytes, c->digest});
}

/* The chunks must tile the file: in order, without gaps, each of a size that a reader can allocate. */
static int check_chunks(const struct esgz_index_builder *b, const struct esgz_entry *e, const struct esgz_chunk *chunks,
                        uint32_t n, struct err *err)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct esgz_chunk *c = &chunks[i];

		if (c->file_offset != at)
			return err_set(err, ERR_INVALID, "chunk %u is at %" PRIu64 ", not at %" PRIu64, i,
			               c->file_offset, at);
		if (c->bytes == 0 || c->bytes > e->size - at || (!c->hole && c->bytes > ESGZ_CHUNK_BYTES_MAX))
			return err_set(err, ERR_INVALID, "chunk %u has %" PRIu64 " bytes of the file's %" PRIu64, i,
			               c->bytes, e->size);
		if (c->inner_offset > ESGZ_INNER_OFFSET_MAX)
			return err_set(err, ERR_INVALID, "chunk %u lies %" PRIu64 " bytes deep in its member", i,
			               c->inner_offset);
		if ((c->blob_bytes == 0 && !b->open_ended && !c->hole) ||
		    c->blob_offset + c->blob_bytes < c->blob_bytes)
			return err_set(err, ERR_INVALID, "chunk %u has no place in the blob", i);
		at += c->bytes;
	}
	if (n > 0 && at != e->size)
		return err_set(err, ERR_INVALID, "%u chunks hold %" PRIu64 " of %" PRIu64 " bytes", n, at, e->size);
	if (n == 1 && !digest_eq(&chunks[0].digest, &e->content))
		return err_set(err, ERR_INVALID, "its only chunk has another digest than the file");
	return 0;
}

static int fill_reg(struct esgz_index_builder *b, const struct esgz_entry *e, const struct esgz_chunk *chunks,
                    uint32_t n_chunks, struct record *r, struct err *err)
{
	r->reg.size = e->size;
	r->reg.content = e->content;
	r->reg.first_chunk = (uint32_t)b->chunks.n;
	r->reg.n_chunks = n_chunks;
	if (e->size > INT64_MAX)
		return err_set(err, ERR_INVALID, "file of %" PRIu64 " bytes", e->size);
	if (e->size == 0) {
		if (!digest_is_zero(&e->content) && !digest_eq(&e->content, &DIGEST_EMPTY))
			return err_set(err, ERR_INVALID, "an empty file with another digest than that of nothing");
		r->reg.content = DIGEST_EMPTY;
	}
	if (n_chunks > ESGZ_CHUNKS_MAX - b->chunks.n)
		return err_set(err, ERR_INVALID, "layer with more than %u chunks", ESGZ_CHUNKS_MAX);
	TRY(check_chunks(b, e, chunks, n_chunks, err));
	for (uint32_t i = 0; i < n_chunks; i++)
		keep_chunk(b, &chunks[i], n_chunks == 1);
	return 0;
}

static int fill_record(struct esgz_index_builder *b, const struct esgz_entry *e, const struct esgz_chunk *chunks,
                       uint32_t n_chunks, struct record *r, struct err *err)
{
	if (n_chunks > 0 && e->type != ESGZ_REG)
		return err_set(err, ERR_INVALID, "only regular files have chunks");
	switch (e->type) {
	case ESGZ_DIR:
	case ESGZ_FIFO:
		return 0;
	case ESGZ_REG:
		return fill_reg(b, e, chunks, n_chunks, r, err);
	case ESGZ_SYMLINK:
		if (e->link.n == 0 || e->link.n >= ESGZ_PATH_MAX || memchr(e->link.p, 0, e->link.n))
			return err_set(err, ERR_INVALID, "symbolic link with a target of %zu bytes", e->link.n);
		r->link.n = (uint32_t)e->link.n;
		return add_text(b, e->link, &r->link.off, err);
	case ESGZ_HARDLINK:
		TRY_WRAP(esgz_path_clean(e->link, &b->path, err), err, "target of hard link");
		r->link.n = (uint32_t)b->path.n;
		return add_text(b, buf_str(&b->path), &r->link.off, err);
	case ESGZ_CHAR:
	case ESGZ_BLOCK:
		r->dev.major = e->dev_major;
		r->dev.minor = e->dev_minor;
		return 0;
	default:
		return err_set(err, ERR_INVALID, "entry of unknown type %d", (int)e->type);
	}
}

/* `.wh.` names: what they ask for is noted at their nodes. */
static int add_whiteout(struct esgz_index_builder *b, uint32_t dir, struct str name, const char **dropped,
                        struct err *err)
{
	uint32_t node;

	if (str_eq(name, STR(".wh..wh..opq"))) {
		b->nodes.p[dir].flags |= NODE_OPAQUE;
		return 0;
	}
	if (str_starts(name, STR(".wh..wh."))) {
		*dropped = "bookkeeping of aufs";
		return 0;
	}
	str_skip(&name, WH);
	if (name.n == 0 || str_eq(name, STR(".")) || str_eq(name, STR("..")))
		return err_set(err, ERR_INVALID, "whiteout of no name");
	TRY(node_get(b, dir, name, &node, err));
	b->nodes.p[node].flags |= NODE_WHITEOUT;
	return 0;
}

static int add_entry(struct esgz_index_builder *b, const struct esgz_entry *e, const struct esgz_xattr *xattrs,
                     uint32_t n_xattrs, const struct esgz_chunk *chunks, uint32_t n_chunks, const char **dropped,
                     struct err *err)
{
	struct record r = {
	    .type = (uint8_t)e->type, .mtime_s = e->mtime_s, .mtime_ns = e->mtime_ns, .added = b->n_added++};
	uint32_t node = NODE_ROOT, dir = b->last_dir_node;
	struct str dir_path, name;
	bool beside = is_beside(b, e->path, &name), hidden = false;

	if (!beside)
		TRY(split_path(b, e->path, &dir_path, &name, err));
	if (e->type == ESGZ_CHAR && e->dev_major == 0 && e->dev_minor == 0) {
		*dropped = "character device 0:0, which overlayfs takes for a whiteout";
		return 0;
	}
	if (!beside)
		TRY(dir_node(b, dir_path, &dir, &hidden, err));
	if (hidden) {
		*dropped = "below a whiteout";
		return 0;
	}
	if (str_starts(name, WH))
		return add_whiteout(b, dir, name, dropped, err);
	if (name.n == 0 && e->type != ESGZ_DIR)
		return err_set(err, ERR_INVALID, "the root is not a directory");
	if (name.n > 0)
		TRY(node_get(b, dir, name, &node, err));
	if (e->mtime_ns >= 1000000000)
		return err_set(err, ERR_INVALID, "time with %u nanoseconds", e->mtime_ns);
	TRY(fill_record(b, e, chunks, n_chunks, &r, err));
	TRY(attr_get(b, e, xattrs, n_xattrs, &r.attr, err));
	b->any_nsec |= r.mtime_ns != 0;
	/* A second entry of one path replaces the first, in its place. */
	if (b->nodes.p[node].record != NO_RECORD) {
		b->records.p[b->nodes.p[node].record] = r;
		return 0;
	}
	b->nodes.p[node].record = (uint32_t)b->records.n;
	vec_push(&b->records, r);
	return 0;
}

struct str esgz_index_late_link(const struct esgz_index_builder *b)
{
	return buf_str(&b->late_link);
}

int esgz_index_add(struct esgz_index_builder *b, const struct esgz_entry *e, const struct esgz_xattr *xattrs,
                   uint32_t n_xattrs, const struct esgz_chunk *chunks, uint32_t n_chunks, const char **dropped,
                   struct err *err)
{
	const char *ignored;

	if (!dropped)
		dropped = &ignored;
	*dropped = NULL;
	TRY_WRAP(add_entry(b, e, xattrs, n_xattrs, chunks, n_chunks, dropped, err), err, STR_FMT, STR_ARG(e->path));
	return 0;
}
