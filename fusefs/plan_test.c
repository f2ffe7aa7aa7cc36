#include "fusefs/core.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdlib.h>

#define KIB 1024u
#define N 100

/* 100 members of 10 KiB, at every 12 KiB: between them lies what is not content. */
static struct layer *layer_new(void)
{
	struct layer *l = xcalloc(1, sizeof(*l));

	l->n_members = N;
	l->members = xcalloc(N + 1, sizeof(*l->members));
	l->state = xcalloc(N + 1, 1);
	for (uint32_t i = 0; i < N; i++)
		l->members[i] = (struct member){.offset = i * 12ull * KIB, .bytes = 10 * KIB, .first = i};
	l->members[N] = (struct member){.offset = UINT64_MAX, .first = N};
	return l;
}

static void drop(struct layer *l)
{
	free(l->members);
	free(l->state);
	free(l);
}

static uint32_t demand_end(const struct layer *l, uint32_t m, uint32_t window, uint64_t need)
{
	uint32_t end = 0;

	plan_demand(l, m, window, need, &end);
	return end;
}

static void test_demand(void **state)
{
	struct layer *l = layer_new();

	/* 5 members and the gaps between them are 58 KiB, 6 are 70. */
	assert_int_equal(demand_end(l, 10, 64 * KIB, 0), 15);
	assert_int_equal(demand_end(l, 10, 70 * KIB, 0), 16);
	/* The one that is missed comes, however small the window. */
	assert_int_equal(demand_end(l, 10, 1, 0), 11);
	/* At the end of the blob. */
	assert_int_equal(demand_end(l, 97, 256 * KIB, 0), 100);
	assert_int_equal(demand_end(l, 99, 256 * KIB, 0), 100);
	/* What the reader needs comes along beyond the window. */
	assert_int_equal(demand_end(l, 10, 1, 12 * 12 * KIB + 1), 13);
	/* Stops at what is here, on its way, or cannot be. */
	l->state[13] = MEMBER_DONE;
	assert_int_equal(demand_end(l, 10, 256 * KIB, 0), 13);
	l->state[13] = MEMBER_INFLIGHT;
	assert_int_equal(demand_end(l, 10, 256 * KIB, UINT64_MAX), 13);
	l->state[13] = MEMBER_ABSENT;
	l->members[12].bytes = 0;
	assert_int_equal(demand_end(l, 10, 256 * KIB, 0), 12);
	drop(l);
}

/* What one reader needs is bounded as well: the rest is asked for by further requests. */
static void test_demand_bound(void **state)
{
	struct layer *l = layer_new();
	uint32_t end;

	for (uint32_t i = 0; i < N; i++) {
		l->members[i].offset = i * 200ull * KIB;
		l->members[i].bytes = 200 * KIB;
	}
	end = demand_end(l, 0, 256 * KIB, UINT64_MAX);
	assert_int_equal(end, FFS_STEP_BYTES / (200 * KIB));
	drop(l);
}

static void check_bulk(const struct layer *l, uint32_t from, uint32_t max, uint32_t gap, uint32_t first, uint32_t end)
{
	uint32_t f = 0, e = 0;

	assert_true(plan_bulk(l, from, max, gap, &f, &e));
	assert_int_equal(f, first);
	assert_int_equal(e, end);
}

static void test_bulk(void **state)
{
	struct layer *l = layer_new();
	uint32_t f, e;

	check_bulk(l, 0, 10000 * KIB, 64 * KIB, 0, 100);
	check_bulk(l, 0, 120 * KIB, 64 * KIB, 0, 10);
	check_bulk(l, 10, 120 * KIB, 64 * KIB, 10, 20);
	/* Never less than one. */
	check_bulk(l, 10, 1, 0, 10, 11);
	/* Small holes are fetched again, large ones divide; never up to a hole's end. */
	for (uint32_t i = 20; i < 23; i++)
		l->state[i] = MEMBER_DONE;
	check_bulk(l, 15, 10000 * KIB, 64 * KIB, 15, 100);
	check_bulk(l, 15, 10000 * KIB, 20 * KIB, 15, 20);
	check_bulk(l, 20, 10000 * KIB, 20 * KIB, 23, 100);
	check_bulk(l, 15, 90 * KIB, 64 * KIB, 15, 20);
	/* What another request brings is left to it. */
	l->state[30] = MEMBER_INFLIGHT;
	check_bulk(l, 25, 10000 * KIB, 64 * KIB, 25, 30);
	check_bulk(l, 30, 10000 * KIB, 64 * KIB, 31, 100);
	/* Nothing left. */
	for (uint32_t i = 0; i < N; i++)
		l->state[i] = i % 2 ? MEMBER_DONE : MEMBER_INFLATING;
	assert_false(plan_bulk(l, 0, 10000 * KIB, 64 * KIB, &f, &e));
	l->state[50] = MEMBER_ABSENT;
	check_bulk(l, 0, 10000 * KIB, 64 * KIB, 50, 51);
	l->members[50].bytes = 0;
	assert_false(plan_bulk(l, 0, 10000 * KIB, 64 * KIB, &f, &e));
	drop(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_demand),
	    cmocka_unit_test(test_demand_bound),
	    cmocka_unit_test(test_bulk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
