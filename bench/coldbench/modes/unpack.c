/*
 * Mode unpack: how fast an image is pulled and unpacked, the network aside (a network without limits says nothing of the
 * network).
 *
 *	pull_ms                  the pulling command
 *	mb_per_s                 tar_bytes / pull_ms, in 10^6 bytes: the figure
 *	tar_bytes                plain tar of all layers of the form gzip, whichever was pulled: what other forms add to it (an
 *	                         index, marks) is their means, not the user's files, and all are held against the same size
 *	sync_ms                  syncfs of the engine's disk after it: what the engine says is there, and is not on the disk
 *	cpu_s, cpu_s.*, ...      until the end of the pull (sample.h); net.*
 *
 * Durability is as the engine has it: sync_ms shows what it left to the kernel.
 */
#include "bench/coldbench/modes/layers.h"
#include "bench/coldbench/modes/steps.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>

static int time_sync(const char *dir, int64_t *ns, struct err *err)
{
	AUTO_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int64_t begun_ns = clock_mono_ns();

	if (fd < 0 || syncfs(fd))
		return err_errno(err, errno, "sync %s", dir);
	*ns = clock_mono_ns() - begun_ns;
	return 0;
}

static int pull(struct steps *t, struct err *err)
{
	uint64_t tar_bytes = *(uint64_t *)t->own;
	int64_t pull_ns = 0, sync_ns = 0;

	/* This writes back what others have left, too. */
	TRY(steps_drop_caches(t, err));
	TRY(steps_begin_counting(t, err));
	TRY(steps_pull(t, &pull_ns, err));
	TRY(steps_end_counting(t, clock_mono_ns(), NULL, 0, err));
	TRY(time_sync(t->engine.dir, &sync_ns, err));
	sample_set(t->s, "pull_ms", (double)pull_ns / NS_PER_MS);
	sample_set(t->s, "sync_ms", (double)sync_ns / NS_PER_MS);
	sample_set(t->s, "tar_bytes", (double)tar_bytes);
	sample_set(t->s, "mb_per_s", (double)tar_bytes * 1e3 / (double)pull_ns);
	return 0;
}

static int find_tar_bytes(const struct world *w, const struct image *img, uint64_t *out, struct err *err)
{
	AUTO(image) struct image plain = {0};

	if (!strcmp(img->form, "gzip"))
		return layers_tar_bytes(img->layout, out, err);
	TRY(image_build(img->name, "gzip", w->cancel_fd, &plain, err));
	return layers_tar_bytes(plain.layout, out, err);
}

static int measure(struct world *w, const struct bench_case *c, const struct target *targets, struct sample *s,
                   struct err *err)
{
	uint64_t tar_bytes;
	struct steps t = {.w = w, .c = c, .targets = targets, .s = s, .own = &tar_bytes};

	TRY(find_tar_bytes(w, targets->img, &tar_bytes, err));
	return steps_with_engine(&t, pull, err);
}

const struct mode unpack_mode = {
    .name = "unpack",
    .title = "pull and unpack",
    .figure = "mb_per_s",
    .less_is_better = false,
    .measure = measure,
};
