/* Phases of a start. */
#include "bench/coldbench/measure/phases.h"

const char *const PHASE_NAMES[N_PHASES] = {"resolve", "metadata", "unpack", "create", "start", "ready"};

static bool is_answered(const struct net_exchange *e)
{
	return e->end_ns && e->status >= 200 && e->status < 300;
}

static bool is_of_blob(const struct net_exchange *e)
{
	return strstr(e->target, "/blobs/") != NULL;
}

/* The first that brought the configuration (a HEAD asks whether it is there); clients write the colon of "sha256:..." in their own ways. */
static const struct net_exchange *find_config(const struct net_exchange *exchanges, size_t n, const char *digest)
{
	const struct net_exchange *found = NULL;
	const char *hex = digest ? strchr(digest, ':') : NULL;

	for (size_t i = 0; hex && i < n; i++)
		if (is_of_blob(&exchanges[i]) && is_answered(&exchanges[i]) && exchanges[i].body_bytes &&
		    !strcmp(exchanges[i].method, "GET") && strstr(exchanges[i].target, hex + 1) &&
		    (!found || exchanges[i].end_ns < found->end_ns))
			found = &exchanges[i];
	return found;
}

/* When the first blob was asked for. */
static int64_t first_blob_ns(const struct net_exchange *exchanges, size_t n)
{
	int64_t first_ns = INT64_MAX;

	for (size_t i = 0; i < n; i++)
		if (is_of_blob(&exchanges[i]) && exchanges[i].begun_ns < first_ns)
			first_ns = exchanges[i].begun_ns;
	return first_ns;
}

/* When the last of what is no blob (indexes, manifests, tokens, "/v2/") had come that was asked for before `until_ns`. */
static int64_t resolved_ns(const struct net_exchange *exchanges, size_t n, int64_t until_ns)
{
	int64_t last_ns = 0;

	for (size_t i = 0; i < n; i++)
		if (!is_of_blob(&exchanges[i]) && exchanges[i].begun_ns < until_ns && exchanges[i].end_ns > last_ns)
			last_ns = exchanges[i].end_ns;
	return last_ns;
}

static int64_t clamp(int64_t at_ns, int64_t from_ns, int64_t to_ns)
{
	return at_ns < from_ns ? from_ns : at_ns > to_ns ? to_ns : at_ns;
}

void phases_split(const struct launch *l, const struct net_exchange *exchanges, size_t n, int64_t at[N_PHASES + 1])
{
	const struct net_exchange *config = find_config(exchanges, n, l->config_digest);
	int64_t pulled_ns = clamp(l->pulled_ns, l->begun_ns, l->ready_ns);

	at[0] = l->begun_ns;
	at[PHASE_RESOLVE + 1] =
	    clamp(resolved_ns(exchanges, n, config ? config->begun_ns : first_blob_ns(exchanges, n)), at[0], pulled_ns);
	at[PHASE_METADATA + 1] = clamp(config ? config->end_ns : 0, at[PHASE_RESOLVE + 1], pulled_ns);
	at[PHASE_UNPACK + 1] = pulled_ns;
	at[PHASE_CREATE + 1] = clamp(l->init.forked_ns, pulled_ns, l->ready_ns);
	at[PHASE_START + 1] = clamp(l->init.exec_ns, at[PHASE_CREATE + 1], l->ready_ns);
	at[PHASE_READY + 1] = l->ready_ns;
}

uint64_t phases_touched_bytes(const struct launch *l, const struct net_exchange *exchanges, size_t n)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		if (is_of_blob(&exchanges[i]) && is_answered(&exchanges[i]) && exchanges[i].begun_ns >= l->pulled_ns &&
		    exchanges[i].end_ns <= l->ready_ns)
			bytes += exchanges[i].body_bytes;
	return bytes;
}
