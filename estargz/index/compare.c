#include "estargz/index/index.h"

#include "base/cleanup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* What RFC 3339 can say: the years 0 to 9999. */
#define YEAR_0 (-62167219200)
#define YEAR_10000 253402300800

/* The two sides, and where the first difference is told. */
struct compare {
	const struct esgz_index *ix[2];
	const char *name[2];
	unsigned flags;
	struct str path; /* of the entry that is looked at */
	struct buf *where;
};

static int differ(const struct compare *c, const char *what)
{
	buf_addf(c->where, STR_FMT ": %s", STR_ARG(c->path.n > 0 ? c->path : STR("/")), what);
	return ESGZ_DIFFERS;
}

static int differ_text(const struct compare *c, const char *what, struct str a, struct str b)
{
	differ(c, what);
	buf_addf(c->where, " " STR_FMT " in the %s, " STR_FMT " in the %s", STR_ARG(a), c->name[0], STR_ARG(b),
	         c->name[1]);
	return ESGZ_DIFFERS;
}

static int compare_number(const struct compare *c, const char *what, bool octal, uint64_t a, uint64_t b)
{
	char text[2][32];

	if (a == b)
		return 0;
	snprintf(text[0], sizeof(text[0]), octal ? "%04" PRIo64 : "%" PRIu64, a);
	snprintf(text[1], sizeof(text[1]), octal ? "%04" PRIo64 : "%" PRIu64, b);
	return differ_text(c, what, str_of(text[0]), str_of(text[1]));
}

static struct str type_text(enum esgz_type type)
{
	static const char *const names[] = {
	    [ESGZ_DIR] = "directory",         [ESGZ_REG] = "file",           [ESGZ_SYMLINK] = "symbolic link",
	    [ESGZ_CHAR] = "character device", [ESGZ_BLOCK] = "block device", [ESGZ_FIFO] = "fifo",
	    [ESGZ_HARDLINK] = "hard link",    [ESGZ_WHITEOUT] = "whiteout"};

	return str_of(names[type]);
}

static struct str flags_text(uint32_t flags)
{
	/* Few combinations, but any may be: the first of them that tells. */
	return str_of(flags & ESGZ_OPAQUE    ? "opaque"
	              : flags & ESGZ_REPLACE ? "beside a whiteout"
	              : flags & ESGZ_IMPLIED ? "implied"
	                                     : "ordinary");
}

/* stargz rounds to the nearest second, halves up, and leaves out what is then 0. What RFC 3339 cannot say is left out, or
 * said as the nearest that it can (our converter). */
static bool same_time(const struct compare *c, const struct esgz_entry *a, const struct esgz_entry *b)
{
	if (a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns)
		return true;
	if (!(c->flags & ESGZ_SAME_TOC_TIMES))
		return false;
	if (b->mtime_s < YEAR_0 || b->mtime_s >= YEAR_10000)
		return a->mtime_s == 0 || a->mtime_s == (b->mtime_s < YEAR_0 ? YEAR_0 : YEAR_10000 - 1);
	return a->mtime_ns == 0 && a->mtime_s == b->mtime_s + (b->mtime_ns >= 500000000);
}

static int compare_time(const struct compare *c, const struct esgz_entry *a, const struct esgz_entry *b)
{
	char text[2][48];

	if (same_time(c, a, b))
		return 0;
	snprintf(text[0], sizeof(text[0]), "%" PRId64 ".%09u", a->mtime_s, a->mtime_ns);
	snprintf(text[1], sizeof(text[1]), "%" PRId64 ".%09u", b->mtime_s, b->mtime_ns);
	return differ_text(c, "time", str_of(text[0]), str_of(text[1]));
}

static int compare_content(const struct compare *c, const struct esgz_entry *a, const struct esgz_entry *b)
{
	char text[2][DIGEST_TEXT_MAX];
	int r = compare_number(c, "size", false, a->size, b->size);

	if (r || digest_eq(&a->content, &b->content))
		return r;
	return differ_text(c, "content", str_of(digest_text(&a->content, text[0])),
	                   str_of(digest_text(&b->content, text[1])));
}

/* ---- xattrs: in any order ---- */

struct xattr {
	struct str name, value;
};

static int cmp_xattr(const void *a, const void *b)
{
	const struct xattr *x = a, *y = b;

	return str_cmp(x->name, y->name);
}

static struct xattr *sorted_xattrs(const struct esgz_index *ix, const struct esgz_entry *e)
{
	struct xattr *x = xmalloc(((size_t)e->n_xattrs + 1) * sizeof(*x));

	for (uint32_t i = 0; i < e->n_xattrs; i++)
		esgz_index_xattr(ix, e->first_xattr + i, &x[i].name, &x[i].value);
	qsort(x, e->n_xattrs, sizeof(*x), cmp_xattr);
	return x;
}

/* An xattr that only the `side` has. */
static int only_xattr(const struct compare *c, unsigned side, struct str name)
{
	differ(c, "xattr");
	buf_addf(c->where, " " STR_FMT " in the %s only", STR_ARG(name), c->name[side]);
	return ESGZ_DIFFERS;
}

