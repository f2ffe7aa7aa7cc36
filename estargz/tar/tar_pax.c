#include "estargz/tar/tar_pax.h"

static bool base256_number(const uint8_t *field, size_t n, int64_t *out)
{
	uint64_t v = field[0] & 0x40 ? UINT64_MAX : 0;

	/* The first byte carries the flag and six bits besides the sign; bytes above the lowest eight must be sign. */
	for (size_t i = 0; i < n; i++) {
		uint8_t byte = i > 0 ? field[i] : (uint8_t)((field[0] & 0x40) ? field[0] | 0x80 : field[0] & 0x7f);

		if (i + 8 < n && byte != (field[0] & 0x40 ? 0xff : 0))
			return false;
		v = v << 8 | byte;
	}
	if (n > 8 && (v >> 63) != ((field[0] & 0x40) != 0))
		return false;
	*out = (int64_t)v;
	return true;
}

bool tar_number(const uint8_t *field, size_t n, int64_t *out)
{
	uint64_t v = 0;

	if (field[0] & 0x80)
		return base256_number(field, n, out);
	/* Blanks and NULs at both ends, in any mixture, as historic writers leave them; nothing at all is 0. */
	while (n > 0 && (field[0] == ' ' || field[0] == 0))
		field++, n--;
	while (n > 0 && (field[n - 1] == ' ' || field[n - 1] == 0))
		n--;
	for (; n > 0; field++, n--) {
		if (*field < '0' || *field > '7' || v >> 60)
			return false;
		v = v << 3 | (uint64_t)(*field - '0');
	}
	*out = (int64_t)v;
	return true;
}

void pax_fini(struct pax *p)
{
	vec_fini(&p->xattrs);
	vec_fini(&p->sparse.extents);
}

void pax_clear(struct pax *p)
{
	struct pax empty = {
	    .xattrs = {p->xattrs.p, 0, p->xattrs.cap},
	    .sparse.extents = {p->sparse.extents.p, 0, p->sparse.extents.cap},
	};

	*p = empty;
}

/* Seconds since 1970 with a sign and a fraction: "-1.25" is 1.25 s before. */
static bool parse_time(struct str v, struct esgz_tar_time *t)
{
	struct str whole = v, fraction = STR_NONE;
	ptrdiff_t dot = str_find(v, '.');
	bool negative = v.n > 0 && v.p[0] == '-';
	uint32_t scale = 100000000;

	if (dot >= 0) {
		whole = str_sub(v, 0, (size_t)dot);
		fraction = str_sub(v, (size_t)dot + 1, v.n);
	}
	if (negative && str_eqc(whole, "-"))
		whole = STR("0");
	if (!str_i64(whole, &t->s) || t->s == INT64_MIN)
		return false;
	t->ns = 0;
	for (size_t i = 0; i < fraction.n; i++, scale /= 10) {
		if (fraction.p[i] < '0' || fraction.p[i] > '9')
			return false;
		t->ns += (uint32_t)(fraction.p[i] - '0') * scale;
	}
	if (negative && t->ns > 0) {
		t->s -= 1;
		t->ns = 1000000000 - t->ns;
	}
	return true;
}

static bool parse_u32(struct str v, uint32_t *out)
{
	uint64_t n;

	if (!str_u64(v, 10, &n) || n > UINT32_MAX)
		return false;
	*out = (uint32_t)n;
	return true;
}

static int set_xattr(struct pax *p, struct str name, struct str value, struct err *err)
{
	size_t i = 0;

	while (i < p->xattrs.n && !str_eq(p->xattrs.p[i].name, name))
		i++;
	if (i < p->xattrs.n) {
		p->xattrs.p[i].value = value;
		return 0;
	}
	if (p->xattrs.n >= ESGZ_XATTRS_MAX)
		return err_set(err, ERR_INVALID, "pax header with more than %d xattrs", ESGZ_XATTRS_MAX);
	vec_push(&p->xattrs, (struct esgz_xattr){name, value});
	return 0;
}

static bool set_time(struct esgz_tar_time *t, struct str value)
{
	*t = (struct esgz_tar_time){.given = value.n > 0};
	return !t->given || parse_time(value, t);
}

