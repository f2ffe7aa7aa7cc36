/*
 * Names of images: parsing and formatting of references, and what a host name in one stands for.
 *
 * "alpine" means docker.io/library/alpine:latest; everything else is [host[:port]/]path[:tag][@digest], where the
 * first component is a host if it holds a '.' or a ':' or is "localhost" (the rule of every client since Docker 1.0).
 * Pure functions over values: no I/O, any thread. Input is untrusted and bounded.
 */
#ifndef REGISTRY_REFERENCE_H
#define REGISTRY_REFERENCE_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"

/* Host and path together: 255 bytes in most registries and clients; a host is a DNS name (253) with a port. */
#define REG_HOST_MAX 261
#define REG_REPOSITORY_MAX 255
#define REG_TAG_MAX 128
/* host / repository : tag @ digest, and a NUL. */
#define REG_REF_TEXT_MAX (REG_HOST_MAX + 1 + REG_REPOSITORY_MAX + 1 + REG_TAG_MAX + 1 + DIGEST_TEXT_MAX)

#define REG_DOCKER_HOST "docker.io"
#define REG_DOCKER_API_HOST "registry-1.docker.io"

/* All texts are NUL-terminated. A reference has a tag, a digest, or both; with both the digest decides. */
struct reg_ref {
	char host[REG_HOST_MAX + 1];             /* normalised: "docker.io", "localhost:5000", "[::1]:5000" */
	char repository[REG_REPOSITORY_MAX + 1]; /* "library/alpine" */
	char tag[REG_TAG_MAX + 1];               /* "" when there is none */
	bool has_digest;
	struct digest digest;
};

/*
 * Parses and normalises what a user typed. index.docker.io, registry-1.docker.io and registry.hub.docker.com become
 * docker.io, and one-component names there get "library/". Without tag and digest the tag is "latest".
 * ERR_INVALID names what is wrong (upper case in the path, an unknown digest algorithm, lengths).
 */
int reg_ref_parse(struct str text, struct reg_ref *out, struct err *err);

/* Parses "repository" or "host/repository" pieces that come apart: checks both as reg_ref_parse would; no tag. */
int reg_ref_make(struct str host, struct str repository, struct reg_ref *out, struct err *err);

/* The full canonical text, "docker.io/library/alpine:latest@sha256:…"; parsing it gives the same value. */
char *reg_ref_text(const struct reg_ref *ref, char dst[static REG_REF_TEXT_MAX]);

/* Sets tag (digest); the other one stays as it is. ERR_INVALID on a tag that is not one. */
int reg_ref_set_tag(struct reg_ref *ref, struct str tag, struct err *err);
void reg_ref_set_digest(struct reg_ref *ref, const struct digest *digest);

/* The authority to contact for a reference host: registry-1.docker.io for docker.io, else the host itself. */
const char *reg_host_api(const char *host);

/* True for localhost, 127.0.0.0/8 and ::1, with or without a port: there plain HTTP is the default. */
bool reg_host_is_loopback(struct str host);

#endif
