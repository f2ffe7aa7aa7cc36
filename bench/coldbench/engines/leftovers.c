/* What engines leave behind. */
#include "bench/coldbench/engines/leftovers.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/vec.h"
#include "bench/coldbench/measure/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define CGROUPS "/sys/fs/cgroup"
#define CGROUPS_DEPTH_MAX 12
#define RUNC_STATE "/run/containerd/runc"
#define PROC_FILE_MAX_BYTES (4 << 20)
#define TERM_NS (2 * NS_PER_S)
#define KILL_NS (5 * NS_PER_S)
#define STEP_US 10000

char *leftovers_name(void)
{
	static unsigned n;

	return xasprintf("coldbench-%d-%u", (int)getpid(), ++n);
}

/* ---- control groups ---- */

static void kill_in(int dir_fd)
{
	AUTO(buf) struct buf pids = BUF_INIT;
	struct str rest, line;
	uint64_t pid;

	if (file_read(dir_fd, "cgroup.procs", PROC_FILE_MAX_BYTES, &pids, NULL) < 0)
		return;
	rest = buf_str(&pids);
	while (str_split(&rest, '\n', &line))
		if (str_u64(line, 10, &pid) && pid > 1)
			kill((pid_t)pid, SIGKILL);
}

/* Goes through the tree below a group, children first, and kills or removes what is at or below one of that name. Links to
 * hierarchies (cpu -> cpu,cpuacct) are not followed. */
static void walk_groups(int parent_fd, const char *entry, const char *name, bool inside, bool remove, unsigned depth)
{
	AUTO_FD int fd = openat(parent_fd, entry, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_DIR DIR *d = NULL;
	struct dirent *it;

	inside = inside || !strcmp(entry, name);
	if (fd < 0 || depth > CGROUPS_DEPTH_MAX || dir_iter_open(fd, &d, NULL) < 0)
		return;
	while (dir_iter_next(d, &it, NULL) > 0)
		if (it->d_type == DT_DIR)
			walk_groups(fd, it->d_name, name, inside, remove, depth + 1);
	if (inside && !remove)
		kill_in(fd);
	else if (inside)
		unlinkat(parent_fd, entry, AT_REMOVEDIR);
}

void leftovers_kill(const char *name)
{
	walk_groups(AT_FDCWD, CGROUPS, name, false, false, 0);
}

static bool find_group(int parent_fd, const char *entry, const char *name, unsigned depth)
{
	AUTO_FD int fd = openat(parent_fd, entry, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_DIR DIR *d = NULL;
	struct dirent *it;

	if (!strcmp(entry, name))
		return true;
	if (fd < 0 || depth > CGROUPS_DEPTH_MAX || dir_iter_open(fd, &d, NULL) < 0)
		return false;
	while (dir_iter_next(d, &it, NULL) > 0)
		if (it->d_type == DT_DIR && find_group(fd, it->d_name, name, depth + 1))
			return true;
	return false;
}

/* A killed process is in its group until it is reaped. */
static int remove_groups(const char *name, struct err *err)
{
	int64_t deadline_ns = clock_mono_ns() + KILL_NS;

	for (;;) {
		walk_groups(AT_FDCWD, CGROUPS, name, false, true, 0);
		if (!find_group(AT_FDCWD, CGROUPS, name, 0))
			return 0;
		if (clock_mono_ns() > deadline_ns)
			return err_set(err, ERR_INTERNAL, "control groups %s could not be removed", name);
		leftovers_kill(name);
		usleep(STEP_US);
	}
}

/* ---- processes ---- */

struct process {
	pid_t pid, parent;
	bool zombie, found, spared;
};

struct processes {
	VEC(struct process) items;
};

static void processes_fini(struct processes *p)
{
	vec_fini(&p->items);
}
DEFINE_AUTO_FINI(processes);

static struct process *find(struct processes *all, pid_t pid)
{
	vec_each(&all->items, p)
		if (p->pid == pid)
			return p;
	return NULL;
}

/* Is the folder, or something in it, in one of the arguments? */
static bool args_have(struct str args, const char *dir)
{
	struct str arg;

	while (str_split(&args, '\0', &arg)) {
		const char *at = memmem(arg.p, arg.n, dir, strlen(dir));
		size_t end = at ? (size_t)(at - arg.p) + strlen(dir) : 0;

		if (at && (end == arg.n || arg.p[end] == '/'))
			return true;
	}
	return false;
}

static bool read_process(pid_t pid, const char *dir, struct process *out)
{
	AUTO(buf) struct buf text = BUF_INIT;
	const char *rest;
	char state;
	int parent;

	/* The name may hold anything, what follows its last ')' does not. */
	if (!proc_read(pid, "stat", &text) || !(rest = strrchr(buf_cstr(&text), ')')) ||
	    sscanf(rest, ") %c %d", &state, &parent) != 2)
		return false;
	*out = (struct process){.pid = pid, .parent = parent, .zombie = state == 'Z'};
	out->found = proc_read(pid, "cmdline", &text) && args_have(buf_str(&text), dir);
	return true;
}

static bool descends(struct processes *all, const struct process *p, pid_t from)
{
	for (unsigned n = 0; p && n < 1000; n++) {
		if (p->parent == from)
			return true;
		p = find(all, p->parent);
	}
	return false;
}

/* Those of the folder and all below them; only what descends from us. */
static void find_processes(const char *dir, struct processes *out)
{
	AUTO_DIR DIR *d = opendir("/proc");
	struct dirent *it;
	bool more = true;

	vec_clear(&out->items);
	while (d && (it = readdir(d))) {
		struct process p;

		if (it->d_name[0] >= '1' && it->d_name[0] <= '9' && read_process(atoi(it->d_name), dir, &p))
			vec_push(&out->items, p);
	}
	vec_each(&out->items, p)
		p->spared = p->zombie || !descends(out, p, getpid());
	while (more) {
		more = false;
		vec_each(&out->items, p) {
			const struct process *parent = find(out, p->parent);

			if (p->found || !parent || !parent->found || parent->spared)
				continue;
			p->found = more = true;
		}
	}
}

/* How many are left. */
static size_t signal_processes(const struct processes *all, int sig, pid_t *one)
{
	size_t n = 0;

	vec_each(&all->items, p) {
		if (!p->found || p->spared)
			continue;
		n++;
		*one = p->pid;
		if (sig)
			kill(p->pid, sig);
	}
	return n;
}

static void reap(const struct processes *all)
{
	vec_each(&all->items, p)
		if (p->found && !p->spared && p->parent == getpid())
			waitpid(p->pid, NULL, WNOHANG);
}

static int end_processes(const char *dir, struct err *err)
{
	AUTO(processes) struct processes now = {VEC_INIT};
	int64_t begun_ns = clock_mono_ns();
	int sig = SIGTERM;
	pid_t one = 0;

	find_processes(dir, &now);
	while (signal_processes(&now, sig, &one)) {
		int64_t past_ns = clock_mono_ns() - begun_ns;

		if (past_ns > TERM_NS + KILL_NS)
			return err_set(err, ERR_INTERNAL, "process %d could not be ended", (int)one);
		sig = past_ns > TERM_NS ? SIGKILL : 0;
		usleep(STEP_US);
		reap(&now);
		find_processes(dir, &now);
	}
	return 0;
}

/* ---- mounts ---- */

/* proc_pid_mountinfo(5): blanks and backslashes are octal. */
static char *unescape(struct str s)
{
	AUTO(buf) struct buf out = BUF_INIT;

	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\\' && s.n - i > 3) {
			buf_addc(&out, (char)((s.p[i + 1] - '0') * 64 + (s.p[i + 2] - '0') * 8 + (s.p[i + 3] - '0')));
			i += 3;
		} else {
			buf_addc(&out, s.p[i]);
		}
	}
	return buf_steal(&out);
}

