#include "fusefs/open.h"

#include "base/file.h"
#include "base/log.h"
#include "rpc/pb.h"

/* ---- parts ---- */

void open_enter(struct open *o)
{
	pthread_mutex_lock(&o->lock);
	o->busy++;
	pthread_mutex_unlock(&o->lock);
}

void open_leave(struct open *o, struct open_layer *l)
{
	pthread_mutex_lock(&o->lock);
	o->busy--;
	if (l)
		l->ended = true;
	pthread_cond_signal(&o->change);
	pthread_mutex_unlock(&o->lock);
}

void open_fail(struct open *o, const struct err *why)
{
	pthread_mutex_lock(&o->lock);
	if (o->fatal.code == ERR_OK)
		o->fatal = *why;
	pthread_cond_signal(&o->change);
	pthread_mutex_unlock(&o->lock);
}

static void on_cancel(void *arg)
{
	struct open *o = arg;

	pthread_mutex_lock(&o->lock);
	o->cancelled = true;
	pthread_cond_signal(&o->change);
	pthread_mutex_unlock(&o->lock);
}

/* ---- configuration ---- */

static void on_config(void *arg, struct reg_answer *answer)
{
	struct open *o = arg;
	struct err why = ERR_INIT;

	if (answer->result >= 0) {
		pthread_mutex_lock(&o->lock);
		o->config = *answer->body;
		o->config_here = true;
		*answer->body = BUF_INIT;
		pthread_mutex_unlock(&o->lock);
	} else {
		why = *answer->err;
		err_wrap(&why, "image %s, configuration", o->reference);
		open_fail(o, &why);
	}
	open_leave(o, NULL);
}

static int config_begin(struct open *o, struct err *err)
{
	const struct reg_descriptor *d = &reg_image_manifest(o->image)->config;
	const struct reg_blob_get q = {.ref = o->ref,
	                               .account = o->access.account,
	                               .digest = d->digest,
	                               .blob_size = d->size,
	                               .length = d->size,
	                               .lane = REG_DEMAND,
	                               .deadline_ns = o->deadline_ns,
	                               .done = on_config,
	                               .arg = o};
	int r;

	if (d->size == 0 || d->size > REG_CONFIG_BYTES_MAX)
		return err_set(err, ERR_INVALID, "image %s: a configuration of %llu bytes", o->reference,
		               (unsigned long long)d->size);
	open_enter(o);
	pthread_mutex_lock(&o->lock);
	r = reg_blob_get(o->s->w->client, &q, &o->config_request, err);
	pthread_mutex_unlock(&o->lock);
	if (r < 0)
		open_leave(o, NULL);
	return r;
}

static int config_check(struct open *o, struct err *err)
{
	const struct reg_descriptor *d = &reg_image_manifest(o->image)->config;
	char got[DIGEST_TEXT_MAX], want[DIGEST_TEXT_MAX];
	struct digest digest;

	digest_of(o->config.p, o->config.n, &digest);
	if (!digest_eq(&digest, &d->digest))
		return err_set(err, ERR_DATA_LOSS, "image %s: digest of the configuration is %s, should be %s",
		               o->reference, digest_text(&digest, got), digest_text(&d->digest, want));
	if (o->documents_only)
		return 0;
	TRY_WRAP(reg_config_parse(buf_str(&o->config), &o->parsed, err), err, "image %s", o->reference);
	if (o->parsed->n_diff_ids != o->n_layers)
		return err_set(err, ERR_INVALID, "image %s: %zu layers, but %zu DiffIDs in its configuration",
		               o->reference, o->n_layers, o->parsed->n_diff_ids);
	return 0;
}

/* ---- one layer ---- */

static PB(Descriptor) *
    descriptor(struct rpc_call *c, struct str media_type, const struct digest *digest, uint64_t size)
{
	PB(Descriptor) *d = pb_new(rpc_arena(c), &contentd__contentfs__v1__descriptor__descriptor);
	char text[DIGEST_TEXT_MAX];

	d->media_type = arena_str(rpc_arena(c), media_type);
	d->digest = arena_strdup(rpc_arena(c), digest_text(digest, text));
	d->size = (int64_t)size;
	return d;
}

