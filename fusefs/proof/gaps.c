#include "fusefs/proof/gaps.h"

#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "base/log.h"
#include "base/vectors.h"
#include "fusefs/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc64.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <zstd.h>

#define FLUSH_BYTES (64u << 10) /* large enough to compress well, small enough for those who want one piece of it */
#define RECORD_HEADER 16u
#define PIECE_HEADER 24u
#define BATCH_BYTES_MAX (4u << 20) /* plain; more than what comes together between FLUSH_BYTES and the flush */
#define LOG_BYTES_MAX (1ull << 32)
#define LOG_BYTES_MIN (1u << 20) /* may be kept of the smallest blob: as much is fetched without a thought */
#define LEVEL 1
#define CACHED 16 /* batches: pieces of those that readers brought lie scattered over the blob */

/* ---- collecting ---- */

struct gaps {
	struct ffs_store *store;
	char name[FFS_GAPS_NAME_MAX];
	uint64_t most;        /* bytes of the log: its pieces come out of the blob, where they are packed as well */
	pthread_mutex_t lock; /* guards `pending`, `due` and `failed` */
	struct buf pending;   /* pieces */
	bool due;             /* somebody was told to flush */
	bool failed;          /* the log cannot be written */
	pthread_mutex_t io;   /* one writer at a time; held while it writes; guards what follows */
	int fd;               /* -1: not open yet */
	uint64_t end;         /* of what checks */
	bool closed;          /* forgotten: nothing is written any more */
};

struct gaps *gaps_new(struct ffs_store *store, const struct digest *index_key, uint64_t blob_bytes)
{
	struct gaps *g = xcalloc(1, sizeof(*g));

	g->store = store;
	g->most = blob_bytes < LOG_BYTES_MAX - LOG_BYTES_MIN ? LOG_BYTES_MIN + blob_bytes : LOG_BYTES_MAX;
	ffs_gaps_name(index_key, g->name);
	pthread_mutex_init(&g->lock, NULL);
	pthread_mutex_init(&g->io, NULL);
	g->fd = -1;
	return g;
}

void gaps_free(struct gaps *g)
{
	if (!g)
		return;
	if (g->fd >= 0)
		close(g->fd);
	buf_fini(&g->pending);
	pthread_mutex_destroy(&g->lock);
	pthread_mutex_destroy(&g->io);
	free(g);
}

bool gaps_add(struct gaps *g, uint64_t from, uint64_t until, uint32_t n_chunks, struct str plain)
{
	bool due = false;

	pthread_mutex_lock(&g->lock);
	/* When the disk does not keep up it is better to fetch again than to fill the memory. */
	if (!g->failed && plain.n <= GAPS_PIECE_MAX && g->pending.n + PIECE_HEADER + plain.n <= BATCH_BYTES_MAX) {
		buf_le64(&g->pending, from);
		buf_le64(&g->pending, until);
		buf_le32(&g->pending, n_chunks);
		buf_le32(&g->pending, (uint32_t)plain.n);
		buf_addstr(&g->pending, plain);
		due = !g->due && g->pending.n >= FLUSH_BYTES;
		g->due |= due;
	}
	pthread_mutex_unlock(&g->lock);
	return due;
}

static uint64_t record_crc(const uint8_t *header, struct str packed)
{
	uint64_t crc = crc64_ecma_refl(0, header, 8);

	crc = crc64_ecma_refl(crc, (const uint8_t *)packed.p, packed.n);
	vectors_leave();
	return crc;
}

static int pack(struct str plain, struct buf *out, struct err *err)
{
	size_t room = ZSTD_compressBound(plain.n), n;
	uint8_t *header;

	buf_reserve(out, RECORD_HEADER + room);
	n = ZSTD_compress(out->p + RECORD_HEADER, room, plain.p, plain.n, LEVEL);
	if (ZSTD_isError(n))
		return err_set(err, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(n));
	header = (uint8_t *)out->p;
	put_le32(header, (uint32_t)n);
	put_le32(header + 4, (uint32_t)plain.n);
	put_le64(header + 8, record_crc(header, str_make(out->p + RECORD_HEADER, n)));
	out->n = RECORD_HEADER + n;
	return 0;
}

static int map_log(int fd, struct str *bytes, struct err *err)
{
	struct stat st;
	void *p;

	*bytes = STR_NONE;
	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "stat a gaps log");
	if (st.st_size == 0 || (uint64_t)st.st_size > LOG_BYTES_MAX)
		return 0;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_errno(err, errno, "map a gaps log");
	*bytes = str_make(p, (size_t)st.st_size);
	return 0;
}

static void unmap_log(struct str bytes)
{
	if (bytes.p)
		munmap((void *)bytes.p, bytes.n);
}

