#include "estargz/tar/test_tar.h"

#include "base/testing.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- archives put together by hand ---- */

void put(char *block, size_t at, size_t n, const char *text)
{
	if (text)
		memcpy(block + at, text, strnlen(text, n));
}

void seal(char *block)
{
	unsigned sum = 0;

	memset(block + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += (uint8_t)block[i];
	snprintf(block + 148, 8, "%06o", sum);
}

void add_header(struct buf *tar, struct header h)
{
	char *b = buf_reserve(tar, 512);

	memset(b, 0, 512);
	put(b, 0, 100, h.name);
	put(b, 100, 8, "0000644");
	if (h.uid)
		memcpy(b + 108, h.uid, 8);
	snprintf(b + 124, 12, "%011llo", (unsigned long long)h.size);
	if (h.mtime)
		memcpy(b + 136, h.mtime, 12);
	b[156] = h.type;
	put(b, 157, 100, h.link);
	memcpy(b + 257, h.magic ? h.magic : "ustar\00000", 8);
	put(b, 345, 155, h.prefix);
	seal(b);
	tar->n += 512;
}

void add_content(struct buf *tar, struct str content)
{
	buf_addstr(tar, content);
	buf_addz(tar, -content.n & 511);
}

void add_file(struct buf *tar, const char *name, struct str content)
{
	add_header(tar, (struct header){.type = '0', .name = name, .size = (int64_t)content.n});
	add_content(tar, content);
}

void add_meta(struct buf *tar, char type, struct str content)
{
	add_header(tar, (struct header){.type = type, .name = "meta", .size = (int64_t)content.n});
	add_content(tar, content);
}

void add_record(struct buf *pax, const char *key, struct str value)
{
	size_t n = strlen(key) + value.n + 3, digits = 1;

	while (snprintf(NULL, 0, "%zu", n + digits) != (int)digits)
		digits++;
	buf_addf(pax, "%zu %s=", n + digits, key);
	buf_addstr(pax, value);
	buf_addc(pax, '\n');
}

/* ---- what comes out, as one line of text for each entry ---- */

static void line(struct buf *out, const struct esgz_entry *e, const struct esgz_xattr *x, uint32_t n_xattrs)
{
	static const char types[] = "?drlcbphw";

	buf_addf(out, "%c %o %u:%u %lld.%09u %llu %u,%u '", types[e->type], e->mode, e->uid, e->gid,
	         (long long)e->mtime_s, e->mtime_ns, (unsigned long long)e->size, e->dev_major, e->dev_minor);
	buf_addstr(out, e->path);
	buf_adds(out, "' '");
	buf_addstr(out, e->link);
	buf_addc(out, '\'');
	for (uint32_t i = 0; i < n_xattrs; i++)
		buf_addf(out, " " STR_FMT "=%zu", STR_ARG(x[i].name), x[i].value.n);
}

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct seen *s = arg;

	line(&s->text, &t->e, t->xattrs, t->n_xattrs);
	if (t->e.type != ESGZ_REG)
		buf_addc(&s->text, '\n');
	s->last = *t;
	s->bytes = 0;
	s->n++;
	return 0;
}

static void assert_next(struct seen *s, struct str bytes)
{
	assert_true(bytes.n > 0);
	assert_true(str_starts(s->input, bytes));
	s->input = str_sub(s->input, bytes.n, s->input.n);
}

static int on_raw(void *arg, struct str bytes, struct err *err)
{
	assert_next(arg, bytes);
	return 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct seen *s = arg;

	if (!s->filled)
		assert_next(s, bytes);
	hasher_add(s->h, bytes.p, bytes.n);
	s->bytes += bytes.n;
	return 0;
}

static int on_hole(void *arg, uint64_t bytes, struct err *err)
{
	AUTO(buf) struct buf zeros = BUF_INIT;
	struct seen *s = arg;

	assert_true(bytes > 0 && bytes <= 64 << 20);
	buf_addz(&zeros, bytes);
	hasher_add(s->h, zeros.p, zeros.n);
	s->bytes += bytes;
	return 0;
}

static int on_end(void *arg, struct err *err)
{
	struct seen *s = arg;
	struct digest d;
	char text[DIGEST_TEXT_MAX];

	assert_int_equal(s->bytes, s->last.e.size);
	hasher_done(s->h, &d);
	buf_addf(&s->text, " %s\n", digest_text(&d, text));
	return 0;
}

void seen_fini(struct seen *s)
{
	buf_fini(&s->text);
	hasher_free(s->h);
}
int read_tar(struct str tar, size_t step, struct seen *s, struct err *err)
{
	const struct esgz_tar_sink sink = {.entry = on_entry,
	                                   .data = on_data,
	                                   .end = on_end,
	                                   .hole = s->filled ? NULL : on_hole,
	                                   .raw = s->filled ? NULL : on_raw,
	                                   .arg = s};
	AUTO(esgz_tar) struct esgz_tar *t = esgz_tar_new(&sink);

	s->h = hasher_new();
	s->input = tar;
	while (tar.n > 0) {
		/* An exact copy, so that a look past the end is seen. */
		struct str piece = str_sub(tar, 0, step);
		AUTO_FREE char *copy = xmalloc(piece.n);

		memcpy(copy, piece.p, piece.n);
		TRY(esgz_tar_feed(t, str_make(copy, piece.n), err));
		tar = str_sub(tar, piece.n, tar.n);
		assert_true(s->filled || s->input.n == tar.n);
	}
	return esgz_tar_finish(t, err);
}

