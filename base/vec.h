/*
 * Typed growable arrays: VEC(T) declares the struct, the macros work on any of them. Growth aborts when memory is
 * gone; bound counts that come from outside. Elements move when the vector grows: keep indices, not pointers.
 */
#ifndef BASE_VEC_H
#define BASE_VEC_H

#include "base/buf.h"

#define VEC(T)                                                                                                         \
	struct {                                                                                                       \
		T *p;                                                                                                  \
		size_t n, cap;                                                                                         \
	}

#define VEC_INIT                                                                                                       \
	{                                                                                                              \
		NULL, 0, 0                                                                                             \
	}

void *vec_grow_(void *p, size_t *cap, size_t want, size_t elem_bytes);

#define vec_reserve(v, count)                                                                                          \
	((v)->cap >= (size_t)(count) ? (void)0                                                                         \
	                             : (void)((v)->p = vec_grow_((v)->p, &(v)->cap, (count), sizeof(*(v)->p))))
/* Appends a value. */
#define vec_push(v, ...) (vec_reserve(v, (v)->n + 1), (void)((v)->p[(v)->n++] = (__VA_ARGS__)))
/* Appends a zeroed element and gives its address (valid until the next growth). */
#define vec_add(v) (vec_reserve(v, (v)->n + 1), memset(&(v)->p[(v)->n], 0, sizeof(*(v)->p)), &(v)->p[(v)->n++])
#define vec_pop(v) ((v)->p[--(v)->n])
#define vec_last(v) (&(v)->p[(v)->n - 1])
#define vec_clear(v) ((void)((v)->n = 0))
#define vec_fini(v) (free((v)->p), (void)((v)->p = NULL, (v)->n = (v)->cap = 0))
/* Iterates with a pointer; the vector must not grow meanwhile. */
#define vec_each(v, it) for (__typeof__(*(v)->p) *it = (v)->p; it < (v)->p + (v)->n; it++)
/* Removes element i, the last one takes its place. */
#define vec_swap_remove(v, i) ((void)((v)->p[i] = (v)->p[--(v)->n]))

#endif
