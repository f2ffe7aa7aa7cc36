#include "bench/netproxy/tap.h"

#include "base/clock.h"

void tap_init(struct tap *t, struct proxy *p, int64_t now_ns, int64_t open_ns)
{
	*t = (struct tap){
	    .proxy = p,
	    .number = ++p->n_accepted,
	    .open_ns = open_ns,
	    .depth = trips_begin(&p->trips, 0, now_ns),
	    .epoch = p->records.epoch,
	};
	http_init(&t->requests, HTTP_REQUEST);
	http_init(&t->responses, HTTP_RESPONSE);
}

static void log_exchange(struct tap *t, const struct exchange *e)
{
	struct proxy *p = t->proxy;
	double ms = (double)(clock_mono_ns() - e->begun_ns) / NS_PER_MS;

	if (!p->log)
		return;
	fprintf(p->log, "%s -> %u %llu bytes %.1f ms\n", e->line, e->status, (unsigned long long)e->body_bytes, ms);
	fflush(p->log);
}

/* The oldest exchange is over; status 0 = without an answer. */
static void exchange_end(struct tap *t)
{
	struct exchange *e = &t->exchanges.p[0];

	t->proxy->counters.status[e->status / 100 <= 5 ? e->status / 100 : 0]++;
	log_exchange(t, e);
	free(e->line);
	t->exchanges.n--;
	memmove(t->exchanges.p, t->exchanges.p + 1, t->exchanges.n * sizeof(*t->exchanges.p));
}

void tap_fini(struct tap *t)
{
	while (t->exchanges.n)
		exchange_end(t);
	vec_fini(&t->exchanges);
	vec_fini(&t->arrivals);
	http_fini(&t->requests);
	http_fini(&t->responses);
	buf_fini(&t->output);
}

/* The answer, or none, is the proxy's own. */
static bool fault_is_local(const struct fault *f)
{
	return (f->action == FAULT_STALL && !f->value) || f->action == FAULT_RESET || f->action == FAULT_STATUS;
}

/* A head without its Range line. */
static void add_without_range(struct buf *out, struct str head)
{
	while (head.n) {
		ptrdiff_t end = str_find(head, '\n');
		struct str line = str_sub(head, 0, end < 0 ? head.n : (size_t)end + 1);
		struct str name = line;

		head = str_sub(head, line.n, SIZE_MAX);
		str_split(&name, ':', &(struct str){0});
		if (line.n - name.n == 6 && str_ieq(str_sub(line, 0, 5), STR("range")))
			continue;
		buf_addstr(out, line);
	}
}

static void record_begun(struct tap *t, struct exchange *e, int64_t sent_ns)
{
	const struct http_msg *m = &t->requests.msg;
	struct proxy *p = t->proxy;

	e->depth = trips_begin(&p->trips, t->epoch == p->records.epoch ? t->depth : 0, sent_ns);
	e->record = records_add(&p->records, m->method, m->target, m->range,
	                        sent_ns > t->open_ns ? sent_ns : t->open_ns, t->number, e->depth);
}

static void request_begun(struct tap *t, struct str head, int64_t sent_ns)
{
	const struct http_msg *m = &t->requests.msg;
	struct exchange *e = vec_add(&t->exchanges);

	e->line = xasprintf(STR_FMT " " STR_FMT "%s" STR_FMT, STR_ARG(m->method), STR_ARG(m->target),
	                    m->range.n ? " " : "", STR_ARG(m->range));
	e->begun_ns = clock_mono_ns();
	e->is_head = str_eqc(m->method, "HEAD");
	e->strike_at = UINT64_MAX;
	e->fault = fault_rules_match(&t->proxy->faults, str_of(e->line), e->begun_ns - t->proxy->reset_ns);
	record_begun(t, e, sent_ns);
	t->proxy->counters.requests++;
	if (e->fault.action != FAULT_NONE)
		t->proxy->counters.faults++;
	t->swallow = fault_is_local(&e->fault);
	if (t->swallow)
		return;
	if (e->fault.action == FAULT_STALL)
		t->hold_until_ns = e->begun_ns + (int64_t)e->fault.value * NS_PER_MS;
	if (e->fault.action == FAULT_NORANGE)
		add_without_range(&t->output, head);
	else
		buf_addstr(&t->output, head);
}

void tap_request(struct tap *t, struct str bytes, int64_t sent_ns)
{
	enum http_what what;
	struct str piece;

	while ((what = http_next(&t->requests, &bytes, &piece)) != HTTP_MORE) {
		if (what == HTTP_HEAD) {
			request_begun(t, piece, sent_ns);
			continue;
		}
		if (what == HTTP_OPAQUE) {
			t->opaque = true;
			t->swallow = false;
		}
		if (!t->swallow)
			buf_addstr(&t->output, piece);
	}
}

void tap_written(struct tap *t, size_t n)
{
	t->written += n;
	if (t->written < t->output.n)
		return;
	buf_clear(&t->output);
	t->written = 0;
}

/* The client learns something of the oldest exchange when this many bytes have reached it. */
static void expect_arrival(struct tap *t, uint64_t at, bool head)
{
	const struct exchange *e = &t->exchanges.p[0];

	vec_push(&t->arrivals, (struct arrival){at, e->record, head ? e->depth : 0});
}

