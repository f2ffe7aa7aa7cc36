#include "estargz/test_stack.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cmocka.h>

/* ---- stacks ---- */

static void entry_fini(struct stack_entry *e)
{
	free(e->path);
	free(e->link);
	for (uint32_t i = 0; i < e->n_xattrs; i++) {
		free(e->xattrs[i].name);
		buf_fini(&e->xattrs[i].value);
	}
}

void stack_fini(struct stack *s)
{
	vec_each(&s->layers, l) {
		vec_each(&l->entries, e)
			entry_fini(e);
		vec_fini(&l->entries);
	}
	vec_fini(&s->layers);
}

void stack_push(struct stack *s)
{
	vec_push(&s->layers, (struct stack_layer){0});
}

struct stack_entry *stack_add(struct stack *s, enum esgz_type type, const char *path)
{
	struct stack_layer *l = vec_last(&s->layers);
	struct stack_entry *e = vec_add(&l->entries);

	e->type = type;
	e->path = xstrdup(path);
	e->mode = type == ESGZ_DIR ? 0755 : 0644;
	e->mtime_s = 1700000000 + (int64_t)(s->layers.n * 1000 + l->entries.n);
	return e;
}

struct stack_entry *stack_file(struct stack *s, const char *path, uint64_t size, uint32_t n_chunks)
{
	struct stack_entry *e = stack_add(s, ESGZ_REG, path);
	AUTO_FREE char *text = xasprintf("%s %zu %zu", path, s->layers.n, vec_last(&s->layers)->entries.n);

	e->size = size;
	e->n_chunks = n_chunks;
	if (size == 0)
		e->content = DIGEST_EMPTY;
	else
		digest_of(text, strlen(text), &e->content);
	return e;
}

struct stack_entry *stack_link(struct stack *s, enum esgz_type type, const char *path, const char *to)
{
	struct stack_entry *e = stack_add(s, type, path);

	e->link = xstrdup(to);
	return e;
}

void stack_xattr(struct stack_entry *e, const char *name, const void *value, size_t n)
{
	struct stack_xattr *x = &e->xattrs[e->n_xattrs++];

	assert_true(e->n_xattrs <= STACK_XATTRS_MAX);
	x->name = xstrdup(name);
	x->value = BUF_INIT;
	buf_add(&x->value, value, n);
}

/* ---- random stacks ---- */

/* Numerical Recipes' generator: the same everywhere. */
static uint32_t rnd(uint32_t *state, uint32_t below)
{
	*state = *state * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(*state >> 4) * below >> 28);
}

static void random_path(uint32_t *r, struct buf *out)
{
	static const char *const names[] = {"a", "b", "c", "ab", "-", "!x", ".d", "0a", "ff", "z\xc3\xa9", "usr"};
	uint32_t depth = 1 + rnd(r, 4);

	buf_clear(out);
	for (uint32_t i = 0; i < depth; i++) {
		if (i)
			buf_addc(out, '/');
		buf_adds(out, names[rnd(r, ARRAY_LEN(names))]);
	}
}

/* The entry of a layer that says what `path` is; whiteouts do not. */
static const struct stack_entry *layer_find(const struct stack_layer *l, struct str path)
{
	vec_each(&l->entries, e)
		if (str_eqc(path, e->path))
			return e;
	return NULL;
}

/* A layer may not say two things about one path, nor put something below a file. */
static bool fits(const struct stack_layer *l, struct str path)
{
	if (layer_find(l, path))
		return false;
	for (size_t i = 0; i < path.n; i++) {
		const struct stack_entry *above = path.p[i] == '/' ? layer_find(l, str_make(path.p, i)) : NULL;

		if (above && above->type != ESGZ_DIR)
			return false;
	}
	vec_each(&l->entries, e)
		if (strlen(e->path) > path.n && e->path[path.n] == '/' && !memcmp(e->path, path.p, path.n))
			return false; /* it is a directory already, by being in use as one */
	return true;
}