/* The header and packed bytes of the record at the beginning of `rest`. False: none that checks. */
static bool record_at(struct str rest, struct str *packed, uint32_t *plain_bytes)
{
	const uint8_t *header = (const uint8_t *)rest.p;
	uint32_t n;

	if (rest.n < RECORD_HEADER)
		return false;
	n = get_le32(header);
	*plain_bytes = get_le32(header + 4);
	*packed = str_sub(rest, RECORD_HEADER, n);
	return packed->n == n && *plain_bytes <= BATCH_BYTES_MAX && get_le64(header + 8) == record_crc(header, *packed);
}

static uint64_t checked_bytes(struct str bytes)
{
	struct str packed;
	uint64_t at = 0;
	uint32_t plain;

	while (record_at(str_sub(bytes, at, SIZE_MAX), &packed, &plain))
		at += RECORD_HEADER + packed.n;
	return at;
}

/* What an earlier process has left is kept as far as it checks. Without `create` it may have left nothing. */
static int open_log(struct gaps *g, bool create, struct err *err)
{
	int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0);
	AUTO_FD int fd = -1;
	struct str bytes;

	if (g->fd >= 0)
		return 0;
	fd = openat(g->store->dirs[FFS_DIR_INDEX], g->name, flags, 0600);
	if (fd < 0 && errno == ENOENT && !create)
		return 0;
	if (fd < 0)
		return err_errno(err, errno, "index/%s", g->name);
	TRY(map_log(fd, &bytes, err));
	g->end = checked_bytes(bytes);
	unmap_log(bytes);
	if (ftruncate(fd, (off_t)g->end) < 0)
		return err_errno(err, errno, "truncate index/%s", g->name);
	g->fd = STEAL_FD(fd);
	return 0;
}

static int append(struct gaps *g, struct str record, struct err *err)
{
	TRY(open_log(g, true, err));
	if (g->end + record.n > g->most)
		return 0; /* what it lacks is fetched again */
	TRY_WRAP(fd_pwrite_all(g->fd, record, (off_t)g->end, err), err, "index/%s", g->name);
	g->end += record.n;
	FAILPOINT("gaps-appended");
	return 0;
}

/* `plain`: may be empty. `io` held. */
static int keep(struct gaps *g, struct str plain, struct err *err)
{
	AUTO(buf) struct buf record = BUF_INIT;
	int r = 0;

	if (plain.n)
		TRY(pack(plain, &record, err));
	/* Opened in any case: it is not cut under one who maps it afterwards. */
	if (!g->closed)
		r = plain.n ? append(g, buf_str(&record), err) : open_log(g, false, err);
	return r;
}

void gaps_flush(struct gaps *g)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	struct err err = ERR_INIT;
	bool failed;

	/* All the while: who flushes finds on disk what another one has just taken. */
	pthread_mutex_lock(&g->io);
	pthread_mutex_lock(&g->lock);
	plain = g->pending;
	g->pending = BUF_INIT;
	g->due = false;
	failed = g->failed;
	pthread_mutex_unlock(&g->lock);
	failed = !failed && keep(g, buf_str(&plain), &err) < 0;
	pthread_mutex_unlock(&g->io);
	if (!failed)
		return;
	log_warn("what the proof of a layer needs is not kept, and will be fetched again: %s", err.msg);
	pthread_mutex_lock(&g->lock);
	g->failed = true;
	pthread_mutex_unlock(&g->lock);
}

void gaps_forget(struct gaps *g)
{
	pthread_mutex_lock(&g->lock);
	buf_fini(&g->pending);
	pthread_mutex_unlock(&g->lock);
	pthread_mutex_lock(&g->io);
	if (g->fd >= 0)
		close(STEAL_FD(g->fd));
	unlinkat(g->store->dirs[FFS_DIR_INDEX], g->name, 0);
	g->closed = true;
	pthread_mutex_unlock(&g->io);
}

/* ---- the log ---- */

struct batch {
	struct str packed;
	uint32_t plain_bytes;
};

struct unpacked {
	uint32_t batch;
	uint64_t used;
	uint8_t *bytes; /* NULL: free */
};

struct gaps_log {
	struct str bytes;
	bool mapped;
	uint64_t checked;
	VEC(struct batch) batches;
	VEC(struct gaps_piece) pieces; /* ascending */
	struct unpacked cache[CACHED];
	uint64_t clock;
};

static int unpack(const struct batch *b, uint8_t *dst, struct err *err)
{
	size_t n = ZSTD_decompress(dst, b->plain_bytes, b->packed.p, b->packed.n);

	if (ZSTD_isError(n) || n != b->plain_bytes)
		return err_set(err, ERR_DATA_LOSS, "gaps log: a record cannot be unpacked");
	return 0;
}

