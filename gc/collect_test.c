#include "gc/gc.h"

#include "base/testing.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/*
 * A store in plain text. Ids are "kind/namespace/space/key". Facts, one a word: ">id" refers to it, "key=value" is a label
 * (the prefix containerd.io/gc. left out), "expires=SECONDS" an ingest's expiry, "pinned", "in-use".
 */
struct record {
	const char *id, *facts;
	bool gone;
};

#define NOW ((struct timespec){.tv_sec = 1767323045}) /* 2026-01-02T03:04:05Z */
#define BEFORE "2026-01-02T03:04:04Z"
#define AFTER "2026-01-02T03:04:06Z"

struct store {
	struct record *records;
	size_t n;
	struct buf removed; /* keys in the order in which they went, a space after each */
	bool held;
	unsigned in_hold, in_hold_max;
	int (*at_hold)(struct store *s); /* what a writer does before the collector gets the hold */
	bool fail_remove;
	struct gc *gc;
	struct gc_graph graph;
};

static struct gc_id parse_id(struct str text)
{
	struct gc_id id = {0};
	struct str kind;

	str_split(&text, '/', &kind);
	while (!str_eqc(kind, gc_kind_name(id.kind)))
		id.kind++;
	str_split(&text, '/', &id.ns);
	str_split(&text, '/', &id.space);
	id.key = text;
	return id;
}

static struct record *find(struct store *s, const struct gc_id *id)
{
	for (size_t i = 0; i < s->n; i++) {
		struct gc_id it = parse_id(str_of(s->records[i].id));

		if (gc_id_eq(&it, id))
			return &s->records[i];
	}
	return NULL;
}

static void report_label(struct str word, size_t at, struct gc_sink *sink)
{
	AUTO(buf) struct buf key = BUF_INIT;

	buf_adds(&key, "containerd.io/gc.");
	buf_add(&key, word.p, at);
	gc_sink_label(sink, buf_str(&key), str_sub(word, at + 1, SIZE_MAX));
}

static void report(const struct record *r, struct gc_sink *sink)
{
	struct str rest = str_of(r->facts), word;
	struct gc_id id = parse_id(str_of(r->id));

	gc_sink_node(sink, &id);
	while (str_split(&rest, ' ', &word)) {
		int64_t expires;

		if (str_skip(&word, STR(">"))) {
			id = parse_id(word);
			gc_sink_ref(sink, &id);
		} else if (str_skip(&word, STR("expires="))) {
			assert_true(str_i64(word, &expires));
			gc_sink_expires(sink, (struct timespec){.tv_sec = NOW.tv_sec + expires});
		} else if (str_eqc(word, "in-use")) {
			gc_sink_root(sink);
		} else if (str_find(word, '=') > 0) {
			report_label(word, str_find(word, '='), sink);
		}
	}
}

static int scan(void *arg, struct buf *cursor, unsigned max, struct gc_sink *sink, struct err *err)
{
	struct store *s = arg;
	size_t i = cursor->n;

	for (; i < s->n && max; i++, max--)
		if (!s->records[i].gone)
			report(&s->records[i], sink);
	buf_clear(cursor);
	buf_addz(cursor, i);
	return i == s->n;
}

static int node(void *arg, const struct gc_id *id, struct gc_sink *sink, struct err *err)
{
	struct record *r = find(arg, id);

	if (r && !r->gone)
		report(r, sink);
	return 0;
}

static void hold(void *arg)
{
	struct store *s = arg;

	if (s->at_hold && s->at_hold(s))
		s->at_hold = NULL;
	s->held = true;
	s->in_hold = 0;
}

static int release(void *arg, struct err *err)
{
	struct store *s = arg;

	s->held = false;
	if (s->in_hold > s->in_hold_max)
		s->in_hold_max = s->in_hold;
	return 0;
}

