/* Leases and collection through the services, and the collector's life. */
#include "contentd/collect/collector.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "contentd/records/leases.h"
#include "contentd/testing/upload.h"
#include "contentd/testing/world.h"
#include "rpc/proto/content.pb-c.h"
#include "rpc/proto/images.pb-c.h"
#include "rpc/proto/leases.pb-c.h"

static int lease_create(struct world *w, const char *id, const char *labels)
{
	Leases__CreateRequest req = LEASES__CREATE_REQUEST__INIT;

	req.id = id;
	WORLD_KVS(w, &req, labels, labels);
	return world_call(w, &leases__leases__descriptor, "Create", &req, NULL);
}

static void lease_delete(struct world *w, const char *id)
{
	Leases__DeleteRequest req = LEASES__DELETE_REQUEST__INIT;

	req.id = id;
	req.sync = true;
	OK(world_call(w, &leases__leases__descriptor, "Delete", &req, NULL));
}

/* "type:id ", digests by their first characters. */
static const char *lease_list(struct world *w, const char *lease)
{
	Leases__ListResourcesRequest req = LEASES__LIST_RESOURCES_REQUEST__INIT;
	AUTO(buf) struct buf b = BUF_INIT;
	Leases__ListResourcesResponse *rsp;

	req.id = lease;
	OK(world_call(w, &leases__leases__descriptor, "ListResources", &req, &rsp));
	for (size_t i = 0; i < rsp->n_resources; i++)
		buf_addf(&b, "%s:%.10s ", rsp->resources[i]->type, rsp->resources[i]->id);
	return arena_str(&w->a, buf_str(&b));
}

static void under_lease(struct world *w, const char *lease)
{
	rpc_client_set_metadata(w->c, "containerd-lease", lease);
}

static bool blob_is_there(struct world *w, const char *digest)
{
	struct digest d;

	OK(digest_parse(str_of(digest), &d, &w->err));
	return cd_blob_has(w->d->content, &d);
}

static void collecting(struct world *w)
{
	OK(cd_daemon_collect(w->d, &w->err));
}

/* ---- TestContentLeased, TestIngestLeased ---- */

static void content_leased(void **state)
{
	Content__AbortRequest abort_req = CONTENT__ABORT_REQUEST__INIT;
	struct world *w = *state;
	const char *sha = sha_of(w, STR("hello"));
	const char *of_content = arena_printf(&w->a, "content:%.10s ", sha);
	struct upload u;

	OK(lease_create(w, "l", ""));
	OK(lease_create(w, "m", ""));
	under_lease(w, "l");
	u = upload_open(w, "r", 5, sha, NULL);
	assert_string_equal(lease_list(w, "l"), "ingests:r ");
	OK(upload_write(&u, 0, STR("hellp"), NULL));
	FAILS(upload_commit(&u, 5, 5, sha, "", NULL), ERR_PRECONDITION);
	assert_string_equal(lease_list(w, "l"), "ingests:r "); /* a failed commit changes nothing */
	upload_end(&u);
	u = upload_open(w, "r", 5, sha, NULL);
	OK(upload_write(&u, 0, STR("hello"), NULL));
	OK(upload_commit(&u, 5, 5, sha, "", NULL));
	upload_end(&u);
	assert_string_equal(lease_list(w, "l"), of_content);

	under_lease(w, "m");
	u = upload_begin(w);
	FAILS(upload_stat(&u, "r2", 5, sha, NULL), ERR_EXISTS); /* what exists is leased by opening it */
	upload_end(&u);
	assert_string_equal(lease_list(w, "m"), of_content);
	u = upload_open(w, "r3", 0, "", NULL);
	assert_string_equal(lease_list(w, "m"), arena_printf(&w->a, "%singests:r3 ", of_content));
	OK(upload_write(&u, 0, STR("hello"), NULL));
	FAILS(upload_commit(&u, 5, 0, "", "", NULL), ERR_EXISTS);
	upload_end(&u);
	assert_string_equal(lease_list(w, "m"), of_content);
	u = upload_open(w, "r4", 0, "", NULL);
	upload_end(&u);
	abort_req.ref = "r4";
	OK(world_call(w, &content__content__descriptor, "Abort", &abort_req, NULL));
	assert_string_equal(lease_list(w, "m"), of_content);
	OK(content_delete(w, sha));
	assert_string_equal(lease_list(w, "m"), "");
}

/* ---- collecting ---- */

