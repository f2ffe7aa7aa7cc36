/*
 * OCI archives: a layout in a tar file. Reading goes through the file once for the places of its blobs, which are then read
 * from there; one that is compressed is unpacked into an unnamed temporary file before. Writing goes to a file beside it:
 * blobs as they come, each behind a header that is filled in at its end.
 */
#include "contentd/convert/place.h"

#include "base/file.h"
#include "base/random.h"
#include "base/vec.h"
#include "estargz/tar/tar.h"
#include "estargz/tar/tar_write.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#define BLOCK_BYTES (1u << 20)
#define BLOBS_MAX 65536
/* What a compressed archive may become: so large, or so many times as large as what was read of it. Layers in it are mostly
 * compressed themselves; gzip packs zeros a thousand times, zstd more. */
#define UNPACKED_BYTES_FREE (256u << 20)
#define UNPACKED_RATIO_MAX 100
#define BLOBS_DIR "blobs/sha256/"

/* A blob in the file. */
struct blob {
	struct digest digest;
	uint64_t at, bytes;
};

struct archive_place {
	struct place base;
	char *file, *tmp, *tag; /* tmp: FILE.new-..., while it is there */
	int fd;
	uint64_t end; /* writing: where the next entry goes */
	VEC(struct blob) blobs;
	struct reg_manifest *index; /* reading */
};

static struct archive_place *archive_of(struct place *p)
{
	return (struct archive_place *)p;
}

static const struct blob *find(struct archive_place *a, const struct digest *digest)
{
	vec_each(&a->blobs, b)
		if (digest_eq(&b->digest, digest))
			return b;
	return NULL;
}

/* ---- opening ---- */

static int archive_error(struct archive *a, const char *file, struct err *err)
{
	const char *why = archive_error_string(a);

	return err_set(err, ERR_DATA_LOSS, "archive %s: %s", file, why ?: "unknown error");
}

static int check_unpacked(struct archive *in, uint64_t bytes, struct err *err)
{
	if (bytes <= UNPACKED_BYTES_FREE || bytes / UNPACKED_RATIO_MAX <= (uint64_t)archive_filter_bytes(in, -1))
		return 0;
	return err_set(err, ERR_EXHAUSTED, "it becomes more than %d times as large: unpack it first, if that is meant",
	               UNPACKED_RATIO_MAX);
}

static int unpack_to(struct archive *in, struct archive_place *a, int fd, struct err *err)
{
	AUTO_FREE char *block = xmalloc(BLOCK_BYTES);
	struct archive_entry *e;
	uint64_t done = 0;
	la_ssize_t n;

	archive_read_support_format_raw(in);
	archive_read_support_format_empty(in);
	archive_read_support_filter_all(in);
	if (archive_read_open_fd(in, a->fd, BLOCK_BYTES) != ARCHIVE_OK ||
	    archive_read_next_header(in, &e) != ARCHIVE_OK)
		return archive_error(in, a->file, err);
	while ((n = archive_read_data(in, block, BLOCK_BYTES)) > 0) {
		done += (uint64_t)n;
		TRY(check_unpacked(in, done, err));
		TRY(fd_write_all(fd, str_make(block, (size_t)n), err));
	}
	return n < 0 ? archive_error(in, a->file, err) : 0;
}

/* What is no tar as it is may be a compressed one. */
static int unpack(struct archive_place *a, struct err *err)
{
	const char *dir = getenv("TMPDIR") ?: "/var/tmp";
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), r;
	struct archive *in;

	if (fd < 0)
		return err_errno(err, errno, "temporary file in %s", dir);
	in = archive_read_new();
	r = unpack_to(in, a, fd, err);
	archive_read_free(in);
	close(r < 0 ? fd : a->fd);
	if (r >= 0)
		a->fd = fd;
	return r;
}

struct scan {
	struct archive_place *place;
	bool is_index;
	struct buf index;
};

static int scan_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct scan *s = arg;
	struct str path = t->e.path;
	struct blob b = {.at = t->payload_offset, .bytes = t->e.size};

	str_skip(&path, STR("./"));
	s->is_index = t->e.type == ESGZ_REG && str_eqc(path, "index.json");
	if (s->is_index)
		buf_clear(&s->index);
	if (t->e.type != ESGZ_REG || t->sparse || !str_skip(&path, STR(BLOBS_DIR)) || !digest_from_hex(path, &b.digest))
		return 0;
	if (s->place->blobs.n == BLOBS_MAX)
		return err_set(err, ERR_EXHAUSTED, "more than %d blobs", BLOBS_MAX);
	vec_push(&s->place->blobs, b);
	return 0;
}

