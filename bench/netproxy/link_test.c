#include "bench/netproxy/link.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A pipe that notes when what arrived. */
struct sink {
	struct pipe pipe;
	int64_t last_ns, *now_ns;
	size_t bytes, blocks;
	char order[64]; /* first byte of each block */
};

static void take(struct pipe *p)
{
	struct sink *s = CONTAINER_OF(p, struct sink, pipe);
	struct block *b;

	while ((b = pipe_ready(p))) {
		if (s->blocks < sizeof(s->order) && b->n)
			s->order[s->blocks] = b->p[0];
		s->bytes += b->n;
		s->blocks++;
		s->last_ns = *s->now_ns;
		pipe_pop(p);
	}
}

static void sink_init(struct sink *s, struct link *l, int64_t *now_ns, int64_t earliest_ns)
{
	*s = (struct sink){.now_ns = now_ns};
	pipe_init(&s->pipe, l, earliest_ns, take);
}

static void push(struct sink *s, char c, uint32_t n)
{
	struct block *b = block_new(n);

	memset(b->p, c, n);
	b->n = n;
	pipe_send(&s->pipe, b, *s->now_ns);
}

/* Lets time pass, from one moment at which something happens to the next. */
static void run_until(struct link *l, int64_t *now_ns, int64_t end_ns)
{
	for (;;) {
		int64_t next = link_run(l, *now_ns);

		if (next > end_ns)
			break;
		assert_true(next > *now_ns);
		*now_ns = next;
	}
	*now_ns = end_ns;
}

static void test_delay_is_paid_once(void **state)
{
	struct link l = {0};
	int64_t now = NS_PER_S;
	struct sink s;

	link_set(&l, 0, 5 * NS_PER_MS);
	sink_init(&s, &l, &now, 0);
	for (int i = 0; i < 10; i++)
		push(&s, 'a', 1000);
	run_until(&l, &now, NS_PER_S + 5 * NS_PER_MS - 1);
	assert_int_equal(s.bytes, 0);
	run_until(&l, &now, NS_PER_S + 5 * NS_PER_MS);
	assert_int_equal(s.bytes, 10000);
	assert_int_equal(s.pipe.held_bytes, 0);
	pipe_fini(&s.pipe);
}

static void test_bandwidth(void **state)
{
	struct link l = {0};
	int64_t now = NS_PER_S;
	struct sink s;

	link_set(&l, 8, NS_PER_MS); /* a byte a microsecond */
	sink_init(&s, &l, &now, 0);
	for (int i = 0; i < 100; i++)
		push(&s, 'a', 1000);
	run_until(&l, &now, 2 * NS_PER_S);
	assert_int_equal(s.bytes, 100000);
	assert_int_equal(s.last_ns, NS_PER_S + 101 * NS_PER_MS);
	assert_int_equal(l.bytes, 100000);

	/* An idle link saves nothing up. */
	push(&s, 'a', 1000);
	run_until(&l, &now, 3 * NS_PER_S);
	assert_int_equal(s.last_ns, 2 * NS_PER_S + 2 * NS_PER_MS);
	pipe_fini(&s.pipe);
}

static void test_late_wake_ups_cost_nothing(void **state)
{
	struct link l = {0};
	int64_t now = NS_PER_S;
	struct sink s;

	link_set(&l, 8, 0);
	sink_init(&s, &l, &now, 0);
	for (int i = 0; i < 100; i++)
		push(&s, 'a', 1000);
	for (int i = 0; i <= 50; i++, now += 2 * NS_PER_MS)
		link_run(&l, now);
	assert_int_equal(s.bytes, 100000);
	assert_int_equal(s.last_ns, NS_PER_S + 100 * NS_PER_MS);
	pipe_fini(&s.pipe);
}

static void test_what_was_sent_before_it_was_seen(void **state)
{
	const int64_t late = 300 * NS_PER_US;
	struct link l = {0};
	int64_t now = NS_PER_S;
	struct block *b = block_new(1000);
	struct sink s;

	link_set(&l, 8, 5 * NS_PER_MS);
	sink_init(&s, &l, &now, 0);
	b->n = 1000;
	memset(b->p, 'a', b->n);
	pipe_send(&s.pipe, b, now - late);
	push(&s, 'b', 1000); /* waits for it: the link carries a byte a microsecond */
	run_until(&l, &now, NS_PER_S + 6 * NS_PER_MS - late);
	assert_string_equal(s.order, "a");
	run_until(&l, &now, NS_PER_S + 7 * NS_PER_MS - late - 1);
	assert_string_equal(s.order, "a");
	run_until(&l, &now, NS_PER_S + 7 * NS_PER_MS - late);
	assert_string_equal(s.order, "ab");
	pipe_fini(&s.pipe);
}

