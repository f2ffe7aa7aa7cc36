#include "contentd/fsck/internal.h"

#include "base/file.h"
#include "contentd/meta/kv_rocks.h"
#include "contentd/ops/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#define LOST "lost+found"
#define READ_BYTES (1u << 20)
#define LOSE_TRIES 1000 /* numbers behind a name that is lost more than once */

/* ---- findings ---- */

bool fsck_found(struct fsck *f, const char *area, const char *name, const char *remedy, const char *fmt, ...)
{
	AUTO(buf) struct buf problem = BUF_INIT;
	struct cd_finding finding = {.area = area, .name = name, .remedy = remedy};
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&problem, fmt, ap);
	va_end(ap);
	f->result->found++;
	finding.problem = buf_cstr(&problem);
	if (remedy && f->opts->repair) {
		f->pending = (struct cd_finding){.area = area,
		                                 .name = arena_strdup(&f->arena, name),
		                                 .problem = arena_strdup(&f->arena, finding.problem),
		                                 .remedy = remedy};
		return true;
	}
	f->opts->found(f->opts->arg, &finding);
	return false;
}

bool fsck_repaired(struct fsck *f, int r, const struct err *err)
{
	f->pending.repaired = r >= 0;
	f->pending.failure = r < 0 ? err->msg : NULL;
	f->result->repaired += r >= 0;
	f->opts->found(f->opts->arg, &f->pending);
	return r >= 0;
}

/* ---- repairs ---- */

static int open_lost(struct fsck *f, const char *area, int *out, struct err *err)
{
	AUTO_FD int lost = -1;

	TRY(dir_open(f->root_fd, LOST, 0700, &lost, err));
	return dir_open(lost, area, 0700, out, err);
}

