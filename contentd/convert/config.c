#include "contentd/convert/convert.h"

#include "base/json.h"

#define MEMBERS_MAX 256

int convert_config(struct str config, const struct digest *diff_ids, unsigned n, struct buf *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *r = json_reader_new(config);
	char text[DIGEST_TEXT_MAX];
	struct json_writer w;
	struct str key, raw;
	unsigned members = 0;
	int more;

	json_writer_init(&w, out, NULL);
	json_w_object_begin(&w);
	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		if (++members > MEMBERS_MAX)
			return err_set(err, ERR_EXHAUSTED, "configuration with more than %d members", MEMBERS_MAX);
		TRY(json_raw(r, &raw, err));
		if (json_key_is(key, "rootfs"))
			continue;
		json_w_key_str(&w, key);
		json_w_raw(&w, raw);
	}
	TRY(more);
	TRY(json_end(r, err));
	json_w_key(&w, "rootfs");
	json_w_object_begin(&w);
	json_w_kcstr(&w, "type", "layers");
	json_w_key(&w, "diff_ids");
	json_w_array_begin(&w);
	for (unsigned i = 0; i < n; i++)
		json_w_cstr(&w, digest_text(&diff_ids[i], text));
	json_w_array_end(&w);
	json_w_object_end(&w);
	json_w_object_end(&w);
	return 0;
}
