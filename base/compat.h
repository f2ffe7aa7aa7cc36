/* What the kernel has and Debian 12's headers lack; each with the kernel that brought it. */
#ifndef BASE_COMPAT_H
#define BASE_COMPAT_H

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x00000080 /* 6.14: uncached buffered I/O */
#endif

#ifndef FUSE_NOTIFY_RESEND_CODE
#define FUSE_NOTIFY_RESEND_CODE 7 /* 6.9: FUSE_NOTIFY_RESEND, ask the kernel to send all unanswered requests again */
#endif

#endif
