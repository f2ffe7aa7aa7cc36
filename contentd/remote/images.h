/*
 * Images that clients unpack layer by layer. The first Prepare of a layer has contentfs open the whole image: manifest,
 * then the tables of contents of all its layers at once. Those of the other layers, whether they come one after the other
 * (containerd before 2.2) or together, find it open: an image costs two round trips, not one for each layer. Each waits for
 * its own layer alone: contentfs tells of layers as they are known, and one whose table does not come holds up no other.
 *
 * An image is opened by a thread of its own, which outlives the call that began it as long as nobody who waits is
 * cancelled. What was opened is kept for a while; so is a failure, shortly, lest every layer of an image waits for a
 * registry that does not answer. The indexes of the layers stay in contentfs either way. Any thread.
 */
#ifndef CONTENTD_REMOTE_IMAGES_H
#define CONTENTD_REMOTE_IMAGES_H

#include "contentd/daemon.h"
#include "contentd/remote/labels.h"

struct cd_remote_images;
struct cd_remote_images *cd_remote_images_new(void);
/* Gives up what is being opened. No call may begin or wait any more. */
void cd_remote_images_stop(struct cd_remote_images *all);
void cd_remote_images_free(struct cd_remote_images *all); /* after a stop, and when all images were given back */
DEFINE_AUTO_FREE(cd_remote_images);

/* One image, being opened, or opened. */
struct cd_remote_image {
	char *reference; /* normalised, by digest when the client said which */
	char *owner;     /* by whose account: a namespace, or "" for the node's */
	struct cd_remote_images *all;

	/* all->lock */
	enum { CD_REMOTE_OPENING, CD_REMOTE_OPEN, CD_REMOTE_FAILED } state;
	VEC(Contentd__Contentfs__V1__Layer *)
	layers;                /* known so far; each constant, and here as long as the image is */
	struct rpc_call *call; /* that opens it, and may be cancelled; NULL when it is over */
	unsigned refs, waiting;
	int64_t since_ns; /* of the state */
	bool brief;       /* some of what is known is not for long */
	struct err why;   /* CD_REMOTE_FAILED */
};

/*
 * The layer of an image that was opened lately, or is now: *layer as soon as it is known, NULL when the image has no such
 * layer. `stale`: an image that is of no use to the caller any more, or NULL. `ns` is the client's namespace, "" in a proxied
 * key space, whose tenant is the containerd in front of us. The latter goes by what the node's docker configuration has; a
 * namespace by what it has itself presented to that repository in a pull, unless the configuration of contentd names the
 * file: then all do. *image: the caller's reference, which keeps *layer. A cancellation of `c` ends the wait.
 */
int cd_remote_layer_find(struct cd_daemon *d, struct rpc_call *c, const char *ns, const struct cd_remote_layer *of,
                         const struct cd_remote_image *stale, struct cd_remote_image **image,
                         const Contentd__Contentfs__V1__Layer **layer, struct err *err);
void cd_remote_image_unref(struct cd_remote_image *image); /* NULL is fine */
DEFINE_CLEANUP(cd_remote_image, struct cd_remote_image *, cd_remote_image_unref(*it));

#endif
