/*
 * Random stacks of layers for tests/integration/merge.sh, each twice: as tars, and as our merged tree of them.
 *
 *	merge_stacks DIR SEED...     DIR/SEED/{0.tar,1.tar,...} base first, DIR/SEED/image, DIR/SEED/objects/<2 hex>/<62 hex>
 *	merge_stacks --tars DIR SEED...      only the tars
 *	merge_stacks --trees DIR SEED...     the rest, of the tars that are there
 *
 * What the layers hold is testing/test_stack.h's; here they become tars as several writers spell them (pax, GNU, ustar,
 * V7; global headers, empty ones, sparse files in GNU's four forms, names with "./", with "/", with slashes too many), with what no tree may show strewn in: files that
 * mark lazy layers, bookkeeping of aufs, devices 0:0, xattrs of overlayfs, entries that a later one replaces. Headers are
 * put together here and not by tar/tar_write.c: who reads them in the test is GNU tar.
 */
#include "estargz/erofs/erofs.h"
#include "estargz/inflate/layer.h"
#include "estargz/testing/test_stack.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 512
#define TAR_BYTES_MAX (64u << 20)

/* ---- tars ---- */

enum dialect { PAX, GNU, USTAR };

struct tar {
	struct buf *out;
	uint32_t random;
};

static uint32_t one_of(struct tar *t, uint32_t n)
{
	t->random = t->random * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(t->random >> 4) * n >> 28);
}

/* Octal digits where they suffice, else GNU's base 256; false when the dialect has no such numbers. */
static bool put_number(char *field, size_t n, int64_t v, enum dialect d)
{
	if (v >= 0 && v >> (3 * (n - 1)) == 0) {
		field[--n] = '\0';
		for (; n-- > 0; v >>= 3)
			field[n] = (char)('0' + (v & 7));
		return true;
	}
	if (d != GNU)
		return false;
	for (size_t i = n; i-- > 0; v >>= 8)
		field[i] = (char)(v & 0xff);
	field[0] = (char)((field[0] & 0x7f) | 0x80);
	return true;
}

/* A header block as it is but for its checksum, and the content behind it. */
static void put_block(struct tar *t, char h[static BLOCK], struct str content)
{
	unsigned sum = 0;

	put_number(h + 124, 12, (int64_t)content.n, GNU);
	memset(h + 148, ' ', 8);
	for (int i = 0; i < BLOCK; i++)
		sum += (uint8_t)h[i];
	put_number(h + 148, 7, sum, USTAR);
	buf_add(t->out, h, BLOCK);
	buf_addstr(t->out, content);
	buf_addz(t->out, -content.n & (BLOCK - 1));
}

/* A header that describes the next one: pax records, or one of GNU's long names. */
static void put_meta(struct tar *t, char type, struct str content)
{
	char h[BLOCK] = "././@meta";

	memcpy(h + 257, type == 'L' || type == 'K' ? "ustar  " : "ustar\00000", 8);
	memcpy(h + 100, "0000644", 7);
	h[156] = type;
	put_block(t, h, content);
}

static void pax_record(struct buf *out, const char *key, struct str value)
{
	size_t body = strlen(key) + value.n + 3, n = body + 1;

	while (n != body + (size_t)snprintf(NULL, 0, "%zu", n))
		n = body + (size_t)snprintf(NULL, 0, "%zu", n);
	buf_addf(out, "%zu %s=", n, key);
	buf_addstr(out, value);
	buf_addc(out, '\n');
}

__attribute__((format(printf, 3, 4))) static void pax_text(struct buf *out, const char *key, const char *fmt, ...)
{
	AUTO(buf) struct buf text = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&text, fmt, ap);
	va_end(ap);
	pax_record(out, key, buf_str(&text));
}

