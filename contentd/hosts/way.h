/*
 * The way to a registry host: hosts.toml of a directory like containerd's certs.d, and what a client wants for one call, as
 * what contentfs is told (Access). Reads the file each time: a change counts from the next pull or push on. Any thread.
 */
#ifndef CONTENTD_HOSTS_WAY_H
#define CONTENTD_HOSTS_WAY_H

#include "base/err.h"
#include "rpc/arena.h"
#include "rpc/proto/contentfs.pb-c.h"

struct cd_way {
	const char *dir;            /* of the configuration, or of the call */
	const char *host;           /* as in a reference: "docker.io", "127.0.0.1:5000" */
	const char *default_scheme; /* "http", "https"; "" for what is usual: where no file says */
	const char *const *headers; /* "Name: value", to the registry, not to mirrors */
	size_t n_headers;
};

/* Sets the endpoints of *to, in the arena: from <dir>/<host>_<port>_/, <dir>/<host>:<port>/ or <dir>/_default/, the first one
 * that is there. None when nothing is said of the host: then contentfs does what is usual. Errors name file and line. */
int cd_way_find(const struct cd_way *way, struct arena *a, Contentd__Contentfs__V1__Access *to, struct err *err);

#endif