static PB(Descriptor) * descriptor_of(struct rpc_call *c, const struct reg_descriptor *from)
{
	PB(Descriptor) *d = descriptor(c, from->media_type, &from->digest, from->size);
	struct arena *a = rpc_arena(c);

	d->annotations = arena_zalloc(a, from->n_annotations, sizeof(*d->annotations));
	for (size_t i = 0; i < from->n_annotations; i++) {
		PB(Annotation) *n = pb_new(a, &contentd__contentfs__v1__annotation__descriptor);

		n->key = arena_str(a, from->annotations[i].key);
		n->value = arena_str(a, from->annotations[i].value);
		d->annotations[d->n_annotations++] = n;
	}
	return d;
}

/* Held against what this configuration promises; it is also what the layer will be proven by, unless it is known to be
 * wrong: then it is this image alone that does not get the layer. */
static const char *judge(struct open *o, struct open_layer *l, const struct digest *diff_id)
{
	AUTO(buf) struct buf why = BUF_INIT;
	enum ffs_verdict v;

	v = ffs_data_verdict(o->s->w->data, &l->key, diff_id, &why);
	if (v == FFS_FALSE)
		open_layer_refuse(l, buf_cstr(&why));
	else
		ffs_data_promise(o->s->w->data, &l->key, diff_id);
	return ffs_verdict_name(v);
}

/* A layer that is not opened lazily may be here from an earlier unpacking, or as the lazy one of another image that was
 * proven to have the DiffID of this configuration. */
static bool is_here(struct open *o, const struct open_layer *l, const struct digest *diff_id, struct digest *key)
{
	char repository[REG_REF_TEXT_MAX];

	esgz_index_key(ESGZ_TRUST_DIFFID, &l->d->digest, diff_id, key);
	if ((o->isolated ? open_comes_from_here(o, key) : ffs_index_has(o->s->w->store, key)) &&
	    load_layer(o->s, key, NULL) >= 0)
		return true;
	return ffs_data_find_proven(o->s->w->data, diff_id, o->isolated ? repository_text(o->ref, repository) : NULL,
	                            key);
}

/* Without a DiffID when the configuration was not looked into. */
static PB(Layer) * layer_answer(struct open *o, struct rpc_call *c, struct open_layer *l)
{
	const struct digest *diff_id = o->parsed ? &o->parsed->diff_ids[l - o->layers] : NULL;
	PB(Layer) *out = pb_new(rpc_arena(c), &contentd__contentfs__v1__layer__descriptor);
	struct digest key = l->key;
	char hex[65], text[DIGEST_TEXT_MAX];
	const char *verdict = l->found && diff_id ? judge(o, l, diff_id) : l->refused ? "false" : "";
	bool found = l->found;

	if (!found && diff_id)
		found = is_here(o, l, diff_id, &key);
	out->descriptor = descriptor_of(c, l->d);
	if (diff_id)
		out->diff_id = arena_strdup(rpc_arena(c), digest_text(diff_id, text));
	if (found)
		out->index_key = arena_strdup(rpc_arena(c), digest_hex(&key, hex));
	out->verdict = (char *)(found && !l->found && !l->refused ? "proven" : verdict);
	out->lazy = l->found;
	out->failed = l->failed;
	if (!l->found)
		out->reason = arena_strdup(rpc_arena(c), l->why.code != ERR_OK ? l->why.msg : "not asked for");
	return out;
}

static void send_phase(struct rpc_call *c, const char *phase, const struct digest *d, PB(Layer) * layer)
{
	PB(OpenProgress) p = CONTENTD__CONTENTFS__V1__OPEN_PROGRESS__INIT;
	char text[DIGEST_TEXT_MAX];

	p.phase = (char *)phase;
	p.digest = digest_text(d, text);
	p.layer = layer;
	ttrpc_progress(c, &p.base, NULL); /* when nobody listens, the call is cancelled, too */
}

static void tell(struct open *o, struct rpc_call *c, struct open_layer *l)
{
	if (open_gzip_is_of_another(l, &o->parsed->diff_ids[l - o->layers])) {
		open_gzip_again(l); /* it will end once more */
		return;
	}
	l->answer = layer_answer(o, c, l);
	send_phase(c, l->found ? "opened" : "ordinary", &l->d->digest, l->answer);
}

