#include "contentd/meta/schema.h"

#include "base/kv_mem.h"
#include "base/testing.h"

struct world {
	struct kv_mem *mem;
	const struct kv *kv;
};

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	w->mem = kv_mem_new();
	w->kv = kv_mem_kv(w->mem);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	kv_mem_free(w->mem);
	free(w);
	return 0;
}

static void put(struct world *w, const char *key, const char *value)
{
	const struct kv_op op = {str_of(key), str_of(value), false};

	OK(kv_write(w->kv, &op, 1, true, err));
}

static void assert_value(struct world *w, const char *key, const char *value)
{
	AUTO(buf) struct buf b = BUF_INIT;
	int r = kv_get(w->kv, str_of(key), &b, NULL);

	assert_int_equal(r, value ? 0 : -ERR_NOT_FOUND);
	if (value)
		assert_string_equal(buf_cstr(&b), value);
}

/* From 1 to 2: what begins with "old/" is called "new/". */
static int rename_one(void *arg, struct str key, struct str value, struct err *err)
{
	AUTO_FREE char *name = xasprintf("new/" STR_FMT, STR_ARG(str_sub(key, 4, SIZE_MAX)));

	cd_schema_put(arg, str_of(name), value);
	cd_schema_remove(arg, key);
	return 0;
}

static int rename_all(const struct kv *kv, struct cd_schema_ops *ops, struct err *err)
{
	return kv_scan(kv, STR("old/"), rename_one, ops, err);
}

/* From 2 to 3: needs what the step before has made. */
static int count_one(void *arg, struct str key, struct str value, struct err *err)
{
	++*(int *)arg;
	return 0;
}

static int count_all(const struct kv *kv, struct cd_schema_ops *ops, struct err *err)
{
	AUTO_FREE char *text = NULL;
	int n = 0;

	TRY(kv_scan(kv, STR("new/"), count_one, &n, err));
	text = xasprintf("%d", n);
	cd_schema_put(ops, STR("count"), str_of(text));
	return 0;
}

static const cd_schema_step steps[] = {rename_all, count_all};

static void an_empty_table_is_of_the_last_version(void **state)
{
	struct world *w = *state;

	OK(cd_schema_upgrade(w->kv, steps, 2, err));
	assert_value(w, "schema", "3");
	assert_value(w, "count", NULL); /* no step was taken */
	OK(cd_schema_upgrade(w->kv, steps, 2, err));
}

static void an_older_one_takes_all_steps(void **state)
{
	struct world *w = *state;

	put(w, "schema", "1");
	put(w, "old/a", "1");
	put(w, "old/b", "2");
	OK(cd_schema_upgrade(w->kv, steps, 2, err));
	assert_value(w, "schema", "3");
	assert_value(w, "old/a", NULL);
	assert_value(w, "new/a", "1");
	assert_value(w, "new/b", "2");
	assert_value(w, "count", "2");
}

static void or_those_that_it_lacks(void **state)
{
	struct world *w = *state;

	put(w, "schema", "2");
	put(w, "old/a", "1"); /* of version 2, where it means something else */
	put(w, "new/b", "2");
	OK(cd_schema_upgrade(w->kv, steps, 2, err));
	assert_value(w, "schema", "3");
	assert_value(w, "old/a", "1");
	assert_value(w, "count", "1");
}

static void a_step_is_taken_as_a_whole_or_not(void **state)
{
	struct world *w = *state;

	put(w, "schema", "1");
	put(w, "old/a", "1");
	kv_mem_fail_after(w->mem, 0, ERR_EXHAUSTED);
	FAILS(cd_schema_upgrade(w->kv, steps, 2, err), ERR_EXHAUSTED);
	assert_value(w, "schema", "1");
	assert_value(w, "old/a", "1");
	assert_value(w, "new/a", NULL);
	kv_mem_fail_after(w->mem, 0, ERR_OK);
	OK(cd_schema_upgrade(w->kv, steps, 2, err));
	assert_value(w, "schema", "3");
}

static void newer_ones_and_junk_are_refused(void **state)
{
	struct world *w = *state;
	struct err why = ERR_INIT;

	put(w, "schema", "4");
	assert_int_equal(cd_schema_upgrade(w->kv, steps, 2, &why), -ERR_PRECONDITION);
	assert_non_null(strstr(why.msg, "schema version 4, this contentd knows only up to 3"));
	put(w, "schema", "0");
	FAILS(cd_schema_upgrade(w->kv, steps, 2, err), ERR_DATA_LOSS);
	put(w, "schema", "?");
	FAILS(cd_schema_upgrade(w->kv, steps, 2, err), ERR_DATA_LOSS);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(an_empty_table_is_of_the_last_version),
	    TEST(an_older_one_takes_all_steps),
	    TEST(or_those_that_it_lacks),
	    TEST(a_step_is_taken_as_a_whole_or_not),
	    TEST(newer_ones_and_junk_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
