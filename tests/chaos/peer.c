#include "tests/chaos/chaos.h"

void peer_init(struct peer *p, struct chaos *c)
{
	*p = (struct peer){.chaos = c, .ctl = {.program = "chaos", .address = c->address, .ns = c->ns}};
	arena_init(&p->ctl.arena, 64u << 20);
}

void peer_disconnect(struct peer *p)
{
	rpc_client_free(STEAL(p->ctl.client));
}

void peer_fini(struct peer *p)
{
	peer_disconnect(p);
	arena_fini(&p->ctl.arena);
}

int peer_connect(struct peer *p, struct err *err)
{
	int64_t until = clock_mono_ns() + PATIENCE_NS;

	while (!p->ctl.client) {
		struct err why = ERR_INIT;

		if (rpc_client_connect(p->ctl.address, &p->ctl.client, &why) >= 0)
			break;
		if (clock_mono_ns() > until)
			return err_set(err, why.code, "the daemon does not come back: %s", why.msg);
		usleep(5000);
	}
	rpc_client_set_metadata(p->ctl.client, "containerd-namespace", p->ctl.ns);
	rpc_client_set_metadata(p->ctl.client, "containerd-lease", p->lease);
	return 0;
}

static int call(struct peer *p, int64_t each_ns, const ProtobufCServiceDescriptor *svc, const char *method,
                const ProtobufCMessage *msg, void *rsp, bool *again, struct err *err)
{
	int64_t until = clock_mono_ns() + PATIENCE_NS;

	if (again)
		*again = false;
	for (;;) {
		struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + each_ns};
		struct err why = ERR_INIT;
		int r;

		TRY(peer_connect(p, err));
		r = rpc_call(p->ctl.client, svc, method, &opts, msg, rsp, &why);
		if (r >= 0)
			return 0;
		if (why.code != ERR_UNAVAILABLE || clock_mono_ns() > until)
			return err_set(err, why.code, "%s: %s", method, why.msg);
		peer_disconnect(p);
		atomic_fetch_add(&p->chaos->breaks, 1);
		if (again)
			*again = true;
	}
}

int peer_call(struct peer *p, const ProtobufCServiceDescriptor *svc, const char *method, const ProtobufCMessage *msg,
              void *rsp, bool *again, struct err *err)
{
	return call(p, PATIENCE_NS, svc, method, msg, rsp, again, err);
}

int peer_call_within(struct peer *p, int64_t ns, const ProtobufCServiceDescriptor *svc, const char *method,
                     const ProtobufCMessage *msg, bool *again, struct err *err)
{
	return call(p, ns, svc, method, msg, NULL, again, err);
}

int peer_insist(struct peer *p, const ProtobufCServiceDescriptor *svc, const char *method, const ProtobufCMessage *msg,
                enum err_code fine, struct err *err)
{
	bool again;
	int r = peer_call(p, svc, method, msg, NULL, &again, err);

	if (r == -(int)fine && again) {
		*err = ERR_INIT;
		return 0;
	}
	return r;
}
