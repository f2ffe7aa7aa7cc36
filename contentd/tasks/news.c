/*
 * What the world is told about a task. Shims publish their events themselves, and repeat those that a daemon did not
 * take; so after a restart they come late, out of order or twice, or, when the daemon was away for longer than a shim
 * is patient, not at all. Here each task's create, start, exit and delete go out once and in this order: what is missing
 * before an event is made up from what is known, and what was told already is dropped. Noted in the bundle for the
 * daemon after this one. Events between them (exec-added, paused, ...) are handed on as they come.
 */
#include "contentd/tasks/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "rpc/proto/event.pb-c.h"

#include <stdio.h>

#define STATUS_UNKNOWN 255

void news_init(struct news *n)
{
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->changed, NULL);
}

void news_fini(struct news *n)
{
	pthread_cond_destroy(&n->changed);
	pthread_mutex_destroy(&n->lock);
}

/* ---- the note in the bundle; with the lock held ---- */

/* Of one length always, so that it can be overwritten. */
#define NOTE_FORMAT "%d %d %d %d %010u %010u %020lld %09ld\n"

static void note(struct task *task)
{
	const struct news *n = &task->news;
	AUTO_FREE char *text = xasprintf(NOTE_FORMAT, n->told, n->created, n->started, n->ended, n->pid, n->end.status,
	                                 (long long)n->end.at.tv_sec, n->end.at.tv_nsec);
	struct err err = ERR_INIT;

	if (bundle_rewrite(&task->bundle, "told", text, &err) < 0 && err.code != ERR_NOT_FOUND)
		log_warn("task %s: %s", task->bundle.id, err.msg);
}

void news_load(struct task *task)
{
	unsigned told, created, started, ended, pid, status;
	AUTO_FREE char *text = NULL;
	struct news *n = &task->news;
	long long s;
	long ns;

	if (bundle_read(&task->bundle, "told", &text, NULL) < 0 ||
	    sscanf(text, "%u %u %u %u %u %u %lld %ld", &told, &created, &started, &ended, &pid, &status, &s, &ns) !=
	        8 ||
	    told > TOLD_DELETE)
		return; /* nothing was noted */
	n->told = told;
	n->created = created;
	n->started = started;
	n->ended = ended;
	n->pid = pid;
	n->end = (struct task_end){status, {s, ns}};
}

/* ---- what is known ---- */

void news_starting(struct task *task, bool starting)
{
	struct news *n = &task->news;

	pthread_mutex_lock(&n->lock);
	if (n->started != starting && n->told < TOLD_START) {
		n->started = starting;
		note(task);
	}
	pthread_mutex_unlock(&n->lock);
}

void news_created(struct task *task, uint32_t pid)
{
	struct news *n = &task->news;

	pthread_mutex_lock(&n->lock);
	if (!n->pid)
		n->pid = pid;
	if (!n->created) {
		n->created = true;
		note(task);
	}
	pthread_mutex_unlock(&n->lock);
}

static void set_end(struct news *n, uint32_t pid, struct task_end end)
{
	if (n->ended)
		return;
	n->ended = true;
	n->end = end;
	if (!n->pid)
		n->pid = pid;
}

void news_ended(struct task *task, uint32_t pid, struct task_end end)
{
	pthread_mutex_lock(&task->news.lock);
	set_end(&task->news, pid, end);
	note(task);
	pthread_mutex_unlock(&task->news.lock);
}

bool news_end(struct task *task, uint32_t *pid, struct task_end *end)
{
	bool ended;

	pthread_mutex_lock(&task->news.lock);
	ended = task->news.ended;
	*end = task->news.end;
	*pid = task->news.pid;
	pthread_mutex_unlock(&task->news.lock);
	return ended;
}

/* ---- telling; with the lock held ---- */

static void publish(struct task *task, const char *topic, const ProtobufCMessage *m)
{
	const struct cd_tasks_host *host = &task->owner->host;

	host->publish(host->arg, task->bundle.ns, topic, m, task->inherited);
}

static void publish_create(struct task *task)
{
	Event__TaskCreate m = EVENT__TASK_CREATE__INIT;

	m.container_id = task->bundle.id;
	m.bundle = task->bundle.path;
	m.pid = task->news.pid;
	publish(task, "/tasks/create", &m.base);
}

static void publish_start(struct task *task)
{
	Event__TaskStart m = EVENT__TASK_START__INIT;

	m.container_id = task->bundle.id;
	m.pid = task->news.pid;
	publish(task, "/tasks/start", &m.base);
}

