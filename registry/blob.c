/* GET and HEAD of blobs: ranges, what servers make of them, and where the bytes go. */
#include "registry/internal.h"

#include <inttypes.h>

#define GATHER_RESERVE_MAX (4u << 20) /* larger bodies grow as they arrive */

struct blob_request {
	struct reg_request base;
	struct reg_blob_get q; /* what its pointers refer to is not kept, except dst and arg */
	bool is_head;
	bool by_byte;    /* HEAD was refused by storage: one byte is asked for */
	bool suffix_set; /* a suffix has become [begin, end) */
	uint64_t begin;  /* of the range; valid unless a suffix is not set */
	uint64_t next;   /* first byte not yet delivered */
	uint64_t end;    /* REG_TO_END until known */
	uint64_t size;   /* of the blob; 0 = unknown */
	uint64_t skip;   /* bytes of the current body before `next` */
	bool left_known;
	uint64_t left; /* bytes of the current body not yet seen */
	struct buf body;
};

static bool ranged(const struct blob_request *b)
{
	return b->next > 0 || b->end != REG_TO_END || (b->q.suffix && !b->suffix_set);
}

static void blob_headers(struct reg_request *r, struct curl_slist **list)
{
	struct blob_request *b = (struct blob_request *)r;
	char line[80];

	if (b->is_head && b->by_byte)
		snprintf(line, sizeof(line), "Range: bytes=0-0");
	else if (b->is_head || !ranged(b))
		return;
	else if (b->q.suffix && !b->suffix_set)
		snprintf(line, sizeof(line), "Range: bytes=-%" PRIu64, b->q.suffix);
	else if (b->end == REG_TO_END)
		snprintf(line, sizeof(line), "Range: bytes=%" PRIu64 "-", b->next);
	else
		snprintf(line, sizeof(line), "Range: bytes=%" PRIu64 "-%" PRIu64, b->next, b->end - 1);
	*list = curl_slist_append(*list, line);
}

/* The blob's size as a server states it must be the descriptor's, and the same every time. */
static int learn_size(struct blob_request *b, uint64_t size, struct err *err)
{
	if (b->size && b->size != size)
		return err_set(err, ERR_DATA_LOSS, "the server says %" PRIu64 " bytes, expected %" PRIu64, size,
		               b->size);
	b->size = size;
	if (b->q.suffix && !b->suffix_set) {
		b->begin = b->next = size > b->q.suffix ? size - b->q.suffix : 0;
		b->end = size;
		b->suffix_set = true;
	}
	if (b->end > size)
		b->end = size;
	if (b->begin && b->begin >= size)
		return err_set(err, ERR_OUT_OF_RANGE, "the blob ends at %" PRIu64 ", before the range", size);
	return 0;
}

static int check_room(const struct blob_request *b, struct err *err)
{
	if (!b->q.data && b->end != REG_TO_END && b->end - b->begin > b->q.max_bytes)
		return err_set(err, ERR_EXHAUSTED, "%" PRIu64 " bytes, more than %" PRIu64, b->end - b->begin,
		               b->q.max_bytes);
	return 0;
}

/* 206: exactly what was asked for, from the first byte on; it may end early (then the rest is asked for). */
static int accept_part(struct blob_request *b, struct err *err)
{
	const struct http_content_range *cr = &b->base.response.content_range;
	const char *type = b->base.response.content_type;

	if (type && str_starts(str_of(type), STR("multipart/")))
		return err_set(err, ERR_DATA_LOSS, "one range was asked for, the answer has several");
	if (!b->base.response.has_content_range || !cr->has_range)
		return err_set(err, ERR_DATA_LOSS, "HTTP 206 without a valid Content-Range");
	if (cr->has_size)
		TRY(learn_size(b, cr->size, err));
	if (b->q.suffix && !b->suffix_set)
		return err_set(err, ERR_DATA_LOSS, "Content-Range without the blob's size");
	if (cr->first != b->next || cr->last >= b->end)
		return err_set(err, ERR_DATA_LOSS, "asked for bytes %" PRIu64 "-%" PRIu64 ", got %" PRIu64 "-%" PRIu64,
		               b->next, b->end - 1, cr->first, cr->last);
	/* Without a size an end before the asked one could be the blob's or the server's choice. */
	if (!cr->has_size && b->end != REG_TO_END && cr->last != b->end - 1)
		return err_set(err, ERR_DATA_LOSS, "Content-Range without the blob's size");
	b->left = cr->last - cr->first + 1;
	b->left_known = true;
	b->skip = 0;
	if (b->base.response.has_length && b->base.response.length != b->left)
		return err_set(err, ERR_DATA_LOSS, "Content-Length contradicts Content-Range");
	return 0;
}

