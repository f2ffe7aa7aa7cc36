/* Queue of messages in wire form, with their sum. Internal to rpc/; its owner guards it. */
#ifndef RPC_MSGQ_H
#define RPC_MSGQ_H

#include "base/buf.h"

struct msgq_item {
	struct msgq_item *next;
	struct buf bytes;
};

struct msgq {
	struct msgq_item *head, **tail;
	size_t bytes; /* of all messages */
};

void msgq_init(struct msgq *q); /* the queue must not move afterwards */
void msgq_push(struct msgq *q, TAKE(struct buf *) bytes);
struct buf msgq_pop(struct msgq *q); /* not empty */
void msgq_clear(struct msgq *q);

#endif
