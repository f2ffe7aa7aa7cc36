/* The judge of netproxy's accuracy, and once through all of its measurements; how good they are is not a test's concern. */
#include "bench/coldbench/accuracy.h"

#include "base/testing.h"

#include <math.h>
#include <unistd.h>

static struct accuracy perfect(void)
{
	struct accuracy a = {0};

	vec_push(&a.delays, (struct accuracy_delay){.rtt_ms = 10, .n = 5});
	vec_push(&a.rates, (struct accuracy_rate){.mbit = 100, .connections = 1, .got_mbit = 100});
	vec_push(&a.rates, (struct accuracy_rate){.connections = 8, .upload = true, .got_mbit = 5000});
	return a;
}

static void test_promises(void **state)
{
	AUTO(accuracy) struct accuracy a = perfect();
	AUTO(accuracy) struct accuracy none = {0};
	double *const errors[] = {&a.delays.p[0].median_ms, &a.delays.p[0].open_median_ms, &a.delays.p[0].together_ms};

	assert_false(accuracy_is_good(&none));
	assert_true(accuracy_is_good(&a));
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		*errors[i] = 0.29;
		assert_true(accuracy_is_good(&a));
		*errors[i] = 0.31;
		assert_false(accuracy_is_good(&a));
		*errors[i] = -0.31;
		assert_false(accuracy_is_good(&a));
		*errors[i] = 0;
	}
	a.delays.p[0].p95_ms = 5; /* told, not judged */
	assert_true(accuracy_is_good(&a));
	a.rates.p[0].error = -0.04;
	assert_false(accuracy_is_good(&a));
	a.rates.p[0].error = 0.02;
	assert_true(accuracy_is_good(&a));
	a.rates.p[1].got_mbit = 3900;
	assert_false(accuracy_is_good(&a));
}

static void test_written(void **state)
{
	AUTO(accuracy) struct accuracy a = perfect();
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FREE char *table = NULL;
	size_t table_bytes;
	FILE *to = open_memstream(&table, &table_bytes);
	struct json_writer w;

	a.delays.p[0].median_ms = 0.5;
	json_writer_init(&w, &text, NULL);
	accuracy_write(&a, &w);
	assert_true(str_starts(buf_str(&text), STR("{\"delays\":[{\"rtt_ms\":10,\"n\":5,\"median_error_ms\":0.5,")));
	assert_non_null(
	    strstr(buf_cstr(&text), "{\"mbit\":0,\"connections\":8,\"way\":\"up\",\"measured_mbit\":5000}"));
	assert_true(str_ends(buf_str(&text), STR("\"good\":false}")));
	accuracy_print(&a, to);
	fclose(to);
	assert_non_null(strstr(table, "0.500"));
	assert_non_null(strstr(table, "too much"));
	assert_non_null(strstr(table, "unlimited"));
}

static void test_measuring(void **state)
{
	char dir[] = "/tmp/coldbench-accuracy.XXXXXX";
	AUTO(accuracy) struct accuracy a = {0};

	assert_non_null(mkdtemp(dir));
	OK(accuracy_measure(dir, 0.01, NULL, &a, err));
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(a.delays.n, 4);
	assert_int_equal(a.rates.n, 12);
	/* A network could not have been faster than it is. */
	vec_each(&a.delays, d)
		assert_true(d->n > 0 && d->median_ms > 0 && d->open_median_ms > 0 && d->together_ms > 0);
	vec_each(&a.rates, r)
		assert_true(r->got_mbit > 0 && isfinite(r->error));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_promises),
	    cmocka_unit_test(test_written),
	    cmocka_unit_test(test_measuring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
