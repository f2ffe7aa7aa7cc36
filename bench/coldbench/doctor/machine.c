/* The machine: what must be there, engines, and how quiet it is (noise.c). */
#include "bench/coldbench/doctor/doctor.h"
#include "bench/coldbench/doctor/noise.h"
#include "bench/coldbench/fingerprint.h"
#include "bench/coldbench/measure/watch.h"

#include "base/file.h"
#include "base/unix.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#define GIB (1024.0 * 1024 * 1024)
#define ENOUGH_MEMORY_GIB 4 /* the registry's images lie in memory, and a container beside them */
#define ENOUGH_DISK_GIB 10  /* unpacked images of a few engines */

/* Programs that coldbench itself runs. */
static const struct tool {
	const char *name, *what_for;
	enum finding_state otherwise;
} TOOLS[] = {
    {"docker-registry", "serves the images", FINDING_BAD},
    {"skopeo", "copies images into the registry, makes zstd:chunked", FINDING_BAD},
    {"mmdebstrap", "makes images, and roots of newer suites", FINDING_WARN},
    {"python3", "makes images' layers", FINDING_WARN},
    {"ctr-remote", "makes the forms esgz and esgz-opt", FINDING_WARN},
};

/* ---- what must be there ---- */

static void look_for_root(struct sheet *s)
{
	struct finding *f = sheet_text(s, "root", "root", "%s", geteuid() ? "no" : "yes");

	finding_judge(f, !geteuid(), FINDING_BAD, NULL);
	if (geteuid())
		finding_advise(f, "Run it as root: engines mount, and caches are dropped.");
}

static void look_for_events(struct sheet *s)
{
	struct watch *w = NULL;
	struct err err = ERR_INIT;
	int r = watch_start(&w, &err);
	struct finding *f = sheet_text(s, "proc_events", "process events", "%s", r < 0 ? "no" : "yes");

	finding_judge(f, r >= 0, FINDING_BAD, NULL);
	if (r < 0)
		finding_advise(f,
		               "%s. It takes CONFIG_PROC_EVENTS, and root in the initial user and network namespaces.",
		               err.msg);
	else
		watch_stop(w);
}

static void look_for_file(struct sheet *s, const char *key, const char *path, int flags, const char *advice)
{
	AUTO_FD int fd = open(path, flags | O_CLOEXEC);
	struct finding *f = sheet_text(s, key, path, "%s", fd < 0 ? "no" : "yes");

	finding_judge(f, fd >= 0, FINDING_BAD, NULL);
	if (fd < 0)
		finding_advise(f, "%s", advice);
}

static void look_for_tools(struct sheet *s)
{
	for (size_t i = 0; i < ARRAY_LEN(TOOLS); i++) {
		AUTO_FREE char *file = NULL;
		struct finding *f;

		program_find(TOOLS[i].name, &file, NULL);
		f = sheet_text(s, TOOLS[i].name, TOOLS[i].name, "%s", file ? file : "no");
		finding_judge(f, file, TOOLS[i].otherwise, NULL);
		if (!file)
			finding_advise(f, "It %s: cmake/setup.sh installs it.", TOOLS[i].what_for);
	}
}

static double memory_available_gib(void)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct str rest, line;
	uint64_t kib;

	if (file_read(AT_FDCWD, "/proc/meminfo", 1 << 20, &text, NULL) < 0)
		return 0;
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line))
		if (str_skip(&line, STR("MemAvailable:")) && str_u64(str_trim(str_sub(line, 0, line.n - 2)), 10, &kib))
			return (double)kib * 1024 / GIB;
	return 0;
}

static void look_at_room(const struct doctor *d, struct sheet *s)
{
	double memory = memory_available_gib(), disk = 0;
	struct statvfs at;
	struct statfs kind;
	struct finding *f;

	f = sheet_number(s, "memory_available_gib", "memory available", memory, "GiB");
	finding_judgef(f, memory >= ENOUGH_MEMORY_GIB, FINDING_WARN, ">= %d GiB", ENOUGH_MEMORY_GIB);
	if (memory < ENOUGH_MEMORY_GIB)
		finding_advise(f, "The registry keeps its images in memory: leave the large ones out.");
	if (!statvfs(d->dir, &at))
		disk = (double)at.f_bavail * (double)at.f_frsize / GIB;
	f = sheet_number(s, "disk_available_gib", "room for engines", disk, "GiB");
	finding_judgef(f, disk >= ENOUGH_DISK_GIB, FINDING_WARN, ">= %d GiB", ENOUGH_DISK_GIB);
	if (disk < ENOUGH_DISK_GIB)
		finding_advise(f, "Engines unpack into %s: give them a folder with more room.", d->dir);
	if (!statfs(d->dir, &kind) && kind.f_type == TMPFS_MAGIC) {
		f = sheet_text(s, "disk_kind", "kind of disk", "tmpfs");
		finding_judge(f, false, FINDING_WARN, NULL);
		finding_advise(f, "Files in memory are never cold: give engines a folder on a disk.");
	}
}

static void look_at_cgroups(struct sheet *s)
{
	const char *tree = fingerprint_cgroup();
	struct finding *f = sheet_text(s, "cgroup", "control groups", "%s", tree ? tree : "none");

	if (!tree) {
		finding_judge(f, false, FINDING_BAD, NULL);
		finding_advise(f, "Runtimes need them: mount /sys/fs/cgroup.");
	} else if (!strcmp(tree, "hybrid")) {
		finding_advise(f, "crun refuses hybrid trees: engines that use it run without sight of the v2 one.");
	}
}

