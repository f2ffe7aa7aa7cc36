#include "snapshotter/record.h"

#include "base/clock.h"
#include "base/json.h"

#include <stdio.h>

/* A program that does not know `lower` would let go of what a container is mounted with: it must not read such a record. */
#define RECORD_VERSION 1
#define RECORD_VERSION_LOWER 2

void snap_info_fini(struct snap_info *i)
{
	free(i->name);
	free(i->parent);
	labels_fini(&i->labels);
	memset(i, 0, sizeof(*i));
}

void snap_record_fini(struct snap_record *r)
{
	snap_info_fini(&r->info);
	vec_fini(&r->lower);
	memset(r, 0, sizeof(*r));
}

static void key_add(struct buf *out, const char *prefix, struct snap_space sp)
{
	buf_adds(out, prefix);
	buf_add(out, sp.ns, strlen(sp.ns) + 1);
	buf_add(out, sp.snapshotter, strlen(sp.snapshotter) + 1);
}

void snap_key_record(struct snap_space sp, const char *name, struct buf *out)
{
	key_add(out, "snap/", sp);
	buf_adds(out, name);
}

void snap_key_children(struct snap_space sp, const char *parent, struct buf *out)
{
	key_add(out, "snapchild/", sp);
	buf_add(out, parent, strlen(parent) + 1);
}

void snap_key_child(struct snap_space sp, const char *parent, const char *name, struct buf *out)
{
	snap_key_children(sp, parent, out);
	buf_adds(out, name);
}

bool snap_key_split(struct str key, struct str *ns, struct str *snapshotter, struct str *name)
{
	struct str rest = key;

	if (!str_skip(&rest, SNAP_KEY_RECORDS) || !str_split(&rest, '\0', ns) || !str_split(&rest, '\0', snapshotter))
		return false;
	*name = rest;
	return rest.n > 0;
}

/* One text: 64 hex digits for each. */
static void encode_lower(struct json_writer *w, const struct snap_record *r)
{
	AUTO(buf) struct buf text = BUF_INIT;
	char hex[65];

	vec_each(&r->lower, key)
		buf_adds(&text, digest_hex(key, hex));
	json_w_kstr(w, "lower", buf_str(&text));
}

void snap_record_encode(const struct snap_record *r, struct buf *out)
{
	struct json_writer w;
	char text[40], hex[65];

	json_writer_init(&w, out, NULL);
	json_w_object_begin(&w);
	json_w_ki64(&w, "v", r->lower.n ? RECORD_VERSION_LOWER : RECORD_VERSION);
	json_w_ki64(&w, "kind", r->info.kind);
	json_w_kcstr(&w, "parent", r->info.parent);
	json_w_kcstr(&w, "created", time_rfc3339(r->info.created, text));
	json_w_kcstr(&w, "updated", time_rfc3339(r->info.updated, text));
	if (r->info.indexed)
		json_w_kcstr(&w, "index", digest_hex(&r->info.index_key, hex));
	if (r->lower.n)
		encode_lower(&w, r);
	json_w_ki64(&w, "id", (int64_t)r->id);
	json_w_ki64(&w, "bytes", r->bytes);
	json_w_ki64(&w, "inodes", r->inodes);
	json_w_key(&w, "labels");
	json_w_object_begin(&w);
	vec_each(&r->info.labels.v, l)
		json_w_kcstr(&w, l->key, l->value);
	json_w_object_end(&w);
	json_w_object_end(&w);
}

static int decode_time(struct json_reader *j, struct timespec *out, struct err *err)
{
	struct str text;

	TRY(json_string(j, &text, err));
	if (!time_parse_rfc3339(text, out))
		return err_set(err, ERR_DATA_LOSS, "bad time " STR_FMT, STR_ARG(text));
	return 0;
}

static int decode_labels(struct json_reader *j, struct labels *out, struct err *err)
{
	struct str key, value;
	int more;

	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		AUTO_FREE char *k = str_dup(key);
		AUTO_FREE char *v = NULL;

		TRY(json_string(j, &value, err));
		v = str_dup(value);
		TRY(labels_set(out, k, v, err));
	}
	return more;
}