static void random_attributes(struct stack_entry *e, uint32_t *r)
{
	e->mode = rnd(r, 010000);
	e->uid = rnd(r, 8) ? rnd(r, 3) : 65536 + rnd(r, 1000000);
	e->gid = rnd(r, 8) ? 0 : UINT32_MAX - 1 - rnd(r, 5);
	if (rnd(r, 3) == 0)
		e->mtime_s = 1600000000; /* so that there are equal ones */
	else if (rnd(r, 10) == 0)
		e->mtime_s = -5;
	if (rnd(r, 3) == 0)
		e->mtime_ns = rnd(r, 1000000000);
	if (e->type == ESGZ_HARDLINK || e->type == ESGZ_SYMLINK)
		return;
	if (rnd(r, 4) == 0 && (e->type == ESGZ_DIR || e->type == ESGZ_REG)) /* the kernel gives user.* of these only */
		stack_xattr(e, "user.common", "same", 4);
	if (rnd(r, 4) == 0)
		stack_xattr(e, "trusted.own", e->path, strlen(e->path));
}

static void random_whiteout(struct stack *s, uint32_t *r, struct buf *path)
{
	AUTO(buf) struct buf wh = BUF_INIT;
	ptrdiff_t slash = str_rfind(buf_str(path), '/');

	/* The directory it stands in must not be something else. */
	if (slash > 0 && !layer_find(vec_last(&s->layers), str_make(path->p, (size_t)slash)) &&
	    !fits(vec_last(&s->layers), str_make(path->p, (size_t)slash)))
		return;
	buf_add(&wh, path->p, (size_t)(slash + 1));
	if (rnd(r, 3) == 0)
		buf_adds(&wh, ".wh..wh..opq");
	else
		buf_addf(&wh, ".wh.%s", path->p + slash + 1);
	if (fits(vec_last(&s->layers), buf_str(&wh)))
		stack_file(s, wh.p, 0, 0);
}

static void random_entry(struct stack *s, uint32_t *r, struct buf *path, bool lazy)
{
	static const uint64_t sizes[] = {0, 1, 100, 4096, 4097, 70000};
	struct stack_layer *l = vec_last(&s->layers);
	struct stack_entry *e;
	uint64_t size;

	switch (rnd(r, 8)) {
	case 0:
	case 1:
		e = stack_add(s, ESGZ_DIR, path->p);
		break;
	case 2:
		e = stack_link(s, ESGZ_SYMLINK, path->p, "../some/where");
		break;
	case 3: {
		const struct stack_entry *to = l->entries.n ? &l->entries.p[rnd(r, (uint32_t)l->entries.n)] : NULL;

		if (!to || to->type == ESGZ_DIR || strstr(to->path, ".wh."))
			return;
		AUTO_FREE char *name = xstrdup(to->path);
		e = stack_link(s, ESGZ_HARDLINK, path->p, name);
		break;
	}
	case 4:
		e = stack_add(s, rnd(r, 2) ? ESGZ_FIFO : ESGZ_CHAR, path->p);
		e->dev_major = e->type == ESGZ_CHAR ? 1 + rnd(r, 4095) : 0;
		e->dev_minor = e->type == ESGZ_CHAR ? rnd(r, 1 << 20) : 0;
		break;
	default:
		size = sizes[rnd(r, ARRAY_LEN(sizes))];
		e = stack_file(s, path->p, size, size && lazy ? 1 + rnd(r, 3) : 0);
		break;
	}
	random_attributes(e, r);
}

void stack_random(struct stack *s, uint32_t seed)
{
	AUTO(buf) struct buf path = BUF_INIT;
	uint32_t r = seed * 2654435761u + 12345, layers = 1 + rnd(&r, 6);

	for (uint32_t i = 0; i < layers; i++) {
		uint32_t entries = rnd(&r, 40);
		bool lazy = rnd(&r, 3) > 0;

		stack_push(s);
		if (rnd(&r, 3) == 0)
			stack_add(s, ESGZ_DIR, "")->mode = rnd(&r, 01000);
		if (rnd(&r, 20) == 0)
			stack_file(s, ".wh..wh..opq", 0, 0);
		for (uint32_t k = 0; k < entries; k++) {
			random_path(&r, &path);
			if (i > 0 && rnd(&r, 4) == 0)
				random_whiteout(s, &r, &path);
			else if (fits(vec_last(&s->layers), buf_str(&path)))
				random_entry(s, &r, &path, lazy);
		}
	}
}

/* ---- indexes and image ---- */

