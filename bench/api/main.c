/*
 * api_bench: latency and throughput of containerd's API, of several daemons in turn. See bench/api.sh for a run against
 * real containerd with all that is around it.
 */
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "bench/api/load.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>

#define PEERS_MAX 4
#define CLIENTS_MAX 1024

const char *argp_program_version = "api_bench " CONTENTD_VERSION;
extern char **environ;

/* A daemon, or with --exec a command. */
struct peer {
	const char *name, *target;
};

struct options {
	VEC(const struct op *) ops;
	VEC(unsigned) clients;
	double seconds;
	unsigned rounds;
	bool json, exec;
	const char *beside; /* --while */
	struct peer peers[PEERS_MAX];
	size_t n_peers;
};

/* What the report has: one phase at one number of clients, by peer; or, with --while, before and during. */
struct row {
	const char *op, *phase;
	unsigned clients;
	struct stat_line of[PEERS_MAX];
};

struct report {
	VEC(struct row) rows;
	const char *names[PEERS_MAX]; /* of the columns */
	size_t n_names;
};

/* ---- options ---- */

enum { OPT_OP = 256, OPT_CLIENTS, OPT_SECONDS, OPT_ROUNDS, OPT_JSON, OPT_WHILE, OPT_EXEC, OPT_LIST, OPT_ROOTFS };

static const struct argp_option option_table[] = {
    {"op", OPT_OP, "NAME", 0, "an operation (repeat for several; default: all but task)", 0},
    {"list", OPT_LIST, NULL, 0, "name the operations", 0},
    {"clients", OPT_CLIENTS, "N", 0, "clients at a time (repeat for several numbers; default: 1, 8, 64)", 0},
    {"seconds", OPT_SECONDS, "S", 0, "length of a round (default 0.5)", 0},
    {"rounds", OPT_ROUNDS, "N", 0, "rounds of each operation; the daemons take turns (default 3)", 0},
    {"while", OPT_WHILE, "COMMAND", 0,
     "measure all operations mixed, for --seconds, then while the shell runs the command", 0},
    {"exec", OPT_EXEC, NULL, 0, "the targets are commands: time from their start to their end", 0},
    {"rootfs", OPT_ROOTFS, "DIR", 0, "what containers of the operation task have: a static /bin/true", 0},
    {"json", OPT_JSON, NULL, 0, "print JSON", 0},
    {0},
};

static unsigned number(struct argp_state *state, const char *text, unsigned max)
{
	uint64_t v;

	if (!str_u64(str_of(text), 10, &v) || !v || v > max)
		argp_error(state, "not a number from 1 to %u: '%s'", max, text);
	return (unsigned)v;
}

static void list_ops(void)
{
	for (size_t i = 0; i < N_OPS; i++) {
		printf("%-12s", OPS[i].name);
		for (size_t p = 0; p < OP_PHASES && OPS[i].phases[p]; p++)
			printf("%s %s", p ? "," : "", OPS[i].phases[p]);
		printf("\n");
	}
	exit(0);
}

static void add_peer(struct options *o, char *arg, struct argp_state *state)
{
	char *equals = strchr(arg, '=');

	if (!equals || o->n_peers == PEERS_MAX)
		argp_error(state, "up to %d targets NAME=TARGET, not '%s'", PEERS_MAX, arg);
	*equals = '\0';
	o->peers[o->n_peers++] = (struct peer){arg, equals + 1};
}

static void finish_options(struct options *o, struct argp_state *state)
{
	const unsigned usual[] = {1, 8, 64};

	if (!o->n_peers)
		argp_error(state, "no target");
	if (o->beside && (o->n_peers != 1 || o->exec || o->clients.n > 1))
		argp_error(state, "--while takes one daemon and one number of clients");
	if (!o->ops.n)
		for (size_t i = 0; i < N_OPS; i++)
			if (!OPS[i].needs_rootfs)
				vec_push(&o->ops, &OPS[i]);
	vec_each(&o->ops, op)
		if ((*op)->needs_rootfs && !op_rootfs)
			argp_error(state, "%s needs --rootfs", (*op)->name);
	if (!o->clients.n && o->beside)
		vec_push(&o->clients, 8);
	if (!o->clients.n)
		for (size_t i = 0; i < ARRAY_LEN(usual); i++)
			vec_push(&o->clients, usual[i]);
}

