#include "contentd/content/content.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "rpc/pb.h"
#include "rpc/proto/contentd_records.pb-c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#define INFO_BYTES_MAX (64u << 10)
#define REHASH_BYTES (1u << 20)
#define TEMPORARY ".put-" /* small blobs on their way; removed at the start */

struct cd_content {
	int blobs_fd, ingest_fd;
	pthread_mutex_t lock;
	pthread_cond_t freed; /* a writer went, or what was condemned */
	struct map writers;   /* ingest name -> struct cd_writer; lock */
	struct map condemned; /* names of blobs and ingests that are about to be deleted; lock */
	atomic_uint temporaries;
};

struct cd_writer {
	struct cd_content *content;
	char name[65]; /* of the ingest's directory */
	int fd;
	int64_t offset;
	struct hasher *hasher;
	struct timespec started;
};

/* ---- opening ---- */

static bool is_dot(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* A new stream over a directory that stays open. */
static int dir_stream(int dir_fd, DIR **out, struct err *err)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, errno, "content: open directory");
	*out = fdopendir(fd);
	if (*out)
		return 0;
	close(fd);
	return err_errno(err, errno, "content: read directory");
}

/* Small blobs that were being written, and ingests that nobody can go on with: they have not come to say what they are, or
 * a crash of the machine took that away, or they are blobs by now. */
static int remove_temporaries(struct cd_content *c, struct err *err)
{
	struct dirent *e;
	DIR *dir;

	TRY(dir_stream(c->ingest_fd, &dir, err));
	while ((e = readdir(dir))) {
		struct err why = ERR_INIT;

		if (is_dot(e->d_name) || cd_ingest_check(c->ingest_fd, e->d_name, NULL) >= 0)
			continue;
		if (dir_remove(c->ingest_fd, e->d_name, &why) < 0)
			log_warn("content/ingest: %s", why.msg);
	}
	closedir(dir);
	return 0;
}

static int open_dir(const char *root, const char *name, int *fd, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/%s", root, name);

	TRY(dir_make(path, 0700, err));
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *fd < 0 ? err_errno(err, errno, "open %s", path) : 0;
}

int cd_content_open(const char *root, struct cd_content **out, struct err *err)
{
	AUTO(cd_content) struct cd_content *c = xcalloc(1, sizeof(*c));

	c->blobs_fd = c->ingest_fd = -1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->freed, NULL);
	TRY(open_dir(root, "content/blobs/sha256", &c->blobs_fd, err));
	TRY(open_dir(root, "content/ingest", &c->ingest_fd, err));
	TRY(remove_temporaries(c, err));
	*out = STEAL(c);
	return 0;
}

void cd_content_close(struct cd_content *c)
{
	if (!c)
		return;
	if (c->blobs_fd >= 0)
		close(c->blobs_fd);
	if (c->ingest_fd >= 0)
		close(c->ingest_fd);
	map_fini(&c->writers);
	map_fini(&c->condemned);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->freed);
	free(c);
}

/* ---- what is about to be deleted: blobs by their hex digits, ingests by the name of their directory and a slash ---- */

static void condemn(struct cd_content *c, struct str name)
{
	pthread_mutex_lock(&c->lock);
	map_put(&c->condemned, name, c);
	pthread_mutex_unlock(&c->lock);
}

static void spare(struct cd_content *c, struct str name)
{
	pthread_mutex_lock(&c->lock);
	map_del(&c->condemned, name);
	pthread_cond_broadcast(&c->freed);
	pthread_mutex_unlock(&c->lock);
}

static bool is_condemned(struct cd_content *c, struct str name)
{
	bool condemned;

	pthread_mutex_lock(&c->lock);
	condemned = map_has(&c->condemned, name);
	pthread_mutex_unlock(&c->lock);
	return condemned;
}