/* Chunks that cover the file; their digests only have to differ. */
static void entry_chunks(const struct stack_entry *e, struct esgz_chunk *chunks)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < e->n_chunks; i++) {
		uint64_t end = i + 1 == e->n_chunks ? e->size : e->size / e->n_chunks * (i + 1);

		chunks[i] = (struct esgz_chunk){.blob_offset = 1000,
		                                .blob_bytes = 100,
		                                .file_offset = at,
		                                .bytes = (uint32_t)(end - at),
		                                .digest = e->content};
		if (e->n_chunks > 1)
			chunks[i].digest.b[0] ^= (uint8_t)(i + 1);
		at = end;
	}
}

/* Tiny files cannot be cut. */
static uint32_t entry_n_chunks(const struct stack_entry *e)
{
	return e->size < e->n_chunks ? 1 : e->n_chunks;
}

static void entry_key(const struct stack_entry *e, struct digest *key)
{
	struct stack_entry cut = *e;
	struct esgz_chunk chunks[8];

	cut.n_chunks = entry_n_chunks(e);
	*key = e->content;
	if (cut.n_chunks > 0 && !stack_published(NULL, &e->content, e->size)) {
		entry_chunks(&cut, chunks);
		esgz_claim_key(&e->content, e->size, chunks, cut.n_chunks, key);
	}
}

bool stack_published(void *arg, const struct digest *content, uint64_t size)
{
	return content->b[31] & 1;
}

static int build_index(const struct stack_layer *l, struct buf *out, struct err *err)
{
	struct esgz_index_info info = {.trust = ESGZ_TRUST_DIFFID, .compression = ESGZ_GZIP, .blob_bytes = 1 << 20};
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();

	vec_each(&l->entries, e)
		if (e->n_chunks > 0)
			info.trust = ESGZ_TRUST_TOC;
	vec_each(&l->entries, se) {
		struct esgz_entry e = {.type = se->type,
		                       .mode = se->mode,
		                       .uid = se->uid,
		                       .gid = se->gid,
		                       .mtime_s = se->mtime_s,
		                       .mtime_ns = se->mtime_ns,
		                       .dev_major = se->dev_major,
		                       .dev_minor = se->dev_minor,
		                       .size = se->size,
		                       .path = str_of(se->path),
		                       .link = str_of(se->link),
		                       .content = se->content};
		struct esgz_xattr xattrs[STACK_XATTRS_MAX];
		struct esgz_chunk chunks[8];
		struct stack_entry cut = *se;

		cut.n_chunks = entry_n_chunks(se);
		entry_chunks(&cut, chunks);
		for (uint32_t i = 0; i < se->n_xattrs; i++)
			xattrs[i] = (struct esgz_xattr){str_of(se->xattrs[i].name), buf_str(&se->xattrs[i].value)};
		TRY(esgz_index_add(b, &e, xattrs, se->n_xattrs, chunks, cut.n_chunks, NULL, err));
	}
	return esgz_index_finish(b, &info, out, err);
}

void stack_image_fini(struct stack_image *im)
{
	esgz_tree_free(im->tree);
	vec_each(&im->opened, ix)
		esgz_index_free(*ix);
	vec_each(&im->indexes, b)
		buf_fini(b);
	vec_fini(&im->opened);
	vec_fini(&im->indexes);
	buf_fini(&im->image);
}

int stack_build(const struct stack *s, struct stack_image *out, struct err *err)
{
	vec_each(&s->layers, l) {
		struct buf *b = vec_add(&out->indexes);
		struct esgz_index *ix;

		TRY(build_index(l, b, err));
		TRY(esgz_index_open(buf_str(b), &ix, err));
		vec_push(&out->opened, ix);
	}
	TRY(esgz_tree_build((const struct esgz_index *const *)out->opened.p, (unsigned)out->opened.n, &out->tree, err));
	return esgz_erofs_write(out->tree, stack_published, NULL, &out->image, err);
}

/* ---- the model: a list of paths, changed as extraction would ---- */

struct model_name {
	const char *path;
	size_t path_n;
	const struct stack_entry *file; /* NULL: implied directory */
};

struct model {
	VEC(struct model_name) names;
};

static struct model_name *model_find(struct model *m, const char *path, size_t n)
{
	vec_each(&m->names, it)
		if (it->path_n == n && !memcmp(it->path, path, n))
			return it;
	return NULL;
}

