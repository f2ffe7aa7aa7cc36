#include "estargz/index/index_format.h"

#include "base/cleanup.h"
#include "base/vectors.h"

#include <inttypes.h>
#include <isa-l/crc64.h>
#include <stdatomic.h>

struct esgz_index {
	const uint8_t *section[S_N];
	uint32_t version;
	uint32_t counts[S_N];
	uint32_t n_single, n_multi;
	struct esgz_index_info info;
	uint64_t path_bytes;           /* of all paths, if they were written out */
	_Atomic(struct paths *) paths; /* made when the first entry is asked for */
};

/* The paths of all entries. The file has only names: who asks for chunks alone, as the demand path does, never pays for
 * more. */
struct paths {
	char *text;
	uint32_t off[];
};

uint64_t index_crc(const void *file, size_t n)
{
	uint64_t crc = crc64_ecma_refl(0, (const uint8_t *)file + H_CRC + 8, n - (H_CRC + 8));

	vectors_leave();
	return crc;
}

void index_seal(void *file, size_t n)
{
	put_le64((uint8_t *)file + H_CRC, index_crc(file, n));
}

void esgz_index_key(enum esgz_trust trust, const struct digest *blob, const struct digest *trusted, struct digest *out)
{
	static const char domain[] = "contentd-index-1"; /* its NUL is part of it */
	uint8_t in[sizeof(domain) + 1 + 2 * DIGEST_BYTES];

	memcpy(in, domain, sizeof(domain));
	in[sizeof(domain)] = (uint8_t)trust;
	memcpy(in + sizeof(domain) + 1, blob->b, DIGEST_BYTES);
	memcpy(in + sizeof(domain) + 1 + DIGEST_BYTES, trusted->b, DIGEST_BYTES);
	digest_of(in, sizeof(in), out);
}

static const uint8_t *record_at(const struct esgz_index *ix, enum section s, uint32_t i)
{
	return ix->section[s] + (size_t)i * SECTION_RECORD_BYTES[s];
}

static struct str string_at(const struct esgz_index *ix, const uint8_t *place)
{
	return str_make(ix->section[S_STRINGS] + get_le32(place), get_le32(place + 4));
}

static struct str entry_name(const struct esgz_index *ix, uint32_t i)
{
	const uint8_t *r = record_at(ix, S_ENTRIES, i);

	return str_make(ix->section[S_STRINGS] + get_le32(r + E_NAME), r[E_NAME_N]);
}

static enum esgz_type entry_type(const struct esgz_index *ix, uint32_t i)
{
	return (enum esgz_type)record_at(ix, S_ENTRIES, i)[E_TYPE];
}

/* ---- opening: nothing below may trust anything before these have passed ---- */

static int damaged(struct err *err, const char *what, uint32_t i)
{
	return err_set(err, ERR_DATA_LOSS, "index: %s %u is damaged", what, i);
}

static bool string_fits(const struct esgz_index *ix, uint32_t off, uint32_t n)
{
	return off <= ix->counts[S_STRINGS] && n <= ix->counts[S_STRINGS] - off;
}

static int check_header(struct str bytes, struct err *err)
{
	uint32_t header_bytes;

	if (bytes.n < H_HEADER_BYTES || memcmp(bytes.p, INDEX_MAGIC, 8) != 0)
		return err_set(err, ERR_DATA_LOSS, "index: not an index file");
	header_bytes = index_header_bytes(get_le32(bytes.p + H_VERSION));
	if (header_bytes == 0)
		return err_set(err, ERR_UNIMPLEMENTED, "index: version %u, this program reads 1 to %d",
		               get_le32(bytes.p + H_VERSION), INDEX_VERSION);
	if (bytes.n < header_bytes || get_le32(bytes.p + H_HEADER_BYTES) != header_bytes)
		return err_set(err, ERR_DATA_LOSS, "index: header cut");
	if (get_le64(bytes.p + H_FILE_BYTES) != bytes.n)
		return err_set(err, ERR_DATA_LOSS, "index: %zu of %" PRIu64 " bytes", bytes.n,
		               get_le64(bytes.p + H_FILE_BYTES));
	if (index_crc(bytes.p, bytes.n) != get_le64(bytes.p + H_CRC))
		return err_set(err, ERR_DATA_LOSS, "index: checksum mismatch");
	return 0;
}

