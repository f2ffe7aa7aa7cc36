/* Filters and regular expressions come from clients. The input is "<filter><NUL><text>": whatever parses is matched
 * against the text, and means the same when it is asked twice. */
#include "contentd/filter/filter.h"

static bool field(const void *object, const struct str *path, size_t n, struct str *value)
{
	*value = *(const struct str *)object;
	return n % 2 == 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(cd_filter) struct cd_filter *f = NULL;
	AUTO_FREE char *copy = str_dup(str_make(data, n));
	struct str text;
	const char *filter = copy;
	bool matches;

	text = str_make(copy, n);
	text = str_sub(text, strlen(filter) + 1, 4096);
	if (cd_filter_new(&filter, 1, &f, NULL) < 0)
		return 0;
	matches = cd_filter_match(f, field, &text);
	if (matches != cd_filter_match(f, field, &text) || (!*filter && !matches))
		abort();
	return 0;
}
