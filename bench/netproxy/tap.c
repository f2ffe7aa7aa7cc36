#include "bench/netproxy/tap.h"

#include "base/clock.h"

void tap_init(struct tap *t, struct proxy *p)
{
	*t = (struct tap){.proxy = p};
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
	http_fini(&t->requests);
	http_fini(&t->responses);
	buf_fini(&t->output);
}

static bool fault_is_local(const struct fault *f)
{
	return f->action == FAULT_STALL || f->action == FAULT_RESET || f->action == FAULT_STATUS;
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

static void request_begun(struct tap *t, struct str head)
{
	const struct http_msg *m = &t->requests.msg;
	struct exchange *e = vec_add(&t->exchanges);

	e->line = xasprintf(STR_FMT " " STR_FMT "%s" STR_FMT, STR_ARG(m->method), STR_ARG(m->target),
	                    m->range.n ? " " : "", STR_ARG(m->range));
	e->begun_ns = clock_mono_ns();
	e->is_head = str_eqc(m->method, "HEAD");
	e->strike_at = UINT64_MAX;
	e->fault = fault_rules_match(&t->proxy->faults, str_of(e->line));
	t->proxy->counters.requests++;
	if (e->fault.action != FAULT_NONE)
		t->proxy->counters.faults++;
	t->swallow = fault_is_local(&e->fault);
	if (t->swallow)
		return;
	if (e->fault.action == FAULT_NORANGE)
		add_without_range(&t->output, head);
	else
		buf_addstr(&t->output, head);
}

void tap_request(struct tap *t, struct str bytes)
{
	enum http_what what;
	struct str piece;

	while ((what = http_next(&t->requests, &bytes, &piece)) != HTTP_MORE) {
		if (what == HTTP_HEAD) {
			request_begun(t, piece);
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

static void response_begun(struct tap *t)
{
	const struct http_msg *m = &t->responses.msg;
	struct exchange *e = &t->exchanges.p[0];

	if (m->interim)
		return;
	e->status = m->status;
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
			e->body_bytes = e->strike_at;
			t->proxy->counters.body_bytes += e->strike_at - begin;
			b->n = (uint32_t)strike;
			b->end = BLOCK_FIN;
			t->broken = true;
			return true;
		}
		b->p[strike] = (char)~b->p[strike];
	}
	e->body_bytes += n;
	t->proxy->counters.body_bytes += n;
	return false;
}

void tap_response(struct tap *t, struct block *b)
{
	struct str rest = {b->p, b->n};
	enum http_what what;
	struct str piece;

	while (!t->opaque && (what = http_next(&t->responses, &rest, &piece)) != HTTP_MORE) {
		/* A response to no request: a server that speaks unasked is not speaking HTTP. */
		if (what == HTTP_OPAQUE || !t->exchanges.n) {
			t->opaque = true;
			break;
		}
		if (what == HTTP_HEAD)
			response_begun(t);
		else if (what == HTTP_BODY && response_body(t, b, (size_t)(piece.p - b->p), piece.n))
			return;
		else if (what == HTTP_END && !t->responses.msg.interim)
			exchange_end(t);
	}
}

static struct block *status_answer(struct exchange *e)
{
	AUTO(buf) struct buf body = BUF_INIT;
	AUTO(buf) struct buf text = BUF_INIT;
	struct block *b;

	e->status = (unsigned)e->fault.value;
	buf_addf(&body, "{\"errors\":[{\"code\":\"UNKNOWN\",\"message\":\"netproxy answers %u\"}]}\n", e->status);
	if (e->status == 204 || e->status == 304)
		buf_clear(&body);
	buf_addf(&text, "HTTP/1.1 %u Injected\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
	         e->status, body.n);
	if (!e->is_head) {
		buf_addstr(&text, buf_str(&body));
		e->body_bytes = body.n;
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
		b = status_answer(e);
	} else {
		b = block_new(0);
		b->end = BLOCK_RESET;
		t->broken = true;
	}
	exchange_end(t);
	return b;
}
