#include "base/loop.h"

#include "base/buf.h"
#include "base/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct loop *l;

static int set_up(void **state)
{
	return loop_new(&l, NULL);
}

static int tear_down(void **state)
{
	loop_free(l);
	return 0;
}

static void quit_loop(void *arg)
{
	loop_quit(l);
}

/* Ends the loop after what is already due has run. */
static void run(void)
{
	struct err err = ERR_INIT;

	assert_int_equal(loop_run(l, &err), 0);
}

struct reader {
	struct loop_io *io;
	int fd;
	struct buf got;
};

static void read_some(void *arg, uint32_t events)
{
	struct reader *r = arg;
	char data[3]; /* less than is there: level-triggered, so called again */
	ssize_t n = read(r->fd, data, sizeof(data));

	if (n > 0) {
		buf_add(&r->got, data, (size_t)n);
		return;
	}
	loop_io_free(r->io); /* its own source, from its own callback */
	r->io = NULL;
	loop_quit(l);
}

static void reads_until_the_end(void **state)
{
	struct reader r = {.got = BUF_INIT};
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	r.fd = ends[0];
	assert_int_equal(loop_io_new(l, ends[0], EPOLLIN, read_some, &r, &r.io, NULL), 0);
	assert_int_equal(write(ends[1], "hello world", 11), 11);
	close(ends[1]);
	run();
	assert_string_equal(r.got.p, "hello world");
	assert_null(r.io);
	close(ends[0]);
	buf_fini(&r.got);
}

/* Two readable sources: whichever is called first frees both, and the other must not be called. */
struct twins {
	struct loop_io *io[2];
	unsigned calls;
};

static void free_both(void *arg, uint32_t events)
{
	struct twins *t = arg;

	t->calls++;
	loop_io_free(t->io[0]);
	loop_io_free(t->io[1]);
	loop_quit(l);
}

static void a_freed_source_is_not_called(void **state)
{
	struct twins t = {0};
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(write(ends[0], "x", 1), 1);
	assert_int_equal(write(ends[1], "x", 1), 1);
	for (int i = 0; i < 2; i++)
		assert_int_equal(loop_io_new(l, ends[i], EPOLLIN, free_both, &t, &t.io[i], NULL), 0);
	run();
	assert_int_equal(t.calls, 1);
	close(ends[0]);
	close(ends[1]);
}

struct writer {
	struct loop_io *io;
	unsigned calls;
};

static void count_and_mute(void *arg, uint32_t events)
{
	struct writer *w = arg;

	assert_true(events & EPOLLOUT);
	w->calls++;
	loop_io_set(w->io, 0);
	loop_post(l, quit_loop, NULL);
}

static void events_can_be_changed(void **state)
{
	struct writer w = {0};
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(loop_io_new(l, ends[0], EPOLLOUT, count_and_mute, &w, &w.io, NULL), 0);
	run();
	assert_int_equal(w.calls, 1);
	loop_io_set(w.io, EPOLLOUT);
	run();
	assert_int_equal(w.calls, 2);
	loop_io_free(w.io);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(loop_io_new(l, -1, EPOLLIN, count_and_mute, &w, &w.io, NULL), -ERR_INTERNAL);
}

struct tick {
	struct loop_timer *t;
	int64_t deadline;
	unsigned order; /* 1 = first to fire */
	bool early;
};

static unsigned n_ticks;

static void on_tick(void *arg)
{
	struct tick *t = arg;

	t->order = ++n_ticks;
	t->early = clock_mono_ns() < t->deadline;
}

