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
 * GNU's has, in the place of the prefix:
 *	345 atime[12] ctime[12] | 386 4 x {offset[12] bytes[12]} | 482 more | 483 real size[12]
 * and `more` announces blocks of further extents (type S):
 *	0 21 x {offset[12] bytes[12]} | 504 more
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
	O_GNU_ATIME = 345,
	O_GNU_CTIME = 357,
	O_GNU_EXTENTS = 386,
	O_GNU_MORE = 482,
	O_GNU_SIZE = 483,
	O_STAR_ATIME = 476,
	O_STAR_CTIME = 488,
	O_STAR = 508,
	O_EXTENTS_MORE = 504,
};
enum { GNU_EXTENTS = 4, BLOCK_EXTENTS = 21 };

enum state {
	HEADER,  /* a header block is next */
	META,    /* content of a header that describes the next one */
	EXTENTS, /* a block with more of a sparse file's map is next */
	MAP,     /* text with a sparse file's map, in whole blocks before its content */
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
	bool extra_headers;     /* see tar.h */
	uint64_t header_offset; /* of the first of them */
	char meta_type;
	struct buf meta;                                /* content that is being kept */
	struct buf global, local, long_name, long_link; /* raw records; GNU's names */
	bool has_name, has_link;
	struct pax pax;  /* of the next entry: global records, then local ones */
	struct buf name; /* prefix and name put together */
	struct esgz_tar_entry entry;
	struct sparse_map map;
	bool map_done;
	uint32_t extent;     /* the one that is coming */
	uint64_t at;         /* place in the sparse file */
	uint64_t holes_left; /* bytes of holes that may still come */
};

struct esgz_tar *esgz_tar_new(const struct esgz_tar_sink *sink)
{
	struct esgz_tar *t = xcalloc(1, sizeof(*t));

	t->sink = *sink;
	t->holes_left = ESGZ_HOLES_BYTES_MAX;
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
	sparse_fini(&t->map);
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

static bool is_gnu(const uint8_t *h)
{
	return memcmp(h + O_MAGIC, "ustar  ", 8) == 0;
}

static bool is_star(const uint8_t *h)
{
	return memcmp(h + O_MAGIC, "ustar", 6) == 0 && memcmp(h + O_STAR, "tar\0", 4) == 0;
}

/* Bytes of the path's prefix that this kind of header has: 155 in ustar, 131 in star's variant, none in GNU's and V7. */
static size_t prefix_bytes(const uint8_t *h)
{
	if (memcmp(h + O_MAGIC, "ustar", 6) != 0)
		return 0;
	return is_star(h) ? 131 : 155;
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

	if (t->pax.sparse.name.n > 0)
		return t->pax.sparse.name;
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
	case 'S':
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
	default:
		return err_set(err, ERR_INVALID, "entry of unknown type 0x%02x", h[O_TYPE]);
	}
}

/* Of a time that only some headers have; junk is none. */
static struct esgz_tar_time header_time(const uint8_t *field)
{
	struct esgz_tar_time t = {0};

	t.given = field[0] != 0 && tar_number(field, 12, &t.s);
	return t;
}

static void read_times(const struct pax *p, const uint8_t *h, struct esgz_tar_entry *out)
{
	if (is_gnu(h)) {
		out->atime = header_time(h + O_GNU_ATIME);
		out->ctime = header_time(h + O_GNU_CTIME);
	} else if (is_star(h)) {
		out->atime = header_time(h + O_STAR_ATIME);
		out->ctime = header_time(h + O_STAR_CTIME);
	}
	if (p->atime.given)
		out->atime = p->atime;
	if (p->ctime.given)
		out->ctime = p->ctime;
}

static int read_numbers(const struct pax *p, const uint8_t *h, struct esgz_tar_entry *out, struct err *err)
{
	struct esgz_entry *e = &out->e;
	int64_t v;

	TRY(field_number(h, O_MODE, 8, 0, UINT32_MAX, "mode", &v, err));
	out->mode_field = (uint64_t)v;
	e->mode = (uint32_t)v & 07777;
	read_times(p, h, out);
	e->mtime_s = p->mtime.s;
	e->mtime_ns = p->mtime.ns;
	if (!p->mtime.given)
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
	t->in_entry = t->has_name = t->has_link = false;
	buf_clear(&t->local);
}

