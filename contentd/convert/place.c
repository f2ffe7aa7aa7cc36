#include "contentd/convert/place.h"

/* "PATH[:TAG]": the tag begins after the last colon, unless a slash follows it. */
static void split_tag(const char *text, char **path, char **tag)
{
	const char *colon = strrchr(text, ':');

	if (!colon || strchr(colon, '/')) {
		*path = xstrdup(text);
		*tag = NULL;
		return;
	}
	*path = xstrndup(text, (size_t)(colon - text));
	*tag = xstrdup(colon + 1);
}

int place_open(const char *name, bool writing, const struct place_opts *opts, struct place **out, struct err *err)
{
	struct str rest = str_of(name);
	AUTO_FREE char *path = NULL;
	AUTO_FREE char *tag = NULL;

	if (str_skip(&rest, STR("oci:"))) {
		split_tag(rest.p, &path, &tag);
		return place_layout_open(name, path, tag, writing, out, err);
	}
	if (str_skip(&rest, STR("oci-archive:"))) {
		split_tag(rest.p, &path, &tag);
		return place_archive_open(name, path, tag, writing, out, err);
	}
	str_skip(&rest, STR("docker://"));
	return place_registry_open(name, rest.p, opts, out, err);
}

void place_free(struct place *p)
{
	if (p)
		p->ops->free(p);
}
