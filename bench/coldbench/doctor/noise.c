#include "bench/coldbench/doctor/noise.h"

#include "bench/coldbench/verb.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/vec.h"
#include "bench/coldbench/measure/cold.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

#define SPINS 200
#define SLEEPS 200
#define SYNCS 20
#define SEED 1
#define BLOCK_BYTES (1 << 20)

static double ms_since(int64_t begun_ns)
{
	return (double)(clock_mono_ns() - begun_ns) / NS_PER_MS;
}

/* A small file of the kernel's, without the new line at its end; "" when it cannot be read. */
static const char *read_line(const char *path, char *dst, size_t dst_bytes)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct str line, rest;

	*dst = '\0';
	if (file_read(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
		return dst;
	rest = buf_str(&text);
	if (str_split(&rest, '\n', &line))
		str_copy(str_sub(line, 0, dst_bytes - 1), dst, dst_bytes);
	return dst;
}

/* ---- who else runs ---- */

/* Processor time of the whole system by now, in ticks. */
struct ticks {
	double busy, steal, all;
};

static struct ticks ticks_now(void)
{
	unsigned long long user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
	struct ticks t = {0};
	char line[512];

	sscanf(read_line("/proc/stat", line, sizeof(line)), "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice,
	       &system, &idle, &iowait, &irq, &softirq, &steal);
	t.busy = (double)(user + nice + system + irq + softirq);
	t.steal = (double)steal;
	t.all = t.busy + t.steal + (double)(idle + iowait);
	return t;
}

struct process {
	pid_t pid;
	char name[17];
	double ticks;
};

struct process_list {
	VEC(struct process) items;
};

static void process_list_fini(struct process_list *l)
{
	vec_fini(&l->items);
}
DEFINE_AUTO_FINI(process_list);

static bool process_read(pid_t pid, struct process *out)
{
	unsigned long long user, system;
	char path[64], line[1024], *name_end;
	char *name;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	read_line(path, line, sizeof(line));
	name = strchr(line, '(');
	name_end = strrchr(line, ')');
	if (!name || !name_end ||
	    sscanf(name_end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
		return false;
	*name_end = '\0';
	*out = (struct process){.pid = pid, .ticks = (double)(user + system)};
	snprintf(out->name, sizeof(out->name), "%s", name + 1);
	text_clean(out->name);
	return true;
}

static void list_processes(struct process_list *out)
{
	AUTO_DIR DIR *d = opendir("/proc");
	struct dirent *entry;
	struct process p;
	uint64_t pid;

	while (d && (entry = readdir(d)))
		if (str_u64(str_of(entry->d_name), 10, &pid) && (pid_t)pid != getpid() && process_read((pid_t)pid, &p))
			vec_push(&out->items, p);
}

static double ticks_before(const struct process_list *before, pid_t pid)
{
	vec_each(&before->items, p)
		if (p->pid == pid)
			return p->ticks;
	return 0;
}

static void name_busiest(const struct process_list *before, double wall_s, struct noise *out)
{
	AUTO(process_list) struct process_list now = {0};
	struct process most = {0};

	list_processes(&now);
	vec_each(&now.items, p) {
		p->ticks -= ticks_before(before, p->pid);
		if (p->ticks > most.ticks)
			most = *p;
	}
	if (most.pid)
		snprintf(out->busiest, sizeof(out->busiest), "%s (pid %d) with %.2f processors", most.name, most.pid,
		         most.ticks / (double)sysconf(_SC_CLK_TCK) / wall_s);
	else
		snprintf(out->busiest, sizeof(out->busiest), "one that has ended");
}

static double own_cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- the same again and again ---- */

static int time_spins(bool quick, int cancel_fd, struct noise *out, struct err *err)
{
	double ms[SPINS];
	size_t n = quick ? SPINS / 4 : SPINS;

	for (size_t i = 0; i < n; i++) {
		TRY(verb_check(cancel_fd, err));
		ms[i] = noise_spin_ms();
	}
	stats_summary(ms, n, SEED, &out->spin);
	return 0;
}

static void time_sleeps(struct noise *out)
{
	double late_ms[SLEEPS];

	for (size_t i = 0; i < SLEEPS; i++) {
		int64_t begun = clock_mono_ns(), due = begun + NS_PER_MS;
		struct timespec at = {due / NS_PER_S, due % NS_PER_S};

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
			;
		late_ms[i] = ms_since(due);
	}
	stats_summary(late_ms, SLEEPS, SEED, &out->timer);
}

static void look_at_frequency(struct noise *out)
{
	AUTO(buf) struct buf info = BUF_INIT;
	struct str rest, line;
	double lowest = 0, highest = 0, mhz;
	char text[64];

	if (!*read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", out->governor, sizeof(out->governor)))
		snprintf(out->governor, sizeof(out->governor), "none");
	snprintf(out->frequency, sizeof(out->frequency), "unknown");
	if (file_read(AT_FDCWD, "/proc/cpuinfo", 8 << 20, &info, NULL) < 0)
		return;
	rest = buf_str(&info);
	while (str_split(&rest, '\n', &line)) {
		if (!str_starts(line, STR("cpu MHz")) || !str_copy(line, text, sizeof(text)) ||
		    sscanf(text, "cpu MHz : %lf", &mhz) != 1)
			continue;
		lowest = !lowest || mhz < lowest ? mhz : lowest;
		highest = mhz > highest ? mhz : highest;
	}
	if (highest && highest - lowest < 1)
		snprintf(out->frequency, sizeof(out->frequency), "%.0f MHz", highest);
	else if (highest)
		snprintf(out->frequency, sizeof(out->frequency), "%.0f to %.0f MHz", lowest, highest);
}

/* ---- the disk ---- */

static int time_writing(int fd, const char *block, unsigned n_blocks, struct noise *out, struct err *err)
{
	int64_t begun = clock_mono_ns();

	for (unsigned i = 0; i < n_blocks; i++)
		TRY(fd_write_all(fd, str_make(block, BLOCK_BYTES), err));
	if (fdatasync(fd))
		return err_errno(err, errno, "write back");
	out->disk_write_mb_s = n_blocks * (double)BLOCK_BYTES / 1e3 / ms_since(begun);
	return 0;
}

static int time_reading(int fd, char *block, unsigned n_blocks, struct noise *out, struct err *err)
{
	int64_t begun;

	if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		return err_set(err, ERR_INTERNAL, "cannot drop a file from the page cache");
	begun = clock_mono_ns();
	for (unsigned i = 0; i < n_blocks; i++)
		TRY(fd_pread_all(fd, block, BLOCK_BYTES, (off_t)i * BLOCK_BYTES, err));
	out->disk_read_mb_s = n_blocks * (double)BLOCK_BYTES / 1e3 / ms_since(begun);
	return 0;
}

static int time_syncs(int fd, const char *block, struct noise *out, struct err *err)
{
	struct summary all;
	double ms[SYNCS];

	for (size_t i = 0; i < SYNCS; i++) {
		int64_t begun = clock_mono_ns();

		TRY(fd_pwrite_all(fd, str_make(block, 4096), (off_t)(i * 4096), err));
		if (fdatasync(fd))
			return err_errno(err, errno, "write back");
		ms[i] = ms_since(begun);
	}
	stats_summary(ms, SYNCS, SEED, &all);
	out->disk_sync_ms = all.median;
	return 0;
}

static int measure_disk(const char *dir, bool quick, struct noise *out, struct err *err)
{
	AUTO_FREE char *block = xmalloc(BLOCK_BYTES);
	unsigned n_blocks = quick ? 64 : 256;
	AUTO_FD int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_errno(err, errno, "make a file in %s", dir);
	for (size_t i = 0; i < BLOCK_BYTES; i++) /* nothing that a disk could leave out */
		block[i] = (char)(i * 2654435761u >> 13);
	TRY_WRAP(time_writing(fd, block, n_blocks, out, err), err, "%s", dir);
	TRY_WRAP(time_reading(fd, block, n_blocks, out, err), err, "%s", dir);
	TRY_WRAP(time_syncs(fd, block, out, err), err, "%s", dir);
	return 0;
}

int noise_measure(const char *dir, bool quick, int cancel_fd, struct noise *out, struct err *err)
{
	AUTO(process_list) struct process_list before = {0};
	struct ticks from, to;
	double own_s, wall_s;
	int64_t begun;

	*out = (struct noise){.n_cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN)};
	if (getloadavg(out->load, 3) != 3)
		return err_set(err, ERR_INTERNAL, "cannot read the load average");
	look_at_frequency(out);
	list_processes(&before);
	begun = clock_mono_ns();
	from = ticks_now();
	own_s = own_cpu_s();
	TRY(time_spins(quick, cancel_fd, out, err));
	time_sleeps(out);
	to = ticks_now();
	wall_s = ms_since(begun) / 1e3;
	out->others_cpus = ((to.busy - from.busy) / (double)sysconf(_SC_CLK_TCK) - (own_cpu_s() - own_s)) / wall_s;
	if (out->others_cpus < 0) /* ticks are coarse */
		out->others_cpus = 0;
	out->steal = to.all > from.all ? (to.steal - from.steal) / (to.all - from.all) : 0;
	name_busiest(&before, wall_s, out);
	TRY(verb_check(cancel_fd, err));
	return measure_disk(dir, quick, out, err);
}
