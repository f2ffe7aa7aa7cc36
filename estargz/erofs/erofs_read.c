#include "estargz/erofs/erofs.h"

#include "base/bytes.h"
#include "estargz/erofs/erofs_format.h"

#include <inttypes.h>
#include <sys/stat.h>

/*
 * The image is a file that may be damaged, or not be ours: every number is checked before it is used as a position,
 * and work is bounded by the image's size. Only what esgz_erofs_write makes is understood: 4 KiB blocks, plain, inline
 * and chunk layouts. Positions are 64-bit throughout; `span` is the one place that turns them into pointers.
 */

#define PREFIX_TRUSTED 4
#define REDIRECT_BYTES 66

struct esgz_erofs {
	struct str image;
	uint64_t xattrs_at; /* shared area */
	uint64_t root_nid;
	int64_t build_time_s;
	uint32_t build_time_ns;
};

/* An inode as it is needed here. */
struct inode {
	uint64_t nid;
	uint64_t end; /* position behind its head */
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns, uid, gid, nlink, data;
	uint32_t xattr_bytes;
	uint16_t mode;
	uint8_t layout;
};

/* n bytes at `at`, or NULL if they are not all in the image. */
static const char *span(const struct esgz_erofs *fs, uint64_t at, uint64_t n)
{
	return at <= fs->image.n && n <= fs->image.n - at ? fs->image.p + at : NULL;
}

static int damaged(struct err *err, uint64_t nid, const char *what)
{
	return err_set(err, ERR_DATA_LOSS, "metadata image: inode %" PRIu64 ": %s", nid, what);
}

int esgz_erofs_open(struct str image, struct esgz_erofs **out, struct err *err)
{
	struct erofs_super s;
	struct esgz_erofs *fs;

	if (image.n < EROFS_BLOCK || image.n % EROFS_BLOCK != 0)
		return err_set(err, ERR_DATA_LOSS, "metadata image: %zu bytes are no whole blocks", image.n);
	memcpy(&s, image.p + EROFS_SUPER_AT, sizeof(s));
	if (le32toh(s.magic) != EROFS_MAGIC)
		return err_set(err, ERR_DATA_LOSS, "metadata image: not EROFS");
	if (s.block_bits != EROFS_BLOCK_BITS || s.meta_block != 0 ||
	    (le32toh(s.feature_incompat) & ~EROFS_INCOMPAT_CHUNKED) != 0)
		return err_set(err, ERR_UNIMPLEMENTED, "metadata image: EROFS of a kind that is not written here");
	if ((uint64_t)le32toh(s.blocks) * EROFS_BLOCK != image.n ||
	    (uint64_t)le32toh(s.xattr_block) * EROFS_BLOCK > image.n)
		return err_set(err, ERR_DATA_LOSS, "metadata image: %zu bytes, the superblock says otherwise", image.n);

	fs = xcalloc(1, sizeof(*fs));
	*fs = (struct esgz_erofs){.image = image,
	                          .xattrs_at = (uint64_t)le32toh(s.xattr_block) * EROFS_BLOCK,
	                          .root_nid = le16toh(s.root_nid),
	                          .build_time_s = (int64_t)le64toh(s.build_time),
	                          .build_time_ns = le32toh(s.build_time_ns)};
	*out = fs;
	return 0;
}

void esgz_erofs_close(struct esgz_erofs *fs)
{
	free(fs);
}

/* ---- inodes ---- */

static void take_compact(const struct esgz_erofs *fs, const char *p, struct inode *ino)
{
	struct erofs_inode_compact c;

	memcpy(&c, p, sizeof(c));
	ino->mode = le16toh(c.mode);
	ino->size = le32toh(c.size);
	ino->data = le32toh(c.data);
	ino->uid = le16toh(c.uid);
	ino->gid = le16toh(c.gid);
	ino->nlink = le16toh(c.nlink);
	ino->mtime_s = fs->build_time_s;
	ino->mtime_ns = fs->build_time_ns;
	ino->end += sizeof(c);
}

