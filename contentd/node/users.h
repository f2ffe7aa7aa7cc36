/* Who uses what: the images ("<namespace>/<name>") that lead to a blob or to a layer index. A look at one moment. */
#ifndef CONTENTD_NODE_USERS_H
#define CONTENTD_NODE_USERS_H

#include "base/map.h"
#include "contentd/daemon.h"

struct cd_image_names {
	VEC(const char *) v; /* in the arena of the load */
};

struct cd_users {
	struct map blobs;  /* digest -> struct cd_image_names */
	struct map layers; /* index key, 64 hex digits -> struct cd_image_names */
};
#define CD_USERS_INIT ((struct cd_users){MAP_INIT, MAP_INIT})
void cd_users_fini(struct cd_users *u);
DEFINE_AUTO_FINI(cd_users);

/* From all images of all namespaces. The arena has to outlive `u`. */
int cd_users_load(struct cd_daemon *d, struct snap_store *snaps, struct arena *a, struct cd_users *u, struct err *err);

/* Borrowed; NULL when nobody does. */
const struct cd_image_names *cd_users_of_blob(const struct cd_users *u, const char *digest);
const struct cd_image_names *cd_users_of_layer(const struct cd_users *u, const char *index_key);

#endif