/* "-1.25" is 1.25 s before 1970. */
static void pax_time(struct buf *out, const struct stack_entry *e)
{
	int64_t s = e->mtime_s;
	uint32_t ns = e->mtime_ns;
	bool before = s < 0;

	if (before && ns > 0) {
		s++;
		ns = 1000000000 - ns;
	}
	pax_text(out, "mtime", "%s%" PRIu64 ".%09u", before ? "-" : "", (uint64_t)(before ? -s : s), ns);
}

/* Names that fit a field lie there, others in the prefix where the dialect has one, in GNU's headers, or in pax records. */
static void put_name(struct tar *t, char *h, struct str name, enum dialect d, struct buf *pax)
{
	size_t at = name.n;

	if (d == USTAR && name.n > 100) {
		/* A slash in it, not at its end, that leaves at most 100 bytes behind itself. */
		at = name.n - 101;
		while (at < name.n - 1 && name.p[at] != '/')
			at++;
	}
	if (d == USTAR && at > 0 && at < name.n - 1 && at <= 155) {
		memcpy(h + 345, name.p, at);
		memcpy(h, name.p + at + 1, name.n - at - 1);
	} else {
		if (name.n > 100 && d == GNU)
			put_meta(t, 'L', str_make(name.p, name.n + 1));
		else if (name.n > 100 || (d == PAX && one_of(t, 3) == 0))
			pax_record(pax, "path", name);
		memcpy(h, name.p, name.n < 100 ? name.n : 100);
	}
}

static void put_link(struct tar *t, char *h, const char *link, enum dialect d, struct buf *pax)
{
	size_t n = strlen(link);

	if (n > 100 && d == GNU)
		put_meta(t, 'K', str_make(link, n + 1));
	else if (n > 100 || (d == PAX && one_of(t, 3) == 0))
		pax_record(pax, "linkpath", str_make(link, n));
	memcpy(h + 157, link, n < 100 ? n : 100);
}

/* A name as different writers spell it. */
static void spell(struct tar *t, const char *path, bool dir, struct buf *out)
{
	static const char *const before[] = {"", "", "", "./", "/", ".//"};

	buf_adds(out, before[one_of(t, ARRAY_LEN(before))]);
	for (const char *p = path; *p; p++) {
		buf_addc(out, *p);
		if (*p == '/' && one_of(t, 50) == 0)
			buf_adds(out, "./");
	}
	if (*path == '\0') {
		buf_clear(out);
		buf_adds(out, one_of(t, 2) ? "./" : ".");
	} else if (dir && one_of(t, 4)) {
		buf_addc(out, '/');
	}
}

static void put_numbers(char *h, const struct stack_entry *e, enum dialect d, struct buf *pax)
{
	put_number(h + 100, 8, e->mode, d);
	if (!put_number(h + 108, 8, e->uid, d))
		pax_text(pax, "uid", "%u", e->uid);
	if (!put_number(h + 116, 8, e->gid, d))
		pax_text(pax, "gid", "%u", e->gid);
	if (e->mtime_ns > 0 || !put_number(h + 136, 12, e->mtime_s, d))
		pax_time(pax, e);
	if (e->type == ESGZ_CHAR || e->type == ESGZ_BLOCK) {
		put_number(h + 329, 8, e->dev_major, d);
		put_number(h + 337, 8, e->dev_minor, d);
	}
}

/* Where the pieces of a sparse file lie. */
struct map {
	uint64_t at[4], bytes[4], size;
	unsigned n;
};

/* Up to three pieces of so many bytes with holes before, between and behind; an empty piece at the end as GNU tar has
 * it. All but the last are of whole blocks: GNU tar begins each in a new one. */
static struct map make_map(struct tar *t, uint64_t stored)
{
	struct map m = {0};

	for (unsigned pieces = 1 + one_of(t, 3); pieces > 0 && stored > 0; pieces--) {
		m.size += one_of(t, 3) * one_of(t, 9000);
		m.at[m.n] = m.size;
		m.bytes[m.n] = pieces == 1 ? stored : stored / 2 / BLOCK * BLOCK;
		stored -= m.bytes[m.n];
		m.size += m.bytes[m.n++];
	}
	m.size += one_of(t, 2) * one_of(t, 100000);
	m.at[m.n++] = m.size;
	return m;
}