static void test_pipes_take_turns(void **state)
{
	struct link l = {0};
	int64_t now = NS_PER_S;
	struct sink a, b;

	link_set(&l, 8, 0);
	sink_init(&a, &l, &now, 0);
	sink_init(&b, &l, &now, 0);
	for (int i = 0; i < 20; i++)
		push(&a, 'a', 1000);
	push(&b, 'b', 1000);
	/* b waits for what the bottleneck took before, and one block of a's, not for all of them. */
	run_until(&l, &now, NS_PER_S + 3 * NS_PER_MS);
	assert_int_equal(b.bytes, 1000);
	assert_true(a.bytes <= 2000);
	run_until(&l, &now, 2 * NS_PER_S);
	assert_int_equal(a.bytes, 20000);
	pipe_fini(&a.pipe);
	pipe_fini(&b.pipe);
}

static void test_set_up_holds_back_one_pipe_only(void **state)
{
	struct link l = {0};
	int64_t now = NS_PER_S;
	struct sink fresh, old;

	link_set(&l, 0, 5 * NS_PER_MS);
	sink_init(&fresh, &l, &now, NS_PER_S + 10 * NS_PER_MS);
	sink_init(&old, &l, &now, 0);
	push(&fresh, '1', 10);
	push(&fresh, '2', 10);
	push(&old, 'x', 10);
	run_until(&l, &now, NS_PER_S + 5 * NS_PER_MS);
	assert_int_equal(old.bytes, 10);
	assert_int_equal(fresh.bytes, 0);
	run_until(&l, &now, NS_PER_S + 15 * NS_PER_MS);
	assert_string_equal(fresh.order, "12");
	pipe_fini(&fresh.pipe);
	pipe_fini(&old.pipe);
}

static void test_nothing_is_sent_before_a_connection_is_set_up(void **state)
{
	const int64_t begin = NS_PER_S;
	struct link l = {0};
	int64_t now = begin;
	struct sink fresh, old;

	link_set(&l, 8, 5 * NS_PER_MS); /* a byte a microsecond */
	sink_init(&fresh, &l, &now, begin + 10 * NS_PER_MS);
	sink_init(&old, &l, &now, 0);
	for (int i = 0; i < 20; i++)
		push(&fresh, 'f', 1000);
	push(&old, 'o', 1000);
	/* The link is free for others meanwhile... */
	run_until(&l, &now, begin + 6 * NS_PER_MS);
	assert_int_equal(old.bytes, 1000);
	run_until(&l, &now, begin + 10 * NS_PER_MS - 1);
	assert_int_equal(l.bytes, 1000);
	/* ... and the upload takes its time from then on. */
	run_until(&l, &now, begin + 16 * NS_PER_MS);
	assert_int_equal(fresh.bytes, 1000);
	run_until(&l, &now, begin + 35 * NS_PER_MS - 1);
	assert_int_equal(fresh.bytes, 19000);
	run_until(&l, &now, begin + 35 * NS_PER_MS);
	assert_int_equal(fresh.bytes, 20000);

	/* One that is set up between two looks has lost nothing, whatever is sent before the second. */
	pipe_fini(&fresh.pipe);
	sink_init(&fresh, &l, &now, now + NS_PER_MS);
	push(&fresh, 'f', 1000);
	now += 3 * NS_PER_MS;
	push(&fresh, 'f', 1000);
	link_run(&l, now - 3 * NS_PER_MS);
	assert_int_equal(l.bytes, 21000);
	run_until(&l, &now, begin + 43 * NS_PER_MS);
	assert_int_equal(fresh.bytes, 2000);
	pipe_fini(&fresh.pipe);
	pipe_fini(&old.pipe);
}

