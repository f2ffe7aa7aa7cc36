#include "contentd/diff/resolve.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

void resolver_fini(struct resolver *r)
{
	resolver_forget(r);
	buf_fini(&r->path);
	buf_fini(&r->real);
	map_fini(&r->named);
}

void resolver_forget(struct resolver *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

struct inode {
	uint64_t dev, ino;
};

void resolver_name(struct resolver *r, const struct stat *st)
{
	struct inode i = {st->st_dev, st->st_ino};

	map_put(&r->named, str_make(&i, sizeof(i)), NULL);
}

bool resolver_is_named(const struct resolver *r, const struct stat *st)
{
	struct inode i = {st->st_dev, st->st_ino};

	return map_has(&r->named, str_make(&i, sizeof(i)));
}

/* A walk under way. */
struct walk {
	struct resolver *r;
	struct buf done; /* where it stands: a path without links */
	struct buf left; /* what is left */
	int fd;          /* of `done` */
	unsigned links;
	bool create;
};

static void walk_fini(struct walk *w)
{
	buf_fini(&w->done);
	buf_fini(&w->left);
	if (w->fd >= 0)
		close(w->fd);
}
DEFINE_AUTO_FINI(walk);

static int stand_at_done(struct walk *w, struct err *err)
{
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
	return file_open_beneath(w->r->root_fd, w->done.n ? buf_cstr(&w->done) : ".", O_RDONLY | O_DIRECTORY, 0, true,
	                         &w->fd, err);
}

static int go_up(struct walk *w, struct err *err)
{
	ptrdiff_t slash = str_rfind(buf_str(&w->done), '/');

	w->done.n = slash < 0 ? 0 : (size_t)slash;
	if (w->done.p)
		w->done.p[w->done.n] = '\0';
	return stand_at_done(w, err);
}

static int follow(struct walk *w, const char *name, struct err *err)
{
	AUTO_FREE char *link = xmalloc(PATH_MAX);
	AUTO(buf) struct buf left = BUF_INIT;
	ssize_t n = readlinkat(w->fd, name, link, PATH_MAX);

	if (n < 0 || n == PATH_MAX)
		return err_errno(err, n < 0 ? errno : ENAMETOOLONG, "read link %s", name);
	if (++w->links > RESOLVE_LINKS_MAX)
		return err_set(err, ERR_INVALID, "more than %d symbolic links in a path", RESOLVE_LINKS_MAX);
	buf_add(&left, link, (size_t)n);
	buf_addc(&left, '/');
	buf_addstr(&left, buf_str(&w->left));
	buf_fini(&w->left);
	w->left = left;
	left = BUF_INIT;
	if (link[0] != '/')
		return 0;
	buf_clear(&w->done);
	return stand_at_done(w, err);
}

static int go_down(struct walk *w, const char *name, struct err *err)
{
	struct stat st;
	int fd;

	if (w->create && mkdirat(w->fd, name, 0755) == 0 && fchmodat(w->fd, name, 0755, 0) < 0)
		return err_errno(err, errno, "make %s", name);
	if (fstatat(w->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "%s", name);
	if (S_ISLNK(st.st_mode))
		return follow(w, name, err);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_INVALID, "%s/%s is not a directory", buf_cstr(&w->done), name);
	if (w->create)
		resolver_name(w->r, &st);
	fd = openat(w->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", name);
	close(w->fd);
	w->fd = fd;
	if (w->done.n)
		buf_addc(&w->done, '/');
	buf_adds(&w->done, name);
	return 0;
}

static int step(struct walk *w, struct err *err)
{
	AUTO(buf) struct buf left = w->left;
	AUTO_FREE char *name = NULL;
	struct str rest = buf_str(&left), head;

	w->left = BUF_INIT;
	if (!str_split(&rest, '/', &head))
		return 0;
	name = str_dup(head);
	buf_addstr(&w->left, rest);
	if (!*name || !strcmp(name, "."))
		return 0;
	if (!strcmp(name, ".."))
		return go_up(w, err);
	return go_down(w, name, err);
}

static int walk_to(struct resolver *r, struct str path, bool create, int *fd, struct err *err)
{
	AUTO(walk) struct walk w = {.r = r, .done = BUF_INIT, .left = BUF_INIT, .fd = -1, .create = create};

	buf_addstr(&w.left, path);
	TRY(stand_at_done(&w, err));
	while (w.left.n)
		TRY(step(&w, err));
	*fd = STEAL_FD(w.fd);
	buf_clear(&r->real);
	buf_addstr(&r->real, buf_str(&w.done));
	return 0;
}

int resolver_dir(struct resolver *r, struct str path, bool create, int *fd, struct err *err)
{
	if (r->fd < 0 || !str_eq(path, buf_str(&r->path))) {
		resolver_forget(r);
		TRY_WRAP(walk_to(r, path, create, &r->fd, err), err, STR_FMT, STR_ARG(path));
		buf_clear(&r->path);
		buf_addstr(&r->path, path);
	}
	*fd = r->fd;
	return 0;
}