static int scan_data(void *arg, struct str bytes, struct err *err)
{
	struct scan *s = arg;

	if (!s->is_index)
		return 0;
	if (s->index.n + bytes.n > REG_MANIFEST_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED, "index.json is too large");
	buf_addstr(&s->index, bytes);
	return 0;
}

static int scan_end(void *arg, struct err *err)
{
	((struct scan *)arg)->is_index = false;
	return 0;
}

static int scan(struct archive_place *a, struct scan *s, struct err *err)
{
	const struct esgz_tar_sink sink = {.entry = scan_entry, .data = scan_data, .end = scan_end, .arg = s};
	AUTO(esgz_tar) struct esgz_tar *t = esgz_tar_new(&sink);
	AUTO_FREE char *block = xmalloc(BLOCK_BYTES);
	off_t at = 0;
	ssize_t n;

	while ((n = pread(a->fd, block, BLOCK_BYTES, at)) > 0) {
		TRY(esgz_tar_feed(t, str_make(block, (size_t)n), err));
		at += n;
	}
	if (n < 0)
		return err_errno(err, errno, "read");
	return esgz_tar_finish(t, err);
}

static int open_reading(struct archive_place *a, struct err *err)
{
	struct scan s = {.place = a};
	char magic[512];
	int r = 0;

	a->fd = open(a->file, O_RDONLY | O_CLOEXEC);
	if (a->fd < 0)
		return err_errno(err, errno, "open %s", a->file);
	if (pread(a->fd, magic, sizeof(magic), 0) != sizeof(magic) || memcmp(magic + 257, "ustar", 5) != 0)
		r = unpack(a, err);
	if (r >= 0)
		r = scan(a, &s, err);
	if (r >= 0 && !s.index.n)
		r = err_set(err, ERR_INVALID, "not an OCI archive: there is no index.json");
	if (r >= 0)
		r = reg_manifest_parse(buf_str(&s.index), STR(REG_MT_OCI_INDEX), &a->index, err);
	buf_fini(&s.index);
	return r < 0 ? err_wrap(err, "archive %s", a->file) : 0;
}

/* With the first byte that is written, not before: a plan leaves nothing. */
static int make_file(struct archive_place *a, struct err *err)
{
	AUTO_FREE char *tmp = NULL;
	char random[17];

	if (a->tmp)
		return 0;
	tmp = xasprintf("%s.new-%s", a->file, random_hex(random, 8));
	a->fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (a->fd < 0)
		return err_errno(err, errno, "create %s", tmp);
	a->tmp = STEAL(tmp);
	return 0;
}

/* ---- reading ---- */

struct part_source {
	struct place_source base;
	int fd; /* borrowed */
	uint64_t at, left;
};

static int part_read(struct place_source *s, void *dst, size_t n, size_t *got, struct err *err)
{
	struct part_source *p = (struct part_source *)s;

	*got = p->left < n ? (size_t)p->left : n;
	if (*got)
		TRY(fd_pread_all(p->fd, dst, *got, (off_t)p->at, err));
	p->at += *got;
	p->left -= *got;
	return 0;
}

static void part_free(struct place_source *s)
{
	free(s);
}

static int packed_open_blob(struct place *p, const struct reg_descriptor *d, uint64_t offset, struct place_source **out,
                            struct err *err)
{
	struct archive_place *a = archive_of(p);
	const struct blob *b = find(a, &d->digest);
	struct part_source *s;
	char text[DIGEST_TEXT_MAX];

	if (!b)
		return err_set(err, ERR_NOT_FOUND, "%s: no blob %s", p->name, digest_text(&d->digest, text));
	if (b->bytes != d->size)
		return err_set(err, ERR_DATA_LOSS, "%s: blob %s has %" PRIu64 " bytes of %" PRIu64, p->name,
		               digest_text(&d->digest, text), b->bytes, d->size);
	s = xcalloc(1, sizeof(*s));
	*s = (struct part_source){{part_read, part_free}, a->fd, b->at + offset, b->bytes - offset};
	*out = &s->base;
	return 0;
}

