#include "base/siphash.h"

#include "base/testing.h"

/* SipHash-2-4 of 00 01 .. 0e under the key 00 01 .. 0f: the example of the paper's appendix. */
static void the_papers_example(void **state)
{
	struct siphash s = siphash_begin(0x0706050403020100, 0x0f0e0d0c0b0a0908);

	siphash_word(&s, 0x0706050403020100, 2);
	siphash_word(&s, 0x0f0e0d0c0b0a0908, 2); /* seven bytes, and the length in the last */
	s.v[2] ^= 0xff;
	siphash_rounds(&s, 4);
	assert_true(siphash_out(&s) == 0xa129ca6149be45e5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_papers_example)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
