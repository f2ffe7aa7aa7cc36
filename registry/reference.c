#include "registry/reference.h"

#include <stdio.h>

#define REF_INPUT_MAX 1024 /* longer than any valid reference */

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}
static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}
static bool is_alnum(char c)
{
	return is_lower(c | 0x20) || is_digit(c);
}
static bool is_word(char c)
{
	return is_alnum(c) || c == '_';
}
static bool is_hex(char c)
{
	return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

static bool port_ok(struct str port)
{
	uint64_t n;

	return port.n <= 5 && str_u64(port, 10, &n) && n > 0 && n <= 65535;
}

/* "[" IPv6 "]" with an optional port; only the alphabet is checked, the resolver does the rest. */
static bool ipv6_host_ok(struct str host)
{
	ptrdiff_t close = str_find(host, ']');

	if (close < 3)
		return false;
	for (ptrdiff_t i = 1; i < close; i++)
		if (!is_hex(host.p[i]) && host.p[i] != ':' && host.p[i] != '.')
			return false;
	host = str_sub(host, (size_t)close + 1, SIZE_MAX);
	return host.n == 0 || (str_skip(&host, STR(":")) && port_ok(host));
}

/* DNS labels or an IPv4 address, with an optional port (distribution's reference grammar, `domain`). */
static bool host_ok(struct str host)
{
	struct str label;
	ptrdiff_t colon;

	if (host.n == 0 || host.n > REG_HOST_MAX)
		return false;
	if (host.p[0] == '[')
		return ipv6_host_ok(host);
	colon = str_find(host, ':');
	if (colon >= 0) {
		if (!port_ok(str_sub(host, (size_t)colon + 1, SIZE_MAX)))
			return false;
		host.n = (size_t)colon;
	}
	while (str_split(&host, '.', &label)) {
		if (label.n == 0 || !is_alnum(label.p[0]) || !is_alnum(label.p[label.n - 1]))
			return false;
		for (size_t i = 0; i < label.n; i++)
			if (!is_alnum(label.p[i]) && label.p[i] != '-')
				return false;
	}
	return true;
}

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* */
static bool path_component_ok(struct str s)
{
	size_t i = 0;

	while (i < s.n && (is_lower(s.p[i]) || is_digit(s.p[i])))
		i++;
	if (i == 0)
		return false;
	while (i < s.n) {
		if (s.p[i] == '.') {
			i++;
		} else if (s.p[i] == '_') {
			i += i + 1 < s.n && s.p[i + 1] == '_' ? 2 : 1;
		} else if (s.p[i] == '-') {
			while (i < s.n && s.p[i] == '-')
				i++;
		} else {
			return false;
		}
		size_t word = i;
		while (i < s.n && (is_lower(s.p[i]) || is_digit(s.p[i])))
			i++;
		if (i == word)
			return false;
	}
	return true;
}

static bool path_ok(struct str path)
{
	struct str part;

	if (path.n == 0)
		return false;
	while (str_split(&path, '/', &part))
		if (!path_component_ok(part))
			return false;
	return true;
}

static bool tag_ok(struct str tag)
{
	if (tag.n == 0 || tag.n > REG_TAG_MAX || !is_word(tag.p[0]))
		return false;
	for (size_t i = 1; i < tag.n; i++)
		if (!is_word(tag.p[i]) && tag.p[i] != '.' && tag.p[i] != '-')
			return false;
	return true;
}

static bool is_docker_alias(struct str host)
{
	return str_ieq(host, STR("docker.io")) || str_ieq(host, STR("index.docker.io")) ||
	       str_ieq(host, STR("registry-1.docker.io")) || str_ieq(host, STR("registry.hub.docker.com"));
}

/* Whether the first component of a name is a host rather than the first part of a path. */
static bool looks_like_host(struct str s)
{
	if (str_find(s, '.') >= 0 || str_find(s, ':') >= 0 || str_ieq(s, STR("localhost")))
		return true;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] >= 'A' && s.p[i] <= 'Z')
			return true;
	return false;
}

