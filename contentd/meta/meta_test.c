#include "contentd/meta/meta.h"

#include "base/kv_mem.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/namespaces.pb-c.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct world {
	struct kv_mem *kv;
	struct cd_meta *meta;
	struct arena a;
};

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	w->kv = kv_mem_new();
	arena_init(&w->a, 100); /* records are not charged against it */
	*state = w;
	return cd_meta_new(kv_mem_kv(w->kv), &w->meta, NULL);
}

static int tear_down(void **state)
{
	struct world *w = *state;

	cd_meta_free(w->meta);
	kv_mem_free(w->kv);
	arena_fini(&w->a);
	free(w);
	return 0;
}

static int put(struct world *w, const char *ns, const char *name)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(w->meta, CD_IMAGE, ns, str_of(name));
	Images__Image i = IMAGES__IMAGE__INIT;

	i.name = name;
	cd_batch_put(&b, CD_IMAGE, ns, str_of(name), &i.base);
	return cd_meta_commit(w->meta, &b, NULL);
}

static int collect(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	const Images__Image *i = record;

	buf_addf(arg, "%s/" STR_FMT "=%s ", ns, STR_ARG(name), i->name);
	return str_eqc(name, "stop") ? 1 : 0;
}

static void expect(struct world *w, enum cd_kind kind, const char *ns, const char *prefix, const char *want)
{
	AUTO(buf) struct buf b = BUF_INIT;

	assert_int_equal(cd_meta_scan(w->meta, kind, ns, str_of(prefix), &w->a, collect, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), want);
}

static void records(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;
	Images__Image *i;

	assert_int_equal(put(w, "a", "x:1"), 0);
	assert_int_equal(put(w, "a", "y"), 0);
	assert_int_equal(put(w, "ab", "x:2"), 0);
	expect(w, CD_IMAGE, "a", "", "a/x:1=x:1 a/y=y ");
	expect(w, CD_IMAGE, "a", "x", "a/x:1=x:1 ");
	expect(w, CD_IMAGE, NULL, "", "a/x:1=x:1 a/y=y ab/x:2=x:2 ");
	expect(w, CD_CONTAINER, "a", "", "");
	assert_int_equal(cd_meta_get(w->meta, CD_IMAGE, "ab", STR("x:2"), &w->a, &i, NULL), 0);
	assert_string_equal(i->name, "x:2");
	assert_int_equal(cd_meta_get(w->meta, CD_IMAGE, "a", STR("x:2"), &w->a, &i, &err), -ERR_NOT_FOUND);
	assert_string_equal(err.msg, "image \"x:2\": not found");
	assert_int_equal(cd_meta_has(w->meta, CD_IMAGE, "a", STR("y"), NULL), 1);
	assert_int_equal(cd_meta_has(w->meta, CD_IMAGE, "a", STR("z"), NULL), 0);
}

static void one_record(void **state)
{
	Images__Image i = IMAGES__IMAGE__INIT;
	struct world *w = *state;
	struct err err = ERR_INIT;
	char name[2000];

	i.name = "x";
	assert_int_equal(cd_meta_absent(w->meta, CD_IMAGE, "a", STR("x"), NULL), 0);
	assert_int_equal(cd_meta_put(w->meta, CD_IMAGE, "a", STR("x"), &i.base, NULL), 0);
	assert_int_equal(cd_meta_absent(w->meta, CD_IMAGE, "a", STR("x"), &err), -ERR_EXISTS);
	assert_string_equal(err.msg, "image \"x\": already exists");
	assert_int_equal(cd_meta_remove(w->meta, CD_IMAGE, "a", STR("x"), NULL), 0);
	expect(w, CD_IMAGE, "a", "", "");
	assert_int_equal(cd_meta_remove(w->meta, CD_IMAGE, "a", STR("x"), &err), -ERR_NOT_FOUND);
	assert_string_equal(err.msg, "image \"x\": not found");
	/* However long the name is, the message ends with its class. */
	memset(name, 'n', sizeof(name));
	assert_int_equal(cd_meta_remove(w->meta, CD_IMAGE, "a", str_make(name, sizeof(name)), &err), -ERR_NOT_FOUND);
	assert_non_null(strstr(err.msg, "n\": not found"));
}

static void a_namespace_comes_with_its_first_record(void **state)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_batch) struct cd_batch gone = CD_BATCH_INIT;
	Namespaces__Namespace n = NAMESPACES__NAMESPACE__INIT, *got;
	Kv__Entry *labels[1];
	struct world *w = *state;

	assert_int_equal(cd_meta_has(w->meta, CD_NAMESPACE, "a", STR_NONE, NULL), 0);
	assert_int_equal(put(w, "a", "x"), 0);
	assert_int_equal(cd_meta_has(w->meta, CD_NAMESPACE, "a", STR_NONE, NULL), 1);
	/* One that has labels keeps them. */
	labels[0] = pb_kv_new(&w->a, "k", "v");
	n.labels = labels;
	n.n_labels = 1;
	cd_batch_put(&b, CD_NAMESPACE, "b", STR_NONE, &n.base);
	assert_int_equal(cd_meta_commit(w->meta, &b, NULL), 0);
	assert_int_equal(put(w, "b", "x"), 0);
	assert_int_equal(cd_meta_get(w->meta, CD_NAMESPACE, "b", STR_NONE, &w->a, &got, NULL), 0);
	assert_int_equal(got->n_labels, 1);
	/* One that was removed comes back. */
	cd_batch_remove(&gone, CD_NAMESPACE, "a", STR_NONE);
	assert_int_equal(cd_meta_commit(w->meta, &gone, NULL), 0);
	assert_int_equal(cd_meta_has(w->meta, CD_NAMESPACE, "a", STR_NONE, NULL), 0);
	assert_int_equal(cd_meta_touch(w->meta, "a", NULL), 0);
	assert_int_equal(cd_meta_has(w->meta, CD_NAMESPACE, "a", STR_NONE, NULL), 1);
	/* Removing alone makes none. */
	cd_batch_remove(&gone, CD_IMAGE, "c", STR("x"));
	assert_int_equal(cd_meta_commit(w->meta, &gone, NULL), 0);
	assert_int_equal(cd_meta_has(w->meta, CD_NAMESPACE, "c", STR_NONE, NULL), 0);
}

