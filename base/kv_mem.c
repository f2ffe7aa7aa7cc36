#include "base/kv_mem.h"

#include "base/vec.h"

#include <pthread.h>

struct pair {
	struct buf key, value;
};

struct kv_mem {
	struct kv kv;
	pthread_mutex_t lock;
	VEC(struct pair) pairs; /* sorted by key; lock */
	enum err_code fail;     /* lock */
	unsigned fail_after;    /* lock */
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

static int mem_write(void *arg, const struct kv_op *ops, unsigned n_ops, bool sync, struct err *err)
{
	struct kv_mem *m = arg;
	enum err_code fail = ERR_OK;

	pthread_mutex_lock(&m->lock);
	if (m->fail != ERR_OK && m->fail_after == 0)
		fail = m->fail;
	else if (m->fail != ERR_OK)
		m->fail_after--;
	for (unsigned i = 0; fail == ERR_OK && i < n_ops; i++)
		apply(m, &ops[i]);
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
