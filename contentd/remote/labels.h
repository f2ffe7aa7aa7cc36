/*
 * What a client that unpacks an image layer by layer says about one of them, in labels of Prepare: enough to make its
 * snapshot without its contents. The names are those of containerd's CRI plugin and Transfer service, and of the clients
 * of stargz-snapshotter (ctr-remote, nerdctl). No I/O, no state.
 */
#ifndef CONTENTD_REMOTE_LABELS_H
#define CONTENTD_REMOTE_LABELS_H

#include "base/digest.h"
#include "base/label.h"

#define CD_LABEL_SNAPSHOT_REF "containerd.io/snapshot.ref" /* the name that the committed snapshot is to have */
#define CD_LABEL_REMOTE "containerd.io/snapshot/remote"    /* set on those that were made here */

/* Texts are the labels'. */
struct cd_remote_layer {
	const char *target; /* chain id */
	const char *image;  /* reference, as the client has it */
	struct digest blob;
	struct digest manifest; /* of the platform's manifest; zero: not said */
	struct digest toc;      /* that the layer's descriptor names; zero: not said */
};

/* False when the labels name no layer of an image, which is an ordinary Prepare; when they try to, `why` says what is
 * wrong with them (its code is ERR_OK otherwise). */
bool cd_remote_layer_parse(const struct labels *l, struct cd_remote_layer *out, struct err *why);

#endif
