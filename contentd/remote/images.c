#include "contentd/remote/images.h"

#include "base/clock.h"
#include "contentd/content/blobs.h"
#include "contentd/hosts/way.h"
#include "registry/auth.h"
#include "registry/reference.h"

#define OPEN_PATIENCE_NS (30 * NS_PER_S)   /* then its layers are downloaded by the client */
#define HELPER_PATIENCE_NS (10 * NS_PER_S) /* of a docker-credential-... program */
#define KEEP_NS (60 * NS_PER_S)
#define KEEP_BRIEF_NS (10 * NS_PER_S) /* failures, of the whole or of a layer */
#define KEEP_MAX 64                   /* images */
#define OPENING_MAX 64                /* at a time, each with a thread */

struct cd_remote_images {
	pthread_mutex_t lock;
	pthread_cond_t change;
	VEC(struct cd_remote_image *) known;   /* lock; a reference each */
	VEC(struct cd_remote_image *) opening; /* lock; a reference and a thread each */
};

struct cd_remote_images *cd_remote_images_new(void)
{
	struct cd_remote_images *all = xcalloc(1, sizeof(*all));

	pthread_mutex_init(&all->lock, NULL);
	pthread_cond_init(&all->change, NULL);
	return all;
}

static void image_free(struct cd_remote_image *image)
{
	free(image->reference);
	free(image->owner);
	vec_each(&image->layers, layer)
		pb_free(*layer);
	vec_fini(&image->layers);
	free(image);
}

static void unref_locked(struct cd_remote_image *image)
{
	if (--image->refs == 0)
		image_free(image);
}