void assert_same_lines(struct str got, struct str want)
{
	struct str g, w;

	while (str_split(&got, '\n', &g) && str_split(&want, '\n', &w))
		if (!str_eq(g, w))
			fail_msg("got  " STR_FMT "\nwant " STR_FMT, STR_ARG(g), STR_ARG(w));
	assert_true(str_eq(got, want));
}

void assert_reads(const struct buf *tar, const char *want)
{
	static const size_t steps[] = {SIZE_MAX, 1, 511, 513, 1024};

	for (size_t i = 0; i < ARRAY_LEN(steps) + 1; i++) {
		AUTO(seen) struct seen s = {.filled = i == ARRAY_LEN(steps)};
		struct err err = ERR_INIT;

		if (read_tar(buf_str(tar), s.filled ? SIZE_MAX : steps[i], &s, &err) < 0)
			fail_msg("%s", err.msg);
		assert_same_lines(buf_str(&s.text), str_of(want));
	}
}

int code_of(const struct buf *tar, struct err *err)
{
	AUTO(seen) struct seen s = {0};

	return read_tar(buf_str(tar), 700, &s, err);
}

/* ---- the same from libarchive ---- */

void read_by_libarchive(const char *file, struct buf *out)
{
	struct archive *a = archive_read_new();
	struct archive_entry *ae;
	AUTO(hasher) struct hasher *h = hasher_new();
	static char block[65536];
	char text[DIGEST_TEXT_MAX];

	archive_read_support_format_tar(a);
	assert_int_equal(archive_read_open_filename(a, file, 65536), ARCHIVE_OK);
	while (archive_read_next_header(a, &ae) == ARCHIVE_OK) {
		struct esgz_entry e = {.mode = archive_entry_perm(ae),
		                       .uid = (uint32_t)archive_entry_uid(ae),
		                       .gid = (uint32_t)archive_entry_gid(ae),
		                       .mtime_s = archive_entry_mtime(ae),
		                       .mtime_ns = (uint32_t)archive_entry_mtime_nsec(ae),
		                       .path = str_of(archive_entry_pathname(ae))};
		struct esgz_xattr x[8];
		const char *name;
		const void *value;
		AUTO(buf) struct buf zeros = BUF_INIT;
		uint32_t n = 0;
		uint64_t left;
		struct digest d;
		ssize_t got;

		if (archive_entry_hardlink(ae)) {
			e.type = ESGZ_HARDLINK;
			e.link = str_of(archive_entry_hardlink(ae));
		} else {
			switch (archive_entry_filetype(ae)) {
			case AE_IFREG:
				e.type = ESGZ_REG;
				e.size = (uint64_t)archive_entry_size(ae);
				break;
			case AE_IFDIR:
				e.type = ESGZ_DIR;
				break;
			case AE_IFLNK:
				e.type = ESGZ_SYMLINK;
				e.link = str_of(archive_entry_symlink(ae));
				break;
			case AE_IFIFO:
				e.type = ESGZ_FIFO;
				break;
			case AE_IFCHR:
			case AE_IFBLK:
				e.type = archive_entry_filetype(ae) == AE_IFCHR ? ESGZ_CHAR : ESGZ_BLOCK;
				e.dev_major = (uint32_t)archive_entry_rdevmajor(ae);
				e.dev_minor = (uint32_t)archive_entry_rdevminor(ae);
				break;
			}
		}
		archive_entry_xattr_reset(ae);
		while (n < ARRAY_LEN(x) && archive_entry_xattr_next(ae, &name, &value, &x[n].value.n) == ARCHIVE_OK)
			x[n++].name = str_of(name);
		line(out, &e, x, n);
		for (left = e.size; e.type == ESGZ_REG && (got = archive_read_data(a, block, sizeof(block))) > 0;
		     left -= (uint64_t)got)
			hasher_add(h, block, (size_t)got);
		if (e.type == ESGZ_REG) {
			/* It does not deliver a hole at the end. */
			buf_addz(&zeros, left);
			hasher_add(h, zeros.p, zeros.n);
			hasher_done(h, &d);
			buf_addf(out, " %s", digest_text(&d, text));
		}
		buf_addc(out, '\n');
	}
	archive_read_free(a);
}

void slurp(const char *file, struct buf *out)
{
	AUTO_FD int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	assert_true(fd >= 0);
	while ((got = read(fd, buf_reserve(out, 65536), 65536)) > 0)
		out->n += (size_t)got;
	assert_int_equal(got, 0);
}
