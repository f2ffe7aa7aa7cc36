/* contentctl update: other limits for running containers. */
#include "contentd/ctl/container.h"

#include "base/json.h"

#include <math.h>
#include <stdio.h>

#define RESOURCES_TYPE "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
#define CPU_PERIOD_US 100000
#define NO_LIMIT (-1) /* as the runtime specification has it */

/* 0: stays as it is. */
struct update {
	struct ctl *c;
	char **ids;
	unsigned n_ids;
	int64_t memory, cpu_quota_us, pids;
	uint64_t cpu_shares;
	const char *cpuset;
};

static void write_resources(const struct update *u, struct buf *out)
{
	struct json_writer w;

	json_writer_init(&w, out, NULL);
	json_w_object_begin(&w);
	if (u->memory) {
		json_w_key(&w, "memory");
		json_w_object_begin(&w);
		json_w_ki64(&w, "limit", u->memory);
		json_w_object_end(&w);
	}
	if (u->cpu_quota_us || u->cpu_shares || u->cpuset) {
		json_w_key(&w, "cpu");
		json_w_object_begin(&w);
		if (u->cpu_quota_us) {
			json_w_ki64(&w, "quota", u->cpu_quota_us);
			json_w_ki64(&w, "period", CPU_PERIOD_US);
		}
		if (u->cpu_shares)
			json_w_ki64(&w, "shares", (int64_t)u->cpu_shares);
		if (u->cpuset)
			json_w_kcstr(&w, "cpus", u->cpuset);
		json_w_object_end(&w);
	}
	if (u->pids) {
		json_w_key(&w, "pids");
		json_w_object_begin(&w);
		json_w_ki64(&w, "limit", u->pids);
		json_w_object_end(&w);
	}
	json_w_object_end(&w);
}

static int update_one(struct update *u, const char *id, Pb__Any *resources, struct err *err)
{
	Tasks__UpdateTaskRequest req = TASKS__UPDATE_TASK_REQUEST__INIT;

	req.container_id = id;
	req.resources = resources;
	TRY_WRAP(rpc_call(u->c->client, &tasks__tasks__descriptor, "Update", NULL, &req.base, NULL, err), err,
	         "update %s", id);
	return 0;
}

/* Goes on after a failure, and fails when one did. */
static int update_all(struct update *u)
{
	AUTO(buf) struct buf json = BUF_INIT;
	Pb__Any resources = PB__ANY__INIT;
	struct err err = ERR_INIT;
	int status = 0;

	if (ctl_connect(u->c, &err) < 0)
		return ctl_fail(u->c, &err);
	write_resources(u, &json);
	resources.type_url = RESOURCES_TYPE;
	resources.value = (ProtobufCBinaryData){json.n, (uint8_t *)json.p};
	for (unsigned i = 0; i < u->n_ids; i++) {
		err = ERR_INIT;
		if (update_one(u, u->ids[i], &resources, &err) < 0)
			status = ctl_fail(u->c, &err);
	}
	return status;
}

/* ---- the command line ---- */

/* "64m": k, m, g, t are powers of 1024, as docker and podman have them. */
static bool parse_size(const char *text, int64_t *out)
{
	static const char units[] = "kmgt";
	struct str s = str_of(text);
	const char *unit = s.n ? strchr(units, s.p[s.n - 1] | 0x20) : NULL;
	unsigned shift = unit && *unit ? 10 * (unsigned)(unit - units + 1) : 0;
	uint64_t n;

	if (shift)
		s.n--;
	if (!str_u64(s, 10, &n) || !n || n > (uint64_t)INT64_MAX >> shift)
		return false;
	*out = (int64_t)(n << shift);
	return true;
}

static bool parse_count(const char *text, int64_t *out)
{
	return str_i64(str_of(text), out) && *out > 0;
}

/* Kernels refuse less than a millisecond of a period. */
static bool parse_cpus(const char *text, int64_t *out)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !isfinite(v) || v < 0.01 || v > 1e6)
		return false;
	*out = (int64_t)(v * CPU_PERIOD_US + 0.5);
	return true;
}

static void take_limit(struct argp_state *state, const char *name, const char *arg, int64_t *out,
                       bool (*read)(const char *text, int64_t *out))
{
	if (!strcmp(arg, "none"))
		*out = NO_LIMIT;
	else if (!read(arg, out))
		argp_error(state, "--%s takes a number, or none, not '%s'", name, arg);
}

enum { OPT_CPUS = 256, OPT_SHARES, OPT_CPUSET, OPT_PIDS };

static const struct argp_option OPTIONS[] = {
    {"memory", 'm', "BYTES|none", 0, "most memory it may have; k, m, g after the number", 0},
    {"cpus", OPT_CPUS, "NUMBER|none", 0, "most time of processors: 1.5 is one and a half", 0},
    {"cpu-shares", OPT_SHARES, "NUMBER", 0, "its weight when processors are short (1024 is usual)", 0},
    {"cpuset-cpus", OPT_CPUSET, "LIST", 0, "processors it may run on: 0-2,4", 0},
    {"pids-limit", OPT_PIDS, "NUMBER|none", 0, "most processes and threads", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct update *u = state->input;

	switch (key) {
	case 'm':
		take_limit(state, "memory", arg, &u->memory, parse_size);
		return 0;
	case OPT_CPUS:
		take_limit(state, "cpus", arg, &u->cpu_quota_us, parse_cpus);
		return 0;
	case OPT_SHARES:
		if (!str_u64(str_of(arg), 10, &u->cpu_shares) || u->cpu_shares < 2 || u->cpu_shares > 262144)
			argp_error(state, "--cpu-shares takes a number from 2 to 262144, not '%s'", arg);
		return 0;
	case OPT_CPUSET:
		u->cpuset = arg;
		return 0;
	case OPT_PIDS:
		take_limit(state, "pids-limit", arg, &u->pids, parse_count);
		return 0;
	case ARGP_KEY_ARGS:
		u->ids = state->argv + state->next;
		u->n_ids = (unsigned)(state->argc - state->next);
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which container?");
		return 0;
	case ARGP_KEY_END:
		if (!u->memory && !u->cpu_quota_us && !u->cpu_shares && !u->cpuset && !u->pids)
			argp_error(state, "what is to change?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int ctl_update_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {OPTIONS,
	                    parse,
	                    "CONTAINER...",
	                    "Changes the limits of running containers; what is not named stays as it is.",
	                    NULL,
	                    NULL,
	                    NULL};
	struct update u = {.c = c};

	ctl_parse(c, &argp, 0, argc, argv, &u);
	return update_all(&u);
}
