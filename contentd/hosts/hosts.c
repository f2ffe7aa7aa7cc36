#include "contentd/hosts/hosts.h"

#include "contentd/config/toml.h"
#include "registry/client.h"

#include <ctype.h>

#define URL_MAX 2048
#define HEADER_MAX 8192

static void server_fini(struct cd_hosts_server *s)
{
	free(s->url);
	free(s->ca);
	free(s->cert);
	free(s->key);
	vec_each(&s->headers, h) {
		explicit_bzero(*h, strlen(*h));
		free(*h);
	}
	vec_fini(&s->headers);
}

void cd_hosts_fini(struct cd_hosts *h)
{
	vec_each(&h->mirrors, m)
		server_fini(m);
	vec_fini(&h->mirrors);
	server_fini(&h->server);
}

/* ---- URLs ---- */

/* Parts "host:port"; 0 for *port when there is none, UINT64_MAX when it is not one. */
static struct str host_of(struct str authority, uint64_t *port)
{
	ptrdiff_t colon = str_rfind(authority, ':');
	struct str digits;

	*port = 0;
	if (colon < 0 || authority.p[authority.n - 1] == ']')
		return authority;
	digits = str_sub(authority, (size_t)colon + 1, authority.n);
	if (digits.n > 5 || !str_u64(digits, 10, port) || *port == 0 || *port > 65535)
		*port = UINT64_MAX;
	return str_sub(authority, 0, (size_t)colon);
}

static bool is_authority(struct str s)
{
	struct str host;
	uint64_t port;

	if (!s.n || s.n > REG_HOST_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!isalnum((unsigned char)s.p[i]) && !strchr(".-_:[]", s.p[i]))
			return false;
	host = host_of(s, &port);
	return host.n && port != UINT64_MAX && (host.p[0] != '[' || host.p[host.n - 1] == ']');
}

static bool is_path(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!isalnum((unsigned char)s.p[i]) && !strchr("/.-_~%:", s.p[i]))
			return false;
	return true;
}

int cd_hosts_base(const char *url, bool override_path, char **out, struct err *err)
{
	struct str rest = str_of(url), authority, path = STR_NONE;
	const char *scheme = "https";
	ptrdiff_t slash;

	if (rest.n > URL_MAX)
		return err_set(err, ERR_INVALID, "a URL of %zu bytes", rest.n);
	if (str_skip(&rest, STR("http://")))
		scheme = "http";
	else
		str_skip(&rest, STR("https://"));
	slash = str_find(rest, '/');
	authority = slash < 0 ? rest : str_sub(rest, 0, (size_t)slash);
	if (slash >= 0)
		path = str_sub(rest, (size_t)slash, rest.n);
	if (!is_authority(authority) || !is_path(path))
		return err_set(err, ERR_INVALID,
		               "\"%.200s\" is not the URL of a server: http or https, host[:port][/path]", url);
	while (path.n && path.p[path.n - 1] == '/')
		path.n--;
	*out = xasprintf("%s://" STR_FMT STR_FMT "%s", scheme, STR_ARG(authority), STR_ARG(path),
	                 override_path || str_ends(path, STR("/v2")) ? "" : "/v2");
	return 0;
}

struct server {
	bool tls;
	struct str host;
	uint64_t port;
};

static struct server server_of(const char *base)
{
	struct str rest = str_of(base);
	struct server s = {.tls = str_skip(&rest, STR("https://"))};
	ptrdiff_t slash;

	if (!s.tls)
		str_skip(&rest, STR("http://"));
	slash = str_find(rest, '/');
	s.host = host_of(slash < 0 ? rest : str_sub(rest, 0, (size_t)slash), &s.port);
	if (!s.port)
		s.port = s.tls ? 443 : 80;
	return s;
}

bool cd_hosts_same_server(const char *a, const char *b)
{
	struct server x = server_of(a), y = server_of(b);

	return x.tls == y.tls && x.port == y.port && str_ieq(x.host, y.host);
}