static int remove_one(void *arg, const struct gc_id *id, struct err *err)
{
	struct store *s = arg;
	struct record *r = find(s, id);

	assert_true(s->held);
	assert_false(r->gone);
	if (s->fail_remove)
		return err_set(err, ERR_INTERNAL, "disk on fire");
	if (strstr(r->facts, "pinned"))
		return GC_KEEP;
	r->gone = true;
	s->in_hold++;
	buf_addstr(&s->removed, id->key);
	buf_addc(&s->removed, ' ');
	return 0;
}

static void store_init(struct store *s, struct record *records, size_t n)
{
	*s = (struct store){.records = records, .n = n};
	s->graph = (struct gc_graph){scan, node, hold, release, remove_one, s};
	s->gc = gc_new(&s->graph);
}

static void store_fini(struct store *s)
{
	gc_free(s->gc);
	buf_fini(&s->removed);
}
DEFINE_AUTO_FINI(store);

#define STORE(s, records)                                                                                              \
	AUTO(store) struct store s;                                                                                    \
	store_init(&s, records, ARRAY_LEN(records))

/* One cycle, in steps of one unit: whatever can come between does. */
static void collect(struct store *s)
{
	int r = 1;

	gc_begin(s->gc, &(struct gc_run){.now = NOW, .batch = 2});
	while (r > 0)
		OK(r = gc_step(s->gc, 1, err));
	assert_false(gc_running(s->gc));
}

/* The order in which things go is of no interest: all of them, and no others. */
static void assert_gone(const struct store *s, const char *keys)
{
	for (size_t i = 0; i < s->n; i++) {
		struct str rest = str_of(keys), key, its = parse_id(str_of(s->records[i].id)).key;
		bool want = false;

		while (str_split(&rest, ' ', &key))
			want |= str_eq(key, its);
		if (want != s->records[i].gone)
			fail_msg("%s is %s", s->records[i].id, want ? "still there" : "gone");
	}
}

static void roots(void **state)
{
	struct record r[] = {
	    {"image/a//plain", ">content/a//c1"},
	    {"image/a//old", ">content/a//c2 expire=" BEFORE},
	    {"image/a//new", ">content/a//c3 expire=" AFTER},
	    {"image/a//odd", ">content/a//c4 expire=soon"},
	    {"image/a//leased", ">content/a//c5 expire=" BEFORE},
	    {"lease/a//l1", ">image/a//leased >ingest/a//i-leased >content/a//c6"},
	    {"lease/a//l-old", ">content/a//c7 expire=" BEFORE},
	    {"lease/a//l-new", ">content/a//c8 expire=" AFTER},
	    {"lease/a//l-now", "expire=2026-01-02T03:04:05Z"},
	    {"ingest/a//i-none", ""},
	    {"ingest/a//i-old", "expires=-1"},
	    {"ingest/a//i-new", "expires=1 >content/a//c9"},
	    {"ingest/a//i-leased", ">content/a//c10"},
	    {"container/a//k", ">snapshot/a/overlayfs/s1"},
	    {"sandbox/a//box", "ref.content=c11"},
	    {"snapshot/a/overlayfs/s1", ">snapshot/a/overlayfs/s0"},
	    {"snapshot/a/overlayfs/s0", ""},
	    {"snapshot/a/overlayfs/s-root", "root=x"},
	    {"snapshot/a/stargz/s1", ""}, /* of another snapshotter: checked below */
	    {"stream//-/st", "in-use"},
	    {"content/a//c1", ""},
	    {"content/a//c2", ""},
	    {"content/a//c3", ""},
	    {"content/a//c4", ""},
	    {"content/a//c5", ""},
	    {"content/a//c6", ""},
	    {"content/a//c7", ""},
	    {"content/a//c8", ""},
	    {"content/a//c9", ""},
	    {"content/a//c10", ""},
	    {"content/a//c11", ""},
	    {"content/a//c-root", "root=false"},
	    {"content/a//c-none", ""},
	};
	STORE(s, r);

	r[18].gone = true;
	collect(&s);
	r[18].gone = false;
	assert_gone(&s, "old c2 l-old c7 i-none i-old c-none");
	assert_int_equal(gc_stats(s.gc)->removed[GC_CONTENT], 3);
	assert_int_equal(gc_stats(s.gc)->seen[GC_IMAGE], 5);
	assert_int_equal(gc_stats(s.gc)->next_expiry.tv_sec, NOW.tv_sec);
	collect(&s);
	assert_true(r[18].gone);
}

