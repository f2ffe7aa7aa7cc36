#include "estargz/tar/tar_write.h"

#include <inttypes.h>
#include <stdio.h>

/* POSIX.1-2017, pax: "ustar Interchange Format". Numbers are octal digits and a NUL. */
struct ustar {
	char name[100];
	char mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8];
	char type;
	char link[100];
	char magic[6], version[2];
	char user[32], group[32];
	char dev_major[8], dev_minor[8];
	char prefix[155];
	char pad[12];
};
_Static_assert(sizeof(struct ustar) == TAR_BLOCK, "ustar");

#define OCTAL_7 07777777u       /* what 7 digits hold */
#define OCTAL_11 077777777777ll /* 11 digits */

static char type_flag(enum esgz_type t)
{
	switch (t) {
	case ESGZ_DIR:
		return '5';
	case ESGZ_SYMLINK:
		return '2';
	case ESGZ_HARDLINK:
		return '1';
	case ESGZ_CHAR:
		return '3';
	case ESGZ_BLOCK:
		return '4';
	case ESGZ_FIFO:
		return '6';
	default:
		return '0';
	}
}

void tar_write_name(const struct esgz_entry *e, struct buf *out)
{
	if (e->path.n == 0)
		buf_adds(out, ".");
	else
		buf_addstr(out, e->path);
	if (e->type == ESGZ_DIR)
		buf_addc(out, '/');
}

static void octal(char *field, size_t field_bytes, uint64_t v)
{
	field[field_bytes - 1] = '\0';
	for (size_t i = field_bytes - 1; i-- > 0; v >>= 3)
		field[i] = (char)('0' + (v & 7));
}

/* Puts a name into name and prefix, cut at a slash; false if it does not fit. */
static bool ustar_name(struct ustar *h, struct str name)
{
	if (name.n <= sizeof(h->name)) {
		memcpy(h->name, name.p, name.n);
		return true;
	}
	/* The last slash that leaves the prefix short enough; a trailing one is part of the name. */
	for (size_t at = name.n - 1 < sizeof(h->prefix) ? name.n - 1 : sizeof(h->prefix) + 1; at-- > 1;) {
		if (name.p[at] != '/' || at + 1 == name.n)
			continue;
		if (name.n - at - 1 > sizeof(h->name))
			return false;
		memcpy(h->prefix, name.p, at);
		memcpy(h->name, name.p + at + 1, name.n - at - 1);
		return true;
	}
	return false;
}

static void ustar_finish(struct ustar *h, struct buf *out)
{
	unsigned sum = 0;

	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((const uint8_t *)h)[i];
	octal(h->checksum, 7, sum); /* 6 digits, NUL, space */
	buf_add(out, h, sizeof(*h));
}

/* A pax record: "<length of all of it> <key>=<value>\n". */
static void pax_record(struct buf *pax, struct str key, struct str value)
{
	size_t body = key.n + value.n + 3, digits = 1;

	for (size_t limit = 10; body + digits >= limit; limit *= 10)
		digits++;
	buf_addf(pax, "%zu ", body + digits);
	buf_addstr(pax, key);
	buf_addc(pax, '=');
	buf_addstr(pax, value);
	buf_addc(pax, '\n');
}

static void pax_number(struct buf *pax, struct str key, uint64_t v)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%" PRIu64, v);

	pax_record(pax, key, str_make(text, (size_t)n));
}

static void pax_time(struct buf *pax, int64_t s, uint32_t ns)
{
	char text[40];
	int n;

	if (s < 0 && ns > 0) /* the fraction of a negative number counts downwards */
		n = snprintf(text, sizeof(text), "-%" PRIu64 ".%09u", (uint64_t) - (s + 1), 1000000000 - ns);
	else
		n = snprintf(text, sizeof(text), ns ? "%" PRId64 ".%09u" : "%" PRId64, s, ns);
	while (ns && text[n - 1] == '0')
		n--;
	pax_record(pax, STR("mtime"), str_make(text, (size_t)n));
}

