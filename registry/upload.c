#include "registry/upload.h"

#include "registry/session.h"

#define ATTEMPTS 8                   /* in a row without a byte that the registry has kept: 25 s, if it fails at once */
#define PIECE_BYTES_MIN (256u << 10) /* a server that does not take these takes no blobs */
#define ABANDON_NS (10 * NS_PER_S)

struct reg_upload {
	struct push push;
	struct reg_ref ref;
	struct session session; /* without a location: not begun, or over */
	size_t piece_bytes;
	struct buf next;   /* being filled */
	struct buf piece;  /* on its way, */
	uint64_t piece_at; /* from here on in the blob */
	struct waiter sent;
	bool is_under_way;
	struct reg_canceller own; /* when the caller has none: to end what is under way */
	void (*progress)(void *arg, uint64_t sent);
	void *arg;
};

int reg_upload_begin(struct reg_client *c, const struct reg_upload_opts *o, struct reg_upload **out, struct err *err)
{
	AUTO(reg_upload) struct reg_upload *u = xcalloc(1, sizeof(*u));

	reg_canceller_init(&u->own);
	u->piece_bytes = REG_UPLOAD_PIECE_BYTES;
	u->progress = o->progress;
	u->arg = o->arg;
	if (o->ref)
		u->ref = *o->ref;
	reg_account_ref(o->account);
	TRY(push_init(&u->push, c, &u->ref, o->account, NULL, o->deadline_ns, err));
	u->push.what = xasprintf("%s/%s: upload of a blob", u->ref.host, u->ref.repository);
	u->push.canceller = o->canceller ?: &u->own;
	*out = STEAL(u);
	return 0;
}

/* ---- a piece ---- */

static uint64_t piece_end(const struct reg_upload *u)
{
	return u->piece_at + u->piece.n;
}

/* What is still to be sent of the piece, at most as much as a PATCH may carry. */
static struct str piece_rest(const struct reg_upload *u)
{
	return str_sub(buf_str(&u->piece), (size_t)(u->session.kept_bytes - u->piece_at), u->piece_bytes);
}

static int begin_patch(struct reg_upload *u, struct str bytes, struct err *err)
{
	struct step *s;
	int r;

	waiter_init(&u->sent);
	s = session_patch(&u->push, &u->session, bytes.n, &u->sent);
	step_set_body(s, bytes);
	s->base.upload_base = u->session.kept_bytes;
	s->base.upload_progress = u->progress;
	s->base.upload_arg = u->arg;
	r = step_submit(&u->push, s, err);
	if (r < 0)
		waiter_fini(&u->sent);
	u->is_under_way = r >= 0;
	return r;
}

static int end_patch(struct reg_upload *u, uint64_t bytes, int *status, struct err *err)
{
	int r = step_wait(&u->push, &u->sent, err);

	u->is_under_way = false;
	*status = u->sent.status;
	if (r >= 0)
		session_patched(&u->session, &u->sent, bytes);
	waiter_fini(&u->sent);
	return r;
}

/* Where the registry is, which must be within the piece: what came before is not here any more. */
static int find_place(struct reg_upload *u, struct err *err)
{
	struct err why = ERR_INIT;

	if (session_ask(&u->push, UINT64_MAX, &u->session, &why) < 0) {
		if (push_may_pass(&why) || why.code == ERR_DEADLINE || why.code == ERR_CANCELLED) {
			*err = why;
			return -(int)why.code;
		}
		session_fini(&u->session);
		return err_set(err, ERR_ABORTED, "the upload is lost: %s", why.msg);
	}
	if (u->session.kept_bytes < u->piece_at || u->session.kept_bytes > piece_end(u))
		return err_set(err, ERR_ABORTED, "%s: the registry has %llu bytes of %llu", u->push.what,
		               (unsigned long long)u->session.kept_bytes, (unsigned long long)piece_end(u));
	return 0;
}

static int wait_a_while(struct reg_upload *u, unsigned attempt, const struct err *why, struct err *err)
{
	if (attempt < ATTEMPTS)
		return push_pause(&u->push, attempt, why, err);
	*err = *why;
	return -(int)why->code;
}

static bool is_worth_another_try(const struct reg_upload *u, const struct err *why, int status)
{
	if (status == 413) /* said before it had read the body: the line may be broken, too */
		return u->piece_bytes / 2 >= PIECE_BYTES_MIN && u->piece_bytes / 2 >= u->session.piece_min;
	/* Of the latter two the upload itself is asked. The client's HTTP library may have sent the same bytes twice. */
	return push_may_pass(why) || status == 416 || status == 404;
}

static int send_rest(struct reg_upload *u, int *status, struct err *err)
{
	while (u->session.kept_bytes < piece_end(u)) {
		struct str bytes = piece_rest(u);

		*status = 0;
		TRY(begin_patch(u, bytes, err));
		TRY(end_patch(u, bytes.n, status, err));
	}
	return 0;
}

/* The rest of a piece whose PATCH has failed for the reason in *err, as often as it takes. */
static int carry_on(struct reg_upload *u, int status, struct err *err)
{
	struct err why = *err;
	uint64_t before = u->session.kept_bytes;

	for (unsigned attempt = 1;; attempt++) {
		int r;

		if (!is_worth_another_try(u, &why, status)) {
			*err = why;
			return -(int)why.code;
		}
		if (status == 413)
			u->piece_bytes /= 2;
		else
			TRY(wait_a_while(u, attempt, &why, err));
		r = find_place(u, &why);
		status = 0;
		if (r >= 0)
			r = send_rest(u, &status, &why);
		if (r >= 0)
			return 0;
		if (u->session.kept_bytes > before)
			attempt = 0;
		before = u->session.kept_bytes;
	}
}

