/* URLs as the client compares and follows them (libcurl's parser underneath). Private to registry/. Any thread. */
#ifndef REGISTRY_URL_H
#define REGISTRY_URL_H

#include "base/buf.h"
#include "base/err.h"

#define URL_BYTES_MAX 16384 /* pre-signed URLs carry signatures and policies of some KiB */

struct url_origin {
	char *origin;    /* "https://host:443": equal text = same scheme, host and port */
	char *authority; /* "host", or "host:port" where the port is not the scheme's own */
	bool tls;
};

void url_origin_fini(struct url_origin *o);
DEFINE_AUTO_FINI(url_origin);

/* ERR_INVALID on anything but an http or https URL. */
int url_origin_of(const char *url, struct url_origin *out, struct err *err);

/* Same scheme, host and port; false when either is no URL. */
bool url_same_origin(const char *a, const char *b);

/* Resolves a Location (or token realm) against `base` (NULL: it must be absolute). Refused as ERR_INVALID: other schemes,
 * user information, control characters, more than URL_BYTES_MAX. The fragment is dropped. */
int url_resolve(const char *base, struct str location, char **out, struct err *err);

#endif
