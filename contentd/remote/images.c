#include "contentd/remote/images.h"

#include "base/clock.h"
#include "contentd/content/blobs.h"
#include "contentd/hosts/way.h"
#include "registry/auth.h"
#include "registry/reference.h"

#define OPEN_PATIENCE_NS (30 * NS_PER_S)   /* then its layers are downloaded by the client */
#define HELPER_PATIENCE_NS (10 * NS_PER_S) /* of a docker-credential-... program */
#define KEEP_NS (60 * NS_PER_S)
#define KEEP_FAILURE_NS (10 * NS_PER_S)
#define KEEP_MAX 64 /* images */

struct cd_remote_images {
	pthread_mutex_t lock;
	pthread_cond_t change;
	VEC(struct cd_remote_image *) known; /* lock; a reference each */
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
	pb_free(image->opened);
	free(image);
}

void cd_remote_images_free(struct cd_remote_images *all)
{
	if (!all)
		return;
	vec_each(&all->known, image)
		image_free(*image);
	vec_fini(&all->known);
	pthread_cond_destroy(&all->change);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

static void unref_locked(struct cd_remote_image *image)
{
	if (--image->refs == 0)
		image_free(image);
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

const Contentd__Contentfs__V1__Layer *cd_remote_image_layer(const struct cd_remote_image *image,
                                                            const struct digest *blob)
{
	char text[DIGEST_TEXT_MAX];

	digest_text(blob, text);
	for (size_t i = 0; i < image->opened->n_layers; i++) {
		const Contentd__Contentfs__V1__Layer *l = image->opened->layers[i];

		if (l->descriptor && !strcmp(l->descriptor->digest, text))
			return l;
	}
	return NULL;
}

/* ---- what is known (lock held) ---- */

static void forget(struct cd_remote_images *all, size_t i)
{
	struct cd_remote_image *image = all->known.p[i];

	all->known.p[i] = all->known.p[--all->known.n];
	unref_locked(image);
}

static void forget_old(struct cd_remote_images *all)
{
	int64_t now = clock_mono_ns();

	for (size_t i = all->known.n; i-- > 0;) {
		const struct cd_remote_image *image = all->known.p[i];
		int64_t age = now - image->since_ns;

		if (image->state != CD_REMOTE_OPENING &&
		    age > (image->state == CD_REMOTE_OPEN ? KEEP_NS : KEEP_FAILURE_NS))
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

static void drop(struct cd_remote_images *all, const struct cd_remote_image *image)
{
	for (size_t i = 0; i < all->known.n; i++)
		if (all->known.p[i] == image) {
			forget(all, i);
			return;
		}
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

static int open_now(struct cd_daemon *d, struct rpc_call *c, struct cd_remote_image *image, struct err *err)
{
	Contentd__Contentfs__V1__OpenRequest req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;
	Contentd__Contentfs__V1__Access access = CONTENTD__CONTENTFS__V1__ACCESS__INIT;
	AUTO(reg_credentials) struct reg_credentials found = REG_CREDENTIALS_INIT;
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
	req.deadline_ns = clock_mono_ns() + OPEN_PATIENCE_NS;
	return ffs_client_open(data, c, &req, NULL, NULL, &image->opened, &documents, err);
}

/* By the call that came first. A call that ends says nothing about the image: those that wait try for themselves. */
static int open_first(struct cd_daemon *d, struct rpc_call *c, struct cd_remote_image *image, struct err *err)
{
	struct cd_remote_images *all = image->all;
	struct err why = ERR_INIT;
	int r = open_now(d, c, image, &why);
	bool cancelled = rpc_cancelled(c, NULL) < 0;

	if (r < 0 && !cancelled)
		log_warn("image %s: its layers are not lazy: %s", image->reference, why.msg);
	pthread_mutex_lock(&all->lock);
	image->state = r < 0 ? CD_REMOTE_FAILED : CD_REMOTE_OPEN;
	image->since_ns = clock_mono_ns();
	image->why = why;
	if (r < 0 && cancelled)
		drop(all, image);
	pthread_cond_broadcast(&all->change);
	pthread_mutex_unlock(&all->lock);
	if (r < 0 && err)
		*err = why;
	return r;
}

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

/* The image that somebody opens or has opened; *own: the caller is to open it. The caller's reference; NULL when its call
 * was cancelled. */
static struct cd_remote_image *enter(struct cd_remote_images *all, struct rpc_call *c, const char *reference,
                                     const char *owner, bool again, bool *own)
{
	struct waiting w = {.all = all};
	struct cd_remote_image *image;

	*own = false;
	rpc_on_cancel(c, stop_waiting, &w);
	pthread_mutex_lock(&all->lock);
	forget_old(all);
	image = find(all, reference, owner);
	if (image && again && image->state == CD_REMOTE_OPEN) {
		drop(all, image);
		image = NULL;
	}
	while (image && image->state == CD_REMOTE_OPENING && !w.cancelled) {
		pthread_cond_wait(&all->change, &all->lock);
		image = find(all, reference, owner);
	}
	*own = !image && !w.cancelled;
	if (*own)
		image = add(all, reference, owner);
	if (w.cancelled)
		image = NULL;
	if (image)
		image->refs++;
	pthread_mutex_unlock(&all->lock);
	rpc_off_cancel(c, &w);
	return image;
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

int cd_remote_image_open(struct cd_daemon *d, struct rpc_call *c, const char *ns, const struct cd_remote_layer *of,
                         bool again, struct cd_remote_image **out, struct err *err)
{
	const char *owner = *d->config.fetch_docker_config ? "" : ns;
	AUTO(cd_remote_image) struct cd_remote_image *image = NULL;
	char reference[REG_REF_TEXT_MAX];
	bool own;

	TRY_WRAP(reference_of(of, reference, err), err, "image \"%.300s\"", of->image);
	image = enter(d->remote_images, c, reference, owner, again, &own);
	TRY(rpc_cancelled(c, err));
	if (own)
		TRY(open_first(d, c, image, err));
	/* Constant from here on: whoever saw the state change has it under the lock. */
	if (image->state == CD_REMOTE_FAILED) {
		*err = image->why;
		return -(int)image->why.code;
	}
	*out = STEAL(image);
	return 0;
}