void leftovers_mounts(struct str mountinfo, const char *dir, struct argv *out)
{
	struct str line, field;
	size_t n = strlen(dir);

	while (str_split(&mountinfo, '\n', &line)) {
		AUTO_FREE char *at = NULL;
		int i = 0;

		while (i < 5 && str_split(&line, ' ', &field))
			i++;
		if (i < 5)
			continue;
		at = unescape(field);
		if (!strncmp(at, dir, n) && (!at[n] || at[n] == '/'))
			argv_add(out, at);
	}
	for (size_t i = 0; i < out->n / 2; i++) {
		char *swap = out->p[i];

		out->p[i] = out->p[out->n - 1 - i];
		out->p[out->n - 1 - i] = swap;
	}
}

static int find_mounts(const char *dir, struct argv *out, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;

	argv_fini(out);
	TRY(file_read(AT_FDCWD, "/proc/self/mountinfo", PROC_FILE_MAX_BYTES, &text, err));
	leftovers_mounts(buf_str(&text), dir, out);
	return 0;
}

static int end_mounts(const char *dir, struct err *err)
{
	AUTO(argv) struct argv mounts = ARGV_INIT;

	TRY(find_mounts(dir, &mounts, err));
	for (size_t i = 0; i < mounts.n; i++)
		if (umount2(mounts.p[i], UMOUNT_NOFOLLOW))
			umount2(mounts.p[i], UMOUNT_NOFOLLOW | MNT_DETACH);
	TRY(find_mounts(dir, &mounts, err));
	if (mounts.n)
		return err_set(err, ERR_INTERNAL, "%s could not be unmounted", mounts.p[0]);
	return 0;
}

/* ---- all ---- */

static int end_runc_state(const char *name, struct err *err)
{
	AUTO_FD int fd = open(RUNC_STATE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? 0 : dir_remove(fd, name, err);
}

int leftovers_end(const struct engine *e, const char *name, struct err *err)
{
	struct err first = ERR_INIT;
	struct err *note = &first;

	leftovers_kill(name);
	if (end_processes(e->dir, note) < 0)
		note = NULL;
	if (end_mounts(e->dir, note) < 0)
		note = NULL;
	if (remove_groups(name, note) < 0)
		note = NULL;
	if (end_runc_state(name, note) < 0)
		note = NULL;
	if (!note && err)
		*err = first;
	return note ? 0 : -(int)first.code;
}
