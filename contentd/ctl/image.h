/* Images as the verbs see them: fetched when absent, and read down to the configuration of this machine's platform. */
#ifndef CTL_IMAGE_H
#define CTL_IMAGE_H

#include "contentd/ctl/ctl.h"

#include "base/digest.h"

struct image {
	struct buf config;      /* JSON of the image configuration */
	struct digest chain_id; /* of all its layers: the name of the snapshot to start from */
	unsigned n_layers;
};
void image_fini(struct image *i);
DEFINE_AUTO_FINI(image);

/* The full name under which the daemon keeps what a user calls `name`; in the arena. */
int image_name(struct ctl *c, const char *name, const char **full, struct err *err);

/* Reads a local image. ERR_NOT_FOUND when the daemon has none of that full name. */
int image_load(struct ctl *c, const char *full_name, struct image *out, struct err *err);

/* Phases of a pull, nanoseconds; zero where the daemon named none. */
struct image_times {
	int64_t resolve_ns, open_ns, unpack_ns, mount_ns, total_ns;
};

/* Pulls through the daemon, with progress when on a terminal. lazy: "auto" or "off". `times` may be NULL. */
int image_pull(struct ctl *c, const char *full_name, const char *lazy, struct image_times *times, struct err *err);

#endif
