#include "contentd/collect/sim/model.h"

#include "base/clock.h"
#include "base/testing.h"
#include "snapshotter/snapshotter.h"

#include <stdarg.h>
#include <stdio.h>

void sim_trace(const struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (!s->trace)
		return;
	printf("%6llu  ", (unsigned long long)s->steps);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

void sim_wrong(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (s->wrong[0])
		return;
	va_start(ap, fmt);
	vsnprintf(s->wrong, sizeof(s->wrong), fmt, ap);
	va_end(ap);
	sim_trace(s, "WRONG: %s", s->wrong);
}

/* xorshift64* (Vigna, 2014) */
uint32_t sim_below(struct sim *s, uint32_t n)
{
	s->random ^= s->random >> 12;
	s->random ^= s->random << 25;
	s->random ^= s->random >> 27;
	return (uint32_t)((s->random * 0x2545f4914f6cdd1d) >> 32) % n;
}

/* ---- slots ---- */

static const struct {
	enum gc_kind kind;
	unsigned n;
	const char *id; /* of a namespace and a number, or of a letter */
} plan[] = {
    /* Content comes first: sim_blob_of counts on it. */
    {GC_CONTENT, SIM_CONTENTS, "content/n%u//#%c"},
    {GC_SNAPSHOT, SIM_SNAPSHOTS, "snapshot/n%u/overlayfs/s%c"},
    {GC_IMAGE, SIM_IMAGES, "image/n%u//i%c"},
    {GC_LEASE, SIM_LEASES, "lease/n%u//l%c"},
    {GC_INGEST, SIM_INGESTS, "ingest/n%u//r%c"},
    {GC_CONTAINER, SIM_CONTAINERS, "container/n%u//c%c"},
    {GC_BLOB, SIM_BLOBS, "blob///#%c"},
    {GC_INDEX, SIM_INDEXES, "index///@%c"},
    {GC_METADATA, SIM_METADATA, ""},
};

uint8_t sim_slot(enum gc_kind kind, uint32_t ns, uint32_t i)
{
	uint32_t at = kind < GC_BLOB ? ns * SIM_PER_NS : SIM_NS * SIM_PER_NS;

	for (size_t k = 0; plan[k].kind != kind; k++)
		if ((plan[k].kind < GC_BLOB) == (kind < GC_BLOB))
			at += plan[k].n;
	return (uint8_t)(at + i);
}

uint8_t sim_any(struct sim *s, enum gc_kind kind, uint32_t ns)
{
	for (size_t k = 0;; k++)
		if (plan[k].kind == kind)
			return sim_slot(kind, ns, sim_below(s, plan[k].n));
}

static void name_slot(struct sim_slot *at, size_t k, uint32_t ns, uint32_t i)
{
	/* Digests have hexadecimal letters. Names are the same in both namespaces: references must not cross. */
	char letter = (char)('a' + i);

	at->kind = plan[k].kind;
	at->ns = (uint8_t)ns;
	at->index = SIM_NONE;
	if (plan[k].kind < GC_BLOB)
		snprintf(at->id, sizeof(at->id), plan[k].id, ns, letter);
	else
		snprintf(at->id, sizeof(at->id), plan[k].id, letter);
}

/* What follows the last '/' of an id: as facts name it. */
static const char *key_of(const struct sim_slot *n)
{
	return strrchr(n->id, '/') + 1;
}

static int find(const struct sim *s, const struct gc_id *id)
{
	char text[sizeof(s->slots[0].id)];
	struct str key = id->key;
	bool digest = str_skip(&key, STR("sha256:"));

	if (key.n == 64 && id->kind != GC_METADATA)
		snprintf(text, sizeof(text), "%s/" STR_FMT "/" STR_FMT "/%c%c", gc_kind_name(id->kind), STR_ARG(id->ns),
		         STR_ARG(id->space), digest ? '#' : '@', key.p[0]);
	else
		snprintf(text, sizeof(text), "%s/" STR_FMT "/" STR_FMT "/" STR_FMT, gc_kind_name(id->kind),
		         STR_ARG(id->ns), STR_ARG(id->space), STR_ARG(id->key));
	for (int i = 0; i < SIM_SLOTS; i++)
		if (!strcmp(s->slots[i].id, text))
			return i;
	return -1;
}

/* ---- chains ---- */

static uint8_t parent_of(const struct sim *s, uint8_t snapshot)
{
	for (int k = 0; k < s->slots[snapshot].n_refs; k++)
		if (s->slots[snapshot].refs[k].how == GC_OWN &&
		    s->slots[s->slots[snapshot].refs[k].to].kind == GC_SNAPSHOT)
			return s->slots[snapshot].refs[k].to;
	return SIM_NONE;
}

uint8_t sim_indexes_of(const struct sim *s, uint8_t snapshot, uint8_t out[static SIM_SNAPSHOTS])
{
	uint8_t nearest[SIM_SNAPSHOTS], n = 0;

	for (uint8_t at = snapshot; at != SIM_NONE; at = parent_of(s, at))
		if (s->slots[at].index != SIM_NONE)
			nearest[n++] = s->slots[at].index;
	for (uint8_t i = 0; i < n; i++)
		out[i] = nearest[n - 1 - i];
	return n;
}

uint8_t sim_meta_of(struct sim *s, uint8_t snapshot)
{
	struct digest keys[SIM_SNAPSHOTS], name;
	uint8_t indexes[SIM_SNAPSHOTS];
	unsigned n = sim_indexes_of(s, snapshot, indexes);
	char hex[65], text[96];

	if (!n)
		return SIM_NONE;
	for (unsigned i = 0; i < n; i++) {
		memset(hex, key_of(&s->slots[indexes[i]])[1], 64);
		digest_from_hex(str_make(hex, 64), &keys[i]);
	}
	snap_meta_key(keys, n, &name);
	snprintf(text, sizeof(text), "metadata///%s", digest_hex(&name, hex));
	for (uint32_t i = 0; i < SIM_METADATA; i++) {
		struct sim_slot *m = &s->slots[sim_slot(GC_METADATA, 0, i)];

		if (!m->id[0])
			snprintf(m->id, sizeof(m->id), "%s", text);
		if (!strcmp(m->id, text))
			return sim_slot(GC_METADATA, 0, i);
	}
	return SIM_NONE;
}

/* ---- facts ---- */

static void add_time(struct buf *b, const char *name, int64_t at)
{
	char when[40];

	buf_addf(b, "%s=%s ", name, time_rfc3339((struct timespec){.tv_sec = TEXT_NOW.tv_sec + at}, when));
}

static void add_label_ref(struct buf *b, const struct sim_slot *to, enum gc_how how, int k)
{
	buf_addf(b, "+%s.%s%s%d=%s ", how == GC_BACK ? "bref" : "ref", gc_kind_name(to->kind),
	         to->kind == GC_SNAPSHOT ? ".overlayfs/" : ".", k, key_of(to));
}

static void lease_resource(struct buf *b, const struct sim_slot *to)
{
	buf_addf(b, "%s:%s",
	         to->kind == GC_CONTENT    ? "content"
	         : to->kind == GC_SNAPSHOT ? "snapshots/overlayfs"
	         : to->kind == GC_IMAGE    ? "images"
	                                   : "ingests",
	         key_of(to));
}

static void add_own_ref(struct buf *b, const struct sim_slot *from, const struct sim_slot *to)
{
	switch (from->kind) {
	case GC_IMAGE:
		buf_addf(b, "target=%s ", key_of(to));
		break;
	case GC_CONTAINER:
		buf_addf(b, "snapshot=overlayfs/%s ", key_of(to));
		break;
	case GC_LEASE:
		buf_addc(b, '>');
		lease_resource(b, to);
		buf_addc(b, ' ');
		break;
	case GC_SNAPSHOT:
		if (to->kind == GC_SNAPSHOT)
			buf_addf(b, "parent=%s ", key_of(to));
		else if (to->kind == GC_INDEX && !from->active)
			buf_addf(b, "index=%s ", key_of(to));
		break;
	case GC_INGEST:
		buf_addf(b, ">%s ", key_of(to));
		break;
	default: /* a blob's and a chain's go by name */
		break;
	}
}

static void facts_of(const struct sim *s, const struct sim_slot *n, struct buf *b)
{
	if (n->flat)
		buf_adds(b, "+flat=true ");
	if (n->root_label)
		buf_adds(b, "+root=x ");
	if (n->active)
		buf_adds(b, "active ");
	if (n->in_use)
		buf_adds(b, "in-use ");
	if (n->pinned)
		buf_adds(b, "pinned ");
	if (n->expires)
		add_time(b, n->kind == GC_INGEST ? "expires" : "+expire", n->expires);
	for (int i = 0; i < n->n_lower; i++)
		buf_addf(b, "%s%s", i ? "" : "lower=", key_of(&s->slots[n->lower[i]]));
	if (n->n_lower)
		buf_addc(b, ' ');
	for (int k = 0; k < n->n_refs; k++) {
		if (n->refs[k].how == GC_OWN)
			add_own_ref(b, n, &s->slots[n->refs[k].to]);
		else
			add_label_ref(b, &s->slots[n->refs[k].to], n->refs[k].how, k);
	}
}

/* ---- changes ---- */

/* Whatever a client writes is on disk when it is answered, and everything before it, too. */
static void synced(struct sim *s)
{
	for (int i = 0; i < SIM_SLOTS; i++)
		s->slots[i].lost_write = 0;
}

void sim_blank(struct sim *s, uint8_t i)
{
	struct sim_slot *n = &s->slots[i];

	n->generation++;
	n->flat = n->root_label = n->active = n->in_use = n->pinned = false;
	n->n_refs = n->n_lower = 0;
	n->index = SIM_NONE;
	n->expires = 0;
	n->lost_write = 0;
	/* A list that a crash has left behind belongs to nobody. */
	if (n->kind == GC_LEASE) {
		text_remove(&s->store, n->id);
		synced(s);
	}
}

void sim_ref(struct sim *s, uint8_t from, uint8_t to, enum gc_how how)
{
	struct sim_slot *n = &s->slots[from];

	for (int k = 0; k < n->n_refs; k++)
		if (n->refs[k].to == to && n->refs[k].how == how)
			return;
	if (n->n_refs < SIM_REFS)
		n->refs[n->n_refs++] = (struct sim_ref){to, (uint8_t)how};
	else if (n->refs[SIM_REFS - 1].how != GC_OWN)
		n->refs[SIM_REFS - 1] = (struct sim_ref){to, (uint8_t)how};
}

void sim_unref(struct sim *s, uint8_t from, uint8_t to)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct sim_slot *n = &s->slots[from];

	for (int k = n->n_refs; k-- > 0;)
		if (n->refs[k].to == to)
			n->refs[k] = n->refs[--n->n_refs];
	if (n->kind != GC_LEASE)
		return;
	lease_resource(&b, &s->slots[to]);
	text_unlease(&s->store, n->id, buf_cstr(&b));
	synced(s);
}

