/* From a chain of snapshots to mounts, and the directories behind an active one. */
#include "snapshotter/internal.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define XATTR_LIST_MAX 65536
#define XATTR_VALUE_MAX 65536
#define OPTIONS_BYTES 3500 /* of a page: clients rewrite lowerdir when there is more */

void snap_mounts_fini(struct snap_mounts *m)
{
	vec_each(&m->v, it) {
		free(it->type);
		free(it->source);
		vec_each(&it->options, o)
			free(*o);
		vec_fini(&it->options);
	}
	vec_fini(&m->v);
}

void snap_chain_fini(struct snap_chain *c)
{
	vec_fini(&c->plain);
	vec_fini(&c->indexes);
}

static void reverse(struct snap_chain *c)
{
	for (size_t i = 0, j = c->indexes.n; i + 1 < j; i++) {
		struct digest tmp = c->indexes.p[i];

		c->indexes.p[i] = c->indexes.p[--j];
		c->indexes.p[j] = tmp;
	}
}

int snap_chain_load(struct snap_store *s, struct snap_space sp, const char *name, struct snap_chain *out,
                    struct err *err)
{
	AUTO(snap_chain) struct snap_chain c = SNAP_CHAIN_INIT;
	AUTO_FREE char *at = xstrdup(name);

	while (*at) {
		AUTO(snap_record) struct snap_record r = {0};

		TRY(snap_record_load(s->kv, sp, at, &r, err));
		if (r.info.has_dir && c.indexes.n)
			return err_set(err, ERR_DATA_LOSS, "snapshot %s: a plain layer below an indexed one", at);
		if (r.info.has_dir)
			vec_push(&c.plain, r.id);
		if (r.info.indexed)
			vec_push(&c.indexes, r.info.index_key);
		free(at);
		at = STEAL(r.info.parent);
	}
	reverse(&c);
	*out = c;
	c = SNAP_CHAIN_INIT;
	return 0;
}

int snap_chain_of(struct snap_store *s, struct snap_space sp, const struct snap_record *r, struct snap_chain *out,
                  struct err *err)
{
	TRY(snap_chain_load(s, sp, r->info.parent, out, err));
	if (r->lower.n)
		vec_clear(&out->indexes);
	vec_each(&r->lower, key)
		vec_push(&out->indexes, *key);
	if (r->info.indexed)
		vec_push(&out->indexes, r->info.index_key);
	return 0;
}

static struct snap_mount *add_mount(struct snap_mounts *out, const char *type, TAKE(char *) source)
{
	struct snap_mount *m = vec_add(&out->v);

	m->type = xstrdup(type);
	m->source = source;
	return m;
}

static void bind_mount(struct snap_mounts *out, TAKE(char *) source, bool writable)
{
	struct snap_mount *m = add_mount(out, "bind", source);

	vec_push(&m->options, xstrdup(writable ? "rw" : "ro"));
	vec_push(&m->options, xstrdup("rbind"));
}

/* Directories of the plain layers, nearest first, as lowerdir lists them, or short links to them; then `last`. */
static void lower_of(struct snap_store *s, const struct snap_chain *chain, bool links, const char *last,
                     struct buf *out)
{
	buf_clear(out);
	vec_each(&chain->plain, id)
		buf_addf(out, links ? "%s%s/" SNAP_LINKS "/%llu" : "%s%s/snapshots/%llu/fs", out->n ? ":" : "",
		         links ? s->state : s->root, (unsigned long long)*id);
	if (last)
		buf_addf(out, "%s%s", out->n ? ":" : "", last);
}

static int make_links(struct snap_store *s, const struct snap_chain *chain, struct err *err)
{
	AUTO_FREE char *links = xasprintf("%s/" SNAP_LINKS, s->state);

	TRY(dir_make(links, 0711, err));
	vec_each(&chain->plain, id) {
		AUTO_FREE char *link = xasprintf("%s/%llu", links, (unsigned long long)*id);
		AUTO_FREE char *to = xasprintf("%s/snapshots/%llu/fs", s->root, (unsigned long long)*id);

		if (symlink(to, link) < 0 && errno != EEXIST)
			return err_errno(err, errno, "link %s", link);
	}
	return 0;
}

/* What is below an upper directory, twice: as directories that anybody can read, and for the kernel alone the same with
 * data-only layers (docs/decisions/two-lists-of-lower-directories.md). `parts` stays empty where there are none. */
struct lists {
	struct buf tree, parts;
};

