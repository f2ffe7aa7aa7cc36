/* The cases of containerd's content suite, through the service, on real files: one test a case, named after it. The table
 * stands in docs/conformance.md. */
#include "base/clock.h"
#include "contentd/testing/upload.h"
#include "rpc/proto/namespaces.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* ---- contents and times ---- */

/* The same bytes for the same size and seed. */
static struct str content(struct world *w, size_t bytes, unsigned seed)
{
	char *p = arena_alloc(&w->a, bytes + 1);
	uint64_t x = 0x9e3779b97f4a7c15u * (seed + 1);

	for (size_t i = 0; i < bytes; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (char)x;
	}
	return str_make(p, bytes);
}

static int64_t ns_of(const Pb__Timestamp *t)
{
	assert_non_null(t);
	return t->seconds * NS_PER_S + t->nanos;
}

static int64_t now_ns(void)
{
	struct timespec t = clock_wall();

	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static void expect_between(const Pb__Timestamp *t, int64_t from, int64_t to)
{
	assert_in_range(ns_of(t), from, to);
}

static void expect_blob(struct world *w, const char *digest, int64_t size, const char *labels, int64_t from, int64_t to)
{
	Content__Info *i = NULL;

	OK(content_info(w, digest, &i));
	assert_string_equal(i->digest, digest);
	assert_int_equal(i->size, size);
	assert_string_equal(world_kvs_text(w, i->labels, i->n_labels), labels);
	assert_in_range(ns_of(i->created_at), from, to);
	assert_int_equal(ns_of(i->created_at), ns_of(i->updated_at));
}

static void expect_bytes(struct world *w, struct str want)
{
	struct str got = STR_NONE;

	OK(content_read(w, sha_of(w, want), 0, 0, &got, NULL));
	assert_int_equal(got.n, want.n);
	assert_memory_equal(got.p, want.p, want.n);
}

/* ---- Writer ---- */

#define WRITERS 5

static void writer(void **state)
{
	static const struct {
		const char *ref;
		size_t bytes, step;
		bool size, digest;
	} cases[WRITERS] = {
	    {"c1", 256, 32, false, false},
	    {"c2", 256, 32, true, false},
	    {"c3", 256, 32, false, true},
	    {"c4", 256, 32, true, true},
	    {"c5", 32u << 20, 1u << 20, true, true},
	};
	struct world *w = *state;
	Content__WriteContentResponse *rsp;
	struct upload u[WRITERS];
	struct str bytes[WRITERS];
	int64_t before = now_ns();
	bool more = true;

	for (size_t i = 0; i < WRITERS; i++) {
		bytes[i] = content(w, cases[i].bytes, (unsigned)i);
		u[i] = upload_open(w, cases[i].ref, cases[i].size ? (int64_t)bytes[i].n : 0,
		                   cases[i].digest ? sha_of(w, bytes[i]) : "", &rsp);
		assert_int_equal(rsp->offset, 0);
	}
	for (size_t at = 0; more; at++) { /* a step of each in turn */
		more = false;
		for (size_t i = 0; i < WRITERS; i++) {
			size_t from = at * cases[i].step;

			if (from >= bytes[i].n)
				continue;
			OK(upload_write(&u[i], (int64_t)from, str_sub(bytes[i], from, cases[i].step), &rsp));
			assert_int_equal(rsp->offset, from + cases[i].step);
			more = true;
		}
	}
	for (size_t i = 0; i < WRITERS; i++) {
		const char *digest = sha_of(w, bytes[i]);

		OK(upload_commit(&u[i], (int64_t)bytes[i].n, 0, "", i % 2 ? "k=v other/key=1" : "", &rsp));
		assert_string_equal(rsp->digest, digest);
		upload_end(&u[i]);
		expect_blob(w, digest, (int64_t)bytes[i].n, i % 2 ? "k=v other/key=1" : "", before, now_ns());
		FAILS(content_status(w, cases[i].ref, NULL), ERR_NOT_FOUND);
	}
	expect_bytes(w, bytes[WRITERS - 1]);
}

/* ---- UpdateStatus ---- */

/* What STAT on the stream and Status by ref say of an ingest must be the same. */
static void expect_status(struct upload *u, const char *ref, struct str so_far, int64_t total, int64_t started_from,
                          int64_t started_to, int64_t updated_from)
{
	Content__WriteContentResponse *rsp = NULL;
	Content__Status *s = NULL;
	struct world *w = u->w;

	OK(upload_stat(u, ref, 0, "", &rsp));
	assert_int_equal(rsp->offset, so_far.n);
	assert_int_equal(rsp->total, total);
	assert_string_equal(rsp->digest, sha_of(w, so_far));
	expect_between(rsp->started_at, started_from, started_to);
	expect_between(rsp->updated_at, updated_from, now_ns());
	OK(content_status(w, ref, &s));
	assert_string_equal(s->ref, ref);
	assert_int_equal(s->offset, so_far.n);
	assert_int_equal(s->total, total);
	assert_int_equal(ns_of(s->started_at), ns_of(rsp->started_at));
	assert_int_equal(ns_of(s->updated_at), ns_of(rsp->updated_at));
}

static void update_status(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct str bytes = content(w, 256, 1);
	int64_t before = now_ns(), opened, wrote;
	struct upload u = upload_open(w, "r", (int64_t)bytes.n, sha_of(w, bytes), &rsp);

	opened = now_ns();
	expect_status(&u, "r", STR_NONE, 256, before, opened, before);
	for (size_t at = 0; at < 192; at += 64) {
		wrote = now_ns();
		OK(upload_write(&u, (int64_t)at, str_sub(bytes, at, 64), NULL));
		expect_status(&u, "r", str_sub(bytes, 0, at + 64), 256, before, opened, wrote);
	}
	upload_end(&u);
	u = upload_open(w, "r", 256, sha_of(w, bytes), &rsp);
	expect_status(&u, "r", str_sub(bytes, 0, 192), 256, before, opened, wrote);
	wrote = now_ns();
	OK(upload_write(&u, 192, str_sub(bytes, 192, 64), NULL));
	expect_status(&u, "r", bytes, 256, before, opened, wrote);
	OK(upload_commit(&u, 256, 256, sha_of(w, bytes), "", NULL));
	upload_end(&u);
}

/* ---- CommitExists ---- */

static void commit_exists(void **state)
{
	struct world *w = *state;
	struct str bytes = content(w, 256, 1);
	Content__WriteContentResponse *rsp;

	upload_blob(w, "first", bytes, "");
	for (int with_digest = 0; with_digest < 2; with_digest++) {
		struct upload u = upload_open(w, "second", 0, "", &rsp);

		assert_int_equal(rsp->offset, 0);
		OK(upload_write(&u, 0, bytes, NULL));
		FAILS(upload_commit(&u, 256, 256, with_digest ? sha_of(w, bytes) : "", "", NULL), ERR_EXISTS);
		upload_end(&u);
		FAILS(content_status(w, "second", NULL), ERR_NOT_FOUND);
	}
}

/* ---- Resume ---- */

static void resume(void **state)
{
	Content__WriteContentResponse *rsp;
	Content__Status *s = NULL;
	struct world *w = *state;
	struct str bytes = content(w, 5000, 1), half = str_sub(bytes, 0, 2500);
	int64_t before = now_ns(), opened;
	struct upload u = upload_open(w, "r", 5000, sha_of(w, bytes), &rsp);

	opened = now_ns();
	OK(upload_write(&u, 0, half, NULL));
	upload_end(&u);
	OK(content_status(w, "r", &s));
	assert_int_equal(s->offset, 2500);
	assert_int_equal(s->total, 5000);
	assert_string_equal(s->expected, sha_of(w, bytes));
	u = upload_open(w, "r", 5000, sha_of(w, bytes), &rsp);
	expect_status(&u, "r", half, 5000, before, opened, before);
	OK(upload_write(&u, 2500, str_sub(bytes, 2500, 2500), &rsp));
	assert_string_equal(rsp->digest, sha_of(w, bytes));
	OK(upload_commit(&u, 5000, 5000, sha_of(w, bytes), "", NULL));
	upload_end(&u);
	expect_bytes(w, bytes);
}

/* How clients go on: each gives the offset to write at and the bytes from there, for an ingest that stands at `offset`.
 * The input is of the kind that their copy helpers know: what can only be read in order, what can be sought in, what can
 * be read anywhere. */
struct input {
	struct str bytes;
	size_t at;
};

static struct str input_read(struct input *in, size_t n)
{
	struct str got = str_sub(in->bytes, in->at, n);

	in->at += got.n;
	return got;
}

typedef size_t (*go_on_fn)(struct input *in, size_t offset);

static size_t truncate_to_nothing(struct input *in, size_t offset)
{
	return 0;
}

static size_t discard(struct input *in, size_t offset)
{
	while (in->at < offset)
		input_read(in, offset - in->at < 100 ? offset - in->at : 100);
	return offset;
}

static size_t seek(struct input *in, size_t offset)
{
	in->at = offset;
	return offset;
}

/* Copies the rest in pieces of `step`. */
static void copy(struct upload *u, struct input *in, size_t at, size_t step)
{
	struct world *w = u->w;
	struct str piece;

	while ((piece = input_read(in, step)).n) {
		OK(upload_write(u, (int64_t)at, piece, NULL));
		at += piece.n;
	}
}

static void resume_by(struct world *w, const char *name, go_on_fn go_on, size_t step)
{
	static const size_t sizes[] = {500, 5000, 50000}, percents[] = {1, 33, 50, 75, 99};
	unsigned seed = 0;

	for (size_t i = 0; i < ARRAY_LEN(sizes) * ARRAY_LEN(percents); i++) {
		size_t size = sizes[i / ARRAY_LEN(percents)], cut = size * percents[i % ARRAY_LEN(percents)] / 100;
		struct str bytes = content(w, size, ++seed);
		const char *ref = arena_printf(&w->a, "%s-%zu-%zu", name, size, cut), *digest = sha_of(w, bytes);
		struct input in = {.bytes = bytes};
		Content__WriteContentResponse *rsp;
		struct upload u = upload_open(w, ref, (int64_t)size, digest, &rsp);
		int64_t before = now_ns();

		OK(upload_write(&u, 0, str_sub(bytes, 0, cut), NULL));
		upload_end(&u);
		u = upload_open(w, ref, (int64_t)size, digest, &rsp);
		assert_int_equal(rsp->offset, cut);
		assert_string_equal(rsp->digest, sha_of(w, str_sub(bytes, 0, cut)));
		copy(&u, &in, go_on(&in, cut), step);
		OK(upload_commit(&u, (int64_t)size, (int64_t)size, digest, "", &rsp));
		assert_string_equal(rsp->digest, digest);
		upload_end(&u);
		expect_blob(w, digest, (int64_t)size, "", before, now_ns());
		expect_bytes(w, bytes);
	}
}

static void resume_truncate(void **state)
{
	resume_by(*state, "truncate", truncate_to_nothing, 8 << 20);
}

static void resume_discard(void **state)
{
	resume_by(*state, "discard", discard, 1024);
}

static void resume_copy(void **state)
{
	resume_by(*state, "copy", discard, 8 << 20);
}

static void resume_copy_seeker(void **state)
{
	resume_by(*state, "seeker", seek, 8 << 20);
}

static void resume_copy_reader_at(void **state)
{
	resume_by(*state, "reader-at", seek, 4096);
}

/* ---- SmallBlob ---- */

static void small_blob(void **state)
{
	struct world *w = *state;
	struct str bytes = STR("foobar"), got = STR_NONE;

	upload_blob(w, "r", bytes, "");
	for (size_t at = 0; at <= bytes.n; at++)
		for (size_t n = 1; n < 10; n++) {
			struct str want = str_sub(bytes, at, n);

			OK(content_read(w, sha_of(w, bytes), (int64_t)at, (int64_t)n, &got, NULL));
			assert_int_equal(got.n, want.n); /* short at the end */
			assert_memory_equal(got.p, want.p, want.n);
		}
	FAILS(content_read(w, sha_of(w, bytes), 7, 1, &got, NULL), ERR_OUT_OF_RANGE);
}

/* ---- Labels ---- */

static void labels(void **state)
{
	struct world *w = *state;
	struct str bytes = content(w, 256, 1);
	const char *digest = sha_of(w, bytes);
	Content__Info *i = NULL;
	int64_t created, updated;

	upload_blob(w, "r", bytes, "k1=v1 k2=v2");
	OK(content_info(w, digest, &i));
	created = ns_of(i->created_at);
	updated = ns_of(i->updated_at);
	static const struct {
		const char *labels, *mask, *after;
	} steps[] = {
	    {"k1=newvalue", "labels.k1", "k1=newvalue k2=v2"},
	    {"k1=unnamed k2=", "labels.k2", "k1=newvalue"},
	    {"k3=v3", "labels.k3", "k1=newvalue k3=v3"},
	    {"only=this", NULL, "only=this"},
	    {"a=1 b=2", "labels", "a=1 b=2"},
	    {"a=", "labels.a", "b=2"},
	    {"", "labels", ""},
	};
	for (size_t n = 0; n < ARRAY_LEN(steps); n++) {
		OK(content_update(w, digest, steps[n].labels, steps[n].mask, &i));
		assert_string_equal(world_kvs_text(w, i->labels, i->n_labels), steps[n].after);
		assert_int_equal(ns_of(i->created_at), created);
		assert_true(ns_of(i->updated_at) > updated);
		assert_int_equal(i->size, 256);
		updated = ns_of(i->updated_at);
		OK(content_info(w, digest, &i));
		assert_string_equal(world_kvs_text(w, i->labels, i->n_labels), steps[n].after);
	}
}

/* ---- CommitErrorState ---- */

static void commit_error_state(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct str bytes = content(w, 256, 1), other = content(w, 256, 2);
	struct upload u, second;

	upload_blob(w, "r", bytes, "");
	/* After success the ref begins at nothing. */
	u = upload_open(w, "r", 0, "", &rsp);
	assert_int_equal(rsp->offset, 0);
	/* While a writer is open nobody else gets it. */
	second = upload_begin(w);
	FAILS(upload_stat(&second, "r", 0, "", NULL), ERR_UNAVAILABLE);
	upload_end(&second);
	/* Already there: the ref is free and empty. */
	OK(upload_write(&u, 0, bytes, NULL));
	FAILS(upload_commit(&u, 256, 256, "", "", NULL), ERR_EXISTS);
	upload_end(&u);
	FAILS(content_status(w, "r", NULL), ERR_NOT_FOUND);
	/* Wrong digest, wrong size: the data stays. */
	u = upload_open(w, "r", 0, "", &rsp);
	assert_int_equal(rsp->offset, 0);
	OK(upload_write(&u, 0, other, NULL));
	FAILS(upload_commit(&u, 256, 256, sha_of(w, STR("not it")), "", NULL), ERR_PRECONDITION);
	upload_end(&u);
	u = upload_open(w, "r", 0, "", &rsp);
	assert_int_equal(rsp->offset, 256);
	FAILS(upload_commit(&u, 256, 255, "", "", NULL), ERR_PRECONDITION);
	upload_end(&u);
	u = upload_open(w, "r", 0, "", &rsp);
	assert_int_equal(rsp->offset, 256);
	assert_string_equal(rsp->digest, sha_of(w, other));
	FAILS(content_info(w, sha_of(w, other), NULL), ERR_NOT_FOUND);
	/* And a later commit works. */
	OK(upload_commit(&u, 256, 256, sha_of(w, other), "", NULL));
	upload_end(&u);
	u = upload_open(w, "r", 0, "", &rsp);
	assert_int_equal(rsp->offset, 0);
	upload_end(&u);
}

/* ---- namespaces ---- */

static void in_namespace(struct world *w, const char *ns)
{
	rpc_client_set_metadata(w->c, "containerd-namespace", ns);
}

static void cross_namespace_share(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct str bytes = content(w, 256, 1);
	const char *digest = sha_of(w, bytes);
	int64_t before = now_ns(), opened;
	struct upload u;

	upload_blob(w, "r", bytes, "");
	in_namespace(w, "other");
	FAILS(content_info(w, digest, NULL), ERR_NOT_FOUND);
	opened = now_ns();
	u = upload_open(w, "r", 256, digest, &rsp);
	assert_int_equal(rsp->offset, 256);
	assert_int_equal(rsp->total, 256);
	assert_string_equal(rsp->digest, digest);
	expect_between(rsp->started_at, opened, now_ns());
	OK(upload_commit(&u, 256, 256, digest, "k=v", &rsp));
	assert_int_equal(rsp->offset, 256);
	upload_end(&u);
	expect_blob(w, digest, 256, "k=v", opened, now_ns());
	expect_bytes(w, bytes);
	in_namespace(w, "ns"); /* where the labels are its own */
	expect_blob(w, digest, 256, "", before, opened);
	OK(content_delete(w, digest));
	in_namespace(w, "other");
	expect_bytes(w, bytes);
}

static void cross_namespace_append(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct str both = content(w, 400, 1), bytes = str_sub(both, 0, 256);
	struct upload u;

	upload_blob(w, "r", bytes, "");
	in_namespace(w, "other");
	u = upload_open(w, "r", 0, sha_of(w, bytes), &rsp);
	assert_int_equal(rsp->offset, 256);
	OK(upload_write(&u, 256, str_sub(both, 256, 144), &rsp));
	assert_int_equal(rsp->offset, 400);
	assert_string_equal(rsp->digest, sha_of(w, both));
	OK(upload_commit(&u, 400, 400, sha_of(w, both), "", NULL));
	upload_end(&u);
	expect_bytes(w, both);
	FAILS(content_info(w, sha_of(w, bytes), NULL), ERR_NOT_FOUND);
	in_namespace(w, "ns");
	expect_bytes(w, bytes); /* as it was */
}

static void isolate(struct world *w)
{
	free(w->d->config.content_sharing);
	w->d->config.content_sharing = xstrdup("isolated");
}

static void cross_namespace_isolate(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct str bytes = content(w, 256, 1);
	struct upload u;

	isolate(w);
	upload_blob(w, "r", bytes, "");
	in_namespace(w, "other");
	u = upload_open(w, "r", 256, sha_of(w, bytes), &rsp);
	assert_int_equal(rsp->offset, 0);
	assert_string_equal(rsp->digest, sha_of(w, STR_NONE));
	FAILS(upload_commit(&u, 0, 256, sha_of(w, bytes), "", NULL), ERR_PRECONDITION); /* words are not enough */
	upload_end(&u);
	FAILS(content_info(w, sha_of(w, bytes), NULL), ERR_NOT_FOUND);
	upload_blob(w, "r", bytes, "");
	expect_bytes(w, bytes);
}

static void set_shareable(struct world *w, const char *ns, const char *value)
{
	Namespaces__UpdateNamespaceRequest req = NAMESPACES__UPDATE_NAMESPACE_REQUEST__INIT;
	Namespaces__Namespace n = NAMESPACES__NAMESPACE__INIT;

	n.name = ns;
	WORLD_KVS(w, &n, labels, arena_printf(&w->a, "containerd.io/namespace.shareable=%s", value));
	req.namespace_ = &n;
	OK(world_call(w, &namespaces__namespaces__descriptor, "Update", &req, NULL));
}

static void shared_namespace_isolate(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct str bytes = content(w, 256, 1);
	const char *digest = sha_of(w, bytes);
	struct upload u;

	isolate(w);
	upload_blob(w, "r", bytes, "");
	set_shareable(w, "ns", "false");
	set_shareable(w, "empty", "true"); /* shares what it has, not what others have */
	in_namespace(w, "other");
	u = upload_open(w, "r", 256, digest, &rsp);
	assert_int_equal(rsp->offset, 0);
	upload_end(&u);
	set_shareable(w, "ns", "true");
	u = upload_open(w, "r2", 256, digest, &rsp);
	assert_int_equal(rsp->offset, 256);
	OK(upload_commit(&u, 256, 256, digest, "", NULL));
	upload_end(&u);
	expect_bytes(w, bytes);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(writer),
	    TEST(update_status),
	    TEST(commit_exists),
	    TEST(resume),
	    TEST(resume_truncate),
	    TEST(resume_discard),
	    TEST(resume_copy),
	    TEST(resume_copy_seeker),
	    TEST(resume_copy_reader_at),
	    TEST(small_blob),
	    TEST(labels),
	    TEST(commit_error_state),
	    TEST(cross_namespace_share),
	    TEST(cross_namespace_append),
	    TEST(cross_namespace_isolate),
	    TEST(shared_namespace_isolate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