static int end_file(struct esgz_tar *t, struct err *err)
{
	forget_entry(t);
	return t->sink.end(t->sink.arg, err);
}

/* ---- sparse files ---- */

static int give_hole(struct esgz_tar *t, uint64_t bytes, struct err *err)
{
	static const char zeros[65536];

	t->at += bytes;
	if (bytes > 0 && t->sink.hole)
		return t->sink.hole(t->sink.arg, bytes, err);
	while (bytes > 0) {
		struct str piece = str_sub(str_make(zeros, sizeof(zeros)), 0, bytes);

		TRY(t->sink.data(t->sink.arg, piece, err));
		bytes -= piece.n;
	}
	return 0;
}

/* The hole before the extent that comes next, or before the end. */
static int reach_extent(struct esgz_tar *t, struct err *err)
{
	const struct esgz_tar_entry *e = &t->entry;

	return give_hole(t, (t->extent < e->n_extents ? e->extents[t->extent].offset : e->e.size) - t->at, err);
}

static int give_sparse(struct esgz_tar *t, struct str bytes, struct err *err)
{
	while (bytes.n > 0) {
		const struct esgz_extent *x = &t->entry.extents[t->extent];
		struct str piece = str_sub(bytes, 0, x->offset + x->bytes - t->at);

		TRY(t->sink.data(t->sink.arg, piece, err));
		bytes = str_sub(bytes, piece.n, bytes.n);
		t->at += piece.n;
		if (t->at < x->offset + x->bytes)
			continue;
		t->extent++;
		TRY(reach_extent(t, err));
	}
	return 0;
}

/* The map is complete, and `t->left` bytes of content follow. */
static int check_map(struct esgz_tar *t, struct err *err)
{
	struct esgz_tar_entry *e = &t->entry;
	uint64_t holes = e->e.size - t->map.stored;

	TRY(sparse_check(&t->map, e->e.size, t->left, err));
	if (holes > t->holes_left)
		return err_set(err, ERR_EXHAUSTED, "sparse files with more than %llu bytes of holes",
		               ESGZ_HOLES_BYTES_MAX);
	t->holes_left -= holes;
	e->extents = t->map.extents.p;
	e->n_extents = (uint32_t)t->map.extents.n;
	return 0;
}

/* All of the headers is there: the entry, and then its content. */
static int begin_content(struct esgz_tar *t, struct err *err)
{
	struct esgz_tar_entry *e = &t->entry;

	if (e->sparse)
		TRY_WRAP(check_map(t, err), err, STR_FMT, STR_ARG(e->e.path));
	e->payload_offset = t->pos;
	TRY(t->sink.entry(t->sink.arg, e, err));
	if (e->e.type != ESGZ_REG) {
		forget_entry(t);
		return 0;
	}
	t->extent = 0;
	t->at = 0;
	if (e->sparse)
		TRY(reach_extent(t, err));
	t->state = t->left > 0 ? CONTENT : t->padding > 0 ? PADDING : HEADER;
	return t->left > 0 ? 0 : end_file(t, err);
}

static int begin_gnu_sparse(struct esgz_tar *t, const uint8_t *h, struct err *err)
{
	int64_t size;

	if (!is_gnu(h))
		return err_set(err, ERR_UNIMPLEMENTED, "sparse file that is not GNU's");
	if (t->pax.sparse.seen)
		return err_set(err, ERR_INVALID, "sparse file in two forms");
	TRY(field_number(h, O_GNU_SIZE, 12, 0, INT64_MAX, "size of a sparse file", &size, err));
	t->entry.e.size = (uint64_t)size;
	TRY(sparse_add_fields(&t->map, h + O_GNU_EXTENTS, GNU_EXTENTS, err));
	if (h[O_GNU_MORE])
		t->state = EXTENTS;
	return 0;
}

