/* Indexes, manifests, configurations and the choice from an index, on any bytes. */
#include "registry/manifest_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What is written is read, and written again, as the same. */
static void check_written(const struct reg_manifest *m)
{
	AUTO(reg_manifest) struct reg_manifest *again = NULL;
	AUTO(buf) struct buf once = BUF_INIT;
	AUTO(buf) struct buf twice = BUF_INIT;

	reg_manifest_write(m, &once);
	if (reg_manifest_parse(buf_str(&once), m->media_type, &again, NULL) < 0)
		__builtin_trap();
	reg_manifest_write(again, &twice);
	if (!str_eq(buf_str(&once), buf_str(&twice)))
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const types[] = {"", REG_MT_OCI_INDEX, REG_MT_DOCKER_MANIFEST, "application/json"};
	AUTO(reg_config) struct reg_config *config = NULL;
	struct reg_platform want = reg_platform_host(), p;
	struct str bytes = str_make(data, n);

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		AUTO(reg_manifest) struct reg_manifest *m = NULL;
		const struct reg_descriptor *d;
		struct err err = ERR_INIT;

		if (reg_manifest_parse(bytes, str_of(types[i]), &m, &err) < 0)
			continue;
		if (m->media_type.n == 0 || !str_eq(m->bytes, bytes))
			__builtin_trap();
		check_written(m);
		if (m->kind == REG_IMAGE_INDEX)
			reg_index_choose(m, &want, &d, &err);
		for (size_t l = 0; l < m->n_layers; l++) {
			reg_layer_format(m->layers[l].media_type);
			reg_annotation_get(m->layers[l].annotations, m->layers[l].n_annotations, STR("x"));
		}
	}
	reg_config_parse(bytes, &config, NULL);
	if (reg_platform_parse(bytes, &p, NULL) == 0 && reg_platform_fit(&p, &p) < 0 && p.variant.n == 0)
		__builtin_trap();
	return 0;
}
