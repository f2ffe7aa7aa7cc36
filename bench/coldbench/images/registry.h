/*
 * A docker-registry on a loopback port with its data in memory, so that it is not what is measured. It ends with the thread
 * that started it, and its memory with it, however that comes. One thread.
 */
#ifndef BENCH_COLDBENCH_IMAGES_REGISTRY_H
#define BENCH_COLDBENCH_IMAGES_REGISTRY_H

#include "bench/coldbench/images/images.h"

struct registry;

/* Its configuration is DIR/registry.yml, logs are DIR/registry.log and DIR/push.log. It answers when this returns. Both this
 * and pushing end with ERR_CANCELLED when `cancel_fd` (-1: none) becomes readable. */
int registry_start(const char *dir, int cancel_fd, struct registry **out, struct err *err);
/* NULL is fine. */
void registry_stop(struct registry *r);

/* "127.0.0.1:PORT"; borrowed. */
const char *registry_host(const struct registry *r);

/* `name`: "bench/python:estargz". What is there is not sent again. */
int registry_push(struct registry *r, const struct image *image, const char *name, struct err *err);

#endif