static void test_connections_are_set_up_in_any_order(void **state)
{
	struct link l = {0};
	int64_t now = NS_PER_S;
	struct sink s[4];

	link_set(&l, 0, NS_PER_MS);
	for (size_t i = 0; i < ARRAY_LEN(s); i++) {
		sink_init(&s[i], &l, &now, now + (int64_t)((i * 3) % 4 + 1) * 10 * NS_PER_MS); /* 10, 40, 30, 20 ms */
		push(&s[i], 'x', 10);
		push(&s[i], 'y', 10);
	}
	pipe_fini(&s[2].pipe); /* gone before its time */
	run_until(&l, &now, NS_PER_S + 21 * NS_PER_MS);
	assert_string_equal(s[0].order, "xy");
	assert_string_equal(s[1].order, "");
	assert_string_equal(s[3].order, "xy");
	run_until(&l, &now, NS_PER_S + 41 * NS_PER_MS);
	assert_string_equal(s[1].order, "xy");
	assert_null(l.opening);
	for (size_t i = 0; i < ARRAY_LEN(s); i++)
		pipe_fini(&s[i].pipe);
}

static void test_set_up_is_kept_by_a_late_wake_up(void **state)
{
	const int64_t begin = NS_PER_S;
	struct link l = {0};
	int64_t now = begin;
	struct sink a, b;

	link_set(&l, 8, 5 * NS_PER_MS); /* a byte a microsecond */
	sink_init(&a, &l, &now, begin + NS_PER_MS);
	sink_init(&b, &l, &now, begin + 3 * NS_PER_MS);
	push(&a, 'a', 1000);
	push(&b, 'b', 1000);
	now = begin + 4 * NS_PER_MS; /* nobody has looked meanwhile; between the two the link was idle */
	run_until(&l, &now, begin + 7 * NS_PER_MS);
	assert_int_equal(a.bytes, 1000);
	run_until(&l, &now, begin + 9 * NS_PER_MS - 1);
	assert_int_equal(b.bytes, 0);
	run_until(&l, &now, begin + 9 * NS_PER_MS);
	assert_int_equal(b.bytes, 1000);
	pipe_fini(&a.pipe);
	pipe_fini(&b.pipe);
}

static void test_frozen_link_keeps_all(void **state)
{
	struct link l = {0};
	int64_t now = NS_PER_S;
	struct sink s;

	link_set(&l, 0, 0);
	sink_init(&s, &l, &now, 0);
	l.frozen = true;
	push(&s, 'a', 10);
	run_until(&l, &now, 2 * NS_PER_S);
	assert_int_equal(s.bytes, 0);
	l.frozen = false;
	link_run(&l, now);
	assert_int_equal(s.bytes, 10);
	pipe_fini(&s.pipe);
}

static void test_fini_takes_its_blocks_from_everywhere(void **state)
{
	struct link l = {0};
	int64_t now = NS_PER_S;
	struct sink a, b;

	link_set(&l, 8, 5 * NS_PER_MS);
	sink_init(&a, &l, &now, 0);
	sink_init(&b, &l, &now, 0);
	for (int i = 0; i < 10; i++) {
		push(&a, 'a', 100);
		push(&b, 'b', 100);
	}
	link_run(&l, now); /* some are on the wire now, some wait */
	assert_true(a.pipe.on_wire > 0 && a.pipe.waiting.head);
	pipe_fini(&a.pipe);
	run_until(&l, &now, 2 * NS_PER_S);
	assert_int_equal(b.bytes, 1000);
	assert_int_equal(a.bytes, 0);
	pipe_fini(&b.pipe);
	assert_null(l.wire.head);
	assert_null(l.wire.tail);
	assert_null(l.turn);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_delay_is_paid_once),
	    cmocka_unit_test(test_bandwidth),
	    cmocka_unit_test(test_late_wake_ups_cost_nothing),
	    cmocka_unit_test(test_what_was_sent_before_it_was_seen),
	    cmocka_unit_test(test_pipes_take_turns),
	    cmocka_unit_test(test_set_up_holds_back_one_pipe_only),
	    cmocka_unit_test(test_nothing_is_sent_before_a_connection_is_set_up),
	    cmocka_unit_test(test_connections_are_set_up_in_any_order),
	    cmocka_unit_test(test_set_up_is_kept_by_a_late_wake_up),
	    cmocka_unit_test(test_frozen_link_keeps_all),
	    cmocka_unit_test(test_fini_takes_its_blocks_from_everywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