static int read_header(struct esgz_index *ix, struct str bytes, struct err *err)
{
	uint64_t at[S_N], file_bytes;
	const char *h = bytes.p;
	struct esgz_index_info *info = &ix->info;

	for (int s = 0; s < S_N; s++)
		ix->counts[s] = get_le32(h + H_COUNTS + 4 * s);
	if (!index_layout(get_le32(h + H_HEADER_BYTES), ix->counts, bytes.n, at, &file_bytes) || file_bytes != bytes.n)
		return err_set(err, ERR_DATA_LOSS, "index: counts that do not add up to %zu bytes", bytes.n);
	for (int s = 0; s < S_N; s++)
		ix->section[s] = (const uint8_t *)h + at[s];
	ix->n_single = get_le32(h + H_N_SINGLE);
	ix->n_multi = get_le32(h + H_N_MULTI);
	if (ix->counts[S_SINGLES] != ix->n_single || ix->counts[S_MULTIS] != ix->n_multi ||
	    (uint64_t)ix->n_single + ix->n_multi > ix->counts[S_FILES] || ix->counts[S_ENTRIES] == 0 ||
	    ix->counts[S_ENTRIES] > ESGZ_ENTRIES_MAX ||
	    (uint64_t)ix->counts[S_CHUNKS] + ix->n_single > ESGZ_CHUNKS_MAX ||
	    (ix->counts[S_NSEC] != 0 && ix->counts[S_NSEC] != ix->counts[S_ENTRIES]))
		return err_set(err, ERR_DATA_LOSS, "index: counts that contradict each other");
	memcpy(info->blob.b, h + H_BLOB, DIGEST_BYTES);
	memcpy(info->trusted.b, h + H_TRUSTED, DIGEST_BYTES);
	info->trust = (enum esgz_trust)get_le32(h + H_TRUST);
	info->compression = (enum esgz_compression)get_le32(h + H_COMPRESSION);
	info->blob_bytes = get_le64(h + H_BLOB_BYTES);
	info->content_bytes = get_le64(h + H_CONTENT_BYTES);
	ix->version = get_le32(h + H_VERSION);
	info->prefetch_end = ix->version > 1 ? get_le64(h + H_PREFETCH_END) : 0;
	info->n_entries = ix->counts[S_ENTRIES];
	info->n_chunks = ix->n_single + ix->counts[S_CHUNKS];
	info->n_xattrs = ix->counts[S_XATTRS];
	if ((info->trust != ESGZ_TRUST_TOC && info->trust != ESGZ_TRUST_DIFFID) ||
	    info->compression > (ix->version > 1 ? ESGZ_GZIP_SEEK : ESGZ_ZSTD) ||
	    (info->prefetch_end > info->blob_bytes && info->prefetch_end != ESGZ_NO_PREFETCH))
		return err_set(err, ERR_DATA_LOSS, "index: header with unknown kinds");
	return 0;
}

static int check_tables(const struct esgz_index *ix, struct err *err)
{
	for (uint32_t i = 0; i < ix->counts[S_ATTRS]; i++) {
		const uint8_t *r = record_at(ix, S_ATTRS, i);
		uint32_t first = get_le32(r + 12), n = get_le32(r + 16);

		if (get_le32(r) > 07777 || first > ix->counts[S_XATTRS] || n > ix->counts[S_XATTRS] - first ||
		    n > ESGZ_XATTRS_MAX)
			return damaged(err, "attribute set", i);
	}
	for (uint32_t i = 0; i < ix->counts[S_XATTRS]; i++) {
		const uint8_t *r = record_at(ix, S_XATTRS, i);

		if (get_le32(r + 4) == 0 || get_le32(r + 4) > 255 || get_le32(r + 12) > 65536 ||
		    !string_fits(ix, get_le32(r), get_le32(r + 4)) || memchr(string_at(ix, r).p, 0, get_le32(r + 4)) ||
		    !string_fits(ix, get_le32(r + 8), get_le32(r + 12)))
			return damaged(err, "xattr", i);
	}
	for (uint32_t i = 0; i < ix->counts[S_NSEC]; i++)
		if (get_le32(record_at(ix, S_NSEC, i)) >= 1000000000)
			return damaged(err, "time", i);
	return 0;
}

