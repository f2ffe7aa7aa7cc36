#include "estargz/tar/tar.h"

#include "estargz/tar/tar_pax.h"

#include <inttypes.h>

/*
 * A stream of 512-byte blocks: header, content padded to whole blocks, header, ... Some headers ('x', 'g', 'L', 'K')
 * describe the entry that follows; their content is kept until then.
 *
 *	header block (ustar; V7 ends at 257):
 *	0 name[100] | 100 mode[8] uid[8] gid[8] | 124 size[12] mtime[12] | 148 checksum[8] | 156 type | 157 link[100]
 *	257 magic[8] | 265 user[32] group[32] | 329 devmajor[8] devminor[8] | 345 prefix[155] | 500
 */
#define BLOCK 512
#define GLOBAL_BYTES_MAX 4096 /* global pax records: they are read again for each entry */
enum {
	O_NAME = 0,
	O_MODE = 100,
	O_UID = 108,
	O_GID = 116,
	O_SIZE = 124,
	O_MTIME = 136,
	O_SUM = 148,
	O_TYPE = 156,
	O_LINK = 157,
	O_MAGIC = 257,
	O_MAJOR = 329,
	O_MINOR = 337,
	O_PREFIX = 345,
	O_STAR = 508
};

enum state {
	HEADER,  /* a header block is next */
	META,    /* content of a header that describes the next one */
	CONTENT, /* content of a regular file */
	PADDING, /* up to the next block */
	AFTER,   /* behind the two zero blocks */
};

struct esgz_tar {
	struct esgz_tar_sink sink;
	enum state state;
	uint64_t pos;         /* bytes taken */
	uint64_t left;        /* bytes of content still to come */
	uint32_t padding;     /* bytes after it */
	uint8_t block[BLOCK]; /* a header that came in pieces */
	size_t n_block;
	bool zero_block;        /* the block before was zeros */
	bool in_entry;          /* headers of an entry have begun */
	uint64_t header_offset; /* of the first of them */
	char meta_type;
	struct buf meta;                                /* content that is being kept */
	struct buf global, local, long_name, long_link; /* raw records; GNU's names */
	bool has_name, has_link;
	bool extra_headers; /* since the last entry: see struct esgz_tar_entry */
	struct pax pax;     /* of the next entry: global records, then local ones */
	struct buf name;    /* prefix and name put together */
};

struct esgz_tar *esgz_tar_new(const struct esgz_tar_sink *sink)
{
	struct esgz_tar *t = xcalloc(1, sizeof(*t));

	t->sink = *sink;
	return t;
}

void esgz_tar_free(struct esgz_tar *t)
{
	if (!t)
		return;
	buf_fini(&t->meta);
	buf_fini(&t->global);
	buf_fini(&t->local);
	buf_fini(&t->long_name);
	buf_fini(&t->long_link);
	buf_fini(&t->name);
	pax_fini(&t->pax);
	free(t);
}

/* ---- header fields ---- */

static bool all_zero(const uint8_t *h)
{
	return h[0] == 0 && memcmp(h, h + 1, BLOCK - 1) == 0;
}

/* The sum of all bytes with blanks in the field itself; some old writers summed signed characters. */
static bool checksum_fits(const uint8_t *h)
{
	int64_t want, sum = 0, signed_sum = 0;

	for (int i = 0; i < BLOCK; i++) {
		uint8_t byte = i >= O_SUM && i < O_SUM + 8 ? ' ' : h[i];

		sum += byte;
		signed_sum += (int8_t)byte;
	}
	return tar_number(h + O_SUM, 8, &want) && (want == sum || want == signed_sum);
}

/* Text of a fixed field: up to a NUL, or all of it. */
static struct str field_text(const uint8_t *field, size_t n)
{
	return str_make(field, strnlen((const char *)field, n));
}

/* Bytes of the path's prefix that this kind of header has: 155 in ustar, 131 in star's variant, none in GNU's and V7. */
static size_t prefix_bytes(const uint8_t *h)
{
	if (memcmp(h + O_MAGIC, "ustar", 6) != 0)
		return 0;
	return memcmp(h + O_STAR, "tar\0", 4) == 0 ? 131 : 155;
}

