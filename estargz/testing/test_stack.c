#include "estargz/testing/test_stack.h"

#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

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
	static const uint8_t lengths[] = {98, 100, 101, 154,
	                                  251}; /* around those of tar's fields; a whiteout's longest */
	uint32_t depth = 1 + rnd(r, 4);

	buf_clear(out);
	for (uint32_t i = 0; i < depth; i++) {
		if (i)
			buf_addc(out, '/');
		if (rnd(r, 40) == 0)
			buf_addf(out, "%0*d", lengths[rnd(r, ARRAY_LEN(lengths))], 0);
		else
			buf_adds(out, names[rnd(r, ARRAY_LEN(names))]);
	}
}

/* The path of something below the topmost layer, so that it is changed; false if the die fell on a whiteout. */
static bool known_path(const struct stack *s, uint32_t *r, struct buf *out)
{
	const struct stack_layer *l = &s->layers.p[rnd(r, (uint32_t)s->layers.n - 1)];
	const char *path = l->entries.n ? l->entries.p[rnd(r, (uint32_t)l->entries.n)].path : "";

	if (!*path || strstr(path, ".wh."))
		return false;
	buf_clear(out);
	buf_adds(out, path);
	return true;
}

/* The entry of a layer that says what `path` is; whiteouts do not. */
const struct stack_entry *stack_find(const struct stack_layer *l, struct str path)
{
	vec_each(&l->entries, e)
		if (str_eqc(path, e->path))
			return e;
	return NULL;
}

/* A layer may not say two things about one path, nor put something below a file. */
static bool fits(const struct stack_layer *l, struct str path)
{
	if (stack_find(l, path))
		return false;
	for (size_t i = 0; i < path.n; i++) {
		const struct stack_entry *above = path.p[i] == '/' ? stack_find(l, str_make(path.p, i)) : NULL;

		if (above && above->type != ESGZ_DIR)
			return false;
	}
	vec_each(&l->entries, e)
		if (strlen(e->path) > path.n && e->path[path.n] == '/' && !memcmp(e->path, path.p, path.n))
			return false; /* it is a directory already, by being in use as one */
	return true;
}

/* Those that the kernel takes part in: an ACL that fits the mode, a capability. */
static void random_kernel_xattr(struct stack_entry *e, uint32_t *r)
{
	/* Version 2: user::rw-, user:1000:rwx, group::r--, mask::rwx, other::r--. */
	static const uint8_t acl[] = {2, 0,   0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,  7,
	                              0, 232, 3,   0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16, 0,
	                              7, 0,   255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255};
	static const uint8_t cap[] = {1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}; /* cap_net_raw=ep */

	if (rnd(r, 2) && e->type == ESGZ_REG) {
		stack_xattr(e, "security.capability", cap, sizeof(cap));
	} else if (rnd(r, 2) && e->type == ESGZ_DIR) {
		stack_xattr(e, "system.posix_acl_default", acl, sizeof(acl));
	} else {
		e->mode = (e->mode & 07000) | 0674;
		stack_xattr(e, "system.posix_acl_access", acl, sizeof(acl));
	}
}

static void random_attributes(struct stack_entry *e, uint32_t *r)
{
	e->mode = rnd(r, 010000);
	e->uid = rnd(r, 8) ? rnd(r, 3) : 65536 + rnd(r, 1000000);
	e->gid = rnd(r, 8) ? 0 : UINT32_MAX - 1 - rnd(r, 5);
	if (rnd(r, 3) == 0)
		e->mtime_s = 1600000000; /* so that there are equal ones */
	else if (rnd(r, 10) == 0)
		e->mtime_s = (int64_t[]){-5, -2000000000, 10000000000}[rnd(r, 3)];
	if (rnd(r, 3) == 0)
		e->mtime_ns = rnd(r, 1000000000);
	if (e->type == ESGZ_HARDLINK || e->type == ESGZ_SYMLINK)
		return;
	if (rnd(r, 4) == 0 && (e->type == ESGZ_DIR || e->type == ESGZ_REG)) /* the kernel gives user.* of these only */
		stack_xattr(e, "user.common", "same", 4);
	if (rnd(r, 4) == 0)
		stack_xattr(e, "trusted.own", e->path, strlen(e->path));
	if (rnd(r, 10) == 0 && (e->type == ESGZ_DIR || e->type == ESGZ_REG))
		random_kernel_xattr(e, r);
}

static void random_whiteout(struct stack *s, uint32_t *r, struct buf *path)
{
	AUTO(buf) struct buf wh = BUF_INIT;
	ptrdiff_t slash = str_rfind(buf_str(path), '/');

	/* The directory it stands in must not be something else. */
	if (slash > 0 && !stack_find(vec_last(&s->layers), str_make(path->p, (size_t)slash)) &&
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
		e = stack_link(s, ESGZ_SYMLINK, path->p, "some/where");
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
		e = stack_add(s, (enum esgz_type[]){ESGZ_FIFO, ESGZ_CHAR, ESGZ_BLOCK}[rnd(r, 3)], path->p);
		e->dev_major = e->type != ESGZ_FIFO ? 1 + rnd(r, 4095) : 0;
		e->dev_minor = e->type != ESGZ_FIFO ? rnd(r, 1 << 20) : 0;
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
			if (i == 0 || rnd(&r, 3) > 0 || !known_path(s, &r, &path))
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

void stack_key(const struct stack_entry *e, struct digest *key)
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

struct esgz_entry stack_as_entry(const struct stack_entry *e)
{
	return (struct esgz_entry){.type = e->type,
	                           .mode = e->mode,
	                           .uid = e->uid,
	                           .gid = e->gid,
	                           .mtime_s = e->mtime_s,
	                           .mtime_ns = e->mtime_ns,
	                           .dev_major = e->dev_major,
	                           .dev_minor = e->dev_minor,
	                           .size = e->size,
	                           .path = str_of(e->path),
	                           .link = str_of(e->link),
	                           .content = e->content};
}

static int build_index(const struct stack_layer *l, struct buf *out, struct err *err)
{
	struct esgz_index_info info = {.trust = ESGZ_TRUST_DIFFID, .compression = ESGZ_GZIP, .blob_bytes = 1 << 20};
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();

	vec_each(&l->entries, e)
		if (e->n_chunks > 0)
			info.trust = ESGZ_TRUST_TOC;
	vec_each(&l->entries, se) {
		struct esgz_entry e = stack_as_entry(se);
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

/* ---- objects ---- */

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

void stack_objects(const struct stack *s, const char *dir)
{
	vec_each(&s->layers, l)
		vec_each(&l->entries, e) {
			AUTO(buf) struct buf content = BUF_INIT;
			AUTO_FREE char *sub = NULL;
			AUTO_FREE char *path = NULL;
			struct digest key;
			char hex[65];

			if (e->type != ESGZ_REG || e->size == 0 || e->size > DUMP_CONTENT_MAX)
				continue;
			stack_key(e, &key);
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
