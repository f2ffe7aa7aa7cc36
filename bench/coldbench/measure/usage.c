#include "bench/coldbench/measure/usage.h"

#include "base/clock.h"
#include "base/file.h"
#include "bench/coldbench/measure/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/* Processes come and go while they are read: it is done again until nothing has changed, this often at most. */
#define READS_MAX 4

/* A process that sleeps in the kernel dies when that has let go of it. */
#define KILLED_NS (10 * NS_PER_S)

/* What coldbench itself has waited for, the pulling command for one. */
#define WAITED_FOR "commands"

/* A line of /proc/PID/stat. */
struct proc {
	pid_t pid, parent;
	uint64_t begun; /* with the number, who it is */
	char comm[32], state;
	uint64_t minflt, child_minflt, majflt, child_majflt;
	uint64_t ticks, child_ticks;
	enum { UNKNOWN, OURS, NOT_OURS } whose;
};

struct procs {
	VEC(struct proc) items; /* by number */
};

/* Who ran when usage_begin was called. */
static struct procs harness;

static void procs_fini(struct procs *p)
{
	vec_fini(&p->items);
}
DEFINE_AUTO_FINI(procs);

void usage_fini(struct usage *u)
{
	vec_fini(&u->processes);
}

/* ---- /proc ---- */

/* Fields have their numbers of proc_pid_stat(5). The name may hold anything, what follows its last ')' does not. */
static bool parse_stat(struct str line, struct proc *out)
{
	ptrdiff_t open = str_find(line, '('), close = str_rfind(line, ')');
	uint64_t fields[23] = {0};
	struct str rest, field;
	size_t n;

	if (open < 0 || close <= open)
		return false;
	rest = str_trim(str_sub(line, (size_t)close + 1, SIZE_MAX));
	for (n = 3; n < ARRAY_LEN(fields) && str_split(&rest, ' ', &field); n++)
		if (n == 3)
			out->state = field.n ? *field.p : '?';
		else
			str_u64(field, 10, &fields[n]); /* none of those that are wanted is negative */
	if (n < ARRAY_LEN(fields))
		return false;
	str_copy(str_sub(line, (size_t)open + 1, (size_t)(close - open - 1)), out->comm, sizeof(out->comm));
	out->parent = (pid_t)fields[4];
	out->minflt = fields[10];
	out->child_minflt = fields[11];
	out->majflt = fields[12];
	out->child_majflt = fields[13];
	out->ticks = fields[14] + fields[15];
	out->child_ticks = fields[16] + fields[17];
	out->begun = fields[22];
	return true;
}

