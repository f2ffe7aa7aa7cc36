/*
 * What isa-l leaves behind. Its routines (2.30: checksums, so inflating, too) end with the upper halves of the vector
 * registers in use. From then on, until somebody clears them, each SSE instruction of the thread waits for the one that
 * wrote its register before, to keep a half that nobody wants: code between, such as ours and OpenSSL's, was seen to take
 * three times as long. So whoever calls isa-l calls vectors_leave() next. Any thread.
 */
#ifndef BASE_VECTORS_H
#define BASE_VECTORS_H

static inline void vectors_leave(void)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vzeroupper" ::
		                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
		                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
#endif
}

#endif
