#include "base/label.h"

void labels_fini(struct labels *l)
{
	vec_each(&l->v, it) {
		free(it->key);
		free(it->value);
	}
	vec_fini(&l->v);
}

/* Position of key, or where it would stand. */
static size_t labels_find(const struct labels *l, const char *key, bool *found)
{
	size_t lo = 0, hi = l->v.n;

	*found = false;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(l->v.p[mid].key, key);

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

int labels_set(struct labels *l, const char *key, const char *value, struct err *err)
{
	bool found;
	size_t at = labels_find(l, key, &found);

	if (strlen(key) + strlen(value) > LABEL_BYTES_MAX)
		return err_set(err, ERR_INVALID, "label key and value together exceed %d bytes, key: %.40s",
		               LABEL_BYTES_MAX, key);
	if (found && !*value) {
		free(l->v.p[at].key);
		free(l->v.p[at].value);
		memmove(&l->v.p[at], &l->v.p[at + 1], (l->v.n - at - 1) * sizeof(struct label));
		l->v.n--;
	} else if (found) {
		char *copy = xstrdup(value);

		free(l->v.p[at].value);
		l->v.p[at].value = copy;
	} else if (*value) {
		vec_reserve(&l->v, l->v.n + 1);
		memmove(&l->v.p[at + 1], &l->v.p[at], (l->v.n - at) * sizeof(struct label));
		l->v.p[at] = (struct label){xstrdup(key), xstrdup(value)};
		l->v.n++;
	}
	return 0;
}

const char *labels_get(const struct labels *l, const char *key)
{
	bool found;
	size_t at = labels_find(l, key, &found);

	return found ? l->v.p[at].value : NULL;
}

void labels_copy(const struct labels *from, struct labels *to)
{
	struct labels copy = LABELS_INIT;

	vec_each(&from->v, it)
		vec_push(&copy.v, (struct label){xstrdup(it->key), xstrdup(it->value)});
	labels_fini(to);
	*to = copy;
}
