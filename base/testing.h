/*
 * What unit tests share: cmocka with the headers it wants before it, and assertions for functions that fill a struct err.
 * Inside OK and FAILS, `err` is the macro's own: OK(file_read(dir, "x", 10, &buf, err)).
 */
#ifndef BASE_TESTING_H
#define BASE_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#ifdef __x86_64__
#include <cpuid.h>
#endif

/* Fails the test with the error's message when the call fails. */
#define OK(expr)                                                                                                       \
	do {                                                                                                           \
		struct err ok_err_ = ERR_INIT;                                                                         \
		struct err *err = &ok_err_;                                                                            \
		if ((expr) < 0)                                                                                        \
			fail_msg("%s: %s", #expr, ok_err_.msg);                                                        \
	} while (0)

/* The call must fail with this code. */
#define FAILS(expr, want)                                                                                              \
	do {                                                                                                           \
		struct err fails_err_ = ERR_INIT;                                                                      \
		struct err *err = &fails_err_;                                                                         \
		assert_true((expr) < 0);                                                                               \
		if (fails_err_.code != (want))                                                                         \
			fail_msg("%s: %s, not %s: %s", #expr, err_code_name(fails_err_.code), err_code_name(want),     \
			         fails_err_.msg);                                                                      \
	} while (0)

/* Whether the upper halves of vector registers are in use (vectors.h); false where the processor does not tell. Only right
 * behind what is tested: the C library may clear them, too. */
static inline bool vectors_in_use(void)
{
	enum { UPPER_HALVES = 1 << 2 | 1 << 6 };
	unsigned a = 0, b, c, d = 0;

#ifdef __x86_64__
	/* XGETBV of 1, which valgrind and old processors lack: the states that differ from their initial one. */
	if (!__builtin_cpu_supports("avx") || !__get_cpuid_count(13, 1, &a, &b, &c, &d) || !(a & 1 << 2))
		return false;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(1));
#endif
	return (a & UPPER_HALVES) != 0;
}

#endif
