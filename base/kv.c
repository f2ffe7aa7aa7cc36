#include "base/kv.h"

#include "base/cleanup.h"
#include "base/vec.h"

struct piece {
	VEC(struct buf) keys, values;
	unsigned max;
};

static void piece_fini(struct piece *p)
{
	vec_each(&p->keys, b)
		buf_fini(b);
	vec_each(&p->values, b)
		buf_fini(b);
	vec_fini(&p->keys);
	vec_fini(&p->values);
}
DEFINE_AUTO_FINI(piece);

static int take(void *arg, struct str key, struct str value, struct err *err)
{
	struct piece *p = arg;

	if (p->keys.n == p->max)
		return 1;
	buf_addstr(vec_add(&p->keys), key);
	buf_addstr(vec_add(&p->values), value);
	return 0;
}

int kv_piece(const struct kv *kv, struct str prefix, struct buf *cursor, unsigned max,
             int (*fn)(void *fn_arg, struct str key, struct str value, struct err *err), void *fn_arg, struct err *err)
{
	AUTO(piece) struct piece p = {.max = max};

	TRY(kv->scan(kv->arg, prefix, buf_str(cursor), take, &p, err));
	for (size_t i = 0; i < p.keys.n; i++)
		TRY(fn(fn_arg, buf_str(&p.keys.p[i]), buf_str(&p.values.p[i]), err));
	if (p.keys.n) {
		buf_clear(cursor);
		buf_addstr(cursor, buf_str(vec_last(&p.keys)));
	}
	return p.keys.n < max;
}