/* Form 0.0 or 0.1 when no version is named. */
static int begin_pax_sparse(struct esgz_tar *t, struct err *err)
{
	const struct pax_sparse *s = &t->pax.sparse;
	bool is_0 = s->major.n == 0 || str_eqc(s->major, "0"), is_1 = str_eqc(s->major, "1");

	if (t->entry.e.type != ESGZ_REG)
		return err_set(err, ERR_INVALID, "sparse, and no file");
	if (is_1 ? !str_eqc(s->minor, "0")
	         : !is_0 || (s->minor.n > 0 && !str_eqc(s->minor, "0") && !str_eqc(s->minor, "1")))
		return err_set(err, ERR_UNIMPLEMENTED, "sparse file of form " STR_FMT "." STR_FMT, STR_ARG(s->major),
		               STR_ARG(s->minor));
	if (!s->has_size || (is_0 && !s->has_count))
		return err_set(err, ERR_INVALID, "sparse file without a size or a map");
	t->entry.e.size = s->size;
	if (is_1 && t->left == 0)
		return err_set(err, ERR_INVALID, "sparse file without a map");
	if (is_1) {
		t->state = MAP;
		t->map_done = false;
		return 0;
	}
	if (s->list.n > 0)
		return sparse_add_list(&t->map, s->list, s->count, err);
	if (s->extents.n != s->count)
		return err_set(err, ERR_INVALID, "sparse file: map of %zu extents, should be %" PRIu64, s->extents.n,
		               s->count);
	vec_each(&s->extents, x)
		TRY(sparse_add(&t->map, x->offset, x->bytes, err));
	return 0;
}

/* A block of a map that goes on behind the header. */
static int read_extents(struct esgz_tar *t, const uint8_t *block, struct err *err)
{
	TRY_WRAP(sparse_add_fields(&t->map, block, BLOCK_EXTENTS, err), err, STR_FMT, STR_ARG(t->entry.e.path));
	return block[O_EXTENTS_MORE] ? 0 : begin_content(t, err);
}

/* ---- entries ---- */

static int read_fields(struct esgz_tar *t, const uint8_t *h, struct err *err)
{
	struct esgz_tar_entry *out = &t->entry;
	struct esgz_entry *e = &out->e;

	TRY(entry_type(h, e->path, &e->type, err));
	TRY(read_numbers(&t->pax, h, out, err));
	if (e->type == ESGZ_SYMLINK || e->type == ESGZ_HARDLINK)
		e->link = entry_link(t, h);
	/* Only regular files have content, whatever the size field of the others says. */
	expect_content(t, CONTENT, e->type == ESGZ_REG ? out->header_bytes : 0);
	e->size = t->left;
	out->sparse = h[O_TYPE] == 'S' || t->pax.sparse.seen;
	sparse_clear(&t->map);
	if (h[O_TYPE] == 'S')
		return begin_gnu_sparse(t, h, err);
	return out->sparse ? begin_pax_sparse(t, err) : 0;
}

static int read_entry(struct esgz_tar *t, const uint8_t *h, int64_t size, struct err *err)
{
	struct esgz_tar_entry *out = &t->entry;

	pax_clear(&t->pax);
	TRY(pax_parse(&t->pax, buf_str(&t->global), err));
	TRY(pax_parse(&t->pax, buf_str(&t->local), err));
	*out = (struct esgz_tar_entry){
	    .e.path = entry_path(t, h),
	    .header_offset = t->header_offset,
	    .header_bytes = t->pax.has_size ? t->pax.size : (uint64_t)size,
	    .extra_headers = t->extra_headers,
	    .xattrs = t->pax.xattrs.p,
	    .n_xattrs = (uint32_t)t->pax.xattrs.n,
	};
	t->extra_headers = false;
	TRY_WRAP(read_fields(t, h, err), err, STR_FMT, STR_ARG(out->e.path));
	return t->state == EXTENTS || t->state == MAP ? 0 : begin_content(t, err);
}

