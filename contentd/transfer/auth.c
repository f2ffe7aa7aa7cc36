/* Credentials of a transfer: asked from the client on a stream that it has opened for that. */
#include "contentd/transfer/transfer.h"

#include "base/clock.h"
#include "contentd/hosts/hosts.h"
#include "contentd/hosts/way.h"
#include "registry/reference.h"

#define AUTH_PATIENCE_NS (60 * NS_PER_S) /* a person may have to type */

int cd_transfer_stream(struct cd_transfer *t, const char *id, struct cd_stream **out, struct err *err)
{
	*out = NULL;
	return id && *id ? cd_streams_get(t->d->streams, t->ns, id, out, err) : 0;
}

static int ask(struct cd_transfer *t, struct cd_stream *s, const char *host, const char *reference,
               Xfer__AuthResponse **out, struct err *err)
{
	Xfer__AuthRequest req = XFER__AUTH_REQUEST__INIT;
	int r;

	req.host = host;
	req.reference = reference;
	TRY(cd_stream_send(s, &req.base, err));
	r = cd_stream_recv(s, &xfer__auth_response__descriptor, t->call, clock_mono_ns() + AUTH_PATIENCE_NS,
	                   rpc_arena(t->call), out, err);
	TRY(r);
	return r ? 0 : err_set(err, ERR_UNAVAILABLE, "the client closed its stream without an answer");
}

static int take_answer(const Xfer__AuthResponse *answer, Contentd__Contentfs__V1__Access *to, struct err *err)
{
	switch (answer->authtype) {
	case XFER__AUTH_TYPE__NONE:
		return 0;
	case XFER__AUTH_TYPE__CREDENTIALS:
		to->username = (char *)answer->username;
		to->secret = (char *)answer->secret;
		return 0;
	case XFER__AUTH_TYPE__REFRESH:
		to->secret = (char *)answer->secret;
		to->identity_token = true;
		return 0;
	default:
		return err_set(err, ERR_UNIMPLEMENTED, "only passwords and identity tokens: not implemented");
	}
}

/* The configuration's directory, or the call's, and the call's headers. */
static int find_way(struct cd_transfer *t, const Xfer__RegistryResolver *resolver, const char *host,
                    Contentd__Contentfs__V1__Access *access, struct err *err)
{
	static const Xfer__RegistryResolver none = XFER__REGISTRY_RESOLVER__INIT;
	struct arena *a = rpc_arena(t->call);
	struct cd_way way = {.dir = t->d->config.fetch_certs_dir, .host = host};
	const char **headers;

	resolver = resolver ? resolver : &none;
	if (*resolver->host_dir == '/')
		way.dir = resolver->host_dir;
	else if (*resolver->host_dir)
		return err_set(err, ERR_INVALID, "the directory of hosts must be an absolute path");
	headers = arena_zalloc(a, resolver->n_headers + 1, sizeof(*headers));
	for (size_t i = 0; i < resolver->n_headers; i++) {
		const Kv__Entry *h = resolver->headers[i];

		if (!cd_hosts_is_header(h->key, h->value))
			return err_set(err, ERR_INVALID, "\"%.80s\" is not a header that can be sent", h->key);
		headers[way.n_headers++] = arena_printf(a, "%s: %s", h->key, h->value);
	}
	way.headers = headers;
	way.default_scheme = resolver->default_scheme;
	return cd_way_find(&way, a, access, err);
}

int cd_transfer_access(struct cd_transfer *t, const Xfer__RegistryResolver *resolver, const char *reference,
                       Contentd__Contentfs__V1__Access **out, struct err *err)
{
	Contentd__Contentfs__V1__Access *access;
	AUTO(cd_stream) struct cd_stream *s = NULL;
	Xfer__AuthResponse *answer;
	struct reg_ref ref;

	access = *out = pb_new(rpc_arena(t->call), &contentd__contentfs__v1__access__descriptor);
	access->owner = (char *)t->ns;
	TRY(reg_ref_parse(str_of(reference), &ref, err));
	TRY(find_way(t, resolver, ref.host, access, err));
	if (resolver)
		TRY(cd_transfer_stream(t, resolver->auth_stream, &s, err));
	if (!s)
		return 0;
	TRY_WRAP(ask(t, s, ref.host, reference, &answer, err), err, "credentials for %s", ref.host);
	TRY_WRAP(take_answer(answer, access, err), err, "credentials for %s", ref.host);
	return 0;
}
