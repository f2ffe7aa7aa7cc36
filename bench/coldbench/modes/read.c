/*
 * Mode read: everything in the image is read once, right after the pull: what a lazy mount costs him who wants it all, against
 * pulling everything first.
 *
 * The engine pulls and mounts the image; then this process walks the mount as tar does and reads each regular file through,
 * one after the other (tree.h). It reads from outside of any container, so that all engines have the same reader: what an
 * image has of tar and cat, and what a runtime adds to them, differs. The mount is that of a container (the same
 * snapshots), read-only.
 *
 *	total_ms                 from the exec of the pulling command to the last byte: the figure
 *	pull_ms, mount_ms, read_ms    its parts
 *	read.bytes, read.files   contents, as the files' sizes have them
 *	mb_per_s                 read.bytes / total_ms, in 10^6 bytes
 *	net.*, cpu_s.*, ...      to the last byte (sample.h)
 */
#include "bench/coldbench/modes/steps.h"
#include "bench/coldbench/modes/tree.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>

static int read_mount(struct steps *t, const char *at, struct err *err)
{
	AUTO_FD int fd = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int64_t begun_ns = *(int64_t *)t->own, mounted_ns = clock_mono_ns(), end_ns;
	uint64_t n_files, bytes;

	if (fd < 0)
		return err_errno(err, errno, "open %s", at);
	TRY_WRAP(tree_read_all(fd, &t->stop, &n_files, &bytes, err), err, "read the image");
	end_ns = clock_mono_ns();
	TRY(steps_end_counting(t, end_ns, NULL, 0, err));
	sample_set(t->s, "total_ms", (double)(end_ns - begun_ns) / NS_PER_MS);
	sample_set(t->s, "read_ms", (double)(end_ns - mounted_ns) / NS_PER_MS);
	sample_set(t->s, "read.bytes", (double)bytes);
	sample_set(t->s, "read.files", (double)n_files);
	sample_set(t->s, "mb_per_s", (double)bytes * 1e3 / (double)(end_ns - begun_ns));
	return 0;
}

static int pull_and_read(struct steps *t, struct err *err)
{
	AUTO_FREE char *at = NULL;
	int64_t begun_ns, pull_ns, mounting_ns;
	int r, umounted;

	TRY(steps_drop_caches(t, err));
	TRY(steps_begin_counting(t, err));
	begun_ns = clock_mono_ns();
	TRY(steps_pull(t, &pull_ns, err));
	mounting_ns = clock_mono_ns();
	TRY(steps_mount(t, "mount", &at, err));
	sample_set(t->s, "pull_ms", (double)pull_ns / NS_PER_MS);
	sample_set(t->s, "mount_ms", (double)(clock_mono_ns() - mounting_ns) / NS_PER_MS);
	t->own = &begun_ns;
	r = steps_on_mount(t, read_mount, at, err);
	umounted = steps_umount(t, at, r < 0 ? NULL : err);
	return r < 0 ? r : umounted;
}

static int measure(struct world *w, const struct bench_case *c, const struct target *targets, struct sample *s,
                   struct err *err)
{
	struct steps t = {.w = w, .c = c, .targets = targets, .s = s};

	return steps_with_engine(&t, pull_and_read, err);
}

const struct mode read_mode = {
    .name = "read",
    .title = "everything in the image read once",
    .figure = "total_ms",
    .less_is_better = true,
    .measure = measure,
};