static int set_host(struct reg_ref *out, struct str host, struct err *err)
{
	if (!looks_like_host(host) || !host_ok(host))
		return err_set(err, ERR_INVALID, "\"" STR_FMT "\" is not a registry host", STR_ARG(host));
	if (is_docker_alias(host))
		host = STR(REG_DOCKER_HOST);
	for (size_t i = 0; i < host.n; i++) {
		char c = host.p[i];
		out->host[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
	}
	out->host[host.n] = '\0';
	return 0;
}

static int set_repository(struct reg_ref *out, struct str path, struct err *err)
{
	bool docker = str_eqc(STR(REG_DOCKER_HOST), out->host);
	const char *prefix = docker && str_find(path, '/') < 0 ? "library/" : "";

	if (path.n == 0)
		return err_set(err, ERR_INVALID, "reference without a repository name");
	if (path.n + strlen(prefix) > REG_REPOSITORY_MAX)
		return err_set(err, ERR_INVALID, "repository name longer than %d characters", REG_REPOSITORY_MAX);
	if (!path_ok(path))
		return err_set(err, ERR_INVALID,
		               "\"" STR_FMT "\" is not a repository name (lower-case letters, digits "
		               "and separators between them)",
		               STR_ARG(path));
	snprintf(out->repository, sizeof(out->repository), "%s" STR_FMT, prefix, STR_ARG(path));
	return 0;
}

int reg_ref_set_tag(struct reg_ref *ref, struct str tag, struct err *err)
{
	if (!tag_ok(tag) || !str_copy(tag, ref->tag, sizeof(ref->tag)))
		return err_set(err, ERR_INVALID, "\"" STR_FMT "\" is not a tag", STR_ARG(tag));
	return 0;
}

void reg_ref_set_digest(struct reg_ref *ref, const struct digest *digest)
{
	ref->has_digest = true;
	ref->digest = *digest;
}

int reg_ref_make(struct str host, struct str repository, struct reg_ref *out, struct err *err)
{
	memset(out, 0, sizeof(*out));
	TRY(set_host(out, host, err));
	return set_repository(out, repository, err);
}

int reg_ref_parse(struct str text, struct reg_ref *out, struct err *err)
{
	struct str name = text, host = STR(REG_DOCKER_HOST);
	ptrdiff_t at, slash, colon;

	memset(out, 0, sizeof(*out));
	if (text.n == 0 || text.n > REF_INPUT_MAX)
		return err_set(err, ERR_INVALID, "an image reference has 1 to %d characters", REF_INPUT_MAX);

	at = str_find(name, '@');
	if (at >= 0) {
		TRY_WRAP(digest_parse(str_sub(name, (size_t)at + 1, SIZE_MAX), &out->digest, err), err,
		         "reference \"" STR_FMT "\"", STR_ARG(text));
		out->has_digest = true;
		name.n = (size_t)at;
	}
	slash = str_rfind(name, '/');
	colon = str_rfind(name, ':');
	if (colon > slash) {
		TRY_WRAP(reg_ref_set_tag(out, str_sub(name, (size_t)colon + 1, SIZE_MAX), err), err,
		         "reference \"" STR_FMT "\"", STR_ARG(text));
		name.n = (size_t)colon;
	}
	slash = str_find(name, '/');
	if (slash >= 0 && looks_like_host(str_sub(name, 0, (size_t)slash))) {
		host = str_sub(name, 0, (size_t)slash);
		name = str_sub(name, (size_t)slash + 1, SIZE_MAX);
	}
	TRY_WRAP(set_host(out, host, err), err, "reference \"" STR_FMT "\"", STR_ARG(text));
	TRY_WRAP(set_repository(out, name, err), err, "reference \"" STR_FMT "\"", STR_ARG(text));
	if (!out->tag[0] && !out->has_digest)
		strcpy(out->tag, "latest");
	return 0;
}

char *reg_ref_text(const struct reg_ref *ref, char dst[static REG_REF_TEXT_MAX])
{
	char digest[DIGEST_TEXT_MAX] = "";

	if (ref->has_digest)
		digest_text(&ref->digest, digest);
	snprintf(dst, REG_REF_TEXT_MAX, "%s/%s%s%s%s%s", ref->host, ref->repository, ref->tag[0] ? ":" : "", ref->tag,
	         ref->has_digest ? "@" : "", digest);
	return dst;
}

const char *reg_host_api(const char *host)
{
	return strcmp(host, REG_DOCKER_HOST) ? host : REG_DOCKER_API_HOST;
}

bool reg_host_is_loopback(struct str host)
{
	struct str octet;
	uint64_t n;
	int octets = 0;

	if (host.n && host.p[0] == '[')
		return str_eqc(host, "[::1]") || str_starts(host, STR("[::1]:"));
	if (str_find(host, ':') >= 0)
		host.n = (size_t)str_find(host, ':');
	if (str_ieq(host, STR("localhost")))
		return true;
	/* A name such as 127.0.0.1.example is not an address. */
	while (str_split(&host, '.', &octet)) {
		if (octet.n > 3 || !str_u64(octet, 10, &n) || n > 255 || (octets == 0 && n != 127))
			return false;
		octets++;
	}
	return octets == 4;
}
