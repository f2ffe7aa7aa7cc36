/* What is kept on this node: stored indexes, the pins that name them, and filling what they lack. */
#include "fusefs/verbs.h"

#include "base/log.h"

#define STORE_TRIES 8

struct pin {
	struct digest *keys;
	size_t n;
};

static void pin_free(struct pin *p)
{
	if (!p)
		return;
	free(p->keys);
	free(p);
}

static struct pin *pin_new(const struct digest *keys, size_t n)
{
	struct pin *p = xcalloc(1, sizeof(*p));

	p->keys = xcalloc(n + 1, sizeof(*keys));
	p->n = n;
	if (n)
		memcpy(p->keys, keys, n * sizeof(*keys));
	return p;
}

void free_pins(struct ffs_service *s)
{
	size_t at = 0;
	struct str name;
	void *value;

	while (map_next(&s->pins, &at, &name, &value))
		pin_free(value);
	map_fini(&s->pins);
}

/* The name of a pin that holds the layer, or STR_NONE. */
static struct str pinned_by(const struct ffs_service *s, const struct digest *key)
{
	size_t at = 0;
	struct str name;
	void *value;

	while (map_next(&s->pins, &at, &name, &value)) {
		const struct pin *p = value;

		for (size_t i = 0; i < p->n; i++)
			if (digest_eq(&p->keys[i], key))
				return name;
	}
	return STR_NONE;
}

/* Replaces (p) or removes (NULL) a pin in memory. */
static void set_pin(struct ffs_service *s, const char *name, struct pin *p)
{
	struct pin *old = p ? map_put(&s->pins, str_of(name), p) : map_del(&s->pins, str_of(name));

	for (size_t i = 0; p && i < p->n; i++)
		ffs_data_set_pinned(s->w->data, &p->keys[i], true);
	for (size_t i = 0; old && i < old->n; i++)
		if (!pinned_by(s, &old->keys[i]).p)
			ffs_data_set_pinned(s->w->data, &old->keys[i], false);
	pin_free(old);
}

static int parse_keys(char *const *texts, size_t n, struct ffs_keys *out, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		struct digest key;

		TRY(parse_index_key(texts[i], &key, err));
		vec_push(&out->v, key);
	}
	return 0;
}

/* ---- verbs ---- */

static int pin_locked(struct ffs_service *s, const char *name, const struct ffs_keys *keys, struct err *err)
{
	char hex[65];

	vec_each(&keys->v, k)
		if (!ffs_index_has(s->w->store, k))
			return err_set(err, ERR_NOT_FOUND, "pin %s: no layer index %s", name, digest_hex(k, hex));
	TRY(ffs_pin_put(s->w->store, name, keys->v.p, keys->v.n, err));
	set_pin(s, name, pin_new(keys->v.p, keys->v.n));
	return 0;
}

int verb_pin(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const PB(PinRequest) *req = request;
	AUTO(ffs_keys) struct ffs_keys keys = FFS_KEYS_INIT;
	struct ffs_service *s = svc;
	int r;

	if (!*req->name)
		return err_set(err, ERR_INVALID, "a pin needs a name");
	TRY(parse_keys(req->index_keys, req->n_index_keys, &keys, err));
	pthread_mutex_lock(&s->pins_lock);
	r = pin_locked(s, req->name, &keys, err);
	pthread_mutex_unlock(&s->pins_lock);
	return r;
}

int verb_unpin(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const PB(UnpinRequest) *req = request;
	struct ffs_service *s = svc;
	int r;

	pthread_mutex_lock(&s->pins_lock);
	r = ffs_pin_remove(s->w->store, req->name, err);
	if (r >= 0)
		set_pin(s, req->name, NULL);
	pthread_mutex_unlock(&s->pins_lock);
	return r;
}

int verb_pins(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	PB(PinsResponse) rsp = CONTENTD__CONTENTFS__V1__PINS_RESPONSE__INIT;
	struct ffs_service *s = svc;
	size_t at = 0;
	struct str name;

	pthread_mutex_lock(&s->pins_lock);
	rsp.names = arena_zalloc(rpc_arena(c), s->pins.n + 1, sizeof(*rsp.names));
	while (map_next(&s->pins, &at, &name, NULL))
		rsp.names[rsp.n_names++] = arena_str(rpc_arena(c), name);
	pthread_mutex_unlock(&s->pins_lock);
	return rpc_reply(c, &rsp.base, err);
}