static void references(void **state)
{
	struct record r[] = {
	    {"image/a//i", ">content/a//m ref.content.x=by-image ref.image.x=j"},
	    {"image/a//j", ">content/a//jm expire=" BEFORE},
	    {"content/a//m", "ref.content.0=c0 ref.content/1=c1 ref.contents=no1 ref.content-1=no2 "
	                     "ref.snapshot.overlayfs/x=s1"},
	    {"content/a//by-image", ""},
	    {"content/a//jm", ""},
	    {"content/a//c0", ""},
	    {"content/a//c1", ">index///x"},
	    {"content/a//no1", ""},
	    {"content/a//no2", ""},
	    {"content/b//c0", ""}, /* no reference crosses namespaces */
	    {"snapshot/a/overlayfs/s1", ">snapshot/a/overlayfs/s0 ref.content=by-snapshot"},
	    {"snapshot/a/overlayfs/s0", ""},
	    {"snapshot/a/stargz/s9", ""},
	    {"content/a//by-snapshot", ""},
	    {"index///x", ">object///o"},
	    {"object///o", ""},
	    {"object///o2", ""},
	    {"content/a//back", "bref.image=i bref.image.2=none"},
	    {"content/a//back2", "bref.image=none"},
	    {"content/a//back3", "bref.content=back"},
	    {"content/a//back4", "bref.content=absent"}, /* kept while the name is reachable, record or not */
	    {"snapshot/a/overlayfs/back5", "bref.snapshot.overlayfs/x=s0 ref.content.0=absent"},
	};
	STORE(s, r);

	collect(&s);
	r[9].gone = false, r[9].id = "content/b//other";
	assert_gone(&s, "no1 no2 s9 o2 back2");
	assert_non_null(strstr(buf_cstr(&s.removed), "c0 "));
}

static void flat_leases(void **state)
{
	struct record r[] = {
	    {"lease/a//flat", "flat=1 >content/a//c >image/a//i >snapshot/a/o/s2"},
	    {"image/a//i", "expire=" BEFORE " >content/a//im ref.content=i-label"},
	    {"content/a//c", "ref.content=c-label >blob///c"},
	    {"blob///c", ""},
	    {"content/a//c-label", ""},
	    {"content/a//im", "ref.content=im-label"},
	    {"content/a//im-label", ""},
	    {"content/a//i-label", ""},
	    {"snapshot/a/o/s2", ">snapshot/a/o/s1"},
	    {"snapshot/a/o/s1", "ref.content=s-label"},
	    {"content/a//s-label", ""},
	    {"content/a//both", "ref.content=both-label"}, /* flat and in full, found in either order */
	    {"content/a//both-label", ""},
	    {"lease/a//flat2", "flat=1 >content/a//both"},
	    {"lease/a//full", ">content/a//both >content/a//both2"},
	    {"lease/a//flat3", "flat=1 >content/a//both2"},
	    {"content/a//both2", "ref.content=both-label2"},
	    {"content/a//both-label2", ""},
	    {"content/a//c-back", "bref.content=c"},
	};
	STORE(s, r);

	collect(&s);
	assert_gone(&s, "c-label im-label i-label s-label c-back");
}

static void referrers_go_first(void **state)
{
	struct record r[] = {
	    {"snapshot/a/o/1", ""},
	    {"snapshot/a/o/2", ">snapshot/a/o/1"},
	    {"snapshot/a/o/3", ">snapshot/a/o/2 >index///x"},
	    {"index///x", ">object///o"},
	    {"object///o", ""},
	};
	STORE(s, r);

	collect(&s);
	assert_true(str_starts(buf_str(&s.removed), STR("3 ")));
	assert_true(strstr(buf_cstr(&s.removed), "2 ") < strstr(buf_cstr(&s.removed), "1 "));
	assert_true(strstr(buf_cstr(&s.removed), "x ") < strstr(buf_cstr(&s.removed), "o "));
	assert_true(s.in_hold_max <= 2);
}

