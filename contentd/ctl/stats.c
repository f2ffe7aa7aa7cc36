/* contentctl stats: what running containers use, once or again and again. */
#include "contentd/ctl/container.h"
#include "contentd/ctl/term.h"

#include "base/json.h"
#include "base/map.h"
#include "rpc/proto/cgroups_v1.pb-c.h"
#include "rpc/proto/cgroups_v2.pb-c.h"

#include <stdio.h>

#define COLUMNS 7

/* Of one container at one time; LIMIT_NONE where there is no limit. */
struct usage {
	int64_t at_ns; /* wall clock */
	uint64_t cpu_ns;
	uint64_t memory, memory_limit;
	uint64_t working_set; /* memory without the files that nobody has used lately, as docker and Kubernetes count */
	uint64_t pids, pids_limit;
	uint64_t read, written; /* bytes, from and to block devices */
};
#define LIMIT_NONE UINT64_MAX

/* Controllers say "no limit" with the greatest number of pages, the greatest number at all, or 0. */
static uint64_t limit_of(uint64_t v)
{
	return v == 0 || v > INT64_MAX / 2 ? LIMIT_NONE : v;
}

static uint64_t without(uint64_t all, uint64_t part)
{
	return all > part ? all - part : 0;
}

static uint64_t sum_of(CgroupsV1__BlkIOEntry *const *entries, size_t n, const char *op)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		if (!strcasecmp(entries[i]->op, op))
			sum += entries[i]->value;
	return sum;
}

/* What a controller does not say stays 0. */
static void from_v1(const CgroupsV1__Metrics *m, struct usage *u)
{
	if (m->cpu && m->cpu->usage)
		u->cpu_ns = m->cpu->usage->total;
	if (m->memory && m->memory->usage) {
		u->memory = m->memory->usage->usage;
		u->memory_limit = limit_of(m->memory->usage->limit);
		u->working_set = without(u->memory, m->memory->total_inactive_file);
	}
	if (m->pids) {
		u->pids = m->pids->current;
		u->pids_limit = limit_of(m->pids->limit);
	}
	if (m->blkio) {
		CgroupsV1__BlkIOEntry **bytes = m->blkio->io_service_bytes_recursive;
		size_t n = m->blkio->n_io_service_bytes_recursive;

		u->read = sum_of(bytes, n, "read");
		u->written = sum_of(bytes, n, "write");
	}
}

static void from_v2(const CgroupsV2__Metrics *m, struct usage *u)
{
	if (m->cpu)
		u->cpu_ns = m->cpu->usage_usec * NS_PER_US;
	if (m->memory) {
		u->memory = m->memory->usage;
		u->memory_limit = limit_of(m->memory->usage_limit);
		u->working_set = without(u->memory, m->memory->inactive_file);
	}
	if (m->pids) {
		u->pids = m->pids->current;
		u->pids_limit = limit_of(m->pids->limit);
	}
	for (size_t i = 0; m->io && i < m->io->n_usage; i++) {
		u->read += m->io->usage[i]->rbytes;
		u->written += m->io->usage[i]->wbytes;
	}
}

static int usage_of(const Types__Metric *metric, struct usage *u, struct err *err)
{
	AUTO(pb) CgroupsV1__Metrics *v1 = NULL;
	AUTO(pb) CgroupsV2__Metrics *v2 = NULL;
	struct timespec at = pb_time(metric->timestamp);
	struct str wire;

	*u = (struct usage){
	    .at_ns = at.tv_sec * NS_PER_S + at.tv_nsec, .memory_limit = LIMIT_NONE, .pids_limit = LIMIT_NONE};
	if (!metric->data)
		return err_set(err, ERR_INTERNAL, "the daemon's answer about container %s is empty", metric->id);
	wire = str_make(metric->data->value.data, metric->data->value.len);
	if (pb_any_is(metric->data, &cgroups_v1__metrics__descriptor)) {
		TRY(pb_unpack(&cgroups_v1__metrics__descriptor, wire, &v1, err));
		from_v1(v1, u);
	} else if (pb_any_is(metric->data, &cgroups_v2__metrics__descriptor)) {
		TRY(pb_unpack(&cgroups_v2__metrics__descriptor, wire, &v2, err));
		from_v2(v2, u);
	} else {
		return err_set(err, ERR_UNIMPLEMENTED, "the runtime of container %s gives its metrics as %.200s",
		               metric->id, metric->data->type_url);
	}
	return 0;
}

