/*
 * What differs between two trees, as a layer. Names are visited in order of their bytes, a directory before what is in
 * it, and directories in which nothing but something below differs come along. Descriptors are for reading; they are
 * borrowed. Any thread.
 */
#ifndef DIFF_COMPARE_H
#define DIFF_COMPARE_H

#include "contentd/diff/emit.h"

/* From an upper directory of overlayfs (kernel, Documentation/filesystems/overlayfs.rst) and what lies below it. 1: it holds
 * files or directories that are not whole (metacopy, redirects); what was emitted is of no use then. */
int compare_upper(struct emit *e, int below_fd, int upper_fd, struct err *err);

/* Of any two trees. Files are the same when their attributes are, times included; when both times are whole seconds, as
 * in most images, their contents decide. */
int compare_trees(struct emit *e, int left_fd, int right_fd, struct err *err);

#endif