int fsck_lose(struct fsck *f, int dir_fd, const char *name, const char *area, struct err *err)
{
	AUTO_FD int to = -1;
	const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;

	TRY(open_lost(f, area, &to, err));
	for (int i = 0; i < LOSE_TRIES; i++) {
		AUTO_FREE char *as = i ? xasprintf("%s.%d", base, i) : xstrdup(base);

		if (renameat2(dir_fd, name, to, as, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	return err_errno(err, errno, "move %s to " LOST "/%s", name, area);
}

int fsck_unlink(int dir_fd, const char *name, struct err *err)
{
	return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? err_errno(err, errno, "remove %s", name) : 0;
}

int fsck_lose_key(struct fsck *f, struct str key, struct err *err)
{
	const struct kv_op op = {.key = key, .remove = true};
	AUTO(buf) struct buf value = BUF_INIT;
	AUTO_FREE char *key_file = NULL;
	AUTO_FREE char *value_file = NULL;
	AUTO_FD int to = -1;
	struct digest d;
	char hex[65];

	TRY(kv_get(f->kv, key, &value, err));
	TRY(open_lost(f, "records", &to, err));
	digest_of(key.p, key.n, &d);
	key_file = xasprintf("%.16s.key", digest_hex(&d, hex));
	value_file = xasprintf("%.16s.value", hex);
	TRY(file_write_atomic(to, key_file, key, 0600, err));
	TRY(file_write_atomic(to, value_file, buf_str(&value), 0600, err));
	return kv_write(f->kv, &op, 1, true, err);
}

void fsck_drop_record(struct fsck *f, const char *area, const char *name, struct fsck_record *r, const char *remedy,
                      const char *problem)
{
	AUTO(buf) struct buf key = BUF_INIT;
	struct err err = ERR_INIT;

	cd_meta_key(&key, r->kind, r->ns, r->name);
	r->gone = !fsck_found(f, area, name, remedy, "%s", problem) ||
	          fsck_repaired(f, fsck_lose_key(f, buf_str(&key), &err), &err);
}

int fsck_put(struct fsck *f, struct str key, struct str value, struct err *err)
{
	const struct kv_op op = {.key = key, .value = value};

	return kv_write(f->kv, &op, 1, true, err);
}

/* ---- looking ---- */

int fsck_dir(struct fsck *f, const char *path, int *fd, struct err *err)
{
	return file_open_beneath(f->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, true, fd, err);
}

void fsck_names_fini(struct fsck_names *n)
{
	vec_each(&n->v, name)
		free(*name);
	vec_fini(&n->v);
}

int fsck_names(int dir_fd, struct fsck_names *out, struct err *err)
{
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	int more;

	TRY(dir_iter_open(dir_fd, &d, err));
	while ((more = dir_iter_next(d, &e, err)) > 0)
		vec_push(&out->v, xstrdup(e->d_name));
	return more;
}

bool fsck_is_hex64(const char *name)
{
	struct digest ignored;

	return digest_from_hex(str_of(name), &ignored);
}

bool fsck_exists(int dir_fd, struct str name)
{
	AUTO_FREE char *text = str_dup(name);

	return faccessat(dir_fd, text, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int fsck_digest_matches(int dir_fd, const char *name, const struct digest *want, struct err *err)
{
	AUTO_FREE char *chunk = xmalloc(READ_BYTES);
	AUTO(hasher) struct hasher *h = hasher_new();
	struct digest have;
	AUTO_FD int fd = -1;
	ssize_t n;

	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_errno(err, errno, "open %s", name);
	while ((n = read(fd, chunk, READ_BYTES)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EIO ? 0 : err_errno(err, errno, "read %s", name);
		hasher_add(h, chunk, (size_t)n);
	}
	hasher_done(h, &have);
	return digest_eq(&have, want);
}

/* ---- the whole ---- */

/* The data plane outlives daemons. */
static int look_for_contentfs(struct fsck *f, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/contentfs.lock", f->opts->state);
	AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	f->data_in_use = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
	if (f->data_in_use && f->opts->repair)
		return err_set(err, ERR_EXISTS,
		               "contentfs serves %s: end it before a repair (kill the process in %s/contentfs.pid)",
		               f->opts->state, f->opts->state);
	return 0;
}

static int check(struct fsck *f, struct err *err)
{
	TRY(fsck_records(f, err));
	TRY(fsck_layers(f, err));
	TRY(fsck_content(f, err));
	TRY(fsck_snapshots(f, err));
	TRY(fsck_refs(f, err));
	return fsck_pins(f, err);
}

/* A database that does not open is put together anew from what its files still have. */
static int open_database(struct fsck *f, struct kv_rocks **out, struct err *err)
{
	AUTO_FREE char *dir = xasprintf("%s/db", f->opts->root);
	struct err why = ERR_INIT, failed = ERR_INIT;
	int r = kv_rocks_open(dir, out, &why);

	if (r >= 0)
		return 0;
	if (why.code != ERR_DATA_LOSS)
		return err_set(err, why.code, "%s", why.msg);
	if (!fsck_found(f, "database", "db", "put together anew from what its files still have", "%s", why.msg))
		return err_set(err, ERR_DATA_LOSS, "nothing else can be checked without the database");
	r = kv_rocks_repair(dir, &failed);
	if (r >= 0)
		r = kv_rocks_open(dir, out, &failed);
	fsck_repaired(f, r, &failed);
	return r < 0 ? err_set(err, failed.code, "%s", failed.msg) : 0;
}

static int check_root(struct fsck *f, struct err *err)
{
	AUTO(kv_rocks) struct kv_rocks *rocks = NULL;
	AUTO(ffs_store) struct ffs_store *store = NULL;
	AUTO(cd_meta) struct cd_meta *meta = NULL;
	AUTO_FREE char *db = xasprintf("%s/db/CURRENT", f->opts->root);

	if (access(db, F_OK) < 0)
		return err_set(err, ERR_NOT_FOUND, "%s holds no store of contentd: there is no db/CURRENT",
		               f->opts->root);
	TRY(open_database(f, &rocks, err));
	f->kv = kv_rocks_kv(rocks);
	TRY(cd_meta_new(f->kv, &meta, err)); /* the schema version */
	TRY(ffs_store_look(f->opts->root, &store, err));
	f->store = store;
	return check(f, err);
}

int cd_fsck(const struct cd_fsck_opts *opts, struct cd_fsck_result *out, struct err *err)
{
	struct fsck f = {.opts = opts, .result = out};
	AUTO_FD int root = -1;
	AUTO_FD int lock = -1;
	int r;

	*out = (struct cd_fsck_result){0};
	root = open(opts->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_errno(err, errno, "%s", opts->root);
	TRY(cd_dir_lock(opts->root, &lock, err));
	f.root_fd = root;
	TRY(look_for_contentfs(&f, err));
	arena_init(&f.arena, SIZE_MAX);
	r = check_root(&f, err);
	vec_each(&f.snapshots, s)
		snap_record_fini(&s->record);
	vec_fini(&f.snapshots);
	vec_fini(&f.records);
	map_fini(&f.contents);
	map_fini(&f.namespaces);
	map_fini(&f.indexes);
	arena_fini(&f.arena);
	return r;
}
