#include "fusefs/options.h"

#include "base/buf.h"
#include "base/clock.h"

#include <argp.h>
#include <stdio.h>

const char *argp_program_version = "contentfs " CONTENTD_VERSION;

enum {
	KEY_ROOT = 256,
	KEY_STATE,
	KEY_CONFIG,
	KEY_CERTS,
	KEY_LOG_LEVEL,
	KEY_LOG_FORMAT,
	KEY_BACKGROUND,
	KEY_QUIET,
	KEY_WINDOW,
	KEY_PROVE,
	KEY_GZIP_INDEX_HOSTS,
	KEY_READ_TIMEOUT,
	KEY_ANSWER_TIMEOUT,
	KEY_MEMORY,
	KEY_THREADS,
	KEY_FUSE_THREADS,
	KEY_HEARTBEAT,
	KEY_RESUME,
	KEY_ADOPT,
	KEY_WORKER,
};

static const struct argp_option OPTIONS[] = {
    {"root", KEY_ROOT, "DIR", 0, "objects, indexes, partial files (default /var/lib/contentd)", 1},
    {"state", KEY_STATE, "DIR", 0, "socket and FUSE mount (default /run/contentd)", 1},
    {"config", KEY_CONFIG, "FILE", 0, "configuration file", 1},
    {"certs-dir", KEY_CERTS, "DIR", 0, "per-host registry settings (default /etc/contentd/certs.d)", 1},
    {"log-level", KEY_LOG_LEVEL, "LEVEL", 0, "error, warn, info or debug (default info)", 1},
    {"log-format", KEY_LOG_FORMAT, "FORMAT", 0, "text or json (default text)", 1},
    {"background", KEY_BACKGROUND, "MODE", 0, "fill pinned layers: off, on (when idle), eager (default on)", 2},
    {"background-quiet-ms", KEY_QUIET, "MS", 0, "idle means no missing read for this long (default 500)", 2},
    {"window", KEY_WINDOW, "MODE", 0, "what a miss brings along: auto (its neighbours), none (default auto)", 2},
    {"prove", KEY_PROVE, "MODE", 0, "hold layers that are here as a whole against their image: on, off (default on)",
     2},
    {"gzip-index-hosts", KEY_GZIP_INDEX_HOSTS, "LIST", 0,
     "registries (host[:port], by commas; *: all) whose gzip indexes are used (default none)", 2},
    {"read-timeout-ms", KEY_READ_TIMEOUT, "MS", 0, "longest wait of one read, then EIO (default 60000)", 2},
    {"answer-timeout-ms", KEY_ANSWER_TIMEOUT, "MS", 0,
     "a registry silent for this long is asked once more, then given up (default 15000)", 2},
    {"memory-mb", KEY_MEMORY, "MB", 0, "bytes in flight and cached (default 64)", 2},
    {"threads", KEY_THREADS, "N", 0, "threads that inflate and verify (default: one per CPU)", 2},
    {"fuse-threads", KEY_FUSE_THREADS, "N", 0, "threads that answer the kernel (default 2)", 2},
    {"heartbeat-ms", KEY_HEARTBEAT, "MS", 0, "a worker silent for this long is replaced (default 10000)", 2},
    {"resume", KEY_RESUME, NULL, 0, "go on with the descriptors 3 to 7 of an earlier instance", 3},
    {"adopt", KEY_ADOPT, NULL, OPTION_HIDDEN, NULL, 3},
    {"worker", KEY_WORKER, NULL, OPTION_HIDDEN, NULL, 3},
    {0},
};

static uint64_t number(struct argp_state *state, const char *arg, uint64_t min, uint64_t max)
{
	uint64_t v = 0;

	if (!str_u64(str_of(arg), 10, &v) || v < min || v > max)
		argp_error(state, "'%s' is not a number from %llu to %llu", arg, (unsigned long long)min,
		           (unsigned long long)max);
	return v;
}

static const char *directory(struct argp_state *state, char *arg)
{
	size_t n = strlen(arg);

	if (arg[0] != '/')
		argp_error(state, "'%s' is not an absolute path", arg);
	while (n > 1 && arg[n - 1] == '/')
		arg[--n] = 0;
	return arg;
}