/* Waits until the registry has the piece that is on its way. */
static int settle(struct reg_upload *u, struct err *err)
{
	struct err why = ERR_INIT;
	int status, r;

	if (!u->is_under_way)
		return 0;
	r = end_patch(u, piece_rest(u).n, &status, &why);
	if (r >= 0)
		r = send_rest(u, &status, &why);
	if (r < 0)
		r = carry_on(u, status, &why);
	if (r < 0 && err)
		*err = why;
	return r;
}

/* What has been filled goes on its way. */
static int send_next(struct reg_upload *u, struct err *err)
{
	struct buf empty = u->piece;

	TRY(settle(u, err));
	u->piece_at += u->piece.n;
	u->piece = u->next;
	u->next = empty;
	buf_clear(&u->next);
	return begin_patch(u, piece_rest(u), err);
}

static int begin_session(struct reg_upload *u, struct err *err)
{
	if (u->session.location)
		return 0;
	TRY(session_open(&u->push, NULL, NULL, &u->session, err));
	if (u->session.piece_min > REG_UPLOAD_PIECE_BYTES_MAX)
		return err_set(err, ERR_UNIMPLEMENTED, "%s: the registry wants pieces of %llu bytes, more than %u",
		               u->push.what, (unsigned long long)u->session.piece_min, REG_UPLOAD_PIECE_BYTES_MAX);
	if (u->piece_bytes < u->session.piece_min)
		u->piece_bytes = (size_t)u->session.piece_min;
	return 0;
}

int reg_upload_write(struct reg_upload *u, struct str bytes, struct err *err)
{
	while (bytes.n) {
		struct str some;

		if (u->next.n >= u->piece_bytes) {
			TRY(begin_session(u, err));
			if (u->next.n >= u->piece_bytes)
				TRY(send_next(u, err));
		}
		some = str_sub(bytes, 0, u->piece_bytes - u->next.n);
		buf_addstr(&u->next, some);
		bytes = str_sub(bytes, some.n, SIZE_MAX);
	}
	return 0;
}

/* ---- the end ---- */

/* Begun, and no piece has gone: all of the blob is at hand. */
static bool is_one_piece(const struct reg_upload *u)
{
	return u->piece_at == 0 && u->piece.n == 0;
}

static int put(struct reg_upload *u, const char *digest, int *status, struct err *err)
{
	AUTO(waiter) struct waiter w;
	struct step *s;
	int r;

	waiter_init(&w);
	TRY(begin_session(u, err));
	s = session_put(&u->push, &u->session, digest, &w);
	if (is_one_piece(u))
		step_set_body(s, buf_str(&u->next));
	r = step_run(&u->push, s, &w, err);
	*status = w.status;
	return r;
}

/* Whether the answer to the last PUT was lost, and not the PUT. */
static bool is_there(struct reg_upload *u, const char *digest)
{
	bool present = false;

	return push_head(&u->push, digest, &present, NULL) >= 0 && present;
}

/* After a PUT that failed: makes the session fit for another one. */
static int prepare_again(struct reg_upload *u, int status, struct err *err)
{
	if (is_one_piece(u)) {
		session_fini(&u->session); /* good for one PUT */
		if (status != 413)
			return 0;
		TRY(begin_session(u, err));
		TRY(send_next(u, err));
		return settle(u, err);
	}
	TRY(find_place(u, err));
	return send_rest(u, &status, err);
}

static int end(struct reg_upload *u, const char *digest, struct err *err)
{
	for (unsigned attempt = 1;; attempt++) {
		struct err why = ERR_INIT;
		int status = 0;

		if (put(u, digest, &status, &why) >= 0)
			return 0;
		if (!push_may_pass(&why) && status != 404 && !(status == 413 && is_one_piece(u))) {
			*err = why;
			return -(int)why.code;
		}
		if (status != 413) {
			TRY(wait_a_while(u, attempt, &why, err));
			if (is_there(u, digest))
				return 0;
		}
		TRY(prepare_again(u, status, err));
	}
}

int reg_upload_finish(struct reg_upload *u, const struct digest *digest, struct err *err)
{
	struct err why = ERR_INIT;
	char text[DIGEST_TEXT_MAX];
	int r = 0;

	if (!is_one_piece(u) && u->next.n)
		r = send_next(u, &why);
	if (r >= 0)
		r = settle(u, &why);
	if (r >= 0)
		r = end(u, digest_text(digest, text), &why);
	if (r < 0) {
		if (err)
			*err = why;
		return r;
	}
	session_fini(&u->session);
	return 0;
}

/* Not by the caller's canceller: it would end what comes after, too. */
static void end_what_is_under_way(struct reg_upload *u)
{
	struct reg_canceller *k = u->push.canceller;
	int status;

	if (!u->is_under_way)
		return;
	pthread_mutex_lock(&k->lock);
	if (k->current)
		reg_request_cancel(k->current);
	pthread_mutex_unlock(&k->lock);
	end_patch(u, 0, &status, NULL);
}

void reg_upload_free(struct reg_upload *u)
{
	if (!u)
		return;
	end_what_is_under_way(u);
	if (u->session.location) {
		u->push.canceller = NULL;
		u->push.deadline_ns = clock_mono_ns() + ABANDON_NS;
		session_drop(&u->push, &u->session, NULL);
	}
	reg_account_unref(u->push.account);
	push_fini(&u->push);
	session_fini(&u->session);
	reg_canceller_fini(&u->own);
	buf_fini(&u->next);
	buf_fini(&u->piece);
	free(u);
}