/* All or none of what is pinned; then one by one. */
static int delete_locked(struct ffs_service *s, const struct ffs_keys *keys, struct err *err)
{
	char hex[65];

	vec_each(&keys->v, k) {
		struct str by = pinned_by(s, k);

		if (by.p)
			return err_set(err, ERR_PRECONDITION, "layer index %s is pinned by " STR_FMT,
			               digest_hex(k, hex), STR_ARG(by));
	}
	vec_each(&keys->v, k) {
		ffs_data_remove_layer(s->w->data, k);
		TRY(ffs_index_remove(s->w->store, k, err));
	}
	return 0;
}

int verb_delete_layers(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const PB(DeleteLayersRequest) *req = request;
	AUTO(ffs_keys) struct ffs_keys keys = FFS_KEYS_INIT;
	struct ffs_service *s = svc;
	int r;

	TRY(parse_keys(req->index_keys, req->n_index_keys, &keys, err));
	pthread_mutex_lock(&s->pins_lock);
	r = delete_locked(s, &keys, err);
	pthread_mutex_unlock(&s->pins_lock);
	return r;
}

/* ---- filling ---- */

struct filling;

struct fill_part {
	struct filling *all;
	uint64_t id;
	bool started, reported;
	uint64_t first, done, total; /* compressed bytes; `first`: of these at the beginning */
};

struct filling {
	pthread_mutex_t lock;
	pthread_cond_t change;
	struct fill_part *parts;
	size_t n, open;
	bool moved, cancelled;
	struct err why; /* the first failure */
};

static void fill_progress(void *arg, uint64_t done, uint64_t total)
{
	struct fill_part *p = arg;

	pthread_mutex_lock(&p->all->lock);
	if (!p->reported)
		p->first = done;
	p->reported = true;
	p->done = done;
	p->total = total;
	p->all->moved = true;
	pthread_cond_signal(&p->all->change);
	pthread_mutex_unlock(&p->all->lock);
}

static void fill_done(void *arg, int result, const struct err *err)
{
	struct fill_part *p = arg;
	struct filling *f = p->all;

	pthread_mutex_lock(&f->lock);
	if (result < 0 && f->why.code == ERR_OK)
		f->why = *err;
	f->open--;
	pthread_cond_signal(&f->change);
	pthread_mutex_unlock(&f->lock);
}

static void fill_cancelled(void *arg)
{
	struct filling *f = arg;

	pthread_mutex_lock(&f->lock);
	f->cancelled = true;
	pthread_cond_signal(&f->change);
	pthread_mutex_unlock(&f->lock);
}

static void fill_start(struct ffs_service *s, struct filling *f, size_t i, const struct digest *key,
                       int64_t deadline_ns)
{
	struct fill_part *p = &f->parts[i];
	const struct ffs_fill_query q = {.index_key = *key,
	                                 .lane = FFS_PREFETCH,
	                                 .deadline_ns = deadline_ns,
	                                 .progress = fill_progress,
	                                 .done = fill_done,
	                                 .arg = p};
	struct err why = ERR_INIT;

	p->all = f;
	pthread_mutex_lock(&f->lock);
	f->open++;
	pthread_mutex_unlock(&f->lock);
	if (ffs_data_fill(s->w->data, &q, &p->id, &why) < 0)
		fill_done(p, -(int)why.code, &why);
	else
		p->started = true;
}

static void fill_stop(struct ffs_service *s, struct filling *f)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->parts[i].started)
			ffs_data_fill_cancel(s->w->data, f->parts[i].id);
}

static void fill_sum(const struct filling *f, uint64_t *done, uint64_t *total, uint64_t *fetched)
{
	*done = *total = *fetched = 0;
	for (size_t i = 0; i < f->n; i++) {
		*done += f->parts[i].done;
		*total += f->parts[i].total;
		*fetched += f->parts[i].done - f->parts[i].first;
	}
}

/* Until every part has ended; a failure or a cancellation ends the others. */
static void fill_wait(struct rpc_call *c, struct ffs_service *s, struct filling *f)
{
	bool stopped = false;
	int64_t sent_ns = 0;

	pthread_mutex_lock(&f->lock);
	while (f->open) {
		uint64_t done, total, fetched;
		bool stop = !stopped && (f->cancelled || f->why.code != ERR_OK);

		if (!stop && !f->moved) {
			pthread_cond_wait(&f->change, &f->lock);
			continue;
		}
		f->moved = false;
		fill_sum(f, &done, &total, &fetched);
		pthread_mutex_unlock(&f->lock);
		if (stop)
			fill_stop(s, f);
		else if (!stopped)
			send_progress(c, &sent_ns, done, total, NULL);
		stopped = stopped || stop;
		pthread_mutex_lock(&f->lock);
	}
	pthread_mutex_unlock(&f->lock);
}

