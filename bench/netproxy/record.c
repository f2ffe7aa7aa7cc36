#include "bench/netproxy/record.h"

#include <limits.h>

void records_clear(struct records *r)
{
	vec_each(&r->items, e) {
		free(e->method);
		free(e->target);
		free(e->range);
	}
	vec_clear(&r->items);
	r->left_out = 0;
	r->epoch++;
}

void records_fini(struct records *r)
{
	records_clear(r);
	vec_fini(&r->items);
}

static char *copy(struct str s)
{
	s = str_sub(s, 0, RECORD_TARGET_MAX_BYTES);
	return xstrndup(s.n ? s.p : "", s.n);
}

struct record_id records_add(struct records *r, struct str method, struct str target, struct str range,
                             int64_t begun_ns, unsigned connection, unsigned depth)
{
	struct record *e;

	if (r->items.n >= RECORDS_MAX) {
		r->left_out++;
		return (struct record_id){r->epoch, UINT_MAX};
	}
	e = vec_add(&r->items);
	e->method = copy(method);
	e->target = copy(target);
	e->range = copy(range);
	e->begun_ns = begun_ns;
	e->connection = connection;
	e->depth = depth;
	return (struct record_id){r->epoch, (unsigned)(r->items.n - 1)};
}

struct record *records_get(struct records *r, struct record_id id)
{
	return record_is_current(r, id) && id.index < r->items.n ? &r->items.p[id.index] : NULL;
}

void records_write(const struct records *r, struct json_writer *w)
{
	json_w_object_begin(w);
	json_w_key(w, "exchanges");
	json_w_array_begin(w);
	vec_each(&r->items, e) {
		json_w_object_begin(w);
		json_w_kcstr(w, "method", e->method);
		json_w_kcstr(w, "target", e->target);
		json_w_kcstr(w, "range", e->range);
		json_w_ki64(w, "status", e->status);
		json_w_ki64(w, "begun_ns", e->begun_ns);
		json_w_ki64(w, "first_byte_ns", e->first_byte_ns);
		json_w_ki64(w, "end_ns", e->end_ns);
		json_w_ki64(w, "body_bytes", (int64_t)e->body_bytes);
		json_w_ki64(w, "connection", e->connection);
		json_w_ki64(w, "depth", e->depth);
		json_w_object_end(w);
	}
	json_w_array_end(w);
	json_w_ki64(w, "left_out", (int64_t)r->left_out);
	json_w_object_end(w);
}