/* ---- rounds ---- */

struct stats {
	struct ctl *c;
	char **ids; /* none: all that run */
	unsigned n_ids;
	const char **filters; /* for these */
	unsigned interval_s;  /* 0: once */
	struct map before;    /* id -> struct usage, of the round before this */
	struct term_table table;
	struct buf json;
	struct json_writer w;
};

/* Of one processor, since the round before; false when there is none. */
static bool cpu_percent(const struct stats *s, const char *id, const struct usage *now, double *out)
{
	const struct usage *before = map_get(&s->before, str_of(id));

	if (!before || now->at_ns <= before->at_ns || now->cpu_ns < before->cpu_ns)
		return false;
	*out = 100.0 * (double)(now->cpu_ns - before->cpu_ns) / (double)(now->at_ns - before->at_ns);
	return true;
}

static void free_usages(struct map *m)
{
	struct str id;
	void *u;

	for (size_t at = 0; map_next(m, &at, &id, &u);)
		free(u);
	map_fini(m);
}

static void remember(struct stats *s, const char *id, const struct usage *now)
{
	struct usage *kept = map_get(&s->before, str_of(id));

	if (!kept) {
		kept = xmalloc(sizeof(*kept));
		map_put(&s->before, str_of(id), kept);
	}
	*kept = *now;
}

static const char *limit_text(uint64_t limit, char dst[static 16])
{
	return limit == LIMIT_NONE ? "-" : term_size((int64_t)limit, dst);
}

static void add_row(struct stats *s, const char *id, const struct usage *u)
{
	char time[32], memory[16], limit[16], pids[24], read[16], written[16], percent[16] = "-";
	double p;

	if (cpu_percent(s, id, u, &p))
		snprintf(percent, sizeof(percent), "%.1f %%", p);
	snprintf(time, sizeof(time), "%.2f s", (double)u->cpu_ns / NS_PER_S);
	snprintf(pids, sizeof(pids), "%llu", (unsigned long long)u->pids);
	term_row(&s->table, id, time, term_size((int64_t)u->working_set, memory), limit_text(u->memory_limit, limit),
	         pids, term_size((int64_t)u->read, read), term_size((int64_t)u->written, written), percent);
}

static void add_json(struct stats *s, const char *id, const struct usage *u)
{
	struct json_writer *w = &s->w;
	double p;

	json_w_object_begin(w);
	json_w_kcstr(w, "id", id);
	json_w_ki64(w, "cpuNs", (int64_t)u->cpu_ns);
	if (cpu_percent(s, id, u, &p)) {
		json_w_key(w, "cpuPercent");
		json_w_double(w, p);
	}
	json_w_ki64(w, "memoryBytes", (int64_t)u->memory);
	json_w_ki64(w, "workingSetBytes", (int64_t)u->working_set);
	if (u->memory_limit != LIMIT_NONE)
		json_w_ki64(w, "memoryLimitBytes", (int64_t)u->memory_limit);
	json_w_ki64(w, "pids", (int64_t)u->pids);
	if (u->pids_limit != LIMIT_NONE)
		json_w_ki64(w, "pidsLimit", (int64_t)u->pids_limit);
	json_w_ki64(w, "readBytes", (int64_t)u->read);
	json_w_ki64(w, "writtenBytes", (int64_t)u->written);
	json_w_object_end(w);
}

/* Ids are quoted, as they come from the command line. */
static void make_filters(struct stats *s)
{
	s->filters = arena_zalloc(&s->c->arena, s->n_ids + 1, sizeof(*s->filters));
	for (unsigned i = 0; i < s->n_ids; i++) {
		AUTO(buf) struct buf quoted = BUF_INIT;
		struct json_writer w;

		json_writer_init(&w, &quoted, NULL);
		json_w_cstr(&w, s->ids[i]);
		s->filters[i] = arena_printf(&s->c->arena, "id==%s", buf_cstr(&quoted));
	}
}

/* Those that have ended have metrics too, as long as their tasks are there. */
static bool runs(const Tasks__ListTasksResponse *tasks, const char *id)
{
	for (size_t i = 0; i < tasks->n_tasks; i++)
		if (!strcmp(tasks->tasks[i]->id, id))
			return tasks->tasks[i]->status != TASK_TYPES__STATUS__STOPPED;
	return false;
}

