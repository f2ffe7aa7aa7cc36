#include "estargz/toc/toc_entry.h"

#include "base/clock.h"
#include "estargz/tar/tar.h"

#include <inttypes.h>

#define GO_TIME_ZERO (-62135596800) /* 0001-01-01: what Go writes for a time that nobody knows */

static const struct str FIELD_NAMES[F_N] = {
    [F_NAME] = STR("name"),
    [F_TYPE] = STR("type"),
    [F_SIZE] = STR("size"),
    [F_MODTIME] = STR("modtime"),
    [F_LINK_NAME] = STR("linkName"),
    [F_MODE] = STR("mode"),
    [F_UID] = STR("uid"),
    [F_GID] = STR("gid"),
    [F_DEV_MAJOR] = STR("devMajor"),
    [F_DEV_MINOR] = STR("devMinor"),
    [F_XATTRS] = STR("xattrs"),
    [F_DIGEST] = STR("digest"),
    [F_OFFSET] = STR("offset"),
    [F_END_OFFSET] = STR("endOffset"),
    [F_CHUNK_OFFSET] = STR("chunkOffset"),
    [F_CHUNK_SIZE] = STR("chunkSize"),
    [F_CHUNK_DIGEST] = STR("chunkDigest"),
    [F_INNER_OFFSET] = STR("innerOffset"),
    [F_CHUNK_TYPE] = STR("chunkType"),
};

void toc_entry_fini(struct toc_entry *e)
{
	vec_fini(&e->xattrs);
	buf_fini(&e->xattr_bytes);
}

/* ---- from the JSON ---- */

#define SHAPE(n, first, sixth) ((n) << 16 | (first) << 8 | (sixth))

/* The one field that a key can be: no two have the same length and, but for upper case, the same first and sixth letters
 * (or last ones, of the short). */
static enum toc_field guess_field(struct str key)
{
	if (key.n == 0 || key.n > 11)
		return F_N;
	switch (SHAPE((unsigned)key.n, (uint8_t)key.p[0] | 0x20u, (uint8_t)key.p[key.n < 6 ? key.n - 1 : 5] | 0x20u)) {
	case SHAPE(3, 'u', 'd'):
		return F_UID;
	case SHAPE(3, 'g', 'd'):
		return F_GID;
	case SHAPE(4, 'n', 'e'):
		return F_NAME;
	case SHAPE(4, 't', 'e'):
		return F_TYPE;
	case SHAPE(4, 's', 'e'):
		return F_SIZE;
	case SHAPE(4, 'm', 'e'):
		return F_MODE;
	case SHAPE(6, 'x', 's'):
		return F_XATTRS;
	case SHAPE(6, 'd', 't'):
		return F_DIGEST;
	case SHAPE(6, 'o', 't'):
		return F_OFFSET;
	case SHAPE(7, 'm', 'm'):
		return F_MODTIME;
	case SHAPE(8, 'l', 'a'):
		return F_LINK_NAME;
	case SHAPE(8, 'd', 'j'):
		return F_DEV_MAJOR;
	case SHAPE(8, 'd', 'n'):
		return F_DEV_MINOR;
	case SHAPE(9, 'e', 'f'):
		return F_END_OFFSET;
	case SHAPE(9, 'c', 's'):
		return F_CHUNK_SIZE;
	case SHAPE(9, 'c', 't'):
		return F_CHUNK_TYPE;
	case SHAPE(11, 'c', 'o'):
		return F_CHUNK_OFFSET;
	case SHAPE(11, 'c', 'd'):
		return F_CHUNK_DIGEST;
	case SHAPE(11, 'i', 'o'):
		return F_INNER_OFFSET;
	default:
		return F_N;
	}
}

/* Of 3, or 4 to 16 bytes: in two loads each, which may overlap. A call takes longer. */
static inline bool same_key(const char *a, const char *b, size_t n)
{
	if (n >= 8)
		return !memcmp(a, b, 8) && !memcmp(a + n - 8, b + n - 8, 8);
	if (n >= 4)
		return !memcmp(a, b, 4) && !memcmp(a + n - 4, b + n - 4, 4);
	return !memcmp(a, b, 3);
}

/* The field, or F_N: an unknown one. */
static enum toc_field find_field(struct str key)
{
	enum toc_field f = guess_field(key);

	return f == F_N || same_key(key.p, FIELD_NAMES[f].p, key.n) || str_ieq(key, FIELD_NAMES[f]) ? f : F_N;
}

