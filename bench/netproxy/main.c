/* netproxy: a loopback TCP proxy that behaves like a network, counts what passes, and breaks things on request. */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "bench/netproxy/control.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

const char *argp_program_version = "netproxy " CONTENTD_VERSION;

struct options {
	const char *listen, *to, *rtt_ms, *mbit, *control, *port_file, *stats, *log, *ask;
	VEC(const char *) faults;
	bool tied, realtime;
	struct buf words; /* of the command to ask */
};

enum {
	OPT_LISTEN = 256,
	OPT_TO,
	OPT_RTT,
	OPT_MBIT,
	OPT_CONTROL,
	OPT_PORT_FILE,
	OPT_STATS,
	OPT_LOG,
	OPT_FAULT,
	OPT_ASK,
	OPT_TIED,
	OPT_REALTIME
};

static const struct argp_option option_table[] = {
    {"to", OPT_TO, "HOST:PORT", 0, "where connections go", 0},
    {"listen", OPT_LISTEN, "HOST:PORT", 0, "where they come from (default 127.0.0.1:0: any free port, printed)", 0},
    {"rtt-ms", OPT_RTT, "N", 0, "round-trip time, half of it each way (default 0)", 1},
    {"mbit", OPT_MBIT, "N", 0, "bandwidth per direction, for all connections together (default 0: unlimited)", 1},
    {"fault", OPT_FAULT, "RULE", 0,
     "\"ACTION[=ARG] WHEN TEXT\" for requests whose \"METHOD target range\" contains TEXT. ACTION: stall[=MS], reset, "
     "lose, truncate=N[%], flip=N[%], status=CODE, norange. WHEN: N (the next N), all, every=N, from=MS, for=MS, with "
     "commas between. May be given more than once",
     1},
    {"control", OPT_CONTROL, "SOCKET", 0,
     "take commands on this UNIX socket: stats, mark NAME, reset, at NS..., exchanges, fault RULE, clear, "
     "net RTT_MS MBIT, down [reset|silent], up",
     2},
    {"realtime", OPT_REALTIME, 0, 0,
     "run before all others (SCHED_RR), as a network would; without the right to, as usual", 2},
    {"port-file", OPT_PORT_FILE, "FILE", 0, "write the number of the port here once it accepts connections", 2},
    {"tied", OPT_TIED, 0, 0, "end when standard input ends, and so with whoever holds the other end", 2},
    {"stats", OPT_STATS, "FILE", 0, "write the counters here at the end", 2},
    {"log", OPT_LOG, "FILE", 0, "write a line per HTTP request here (-: stderr)", 2},
    {"ask", OPT_ASK, "SOCKET", 0, "send the remaining words to a running netproxy's control socket, print its answer",
     3},
    {0},
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case OPT_LISTEN:
		o->listen = arg;
		return 0;
	case OPT_TO:
		o->to = arg;
		return 0;
	case OPT_RTT:
		o->rtt_ms = arg;
		return 0;
	case OPT_MBIT:
		o->mbit = arg;
		return 0;
	case OPT_CONTROL:
		o->control = arg;
		return 0;
	case OPT_PORT_FILE:
		o->port_file = arg;
		return 0;
	case OPT_STATS:
		o->stats = arg;
		return 0;
	case OPT_LOG:
		o->log = arg;
		return 0;
	case OPT_FAULT:
		vec_push(&o->faults, arg);
		return 0;
	case OPT_ASK:
		o->ask = arg;
		return 0;
	case OPT_REALTIME:
		o->realtime = true;
		return 0;
	case OPT_TIED:
		o->tied = true;
		return 0;
	case ARGP_KEY_ARG:
		if (!o->ask)
			argp_error(state, "unexpected argument '%s'", arg);
		if (o->words.n)
			buf_addc(&o->words, ' ');
		buf_adds(&o->words, arg);
		return 0;
	case ARGP_KEY_END:
		if (o->ask ? !o->words.n : !o->to)
			argp_error(state,
			           o->ask ? "--ask needs a command" : "--to says where to forward; it is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
    .options = option_table,
    .parser = on_option,
    .args_doc = "--to HOST:PORT\n--ask SOCKET COMMAND...",
    .doc =
	"Forwards TCP connections as a network would: with a round-trip time (a new connection costs one as well) and "
	"a bandwidth. Counts bytes, connections and HTTP/1.1 requests, and injects faults.",
};

/* A signal, or the end of what the process is tied to. */
static void on_end(void *arg, uint32_t events)
{
	loop_quit(arg);
}

/* SIGINT and SIGTERM end the loop. The descriptor is the caller's. */
static int watch_signals(struct loop *loop, int *fd, struct loop_io **io, struct err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	*fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (*fd < 0)
		return err_errno(err, errno, "signalfd");
	return loop_io_new(loop, *fd, EPOLLIN, on_end, loop, io, err);
}

/* Timers to the microsecond, as many sockets as allowed, and blocks from the heap instead of a mapping each. */
static void tune_process(bool realtime)
{
	const struct sched_param first = {.sched_priority = 1};
	struct rlimit files;

	if (realtime && sched_setscheduler(0, SCHED_RR, &first))
		log_warn("no real-time priority: %s", strerror(errno));
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
	mallopt(M_TRIM_THRESHOLD, 64 << 20);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int configure(struct proxy *p, struct options *o, struct err *err)
{
	int64_t rtt_ns;
	double mbit;

	TRY(control_parse_network(o->rtt_ms, o->mbit, &rtt_ns, &mbit, err));
	proxy_set_network(p, rtt_ns, mbit);
	vec_each(&o->faults, rule)
		TRY(fault_rules_add(&p->faults, str_of(*rule), err));
	if (o->log && !strcmp(o->log, "-"))
		p->log = stderr;
	else if (o->log && !(p->log = fopen(o->log, "we")))
		return err_errno(err, errno, "open %s", o->log);
	return 0;
}

static int announce_and_run(const struct proxy *p, struct loop *loop, const struct options *o, struct err *err)
{
	AUTO_FREE char *text = xasprintf("%u\n", p->port);
	int r;

	if (o->port_file)
		TRY(file_write_atomic(AT_FDCWD, o->port_file, str_of(text), 0644, err));
	printf("listening on port %u\n", p->port);
	fflush(stdout);
	r = loop_run(loop, err);
	if (o->port_file)
		unlink(o->port_file);
	return r;
}

static int write_stats(const struct proxy *p, const char *path, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &text, "\t");
	proxy_write_stats(p, &w);
	buf_addc(&text, '\n');
	return file_write_atomic(AT_FDCWD, path, buf_str(&text), 0644, err);
}

static int serve(struct proxy *p, struct loop *loop, struct options *o, struct err *err)
{
	struct control *control = NULL;
	struct loop_io *signal_io = NULL;
	struct loop_io *tie = NULL;
	AUTO_FD int signal_fd = -1;
	int r;

	r = configure(p, o, err);
	if (!r)
		r = watch_signals(loop, &signal_fd, &signal_io, err);
	if (!r && o->tied)
		r = loop_io_new(loop, STDIN_FILENO, EPOLLIN, on_end, loop, &tie, err);
	if (!r && o->control)
		r = control_start(p, o->control, &control, err);
	if (!r)
		r = announce_and_run(p, loop, o, err);
	if (!r && o->stats)
		r = write_stats(p, o->stats, err);
	control_stop(control);
	loop_io_free(signal_io);
	loop_io_free(tie);
	return r;
}

static int run(struct options *o, struct err *err)
{
	AUTO(loop) struct loop *loop = NULL;
	struct proxy proxy = {0};
	struct address listen_at, to;
	int r;

	if (o->ask)
		return control_ask(o->ask, buf_str(&o->words), err);
	tune_process(o->realtime);
	TRY_WRAP(address_parse(o->listen, &listen_at, err), err, "--listen");
	TRY_WRAP(address_parse(o->to, &to, err), err, "--to");
	TRY(loop_new(&loop, err));
	r = proxy_init(&proxy, loop, &listen_at, &to, err);
	if (r < 0)
		err_wrap(err, "--listen %s", o->listen);
	else
		r = serve(&proxy, loop, o, err);
	proxy_fini(&proxy);
	if (proxy.log && proxy.log != stderr)
		fclose(proxy.log);
	return r;
}

int main(int argc, char **argv)
{
	struct options o = {.listen = "127.0.0.1:0", .rtt_ms = "0", .mbit = "0"};
	struct err err = ERR_INIT;
	int r;

	log_init("netproxy", LOG_INFO, false);
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &o);
	r = run(&o, &err);
	if (r < 0)
		log_error("%s", err.msg);
	buf_fini(&o.words);
	vec_fini(&o.faults);
	return r < 0 ? 1 : r;
}