static bool is_record(enum gc_kind kind)
{
	return kind < GC_BLOB && kind != GC_INGEST;
}

void sim_put(struct sim *s, uint8_t i)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct sim_slot *n = &s->slots[i];

	facts_of(s, n, &b);
	text_put(&s->store, n->id, buf_cstr(&b));
	n->exists = true;
	n->touched |= is_record(n->kind); /* files are announced by who uses them */
	sim_trace(s, "put %s %s", n->id, buf_cstr(&b));
	if (is_record(n->kind))
		synced(s);
	/* What a record refers to is announced with it. */
	for (int k = 0; is_record(n->kind) && k < n->n_refs; k++)
		if (n->refs[k].how == GC_OWN)
			s->slots[n->refs[k].to].touched = true;
}

void sim_remove(struct sim *s, uint8_t i)
{
	struct sim_slot *n = &s->slots[i];

	sim_trace(s, "remove %s", n->id);
	text_remove(&s->store, n->id);
	n->exists = false;
	if (is_record(n->kind))
		synced(s);
}

static struct gc_id id_of(const struct sim_slot *n, char key[static 80])
{
	struct str rest = str_of(n->id), kind;
	struct gc_id id = {.kind = n->kind};

	str_split(&rest, '/', &kind);
	str_split(&rest, '/', &id.ns);
	str_split(&rest, '/', &id.space);
	id.key = rest;
	if (rest.n == 2 && (rest.p[0] == '#' || rest.p[0] == '@')) {
		snprintf(key, 80, "%s%064d", rest.p[0] == '#' ? "sha256:" : "", 0);
		id.key = str_of(key);
		memset(key + id.key.n - 64, rest.p[1], 64);
	}
	return id;
}

