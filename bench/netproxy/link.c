#include "bench/netproxy/link.h"

#include "base/clock.h"

#define GRAIN_NS (100 * NS_PER_US)
/* The bottleneck takes blocks this far ahead of time, so that one wake-up serves several. Their due times are exact. */
#define AHEAD_NS (200 * NS_PER_US)
/* How much of an overslept time a busy link makes up for. */
#define CATCH_UP_NS (5 * NS_PER_MS)
/* What waits in front of the bottleneck, per pipe: as much as keeps the link busy while the process is not running. */
#define QUEUE_NS (10 * NS_PER_MS)
#define QUEUE_MIN_BYTES (256u << 10)
#define UNLIMITED_WINDOW_BYTES (16u << 20)

struct block *block_new(uint32_t cap)
{
	struct block *b = xmalloc(sizeof(*b) + cap);

	*b = (struct block){.cap = cap};
	return b;
}

struct block *block_shrink(TAKE(struct block *) b)
{
	b->cap = b->n;
	return xrealloc(b, sizeof(*b) + b->n);
}

void block_free(struct block *b)
{
	free(b);
}

static void list_push(struct block_list *l, struct block *b)
{
	b->next = NULL;
	if (l->tail)
		l->tail->next = b;
	else
		l->head = b;
	l->tail = b;
}

static struct block *list_pop(struct block_list *l)
{
	struct block *b = l->head;

	l->head = b->next;
	if (!l->head)
		l->tail = NULL;
	return b;
}

static void list_free(struct block_list *l)
{
	while (l->head)
		block_free(list_pop(l));
}

/* Keeps the wire in order of arrival. Only what is sent after the delay has become shorter is due out of turn. */
static void wire_insert(struct block_list *l, struct block *b)
{
	struct block **at = &l->head;

	if (!l->tail || l->tail->due_ns <= b->due_ns) {
		list_push(l, b);
		return;
	}
	while ((*at)->due_ns <= b->due_ns)
		at = &(*at)->next;
	b->next = *at;
	*at = b;
}

void link_set(struct link *l, double mbit, int64_t delay_ns)
{
	l->ns_per_byte = mbit > 0 ? 8e3 / mbit : 0;
	l->delay_ns = delay_ns;
}

uint32_t link_grain_bytes(const struct link *l)
{
	double grain;

	if (l->ns_per_byte <= 0)
		return 256u << 10;
	grain = (double)GRAIN_NS / l->ns_per_byte;
	return grain < 4096 ? 4096 : grain > (256u << 10) ? 256u << 10 : (uint32_t)grain;
}

size_t link_window_bytes(const struct link *l)
{
	double product, queue;

	if (l->ns_per_byte <= 0)
		return l->delay_ns ? UNLIMITED_WINDOW_BYTES : 4 * QUEUE_MIN_BYTES;
	product = (double)l->delay_ns / l->ns_per_byte;
	queue = (double)QUEUE_NS / l->ns_per_byte;
	return (size_t)(product + (queue < QUEUE_MIN_BYTES ? QUEUE_MIN_BYTES : queue));
}

void pipe_init(struct pipe *p, struct link *l, int64_t earliest_ns, void (*arrived)(struct pipe *p))
{
	*p = (struct pipe){.link = l, .earliest_ns = earliest_ns, .arrived = arrived};
}

static void turn_add(struct link *l, struct pipe *p)
{
	if (p->next_turn)
		return;
	if (l->turn) {
		p->next_turn = l->turn->next_turn;
		l->turn->next_turn = p;
	} else {
		p->next_turn = p;
	}
	l->turn = p; /* the newcomer comes last */
}

static void turn_remove(struct link *l, struct pipe *p)
{
	struct pipe *before = p;

	if (!p->next_turn)
		return;
	while (before->next_turn != p)
		before = before->next_turn;
	if (before == p) {
		l->turn = NULL;
	} else {
		before->next_turn = p->next_turn;
		if (l->turn == p)
			l->turn = before;
	}
	p->next_turn = NULL;
}

static void opening_add(struct link *l, struct pipe *p)
{
	struct pipe **at = &l->opening;

	if (p->is_opening)
		return;
	while (*at && (*at)->earliest_ns <= p->earliest_ns)
		at = &(*at)->next_opening;
	p->next_opening = *at;
	p->is_opening = true;
	*at = p;
}

