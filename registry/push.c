/*
 * Upload of blobs whose digest and size are known, and of manifests. A PATCH that breaks is gone on with where the registry
 * says that it stopped.
 */
#include "registry/session.h"

#define PUSH_ATTEMPTS 5                 /* in a row without a byte that the registry has kept */
#define PUSH_ONE_REQUEST_MAX (4u << 20) /* larger blobs are worth another round trip, to be resumed */

/* The bytes of a blob from `at` on, as the body of a request. */
static void set_body(struct step *s, const struct reg_blob_push *q, uint64_t at)
{
	step_set_body(s, q->fd < 0 ? str_sub(q->bytes, (size_t)at, q->bytes.n) : STR_NONE);
	s->base.upload_size = q->size - at;
	s->base.upload_fd = q->fd;
	s->base.upload_fd_offset = q->fd_offset + (off_t)at;
	s->base.upload_base = at;
	s->base.upload_progress = q->progress;
	s->base.upload_arg = q->arg;
}

static int put_blob(struct push *p, const struct reg_blob_push *q, const char *digest, struct session *u,
                    struct err *err)
{
	AUTO(waiter) struct waiter w;
	struct step *s;

	waiter_init(&w);
	s = session_put(p, u, digest, &w);
	set_body(s, q, 0);
	session_fini(u); /* good for one PUT */
	return step_run(p, s, &w, err);
}

static int patch(struct push *p, const struct reg_blob_push *q, struct session *u, struct err *err)
{
	uint64_t bytes = q->size - u->kept_bytes;
	AUTO(waiter) struct waiter w;
	struct step *s;

	waiter_init(&w);
	s = session_patch(p, u, bytes, &w);
	set_body(s, q, u->kept_bytes);
	TRY(step_run(p, s, &w, err));
	session_patched(u, &w, bytes);
	return 0;
}

static int put_end(struct push *p, const struct session *u, const char *digest, struct err *err)
{
	AUTO(waiter) struct waiter w;

	waiter_init(&w);
	return step_run(p, session_put(p, u, digest, &w), &w, err);
}

/* ---- trying ---- */

/* One push, over all its attempts. */
struct pushing {
	struct push *p;
	const struct reg_blob_push *q;
	char digest[DIGEST_TEXT_MAX];
	const char *from;
	struct session session; /* without a location: not begun */
};

static int begin(struct pushing *t, struct err *err)
{
	bool present;

	TRY(push_head(t->p, t->digest, &present, err));
	if (present)
		return REG_PUSH_PRESENT;
	if (t->q->only_ask && !t->from)
		return REG_PUSH_MISSING;
	TRY(session_open(t->p, t->digest, t->from, &t->session, err));
	if (!t->session.location)
		return REG_PUSH_MOUNTED;
	if (!t->q->only_ask)
		return 0;
	session_drop(t->p, &t->session, NULL); /* it was for the mount */
	return REG_PUSH_MISSING;
}

/* An upload that cannot be gone on with is begun anew. */
static int resume(struct pushing *t, struct err *err)
{
	struct err why = ERR_INIT;

	if (session_ask(t->p, t->q->size, &t->session, &why) >= 0)
		return 0;
	if (push_may_pass(&why) || why.code == ERR_DEADLINE || why.code == ERR_CANCELLED) {
		*err = why;
		return -(int)why.code;
	}
	session_fini(&t->session);
	t->session.kept_bytes = 0;
	return begin(t, err);
}

static int push_once(struct pushing *t, struct err *err)
{
	int r = t->session.location ? resume(t, err) : begin(t, err);

	if (r)
		return r;
	if (t->q->size <= PUSH_ONE_REQUEST_MAX && !t->session.kept_bytes)
		return put_blob(t->p, t->q, t->digest, &t->session, err);
	if (t->session.kept_bytes < t->q->size)
		TRY(patch(t->p, t->q, &t->session, err));
	return put_end(t->p, &t->session, t->digest, err);
}

static int push_all(struct pushing *t, struct err *err)
{
	struct err e = ERR_INIT;
	uint64_t before = 0;

	for (unsigned i = 1;; i++) {
		int r = push_once(t, &e);

		if (r >= 0)
			return r;
		if (t->session.kept_bytes > before)
			i = 1;
		before = t->session.kept_bytes;
		if (!push_may_pass(&e) || i == PUSH_ATTEMPTS) {
			if (err)
				*err = e;
			return r;
		}
		TRY(push_pause(t->p, i, &e, err));
	}
}

int reg_blob_push(struct reg_client *c, const struct reg_blob_push *q, struct err *err)
{
	struct pushing t = {.q = q, .from = q->mount_from && *q->mount_from ? q->mount_from : NULL};
	AUTO(push) struct push p = {0};
	int r;

	TRY(push_init(&p, c, q->ref, q->account, t.from, q->deadline_ns, err));
	if (q->size > INT64_MAX || (!q->only_ask && q->fd < 0 && q->bytes.n != q->size))
		return err_set(err, ERR_INVALID, "push of a blob whose bytes and size differ");
	digest_text(&q->digest, t.digest);
	p.what = xasprintf("%s/%s: push of blob %s", q->ref->host, q->ref->repository, t.digest);
	p.canceller = q->canceller;
	t.p = &p;
	r = push_all(&t, err);
	session_fini(&t.session);
	return r;
}

int manifest_push(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account, struct str bytes,
                  struct str media_type, int64_t deadline_ns, struct reg_canceller *canceller, bool *keeps_referrers,
                  struct err *err)
{
	char name[DIGEST_TEXT_MAX + REG_TAG_MAX] = "";
	AUTO(push) struct push p = {0};
	AUTO(waiter) struct waiter w;
	struct step *s;
	struct digest d;

	waiter_init(&w);
	TRY(push_init(&p, c, ref, account, NULL, deadline_ns, err));
	if (!media_type.n || media_type.n > REG_MEDIA_TYPE_MAX || !bytes.n || bytes.n > REG_MANIFEST_BYTES_MAX)
		return err_set(err, ERR_INVALID, "push of a manifest without media type, or of an impossible size");
	for (size_t i = 0; i < media_type.n; i++)
		if ((unsigned char)media_type.p[i] <= ' ' || (unsigned char)media_type.p[i] > 0x7e)
			return err_set(err, ERR_INVALID, "media type with characters that no header may carry");
	digest_of(bytes.p, bytes.n, &d);
	if (ref->has_digest && !digest_eq(&d, &ref->digest))
		return err_set(err, ERR_INVALID, "push of a manifest under another one's digest");
	if (ref->tag[0])
		strcpy(name, ref->tag);
	else
		digest_text(&d, name);
	p.what = xasprintf("%s/%s: push of manifest %s", ref->host, ref->repository, name);
	p.canceller = canceller;
	s = step_new(&p, "PUT", xasprintf("%s/%s/manifests/%s", p.base, ref->repository, name), &w);
	s->content_type = xstrndup(media_type.p, media_type.n);
	s->base.upload = true;
	s->base.upload_size = bytes.n;
	s->base.upload_bytes = bytes;
	TRY(step_run(&p, s, &w, err));
	if (keeps_referrers)
		*keeps_referrers = w.has_subject;
	return 0;
}

int reg_manifest_push(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account, struct str bytes,
                      struct str media_type, int64_t deadline_ns, struct reg_canceller *canceller, struct err *err)
{
	return manifest_push(c, ref, account, bytes, media_type, deadline_ns, canceller, NULL, err);
}
