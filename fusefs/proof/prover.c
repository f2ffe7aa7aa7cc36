/* The prover thread: proves layers that are here as a whole, one after the other (README.md). */
#include "base/metrics.h"
#include "fusefs/proof/proof.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

METRIC_COUNTER(proofs_total, "contentfs_proofs_total", "Lazy layers held against their image: proven, false, unproven.",
               "verdict");

#define PLAIN_BYTES_MAX (64ull << 30) /* of a stream: holes, and bombs, can say more in no time */
#define STEP_BYTES (4u << 20)         /* of the stream, between two looks whether somebody waits */
#define FETCH_MIN (1u << 20)          /* what left no gaps is fetched up to this size, ... */
#define FETCH_FRACTION 8              /* ... or this part of the blob */
#define RETRY_NS (60 * NS_PER_S)      /* when the network did not deliver; twice as long each time, ... */
#define RETRY_NS_MAX (60 * RETRY_NS)  /* ... up to this */
#define WHOLE_TRIES 4                 /* of fetching all of a blob */
#define MEMBER_NONE UINT32_MAX

static void proof_fini(struct proof *p)
{
	gaps_log_free(p->log);
	tarview_free(p->view);
	esgz_stream_free(p->stream);
	hasher_free(p->blob);
	free(p->bytes);
	if (p->fd >= 0)
		close(p->fd);
}
DEFINE_AUTO_FINI(proof);

/* Looks now and then whether somebody waits, or it is to end. */
static int look_up(struct proof *p, size_t n, struct err *err)
{
	p->stepped += n;
	if (p->stepped < STEP_BYTES)
		return 0;
	p->stepped = 0;
	return prover_give_way(p->d, p->l, err);
}

/* No code of something that another try could mend. */
static int too_long(struct err *err)
{
	return err_set(err, ERR_OUT_OF_RANGE, "its plain stream is longer than 64 GiB");
}

static int step(struct proof *p, size_t n, struct err *err)
{
	p->plain_bytes += n;
	return p->plain_bytes > PLAIN_BYTES_MAX ? too_long(err) : look_up(p, n, err);
}

/* ---- contents ---- */

static int open_entry(struct proof *p, uint32_t entry, struct err *err)
{
	struct esgz_entry e;

	if (p->fd >= 0 && p->entry == entry)
		return 0;
	if (p->fd >= 0)
		close(STEAL_FD(p->fd));
	esgz_index_entry(p->l->ix, entry, &e);
	p->entry = entry;
	if (ffs_object_open(p->d->store, &e.claim, e.size, &p->fd, err) == 0)
		return 0;
	TRY_WRAP(ffs_object_open(p->d->store, &e.content, e.size, &p->fd, err), err, "/" STR_FMT, STR_ARG(e.path));
	return 0;
}

int proof_read_entry(struct proof *p, uint32_t entry, uint64_t at, uint8_t *dst, size_t n, struct err *err)
{
	TRY(open_entry(p, entry, err));
	return partial_read(p->fd, dst, n, at, err);
}

/* For the view: once more, so it is none of the stream's bytes, but takes its time. */
static int reread_entry(void *arg, uint32_t entry, uint64_t at, uint8_t *dst, size_t n, struct err *err)
{
	TRY(proof_read_entry(arg, entry, at, dst, n, err));
	return look_up(arg, n, err);
}

int proof_feed(struct proof *p, struct str bytes, struct err *err)
{
	TRY(tarview_feed(p->view, bytes, err));
	return step(p, bytes.n, err);
}

int proof_feed_content(struct proof *p, uint32_t entry, uint64_t at, struct str bytes, struct err *err)
{
	TRY(tarview_feed_content(p->view, entry, at, bytes, err));
	return step(p, bytes.n, err);
}

static int feed_chunk(struct proof *p, uint32_t chunk, const struct esgz_chunk *c, struct err *err)
{
	uint32_t entry = p->l->entry_of[chunk];

	for (uint64_t at = 0; at < c->bytes;) {
		size_t n = c->bytes - at < PROOF_READ_BYTES ? (size_t)(c->bytes - at) : PROOF_READ_BYTES;

		TRY(proof_read_entry(p, entry, c->file_offset + at, p->bytes, n, err));
		TRY(proof_feed_content(p, entry, c->file_offset + at, str_make(p->bytes, n), err));
		at += n;
	}
	return 0;
}

/* ---- the stream, in the order of the blob ---- */

