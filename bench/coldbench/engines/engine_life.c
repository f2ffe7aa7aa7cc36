/* An engine's life in a folder of its own, and what it leaves behind. */
#include "bench/coldbench/modes/mode.h"

#include "base/clock.h"
#include "base/file.h"
#include "bench/coldbench/measure/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>

#define MOUNTINFO_BYTES_MAX (16u << 20)
/* Shims and monitors end by themselves after the daemon has. */
#define GRACE_NS (3 * NS_PER_S)

int engine_up(struct world *w, const char *name, struct engine *out, struct err *err)
{
	const struct engine_kind *kind = engine_find(name);

	*out = (struct engine){0};
	if (!kind)
		return err_set(err, ERR_NOT_FOUND, "there is no engine \"%s\"", name);
	TRY(usage_begin(err));
	*out = (struct engine){
	    .kind = kind,
	    .options = w->options,
	    .dir = xasprintf("%s/e%u", w->dir, ++w->n_engines),
	    .cancel_fd = w->cancel_fd,
	};
	TRY(dir_make(out->dir, 0711, err));
	TRY_WRAP(kind->start(out, err), err, "start %s", name);
	return 0;
}

/* Mounts below the folder, the newest last. */
static int read_mounts(const char *dir, struct buf *out, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FREE char *prefix = xasprintf("%s/", dir);
	struct str rest, line, field;

	TRY(file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_BYTES_MAX, &text, err));
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line)) {
		/* the fifth field is where it is; spaces in it are escaped */
		for (int i = 0; i < 5 && str_split(&line, ' ', &field); i++)
			;
		if (str_starts(field, str_of(prefix)))
			buf_addf(out, "%s" STR_FMT, out->n ? "\n" : "", STR_ARG(field));
	}
	return 0;
}

static int umount_left(const char *dir, struct buf *left, struct err *err)
{
	AUTO(buf) struct buf mounts = BUF_INIT;
	struct str rest;
	ptrdiff_t cut;

	TRY(read_mounts(dir, &mounts, err));
	for (rest = buf_str(&mounts); rest.n; rest.n = cut < 0 ? 0 : (size_t)cut) {
		cut = str_rfind(rest, '\n');
		AUTO_FREE char *at = xstrndup(rest.p + cut + 1, rest.n - (size_t)(cut + 1));

		buf_addf(left, "%smount %s", left->n ? ", " : "", at);
		if (umount2(at, MNT_DETACH) && errno != EINVAL && errno != ENOENT)
			return err_errno(err, errno, "unmount %s, which the engine left behind", at);
	}
	return 0;
}

int folder_remove(const char *path, struct err *err)
{
	AUTO_FREE char *parent = xstrdup(path);
	char *slash = strrchr(parent, '/');
	AUTO_FD int fd = -1;

	if (!slash || slash == parent)
		return err_set(err, ERR_INVALID, "%s is no folder to be removed", path);
	*slash = 0;
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", parent);
	TRY_WRAP(dir_remove(fd, slash + 1, err), err, "remove %s", path);
	return 0;
}

/* Each step is taken whatever came of those before; the first trouble is told. */
int engine_down(struct world *w, struct engine *e, struct err *err)
{
	AUTO(buf) struct buf left = BUF_INIT;
	struct err later = ERR_INIT;
	struct err *to = err;
	int r, first = 0;

	if (!e->kind)
		return 0;
#define STEP(call)                                                                                                     \
	do {                                                                                                           \
		r = (call);                                                                                            \
		if (r < 0 && !first) {                                                                                 \
			first = r;                                                                                     \
			to = &later;                                                                                   \
		}                                                                                                      \
	} while (0)
	STEP(e->kind->stop(e, to));
	STEP(usage_end(GRACE_NS, &left, to));
	STEP(umount_left(e->dir, &left, to));
	if (left.n)
		STEP(err_set(to, ERR_INTERNAL, "%s left behind: %s", e->kind->name, buf_cstr(&left)));
	if (!w->keep)
		STEP(folder_remove(e->dir, to));
#undef STEP
	free((char *)e->dir);
	*e = (struct engine){0};
	return first;
}