static bool is_dir(const struct model_name *it)
{
	return !it->file || it->file->type == ESGZ_DIR;
}

/* rm -r of what is below a path, and of itself */
static void model_remove(struct model *m, const char *path, size_t n, bool itself)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->names.n; i++) {
		const struct model_name *it = &m->names.p[i];
		bool same = it->path_n == n && !memcmp(it->path, path, n);
		bool below =
		    n == 0 ? it->path_n > 0 : it->path_n > n && it->path[n] == '/' && !memcmp(it->path, path, n);

		if (!below && !(same && itself))
			m->names.p[kept++] = *it;
	}
	m->names.n = kept;
}

static void model_put(struct model *m, const char *path, size_t n, const struct stack_entry *file)
{
	struct model_name *old = model_find(m, path, n);
	bool dir = !file || file->type == ESGZ_DIR;

	if (old && dir && is_dir(old)) {
		if (file)
			old->file = file;
		return;
	}
	model_remove(m, path, n, true);
	vec_push(&m->names, (struct model_name){path, n, file});
}

/* mkdir -p of what lies above a path */
static void model_parents(struct model *m, const char *path)
{
	model_put(m, path, 0, NULL);
	for (size_t i = 0; path[i]; i++)
		if (path[i] == '/')
			model_put(m, path, i, NULL);
}

static bool is_whiteout_entry(const struct stack_entry *e)
{
	const char *base = strrchr(e->path, '/');

	return !strncmp(base ? base + 1 : e->path, ".wh.", 4);
}

static void model_hide(struct model *m, const struct stack_entry *wh)
{
	const char *base = strrchr(wh->path, '/');
	size_t dir_n = base ? (size_t)(base - wh->path) : 0;
	AUTO_FREE char *path = NULL;

	base = base ? base + 1 : wh->path;
	if (!strcmp(base, ".wh..wh..opq")) {
		model_remove(m, wh->path, dir_n, false);
		return;
	}
	path = xasprintf("%.*s%s%s", (int)dir_n, wh->path, dir_n ? "/" : "", base + 4);
	model_remove(m, path, strlen(path), true);
}

static void model_apply(struct model *m, const struct stack_layer *l)
{
	vec_each(&l->entries, e)
		if (is_whiteout_entry(e))
			model_hide(m, e);
	model_put(m, "", 0, NULL);
	vec_each(&l->entries, e) {
		const struct stack_entry *file = e;

		model_parents(m, e->path);
		while (file->type == ESGZ_HARDLINK)
			file = layer_find(l, str_of(file->link));
		if (!is_whiteout_entry(e))
			model_put(m, e->path, strlen(e->path), file);
	}
}

/* ---- dumps ---- */

struct lines {
	VEC(char *) v;
};