static void lists_fini(struct lists *l)
{
	buf_fini(&l->tree);
	buf_fini(&l->parts);
}
DEFINE_AUTO_FINI(lists);

static void lists_fill(struct snap_store *s, const struct snap_chain *chain, bool links, const struct snap_lower *meta,
                       struct lists *out)
{
	lower_of(s, chain, links, meta->tree, &out->tree);
	if (meta->parts)
		lower_of(s, chain, links, meta->parts, &out->parts);
}

static bool lists_fit(const struct snap_store *s, const struct lists *l)
{
	size_t others = 2 * strlen(s->root) + 128; /* upperdir, workdir, and what has a fixed length */

	return l->tree.n + l->parts.n + others <= OPTIONS_BYTES;
}

/* mount(2) takes a page of options. Clients shorten a longer list by themselves when all of it lies in one folder, as
 * directories do; what lies in two folders becomes short links in one. Where that is too long, too, the list for the kernel
 * alone is left out. */
static int lists_make(struct snap_store *s, const struct snap_chain *chain, const struct snap_lower *meta,
                      struct lists *out, struct err *err)
{
	lists_fill(s, chain, false, meta, out);
	if (!meta->tree || lists_fit(s, out))
		return 0;
	TRY(make_links(s, chain, err));
	lists_fill(s, chain, true, meta, out);
	if (!lists_fit(s, out))
		buf_clear(&out->parts);
	return 0;
}

/* An option, and behind it in the same string the second list. */
static char *with_parts(TAKE(char *) option, const struct lists *l)
{
	char *both = l->parts.n ? xasprintf("%s,lowerdir=%s", option, l->parts.p) : NULL;

	if (!both)
		return option;
	free(option);
	return both;
}

/* Directories lie on one file system. BuildKit finds the one of a layer in options that it knows, in containerd's own that
 * is: others have it compare trees. */
static void options_of_directories(struct snap_mount *m, const char *upper, const char *work, const struct lists *lower)
{
	vec_push(&m->options, xstrdup("index=off"));
	if (upper) {
		vec_push(&m->options, xasprintf("workdir=%s", work));
		vec_push(&m->options, xasprintf("upperdir=%s", upper));
	}
	vec_push(&m->options, xasprintf("lowerdir=%s", buf_cstr(&lower->tree)));
}

/* Of two lists the kernel takes the second. It stands behind what who only reads leaves away: workdir. */
static void options_of_image(struct snap_mount *m, const char *upper, const char *work, const struct lists *lower)
{
	if (upper) {
		vec_push(&m->options, xstrdup("index=off"));
		vec_push(&m->options, xstrdup("xino=on"));
		vec_push(&m->options, xasprintf("upperdir=%s", upper));
	} else {
		vec_push(&m->options, xstrdup("ro"));
	}
	vec_push(&m->options, xasprintf("lowerdir=%s", buf_cstr(&lower->tree)));
	vec_push(&m->options, with_parts(upper ? xasprintf("workdir=%s", work) : xstrdup("xino=on"), lower));
}

static int overlay_mount(struct snap_store *s, enum snap_kind kind, uint64_t id, const struct snap_chain *chain,
                         const struct snap_lower *meta, struct snap_mounts *out, struct err *err)
{
	struct snap_mount *m = add_mount(out, "overlay", xstrdup("overlay"));
	AUTO(lists) struct lists lower = {BUF_INIT, BUF_INIT};
	AUTO_FREE char *fs = xasprintf("%s/snapshots/%llu/fs", s->root, (unsigned long long)id);
	AUTO_FREE char *work = xasprintf("%s/snapshots/%llu/work", s->root, (unsigned long long)id);
	const char *upper = kind == SNAP_ACTIVE ? fs : NULL;

	TRY(lists_make(s, chain, meta, &lower, err));
	/* A read-only overlay needs two layers; data-only ones count. */
	if (!upper && chain->plain.n == 0 && !lower.parts.n)
		buf_addf(&lower.tree, ":%s", fs);
	if (meta->tree)
		options_of_image(m, upper, work, &lower);
	else
		options_of_directories(m, upper, work, &lower);
	return 0;
}

int snap_mounts_make(struct snap_store *s, enum snap_kind kind, uint64_t id, const struct snap_chain *chain,
                     struct snap_mounts *out, struct err *err)
{
	AUTO(snap_lower) struct snap_lower lower = {0};

