#include "base/testing.h"
#include "bench/coldbench/doctor/plant.h"

#include <string.h>

static const struct engine_kind base_kind;

static int base_pull(struct engine *e, const char *ref, struct argv *out, struct err *err)
{
	assert_ptr_equal(e->kind, &base_kind);
	argv_addl(out, "base", "pull", ref, NULL);
	return 0;
}

static int base_run(struct engine *e, const char *ref, const char *id, bool detach, const char *const *args,
                    struct argv *out, struct err *err)
{
	assert_ptr_equal(e->kind, &base_kind);
	argv_addl(out, "base", "run", ref, id, NULL);
	return 0;
}

static int base_stop(struct engine *e, struct err *err)
{
	assert_ptr_equal(e->kind, &base_kind);
	return err_set(err, ERR_INTERNAL, "not stopped");
}

static const struct engine_kind base_kind = {.name = "base",
                                             .title = "Base",
                                             .form = "gzip",
                                             .lazy = true,
                                             .stop = base_stop,
                                             .pull = base_pull,
                                             .run = base_run};

static void the_run_waits_and_is_the_bases(void **state)
{
	struct plant p;
	AUTO(argv) struct argv argv = ARGV_INIT;
	struct engine e = {0};

	plant_init(&p, &base_kind, 12.5, "5%");
	e.kind = &p.kind;
	OK(e.kind->run(&e, "ref", "id", false, NULL, &argv, err));
	assert_ptr_equal(e.kind, &p.kind);
	assert_int_equal(argv.wait_ns, 12500000);
	assert_int_equal(argv.n, 4);
	assert_string_equal(argv.p[0], "base");
	assert_string_equal(argv.p[3], "id");
}

static void the_rest_is_the_bases(void **state)
{
	struct plant p;
	AUTO(argv) struct argv argv = ARGV_INIT;
	struct engine e = {0};

	plant_init(&p, &base_kind, 12.5, "5%");
	assert_string_equal(p.kind.name, "base+5%");
	assert_string_equal(p.kind.form, "gzip");
	assert_true(p.kind.lazy);
	assert_null(p.kind.mount);
	e.kind = &p.kind;
	OK(e.kind->pull(&e, "ref", &argv, err));
	assert_string_equal(argv.p[0], "base");
	assert_int_equal(argv.wait_ns, 0);
	FAILS(e.kind->stop(&e, err), ERR_INTERNAL);
	assert_ptr_equal(e.kind, &p.kind);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_run_waits_and_is_the_bases),
	    cmocka_unit_test(the_rest_is_the_bases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