/* Labels make a ring; what its members are made of still goes after them. */
static void rings(void **state)
{
	struct record r[] = {
	    {"object///o", ""},
	    {"index///x", ">object///o"},
	    {"content/a//r1", "ref.content=r2 >index///x"},
	    {"content/a//r2", "ref.content=r1"},
	    {"content/a//self", "ref.content=self"},
	    {"snapshot/a/o/s1", ">snapshot/a/o/s2"}, /* cannot be, and must not stay */
	    {"snapshot/a/o/s2", ">snapshot/a/o/s1"},
	};
	STORE(s, r);

	collect(&s);
	assert_gone(&s, "o x r1 r2 self s1 s2");
	assert_true(strstr(buf_cstr(&s.removed), "r1 ") < strstr(buf_cstr(&s.removed), "x "));
	assert_true(strstr(buf_cstr(&s.removed), "x ") < strstr(buf_cstr(&s.removed), "o "));
}

static void what_the_owner_keeps(void **state)
{
	struct record r[] = {
	    {"object///o", ""},
	    {"object///other", ""},
	    {"index///x", "pinned >object///o"},
	};
	STORE(s, r);

	collect(&s);
	assert_gone(&s, "other");
	assert_int_equal(gc_stats(s.gc)->kept, 1);
	r[2].facts = ">object///o";
	collect(&s);
	assert_gone(&s, "other x o");
}

static int lease_it(struct store *s)
{
	static const struct gc_id lease = {.kind = GC_LEASE, .ns = {"a", 1}, .key = {"l", 1}};

	find(s, &lease)->gone = false;
	gc_wrote(s->gc, &lease);
	return 1;
}

static int refer_to_it(struct store *s)
{
	gc_referred(s->gc, &(struct gc_id){.kind = GC_CONTENT, .ns = STR("a"), .key = STR("c")});
	return 1;
}

/* A writer that comes last, when the collector already waits for the hold. */
static void writes_during_the_sweep(void **state)
{
	for (int wrote = 0; wrote < 2; wrote++) {
		struct record r[] = {
		    {"lease/a//l", ">content/a//c", .gone = true},
		    {"content/a//c", "ref.content=d"},
		    {"content/a//d", ">index///x"},
		    {"index///x", ""},
		    {"content/a//e", ""},
		};
		STORE(s, r);

		s.at_hold = wrote ? lease_it : refer_to_it;
		collect(&s);
		assert_null(s.at_hold);
		assert_gone(&s, wrote ? "e" : "l e");
		r[0].gone = true;
		collect(&s);
		assert_gone(&s, "l c d x e");
	}
}

/* A record written in every possible moment of a cycle stays, with what it refers to by then. */
static void writes_at_any_step(void **state)
{
	bool running = true;

	for (int at = 0; running; at++) {
		struct record r[] = {
		    {"content/a//d", ">index///x"},
		    {"lease/a//l", ">content/a//c", .gone = true},
		    {"content/a//c", "ref.content=d", .gone = true},
		    {"index///x", ""},
		    {"content/a//e", ""},
		};
		struct gc_id c = {.kind = GC_CONTENT, .ns = STR("a"), .key = STR("c")};
		STORE(s, r);

		gc_begin(s.gc, &(struct gc_run){.now = NOW, .batch = 1});
		for (int i = 0; i < at; i++)
			OK(gc_step(s.gc, 1, err));
		running = gc_running(s.gc);
		if (r[0].gone)
			break; /* too late to refer to it */
		r[2].gone = false;
		gc_wrote(s.gc, &c);
		lease_it(&s);
		while (gc_running(s.gc))
			OK(gc_step(s.gc, 1, err));
		assert_false(r[0].gone || r[1].gone || r[2].gone || r[3].gone);
	}
}