/* ---- waiting ---- */

static void cancel_all(struct open *o)
{
	pthread_mutex_lock(&o->lock);
	o->cancelled = true;
	if (o->config_request)
		reg_request_cancel(o->config_request);
	if (o->tocs.request)
		reg_request_cancel(o->tocs.request);
	open_gzip_cancel(&o->gzip);
	for (size_t i = 0; i < o->n_layers; i++)
		if (o->layers[i].request)
			reg_request_cancel(o->layers[i].request);
	pthread_mutex_unlock(&o->lock);
}

/* From here on it is known which DiffIDs there are. */
static void take_config(struct open *o)
{
	struct err why = ERR_INIT;

	o->config_checked = true;
	if (config_check(o, &why) < 0)
		open_fail(o, &why);
}

/* A layer that nobody was told of; lock held. */
static struct open_layer *next_to_tell(struct open *o)
{
	for (size_t i = 0; o->parsed && i < o->n_layers; i++)
		if (o->layers[i].ended && !o->layers[i].answer)
			return &o->layers[i];
	return NULL;
}

/* Does one thing that can be done now, without the lock, which is held otherwise. False: there is none. */
static bool do_one(struct open *o, struct rpc_call *c, bool *gave_up)
{
	bool over = o->cancelled || o->fatal.code != ERR_OK;
	bool config = !over && o->config_here && !o->config_checked;
	struct open_layer *l = over ? NULL : next_to_tell(o);

	if (!config && !l && (!over || *gave_up))
		return false;
	pthread_mutex_unlock(&o->lock);
	if (over)
		cancel_all(o);
	else if (config)
		take_config(o);
	else
		tell(o, c, l);
	*gave_up |= over;
	pthread_mutex_lock(&o->lock);
	return true;
}

/* Every part ends, also after a failure: they use what is ours. */
static void wait_all(struct open *o, struct rpc_call *c)
{
	bool gave_up = false;

	pthread_mutex_lock(&o->lock);
	while (true) {
		if (do_one(o, c, &gave_up))
			continue;
		if (!o->busy)
			break;
		pthread_cond_wait(&o->change, &o->lock);
	}
	pthread_mutex_unlock(&o->lock);
}

static int fetch_all(struct open *o, struct rpc_call *c, bool lazy, struct err *err)
{
	int r;

	rpc_on_cancel(c, on_cancel, o);
	r = config_begin(o, err);
	for (size_t i = 0; r >= 0 && lazy && i < o->n_layers; i++)
		open_layer_begin(o, &o->layers[i]);
	wait_all(o, c);
	rpc_off_cancel(c, o);
	TRY(verb_cut_off(o->s, c, err));
	TRY(r);
	if (o->fatal.code != ERR_OK)
		return err_set(err, o->fatal.code, "%s", o->fatal.msg);
	return 0;
}

/* ---- answer ---- */

static PB(Descriptor) * descriptor_of_document(struct rpc_call *c, const struct reg_manifest *m)
{
	return descriptor(c, m->media_type, &m->digest, m->bytes.n);
}

static void add_document(struct rpc_call *c, PB(OpenResponse) * rsp, struct buf *bytes, PB(Descriptor) * d,
                         struct str text)
{
	PB(Document) *doc = pb_new(rpc_arena(c), &contentd__contentfs__v1__document__descriptor);

	doc->descriptor = d;
	doc->offset = bytes->n;
	buf_addstr(bytes, text);
	rsp->documents[rsp->n_documents++] = doc;
}

static int answer_documents(struct open *o, struct rpc_call *c, PB(OpenResponse) * rsp, struct err *err)
{
	const struct reg_image *im = o->image;
	AUTO(buf) struct buf bytes = BUF_INIT;
	int fd = -1;

	rsp->documents = arena_zalloc(rpc_arena(c), im->n_documents + 1, sizeof(*rsp->documents));
	for (unsigned i = 0; i < im->n_documents; i++)
		add_document(c, rsp, &bytes, descriptor_of_document(c, im->documents[i]), im->documents[i]->bytes);
	rsp->config = descriptor_of(c, &reg_image_manifest(im)->config);
	add_document(c, rsp, &bytes, rsp->config, buf_str(&o->config));
	rsp->target = rsp->documents[0]->descriptor;
	rsp->manifest = rsp->documents[im->n_documents - 1]->descriptor;
	TRY(memfd_of("documents", buf_str(&bytes), &fd, err));
	return ttrpc_reply_fd(c, fd, err);
}

