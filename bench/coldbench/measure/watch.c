/* A thread that takes the kernel's events, the table that it makes of them: processes below us, and who waits for one. */
#include "bench/coldbench/measure/watch.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/unix.h"
#include "base/vec.h"
#include "bench/coldbench/measure/events.h"
#include "bench/coldbench/measure/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>

/* A program's file, whatever its name is where. */
struct program {
	dev_t device;
	ino_t inode;
};

/* A process that descends from us; fields are the thread's, and change under the lock. */
struct process {
	pid_t pid;
	struct process *parent; /* NULL: us, or forgotten */
	struct program program; /* what it runs; before its first exec what its parent ran */
	struct buf args;        /* as in /proc/PID/cmdline, of its last exec */
	struct buf cgroup;      /* of first processes, at the exec of the program */
	bool first, ended;
	bool inside; /* below a first process: what it makes of namespaces is its own affair */
	bool keep;   /* while sweeping */
	struct watch_init init;
};

/* Who waits for something to happen; on the waiter's stack. */
struct waiter {
	int fd;
	struct waiter *next;
};

struct watch {
	struct events events;
	int stop_fd;
	ino_t own_namespace; /* of processes */
	pthread_t thread;
	struct buf args,
	    text; /* the thread's, of what it reads: new memory for each file would be faulted in each time */
	pthread_mutex_t lock;
	/* under it */
	struct map by_pid; /* struct process: the newest of each number */
	VEC(struct process *) all;
	struct waiter *waiters;
	uint64_t lost;
};

/* ---- texts of /proc ---- */

bool watch_status_is_init(struct str status)
{
	struct str line, number;
	unsigned n = 0;

	while (str_split(&status, '\n', &line)) {
		if (!str_skip(&line, STR("NSpid:")))
			continue;
		line = str_trim(line);
		while (str_split(&line, '\t', &number))
			n++;
		return n > 1 && str_eqc(number, "1");
	}
	return false;
}

bool watch_cgroup_names(struct str cgroup, struct str id)
{
	struct str line, part;

	while (str_split(&cgroup, '\n', &line)) {
		ptrdiff_t at = str_find(line, '/');

		if (at < 0)
			continue;
		line = str_sub(line, (size_t)at, SIZE_MAX);
		while (str_split(&line, '/', &part))
			if (str_eq(part, id))
				return true;
	}
	return false;
}

static bool args_name(const struct buf *args, struct str id)
{
	struct str rest = buf_str(args), arg;

	while (str_split(&rest, '\0', &arg))
		if (str_eq(arg, id))
			return true;
	return false;
}

static struct program read_program(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	if (stat(path, &st))
		return (struct program){0};
	return (struct program){st.st_dev, st.st_ino};
}

/* 0: it is gone. */
static ino_t read_namespace(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)pid);
	return stat(path, &st) ? 0 : st.st_ino;
}

/* Of all the forks of an engine a handful is of another namespace; only of these the text is read, which takes far longer. */
static bool is_first(struct watch *w, pid_t pid)
{
	ino_t namespace = read_namespace(pid);

	return namespace && namespace != w->own_namespace && proc_read(pid, "status", &w->text) &&
	       watch_status_is_init(buf_str(&w->text));
}

/* ---- the table ---- */

static void process_free(struct process *p)
{
	buf_fini(&p->args);
	buf_fini(&p->cgroup);
	free(p);
}

static struct process *find(const struct watch *w, pid_t pid)
{
	uint64_t key = (uint64_t)pid;

	return map_get(&w->by_pid, map_key_u64(&key));
}

static void wake(struct watch *w)
{
	for (struct waiter *it = w->waiters; it; it = it->next)
		eventfd_write(it->fd, 1);
}

/* Only the thread adds and changes processes, and watch_reset frees none that runs: so the thread may look at one that has
 * not ended without the lock. */
static void on_fork(struct watch *w, pid_t parent_pid, pid_t pid, int64_t at_ns)
{
	uint64_t key = (uint64_t)pid;
	struct process *parent, *p;

	pthread_mutex_lock(&w->lock);
	parent = find(w, parent_pid);
	if (parent && parent->ended)
		parent = NULL;
	pthread_mutex_unlock(&w->lock);
	if (parent_pid != getpid() && !parent)
		return;
	p = xcalloc(1, sizeof(*p));
	p->pid = pid;
	p->parent = parent;
	if (parent) {
		p->program = parent->program;
		p->inside = parent->first || parent->inside;
	}
	p->first = !p->inside && is_first(w, pid);
	p->init = (struct watch_init){.pid = pid, .forked_ns = at_ns};
	pthread_mutex_lock(&w->lock);
	map_put(&w->by_pid, map_key_u64(&key), p);
	vec_push(&w->all, p);
	pthread_mutex_unlock(&w->lock);
}

