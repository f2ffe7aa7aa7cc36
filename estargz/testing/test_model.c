/* The model of test_stack.h: what a stack becomes when it is extracted, by the plainest code that could be right. */
#include "estargz/testing/test_stack.h"

#include <sys/stat.h>

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
			file = stack_find(l, str_of(file->link));
		if (!is_whiteout_entry(e))
			model_put(m, e->path, strlen(e->path), file);
	}
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
		                 .st = {.mode = type_bits(e->type) | (e->type == ESGZ_SYMLINK ? 0777 : e->mode),
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

		stack_key(e, &key);
		if ((flags & DUMP_CONTENT) && e->type == ESGZ_REG && dump_digest(&key, e->size, &content))
			l.content = &content;
		for (uint32_t i = 0; i < e->n_xattrs; i++)
			line_xattr(&l, str_of(e->xattrs[i].name), buf_str(&e->xattrs[i].value));
		dump_line(&d, &l);
	}
	vec_fini(&m.names);
	dump_finish(&d, out);
}