	if (chain->indexes.n)
		TRY(snap_meta_ensure(s->meta, chain->indexes.p, (unsigned)chain->indexes.n, &lower, err));
	else if (chain->plain.n == 0) {
		bind_mount(out, xasprintf("%s/snapshots/%llu/fs", s->root, (unsigned long long)id),
		           kind == SNAP_ACTIVE);
		return 0;
	} else if (kind == SNAP_VIEW && chain->plain.n == 1) {
		bind_mount(out, xasprintf("%s/snapshots/%llu/fs", s->root, (unsigned long long)chain->plain.p[0]),
		           false);
		return 0;
	}
	return overlay_mount(s, kind, id, chain, &lower, out, err);
}

/* ---- directories ---- */

/* Mode, owner, times and attributes of the root directory that the container would see without an upper one. */
static int copy_root(const char *from, const char *to, struct err *err)
{
	AUTO_FREE char *names = xmalloc(XATTR_LIST_MAX);
	AUTO_FREE char *value = xmalloc(XATTR_VALUE_MAX);
	struct timespec times[2];
	struct stat st;
	ssize_t n;

	if (stat(from, &st) < 0)
		return err_errno(err, errno, "stat %s", from);
	if (chown(to, st.st_uid, st.st_gid) < 0 || chmod(to, st.st_mode & 07777) < 0)
		return err_errno(err, errno, "set owner and mode of %s", to);
	n = listxattr(from, names, XATTR_LIST_MAX);
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1) {
		ssize_t len;

		if (str_starts(str_of(names + at), STR("trusted.overlay.")))
			continue;
		len = getxattr(from, names + at, value, XATTR_VALUE_MAX);
		if (len >= 0 && setxattr(to, names + at, value, (size_t)len, 0) < 0)
			return err_errno(err, errno, "set %s on %s", names + at, to);
	}
	times[0] = st.st_mtim;
	times[1] = st.st_mtim;
	if (utimensat(AT_FDCWD, to, times, 0) < 0)
		return err_errno(err, errno, "set times of %s", to);
	return 0;
}

int snap_dirs_make(struct snap_store *s, enum snap_kind kind, uint64_t id, const struct snap_chain *chain,
                   struct err *err)
{
	AUTO_FREE char *base = xasprintf("%s/snapshots/%llu", s->root, (unsigned long long)id);
	AUTO_FREE char *fs = xasprintf("%s/fs", base);
	AUTO_FREE char *work = xasprintf("%s/work", base);
	AUTO_FREE char *plain = NULL;
	AUTO(snap_lower) struct snap_lower lower = {0};

	/* chmod: whatever the umask. */
	if (mkdir(base, 0700) < 0 || mkdir(fs, 0755) < 0 || chmod(fs, 0755) < 0)
		return err_errno(err, errno, "make %s", fs);
	if (kind == SNAP_ACTIVE && (mkdir(work, 0711) < 0 || chmod(work, 0711) < 0))
		return err_errno(err, errno, "make %s", work);
	if (chain->plain.n)
		plain = xasprintf("%s/snapshots/%llu/fs", s->root, (unsigned long long)chain->plain.p[0]);
	else if (chain->indexes.n)
		TRY(snap_meta_ensure(s->meta, chain->indexes.p, (unsigned)chain->indexes.n, &lower, err));
	return plain || lower.tree ? copy_root(plain ?: lower.tree, fs, err) : 0;
}

int snap_dir_is_empty(struct snap_store *s, uint64_t id, bool *out, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%llu/fs", (unsigned long long)id);
	AUTO_FD int fd = -1;
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	int more;

	fd = openat(s->snapshots_fd, path, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open snapshot directory %s", path);
	TRY(dir_iter_open(fd, &d, err));
	more = dir_iter_next(d, &e, err);
	*out = more == 0;
	return more < 0 ? more : 0;
}

int snap_dirs_follow(struct snap_store *s, uint64_t id, const struct snap_chain *chain, struct err *err)
{
	AUTO_FREE char *fs = xasprintf("%s/snapshots/%llu/fs", s->root, (unsigned long long)id);
	AUTO(snap_lower) struct snap_lower lower = {0};
	bool empty;

	TRY(snap_dir_is_empty(s, id, &empty, err));
	if (!empty)
		return 0;
	TRY(snap_meta_ensure(s->meta, chain->indexes.p, (unsigned)chain->indexes.n, &lower, err));
	return copy_root(lower.tree, fs, err);
}
