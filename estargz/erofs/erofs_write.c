#include "estargz/erofs/erofs.h"

#include "estargz/erofs/erofs_xattrs.h"

#include <inttypes.h>
#include <sys/stat.h>

/*
 * Three passes over the inodes. `gather` takes attributes and xattrs from the layers; `place` gives each inode its
 * position, and large directories and long symlinks their blocks; `emit` fills the image, whose size is known by then.
 * Inodes lie in the order of the tree, so the children of a directory are neighbours.
 */

#define INODES_AT (EROFS_SUPER_AT + sizeof(struct erofs_super))
#define TAIL_MAX (EROFS_BLOCK / 2) /* a larger end gets a block of its own: keeping it in one would waste more */
#define LINK_MAX_BYTES 4095        /* what readlink(2) can give */
#define FILE_BYTES_MAX ((uint64_t)1 << 50)
#define IMAGE_BYTES_MAX ((uint64_t)4 << 30)
#define XATTR_USES_MAX (16u << 20) /* of all inodes: an index says many in few bytes */

#define PREFIX_TRUSTED 4
#define REDIRECT_NAME STR("overlay.redirect")
#define REDIRECT_BYTES 66 /* "/", 2 hex digits, "/", 62 hex digits */

struct inode {
	uint64_t at; /* position in the image */
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns, uid, gid, nlink, dev;
	uint32_t node;                  /* its first name in the tree */
	uint32_t object;                /* regular file with content: its key is objects.p[object] */
	uint32_t first_xattr, n_xattrs; /* in xattr_ids */
	uint32_t xattr_bytes;
	uint32_t tail;                  /* bytes behind inode and xattrs */
	uint32_t first_block, n_blocks; /* of data, counted from the image's first data block */
	uint16_t mode;
	uint8_t layout, chunk_bits;
	bool extended, has_object;
};

struct dent {
	struct str name;
	uint32_t inode;
};

struct writer {
	const struct esgz_tree *tree;
	esgz_published_fn published;
	void *published_arg;
	struct inode *inodes; /* those of the tree, then that of the whiteouts */
	uint32_t n_inodes;    /* with the whiteouts' */
	struct erofs_xattrs xattrs;
	uint32_t redirect_bit; /* in the name filter */
	uint32_t metacopy;     /* number of that xattr */
	VEC(uint32_t) xattr_ids;
	VEC(struct digest) objects;
	VEC(struct dent) dents; /* of the directory at hand */
	int64_t build_time_s;
	uint32_t build_time_ns;
	uint64_t shared_at, blocks_at, end; /* byte positions */
	uint32_t n_blocks;                  /* of data */
};

static void writer_fini(struct writer *w)
{
	free(w->inodes);
	erofs_xattrs_fini(&w->xattrs);
	vec_fini(&w->xattr_ids);
	vec_fini(&w->objects);
	vec_fini(&w->dents);
}
DEFINE_AUTO_FINI(writer);

static uint64_t round_up(uint64_t v, uint64_t unit)
{
	return (v + unit - 1) / unit * unit;
}

/* ---- gather ---- */

static void use_xattr(struct writer *w, struct inode *ino, uint8_t prefix, struct str rest, struct str value)
{
	vec_push(&w->xattr_ids, erofs_xattrs_add(&w->xattrs, prefix, rest, value));
	ino->n_xattrs++;
}

static int gather_xattrs(struct writer *w, struct inode *ino, const struct esgz_index *ix, const struct esgz_entry *e,
                         struct err *err)
{
	for (uint32_t j = e->first_xattr; j < e->first_xattr + e->n_xattrs; j++) {
		struct str name, value, rest;
		uint8_t prefix;

		esgz_index_xattr(ix, j, &name, &value);
		/* Namespaces that no file system of the kernel takes cannot be unpacked anywhere else either. Those
		 * of overlayfs an index does not hold; were one to, it could name any object. */
		if (!erofs_xattr_split(name, &prefix, &rest) || erofs_xattr_is_overlay(prefix, rest))
			continue;
		if (rest.n > UINT8_MAX || value.n > UINT16_MAX)
			return err_set(err, ERR_INVALID, "/" STR_FMT ": xattr " STR_FMT " is too large (%zu bytes)",
			               STR_ARG(e->path), STR_ARG(name), value.n);
		if (w->xattr_ids.n >= XATTR_USES_MAX)
			return err_set(err, ERR_EXHAUSTED, "files with more than %u xattrs in sum", XATTR_USES_MAX);
		use_xattr(w, ino, prefix, rest, value);
	}
	return 0;
}