/* Forms 0.0 and 0.1 call the real size `size`, form 1.0 `realsize`. Form 0.0 has its extents as records of two keys in
 * turns. An empty value is none that GNU tar reads: half a description cannot be taken back. */
static bool set_sparse(struct pax_sparse *s, struct str key, struct str value)
{
	uint64_t bytes;

	s->seen = true;
	if (value.n == 0)
		return false;
	if (str_eqc(key, "major")) {
		s->major = value;
	} else if (str_eqc(key, "minor")) {
		s->minor = value;
	} else if (str_eqc(key, "name")) {
		s->name = value;
	} else if (str_eqc(key, "map")) {
		s->list = value;
	} else if (str_eqc(key, "size") || str_eqc(key, "realsize")) {
		s->has_size = true;
		return str_u64(value, 10, &s->size);
	} else if (str_eqc(key, "numblocks")) {
		s->has_count = true;
		return str_u64(value, 10, &s->count);
	} else if (str_eqc(key, "offset")) {
		bool in_turn = !s->has_offset;

		s->has_offset = true;
		return str_u64(value, 10, &s->offset) && in_turn;
	} else if (str_eqc(key, "numbytes")) {
		bool in_turn = s->has_offset;

		s->has_offset = false;
		if (!in_turn || !str_u64(value, 10, &bytes) || s->extents.n >= ESGZ_EXTENTS_MAX)
			return false;
		vec_push(&s->extents, (struct esgz_extent){s->offset, bytes});
	}
	return true;
}

static int set_record(struct pax *p, struct str key, struct str value, struct err *err)
{
	bool given = value.n > 0, ok = true;
	struct str name = key;

	if (str_eqc(key, "path")) {
		p->path = value;
	} else if (str_eqc(key, "linkpath")) {
		p->link = value;
	} else if (str_eqc(key, "size")) {
		p->has_size = given;
		ok = !given || (str_u64(value, 10, &p->size) && p->size <= INT64_MAX);
	} else if (str_eqc(key, "uid")) {
		p->has_uid = given;
		ok = !given || parse_u32(value, &p->uid);
	} else if (str_eqc(key, "gid")) {
		p->has_gid = given;
		ok = !given || parse_u32(value, &p->gid);
	} else if (str_eqc(key, "mtime")) {
		ok = set_time(&p->mtime, value);
	} else if (str_eqc(key, "atime")) {
		ok = set_time(&p->atime, value);
	} else if (str_eqc(key, "ctime")) {
		ok = set_time(&p->ctime, value);
	} else if (str_eqc(key, "SCHILY.devmajor")) {
		p->has_major = given;
		ok = !given || parse_u32(value, &p->major);
	} else if (str_eqc(key, "SCHILY.devminor")) {
		p->has_minor = given;
		ok = !given || parse_u32(value, &p->minor);
	} else if (str_skip(&name, STR("SCHILY.xattr."))) {
		return set_xattr(p, name, value, err);
	} else if (str_skip(&name, STR("GNU.sparse."))) {
		ok = set_sparse(&p->sparse, name, value);
	}
	if (!ok)
		return err_set(err, ERR_INVALID, "pax header with " STR_FMT "=" STR_FMT, STR_ARG(key), STR_ARG(value));
	return 0;
}

int pax_parse(struct pax *p, struct str records, struct err *err)
{
	while (records.n > 0) {
		ptrdiff_t blank = str_find(str_sub(records, 0, 16), ' '), equals;
		struct str record;
		uint64_t n;

		if (blank < 0 || !str_u64(str_sub(records, 0, (size_t)blank), 10, &n) || n > records.n ||
		    n < (uint64_t)blank + 2 || records.p[n - 1] != '\n')
			return err_set(err, ERR_INVALID, "pax header with a broken record");
		record = str_sub(records, (size_t)blank + 1, (size_t)n - (size_t)blank - 2);
		equals = str_find(record, '=');
		if (equals <= 0)
			return err_set(err, ERR_INVALID, "pax header with a record without a key");
		TRY(set_record(p, str_sub(record, 0, (size_t)equals), str_sub(record, (size_t)equals + 1, record.n),
		               err));
		records = str_sub(records, (size_t)n, records.n);
	}
	return 0;
}