/* Lists the pieces of a batch; the rest of one that is not well formed is not there. */
static void list_pieces(struct gaps_log *log, uint32_t batch, struct str plain)
{
	size_t at = 0;

	while (plain.n - at >= PIECE_HEADER) {
		const char *p = plain.p + at;
		struct gaps_piece piece = {.from = get_le64(p),
		                           .until = get_le64(p + 8),
		                           .n_chunks = get_le32(p + 16),
		                           .n = get_le32(p + 20),
		                           .batch = batch,
		                           .at = (uint32_t)(at + PIECE_HEADER)};

		if (piece.n > plain.n - at - PIECE_HEADER || piece.until <= piece.from)
			return;
		vec_push(&log->pieces, piece);
		at += PIECE_HEADER + piece.n;
	}
}

static int piece_cmp(const void *a, const void *b)
{
	const struct gaps_piece *x = a, *y = b;

	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	if (x->batch != y->batch)
		return x->batch > y->batch ? -1 : 1; /* the later one first */
	return x->at > y->at ? -1 : x->at < y->at;
}

struct gaps_log *gaps_log_new(struct str bytes)
{
	struct gaps_log *log = xcalloc(1, sizeof(*log));
	AUTO_FREE uint8_t *plain = NULL;
	struct batch b;

	log->bytes = bytes;
	while (record_at(str_sub(bytes, log->checked, SIZE_MAX), &b.packed, &b.plain_bytes)) {
		if (!plain)
			plain = xmalloc(BATCH_BYTES_MAX);
		if (unpack(&b, plain, NULL) >= 0)
			list_pieces(log, (uint32_t)log->batches.n, str_make(plain, b.plain_bytes));
		vec_push(&log->batches, b);
		log->checked += RECORD_HEADER + b.packed.n;
	}
	if (log->pieces.n)
		qsort(log->pieces.p, log->pieces.n, sizeof(*log->pieces.p), piece_cmp);
	return log;
}

int gaps_log_open(struct ffs_store *store, const struct digest *index_key, struct gaps_log **out, struct err *err)
{
	char name[FFS_GAPS_NAME_MAX];
	AUTO_FD int fd = -1;
	struct str bytes;

	ffs_gaps_name(index_key, name);
	fd = openat(store->dirs[FFS_DIR_INDEX], name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno != ENOENT)
		return err_errno(err, errno, "index/%s", name);
	if (fd < 0) {
		*out = gaps_log_new(STR_NONE);
		return 0;
	}
	TRY(map_log(fd, &bytes, err));
	*out = gaps_log_new(bytes);
	(*out)->mapped = true;
	return 0;
}

void gaps_log_free(struct gaps_log *log)
{
	if (!log)
		return;
	for (unsigned i = 0; i < CACHED; i++)
		free(log->cache[i].bytes);
	if (log->mapped)
		unmap_log(log->bytes);
	vec_fini(&log->batches);
	vec_fini(&log->pieces);
	free(log);
}

uint64_t gaps_log_bytes(const struct gaps_log *log)
{
	return log->checked;
}

const struct gaps_piece *gaps_log_find(const struct gaps_log *log, uint64_t from)
{
	size_t lo = 0, hi = log->pieces.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (log->pieces.p[mid].from < from)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < log->pieces.n ? &log->pieces.p[lo] : NULL;
}

/* The plain bytes of a batch: from the cache, else in place of what was used longest ago. */
static int cached(struct gaps_log *log, uint32_t batch, const uint8_t **out, struct err *err)
{
	const struct batch *b = &log->batches.p[batch];
	struct unpacked *oldest = &log->cache[0], *u;

	for (u = log->cache; u < log->cache + CACHED; u++) {
		if (u->bytes && u->batch == batch)
			break;
		if (u->used < oldest->used)
			oldest = u;
	}
	if (u == log->cache + CACHED) {
		u = oldest;
		free(u->bytes);
		*u = (struct unpacked){.batch = batch, .bytes = xmalloc(b->plain_bytes + 1)};
		if (unpack(b, u->bytes, err) < 0) {
			free(STEAL(u->bytes));
			return -(int)ERR_DATA_LOSS;
		}
	}
	u->used = ++log->clock;
	*out = u->bytes;
	return 0;
}

int gaps_log_read(struct gaps_log *log, const struct gaps_piece *piece, struct str *plain, struct err *err)
{
	const uint8_t *bytes;

	TRY(cached(log, piece->batch, &bytes, err));
	*plain = str_make(bytes + piece->at, piece->n);
	return 0;
}