/* ---- values ---- */

struct reading {
	const char *file;
	struct cd_hosts *hosts;
	struct err *err;
};

static int wrong(const struct reading *r, const struct toml_value *v, const char *what)
{
	return err_set(r->err, ERR_INVALID, "%s:%d: %s: %s", r->file, v->line, v->key, what);
}

static char *path_of(const struct reading *r, const char *path)
{
	const char *slash = strrchr(r->file, '/');

	return *path == '/' || !slash ? xstrdup(path) : xasprintf("%.*s/%s", (int)(slash - r->file), r->file, path);
}

static int take_capabilities(struct reading *r, struct cd_hosts_server *s, const struct toml_value *v)
{
	if (v->type != TOML_STRINGS)
		return wrong(r, v, "must be a list of \"pull\", \"resolve\", \"push\"");
	s->can = 0;
	s->can_set = v->n_items > 0;
	for (size_t i = 0; i < v->n_items; i++)
		if (!strcmp(v->strings[i], "pull"))
			s->can |= REG_CAN_PULL;
		else if (!strcmp(v->strings[i], "resolve"))
			s->can |= REG_CAN_RESOLVE;
		else if (!strcmp(v->strings[i], "push"))
			s->can |= REG_CAN_PUSH;
		else
			return wrong(r, v, "capabilities are \"pull\", \"resolve\", \"push\"");
	return 0;
}

static int take_ca(struct reading *r, struct cd_hosts_server *s, const struct toml_value *v)
{
	if (v->type != TOML_STRING && !(v->type == TOML_STRINGS && v->n_items == 1))
		return wrong(r, v, "must be one file; several authorities go into one PEM file");
	s->ca = path_of(r, v->type == TOML_STRING ? v->string : v->strings[0]);
	return 0;
}

static int take_client(struct reading *r, struct cd_hosts_server *s, const struct toml_value *v)
{
	const char *cert = NULL, *key = "";

	if (v->type == TOML_STRING) {
		cert = v->string;
	} else if (v->type == TOML_STRINGS && v->n_items == 1) {
		cert = v->strings[0];
	} else if (v->type == TOML_NESTED_STRINGS && (v->n_items == 1 || v->n_items == 2)) {
		cert = v->strings[0];
		key = v->n_items == 2 ? v->strings[1] : "";
	}
	if (!cert || !*cert)
		return wrong(r, v, "must be one certificate: \"file\" or [[\"certificate\", \"key\"]]");
	s->cert = path_of(r, cert);
	s->key = *key ? path_of(r, key) : NULL;
	return 0;
}

static int take_switch(struct reading *r, const struct toml_value *v, bool *out)
{
	if (v->type != TOML_BOOLEAN)
		return wrong(r, v, "must be true or false");
	*out = v->boolean;
	return 0;
}

bool cd_hosts_is_header(const char *name, const char *value)
{
	if (!*name || strlen(name) + strlen(value) > HEADER_MAX)
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("!#$%&'*+-.^_`|~", *name))
			return false;
	for (; *value; value++)
		if (iscntrl((unsigned char)*value) && *value != '\t')
			return false;
	return true;
}

static int add_header(struct reading *r, struct cd_hosts_server *s, const struct toml_value *v, const char *value)
{
	const char *name = v->path[v->n_path - 1];

	if (!cd_hosts_is_header(name, value))
		return wrong(r, v, "is not a header that can be sent");
	if (s->headers.n >= CD_HOSTS_HEADERS_MAX)
		return wrong(r, v, "too many headers");
	vec_push(&s->headers, xasprintf("%s: %s", name, value));
	return 0;
}

static int take_header(struct reading *r, struct cd_hosts_server *s, const struct toml_value *v)
{
	if (v->type == TOML_STRING)
		return add_header(r, s, v, v->string);
	if (v->type != TOML_STRINGS)
		return wrong(r, v, "must be a text or a list of them");
	for (size_t i = 0; i < v->n_items; i++)
		if (add_header(r, s, v, v->strings[i]) < 0)
			return -ERR_INVALID;
	return 0;
}

