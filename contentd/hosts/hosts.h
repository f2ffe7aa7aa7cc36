/*
 * hosts.toml, as containerd has it: which servers are asked for what a registry host names, in which order, and how. Bytes
 * in, struct out: no I/O, any thread.
 *
 *	server = "https://registry.example"     # the registry itself; asked last
 *	[host."https://mirror.example"]         # before it, in this order
 *	  capabilities = ["pull", "resolve"]    # and "push"; all three when none is named
 *	  ca = "ca.pem"                         # instead of the system's; relative to the file
 *	  client = [["cert.pem", "key.pem"]]    # or one file with both
 *	  skip_verify = true
 *	  override_path = true                  # the URL's path as it is, without "/v2"
 *	  [host."https://mirror.example".header]
 *	    x-token = "..."                     # or a list
 *
 * The keys of a host may also stand at the top, for the server. Source: containerd's docs/hosts.md.
 */
#ifndef CONTENTD_HOSTS_HOSTS_H
#define CONTENTD_HOSTS_HOSTS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"

#define CD_HOSTS_MAX 32
#define CD_HOSTS_HEADERS_MAX 32

struct cd_hosts_server {
	char *url;             /* as written; of the server itself NULL when the file does not say */
	unsigned can;          /* REG_CAN_... */
	bool can_set;          /* the file says */
	char *ca, *cert, *key; /* paths, absolute, or NULL; without a key the certificate's file has it */
	bool skip_verify, override_path;
	VEC(char *) headers; /* "Name: value" */
};

struct cd_hosts {
	VEC(struct cd_hosts_server) mirrors;
	struct cd_hosts_server server;
};
void cd_hosts_fini(struct cd_hosts *h);
DEFINE_AUTO_FINI(cd_hosts);

/* `file` names it in errors ("file:line: reason", ERR_INVALID), and its folder is what paths are relative to. Unknown keys
 * are errors. */
int cd_hosts_parse(const char *file, struct str text, struct cd_hosts *out, struct err *err);

/* Nothing in it begins another header, and it is of sensible size. */
bool cd_hosts_is_header(const char *name, const char *value);

/* Where requests to a server begin: "https://mirror.example/v2". Without a scheme it is https. ERR_INVALID. Caller frees. */
int cd_hosts_base(const char *url, bool override_path, char **out, struct err *err);

/* Whether two such bases have scheme, host (by its text) and port in common. */
bool cd_hosts_same_server(const char *a, const char *b);

#endif
