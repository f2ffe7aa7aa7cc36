#include "gc/label.h"

#include "base/clock.h"

#define ON(kind) (1u << GC_##kind)

/* The kinds on which each type of label counts. */
static const unsigned counts_on[] = {
    [GC_LABEL_NONE] = 0,
    [GC_LABEL_ROOT] = ON(CONTENT) | ON(SNAPSHOT),
    [GC_LABEL_REF] = ON(CONTENT) | ON(SNAPSHOT) | ON(IMAGE) | ON(CONTAINER) | ON(SANDBOX),
    [GC_LABEL_BREF] = ON(CONTENT) | ON(SNAPSHOT) | ON(IMAGE),
    [GC_LABEL_EXPIRE] = ON(LEASE) | ON(IMAGE),
    [GC_LABEL_IS_FLAT] = ON(LEASE),
};

struct target {
	const char *name;
	enum gc_kind kind;
	unsigned by; /* label types that may name it */
};

static const struct target targets[] = {
    {"content", GC_CONTENT, 1u << GC_LABEL_REF | 1u << GC_LABEL_BREF},
    {"snapshot", GC_SNAPSHOT, 1u << GC_LABEL_REF | 1u << GC_LABEL_BREF},
    {"image", GC_IMAGE, 1u << GC_LABEL_REF | 1u << GC_LABEL_BREF},
    {"container", GC_CONTAINER, 1u << GC_LABEL_BREF},
    {"stream", GC_STREAM, 1u << GC_LABEL_REF},
    {"mount", GC_MOUNT, 1u << GC_LABEL_REF},
};

bool gc_time_after(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

/* `key` is what follows "gc.ref." or "gc.bref.". */
static bool parse_target(enum gc_label_type type, struct str key, struct str value, struct gc_id *id)
{
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct str rest = key;

		if (!(targets[i].by & 1u << type) || !str_skip(&rest, str_of(targets[i].name)))
			continue;
		if (rest.n && rest.p[0] != '.' && rest.p[0] != '/')
			continue;
		*id = (struct gc_id){.kind = targets[i].kind, .key = value};
		if (targets[i].kind != GC_SNAPSHOT)
			return true;
		/* The snapshotter is part of the key; what follows its slash only makes keys differ. */
		return str_skip(&rest, STR(".")) && str_split(&rest, '/', &id->space) && id->space.n;
	}
	return false;
}

struct gc_label gc_label_parse(enum gc_kind on, struct str key, struct str value)
{
	struct gc_label label = {.type = GC_LABEL_NONE};
	struct str rest;

	if (!value.n || !str_skip(&key, STR("containerd.io/gc.")))
		return label;
	if (str_eqc(key, "root"))
		label.type = GC_LABEL_ROOT;
	else if (str_eqc(key, "flat"))
		label.type = GC_LABEL_IS_FLAT;
	else if (str_eqc(key, "expire") && time_parse_rfc3339(value, &label.at))
		label.type = GC_LABEL_EXPIRE;
	else if (rest = key, str_skip(&rest, STR("ref.")) && parse_target(GC_LABEL_REF, rest, value, &label.id))
		label.type = GC_LABEL_REF;
	else if (rest = key, str_skip(&rest, STR("bref.")) && parse_target(GC_LABEL_BREF, rest, value, &label.id))
		label.type = GC_LABEL_BREF;
	if (!(counts_on[label.type] & 1u << on))
		label = (struct gc_label){.type = GC_LABEL_NONE};
	return label;
}