static int by_number(const void *a, const void *b)
{
	const struct proc *x = a, *y = b;

	return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct proc *find(const struct procs *all, pid_t pid)
{
	struct proc key = {.pid = pid};

	return all->items.n ? bsearch(&key, all->items.p, all->items.n, sizeof(key), by_number) : NULL;
}

static bool is_harness(const struct proc *p)
{
	const struct proc *then = find(&harness, p->pid);

	return then && then->begun == p->begun;
}

/* Ours are those below this process, with nobody between (or themselves) who is left out. */
static void decide(struct procs *all, struct proc *p, const pid_t *inits, size_t n_inits)
{
	struct proc *parent;

	if (p->whose != UNKNOWN)
		return;
	p->whose = NOT_OURS; /* also ends a circle, which a number used anew while all is read could make */
	for (size_t i = 0; i < n_inits; i++)
		if (p->pid == inits[i])
			return;
	if (is_harness(p))
		return;
	if (p->parent == getpid()) {
		p->whose = OURS;
		return;
	}
	parent = find(all, p->parent);
	if (!parent)
		return;
	decide(all, parent, inits, n_inits);
	if (parent->pid != getpid())
		p->whose = parent->whose;
}

/* All of the machine in one go, then ours of them. */
static int read_ours(const pid_t *inits, size_t n_inits, struct procs *out, struct err *err)
{
	AUTO(procs) struct procs all = {0};
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_DIR DIR *dir = opendir("/proc");
	struct dirent *entry;
	uint64_t pid;

	if (!dir)
		return err_errno(err, errno, "open /proc");
	while ((entry = readdir(dir))) {
		struct proc p = {0};

		if (!str_u64(str_of(entry->d_name), 10, &pid) || pid > INT_MAX)
			continue;
		p.pid = (pid_t)pid;
		if (proc_read(p.pid, "stat", &text) && parse_stat(buf_str(&text), &p))
			vec_push(&all.items, p);
	}
	qsort(all.items.p, all.items.n, sizeof(*all.items.p), by_number);
	vec_clear(&out->items);
	vec_each(&all.items, p) {
		decide(&all, p, inits, n_inits);
		if (p->whose == OURS)
			vec_push(&out->items, *p);
	}
	return 0;
}

/* The same processes, and none has waited for another meanwhile. */
static bool same(const struct procs *a, const struct procs *b)
{
	if (a->items.n != b->items.n)
		return false;
	for (size_t i = 0; i < a->items.n; i++) {
		const struct proc *x = &a->items.p[i], *y = &b->items.p[i];

		if (x->pid != y->pid || x->begun != y->begun || x->child_ticks != y->child_ticks)
			return false;
	}
	return true;
}

/* ---- what one has used ---- */

/* "Name:  123 kB" of status and smaps_rollup. */
static uint64_t kilobytes(struct str text, struct str key)
{
	struct str line, number;
	uint64_t n;

	while (str_split(&text, '\n', &line)) {
		if (!str_skip(&line, key))
			continue;
		line = str_trim(line);
		if (str_split(&line, ' ', &number) && str_u64(number, 10, &n))
			return n * 1024;
	}
	return 0;
}

/* The file it runs. A zombie has none any more, but what it called itself. */
static void name_of(const struct proc *p, char name[32])
{
	char link[64], path[PATH_MAX];
	ssize_t n;
	struct str file;

	snprintf(link, sizeof(link), "/proc/%d/exe", (int)p->pid);
	n = readlink(link, path, sizeof(path));
	file = n > 0 ? str_make(path, (size_t)n) : str_of(p->comm);
	if (str_ends(file, STR(" (deleted)")))
		file.n -= strlen(" (deleted)");
	if (n > 0)
		file = str_sub(file, (size_t)(str_rfind(file, '/') + 1), SIZE_MAX);
	if (!str_copy(str_sub(file, 0, 31), name, 32))
		strcpy(name, "?");
	text_clean(name);
}

/* All its threads, in nanoseconds while it lives and in ticks afterwards; those it has waited for in ticks. */
static double cpu_of(const struct proc *p)
{
	double tick_s = 1.0 / (double)sysconf(_SC_CLK_TCK), own_s = (double)p->ticks * tick_s;
	struct timespec t;
	clockid_t clock;

	if (!clock_getcpuclockid(p->pid, &clock) && !clock_gettime(clock, &t))
		own_s = (double)t.tv_sec + (double)t.tv_nsec / NS_PER_S;
	return own_s + (double)p->child_ticks * tick_s;
}

static struct usage_process *entry(struct usage *u, const char *name)
{
	struct usage_process *added;

	vec_each(&u->processes, p)
		if (!strcmp(p->name, name))
			return p;
	added = vec_add(&u->processes);
	snprintf(added->name, sizeof(added->name), "%s", name);
	return added;
}

static void add(struct usage *u, const struct proc *p, bool with_pss, struct buf *text)
{
	struct usage_process *to;
	uint64_t peak;
	char name[32];

	name_of(p, name);
	to = entry(u, name);
	to->cpu_s += cpu_of(p);
	to->majflt += p->majflt + p->child_majflt;
	to->minflt += p->minflt + p->child_minflt;
	if (p->state == 'Z')
		return;
	to->count++;
	peak = proc_read(p->pid, "status", text) ? kilobytes(buf_str(text), STR("VmHWM:")) : 0;
	if (peak > to->peak_bytes)
		to->peak_bytes = peak;
	if (!with_pss)
		return;
	if (proc_read(p->pid, "smaps_rollup", text)) {
		to->pss_bytes += kilobytes(buf_str(text), STR("Pss:"));
	} else {
		u->n_unread++;
		u->unread_errno = errno;
	}
}

static void add_waited_for(struct usage *u)
{
	struct usage_process *to = entry(u, WAITED_FOR);
	struct rusage r;

	getrusage(RUSAGE_CHILDREN, &r);
	to->cpu_s =
	    (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
	to->majflt = (uint64_t)r.ru_majflt;
	to->minflt = (uint64_t)r.ru_minflt;
}

/*
 * Nobody counts twice: a process is there with its own time, as a zombie, too, until somebody waits for it, and from then on
 * in the time of that one's children. Orphans come to us, their subreaper; we wait for them in usage_end alone.
 */
int usage_take(const pid_t *inits, size_t n_inits, bool with_pss, struct usage *out, struct err *err)
{
	AUTO(procs) struct procs procs = {0};
	AUTO(procs) struct procs again = {0};
	AUTO(buf) struct buf text = BUF_INIT;

	*out = (struct usage){0};
	TRY(read_ours(inits, n_inits, &procs, err));
	for (unsigned i = 1; i < READS_MAX; i++) {
		struct procs older = procs;

		TRY(read_ours(inits, n_inits, &again, err));
		procs = again;
		again = older;
		if (same(&procs, &again))
			break;
	}
	vec_each(&procs.items, p)
		add(out, p, with_pss, &text);
	add_waited_for(out);
	return 0;
}

int usage_begin(struct err *err)
{
	vec_fini(&harness.items);
	return read_ours(NULL, 0, &harness, err);
}

/* Waits for orphans, and tells whether anybody runs still. */
static int reap(struct procs *procs, bool *alive, struct err *err)
{
	TRY(read_ours(NULL, 0, procs, err));
	*alive = false;
	vec_each(&procs->items, p)
		if (p->state != 'Z')
			*alive = true;
		else if (p->parent == getpid())
			waitpid(p->pid, NULL, WNOHANG);
	return 0;
}

static void say_alive(const struct procs *procs, struct buf *out)
{
	char name[32];

	vec_each(&procs->items, p) {
		if (p->state == 'Z')
			continue;
		name_of(p, name);
		buf_addf(out, "%s%s (%d)", out->n ? ", " : "", name, (int)p->pid);
	}
}

static void kill_all(const struct procs *procs)
{
	vec_each(&procs->items, p)
		if (p->state != 'Z')
			kill(p->pid, SIGKILL);
}

int usage_kill(struct err *err)
{
	AUTO(procs) struct procs procs = {0};

	TRY(read_ours(NULL, 0, &procs, err));
	kill_all(&procs);
	return 0;
}

int usage_end(int64_t grace_ns, struct buf *left, struct err *err)
{
	AUTO(procs) struct procs procs = {0};
	int64_t deadline_ns = clock_mono_ns() + grace_ns;
	bool alive;

	TRY(reap(&procs, &alive, err));
	while (alive && clock_mono_ns() < deadline_ns) {
		usleep(5000);
		TRY(reap(&procs, &alive, err));
	}
	say_alive(&procs, left);
	deadline_ns = clock_mono_ns() + KILLED_NS;
	while (alive && clock_mono_ns() < deadline_ns) {
		kill_all(&procs);
		usleep(5000);
		TRY(reap(&procs, &alive, err));
	}
	return alive ? err_set(err, ERR_INTERNAL, "processes outlive SIGKILL: %s", buf_cstr(left)) : 0;
}

/* ---- the difference ---- */

static double from(double before, double after)
{
	/* The time of a program whose processes have ended has gone to who waited for them. */
	return after > before ? after - before : 0;
}

void usage_sample(const struct usage *before, const struct usage *after, struct sample *s)
{
	double cpu_s = 0, majflt = 0;

	vec_each(&before->processes, p) {
		cpu_s -= p->cpu_s;
		majflt -= (double)p->majflt;
	}
	vec_each(&after->processes, p) {
		struct usage_process then = {0};

		vec_each(&before->processes, q)
			if (!strcmp(p->name, q->name))
				then = *q;
		cpu_s += p->cpu_s;
		majflt += (double)p->majflt;
		if (!p->count && p->cpu_s <= then.cpu_s && p->minflt <= then.minflt)
			continue;
		sample_setf(s, from(then.cpu_s, p->cpu_s), "cpu_s.%s", p->name);
		sample_setf(s, from((double)then.majflt, (double)p->majflt), "majflt.%s", p->name);
		sample_setf(s, from((double)then.minflt, (double)p->minflt), "minflt.%s", p->name);
		if (p->count) {
			sample_setf(s, p->count, "processes.%s", p->name);
			sample_setf(s, (double)p->peak_bytes, "peak_bytes.%s", p->name);
		}
		if (p->pss_bytes)
			sample_setf(s, (double)p->pss_bytes, "pss_bytes.%s", p->name);
	}
	sample_set(s, "cpu_s", cpu_s > 0 ? cpu_s : 0);
	sample_set(s, "majflt", majflt > 0 ? majflt : 0);
}
