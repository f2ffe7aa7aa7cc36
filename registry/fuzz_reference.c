/* Any text either is refused or has a canonical form that parses to the same value. */
#include "registry/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char text[REG_REF_TEXT_MAX];
	struct reg_ref ref, again;

	reg_host_is_loopback(str_make(data, n));
	if (reg_ref_parse(str_make(data, n), &ref, NULL) < 0)
		return 0;
	reg_ref_text(&ref, text);
	/* A host of one word, known by its upper case, loses that mark in lower case. */
	if (!strpbrk(ref.host, ".:") && strcmp(ref.host, "localhost"))
		return 0;
	if (reg_ref_parse(str_of(text), &again, NULL) < 0 || memcmp(&ref, &again, sizeof(ref)))
		__builtin_trap();
	return 0;
}
