#include "estargz/convert/units.h"

#include "base/testing.h"

#include <stdatomic.h>
#include <time.h>

/* ---- a codec that waits until its work is given up ---- */

static atomic_uint begun;

static void *no_state(int level)
{
	return xcalloc(1, 1);
}

static int pack_for_ever(void *state, struct str plain, struct buf *out, const struct codec_watch *w, struct err *err)
{
	const struct timespec moment = {.tv_nsec = 1000000};

	atomic_fetch_add(&begun, 1);
	for (;;) {
		TRY(codec_watch(w, err));
		nanosleep(&moment, NULL);
	}
}

static const struct codec ENDLESS = {"endless", 1, 1, no_state, free, pack_for_ever};

static int never(void *arg, const struct unit *u, struct err *err)
{
	fail_msg("a unit is delivered that is not done");
	return 0;
}

/* What has not begun does not begin any more, and what has is left. */
static void test_dropped(void **state)
{
	struct units *us = NULL;
	const struct timespec moment = {.tv_nsec = 1000000};

	atomic_store(&begun, 0);
	OK(units_new(&ENDLESS, 0, 2, never, NULL, &us, err));
	for (unsigned i = 0; i < 5; i++) {
		struct unit *u;

		OK(units_fill(us, &u, err));
		buf_adds(&u->plain, "plain");
		units_submit(us);
	}
	while (atomic_load(&begun) < 2)
		nanosleep(&moment, NULL);
	units_free(us);
	assert_int_equal(atomic_load(&begun), 2);
}

static int enough(void *arg, struct err *err)
{
	return atomic_load((atomic_bool *)arg) ? err_set(err, ERR_CANCELLED, "enough") : 0;
}

/* The owner's own reason is what the owner gets, while it waits for a unit. */
static void test_watched(void **state)
{
	AUTO(units) struct units *us = NULL;
	atomic_bool is_enough = false;
	struct unit *u;

	OK(units_new(&ENDLESS, 0, 1, never, NULL, &us, err));
	units_watch(us, (struct codec_watch){enough, &is_enough});
	OK(units_fill(us, &u, err));
	units_submit(us);
	atomic_store(&is_enough, true);
	FAILS(units_drain(us, err), ERR_CANCELLED);
}

/* A state that was left in the middle of a frame makes the next one as a fresh one would. */
static void test_left_in_the_middle(void **state)
{
	const struct codec *zstd = codec_of(ESGZ_ZSTD);
	const struct codec_watch none = {0};
	atomic_bool is_enough = true;
	const struct codec_watch at_once = {enough, &is_enough};
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf want = BUF_INIT;
	AUTO(buf) struct buf got = BUF_INIT;
	void *used = zstd->state_new(3);

	while (plain.n < 1u << 20)
		buf_addf(&plain, "%zu", plain.n * plain.n);
	FAILS(zstd->pack(used, buf_str(&plain), &got, &at_once, err), ERR_CANCELLED);
	assert_int_equal(got.n, 0);
	OK(zstd->pack(used, buf_str(&plain), &got, &none, err));
	OK(codec_pack(zstd, 3, buf_str(&plain), &want, &none, err));
	assert_true(str_eq(buf_str(&got), buf_str(&want)));
	zstd->state_free(used);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_dropped),
	    cmocka_unit_test(test_watched),
	    cmocka_unit_test(test_left_in_the_middle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