static int gather_file(struct writer *w, struct inode *ino, const struct esgz_entry *e, struct err *err)
{
	if (e->size == 0)
		return 0;
	if (e->size > FILE_BYTES_MAX)
		return err_set(err, ERR_INVALID, "/" STR_FMT ": %" PRIu64 " bytes are no size of a file",
		               STR_ARG(e->path), e->size);
	ino->size = e->size;
	ino->layout = EROFS_LAYOUT_CHUNKS;
	while (ino->chunk_bits < EROFS_CHUNK_BITS_MAX && (e->size - 1) >> (EROFS_BLOCK_BITS + ino->chunk_bits))
		ino->chunk_bits++;
	ino->tail = (uint32_t)((e->size - 1) >> (EROFS_BLOCK_BITS + ino->chunk_bits)) * 4 + 4;
	ino->has_object = true;
	ino->object = (uint32_t)w->objects.n;
	vec_push(&w->objects,
	         *esgz_object_key(e, w->published && w->published(w->published_arg, &e->content, e->size)));
	/* The same for all of them, so it is looked up once. */
	if (w->objects.n == 1)
		w->metacopy = erofs_xattrs_add(&w->xattrs, PREFIX_TRUSTED, STR("overlay.metacopy"), STR_NONE);
	else
		w->xattrs.items.p[w->metacopy].uses++;
	vec_push(&w->xattr_ids, w->metacopy);
	ino->n_xattrs++;
	return 0;
}

static int gather_link(struct inode *ino, const struct esgz_entry *e, struct err *err)
{
	if (e->link.n == 0 || e->link.n > LINK_MAX_BYTES)
		return err_set(err, ERR_INVALID, "/" STR_FMT ": a symlink of %zu bytes", STR_ARG(e->path), e->link.n);
	ino->size = e->link.n;
	if (e->link.n <= TAIL_MAX) {
		ino->layout = EROFS_LAYOUT_INLINE;
		ino->tail = (uint32_t)e->link.n;
	} else {
		ino->n_blocks = 1;
	}
	return 0;
}

static int gather_dev(struct inode *ino, const struct esgz_entry *e, struct err *err)
{
	if (e->dev_major > 0xfff || e->dev_minor > 0xfffff)
		return err_set(err, ERR_INVALID, "/" STR_FMT ": no device has the number %" PRIu32 ":%" PRIu32,
		               STR_ARG(e->path), e->dev_major, e->dev_minor);
	/* 0:0 is a whiteout to overlayfs; an index does not hold it. */
	if (e->type == ESGZ_CHAR && e->dev_major == 0 && e->dev_minor == 0)
		return err_set(err, ERR_INVALID, "/" STR_FMT ": character device 0:0", STR_ARG(e->path));
	ino->dev = erofs_dev_pack(e->dev_major, e->dev_minor);
	return 0;
}

