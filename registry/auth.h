/*
 * Credentials and challenges.
 *
 * reg_docker_config_lookup() finds what the user stored with `docker login` (podman, nerdctl and crane write the same
 * file); only the command line client calls it: daemons get credentials handed to them and read no file. Nothing here
 * logs, no message holds a secret, and secrets are wiped before their memory is freed.
 * reg_challenges_parse() reads WWW-Authenticate. Any thread; no global state.
 */
#ifndef REGISTRY_AUTH_H
#define REGISTRY_AUTH_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

/* Secrets of one registry host. Either username and password, or an identity (OAuth2 refresh) token. */
struct reg_credentials {
	char *username;       /* NULL or heap */
	char *password;       /* NULL or heap */
	char *identity_token; /* NULL or heap */
};

#define REG_CREDENTIALS_INIT ((struct reg_credentials){NULL, NULL, NULL})
#define REG_SECRET_MAX 65536 /* bytes of one secret; cloud registries hand out tokens of several KiB */

/* Wipes and frees; leaves REG_CREDENTIALS_INIT. */
void reg_credentials_fini(struct reg_credentials *c);
DEFINE_AUTO_FINI(reg_credentials);

/* Deep copy into an empty *dst. */
void reg_credentials_copy(struct reg_credentials *dst, const struct reg_credentials *src);

/* True when there is nothing to present (anonymous). */
bool reg_credentials_empty(const struct reg_credentials *c);

/* Equality of what would be presented; decides whether cached tokens still belong to a host's credentials. */
bool reg_credentials_eq(const struct reg_credentials *a, const struct reg_credentials *b);

/*
 * From a username and a secret as credential stores hold them: the username "<token>", or an empty one, marks the
 * secret as an identity token. Too long, or with a NUL byte: ERR_INVALID.
 */
int reg_credentials_set(struct reg_credentials *dst, struct str username, struct str secret, struct err *err);

/*
 * Reads "user:password" of `contentctl pull --creds`.
 */
int reg_credentials_parse(struct str text, struct reg_credentials *dst, struct err *err);

/* Conditions of the look-ups below. */
#define REG_AUTH_NONE 1 /* nothing is stored for this host */

/*
 * Looks `host` (as in reg_ref.host) up in a docker configuration file: credHelpers, then auths, then credsStore.
 * `path` NULL: $DOCKER_CONFIG/config.json, else ~/.docker/config.json; an absent file is REG_AUTH_NONE.
 * May run docker-credential-<name> from PATH, which is killed at deadline_ns (ERR_DEADLINE).
 * Returns 0 with *out filled (it must be empty before), REG_AUTH_NONE, or an error.
 */
int reg_docker_config_lookup(const char *path, struct str host, int64_t deadline_ns, struct reg_credentials *out,
                             struct err *err);

/*
 * The part without I/O: what a configuration text says about `host`. Returns 0 with either *out filled, or *helper set
 * to the suffix of the helper program to ask (heap, the caller's; NULL otherwise); REG_AUTH_NONE; or an error.
 * *server is the name under which to ask it (docker.io has a legacy one). Sizes: 1 MiB of text.
 */
int reg_docker_config_parse(struct str json, struct str host, struct reg_credentials *out, char **helper, char **server,
                            struct err *err);

/* The answer of `docker-credential-x get`: {"ServerURL", "Username", "Secret"}. */
int reg_helper_answer_parse(struct str json, struct reg_credentials *out, struct err *err);

enum reg_auth_scheme { REG_AUTH_OTHER, REG_AUTH_BASIC, REG_AUTH_BEARER };

/* One challenge; texts are unquoted views into struct reg_challenges, empty when absent. */
struct reg_challenge {
	enum reg_auth_scheme scheme;
	struct str realm, service, scope, error;
};

#define REG_CHALLENGES_MAX 8
#define REG_CHALLENGE_BYTES_MAX 16384 /* of all WWW-Authenticate lines of one answer */

struct reg_challenges {
	struct reg_challenge v[REG_CHALLENGES_MAX];
	unsigned n;
	struct buf text; /* what the views point into */
};

#define REG_CHALLENGES_INIT ((struct reg_challenges){.n = 0})

void reg_challenges_fini(struct reg_challenges *c);
DEFINE_AUTO_FINI(reg_challenges);

/*
 * Adds the challenges of one WWW-Authenticate value (RFC 9110, 11.6.1): several in one value, quoted strings with
 * commas and escapes, parameters in any case. Junk ends the parse of this value without harming what came before;
 * challenges beyond REG_CHALLENGES_MAX are dropped. Views stay valid when more are added.
 */
void reg_challenges_parse(struct reg_challenges *c, struct str value);

/* The one to answer: Bearer with a realm before Basic; NULL when there is neither. */
const struct reg_challenge *reg_challenges_choose(const struct reg_challenges *c);

#endif