static void a_failed_write_changes_nothing(void **state)
{
	struct world *w = *state;

	kv_mem_fail_after(w->kv, 0, ERR_EXHAUSTED);
	assert_int_equal(put(w, "a", "x"), -ERR_EXHAUSTED);
	kv_mem_fail_after(w->kv, 0, ERR_OK);
	assert_int_equal(cd_meta_has(w->meta, CD_NAMESPACE, "a", STR_NONE, NULL), 0);
	assert_int_equal(put(w, "a", "x"), 0);
	assert_int_equal(cd_meta_has(w->meta, CD_NAMESPACE, "a", STR_NONE, NULL), 1);
}

static void damage_is_told(void **state)
{
	static const char *const values[] = {"", "\x02", "\x01\xff\xff"};
	struct world *w = *state;
	Images__Image *i;

	for (size_t k = 0; k < ARRAY_LEN(values); k++) {
		struct kv_op op = {STR("i\0a\0x"), str_of(values[k]), false};

		assert_int_equal(kv_write(kv_mem_kv(w->kv), &op, 1, true, NULL), 0);
		assert_int_equal(cd_meta_get(w->meta, CD_IMAGE, "a", STR("x"), &w->a, &i, NULL), -ERR_DATA_LOSS);
	}
}

static void versions_of_the_schema(void **state)
{
	struct world *w = *state;
	struct cd_meta *again = NULL;
	struct err err = ERR_INIT;
	struct kv_op newer = {STR("schema"), STR("2"), false}, junk = {STR("schema"), STR("?"), false};

	assert_int_equal(cd_meta_new(kv_mem_kv(w->kv), &again, NULL), 0);
	cd_meta_free(again);
	assert_int_equal(kv_write(kv_mem_kv(w->kv), &newer, 1, true, NULL), 0);
	assert_int_equal(cd_meta_new(kv_mem_kv(w->kv), &again, &err), -ERR_PRECONDITION);
	assert_non_null(strstr(err.msg, "schema version 2"));
	assert_int_equal(kv_write(kv_mem_kv(w->kv), &junk, 1, true, NULL), 0);
	assert_int_equal(cd_meta_new(kv_mem_kv(w->kv), &again, NULL), -ERR_DATA_LOSS);
}

/* Threads that each add one to a number in a record lose none of them. */
static void *count_up(void *arg)
{
	struct world *w = arg;

	for (int i = 0; i < 100; i++) {
		AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
		AUTO(cd_hold) struct cd_hold h = cd_meta_hold(w->meta, CD_IMAGE, "a", STR("n"));
		Images__Image *old, new = IMAGES__IMAGE__INIT;
		Types__Descriptor target = TYPES__DESCRIPTOR__INIT;
		struct arena a;

		arena_init(&a, SIZE_MAX);
		if (cd_meta_get(w->meta, CD_IMAGE, "a", STR("n"), &a, &old, NULL) == 0)
			target.size = old->target->size;
		target.size++;
		new.target = &target;
		cd_batch_put(&b, CD_IMAGE, "a", STR("n"), &new.base);
		if (cd_meta_commit(w->meta, &b, NULL) < 0)
			abort();
		arena_fini(&a);
	}
	return NULL;
}

static void holds_exclude_each_other(void **state)
{
	const struct str names[] = {STR("n"), STR("n"), STR("m")};
	struct world *w = *state;
	pthread_t threads[4];
	Images__Image *i;

	for (size_t k = 0; k < ARRAY_LEN(threads); k++)
		assert_int_equal(pthread_create(&threads[k], NULL, count_up, w), 0);
	for (int k = 0; k < 20; k++) { /* several, and all, among them */
		struct cd_hold h = cd_meta_hold_many(w->meta, CD_IMAGE, "a", names, 3);

		cd_meta_release(&h);
		h = cd_meta_hold_all(w->meta);
		cd_meta_release(&h);
	}
	for (size_t k = 0; k < ARRAY_LEN(threads); k++)
		pthread_join(threads[k], NULL);
	assert_int_equal(cd_meta_get(w->meta, CD_IMAGE, "a", STR("n"), &w->a, &i, NULL), 0);
	assert_int_equal(i->target->size, 400);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(records),
	    TEST(one_record),
	    TEST(a_namespace_comes_with_its_first_record),
	    TEST(a_failed_write_changes_nothing),
	    TEST(damage_is_told),
	    TEST(versions_of_the_schema),
	    TEST(holds_exclude_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
