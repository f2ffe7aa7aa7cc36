/* Credentials of a transfer: asked from the client on a stream that it has opened for that. */
#include "contentd/transfer/transfer.h"

#include "base/clock.h"
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

int cd_transfer_authenticate(struct cd_transfer *t, const Xfer__RegistryResolver *resolver, const char *reference,
                             struct err *err)
{
	Contentd__Contentfs__V1__SetCredentialsRequest set = CONTENTD__CONTENTFS__V1__SET_CREDENTIALS_REQUEST__INIT;
	AUTO(cd_stream) struct cd_stream *s = NULL;
	Xfer__AuthResponse *answer;
	struct ffs_client *data;
	struct reg_ref ref;

	if (!resolver)
		return 0;
	TRY(cd_transfer_stream(t, resolver->auth_stream, &s, err));
	if (!s)
		return 0;
	TRY(reg_ref_parse(str_of(reference), &ref, err));
	TRY_WRAP(ask(t, s, ref.host, reference, &answer, err), err, "credentials for %s", ref.host);
	set.host = ref.host;
	switch (answer->authtype) {
	case XFER__AUTH_TYPE__NONE:
		return 0;
	case XFER__AUTH_TYPE__CREDENTIALS:
		set.username = (char *)answer->username;
		set.secret = (char *)answer->secret;
		break;
	case XFER__AUTH_TYPE__REFRESH:
		set.secret = (char *)answer->secret;
		set.identity_token = true;
		break;
	default:
		return err_set(err, ERR_UNIMPLEMENTED,
		               "credentials for %s: only passwords and identity tokens: not implemented", ref.host);
	}
	TRY(cd_data(t->d, t->call, &data, err));
	return ffs_client_set_credentials(data, &set, err);
}
