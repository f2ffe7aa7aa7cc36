#include "base/kv_mem.h"

#include "base/vec.h"

#include <pthread.h>

struct pair {
	struct buf key, value;
};

/* What a write replaced, to be put back by a crash. */
struct undo {
	struct buf key, value;
	bool absent;    /* there was no such key */
	unsigned write; /* number of the write since the last sync, from 1 */
};

struct kv_mem {
	struct kv kv;
	pthread_mutex_t lock;
	VEC(struct pair) pairs; /* sorted by key; lock, as what follows */
	enum err_code fail;
	unsigned fail_after;
	bool remember;
	VEC(struct undo) undo;
	unsigned unsynced;
};

/* Position of key, or where it would stand. */
static size_t find(const struct kv_mem *m, struct str key, bool *found)
{
	size_t lo = 0, hi = m->pairs.n;

	*found = false;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = str_cmp(buf_str(&m->pairs.p[mid].key), key);

		if (c == 0) {
			*found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int mem_get(void *arg, struct str key, struct buf *value, struct err *err)
{
	struct kv_mem *m = arg;
	bool found;
	size_t at;

	pthread_mutex_lock(&m->lock);
	at = find(m, key, &found);
	if (found)
		buf_addstr(value, buf_str(&m->pairs.p[at].value));
	pthread_mutex_unlock(&m->lock);
	return found ? 0 : err_set(err, ERR_NOT_FOUND, "no such key");
}

static int mem_scan(void *arg, struct str prefix, struct str after,
                    int (*fn)(void *fn_arg, struct str key, struct str value, struct err *err), void *fn_arg,
                    struct err *err)
{
	struct kv_mem *m = arg;
	bool found, later = after.n && str_cmp(after, prefix) >= 0;
	size_t at;
	int r = 0;

	pthread_mutex_lock(&m->lock);
	at = find(m, later ? after : prefix, &found);
	for (at += later && found; at < m->pairs.n && !r; at++) {
		struct str key = buf_str(&m->pairs.p[at].key);

		if (!str_starts(key, prefix))
			break;
		r = fn(fn_arg, key, buf_str(&m->pairs.p[at].value), err);
	}
	pthread_mutex_unlock(&m->lock);
	return r < 0 ? r : 0;
}

static void apply(struct kv_mem *m, const struct kv_op *op)
{
	bool found;
	size_t at = find(m, op->key, &found);
	struct pair *p;

	if (found && op->remove) {
		buf_fini(&m->pairs.p[at].key);
		buf_fini(&m->pairs.p[at].value);
		memmove(&m->pairs.p[at], &m->pairs.p[at + 1], (m->pairs.n - at - 1) * sizeof(struct pair));
		m->pairs.n--;
	}
	if (op->remove)
		return;
	if (!found) {
		vec_reserve(&m->pairs, m->pairs.n + 1);
		memmove(&m->pairs.p[at + 1], &m->pairs.p[at], (m->pairs.n - at) * sizeof(struct pair));
		m->pairs.n++;
		m->pairs.p[at] = (struct pair){BUF_INIT, BUF_INIT};
		buf_addstr(&m->pairs.p[at].key, op->key);
	}
	p = &m->pairs.p[at];
	buf_clear(&p->value);
	buf_addstr(&p->value, op->value);
}

static void note_undo(struct kv_mem *m, const struct kv_op *op)
{
	struct undo u = {BUF_INIT, BUF_INIT, false, m->unsynced};
	bool found;
	size_t at = find(m, op->key, &found);

	buf_addstr(&u.key, op->key);
	u.absent = !found;
	if (found)
		buf_addstr(&u.value, buf_str(&m->pairs.p[at].value));
	vec_push(&m->undo, u);
}

static void undo_fini(struct undo *u)
{
	buf_fini(&u->key);
	buf_fini(&u->value);
}

static void forget_undo(struct kv_mem *m)
{
	vec_each(&m->undo, u)
		undo_fini(u);
	vec_clear(&m->undo);
	m->unsynced = 0;
}

static void write_locked(struct kv_mem *m, const struct kv_op *ops, unsigned n_ops, bool sync)
{
	m->unsynced++;
	for (unsigned i = 0; i < n_ops; i++) {
		if (m->remember && !sync)
			note_undo(m, &ops[i]);
		apply(m, &ops[i]);
	}
	if (sync)
		forget_undo(m);
}

static int mem_write(void *arg, const struct kv_op *ops, unsigned n_ops, bool sync, struct err *err)
{
	struct kv_mem *m = arg;
	enum err_code fail = ERR_OK;

	pthread_mutex_lock(&m->lock);
	if (m->fail != ERR_OK && m->fail_after == 0)
		fail = m->fail;
	else if (m->fail != ERR_OK)
		m->fail_after--;
	if (fail == ERR_OK)
		write_locked(m, ops, n_ops, sync);
	pthread_mutex_unlock(&m->lock);
	return fail == ERR_OK ? 0 : err_set(err, fail, "the table refuses to write");
}

struct kv_mem *kv_mem_new(void)
{
	struct kv_mem *m = xcalloc(1, sizeof(*m));

	pthread_mutex_init(&m->lock, NULL);
	m->kv = (struct kv){mem_get, mem_scan, mem_write, m};
	return m;
}

void kv_mem_free(struct kv_mem *m)
{
	if (!m)
		return;
	vec_each(&m->pairs, it) {
		buf_fini(&it->key);
		buf_fini(&it->value);
	}
	vec_fini(&m->pairs);
	forget_undo(m);
	vec_fini(&m->undo);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

const struct kv *kv_mem_kv(struct kv_mem *m)
{
	return &m->kv;
}

void kv_mem_fail_after(struct kv_mem *m, unsigned n_writes, enum err_code code)
{
	pthread_mutex_lock(&m->lock);
	m->fail = code;
	m->fail_after = n_writes;
	pthread_mutex_unlock(&m->lock);
}

void kv_mem_remember(struct kv_mem *m)
{
	pthread_mutex_lock(&m->lock);
	m->remember = true;
	pthread_mutex_unlock(&m->lock);
}

unsigned kv_mem_unsynced(struct kv_mem *m)
{
	unsigned n;

	pthread_mutex_lock(&m->lock);
	n = m->unsynced;
	pthread_mutex_unlock(&m->lock);
	return n;
}

void kv_mem_crash(struct kv_mem *m, unsigned keep)
{
	pthread_mutex_lock(&m->lock);
	while (m->undo.n && vec_last(&m->undo)->write > keep) {
		struct undo u = vec_pop(&m->undo);

		apply(m, &(struct kv_op){buf_str(&u.key), buf_str(&u.value), u.absent});
		undo_fini(&u);
	}
	forget_undo(m);
	pthread_mutex_unlock(&m->lock);
}