static int read_xattrs(struct json_reader *r, struct toc_entry *e, struct err *err)
{
	struct str key, value;
	enum json_type type;
	int more;

	e->xattrs.n = 0;
	TRY(json_peek(r, &type, err));
	if (type == JSON_NULL)
		return json_skip(r, err);
	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		struct toc_xattr x = {.name = key, .off = e->xattr_bytes.n};
		size_t i = 0;

		TRY(json_string(r, &value, err));
		TRY_WRAP(base64_decode(value, &e->xattr_bytes, err), err, "xattr " STR_FMT, STR_ARG(key));
		x.n = e->xattr_bytes.n - x.off;
		while (i < e->xattrs.n && !str_eq(e->xattrs.p[i].name, key))
			i++;
		if (i >= ESGZ_XATTRS_MAX)
			return err_set(err, ERR_INVALID, "more than %d xattrs", ESGZ_XATTRS_MAX);
		if (i < e->xattrs.n)
			e->xattrs.p[i] = x;
		else
			vec_push(&e->xattrs, x);
	}
	return more;
}

static void clear(struct toc_entry *e)
{
	for (; e->given != 0; e->given &= e->given - 1) {
		e->text[__builtin_ctz(e->given)] = STR_NONE;
		e->number[__builtin_ctz(e->given)] = 0;
	}
	e->xattrs.n = 0;
	buf_clear(&e->xattr_bytes);
}

int toc_entry_read(struct json_reader *r, struct toc_entry *e, struct err *err)
{
	struct str key;
	int more;

	clear(e);
	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		enum toc_field f = find_field(key);

		if (f != F_N)
			e->given |= 1u << f;
		switch (f) {
		case F_NAME:
		case F_TYPE:
		case F_MODTIME:
		case F_LINK_NAME:
		case F_DIGEST:
		case F_CHUNK_DIGEST:
		case F_CHUNK_TYPE:
			TRY(json_string(r, &e->text[f], err));
			break;
		case F_XATTRS:
			TRY(read_xattrs(r, e, err));
			break;
		case F_N:
			TRY(json_skip(r, err));
			break;
		default:
			TRY(json_i64(r, &e->number[f], err));
			if (e->number[f] < 0)
				return err_set(err, ERR_INVALID, STR_FMT " is negative", STR_ARG(key));
			break;
		}
	}
	return more;
}

/* ---- to the index ---- */

static int to_type(struct str text, enum esgz_type *out, struct err *err)
{
	static const struct {
		struct str text;
		enum esgz_type type;
	} types[] = {{STR("reg"), ESGZ_REG},           {STR("dir"), ESGZ_DIR},   {STR("symlink"), ESGZ_SYMLINK},
	             {STR("hardlink"), ESGZ_HARDLINK}, {STR("char"), ESGZ_CHAR}, {STR("block"), ESGZ_BLOCK},
	             {STR("fifo"), ESGZ_FIFO}};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (str_eq(text, types[i].text)) {
			*out = types[i].type;
			return 0;
		}
	if (str_eqc(text, "socket"))
		return err_set(err, ERR_INVALID, "a socket, which no layer can hold");
	return err_set(err, ERR_INVALID, "unknown type " STR_FMT, STR_ARG(text));
}

static int to_u32(const struct toc_entry *e, enum toc_field f, uint32_t *out, struct err *err)
{
	if (e->number[f] > UINT32_MAX)
		return err_set(err, ERR_INVALID, STR_FMT " is %" PRId64, STR_ARG(FIELD_NAMES[f]), e->number[f]);
	*out = (uint32_t)e->number[f];
	return 0;
}

int toc_entry_convert(const struct toc_entry *t, struct esgz_entry *e, struct err *err)
{
	struct timespec mtime = {0};

	TRY(to_type(t->text[F_TYPE], &e->type, err));
	e->path = t->text[F_NAME];
	e->mode = (uint32_t)t->number[F_MODE] & 07777;
	TRY(to_u32(t, F_UID, &e->uid, err));
	TRY(to_u32(t, F_GID, &e->gid, err));
	if (t->text[F_MODTIME].n > 0 && !time_parse_rfc3339(t->text[F_MODTIME], &mtime))
		return err_set(err, ERR_INVALID, "time " STR_FMT, STR_ARG(t->text[F_MODTIME]));
	e->mtime_s = mtime.tv_sec == GO_TIME_ZERO ? 0 : mtime.tv_sec;
	e->mtime_ns = (uint32_t)mtime.tv_nsec;
	e->size = e->type == ESGZ_REG ? (uint64_t)t->number[F_SIZE] : 0;
	e->link = e->type == ESGZ_SYMLINK || e->type == ESGZ_HARDLINK ? t->text[F_LINK_NAME] : STR_NONE;
	e->dev_major = e->dev_minor = 0;
	if (e->type == ESGZ_CHAR || e->type == ESGZ_BLOCK) {
		TRY(to_u32(t, F_DEV_MAJOR, &e->dev_major, err));
		TRY(to_u32(t, F_DEV_MINOR, &e->dev_minor, err));
	}
	return 0;
}
