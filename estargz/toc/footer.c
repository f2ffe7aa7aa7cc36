#include "estargz/toc/footer.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <stdio.h>

/*
 * The gzip footers are empty members with one extra field (RFC 1952):
 *
 *	1f 8b 08 04 | mtime[4] xfl os | xlen[2] | extra[xlen] | 01 00 00 ff ff | crc32[4] = 0 | isize[4] = 0
 *
 *	eStargz       extra = 'S' 'G' 22[2] <16 hex digits: offset of the TOC> "STARGZ"
 *	legacy        extra = <16 hex digits> "STARGZ"         (no subfield header: not quite RFC 1952)
 *	external TOC  extra = 'S' 'G' 17[2] "STARGZEXTERNALTOC"
 *
 * The zstd ones are skippable frames (RFC 8878, 3.1.2), all numbers 64 bit, each offset that of a frame's data:
 *
 *	50 2a 4d 18 | 40[4] | TOC: offset, compressed, plain | 1 | "GnUlInUx"
 *	50 2a 4d 18 | 64[4] | TOC: offset, compressed, plain | 1 | tar-split: the same three | "GNUlInUx"
 */

static const uint8_t GZIP_HEAD[4] = {0x1f, 0x8b, 8, 4}; /* deflate; FLG = FEXTRA and nothing else */
static const uint8_t GZIP_EMPTY[13] = {0x01, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0};
#define GZIP_EXTRA_AT 12 /* 10 bytes of header, 2 of XLEN */

static const uint8_t ZSTD_SKIPPABLE[4] = {0x50, 0x2a, 0x4d, 0x18};
#define ZSTD_FRAME_HEAD 8
#define STARGZ_MAGIC "GnUlInUx"
#define STORAGE_MAGIC "GNUlInUx"

#define HEX_DIGITS 16
#define EXTERNAL_MAGIC "STARGZEXTERNALTOC"

/* The last n bytes, or nothing when there are fewer. */
static struct str last_bytes(struct str tail, size_t n)
{
	return n <= tail.n ? str_make(tail.p + tail.n - n, n) : STR_NONE;
}

/* The extra field of the empty gzip member of exactly `footer_bytes` at the end of `tail`; empty if there is none.
 * Time and operating system in the member's header carry no meaning and are not looked at. */
static struct str gzip_extra(struct str tail, size_t footer_bytes)
{
	struct str m = last_bytes(tail, footer_bytes);
	size_t n = footer_bytes - GZIP_EXTRA_AT - sizeof(GZIP_EMPTY);

	if (m.n == 0 || memcmp(m.p, GZIP_HEAD, sizeof(GZIP_HEAD)) != 0 || get_le16(m.p + 10) != n ||
	    memcmp(m.p + GZIP_EXTRA_AT + n, GZIP_EMPTY, sizeof(GZIP_EMPTY)) != 0)
		return STR_NONE;
	return str_sub(m, GZIP_EXTRA_AT, n);
}

/* Takes an 'S' 'G' subfield that fills the extra field off it; false if it is another one. */
static bool skip_sg(struct str *extra)
{
	if (extra->n < 4 || extra->p[0] != 'S' || extra->p[1] != 'G' || get_le16(extra->p + 2) != extra->n - 4)
		return false;
	*extra = str_sub(*extra, 4, extra->n);
	return true;
}

/* A gzip footer with the TOC's offset in hex; *hex is the 16 digits. */
static bool is_hex_stargz(struct str field, struct str *hex)
{
	*hex = str_sub(field, 0, HEX_DIGITS);
	return field.n == HEX_DIGITS + 6 && str_ends(field, STR("STARGZ"));
}

