/* The daemon under test: our child, killed and started again. */
#include "tests/chaos/chaos.h"

#include "base/file.h"
#include "base/unix.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

int daemon_start(struct chaos *c)
{
	AUTO_FREE char *path = xasprintf("%s/contentd.log", c->dir);
	AUTO_FD int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	struct err err = ERR_INIT;

	if (spawn_start(&(struct spawn){.argv = (const char *const *)c->daemon, .stdio = {-1, log, log}},
	                &c->daemon_pid, &err) >= 0)
		return 0;
	chaos_fail(c, "the daemon does not start: %s", err.msg);
	return -1;
}

void daemon_end(struct chaos *c, int signal)
{
	int status = 0;

	kill(c->daemon_pid, signal);
	spawn_wait(c->daemon_pid, &status, NULL);
	if (status != 0 && status != signal)
		chaos_fail(c, "the daemon ended with status %#x", status);
}

void *daemon_killer(void *chaos)
{
	struct chaos *c = chaos;
	struct dice dice = dice_make(c->seed, 1);

	while (!atomic_load(&c->ending)) {
		dice_sleep(&dice, c->kill_min_ms, c->kill_max_ms);
		/* One time in six it is asked to end. */
		daemon_end(c, dice_below(&dice, 6) ? SIGKILL : SIGTERM);
		atomic_fetch_add(&c->kills, 1);
		dice_sleep(&dice, 0, 200);
		if (daemon_start(c) < 0)
			exit(1);
	}
	return NULL;
}

static unsigned count_entries(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	unsigned n = 0;

	while (d && (e = readdir(d)))
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

void daemon_size(const struct chaos *c, unsigned *fds, unsigned *kib)
{
	AUTO_FREE char *open_files = xasprintf("/proc/%d/fd", (int)c->daemon_pid);
	AUTO_FREE char *memory = xasprintf("/proc/%d/smaps_rollup", (int)c->daemon_pid);
	AUTO(buf) struct buf text = BUF_INIT;
	const char *at;

	*fds = count_entries(open_files);
	*kib = 0;
	if (file_read(AT_FDCWD, memory, 65536, &text, NULL) >= 0 && (at = strstr(buf_cstr(&text), "Private_Dirty:")))
		sscanf(at, "Private_Dirty: %u", kib);
}
