/*
 * Scope-bound ownership.
 *
 * Every local that owns something carries AUTO(type), AUTO_FD or AUTO_FREE and is initialised on its own line;
 * ownership leaves the scope only through STEAL. A parameter that the callee consumes (even when it fails) is spelled
 * TAKE(T *). Any thread; no state.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* Marks a parameter whose ownership passes to the callee, also when the call fails. */
#define TAKE(T) T

/* Moves a pointer out of its variable, leaving NULL behind. */
#define STEAL(p)                                                                                                       \
	({                                                                                                             \
		__typeof__(p) *steal_at_ = &(p);                                                                       \
		__typeof__(p) steal_v_ = *steal_at_;                                                                   \
		*steal_at_ = NULL;                                                                                     \
		steal_v_;                                                                                              \
	})

/* Moves a file descriptor out of its variable, leaving -1 behind. */
#define STEAL_FD(fd)                                                                                                   \
	({                                                                                                             \
		int *steal_at_ = &(fd);                                                                                \
		int steal_v_ = *steal_at_;                                                                             \
		*steal_at_ = -1;                                                                                       \
		steal_v_;                                                                                              \
	})

/* Defines the cleanup used by AUTO(name): name##_cleanup(T *) is called with the address of the variable. */
#define DEFINE_CLEANUP(name, T, call)                                                                                  \
	static inline void name##_cleanup(T *auto_at_)                                                                 \
	{                                                                                                              \
		T *it = auto_at_;                                                                                      \
		call;                                                                                                  \
	}                                                                                                              \
	struct cleanup_needs_semicolon_

/* For heap objects with `void x_free(struct x *)` that accepts NULL: AUTO(x) struct x *p = NULL; */
#define DEFINE_AUTO_FREE(x)                                                                                            \
	static inline void x##_cleanup(struct x **auto_at_)                                                            \
	{                                                                                                              \
		x##_free(*auto_at_);                                                                                   \
	}                                                                                                              \
	struct cleanup_needs_semicolon_

/* For embedded objects with `void x_fini(struct x *)`: AUTO(x) struct x v = X_INIT; */
#define DEFINE_AUTO_FINI(x)                                                                                            \
	static inline void x##_cleanup(struct x *auto_at_)                                                             \
	{                                                                                                              \
		x##_fini(auto_at_);                                                                                    \
	}                                                                                                              \
	struct cleanup_needs_semicolon_

#define AUTO(x) __attribute__((cleanup(x##_cleanup)))

static inline void auto_fd_cleanup_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void auto_free_cleanup_(void *at)
{
	free(*(void **)at);
}

#define AUTO_FD __attribute__((cleanup(auto_fd_cleanup_)))
#define AUTO_FREE __attribute__((cleanup(auto_free_cleanup_)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(p, T, member) ((T *)((char *)(p)-offsetof(T, member)))

#endif