/* What only a lease keeps goes with it, records and files, before the call answers; an ingest too. */
static void sync_deletes(void **state)
{
	Images__DeleteImageRequest del = IMAGES__DELETE_IMAGE_REQUEST__INIT;
	Images__CreateImageRequest create = IMAGES__CREATE_IMAGE_REQUEST__INIT;
	Types__Descriptor target = TYPES__DESCRIPTOR__INIT;
	Images__Image image = IMAGES__IMAGE__INIT;
	struct world *w = *state;
	const char *one = sha_of(w, STR("one")), *two = sha_of(w, STR("two"));
	Content__Info *info;
	struct upload u;

	collecting(w);
	OK(lease_create(w, "l", ""));
	under_lease(w, "l");
	upload_blob(w, "r1", STR("one"), "");
	upload_blob(w, "r2", STR("two"), arena_printf(&w->a, "containerd.io/gc.ref.content.0=%s", one));
	u = upload_open(w, "r3", 0, "", NULL);
	OK(upload_write(&u, 0, STR("three"), NULL));
	upload_end(&u);
	target.media_type = "m";
	target.digest = two;
	target.size = 3;
	image.name = "i";
	image.target = &target;
	create.image = &image;
	OK(world_call(w, &images__images__descriptor, "Create", &create, NULL));
	under_lease(w, "");

	lease_delete(w, "l");
	OK(content_info(w, one, &info));
	OK(content_info(w, two, &info));
	assert_true(blob_is_there(w, one));
	del.name = "i";
	del.sync = true;
	OK(world_call(w, &images__images__descriptor, "Delete", &del, NULL));
	FAILS(content_info(w, one, &info), ERR_NOT_FOUND);
	FAILS(content_info(w, two, &info), ERR_NOT_FOUND);
	assert_false(blob_is_there(w, one) || blob_is_there(w, two));
}

/* The file is stored anew while the one before it may be on its way out. */
static void the_same_blob_again(void **state)
{
	struct world *w = *state;
	const char *sha = sha_of(w, STR("again"));

	collecting(w);
	for (int i = 0; i < 20; i++) {
		OK(lease_create(w, "l", ""));
		under_lease(w, "l");
		upload_blob(w, "r", STR("again"), "");
		under_lease(w, "");
		assert_true(blob_is_there(w, sha));
		lease_delete(w, "l");
		assert_false(blob_is_there(w, sha));
	}
}

/* Nobody calls: the lease expires all the same. */
static void expires_by_itself(void **state)
{
	struct world *w = *state;
	struct timespec at = clock_wall();
	int64_t patience = clock_mono_ns() + 20 * NS_PER_S;
	const char *sha = sha_of(w, STR("soon gone"));
	char text[40];

	collecting(w);
	at.tv_sec += 1;
	OK(lease_create(w, "l", arena_printf(&w->a, "containerd.io/gc.expire=%s", time_rfc3339(at, text))));
	under_lease(w, "l");
	upload_blob(w, "r", STR("soon gone"), "");
	under_lease(w, "");
	assert_true(blob_is_there(w, sha));
	while (blob_is_there(w, sha) && clock_mono_ns() < patience)
		usleep(20000);
	assert_false(blob_is_there(w, sha));
}

/* Leases of calls that a daemon took along when it died; others stay. */
static void leases_of_calls(void **state)
{
	Leases__ListRequest list = LEASES__LIST_REQUEST__INIT;
	Leases__ListResponse *rsp;
	struct world *w = *state;
	const char *own;

	OK(lease_create(w, "theirs", ""));
	OK(cd_lease_begin(w->d, &w->a, "ns", &own, &w->err));
	OK(world_call(w, &leases__leases__descriptor, "List", &list, &rsp));
	assert_int_equal(rsp->n_leases, 2);
	OK(cd_leases_end_left(w->d, &w->err));
	OK(world_call(w, &leases__leases__descriptor, "List", &list, &rsp));
	assert_int_equal(rsp->n_leases, 1);
	assert_string_equal(rsp->leases[0]->id, "theirs");
}

/* TestClose: the daemon ends while somebody waits for a collection, and while one runs. */
static void *wait_for_it(void *arg)
{
	struct err err = ERR_INIT;

	for (int i = 0; i < 1000 && cd_collector_run(arg, NULL, &err) >= 0; i++)
		;
	return NULL;
}

static void stopped_in_a_cycle(void **state)
{
	struct world *w = *state;
	pthread_t thread;

	for (int i = 0; i < 10; i++) {
		struct cd_collector_stats stats;

		collecting(w);
		assert_int_equal(pthread_create(&thread, NULL, wait_for_it, w->d->collector), 0);
		do
			cd_collector_stats(w->d->collector, &stats);
		while (!stats.cycles);
		cd_collector_halt(w->d->collector);
		assert_int_equal(pthread_join(thread, NULL), 0);
		cd_collector_stop(STEAL(w->d->collector));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_set_up, world_tear_down)
	    TEST(content_leased),    TEST(sync_deletes),    TEST(the_same_blob_again),
	    TEST(expires_by_itself), TEST(leases_of_calls), TEST(stopped_in_a_cycle),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