/* 200: the whole blob, asked for or not. */
static int accept_whole(struct blob_request *b, struct err *err)
{
	const struct response *p = &b->base.response;

	if (p->has_length)
		TRY(learn_size(b, p->length, err));
	if (b->q.suffix && !b->suffix_set)
		return err_set(err, ERR_UNIMPLEMENTED, "the server ignores ranges and does not tell the blob's size");
	if (b->next > REG_SKIP_MAX)
		return err_set(err, ERR_UNIMPLEMENTED,
		               "the server ignores ranges: %" PRIu64 " bytes lie before the "
		               "one that is wanted",
		               b->next);
	b->left = p->length;
	b->left_known = p->has_length;
	b->skip = b->next;
	return 0;
}

static int accept_head(struct blob_request *b, struct err *err)
{
	const struct response *p = &b->base.response;

	if (b->by_byte && p->status == 206) {
		if (!p->has_content_range || !p->content_range.has_size)
			return err_set(err, ERR_DATA_LOSS, "HTTP 206 without the blob's size");
		b->size = p->content_range.size;
	} else if (p->has_length) {
		b->size = p->length;
	} else {
		return err_set(err, ERR_DATA_LOSS, "answer without Content-Length");
	}
	return 0;
}

static int blob_accept(struct reg_request *r, struct err *err)
{
	struct blob_request *b = (struct blob_request *)r;

	if (b->is_head)
		return accept_head(b, err);
	if (r->response.status == 206 && ranged(b))
		TRY(accept_part(b, err));
	else if (r->response.status == 200)
		TRY(accept_whole(b, err));
	else
		return err_set(err, ERR_DATA_LOSS, "HTTP %d does not answer the question", r->response.status);
	TRY(check_room(b, err));
	if (!b->q.data && !b->q.dst && b->end != REG_TO_END && !b->body.p)
		buf_reserve(&b->body, b->end - b->begin < GATHER_RESERVE_MAX ? b->end - b->begin : GATHER_RESERVE_MAX);
	return 0;
}

/* Hands a piece at b->next to whoever wants it. */
static enum reg_flow sink(struct blob_request *b, struct str piece, struct err *err)
{
	if (b->q.data)
		return b->q.data(b->q.arg, b->next, piece);
	if (b->next - b->begin + piece.n > b->q.max_bytes) {
		err_set(err, ERR_EXHAUSTED, "more than %" PRIu64 " bytes", b->q.max_bytes);
		return REG_FLOW_STOP;
	}
	if (b->q.dst)
		memcpy((char *)b->q.dst + (b->next - b->begin), piece.p, piece.n);
	else
		buf_addstr(&b->body, piece);
	return REG_FLOW_MORE;
}

static enum reg_flow blob_body(struct reg_request *r, struct str bytes, struct err *err)
{
	struct blob_request *b = (struct blob_request *)r;
	uint64_t skip = b->skip < bytes.n ? b->skip : bytes.n;
	struct str piece = str_sub(bytes, (size_t)skip, SIZE_MAX);
	enum reg_flow flow = REG_FLOW_MORE;

	if (b->is_head)
		/* The one byte of a 206; a server that sends the whole instead is cut off. */
		return r->response.status == 206 ? REG_FLOW_MORE : REG_FLOW_STOP;
	if (b->left_known && bytes.n > b->left) {
		err_set(err, ERR_DATA_LOSS, "the body is longer than announced");
		return REG_FLOW_STOP;
	}
	if (piece.n > b->end - b->next)
		piece.n = (size_t)(b->end - b->next);
	if (piece.n)
		flow = sink(b, piece, err);
	if (flow == REG_FLOW_PAUSE || err->code)
		return flow;
	b->skip -= skip;
	b->next += piece.n;
	if (b->left_known)
		b->left -= bytes.n;
	/* A server that sends the whole is cut off where the range ends. */
	if (b->next == b->end && (!b->left_known || b->left > 0))
		return REG_FLOW_STOP;
	return flow;
}

static int blob_complete(struct reg_request *r, struct err *err)
{
	struct blob_request *b = (struct blob_request *)r;

	if (b->is_head)
		return 0;
	if (b->end == REG_TO_END && !b->left_known) { /* chunked, without a size: the end is where it ended */
		b->end = b->next;
		b->size = b->next;
	}
	if (b->end == REG_TO_END && b->left == 0)
		b->end = b->next;
	return b->next < b->end ? OP_AGAIN : 0;
}