void sim_use(struct sim *s, struct cd_use *use, uint8_t i)
{
	char key[80];
	struct gc_id id = id_of(&s->slots[i], key);

	cd_use_add(use, &id);
	s->slots[i].used++;
	s->slots[i].touched = true;
}

/* ---- what is live ---- */

static bool expired(const struct sim *s, const struct sim_slot *n)
{
	return n->expires && s->now > n->expires;
}

static bool is_root(const struct sim *s, const struct sim_slot *n)
{
	switch (n->kind) {
	case GC_LEASE:
	case GC_IMAGE:
		if (!expired(s, n))
			return true;
		break;
	case GC_INGEST:
		if (n->in_use || (n->expires && !expired(s, n)))
			return true;
		break;
	case GC_CONTAINER:
		return true;
	default:
		break;
	}
	return n->root_label || n->used || n->pinned || n->in_use;
}

static uint8_t given(const struct sim_slot *n, const struct sim_ref *ref, uint8_t gives)
{
	if (ref->how != GC_OWN && gives != 2)
		return 0;
	return n->flat && gives ? 1 : gives;
}

/* To a fixed point over all slots, in no clever order. A name that labels lead to passes on what names it, as in
 * containerd, whether or not it is there. */
void sim_find_live(const struct sim *s, uint8_t live[static SIM_SLOTS])
{
	bool changed = true;

	for (int i = 0; i < SIM_SLOTS; i++)
		live[i] = s->slots[i].exists && is_root(s, &s->slots[i]) ? 2 : 0;
	while (changed) {
		changed = false;
		for (int i = 0; i < SIM_SLOTS; i++) {
			const struct sim_slot *n = &s->slots[i];

			for (int k = 0; n->exists && k < n->n_refs; k++) {
				const struct sim_ref *ref = &n->refs[k];
				bool back = ref->how == GC_BACK;
				uint8_t *to = back ? &live[i] : &live[ref->to];
				uint8_t gives = given(n, ref, back ? live[ref->to] : live[i]);

				if (gives > *to) {
					*to = gives;
					changed = true;
				}
			}
		}
	}
}