static void opening_remove(struct link *l, struct pipe *p)
{
	struct pipe **at = &l->opening;

	if (!p->is_opening)
		return;
	while (*at != p)
		at = &(*at)->next_opening;
	*at = p->next_opening;
	p->next_opening = NULL;
	p->is_opening = false;
}

static void wire_remove(struct link *l, struct pipe *p)
{
	struct block **at = &l->wire.head;
	struct block *last = NULL;

	while (*at && p->on_wire) {
		struct block *b = *at;

		if (b->pipe == p) {
			*at = b->next;
			block_free(b);
			p->on_wire--;
		} else {
			last = b;
			at = &b->next;
		}
	}
	if (!*at)
		l->wire.tail = last;
}

void pipe_fini(struct pipe *p)
{
	if (!p->link)
		return;
	turn_remove(p->link, p);
	opening_remove(p->link, p);
	wire_remove(p->link, p);
	list_free(&p->waiting);
	list_free(&p->ready);
	*p = (struct pipe){0};
}

/* What the pipe has may be sent from `ns` on. An idle link begins then, not when it fell idle. */
static void queue(struct link *l, struct pipe *p, int64_t ns)
{
	if (!l->turn && l->free_ns < ns)
		l->free_ns = ns;
	turn_add(l, p);
}

void pipe_send(struct pipe *p, TAKE(struct block *) b, int64_t sent_ns)
{
	struct link *l = p->link;

	b->pipe = p;
	b->sent_ns = sent_ns;
	p->held_bytes += b->n;
	list_push(&p->waiting, b);
	if (p->is_opening || sent_ns < p->earliest_ns)
		opening_add(l, p);
	else
		queue(l, p, sent_ns);
}

void pipe_pop(struct pipe *p)
{
	struct block *b = list_pop(&p->ready);

	p->held_bytes -= b->n;
	block_free(b);
}

/* The bottleneck takes the next block of the pipe whose turn it is. */
static void transmit(struct link *l)
{
	struct pipe *p = l->turn->next_turn;
	struct block *b = list_pop(&p->waiting);

	l->free_ns += (int64_t)((double)b->n * l->ns_per_byte);
	l->bytes += b->n;
	b->due_ns = l->free_ns + l->delay_ns;
	if (b->due_ns < p->last_due_ns)
		b->due_ns = p->last_due_ns;
	p->last_due_ns = b->due_ns;
	p->on_wire++;
	wire_insert(&l->wire, b);
	l->turn = p;
	if (!p->waiting.head)
		turn_remove(l, p);
}

/* Connections that have been set up by now take part, each once the bottleneck has come to its time. */
static void admit(struct link *l, int64_t now_ns)
{
	while (l->opening && l->opening->earliest_ns <= now_ns && (!l->turn || l->opening->earliest_ns <= l->free_ns)) {
		struct pipe *p = l->opening;

		opening_remove(l, p);
		queue(l, p, p->earliest_ns);
	}
}

int64_t link_run(struct link *l, int64_t now_ns)
{
	int64_t next = INT64_MAX;

	if (l->frozen)
		return INT64_MAX;
	admit(l, now_ns);
	if (l->turn && l->free_ns < now_ns - CATCH_UP_NS)
		l->free_ns = now_ns - CATCH_UP_NS;
	while (l->turn && l->free_ns <= now_ns + AHEAD_NS) {
		transmit(l);
		admit(l, now_ns);
	}
	while (l->wire.head && l->wire.head->due_ns <= now_ns) {
		struct block *b = list_pop(&l->wire);

		b->pipe->on_wire--;
		list_push(&b->pipe->ready, b);
		b->pipe->arrived(b->pipe);
	}
	/* What `arrived` sent or freed has changed the state, so the next time is looked up last. */
	if (l->wire.head)
		next = l->wire.head->due_ns;
	if (l->turn && l->free_ns - AHEAD_NS / 2 < next)
		next = l->free_ns - AHEAD_NS / 2;
	if (l->opening && l->opening->earliest_ns < next)
		next = l->opening->earliest_ns;
	return next;
}