/* A daemon whose clients write all the time: what they touch is told under the lock that the collector's hold takes alone. */
struct busy {
	struct store *store;
	pthread_rwlock_t lock;
	atomic_bool stop;
};

static struct busy busy;

static void *write_on(void *arg)
{
	struct gc *gc = busy.store->gc;

	while (!busy.stop) {
		pthread_rwlock_rdlock(&busy.lock);
		for (int i = 0; i < 100; i++) {
			gc_wrote(gc, &(struct gc_id){.kind = GC_LEASE, .ns = STR("a"), .key = STR("l")});
			gc_referred(gc, &(struct gc_id){.kind = GC_CONTENT, .ns = STR("a"), .key = STR("none")});
		}
		pthread_rwlock_unlock(&busy.lock);
		sched_yield();
	}
	return NULL;
}

static void hold_alone(void *arg)
{
	pthread_rwlock_wrlock(&busy.lock);
	hold(arg);
}

static int release_alone(void *arg, struct err *err)
{
	int r = release(arg, err);

	pthread_rwlock_unlock(&busy.lock);
	return r;
}

/* Cycles come to their end beside a writer that never rests, and collect; what it tells does not pile up. */
static void other_threads(void **state)
{
	struct record r[] = {{"lease/a//l", ">content/a//c"}, {"content/a//c", ""}, {"content/a//d", ""}};
	STORE(s, r);
	pthread_t thread;

	busy = (struct busy){.store = &s, .lock = PTHREAD_RWLOCK_INITIALIZER};
	s.graph.hold = hold_alone;
	s.graph.release = release_alone;
	assert_int_equal(pthread_create(&thread, NULL, write_on, NULL), 0);
	for (int i = 0; i < 20; i++) {
		s.records[2].gone = false;
		gc_begin(s.gc, &(struct gc_run){.now = NOW});
		while (gc_running(s.gc))
			OK(gc_step(s.gc, 64, err));
		assert_true(s.records[2].gone);
	}
	busy.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(s.records[0].gone || s.records[1].gone);
}

static void count_found(void *arg, const struct gc_id *id)
{
	buf_addstr(arg, id->key);
	buf_addc(arg, ' ');
}

static void dry_run(void **state)
{
	struct record r[] = {
	    {"image/a//i", ">content/a//c"},
	    {"content/a//c", ""},
	    {"content/a//d", ">blob///d"},
	    {"blob///d2", ""},
	};
	AUTO(buf) struct buf found = BUF_INIT;
	STORE(s, r);
	uint64_t ticket = gc_ticket(s.gc);

	gc_begin(s.gc, &(struct gc_run){.now = NOW, .dry_run = true, .found = count_found, .arg = &found});
	while (gc_running(s.gc))
		OK(gc_step(s.gc, 7, err));
	assert_gone(&s, "");
	assert_int_equal(gc_stats(s.gc)->held, 0);
	assert_int_equal(gc_stats(s.gc)->removed[GC_CONTENT], 1);
	assert_int_equal(gc_stats(s.gc)->removed[GC_BLOB], 1);
	assert_int_equal(found.n, strlen("d d2 "));
	assert_int_equal(gc_ticket_state(s.gc, ticket, NULL), 0);
}

static void tickets(void **state)
{
	struct record r[] = {{"content/a//c", ""}};
	STORE(s, r);
	uint64_t first = gc_ticket(s.gc), second;
	int result = 1;

	gc_begin(s.gc, &(struct gc_run){.now = NOW});
	second = gc_ticket(s.gc);
	s.fail_remove = true;
	while (result > 0)
		result = gc_step(s.gc, 1, NULL);
	assert_int_equal(result, -ERR_INTERNAL);
	assert_false(gc_running(s.gc));
	assert_false(s.held);
	FAILS(gc_ticket_state(s.gc, first, err), ERR_ABORTED);
	assert_int_equal(gc_ticket_state(s.gc, second, NULL), 0);
	s.fail_remove = false;
	collect(&s);
	assert_gone(&s, "c");
	assert_int_equal(gc_ticket_state(s.gc, first, NULL), 1);
	assert_int_equal(gc_ticket_state(s.gc, second, NULL), 1);
}