/* ---- what the store tells ---- */

static void on_hold(void *arg)
{
	struct sim *s = arg;

	sim_find_live(s, s->live);
	s->held = true;
}

static void on_removing(void *arg, const struct gc_id *id)
{
	struct sim *s = arg;
	int i = find(s, id);

	if (i < 0) {
		sim_wrong(s, "%s " STR_FMT " is removed, and was never there", gc_kind_name(id->kind),
		          STR_ARG(id->key));
		return;
	}
	if (!s->slots[i].exists)
		return; /* read by the cycle before somebody removed it */
	sim_trace(s, "gc: removes %s", s->slots[i].id);
	if (s->live[i])
		sim_wrong(s, "%s was live, and removed", s->slots[i].id);
	if (s->slots[i].touched)
		sim_wrong(s, "%s was touched in this cycle, and removed", s->slots[i].id);
	for (int k = 0; k < SIM_SLOTS; k++)
		for (int r = 0; s->slots[k].exists && r < s->slots[k].n_refs; r++)
			if (s->slots[k].refs[r].how == GC_OWN && s->slots[k].refs[r].to == i)
				sim_wrong(s, "%s was removed before its referrer %s", s->slots[i].id, s->slots[k].id);
	s->slots[i].exists = false;
	s->removed++;
	if (is_record(s->slots[i].kind))
		s->slots[i].lost_write = kv_mem_unsynced(s->store.mem) + 1;
	else
		s->slots[i].condemned = true;
}

