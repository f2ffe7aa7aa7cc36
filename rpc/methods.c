#include "rpc/methods.h"

void rpc_methods_fini(struct rpc_methods *m)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(&m->by_name, &at, &key, &value);) {
		struct rpc_entry *e = value;

		free(e->name);
		free(e);
	}
	map_fini(&m->by_name);
	map_fini(&m->services);
}

static int add_one(struct rpc_methods *m, const struct rpc_service *svc, const char *service,
                   const struct rpc_method *method, unsigned allowed, struct err *err)
{
	const ProtobufCMethodDescriptor *d =
	    protobuf_c_service_descriptor_get_method_by_name(svc->descriptor, method->name);
	AUTO_FREE char *name = xasprintf("%s/%s", service, method->name);
	struct rpc_entry *e;

	if (!d)
		return err_set(err, ERR_INVALID, "%s is not a method of its service", name);
	if (method->flags & ~allowed)
		return err_set(err, ERR_INVALID, "%s has flags that its server cannot honour", name);
	if ((method->flags & RPC_INLINE) && (method->flags != RPC_INLINE))
		return err_set(err, ERR_INVALID, "%s cannot be inline", name);
	if (map_has(&m->by_name, str_of(name)))
		return err_set(err, ERR_INVALID, "%s is registered twice", name);
	e = xcalloc(1, sizeof(*e));
	*e = (struct rpc_entry){STEAL(name), method->flags, method->fn, svc->svc, d->input, d->output};
	map_put(&m->by_name, str_of(e->name), e);
	return 0;
}

int rpc_methods_add(struct rpc_methods *m, const struct rpc_service *svc, unsigned allowed, struct err *err)
{
	const char *service = svc->name ?: svc->descriptor->name;

	for (size_t i = 0; i < svc->n_methods; i++)
		TRY(add_one(m, svc, service, &svc->methods[i], allowed, err));
	map_put(&m->services, str_of(service), (void *)svc->descriptor);
	return 0;
}

int rpc_methods_find(const struct rpc_methods *m, struct str name, const struct rpc_entry **out, struct err *err)
{
	ptrdiff_t slash = str_rfind(name, '/');
	struct str service;

	*out = map_get(&m->by_name, name);
	if (*out)
		return 0;
	if (slash < 0)
		return err_set(err, ERR_UNIMPLEMENTED, "malformed method name: " STR_FMT,
		               STR_ARG(str_sub(name, 0, 200)));
	service = str_sub(name, 0, (size_t)slash);
	if (!map_has(&m->services, service))
		return err_set(err, ERR_UNIMPLEMENTED, "unknown service " STR_FMT, STR_ARG(str_sub(service, 0, 200)));
	return err_set(err, ERR_UNIMPLEMENTED, "unknown method " STR_FMT " for service " STR_FMT,
	               STR_ARG(str_sub(name, (size_t)slash + 1, 200)), STR_ARG(str_sub(service, 0, 200)));
}
