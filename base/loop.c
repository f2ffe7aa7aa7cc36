#include "base/loop.h"

#include "base/clock.h"
#include "base/vec.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

#define EVENTS_PER_WAIT 64
#define UNARMED SIZE_MAX

struct loop_io {
	struct loop *l;
	int fd;
	void (*fn)(void *arg, uint32_t events); /* NULL once freed: the batch being worked off may still name it */
	void *arg;
	struct loop_io *next_dead;
};

struct loop_timer {
	struct loop *l;
	int64_t deadline_ns;
	size_t at; /* index in the heap, or UNARMED */
	void (*fn)(void *arg);
	void *arg;
};

struct post {
	void (*fn)(void *arg);
	void *arg;
};

struct post_list {
	struct post *p;
	size_t n, cap;
};

struct loop {
	int epoll_fd, wake_fd;
	bool in_batch;
	struct loop_io *dead;          /* freed during the batch */
	VEC(struct loop_timer *) heap; /* binary, the earliest deadline first */
	size_t n_sources;

	pthread_mutex_t lock;
	struct post_list posts; /* lock */
	bool quit;              /* lock */
};

int loop_new(struct loop **out, struct err *err)
{
	AUTO(loop) struct loop *l = NULL;
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}; /* NULL stands for wake_fd */

	l = xcalloc(1, sizeof(*l));
	pthread_mutex_init(&l->lock, NULL);
	l->wake_fd = -1;
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0)
		return err_errno(err, errno, "epoll_create1");
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0)
		return err_errno(err, errno, "eventfd");
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->wake_fd, &ev))
		return err_errno(err, errno, "epoll_ctl");
	*out = STEAL(l);
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	assert(!l->n_sources && !l->in_batch);
	if (l->epoll_fd >= 0)
		close(l->epoll_fd);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	vec_fini(&l->heap);
	vec_fini(&l->posts);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void wake(struct loop *l)
{
	uint64_t one = 1;

	/* EAGAIN means that the counter is full, so the loop wakes anyway. */
	while (write(l->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void loop_quit(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	l->quit = true;
	wake(l);
	pthread_mutex_unlock(&l->lock);
}

void loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&l->lock);
	if (!l->posts.n)
		wake(l);
	vec_push(&l->posts, ((struct post){fn, arg}));
	pthread_mutex_unlock(&l->lock);
}

/* Runs what was posted until now; true when loop_quit has been called. */
static bool run_posts(struct loop *l)
{
	struct post_list posts = VEC_INIT;
	uint64_t count;
	bool quit;

	/* Reset the counter first: a post that comes between the two wakes the next turn, at worst for nothing. */
	while (read(l->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&l->lock);
	posts = l->posts;
	l->posts = (struct post_list)VEC_INIT;
	quit = l->quit;
	l->quit = false;
	pthread_mutex_unlock(&l->lock);

	vec_each(&posts, post)
		post->fn(post->arg);
	vec_fini(&posts);
	return quit;
}

int loop_io_new(struct loop *l, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events), void *arg,
                struct loop_io **out, struct err *err)
{
	AUTO_FREE struct loop_io *io = NULL;
	struct epoll_event ev = {.events = events};

	io = xcalloc(1, sizeof(*io));
	*io = (struct loop_io){.l = l, .fd = fd, .fn = fn, .arg = arg};
	ev.data.ptr = io;
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev))
		return err_errno(err, errno, "watch descriptor %d", fd);
	l->n_sources++;
	*out = STEAL(io);
	return 0;
}

void loop_io_set(struct loop_io *io, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = io};

	/* Fails only for a descriptor that was closed before its source was freed. */
	if (epoll_ctl(io->l->epoll_fd, EPOLL_CTL_MOD, io->fd, &ev))
		abort();
}

void loop_io_free(struct loop_io *io)
{
	struct loop *l;

	if (!io)
		return;
	l = io->l;
	epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
	l->n_sources--;
	if (!l->in_batch) {
		free(io);
		return;
	}
	io->fn = NULL;
	io->next_dead = l->dead;
	l->dead = io;
}

