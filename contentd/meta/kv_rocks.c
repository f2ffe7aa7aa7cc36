#include "contentd/meta/kv_rocks.h"

#include <pthread.h>
#include <rocksdb/c.h>

#define MIB (1u << 20)
#define LOG_LEVEL_INFO 1 /* rocksdb/env.h, InfoLogLevel; the C API has numbers alone */
#define CACHE_BYTES (8 * MIB)

struct kv_rocks {
	struct kv kv;
	rocksdb_t *db;
	rocksdb_options_t *options;
	rocksdb_block_based_table_options_t *table;
	rocksdb_cache_t *cache;
	rocksdb_readoptions_t *read;
	rocksdb_writeoptions_t *write;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* lock: numbers of those who want what they wrote on disk: the last one, and up to whom it is so. */
	uint64_t wanted, synced;
	bool syncing; /* lock */
};

/* The C API has no codes, only the texts of Status::ToString(): "<code>: <message>". Takes `why`. */
static int fail(char *why, const char *what, struct err *err)
{
	static const struct {
		const char *prefix;
		enum err_code code;
	} codes[] = {{"NotFound", ERR_NOT_FOUND},       {"Corruption", ERR_DATA_LOSS},
	             {"Resource busy", ERR_ABORTED},    {"Operation timed out", ERR_DEADLINE},
	             {"Invalid argument", ERR_INVALID}, {"IO error: No space left", ERR_EXHAUSTED},
	             {"IO error", ERR_INTERNAL}};
	enum err_code code = ERR_INTERNAL;

	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (str_starts(str_of(why), str_of(codes[i].prefix))) {
			code = codes[i].code;
			break;
		}
	if (strstr(why, "No space left"))
		code = ERR_EXHAUSTED;
	if (strstr(why, "No such file or directory"))
		code = ERR_DATA_LOSS; /* it makes what a new database has: one of its own files is gone */
	if (strstr(why, "LOCK") && strstr(why, "temporarily unavailable"))
		code = ERR_UNAVAILABLE;
	err_set(err, code, "%s: %s%s", what, code == ERR_UNAVAILABLE ? "in use by another process: " : "", why);
	rocksdb_free(why);
	return -(int)code;
}

static int rocks_get(void *arg, struct str key, struct buf *value, struct err *err)
{
	struct kv_rocks *k = arg;
	rocksdb_pinnableslice_t *slice;
	char *why = NULL;
	const char *p;
	size_t n;

	slice = rocksdb_get_pinned(k->db, k->read, key.p, key.n, &why);
	if (why)
		return fail(why, "database read", err);
	if (!slice)
		return err_set(err, ERR_NOT_FOUND, "no such key");
	p = rocksdb_pinnableslice_value(slice, &n);
	buf_add(value, p, n);
	rocksdb_pinnableslice_destroy(slice);
	return 0;
}

/* The first key behind all keys with this prefix: false when there is none. */
static bool prefix_end(struct str prefix, struct buf *out)
{
	buf_addstr(out, prefix);
	while (out->n && (uint8_t)out->p[out->n - 1] == 0xff)
		out->n--;
	if (!out->n)
		return false;
	out->p[out->n - 1]++;
	return true;
}

/* An iterator reads one consistent view, of the moment it was made. */
static int rocks_scan(void *arg, struct str prefix, struct str after,
                      int (*fn)(void *fn_arg, struct str key, struct str value, struct err *err), void *fn_arg,
                      struct err *err)
{
	struct kv_rocks *k = arg;
	AUTO(buf) struct buf end = BUF_INIT;
	struct str from = str_cmp(after, prefix) >= 0 ? after : prefix;
	rocksdb_readoptions_t *read = rocksdb_readoptions_create();
	rocksdb_iterator_t *it;
	char *why = NULL;
	int r = 0;

	if (prefix_end(prefix, &end))
		rocksdb_readoptions_set_iterate_upper_bound(read, end.p, end.n);
	it = rocksdb_create_iterator(k->db, read);
	for (rocksdb_iter_seek(it, from.p ? from.p : "", from.n); rocksdb_iter_valid(it) && !r; rocksdb_iter_next(it)) {
		struct str key, value;

		key.p = rocksdb_iter_key(it, &key.n);
		value.p = rocksdb_iter_value(it, &value.n);
		if (!after.n || !str_eq(key, after))
			r = fn(fn_arg, key, value, err);
	}
	rocksdb_iter_get_error(it, &why);
	rocksdb_iter_destroy(it);
	rocksdb_readoptions_destroy(read);
	if (why && r >= 0)
		return fail(why, "database scan", err);
	rocksdb_free(why);
	return r < 0 ? r : 0;
}

static int write_batch(struct kv_rocks *k, const struct kv_op *ops, unsigned n_ops, struct err *err)
{
	rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
	char *why = NULL;

	for (unsigned i = 0; i < n_ops; i++)
		if (ops[i].remove)
			rocksdb_writebatch_delete(batch, ops[i].key.p, ops[i].key.n);
		else
			rocksdb_writebatch_put(batch, ops[i].key.p, ops[i].key.n, ops[i].value.p ? ops[i].value.p : "",
			                       ops[i].value.n);
	rocksdb_write(k->db, k->write, batch, &why);
	rocksdb_writebatch_destroy(batch);
	return why ? fail(why, "database write", err) : 0;
}

/* One sync is for all who have written before it began; who comes later waits, and one of those does the next. Not by
 * writes with RocksDB's option sync: while one of those is on its way to the disk it keeps all other writes, synced or
 * not, out of the log, so that whoever decides something under a lock and writes it would hold that lock for as long. */
