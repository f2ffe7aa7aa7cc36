/*
 * The life of the program as a service: the daemon, the metrics listener, and what signals and the service manager ask.
 *
 *	SIGTERM, SIGINT   ends calls and the program; containers and contentfs go on
 *	SIGHUP            reads the configuration again (what of it may change: config/keys.h), opens the log file and the
 *	                  settings of registry hosts again, in contentfs too
 *
 * systemd hears READY as soon as calls are answered (the data plane may still be opening), RELOADING and READY around a
 * reload, STOPPING, and, when it wants a watchdog, WATCHDOG for as long as the daemon answers a call on its own socket.
 */
#ifndef CONTENTD_OPS_SERVE_H
#define CONTENTD_OPS_SERVE_H

#include "contentd/config/config.h"

/* Where the configuration comes from: called for a reload. */
struct cd_config_source {
	int (*load)(struct cd_config *out, void *arg, struct err *err);
	void *arg;
};

/* Serves until a signal; on the main thread, before there are others. `config` is what the source has given. */
int cd_serve(const struct cd_config *config, const struct cd_config_source *source, struct err *err);

/* Sets the log as the configuration has it. */
int cd_log_apply(const struct cd_config *config, struct err *err);

#endif
