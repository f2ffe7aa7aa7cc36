/*
 * Names of the annotations by which an image says of a layer that it is lazy: on the layer's descriptor in the manifest.
 * Sources: stargz-snapshotter docs/estargz.md; containers/storage pkg/chunked.
 */
#ifndef ESTARGZ_ANNOTATIONS_H
#define ESTARGZ_ANNOTATIONS_H

/* sha256 of the TOC's JSON: eStargz, and zstd:chunked as stargz-snapshotter writes it. The only one of these that
 * containerd passes on to a snapshotter. */
#define ESGZ_ANN_TOC "containerd.io/snapshot/stargz/toc.digest"
/* Decimal: bytes of the layer's tar. */
#define ESGZ_ANN_PLAIN_SIZE "io.containers.estargz.uncompressed-size"
/* In an image of TOCs: digest of the layer that this TOC is of. */
#define ESGZ_ANN_LAYER "containerd.io/snapshot/stargz/layer.digest"

/* Of zstd:chunked, behind one of the prefixes. containers/storage used the old one until November 2022;
 * stargz-snapshotter still does. */
#define ESGZ_ANN_CHUNKED "io.github.containers.zstd-chunked."
#define ESGZ_ANN_CHUNKED_OLD "io.containers.zstd-chunked."
#define ESGZ_ANN_CHECKSUM "manifest-checksum" /* sha256 of the TOC's compressed bytes */
#define ESGZ_ANN_POSITION "manifest-position" /* "offset:compressed:plain:1" */
#define ESGZ_ANN_SPLIT "tarsplit-position"    /* "offset:compressed:plain" */
/* sha256 of the tar-split's compressed bytes: from June 2023 until the TOC said it, in April 2024. */
#define ESGZ_ANN_SPLIT_CHECKSUM "tarsplit-checksum"

/* What follows the tag of an image in that of the image with its TOCs. */
#define ESGZ_TOC_TAG_SUFFIX "-esgztoc"

#endif
