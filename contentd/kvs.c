#include "contentd/kvs.h"

struct place {
	Kv__Entry *entry;
	size_t at; /* in the list as it came */
};

static int compare(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	int c = strcmp(x->entry->key, y->entry->key);

	return c ? c : x->at < y->at ? -1 : x->at > y->at;
}

/* Position of key in a clean list, or where it would stand. */
static size_t find(Kv__Entry *const *list, size_t n, const char *key, bool *found)
{
	size_t lo = 0, hi = n;

	*found = false;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(list[mid]->key, key);

		if (c == 0) {
			*found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int cd_kvs_clean(struct arena *a, Kv__Entry ***list, size_t *n, size_t max_pair_bytes, struct err *err)
{
	struct place *places = arena_alloc(a, (*n + 1) * sizeof(*places));
	Kv__Entry **out = arena_alloc(a, (*n + 1) * sizeof(*out));
	size_t kept = 0;

	for (size_t i = 0; i < *n; i++) {
		places[i] = (struct place){(*list)[i], i};
		if (max_pair_bytes && strlen((*list)[i]->key) + strlen((*list)[i]->value) > max_pair_bytes)
			return err_set(err, ERR_INVALID, "label key and value together exceed %zu bytes, key: %.40s",
			               max_pair_bytes, (*list)[i]->key);
	}
	qsort(places, *n, sizeof(*places), compare);
	/* On the wire the last entry of a key wins; an empty value means that there is none. */
	for (size_t i = 0; i < *n; i++)
		if (*places[i].entry->value && (i + 1 == *n || strcmp(places[i].entry->key, places[i + 1].entry->key)))
			out[kept++] = places[i].entry;
	*list = out;
	*n = kept;
	return 0;
}

/* memcpy takes no NULL, not even for nothing; lists of messages are NULL when they are empty. */
static void copy(Kv__Entry **to, Kv__Entry *const *from, size_t n)
{
	if (n)
		memcpy(to, from, n * sizeof(*to));
}

void cd_kvs_set(struct arena *a, Kv__Entry ***list, size_t *n, const char *key, const char *value)
{
	bool found, keep = value && *value;
	size_t at = find(*list, *n, key, &found);
	Kv__Entry **out;

	if (!found && !keep)
		return;
	out = arena_alloc(a, (*n + 1) * sizeof(*out));
	copy(out, *list, at);
	if (keep)
		out[at] = pb_kv_new(a, key, value);
	if (*n > at + found)
		copy(out + at + keep, *list + at + found, *n - at - found);
	*n = *n + keep - found;
	*list = out;
}

void cd_kvs_from_labels(struct arena *a, const struct labels *l, Kv__Entry ***list, size_t *n)
{
	*list = arena_alloc(a, (l->v.n + 1) * sizeof(**list));
	*n = l->v.n;
	for (size_t i = 0; i < *n; i++)
		(*list)[i] = pb_kv_new(a, arena_strdup(a, l->v.p[i].key), arena_strdup(a, l->v.p[i].value));
}

int cd_kvs_to_labels(Kv__Entry *const *list, size_t n, struct labels *out, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		TRY(labels_set(out, list[i]->key, list[i]->value, err));
	return 0;
}

struct cd_mask_path cd_mask_path(const char *path)
{
	const char *dot = strchr(path, '.');

	return dot ? (struct cd_mask_path){{path, (size_t)(dot - path)}, dot + 1}
	           : (struct cd_mask_path){str_of(path), NULL};
}

void cd_kvs_apply(struct arena *a, const char *key, Kv__Entry *const *from, size_t n_from, Kv__Entry ***list, size_t *n)
{
	if (key) {
		cd_kvs_set(a, list, n, key, pb_kv_get(from, n_from, key));
		return;
	}
	*list = arena_alloc(a, (n_from + 1) * sizeof(**list));
	copy(*list, from, n_from);
	*n = n_from;
}

void cd_kvs_apply_any(struct arena *a, const char *key, Kv__AnyEntry *const *from, size_t n_from, Kv__AnyEntry ***list,
                      size_t *n)
{
	Kv__AnyEntry **out = arena_alloc(a, (n_from + *n + 1) * sizeof(*out));
	size_t n_out = 0;

	for (size_t i = 0; key && i < *n; i++)
		if (strcmp((*list)[i]->key, key))
			out[n_out++] = (*list)[i];
	for (size_t i = 0; i < n_from; i++)
		if (!key || !strcmp(from[i]->key, key))
			out[n_out++] = from[i];
	*list = out;
	*n = n_out;
}

bool cd_kvs_field(Kv__Entry *const *list, size_t n, const struct str *path, size_t n_path, struct str *value)
{
	for (size_t i = 0; i < n; i++) {
		struct str rest = str_of(list[i]->key);
		size_t k = 0;

		while (k < n_path && str_skip(&rest, path[k]) && (k + 1 == n_path || str_skip(&rest, STR("."))))
			k++;
		if (k == n_path && rest.n == 0) {
			*value = str_of(list[i]->value);
			return true;
		}
	}
	return false;
}
