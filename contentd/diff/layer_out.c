#include "contentd/diff/layer_out.h"

#include "estargz/convert/units.h"

#define ZSTD_LEVEL 3 /* a container's changes are made to be looked at soon, not to be kept for years */
#define THREADS_MAX 4
#define ZEROS_BYTES (64u << 10)

struct layer_out {
	enum esgz_compression kind;
	int (*sink)(void *arg, struct str bytes, struct err *err);
	void *arg;
	struct hasher *hasher;
	struct units *units; /* unless the layer is left uncompressed */
};

static int on_unit(void *arg, const struct unit *u, struct err *err)
{
	struct layer_out *o = arg;

	return o->sink(o->arg, buf_str(&u->packed), err);
}

int layer_out_new(enum esgz_compression kind, int (*sink)(void *arg, struct str bytes, struct err *err), void *arg,
                  struct layer_out **out, struct err *err)
{
	AUTO(layer_out) struct layer_out *o = xcalloc(1, sizeof(*o));
	unsigned threads = cpu_count();

	o->kind = kind;
	o->sink = sink;
	o->arg = arg;
	o->hasher = hasher_new();
	if (kind != ESGZ_PLAIN)
		TRY(units_new(codec_of(kind), kind == ESGZ_ZSTD ? ZSTD_LEVEL : 0,
		              threads > THREADS_MAX ? THREADS_MAX : threads, on_unit, o, &o->units, err));
	*out = STEAL(o);
	return 0;
}

void layer_out_free(struct layer_out *o)
{
	if (!o)
		return;
	units_free(o->units);
	hasher_free(o->hasher);
	free(o);
}

int layer_out_write(struct layer_out *o, struct str plain, struct err *err)
{
	hasher_add(o->hasher, plain.p, plain.n);
	if (!o->units)
		return o->sink(o->arg, plain, err);
	return units_write(o->units, plain, units_stream_bytes(o->kind), err);
}

int layer_out_zeros(struct layer_out *o, uint64_t n, struct err *err)
{
	static const char zeros[ZEROS_BYTES];

	while (n) {
		size_t part = n > sizeof(zeros) ? sizeof(zeros) : (size_t)n;

		TRY(layer_out_write(o, str_make(zeros, part), err));
		n -= part;
	}
	return 0;
}

int layer_out_finish(struct layer_out *o, struct digest *diff_id, struct err *err)
{
	hasher_done(o->hasher, diff_id);
	return o->units ? units_write_end(o->units, err) : 0;
}