/* The member that begins at `from`; MEMBER_NONE: none. `next`: where the first one behind that point begins. */
static uint32_t member_at(const struct layer *l, uint64_t from, uint64_t *next)
{
	uint32_t lo = 0, hi = l->n_members;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (l->members[mid].offset < from)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < l->n_members && l->members[lo].offset == from) {
		*next = l->members[lo + 1].offset;
		return lo;
	}
	*next = l->members[lo].offset;
	return MEMBER_NONE;
}

/* The gaps of the range that begins at `from`, if they are there and fit to what the index says. */
static const struct gaps_piece *piece_at(const struct proof *p, uint64_t from, uint32_t *member)
{
	const struct gaps_piece *piece = gaps_log_find(p->log, from);
	uint64_t next;

	if (!piece || piece->from != from)
		return NULL;
	*member = member_at(p->l, from, &next);
	if (piece->until > p->l->info->blob_bytes || piece->until > next ||
	    piece->n_chunks != (*member == MEMBER_NONE ? 0 : member_chunks(p->l, *member)))
		return NULL;
	return piece;
}

/* Up to where there are no gaps. */
static uint64_t missing_until(const struct proof *p, uint64_t from)
{
	const struct gaps_piece *piece;
	uint32_t ignored;

	while ((piece = gaps_log_find(p->log, from + 1))) {
		from = piece->from;
		if (piece_at(p, from, &ignored))
			return from;
	}
	return p->l->info->blob_bytes;
}

static uint64_t missing_bytes(const struct proof *p)
{
	uint64_t sum = 0;

	for (uint64_t at = 0; at < p->l->info->blob_bytes;) {
		uint32_t ignored;
		const struct gaps_piece *piece = piece_at(p, at, &ignored);
		uint64_t until = piece ? piece->until : missing_until(p, at);

		sum += piece ? 0 : until - at;
		at = until;
	}
	return sum;
}

/* A range with gaps: chunks come from objects, the rest from the log. */
static int feed_piece(struct proof *p, const struct gaps_piece *piece, uint32_t m, struct err *err)
{
	uint64_t inner = 0;
	struct str gap;

	TRY(gaps_log_read(p->log, piece, &gap, err));
	for (uint32_t i = 0; i < piece->n_chunks; i++) {
		uint32_t chunk = p->l->order[p->l->members[m].first + i];
		struct esgz_chunk c;

		esgz_index_chunk(p->l->ix, chunk, &c);
		if (c.inner_offset < inner || c.inner_offset - inner > gap.n)
			return err_set(err, ERR_DATA_LOSS, "gaps at %llu of the blob do not fit",
			               (unsigned long long)piece->from);
		TRY(proof_feed(p, str_sub(gap, 0, c.inner_offset - inner), err));
		gap = str_sub(gap, c.inner_offset - inner, SIZE_MAX);
		TRY(feed_chunk(p, chunk, &c, err));
		inner = c.inner_offset + c.bytes;
	}
	return proof_feed(p, gap, err);
}

static int on_plain(void *arg, struct str plain, struct err *err)
{
	return proof_feed(arg, plain, err);
}

static int on_fetched(void *arg, struct str bytes, struct err *err)
{
	struct proof *p = arg;

	if (p->blob)
		hasher_add(p->blob, bytes.p, bytes.n);
	return esgz_stream_feed(p->stream, bytes, on_plain, p, err);
}

/* Of a layer that is read from points: the spans of a range that is fetched, one after the other. */
struct spans {
	struct proof *p;
	uint32_t at;       /* the point of the one that arrives */
	struct buf packed; /* as much of it as is here; never more than ESGZ_SPAN_BLOB_BYTES_MAX */
	struct esgz_inflater *z;
	uint64_t plain_bytes; /* of it so far */
	int result;
	struct err err;
};

static bool on_span_plain(void *arg, struct str plain)
{
	struct spans *s = arg;

	s->plain_bytes += plain.n;
	s->result = proof_feed(s->p, plain, &s->err);
	return s->result >= 0;
}