static int parse_one(int key, char *arg, struct argp_state *state)
{
	struct ffs_options *o = state->input;

	switch (key) {
	case KEY_ROOT:
		o->root = directory(state, arg);
		break;
	case KEY_STATE:
		o->state = directory(state, arg);
		break;
	case KEY_CONFIG:
		o->config = arg;
		break;
	case KEY_CERTS:
		o->certs_dir = directory(state, arg);
		break;
	case KEY_LOG_LEVEL:
		if (!log_level_parse(arg, &o->log_level))
			argp_error(state, "no log level '%s'", arg);
		break;
	case KEY_LOG_FORMAT:
		o->log_json = !strcmp(arg, "json");
		if (!o->log_json && strcmp(arg, "text"))
			argp_error(state, "no log format '%s'", arg);
		break;
	case KEY_BACKGROUND:
		if (!strcmp(arg, "off"))
			o->data.background = FFS_BACKGROUND_OFF;
		else if (!strcmp(arg, "on"))
			o->data.background = FFS_BACKGROUND_ON;
		else if (!strcmp(arg, "eager"))
			o->data.background = FFS_BACKGROUND_EAGER;
		else
			argp_error(state, "background is off, on or eager, not '%s'", arg);
		break;
	case KEY_QUIET:
		o->data.quiet_ns = (int64_t)number(state, arg, 1, 3600000) * NS_PER_MS;
		break;
	case KEY_WINDOW:
		o->data.no_window = !strcmp(arg, "none");
		if (!o->data.no_window && strcmp(arg, "auto"))
			argp_error(state, "window is auto or none, not '%s'", arg);
		break;
	case KEY_PROVE:
		o->data.no_proof = !strcmp(arg, "off");
		if (!o->data.no_proof && strcmp(arg, "on"))
			argp_error(state, "prove is on or off, not '%s'", arg);
		break;
	case KEY_GZIP_INDEX_HOSTS:
		o->gzip_index_hosts = arg;
		break;
	case KEY_READ_TIMEOUT:
		o->data.read_timeout_ns = (int64_t)number(state, arg, 1, 86400000) * NS_PER_MS;
		break;
	case KEY_ANSWER_TIMEOUT:
		o->answer_timeout_ms = (unsigned)number(state, arg, 1, 86400000);
		break;
	case KEY_MEMORY:
		o->data.memory_bytes = number(state, arg, 1, 1u << 20) << 20;
		break;
	case KEY_THREADS:
		o->data.threads = (unsigned)number(state, arg, 1, 256);
		break;
	case KEY_FUSE_THREADS:
		o->fuse_threads = (unsigned)number(state, arg, 1, 64);
		break;
	case KEY_HEARTBEAT:
		o->heartbeat_timeout_ns = (int64_t)number(state, arg, 1000, 3600000) * NS_PER_MS;
		break;
	case KEY_RESUME:
		o->role = FFS_ROLE_RESUME;
		break;
	case KEY_ADOPT:
		o->role = FFS_ROLE_ADOPT;
		break;
	case KEY_WORKER:
		o->role = FFS_ROLE_WORKER;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

void ffs_options_parse(int argc, char **argv, struct ffs_options *out)
{
	static const struct argp argp = {
	    .options = OPTIONS,
	    .parser = parse_one,
	    .doc = "Serves the contents of lazily pulled images.\vRuns in the foreground until SIGTERM.",
	};

	*out = (struct ffs_options){
	    .role = FFS_ROLE_HOLDER,
	    .root = "/var/lib/contentd",
	    .state = "/run/contentd",
	    .certs_dir = "/etc/contentd/certs.d",
	    .log_level = LOG_INFO,
	    .fuse_threads = 2,
	    .heartbeat_timeout_ns = 10 * NS_PER_S,
	    .data = {.background = FFS_BACKGROUND_ON},
	    .argc = argc,
	    .argv = argv,
	};
	argp_err_exit_status = FFS_EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, out);
}
