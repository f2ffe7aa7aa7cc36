/* The Content service: records, reading, and the write protocol; the cases of containerd's own content suite. */
#include "base/clock.h"
#include "contentd/testing/world.h"
#include "rpc/proto/content.pb-c.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/leases.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define OK(call)                                                                                                       \
	do {                                                                                                           \
		if ((call) < 0)                                                                                        \
			fail_msg("%s: %s", #call, w->err.msg);                                                         \
	} while (0)
#define FAILS(call, code) assert_int_equal((call), -(code))
#define CALL(method, req, rsp) world_call(w, &content__content__descriptor, method, (req), (rsp))

static const char *sha(struct world *w, const char *text)
{
	char out[DIGEST_TEXT_MAX];
	struct digest d;

	digest_of(text, strlen(text), &d);
	return arena_strdup(&w->a, digest_text(&d, out));
}

/* ---- writing ---- */

struct upload {
	struct world *w;
	struct rpc_stream *s;
};

static struct upload begin(struct world *w)
{
	struct upload u = {.w = w};

	w->err = ERR_INIT;
	OK(rpc_stream_open(w->c, &content__content__descriptor, "Write", NULL, &u.s, &w->err));
	return u;
}

/* Sends one message and gives the code of its answer; *rsp (may be NULL) lives in the arena. */
static int say(struct upload *u, const Content__WriteContentRequest *req, Content__WriteContentResponse **rsp)
{
	AUTO(pb) Content__WriteContentResponse *m = NULL;
	AUTO(buf) struct buf wire = BUF_INIT;
	int r;

	r = rpc_stream_send(u->s, &req->base, &u->w->err);
	if (r >= 0)
		r = rpc_stream_recv(u->s, INT64_MAX, &m, &u->w->err);
	if (r == RPC_MESSAGE && rsp) {
		pb_pack(&m->base, &wire);
		r = pb_unpack_in(&u->w->a, &content__write_content_response__descriptor, buf_str(&wire), rsp, NULL);
	}
	return r < 0 ? r : 0;
}

static Content__WriteContentRequest message(Content__WriteAction action, int64_t offset, const char *data)
{
	Content__WriteContentRequest req = CONTENT__WRITE_CONTENT_REQUEST__INIT;

	req.action = action;
	req.offset = offset;
	req.data = (ProtobufCBinaryData){strlen(data), (uint8_t *)data};
	return req;
}

static int stat_ref(struct upload *u, const char *ref, int64_t total, const char *expected,
                    Content__WriteContentResponse **rsp)
{
	Content__WriteContentRequest req = message(CONTENT__WRITE_ACTION__STAT, 0, "");

	req.ref = ref;
	req.total = total;
	req.expected = expected;
	return say(u, &req, rsp);
}

static int put(struct upload *u, int64_t offset, const char *data, Content__WriteContentResponse **rsp)
{
	Content__WriteContentRequest req = message(CONTENT__WRITE_ACTION__WRITE, offset, data);

	return say(u, &req, rsp);
}

static int commit(struct upload *u, int64_t offset, int64_t total, const char *expected, const char *labels,
                  Content__WriteContentResponse **rsp)
{
	Content__WriteContentRequest req = message(CONTENT__WRITE_ACTION__COMMIT, offset, "");

	req.total = total;
	req.expected = expected;
	WORLD_KVS(u->w, &req, labels, labels);
	return say(u, &req, rsp);
}

static void end(struct upload *u)
{
	rpc_stream_free(STEAL(u->s));
	/* The server learns of it soon; whoever opens the ref next may have to try again. */
}

/* Opens a ref, however long the last writer takes to be gone. */
static struct upload open_ref(struct world *w, const char *ref, int64_t total, const char *expected,
                              Content__WriteContentResponse **rsp)
{
	int64_t until = clock_mono_ns() + 10 * NS_PER_S;
	struct upload u = {0};

	do {
		u = begin(w);
		if (stat_ref(&u, ref, total, expected, rsp) >= 0)
			return u;
		end(&u);
	} while (w->err.code == ERR_UNAVAILABLE && clock_mono_ns() < until);
	fail_msg("%s", w->err.msg);
	return u;
}

static void ingest(struct world *w, const char *ref, const char *text, const char *labels)
{
	Content__WriteContentResponse *rsp;
	struct upload u = open_ref(w, ref, 0, "", &rsp);
	AUTO(pb) Content__WriteContentResponse *more = NULL;

	OK(put(&u, rsp->offset, text, &rsp));
	OK(commit(&u, rsp->offset, (int64_t)strlen(text), sha(w, text), labels, &rsp));
	assert_string_equal(rsp->digest, sha(w, text));
	assert_int_equal(rpc_stream_recv(u.s, INT64_MAX, &more, &w->err), RPC_END);
	end(&u);
}

static int status(struct world *w, const char *ref, Content__Status **out)
{
	Content__StatusRequest req = CONTENT__STATUS_REQUEST__INIT;
	Content__StatusResponse *rsp;
	int r;

	req.ref = ref;
	r = CALL("Status", &req, &rsp);
	if (r >= 0 && out)
		*out = rsp->status;
	return r;
}

static int info(struct world *w, const char *digest, Content__Info **out)
{
	Content__InfoRequest req = CONTENT__INFO_REQUEST__INIT;
	Content__InfoResponse *rsp;
	int r;

	req.digest = digest;
	r = CALL("Info", &req, &rsp);
	if (r >= 0 && out)
		*out = rsp->info;
	return r;
}

static int read_blob(struct world *w, const char *digest, int64_t offset, int64_t size, const char **out, size_t *n)
{
	Content__ReadContentRequest req = CONTENT__READ_CONTENT_REQUEST__INIT;
	AUTO(buf) struct buf b = BUF_INIT;
	int64_t at = 0;
	void **all;

	req.digest = digest;
	req.offset = offset;
	req.size = size;
	TRY(world_stream(w, &content__content__descriptor, "Read", &req, &content__read_content_response__descriptor,
	                 &all, n));
	for (size_t i = 0; i < *n; i++) {
		const Content__ReadContentResponse *rsp = all[i];

		assert_int_equal(rsp->offset, at);
		buf_add(&b, rsp->data.data, rsp->data.len);
		at += (int64_t)rsp->data.len;
	}
	*out = arena_str(&w->a, buf_str(&b));
	return 0;
}

static void expect_read(struct world *w, const char *digest, int64_t offset, int64_t size, const char *want)
{
	const char *got;
	size_t n;

	OK(read_blob(w, digest, offset, size, &got, &n));
	assert_string_equal(got, want);
	assert_int_equal(n, *want ? 1 : 0);
}

/* ---- tests ---- */

static void a_blob_from_begin_to_end(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u = open_ref(w, "r", 11, "", &rsp);
	Content__Status *s = NULL;
	Content__Info *i = NULL;

	assert_int_equal(rsp->offset, 0);
	assert_int_equal(rsp->total, 11);
	assert_string_equal(rsp->digest, sha(w, ""));
	OK(put(&u, 0, "hello ", &rsp));
	assert_int_equal(rsp->offset, 6);
	assert_string_equal(rsp->digest, sha(w, "hello "));
	OK(status(w, "r", &s));
	assert_int_equal(s->offset, 6);
	assert_int_equal(s->total, 11);
	OK(put(&u, 6, "world", &rsp));
	OK(commit(&u, 11, 11, sha(w, "hello world"), "a=1 b=", &rsp));
	assert_int_equal(rsp->offset, 11);
	end(&u);
	OK(info(w, sha(w, "hello world"), &i));
	assert_int_equal(i->size, 11);
	assert_string_equal(world_kvs_text(w, i->labels, i->n_labels), "a=1");
	assert_int_equal(i->created_at->nanos, i->updated_at->nanos);
	FAILS(status(w, "r", NULL), ERR_NOT_FOUND);
	expect_read(w, i->digest, 0, 0, "hello world");
	expect_read(w, i->digest, 6, 0, "world");
	expect_read(w, i->digest, 6, 2, "wo");
	expect_read(w, i->digest, -5, 3, "hel");
	expect_read(w, i->digest, 6, 100, "world");
	expect_read(w, i->digest, 11, 0, "");
}

static void reading_what_cannot_be_read(void **state)
{
	struct world *w = *state;
	const char *got;
	size_t n;

	ingest(w, "r", "x", "");
	FAILS(read_blob(w, sha(w, "x"), 2, 0, &got, &n), ERR_OUT_OF_RANGE);
	FAILS(read_blob(w, sha(w, "y"), 0, 0, &got, &n), ERR_NOT_FOUND);
	FAILS(read_blob(w, "junk", 0, 0, &got, &n), ERR_INVALID);
	FAILS(info(w, "sha256:abc", NULL), ERR_INVALID);
	rpc_client_set_metadata(w->c, "containerd-namespace", "other");
	FAILS(info(w, sha(w, "x"), NULL), ERR_NOT_FOUND); /* the bytes are there, for somebody else */
}

static void a_large_blob_comes_in_pieces(void **state)
{
	struct world *w = *state;
	char *big = arena_alloc(&w->a, (3u << 20) + 6);
	const char *got;
	size_t n;

	for (size_t i = 0; i < (3u << 20) + 5; i++)
		big[i] = "0123456789"[i % 10];
	big[(3u << 20) + 5] = '\0';
	ingest(w, "r", big, "");
	OK(read_blob(w, sha(w, big), 0, 0, &got, &n));
	assert_true(n >= 4);
	assert_string_equal(sha(w, got), sha(w, big));
}

static void refs_and_their_locks(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u = open_ref(w, "r", 0, "", &rsp), second = begin(w), nameless = begin(w);

	FAILS(stat_ref(&second, "r", 0, "", NULL), ERR_UNAVAILABLE);
	FAILS(stat_ref(&nameless, "", 0, "", NULL), ERR_INVALID);
	end(&second);
	end(&nameless);
	OK(put(&u, 0, "abc", NULL));
	FAILS(put(&u, 7, "x", NULL), ERR_OUT_OF_RANGE);
	end(&u);
	u = open_ref(w, "r", 0, "", &rsp); /* what was written stays, for who comes back */
	assert_int_equal(rsp->offset, 3);
	assert_int_equal(rsp->total, 0);
	assert_string_equal(rsp->digest, sha(w, "abc"));
	OK(put(&u, 0, "xy", &rsp)); /* from the beginning */
	assert_int_equal(rsp->offset, 2);
	OK(commit(&u, 2, 2, "", "", &rsp));
	assert_string_equal(rsp->digest, sha(w, "xy"));
	end(&u);
}

static void commits_that_fail(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u;

	ingest(w, "r", "there", "");
	u = open_ref(w, "r", 0, "", &rsp);
	OK(put(&u, 0, "there", NULL));
	FAILS(commit(&u, 5, 0, "", "", NULL), ERR_EXISTS);
	end(&u);
	u = open_ref(w, "r", 0, "", &rsp);
	assert_int_equal(rsp->offset, 0); /* the data is gone, the ref free */
	OK(put(&u, 0, "new", NULL));
	FAILS(commit(&u, 3, 4, "", "", NULL), ERR_PRECONDITION);
	end(&u);
	u = open_ref(w, "r", 0, "", &rsp);
	assert_int_equal(rsp->offset, 3); /* the data stays */
	FAILS(commit(&u, 3, 3, sha(w, "other"), "", NULL), ERR_PRECONDITION);
	end(&u);
	u = open_ref(w, "r", 0, "", &rsp);
	OK(commit(&u, 3, 3, sha(w, "new"), "", &rsp));
	end(&u);
	u = begin(w);
	FAILS(stat_ref(&u, "r2", 0, sha(w, "new"), NULL), ERR_EXISTS);
	end(&u);
	FAILS(status(w, "r2", NULL), ERR_NOT_FOUND);
	u = begin(w);
	FAILS(stat_ref(&u, "r2", 0, "sha256:x", NULL), ERR_INVALID);
	end(&u);
}

static void an_empty_blob(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u = open_ref(w, "r", 0, "", &rsp);

	OK(commit(&u, 0, 0, "", "", &rsp));
	end(&u);
	expect_read(w, sha(w, ""), 0, 0, "");
}

static void bytes_of_another_namespace(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u;

	ingest(w, "r", "shared", "");
	rpc_client_set_metadata(w->c, "containerd-namespace", "other");
	u = open_ref(w, "r", 6, sha(w, "shared"), &rsp);
	assert_int_equal(rsp->offset, 6);
	assert_int_equal(rsp->total, 6);
	OK(commit(&u, 6, 6, sha(w, "shared"), "k=v", &rsp));
	end(&u);
	expect_read(w, sha(w, "shared"), 0, 0, "shared");
	/* Who says another size gets nothing; who writes on gets a copy. */
	rpc_client_set_metadata(w->c, "containerd-namespace", "third");
	u = open_ref(w, "r", 7, sha(w, "shared"), &rsp);
	assert_int_equal(rsp->offset, 0);
	end(&u);
	u = open_ref(w, "s", 0, sha(w, "shared"), &rsp);
	assert_int_equal(rsp->offset, 6);
	OK(put(&u, 6, "+", &rsp));
	assert_int_equal(rsp->offset, 7);
	assert_string_equal(rsp->digest, sha(w, "shared+"));
	OK(commit(&u, 7, 7, sha(w, "shared+"), "", &rsp));
	end(&u);
	expect_read(w, sha(w, "shared+"), 0, 0, "shared+");
}

static void aborting(void **state)
{
	Content__AbortRequest req = CONTENT__ABORT_REQUEST__INIT;
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u = open_ref(w, "r", 0, "", &rsp);

	OK(put(&u, 0, "x", NULL));
	req.ref = "r";
	OK(CALL("Abort", &req, NULL));
	FAILS(CALL("Abort", &req, NULL), ERR_NOT_FOUND);
	FAILS(put(&u, 1, "y", NULL), ERR_NOT_FOUND);
	end(&u);
}

static void labels(void **state)
{
	Content__UpdateRequest req = CONTENT__UPDATE_REQUEST__INIT;
	Pb__FieldMask mask = PB__FIELD_MASK__INIT;
	Content__Info i = CONTENT__INFO__INIT;
	const char *path = "labels.b.c/d";
	Content__UpdateResponse *rsp;
	struct world *w = *state;

	ingest(w, "r", "x", "a=1 b.c/d=2");
	FAILS(CALL("Update", &req, NULL), ERR_INVALID);
	i.digest = sha(w, "none");
	req.info = &i;
	FAILS(CALL("Update", &req, NULL), ERR_NOT_FOUND);
	i.digest = sha(w, "x");
	WORLD_KVS(w, &i, labels, "b.c/d=3 z=1");
	mask.paths = &path;
	mask.n_paths = 1;
	req.update_mask = &mask;
	OK(CALL("Update", &req, &rsp));
	assert_string_equal(world_kvs_text(w, rsp->info->labels, rsp->info->n_labels), "a=1 b.c/d=3");
	assert_true(rsp->info->updated_at->nanos != rsp->info->created_at->nanos);
	path = "size";
	FAILS(CALL("Update", &req, NULL), ERR_INVALID);
	req.update_mask = NULL;
	OK(CALL("Update", &req, &rsp));
	assert_string_equal(world_kvs_text(w, rsp->info->labels, rsp->info->n_labels), "b.c/d=3 z=1");
	WORLD_KVS(w, &i, labels, arena_printf(&w->a, "k=%04096d", 0));
	FAILS(CALL("Update", &req, NULL), ERR_INVALID);
}

static void lists(void **state)
{
	Content__ListContentRequest req = CONTENT__LIST_CONTENT_REQUEST__INIT;
	Content__ListStatusesRequest statuses = CONTENT__LIST_STATUSES_REQUEST__INIT;
	Content__DeleteContentRequest del = CONTENT__DELETE_CONTENT_REQUEST__INIT;
	Content__ListStatusesResponse *active;
	Content__WriteContentResponse *rsp;
	const char *filter = "labels.\"k/l\"==v", *refs = "ref~=^one";
	struct world *w = *state;
	struct upload one, two;
	void **all;
	size_t n;

	OK(world_stream(w, &content__content__descriptor, "List", &req, &content__list_content_response__descriptor,
	                &all, &n));
	assert_int_equal(n, 0);
	ingest(w, "r", "x", "k/l=v");
	ingest(w, "r", "y", "");
	OK(world_stream(w, &content__content__descriptor, "List", &req, &content__list_content_response__descriptor,
	                &all, &n));
	assert_int_equal(n, 1);
	assert_int_equal(((Content__ListContentResponse *)all[0])->n_info, 2);
	req.filters = &filter;
	req.n_filters = 1;
	OK(world_stream(w, &content__content__descriptor, "List", &req, &content__list_content_response__descriptor,
	                &all, &n));
	assert_string_equal(((Content__ListContentResponse *)all[0])->info[0]->digest, sha(w, "x"));
	one = open_ref(w, "one-1", 0, "", &rsp);
	two = open_ref(w, "two-2", 0, "", &rsp);
	statuses.filters = &refs;
	statuses.n_filters = 1;
	OK(CALL("ListStatuses", &statuses, &active));
	assert_int_equal(active->n_statuses, 1);
	assert_string_equal(active->statuses[0]->ref, "one-1");
	end(&one);
	end(&two);
	del.digest = sha(w, "x");
	OK(CALL("Delete", &del, NULL));
	FAILS(CALL("Delete", &del, NULL), ERR_NOT_FOUND);
	FAILS(info(w, sha(w, "x"), NULL), ERR_NOT_FOUND);
}

static const char *leased(struct world *w)
{
	Leases__ListResourcesRequest req = LEASES__LIST_RESOURCES_REQUEST__INIT;
	Leases__ListResourcesResponse *rsp;
	AUTO(buf) struct buf b = BUF_INIT;

	req.id = "l";
	OK(world_call(w, &leases__leases__descriptor, "ListResources", &req, &rsp));
	for (size_t i = 0; i < rsp->n_resources; i++)
		buf_addf(&b, "%s:%s ", rsp->resources[i]->type, rsp->resources[i]->id);
	return arena_str(&w->a, buf_str(&b));
}

static void under_a_lease(void **state)
{
	Leases__CreateRequest req = LEASES__CREATE_REQUEST__INIT;
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u;

	ingest(w, "before", "known", "");
	req.id = "l";
	OK(world_call(w, &leases__leases__descriptor, "Create", &req, NULL));
	rpc_client_set_metadata(w->c, "containerd-lease", "l");
	u = open_ref(w, "r", 0, "", &rsp);
	assert_string_equal(leased(w), "ingests:r ");
	OK(put(&u, 0, "x", NULL));
	OK(commit(&u, 1, 1, "", "", &rsp));
	end(&u);
	assert_string_equal(leased(w), arena_printf(&w->a, "content:%s ", sha(w, "x")));
	u = begin(w);
	FAILS(stat_ref(&u, "r", 0, sha(w, "known"), NULL), ERR_EXISTS); /* and held from now on */
	end(&u);
	assert_non_null(strstr(leased(w), sha(w, "known")));
	rpc_client_set_metadata(w->c, "containerd-lease", "none");
	u = begin(w);
	FAILS(stat_ref(&u, "r", 0, "", NULL), ERR_NOT_FOUND);
	end(&u);
}

static void a_record_without_bytes(void **state)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	Records__Content record = RECORDS__CONTENT__INIT;
	Content__Info i = CONTENT__INFO__INIT;
	struct world *w = *state;
	const char *got;
	size_t n;

	i.digest = SHA_A;
	i.size = 100;
	record.info = &i;
	cd_batch_put(&b, CD_CONTENT, "ns", STR(SHA_A), &record.base);
	record.source = "127.0.0.1:1/x:latest";
	i.digest = SHA_B;
	cd_batch_put(&b, CD_CONTENT, "ns", STR(SHA_B), &record.base);
	OK(cd_meta_commit(w->d->meta, &b, &w->err));
	OK(info(w, SHA_A, NULL));
	FAILS(read_blob(w, SHA_A, 0, 0, &got, &n), ERR_NOT_FOUND);
	/* One that could be fetched, but here is no contentfs to do it. */
	OK(info(w, SHA_B, NULL));
	FAILS(read_blob(w, SHA_B, 0, 0, &got, &n), ERR_UNAVAILABLE);
	FAILS(read_blob(w, SHA_B, 101, 0, &got, &n), ERR_OUT_OF_RANGE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(a_blob_from_begin_to_end),
	    TEST(reading_what_cannot_be_read),
	    TEST(a_large_blob_comes_in_pieces),
	    TEST(refs_and_their_locks),
	    TEST(commits_that_fail),
	    TEST(an_empty_blob),
	    TEST(bytes_of_another_namespace),
	    TEST(aborting),
	    TEST(labels),
	    TEST(lists),
	    TEST(under_a_lease),
	    TEST(a_record_without_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