static void take_extended(const char *p, struct inode *ino)
{
	struct erofs_inode_extended x;

	memcpy(&x, p, sizeof(x));
	ino->mode = le16toh(x.mode);
	ino->size = le64toh(x.size);
	ino->data = le32toh(x.data);
	ino->uid = le32toh(x.uid);
	ino->gid = le32toh(x.gid);
	ino->nlink = le32toh(x.nlink);
	ino->mtime_s = (int64_t)le64toh(x.mtime);
	ino->mtime_ns = le32toh(x.mtime_ns);
	ino->end += sizeof(x);
}

static int get_inode(const struct esgz_erofs *fs, uint64_t nid, struct inode *ino, struct err *err)
{
	const char *p;
	uint16_t format, words;

	if (nid == ESGZ_EROFS_ROOT)
		nid = fs->root_nid;
	*ino = (struct inode){.nid = nid, .end = nid * EROFS_SLOT};
	p = nid < fs->image.n / EROFS_SLOT ? span(fs, nid * EROFS_SLOT, sizeof(struct erofs_inode_compact)) : NULL;
	if (!p || nid * EROFS_SLOT < EROFS_SUPER_AT + sizeof(struct erofs_super))
		return damaged(err, nid, "lies outside of the image");
	format = get_le16(p);
	words = get_le16(p + 2);
	ino->layout = (uint8_t)(format >> 1 & 7);
	if (format >> 4 != 0 || (ino->layout != EROFS_LAYOUT_PLAIN && ino->layout != EROFS_LAYOUT_INLINE &&
	                         ino->layout != EROFS_LAYOUT_CHUNKS))
		return damaged(err, nid, "unknown layout");
	if (!(format & EROFS_FORMAT_EXTENDED))
		take_compact(fs, p, ino);
	else if ((p = span(fs, ino->end, sizeof(struct erofs_inode_extended))))
		take_extended(p, ino);
	else
		return damaged(err, nid, "is cut off");
	if (ino->size > INT64_MAX)
		return damaged(err, nid, "impossible size");
	if (words) {
		ino->xattr_bytes = (uint32_t)sizeof(struct erofs_xattr_header) + ((uint32_t)words - 1) * 4;
		if (!span(fs, ino->end, ino->xattr_bytes))
			return damaged(err, nid, "xattrs lie outside of the image");
	}
	return 0;
}

/* Bytes [at, at + n) of the data of a directory or symlink, n <= a block and within one. */
static int get_data(const struct esgz_erofs *fs, const struct inode *ino, uint64_t at, uint64_t n, const char **out,
                    struct err *err)
{
	uint64_t tail_at = ino->size / EROFS_BLOCK * EROFS_BLOCK;

	if (ino->layout == EROFS_LAYOUT_CHUNKS)
		return damaged(err, ino->nid, "its layout is not that of its type");
	if (ino->layout == EROFS_LAYOUT_INLINE && at >= tail_at)
		*out = span(fs, ino->end + ino->xattr_bytes + (at - tail_at), n);
	else
		*out = span(fs, (uint64_t)ino->data * EROFS_BLOCK + at, n);
	return *out ? 0 : damaged(err, ino->nid, "data lies outside of the image");
}

int esgz_erofs_stat(const struct esgz_erofs *fs, uint64_t nid, struct esgz_erofs_stat *out, struct err *err)
{
	struct inode ino;

	TRY(get_inode(fs, nid, &ino, err));
	*out = (struct esgz_erofs_stat){.nid = ino.nid,
	                                .mode = ino.mode,
	                                .uid = ino.uid,
	                                .gid = ino.gid,
	                                .nlink = ino.nlink,
	                                .size = ino.size,
	                                .mtime_s = ino.mtime_s,
	                                .mtime_ns = ino.mtime_ns};
	if (S_ISCHR(ino.mode) || S_ISBLK(ino.mode)) {
		out->dev_major = erofs_dev_major(ino.data);
		out->dev_minor = erofs_dev_minor(ino.data);
	}
	return 0;
}

/* ---- directories ---- */