/* Attributes of the inode whose first name is `node`. */
static int gather_inode(struct writer *w, uint32_t number, struct err *err)
{
	static const uint16_t types[] = {[ESGZ_DIR] = S_IFDIR,  [ESGZ_REG] = S_IFREG,   [ESGZ_SYMLINK] = S_IFLNK,
	                                 [ESGZ_CHAR] = S_IFCHR, [ESGZ_BLOCK] = S_IFBLK, [ESGZ_FIFO] = S_IFIFO};
	const struct esgz_node *node = &w->tree->nodes[number];
	struct inode *ino = &w->inodes[node->inode];
	struct esgz_entry e;

	ino->node = number;
	ino->first_xattr = (uint32_t)w->xattr_ids.n;
	if (number == 0)
		use_xattr(w, ino, PREFIX_TRUSTED, STR("overlay.opaque"), STR("y"));
	if (!node->ix) {
		ino->mode = S_IFDIR | 0755;
		return 0;
	}
	esgz_index_entry(node->ix, node->entry, &e);
	if (e.type >= ARRAY_LEN(types) || types[e.type] == 0 || (e.type == ESGZ_DIR) != node->is_dir)
		return err_set(err, ERR_INTERNAL, "/" STR_FMT ": an entry of type %d in a merged tree", STR_ARG(e.path),
		               e.type);
	/* Of links Linux has no other. */
	ino->mode = types[e.type] | (e.type == ESGZ_SYMLINK ? 0777 : e.mode & 07777);
	ino->uid = e.uid;
	ino->gid = e.gid;
	ino->mtime_s = e.mtime_s;
	ino->mtime_ns = e.mtime_ns < 1000000000 ? e.mtime_ns : 999999999;
	if (e.type == ESGZ_REG)
		TRY(gather_file(w, ino, &e, err));
	else if (e.type == ESGZ_SYMLINK)
		TRY(gather_link(ino, &e, err));
	else if (e.type == ESGZ_CHAR || e.type == ESGZ_BLOCK)
		TRY(gather_dev(ino, &e, err));
	return gather_xattrs(w, ino, node->ix, &e, err);
}

static int gather(struct writer *w, struct err *err)
{
	const struct esgz_tree *t = w->tree;

	for (uint32_t i = 0; i < t->n_nodes; i++) {
		struct inode *ino = &w->inodes[t->nodes[i].inode];

		if (ino->mode == 0)
			TRY(gather_inode(w, i, err));
		if (!t->nodes[i].is_dir) {
			ino->nlink++;
			continue;
		}
		ino->nlink += 2; /* its name and its "." */
		if (i > 0)
			w->inodes[t->nodes[t->nodes[i].parent].inode].nlink++;
	}
	return 0;
}

/* ---- directories ---- */

static struct str whiteout_name(unsigned i, char name[static 3])
{
	static const char hex[] = "0123456789abcdef";

	name[0] = hex[i >> 4];
	name[1] = hex[i & 15];
	return str_make(name, 2);
}

/* Collects the entries of a directory, in order: its children, "." and "..", and in the root the names under which
 * objects lie, so far as they are not taken. `names` holds the latter. */
static void list_dir(struct writer *w, uint32_t number, char names[static 256][3])
{
	const struct esgz_node *nodes = w->tree->nodes, *dir = &nodes[number];
	unsigned n_special = number == 0 ? 2 + 256 : 2;
	uint32_t child = dir->first_child, end = child + dir->n_children;

	vec_clear(&w->dents);
	for (unsigned s = 0; s < n_special; s++) {
		struct dent special = {STR("."), dir->inode};
		int cmp = -1;

		if (s == 1)
			special = (struct dent){STR(".."), nodes[dir->parent].inode};
		else if (s > 1)
			special = (struct dent){whiteout_name(s - 2, names[s - 2]), w->n_inodes - 1};
		while (child < end && (cmp = str_cmp(nodes[child].name, special.name)) < 0) {
			vec_push(&w->dents, (struct dent){nodes[child].name, nodes[child].inode});
			child++;
		}
		if (child == end || cmp != 0)
			vec_push(&w->dents, special);
	}
	for (; child < end; child++)
		vec_push(&w->dents, (struct dent){nodes[child].name, nodes[child].inode});
}

/* How many entries from `first` on fit into one block, and the bytes they take. */
static size_t dir_block(const struct writer *w, size_t first, uint32_t *bytes)
{
	size_t i = first;

	*bytes = 0;
	for (; i < w->dents.n; i++) {
		size_t need = sizeof(struct erofs_dirent) + w->dents.p[i].name.n;

		if (*bytes + need > EROFS_BLOCK)
			break;
		*bytes += (uint32_t)need;
	}
	return i - first;
}

