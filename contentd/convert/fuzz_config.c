/* Configurations of images from anywhere, given other DiffIDs: what could be read before can be read then, says the same of the
 * platform, and has those DiffIDs; once more changes nothing. */
#include "contentd/convert/convert.h"
#include "registry/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool same_platform(const struct reg_platform *a, const struct reg_platform *b)
{
	return str_eq(a->os, b->os) && str_eq(a->architecture, b->architecture) && str_eq(a->variant, b->variant);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const struct digest diff_ids[] = {DIGEST_EMPTY, {{1, 2, 3}}};
	AUTO(reg_config) struct reg_config *before = NULL;
	AUTO(reg_config) struct reg_config *after = NULL;
	AUTO(buf) struct buf out = BUF_INIT;
	AUTO(buf) struct buf again = BUF_INIT;
	struct str config = str_make(data, n);
	struct err err = ERR_INIT;

	if (convert_config(config, diff_ids, ARRAY_LEN(diff_ids), &out, &err) < 0)
		return 0;
	if (convert_config(buf_str(&out), diff_ids, ARRAY_LEN(diff_ids), &again, &err) < 0) {
		if (err.code != ERR_EXHAUSTED) /* one member more than there may be */
			__builtin_trap();
	} else if (!str_eq(buf_str(&out), buf_str(&again))) {
		__builtin_trap();
	}
	if (reg_config_parse(config, &before, NULL) < 0)
		return 0;
	if (reg_config_parse(buf_str(&out), &after, NULL) < 0 || after->n_diff_ids != ARRAY_LEN(diff_ids) ||
	    memcmp(after->diff_ids, diff_ids, sizeof(diff_ids)) != 0 ||
	    !same_platform(&before->platform, &after->platform))
		__builtin_trap();
	return 0;
}
