#include "bench/coldbench/report/header.h"
#include "bench/coldbench/report/quantity.h"

#include "base/testing.h"

#include <math.h>

static void is_quantity(const char *metric, double value, const char *want)
{
	AUTO(buf) struct buf b = BUF_INIT;

	quantity_add(&b, metric, value);
	assert_string_equal(buf_cstr(&b), want);
}

static void test_quantities(void **state)
{
	is_quantity("ready_ms", 512.3, "512 ms");
	is_quantity("ready_ms", 1270, "1.27 s");
	is_quantity("ready_ms", 999.7, "1.00 s");
	is_quantity("ready_ms", 12345, "12.3 s");
	is_quantity("start.ready_ms.p95", 3.456, "3.46 ms");
	is_quantity("lstat_ns", 812, "812 ns");
	is_quantity("lstat_ns", 2345, "2.35 \u00b5s");
	is_quantity("cpu_s.runc", 0.0123, "12.3 ms");
	is_quantity("net.bytes", 26700000, "26.7 MB");
	is_quantity("peak_bytes.x", 4096, "4.10 kB");
	is_quantity("read.files", 9845, "9845");
	is_quantity("net.round_trips", 4.5, "4.50");
	is_quantity("mb_per_s", 130, "130 MB/s");
	is_quantity("containers_per_s", 212.4, "212 /s");
	is_quantity("cpu_ms_per_container", 12.5, "12.5 ms");
	is_quantity("ready_ms", 0, "0 ms");
	is_quantity("ready_ms", NAN, "\u2013");
	is_quantity("x", 1e300, "1e+300");
}

static void is_scaled(enum unit unit, double least, double most, double value, const char *want, const char *name)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct scale s = scale_for(unit, least, most);

	scale_add(&b, &s, value);
	assert_string_equal(buf_cstr(&b), want);
	assert_string_equal(s.name, name);
}

static void test_scales(void **state)
{
	is_scaled(UNIT_SECONDS, 0.2, 4.1, 0.5123, "0.51", "s");
	is_scaled(UNIT_SECONDS, 0.0632, 0.161, 0.0632, "63.2", "ms");
	is_scaled(UNIT_BYTES, 5.3e6, 105e6, 5.3e6, "5.3", "MB");
	is_scaled(UNIT_BYTES, 12, 120, 12, "12", "B");
	is_scaled(UNIT_BYTES_PER_SECOND, 32e6, 2.5e9, 32e6, "32", "MB/s"); /* not 0.0 GB/s */
	is_scaled(UNIT_SECONDS, 0.04, 4, 4, "4000", "ms");
	is_scaled(UNIT_SECONDS, 0.04, 40, 0.04, "0.04", "s");
	is_scaled(UNIT_NONE, 6, 158, 61, "61.00", "");
	is_scaled(UNIT_SECONDS, 0, 0, 0, "0", "ms");
	is_scaled(UNIT_SECONDS, 0.1, 1, INFINITY, "\u2013", "s");
}

static void test_ratios_and_networks(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;

	ratio_add(&b, 0.1234);
	buf_addc(&b, ' ');
	ratio_add(&b, 12.345);
	buf_addc(&b, ' ');
	ratio_add(&b, 1234.5);
	buf_addc(&b, ' ');
	ratio_add(&b, INFINITY);
	buf_addc(&b, ' ');
	ratio_add(&b, 0.00123);
	assert_string_equal(buf_cstr(&b), "0.12 12.35 1234 \u221e 0.0012");
	buf_clear(&b);
	network_add(&b, 10, 100, "");
	buf_adds(&b, "; ");
	network_add(&b, 0, 0, "");
	buf_adds(&b, "; ");
	network_add(&b, 0.5, 2500, "reset 1 /");
	assert_string_equal(buf_cstr(&b),
	                    "10 ms, 100 Mbit/s; no delay, no limit; 0.5 ms, 2.5 Gbit/s, faults: reset 1 /");
}