static int packed_get_root(struct place *p, const char *suffix, struct buf *bytes, struct buf *media_type,
                           struct err *err)
{
	struct archive_place *a = archive_of(p);
	struct reg_descriptor d;

	if (!a->index)
		return err_set(err, ERR_NOT_FOUND, "%s is only being written", p->name);
	TRY(place_index_find(a->index, a->tag, suffix, p->name, &d, err));
	buf_addstr(media_type, d.media_type);
	return place_get(p, &d, true, bytes, err);
}

/* ---- writing ---- */

static void put_number(char *field, size_t n, uint64_t v)
{
	if (v >> (3 * (n - 1)) == 0) {
		AUTO_FREE char *octal = xasprintf("%0*llo", (int)n - 1, (unsigned long long)v);

		memcpy(field, octal, n);
		return;
	}
	field[0] = (char)0x80; /* GNU's binary numbers, for what has more than 8 GiB */
	for (size_t i = n - 1; i > 0; i--, v >>= 8)
		field[i] = (char)(v & 0xff);
}

/* One block whatever the size, so that it can be written last. */
static void make_header(char block[static TAR_BLOCK], const char *path, uint64_t size, bool is_dir)
{
	unsigned sum = 0;

	memset(block, 0, TAR_BLOCK);
	strcpy(block, path);
	put_number(block + 100, 8, is_dir ? 0755 : 0644);
	put_number(block + 108, 8, 0);
	put_number(block + 116, 8, 0);
	put_number(block + 124, 12, size);
	put_number(block + 136, 12, 0);
	block[156] = is_dir ? '5' : '0';
	memcpy(block + 257, "ustar\00000", 8);
	memset(block + 148, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += (unsigned char)block[i];
	put_number(block + 148, 7, sum);
}

static int put_at_end(struct archive_place *a, struct str bytes, struct err *err)
{
	TRY_WRAP(fd_pwrite_all(a->fd, bytes, (off_t)a->end, err), err, "%s", a->tmp);
	a->end += bytes.n;
	return 0;
}

static int put_padding(struct archive_place *a, uint64_t size, struct err *err)
{
	AUTO(buf) struct buf zeros = BUF_INIT;

	tar_write_padding(size, &zeros);
	return put_at_end(a, buf_str(&zeros), err);
}

static int put_file(struct archive_place *a, const char *path, struct str bytes, struct err *err)
{
	char header[TAR_BLOCK];

	make_header(header, path, bytes.n, false);
	TRY(put_at_end(a, str_make(header, sizeof(header)), err));
	TRY(put_at_end(a, bytes, err));
	return put_padding(a, bytes.n, err);
}

static int put_directories(struct archive_place *a, struct err *err)
{
	static const char *const dirs[] = {"blobs/", BLOBS_DIR};
	char header[TAR_BLOCK];

	for (size_t i = 0; a->end < sizeof(header) * ARRAY_LEN(dirs); i++) {
		make_header(header, dirs[i], 0, true);
		TRY(put_at_end(a, str_make(header, sizeof(header)), err));
	}
	return 0;
}

struct entry_sink {
	struct place_sink base;
	struct archive_place *place;
	uint64_t header;
	bool done;
};

static int entry_write(struct place_sink *s, struct str bytes, struct err *err)
{
	return put_at_end(((struct entry_sink *)s)->place, bytes, err);
}

static int entry_finish(struct place_sink *s, const struct digest *digest, uint64_t bytes, struct err *err)
{
	struct entry_sink *e = (struct entry_sink *)s;
	struct archive_place *a = e->place;
	struct blob b = {*digest, e->header + TAR_BLOCK, bytes};
	char header[TAR_BLOCK], hex[65];
	AUTO_FREE char *path = xasprintf(BLOBS_DIR "%s", digest_hex(digest, hex));

	if (find(a, digest))
		return 0; /* once is enough: this one is dropped */
	make_header(header, path, bytes, false);
	TRY_WRAP(fd_pwrite_all(a->fd, str_make(header, sizeof(header)), (off_t)e->header, err), err, "%s", a->tmp);
	TRY(put_padding(a, bytes, err));
	vec_push(&a->blobs, b);
	e->done = true;
	return 0;
}

static void entry_free(struct place_sink *s)
{
	struct entry_sink *e = (struct entry_sink *)s;

	if (!e->done)
		e->place->end = e->header;
	free(e);
}

static int packed_begin_blob(struct place *p, struct place_sink **out, struct err *err)
{
	struct archive_place *a = archive_of(p);
	struct entry_sink *e;

	TRY(make_file(a, err));
	TRY(put_directories(a, err));
	e = xcalloc(1, sizeof(*e));
	*e = (struct entry_sink){{entry_write, entry_finish, entry_free}, a, a->end, false};
	a->end += TAR_BLOCK;
	*out = &e->base;
	return 0;
}

static int packed_has_blob(struct place *p, const struct digest *digest, uint64_t bytes, struct err *err)
{
	return find(archive_of(p), digest) != NULL;
}

static int sync_folder(const struct archive_place *a, struct err *err)
{
	const char *slash = strrchr(a->file, '/');
	AUTO_FREE char *folder = xstrndup(a->file, slash ? (size_t)(slash - a->file) + 1 : 0);
	AUTO_FD int fd = -1;

	fd = open(slash ? folder : ".", O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open the folder of %s", a->file);
	TRY_WRAP(dir_sync(fd, err), err, "%s", a->file);
	return 0;
}

static int complete(struct archive_place *a, struct str index, struct err *err)
{
	AUTO(buf) struct buf zeros = BUF_INIT;

	TRY(put_file(a, "oci-layout", STR(PLACE_LAYOUT_TEXT), err));
	TRY(put_file(a, "index.json", index, err));
	buf_addz(&zeros, 2 * TAR_BLOCK);
	TRY(put_at_end(a, buf_str(&zeros), err));
	TRY(place_check_cancelled(&a->base, err)); /* what follows may take long */
	/* What was dropped may have reached beyond. */
	if (ftruncate(a->fd, (off_t)a->end) < 0 || fsync(a->fd) < 0 || rename(a->tmp, a->file) < 0)
		return err_errno(err, errno, "store %s", a->file);
	free(STEAL(a->tmp));
	return sync_folder(a, err);
}

static int packed_put_manifest(struct place *p, struct str bytes, struct str media_type, struct err *err)
{
	struct digest digest;

	return place_put(p, bytes, &digest, err);
}

static int packed_put_named(struct place *p, const struct place_document *docs, size_t n, struct err *err)
{
	struct archive_place *a = archive_of(p);
	AUTO(buf) struct buf text = BUF_INIT;

	for (size_t i = 0; i < n; i++)
		TRY(packed_put_manifest(p, docs[i].bytes, docs[i].media_type, err));
	TRY(place_index_write(NULL, a->tag, docs, n, p->name, &text, err));
	return complete(a, buf_str(&text), err);
}

static const char *packed_why_unnamed(struct place *p, const char *suffix)
{
	return place_index_why_unnamed(archive_of(p)->tag, suffix);
}

static void packed_free(struct place *p)
{
	struct archive_place *a = archive_of(p);

	if (a->tmp)
		unlink(a->tmp);
	if (a->fd >= 0)
		close(a->fd);
	vec_fini(&a->blobs);
	reg_manifest_free(a->index);
	free(a->tmp);
	free(a->file);
	free(a->tag);
	free(a->base.name);
	free(a);
}

static const struct place_ops ARCHIVE_OPS = {
    .get_root = packed_get_root,
    .open_blob = packed_open_blob,
    .has_blob = packed_has_blob,
    .begin_blob = packed_begin_blob,
    .put_manifest = packed_put_manifest,
    .put_named = packed_put_named,
    .why_unnamed = packed_why_unnamed,
    .free = packed_free,
};

int place_archive_open(const char *name, const char *file, const char *tag, bool writing, struct place **out,
                       struct err *err)
{
	AUTO(place) struct place *guard = NULL;
	struct archive_place *a = xcalloc(1, sizeof(*a));
	struct stat st;

	a->base = (struct place){.ops = &ARCHIVE_OPS, .name = xstrdup(name)};
	a->file = xstrdup(file);
	a->tag = tag ? xstrdup(tag) : NULL;
	a->fd = -1;
	guard = &a->base;
	if (!writing)
		TRY(open_reading(a, err));
	else if (stat(file, &st) == 0 && !S_ISREG(st.st_mode))
		return err_set(err, ERR_INVALID, "%s is there, and no file", file);
	*out = STEAL(guard);
	return 0;
}