static bool is_hole(const uint8_t *r)
{
	return get_le64(r) == INDEX_HOLE;
}

/* The place of a chunk in the blob, as single and other chunks have it; and that so many plain bytes can be there. */
static bool place_fits(const struct esgz_index *ix, const uint8_t *r, uint64_t plain_bytes)
{
	uint64_t offset = get_le64(r), bytes = get_le32(r + 8);

	if (is_hole(r))
		return ix->version > 1 && bytes == 0 && get_le32(r + 12) == 0;
	return bytes > 0 && plain_bytes <= ESGZ_CHUNK_BYTES_MAX && offset <= ix->info.blob_bytes &&
	       bytes <= ix->info.blob_bytes - offset && get_le32(r + 12) <= ESGZ_INNER_OFFSET_MAX;
}

/* The chunks of one file of several: [first, first + n) tile it. */
static bool chunks_tile(const struct esgz_index *ix, uint32_t first, uint32_t n, uint64_t size)
{
	uint64_t at = 0;

	for (uint32_t k = first; k < first + n; k++) {
		const uint8_t *r = record_at(ix, S_CHUNKS, k);
		uint64_t bytes = get_le64(r + 24);

		if (!place_fits(ix, r, bytes) || get_le64(r + 16) != at || bytes == 0 || bytes > size - at)
			return false;
		at += bytes;
	}
	return at == size;
}

static int check_files(const struct esgz_index *ix, struct err *err)
{
	uint64_t content_bytes = 0;
	uint32_t next_chunk = 0;

	for (uint32_t i = 0; i < ix->counts[S_FILES]; i++) {
		uint64_t size = get_le64(record_at(ix, S_FILES, i));

		if (size > INT64_MAX - content_bytes)
			return damaged(err, "size of file", i);
		content_bytes += size;
		if (i < ix->n_single) {
			if (size == 0 || !place_fits(ix, record_at(ix, S_SINGLES, i), size))
				return damaged(err, "file", i);
		} else if (i < ix->n_single + ix->n_multi) {
			const uint8_t *r = record_at(ix, S_MULTIS, i - ix->n_single);
			uint32_t n = get_le32(r + 4);

			/* Each chunk belongs to one file. */
			if (get_le32(r) != next_chunk || n < 2 || n > ix->counts[S_CHUNKS] - next_chunk ||
			    !chunks_tile(ix, next_chunk, n, size))
				return damaged(err, "file", i);
			next_chunk += n;
		} else if (size > 0 && ix->info.trust == ESGZ_TRUST_TOC) {
			return damaged(err, "file", i);
		}
	}
	if (next_chunk != ix->counts[S_CHUNKS] || content_bytes != ix->info.content_bytes)
		return err_set(err, ERR_DATA_LOSS, "index: sums that do not agree");
	return 0;
}

/* Numbers that come in the order of the entries, so that no two share one. */
struct seen {
	uint32_t file[3], link;
};