/* One block of a directory. */
struct dir_block {
	const char *p;
	uint32_t bytes, n; /* its length, and its entries, at least one */
};

static int get_dir(const struct esgz_erofs *fs, uint64_t nid, struct inode *ino, struct err *err)
{
	TRY(get_inode(fs, nid, ino, err));
	if (!S_ISDIR(ino->mode))
		return err_set(err, ERR_PRECONDITION, "metadata image: inode %" PRIu64 " is no directory", ino->nid);
	if (ino->size > fs->image.n)
		return damaged(err, ino->nid, "larger than the image");
	return 0;
}

static int get_dir_block(const struct esgz_erofs *fs, const struct inode *ino, uint64_t number, struct dir_block *b,
                         struct err *err)
{
	uint64_t at = number * EROFS_BLOCK;
	uint32_t first_name;

	b->bytes = ino->size - at < EROFS_BLOCK ? (uint32_t)(ino->size - at) : EROFS_BLOCK;
	TRY(get_data(fs, ino, at, b->bytes, &b->p, err));
	if (b->bytes < sizeof(struct erofs_dirent))
		return damaged(err, ino->nid, "directory block too short");
	first_name = get_le16(b->p + offsetof(struct erofs_dirent, name_at));
	b->n = first_name / (uint32_t)sizeof(struct erofs_dirent);
	if (b->n == 0 || first_name % sizeof(struct erofs_dirent) != 0 || first_name > b->bytes)
		return damaged(err, ino->nid, "names of a directory overlap its entries");
	return 0;
}

static int get_dirent(const struct inode *ino, const struct dir_block *b, uint32_t i, struct erofs_dirent *de,
                      struct str *name, struct err *err)
{
	uint32_t from, to = b->bytes;

	memcpy(de, b->p + i * sizeof(*de), sizeof(*de));
	from = le16toh(de->name_at);
	if (i + 1 < b->n)
		to = get_le16(b->p + (i + 1) * sizeof(*de) + offsetof(struct erofs_dirent, name_at));
	if (from < b->n * sizeof(*de) || from > to || to > b->bytes)
		return damaged(err, ino->nid, "name outside of its directory block");
	/* Behind the last name of a block come zeros, if anything. */
	*name = str_make(b->p + from, i + 1 < b->n ? to - from : strnlen(b->p + from, to - from));
	if (name->n == 0 || name->n > ESGZ_NAME_MAX || memchr(name->p, '/', name->n) || memchr(name->p, 0, name->n))
		return damaged(err, ino->nid, "impossible name in a directory");
	if (de->nid == 0)
		return damaged(err, ino->nid, "an entry without an inode");
	return 0;
}

/* Whiteouts are seen by overlayfs only: it takes them for "nothing here". */
static int is_whiteout(const struct esgz_erofs *fs, const struct inode *dir, const struct erofs_dirent *de, bool *yes,
                       struct err *err)
{
	struct inode ino;

	*yes = false;
	if (dir->nid != fs->root_nid || de->type != EROFS_TYPE_CHAR)
		return 0;
	TRY(get_inode(fs, le64toh(de->nid), &ino, err));
	*yes = S_ISCHR(ino.mode) && ino.data == 0;
	return 0;
}

int esgz_erofs_lookup(const struct esgz_erofs *fs, uint64_t dir_nid, struct str name, uint64_t *nid, struct err *err)
{
	struct inode dir;
	struct dir_block b;
	struct erofs_dirent de;
	struct str at;
	uint64_t lo = 0, hi;
	bool hidden;

	TRY(get_dir(fs, dir_nid, &dir, err));
	/* The last block whose first name is not greater: there it is, if anywhere. */
	hi = (dir.size + EROFS_BLOCK - 1) / EROFS_BLOCK;
	while (hi - lo > 1) {
		uint64_t mid = lo + (hi - lo) / 2;

		TRY(get_dir_block(fs, &dir, mid, &b, err));
		TRY(get_dirent(&dir, &b, 0, &de, &at, err));
		if (str_cmp(at, name) <= 0)
			lo = mid;
		else
			hi = mid;
	}
	if (hi > lo) {
		TRY(get_dir_block(fs, &dir, lo, &b, err));
		for (uint32_t from = 0, to = b.n; from < to;) {
			uint32_t mid = from + (to - from) / 2;
			int cmp;

			TRY(get_dirent(&dir, &b, mid, &de, &at, err));
			cmp = str_cmp(at, name);
			if (cmp == 0) {
				TRY(is_whiteout(fs, &dir, &de, &hidden, err));
				if (hidden)
					break;
				*nid = le64toh(de.nid);
				return 0;
			}
			if (cmp < 0)
				from = mid + 1;
			else
				to = mid;
		}
	}
	return err_set(err, ERR_NOT_FOUND, STR_FMT ": not found", STR_ARG(name));
}