/* The TOC's member runs from the offset in the footer up to the footer. */
static int set_gzip(struct esgz_footer *f, enum esgz_footer_kind kind, uint32_t footer_bytes, struct str hex,
                    uint64_t blob_bytes, struct err *err)
{
	uint64_t end = blob_bytes - footer_bytes;
	uint64_t offset;

	if (!str_u64(hex, 16, &offset))
		return err_set(err, ERR_INVALID, "footer: the TOC's offset is not a number");
	if (offset >= end)
		return err_set(err, ERR_INVALID,
		               "footer: TOC at %" PRIu64 " lies outside of the blob's %" PRIu64 " bytes", offset,
		               blob_bytes);
	*f = (struct esgz_footer){
	    .kind = kind, .footer_bytes = footer_bytes, .toc_offset = offset, .toc_bytes = end - offset};
	return 0;
}

/* The data of a skippable frame of `data_bytes` with `magic` at its end, at the end of `tail`; empty if there is none. */
static struct str zstd_data(struct str tail, size_t data_bytes, struct str magic)
{
	struct str f = last_bytes(tail, ZSTD_FRAME_HEAD + data_bytes);

	if (f.n == 0 || memcmp(f.p, ZSTD_SKIPPABLE, sizeof(ZSTD_SKIPPABLE)) != 0 || get_le32(f.p + 4) != data_bytes ||
	    !str_ends(f, magic))
		return STR_NONE;
	return str_sub(f, ZSTD_FRAME_HEAD, data_bytes);
}

/* True if the data of a frame, its header included, lies in [0, end). */
static bool frame_inside(uint64_t offset, uint64_t bytes, uint64_t end)
{
	return offset >= ZSTD_FRAME_HEAD && offset <= end && bytes <= end - offset;
}

static int set_zstd(struct esgz_footer *f, enum esgz_footer_kind kind, struct str data, uint64_t blob_bytes,
                    struct err *err)
{
	uint64_t end = blob_bytes - ZSTD_FRAME_HEAD - data.n;
	uint64_t offset = get_le64(data.p), bytes = get_le64(data.p + 8), plain = get_le64(data.p + 16);
	uint64_t split_offset = 0, split_bytes = 0, split_plain = 0;

	if (get_le64(data.p + 24) != ESGZ_FOOTER_TOC_TYPE)
		return err_set(err, ERR_INVALID, "footer: TOC of unknown type %" PRIu64, get_le64(data.p + 24));
	if (!frame_inside(offset, bytes, end) || bytes == 0 || plain == 0)
		return err_set(err, ERR_INVALID,
		               "footer: TOC at %" PRIu64 ", %" PRIu64 " bytes (%" PRIu64
		               " plain), lies outside of the blob's %" PRIu64 " bytes",
		               offset, bytes, plain, blob_bytes);
	if (kind == ESGZ_FOOTER_ZSTD_STORAGE && get_le64(data.p + 40) != 0) {
		split_offset = get_le64(data.p + 32);
		split_bytes = get_le64(data.p + 40);
		split_plain = get_le64(data.p + 48);
		if (!frame_inside(split_offset, split_bytes, end))
			return err_set(err, ERR_INVALID,
			               "footer: the tar-split lies outside of the blob's %" PRIu64 " bytes",
			               blob_bytes);
	}
	*f = (struct esgz_footer){.kind = kind,
	                          .footer_bytes = (uint32_t)(ZSTD_FRAME_HEAD + data.n),
	                          .toc_offset = offset,
	                          .toc_bytes = bytes,
	                          .toc_plain_bytes = plain,
	                          .split_offset = split_offset,
	                          .split_bytes = split_bytes,
	                          .split_plain_bytes = split_plain};
	return 0;
}