static void size_dir(struct writer *w, struct inode *ino)
{
	char names[256][3];
	uint32_t bytes = 0;

	list_dir(w, ino->node, names);
	for (size_t i = 0; i < w->dents.n;) {
		i += dir_block(w, i, &bytes);
		ino->n_blocks++;
	}
	ino->size = (uint64_t)(ino->n_blocks - 1) * EROFS_BLOCK + bytes;
	if (bytes <= TAIL_MAX) {
		ino->layout = EROFS_LAYOUT_INLINE;
		ino->tail = bytes;
		ino->n_blocks--;
	}
	if (ino->node == 0)
		vec_each(&w->dents, d)
			w->inodes[w->n_inodes - 1].nlink += d->inode == w->n_inodes - 1;
}

/* ---- place ---- */

/* The time of more than half of the inodes, if there is one: theirs can be stored in the compact form. (Boyer, Moore:
 * a fast majority vote algorithm, 1981.) */
static void choose_build_time(struct writer *w)
{
	const struct inode *leader = NULL;
	uint32_t lead = 0;

	for (uint32_t i = 0; i < w->n_inodes; i++) {
		const struct inode *ino = &w->inodes[i];

		if (lead == 0)
			leader = ino;
		if (ino->mtime_s == leader->mtime_s && ino->mtime_ns == leader->mtime_ns)
			lead++;
		else
			lead--;
	}
	w->build_time_s = leader->mtime_s;
	w->build_time_ns = leader->mtime_ns;
}

static bool needs_extended(const struct writer *w, const struct inode *ino)
{
	return ino->size > UINT32_MAX || ino->uid > UINT16_MAX || ino->gid > UINT16_MAX || ino->nlink > UINT16_MAX ||
	       ino->mtime_s != w->build_time_s || ino->mtime_ns != w->build_time_ns;
}

static uint32_t inode_bytes(const struct inode *ino)
{
	return ino->extended ? sizeof(struct erofs_inode_extended) : sizeof(struct erofs_inode_compact);
}

/* Finds the place of one inode; *at moves behind it. */
static int place_inode(struct writer *w, struct inode *ino, uint64_t *at, struct err *err)
{
	uint32_t redirect = ino->has_object ? erofs_xattr_bytes(REDIRECT_NAME, (struct str){NULL, REDIRECT_BYTES}) : 0;
	uint64_t xattr_bytes, tail_at;

	xattr_bytes = erofs_xattrs_bytes(&w->xattrs, w->xattr_ids.p + ino->first_xattr, ino->n_xattrs, redirect);
	if (xattr_bytes > EROFS_XATTR_WORDS_MAX * 4)
		return err_set(err, ERR_INVALID, STR_FMT ": %" PRIu64 " bytes of xattrs",
		               STR_ARG(w->tree->nodes[ino->node].name), xattr_bytes);
	ino->xattr_bytes = (uint32_t)xattr_bytes;
	ino->extended = needs_extended(w, ino);

	tail_at = *at + inode_bytes(ino) + xattr_bytes;
	if (ino->layout == EROFS_LAYOUT_INLINE && tail_at % EROFS_BLOCK + ino->tail > EROFS_BLOCK)
		*at += round_up(EROFS_BLOCK - tail_at % EROFS_BLOCK, EROFS_SLOT);
	ino->at = *at;
	*at = round_up(*at + inode_bytes(ino) + xattr_bytes + ino->tail, EROFS_SLOT);

	ino->first_block = w->n_blocks;
	w->n_blocks += ino->n_blocks;
	return 0;
}

static int place(struct writer *w, struct err *err)
{
	uint64_t at = INODES_AT;

	for (uint32_t i = 0; i < w->n_inodes; i++)
		if (S_ISDIR(w->inodes[i].mode))
			size_dir(w, &w->inodes[i]);
	choose_build_time(w);
	erofs_xattrs_place(&w->xattrs);
	for (uint32_t i = 0; i < w->n_inodes; i++)
		TRY(place_inode(w, &w->inodes[i], &at, err));
	w->shared_at = round_up(at, EROFS_BLOCK);
	w->blocks_at = round_up(w->shared_at + w->xattrs.shared_bytes, EROFS_BLOCK);
	w->end = w->blocks_at + (uint64_t)w->n_blocks * EROFS_BLOCK;
	if (w->end > IMAGE_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED, "the metadata of the image would take %" PRIu64 " bytes", w->end);
	return 0;
}

