#include "estargz/tar/split.h"

#include <isa-l/crc64.h>

uint64_t esgz_split_crc64(uint64_t crc, struct str bytes)
{
	return crc64_iso_refl(crc, (const uint8_t *)bytes.p, bytes.n);
}

int esgz_split_read(struct str packed, const struct digest *packed_digest, uint64_t plain_bytes,
                    const struct esgz_split_sink *sink, struct err *err)
{
	return err_set(err, ERR_UNIMPLEMENTED, "tar-split");
}

int esgz_split_assemble(struct str packed, const struct digest *packed_digest, uint64_t plain_bytes,
                        const struct esgz_split_contents *contents, esgz_put_fn put, void *to, struct err *err)
{
	return err_set(err, ERR_UNIMPLEMENTED, "tar-split");
}

struct esgz_split_writer {
	int level;
};

struct esgz_split_writer *esgz_split_writer_new(int zstd_level)
{
	struct esgz_split_writer *w = xcalloc(1, sizeof(*w));

	w->level = zstd_level;
	return w;
}

void esgz_split_writer_free(struct esgz_split_writer *w)
{
	free(w);
}

int esgz_split_segment(struct esgz_split_writer *w, struct str bytes, struct err *err)
{
	return err_set(err, ERR_UNIMPLEMENTED, "tar-split");
}

int esgz_split_file(struct esgz_split_writer *w, struct str name, uint64_t size, uint64_t crc64, struct err *err)
{
	return err_set(err, ERR_UNIMPLEMENTED, "tar-split");
}

int esgz_split_finish(struct esgz_split_writer *w, struct buf *packed, uint64_t *plain_bytes, struct err *err)
{
	return err_set(err, ERR_UNIMPLEMENTED, "tar-split");
}
