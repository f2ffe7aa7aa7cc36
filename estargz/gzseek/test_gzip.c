#include "estargz/gzseek/test_gzip.h"

#include "base/testing.h"

#include <zlib.h>

void words(struct buf *out, size_t n, uint32_t seed)
{
	size_t end = out->n + n;

	while (out->n < end) {
		seed = seed * 1664525 + 1013904223;
		buf_addf(out, "%x%c", (seed >> 20) * 2654435761u >> seed / 65536 % 24, " \n_("[seed >> 30]);
		if ((seed >> 12 & 255) == 0)
			buf_addz(out, seed >> 20);
		for (unsigned i = 0, period = seed % 20 + 1; (seed >> 12 & 31) == 1 && i < seed >> 24; i++)
			buf_addc(out, (char)(i % period * 37 + seed / 4096));
	}
	out->n = end;
}

void zlib_pack(struct buf *out, struct str plain, const struct zlib_way *way)
{
	size_t every = way->flush_every ? way->flush_every : SIZE_MAX, room;
	z_stream z = {0};

	assert_int_equal(
	    deflateInit2(&z, way->level, Z_DEFLATED, way->raw ? -15 : 31, way->memory ? way->memory : 8, way->strategy),
	    Z_OK);
	room = deflateBound(&z, plain.n) + plain.n / every * 16 + 64;
	z.next_out = (Bytef *)buf_reserve(out, room);
	z.avail_out = (uInt)room;
	while (plain.n > every) {
		z.next_in = (Bytef *)plain.p;
		z.avail_in = (uInt)every;
		assert_int_equal(deflate(&z, Z_PARTIAL_FLUSH), Z_OK);
		plain = str_sub(plain, every, plain.n);
	}
	z.next_in = (Bytef *)plain.p;
	z.avail_in = (uInt)plain.n;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	out->n += z.total_out;
	deflateEnd(&z);
}
