/* Two indexes of what should be one tree: what differs, in which words. */
#include "base/testing.h"
#include "estargz/index/index.h"

#include <inttypes.h>

struct made {
	struct buf file;
	struct esgz_index *ix;
};

static void made_fini(struct made *m)
{
	esgz_index_free(m->ix);
	buf_fini(&m->file);
}
DEFINE_AUTO_FINI(made);

#define ENTRIES_MAX 4

struct tree {
	struct esgz_entry e[ENTRIES_MAX];
	struct esgz_xattr x[2]; /* of the first entry */
	unsigned n, n_xattrs;
};

static void make(const struct tree *t, struct made *m)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	const struct esgz_index_info info = {.trust = ESGZ_TRUST_DIFFID, .blob_bytes = 100};

	*m = (struct made){.file = BUF_INIT};
	for (unsigned i = 0; i < t->n; i++)
		OK(esgz_index_add(b, &t->e[i], t->x, i == 0 ? t->n_xattrs : 0, NULL, 0, NULL, err));
	OK(esgz_index_finish(b, &info, &m->file, err));
	OK(esgz_index_open(buf_str(&m->file), &m->ix, err));
}

static const struct tree SAMPLE = {
    .e = {{.type = ESGZ_REG, .path = STR("etc/passwd"), .mode = 0644, .size = 5, .content = {{5}}, .mtime_s = 100},
          {.type = ESGZ_SYMLINK, .path = STR("l"), .mode = 0777, .link = STR("etc")},
          {.type = ESGZ_CHAR, .path = STR("dev"), .dev_major = 1, .dev_minor = 3},
          {.type = ESGZ_HARDLINK, .path = STR("h"), .link = STR("etc/passwd")}},
    .x = {{STR("user.a"), STR("1")}, {STR("user.b"), STR("2")}},
    .n = 4,
    .n_xattrs = 2};

/* NULL: the same. */
static void differs(const struct tree *a, const struct tree *b, unsigned flags, const char *says)
{
	AUTO(buf) struct buf where = BUF_INIT;
	AUTO(made) struct made x = {.ix = NULL};
	AUTO(made) struct made y = {.ix = NULL};
	int r;

	make(a, &x);
	make(b, &y);
	r = esgz_index_compare(x.ix, "TOC", y.ix, "tar", flags, &where);
	assert_int_equal(r, says ? ESGZ_DIFFERS : 0);
	if (says)
		assert_string_equal(where.p, says);
}

static void test_same(void **state)
{
	struct tree other = SAMPLE;

	differs(&SAMPLE, &other, 0, NULL);
	/* The order of xattrs says nothing. */
	other.x[0] = SAMPLE.x[1];
	other.x[1] = SAMPLE.x[0];
	differs(&SAMPLE, &other, 0, NULL);
}

static void test_differences(void **state)
{
	static const char none[] = "sha256:0500000000000000000000000000000000000000000000000000000000000000";
	struct tree t;
	AUTO_FREE char *content = xasprintf("etc/passwd: content %s in the TOC, "
	                                    "sha256:06%s in the tar",
	                                    none, none + 9);

#define CHANGE(change, says)                                                                                           \
	do {                                                                                                           \
		t = SAMPLE;                                                                                            \
		change;                                                                                                \
		differs(&SAMPLE, &t, ESGZ_SAME_TOC_TIMES, says);                                                       \
	} while (0)
	CHANGE(t.e[0].mode = 04755, "etc/passwd: mode 0644 in the TOC, 4755 in the tar");
	CHANGE(t.e[0].uid = 7, "etc/passwd: uid 0 in the TOC, 7 in the tar");
	CHANGE(t.e[0].gid = 7, "etc/passwd: gid 0 in the TOC, 7 in the tar");
	CHANGE(t.e[0].mtime_s = 101, "etc/passwd: time 100.000000000 in the TOC, 101.000000000 in the tar");
	CHANGE(t.e[0].size = 6, "etc/passwd: size 5 in the TOC, 6 in the tar");
	CHANGE(t.e[0].content.b[0] = 6, content);
	CHANGE(t.e[0].type = ESGZ_FIFO, "etc/passwd: a file in the TOC, fifo in the tar");
	CHANGE(t.n_xattrs = 1, "etc/passwd: xattr user.b in the TOC only");
	CHANGE(t.x[0].name = STR("user.0"), "etc/passwd: xattr user.0 in the tar only");
	CHANGE(t.x[1].value = STR("3"), "etc/passwd: xattr user.b has another value in the TOC than in the tar");
	CHANGE(t.e[1].link = STR("usr"), "l: link to etc in the TOC, usr in the tar");
	CHANGE(t.e[2].dev_major = 2, "dev: major number 1 in the TOC, 2 in the tar");
	CHANGE(t.e[2].dev_minor = 2, "dev: minor number 3 in the TOC, 2 in the tar");
	CHANGE(t.e[3].link = STR("dev"), "h: hard link to etc/passwd in the TOC, dev in the tar");
	CHANGE(t.n = 3, "h: only in the TOC");
	CHANGE(t.e[1].path = STR("etc/b"), "etc/b: only in the tar");
	CHANGE(t.e[1].path = STR("etc-b"), "etc-b: only in the tar");
	CHANGE(t.e[1] = ((struct esgz_entry){.type = ESGZ_DIR, .path = STR("etc"), .mode = 0755}),
	       "etc: directory implied in the TOC, ordinary in the tar");
	CHANGE(t.e[1] = ((struct esgz_entry){.type = ESGZ_REG, .path = STR("etc/.wh..wh..opq")}),
	       "etc: directory ordinary in the TOC, opaque in the tar");
}

