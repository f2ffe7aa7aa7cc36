#include "gc/names.h"

#define NAMES_BLOCK 65536

/* What a copy begins with; the texts follow. */
struct head {
	uint32_t kind, ns, space, key; /* lengths, but for the kind */
};

static char *write_text(char *p, struct str text)
{
	if (text.n)
		memcpy(p, text.p, text.n);
	return p + text.n;
}

static size_t size_of(const struct gc_id *id)
{
	return sizeof(struct head) + id->ns.n + id->space.n + id->key.n;
}

static void write_at(char *p, const struct gc_id *id)
{
	struct head head = {id->kind, id->ns.n, id->space.n, id->key.n};

	memcpy(p, &head, sizeof(head));
	p = write_text(p + sizeof(head), id->ns);
	p = write_text(p, id->space);
	write_text(p, id->key);
}

const char *gc_names_put(struct gc_names *n, const struct gc_id *id)
{
	size_t size = size_of(id);
	char *p;

	if (n->size - n->used < size) {
		n->size = size > NAMES_BLOCK ? size : NAMES_BLOCK;
		n->used = 0;
		n->bytes += n->size;
		vec_push(&n->blocks, xmalloc(n->size));
	}
	p = *vec_last(&n->blocks) + n->used;
	n->used += size;
	write_at(p, id);
	return p;
}

unsigned gc_names_drop(struct gc_names *n, unsigned blocks)
{
	for (; blocks && n->blocks.n; blocks--)
		free(vec_pop(&n->blocks));
	if (!n->blocks.n) {
		vec_fini(&n->blocks);
		*n = (struct gc_names){0};
	}
	return blocks;
}

void gc_names_fini(struct gc_names *n)
{
	gc_names_drop(n, UINT32_MAX);
}

void gc_name_write(struct buf *to, const struct gc_id *id)
{
	write_at(buf_reserve(to, size_of(id)), id);
	to->n += size_of(id);
	to->p[to->n] = 0;
}

struct gc_id gc_name_read(const char *name)
{
	struct head head;

	memcpy(&head, name, sizeof(head));
	name += sizeof(head);
	return (struct gc_id){
	    .kind = head.kind,
	    .ns = {name, head.ns},
	    .space = {name + head.ns, head.space},
	    .key = {name + head.ns + head.space, head.key},
	};
}