static void on_exec(struct watch *w, pid_t pid, int64_t at_ns)
{
	struct program program;
	struct process *p;
	bool begins;

	pthread_mutex_lock(&w->lock);
	p = find(w, pid);
	if (p && p->ended)
		p = NULL;
	pthread_mutex_unlock(&w->lock);
	if (!p)
		return;
	program = read_program(pid);
	begins =
	    p->first && !p->init.exec_ns && (program.inode != p->program.inode || program.device != p->program.device);
	proc_read(pid, "cmdline", &w->args);
	if (begins)
		proc_read(pid, "cgroup", &w->text);
	pthread_mutex_lock(&w->lock);
	p->program = program;
	buf_clear(&p->args);
	buf_addstr(&p->args, buf_str(&w->args));
	if (begins) {
		p->init.exec_ns = at_ns;
		buf_addstr(&p->cgroup, buf_str(&w->text));
		wake(w);
	}
	pthread_mutex_unlock(&w->lock);
}

static void on_exit_of(struct watch *w, pid_t pid, int status, int64_t at_ns)
{
	struct process *p;

	pthread_mutex_lock(&w->lock);
	p = find(w, pid);
	if (p && !p->ended) {
		p->ended = true;
		p->init.exit_ns = at_ns;
		p->init.status = status;
		if (p->first)
			wake(w);
	}
	pthread_mutex_unlock(&w->lock);
}

/* ---- the thread ---- */

static void take_event(struct watch *w)
{
	struct event e;

	if (!events_take(&w->events, &e)) {
		pthread_mutex_lock(&w->lock);
		w->lost++;
		pthread_mutex_unlock(&w->lock);
	}
	switch (e.kind) {
	case EVENT_FORK:
		on_fork(w, e.parent, e.pid, e.at_ns);
		break;
	case EVENT_EXEC:
		on_exec(w, e.pid, e.at_ns);
		break;
	case EVENT_EXIT:
		on_exit_of(w, e.pid, e.status, e.at_ns);
		break;
	case EVENT_NONE:
		break;
	}
}

static void *run(void *arg)
{
	struct watch *w = arg;
	struct pollfd fds[] = {{.fd = w->events.fd, .events = POLLIN}, {.fd = w->stop_fd, .events = POLLIN}};

	while (!fds[1].revents) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents)
			take_event(w);
	}
	return NULL;
}

static void watch_free(struct watch *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->all.n; i++)
		process_free(w->all.p[i]);
	vec_fini(&w->all);
	map_fini(&w->by_pid);
	buf_fini(&w->args);
	buf_fini(&w->text);
	pthread_mutex_destroy(&w->lock);
	events_close(&w->events);
	if (w->stop_fd >= 0)
		close(w->stop_fd);
	free(w);
}
DEFINE_AUTO_FREE(watch);

/* A kernel without the events takes the request and stays silent, so it is tried. */
static int check_events(struct watch *w, struct err *err)
{
	const char *argv[] = {"true", NULL};
	struct spawn s = {.argv = argv, .stdio = {-1, -1, -1}};
	int64_t deadline_ns = clock_mono_ns() + 5 * NS_PER_S;
	bool seen = false;
	int status;
	pid_t pid;

	TRY(spawn_start(&s, &pid, err));
	while (!seen && clock_mono_ns() < deadline_ns) {
		pthread_mutex_lock(&w->lock);
		seen = find(w, pid) != NULL;
		pthread_mutex_unlock(&w->lock);
		if (!seen)
			usleep(1000);
	}
	TRY(spawn_wait(pid, &status, err));
	if (!seen)
		return err_set(err, ERR_UNAVAILABLE,
		               "the kernel tells of no processes (CONFIG_PROC_EVENTS; needs the initial namespaces)");
	return 0;
}

int watch_start(struct watch **out, struct err *err)
{
	AUTO(watch) struct watch *w = xcalloc(1, sizeof(*w));
	int r;

	pthread_mutex_init(&w->lock, NULL);
	w->events.fd = -1;
	w->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (w->stop_fd < 0)
		return err_errno(err, errno, "eventfd");
	if (prctl(PR_SET_CHILD_SUBREAPER, 1))
		return err_errno(err, errno, "become the subreaper");
	w->own_namespace = read_namespace(getpid());
	TRY(events_open(&w->events, err));
	r = pthread_create(&w->thread, NULL, run, w);
	if (r)
		return err_errno(err, r, "start a thread");
	r = check_events(w, err);
	if (r < 0) {
		watch_stop(STEAL(w));
		return r;
	}
	watch_reset(w);
	*out = STEAL(w);
	return 0;
}

int watch_pause(struct watch *w, struct err *err)
{
	return events_pause(&w->events, err);
}

int watch_resume(struct watch *w, struct err *err)
{
	return events_resume(&w->events, err);
}

void watch_stop(struct watch *w)
{
	if (!w)
		return;
	eventfd_write(w->stop_fd, 1);
	pthread_join(w->thread, NULL);
	watch_free(w);
}