static void test_header(void **state)
{
	AUTO(header) struct header h = {0};
	AUTO(header) struct header empty = {0};

	OK(header_parse(
	    STR("{\"coldbench\":1,\"suite\":\"quick\",\"title\":\"T\",\"command\":[\"a\",\"b\"],\"begun\":\"now\","
	        "\"machine\":{\"kernel\":\"6.1\",\"cpu\":{\"count\":2,\"flags\":[\"x\",true]}},"
	        "\"images\":{\"python:gzip\":{\"layer_bytes\":5,\"layers\":1}},"
	        "\"engines\":{\"podman\":\"podman 5\"},\"skipped\":{\"nydus\":\"not there\"},\"more\":{\"x\":[]}}"),
	    &h, err));
	assert_string_equal(h.suite, "quick");
	assert_string_equal(h.title, "T");
	assert_string_equal(h.command, "a, b");
	assert_string_equal(h.begun, "now");
	assert_string_equal(pairs_get(&h.machine, "kernel"), "6.1");
	assert_string_equal(pairs_get(&h.machine, "cpu.count"), "2");
	assert_string_equal(pairs_get(&h.machine, "cpu.flags"), "x, true");
	assert_null(pairs_get(&h.machine, "cpu"));
	assert_string_equal(pairs_get(&h.engines, "podman"), "podman 5");
	assert_string_equal(pairs_get(&h.skipped, "nydus"), "not there");
	assert_string_equal(pairs_get(&h.images, "python:gzip.layer_bytes"), "5");
	OK(header_parse(STR("{}"), &empty, err));
	assert_int_equal(empty.machine.n, 0);
	assert_null(empty.title);
}

static void test_same_machine(void **state)
{
	AUTO(header) struct header a = {0};
	AUTO(header) struct header b = {0};
	AUTO(header) struct header c = {0};
	AUTO(header) struct header more = {0};

	OK(header_parse(STR("{\"machine\":{\"cpu\":\"x\",\"load\":1.5}}"), &a, err));
	OK(header_parse(STR("{\"machine\":{\"load\":0.1,\"cpu\":\"x\"}}"), &b, err));
	OK(header_parse(STR("{\"machine\":{\"cpu\":\"y\",\"load\":1.5}}"), &c, err));
	OK(header_parse(STR("{\"machine\":{\"cpu\":\"x\",\"disk\":\"slow\"}}"), &more, err));
	assert_true(header_same_machine(&a, &b));
	assert_false(header_same_machine(&a, &c));
	assert_false(header_same_machine(&a, &more));
}

static void test_bad_headers(void **state)
{
	AUTO(header) struct header h = {0};
	AUTO(buf) struct buf many = BUF_INIT;

	FAILS(header_parse(STR("[]"), &h, err), ERR_INVALID);
	FAILS(header_parse(STR("{\"title\":{}}"), &h, err), ERR_INVALID);
	FAILS(header_parse(STR("{\"engines\":[]}"), &h, err), ERR_INVALID);
	FAILS(header_parse(STR("{\"machine\":{\"a\":}}"), &h, err), ERR_INVALID);
	buf_adds(&many, "{\"engines\":{\"x\":\"");
	for (int i = 0; i < 5000; i++)
		buf_addc(&many, 'v');
	buf_adds(&many, "\"");
	for (int i = 0; i < 1000; i++)
		buf_addf(&many, ",\"e%d\":\"v\"", i);
	buf_adds(&many, "}}");
	OK(header_parse(buf_str(&many), &h, err));
	assert_int_equal(h.engines.n, 256);
	assert_int_equal(strlen(pairs_get(&h.engines, "x")), 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_quantities),          cmocka_unit_test(test_scales),
	    cmocka_unit_test(test_ratios_and_networks), cmocka_unit_test(test_header),
	    cmocka_unit_test(test_same_machine),        cmocka_unit_test(test_bad_headers),
	};

	return cmocka_run_group_tests_name("coldbench_quantity", tests, NULL, NULL);
}
