/* The Content service: records, reading, and the write protocol. The cases of containerd's own suite: suite_test.c. */
#include "base/clock.h"
#include "contentd/testing/upload.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/leases.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CALL(method, req, rsp) world_call(w, &content__content__descriptor, method, (req), (rsp))

static void expect_read(struct world *w, const char *digest, int64_t offset, int64_t size, const char *want)
{
	size_t messages;
	struct str got;

	OK(content_read(w, digest, offset, size, &got, &messages));
	assert_string_equal(got.p, want);
	assert_int_equal(messages, *want ? 1 : 0);
}

/* ---- tests ---- */

static void a_blob_from_begin_to_end(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u = upload_open(w, "r", 11, "", &rsp);
	Content__Status *s = NULL;
	Content__Info *i = NULL;

	assert_int_equal(rsp->offset, 0);
	assert_int_equal(rsp->total, 11);
	assert_string_equal(rsp->digest, sha_of(w, STR("")));
	OK(upload_write(&u, 0, STR("hello "), &rsp));
	assert_int_equal(rsp->offset, 6);
	assert_string_equal(rsp->digest, sha_of(w, STR("hello ")));
	OK(content_status(w, "r", &s));
	assert_int_equal(s->offset, 6);
	assert_int_equal(s->total, 11);
	OK(upload_write(&u, 6, STR("world"), &rsp));
	OK(upload_commit(&u, 11, 11, sha_of(w, STR("hello world")), "a=1 b=", &rsp));
	assert_int_equal(rsp->offset, 11);
	upload_end(&u);
	OK(content_info(w, sha_of(w, STR("hello world")), &i));
	assert_int_equal(i->size, 11);
	assert_string_equal(world_kvs_text(w, i->labels, i->n_labels), "a=1");
	assert_int_equal(i->created_at->nanos, i->updated_at->nanos);
	FAILS(content_status(w, "r", NULL), ERR_NOT_FOUND);
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
	struct str got;
	size_t n;

	upload_blob(w, "r", STR("x"), "");
	FAILS(content_read(w, sha_of(w, STR("x")), 2, 0, &got, &n), ERR_OUT_OF_RANGE);
	FAILS(content_read(w, sha_of(w, STR("y")), 0, 0, &got, &n), ERR_NOT_FOUND);
	FAILS(content_read(w, "junk", 0, 0, &got, &n), ERR_INVALID);
	FAILS(content_info(w, "sha256:abc", NULL), ERR_INVALID);
	rpc_client_set_metadata(w->c, "containerd-namespace", "other");
	FAILS(content_info(w, sha_of(w, STR("x")), NULL), ERR_NOT_FOUND); /* the bytes are there, for somebody else */
}

static void a_large_blob_comes_in_pieces(void **state)
{
	struct world *w = *state;
	char *big = arena_alloc(&w->a, (3u << 20) + 6);
	struct str got;
	size_t n;

	for (size_t i = 0; i < (3u << 20) + 5; i++)
		big[i] = "0123456789"[i % 10];
	big[(3u << 20) + 5] = '\0';
	upload_blob(w, "r", str_of(big), "");
	OK(content_read(w, sha_of(w, str_of(big)), 0, 0, &got, &n));
	assert_true(n >= 4);
	assert_string_equal(sha_of(w, got), sha_of(w, str_of(big)));
}

static void refs_and_their_locks(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u = upload_open(w, "r", 0, "", &rsp), second = upload_begin(w), nameless = upload_begin(w);

	FAILS(upload_stat(&second, "r", 0, "", NULL), ERR_UNAVAILABLE);
	FAILS(upload_stat(&nameless, "", 0, "", NULL), ERR_INVALID);
	upload_end(&second);
	upload_end(&nameless);
	OK(upload_write(&u, 0, STR("abc"), NULL));
	FAILS(upload_write(&u, 7, STR("x"), NULL), ERR_OUT_OF_RANGE);
	upload_end(&u);
	u = upload_open(w, "r", 0, "", &rsp); /* what was written stays, for who comes back */
	assert_int_equal(rsp->offset, 3);
	assert_int_equal(rsp->total, 0);
	assert_string_equal(rsp->digest, sha_of(w, STR("abc")));
	OK(upload_write(&u, 0, STR("xy"), &rsp)); /* from the beginning */
	assert_int_equal(rsp->offset, 2);
	OK(upload_commit(&u, 2, 2, "", "", &rsp));
	assert_string_equal(rsp->digest, sha_of(w, STR("xy")));
	upload_end(&u);
}

