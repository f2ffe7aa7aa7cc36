/* The table: can every key and every value be read? */
#include "contentd/fsck/internal.h"

#include "rpc/proto/contentd_records.pb-c.h"

#define SAMPLE_BYTES 80 /* of a key that nobody understands, in messages */

static const struct str OTHER_KEYS[] = {{"schema", 6}, {"snapid", 6}};

/* Keys that cannot stay; removed after the scan, which must not change what it reads. */
struct bad_key {
	char *bytes, *name, *why;
	size_t n;
};

struct scan {
	struct fsck *f;
	VEC(struct bad_key) bad;
};

/* NULs as slashes, for people. */
static char *printable(struct arena *a, struct str key)
{
	char *text = arena_str(a, str_sub(key, 0, SAMPLE_BYTES));

	for (size_t i = 0; i < key.n && i < SAMPLE_BYTES; i++)
		if (!text[i])
			text[i] = '/';
	text_clean(text);
	return text;
}

static void note_bad(struct scan *s, struct str key, const char *why)
{
	struct bad_key *bad = vec_add(&s->bad);

	bad->bytes = arena_str(&s->f->arena, key);
	bad->n = key.n;
	bad->name = printable(&s->f->arena, key);
	bad->why = arena_strdup(&s->f->arena, why);
}

static void take_record(struct scan *s, struct str key, struct str value)
{
	struct fsck_record r = {.kind = (enum cd_kind)key.p[0]};
	struct err why = ERR_INIT;
	struct str rest = str_sub(key, 2, SIZE_MAX), ns;

	if (!str_split(&rest, '\0', &ns) || !rest.p) {
		note_bad(s, key, "is no key of a record");
		return;
	}
	r.ns = arena_str(&s->f->arena, ns);
	r.name = (struct str){arena_str(&s->f->arena, rest), rest.n};
	if (cd_meta_unpack(r.kind, value, &s->f->arena, &r.message, &why) < 0) {
		note_bad(s, key, why.msg);
		return;
	}
	vec_push(&s->f->records, r);
	if (r.kind == CD_NAMESPACE)
		map_put(&s->f->namespaces, ns, NULL);
}

static void take_snapshot(struct scan *s, struct str key, struct str value)
{
	struct fsck_snapshot snapshot = {0};
	struct str ns, snapshotter, name;
	struct err why = ERR_INIT;

	if (!snap_key_split(key, &ns, &snapshotter, &name)) {
		note_bad(s, key, "is no key of a snapshot");
		return;
	}
	if (snap_record_decode(name, value, &snapshot.record, &why) < 0) {
		note_bad(s, key, why.msg);
		return;
	}
	snapshot.space = (struct snap_space){arena_str(&s->f->arena, ns), arena_str(&s->f->arena, snapshotter)};
	vec_push(&s->f->snapshots, snapshot);
}

static int take_key(void *arg, struct str key, struct str value, struct err *err)
{
	struct scan *s = arg;

	s->f->result->records++;
	for (size_t i = 0; i < ARRAY_LEN(OTHER_KEYS); i++)
		if (str_eq(key, OTHER_KEYS[i]))
			return 0;
	if (str_starts(key, STR("snapchild/")))
		return 0; /* with the snapshots */
	if (str_starts(key, SNAP_KEY_RECORDS))
		take_snapshot(s, key, value);
	else if (key.n > 2 && !key.p[1] && cd_meta_is_kind(key.p[0]))
		take_record(s, key, value);
	else
		note_bad(s, key, "nothing has keys like this");
	return 0;
}

/* A resource says in its value what its key says. */
static void check_resource(struct scan *s, struct fsck_record *r)
{
	const Records__Resource *m = r->message;
	struct str rest = r->name, lease, type;

	if (str_split(&rest, '\0', &lease) && str_split(&rest, '\0', &type) && str_eqc(type, m->type) &&
	    str_eqc(rest, m->id))
		return;
	fsck_drop_record(s->f, "record", printable(&s->f->arena, r->name), r, "removed; kept in lost+found/records",
	                 "a lease's resource is another one than its key says");
}

int fsck_records(struct fsck *f, struct err *err)
{
	struct scan s = {.f = f};
	int r = kv_scan(f->kv, STR_NONE, take_key, &s, err);

	vec_each(&s.bad, bad) {
		struct err why = ERR_INIT;

		if (fsck_found(f, "record", bad->name, "removed; kept in lost+found/records", "%s", bad->why))
			fsck_repaired(f, fsck_lose_key(f, str_make(bad->bytes, bad->n), &why), &why);
	}
	vec_each(&f->records, record)
		if (record->kind == CD_RESOURCE)
			check_resource(&s, record);
	vec_fini(&s.bad);
	return r;
}