static error_t on_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	const struct op *op;
	char *end;

	switch (key) {
	case OPT_OP:
		op = op_find(arg);
		if (!op)
			argp_error(state, "no operation '%s' (--list names them)", arg);
		vec_push(&o->ops, op);
		return 0;
	case OPT_LIST:
		list_ops();
		return 0;
	case OPT_CLIENTS:
		vec_push(&o->clients, number(state, arg, CLIENTS_MAX));
		return 0;
	case OPT_SECONDS:
		o->seconds = strtod(arg, &end);
		if (*end || !(o->seconds > 0 && o->seconds < 3600))
			argp_error(state, "not a time: '%s'", arg);
		return 0;
	case OPT_ROUNDS:
		o->rounds = number(state, arg, 1000);
		return 0;
	case OPT_ROOTFS:
		op_rootfs = arg;
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case OPT_WHILE:
		o->beside = arg;
		return 0;
	case OPT_EXEC:
		o->exec = true;
		return 0;
	case ARGP_KEY_ARG:
		add_peer(o, arg, state);
		return 0;
	case ARGP_KEY_END:
		finish_options(o, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
    .options = option_table,
    .parser = on_option,
    .args_doc = "NAME=TARGET...",
    .doc = "Measures calls of containerd's API, as its clients make them. A target is the socket of a daemon; with "
	   "several they take turns, round by round.\vCalls a second are clients / mean latency of a call.",
};

/* ---- measuring daemons ---- */

static bool before_deadline(void *arg)
{
	return clock_mono_ns() < *(int64_t *)arg;
}

static int setup(const struct options *o, struct err *err)
{
	for (size_t i = 0; i < o->n_peers; i++) {
		AUTO(rpc_client) struct rpc_client *c = NULL;

		TRY_WRAP(rpc_client_connect(o->peers[i].target, &c, err), err, "%s", o->peers[i].name);
		rpc_client_set_metadata(c, "containerd-namespace", OP_NAMESPACE);
		TRY_WRAP(ops_setup(c, err), err, "%s", o->peers[i].name);
	}
	return 0;
}

static void add_rows(struct report *rep, const struct op *op, unsigned clients, struct op_samples *samples, size_t n)
{
	for (size_t p = 0; p < OP_PHASES && op->phases[p]; p++) {
		struct row *row = vec_add(&rep->rows);

		row->op = op->name;
		row->phase = op->phases[p];
		row->clients = clients;
		for (size_t i = 0; i < n; i++)
			row->of[i] = samples_stat(&samples[i].phases[p]);
	}
}

/* One operation at one number of clients: every daemon in turn, round by round, the one that begins changing. */
static int measure(const struct options *o, const struct op *op, unsigned clients, struct report *rep, struct err *err)
{
	struct op_samples samples[PEERS_MAX] = {0};
	int64_t until;
	struct load load = {.namespace_ = OP_NAMESPACE,
	                    .ops = &op,
	                    .n_ops = 1,
	                    .n_clients = clients,
	                    .more = before_deadline,
	                    .arg = &until};
	int r = 0;

	for (unsigned round = 0; round < o->rounds && r >= 0; round++)
		for (size_t i = 0; i < o->n_peers && r >= 0; i++) {
			size_t which = (i + round) % o->n_peers;

			load.socket = o->peers[which].target;
			until = clock_mono_ns() + (int64_t)(o->seconds * NS_PER_S);
			r = load_run(&load, &samples[which], err);
			if (r < 0)
				err_wrap(err, "%s", o->peers[which].name);
		}
	if (r >= 0)
		add_rows(rep, op, clients, samples, o->n_peers);
	for (size_t i = 0; i < o->n_peers; i++)
		op_samples_fini(&samples[i]);
	return r;
}

static int measure_all(const struct options *o, struct report *rep, struct err *err)
{
	TRY(setup(o, err));
	for (size_t i = 0; i < o->n_peers; i++)
		rep->names[rep->n_names++] = o->peers[i].name;
	vec_each(&o->ops, op)
		vec_each(&o->clients, clients)
			if (!(*op)->max_clients || *clients <= (*op)->max_clients)
				TRY(measure(o, *op, *clients, rep, err));
	return 0;
}

/* ---- measuring beside something else ---- */

/* A command that runs; reaped by whichever thread asks first after its end. */
struct beside {
	pthread_mutex_t lock;
	pid_t pid; /* 0 when it has ended */
	int status;
};

static bool still_runs(void *arg)
{
	struct beside *b = arg;
	bool runs;

	pthread_mutex_lock(&b->lock);
	if (b->pid && waitpid(b->pid, &b->status, WNOHANG) == b->pid)
		b->pid = 0;
	runs = b->pid != 0;
	pthread_mutex_unlock(&b->lock);
	return runs;
}

static int spawn_shell(const char *command, pid_t *pid, struct err *err)
{
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)command, NULL};
	int r = posix_spawn(pid, "/bin/sh", NULL, NULL, argv, environ);

	return r ? err_errno(err, r, "sh") : 0;
}

