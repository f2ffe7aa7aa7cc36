#include "contentd/tasks/process.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define NOTE "shim-process" /* "<pid> <start time>", as /proc/<pid>/stat has them */
#define CMDLINE_BYTES_MAX (1u << 20)
#define STAT_BYTES_MAX 4096
#define END_PATIENCE (5 * NS_PER_S)

/* ---- what the kernel says of a process ---- */

/* State and start time, in ticks since boot: fields 3 and 22 (proc_pid_stat(5)). The name before them may hold anything. */
static bool read_stat(uint32_t pid, char *state, unsigned long long *began)
{
	AUTO_FREE char *path = xasprintf("/proc/%u/stat", pid);
	AUTO(buf) struct buf text = BUF_INIT;
	const char *after;

	if (file_read(AT_FDCWD, path, STAT_BYTES_MAX, &text, NULL) < 0)
		return false;
	after = strrchr(buf_cstr(&text), ')');
	return after &&
	       sscanf(after + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
	              state, began) == 2;
}

bool process_runs(uint32_t pid)
{
	unsigned long long began;
	char state;

	return pid && read_stat(pid, &state, &began) && state != 'Z' && state != 'X';
}

/* What a shim's command line has in it. */
struct line {
	bool of_ns, of_id, of_address;
	bool is_action; /* it ends with "start" or "delete": that is a program of ours at work */
};

static bool is_flag(struct str arg, const char *name)
{
	if (!str_skip(&arg, STR("--")))
		str_skip(&arg, STR("-"));
	return str_eqc(arg, name);
}

/* False when there is no such process, or one of the kernel's own. */
static bool read_line(uint32_t pid, const struct bundle *b, const char *address, struct line *out)
{
	AUTO_FREE char *path = xasprintf("/proc/%u/cmdline", pid);
	struct str rest, arg = STR_NONE, before = STR_NONE;
	AUTO(buf) struct buf text = BUF_INIT;

	*out = (struct line){false};
	if (file_read(AT_FDCWD, path, CMDLINE_BYTES_MAX, &text, NULL) < 0 || !text.n)
		return false;
	for (rest = buf_str(&text); rest.n && str_split(&rest, '\0', &arg); before = arg) {
		out->of_ns |= is_flag(before, "namespace") && str_eqc(arg, b->ns);
		out->of_id |= is_flag(before, "id") && str_eqc(arg, b->id);
		out->of_address |= is_flag(before, "address") && str_eqc(arg, address);
	}
	out->is_action = str_eqc(arg, "start") || str_eqc(arg, "delete");
	return true;
}

/* ---- which one it is ---- */

void shim_process_note(const struct bundle *b, uint32_t pid)
{
	AUTO_FREE char *known = NULL, *note = NULL;
	unsigned long long began;
	struct err err = ERR_INIT;
	struct line line;
	char state;

	if (pid < 2 || pid == (uint32_t)getpid() || bundle_read(b, NOTE, &known, NULL) >= 0)
		return;
	if (!read_stat(pid, &state, &began) || !read_line(pid, b, "", &line) || !line.of_ns)
		return;
	note = xasprintf("%u %llu\n", pid, began);
	if (bundle_write(b, NOTE, note, &err) < 0)
		log_warn("task %s: %s", b->id, err.msg);
}

/* -1: none was noted, or it has ended. *known: there was a note. */
static int open_noted(const struct bundle *b, bool *known)
{
	AUTO_FREE char *text = NULL;
	unsigned long long noted, began;
	AUTO_FD int fd = -1;
	unsigned pid;
	char state;

	*known = bundle_read(b, NOTE, &text, NULL) >= 0 && sscanf(text, "%u %llu", &pid, &noted) == 2 && pid > 1 &&
	         pid <= INT32_MAX;
	if (!*known)
		return -1;
	/* Opened first: what is read afterwards is of the process that the descriptor stands for, or it has ended. */
	fd = pidfd_open((pid_t)pid, 0);
	if (fd < 0 || !read_stat(pid, &state, &began) || began != noted)
		return -1;
	return STEAL_FD(fd);
}

static int open_if_started_for(const char *name, const struct bundle *b, const char *address)
{
	AUTO_FD int fd = -1;
	struct line line;
	uint64_t pid;

	if (!str_u64(str_of(name), 10, &pid) || pid < 2 || pid > INT32_MAX || pid == (uint64_t)getpid())
		return -1;
	fd = pidfd_open((pid_t)pid, 0);
	if (fd < 0 || !read_line((uint32_t)pid, b, address, &line))
		return -1;
	return line.of_ns && line.of_id && line.of_address && !line.is_action ? STEAL_FD(fd) : -1;
}

/* A shim goes on with the arguments of its `start`, but for that word. -1 when there is none. */
static int open_started_for(const struct bundle *b, const char *address)
{
	AUTO_FD int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	int fd = -1;

	if (proc < 0 || dir_iter_open(proc, &d, NULL) < 0)
		return -1;
	while (fd < 0 && dir_iter_next(d, &e, NULL) > 0)
		fd = open_if_started_for(e->d_name, b, address);
	return fd;
}

int shim_process_end(const struct shim_env *env, const struct bundle *b, struct err *err)
{
	bool known;
	AUTO_FD int fd = open_noted(b, &known);
	struct pollfd p;

	if (!known)
		fd = open_started_for(b, env->address);
	if (fd < 0)
		return err_set(err, ERR_NOT_FOUND, "the process of its shim is not known");
	if (pidfd_send_signal(fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return err_errno(err, errno, "end the shim of %s", b->id);
	p = (struct pollfd){.fd = fd, .events = POLLIN};
	if (poll(&p, 1, END_PATIENCE / NS_PER_MS) <= 0)
		return err_set(err, ERR_DEADLINE, "the shim of %s does not end", b->id);
	return 0;
}
