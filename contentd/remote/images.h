/*
 * Images that clients unpack layer by layer. The first Prepare of a layer opens the whole image in contentfs: manifest,
 * then the tables of contents of all its layers at once. Those of the other layers, whether they come one after the other
 * (containerd before 2.2) or together, find it open: an image costs two round trips, not one for each layer.
 *
 * What was opened is kept for a while; so is a failure, shortly, lest every layer of an image waits for a registry that
 * does not answer. The indexes of the layers stay in contentfs either way. Any thread.
 */
#ifndef CONTENTD_REMOTE_IMAGES_H
#define CONTENTD_REMOTE_IMAGES_H

#include "contentd/daemon.h"
#include "contentd/remote/labels.h"

struct cd_remote_images;
struct cd_remote_images *cd_remote_images_new(void);
void cd_remote_images_free(struct cd_remote_images *all); /* nobody waits, and all images were given back */
DEFINE_AUTO_FREE(cd_remote_images);

/* One image, opened. Constant. */
struct cd_remote_image {
	char *reference; /* normalised, by digest when the client said which */
	char *owner;     /* by whose account: a namespace, or "" for the node's */
	Contentd__Contentfs__V1__OpenResponse *opened;
	struct cd_remote_images *all;

	/* all->lock */
	enum { CD_REMOTE_OPENING, CD_REMOTE_OPEN, CD_REMOTE_FAILED } state;
	unsigned refs;
	int64_t since_ns; /* of the state */
	struct err why;   /* CD_REMOTE_FAILED */
};

/*
 * The image of a layer, opened now, or lately; `again`: now in any case, since the one of lately lacks the layer. `ns` is the
 * client's namespace, "" in a proxied key space, whose tenant is the containerd in front of us. The latter goes by what the
 * node's docker configuration has; a namespace by what it has itself presented to that repository in a pull, unless the
 * configuration of contentd names the file: then all do. The caller's reference. A cancellation of `c` ends the wait.
 */
int cd_remote_image_open(struct cd_daemon *d, struct rpc_call *c, const char *ns, const struct cd_remote_layer *of,
                         bool again, struct cd_remote_image **out, struct err *err);
void cd_remote_image_unref(struct cd_remote_image *image); /* NULL is fine */
DEFINE_CLEANUP(cd_remote_image, struct cd_remote_image *, cd_remote_image_unref(*it));

/* The layer with that blob, or NULL. Borrowed. */
const Contentd__Contentfs__V1__Layer *cd_remote_image_layer(const struct cd_remote_image *image,
                                                            const struct digest *blob);

#endif
