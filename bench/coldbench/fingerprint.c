#include "bench/coldbench/fingerprint.h"

#include "base/file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#define FILE_BYTES_MAX (4u << 20)

static bool read_text(const char *path, struct buf *out)
{
	buf_clear(out);
	return file_read(AT_FDCWD, path, FILE_BYTES_MAX, out, NULL) >= 0;
}

/* The value behind "key" and a separator, of the first such line. */
static bool value_of(struct str text, struct str key, char separator, struct str *out)
{
	struct str line, name;

	while (str_split(&text, '\n', &line)) {
		if (!str_split(&line, separator, &name) || !str_eq(str_trim(name), key))
			continue;
		*out = str_trim(line);
		if (str_skip(out, STR("\"")) && str_ends(*out, STR("\"")))
			out->n--;
		return true;
	}
	return false;
}

static void write_cpu(struct json_writer *w, struct buf *text)
{
	struct str value, rest, flag;
	bool is_virtual = false;

	json_w_ki64(w, "cpus", sysconf(_SC_NPROCESSORS_ONLN));
	if (!read_text("/proc/cpuinfo", text))
		return;
	if (value_of(buf_str(text), STR("model name"), ':', &value))
		json_w_kstr(w, "cpu", value);
	if (!value_of(buf_str(text), STR("flags"), ':', &value))
		return;
	rest = value;
	while (str_split(&rest, ' ', &flag))
		is_virtual |= str_eqc(flag, "hypervisor");
	json_w_kbool(w, "virtual", is_virtual);
}

static void write_system(struct json_writer *w, struct buf *text)
{
	struct str value;
	struct utsname u;

	if (!uname(&u)) {
		AUTO_FREE char *kernel = xasprintf("%s %s", u.release, u.machine);

		json_w_kcstr(w, "kernel", kernel);
	}
	json_w_ki64(w, "memory_bytes", sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
	if (read_text("/etc/os-release", text) && value_of(buf_str(text), STR("PRETTY_NAME"), '=', &value))
		json_w_kstr(w, "distribution", value);
}

const char *fingerprint_cgroup(void)
{
	struct statfs fs;

	if (statfs("/sys/fs/cgroup", &fs))
		return NULL;
	if (fs.f_type == CGROUP2_SUPER_MAGIC)
		return "v2";
	return access("/sys/fs/cgroup/unified", F_OK) ? "v1" : "hybrid";
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw" (proc_pid_mountinfo(5)) */
static void write_disk(struct json_writer *w, const char *dir, struct buf *text)
{
	struct str rest, line, field;
	char device[32];
	struct stat st;

	if (stat(dir, &st) || !read_text("/proc/self/mountinfo", text))
		return;
	snprintf(device, sizeof(device), "%u:%u", major(st.st_dev), minor(st.st_dev));
	for (rest = buf_str(text); str_split(&rest, '\n', &line);) {
		struct str type = STR_NONE, source = STR_NONE;
		bool is_it = false;

		for (int i = 0; str_split(&line, ' ', &field) && !str_eqc(field, "-"); i++)
			is_it |= i == 2 && str_eqc(field, device);
		if (!is_it || !str_split(&line, ' ', &type) || !str_split(&line, ' ', &source))
			continue;
		AUTO_FREE char *disk = xasprintf(STR_FMT " on " STR_FMT, STR_ARG(type), STR_ARG(source));
		json_w_kcstr(w, "disk", disk);
		return;
	}
}

/* What changes from one minute to the next: the load, and how the processor's speed is chosen. */
static void write_state(struct json_writer *w, struct buf *text)
{
	double load;

	if (getloadavg(&load, 1) == 1) {
		json_w_key(w, "load");
		json_w_double(w, load);
	}
	if (read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", text))
		json_w_kstr(w, "governor", str_trim(buf_str(text)));
	if (read_text("/sys/devices/system/cpu/intel_pstate/no_turbo", text))
		json_w_kbool(w, "turbo", str_eqc(str_trim(buf_str(text)), "0"));
	else if (read_text("/sys/devices/system/cpu/cpufreq/boost", text))
		json_w_kbool(w, "turbo", str_eqc(str_trim(buf_str(text)), "1"));
}

void fingerprint_write(struct json_writer *w, const char *dir)
{
	AUTO(buf) struct buf text = BUF_INIT;
	const char *cgroup = fingerprint_cgroup();

	json_w_object_begin(w);
	write_cpu(w, &text);
	write_system(w, &text);
	if (cgroup)
		json_w_kcstr(w, "cgroup", cgroup);
	write_disk(w, dir, &text);
	write_state(w, &text);
	json_w_kcstr(w, "coldbench", CONTENTD_VERSION);
	json_w_object_end(w);
}
