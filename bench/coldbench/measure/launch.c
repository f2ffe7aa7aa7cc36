/* One start: the commands, the moments, and what they make of a sample. */
#include "bench/coldbench/measure/launch.h"

#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/measure/output.h"
#include "bench/coldbench/measure/phases.h"
#include "bench/coldbench/peers/room.h"

#include "base/clock.h"
#include "base/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define END_NS (20 * NS_PER_S)
/* A command that has failed tidies up: a container that it has made so far, it removes. */
#define TIDY_NS (5 * NS_PER_S)
/* How long the news of what has happened may be under way, on a machine that is busy. */
#define LAG_NS (500 * NS_PER_MS)

/* What is alive between launch_begin and launch_end. */
struct running {
	struct argv argv;
	pid_t command; /* a process group of its own; 0: not yet */
	int command_fd, init_fd;
	int stop_fd; /* readable once the command has ended, or who measures wants to stop */
	struct output *output;
};

static void running_free(struct running *r)
{
	if (!r)
		return;
	output_stop(r->output);
	if (r->command_fd >= 0)
		close(r->command_fd);
	if (r->init_fd >= 0)
		close(r->init_fd);
	if (r->stop_fd >= 0)
		close(r->stop_fd);
	argv_fini(&r->argv);
	free(r);
}

/* ---- the end ---- */

/* True when it has ended in that time; then it is reaped. */
static bool command_ends(struct running *r, int64_t within_ns)
{
	struct pollfd p = {.fd = r->command_fd, .events = POLLIN};
	int64_t deadline_ns = clock_mono_ns() + within_ns, left_ns = within_ns;
	int status;

	while (poll(&p, 1, (int)(left_ns / NS_PER_MS) + 1) <= 0) {
		left_ns = deadline_ns - clock_mono_ns();
		if (left_ns <= 0)
			return false;
	}
	spawn_wait(r->command, &status, NULL);
	r->command = 0;
	return true;
}

int launch_end(struct launch *l, struct err *err)
{
	struct running *r = STEAL(l->running);
	bool late = false;

	if (!r)
		return 0;
	if (r->init_fd >= 0)
		pidfd_send_signal(r->init_fd, SIGKILL, NULL, 0);
	else if (r->command)
		kill(-r->command, SIGTERM);
	if (r->command && !command_ends(r, r->init_fd >= 0 ? END_NS : TIDY_NS)) {
		late = true;
		kill(-r->command, SIGKILL);
		spawn_wait(r->command, &(int){0}, NULL);
	}
	if (late)
		err_set(err, ERR_DEADLINE, "%s did not end with its container", r->argv.p[0]);
	running_free(r);
	return late ? -ERR_DEADLINE : 0;
}

/* ---- the beginning ---- */

static int watch_both(int a, int b, int *out, struct err *err)
{
	AUTO_FD int both = epoll_create1(EPOLL_CLOEXEC);
	int fds[] = {a, b};

	if (both < 0)
		return err_errno(err, errno, "epoll");
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0 && epoll_ctl(both, EPOLL_CTL_ADD, fds[i], &(struct epoll_event){.events = EPOLLIN}))
			return err_errno(err, errno, "epoll");
	*out = STEAL_FD(both);
	return 0;
}

static int start_command(struct running *r, const struct launch_spec *spec, struct err *err)
{
	AUTO_FD int out = -1;
	AUTO_FD int err_out = open(spec->output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (err_out < 0)
		return err_errno(err, errno, "open %s", spec->output);
	TRY(output_start(spec->output, &r->output, &out, err));
	TRY(room_start(&r->argv, (struct spawn){.stdio = {-1, out, err_out}, .new_group = true}, &r->command, err));
	r->command_fd = pidfd_open(r->command, 0);
	if (r->command_fd < 0)
		return err_errno(err, errno, "watch %s", r->argv.p[0]);
	return watch_both(r->command_fd, spec->cancel_fd, &r->stop_fd, err);
}

/* The command may have ended with its container before the news of the program's exec are here. */
static int wait_exec(struct watch *w, const struct launch_spec *spec, struct launch *l, int64_t deadline_ns,
                     struct err *err)
{
	struct err first = ERR_INIT;
	int r = watch_wait_exec(w, spec->id, deadline_ns, l->running->stop_fd, &l->init, &first);

	if (r < 0 && first.code == ERR_CANCELLED)
		r = watch_wait_exec(w, spec->id, clock_mono_ns() + LAG_NS, spec->cancel_fd, &l->init, NULL);
	if (r < 0) {
		if (err)
			*err = first;
		return -(int)first.code;
	}
	l->running->init_fd = pidfd_open(l->init.pid, 0); /* -1: it has ended */
	return 0;
}

static int wait_exit(struct watch *w, struct launch *l, int64_t deadline_ns, int cancel_fd, struct err *err)
{
	TRY(watch_wait_exit(w, l->init.pid, deadline_ns, cancel_fd, &l->init, err));
	if (l->init.status)
		return err_set(err, ERR_INTERNAL, "the program ended with %s %d",
		               WIFSIGNALED(l->init.status) ? "signal" : "status",
		               WIFSIGNALED(l->init.status) ? WTERMSIG(l->init.status) : WEXITSTATUS(l->init.status));
	l->ready_ns = l->init.exit_ns;
	return 0;
}

static int wait_ready(struct watch *w, const struct launch_spec *spec, struct launch *l, int64_t deadline_ns,
                      struct err *err)
{
	switch (spec->ready->kind) {
	case READY_LINE:
		return output_wait_line(l->running->output, deadline_ns, spec->cancel_fd, &l->ready_ns, err);
	case READY_EXIT:
		return wait_exit(w, l, deadline_ns, spec->cancel_fd, err);
	default:
		return ready_wait(spec->ready, l->init.pid, deadline_ns, spec->cancel_fd, &l->ready_ns, err);
	}
}

static int begin(struct watch *w, const struct launch_spec *spec, struct launch *l, struct argv *pull, struct err *err)
{
	int64_t deadline_ns;

	l->begun_ns = l->pulled_ns = clock_mono_ns();
	deadline_ns = l->begun_ns + spec->timeout_ns;
	if (spec->pull) {
		TRY(command_run(pull, spec->output, deadline_ns, spec->cancel_fd, err));
		l->pulled_ns = clock_mono_ns();
	}
	TRY(start_command(l->running, spec, err));
	TRY(wait_exec(w, spec, l, deadline_ns, err));
	return wait_ready(w, spec, l, deadline_ns, err);
}

static bool is_readable(int fd)
{
	return fd >= 0 && poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) > 0;
}

