#include "contentd/node/users.h"

#include "contentd/collect/refs.h"

struct loading {
	struct snap_store *snaps;
	struct arena *arena;
	struct cd_users *users;
};

/* An image leads to the same thing by several ways, one after the other. */
static void add(struct loading *l, struct map *to, struct str key, const char *image)
{
	struct cd_image_names *names = map_get(to, key);

	if (!names) {
		names = arena_zalloc(l->arena, 1, sizeof(*names));
		map_put(to, key, names);
	}
	if (!names->v.n || strcmp(*vec_last(&names->v), image))
		vec_push(&names->v, arena_strdup(l->arena, image));
}

static int note_content(void *arg, const char *image, const char *ns, const char *digest, struct err *err)
{
	struct loading *l = arg;

	add(l, &l->users->blobs, str_of(digest), image);
	return 0;
}

static int note_chain(void *arg, const char *image, struct snap_space space, const char *chain, struct err *err)
{
	AUTO_FREE struct digest *keys = NULL;
	struct loading *l = arg;
	unsigned n = 0;
	char hex[65];

	/* A chain that a client has unpacked, or that is gone, has no indexes. */
	if (snap_chain_indexes(l->snaps, space, chain, &keys, &n, NULL) < 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		add(l, &l->users->layers, str_of(digest_hex(&keys[i], hex)), image);
	return 0;
}

int cd_users_load(struct cd_daemon *d, struct snap_store *snaps, struct arena *a, struct cd_users *u, struct err *err)
{
	struct loading l = {snaps, a, u};

	return cd_refs_of_images(d, &(struct cd_refs){.content = note_content, .chain = note_chain, .arg = &l}, err);
}

static void fini(struct map *m)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(m, &at, &key, &value);)
		vec_fini(&((struct cd_image_names *)value)->v);
	map_fini(m);
}

void cd_users_fini(struct cd_users *u)
{
	fini(&u->blobs);
	fini(&u->layers);
}

const struct cd_image_names *cd_users_of_blob(const struct cd_users *u, const char *digest)
{
	return map_get(&u->blobs, str_of(digest));
}

const struct cd_image_names *cd_users_of_layer(const struct cd_users *u, const char *index_key)
{
	return map_get(&u->layers, str_of(index_key));
}