static int decode_lower(struct json_reader *j, struct snap_record *r, struct err *err)
{
	struct str text;

	TRY(json_string(j, &text, err));
	vec_clear(&r->lower);
	for (; text.n; text = str_sub(text, 64, SIZE_MAX))
		if (!digest_from_hex(str_sub(text, 0, 64), vec_add(&r->lower)))
			return err_set(err, ERR_DATA_LOSS, "bad index keys of the chain");
	return 0;
}

static int decode_field(struct json_reader *j, struct str key, struct snap_record *r, struct err *err)
{
	struct str text;
	int64_t n;

	if (str_eqc(key, "v")) {
		TRY(json_i64(j, &n, err));
		if (n < RECORD_VERSION || n > RECORD_VERSION_LOWER)
			return err_set(err, ERR_UNIMPLEMENTED, "record version %lld is not known", (long long)n);
		return 0;
	}
	if (str_eqc(key, "kind")) {
		TRY(json_i64(j, &n, err));
		r->info.kind = (enum snap_kind)n;
		return 0;
	}
	if (str_eqc(key, "parent")) {
		TRY(json_string(j, &text, err));
		free(r->info.parent);
		r->info.parent = str_dup(text);
		return 0;
	}
	if (str_eqc(key, "created"))
		return decode_time(j, &r->info.created, err);
	if (str_eqc(key, "updated"))
		return decode_time(j, &r->info.updated, err);
	if (str_eqc(key, "index")) {
		TRY(json_string(j, &text, err));
		if (!digest_from_hex(text, &r->info.index_key))
			return err_set(err, ERR_DATA_LOSS, "bad index key");
		r->info.indexed = true;
		return 0;
	}
	if (str_eqc(key, "lower"))
		return decode_lower(j, r, err);
	if (str_eqc(key, "id"))
		return json_u64(j, &r->id, err);
	if (str_eqc(key, "bytes"))
		return json_i64(j, &r->bytes, err);
	if (str_eqc(key, "inodes"))
		return json_i64(j, &r->inodes, err);
	if (str_eqc(key, "labels"))
		return decode_labels(j, &r->info.labels, err);
	return json_skip(j, err);
}

int snap_record_decode(struct str name, struct str value, struct snap_record *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *j = json_reader_new(value);
	AUTO(snap_record) struct snap_record r = {0};
	struct str key;
	int more;

	r.info.name = str_dup(name);
	TRY_WRAP(json_object_begin(j, err), err, "snapshot " STR_FMT, STR_ARG(name));
	while ((more = json_object_next(j, &key, err)) > 0)
		TRY_WRAP(decode_field(j, key, &r, err), err, "snapshot " STR_FMT, STR_ARG(name));
	TRY_WRAP(more, err, "snapshot " STR_FMT, STR_ARG(name));
	if (!r.info.parent || r.info.kind < SNAP_VIEW || r.info.kind > SNAP_COMMITTED)
		return err_set(err, ERR_DATA_LOSS, "snapshot " STR_FMT ": record is incomplete", STR_ARG(name));
	r.info.has_dir = r.id != 0;
	*out = r;
	r = (struct snap_record){0};
	return 0;
}

int snap_record_load(const struct kv *kv, struct snap_space sp, const char *name, struct snap_record *out,
                     struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf value = BUF_INIT;
	struct err why = ERR_INIT;

	snap_key_record(sp, name, &key);
	if (kv_get(kv, buf_str(&key), &value, &why) < 0) {
		if (why.code == ERR_NOT_FOUND)
			return err_set(err, ERR_NOT_FOUND, "snapshot %s does not exist", name);
		return err_set(err, why.code, "snapshot %s: %s", name, why.msg);
	}
	return snap_record_decode(str_of(name), buf_str(&value), out, err);
}

/* ---- the table ---- */

bool snap_record_exists(const struct kv *kv, struct snap_space sp, const char *name)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf value = BUF_INIT;

	snap_key_record(sp, name, &key);
	return kv_get(kv, buf_str(&key), &value, NULL) >= 0;
}