/* A number for a field of 7 digits, or for a record if it is too large. */
static void number(char *field, struct buf *pax, struct str key, uint32_t v)
{
	octal(field, 8, v <= OCTAL_7 ? v : 0);
	if (v > OCTAL_7)
		pax_number(pax, key, v);
}

static int pax_xattrs(struct buf *pax, const struct esgz_xattr *xattrs, uint32_t n, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;

	for (uint32_t i = 0; i < n; i++) {
		if (str_find(xattrs[i].name, '=') >= 0 || str_find(xattrs[i].name, '\0') >= 0)
			return err_set(err, ERR_INVALID, "xattr name " STR_FMT " does not fit into a tar",
			               STR_ARG(xattrs[i].name));
		buf_clear(&key);
		buf_adds(&key, "SCHILY.xattr.");
		buf_addstr(&key, xattrs[i].name);
		pax_record(pax, buf_str(&key), xattrs[i].value);
	}
	return 0;
}

static void put_pax(const struct buf *pax, struct buf *out)
{
	struct ustar h = {.name = "PaxHeaders/entry", .type = 'x'};

	octal(h.mode, sizeof(h.mode), 0644);
	octal(h.uid, sizeof(h.uid), 0);
	octal(h.gid, sizeof(h.gid), 0);
	octal(h.size, sizeof(h.size), pax->n);
	octal(h.mtime, sizeof(h.mtime), 0);
	ustar_finish(&h, out);
	buf_addstr(out, buf_str(pax));
	tar_write_padding(pax->n, out);
}

int tar_write_header(const struct esgz_entry *e, const struct esgz_xattr *xattrs, uint32_t n_xattrs, struct buf *out,
                     struct err *err)
{
	bool is_link = e->type == ESGZ_SYMLINK || e->type == ESGZ_HARDLINK;
	bool is_dev = e->type == ESGZ_CHAR || e->type == ESGZ_BLOCK;
	uint64_t size = e->type == ESGZ_REG ? e->size : 0;
	bool time_fits = e->mtime_ns == 0 && e->mtime_s >= 0 && e->mtime_s <= OCTAL_11;
	AUTO(buf) struct buf name = BUF_INIT;
	AUTO(buf) struct buf pax = BUF_INIT;
	struct ustar h = {.type = type_flag(e->type)};

	tar_write_name(e, &name);
	if (str_find(buf_str(&name), '\0') >= 0 || str_find(e->link, '\0') >= 0)
		return err_set(err, ERR_INVALID, "a name with a NUL byte");
	if (!ustar_name(&h, buf_str(&name))) {
		memcpy(h.name, name.p, sizeof(h.name)); /* for readers without pax; it is longer than that */
		pax_record(&pax, STR("path"), buf_str(&name));
	}
	if (is_link && e->link.n > 0 && e->link.n <= sizeof(h.link))
		memcpy(h.link, e->link.p, e->link.n);
	else if (is_link && e->link.n > 0)
		pax_record(&pax, STR("linkpath"), e->link);
	octal(h.mode, sizeof(h.mode), e->mode & 07777);
	number(h.uid, &pax, STR("uid"), e->uid);
	number(h.gid, &pax, STR("gid"), e->gid);
	octal(h.size, sizeof(h.size), size <= OCTAL_11 ? size : 0);
	if (size > OCTAL_11)
		pax_number(&pax, STR("size"), size);
	octal(h.mtime, sizeof(h.mtime), time_fits ? (uint64_t)e->mtime_s : 0);
	if (!time_fits)
		pax_time(&pax, e->mtime_s, e->mtime_ns);
	if (is_dev) {
		number(h.dev_major, &pax, STR("SCHILY.devmajor"), e->dev_major);
		number(h.dev_minor, &pax, STR("SCHILY.devminor"), e->dev_minor);
	}
	TRY(pax_xattrs(&pax, xattrs, n_xattrs, err));
	if (pax.n > 0)
		put_pax(&pax, out);
	ustar_finish(&h, out);
	return 0;
}

void tar_write_padding(uint64_t size, struct buf *out)
{
	buf_addz(out, (size_t)(-size % TAR_BLOCK));
}