/* Armed in a scrambled order, with some moved and some disarmed: they fire in the order of their deadlines. */
static void timers_fire_in_order(void **state)
{
	enum { N = 101 };
	struct tick ticks[N] = {0}, last = {0};
	int64_t now = clock_mono_ns();
	unsigned want = 0;

	n_ticks = 0;
	for (int i = 0; i < N; i++) {
		assert_int_equal(loop_timer_new(l, on_tick, &ticks[i], &ticks[i].t, NULL), 0);
		loop_timer_set(ticks[i].t, now + NS_PER_S * (i + 1));
	}
	for (int i = 0; i < N; i++) {
		int k = i * 37 % N;

		ticks[k].deadline = now + k * 50 * NS_PER_US;
		loop_timer_set(ticks[k].t, k % 5 == 0 ? INT64_MAX : ticks[k].deadline);
	}
	assert_int_equal(loop_timer_new(l, quit_loop, NULL, &last.t, NULL), 0);
	loop_timer_set(last.t, now + N * 50 * NS_PER_US);
	run();
	for (int i = 0; i < N; i++) {
		assert_int_equal(ticks[i].order, i % 5 == 0 ? 0 : ++want);
		assert_false(ticks[i].early);
		loop_timer_free(ticks[i].t);
	}
	loop_timer_free(last.t);
}

struct rearming {
	struct loop_timer *t;
	unsigned calls;
};

static void rearm_in_the_past(void *arg)
{
	struct rearming *r = arg;

	if (++r->calls == 1)
		loop_post(l, quit_loop, NULL);
	loop_timer_set(r->t, 0);
}

/* A timer that is always due does not keep the loop from its other work. */
static void a_timer_cannot_starve_the_loop(void **state)
{
	struct rearming r = {0};

	assert_int_equal(loop_timer_new(l, rearm_in_the_past, &r, &r.t, NULL), 0);
	loop_timer_set(r.t, 0);
	run(); /* hangs if it can */
	assert_true(r.calls >= 1);
	loop_timer_free(r.t);
}

static void free_timer(void *arg)
{
	struct loop_timer **t = arg;

	loop_timer_free(*t);
	*t = NULL;
	loop_quit(l);
}

static void a_timer_may_free_itself(void **state)
{
	struct loop_timer *t = NULL;

	assert_int_equal(loop_timer_new(l, free_timer, &t, &t, NULL), 0);
	loop_timer_set(t, clock_mono_ns());
	run();
	assert_null(t);
}

struct log {
	unsigned next; /* the number that the next call of one poster must carry */
	unsigned wrong;
};

enum { POSTERS = 3, POSTS = 2000 };
static struct log logs[POSTERS];
static unsigned n_posts;

static void on_post(void *arg)
{
	uintptr_t v = (uintptr_t)arg;
	struct log *log = &logs[v / POSTS];

	log->wrong += log->next++ != v % POSTS;
	if (++n_posts == POSTERS * POSTS)
		loop_quit(l);
}

static void *post_many(void *arg)
{
	for (uintptr_t i = 0; i < POSTS; i++)
		loop_post(l, on_post, (void *)((uintptr_t)arg * POSTS + i));
	return NULL;
}

static void posts_from_threads_keep_their_order(void **state)
{
	pthread_t threads[POSTERS];

	memset(logs, 0, sizeof(logs));
	n_posts = 0;
	for (uintptr_t i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, post_many, (void *)i), 0);
	run();
	for (size_t i = 0; i < POSTERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(logs[i].wrong, 0);
	}
}

static void increment(void *arg)
{
	++*(unsigned *)arg;
}

static void quit_lets_earlier_posts_run(void **state)
{
	unsigned n = 0;

	loop_post(l, increment, &n);
	loop_quit(l);
	run(); /* a quit before the run ends that run */
	assert_int_equal(n, 1);
	loop_post(l, increment, &n);
	loop_post(l, quit_loop, NULL);
	loop_post(l, increment, &n);
	run();
	assert_int_equal(n, 3);
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    LOOP_TEST(reads_until_the_end),
	    LOOP_TEST(a_freed_source_is_not_called),
	    LOOP_TEST(events_can_be_changed),
	    LOOP_TEST(timers_fire_in_order),
	    LOOP_TEST(a_timer_cannot_starve_the_loop),
	    LOOP_TEST(a_timer_may_free_itself),
	    LOOP_TEST(posts_from_threads_keep_their_order),
	    LOOP_TEST(quit_lets_earlier_posts_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