static void lines_fini(struct lines *l)
{
	vec_each(&l->v, it)
		free(*it);
	vec_fini(&l->v);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void lines_finish(struct lines *l, char sep, struct buf *out)
{
	if (l->v.n)
		qsort(l->v.p, l->v.n, sizeof(*l->v.p), by_text);
	vec_each(&l->v, it) {
		buf_adds(out, *it);
		buf_addc(out, sep);
	}
	lines_fini(l);
}

struct named_inode {
	char *path;
	uint64_t nid;
};

struct dump {
	unsigned flags;
	struct lines lines;
	VEC(struct named_inode) linked; /* names of files that have several */
};

static void dump_fini(struct dump *d)
{
	lines_fini(&d->lines);
	vec_each(&d->linked, it)
		free(it->path);
	vec_fini(&d->linked);
}
DEFINE_AUTO_FINI(dump);

/* What is known of one name. */
struct line {
	struct str path;
	struct esgz_erofs_stat st;
	struct str link;
	const struct digest *content; /* of what is read, or NULL */
	struct lines xattrs;
};

static void line_xattr(struct line *l, struct str name, struct str value)
{
	struct buf b = BUF_INIT;

	buf_addstr(&b, name);
	buf_addc(&b, '=');
	hex_encode(value.p, value.n, buf_reserve(&b, 2 * value.n + 1));
	b.n += 2 * value.n;
	vec_push(&l->xattrs.v, buf_steal(&b));
}

/* Uses up the line. */
static void dump_line(struct dump *d, struct line *l)
{
	struct buf b = BUF_INIT;
	bool dir = S_ISDIR(l->st.mode);
	char hex[65] = "";

	if (l->content)
		digest_hex(l->content, hex);
	buf_addf(&b,
	         "/" STR_FMT " %06o %u:%u size %" PRIu64 " time %" PRId64 ".%09u links %u dev %u:%u -> '" STR_FMT
	         "' %.16s ",
	         STR_ARG(l->path), l->st.mode, l->st.uid, l->st.gid, S_ISREG(l->st.mode) ? l->st.size : 0,
	         l->st.mtime_s, l->st.mtime_ns, dir && !(d->flags & DUMP_DIR_NLINK) ? 0 : l->st.nlink, l->st.dev_major,
	         l->st.dev_minor, STR_ARG(l->link), hex);
	lines_finish(&l->xattrs, ' ', &b);
	vec_push(&d->lines.v, buf_steal(&b));
	if (!dir && l->st.nlink > 1)
		vec_push(&d->linked, (struct named_inode){xstrndup(l->path.p, l->path.n), l->st.nid});
}

static void dump_finish(struct dump *d, struct buf *out)
{
	vec_each(&d->linked, a)
		vec_each(&d->linked, b)
			if (a->nid == b->nid && strcmp(a->path, b->path) < 0)
				vec_push(&d->lines.v, xasprintf("same file: /%s /%s", a->path, b->path));
	lines_finish(&d->lines, '\n', out);
}

void stack_content(const struct digest *key, uint64_t size, struct buf *out)
{
	char hex[65];

	digest_hex(key, hex);
	for (uint64_t left = size; left > 0;) {
		size_t n = left < 64 ? (size_t)left : 64;

		buf_add(out, hex, n);
		left -= n;
	}
}

#define CONTENT_MAX (1u << 20)

static bool content_digest(const struct digest *key, uint64_t size, struct digest *out)
{
	AUTO(buf) struct buf b = BUF_INIT;

	if (size > CONTENT_MAX)
		return false;
	stack_content(key, size, &b);
	digest_of(b.p, b.n, out);
	return true;
}

/* ---- dump of the model ---- */

static uint32_t type_bits(enum esgz_type t)
{
	switch (t) {
	case ESGZ_DIR:
		return S_IFDIR;
	case ESGZ_REG:
		return S_IFREG;
	case ESGZ_SYMLINK:
		return S_IFLNK;
	case ESGZ_CHAR:
		return S_IFCHR;
	case ESGZ_BLOCK:
		return S_IFBLK;
	default:
		return S_IFIFO;
	}
}

/* True if `it` lies directly in the directory `dir`. */
static bool is_child(const struct model_name *it, const struct model_name *dir)
{
	size_t from = dir->path_n ? dir->path_n + 1 : 0;

	return it->path_n > from && !memcmp(it->path, dir->path, dir->path_n) &&
	       (dir->path_n == 0 || it->path[dir->path_n] == '/') && !memchr(it->path + from, '/', it->path_n - from);
}

static uint32_t model_nlink(const struct model *m, const struct model_name *name)
{
	uint32_t n = is_dir(name) ? 2 : 0;

	vec_each(&m->names, it)
		n += is_dir(name) ? is_dir(it) && is_child(it, name) : it->file == name->file;
	return n;
}

void stack_dump(const struct stack *s, unsigned flags, struct buf *out)
{
	static const struct stack_entry implied = {.type = ESGZ_DIR, .mode = 0755};
	AUTO(dump) struct dump d = {.flags = flags};
	struct model m = {0};

	model_put(&m, "", 0, NULL);
	vec_each(&s->layers, layer)
		model_apply(&m, layer);
	vec_each(&m.names, it) {
		const struct stack_entry *e = it->file ? it->file : &implied;
		struct line l = {.path = str_make(it->path, it->path_n),
		                 .link = str_of(e->link),
		                 .st = {.mode = e->mode | type_bits(e->type),
		                        .uid = e->uid,
		                        .gid = e->gid,
		                        .size = e->size,
		                        .mtime_s = e->mtime_s,
		                        .mtime_ns = e->mtime_ns,
		                        .dev_major = e->dev_major,
		                        .dev_minor = e->dev_minor,
		                        .nlink = model_nlink(&m, it),
		                        .nid = (uintptr_t)e}};
		struct digest key, content;

		entry_key(e, &key);
		if ((flags & DUMP_CONTENT) && e->type == ESGZ_REG && content_digest(&key, e->size, &content))
			l.content = &content;
		for (uint32_t i = 0; i < e->n_xattrs; i++)
			line_xattr(&l, str_of(e->xattrs[i].name), buf_str(&e->xattrs[i].value));
		dump_line(&d, &l);
	}
	vec_fini(&m.names);
	dump_finish(&d, out);
}

/* ---- dump of an image, by the reader ---- */

struct image_walk {
	const struct esgz_erofs *fs;
	struct dump *dump;
	struct str path; /* of the directory at hand */
	struct err *err;
	int r;
};

static bool add_xattr(void *arg, struct str name, struct str value)
{
	line_xattr(arg, name, value);
	return true;
}

static int image_dump_inode(struct image_walk *w, uint64_t nid);

static bool image_entry(void *arg, struct str name, uint64_t nid, uint32_t mode, uint64_t next)
{
	struct image_walk *parent = arg, w = *parent;
	AUTO(buf) struct buf path = BUF_INIT;
	struct esgz_erofs_stat st;
	uint64_t found;

	if (str_eq(name, STR(".")) || str_eq(name, STR("..")))
		return true;
	buf_addstr(&path, w.path);
	if (path.n)
		buf_addc(&path, '/');
	buf_addstr(&path, name);
	w.path = buf_str(&path);
	w.r = image_dump_inode(&w, nid);
	assert_int_equal(esgz_erofs_stat(w.fs, nid, &st, w.err), 0);
	assert_int_equal(st.mode & S_IFMT, mode);
	/* What is listed is found too. */
	esgz_erofs_stat(w.fs, ESGZ_EROFS_ROOT, &st, w.err);
	found = st.nid;
	for (struct str rest = w.path, part; str_split(&rest, '/', &part);)
		assert_int_equal(esgz_erofs_lookup(w.fs, found, part, &found, w.err), 0);
	assert_int_equal(found, nid);
	parent->r = w.r;
	return w.r == 0;
}

static int image_dump_inode(struct image_walk *w, uint64_t nid)
{
	struct line l = {.path = w->path};
	struct digest key, content;

	TRY(esgz_erofs_stat(w->fs, nid, &l.st, w->err));
	if (S_ISLNK(l.st.mode))
		TRY(esgz_erofs_readlink(w->fs, nid, &l.link, w->err));
	if (S_ISREG(l.st.mode) && (w->dump->flags & DUMP_CONTENT)) {
		if (l.st.size > 0)
			TRY(esgz_erofs_object(w->fs, nid, &key, w->err));
		else
			assert_int_equal(esgz_erofs_object(w->fs, nid, &key, w->err), -ERR_NOT_FOUND);
		if (content_digest(&key, l.st.size, &content))
			l.content = &content;
	}
	TRY(esgz_erofs_xattrs(w->fs, nid, add_xattr, &l, w->err));
	dump_line(w->dump, &l);
	if (S_ISDIR(l.st.mode))
		TRY(esgz_erofs_readdir(w->fs, nid, 0, image_entry, w, w->err));
	return w->r;
}

int image_dump(struct str image, unsigned flags, struct buf *out, struct err *err)
{
	AUTO(esgz_erofs) struct esgz_erofs *fs = NULL;
	AUTO(dump) struct dump d = {.flags = flags};
	struct image_walk w = {.dump = &d, .err = err};

	TRY(esgz_erofs_open(image, &fs, err));
	w.fs = fs;
	TRY(image_dump_inode(&w, ESGZ_EROFS_ROOT));
	dump_finish(&d, out);
	return 0;
}

/* ---- dump of a mounted tree ---- */

static void mount_xattrs(struct line *l, const char *path)
{
	static char names[65536], value[65536];
	ssize_t n = llistxattr(path, names, sizeof(names));

	assert_true(n >= 0);
	for (const char *name = names; name < names + n; name += strlen(name) + 1) {
		ssize_t got = lgetxattr(path, name, value, sizeof(value));

		assert_true(got >= 0);
		if (!str_starts(str_of(name), STR("trusted.overlay.")))
			line_xattr(l, str_of(name), str_make(value, (size_t)got));
	}
}

static void read_digest(const char *path, struct digest *out)
{
	AUTO(buf) struct buf b = BUF_INIT;

	assert_int_equal(file_read(AT_FDCWD, path, CONTENT_MAX, &b, NULL), 0);
	digest_of(b.p, b.n, out);
}

/* `path` is the root of the mount and, behind it, the path to dump. */
static void mount_dump_at(struct dump *d, struct buf *path, size_t root_n)
{
	struct line l = {.path = str_sub(buf_str(path), root_n + 1, SIZE_MAX)};
	size_t n = path->n;
	char link[4096];
	struct digest content;
	struct stat st;
	DIR *dir;

	if (lstat(path->p, &st) != 0)
		fail_msg("lstat %s: %s", path->p, strerror(errno));
	l.st = (struct esgz_erofs_stat){.nid = st.st_ino,
	                                .mode = st.st_mode,
	                                .uid = st.st_uid,
	                                .gid = st.st_gid,
	                                .nlink = (uint32_t)st.st_nlink,
	                                .size = (uint64_t)st.st_size,
	                                .mtime_s = st.st_mtim.tv_sec,
	                                .mtime_ns = (uint32_t)st.st_mtim.tv_nsec,
	                                .dev_major = major(st.st_rdev),
	                                .dev_minor = minor(st.st_rdev)};
	if (S_ISREG(st.st_mode) && (d->flags & DUMP_CHECK_BLOCKS))
		assert_int_equal(st.st_blocks, (st.st_size + 4095) / 4096 * 8);
	if (S_ISLNK(st.st_mode)) {
		ssize_t got = readlink(path->p, link, sizeof(link));

		assert_true(got > 0);
		l.link = str_make(link, (size_t)got);
	}
	if (S_ISREG(st.st_mode) && (d->flags & DUMP_CONTENT) && st.st_size <= CONTENT_MAX) {
		read_digest(path->p, &content);
		l.content = &content;
	}
	mount_xattrs(&l, path->p);
	dump_line(d, &l);
	if (!S_ISDIR(st.st_mode))
		return;
	dir = opendir(path->p);
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		buf_addf(path, "/%s", e->d_name);
		/* The root's whiteouts: only a bare mount of the image shows them. */
		if (lstat(path->p, &st) == 0 && !(S_ISCHR(st.st_mode) && st.st_rdev == 0))
			mount_dump_at(d, path, root_n);
		path->n = n;
		path->p[n] = '\0';
	}
	closedir(dir);
}