static int span_complete(struct spans *s, struct err *err)
{
	const struct esgz_member_sink sink = {.gap = on_span_plain, .arg = s};
	const struct esgz_points *points = s->p->l->points;
	struct esgz_point from;
	bool whole;

	esgz_points_get(points, s->at, &from);
	s->plain_bytes = 0;
	whole = esgz_inflate_span(s->z, &from, buf_str(&s->packed), NULL, 0, SIZE_MAX, &sink);
	if (s->result < 0)
		return err_set(err, s->err.code, "%s", s->err.msg);
	if (!whole || s->plain_bytes != esgz_points_span_end(points, s->at) - from.place.plain_offset)
		return err_set(err, ERR_DATA_LOSS, "point %u does not fit the blob", s->at);
	s->at++;
	buf_clear(&s->packed);
	return 0;
}

static int on_spans(void *arg, struct str bytes, struct err *err)
{
	struct spans *s = arg;

	while (bytes.n) {
		struct esgz_point from;
		uint64_t span, n;

		esgz_points_get(s->p->l->points, s->at, &from);
		span = esgz_points_blob_end(s->p->l->points, s->at) - from.place.blob_offset;
		n = span - s->packed.n < bytes.n ? span - s->packed.n : bytes.n;
		buf_add(&s->packed, bytes.p, (size_t)n);
		bytes = str_sub(bytes, (size_t)n, SIZE_MAX);
		if (s->packed.n == span)
			TRY(span_complete(s, err));
	}
	return 0;
}

/* Such a range begins at a point and ends at another one, or at the end of the blob. */
static int feed_spans(struct proof *p, uint64_t from, uint64_t until, struct err *err)
{
	struct spans s = {.p = p, .packed = BUF_INIT, .err = ERR_INIT};
	int r;

	if (!esgz_points_find(p->l->points, from, &s.at))
		return err_set(err, ERR_DATA_LOSS, "no point at %llu of the blob", (unsigned long long)from);
	s.z = esgz_inflater_new();
	r = range_stream(p->d, p->l, from, until, on_spans, &s, err);
	esgz_inflater_free(s.z);
	buf_fini(&s.packed);
	return r;
}

static int feed_fetched(struct proof *p, uint64_t from, uint64_t until, struct err *err)
{
	if (p->l->points && !p->blob)
		return feed_spans(p, from, until, err);
	esgz_stream_free(p->stream);
	p->stream = esgz_stream_new();
	TRY(range_stream(p->d, p->l, from, until, on_fetched, p, err));
	return esgz_stream_finish(p->stream, err);
}

static int feed_all(struct proof *p, struct err *err)
{
	for (uint64_t at = 0; at < p->l->info->blob_bytes;) {
		uint32_t member;
		const struct gaps_piece *piece = piece_at(p, at, &member);
		uint64_t until = piece ? piece->until : missing_until(p, at);

		TRY(piece ? feed_piece(p, piece, member, err) : feed_fetched(p, at, until, err));
		at = until;
	}
	return 0;
}

/* ---- the ways ---- */

static int go_on(void *arg, struct err *err)
{
	struct proof *p = arg;

	return prover_give_way(p->d, p->l, err);
}

void proof_begin(struct proof *p)
{
	tarview_free(p->view);
	p->plain_bytes = 0;
	p->view = tarview_new(p->l->ix, reread_entry, go_on, p);
}

/* From what is here, and little that is not. 1: facts for who promises that DiffID, and good ones, as nothing but the true stream
 * has it. 0: something of it is not what the blob is, or nothing good is to be said of it. */
static int prove_from_gaps(struct proof *p, struct tarview_result *out, struct err *err)
{
	uint64_t blob = p->l->info->blob_bytes, missing, most = blob / FETCH_FRACTION;
	struct err why = ERR_INIT;
	int r;

	if (gaps_log_open(p->d->store, &p->l->key, &p->log, &why) < 0) {
		log_warn("%s", why.msg);
		p->log = gaps_log_new(STR_NONE);
	}
	missing = missing_bytes(p);
	most = most < FETCH_MIN ? FETCH_MIN : most;
	if (missing > most)
		return err_set(err, ERR_PRECONDITION, "%llu of its %llu bytes have not passed through here",
		               (unsigned long long)missing, (unsigned long long)blob);
	proof_begin(p);
	r = feed_all(p, &why);
	if (r == -(int)ERR_DATA_LOSS)
		return 0;
	if (r >= 0)
		r = tarview_finish(p->view, out, &why);
	if (r < 0)
		return err_set(err, why.code, "%s", why.msg);
	return tarview_is_good(out, &p->promised);
}