static void put_gnu_map(char *h, const struct map *m)
{
	for (unsigned i = 0; i < m->n; i++) {
		put_number(h + 386 + 24 * i, 12, (int64_t)m->at[i], GNU);
		put_number(h + 386 + 24 * i + 12, 12, (int64_t)m->bytes[i], GNU);
	}
	put_number(h + 483, 12, (int64_t)m->size, GNU);
	h[156] = 'S';
}

/* Forms 0.0, 0.1 and 1.0, the last with its map before the content. */
static void put_pax_map(struct tar *t, const struct map *m, struct str name, struct buf *pax, struct buf *content)
{
	unsigned form = one_of(t, 3);
	AUTO(buf) struct buf list = BUF_INIT;

	pax_text(pax, form == 2 ? "GNU.sparse.realsize" : "GNU.sparse.size", "%" PRIu64, m->size);
	if (form == 2) {
		pax_text(pax, "GNU.sparse.major", "1");
		pax_text(pax, "GNU.sparse.minor", "0");
		buf_addf(&list, "%u\n", m->n);
	} else {
		pax_text(pax, "GNU.sparse.numblocks", "%u", m->n);
	}
	for (unsigned i = 0; i < m->n; i++) {
		if (form == 0) {
			pax_text(pax, "GNU.sparse.offset", "%" PRIu64, m->at[i]);
			pax_text(pax, "GNU.sparse.numbytes", "%" PRIu64, m->bytes[i]);
		} else {
			buf_addf(&list, form == 2 ? "%" PRIu64 "\n%" PRIu64 "\n" : "%" PRIu64 ",%" PRIu64 ",", m->at[i],
			         m->bytes[i]);
		}
	}
	if (form == 1)
		pax_record(pax, "GNU.sparse.map", str_make(list.p, list.n - 1));
	if (form > 0)
		pax_record(pax, "GNU.sparse.name", name);
	if (form == 2) {
		buf_addz(&list, -list.n & (BLOCK - 1));
		buf_addstr(&list, buf_str(content));
		buf_clear(content);
		buf_addstr(content, buf_str(&list));
	}
}

static void put_entry(struct tar *t, const struct stack_entry *e)
{
	static const char types[] = {[ESGZ_REG] = '0',  [ESGZ_DIR] = '5',   [ESGZ_SYMLINK] = '2', [ESGZ_HARDLINK] = '1',
	                             [ESGZ_CHAR] = '3', [ESGZ_BLOCK] = '4', [ESGZ_FIFO] = '6'};
	enum dialect d = (enum dialect)one_of(t, 3);
	AUTO(buf) struct buf name = BUF_INIT;
	AUTO(buf) struct buf link = BUF_INIT;
	AUTO(buf) struct buf pax = BUF_INIT;
	AUTO(buf) struct buf content = BUF_INIT;
	char h[BLOCK] = {0};

	spell(t, e->path, e->type == ESGZ_DIR, &name);
	put_name(t, h, buf_str(&name), d, &pax);
	if (e->type == ESGZ_HARDLINK)
		spell(t, e->link, false, &link);
	else if (e->link)
		buf_adds(&link, e->link);
	if (link.n > 0)
		put_link(t, h, link.p, d, &pax);
	put_numbers(h, e, d, &pax);
	for (uint32_t i = 0; i < e->n_xattrs; i++) {
		AUTO_FREE char *key = xasprintf("SCHILY.xattr.%s", e->xattrs[i].name);

		pax_record(&pax, key, buf_str(&e->xattrs[i].value));
	}
	if (e->type == ESGZ_REG)
		stack_content(&e->content, e->size, &content);
	h[156] = types[e->type];
	if (e->type == ESGZ_REG && one_of(t, 8) == 0) {
		const struct map m = make_map(t, content.n);

		if (d == GNU)
			put_gnu_map(h, &m);
		else
			put_pax_map(t, &m, buf_str(&name), &pax, &content);
	}
	if (pax.n > 0)
		put_meta(t, 'x', buf_str(&pax));

	memcpy(h + 257, d == GNU ? "ustar  " : "ustar\00000", 8);
	if (e->type == ESGZ_DIR && str_ends(buf_str(&name), STR("/")) && name.n <= 100 && one_of(t, 8) == 0) {
		h[156] = '\0'; /* V7: no magic, and the slash alone makes it a directory */
		memset(h + 257, 0, 8);
	}
	put_block(t, h, buf_str(&content));
}