int verb_fill(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const PB(FillRequest) *req = request;
	PB(FillResponse) rsp = CONTENTD__CONTENTFS__V1__FILL_RESPONSE__INIT;
	AUTO(ffs_keys) struct ffs_keys keys = FFS_KEYS_INIT;
	AUTO_FREE struct fill_part *parts = NULL;
	struct filling f = {.why = ERR_INIT};
	uint64_t done, total, fetched;

	TRY(parse_keys(req->index_keys, req->n_index_keys, &keys, err));
	parts = xcalloc(keys.v.n + 1, sizeof(*parts));
	f.parts = parts;
	f.n = keys.v.n;
	pthread_mutex_init(&f.lock, NULL);
	pthread_cond_init(&f.change, NULL);
	for (size_t i = 0; i < f.n; i++)
		fill_start(svc, &f, i, &keys.v.p[i], rpc_deadline_ns(c));
	rpc_on_cancel(c, fill_cancelled, &f);
	fill_wait(c, svc, &f);
	rpc_off_cancel(c, &f);
	pthread_cond_destroy(&f.change);
	pthread_mutex_destroy(&f.lock);
	TRY(verb_cut_off(svc, c, err));
	if (f.why.code != ERR_OK)
		return err_set(err, f.why.code, "%s", f.why.msg);
	fill_sum(&f, &done, &total, &fetched);
	rsp.fetched_bytes = (int64_t)fetched;
	return rpc_reply(c, &rsp.base, err);
}

/* ---- at the start of a worker ---- */

/* Not while it is being deleted: what is in memory then, and not on disk, would keep its objects until the next worker. */
static int add_layer(struct ffs_service *s, const struct digest *key, struct err *err)
{
	int r;

	pthread_mutex_lock(&s->pins_lock);
	r = ffs_data_add_layer(s->w->data, key, err);
	pthread_mutex_unlock(&s->pins_lock);
	return r;
}

int load_layer(struct ffs_service *s, const struct digest *key, struct err *err)
{
	struct err why = ERR_INIT;
	char hex[65];

	if (add_layer(s, key, &why) >= 0)
		return 0;
	digest_hex(key, hex);
	if (why.code == ERR_DATA_LOSS || why.code == ERR_INVALID || why.code == ERR_UNIMPLEMENTED) {
		log_warn("layer index %s is of no use and removed: %s", hex, why.msg);
		TRY(ffs_index_remove(s->w->store, key, err));
		return err_set(err, ERR_NOT_FOUND, "layer index %s: %s", hex, why.msg);
	}
	return err_set(err, why.code, "layer index %s: %s", hex, why.msg);
}

int store_layer(struct ffs_service *s, const struct digest *key, struct str index, struct str points,
                const struct ffs_source *src, bool durable, struct err *err)
{
	struct err why = ERR_INIT;
	int r = -(int)ERR_NOT_FOUND;

	/* Each deletion was decided before this call: there are not many of them. */
	for (int tries = 0; r == -(int)ERR_NOT_FOUND && tries < STORE_TRIES; tries++) {
		why = ERR_INIT;
		TRY(ffs_index_put(s->w->store, key, index, points, src, durable, err));
		r = add_layer(s, key, &why);
	}
	return r < 0 ? err_set(err, why.code, "%s", why.msg) : r;
}

int load_layers(struct ffs_service *s, struct err *err)
{
	AUTO(ffs_keys) struct ffs_keys keys = FFS_KEYS_INIT;

	TRY(ffs_index_list(s->w->store, &keys, err));
	vec_each(&keys.v, k) {
		struct err why = ERR_INIT;

		if (load_layer(s, k, &why) < 0 && why.code != ERR_NOT_FOUND)
			log_warn("%s", why.msg);
	}
	return 0;
}

static int take_pin(void *arg, const char *name, const struct digest *keys, size_t n, struct err *err)
{
	set_pin(arg, name, pin_new(keys, n));
	return 0;
}

int load_pins(struct ffs_service *s, struct err *err)
{
	return ffs_pin_list(s->w->store, take_pin, s, err);
}