void tap_delivered(struct tap *t, size_t n, int64_t now_ns)
{
	struct proxy *p = t->proxy;
	size_t done = 0;

	t->delivered += n;
	for (; done < t->arrivals.n && t->arrivals.p[done].at <= t->delivered; done++) {
		const struct arrival *a = &t->arrivals.p[done];
		struct record *r = records_get(&p->records, a->record);

		if (a->depth && record_is_current(&p->records, a->record))
			trips_answered(&p->trips, a->depth, now_ns);
		if (r)
			*(a->depth ? &r->first_byte_ns : &r->end_ns) = now_ns;
	}
	if (!done)
		return;
	t->arrivals.n -= done;
	memmove(t->arrivals.p, t->arrivals.p + done, t->arrivals.n * sizeof(*t->arrivals.p));
}

static void set_status(struct tap *t, struct exchange *e, unsigned status)
{
	struct record *r = records_get(&t->proxy->records, e->record);

	e->status = status;
	if (r)
		r->status = status;
}

static void count_body(struct tap *t, struct exchange *e, uint64_t n)
{
	struct record *r = records_get(&t->proxy->records, e->record);

	e->body_bytes += n;
	t->proxy->counters.body_bytes += n;
	if (r)
		r->body_bytes += n;
}

/* `at`: where the head ends in the stream to the client. */
static void response_begun(struct tap *t, uint64_t at)
{
	const struct http_msg *m = &t->responses.msg;
	struct exchange *e = &t->exchanges.p[0];

	if (m->interim)
		return;
	set_status(t, e, m->status);
	expect_arrival(t, at, true);
	e->strike_at = fault_offset(&e->fault, m->length);
	if (e->is_head)
		http_no_body(&t->responses);
}

/* Payload at `at` in the block. True when the stream ends here. */
static bool response_body(struct tap *t, struct block *b, size_t at, size_t n)
{
	struct exchange *e = &t->exchanges.p[0];
	uint64_t begin = e->body_bytes;

	if (e->strike_at >= begin && e->strike_at - begin < n) {
		size_t strike = at + (size_t)(e->strike_at - begin);

		if (e->fault.action == FAULT_TRUNCATE) {
			count_body(t, e, e->strike_at - begin);
			b->n = (uint32_t)strike;
			b->end = BLOCK_FIN;
			t->broken = true;
			return true;
		}
		b->p[strike] = (char)~b->p[strike];
	}
	count_body(t, e, n);
	return false;
}

/* The oldest exchange is over here, and for the client when this many bytes have reached it. */
static void response_complete(struct tap *t, uint64_t at)
{
	expect_arrival(t, at, false);
	exchange_end(t);
}

/* A body of unknown length lasts until the server closes. */
static bool is_ended_by_close(const struct tap *t)
{
	return t->exchanges.n && !t->opaque && t->responses.state == HS_BODY && t->responses.left == UINT64_MAX;
}

/* The head of an answer that the client is not to see. */
static bool is_lost(const struct tap *t)
{
	return t->exchanges.p[0].fault.action == FAULT_LOSE && !t->responses.msg.interim;
}

static void parse_response(struct tap *t, struct block *b)
{
	struct str rest = {b->p, b->n};
	enum http_what what;
	struct str piece;

	while (!t->opaque) {
		uint32_t before = b->n - (uint32_t)rest.n;

		what = http_next(&t->responses, &rest, &piece);
		if (what == HTTP_MORE)
			break;
		/* A response to no request: a server that speaks unasked is not speaking HTTP. */
		if (what == HTTP_OPAQUE || !t->exchanges.n) {
			t->opaque = true;
			break;
		}
		if (what == HTTP_HEAD && is_lost(t)) {
			b->n = before;
			b->end = BLOCK_RESET;
			t->broken = true;
			return;
		}
		if (what == HTTP_HEAD)
			response_begun(t, t->answered + b->n - rest.n);
		else if (what == HTTP_BODY && response_body(t, b, (size_t)(piece.p - b->p), piece.n))
			return;
		else if (what == HTTP_END && !t->responses.msg.interim)
			response_complete(t, t->answered + b->n - rest.n);
	}
}

void tap_response(struct tap *t, struct block *b)
{
	parse_response(t, b);
	t->answered += b->n;
	if (b->end == BLOCK_FIN && !t->broken && is_ended_by_close(t))
		response_complete(t, t->answered);
}

static struct block *status_answer(struct tap *t, struct exchange *e)
{
	AUTO(buf) struct buf body = BUF_INIT;
	AUTO(buf) struct buf text = BUF_INIT;
	struct block *b;

	set_status(t, e, (unsigned)e->fault.value);
	buf_addf(&body, "{\"errors\":[{\"code\":\"UNKNOWN\",\"message\":\"netproxy answers %u\"}]}\n", e->status);
	if (e->status == 204 || e->status == 304)
		buf_clear(&body);
	buf_addf(&text, "HTTP/1.1 %u Injected\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
	         e->status, body.n);
	if (!e->is_head) {
		buf_addstr(&text, buf_str(&body));
		count_body(t, e, body.n);
	}
	b = block_new((uint32_t)text.n);
	memcpy(b->p, text.p, text.n);
	b->n = (uint32_t)text.n;
	return b;
}

struct block *tap_answer(struct tap *t)
{
	struct exchange *e = t->exchanges.p;
	struct block *b;

	if (!t->exchanges.n || t->broken || !fault_is_local(&e->fault) || e->fault.action == FAULT_STALL)
		return NULL;
	if (e->fault.action == FAULT_STATUS) {
		b = status_answer(t, e);
		t->answered += b->n;
		expect_arrival(t, t->answered, true);
		response_complete(t, t->answered);
	} else {
		b = block_new(0);
		b->end = BLOCK_RESET;
		t->broken = true;
		exchange_end(t);
	}
	return b;
}