/* What is in layers of some writers and must not be seen. */
static void put_noise(struct tar *t, unsigned number)
{
	static const char *const files[] = {".wh..wh.aufs",       ".wh..wh.plnk/94.17",    ".wh..wh.orph/x",
	                                    ".prefetch.landmark", ".no.prefetch.landmark", "stargz.index.json"};
	struct stack_entry e = {.type = ESGZ_REG, .mode = 0644, .size = one_of(t, 1000), .mtime_s = 1500000000};
	AUTO_FREE char *path = xasprintf("zero%u", number);

	e.content.b[0] = (uint8_t)number;
	switch (one_of(t, 4)) {
	case 0:
		e.path = (char *)files[one_of(t, ARRAY_LEN(files))];
		break;
	case 1:
		e.path = path;
		e.type = ESGZ_CHAR;
		break;
	case 2: /* of nothing */
		put_meta(t, one_of(t, 2) ? 'g' : 'x', STR_NONE);
		return;
	default:
		put_meta(t, 'g', STR("19 comment=nothing\n"));
		return;
	}
	put_entry(t, &e);
}

/* What the entry itself then replaces: an older content of the name. Not for links: one made to the older content would
 * mean the newer one here. */
static void put_forerunner(struct tar *t, const struct stack_entry *e)
{
	struct stack_entry older = {.type = ESGZ_REG, .path = e->path, .mode = 0600, .size = one_of(t, 700), .uid = 7};

	older.content.b[0] = 0x77;
	put_entry(t, &older);
}

static void make_tar(const struct stack_layer *l, uint32_t seed, struct buf *out)
{
	struct tar t = {.out = out, .random = seed * 2246822519u + 99};

	for (size_t i = 0; i < l->entries.n; i++) {
		struct stack_entry e = l->entries.p[i];

		if (one_of(&t, 12) == 0)
			put_noise(&t, (unsigned)i);
		if (e.type == ESGZ_REG && one_of(&t, 15) == 0)
			put_forerunner(&t, &e);
		if (e.n_xattrs < STACK_XATTRS_MAX && (e.type == ESGZ_DIR || e.type == ESGZ_REG) && one_of(&t, 15) == 0)
			e.xattrs[e.n_xattrs++] =
			    (struct stack_xattr){(char *)"trusted.overlay.opaque", {.p = (char *)"y", .n = 1}};
		put_entry(&t, &e);
	}
	/* Layers without an end are read; GNU tar wants something, though. */
	if (out->n == 0 || one_of(&t, 4))
		buf_addz(out, 2 * BLOCK);
}

/* ---- our tree ---- */

struct objects {
	const char *dir;
	struct buf content;
};

static void objects_fini(struct objects *o)
{
	buf_fini(&o->content);
}
DEFINE_AUTO_FINI(objects);

static int object_begin(void *arg, uint64_t size, struct err *err)
{
	buf_clear(&((struct objects *)arg)->content);
	return 0;
}

static int object_data(void *arg, struct str bytes, struct err *err)
{
	buf_addstr(&((struct objects *)arg)->content, bytes);
	return 0;
}

/* Without the care for a loss of power that the product takes. */
static int write_file(const char *path, struct str bytes, struct err *err)
{
	AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	return fd_write_all(fd, bytes, err);
}