static int compare_xattrs(const struct compare *c, const struct esgz_entry *a, const struct esgz_entry *b)
{
	AUTO_FREE struct xattr *x = NULL;
	AUTO_FREE struct xattr *y = NULL;
	uint32_t i = 0, j = 0;

	if (a->n_xattrs == 0 && b->n_xattrs == 0)
		return 0;
	x = sorted_xattrs(c->ix[0], a);
	y = sorted_xattrs(c->ix[1], b);
	while (i < a->n_xattrs || j < b->n_xattrs) {
		int order = i == a->n_xattrs ? 1 : j == b->n_xattrs ? -1 : str_cmp(x[i].name, y[j].name);

		if (order < 0)
			return only_xattr(c, 0, x[i].name);
		if (order > 0 && (y[j].value.n > 0 || !(c->flags & ESGZ_SAME_EMPTY_XATTRS)))
			return only_xattr(c, 1, y[j].name);
		if (order == 0 && !str_eq(x[i].value, y[j].value)) {
			differ(c, "xattr");
			buf_addf(c->where, " " STR_FMT " has another value in the %s than in the %s",
			         STR_ARG(x[i].name), c->name[0], c->name[1]);
			return ESGZ_DIFFERS;
		}
		i += order == 0;
		j++;
	}
	return 0;
}

/* ---- entries ---- */

/* An entry of type hard link has no attributes of its own. */
static int compare_hardlink(const struct compare *c, const struct esgz_entry *a, const struct esgz_entry *b)
{
	struct esgz_entry x, y;

	esgz_index_entry(c->ix[0], a->target, &x);
	esgz_index_entry(c->ix[1], b->target, &y);
	return str_eq(x.path, y.path) ? 0 : differ_text(c, "hard link to", x.path, y.path);
}

static int compare_attrs(const struct compare *c, const struct esgz_entry *a, const struct esgz_entry *b)
{
	int r = compare_number(c, "mode", true, a->mode, b->mode);

	if (!r)
		r = compare_number(c, "uid", false, a->uid, b->uid);
	if (!r)
		r = compare_number(c, "gid", false, a->gid, b->gid);
	if (!r)
		r = compare_time(c, a, b);
	return r ? r : compare_xattrs(c, a, b);
}

static int compare_device(const struct compare *c, const struct esgz_entry *a, const struct esgz_entry *b)
{
	int r = compare_number(c, "major number", false, a->dev_major, b->dev_major);

	return r ? r : compare_number(c, "minor number", false, a->dev_minor, b->dev_minor);
}

/* The same path on both sides. */
static int compare_entry(const struct compare *c, const struct esgz_entry *a, const struct esgz_entry *b)
{
	int r;

	if (a->type != b->type)
		return differ_text(c, "a", type_text(a->type), type_text(b->type));
	if (a->flags != b->flags)
		return differ_text(c, type_text(a->type).p, flags_text(a->flags & ~b->flags),
		                   flags_text(b->flags & ~a->flags));
	if (a->type == ESGZ_WHITEOUT)
		return 0;
	if (a->type == ESGZ_HARDLINK)
		return compare_hardlink(c, a, b);
	r = compare_attrs(c, a, b);
	if (r)
		return r;
	switch (a->type) {
	case ESGZ_REG:
		return compare_content(c, a, b);
	case ESGZ_SYMLINK:
		return str_eq(a->link, b->link) ? 0 : differ_text(c, "link to", a->link, b->link);
	case ESGZ_CHAR:
	case ESGZ_BLOCK:
		return compare_device(c, a, b);
	default:
		return 0;
	}
}

/* A path that only one side has: which of two different paths comes first in the order of entries ('/' lowest). */
static bool path_before(struct str a, struct str b)
{
	size_t i = 0;

	while (i < a.n && i < b.n && a.p[i] == b.p[i])
		i++;
	if (i == a.n || i == b.n)
		return a.n < b.n;
	return a.p[i] == '/' || (b.p[i] != '/' && (uint8_t)a.p[i] < (uint8_t)b.p[i]);
}

static int only_in(struct compare *c, unsigned side, struct str path)
{
	c->path = path;
	differ(c, "only in the ");
	buf_adds(c->where, c->name[side]);
	return ESGZ_DIFFERS;
}

int esgz_index_compare(const struct esgz_index *a, const char *a_name, const struct esgz_index *b, const char *b_name,
                       unsigned flags, struct buf *where)
{
	struct compare c = {{a, b}, {a_name, b_name}, flags, STR_NONE, where};
	uint32_t n_a = esgz_index_get_info(a)->n_entries, n_b = esgz_index_get_info(b)->n_entries;

	for (uint32_t i = 0; i < n_a || i < n_b; i++) {
		struct esgz_entry x, y;
		int r;

		if (i < n_a)
			esgz_index_entry(a, i, &x);
		if (i < n_b)
			esgz_index_entry(b, i, &y);
		if (i >= n_b || (i < n_a && !str_eq(x.path, y.path) && path_before(x.path, y.path)))
			return only_in(&c, 0, x.path);
		if (i >= n_a || !str_eq(x.path, y.path))
			return only_in(&c, 1, y.path);
		c.path = x.path;
		r = compare_entry(&c, &x, &y);
		if (r)
			return r;
	}
	return 0;
}
