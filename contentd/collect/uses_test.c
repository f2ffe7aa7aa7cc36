#include "contentd/collect/uses.h"

#include "base/testing.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

/* Announces one thing after the other, and says what was so when that was done. */
struct announcer {
	struct cd_uses *uses;
	const struct gc_id *ids;
	size_t n;
	atomic_bool *landed;
	atomic_size_t done;
	bool landed_before[4]; /* when the announcement had returned */
};

static void *announce(void *arg)
{
	struct announcer *a = arg;
	AUTO(cd_use) struct cd_use use;

	cd_use_begin(&use, a->uses);
	for (size_t i = 0; i < a->n; i++) {
		cd_use_add(&use, &a->ids[i]);
		a->landed_before[i] = *a->landed;
		a->done++;
	}
	return NULL;
}

static const struct gc_id GOES = {GC_CONTENT, STR("ns"), STR(""), STR("sha256:1")};
static const struct gc_id STAYS = {GC_CONTENT, STR("ns"), STR(""), STR("sha256:2")};
static const struct gc_id OTHER_KIND = {GC_IMAGE, STR("ns"), STR(""), STR("sha256:1")};
static const struct gc_id OTHER_NS = {GC_CONTENT, STR("other"), STR(""), STR("sha256:1")};

/* Whoever wants what is just being removed waits; the others do not. */
static void what_leaves(void **state)
{
	AUTO(cd_uses) struct cd_uses *uses = cd_uses_new();
	const struct gc_id ids[] = {STAYS, OTHER_KIND, OTHER_NS, GOES};
	atomic_bool landed = false;
	struct announcer a = {.uses = uses, .ids = ids, .n = ARRAY_LEN(ids), .landed = &landed};
	pthread_t thread;

	(void)state;
	cd_uses_hold(uses);
	cd_uses_leave(uses, &GOES);
	cd_uses_release(uses);
	assert_int_equal(pthread_create(&thread, NULL, announce, &a), 0);
	while (a.done < 3)
		sched_yield();
	usleep(20000); /* who does not wait would be done */
	landed = true;
	cd_uses_landed(uses);
	assert_int_equal(pthread_join(thread, NULL), 0);
	for (size_t i = 0; i < 3; i++)
		assert_false(a.landed_before[i]);
	assert_true(a.landed_before[3]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(what_leaves)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