/* ---- emit ---- */

static uint32_t inode_data(const struct writer *w, const struct inode *ino)
{
	if (S_ISCHR(ino->mode) || S_ISBLK(ino->mode))
		return ino->dev;
	if (ino->layout == EROFS_LAYOUT_CHUNKS)
		return ino->chunk_bits;
	return ino->n_blocks ? (uint32_t)(w->blocks_at / EROFS_BLOCK) + ino->first_block : EROFS_NO_BLOCK;
}

static void emit_head(const struct writer *w, const struct inode *ino, char *dst)
{
	uint16_t format = (uint16_t)(ino->layout << 1 | (ino->extended ? EROFS_FORMAT_EXTENDED : 0));
	uint16_t words = 0;
	uint32_t number = (uint32_t)(ino - w->inodes) + 1;

	if (ino->xattr_bytes)
		words = (uint16_t)(1 + (ino->xattr_bytes - sizeof(struct erofs_xattr_header)) / 4);
	if (!ino->extended) {
		struct erofs_inode_compact c = {.format = htole16(format),
		                                .xattr_words = htole16(words),
		                                .mode = htole16(ino->mode),
		                                .nlink = htole16((uint16_t)ino->nlink),
		                                .size = htole32((uint32_t)ino->size),
		                                .data = htole32(inode_data(w, ino)),
		                                .ino = htole32(number),
		                                .uid = htole16((uint16_t)ino->uid),
		                                .gid = htole16((uint16_t)ino->gid)};

		memcpy(dst, &c, sizeof(c));
		return;
	}
	struct erofs_inode_extended x = {.format = htole16(format),
	                                 .xattr_words = htole16(words),
	                                 .mode = htole16(ino->mode),
	                                 .size = htole64(ino->size),
	                                 .data = htole32(inode_data(w, ino)),
	                                 .ino = htole32(number),
	                                 .uid = htole32(ino->uid),
	                                 .gid = htole32(ino->gid),
	                                 .mtime = htole64((uint64_t)ino->mtime_s),
	                                 .mtime_ns = htole32(ino->mtime_ns),
	                                 .nlink = htole32(ino->nlink)};

	memcpy(dst, &x, sizeof(x));
}

static void emit_redirect(const struct digest *key, char *dst)
{
	char hex[65], text[REDIRECT_BYTES];

	digest_hex(key, hex);
	text[0] = text[3] = '/';
	memcpy(text + 1, hex, 2);
	memcpy(text + 4, hex + 2, 62);
	erofs_xattr_write(PREFIX_TRUSTED, REDIRECT_NAME, str_make(text, sizeof(text)), dst);
}

static uint8_t dirent_type(uint16_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return EROFS_TYPE_REG;
	case S_IFDIR:
		return EROFS_TYPE_DIR;
	case S_IFCHR:
		return EROFS_TYPE_CHAR;
	case S_IFBLK:
		return EROFS_TYPE_BLOCK;
	case S_IFIFO:
		return EROFS_TYPE_FIFO;
	default:
		return EROFS_TYPE_SYMLINK;
	}
}

static void emit_dir(struct writer *w, const struct inode *ino, char *image)
{
	char *block = image + w->blocks_at + (uint64_t)ino->first_block * EROFS_BLOCK;
	char names[256][3];

	list_dir(w, ino->node, names);
	for (size_t i = 0; i < w->dents.n;) {
		uint32_t bytes;
		size_t n = dir_block(w, i, &bytes);
		size_t name_at = n * sizeof(struct erofs_dirent);

		if (i + n == w->dents.n && ino->layout == EROFS_LAYOUT_INLINE)
			block = image + ino->at + inode_bytes(ino) + ino->xattr_bytes;
		for (size_t k = 0; k < n; k++, i++) {
			const struct dent *d = &w->dents.p[i];
			const struct inode *to = &w->inodes[d->inode];
			struct erofs_dirent de = {.nid = htole64(to->at / EROFS_SLOT),
			                          .name_at = htole16((uint16_t)name_at),
			                          .type = dirent_type(to->mode)};

			memcpy(block + k * sizeof(de), &de, sizeof(de));
			memcpy(block + name_at, d->name.p, d->name.n);
			name_at += d->name.n;
		}
		block += EROFS_BLOCK;
	}
}