/* A moment: the collector is between a removal of records and of their files. */
static void wait_until_dropped(struct cd_content *c, struct str name)
{
	pthread_mutex_lock(&c->lock);
	while (map_has(&c->condemned, name))
		pthread_cond_wait(&c->freed, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

/* ---- blobs ---- */

int cd_blob_open(struct cd_content *c, const struct digest *d, int *fd, int64_t *bytes, struct err *err)
{
	AUTO_FD int blob = -1;
	char hex[65], text[DIGEST_TEXT_MAX];
	struct stat st;

	digest_hex(d, hex);
	if (is_condemned(c, str_of(hex)))
		return err_set(err, ERR_NOT_FOUND, "content %s: not found", digest_text(d, text));
	blob = openat(c->blobs_fd, hex, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (blob < 0 && errno == ENOENT)
		return err_set(err, ERR_NOT_FOUND, "content %s: not found", digest_text(d, text));
	if (blob < 0 || fstat(blob, &st) < 0)
		return err_errno(err, errno, "content %s", digest_text(d, text));
	*bytes = st.st_size;
	*fd = STEAL_FD(blob);
	return 0;
}

bool cd_blob_has(struct cd_content *c, const struct digest *d)
{
	char hex[65];

	digest_hex(d, hex);
	return !is_condemned(c, str_of(hex)) && faccessat(c->blobs_fd, hex, F_OK, 0) == 0;
}

static int write_temporary(struct cd_content *c, const char *name, struct str bytes, struct err *err)
{
	AUTO_FD int fd = -1;

	fd = openat(c->ingest_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd < 0)
		return err_errno(err, errno, "content: create file");
	TRY(fd_write_all(fd, bytes, err));
	return fdatasync(fd) < 0 ? err_errno(err, errno, "content: sync") : 0;
}

static int put_one(struct cd_content *c, const struct cd_blob_new *b, struct err *err)
{
	char hex[65], name[128];
	int r;

	wait_until_dropped(c, str_of(digest_hex(&b->digest, hex)));
	if (cd_blob_has(c, &b->digest))
		return 0;
	snprintf(name, sizeof(name), TEMPORARY "%u-%s", atomic_fetch_add(&c->temporaries, 1), hex);
	r = write_temporary(c, name, b->bytes, err);
	if (r >= 0 && renameat(c->ingest_fd, name, c->blobs_fd, hex) < 0)
		r = err_errno(err, errno, "content: rename");
	if (r < 0)
		unlinkat(c->ingest_fd, name, 0);
	return r;
}

int cd_blobs_put(struct cd_content *c, const struct cd_blob_new *blobs, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		TRY(put_one(c, &blobs[i], err));
	return dir_sync(c->blobs_fd, err);
}

void cd_blob_condemn(struct cd_content *c, const struct digest *d)
{
	char hex[65];

	condemn(c, str_of(digest_hex(d, hex)));
}

void cd_blob_spare(struct cd_content *c, const struct digest *d)
{
	char hex[65];

	spare(c, str_of(digest_hex(d, hex)));
}

int cd_blob_drop(struct cd_content *c, const struct digest *d, struct err *err)
{
	char hex[65];
	int r = 0;

	if (unlinkat(c->blobs_fd, digest_hex(d, hex), 0) < 0 && errno != ENOENT)
		r = err_errno(err, errno, "content: remove %s", hex);
	spare(c, str_of(hex));
	return r;
}

int cd_blob_each(struct cd_content *c, int (*fn)(void *arg, const struct digest *d, int64_t bytes, struct err *err),
                 void *arg, struct err *err)
{
	struct dirent *e;
	DIR *dir;
	int r = 0;

	TRY(dir_stream(c->blobs_fd, &dir, err));
	while (r >= 0 && (e = readdir(dir))) {
		struct digest d;
		struct stat st;

		if (digest_from_hex(str_of(e->d_name), &d) &&
		    fstatat(c->blobs_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			r = fn(arg, &d, st.st_size, err);
	}
	closedir(dir);
	return r < 0 ? r : 0;
}

/* ---- ingests on disk: <name>/data, and <name>/info with a Records__Ingest ---- */

static void ingest_name(const char *ns, const char *ref, char name[static 65])
{
	AUTO(buf) struct buf key = BUF_INIT;
	struct digest d;

	buf_adds(&key, ns);
	buf_addc(&key, '\0');
	buf_adds(&key, ref);
	digest_of(key.p, key.n, &d);
	digest_hex(&d, name);
}

static int info_write(struct cd_content *c, const char *name, const Records__Ingest *info, struct err *err)
{
	AUTO(buf) struct buf wire = BUF_INIT;
	AUTO_FREE char *new = xasprintf("%s/info.new", name);
	AUTO_FREE char *path = xasprintf("%s/info", name);
	AUTO_FD int fd = -1;

	pb_pack(&info->base, &wire);
	fd = openat(c->ingest_fd, new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, errno, "content: write ingest");
	TRY(fd_write_all(fd, buf_str(&wire), err));
	return renameat(c->ingest_fd, new, c->ingest_fd, path) < 0 ? err_errno(err, errno, "content: write ingest") : 0;
}

/* *out: pb_free. */
static int info_read_at(int ingest_fd, const char *name, Records__Ingest **out, struct err *err)
{
	AUTO(buf) struct buf wire = BUF_INIT;
	AUTO_FREE char *path = xasprintf("%s/info", name);

	TRY(file_read(ingest_fd, path, INFO_BYTES_MAX, &wire, err));
	return pb_unpack(&records__ingest__descriptor, buf_str(&wire), out, err);
}

static int info_read(struct cd_content *c, const char *name, Records__Ingest **out, struct err *err)
{
	return info_read_at(c->ingest_fd, name, out, err);
}

int cd_ingest_check(int ingest_fd, const char *name, struct err *err)
{
	AUTO_FREE char *data = xasprintf("%s/data", name);
	AUTO(pb) Records__Ingest *info = NULL;
	struct stat st;
	char right[65];

	if (info_read_at(ingest_fd, name, &info, err) < 0)
		return err_set(err, ERR_DATA_LOSS, "does not say what is being written");
	ingest_name(info->namespace_, info->ref, right);
	if (strcmp(name, right))
		return err_set(err, ERR_DATA_LOSS, "is that of another ref than its name says");
	if (fstatat(ingest_fd, data, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, ERR_DATA_LOSS, "has no data");
	return 0;
}

void cd_ingest_status_fini(struct cd_ingest_status *s)
{
	free(s->ns);
	free(s->ref);
	free(s->expected);
	*s = (struct cd_ingest_status){0};
}

static int stat_by_name(struct cd_content *c, const char *name, struct cd_ingest_status *out, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/data", name);
	AUTO(pb) Records__Ingest *info = NULL;
	struct stat st;

	TRY(info_read(c, name, &info, err));
	if (fstatat(c->ingest_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "content: ingest");
	*out = (struct cd_ingest_status){
	    .ns = xstrdup(info->namespace_),
	    .ref = xstrdup(info->ref),
	    .expected = xstrdup(info->expected),
	    .offset = st.st_size,
	    .total = info->total,
	    .started = pb_time(info->started_at),
	    .updated = st.st_mtim,
	    .expires = pb_time(info->expire_at),
	};
	return 0;
}

int cd_ingest_stat(struct cd_content *c, const char *ns, const char *ref, struct cd_ingest_status *out, struct err *err)
{
	char name[65];
	int r;

	ingest_name(ns, ref, name);
	r = stat_by_name(c, name, out, err);
	return r == -ERR_NOT_FOUND ? err_set(err, ERR_NOT_FOUND, "ingest \"%.200s\": not found", ref) : r;
}

int cd_ingest_each(struct cd_content *c, const char *ns,
                   int (*fn)(void *arg, const struct cd_ingest_status *s, struct err *err), void *arg, struct err *err)
{
	struct dirent *e;
	DIR *dir;
	int r = 0;

	TRY(dir_stream(c->ingest_fd, &dir, err));
	while (r >= 0 && (e = readdir(dir))) {
		AUTO(cd_ingest_status) struct cd_ingest_status s = {0};

		if (is_dot(e->d_name) || stat_by_name(c, e->d_name, &s, NULL) < 0)
			continue;
		if (!ns || !strcmp(ns, s.ns))
			r = fn(arg, &s, err);
	}
	closedir(dir);
	return r < 0 ? r : 0;
}

bool cd_ingest_is_busy(struct cd_content *c, const char *ns, const char *ref)
{
	char name[65];
	bool busy;

	ingest_name(ns, ref, name);
	pthread_mutex_lock(&c->lock);
	busy = map_has(&c->writers, str_of(name));
	pthread_mutex_unlock(&c->lock);
	return busy;
}

#define INGEST_CONDEMNED_BYTES 66

static void condemned_ingest(const char name[static 65], char out[static INGEST_CONDEMNED_BYTES])
{
	snprintf(out, INGEST_CONDEMNED_BYTES, "%.64s/", name);
}

bool cd_ingest_condemn(struct cd_content *c, const char *ns, const char *ref)
{
	char name[65], condemned[INGEST_CONDEMNED_BYTES];
	bool busy;

	ingest_name(ns, ref, name);
	condemned_ingest(name, condemned);
	pthread_mutex_lock(&c->lock);
	/* By somebody else: he will spare it when he has dropped it, and whoever waits for that is not to lose his own. */
	busy = map_has(&c->writers, str_of(name)) || map_has(&c->condemned, str_of(condemned));
	if (!busy)
		map_put(&c->condemned, str_of(condemned), c);
	pthread_mutex_unlock(&c->lock);
	return !busy;
}

void cd_ingest_spare(struct cd_content *c, const char *ns, const char *ref)
{
	char name[65], condemned[INGEST_CONDEMNED_BYTES];

	ingest_name(ns, ref, name);
	condemned_ingest(name, condemned);
	spare(c, str_of(condemned));
}

int cd_ingest_drop(struct cd_content *c, const char *ns, const char *ref, struct err *err)
{
	char name[65];
	int r;

	ingest_name(ns, ref, name);
	r = dir_remove(c->ingest_fd, name, err);
	cd_ingest_spare(c, ns, ref);
	return r;
}

/* ---- writers ---- */

/* Takes the ingest's name for a writer: ERR_UNAVAILABLE when it is taken, and stays so. */
static int claim(struct cd_content *c, struct cd_writer *w, const char *ref, int64_t patience_ns, struct err *err)
{
	const int64_t at = clock_mono_ns() + patience_ns;
	const struct timespec until = {at / NS_PER_S, at % NS_PER_S};
	char condemned[INGEST_CONDEMNED_BYTES];
	bool taken = false;

	condemned_ingest(w->name, condemned);
	pthread_mutex_lock(&c->lock);
	for (;;) {
		if (map_has(&c->condemned, str_of(condemned))) {
			pthread_cond_wait(&c->freed, &c->lock);
			continue;
		}
		taken = map_has(&c->writers, str_of(w->name));
		if (!taken || pthread_cond_clockwait(&c->freed, &c->lock, CLOCK_MONOTONIC, &until))
			break;
	}
	if (!taken)
		map_put(&c->writers, str_of(w->name), w);
	pthread_mutex_unlock(&c->lock);
	return taken ? err_set(err, ERR_UNAVAILABLE, "ref \"%.200s\" is locked by another writer", ref) : 0;
}

/* The ingest is this writer's until it is committed or taken away; then its name may be another one's. Lock held. */
static bool owns(const struct cd_writer *w)
{
	return map_get(&w->content->writers, str_of(w->name)) == w;
}

static void unclaim(struct cd_writer *w)
{
	struct cd_content *c = w->content;

	pthread_mutex_lock(&c->lock);
	if (owns(w))
		map_del(&c->writers, str_of(w->name));
	pthread_cond_broadcast(&c->freed);
	pthread_mutex_unlock(&c->lock);
}

struct waiting {
	struct cd_content *content;
	bool cancelled; /* content->lock */
};

static void stop_waiting(void *arg)
{
	struct waiting *w = arg;

	pthread_mutex_lock(&w->content->lock);
	w->cancelled = true;
	pthread_cond_broadcast(&w->content->freed);
	pthread_mutex_unlock(&w->content->lock);
}

int cd_content_wait(struct cd_content *c, const char *ns, const char *ref, struct rpc_call *call, struct err *err)
{
	struct waiting w = {.content = c};
	char name[65];

	ingest_name(ns, ref, name);
	if (call)
		rpc_on_cancel(call, stop_waiting, &w);
	pthread_mutex_lock(&c->lock);
	while (map_has(&c->writers, str_of(name)) && !w.cancelled)
		pthread_cond_wait(&c->freed, &c->lock);
	pthread_mutex_unlock(&c->lock);
	if (call)
		rpc_off_cancel(call, &w);
	return call ? rpc_cancelled(call, err) : 0;
}

static int gone(struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "the ingest was aborted: not found");
}

static int check_alive(struct cd_writer *w, struct err *err)
{
	bool alive;

	pthread_mutex_lock(&w->content->lock);
	alive = owns(w);
	pthread_mutex_unlock(&w->content->lock);
	return alive ? 0 : gone(err);
}

static int rehash(struct cd_writer *w, struct err *err)
{
	AUTO_FREE char *chunk = xmalloc(REHASH_BYTES);
	int64_t at = 0;

	while (at < w->offset) {
		size_t n = w->offset - at > REHASH_BYTES ? REHASH_BYTES : (size_t)(w->offset - at);

		TRY(fd_pread_all(w->fd, chunk, n, at, err));
		hasher_add(w->hasher, chunk, n);
		at += (int64_t)n;
	}
	return 0;
}

/* The time of the file is when the ingest was updated, for whoever asks. The kernel stamps by a clock that is up to a tick
 * behind: a client would see an update from before its write. */
static int stamp(const struct cd_writer *w, struct err *err)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, clock_wall()};

	return futimens(w->fd, times) < 0 ? err_errno(err, errno, "content: time of ingest") : 0;
}

/* Opens what is there, or begins. */
static int writer_load(struct cd_writer *w, const char *ns, const char *ref, int64_t total, const char *expected,
                       struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/data", w->name);
	AUTO(pb) Records__Ingest *old = NULL;
	Records__Ingest info = RECORDS__INGEST__INIT;
	Pb__Timestamp started = PB__TIMESTAMP__INIT;
	bool resume = info_read(w->content, w->name, &old, NULL) == 0 && !strcmp(old->ref, ref);
	struct stat st;

	if (mkdirat(w->content->ingest_fd, w->name, 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, "content: make ingest");
	if (resume && total && old->total && old->total != total)
		resume = false;
	w->fd = openat(w->content->ingest_fd, path, O_RDWR | O_CREAT | O_CLOEXEC | (resume ? 0 : O_TRUNC), 0600);
	if (w->fd < 0 || fstat(w->fd, &st) < 0)
		return err_errno(err, errno, "content: open ingest");
	w->offset = st.st_size;
	w->started = resume ? pb_time(old->started_at) : clock_wall();
	if (!resume)
		TRY(stamp(w, err));
	started.seconds = w->started.tv_sec;
	started.nanos = (int32_t)w->started.tv_nsec;
	info.namespace_ = ns;
	info.ref = ref;
	info.total = total || !resume ? total : old->total;
	info.expected = *expected || !resume ? expected : old->expected;
	info.started_at = &started;
	info.expire_at = resume ? old->expire_at : NULL;
	TRY(info_write(w->content, w->name, &info, err));
	return rehash(w, err);
}

int cd_writer_open_within(struct cd_content *c, const char *ns, const char *ref, int64_t total, const char *expected,
                          int64_t patience_ns, struct cd_writer **out, struct err *err)
{
	struct cd_writer *w = xcalloc(1, sizeof(*w));
	int r;

	w->content = c;
	w->fd = -1;
	w->hasher = hasher_new();
	ingest_name(ns, ref, w->name);
	r = claim(c, w, ref, patience_ns, err);
	if (r >= 0)
		r = writer_load(w, ns, ref, total, expected, err);
	if (r < 0)
		cd_writer_close(w);
	else
		*out = w;
	return r;
}

int cd_writer_open(struct cd_content *c, const char *ns, const char *ref, int64_t total, const char *expected,
                   struct cd_writer **out, struct err *err)
{
	return cd_writer_open_within(c, ns, ref, total, expected, 0, out, err);
}

int cd_writer_set_expiry(struct cd_writer *w, const struct timespec *when, struct err *err)
{
	AUTO(pb) Records__Ingest *info = NULL;
	Pb__Timestamp at = PB__TIMESTAMP__INIT, *old;
	int r;

	TRY(check_alive(w, err));
	TRY(info_read(w->content, w->name, &info, err));
	old = info->expire_at;
	if (!when && !old)
		return 0;
	if (when) {
		at.seconds = when->tv_sec;
		at.nanos = (int32_t)when->tv_nsec;
	}
	info->expire_at = when ? &at : NULL;
	r = info_write(w->content, w->name, info, err);
	info->expire_at = old;
	return r;
}

void cd_writer_close(struct cd_writer *w)
{
	if (!w)
		return;
	unclaim(w);
	if (w->fd >= 0)
		close(w->fd);
	hasher_free(w->hasher);
	free(w);
}

int64_t cd_writer_offset(const struct cd_writer *w)
{
	return w->offset;
}

struct timespec cd_writer_started(const struct cd_writer *w)
{
	return w->started;
}

struct timespec cd_writer_updated(const struct cd_writer *w)
{
	struct stat st;

	return fstat(w->fd, &st) == 0 ? st.st_mtim : w->started;
}

void cd_writer_digest(struct cd_writer *w, struct digest *out)
{
	hasher_peek(w->hasher, out);
}

int cd_writer_write(struct cd_writer *w, struct str bytes, struct err *err)
{
	TRY(check_alive(w, err));
	TRY(fd_pwrite_all(w->fd, bytes, w->offset, err));
	hasher_add(w->hasher, bytes.p, bytes.n);
	w->offset += (int64_t)bytes.n;
	return stamp(w, err);
}

int cd_writer_truncate(struct cd_writer *w, struct err *err)
{
	TRY(check_alive(w, err));
	if (ftruncate(w->fd, 0) < 0)
		return err_errno(err, errno, "content: truncate ingest");
	hasher_reset(w->hasher);
	w->offset = 0;
	return stamp(w, err);
}

int cd_writer_fd(struct cd_writer *w)
{
	return w->fd;
}

/* Removes the directory, if it is still this writer's: under the lock, so that it does not become another one's between
 * the look and the removal. */
static int drop(struct cd_writer *w, struct err *err)
{
	struct cd_content *c = w->content;
	int r;

	pthread_mutex_lock(&c->lock);
	r = owns(w) ? dir_remove(c->ingest_fd, w->name, err) : gone(err);
	pthread_mutex_unlock(&c->lock);
	unclaim(w);
	return r;
}

/* Gives the bytes their name, if they are still this writer's: what lies there after an abort is another one's, and nobody
 * has verified it. */
static int publish(struct cd_writer *w, const char *hex, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/data", w->name);
	struct cd_content *c = w->content;
	int r = 0;

	if (fchmod(w->fd, 0444) < 0 || fsync(w->fd) < 0)
		return err_errno(err, errno, "content: sync");
	pthread_mutex_lock(&c->lock);
	if (!owns(w))
		r = gone(err);
	else if (renameat(c->ingest_fd, path, c->blobs_fd, hex) < 0)
		r = err_errno(err, errno, "content: publish %s", hex);
	pthread_mutex_unlock(&c->lock);
	FAILPOINT("content-moved");
	return r;
}

int cd_writer_commit(struct cd_writer *w, const struct digest *digest, struct err *err)
{
	struct cd_content *c = w->content;
	char hex[65];

	TRY(check_alive(w, err));
	wait_until_dropped(c, str_of(digest_hex(digest, hex)));
	if (!cd_blob_has(c, digest))
		TRY(publish(w, hex, err));
	/* Also where another writer was quicker: he may not have come so far yet. */
	TRY(dir_sync(c->blobs_fd, err));
	return drop(w, err);
}

int cd_writer_abort(struct cd_writer *w, struct err *err)
{
	return drop(w, err);
}

int cd_ingest_abort(struct cd_content *c, const char *ns, const char *ref, struct err *err)
{
	struct stat st;
	char name[65];
	int r;

	ingest_name(ns, ref, name);
	pthread_mutex_lock(&c->lock);
	r = fstatat(c->ingest_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0
	        ? err_set(err, ERR_NOT_FOUND, "ingest \"%.200s\": not found", ref)
	        : dir_remove(c->ingest_fd, name, err);
	map_del(&c->writers, str_of(name)); /* its writer finds that out */
	pthread_cond_broadcast(&c->freed);
	pthread_mutex_unlock(&c->lock);
	return r;
}