static uint32_t type_mode(uint8_t type)
{
	static const uint32_t modes[] = {
	    [EROFS_TYPE_REG] = S_IFREG,    [EROFS_TYPE_DIR] = S_IFDIR,  [EROFS_TYPE_CHAR] = S_IFCHR,
	    [EROFS_TYPE_BLOCK] = S_IFBLK,  [EROFS_TYPE_FIFO] = S_IFIFO, [EROFS_TYPE_SOCKET] = S_IFSOCK,
	    [EROFS_TYPE_SYMLINK] = S_IFLNK};

	return type < sizeof(modes) / sizeof(modes[0]) ? modes[type] : 0;
}

int esgz_erofs_readdir(const struct esgz_erofs *fs, uint64_t dir_nid, uint64_t at,
                       bool (*fn)(void *arg, struct str name, uint64_t nid, uint32_t mode, uint64_t next), void *arg,
                       struct err *err)
{
	struct inode dir;
	uint32_t first = (uint32_t)(at % EROFS_BLOCK);

	/* A position is block * 4096 + number of the entry in it; no block has so many. */
	TRY(get_dir(fs, dir_nid, &dir, err));
	for (uint64_t number = at / EROFS_BLOCK; number < (dir.size + EROFS_BLOCK - 1) / EROFS_BLOCK; number++) {
		struct dir_block b;

		TRY(get_dir_block(fs, &dir, number, &b, err));
		for (uint32_t i = first; i < b.n; i++) {
			struct erofs_dirent de;
			struct str name;
			bool hidden;

			TRY(get_dirent(&dir, &b, i, &de, &name, err));
			TRY(is_whiteout(fs, &dir, &de, &hidden, err));
			if (!hidden &&
			    !fn(arg, name, le64toh(de.nid), type_mode(de.type), number * EROFS_BLOCK + i + 1))
				return 0;
		}
		first = 0;
	}
	return 0;
}

int esgz_erofs_readlink(const struct esgz_erofs *fs, uint64_t nid, struct str *out, struct err *err)
{
	struct inode ino;

	TRY(get_inode(fs, nid, &ino, err));
	if (!S_ISLNK(ino.mode))
		return err_set(err, ERR_INVALID, "metadata image: inode %" PRIu64 " is no symlink", ino.nid);
	if (ino.size == 0 || ino.size >= EROFS_BLOCK)
		return damaged(err, ino.nid, "impossible length of a symlink");
	out->n = ino.size;
	return get_data(fs, &ino, 0, ino.size, &out->p, err);
}

/* ---- xattrs ---- */

/* One xattr at `at`, which must end before `end`; *next is the position behind it. */
static int get_xattr(const struct esgz_erofs *fs, const struct inode *ino, uint64_t at, uint64_t end, uint8_t *prefix,
                     struct str *rest, struct str *value, uint64_t *next, struct err *err)
{
	const char *p = span(fs, at, sizeof(struct erofs_xattr));
	struct erofs_xattr x;
	uint64_t bytes;

	if (!p)
		return damaged(err, ino->nid, "xattr outside of the image");
	memcpy(&x, p, sizeof(x));
	bytes = sizeof(x) + x.name_bytes + le16toh(x.value_bytes);
	if (at + bytes > end || !span(fs, at, bytes))
		return damaged(err, ino->nid, "xattr longer than its room");
	*prefix = x.prefix;
	*rest = str_make(p + sizeof(x), x.name_bytes);
	*value = str_make(p + sizeof(x) + x.name_bytes, le16toh(x.value_bytes));
	*next = at + ((bytes + 3) & ~(uint64_t)3);
	return 0;
}