/* An xattr without a value may be lost on the way into a TOC, and no other. */
static void test_empty_xattrs(void **state)
{
	struct tree toc = SAMPLE, tar = SAMPLE;

	tar.x[1].value = STR("");
	differs(&toc, &tar, ESGZ_SAME_EMPTY_XATTRS,
	        "etc/passwd: xattr user.b has another value in the TOC than in the tar");
	toc.n_xattrs = 1;
	differs(&toc, &tar, ESGZ_SAME_EMPTY_XATTRS, NULL);
	differs(&toc, &tar, 0, "etc/passwd: xattr user.b in the tar only");
	differs(&tar, &toc, ESGZ_SAME_EMPTY_XATTRS, "etc/passwd: xattr user.b in the TOC only");
	tar.x[0].name = STR("user.c"); /* before the one that both have, and alone */
	tar.x[0].value = STR("");
	tar.x[1] = (struct esgz_xattr){SAMPLE.x[0].name, SAMPLE.x[0].value};
	differs(&toc, &tar, ESGZ_SAME_EMPTY_XATTRS, NULL);
	toc.n_xattrs = 0;
	tar.n_xattrs = 1;
	differs(&toc, &tar, ESGZ_SAME_EMPTY_XATTRS, NULL);
}

/* Whole seconds stand for the times around them, in a TOC and there alone. */
static void test_times(void **state)
{
	static const struct {
		int64_t toc_s;
		uint32_t toc_ns;
		int64_t tar_s;
		uint32_t tar_ns;
		bool same;
	} cases[] = {
	    {100, 0, 100, 499999999, true}, {101, 0, 100, 500000000, true}, {100, 0, 100, 500000000, false},
	    {-1, 0, -1, 400000000, true},   {0, 0, -1, 500000000, true},    {100, 5, 100, 6, false},
	    {0, 0, 1ll << 40, 0, true},     {5, 0, 1ll << 40, 0, false},    {0, 0, -(1ll << 40), 0, true},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct tree a = SAMPLE, b = SAMPLE;
		AUTO_FREE char *says =
		    xasprintf("etc/passwd: time %" PRId64 ".%09u in the TOC, %" PRId64 ".%09u in the tar",
		              cases[i].toc_s, cases[i].toc_ns, cases[i].tar_s, cases[i].tar_ns);

		a.e[0].mtime_s = cases[i].toc_s;
		a.e[0].mtime_ns = cases[i].toc_ns;
		b.e[0].mtime_s = cases[i].tar_s;
		b.e[0].mtime_ns = cases[i].tar_ns;
		differs(&a, &b, ESGZ_SAME_TOC_TIMES, cases[i].same ? NULL : says);
		differs(&a, &b, 0, says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_same),
	    cmocka_unit_test(test_differences),
	    cmocka_unit_test(test_empty_xattrs),
	    cmocka_unit_test(test_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
