#include "contentd/collect/records.h"

#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/leases.pb-c.h"

bool cd_record_id(enum cd_kind kind, struct str ns, struct str name, struct gc_id *id)
{
	*id = (struct gc_id){.ns = ns, .key = name};
	switch (kind) {
	case CD_IMAGE:
		id->kind = GC_IMAGE;
		return true;
	case CD_CONTAINER:
		id->kind = GC_CONTAINER;
		return true;
	case CD_SANDBOX:
		id->kind = GC_SANDBOX;
		return true;
	case CD_CONTENT:
		id->kind = GC_CONTENT;
		return true;
	case CD_LEASE:
		id->kind = GC_LEASE;
		return true;
	default:
		return false;
	}
}

bool cd_resource_split(struct str name, struct str *lease, struct str *type, struct str *id)
{
	if (!str_split(&name, '\0', lease) || !str_split(&name, '\0', type))
		return false;
	*id = name;
	return true;
}

static void labels(Kv__Entry *const *list, size_t n, const struct cd_record_out *out)
{
	for (size_t i = 0; i < n; i++)
		out->label(out->arg, str_of(list[i]->key), str_of(list[i]->value));
}

static void ref(const struct cd_record_out *out, enum gc_kind kind, struct str ns, struct str space, struct str key)
{
	if (key.n)
		out->ref(out->arg, &(struct gc_id){kind, ns, space, key});
}

static void report_resource(struct str ns, struct str name, const struct cd_record_out *out)
{
	struct str lease, type, id;
	struct gc_id to;

	if (!cd_resource_split(name, &lease, &type, &id))
		return;
	if (out->node)
		out->node(out->arg, &(struct gc_id){.kind = GC_LEASE, .ns = ns, .key = lease});
	if (gc_id_of_resource(ns, type, id, &to, NULL) >= 0)
		out->ref(out->arg, &to);
}

void cd_record_report(enum cd_kind kind, struct str ns, struct str name, const void *record,
                      const struct cd_record_out *out)
{
	const Containers__Container *container = record;
	const Records__Content *content = record;
	const Images__Image *image = record;
	const Types__Sandbox *sandbox = record;
	const Leases__Lease *lease = record;
	struct gc_id id;

	if (kind == CD_RESOURCE) {
		report_resource(ns, name, out);
		return;
	}
	if (!cd_record_id(kind, ns, name, &id))
		return;
	if (out->node)
		out->node(out->arg, &id);
	switch (kind) {
	case CD_IMAGE:
		labels(image->labels, image->n_labels, out);
		if (image->target)
			ref(out, GC_CONTENT, ns, STR_NONE, str_of(image->target->digest));
		break;
	case CD_CONTAINER:
		labels(container->labels, container->n_labels, out);
		ref(out, GC_SNAPSHOT, ns, str_of(container->snapshotter), str_of(container->snapshot_key));
		break;
	case CD_CONTENT:
		if (content->info)
			labels(content->info->labels, content->info->n_labels, out);
		ref(out, GC_BLOB, STR_NONE, STR_NONE, name);
		break;
	case CD_SANDBOX:
		labels(sandbox->labels, sandbox->n_labels, out);
		break;
	case CD_LEASE:
		labels(lease->labels, lease->n_labels, out);
		break;
	default:
		break;
	}
}