/* Ancestors of what runs are kept: their arguments may name it. */
void watch_reset(struct watch *w)
{
	size_t kept = 0;

	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < w->all.n; i++)
		for (struct process *p = w->all.p[i]->ended ? NULL : w->all.p[i]; p && !p->keep; p = p->parent)
			p->keep = true;
	for (size_t i = 0; i < w->all.n; i++) {
		struct process *p = w->all.p[i];
		uint64_t key = (uint64_t)p->pid;

		if (p->keep) {
			p->keep = false;
			w->all.p[kept++] = p;
			continue;
		}
		if (find(w, p->pid) == p)
			map_del(&w->by_pid, map_key_u64(&key));
		process_free(p);
	}
	w->all.n = kept;
	w->lost = 0;
	pthread_mutex_unlock(&w->lock);
}

/* ---- waiting ---- */

static bool is_named(const struct process *p, struct str id)
{
	if (watch_cgroup_names(buf_str(&p->cgroup), id))
		return true;
	for (p = p->parent; p; p = p->parent)
		if (args_name(&p->args, id))
			return true;
	return false;
}

static bool find_exec(struct watch *w, const char *id, struct watch_init *out)
{
	for (size_t i = w->all.n; i-- > 0;) {
		const struct process *p = w->all.p[i];

		if (!p->first || !p->init.exec_ns || (id && !is_named(p, str_of(id))))
			continue;
		*out = p->init;
		return true;
	}
	return false;
}

/* Sleeps until something has happened to a first process since the waiter was entered. */
static int sleep_until_event(const struct waiter *me, int64_t deadline_ns, int cancel_fd, struct err *err)
{
	struct pollfd fds[] = {{.fd = me->fd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
	int64_t left_ns = deadline_ns - clock_mono_ns();
	struct timespec left = {left_ns / NS_PER_S, left_ns % NS_PER_S};
	eventfd_t count;

	if (left_ns <= 0)
		return err_set(err, ERR_DEADLINE, "timed out");
	if (ppoll(fds, 2, &left, NULL) < 0 && errno != EINTR)
		return err_errno(err, errno, "poll");
	if (fds[1].revents)
		return err_set(err, ERR_CANCELLED, "cancelled");
	if (fds[0].revents)
		eventfd_read(me->fd, &count);
	return 0;
}

static int waiter_enter(struct watch *w, struct waiter *me, struct err *err)
{
	me->fd = eventfd(0, EFD_CLOEXEC);
	if (me->fd < 0)
		return err_errno(err, errno, "eventfd");
	pthread_mutex_lock(&w->lock);
	me->next = w->waiters;
	w->waiters = me;
	pthread_mutex_unlock(&w->lock);
	return 0;
}

static void waiter_leave(struct watch *w, struct waiter *me)
{
	pthread_mutex_lock(&w->lock);
	for (struct waiter **at = &w->waiters; *at; at = &(*at)->next)
		if (*at == me) {
			*at = me->next;
			break;
		}
	pthread_mutex_unlock(&w->lock);
	close(me->fd);
}

int watch_wait_exec(struct watch *w, const char *id, int64_t deadline_ns, int cancel_fd, struct watch_init *out,
                    struct err *err)
{
	struct waiter me;
	bool found;
	int r = 0;

	TRY(waiter_enter(w, &me, err));
	for (;;) {
		pthread_mutex_lock(&w->lock);
		found = find_exec(w, id, out);
		pthread_mutex_unlock(&w->lock);
		if (found || r < 0)
			break;
		r = sleep_until_event(&me, deadline_ns, cancel_fd, err);
	}
	waiter_leave(w, &me);
	if (found)
		return 0;
	return err_wrap(err, "wait for container %s to execute its program", id ? id : "(any)");
}

int watch_wait_exit(struct watch *w, pid_t init, int64_t deadline_ns, int cancel_fd, struct watch_init *out,
                    struct err *err)
{
	struct waiter me;
	int r = 0;

	if (!watch_lookup(w, init, out))
		return err_set(err, ERR_NOT_FOUND, "process %d is no container's first", (int)init);
	TRY(waiter_enter(w, &me, err));
	while (watch_lookup(w, init, out) && !out->exit_ns && r == 0)
		r = sleep_until_event(&me, deadline_ns, cancel_fd, err);
	waiter_leave(w, &me);
	return out->exit_ns ? 0 : err_wrap(err, "wait for the program to end");
}

bool watch_lookup(struct watch *w, pid_t init, struct watch_init *out)
{
	struct process *p;

	pthread_mutex_lock(&w->lock);
	p = find(w, init);
	if (p && p->first)
		*out = p->init;
	pthread_mutex_unlock(&w->lock);
	return p && p->first;
}

uint64_t watch_lost(struct watch *w)
{
	uint64_t lost;

	pthread_mutex_lock(&w->lock);
	lost = w->lost;
	pthread_mutex_unlock(&w->lock);
	return lost;
}
