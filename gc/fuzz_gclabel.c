/* Labels as a client may write them: the first byte chooses the kind, the first line is the key, the rest the value. What
 * is understood points into its input, and means the same when it is spelled anew. */
#include "base/buf.h"
#include "gc/label.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(condition)                                                                                             \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "fuzz_gclabel: line %d: %s\n", __LINE__, #condition);                          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static void spell_anew(enum gc_kind on, const struct gc_label *l, struct str value)
{
	AUTO(buf) struct buf key = BUF_INIT;
	struct gc_label again;

	buf_addf(&key, "containerd.io/gc.%s.%s", l->type == GC_LABEL_REF ? "ref" : "bref", gc_kind_name(l->id.kind));
	if (l->id.kind == GC_SNAPSHOT) {
		buf_addc(&key, '.');
		buf_addstr(&key, l->id.space);
	}
	again = gc_label_parse(on, buf_str(&key), value);
	REQUIRE(again.type == l->type);
	REQUIRE(gc_id_eq(&again.id, &l->id));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str value, key;
	struct gc_label l;
	enum gc_kind on;

	if (!n)
		return 0;
	on = data[0] % GC_KINDS_N;
	value = str_make(data + 1, n - 1);
	if (!str_split(&value, '\n', &key))
		return 0;
	l = gc_label_parse(on, key, value);
	if (l.type == GC_LABEL_REF || l.type == GC_LABEL_BREF) {
		REQUIRE(str_eq(l.id.key, value) && value.n && !l.id.ns.n);
		REQUIRE((l.id.kind == GC_SNAPSHOT) == (l.id.space.n > 0));
		REQUIRE(str_find(l.id.space, '/') < 0);
		spell_anew(on, &l, value);
	}
	if (l.type == GC_LABEL_EXPIRE)
		REQUIRE(on == GC_LEASE || on == GC_IMAGE);
	return 0;
}