static bool data_fits(const struct esgz_index *ix, uint32_t i, uint32_t data, struct seen *seen)
{
	const uint8_t *r;

	switch (entry_type(ix, i)) {
	case ESGZ_DIR:
	case ESGZ_FIFO:
	case ESGZ_WHITEOUT:
		return data == 0;
	case ESGZ_REG:
		return data < ix->counts[S_FILES] && data == seen->file[data < ix->n_single                 ? 0
		                                                        : data < ix->n_single + ix->n_multi ? 1
		                                                                                            : 2]++;
	case ESGZ_SYMLINK:
		if (data >= ix->counts[S_LINKS] || data != seen->link++)
			return false;
		r = record_at(ix, S_LINKS, data);
		return get_le32(r + 4) > 0 && get_le32(r + 4) < ESGZ_PATH_MAX &&
		       string_fits(ix, get_le32(r), get_le32(r + 4)) && !memchr(string_at(ix, r).p, 0, get_le32(r + 4));
	case ESGZ_CHAR:
	case ESGZ_BLOCK:
		return data < ix->counts[S_LINKS] && data == seen->link++;
	case ESGZ_HARDLINK:
		/* Links may point forward; the other entry's type is checked when all are known to be of one. */
		return data < ix->counts[S_ENTRIES] && data != i;
	}
	return false;
}

static bool name_fits(struct str name)
{
	return name.n > 0 && name.n <= ESGZ_NAME_MAX && !memchr(name.p, 0, name.n) && !memchr(name.p, '/', name.n) &&
	       !(name.p[0] == '.' && (name.n == 1 || (name.n == 2 && name.p[1] == '.')));
}

/*
 * The entries must be the walk of a tree, depth first, names ascending. The stack holds the directories that enclose the
 * entry before (a path of ESGZ_PATH_MAX bytes has no more than half as many), each with the last name seen in it.
 */
struct walk {
	struct {
		uint32_t entry, path_n;
		struct str last_child;
	} dirs[ESGZ_PATH_MAX / 2 + 2];
	unsigned depth;
	uint64_t path_bytes;
};

static bool entry_follows(struct walk *w, const struct esgz_index *ix, uint32_t i)
{
	const uint8_t *r = record_at(ix, S_ENTRIES, i);
	struct str name = entry_name(ix, i);
	uint32_t parent = get_le32(r + E_PARENT), path_n;
	unsigned top;

	if (i == 0) {
		if (name.n > 0 || parent != 0 || r[E_TYPE] != ESGZ_DIR || (r[E_FLAGS] & ESGZ_REPLACE))
			return false;
		w->dirs[w->depth++].entry = 0;
		return true;
	}
	/* Entry 0 stays at the bottom: a parent that encloses nothing is met there. */
	while (w->depth > 1 && w->dirs[w->depth - 1].entry != parent)
		w->depth--;
	top = w->depth - 1;
	path_n = w->dirs[top].path_n + (w->dirs[top].path_n > 0) + (uint32_t)name.n;
	if (w->dirs[top].entry != parent || !name_fits(name) || path_n > ESGZ_PATH_MAX ||
	    str_cmp(w->dirs[top].last_child, name) >= 0)
		return false;
	w->dirs[top].last_child = name;
	w->path_bytes += path_n;
	if (r[E_TYPE] == ESGZ_DIR) {
		w->dirs[w->depth].entry = i;
		w->dirs[w->depth].path_n = path_n;
		w->dirs[w->depth].last_child = STR_NONE;
		w->depth++;
	}
	return true;
}

static bool entry_fits(const struct esgz_index *ix, uint32_t i, struct seen *seen)
{
	const uint8_t *r = record_at(ix, S_ENTRIES, i);
	uint8_t type = r[E_TYPE], flags = r[E_FLAGS];

	return type >= ESGZ_DIR && type <= ESGZ_WHITEOUT && flags <= (ESGZ_IMPLIED | ESGZ_OPAQUE | ESGZ_REPLACE) &&
	       (!(flags & (ESGZ_IMPLIED | ESGZ_OPAQUE)) || type == ESGZ_DIR) &&
	       (!(flags & ESGZ_REPLACE) || type != ESGZ_WHITEOUT) && r[E_FLAGS + 1] == 0 &&
	       get_le32(r + E_ATTR) < ix->counts[S_ATTRS] && string_fits(ix, get_le32(r + E_NAME), r[E_NAME_N]) &&
	       data_fits(ix, i, get_le32(r + E_DATA), seen);
}

