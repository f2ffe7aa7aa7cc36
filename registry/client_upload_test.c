/* Blobs whose size is not known when their upload begins. */
#include "base/clock.h"
#include "base/testing.h"
#include "registry/testregistry.h"
#include "registry/testworld.h"
#include "registry/upload.h"

#define BYTES (20u << 20) /* three pieces */

static struct testregistry registry;
static char *bytes;
static struct digest digest;

static bool serve(struct exchange *x)
{
	return testregistry_serve(&registry, x);
}

static int set_up(void **state)
{
	testregistry_init(&registry);
	bytes = xmalloc(BYTES);
	for (size_t i = 0; i < BYTES; i++)
		bytes[i] = (char)((i * 2654435761u) >> 11);
	digest_of(bytes, BYTES, &digest);
	return 0;
}

static int tear_down(void **state)
{
	free(bytes);
	testregistry_fini(&registry);
	return 0;
}

static struct reg_upload *begin(struct world *w)
{
	struct reg_upload_opts o = {.ref = &w->ref, .deadline_ns = in_s(60)};
	struct reg_upload *u = NULL;

	OK(reg_upload_begin(w->client, &o, &u, err));
	return u;
}

/* In bits that fit no piece. */
static int write_all(struct reg_upload *u, size_t n, struct err *err)
{
	for (size_t at = 0; at < n; at += 300001)
		TRY(reg_upload_write(u, str_sub(str_make(bytes, n), at, 300001), err));
	return 0;
}

static int upload(struct world *w, size_t n, struct err *err)
{
	AUTO(reg_upload) struct reg_upload *u = begin(w);
	struct digest d;

	digest_of(bytes, n, &d);
	TRY(write_all(u, n, err));
	return reg_upload_finish(u, &d, err);
}

static void assert_stored(size_t n)
{
	assert_int_equal(registry.blob.n, n);
	assert_memory_equal(registry.blob.p, bytes, n);
	assert_false(registry.is_open);
	assert_int_equal(registry.drops, 0);
}

static void in_pieces(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	OK(upload(w, BYTES, err));
	assert_stored(BYTES);
	assert_int_equal(registry.patches, 3);
	/* The edge: exactly two, and none for what fits into one request. */
	OK(upload(w, 2 * REG_UPLOAD_PIECE_BYTES, err));
	assert_stored(2 * REG_UPLOAD_PIECE_BYTES);
	assert_int_equal(registry.patches, 5);
	OK(upload(w, REG_UPLOAD_PIECE_BYTES, err));
	assert_stored(REG_UPLOAD_PIECE_BYTES);
	OK(upload(w, 0, err));
	assert_int_equal(registry.blob.n, 0);
	assert_int_equal(registry.patches, 5);
}

static void as_large_as_the_registry_wants(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	registry.piece_min = 10u << 20;
	OK(upload(w, BYTES, err));
	assert_stored(BYTES);
	assert_int_equal(registry.patches, 2);
	registry.piece_min = (size_t)REG_UPLOAD_PIECE_BYTES_MAX + 1;
	FAILS(upload(w, BYTES, err), ERR_UNIMPLEMENTED);
}

static void a_broken_piece_goes_on_where_it_stopped(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	registry.breaks = 2;
	registry.loses_partly = true;
	OK(upload(w, BYTES, err));
	assert_stored(BYTES);
	assert_int_equal(registry.resumed, 1);
	assert_int_equal(registry.broken_at, (6u << 20)); /* half of the first piece, half of its rest */
}

static void a_lost_upload_is_told(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	registry.breaks = 1;
	registry.forgets = true;
	FAILS(upload(w, BYTES, err), ERR_ABORTED);
	assert_int_equal(registry.blob.n, 0);
}

/* The registry has less than it said. */
static void shrink(struct testregistry *r, struct exchange *x)
{
	pthread_mutex_lock(&r->lock);
	if (str_eqc(x->method, "PATCH") && r->upload.n)
		r->upload.n = 1000;
	pthread_mutex_unlock(&r->lock);
}

static bool serve_shrunk(struct exchange *x)
{
	shrink(&registry, x);
	return serve(x);
}

static void bytes_that_are_gone_are_told(void **state)
{
	AUTO(world) struct world *w = world_new(serve_shrunk, NULL);

	FAILS(upload(w, BYTES, err), ERR_ABORTED); /* 416 */
	assert_int_equal(registry.drops, 1);
}

/* Says that it is busy to so many requests that follow the first PATCH, that one included. */
static unsigned busy_from_patch;

static bool serve_busy(struct exchange *x)
{
	pthread_mutex_lock(&registry.lock);
	if (str_eqc(x->method, "PATCH")) {
		registry.busy = busy_from_patch;
		busy_from_patch = 0;
	}
	pthread_mutex_unlock(&registry.lock);
	return serve(x);
}

static void a_busy_registry_is_waited_for(void **state)
{
	AUTO(world) struct world *w = world_new(serve_busy, NULL);
	int64_t before = clock_mono_ns();

	registry.busy_status = 429;
	registry.busy_headers = "";
	busy_from_patch = 5; /* the PATCH, and the questions after it */
	OK(upload(w, BYTES, err));
	assert_stored(BYTES);
	registry.busy = 3; /* POST, and PUTs of all bytes */
	OK(upload(w, 1000, err));
	registry.busy_status = 503;
	busy_from_patch = 1;
	OK(upload(w, BYTES, err));
	assert_stored(BYTES);
	registry.busy_status = 429;
	registry.busy_headers = "Retry-After: 1\r\n";
	busy_from_patch = 1;
	OK(upload(w, BYTES, err));
	assert_stored(BYTES);
	assert_true(clock_mono_ns() - before >= NS_PER_S);
}