static void emit_link(const struct writer *w, const struct inode *ino, char *image)
{
	const struct esgz_node *node = &w->tree->nodes[ino->node];
	struct esgz_entry e;

	esgz_index_entry(node->ix, node->entry, &e);
	memcpy(ino->n_blocks ? image + w->blocks_at + (uint64_t)ino->first_block * EROFS_BLOCK
	                     : image + ino->at + inode_bytes(ino) + ino->xattr_bytes,
	       e.link.p, e.link.n);
}

static void emit_inode(struct writer *w, const struct inode *ino, char *image)
{
	char *at = image + ino->at;

	emit_head(w, ino, at);
	at += inode_bytes(ino);
	if (ino->xattr_bytes) {
		char *extra = erofs_xattrs_write(&w->xattrs, w->xattr_ids.p + ino->first_xattr, ino->n_xattrs,
		                                 ino->has_object ? w->redirect_bit : 0, at);
		if (ino->has_object)
			emit_redirect(&w->objects.p[ino->object], extra);
		at += ino->xattr_bytes;
	}
	if (ino->layout == EROFS_LAYOUT_CHUNKS)
		memset(at, 0xff, ino->tail); /* EROFS_NO_BLOCK for each chunk */
	else if (S_ISDIR(ino->mode))
		emit_dir(w, ino, image);
	else if (S_ISLNK(ino->mode))
		emit_link(w, ino, image);
}

static void emit_super(const struct writer *w, char *image)
{
	struct erofs_super s = {
	    .magic = htole32(EROFS_MAGIC),
	    .feature_compat = htole32(EROFS_COMPAT_MTIME | EROFS_COMPAT_XATTR_FILTER),
	    .block_bits = EROFS_BLOCK_BITS,
	    .root_nid = htole16((uint16_t)(w->inodes[0].at / EROFS_SLOT)),
	    .inodes = htole64(w->n_inodes),
	    .build_time = htole64((uint64_t)w->build_time_s),
	    .build_time_ns = htole32(w->build_time_ns),
	    .blocks = htole32((uint32_t)(w->end / EROFS_BLOCK)),
	    .xattr_block = htole32((uint32_t)(w->shared_at / EROFS_BLOCK)),
	    .feature_incompat = htole32(EROFS_INCOMPAT_CHUNKED),
	};

	memcpy(image + EROFS_SUPER_AT, &s, sizeof(s));
}

int esgz_erofs_write(const struct esgz_tree *tree, esgz_published_fn published, void *arg, struct buf *out,
                     struct err *err)
{
	AUTO(writer)
	struct writer w = {.tree = tree, .published = published, .published_arg = arg, .n_inodes = tree->n_inodes + 1};
	char *image;

	w.inodes = xcalloc(w.n_inodes, sizeof(*w.inodes));
	vec_reserve(&w.xattr_ids, tree->n_inodes);
	vec_reserve(&w.objects, tree->n_inodes);
	expect_use(w.inodes, w.n_inodes * sizeof(*w.inodes));
	expect_use(w.objects.p, tree->n_inodes * sizeof(*w.objects.p));
	w.redirect_bit = erofs_xattr_filter_bit(PREFIX_TRUSTED, REDIRECT_NAME);
	TRY(gather(&w, err));
	w.inodes[w.n_inodes - 1].mode = S_IFCHR; /* 0:0 */
	TRY(place(&w, err));

	image = buf_reserve(out, w.end);
	expect_use(image, w.end);
	memset(image, 0, w.end);
	out->n += w.end;
	emit_super(&w, image);
	erofs_xattrs_write_shared(&w.xattrs, image + w.shared_at);
	for (uint32_t i = 0; i < w.n_inodes; i++)
		emit_inode(&w, &w.inodes[i], image);
	return 0;
}
