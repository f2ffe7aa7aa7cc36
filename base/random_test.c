#include "base/random.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Also where one call of the kernel gives less than was asked for. */
static void every_byte_is_drawn_and_no_other(void **state)
{
	static uint8_t data[2000], ored[2000];

	for (int i = 0; i < 64; i++) {
		memset(data, 0, sizeof(data));
		random_bytes(data + 1, sizeof(data) - 2);
		for (size_t k = 0; k < sizeof(data); k++)
			ored[k] |= data[k];
	}
	assert_int_equal(ored[0], 0);
	assert_int_equal(ored[sizeof(ored) - 1], 0);
	for (size_t k = 1; k + 1 < sizeof(ored); k++)
		assert_int_equal(ored[k], 0xff); /* a bit stays 0 in 64 draws once in 2^64 */
}

static void hex_of_any_length(void **state)
{
	char a[65], b[65];

	for (size_t n = 0; n <= 32; n++) {
		memset(a, 'x', sizeof(a));
		assert_ptr_equal(random_hex(a, n), a);
		assert_int_equal(strlen(a), 2 * n);
		assert_int_equal(strspn(a, "0123456789abcdef"), 2 * n);
	}
	assert_string_not_equal(random_hex(a, 32), random_hex(b, 32));
	assert_true(random_u64() != random_u64());
}

/* The numbers of the public implementation (Vigna's splitmix64.c). */
static void a_stream_is_the_same_everywhere(void **state)
{
	static const uint64_t want[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
	                                4593380528125082431u, 16408922859458223821u};
	uint64_t stream = 1234567;

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		assert_true(random_next(&stream) == want[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_byte_is_drawn_and_no_other),
	    cmocka_unit_test(hex_of_any_length),
	    cmocka_unit_test(a_stream_is_the_same_everywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