static void one_that_wants_much_time_is_not(void **state)
{
	AUTO(world) struct world *w = world_new(serve_busy, NULL);
	struct err why = ERR_INIT;

	registry.busy_status = 429;
	registry.busy_headers = "Retry-After: 1200\r\n";
	busy_from_patch = 1;
	assert_int_equal(upload(w, BYTES, &why), -ERR_EXHAUSTED);
	assert_non_null(strstr(why.msg, "1200 s"));
	registry.busy_headers = "";
	busy_from_patch = 1000;
	FAILS(upload(w, BYTES, err), ERR_EXHAUSTED);
}

static void a_small_one_is_begun_anew(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	registry.breaks = 2;
	OK(upload(w, 100000, err));
	assert_stored(100000);
	registry.silent_puts = 1;
	OK(upload(w, 200000, err));
	assert_stored(200000);
}

static void the_last_answer_may_be_lost(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	registry.silent_puts = 1;
	OK(upload(w, BYTES, err));
	assert_stored(BYTES);
	assert_int_equal(registry.patches, 3);
}

static void too_large_pieces_are_halved(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	registry.body_max = 3u << 20;
	OK(upload(w, BYTES, err));
	assert_stored(BYTES);
	OK(upload(w, 5u << 20, err)); /* would be one PUT */
	assert_stored(5u << 20);
	registry.body_max = 1000;
	FAILS(upload(w, BYTES, err), ERR_INVALID);
	registry.body_max = 3u << 20;
	registry.piece_min = 4u << 20;
	FAILS(upload(w, BYTES, err), ERR_INVALID);
}

static void what_is_given_up_is_dropped(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	struct reg_upload *u = begin(w);

	OK(write_all(u, BYTES, err)); /* one piece is on its way */
	reg_upload_free(u);
	assert_int_equal(registry.drops, 1);
	assert_false(registry.is_open);
	u = begin(w);
	OK(reg_upload_write(u, str_make(bytes, 1000), err));
	reg_upload_free(u); /* not begun there */
	assert_int_equal(registry.drops, 1);
	FAILS(reg_upload_begin(w->client, &(struct reg_upload_opts){0}, &u, err), ERR_INVALID);
}

static struct reg_canceller canceller;

static bool serve_until_patch(struct exchange *x)
{
	if (!str_eqc(x->method, "PATCH"))
		return serve(x);
	reg_canceller_cancel(&canceller);
	return serve_nothing(x);
}

static void a_cancelled_one_is_dropped(void **state)
{
	AUTO(world) struct world *w = world_new(serve_until_patch, NULL);
	struct reg_upload_opts o = {.ref = &w->ref, .deadline_ns = in_s(60), .canceller = &canceller};
	struct reg_upload *u = NULL;

	reg_canceller_init(&canceller);
	OK(reg_upload_begin(w->client, &o, &u, err));
	FAILS(write_all(u, BYTES, err) < 0 ? -1 : reg_upload_finish(u, &digest, err), ERR_CANCELLED);
	reg_upload_free(u);
	reg_canceller_fini(&canceller);
	assert_int_equal(registry.drops, 1);
}

static bool serve_busy_and_cancel(struct exchange *x)
{
	bool ok = serve_busy(x);

	if (str_eqc(x->method, "PATCH")) {
		usleep(50000); /* it has read the answer */
		reg_canceller_cancel(&canceller);
	}
	return ok;
}

static void one_that_waits_can_be_cancelled(void **state)
{
	AUTO(world) struct world *w = world_new(serve_busy_and_cancel, NULL);
	struct reg_upload_opts o = {.ref = &w->ref, .deadline_ns = in_s(600), .canceller = &canceller};
	struct reg_upload *u = NULL;

	registry.busy_status = 429;
	registry.busy_headers = "Retry-After: 500\r\n";
	busy_from_patch = 1;
	reg_canceller_init(&canceller);
	OK(reg_upload_begin(w->client, &o, &u, err));
	FAILS(write_all(u, BYTES, err) < 0 ? -1 : reg_upload_finish(u, &digest, err), ERR_CANCELLED);
	reg_upload_free(u);
	reg_canceller_fini(&canceller);
	assert_int_equal(registry.drops, 1);
}

static void a_wrong_digest_is_refused(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	struct reg_upload *u = begin(w);

	OK(reg_upload_write(u, STR("abc"), err));
	FAILS(reg_upload_finish(u, &digest, err), ERR_INVALID);
	reg_upload_free(u);
	assert_int_equal(registry.drops, 1);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(in_pieces),
	    CASE(as_large_as_the_registry_wants),
	    CASE(a_broken_piece_goes_on_where_it_stopped),
	    CASE(a_lost_upload_is_told),
	    CASE(bytes_that_are_gone_are_told),
	    CASE(a_busy_registry_is_waited_for),
	    CASE(one_that_wants_much_time_is_not),
	    CASE(a_small_one_is_begun_anew),
	    CASE(the_last_answer_may_be_lost),
	    CASE(too_large_pieces_are_halved),
	    CASE(what_is_given_up_is_dropped),
	    CASE(a_cancelled_one_is_dropped),
	    CASE(one_that_waits_can_be_cancelled),
	    CASE(a_wrong_digest_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
