/*
 * Telling systemd how the service is: the datagrams of sd_notify(3), whose protocol is promised to stay as it is, and
 * this is all of it that is used. Without NOTIFY_SOCKET in the environment every call does nothing.
 */
#ifndef CONTENTD_OPS_NOTIFY_H
#define CONTENTD_OPS_NOTIFY_H

#include <stdint.h>

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no child speaks for us. Before
 * there are threads. */
void cd_notify_init(void);

/* "READY=1", "STOPPING=1", "STATUS=...", several separated by newlines. Failures are logged at debug: whoever started us
 * may be gone. Any thread. */
void cd_notify(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* How often "WATCHDOG=1" is to be sent: half of what the service manager waits; 0: it does not. */
int64_t cd_notify_watchdog_ns(void);

#endif