static void look_for_engines(const struct doctor *d, struct sheet *s)
{
	const struct engine_kind *k;
	size_t there = 0;
	struct finding *f;

	for (size_t i = 0; (k = engine_at(i)); i++) {
		AUTO(buf) struct buf versions = BUF_INIT;
		struct err err = ERR_INIT;
		int r = k->probe(&d->engines, d->cancel_fd, &versions, &err);

		there += r >= 0;
		f = sheet_text(s, sheet_keyf(s, "engine.%s", k->name), k->name, "%s",
		               r < 0 ? "no" : buf_cstr(&versions));
		finding_judge(f, r >= 0, FINDING_WARN, NULL);
		if (r < 0)
			finding_advise(f, "%s", err.msg);
	}
	f = sheet_number(s, "engines", "engines", (double)there, "");
	finding_judge(f, there > 0, FINDING_BAD, ">= 1");
}

/* ---- how quiet it is ---- */

static void report_spin(const struct noise *n, struct sheet *s)
{
	double spread = n->spin.p95 / n->spin.median;
	struct finding *f = sheet_number(s, "spin.median_ms", "fixed computation, median", n->spin.median, "ms");

	f = sheet_number(s, "spin.p95_ratio", "... 95th percentile / median", spread, "");
	finding_judge(f, spread <= 1.1, FINDING_WARN, "<= 1.1");
	if (spread > 1.1)
		finding_advise(
		    f, "The same computation takes different times: something else uses the processors, or their "
		       "speed changes. Medians bear some of it; take more repetitions.");
	sheet_number(s, "spin.max_ms", "... worst", n->spin.max, "ms");
}

static void report_timer(const struct noise *n, struct sheet *s)
{
	struct finding *f = sheet_number(s, "timer.median_ms", "lateness of a timer, median", n->timer.median, "ms");

	f = sheet_number(s, "timer.p95_ms", "... 95th percentile", n->timer.p95, "ms");
	finding_judge(f, n->timer.p95 <= 0.3, FINDING_WARN, "<= 0.3 ms");
	if (n->timer.p95 > 0.3)
		finding_advise(
		    f, "Ports are tried every 0.2 ms, and the network's delays are timers: times of a few ms are "
		       "blurred by this.");
	sheet_number(s, "timer.max_ms", "... worst", n->timer.max, "ms");
}

static void report_processors(const struct noise *n, struct sheet *s)
{
	struct finding *f =
	    sheet_text(s, "load", "load average", "%.2f, %.2f, %.2f", n->load[0], n->load[1], n->load[2]);

	f = sheet_number(s, "others_cpus", "processors that others used", n->others_cpus, "");
	finding_add(f, " of %u", n->n_cpus);
	finding_judge(f, n->others_cpus <= 0.1, FINDING_WARN, "<= 0.1");
	if (n->others_cpus > 0.1)
		finding_advise(f, "Stop what else runs; the busiest was %s.", n->busiest);
	f = sheet_number(s, "steal_share", "time stolen by the hypervisor", 100 * n->steal, "%");
	finding_judge(f, n->steal <= 0.01, FINDING_WARN, "<= 1 %");
	if (n->steal > 0.01)
		finding_advise(f, "The host is shared: measure at another time, or with more repetitions.");
	f = sheet_text(s, "governor", "frequency governor", "%s", n->governor);
	if (!strcmp(n->governor, "powersave") || !strcmp(n->governor, "ondemand") ||
	    !strcmp(n->governor, "schedutil")) {
		finding_judge(f, false, FINDING_WARN, NULL);
		finding_advise(f,
		               "The first milliseconds of a start run at a low frequency: `cpupower frequency-set -g "
		               "performance` while measuring.");
	}
	sheet_text(s, "frequency", "frequency", "%s", n->frequency);
}

static void report_disk(const struct noise *n, struct sheet *s)
{
	struct finding *f = sheet_number(s, "disk.write_mb_s", "disk, writing", n->disk_write_mb_s, "MB/s");

	finding_judge(f, n->disk_write_mb_s >= 200, FINDING_WARN, ">= 200 MB/s");
	if (n->disk_write_mb_s < 200)
		finding_advise(f, "Engines that unpack will be waiting for this disk.");
	f = sheet_number(s, "disk.read_mb_s", "disk, reading what is not cached", n->disk_read_mb_s, "MB/s");
	finding_judge(f, n->disk_read_mb_s >= 200, FINDING_WARN, ">= 200 MB/s");
	if (n->disk_read_mb_s < 200)
		finding_advise(f, "A cold start reads the engine's own programs from it.");
	sheet_number(s, "disk.sync_ms", "disk, making 4 KiB durable", n->disk_sync_ms, "ms");
}

int machine_section(const struct doctor *d, struct sheet *s, struct err *err)
{
	struct noise n;

	s->title = "what coldbench needs, and how quiet it is here";
	look_for_root(s);
	look_for_events(s);
	look_for_file(s, "fuse", "/dev/fuse", O_RDWR, "Engines that mount lazily need it: modprobe fuse.");
	look_for_file(s, "drop_caches", "/proc/sys/vm/drop_caches", O_WRONLY,
	              "Caches cannot be dropped, so that nothing is cold: this container may not.");
	look_for_tools(s);
	look_at_room(d, s);
	look_at_cgroups(s);
	look_for_engines(d, s);
	TRY(noise_measure(d->dir, d->quick, d->cancel_fd, &n, err));
	report_processors(&n, s);
	report_spin(&n, s);
	report_timer(&n, s);
	report_disk(&n, s);
	return 0;
}