static int object_end(void *arg, const struct digest *content, struct err *err)
{
	struct objects *o = arg;
	AUTO_FREE char *dir = NULL;
	AUTO_FREE char *path = NULL;
	char hex[65];

	digest_hex(content, hex);
	dir = xasprintf("%s/%.2s", o->dir, hex);
	path = xasprintf("%s/%s", dir, hex + 2);
	TRY(dir_make(dir, 0700, err));
	return write_file(path, buf_str(&o->content), err);
}

static int read_layer(struct objects *o, struct str tar, struct buf *index, struct err *err)
{
	const struct esgz_layer_sink sink = {.begin = object_begin, .data = object_data, .end = object_end, .arg = o};
	AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&sink);
	struct esgz_layer_result r;

	TRY(esgz_layer_feed(l, tar, err));
	TRY(esgz_layer_finish(l, &r, err));
	return esgz_layer_index(l, index, err);
}

static bool all_published(void *arg, const struct digest *content, uint64_t size)
{
	return true;
}

static int write_tars(const char *dir, uint32_t seed, struct err *err)
{
	AUTO(stack) struct stack s = {0};

	TRY(dir_make(dir, 0700, err));
	stack_random(&s, seed);
	for (size_t i = 0; i < s.layers.n; i++) {
		AUTO_FREE char *path = xasprintf("%s/%zu.tar", dir, i);
		AUTO(buf) struct buf tar = BUF_INIT;

		make_tar(&s.layers.p[i], seed + (uint32_t)i * 7919, &tar);
		TRY(write_file(path, buf_str(&tar), err));
	}
	return 0;
}

static int add_layer(struct objects *o, struct str tar, struct stack_image *im, struct err *err)
{
	struct buf *index = vec_add(&im->indexes);
	struct esgz_index *ix;

	TRY(read_layer(o, tar, index, err));
	TRY(esgz_index_open(buf_str(index), &ix, err));
	vec_push(&im->opened, ix);
	return 0;
}

static int write_tree(const char *dir, struct err *err)
{
	AUTO(stack_image) struct stack_image im = {0};
	AUTO_FREE char *objects = xasprintf("%s/objects", dir);
	AUTO_FREE char *image = xasprintf("%s/image", dir);
	AUTO(objects) struct objects o = {.dir = objects};

	TRY(dir_make(objects, 0700, err));
	for (size_t i = 0;; i++) {
		AUTO_FREE char *path = xasprintf("%s/%zu.tar", dir, i);
		AUTO(buf) struct buf tar = BUF_INIT;

		if (i > 0 && access(path, F_OK) != 0)
			break;
		TRY(file_read(AT_FDCWD, path, TAR_BYTES_MAX, &tar, err));
		TRY_WRAP(add_layer(&o, buf_str(&tar), &im, err), err, "%s", path);
	}
	TRY(esgz_tree_build((const struct esgz_index *const *)im.opened.p, (unsigned)im.opened.n, &im.tree, err));
	TRY(esgz_erofs_write(im.tree, all_published, NULL, &im.image, err));
	return write_file(image, buf_str(&im.image), err);
}

static int write_stack(const char *where, const char *seed, bool tars, bool tree, struct err *err)
{
	AUTO_FREE char *dir = xasprintf("%s/%s", where, seed);

	if (tars)
		TRY(write_tars(dir, (uint32_t)strtoul(seed, NULL, 10), err));
	return tree ? write_tree(dir, err) : 0;
}

int main(int argc, char **argv)
{
	bool tars = argc > 1 && !strcmp(argv[1], "--tars"), trees = argc > 1 && !strcmp(argv[1], "--trees");
	int first = tars || trees ? 2 : 1;
	struct err err = ERR_INIT;

	if (argc < first + 2) {
		fputs("usage: merge_stacks [--tars|--trees] DIR SEED...\n", stderr);
		return 2;
	}
	for (int i = first + 1; i < argc; i++)
		if (write_stack(argv[first], argv[i], !trees, !tars, &err) < 0) {
			fprintf(stderr, "merge_stacks: stack %s: %s\n", argv[i], err.msg);
			return 1;
		}
	return 0;
}