/* Calls fn for each xattr, those of overlayfs too; it ends the walk by returning false. */
static int walk_xattrs(const struct esgz_erofs *fs, const struct inode *ino,
                       bool (*fn)(void *arg, uint8_t prefix, struct str rest, struct str value), void *arg,
                       struct err *err)
{
	uint64_t at = ino->end + sizeof(struct erofs_xattr_header), end = ino->end + ino->xattr_bytes;
	struct erofs_xattr_header head;
	struct str rest, value;
	uint64_t next;
	uint8_t prefix;

	if (ino->xattr_bytes == 0)
		return 0;
	memcpy(&head, fs->image.p + ino->end, sizeof(head)); /* get_inode has looked for it */
	if (head.n_shared * sizeof(uint32_t) > end - at)
		return damaged(err, ino->nid, "too many shared xattrs");
	for (unsigned i = 0; i < head.n_shared; i++, at += sizeof(uint32_t)) {
		uint64_t shared = fs->xattrs_at + (uint64_t)get_le32(fs->image.p + at) * 4;

		TRY(get_xattr(fs, ino, shared, fs->image.n, &prefix, &rest, &value, &next, err));
		if (!fn(arg, prefix, rest, value))
			return 0;
	}
	for (; at < end; at = next) {
		TRY(get_xattr(fs, ino, at, end, &prefix, &rest, &value, &next, err));
		if (!fn(arg, prefix, rest, value))
			return 0;
	}
	return 0;
}

struct xattr_call {
	bool (*fn)(void *arg, struct str name, struct str value);
	void *arg;
};

static bool call_with_full_name(void *arg, uint8_t prefix, struct str rest, struct str value)
{
	struct xattr_call *c = arg;
	struct str head = erofs_xattr_prefix(prefix);
	char name[32 + UINT8_MAX];

	if (head.n == 0 || erofs_xattr_is_overlay(prefix, rest))
		return true;
	memcpy(name, head.p, head.n);
	memcpy(name + head.n, rest.p, rest.n);
	return c->fn(c->arg, str_make(name, head.n + rest.n), value);
}

int esgz_erofs_xattrs(const struct esgz_erofs *fs, uint64_t nid,
                      bool (*fn)(void *arg, struct str name, struct str value), void *arg, struct err *err)
{
	struct xattr_call c = {fn, arg};
	struct inode ino;

	TRY(get_inode(fs, nid, &ino, err));
	return walk_xattrs(fs, &ino, call_with_full_name, &c, err);
}

static bool take_redirect(void *arg, uint8_t prefix, struct str rest, struct str value)
{
	struct str *out = arg;

	if (prefix != PREFIX_TRUSTED || !str_eq(rest, STR("overlay.redirect")))
		return true;
	*out = value;
	return false;
}

int esgz_erofs_object(const struct esgz_erofs *fs, uint64_t nid, struct digest *key, struct err *err)
{
	struct str redirect = STR_NONE;
	char hex[64];
	struct inode ino;

	TRY(get_inode(fs, nid, &ino, err));
	if (!S_ISREG(ino.mode) || ino.size == 0)
		return err_set(err, ERR_NOT_FOUND, "metadata image: inode %" PRIu64 " has no content", ino.nid);
	TRY(walk_xattrs(fs, &ino, take_redirect, &redirect, err));
	if (redirect.n != REDIRECT_BYTES || redirect.p[0] != '/' || redirect.p[3] != '/')
		return damaged(err, ino.nid, "its object is not named");
	memcpy(hex, redirect.p + 1, 2);
	memcpy(hex + 2, redirect.p + 4, 62);
	return digest_from_hex(str_make(hex, sizeof(hex)), key) ? 0 : damaged(err, ino.nid, "its object is not named");
}