static int measure_beside(const struct options *o, struct report *rep, struct err *err)
{
	AUTO_FREE struct op_samples *idle = xcalloc(o->ops.n, sizeof(*idle)),
				    *during = xcalloc(o->ops.n, sizeof(*during));
	struct beside beside = {.lock = PTHREAD_MUTEX_INITIALIZER};
	int64_t until;
	struct load load = {.socket = o->peers[0].target,
	                    .namespace_ = OP_NAMESPACE,
	                    .ops = o->ops.p,
	                    .n_ops = o->ops.n,
	                    .n_clients = o->clients.p[0],
	                    .more = before_deadline,
	                    .arg = &until};
	int r;

	TRY(setup(o, err));
	rep->names[0] = "before";
	rep->names[1] = "during";
	rep->n_names = 2;
	until = clock_mono_ns() + (int64_t)(o->seconds * NS_PER_S);
	r = load_run(&load, idle, err);
	if (r >= 0)
		r = spawn_shell(o->beside, &beside.pid, err);
	if (r >= 0) {
		load.more = still_runs;
		load.arg = &beside;
		r = load_run(&load, during, err);
		while (still_runs(&beside))
			usleep(10000);
		if (r >= 0 && beside.status)
			r = err_set(err, ERR_UNKNOWN, "the command has failed (status 0x%x)", (unsigned)beside.status);
	}
	for (size_t i = 0; i < o->ops.n; i++) {
		struct op_samples both[PEERS_MAX] = {idle[i], during[i]};

		if (r >= 0)
			add_rows(rep, o->ops.p[i], o->clients.p[0], both, 2);
		op_samples_fini(&both[0]);
		op_samples_fini(&both[1]);
	}
	return r;
}

/* ---- measuring commands ---- */

static int run_command(const char *command, int64_t *ns, struct err *err)
{
	AUTO_FREE char *words = xstrdup(command);
	char *argv[32], *rest = NULL;
	posix_spawn_file_actions_t actions;
	int64_t begin;
	size_t n = 0;
	int status = 0, r;
	pid_t pid;

	for (char *w = strtok_r(words, " ", &rest); w && n < ARRAY_LEN(argv) - 1; w = strtok_r(NULL, " ", &rest))
		argv[n++] = w;
	argv[n] = NULL;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	begin = clock_mono_ns();
	r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	if (!r && waitpid(pid, &status, 0) != pid)
		r = errno;
	*ns = clock_mono_ns() - begin;
	posix_spawn_file_actions_destroy(&actions);
	if (r)
		return err_errno(err, r, "%s", command);
	return status ? err_set(err, ERR_UNKNOWN, "%s: status 0x%x", command, (unsigned)status) : 0;
}