/* What the command said last explains most of what goes wrong. */
static int fail(struct launch *l, const struct launch_spec *spec, struct err *err)
{
	AUTO_FREE char *words = NULL;
	struct err why = *err;

	launch_end(l, NULL);
	words = last_words(spec->output);
	if (why.code == ERR_CANCELLED && is_readable(spec->cancel_fd))
		return err_set(err, ERR_CANCELLED, "stopped");
	if (why.code == ERR_CANCELLED) /* by the command's own end */
		return err_set(err, ERR_INTERNAL, "no container %s came of it: %s", spec->id, words);
	if (*words && !strstr(why.msg, words))
		return err_set(err, why.code, "%s (%s)", why.msg, words);
	*err = why;
	return -(int)why.code;
}

int launch_begin(struct watch *w, const struct launch_spec *spec, struct launch *out, struct err *err)
{
	AUTO(argv) struct argv pull = ARGV_INIT;
	const struct engine_kind *kind = spec->engine->kind;
	struct err why = ERR_INIT;
	int r;

	*out = (struct launch){.config_digest = spec->config_digest};
	out->running = xcalloc(1, sizeof(*out->running));
	*out->running = (struct running){.command_fd = -1, .init_fd = -1, .stop_fd = -1};
	r = spec->pull ? kind->pull(spec->engine, spec->ref, &pull, &why) : 0;
	if (r == 0)
		r = kind->run(spec->engine, spec->ref, spec->id, false, spec->args, &out->running->argv, &why);
	if (r == 0)
		r = begin(w, spec, out, &pull, &why);
	if (r < 0) {
		r = fail(out, spec, &why);
		if (err)
			*err = why;
	}
	return r;
}

/* ---- the sample ---- */

static void sample_counters(struct sample *s, const char *prefix, const struct net_counters *from,
                            const struct net_counters *to)
{
	sample_setf(s, (double)(to->to_client_bytes - from->to_client_bytes), "%s.bytes", prefix);
	sample_setf(s, (double)(to->requests - from->requests), "%s.requests", prefix);
	sample_setf(s, (double)(to->connections - from->connections), "%s.connections", prefix);
	sample_setf(s, (double)(to->round_trips - from->round_trips), "%s.round_trips", prefix);
}

static int sample_net(struct net *net, const int64_t at[N_PHASES + 1], struct sample *s, struct err *err)
{
	struct net_counters counters[N_PHASES + 1];

	TRY(net_at(net, at, N_PHASES + 1, counters, err));
	sample_counters(s, "net", &counters[0], &counters[N_PHASES]);
	for (int i = 0; i < N_PHASES; i++) {
		AUTO_FREE char *prefix = xasprintf("net.%s", PHASE_NAMES[i]);

		sample_counters(s, prefix, &counters[i], &counters[i + 1]);
	}
	return 0;
}

int launch_sample(const struct launch *l, struct net *net, struct sample *s, struct err *err)
{
	AUTO(net_exchange_list) struct net_exchange_list exchanges = {.items = VEC_INIT};
	int64_t at[N_PHASES + 1];

	if (net)
		TRY(net_exchanges(net, &exchanges, err));
	phases_split(l, exchanges.items.p, exchanges.items.n, at);
	sample_set(s, "ready_ms", (double)(l->ready_ns - l->begun_ns) / NS_PER_MS);
	for (int i = 0; i < N_PHASES; i++)
		sample_setf(s, (double)(at[i + 1] - at[i]) / NS_PER_MS, "phase.%s_ms", PHASE_NAMES[i]);
	if (exchanges.left_out)
		sample_set(s, "net.left_out", (double)exchanges.left_out);
	return net ? sample_net(net, at, s, err) : 0;
}