int esgz_footer_parse(struct str tail, uint64_t blob_bytes, struct esgz_footer *out, struct err *err)
{
	struct str field, hex;

	*out = (struct esgz_footer){.kind = ESGZ_FOOTER_NONE};
	if (tail.n > blob_bytes || (tail.n < ESGZ_FOOTER_MAX && tail.n < blob_bytes))
		return err_set(err, ERR_INVALID, "footer: %zu bytes are not the tail of a blob of %" PRIu64, tail.n,
		               blob_bytes);

	field = gzip_extra(tail, ESGZ_FOOTER_BYTES);
	if (skip_sg(&field) && is_hex_stargz(field, &hex))
		return set_gzip(out, ESGZ_FOOTER_ESTARGZ, ESGZ_FOOTER_BYTES, hex, blob_bytes, err);

	field = gzip_extra(tail, ESGZ_FOOTER_LEGACY_BYTES);
	if (is_hex_stargz(field, &hex))
		return set_gzip(out, ESGZ_FOOTER_LEGACY, ESGZ_FOOTER_LEGACY_BYTES, hex, blob_bytes, err);

	field = gzip_extra(tail, ESGZ_FOOTER_EXTERNAL_BYTES);
	if (skip_sg(&field) && str_eq(field, STR(EXTERNAL_MAGIC))) {
		*out = (struct esgz_footer){.kind = ESGZ_FOOTER_EXTERNAL_TOC,
		                            .footer_bytes = ESGZ_FOOTER_EXTERNAL_BYTES,
		                            .toc_offset = blob_bytes - ESGZ_FOOTER_EXTERNAL_BYTES};
		return 0;
	}

	field = zstd_data(tail, 40, STR(STARGZ_MAGIC));
	if (field.n > 0)
		return set_zstd(out, ESGZ_FOOTER_ZSTD_STARGZ, field, blob_bytes, err);

	field = zstd_data(tail, 64, STR(STORAGE_MAGIC));
	if (field.n > 0)
		return set_zstd(out, ESGZ_FOOTER_ZSTD_STORAGE, field, blob_bytes, err);
	return 0;
}

/* OS 255 = unknown: the header that the reference writers produce, byte for byte. */
static void put_gzip(const char *extra, size_t n, uint8_t *dst)
{
	static const uint8_t head[] = {0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff};

	memcpy(dst, head, sizeof(head));
	put_le16(dst + 10, (uint16_t)(n + 4));
	memcpy(dst + 12, "SG", 2);
	put_le16(dst + 14, (uint16_t)n);
	memcpy(dst + 16, extra, n);
	memcpy(dst + 16 + n, GZIP_EMPTY, sizeof(GZIP_EMPTY));
}

void esgz_footer_write(uint64_t toc_offset, uint8_t dst[static ESGZ_FOOTER_BYTES])
{
	char field[HEX_DIGITS + 6 + 1];

	_Static_assert(16 + sizeof(field) - 1 + sizeof(GZIP_EMPTY) == ESGZ_FOOTER_BYTES, "footer layout");
	snprintf(field, sizeof(field), "%016" PRIx64 "STARGZ", toc_offset);
	put_gzip(field, sizeof(field) - 1, dst);
}

void esgz_footer_write_external(uint8_t dst[static ESGZ_FOOTER_EXTERNAL_BYTES])
{
	_Static_assert(16 + sizeof(EXTERNAL_MAGIC) - 1 + sizeof(GZIP_EMPTY) == ESGZ_FOOTER_EXTERNAL_BYTES,
	               "footer layout");
	put_gzip(EXTERNAL_MAGIC, sizeof(EXTERNAL_MAGIC) - 1, dst);
}

void esgz_footer_write_zstd(const struct esgz_footer *f, struct buf *out)
{
	bool storage = f->kind == ESGZ_FOOTER_ZSTD_STORAGE;
	const uint64_t words[] = {f->toc_offset,   f->toc_bytes,   f->toc_plain_bytes,  ESGZ_FOOTER_TOC_TYPE,
	                          f->split_offset, f->split_bytes, f->split_plain_bytes};
	size_t n = storage ? ARRAY_LEN(words) : 4;
	uint8_t number[8];

	put_le32(number, (uint32_t)(n + 1) * 8);
	buf_add(out, ZSTD_SKIPPABLE, sizeof(ZSTD_SKIPPABLE));
	buf_add(out, number, 4);
	for (size_t i = 0; i < n; i++) {
		put_le64(number, words[i]);
		buf_add(out, number, 8);
	}
	buf_addstr(out, storage ? STR(STORAGE_MAGIC) : STR(STARGZ_MAGIC));
}