static int answer(struct open *o, struct rpc_call *c, struct err *err)
{
	PB(OpenResponse) rsp = CONTENTD__CONTENTFS__V1__OPEN_RESPONSE__INIT;

	rsp.reference = (char *)o->reference;
	rsp.layers = arena_zalloc(rpc_arena(c), o->n_layers, sizeof(*rsp.layers));
	for (size_t i = 0; i < o->n_layers; i++)
		rsp.layers[rsp.n_layers++] = o->layers[i].answer ?: layer_answer(o, c, &o->layers[i]);
	TRY(answer_documents(o, c, &rsp, err));
	return rpc_reply(c, &rsp.base, err);
}

/* ---- the verb ---- */

static int resolve(struct open *o, const PB(Platform) * p, struct err *err)
{
	struct reg_platform want = reg_platform_host();
	const struct reg_manifest *m;

	if (p && *p->os && *p->architecture)
		want = (struct reg_platform){
		    .os = str_of(p->os), .architecture = str_of(p->architecture), .variant = str_of(p->variant)};
	TRY_WRAP(reg_image_resolve(o->s->w->client, o->ref, o->access.account, &want, o->deadline_ns, &o->image, err),
	         err, "image %s", o->reference);
	m = reg_image_manifest(o->image);
	o->n_layers = m->n_layers;
	o->layers = xcalloc(m->n_layers + 1, sizeof(*o->layers));
	for (size_t i = 0; i < m->n_layers; i++) {
		o->layers[i].open = o;
		o->layers[i].d = &m->layers[i];
	}
	return 0;
}

static int run(struct open *o, struct rpc_call *c, const PB(OpenRequest) * req, struct err *err)
{
	int r = resolve(o, req->platform, err);

	TRY(verb_cut_off(o->s, c, err));
	TRY(r);
	/* Before any layer is his: reads of it go by this account. */
	TRY(access_remember(o->s, &o->access, o->ref, err));
	send_phase(c, "resolved", &reg_image_manifest(o->image)->digest, NULL);
	TRY(fetch_all(o, c, req->lazy && !o->documents_only, err));
	return answer(o, c, err);
}

static void open_fini(struct open *o)
{
	open_gzip_fini(&o->gzip); /* first: it uses the rest */
	access_fini(&o->access);
	reg_request_unref(o->config_request);
	for (size_t i = 0; i < o->n_layers; i++) {
		reg_request_unref(o->layers[i].request);
		buf_fini(&o->layers[i].tail);
	}
	free(o->layers);
	open_tocs_fini(&o->tocs);
	reg_config_free(o->parsed);
	reg_image_free(o->image);
	buf_fini(&o->config);
	pthread_cond_destroy(&o->change);
	pthread_mutex_destroy(&o->lock);
}
DEFINE_AUTO_FINI(open);

static int64_t deadline_of(const PB(OpenRequest) * req, const struct rpc_call *c)
{
	int64_t deadline = req->deadline_ns > 0 ? req->deadline_ns : clock_mono_ns() + OPEN_DEADLINE_NS;
	int64_t calls = rpc_deadline_ns(c);

	return calls < deadline ? calls : deadline;
}

int verb_open(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const PB(OpenRequest) *req = request;
	AUTO(open)
	struct open o = {.s = svc,
	                 .deadline_ns = deadline_of(req, c),
	                 .documents_only = req->documents_only,
	                 .isolated = req->isolated,
	                 .each = req->each,
	                 .lock = PTHREAD_MUTEX_INITIALIZER,
	                 .change = PTHREAD_COND_INITIALIZER};
	char text[REG_REF_TEXT_MAX];
	struct reg_ref ref;

	TRY(reg_ref_parse(str_of(req->reference), &ref, err));
	TRY(access_take(svc, req->access, &ref, &o.access, err));
	o.ref = &ref;
	o.reference = reg_ref_text(&ref, text);
	return run(&o, c, req, err);
}