static int measure_commands(const struct options *o, struct report *rep, struct err *err)
{
	struct samples samples[PEERS_MAX] = {0};
	struct row row = {"exec", "start to end", 1, {{0}}};
	int64_t ns;

	for (unsigned round = 0; round < o->rounds; round++)
		for (size_t i = 0; i < o->n_peers; i++) {
			TRY(run_command(o->peers[i].target, &ns, err));
			vec_push(&samples[i].ns, ns);
		}
	for (size_t i = 0; i < o->n_peers; i++) {
		rep->names[rep->n_names++] = o->peers[i].name;
		row.of[i] = samples_stat(&samples[i]);
		samples_fini(&samples[i]);
	}
	vec_push(&rep->rows, row);
	return 0;
}

/* ---- reporting ---- */

static double per_second(const struct row *row, size_t i)
{
	return row->of[i].mean_ns > 0 ? row->clients * (double)NS_PER_S / row->of[i].mean_ns : 0;
}

static void print_table(const struct report *rep)
{
	printf("%-22s %7s", "", "clients");
	for (size_t i = 0; i < rep->n_names; i++)
		printf(" | %-30s", rep->names[i]);
	printf("\n%-22s %7s", "", "");
	for (size_t i = 0; i < rep->n_names; i++)
		printf(" | %9s %9s %10s", "p50 us", "p99 us", "calls/s");
	printf("\n");
	vec_each(&rep->rows, row) {
		printf("%-22s %7u", row->phase, row->clients);
		for (size_t i = 0; i < rep->n_names; i++)
			printf(" | %9.0f %9.0f %10.0f", (double)row->of[i].p50_ns / NS_PER_US,
			       (double)row->of[i].p99_ns / NS_PER_US, per_second(row, i));
		for (size_t i = 1; i < rep->n_names; i++)
			printf(" | p50 x%.2f",
			       row->of[0].p50_ns ? (double)row->of[i].p50_ns / (double)row->of[0].p50_ns : 0);
		printf("\n");
	}
}

static void print_json(const struct report *rep)
{
	AUTO(buf) struct buf out = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &out, "\t");
	json_w_array_begin(&w);
	vec_each(&rep->rows, row)
		for (size_t i = 0; i < rep->n_names; i++) {
			json_w_object_begin(&w);
			json_w_kcstr(&w, "op", row->op);
			json_w_kcstr(&w, "phase", row->phase);
			json_w_ki64(&w, "clients", row->clients);
			json_w_kcstr(&w, "target", rep->names[i]);
			json_w_ki64(&w, "calls", (int64_t)row->of[i].calls);
			json_w_ki64(&w, "p50_ns", row->of[i].p50_ns);
			json_w_ki64(&w, "p99_ns", row->of[i].p99_ns);
			json_w_ki64(&w, "max_ns", row->of[i].max_ns);
			json_w_key(&w, "per_s");
			json_w_double(&w, per_second(row, i));
			json_w_object_end(&w);
		}
	json_w_array_end(&w);
	printf("%s\n", buf_cstr(&out));
}

int main(int argc, char **argv)
{
	struct options o = {.seconds = 0.5, .rounds = 3};
	struct report rep = {0};
	struct err err = ERR_INIT;
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	r = o.exec     ? measure_commands(&o, &rep, &err)
	    : o.beside ? measure_beside(&o, &rep, &err)
	               : measure_all(&o, &rep, &err);
	if (r < 0)
		fprintf(stderr, "api_bench: %s\n", err.msg);
	else if (o.json)
		print_json(&rep);
	else
		print_table(&rep);
	vec_fini(&rep.rows);
	vec_fini(&o.ops);
	vec_fini(&o.clients);
	return r < 0;
}