/* ---- keys ---- */

/* A key of one server; `path` begins at it. */
static int take_key(struct reading *r, struct cd_hosts_server *s, const struct toml_value *v, const char *const *path,
                    size_t n)
{
	if (n == 2 && !strcmp(path[0], "header"))
		return take_header(r, s, v);
	if (n != 1)
		return wrong(r, v, "unknown key");
	if (!strcmp(path[0], "header"))
		return v->type == TOML_TABLE ? 0 : wrong(r, v, "must be a table");
	if (!strcmp(path[0], "capabilities"))
		return take_capabilities(r, s, v);
	if (!strcmp(path[0], "ca"))
		return take_ca(r, s, v);
	if (!strcmp(path[0], "client"))
		return take_client(r, s, v);
	if (!strcmp(path[0], "skip_verify"))
		return take_switch(r, v, &s->skip_verify);
	if (!strcmp(path[0], "override_path"))
		return take_switch(r, v, &s->override_path);
	return wrong(r, v, "unknown key");
}

static struct cd_hosts_server *mirror_of(struct cd_hosts *h, const char *url)
{
	vec_each(&h->mirrors, m)
		if (!strcmp(m->url, url))
			return m;
	return NULL;
}

static int check_url(struct reading *r, const struct toml_value *v, const char *url)
{
	AUTO_FREE char *base = NULL;
	struct err why = ERR_INIT;

	return cd_hosts_base(url, false, &base, &why) < 0 ? wrong(r, v, why.msg) : 0;
}

static int take_mirror(struct reading *r, const struct toml_value *v)
{
	struct cd_hosts_server *m = mirror_of(r->hosts, v->path[1]);

	if (v->n_path == 2 && v->type != TOML_TABLE)
		return wrong(r, v, "must be a table");
	if (!m) {
		if (r->hosts->mirrors.n >= CD_HOSTS_MAX)
			return wrong(r, v, "too many hosts");
		if (check_url(r, v, v->path[1]) < 0)
			return -ERR_INVALID;
		m = vec_add(&r->hosts->mirrors);
		m->url = xstrdup(v->path[1]);
	}
	return v->n_path == 2 ? 0 : take_key(r, m, v, v->path + 2, v->n_path - 2);
}

static int take_value(void *arg, const struct toml_value *v)
{
	struct reading *r = arg;

	if (!strcmp(v->path[0], "host")) {
		if (v->n_path > 1)
			return take_mirror(r, v);
		return v->type == TOML_TABLE ? 0 : wrong(r, v, "must be tables, [host.\"https://...\"]");
	}
	if (strcmp(v->path[0], "server") != 0)
		return take_key(r, &r->hosts->server, v, v->path, v->n_path);
	if (v->type != TOML_STRING)
		return wrong(r, v, "must be a URL");
	if (!*v->string)
		return 0;
	if (check_url(r, v, v->string) < 0)
		return -ERR_INVALID;
	r->hosts->server.url = xstrdup(v->string);
	return 0;
}

static void complete(struct cd_hosts_server *s)
{
	if (!s->can_set)
		s->can = REG_CAN_PULL | REG_CAN_RESOLVE | REG_CAN_PUSH;
}

int cd_hosts_parse(const char *file, struct str text, struct cd_hosts *out, struct err *err)
{
	struct err why = ERR_INIT;
	struct reading r = {file, out, &why};
	char line[512] = "";

	if (toml_each(text.p ? text.p : "", text.n, take_value, &r, line, sizeof(line)) < 0)
		return why.code != ERR_OK ? err_set(err, why.code, "%s", why.msg)
		                          : err_set(err, ERR_INVALID, "%s:%s", file, line);
	vec_each(&out->mirrors, m)
		complete(m);
	complete(&out->server);
	return 0;
}
