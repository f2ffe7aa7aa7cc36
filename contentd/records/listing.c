#include "contentd/records/listing.h"

void cd_listing_fini(struct cd_listing *l)
{
	vec_fini(&l->found);
}

struct matching {
	const struct cd_filter *filter;
	cd_filter_field field;
	struct cd_listing *out;
};

static int take(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct matching *m = arg;

	if (cd_filter_match(m->filter, m->field, record))
		vec_push(&m->out->found, record);
	return 0;
}

int cd_list(struct rpc_call *c, struct cd_daemon *d, enum cd_kind kind, const char *const *filters, size_t n_filters,
            cd_filter_field field, struct cd_listing *out, struct err *err)
{
	AUTO(cd_filter) struct cd_filter *filter = NULL;
	struct matching m = {.field = field, .out = out};
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_filter_new(filters, n_filters, &filter, err));
	m.filter = filter;
	return cd_meta_scan(d->meta, kind, ns, STR_NONE, rpc_arena(c), take, &m, err);
}