static int check_links(const struct esgz_index *ix, struct err *err)
{
	for (uint32_t i = 0; i < ix->counts[S_ENTRIES]; i++) {
		enum esgz_type to;

		if (entry_type(ix, i) != ESGZ_HARDLINK)
			continue;
		to = entry_type(ix, get_le32(record_at(ix, S_ENTRIES, i) + E_DATA));
		if (to == ESGZ_HARDLINK || to == ESGZ_DIR || to == ESGZ_WHITEOUT)
			return damaged(err, "hard link", i);
	}
	return 0;
}

static int check_entries(struct esgz_index *ix, struct err *err)
{
	struct seen seen = {.file = {0, ix->n_single, ix->n_single + ix->n_multi}};
	AUTO_FREE struct walk *w = xcalloc(1, sizeof(*w));

	for (uint32_t i = 0; i < ix->counts[S_ENTRIES]; i++) {
		if (!entry_fits(ix, i, &seen))
			return damaged(err, "entry", i);
		if (!entry_follows(w, ix, i))
			return damaged(err, "name of entry", i);
	}
	if (seen.file[0] != ix->n_single || seen.file[1] != ix->n_single + ix->n_multi ||
	    seen.file[2] != ix->counts[S_FILES] || seen.link != ix->counts[S_LINKS])
		return err_set(err, ERR_DATA_LOSS, "index: files or links that no entry has");
	if (w->path_bytes > index_paths_max(ix->counts[S_ENTRIES]))
		return err_set(err, ERR_DATA_LOSS, "index: %" PRIu64 " bytes of paths", w->path_bytes);
	ix->path_bytes = w->path_bytes;
	return check_links(ix, err);
}

int esgz_index_open(struct str bytes, struct esgz_index **out, struct err *err)
{
	AUTO(esgz_index) struct esgz_index *ix = xcalloc(1, sizeof(*ix));

	TRY(check_header(bytes, err));
	TRY(read_header(ix, bytes, err));
	TRY(check_tables(ix, err));
	TRY(check_files(ix, err));
	TRY(check_entries(ix, err));
	*out = STEAL(ix);
	return 0;
}

static void paths_free(struct paths *p)
{
	if (p)
		free(p->text);
	free(p);
}

void esgz_index_free(struct esgz_index *ix)
{
	if (!ix)
		return;
	paths_free(atomic_load(&ix->paths));
	free(ix);
}

/* ---- reading ---- */

const struct esgz_index_info *esgz_index_get_info(const struct esgz_index *ix)
{
	return &ix->info;
}

static struct paths *paths_new(const struct esgz_index *ix)
{
	uint32_t n = ix->counts[S_ENTRIES];
	struct paths *p = xmalloc(sizeof(*p) + ((size_t)n + 1) * sizeof(p->off[0]));
	char *at = p->text = xmalloc(ix->path_bytes + 1);

	p->off[0] = p->off[1] = 0; /* the root's is empty */
	for (uint32_t i = 1; i < n; i++) {
		uint32_t parent = get_le32(record_at(ix, S_ENTRIES, i) + E_PARENT);
		uint32_t parent_n = p->off[parent + 1] - p->off[parent];
		struct str name = entry_name(ix, i);

		memcpy(at, p->text + p->off[parent], parent_n);
		at += parent_n;
		if (parent_n > 0)
			*at++ = '/';
		memcpy(at, name.p, name.n);
		at += name.n;
		p->off[i + 1] = (uint32_t)(at - p->text);
	}
	return p;
}

/* Any thread may come first; who comes second throws its own away. */
static const struct paths *get_paths(const struct esgz_index *ix_const)
{
	struct esgz_index *ix = (struct esgz_index *)ix_const;
	struct paths *have = atomic_load_explicit(&ix->paths, memory_order_acquire), *made;

	if (have)
		return have;
	made = paths_new(ix);
	if (atomic_compare_exchange_strong(&ix->paths, &have, made))
		return made;
	paths_free(made);
	return have;
}