/* contentfs: objects that no index names any more go with it. */
static void sweep_objects(struct sim *s)
{
	bool named[SIM_OBJECTS] = {false};

	for (uint32_t i = 0; i < SIM_INDEXES; i++) {
		const struct sim_slot *n = &s->slots[sim_slot(GC_INDEX, 0, i)];

		if (n->exists || n->condemned || n->pinned)
			named[i] = named[i + 1] = true;
	}
	for (int i = 0; i < SIM_OBJECTS; i++)
		s->objects[i] = s->objects[i] && named[i];
}

static void on_dropped(void *arg, const struct gc_id *id)
{
	struct sim *s = arg;
	int i = find(s, id);

	synced(s);
	if (i < 0 || is_record(id->kind))
		return;
	s->slots[i].condemned = false;
	if (id->kind == GC_INDEX)
		sweep_objects(s);
}

/* ---- judgement ---- */

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void sim_compare(struct sim *s)
{
	AUTO_FREE char *left = text_left(&s->store);
	AUTO(buf) struct buf b = BUF_INIT;
	char shown[SIM_SLOTS][sizeof(s->slots[0].id)];
	const char *ids[SIM_SLOTS];
	size_t n = 0;

	for (int i = 0; i < SIM_SLOTS; i++) {
		if (!s->slots[i].exists)
			continue;
		if (s->slots[i].kind == GC_METADATA)
			snprintf(shown[n], sizeof(shown[n]), "metadata///@%c", key_of(&s->slots[i])[0]);
		else
			memcpy(shown[n], s->slots[i].id, sizeof(shown[n]));
		ids[n] = shown[n];
		n++;
	}
	qsort(ids, n, sizeof(*ids), compare_text);
	for (size_t i = 0; i < n; i++)
		buf_addf(&b, "%s%s", i ? " " : "", ids[i]);
	if (strcmp(left, buf_cstr(&b))) {
		sim_trace(s, "model: %s", buf_cstr(&b));
		sim_trace(s, "store: %s", left);
		sim_wrong(s, "the store has other records than the model");
	}
	for (uint32_t i = 0; i < SIM_INDEXES; i++)
		if (s->slots[sim_slot(GC_INDEX, 0, i)].exists && !(s->objects[i] && s->objects[i + 1]))
			sim_wrong(s, "an object of index %u is gone", i);
}

/* A metadata image of a chain that is there may stay, and may go: whether a label names the chain is not followed here. */
static bool may_stay(struct sim *s, int i)
{
	for (int k = 0; s->slots[i].kind == GC_METADATA && k < SIM_SLOTS; k++)
		if (s->slots[k].exists && s->slots[k].kind == GC_SNAPSHOT && sim_meta_of(s, (uint8_t)k) == i)
			return true;
	return false;
}

void sim_check_settled(struct sim *s)
{
	uint8_t live[SIM_SLOTS];

	sim_find_live(s, live);
	for (int i = 0; i < SIM_SLOTS; i++)
		if (s->slots[i].exists && !live[i] && !may_stay(s, i))
			sim_wrong(s, "%s is garbage, and was not removed", s->slots[i].id);
	sim_compare(s);
}

void sim_crash(struct sim *s)
{
	unsigned unsynced = kv_mem_unsynced(s->store.mem), keep = sim_below(s, unsynced + 1);

	sim_trace(s, "crash: %u of %u unsynced writes remain", keep, unsynced);
	text_store_crash(&s->store, keep);
	s->crashes++;
	for (int i = 0; i < SIM_SLOTS; i++) {
		struct sim_slot *n = &s->slots[i];

		/* What a crash brings back refers to what it referred to; a file that is not deleted was never gone. */
		if (n->lost_write > keep || n->condemned)
			n->exists = true;
		n->lost_write = 0;
		n->condemned = false;
	}
	sim_compare(s);
}

void sim_model_init(struct sim *s)
{
	for (size_t k = 0; k < ARRAY_LEN(plan); k++)
		for (uint32_t ns = 0; ns < (plan[k].kind < GC_BLOB ? SIM_NS : 1); ns++)
			for (uint32_t i = 0; i < plan[k].n; i++)
				name_slot(&s->slots[sim_slot(plan[k].kind, ns, i)], k, ns, i);
	text_store_init(&s->store);
	s->store.watch = (struct text_watch){on_hold, on_removing, on_dropped, s};
}