static bool has_ustar_fields(const uint8_t *h)
{
	return memcmp(h + O_MAGIC, "ustar", 5) == 0;
}

static int field_number(const uint8_t *h, size_t at, size_t n, int64_t min, int64_t max, const char *what, int64_t *out,
                        struct err *err)
{
	if (!tar_number(h + at, n, out) || *out < min || *out > max)
		return err_set(err, ERR_INVALID, "header with a bad %s", what);
	return 0;
}

static struct str entry_path(struct esgz_tar *t, const uint8_t *h)
{
	struct str prefix = field_text(h + O_PREFIX, prefix_bytes(h));

	if (t->pax.path.n > 0)
		return t->pax.path;
	if (t->has_name)
		return buf_str(&t->long_name);
	buf_clear(&t->name);
	if (prefix.n > 0) {
		buf_addstr(&t->name, prefix);
		buf_addc(&t->name, '/');
	}
	buf_addstr(&t->name, field_text(h + O_NAME, 100));
	return buf_str(&t->name);
}

static struct str entry_link(struct esgz_tar *t, const uint8_t *h)
{
	if (t->pax.link.n > 0)
		return t->pax.link;
	return t->has_link ? buf_str(&t->long_link) : field_text(h + O_LINK, 100);
}

static int entry_type(const uint8_t *h, struct str path, enum esgz_type *out, struct err *err)
{
	switch (h[O_TYPE]) {
	case 0: /* V7 marks a directory by the slash alone */
		*out = str_ends(path, STR("/")) ? ESGZ_DIR : ESGZ_REG;
		return 0;
	case '0':
	case '7': /* "contiguous" */
		*out = ESGZ_REG;
		return 0;
	case '1':
		*out = ESGZ_HARDLINK;
		return 0;
	case '2':
		*out = ESGZ_SYMLINK;
		return 0;
	case '3':
		*out = ESGZ_CHAR;
		return 0;
	case '4':
		*out = ESGZ_BLOCK;
		return 0;
	case '5':
		*out = ESGZ_DIR;
		return 0;
	case '6':
		*out = ESGZ_FIFO;
		return 0;
	case 'S':
		return err_set(err, ERR_UNIMPLEMENTED, "sparse file: such layers cannot be read");
	default:
		return err_set(err, ERR_INVALID, "entry of unknown type 0x%02x", h[O_TYPE]);
	}
}

static int read_numbers(struct esgz_tar *t, const uint8_t *h, struct esgz_tar_entry *out, struct err *err)
{
	const struct pax *p = &t->pax;
	struct esgz_entry *e = &out->e;
	int64_t v;

	TRY(field_number(h, O_MODE, 8, 0, UINT32_MAX, "mode", &v, err));
	out->mode_field = (uint64_t)v;
	e->mode = (uint32_t)v & 07777;
	e->mtime_s = p->mtime_s;
	e->mtime_ns = p->mtime_ns;
	if (!p->has_mtime)
		TRY(field_number(h, O_MTIME, 12, INT64_MIN, INT64_MAX, "time", &e->mtime_s, err));
	if (!p->has_uid) {
		TRY(field_number(h, O_UID, 8, 0, UINT32_MAX, "uid", &v, err));
		e->uid = (uint32_t)v;
	} else {
		e->uid = p->uid;
	}
	if (!p->has_gid) {
		TRY(field_number(h, O_GID, 8, 0, UINT32_MAX, "gid", &v, err));
		e->gid = (uint32_t)v;
	} else {
		e->gid = p->gid;
	}
	if (e->type != ESGZ_CHAR && e->type != ESGZ_BLOCK)
		return 0;
	if (!has_ustar_fields(h))
		return err_set(err, ERR_INVALID, "device without numbers");
	TRY(field_number(h, O_MAJOR, 8, 0, UINT32_MAX, "device number", &v, err));
	e->dev_major = p->has_major ? p->major : (uint32_t)v;
	TRY(field_number(h, O_MINOR, 8, 0, UINT32_MAX, "device number", &v, err));
	e->dev_minor = p->has_minor ? p->minor : (uint32_t)v;
	return 0;
}