void cd_remote_images_free(struct cd_remote_images *all)
{
	if (!all)
		return;
	vec_each(&all->known, image)
		unref_locked(*image);
	vec_fini(&all->known);
	vec_fini(&all->opening);
	pthread_cond_destroy(&all->change);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

void cd_remote_image_unref(struct cd_remote_image *image)
{
	struct cd_remote_images *all = image ? image->all : NULL;

	if (!image)
		return;
	pthread_mutex_lock(&all->lock);
	unref_locked(image);
	pthread_mutex_unlock(&all->lock);
}

/* ---- what is known (lock held) ---- */

/* NULL: not known, as yet. What came last counts: an Open may have been repeated. */
static const Contentd__Contentfs__V1__Layer *layer_of(const struct cd_remote_image *image, const char *blob)
{
	for (size_t i = image->layers.n; i-- > 0;)
		if (!strcmp(image->layers.p[i]->descriptor->digest, blob))
			return image->layers.p[i];
	return NULL;
}

static void take_layer(struct cd_remote_image *image, Contentd__Contentfs__V1__Layer **at)
{
	Contentd__Contentfs__V1__Layer *layer = *at;

	if (!layer || !layer->descriptor)
		return;
	image->brief |= layer->failed;
	vec_push(&image->layers, STEAL(*at));
}

static void forget(struct cd_remote_images *all, size_t i)
{
	struct cd_remote_image *image = all->known.p[i];

	all->known.p[i] = all->known.p[--all->known.n];
	unref_locked(image);
}

static void drop(struct cd_remote_images *all, const struct cd_remote_image *image)
{
	for (size_t i = 0; i < all->known.n; i++)
		if (all->known.p[i] == image) {
			forget(all, i);
			return;
		}
}

static void forget_old(struct cd_remote_images *all)
{
	int64_t now = clock_mono_ns();

	for (size_t i = all->known.n; i-- > 0;) {
		const struct cd_remote_image *image = all->known.p[i];

		if (image->state != CD_REMOTE_OPENING &&
		    now - image->since_ns > (image->brief ? KEEP_BRIEF_NS : KEEP_NS))
			forget(all, i);
	}
}

/* The one that has not changed for the longest time makes room. */
static void make_room(struct cd_remote_images *all)
{
	size_t oldest = SIZE_MAX;

	if (all->known.n < KEEP_MAX)
		return;
	for (size_t i = 0; i < all->known.n; i++)
		if (all->known.p[i]->state != CD_REMOTE_OPENING &&
		    (oldest == SIZE_MAX || all->known.p[i]->since_ns < all->known.p[oldest]->since_ns))
			oldest = i;
	if (oldest != SIZE_MAX)
		forget(all, oldest);
}

static struct cd_remote_image *find(struct cd_remote_images *all, const char *reference, const char *owner)
{
	vec_each(&all->known, image)
		if (!strcmp((*image)->reference, reference) && !strcmp((*image)->owner, owner))
			return *image;
	return NULL;
}

static struct cd_remote_image *add(struct cd_remote_images *all, const char *reference, const char *owner)
{
	struct cd_remote_image *image = xcalloc(1, sizeof(*image));

	make_room(all);
	image->reference = xstrdup(reference);
	image->owner = xstrdup(owner);
	image->all = all;
	image->refs = 1;
	vec_push(&all->known, image);
	return image;
}

/* ---- opening ---- */

/* What this machine's docker configuration has for the host; nobody else is there to be asked. Without it the registry may
 * still answer. */
static void take_credentials(const struct cd_daemon *d, const struct reg_ref *ref, struct reg_credentials *out)
{
	const char *path = *d->config.fetch_docker_config ? d->config.fetch_docker_config : NULL;
	struct err why = ERR_INIT;

	if (reg_docker_config_lookup(path, str_of(ref->host), clock_mono_ns() + HELPER_PATIENCE_NS, out, &why) < 0)
		log_warn("credentials for %s: %s", ref->host, why.msg);
}

static void on_progress(void *arg, Contentd__Contentfs__V1__OpenProgress *at)
{
	struct cd_remote_image *image = arg;

	pthread_mutex_lock(&image->all->lock);
	take_layer(image, &at->layer);
	pthread_cond_broadcast(&image->all->change);
	pthread_mutex_unlock(&image->all->lock);
}

static int open_now(struct cd_daemon *d, struct cd_remote_image *image, Contentd__Contentfs__V1__OpenResponse **out,
                    struct err *err)
{
	Contentd__Contentfs__V1__OpenRequest req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;
	Contentd__Contentfs__V1__Access access = CONTENTD__CONTENTFS__V1__ACCESS__INIT;
	AUTO(reg_credentials) struct reg_credentials found = REG_CREDENTIALS_INIT;
	struct rpc_call *c = image->call;
	AUTO_FD int documents = -1;
	struct ffs_client *data;
	struct cd_way way;
	struct reg_ref ref;

	TRY(cd_data(d, c, &data, err));
	TRY(reg_ref_parse(str_of(image->reference), &ref, err));
	access.owner = image->owner;
	access.remembered = *image->owner;
	if (!*image->owner)
		take_credentials(d, &ref, &found);
	access.username = found.username ?: (char *)"";
	access.secret = found.identity_token ?: found.password ?: (char *)"";
	access.identity_token = found.identity_token != NULL;
	way = (struct cd_way){.dir = d->config.fetch_certs_dir, .host = ref.host, .default_scheme = ""};
	TRY(cd_way_find(&way, rpc_arena(c), &access, err));
	req.reference = image->reference;
	req.access = &access;
	req.isolated = cd_is_isolated(d);
	req.lazy = true;
	req.each = true;
	req.deadline_ns = clock_mono_ns() + OPEN_PATIENCE_NS;
	return ffs_client_open(data, c, &req, on_progress, image, out, &documents, err);
}

struct opener {
	struct cd_daemon *d;
	struct cd_remote_image *image;
};

/* Lock held. */
static void forget_opening(struct cd_remote_image *image)
{
	struct cd_remote_images *all = image->all;

	for (size_t i = 0; i < all->opening.n; i++)
		if (all->opening.p[i] == image) {
			vec_swap_remove(&all->opening, i);
			break;
		}
	unref_locked(image);
	pthread_cond_broadcast(&all->change);
}

static void conclude(struct cd_remote_image *image, int result, Contentd__Contentfs__V1__OpenResponse *rsp,
                     const struct err *why)
{
	pthread_mutex_lock(&image->all->lock);
	/* An older contentfs, which has outlived its contentd, has not told of them. */
	for (size_t i = 0; result >= 0 && i < rsp->n_layers; i++)
		if (rsp->layers[i]->descriptor && !layer_of(image, rsp->layers[i]->descriptor->digest))
			take_layer(image, &rsp->layers[i]);
	image->state = result < 0 ? CD_REMOTE_FAILED : CD_REMOTE_OPEN;
	image->since_ns = clock_mono_ns();
	image->brief |= result < 0;
	image->why = *why;
	image->call = NULL;
	pthread_cond_broadcast(&image->all->change);
	pthread_mutex_unlock(&image->all->lock);
}

static void *open_image(void *arg)
{
	AUTO_FREE struct opener *o = arg;
	AUTO(pb) Contentd__Contentfs__V1__OpenResponse *rsp = NULL;
	struct cd_remote_image *image = o->image;
	struct cd_remote_images *all = image->all;
	struct rpc_call *call = image->call;
	struct err why = ERR_INIT;
	int r = open_now(o->d, image, &rsp, &why);

	if (r < 0 && rpc_cancelled(call, NULL) >= 0)
		log_warn("image %s: its layers are not lazy: %s", image->reference, why.msg);
	conclude(image, r, rsp, &why);
	rpc_own_end(call);
	/* The last that this thread has to do with the daemon. */
	pthread_mutex_lock(&all->lock);
	forget_opening(image);
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

/* Lock held. */
static int begin_opening(struct cd_daemon *d, struct cd_remote_image *image, struct err *err)
{
	struct opener *o = xcalloc(1, sizeof(*o));
	pthread_t thread;
	int r;

	*o = (struct opener){d, image};
	image->call = rpc_own_begin();
	image->refs++;
	vec_push(&image->all->opening, image);
	r = pthread_create(&thread, NULL, open_image, o);
	if (!r) {
		pthread_detach(thread);
		return 0;
	}
	rpc_own_end(STEAL(image->call));
	forget_opening(image);
	free(o);
	return err_errno(err, r, "pthread_create");
}

/* Nobody finds it any more; lock held. */
static void give_up(struct cd_remote_image *image)
{
	rpc_own_cancel(image->call, ERR_CANCELLED);
	drop(image->all, image);
}

void cd_remote_images_stop(struct cd_remote_images *all)
{
	pthread_mutex_lock(&all->lock);
	vec_each(&all->opening, image)
		if ((*image)->call)
			rpc_own_cancel((*image)->call, ERR_UNAVAILABLE);
	while (all->opening.n)
		pthread_cond_wait(&all->change, &all->lock);
	pthread_mutex_unlock(&all->lock);
}

/* ---- waiting ---- */

struct waiting {
	struct cd_remote_images *all;
	bool cancelled; /* all->lock */
};

static void stop_waiting(void *arg)
{
	struct waiting *w = arg;

	pthread_mutex_lock(&w->all->lock);
	w->cancelled = true;
	pthread_cond_broadcast(&w->all->change);
	pthread_mutex_unlock(&w->all->lock);
}

/* The image, being opened at least; lock held. Known to others. */
static int enter(struct cd_daemon *d, const char *reference, const char *owner, const struct cd_remote_image *stale,
                 struct cd_remote_image **out, struct err *err)
{
	struct cd_remote_images *all = d->remote_images;
	int r;

	forget_old(all);
	*out = find(all, reference, owner);
	if (*out && *out == stale) {
		drop(all, stale);
		*out = NULL;
	}
	if (*out)
		return 0;
	if (all->opening.n >= OPENING_MAX)
		return err_set(err, ERR_EXHAUSTED, "%zu images are being opened", all->opening.n);
	*out = add(all, reference, owner);
	r = begin_opening(d, *out, err);
	if (r < 0)
		drop(all, *out);
	return r;
}

/* Until the layer is known; lock held. */
static int wait_for_layer(struct cd_remote_image *image, const struct waiting *w, const char *blob,
                          const Contentd__Contentfs__V1__Layer **out, struct err *err)
{
	image->waiting++;
	while (!(*out = layer_of(image, blob)) && image->state == CD_REMOTE_OPENING && !w->cancelled)
		pthread_cond_wait(&image->all->change, &image->all->lock);
	image->waiting--;
	/* Who comes for the next layer is not there yet; who was cancelled does not come. */
	if (w->cancelled && !image->waiting && image->call)
		give_up(image);
	if (*out || image->state != CD_REMOTE_FAILED)
		return 0;
	if (err)
		*err = image->why;
	return -(int)image->why.code;
}

/* The manifest by its digest, when the client says which: its tag may have moved since. */
static int reference_of(const struct cd_remote_layer *of, char dst[static REG_REF_TEXT_MAX], struct err *err)
{
	struct reg_ref ref;

	TRY(reg_ref_parse(str_of(of->image), &ref, err));
	if (!digest_is_zero(&of->manifest))
		reg_ref_set_digest(&ref, &of->manifest);
	reg_ref_text(&ref, dst);
	return 0;
}

int cd_remote_layer_find(struct cd_daemon *d, struct rpc_call *c, const char *ns, const struct cd_remote_layer *of,
                         const struct cd_remote_image *stale, struct cd_remote_image **image,
                         const Contentd__Contentfs__V1__Layer **layer, struct err *err)
{
	const char *owner = *d->config.fetch_docker_config ? "" : ns;
	struct cd_remote_images *all = d->remote_images;
	char reference[REG_REF_TEXT_MAX], blob[DIGEST_TEXT_MAX];
	struct waiting w = {.all = all};
	int r;

	TRY_WRAP(reference_of(of, reference, err), err, "image \"%.300s\"", of->image);
	digest_text(&of->blob, blob);
	rpc_on_cancel(c, stop_waiting, &w);
	pthread_mutex_lock(&all->lock);
	r = enter(d, reference, owner, stale, image, err);
	if (r >= 0) {
		(*image)->refs++;
		r = wait_for_layer(*image, &w, blob, layer, err);
	} else {
		*image = NULL;
	}
	pthread_mutex_unlock(&all->lock);
	rpc_off_cancel(c, &w);
	TRY(rpc_cancelled(c, err));
	return r;
}
