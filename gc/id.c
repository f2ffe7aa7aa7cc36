#include "gc/id.h"

#include "base/digest.h"

const char *gc_kind_name(enum gc_kind kind)
{
	static const char *const names[] = {
#define X(name, text) [GC_##name] = text,
	    GC_KINDS(X)
#undef X
	};

	return names[kind];
}

bool gc_id_eq(const struct gc_id *a, const struct gc_id *b)
{
	return a->kind == b->kind && str_eq(a->key, b->key) && str_eq(a->space, b->space) && str_eq(a->ns, b->ns);
}

int gc_id_of_resource(struct str ns, struct str type, struct str id, struct gc_id *out, struct err *err)
{
	struct str space = type;
	struct digest d;

	*out = (struct gc_id){.ns = ns, .key = id};
	if (str_eqc(type, "content")) {
		TRY_WRAP(digest_parse(id, &d, err), err, "lease resource");
		out->kind = GC_CONTENT;
	} else if (str_eqc(type, "ingests")) {
		out->kind = GC_INGEST;
	} else if (str_eqc(type, "images")) {
		out->kind = GC_IMAGE;
	} else if (str_skip(&space, STR("snapshots/"))) {
		if (str_empty(space) || str_find(space, '/') >= 0)
			return err_set(err, ERR_INVALID, "lease resource type \"" STR_FMT "\" names no snapshotter",
			               STR_ARG(type));
		out->kind = GC_SNAPSHOT;
		out->space = space;
	} else if (str_eqc(type, "snapshots")) {
		return err_set(err, ERR_INVALID, "lease resource type \"snapshots\" names no snapshotter");
	} else {
		return err_set(err, ERR_UNIMPLEMENTED, "lease resource type \"" STR_FMT "\"", STR_ARG(type));
	}
	return 0;
}
