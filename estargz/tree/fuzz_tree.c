/*
 * Input: layers, as a list of entries of a few bytes each, so that the fuzzer finds its way through the rules of the
 * merge: byte 0 is the type (7: a new layer begins), byte 1 chooses one or two components of the path, byte 2 the
 * third and a `.wh.`, byte 3 size or target. What comes out must be an image that reads back completely.
 */
#include "estargz/erofs/erofs.h"

#include "base/vec.h"

#include <stdlib.h>

#define LAYERS_MAX 8
#define ENTRIES_MAX 200

static const char *const NAMES[] = {"a", "b", "ab", "00", "-", "x", "a.", "\xc3\xa9"};

struct built {
	VEC(struct buf) bytes;
	VEC(struct esgz_index *) indexes;
	struct esgz_tree *tree;
	struct buf image;
	struct esgz_erofs *fs;
};

static void built_fini(struct built *b)
{
	esgz_erofs_close(b->fs);
	esgz_tree_free(b->tree);
	vec_each(&b->indexes, ix)
		esgz_index_free(*ix);
	vec_each(&b->bytes, it)
		buf_fini(it);
	vec_fini(&b->indexes);
	vec_fini(&b->bytes);
	buf_fini(&b->image);
}
DEFINE_AUTO_FINI(built);

static void put_path(struct buf *out, const uint8_t *p)
{
	buf_clear(out);
	buf_adds(out, NAMES[p[0] & 7]);
	if (p[0] & 0x40)
		buf_addf(out, "/%s", NAMES[p[0] >> 3 & 7]);
	if (p[1] & 0x10)
		buf_addf(out, "/%s%s", p[1] & 0x20 ? ".wh." : "", p[1] & 0x40 ? ".wh..opq" : NAMES[p[1] & 7]);
}

static void add(struct esgz_index_builder *b, const uint8_t *p)
{
	AUTO(buf) struct buf path = BUF_INIT;
	AUTO(buf) struct buf link = BUF_INIT;
	struct esgz_entry e = {.type = 1 + p[0] % 7, .mode = p[3], .mtime_s = p[3], .dev_major = 1};
	const uint8_t target[2] = {p[3], p[2]};
	struct esgz_xattr x = {STR("user.x"), str_make(p, p[0] >> 6)};
	struct err err = ERR_INIT;

	put_path(&path, p + 1);
	put_path(&link, target);
	e.path = buf_str(&path);
	e.link = buf_str(&link);
	e.size = e.type == ESGZ_REG ? (uint64_t)(p[3] & 15) << (p[3] >> 3) : 0;
	memset(&e.content, e.size ? p[3] : 0, sizeof(e.content));
	esgz_index_add(b, &e, &x, p[0] >> 6 ? 1 : 0, NULL, 0, NULL, &err);
}

static int finish(struct built *all, struct esgz_index_builder *b)
{
	struct esgz_index_info info = {.trust = ESGZ_TRUST_DIFFID, .blob_bytes = 1};
	struct buf *bytes = vec_add(&all->bytes);
	struct esgz_index *ix;
	struct err err = ERR_INIT;

	if (esgz_index_finish(b, &info, bytes, &err) < 0)
		return -1;
	if (esgz_index_open(buf_str(bytes), &ix, &err) < 0)
		abort();
	vec_push(&all->indexes, ix);
	return 0;
}

/* Every node of the tree is found in the image, with its type. */
static void check(const struct built *all)
{
	const struct esgz_node *nodes = all->tree->nodes;
	AUTO_FREE uint64_t *nids = xcalloc(all->tree->n_nodes, sizeof(*nids));
	struct err err = ERR_INIT;

	for (uint32_t i = 0; i < all->tree->n_nodes; i++) {
		struct esgz_erofs_stat st;

		if (i > 0 && esgz_erofs_lookup(all->fs, nids[nodes[i].parent], nodes[i].name, &nids[i], &err) < 0)
			abort();
		if (esgz_erofs_stat(all->fs, nids[i], &st, &err) < 0 ||
		    ((st.mode & 0170000) == 0040000) != nodes[i].is_dir)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(built) struct built all = {0};
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	struct err err = ERR_INIT;

	for (size_t at = 0; at + 4 <= n && at < 4 * ENTRIES_MAX; at += 4) {
		if (data[at] % 8 != 7) {
			add(b, data + at);
		} else if (all.indexes.n < LAYERS_MAX) {
			if (finish(&all, b) < 0)
				return 0;
			esgz_index_builder_free(STEAL(b));
			b = esgz_index_builder_new();
		}
	}
	if (finish(&all, b) < 0)
		return 0;
	if (esgz_tree_build((const struct esgz_index *const *)all.indexes.p, (unsigned)all.indexes.n, &all.tree, &err) <
	    0)
		return 0;
	if (esgz_erofs_write(all.tree, NULL, NULL, &all.image, &err) < 0)
		return 0;
	if (esgz_erofs_open(buf_str(&all.image), &all.fs, &err) < 0)
		abort();
	check(&all);
	return 0;
}