/* ---- steps ---- */

static void expect_content(struct esgz_tar *t, enum state state, uint64_t n)
{
	t->left = n;
	t->padding = (uint32_t)(-n & (BLOCK - 1));
	t->state = n > 0 ? state : HEADER;
}

/* What came before an entry counts for it alone. */
static void forget_entry(struct esgz_tar *t)
{
	t->in_entry = t->has_name = t->has_link = t->extra_headers = false;
	buf_clear(&t->local);
}

static int end_file(struct esgz_tar *t, struct err *err)
{
	forget_entry(t);
	return t->sink.end(t->sink.arg, err);
}

static int read_entry(struct esgz_tar *t, const uint8_t *h, int64_t size, struct err *err)
{
	struct esgz_tar_entry out = {
	    .header_offset = t->header_offset, .payload_offset = t->pos, .extra_headers = t->extra_headers};
	struct esgz_entry *e = &out.e;

	pax_clear(&t->pax);
	TRY(pax_parse(&t->pax, buf_str(&t->global), err));
	TRY(pax_parse(&t->pax, buf_str(&t->local), err));
	e->path = entry_path(t, h);
	if (t->pax.sparse)
		return err_set(err, ERR_UNIMPLEMENTED, STR_FMT ": sparse file: such layers cannot be read",
		               STR_ARG(e->path));
	TRY_WRAP(entry_type(h, e->path, &e->type, err), err, STR_FMT, STR_ARG(e->path));
	TRY_WRAP(read_numbers(t, h, &out, err), err, STR_FMT, STR_ARG(e->path));
	if (e->type == ESGZ_SYMLINK || e->type == ESGZ_HARDLINK)
		e->link = entry_link(t, h);
	/* Only regular files have content, whatever the size field of the others says. */
	out.header_bytes = t->pax.has_size ? t->pax.size : (uint64_t)size;
	if (e->type == ESGZ_REG)
		e->size = out.header_bytes;
	out.xattrs = t->pax.xattrs.p;
	out.n_xattrs = (uint32_t)t->pax.xattrs.n;
	TRY(t->sink.entry(t->sink.arg, &out, err));
	expect_content(t, CONTENT, e->size);
	if (e->type != ESGZ_REG)
		forget_entry(t);
	else if (e->size == 0)
		TRY(end_file(t, err));
	return 0;
}

static int read_header(struct esgz_tar *t, const uint8_t *h, struct err *err)
{
	int64_t size;

	if (all_zero(h)) {
		if (t->in_entry)
			return err_set(err, ERR_INVALID, "archive ends between a header and its entry");
		if (t->zero_block)
			t->state = AFTER;
		t->zero_block = true;
		return 0;
	}
	if (t->zero_block)
		return err_set(err, ERR_INVALID, "zero block between entries");
	if (!checksum_fits(h))
		return err_set(err, ERR_INVALID, "header with a wrong checksum");
	TRY(field_number(h, O_SIZE, 12, 0, INT64_MAX - BLOCK, "size", &size, err));
	if (!t->in_entry)
		t->header_offset = t->pos - BLOCK;
	t->in_entry = true;
	switch (h[O_TYPE]) {
	case 'x':
	case 'X': /* Sun's, the same records */
	case 'g':
	case 'L':
	case 'K':
		if (size > ESGZ_PAX_BYTES_MAX || t->local.n + (uint64_t)size > ESGZ_PAX_BYTES_MAX ||
		    (h[O_TYPE] == 'g' && t->global.n + (uint64_t)size > GLOBAL_BYTES_MAX))
			return err_set(err, ERR_INVALID, "extended header of %" PRId64 " bytes", size);
		t->extra_headers |= h[O_TYPE] == 'X' || h[O_TYPE] == 'g';
		t->meta_type = (char)h[O_TYPE];
		buf_clear(&t->meta);
		expect_content(t, META, (uint64_t)size);
		return 0;
	case 'V': /* volume label: no entry */
		forget_entry(t);
		t->extra_headers = true;
		return 0;
	default:
		return read_entry(t, h, size, err);
	}
}