static void commits_that_fail(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u;

	upload_blob(w, "r", STR("there"), "");
	u = upload_open(w, "r", 0, "", &rsp);
	OK(upload_write(&u, 0, STR("there"), NULL));
	FAILS(upload_commit(&u, 5, 0, "", "", NULL), ERR_EXISTS);
	upload_end(&u);
	u = upload_open(w, "r", 0, "", &rsp);
	assert_int_equal(rsp->offset, 0); /* the data is gone, the ref free */
	OK(upload_write(&u, 0, STR("new"), NULL));
	FAILS(upload_commit(&u, 3, 4, "", "", NULL), ERR_PRECONDITION);
	upload_end(&u);
	u = upload_open(w, "r", 0, "", &rsp);
	assert_int_equal(rsp->offset, 3); /* the data stays */
	FAILS(upload_commit(&u, 3, 3, sha_of(w, STR("other")), "", NULL), ERR_PRECONDITION);
	upload_end(&u);
	u = upload_open(w, "r", 0, "", &rsp);
	OK(upload_commit(&u, 3, 3, sha_of(w, STR("new")), "", &rsp));
	upload_end(&u);
	u = upload_begin(w);
	FAILS(upload_stat(&u, "r2", 0, sha_of(w, STR("new")), NULL), ERR_EXISTS);
	upload_end(&u);
	FAILS(content_status(w, "r2", NULL), ERR_NOT_FOUND);
	u = upload_begin(w);
	FAILS(upload_stat(&u, "r2", 0, "sha256:x", NULL), ERR_INVALID);
	upload_end(&u);
}

static void an_empty_blob(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u = upload_open(w, "r", 0, "", &rsp);

	OK(upload_commit(&u, 0, 0, "", "", &rsp));
	upload_end(&u);
	expect_read(w, sha_of(w, STR("")), 0, 0, "");
}

static void bytes_of_another_namespace(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u;

	upload_blob(w, "r", STR("shared"), "");
	rpc_client_set_metadata(w->c, "containerd-namespace", "other");
	u = upload_open(w, "r", 6, sha_of(w, STR("shared")), &rsp);
	assert_int_equal(rsp->offset, 6);
	assert_int_equal(rsp->total, 6);
	OK(upload_commit(&u, 6, 6, sha_of(w, STR("shared")), "k=v", &rsp));
	upload_end(&u);
	expect_read(w, sha_of(w, STR("shared")), 0, 0, "shared");
	/* Who says another size gets nothing; who writes on gets a copy. */
	rpc_client_set_metadata(w->c, "containerd-namespace", "third");
	u = upload_open(w, "r", 7, sha_of(w, STR("shared")), &rsp);
	assert_int_equal(rsp->offset, 0);
	upload_end(&u);
	u = upload_open(w, "s", 0, sha_of(w, STR("shared")), &rsp);
	assert_int_equal(rsp->offset, 6);
	OK(upload_write(&u, 6, STR("+"), &rsp));
	assert_int_equal(rsp->offset, 7);
	assert_string_equal(rsp->digest, sha_of(w, STR("shared+")));
	OK(upload_commit(&u, 7, 7, sha_of(w, STR("shared+")), "", &rsp));
	upload_end(&u);
	expect_read(w, sha_of(w, STR("shared+")), 0, 0, "shared+");
}

static void aborting(void **state)
{
	Content__AbortRequest req = CONTENT__ABORT_REQUEST__INIT;
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u = upload_open(w, "r", 0, "", &rsp);

	OK(upload_write(&u, 0, STR("x"), NULL));
	req.ref = "r";
	OK(CALL("Abort", &req, NULL));
	FAILS(CALL("Abort", &req, NULL), ERR_NOT_FOUND);
	FAILS(upload_write(&u, 1, STR("y"), NULL), ERR_NOT_FOUND);
	upload_end(&u);
}

static void labels(void **state)
{
	Content__UpdateRequest req = CONTENT__UPDATE_REQUEST__INIT;
	Pb__FieldMask mask = PB__FIELD_MASK__INIT;
	Content__Info i = CONTENT__INFO__INIT;
	const char *path = "labels.b.c/d";
	Content__UpdateResponse *rsp;
	struct world *w = *state;

	upload_blob(w, "r", STR("x"), "a=1 b.c/d=2");
	FAILS(CALL("Update", &req, NULL), ERR_INVALID);
	i.digest = sha_of(w, STR("none"));
	req.info = &i;
	FAILS(CALL("Update", &req, NULL), ERR_NOT_FOUND);
	i.digest = sha_of(w, STR("x"));
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
	upload_blob(w, "r", STR("x"), "k/l=v");
	upload_blob(w, "r", STR("y"), "");
	OK(world_stream(w, &content__content__descriptor, "List", &req, &content__list_content_response__descriptor,
	                &all, &n));
	assert_int_equal(n, 1);
	assert_int_equal(((Content__ListContentResponse *)all[0])->n_info, 2);
	req.filters = &filter;
	req.n_filters = 1;
	OK(world_stream(w, &content__content__descriptor, "List", &req, &content__list_content_response__descriptor,
	                &all, &n));
	assert_string_equal(((Content__ListContentResponse *)all[0])->info[0]->digest, sha_of(w, STR("x")));
	one = upload_open(w, "one-1", 0, "", &rsp);
	two = upload_open(w, "two-2", 0, "", &rsp);
	statuses.filters = &refs;
	statuses.n_filters = 1;
	OK(CALL("ListStatuses", &statuses, &active));
	assert_int_equal(active->n_statuses, 1);
	assert_string_equal(active->statuses[0]->ref, "one-1");
	upload_end(&one);
	upload_end(&two);
	del.digest = sha_of(w, STR("x"));
	OK(CALL("Delete", &del, NULL));
	FAILS(CALL("Delete", &del, NULL), ERR_NOT_FOUND);
	FAILS(content_info(w, sha_of(w, STR("x")), NULL), ERR_NOT_FOUND);
}