static int ask(struct stats *s, Tasks__ListTasksResponse **tasks, Tasks__MetricsResponse **metrics, struct err *err)
{
	Tasks__ListTasksRequest list = TASKS__LIST_TASKS_REQUEST__INIT;
	Tasks__MetricsRequest req = TASKS__METRICS_REQUEST__INIT;

	req.filters = s->filters;
	req.n_filters = s->n_ids;
	TRY(rpc_call(s->c->client, &tasks__tasks__descriptor, "List", NULL, &list.base, tasks, err));
	return rpc_call(s->c->client, &tasks__tasks__descriptor, "Metrics", NULL, &req.base, metrics, err);
}

static int check_all_run(const struct stats *s, const Tasks__ListTasksResponse *tasks, struct err *err)
{
	for (unsigned i = 0; i < s->n_ids; i++)
		if (!runs(tasks, s->ids[i]))
			return err_set(err, ERR_NOT_FOUND, "stats %s: no such container runs", s->ids[i]);
	return 0;
}

/* Prints a round; *n: how many containers it has. */
static int round_of(struct stats *s, bool first, size_t *n, struct err *err)
{
	AUTO(pb) Tasks__ListTasksResponse *tasks = NULL;
	AUTO(pb) Tasks__MetricsResponse *rsp = NULL;
	struct usage u;

	*n = 0;
	TRY(ask(s, &tasks, &rsp, err));
	if (first)
		TRY(check_all_run(s, tasks, err));
	buf_clear(&s->json);
	json_writer_init(&s->w, &s->json, s->interval_s ? NULL : "  ");
	json_w_array_begin(&s->w);
	s->table.columns = COLUMNS + (s->interval_s ? 1 : 0);
	term_row(&s->table, "CONTAINER", "CPU TIME", "MEMORY", "LIMIT", "PIDS", "READ", "WRITTEN", "CPU");
	for (size_t i = 0; i < rsp->n_metrics; i++) {
		const char *id = rsp->metrics[i]->id;

		if (!runs(tasks, id))
			continue;
		++*n;
		TRY(usage_of(rsp->metrics[i], &u, err));
		if (s->c->json)
			add_json(s, id, &u);
		else
			add_row(s, id, &u);
		remember(s, id, &u);
	}
	json_w_array_end(&s->w);
	if (s->c->json)
		printf("%s\n", buf_cstr(&s->json));
	else
		term_table_print(&s->table);
	fflush(stdout);
	return 0;
}

/* With --interval: until nothing is left of what was named, the daemon goes, or somebody ends us. */
static int run(struct stats *s, struct err *err)
{
	size_t n;

	make_filters(s);
	TRY(ctl_connect(s->c, err));
	TRY(round_of(s, true, &n, err));
	while (s->interval_s && (n || !s->n_ids) && !ferror(stdout)) {
		sleep(s->interval_s);
		if (!s->c->json)
			printf("\n");
		TRY(round_of(s, false, &n, err));
	}
	return 0;
}

static const struct argp_option OPTIONS[] = {
    {"interval", 'i', "SECONDS", 0, "again and again, and how busy they were meanwhile: 100 % is one processor", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct stats *s = state->input;
	uint64_t n;

	switch (key) {
	case 'i':
		if (!str_u64(str_of(arg), 10, &n) || !n || n > 86400)
			argp_error(state, "--interval takes seconds, from 1 to 86400, not '%s'", arg);
		s->interval_s = (unsigned)n;
		return 0;
	case ARGP_KEY_ARGS:
		s->ids = state->argv + state->next;
		s->n_ids = (unsigned)(state->argc - state->next);
		state->next = state->argc;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int ctl_stats_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {
	    OPTIONS,
	    parse,
	    "[CONTAINER...]",
	    "Shows what running containers use: time of processors, memory (without the cache of files that "
	    "nobody has used lately), processes, bytes read from and written to disks.",
	    NULL,
	    NULL,
	    NULL};
	struct stats s = {
	    .c = c, .before = MAP_INIT, .table = {.columns = COLUMNS, .cells = VEC_INIT}, .json = BUF_INIT};
	struct err err = ERR_INIT;
	int r;

	ctl_parse(c, &argp, 0, argc, argv, &s);
	r = run(&s, &err);
	free_usages(&s.before);
	buf_fini(&s.json);
	return r < 0 ? ctl_fail(c, &err) : 0;
}
