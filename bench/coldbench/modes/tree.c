/* The files of a mounted image. */
#include "bench/coldbench/modes/tree.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>

#define DEPTH_MAX 256
#define READ_BYTES (128u << 10)

struct walk {
	int (*fn)(void *arg, const struct walk_entry *e, struct err *err);
	void *arg;
	const atomic_bool *stop;
	dev_t dev;
	struct buf path;
	unsigned depth;
};

static int check_stop(const atomic_bool *stop, struct err *err)
{
	return *stop ? err_set(err, ERR_CANCELLED, "stopped") : 0;
}

static int walk_dir(struct walk *w, int fd, struct err *err);

static int walk_into(struct walk *w, int dir_fd, const char *name, struct err *err)
{
	AUTO_FD int fd = -1;

	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open /%s", buf_cstr(&w->path));
	if (w->depth == DEPTH_MAX)
		return err_set(err, ERR_EXHAUSTED, "/%s: more than %d levels", buf_cstr(&w->path), DEPTH_MAX);
	w->depth++;
	TRY(walk_dir(w, fd, err));
	w->depth--;
	return 0;
}

static int walk_dir(struct walk *w, int fd, struct err *err)
{
	AUTO_DIR DIR *d = NULL;
	size_t dir_len = w->path.n;
	struct dirent *de;
	int more;

	TRY(dir_iter_open(fd, &d, err));
	while ((more = dir_iter_next(d, &de, err)) > 0) {
		struct stat st;
		struct walk_entry e = {.dir_fd = fd, .name = de->d_name, .st = &st};

		TRY(check_stop(w->stop, err));
		if (dir_len)
			buf_addc(&w->path, '/');
		buf_adds(&w->path, de->d_name);
		e.path = buf_cstr(&w->path);
		if (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW))
			return err_errno(err, errno, "stat /%s", e.path);
		TRY(w->fn(w->arg, &e, err));
		/* overlayfs gives files the numbers of other devices, directories never. */
		if (S_ISDIR(st.st_mode) && st.st_dev == w->dev)
			TRY(walk_into(w, fd, de->d_name, err));
		w->path.n = dir_len;
		if (w->path.p)
			w->path.p[dir_len] = '\0';
	}
	return more;
}

int tree_walk(int root_fd, const atomic_bool *stop, int (*fn)(void *arg, const struct walk_entry *e, struct err *err),
              void *arg, struct err *err)
{
	struct walk w = {.fn = fn, .arg = arg, .stop = stop, .path = BUF_INIT};
	struct stat st;
	int r;

	if (fstat(root_fd, &st))
		return err_errno(err, errno, "stat the root");
	w.dev = st.st_dev;
	r = walk_dir(&w, root_fd, err);
	buf_fini(&w.path);
	return r;
}

struct reading {
	const atomic_bool *stop;
	char *buffer;
	uint64_t n_files, bytes;
};

static int read_file(void *arg, const struct walk_entry *e, struct err *err)
{
	struct reading *r = arg;
	AUTO_FD int fd = -1;
	ssize_t n;

	if (!S_ISREG(e->st->st_mode))
		return 0;
	fd = openat(e->dir_fd, e->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open /%s", e->path);
	while ((n = read(fd, r->buffer, READ_BYTES)) > 0) {
		r->bytes += (uint64_t)n;
		TRY(check_stop(r->stop, err));
	}
	if (n < 0)
		return err_errno(err, errno, "read /%s", e->path);
	r->n_files++;
	return 0;
}

int tree_read_all(int root_fd, const atomic_bool *stop, uint64_t *n_files, uint64_t *bytes, struct err *err)
{
	AUTO_FREE char *buffer = xmalloc(READ_BYTES);
	struct reading r = {.stop = stop, .buffer = buffer};

	TRY(tree_walk(root_fd, stop, read_file, &r, err));
	*n_files = r.n_files;
	*bytes = r.bytes;
	return 0;
}

static int add_entry(void *arg, const struct walk_entry *e, struct err *err)
{
	struct tree *t = arg;
	bool regular = S_ISREG(e->st->st_mode);

	vec_push(&t->entries, (struct tree_entry){.path = xstrdup(e->path),
	                                          .type = e->st->st_mode & S_IFMT,
	                                          .bytes = regular ? (uint64_t)e->st->st_size : 0});
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct tree_entry *)a)->path, ((const struct tree_entry *)b)->path);
}

int tree_list(int root_fd, const atomic_bool *stop, struct tree *out, struct err *err)
{
	AUTO(tree) struct tree t = {VEC_INIT};

	TRY(tree_walk(root_fd, stop, add_entry, &t, err));
	if (t.entries.n)
		qsort(t.entries.p, t.entries.n, sizeof(*t.entries.p), by_path);
	*out = t;
	t = (struct tree){VEC_INIT};
	return 0;
}

void tree_fini(struct tree *t)
{
	vec_each(&t->entries, e)
		free(e->path);
	vec_fini(&t->entries);
}

uint32_t tree_hash(const struct tree *t)
{
	AUTO(buf) struct buf text = BUF_INIT;

	vec_each(&t->entries, e)
		buf_addf(&text, "%s\n%o %llu\n", e->path, e->type, (unsigned long long)e->bytes);
	return (uint32_t)str_hash(buf_str(&text));
}

static bool fits(const struct tree_entry *e, mode_t type, uint64_t min_bytes, uint64_t max_bytes)
{
	return e->type == type && e->bytes >= min_bytes && e->bytes <= max_bytes;
}

void tree_pick(const struct tree *t, mode_t type, uint64_t min_bytes, uint64_t max_bytes, size_t want, tree_picks *out)
{
	size_t n = 0, seen = 0, taken = 0;

	vec_each(&t->entries, e)
		n += fits(e, type, min_bytes, max_bytes);
	if (want > n)
		want = n;
	vec_each(&t->entries, e) {
		if (!fits(e, type, min_bytes, max_bytes))
			continue;
		if (seen++ * want / n < taken)
			continue;
		vec_push(out, e->path);
		taken++;
	}
}

const struct tree_entry *tree_largest(const struct tree *t)
{
	const struct tree_entry *best = NULL;

	vec_each(&t->entries, e)
		if (e->type == S_IFREG && (!best || e->bytes > best->bytes))
			best = e;
	return best;
}