/* A describing header is complete. */
static int end_meta(struct esgz_tar *t, struct err *err)
{
	struct str text = field_text((const uint8_t *)buf_cstr(&t->meta), t->meta.n);

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
		t->extra_headers |= h[O_TYPE] == 'g' || h[O_TYPE] == 'X';
		t->meta_type = (char)h[O_TYPE];
		buf_clear(&t->meta);
		expect_content(t, META, (uint64_t)size);
		return size > 0 ? 0 : end_meta(t, err);
	case 'V': /* volume label: no entry */
		t->extra_headers = true;
		forget_entry(t);
		return 0;
	default:
		return read_entry(t, h, size, err);
	}
}

/* Takes at most `n` bytes off *in. */
static struct str take(struct esgz_tar *t, struct str *in, uint64_t n)
{
	struct str piece = str_sub(*in, 0, n);

	t->pos += piece.n;
	*in = str_sub(*in, piece.n, in->n);
	return piece;
}

/* A whole block is read where it lies, or put together; NULL: there is more to come. */
static const uint8_t *take_block(struct esgz_tar *t, struct str piece)
{
	if (piece.n == BLOCK)
		return (const uint8_t *)piece.p;
	memcpy(t->block + t->n_block, piece.p, piece.n);
	t->n_block += piece.n;
	if (t->n_block < BLOCK)
		return NULL;
	t->n_block = 0;
	return t->block;
}

/* The map ends with the block in which its text ends. */
static int read_map(struct esgz_tar *t, struct str piece, struct err *err)
{
	int r = t->map_done ? 1 : sparse_add_text(&t->map, &piece, err);

	if (r < 0)
		err_wrap(err, STR_FMT, STR_ARG(t->entry.e.path));
	TRY(r);
	t->map_done = r > 0;
	if (t->left > 0 && t->pos % BLOCK != 0)
		return 0;
	if (!t->map_done && t->left == 0)
		return err_set(err, ERR_INVALID, STR_FMT ": sparse file: its map has no end", STR_ARG(t->entry.e.path));
	return t->map_done ? begin_content(t, err) : 0;
}

/* How many of the next bytes, at most, are no content and belong together. */
static uint64_t raw_bytes(const struct esgz_tar *t)
{
	uint64_t in_block = BLOCK - t->pos % BLOCK;

	switch (t->state) {
	case HEADER:
	case EXTENTS:
		return BLOCK - t->n_block;
	case META:
		return t->left;
	case MAP:
		return t->left < in_block ? t->left : in_block;
	case PADDING:
		return t->padding;
	default:
		return UINT64_MAX;
	}
}

/* Takes bytes off *in for the state; returns after one step. */
static int step(struct esgz_tar *t, struct str *in, struct err *err)
{
	enum state state = t->state;
	const uint8_t *block;
	struct str piece;

	if (state == CONTENT) {
		piece = take(t, in, t->left);
		t->left -= piece.n;
		TRY(t->entry.sparse ? give_sparse(t, piece, err) : t->sink.data(t->sink.arg, piece, err));
		if (t->left > 0)
			return 0;
		t->state = t->padding > 0 ? PADDING : HEADER;
		return end_file(t, err);
	}
	piece = take(t, in, raw_bytes(t));
	if (t->sink.raw)
		TRY(t->sink.raw(t->sink.arg, piece, err));
	switch (state) {
	case HEADER:
		block = take_block(t, piece);
		return block ? read_header(t, block, err) : 0;
	case EXTENTS:
		block = take_block(t, piece);
		return block ? read_extents(t, block, err) : 0;
	case META:
		t->left -= piece.n;
		buf_addstr(&t->meta, piece);
		if (t->left > 0)
			return 0;
		t->state = t->padding > 0 ? PADDING : HEADER;
		return end_meta(t, err);
	case MAP:
		t->left -= piece.n;
		return read_map(t, piece, err);
	case PADDING:
		t->padding -= (uint32_t)piece.n;
		if (t->padding == 0)
			t->state = HEADER;
		return 0;
	default:
		return 0;
	}
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