/* A describing header is complete. */
static int end_meta(struct esgz_tar *t, struct err *err)
{
	struct str text = field_text((const uint8_t *)t->meta.p, t->meta.n);

	switch (t->meta_type) {
	case 'L':
		buf_clear(&t->long_name);
		buf_addstr(&t->long_name, text);
		t->has_name = true;
		return 0;
	case 'K':
		buf_clear(&t->long_link);
		buf_addstr(&t->long_link, text);
		t->has_link = true;
		return 0;
	case 'g':
		/* For all entries from here on; it is no part of the next one. */
		buf_addstr(&t->global, buf_str(&t->meta));
		t->in_entry = t->has_name || t->has_link || t->local.n > 0;
		return 0;
	default:
		buf_addstr(&t->local, buf_str(&t->meta));
		return 0;
	}
}

static int give_raw(struct esgz_tar *t, struct str piece, struct err *err)
{
	return t->sink.raw && piece.n > 0 ? t->sink.raw(t->sink.arg, piece, err) : 0;
}

/* Takes at most `n` bytes off *in. */
static struct str take(struct esgz_tar *t, struct str *in, uint64_t n)
{
	struct str piece = str_sub(*in, 0, n);

	t->pos += piece.n;
	*in = str_sub(*in, piece.n, in->n);
	return piece;
}

/* Takes bytes off *in for the state; returns after one step. */
static int step(struct esgz_tar *t, struct str *in, struct err *err)
{
	struct str piece;

	switch (t->state) {
	case HEADER:
		piece = take(t, in, BLOCK - t->n_block);
		TRY(give_raw(t, piece, err));
		/* A whole block is read where it lies. */
		if (piece.n < BLOCK) {
			memcpy(t->block + t->n_block, piece.p, piece.n);
			t->n_block += piece.n;
		}
		if (t->n_block > 0 && t->n_block < BLOCK)
			return 0;
		if (t->n_block == BLOCK)
			piece.p = (const char *)t->block;
		t->n_block = 0;
		return read_header(t, (const uint8_t *)piece.p, err);
	case META:
		piece = take(t, in, t->left);
		TRY(give_raw(t, piece, err));
		t->left -= piece.n;
		buf_addstr(&t->meta, piece);
		if (t->left > 0)
			return 0;
		TRY(end_meta(t, err));
		t->state = t->padding > 0 ? PADDING : HEADER;
		return 0;
	case CONTENT:
		piece = take(t, in, t->left);
		t->left -= piece.n;
		TRY(t->sink.data(t->sink.arg, piece, err));
		if (t->left > 0)
			return 0;
		TRY(end_file(t, err));
		t->state = t->padding > 0 ? PADDING : HEADER;
		return 0;
	case PADDING:
		piece = take(t, in, t->padding);
		TRY(give_raw(t, piece, err));
		t->padding -= (uint32_t)piece.n;
		if (t->padding == 0)
			t->state = HEADER;
		return 0;
	case AFTER:
		return give_raw(t, take(t, in, UINT64_MAX), err);
	}
	return 0;
}

int esgz_tar_feed(struct esgz_tar *t, struct str bytes, struct err *err)
{
	while (bytes.n > 0)
		TRY_WRAP(step(t, &bytes, err), err, "tar at %" PRIu64, t->pos);
	return 0;
}

int esgz_tar_finish(struct esgz_tar *t, struct err *err)
{
	/* Writers that leave the end-of-archive blocks out may leave out the last padding too. */
	if (t->n_block > 0 || t->state == META || t->state == CONTENT || t->in_entry)
		return err_set(err, ERR_DATA_LOSS, "tar ends in the middle of an entry, at %" PRIu64, t->pos);
	return 0;
}