/* Exit or delete: both say how it ended. */
static void publish_end(struct task *task, enum told what)
{
	Pb__Timestamp stamp = PB__TIMESTAMP__INIT;
	Event__TaskExit exit = EVENT__TASK_EXIT__INIT;
	Event__TaskDelete gone = EVENT__TASK_DELETE__INIT;
	const struct news *n = &task->news;

	stamp.seconds = n->end.at.tv_sec;
	stamp.nanos = (int32_t)n->end.at.tv_nsec;
	exit.container_id = exit.id = gone.container_id = task->bundle.id;
	exit.pid = gone.pid = n->pid;
	exit.exit_status = gone.exit_status = n->end.status;
	exit.exited_at = gone.exited_at = &stamp;
	if (what == TOLD_EXIT)
		publish(task, "/tasks/exit", &exit.base);
	else
		publish(task, "/tasks/delete", &gone.base);
}

/* Makes up what is missing before `until`. */
static void catch_up(struct task *task, enum told until)
{
	struct news *n = &task->news;

	if (until > TOLD_EXIT && !n->ended)
		set_end(n, 0, (struct task_end){STATUS_UNKNOWN, clock_wall()});
	if (until > TOLD_CREATE && n->told < TOLD_CREATE)
		publish_create(task);
	if (until > TOLD_START && n->told < TOLD_START && n->started)
		publish_start(task);
	if (until > TOLD_EXIT && n->told < TOLD_EXIT)
		publish_end(task, TOLD_EXIT);
}

static void set_told(struct task *task, enum told told)
{
	task->news.told = told;
	note(task);
	pthread_cond_broadcast(&task->news.changed);
}

/* With the lock held. */
static void tell(struct task *task, enum told told)
{
	if (task->news.told >= told)
		return;
	catch_up(task, told + 1);
	if (told == TOLD_DELETE)
		publish_end(task, TOLD_DELETE);
	set_told(task, told);
}

void news_tell_known(struct task *task)
{
	const struct news *n = &task->news;

	pthread_mutex_lock(&task->news.lock);
	tell(task, n->ended ? TOLD_EXIT : n->started ? TOLD_START : TOLD_CREATE);
	pthread_mutex_unlock(&task->news.lock);
}

void news_close(struct task *task, int64_t patience_ns)
{
	int64_t until = clock_mono_ns() + patience_ns;
	struct timespec deadline = {until / NS_PER_S, until % NS_PER_S};
	struct news *n = &task->news;

	pthread_mutex_lock(&n->lock);
	while ((n->told != TOLD_NOTHING || n->created) && n->told < TOLD_DELETE &&
	       pthread_cond_clockwait(&n->changed, &n->lock, CLOCK_MONOTONIC, &deadline) == 0)
		;
	if (n->told != TOLD_NOTHING || n->created)
		tell(task, TOLD_DELETE);
	pthread_mutex_unlock(&n->lock);
}

/* ---- events of shims ---- */

/* What an event tells of the task itself: TOLD_NOTHING when it is about something else (another process, a pause). */
struct said {
	enum told told;
	uint32_t pid;
	bool has_end;
	struct task_end end;
};

static struct said said_of(const struct task *task, const ProtobufCMessage *m)
{
	struct said s = {TOLD_NOTHING};

	if (m->descriptor == &event__task_create__descriptor) {
		s.told = TOLD_CREATE;
		s.pid = ((const Event__TaskCreate *)m)->pid;
	} else if (m->descriptor == &event__task_start__descriptor) {
		s.told = TOLD_START;
		s.pid = ((const Event__TaskStart *)m)->pid;
	} else if (m->descriptor == &event__task_exit__descriptor) {
		const Event__TaskExit *e = (const Event__TaskExit *)m;

		if (!strcmp(e->id, task->bundle.id))
			s = (struct said){TOLD_EXIT, e->pid, true, {e->exit_status, pb_time(e->exited_at)}};
	} else if (m->descriptor == &event__task_delete__descriptor) {
		const Event__TaskDelete *e = (const Event__TaskDelete *)m;

		if (!*e->id || !strcmp(e->id, task->bundle.id))
			s = (struct said){TOLD_DELETE, e->pid, true, {e->exit_status, pb_time(e->exited_at)}};
	}
	return s;
}

int news_forward(struct task *task, const Types__Envelope *envelope, const ProtobufCMessage *m, struct err *err)
{
	const struct cd_tasks_host *host = &task->owner->host;
	struct said said = said_of(task, m);
	struct news *n = &task->news;
	int r = 0;

	pthread_mutex_lock(&n->lock);
	if (said.told == TOLD_NOTHING) {
		r = host->forward(host->arg, envelope, task->inherited, err);
	} else if (said.told <= n->told || (n->pid && said.pid && said.pid != n->pid)) {
		log_debug("task %s: %s is no news", task->bundle.id, envelope->topic);
	} else {
		n->pid = n->pid ?: said.pid;
		if (said.told == TOLD_START)
			n->started = true;
		if (said.has_end)
			set_end(n, said.pid, said.end);
		catch_up(task, said.told);
		r = host->forward(host->arg, envelope, task->inherited, err);
		if (r >= 0)
			set_told(task, said.told);
	}
	pthread_mutex_unlock(&n->lock);
	return r;
}