static void under_a_lease(void **state)
{
	Leases__CreateRequest req = LEASES__CREATE_REQUEST__INIT;
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct upload u;

	upload_blob(w, "before", STR("known"), "");
	req.id = "l";
	OK(world_call(w, &leases__leases__descriptor, "Create", &req, NULL));
	rpc_client_set_metadata(w->c, "containerd-lease", "l");
	u = upload_open(w, "r", 0, "", &rsp);
	assert_string_equal(world_leased(w, "l"), "ingests:r ");
	OK(upload_write(&u, 0, STR("x"), NULL));
	OK(upload_commit(&u, 1, 1, "", "", &rsp));
	upload_end(&u);
	assert_string_equal(world_leased(w, "l"), arena_printf(&w->a, "content:%s ", sha_of(w, STR("x"))));
	u = upload_begin(w);
	FAILS(upload_stat(&u, "r", 0, sha_of(w, STR("known")), NULL), ERR_EXISTS); /* and held from now on */
	upload_end(&u);
	assert_non_null(strstr(world_leased(w, "l"), sha_of(w, STR("known"))));
	rpc_client_set_metadata(w->c, "containerd-lease", "none");
	u = upload_begin(w);
	FAILS(upload_stat(&u, "r", 0, "", NULL), ERR_NOT_FOUND);
	upload_end(&u);
}

static int64_t expires_s(struct world *w, const char *ref)
{
	AUTO(cd_ingest_status) struct cd_ingest_status s = {0};

	OK(cd_ingest_stat(w->d->content, "ns", ref, &s, &w->err));
	return s.expires.tv_sec;
}

static void ingests_expire_unless_they_are_leased(void **state)
{
	Leases__CreateRequest req = LEASES__CREATE_REQUEST__INIT;
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	int64_t tomorrow = clock_wall().tv_sec + 24 * 60 * 60;
	struct upload u = upload_open(w, "r", 0, "", &rsp);

	assert_in_range(expires_s(w, "r"), tomorrow, tomorrow + 60);
	upload_end(&u);
	assert_in_range(expires_s(w, "r"), tomorrow, tomorrow + 60);
	req.id = "l";
	OK(world_call(w, &leases__leases__descriptor, "Create", &req, NULL));
	rpc_client_set_metadata(w->c, "containerd-lease", "l");
	u = upload_open(w, "r", 0, "", &rsp);
	assert_int_equal(expires_s(w, "r"), 0);
	upload_end(&u);
}

static void a_shared_blob_that_goes_before_the_commit(void **state)
{
	Content__WriteContentResponse *rsp;
	struct world *w = *state;
	struct digest d;
	struct upload u;

	upload_blob(w, "r", STR("shared"), "");
	rpc_client_set_metadata(w->c, "containerd-namespace", "other");
	u = upload_open(w, "r", 6, sha_of(w, STR("shared")), &rsp);
	assert_int_equal(rsp->offset, 6);
	OK(digest_parse(str_of(rsp->digest), &d, &w->err));
	OK(cd_blob_drop(w->d->content, &d, &w->err));
	OK(upload_commit(&u, 6, 6, "", "", NULL));
	upload_end(&u);
	expect_read(w, sha_of(w, STR("shared")), 0, 0, "shared");
}

static void a_record_without_bytes(void **state)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	Records__Content record = RECORDS__CONTENT__INIT;
	Content__Info i = CONTENT__INFO__INIT;
	struct world *w = *state;
	struct str got;
	size_t n;

	i.digest = SHA_A;
	i.size = 100;
	record.info = &i;
	cd_batch_put(&b, CD_CONTENT, "ns", STR(SHA_A), &record.base);
	record.source = "127.0.0.1:1/x:latest";
	i.digest = SHA_B;
	cd_batch_put(&b, CD_CONTENT, "ns", STR(SHA_B), &record.base);
	OK(cd_meta_commit(w->d->meta, &b, &w->err));
	OK(content_info(w, SHA_A, NULL));
	FAILS(content_read(w, SHA_A, 0, 0, &got, &n), ERR_NOT_FOUND);
	/* One that could be fetched, but here is no contentfs to do it. */
	OK(content_info(w, SHA_B, NULL));
	FAILS(content_read(w, SHA_B, 0, 0, &got, &n), ERR_UNAVAILABLE);
	FAILS(content_read(w, SHA_B, 101, 0, &got, &n), ERR_OUT_OF_RANGE);
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
	    TEST(ingests_expire_unless_they_are_leased),
	    TEST(a_shared_blob_that_goes_before_the_commit),
	    TEST(a_record_without_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
