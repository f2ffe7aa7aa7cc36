/*
 * A single-threaded event loop over epoll: descriptors, timers, and wake-ups from other threads. Callbacks run on the
 * thread in loop_run and must not block. Sources may be freed from inside any callback, their own included.
 * Only loop_post and loop_quit may be called from other threads.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include "base/cleanup.h"
#include "base/err.h"

#include <stdint.h>
#include <sys/epoll.h>

struct loop;
struct loop_io;
struct loop_timer;

int loop_new(struct loop **out, struct err *err);
void loop_free(struct loop *l); /* all sources must be gone; posts that no loop_run took are dropped */
DEFINE_AUTO_FREE(loop);

/* Runs until loop_quit; may then be run again. */
int loop_run(struct loop *l, struct err *err);

/* Ends loop_run, or the next one when none runs. What the same thread posted before is still called. Any thread. */
void loop_quit(struct loop *l);

/* Watches fd (not owned) for EPOLLIN | EPOLLOUT…; level-triggered. Free the source before the descriptor is closed. */
int loop_io_new(struct loop *l, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events), void *arg,
                struct loop_io **out, struct err *err);
void loop_io_set(struct loop_io *io, uint32_t events);
void loop_io_free(struct loop_io *io);

/* One-shot timer, unarmed at first. Deadline: CLOCK_MONOTONIC ns; INT64_MAX disarms. */
int loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg, struct loop_timer **out, struct err *err);
void loop_timer_set(struct loop_timer *t, int64_t deadline_ns);
void loop_timer_free(struct loop_timer *t);

/* Calls fn(arg) on the loop's thread, in order of posting. Any thread. */
void loop_post(struct loop *l, void (*fn)(void *arg), void *arg);

#endif