/* From what is here, without what other images have brought, or with it when a tar-split says where it belongs. */
static int prove_cheaply(struct proof *p, struct tarview_result *out, struct err *err)
{
	int r = prove_from_gaps(p, out, err);

	if (r == 1 || (r < 0 && r != -(int)ERR_PRECONDITION) || !p->l->source.split.packed_bytes)
		return r;
	buf_fini(&out->difference);
	return proof_by_split(p, out, err);
}

/* From the whole blob, once more. */
static int prove_from_blob(struct proof *p, struct tarview_result *out, struct err *err)
{
	const struct esgz_index_info *info = p->l->info;
	char have[DIGEST_TEXT_MAX], want[DIGEST_TEXT_MAX];
	struct digest got;

	if (p->l->prove_wholes >= WHOLE_TRIES)
		return err_set(err, ERR_PRECONDITION, "its blob was fetched for nothing before");
	log_info("layer of %s: what is here of it does not bear out what is promised, its blob is fetched to see why",
	         layer_reference(p->l));
	p->blob = hasher_new();
	proof_begin(p);
	buf_fini(&out->difference);
	TRY(feed_fetched(p, 0, info->blob_bytes, err));
	hasher_done(p->blob, &got);
	if (!digest_eq(&got, &info->blob))
		return err_set(err, ERR_DATA_LOSS, "the registry's copy has digest %s, should be %s",
		               digest_text(&got, have), digest_text(&info->blob, want));
	return tarview_finish(p->view, out, err);
}

/* ---- the outcome ---- */

/* Lock held. `whole`: after having fetched the blob, which is not done for ever. */
static void note_unproven(struct ffs_data *d, struct layer *l, bool whole, const struct err *why)
{
	bool later = err_is_transient(why);

	snprintf(l->unproven, sizeof(l->unproven), "%.*s", (int)sizeof(l->unproven) - 1, why->msg);
	l->prove_wholes += whole;
	if (later && !l->removed && l->prove_wholes < WHOLE_TRIES) {
		l->prove_retry_ns = l->prove_retry_ns ? 2 * l->prove_retry_ns : RETRY_NS;
		if (l->prove_retry_ns > RETRY_NS_MAX)
			l->prove_retry_ns = RETRY_NS_MAX;
		l->prove_ns = clock_mono_ns() + l->prove_retry_ns;
	}
	log_debug("layer of %s is not proven: %s", layer_reference(l), why->msg);
	metric_add(&proofs_total, 1, ffs_verdict_name(FFS_UNPROVEN));
}

static void tell(struct ffs_data *d, struct layer *l, enum ffs_verdict v, const char *why)
{
	char text[DIGEST_TEXT_MAX];

	metric_add(&proofs_total, 1, ffs_verdict_name(v));
	digest_text(&l->info->blob, text);
	if (v == FFS_FALSE)
		log_error("image %s, layer %s is false: %s; such images do not use it lazily any more",
		          layer_reference(l), text, why);
	else if (v == FFS_PROVEN)
		log_info("image %s, layer %s is proven", layer_reference(l), text);
	else
		log_warn("image %s, layer %s cannot be proven: %s", layer_reference(l), text, why);
}

static void note_facts(struct proof *p, const struct tarview_result *result)
{
	struct ffs_facts facts = {.diff_id = p->promised, .of_blob = p->blob != NULL, .tree = result->tree};
	AUTO(buf) struct buf reason = BUF_INIT;
	struct ffs_data *d = p->d;
	struct layer *l = p->l;
	struct err err = ERR_INIT;
	enum ffs_verdict v;

	if (facts.of_blob) {
		facts.diff_id = result->diff_id;
		memcpy(facts.padded, result->padded, sizeof(facts.padded));
	}
	if (result->difference.n)
		facts.difference = xstrdup(buf_cstr(&result->difference));
	if (ffs_index_set_facts(d->store, &l->key, &facts, &err) < 0)
		log_warn("%s", err.msg); /* the next worker finds out again */
	v = ffs_facts_verdict(&facts, &p->promised, &reason);
	pthread_mutex_lock(&d->lock);
	free(l->facts.difference);
	l->facts = facts;
	l->unproven[0] = 0;
	l->prove_ns = 0;
	prover_add(d, l); /* there may be another promise meanwhile, of which they say nothing */
	d->counters.proven += v == FFS_PROVEN;
	d->counters.proven_false += v == FFS_FALSE;
	pthread_mutex_unlock(&d->lock);
	gaps_forget(l->gaps);
	tell(d, l, v, buf_cstr(&reason));
}