static void read_file_record(const struct esgz_index *ix, uint32_t file, struct esgz_entry *out)
{
	const uint8_t *r = record_at(ix, S_FILES, file);

	out->size = get_le64(r);
	memcpy(out->content.b, r + 8, DIGEST_BYTES);
	out->claim = out->content;
	if (file < ix->n_single) {
		out->first_chunk = file;
		out->n_chunks = 1;
		memcpy(out->claim.b, record_at(ix, S_SINGLES, file) + 16, DIGEST_BYTES);
	} else if (file < ix->n_single + ix->n_multi) {
		r = record_at(ix, S_MULTIS, file - ix->n_single);
		out->first_chunk = ix->n_single + get_le32(r);
		out->n_chunks = get_le32(r + 4);
		memcpy(out->claim.b, r + 8, DIGEST_BYTES);
	}
}

void esgz_index_entry(const struct esgz_index *ix, uint32_t i, struct esgz_entry *out)
{
	const uint8_t *r = record_at(ix, S_ENTRIES, i);
	const uint8_t *attr = record_at(ix, S_ATTRS, get_le32(r + E_ATTR));
	uint32_t data = get_le32(r + E_DATA);
	const struct paths *paths = get_paths(ix);

	*out = (struct esgz_entry){
	    .type = (enum esgz_type)r[E_TYPE],
	    .flags = r[E_FLAGS],
	    .mode = get_le32(attr),
	    .uid = get_le32(attr + 4),
	    .gid = get_le32(attr + 8),
	    .first_xattr = get_le32(attr + 12),
	    .n_xattrs = get_le32(attr + 16),
	    .mtime_s = (int64_t)get_le64(r + E_MTIME),
	    .mtime_ns = ix->counts[S_NSEC] ? get_le32(record_at(ix, S_NSEC, i)) : 0,
	    .path = str_make(paths->text + paths->off[i], paths->off[i + 1] - paths->off[i]),
	    .name = entry_name(ix, i),
	    .parent = get_le32(r + E_PARENT),
	};
	switch (out->type) {
	case ESGZ_REG:
		read_file_record(ix, data, out);
		break;
	case ESGZ_SYMLINK:
		out->link = string_at(ix, record_at(ix, S_LINKS, data));
		break;
	case ESGZ_CHAR:
	case ESGZ_BLOCK:
		out->dev_major = get_le32(record_at(ix, S_LINKS, data));
		out->dev_minor = get_le32(record_at(ix, S_LINKS, data) + 4);
		break;
	case ESGZ_HARDLINK:
		out->target = data;
		break;
	default:
		break;
	}
}

void esgz_index_chunk(const struct esgz_index *ix, uint32_t j, struct esgz_chunk *out)
{
	bool single = j < ix->n_single;
	const uint8_t *r = single ? record_at(ix, S_SINGLES, j) : record_at(ix, S_CHUNKS, j - ix->n_single);

	*out = (struct esgz_chunk){.hole = is_hole(r)};
	if (!out->hole) {
		out->blob_offset = get_le64(r);
		out->blob_bytes = get_le32(r + 8);
		out->inner_offset = get_le32(r + 12);
	}
	if (single) {
		r = record_at(ix, S_FILES, j);
		out->bytes = get_le64(r);
		memcpy(out->digest.b, r + 8, DIGEST_BYTES);
	} else {
		out->file_offset = get_le64(r + 16);
		out->bytes = get_le64(r + 24);
		memcpy(out->digest.b, r + 32, DIGEST_BYTES);
	}
}

void esgz_index_xattr(const struct esgz_index *ix, uint32_t j, struct str *name, struct str *value)
{
	const uint8_t *r = record_at(ix, S_XATTRS, j);

	*name = string_at(ix, r);
	*value = string_at(ix, r + 8);
}
