#include "bench/coldbench/sample.h"

#include "base/testing.h"

#include <math.h>
#include <stdio.h>

static struct network lan = {"lan", 1, 1000, (char *)"reset 1 /blobs/"};
static const struct bench_case start_case = {"cold", "start", "python", "contentd", "estargz", &lan, 3, 10};

static void test_metrics(void **state)
{
	AUTO(sample) struct sample s = {0};

	sample_init(&s, &start_case, 2, 7);
	assert_true(isnan(sample_get(&s, "ready_ms")));
	sample_set(&s, "ready_ms", 5);
	sample_set(&s, "ready_ms", 6.5);
	sample_setf(&s, 3, "phase.%s_ms", "create");
	assert_int_equal(s.metrics.n, 2);
	assert_true(sample_get(&s, "ready_ms") == 6.5);
	assert_true(sample_get(&s, "phase.create_ms") == 3);
}

static void test_line(void **state)
{
	AUTO(sample) struct sample s = {0};
	AUTO(sample) struct sample back = {0};
	AUTO(buf) struct buf line = BUF_INIT;
	AUTO(buf) struct buf again = BUF_INIT;

	sample_init(&s, &start_case, 2, 7);
	s.error = xstrdup("it said \"no\"\nand ended");
	sample_set(&s, "ready_ms", 1.0 / 3);
	sample_set(&s, "net.bytes", 123456789012.0);
	sample_set(&s, "absent", NAN);
	sample_write(&s, &line);
	assert_int_equal(line.p[line.n - 1], '\n');
	assert_int_equal(str_find(buf_str(&line), '\n'), line.n - 1);
	OK(sample_parse(buf_str(&line), &back, err));
	assert_string_equal(back.group, "cold");
	assert_string_equal(back.mode, "start");
	assert_string_equal(back.image, "python");
	assert_string_equal(back.form, "estargz");
	assert_string_equal(back.engine, "contentd");
	assert_string_equal(back.network, "lan");
	assert_string_equal(back.at, s.at);
	assert_string_equal(back.error, s.error);
	assert_true(back.rtt_ms == 1 && back.mbit == 1000);
	assert_string_equal(back.faults, "reset 1 /blobs/");
	assert_int_equal(back.count, 3);
	assert_int_equal(back.repetition, 2);
	assert_int_equal(back.order, 7);
	assert_true(sample_get(&back, "ready_ms") == 1.0 / 3);
	assert_true(sample_get(&back, "net.bytes") == 123456789012.0);
	assert_true(isnan(sample_get(&back, "absent")));
	sample_write(&back, &again);
	assert_true(str_eq(buf_str(&line), buf_str(&again)));
}

#define WHO                                                                                                            \
	"\"group\":\"g\",\"mode\":\"m\",\"image\":\"i\",\"form\":\"f\",\"engine\":\"e\",\"network\":\"n\",\"at\":"     \
	"\"t\""

static void test_parse(void **state)
{
	static const char *const bad[] = {
	    "",
	    "[]",
	    "null",
	    "{}",
	    "{" WHO,
	    "{" WHO "} x",
	    "{" WHO ",\"group\":7}",
	    "{" WHO ",\"group\":\"\"}",
	    "{" WHO ",\"at\":\"a\\u0000b\"}",
	    "{" WHO ",\"count\":-1}",
	    "{" WHO ",\"count\":1.5}",
	    "{" WHO ",\"count\":4294967296}",
	    "{" WHO ",\"rtt_ms\":-1}",
	    "{" WHO ",\"mbit\":\"fast\"}",
	    "{" WHO ",\"metrics\":[1]}",
	    "{" WHO ",\"metrics\":{\"a\":\"b\"}}",
	    "{" WHO ",\"metrics\":{\"\":1}}",
	    "{" WHO ",\"metrics\":{\"a\\u0000\":1}}",
	};
	AUTO(sample) struct sample s = {0};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		FAILS(sample_parse(str_of(bad[i]), &s, err), ERR_INVALID);
	assert_null(s.group);
	OK(sample_parse(STR("{" WHO ",\"new\":{\"a\":[1]},\"metrics\":{\"a\":1,\"b\":null,\"a\":2}}"), &s, err));
	assert_null(s.error);
	assert_int_equal(s.count, 1);
	assert_int_equal(s.metrics.n, 1);
	assert_true(sample_get(&s, "a") == 2);
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void test_set(void **state)
{
	char path[] = "/tmp/sample_test.XXXXXX";
	AUTO(sample_set) struct sample_set set = {0};
	struct err mistake = ERR_INIT;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	write_file(path,
	           "{\"coldbench\":1,\"suite\":\"quick\"}\n{" WHO "}\n\n{" WHO ",\"error\":\"x\"}\n{" WHO ",\"err");
	OK(sample_set_read(path, &set, err));
	assert_string_equal(buf_cstr(&set.header), "{\"coldbench\":1,\"suite\":\"quick\"}");
	assert_int_equal(set.samples.n, 2);
	assert_null(set.samples.p[0].error);
	assert_string_equal(set.samples.p[1].error, "x");

	write_file(path, "");
	FAILS(sample_set_read(path, &set, err), ERR_INVALID);
	write_file(path, "{\"coldbench\":2}\n");
	FAILS(sample_set_read(path, &set, err), ERR_INVALID);
	write_file(path, "{" WHO "}\n");
	FAILS(sample_set_read(path, &set, err), ERR_INVALID);
	write_file(path, "{\"coldbench\":1}\n{" WHO "}\n{\n");
	assert_true(sample_set_read(path, &set, &mistake) < 0);
	assert_non_null(strstr(mistake.msg, ":3: "));
	unlink(path);
	FAILS(sample_set_read(path, &set, err), ERR_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_metrics),
	    cmocka_unit_test(test_line),
	    cmocka_unit_test(test_parse),
	    cmocka_unit_test(test_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
