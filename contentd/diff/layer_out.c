#include "contentd/diff/layer_out.h"

#include "estargz/convert/members.h"

#include <sys/sysinfo.h>
#include <zstd.h>

#define GZIP_LEVEL 6
#define ZSTD_LEVEL 3
#define MEMBER_BYTES (1u << 20) /* plain bytes of one gzip member: what 18 bytes of header and trailer are lost in */
#define THREADS_MAX 4
#define ZEROS_BYTES (64u << 10)

struct layer_out {
	enum esgz_compression kind;
	int (*sink)(void *arg, struct str bytes, struct err *err);
	void *arg;
	struct hasher *hasher;

	struct members *members; /* gzip */
	struct member *member;   /* being filled, or NULL */
	ZSTD_CCtx *zstd;
	char *packed; /* zstd's output */
	size_t packed_bytes;
};

static int on_member(void *arg, const struct member *m, struct err *err)
{
	struct layer_out *o = arg;

	return o->sink(o->arg, buf_str(&m->gz), err);
}

int layer_out_new(enum esgz_compression kind, int (*sink)(void *arg, struct str bytes, struct err *err), void *arg,
                  struct layer_out **out, struct err *err)
{
	AUTO(layer_out) struct layer_out *o = xcalloc(1, sizeof(*o));
	int threads = get_nprocs();

	o->kind = kind;
	o->sink = sink;
	o->arg = arg;
	o->hasher = hasher_new();
	threads = threads > THREADS_MAX ? THREADS_MAX : threads;
	if (kind == ESGZ_GZIP)
		TRY(members_new(GZIP_LEVEL, (unsigned)threads, on_member, o, &o->members, err));
	if (kind == ESGZ_ZSTD) {
		o->zstd = ZSTD_createCCtx();
		o->packed_bytes = ZSTD_CStreamOutSize();
		o->packed = xmalloc(o->packed_bytes);
		if (!o->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(o->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL)) ||
		    ZSTD_isError(ZSTD_CCtx_setParameter(o->zstd, ZSTD_c_checksumFlag, 1)))
			return err_set(err, ERR_EXHAUSTED, "zstd: no compressor");
	}
	*out = STEAL(o);
	return 0;
}

void layer_out_free(struct layer_out *o)
{
	if (!o)
		return;
	members_free(o->members);
	ZSTD_freeCCtx(o->zstd);
	free(o->packed);
	hasher_free(o->hasher);
	free(o);
}

static int write_gzip(struct layer_out *o, struct str plain, struct err *err)
{
	while (plain.n) {
		struct str part;

		if (!o->member)
			TRY(members_next(o->members, &o->member, err));
		part = str_sub(plain, 0, MEMBER_BYTES - o->member->plain.n);
		buf_addstr(&o->member->plain, part);
		plain = str_sub(plain, part.n, plain.n);
		if (o->member->plain.n == MEMBER_BYTES)
			members_submit(o->members, STEAL(o->member));
	}
	return 0;
}

static int write_zstd(struct layer_out *o, struct str plain, ZSTD_EndDirective end, struct err *err)
{
	ZSTD_inBuffer in = {plain.p, plain.n, 0};
	size_t left;

	do {
		ZSTD_outBuffer out = {o->packed, o->packed_bytes, 0};

		left = ZSTD_compressStream2(o->zstd, &out, &in, end);
		if (ZSTD_isError(left))
			return err_set(err, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(left));
		if (out.pos)
			TRY(o->sink(o->arg, str_make(o->packed, out.pos), err));
	} while (in.pos < in.size || (end == ZSTD_e_end && left));
	return 0;
}

int layer_out_write(struct layer_out *o, struct str plain, struct err *err)
{
	hasher_add(o->hasher, plain.p, plain.n);
	switch (o->kind) {
	case ESGZ_GZIP:
		return write_gzip(o, plain, err);
	case ESGZ_ZSTD:
		return write_zstd(o, plain, ZSTD_e_continue, err);
	default:
		return o->sink(o->arg, plain, err);
	}
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
	if (o->kind == ESGZ_ZSTD)
		return write_zstd(o, STR_NONE, ZSTD_e_end, err);
	if (o->kind != ESGZ_GZIP)
		return 0;
	if (o->member)
		members_submit(o->members, STEAL(o->member));
	return members_drain(o->members, err);
}