static int stop_at_first(void *arg, struct str key, struct str value, struct err *err)
{
	*(bool *)arg = true;
	return 1;
}

int snap_record_has_children(const struct kv *kv, struct snap_space sp, const char *name, bool *out, struct err *err)
{
	AUTO(buf) struct buf prefix = BUF_INIT;

	*out = false;
	snap_key_children(sp, name, &prefix);
	return kv_scan(kv, buf_str(&prefix), stop_at_first, out, err);
}

struct write {
	struct buf record_key, record, child_key;
};
#define WRITE_INIT ((struct write){BUF_INIT, BUF_INIT, BUF_INIT})

static void write_fini(struct write *w)
{
	buf_fini(&w->record_key);
	buf_fini(&w->record);
	buf_fini(&w->child_key);
}
DEFINE_AUTO_FINI(write);

/* Operations on a record and on its mark, two at most; `w` keeps their texts. */
static unsigned put_ops(struct write *w, struct snap_space sp, const struct snap_record *r, struct kv_op *ops)
{
	unsigned n = 0;

	snap_key_record(sp, r->info.name, &w->record_key);
	snap_record_encode(r, &w->record);
	ops[n++] = (struct kv_op){buf_str(&w->record_key), buf_str(&w->record), false};
	if (*r->info.parent) {
		snap_key_child(sp, r->info.parent, r->info.name, &w->child_key);
		ops[n++] = (struct kv_op){buf_str(&w->child_key), STR_NONE, false};
	}
	return n;
}

static unsigned remove_ops(struct write *w, struct snap_space sp, const char *name, const char *parent,
                           struct kv_op *ops)
{
	unsigned n = 0;

	snap_key_record(sp, name, &w->record_key);
	ops[n++] = (struct kv_op){.key = buf_str(&w->record_key), .remove = true};
	if (*parent) {
		snap_key_child(sp, parent, name, &w->child_key);
		ops[n++] = (struct kv_op){.key = buf_str(&w->child_key), .remove = true};
	}
	return n;
}

int snap_record_put(const struct kv *kv, struct snap_space sp, const struct snap_record *r, const char *old,
                    struct err *err)
{
	AUTO(write) struct write w = WRITE_INIT;
	AUTO(write) struct write gone = WRITE_INIT;
	struct kv_op ops[4];
	unsigned n = old ? remove_ops(&gone, sp, old, r->info.parent, ops) : 0;

	n += put_ops(&w, sp, r, ops + n);
	return kv_write(kv, ops, n, false, err);
}

static int last_id(const struct kv *kv, uint64_t *out, struct err *err)
{
	AUTO(buf) struct buf value = BUF_INIT;
	struct err why = ERR_INIT;

	*out = 0;
	if (kv_get(kv, SNAP_KEY_ID, &value, &why) < 0)
		return why.code == ERR_NOT_FOUND ? 0 : err_set(err, why.code, "snapshot id counter: %s", why.msg);
	if (!str_u64(buf_str(&value), 10, out))
		return err_set(err, ERR_DATA_LOSS, "snapshot id counter is damaged");
	return 0;
}

int snap_record_create(const struct kv *kv, struct snap_space sp, struct snap_record *r, struct err *err)
{
	AUTO(write) struct write w = WRITE_INIT;
	struct kv_op ops[3];
	char text[24];
	unsigned n;

	TRY(last_id(kv, &r->id, err));
	snprintf(text, sizeof(text), "%llu", (unsigned long long)++r->id);
	n = put_ops(&w, sp, r, ops);
	ops[n++] = (struct kv_op){SNAP_KEY_ID, str_of(text), false};
	return kv_write(kv, ops, n, false, err);
}

int snap_record_delete(const struct kv *kv, struct snap_space sp, const struct snap_record *r, struct err *err)
{
	AUTO(write) struct write w = WRITE_INIT;
	struct kv_op ops[2];

	return kv_write(kv, ops, remove_ops(&w, sp, r->info.name, r->info.parent, ops), false, err);
}

void snap_record_stamp(struct snap_record *r)
{
	r->info.created = r->info.updated = clock_wall();
}