/* ---- what keeps a node ---- */

static void assert_why(const struct store *s, const char *id, enum gc_root root, const char *want)
{
	AUTO(gc_chain) struct gc_chain chain = GC_CHAIN_INIT;
	AUTO(buf) struct buf got = BUF_INIT;
	struct gc_id node_id = parse_id(str_of(id));

	OK(gc_why(&s->graph, &node_id, NOW, &chain, err));
	vec_each(&chain.links, it)
		buf_addf(&got, "%s%s " STR_FMT, it == chain.links.p ? "" : " ", gc_kind_name(it->id.kind),
		         STR_ARG(it->id.key));
	assert_string_equal(buf_cstr(&got), want);
	assert_int_equal(chain.root, root);
}

static void why(void **state)
{
	struct record r[] = {
	    {"image/a//i", ">content/a//m"},
	    {"content/a//m", "ref.content.0=c"},
	    {"content/a//c", ">index///x"},
	    {"index///x", ">object///o"},
	    {"object///o", ""},
	    {"object///lost", ""},
	    {"lease/a//l", ">index///x expire=" AFTER},
	    {"lease/a//old", ">content/a//old expire=" BEFORE},
	    {"content/a//old", ""},
	    {"lease/a//flat", ">content/a//f flat=1"},
	    {"content/a//f", "ref.content=g root=1"},
	    {"content/a//g", ""},
	    {"snapshot/a/o/s", "bref.content=absent"},
	    {"container/a//k", "ref.content=absent"},
	    {"stream///st", "in-use"},
	};
	AUTO(gc_chain) struct gc_chain chain = GC_CHAIN_INIT;
	struct gc_id missing = parse_id(STR("content/a//absent"));
	STORE(s, r);

	assert_why(&s, "content/a//c", GC_ROOT_IMAGE, "image i content m content c");
	assert_why(&s, "object///o", GC_ROOT_LEASE, "lease l index x object o");
	assert_why(&s, "image/a//i", GC_ROOT_IMAGE, "image i");
	assert_why(&s, "content/a//g", GC_ROOT_LABEL, "content f content g");
	assert_why(&s, "snapshot/a/o/s", GC_ROOT_CONTAINER, "container k content absent snapshot s");
	assert_why(&s, "stream///st", GC_ROOT_OWNER, "stream st");
	assert_why(&s, "object///lost", GC_ROOT_NONE, "");
	assert_why(&s, "content/a//old", GC_ROOT_NONE, "");
	FAILS(gc_why(&s.graph, &missing, NOW, &chain, err), ERR_NOT_FOUND);
	OK(gc_why(&s.graph, &(struct gc_id){.kind = GC_CONTENT, .ns = STR("a"), .key = STR("c")}, NOW, &chain, err));
	assert_int_equal(chain.links.p[1].how, GC_OWN);
	assert_int_equal(chain.links.p[2].how, GC_LABEL);
	assert_true(str_eqc(chain.links.p[2].id.ns, "a"));
	assert_string_equal(gc_root_text(chain.root), "image");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(roots),
	    cmocka_unit_test(references),
	    cmocka_unit_test(flat_leases),
	    cmocka_unit_test(referrers_go_first),
	    cmocka_unit_test(rings),
	    cmocka_unit_test(what_the_owner_keeps),
	    cmocka_unit_test(writes_during_the_sweep),
	    cmocka_unit_test(writes_at_any_step),
	    cmocka_unit_test(other_threads),
	    cmocka_unit_test(dry_run),
	    cmocka_unit_test(tickets),
	    cmocka_unit_test(why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