/* True when wake_fd was among the events. */
static bool run_ios(struct loop *l, const struct epoll_event *events, int n)
{
	bool woken = false;

	l->in_batch = true;
	for (int i = 0; i < n; i++) {
		struct loop_io *io = events[i].data.ptr;

		if (!io)
			woken = true;
		else if (io->fn)
			io->fn(io->arg, events[i].events);
	}
	l->in_batch = false;
	while (l->dead) {
		struct loop_io *io = l->dead;

		l->dead = io->next_dead;
		free(io);
	}
	return woken;
}

static void heap_place(struct loop *l, size_t at, struct loop_timer *t)
{
	l->heap.p[at] = t;
	t->at = at;
}

static void heap_up(struct loop *l, size_t at, struct loop_timer *t)
{
	for (; at; at = (at - 1) / 2) {
		struct loop_timer *parent = l->heap.p[(at - 1) / 2];

		if (parent->deadline_ns <= t->deadline_ns)
			break;
		heap_place(l, at, parent);
	}
	heap_place(l, at, t);
}

static void heap_down(struct loop *l, size_t at, struct loop_timer *t)
{
	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < l->heap.n && l->heap.p[child + 1]->deadline_ns < l->heap.p[child]->deadline_ns)
			child++;
		if (child >= l->heap.n || l->heap.p[child]->deadline_ns >= t->deadline_ns)
			break;
		heap_place(l, at, l->heap.p[child]);
		at = child;
	}
	heap_place(l, at, t);
}

static void disarm(struct loop_timer *t)
{
	struct loop *l = t->l;
	struct loop_timer *last;
	size_t at = t->at;

	if (at == UNARMED)
		return;
	t->at = UNARMED;
	last = vec_pop(&l->heap);
	if (last == t)
		return;
	/* The last one takes the free place, then goes to where its deadline belongs. */
	heap_place(l, at, last);
	heap_up(l, at, last);
	heap_down(l, last->at, last);
}

int loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg, struct loop_timer **out, struct err *err)
{
	struct loop_timer *t = xcalloc(1, sizeof(*t));

	*t = (struct loop_timer){.l = l, .at = UNARMED, .fn = fn, .arg = arg};
	l->n_sources++;
	*out = t;
	return 0;
}

void loop_timer_set(struct loop_timer *t, int64_t deadline_ns)
{
	disarm(t);
	t->deadline_ns = deadline_ns;
	if (deadline_ns == INT64_MAX)
		return;
	vec_push(&t->l->heap, t);
	heap_up(t->l, t->l->heap.n - 1, t);
}

void loop_timer_free(struct loop_timer *t)
{
	if (!t)
		return;
	disarm(t);
	t->l->n_sources--;
	free(t);
}

static void run_timers(struct loop *l)
{
	int64_t now;

	if (!l->heap.n)
		return;
	now = clock_mono_ns();
	/* At most as many as are armed now, so that a timer that re-arms itself in the past starves nobody. */
	for (size_t left = l->heap.n; left && l->heap.n && l->heap.p[0]->deadline_ns <= now; left--) {
		struct loop_timer *t = l->heap.p[0];

		disarm(t);
		t->fn(t->arg);
	}
}

/* Waits for events until the next timer is due. */
static int wait_events(struct loop *l, struct epoll_event *events)
{
	struct timespec wait;
	int64_t ns;

	if (!l->heap.n)
		return epoll_wait(l->epoll_fd, events, EVENTS_PER_WAIT, -1);
	ns = l->heap.p[0]->deadline_ns - clock_mono_ns();
	if (ns < 0)
		ns = 0;
	wait = (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
	return epoll_pwait2(l->epoll_fd, events, EVENTS_PER_WAIT, &wait, NULL);
}

int loop_run(struct loop *l, struct err *err)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	bool woken, quit = false;

	while (!quit) {
		int n = wait_events(l, events);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "epoll_wait");
		woken = run_ios(l, events, n);
		run_timers(l);
		quit = woken && run_posts(l);
	}
	return 0;
}
