#include "base/map.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/random.h"
#include "base/siphash.h"

#include <pthread.h>

/* A slot with key NULL is free (hash 0: a search ends here) or deleted (hash 1: a search goes on). */
#define HASH_DELETED 1

/*
 * Keys come from images and registries, so the hash is keyed: nobody outside can prepare keys that collide.
 * SipHash-1-3 (Aumasson and Bernstein, 2012) with a key drawn once per process.
 */
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static uint64_t key0, key1;

static void draw_key(void)
{
	key0 = random_u64();
	key1 = random_u64();
}

static uint64_t hash_of(struct str key)
{
	struct siphash s = siphash_begin(key0, key1);
	uint64_t last = (uint64_t)key.n << 56;
	size_t i = 0;

	for (; key.n - i >= 8; i += 8)
		siphash_word(&s, get_le64(key.p + i), 1);
	for (int shift = 0; i < key.n; i++, shift += 8)
		last |= (uint64_t)(unsigned char)key.p[i] << shift;
	siphash_word(&s, last, 1);
	s.v[2] ^= 0xff;
	siphash_rounds(&s, 3);
	return siphash_out(&s);
}

static bool slot_is(const struct map_slot *s, uint64_t hash, struct str key)
{
	return s->key && s->hash == hash && s->key_n == key.n && (!key.n || !memcmp(s->key, key.p, key.n));
}

static struct map_slot *find(const struct map *m, struct str key)
{
	uint64_t hash;

	if (!m->n)
		return NULL;
	hash = hash_of(key);
	for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
		struct map_slot *s = &m->slots[i];

		if (!s->key && s->hash != HASH_DELETED)
			return NULL;
		if (slot_is(s, hash, key))
			return s;
	}
}

/* Makes a table of `cap` slots and moves the live entries over; deleted ones vanish. */
static void rebuild(struct map *m, size_t cap)
{
	struct map_slot *slots = xcalloc(cap, sizeof(*slots));

	for (size_t i = 0; i < m->cap; i++) {
		size_t at = m->slots[i].hash & (cap - 1);

		if (!m->slots[i].key)
			continue;
		while (slots[at].key)
			at = (at + 1) & (cap - 1);
		slots[at] = m->slots[i];
	}
	free(m->slots);
	m->slots = slots;
	m->cap = cap;
	m->used = m->n;
}

void map_fini(struct map *m)
{
	for (size_t i = 0; i < m->cap; i++)
		free(m->slots[i].key);
	free(m->slots);
	*m = MAP_INIT;
}

void *map_get(const struct map *m, struct str key)
{
	struct map_slot *s = find(m, key);

	return s ? s->value : NULL;
}

bool map_has(const struct map *m, struct str key)
{
	return find(m, key);
}

void *map_put(struct map *m, struct str key, void *value)
{
	struct map_slot *s;
	uint64_t hash;
	void *old;
	size_t i;

	pthread_once(&key_once, draw_key);
	s = find(m, key);
	if (s) {
		old = s->value;
		s->value = value;
		return old;
	}
	/* At most three quarters used; when most of that is deleted entries, cleaning is enough. */
	if (m->used + 1 > m->cap / 4 * 3)
		rebuild(m, m->cap == 0 ? 16 : m->n + 1 > m->cap / 2 ? m->cap * 2 : m->cap);
	hash = hash_of(key);
	for (i = hash & (m->cap - 1); m->slots[i].key; i = (i + 1) & (m->cap - 1))
		;
	s = &m->slots[i];
	if (s->hash != HASH_DELETED)
		m->used++;
	s->hash = hash;
	s->key = xmalloc(key.n + 1);
	if (key.n)
		memcpy(s->key, key.p, key.n);
	s->key[key.n] = 0;
	s->key_n = key.n;
	s->value = value;
	m->n++;
	return NULL;
}

void *map_del(struct map *m, struct str key)
{
	struct map_slot *s = find(m, key);

	if (!s)
		return NULL;
	free(s->key);
	s->key = NULL;
	s->hash = HASH_DELETED;
	m->n--;
	return s->value;
}

bool map_next(const struct map *m, size_t *at, struct str *key, void **value)
{
	while (*at < m->cap) {
		const struct map_slot *s = &m->slots[(*at)++];

		if (!s->key)
			continue;
		if (key)
			*key = (struct str){s->key, s->key_n};
		if (value)
			*value = s->value;
		return true;
	}
	return false;
}
