#include "rpc/msgq.h"

void msgq_init(struct msgq *q)
{
	*q = (struct msgq){NULL, &q->head, 0};
}

void msgq_push(struct msgq *q, TAKE(struct buf *) bytes)
{
	struct msgq_item *m = xmalloc(sizeof(*m));

	m->next = NULL;
	m->bytes = *bytes;
	*bytes = BUF_INIT;
	*q->tail = m;
	q->tail = &m->next;
	q->bytes += m->bytes.n;
}

struct buf msgq_pop(struct msgq *q)
{
	struct msgq_item *m = q->head;
	struct buf bytes = m->bytes;

	q->head = m->next;
	if (!q->head)
		q->tail = &q->head;
	q->bytes -= bytes.n;
	free(m);
	return bytes;
}

void msgq_clear(struct msgq *q)
{
	while (q->head) {
		struct buf b = msgq_pop(q);

		buf_fini(&b);
	}
}