void mount_dump(const char *root, unsigned flags, struct buf *out)
{
	AUTO(dump) struct dump d = {.flags = flags};
	AUTO(buf) struct buf path = BUF_INIT;

	buf_adds(&path, root);
	mount_dump_at(&d, &path, path.n);
	dump_finish(&d, out);
}

void stack_objects(const struct stack *s, const char *dir)
{
	vec_each(&s->layers, l)
		vec_each(&l->entries, e) {
			AUTO(buf) struct buf content = BUF_INIT;
			AUTO_FREE char *sub = NULL;
			AUTO_FREE char *path = NULL;
			struct digest key;
			char hex[65];

			if (e->type != ESGZ_REG || e->size == 0 || e->size > CONTENT_MAX)
				continue;
			entry_key(e, &key);
			digest_hex(&key, hex);
			sub = xasprintf("%s/%.2s", dir, hex);
			path = xasprintf("%s/%s", sub, hex + 2);
			assert_int_equal(dir_make(sub, 0700, NULL), 0);
			stack_content(&key, e->size, &content);
			AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
			assert_true(fd >= 0);
			assert_int_equal(fd_write_all(fd, buf_str(&content), NULL), 0);
		}
}

void assert_same_dump(const struct buf *got, const struct buf *want, const char *what)
{
	struct str a = buf_str(got), b = buf_str(want), la, lb;
	bool more_a, more_b;

	if (str_eq(a, b))
		return;
	do {
		more_a = str_split(&a, '\n', &la);
		more_b = str_split(&b, '\n', &lb);
	} while (more_a && more_b && str_eq(la, lb));
	fail_msg("%s:\ngot  " STR_FMT "\nwant " STR_FMT, what, STR_ARG(la), STR_ARG(lb));
}