static int sync_log(struct kv_rocks *k, struct err *err)
{
	char *why = NULL;
	uint64_t own, all;

	pthread_mutex_lock(&k->lock);
	own = ++k->wanted;
	while (k->syncing && k->synced < own)
		pthread_cond_wait(&k->changed, &k->lock);
	if (k->synced < own) {
		all = k->wanted;
		k->syncing = true;
		pthread_mutex_unlock(&k->lock);
		rocksdb_flush_wal(k->db, 1, &why);
		pthread_mutex_lock(&k->lock);
		k->syncing = false;
		if (!why)
			k->synced = all;
		pthread_cond_broadcast(&k->changed);
	}
	pthread_mutex_unlock(&k->lock);
	return why ? fail(why, "database sync", err) : 0;
}

static int rocks_write(void *arg, const struct kv_op *ops, unsigned n_ops, bool sync, struct err *err)
{
	if (n_ops)
		TRY(write_batch(arg, ops, n_ops, err));
	return sync ? sync_log(arg, err) : 0;
}

/* Measured for this use: RocksDB's defaults cost 96 MB while filling, 3.4 s of recovery after a crash with a million
 * keys, and open every file at the start. */
static rocksdb_options_t *options_new(struct kv_rocks *k)
{
	rocksdb_options_t *o = rocksdb_options_create();

	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_set_write_buffer_size(o, MIB);
	rocksdb_options_set_max_write_buffer_number(o, 4); /* with 2, all writers stop while one is written out */
	rocksdb_options_set_db_write_buffer_size(o, 4 * MIB);
	rocksdb_options_set_bytes_per_sync(o, 256 << 10);   /* syncs of the log wait behind what tables have dirtied */
	rocksdb_options_set_max_total_wal_size(o, 8 * MIB); /* bounds what a start has to replay */
	rocksdb_options_set_arena_block_size(o, 64 << 10);
	rocksdb_options_set_max_open_files(o, 64); /* -1 would open every file at the start */
	rocksdb_options_set_max_background_jobs(o, 2);
	rocksdb_options_set_max_file_opening_threads(o, 1);
	rocksdb_options_set_stats_dump_period_sec(o, 0);
	rocksdb_options_set_stats_persist_period_sec(o, 0);
	rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
	rocksdb_options_set_skip_checking_sst_file_sizes_on_db_open(o, 1);
	rocksdb_options_set_info_log_level(o, LOG_LEVEL_INFO);
	rocksdb_options_set_keep_log_file_num(o, 2);
	rocksdb_options_set_max_log_file_size(o, MIB);
	rocksdb_options_set_max_manifest_file_size(o, MIB);
	rocksdb_options_set_max_bytes_for_level_base(o, 32 * MIB);
	rocksdb_options_set_target_file_size_base(o, 8 * MIB);
	rocksdb_options_set_compression(o, rocksdb_no_compression);
	rocksdb_options_set_wal_recovery_mode(o, rocksdb_point_in_time_recovery);

	k->cache = rocksdb_cache_create_lru(CACHE_BYTES);
	k->table = rocksdb_block_based_options_create();
	rocksdb_block_based_options_set_block_cache(k->table, k->cache);
	rocksdb_block_based_options_set_filter_policy(k->table, rocksdb_filterpolicy_create_bloom(10));
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(k->table, 1);
	rocksdb_block_based_options_set_format_version(k->table, 5); /* 7.8 reads no newer one */
	rocksdb_options_set_block_based_table_factory(o, k->table);
	return o;
}

/* Unflushed writes stay: a table more would begin a compaction, which takes its memory only after this. */
void kv_rocks_calm(struct kv_rocks *k)
{
	rocksdb_cache_set_capacity(k->cache, 0);
	rocksdb_cache_set_capacity(k->cache, CACHE_BYTES);
}

static struct kv_rocks *rocks_new(void)
{
	struct kv_rocks *k = xcalloc(1, sizeof(*k));

	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->changed, NULL);
	k->kv = (struct kv){rocks_get, rocks_scan, rocks_write, k};
	k->options = options_new(k);
	return k;
}

int kv_rocks_open(const char *dir, struct kv_rocks **out, struct err *err)
{
	AUTO(kv_rocks) struct kv_rocks *k = rocks_new();
	char *why = NULL;

	k->read = rocksdb_readoptions_create();
	k->write = rocksdb_writeoptions_create();
	k->db = rocksdb_open(k->options, dir, &why);
	if (why)
		return fail(why, dir, err);
	*out = STEAL(k);
	return 0;
}

int kv_rocks_repair(const char *dir, struct err *err)
{
	AUTO(kv_rocks) struct kv_rocks *k = rocks_new();
	char *why = NULL;

	rocksdb_repair_db(k->options, dir, &why);
	return why ? fail(why, dir, err) : 0;
}

void kv_rocks_close(struct kv_rocks *k)
{
	if (!k)
		return;
	if (k->db)
		rocksdb_close(k->db);
	if (k->write)
		rocksdb_writeoptions_destroy(k->write);
	if (k->read)
		rocksdb_readoptions_destroy(k->read);
	rocksdb_options_destroy(k->options);
	rocksdb_block_based_options_destroy(k->table);
	rocksdb_cache_destroy(k->cache);
	pthread_cond_destroy(&k->changed);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

const struct kv *kv_rocks_kv(struct kv_rocks *k)
{
	return &k->kv;
}
