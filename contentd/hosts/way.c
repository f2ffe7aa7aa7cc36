#include "contentd/hosts/way.h"

#include "base/file.h"
#include "base/log.h"
#include "contentd/hosts/hosts.h"
#include "registry/client.h"
#include "rpc/pb.h"

#include <fcntl.h>
#include <unistd.h>

#define FILE_BYTES_MAX (1u << 20)

/* "host:5000" as "host_5000_", for file systems without colons. */
static const char *without_colon(struct arena *a, const char *host)
{
	const char *colon = strrchr(host, ':');

	return colon ? arena_printf(a, "%.*s_%s_", (int)(colon - host), host, colon + 1) : host;
}

/* 1 with the file's text, 0 when no directory of the host is there, or it has no such file. */
static int find_file(const struct cd_way *w, struct arena *a, const char **path, struct buf *text, struct err *err)
{
	const char *const names[] = {without_colon(a, w->host), w->host, "_default"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *dir = arena_printf(a, "%s/%s", w->dir, names[i]);
		struct err why = ERR_INIT;

		if (access(dir, F_OK) < 0)
			continue;
		*path = arena_printf(a, "%s/hosts.toml", dir);
		if (file_read(AT_FDCWD, *path, FILE_BYTES_MAX, text, &why) >= 0)
			return 1;
		return why.code == ERR_NOT_FOUND ? 0 : err_set(err, why.code, "%s: %s", *path, why.msg);
	}
	return 0;
}

static char *copy(struct arena *a, const char *text)
{
	return text ? arena_strdup(a, text) : (char *)"";
}

static Contentd__Contentfs__V1__Endpoint *endpoint(struct arena *a, const struct cd_hosts_server *from,
                                                   const char *base)
{
	Contentd__Contentfs__V1__Endpoint *e = pb_new(a, &contentd__contentfs__v1__endpoint__descriptor);

	e->url = arena_strdup(a, base);
	e->pull = from->can & REG_CAN_PULL;
	e->resolve = from->can & REG_CAN_RESOLVE;
	e->push = from->can & REG_CAN_PUSH;
	e->ca_file = copy(a, from->ca);
	e->cert_file = copy(a, from->cert);
	e->key_file = copy(a, from->key);
	e->skip_verify = from->skip_verify;
	e->headers = arena_zalloc(a, from->headers.n + CD_HOSTS_HEADERS_MAX, sizeof(*e->headers));
	vec_each(&from->headers, h)
		e->headers[e->n_headers++] = arena_strdup(a, *h);
	if (from->skip_verify)
		log_warn("registry server %s: its certificate is NOT verified (skip_verify): whoever is on the way "
		         "there can "
		         "read and change what is not checked by digest, credentials included",
		         base);
	return e;
}

/* The registry itself, last: by the file, or where the host's name leads. */
static int server_base(const struct cd_way *w, const struct cd_hosts_server *s, char **out, struct err *err)
{
	const char *api = reg_host_api(w->host);
	bool plain = !s->ca && !s->cert && !s->skip_verify && reg_host_is_loopback(str_of(api));
	AUTO_FREE char *url = NULL;

	if (*w->default_scheme)
		plain = !strcmp(w->default_scheme, "http");
	url = s->url ? xstrdup(s->url) : xasprintf("%s://%s", plain ? "http" : "https", api);
	return cd_hosts_base(url, s->override_path, out, err);
}

static int fill(const struct cd_way *w, const struct cd_hosts *hosts, struct arena *a,
                Contentd__Contentfs__V1__Access *to, struct err *err)
{
	Contentd__Contentfs__V1__Endpoint *server;
	AUTO_FREE char *last = NULL;

	to->endpoints = arena_zalloc(a, hosts->mirrors.n + 1, sizeof(*to->endpoints));
	TRY(server_base(w, &hosts->server, &last, err));
	vec_each(&hosts->mirrors, m) {
		AUTO_FREE char *base = NULL;

		TRY(cd_hosts_base(m->url, m->override_path, &base, err));
		to->endpoints[to->n_endpoints] = endpoint(a, m, base);
		to->endpoints[to->n_endpoints++]->is_registry = cd_hosts_same_server(base, last);
	}
	server = to->endpoints[to->n_endpoints++] = endpoint(a, &hosts->server, last);
	server->is_registry = true;
	for (size_t i = 0; i < w->n_headers && server->n_headers < CD_HOSTS_HEADERS_MAX; i++)
		server->headers[server->n_headers++] = arena_strdup(a, w->headers[i]);
	return 0;
}

int cd_way_find(const struct cd_way *w, struct arena *a, Contentd__Contentfs__V1__Access *to, struct err *err)
{
	AUTO(cd_hosts) struct cd_hosts hosts = {0};
	AUTO(buf) struct buf text = BUF_INIT;
	const char *path;
	int r;

	if (*w->default_scheme && strcmp(w->default_scheme, "http") && strcmp(w->default_scheme, "https"))
		return err_set(err, ERR_INVALID, "default scheme \"%.40s\" is neither http nor https",
		               w->default_scheme);
	r = find_file(w, a, &path, &text, err);
	TRY(r);
	if (!r && !*w->default_scheme && !w->n_headers)
		return 0;
	TRY(cd_hosts_parse(r ? path : "", buf_str(&text), &hosts, err));
	return fill(w, &hosts, a, to, err);
}
