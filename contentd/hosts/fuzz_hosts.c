#include "contentd/hosts/hosts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(cd_hosts) struct cd_hosts hosts = {0};
	struct err err = ERR_INIT;

	if (cd_hosts_parse("dir/hosts.toml", str_make((const char *)data, n), &hosts, &err) < 0)
		return 0;
	/* What was accepted leads somewhere. */
	vec_each(&hosts.mirrors, m) {
		AUTO_FREE char *base = NULL;

		if (cd_hosts_base(m->url, m->override_path, &base, &err) < 0 || !m->can)
			abort();
	}
	return 0;
}
