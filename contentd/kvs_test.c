#include "contentd/kvs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct list {
	struct arena a;
	Kv__Entry **v;
	size_t n;
};

/* "k=v k=v". */
static void make(struct list *l, const char *text)
{
	struct str rest = str_of(text), one;

	l->v = arena_alloc(&l->a, 64 * sizeof(*l->v));
	l->n = 0;
	while (*text && str_split(&rest, ' ', &one)) {
		ptrdiff_t at = str_find(one, '=');

		l->v[l->n++] = pb_kv_new(&l->a, arena_str(&l->a, str_sub(one, 0, (size_t)at)),
		                         arena_str(&l->a, str_sub(one, (size_t)at + 1, SIZE_MAX)));
	}
}

static void expect(const struct list *l, const char *text)
{
	AUTO(buf) struct buf b = BUF_INIT;

	for (size_t i = 0; i < l->n; i++)
		buf_addf(&b, "%s%s=%s", i ? " " : "", l->v[i]->key, l->v[i]->value);
	assert_string_equal(buf_cstr(&b), text);
}

static int set_up(void **state)
{
	struct list *l = xcalloc(1, sizeof(*l));

	arena_init(&l->a, SIZE_MAX);
	*state = l;
	return 0;
}

static int tear_down(void **state)
{
	struct list *l = *state;

	arena_fini(&l->a);
	free(l);
	return 0;
}

static void cleaning(void **state)
{
	struct list *l = *state;

	make(l, "b=2 a=1 c= b=3 d=4 d= e=");
	assert_int_equal(cd_kvs_clean(&l->a, &l->v, &l->n, LABEL_BYTES_MAX, NULL), 0);
	expect(l, "a=1 b=3");
	make(l, "");
	assert_int_equal(cd_kvs_clean(&l->a, &l->v, &l->n, LABEL_BYTES_MAX, NULL), 0);
	expect(l, "");
	make(l, "abc=de");
	assert_int_equal(cd_kvs_clean(&l->a, &l->v, &l->n, 4, NULL), -ERR_INVALID);
	assert_int_equal(cd_kvs_clean(&l->a, &l->v, &l->n, 5, NULL), 0);
	assert_int_equal(cd_kvs_clean(&l->a, &l->v, &l->n, 0, NULL), 0);
}

static void setting(void **state)
{
	struct list *l = *state;

	make(l, "b=2");
	cd_kvs_set(&l->a, &l->v, &l->n, "c", "3");
	cd_kvs_set(&l->a, &l->v, &l->n, "a", "1");
	expect(l, "a=1 b=2 c=3");
	cd_kvs_set(&l->a, &l->v, &l->n, "b", "9");
	expect(l, "a=1 b=9 c=3");
	cd_kvs_set(&l->a, &l->v, &l->n, "b", "");
	cd_kvs_set(&l->a, &l->v, &l->n, "x", NULL);
	expect(l, "a=1 c=3");
}

static void masks(void **state)
{
	struct list *l = *state, from = {0};
	struct cd_mask_path p = cd_mask_path("labels.containerd.io/gc.ref");

	assert_true(str_eqc(p.field, "labels"));
	assert_string_equal(p.key, "containerd.io/gc.ref");
	assert_null(cd_mask_path("labels").key);
	arena_init(&from.a, SIZE_MAX);
	make(l, "a=1 b=2");
	make(&from, "b=3 c=4");
	cd_kvs_apply(&l->a, "b", from.v, from.n, &l->v, &l->n);
	expect(l, "a=1 b=3");
	cd_kvs_apply(&l->a, "a", from.v, from.n, &l->v, &l->n); /* absent in what was sent: removed */
	expect(l, "b=3");
	cd_kvs_apply(&l->a, NULL, from.v, from.n, &l->v, &l->n);
	expect(l, "b=3 c=4");
	arena_fini(&from.a);
}

static void fields(void **state)
{
	const struct str joined[] = {STR("a"), STR("b/c"), STR("d")}, whole[] = {STR("a.b/c.d")}, part[] = {STR("a")};
	struct list *l = *state;
	struct str v = STR_NONE;

	make(l, "a.b/c.d=x ab=y");
	assert_true(cd_kvs_field(l->v, l->n, joined, 3, &v));
	assert_true(str_eqc(v, "x"));
	assert_true(cd_kvs_field(l->v, l->n, whole, 1, &v));
	assert_false(cd_kvs_field(l->v, l->n, part, 1, &v));
}

static void labels_and_back(void **state)
{
	AUTO(labels) struct labels labels = LABELS_INIT;
	struct list *l = *state;

	make(l, "a=1 b=2");
	assert_int_equal(cd_kvs_to_labels(l->v, l->n, &labels, NULL), 0);
	assert_string_equal(labels_get(&labels, "b"), "2");
	cd_kvs_from_labels(&l->a, &labels, &l->v, &l->n);
	expect(l, "a=1 b=2");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {TEST(cleaning), TEST(setting), TEST(masks), TEST(fields),
	                                   TEST(labels_and_back)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