static int blob_status(struct reg_request *r)
{
	struct blob_request *b = (struct blob_request *)r;
	int s = r->response.status;

	/* Storage URLs are signed for one method. */
	if (!b->is_head || b->by_byte || !r->foreign || (s != 400 && s != 403 && s != 405 && s != 501))
		return 0;
	b->by_byte = true;
	r->method = "GET";
	request_attempt(r);
	return OP_HANDLED;
}

static void blob_finish(struct reg_request *r, struct reg_answer *a)
{
	struct blob_request *b = (struct blob_request *)r;

	a->body = b->is_head || b->q.data || b->q.dst ? NULL : &b->body;
	a->media_type = STR_NONE;
	a->offset = b->begin;
	a->length = b->next - b->begin;
	a->blob_size = b->size;
	a->digest = b->q.digest;
	b->q.done(b->q.arg, a);
}

static void blob_free(struct reg_request *r)
{
	buf_fini(&((struct blob_request *)r)->body);
}

static const struct request_ops blob_ops = {
    .headers = blob_headers,
    .status = blob_status,
    .accept = blob_accept,
    .body = blob_body,
    .complete = blob_complete,
    .finish = blob_finish,
    .free = blob_free,
};

static int check_question(const struct reg_blob_get *q, struct err *err)
{
	if (!q->ref || !q->ref->host[0] || !q->ref->repository[0] || !q->done || q->deadline_ns <= 0 ||
	    (unsigned)q->lane >= REG_LANES)
		return err_set(err, ERR_INVALID, "blob request without reference, callback, lane or deadline");
	if (q->suffix ? q->offset || (q->length && q->length != REG_TO_END) || q->suffix > INT64_MAX : !q->length)
		return err_set(err, ERR_INVALID, "blob request without a valid range");
	if (q->offset > INT64_MAX || (q->length != REG_TO_END && q->length > INT64_MAX - q->offset))
		return err_set(err, ERR_INVALID, "blob range beyond the largest offset");
	if (!q->data && q->length == REG_TO_END && !q->suffix && !q->max_bytes)
		return err_set(err, ERR_INVALID, "blob request without a bound for what is gathered");
	return 0;
}

static int submit(struct reg_client *c, const struct reg_blob_get *q, bool is_head, struct reg_request **out,
                  struct err *err)
{
	char digest[DIGEST_TEXT_MAX];
	struct host *h = host_get(c, q->ref->host);
	int checked;
	struct blob_request *b = request_new(c, sizeof(*b), &blob_ops, h, q->account, q->lane, is_head ? "HEAD" : "GET",
	                                     q->deadline_ns, q->max_attempts);

	digest_text(&q->digest, digest);
	b->q = *q;
	b->q.ref = NULL;
	b->q.account = NULL;
	b->is_head = is_head;
	b->begin = b->next = q->offset;
	b->end = q->suffix || q->length == REG_TO_END ? REG_TO_END : q->offset + q->length;
	/* With the size at hand a suffix is asked for as a range, which more servers understand. */
	checked = q->blob_size && !is_head ? learn_size(b, q->blob_size, err) : 0;
	if (!b->q.max_bytes)
		b->q.max_bytes = q->suffix ?: q->length;
	if (q->dst && b->q.max_bytes > q->dst_bytes)
		b->q.max_bytes = q->dst_bytes;
	if (checked < 0) {
		reg_request_unref(&b->base);
		return checked;
	}
	b->base.what = xasprintf("%s/%s: blob %s", q->ref->host, q->ref->repository, digest);
	b->base.scope = xasprintf("repository:%s:pull", q->ref->repository);
	b->base.url_name = xasprintf("%s/%s@%s", q->ref->host, q->ref->repository, digest);
	checked = request_route(&b->base, REG_CAN_PULL, xasprintf("/%s/blobs/%s", q->ref->repository, digest), err);
	if (checked < 0) {
		reg_request_unref(&b->base);
		return checked;
	}
	return request_submit(&b->base, out, err);
}

int reg_blob_get(struct reg_client *c, const struct reg_blob_get *q, struct reg_request **out, struct err *err)
{
	TRY(check_question(q, err));
	return submit(c, q, false, out, err);
}

int reg_blob_head(struct reg_client *c, const struct reg_blob_head *q, struct reg_request **out, struct err *err)
{
	struct reg_blob_get as_get = {
	    .ref = q->ref,
	    .account = q->account,
	    .digest = q->digest,
	    .lane = q->lane,
	    .deadline_ns = q->deadline_ns,
	    .max_attempts = q->max_attempts,
	    .length = REG_TO_END,
	    .max_bytes = 1,
	    .done = q->done,
	    .arg = q->arg,
	};

	TRY(check_question(&as_get, err));
	return submit(c, &as_get, true, out, err);
}