/* No lock held. */
static void prove(struct ffs_data *d, struct layer *l, const struct digest *promised, bool suspected)
{
	AUTO(proof)
	struct proof p = {.d = d, .l = l, .promised = *promised, .fd = -1, .bytes = xmalloc(PROOF_READ_BYTES)};
	struct tarview_result result = {0};
	struct err err = ERR_INIT;
	int r = 0;

	gaps_flush(l->gaps);
	if (l->info->content_bytes > PLAIN_BYTES_MAX)
		r = too_long(&err);
	else if (digest_is_zero(&l->facts.diff_id) &&
	         !suspected) /* else two promises contradict each other: the blob decides */
		r = prove_cheaply(&p, &result, &err);
	if (r == 0)
		r = prove_from_blob(&p, &result, &err) < 0 ? -1 : 1;
	if (r > 0 && suspected && result.tree == FFS_TREE_SAME) {
		result.tree = FFS_TREE_DIFFERS;
		buf_adds(&result.difference, "chunks of files that are as they should be are not what its index says");
	}
	if (r > 0) {
		note_facts(&p, &result);
	} else {
		pthread_mutex_lock(&d->lock);
		note_unproven(d, l, p.blob != NULL, &err);
		pthread_mutex_unlock(&d->lock);
	}
	buf_fini(&result.difference);
}

/* ---- the thread ---- */

bool prover_wants_gaps(const struct ffs_data *d, const struct layer *l, bool bulk)
{
	return !d->opts.no_proof && l->gaps && !l->removed && digest_is_zero(&l->facts.diff_id) &&
	       (bulk || d->opts.background != FFS_BACKGROUND_OFF);
}

void prover_add(struct ffs_data *d, struct layer *l)
{
	l->filled = true;
	if (d->opts.no_proof || !l->gaps || digest_is_zero(&l->promised) || ffs_facts_decide(&l->facts, &l->promised))
		return;
	l->prove_ns = clock_mono_ns();
	pthread_cond_signal(&d->prove_wake);
}

void prover_suspect(struct ffs_data *d, struct layer *l)
{
	if (!l->points || ++l->suspected != 2 || d->opts.no_proof || digest_is_zero(&l->promised) ||
	    !digest_is_zero(&l->facts.diff_id))
		return;
	l->prove_ns = clock_mono_ns();
	pthread_cond_signal(&d->prove_wake);
}

/* What is due, or when something will be. */
static struct layer *next_due(struct ffs_data *d, int64_t *at)
{
	struct layer *first = NULL;

	for (struct layer *l = d->layers; l; l = l->next)
		if (l->prove_ns && (!first || l->prove_ns < first->prove_ns))
			first = l;
	*at = first ? first->prove_ns : INT64_MAX;
	return *at <= clock_mono_ns() ? first : NULL;
}

static void prover_wait(struct ffs_data *d, int64_t at)
{
	struct timespec ts = {.tv_sec = at / NS_PER_S, .tv_nsec = at % NS_PER_S};

	if (at == INT64_MAX)
		pthread_cond_wait(&d->prove_wake, &d->lock);
	else
		pthread_cond_timedwait(&d->prove_wake, &d->lock, &ts);
}

static void *prover_main(void *arg)
{
	struct ffs_data *d = arg;

	pthread_mutex_lock(&d->lock);
	while (!d->prover_stopping) {
		struct digest promised;
		bool suspected;
		int64_t at;
		struct layer *l = next_due(d, &at);

		if (!l) {
			prover_wait(d, at);
			continue;
		}
		l->prove_ns = 0;
		promised = l->promised;
		suspected = l->suspected >= 2;
		layer_ref(l);
		pthread_mutex_unlock(&d->lock);
		prove(d, l, &promised, suspected);
		pthread_mutex_lock(&d->lock);
		layer_unref(l);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

int prover_start(struct ffs_data *d, struct err *err)
{
	pthread_condattr_t attr;
	int r;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->prove_wake, &attr);
	pthread_condattr_destroy(&attr);
	r = pthread_create(&d->prover, NULL, prover_main, d);
	if (r)
		return err_errno(err, r, "start the prover");
	d->prover_on = true;
	return 0;
}

void prover_stop(struct ffs_data *d)
{
	if (!d->prover_on)
		return;
	pthread_mutex_lock(&d->lock);
	d->prover_stopping = true;
	pthread_cond_broadcast(&d->prove_wake);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->prover, NULL);
	d->prover_on = false;
}
