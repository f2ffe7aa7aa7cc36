/* Lazy layers held against their image, in the data plane: made of real tars, cut into members as eStargz does. */
#include "base/testing.h"
#include "estargz/tar/split.h"
#include "fusefs/core.h"
#include "fusefs/testdata.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

/* ---- layers ---- */

struct made {
	enum esgz_compression compression;
	struct buf tar;
	VEC(size_t) cuts; /* of the tar: where members begin */
	uint64_t offset;  /* of the first of them in the blob */
	struct digest diff_id;
	struct esgz_split_writer *split;
	bool with_split; /* its blob has the tar-split */
	size_t cut;      /* bytes that its blob lacks at the end of the tar */
	struct test_layer l;
};

static void made_init(struct made *m, enum esgz_compression compression)
{
	*m = (struct made){.compression = compression, .split = esgz_split_writer_new(1)};
	test_layer_init(&m->l, "127.0.0.1:1/proof");
}

/* An entry of the tar alone. */
static void add_tar(struct made *m, char type, const char *path, unsigned mode, struct str content)
{
	char h[512] = "";
	unsigned sum = 0;

	snprintf(h, 100, "%s", path);
	snprintf(h + 100, 8, "%07o", mode);
	snprintf(h + 124, 12, "%011zo", content.n);
	memset(h + 148, ' ', 8);
	h[156] = type;
	memcpy(h + 257, "ustar\00000", 8);
	for (unsigned i = 0; i < sizeof(h); i++)
		sum += (uint8_t)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	buf_add(&m->tar, h, sizeof(h));
	buf_addstr(&m->tar, content);
	buf_addz(&m->tar, -content.n & 511);
	OK(esgz_split_segment(m->split, str_make(h, sizeof(h)), err));
	OK(esgz_split_file(m->split, str_of(path), content.n, esgz_split_crc64(0, content), err));
	memset(h, 0, sizeof(h));
	OK(esgz_split_segment(m->split, str_make(h, -content.n & 511), err));
}

/* A file of tar and TOC, in chunks of CHUNK; `toc_mode` is what the TOC says. */
static void add_file(struct made *m, const char *path, unsigned mode, unsigned toc_mode, size_t size, unsigned seed)
{
	struct test_file t = {.path = xstrdup(path)};
	uint32_t x = seed;

	for (size_t i = 0; i < size; i++) {
		x = x * 1664525 + 1013904223;
		buf_addc(&t.content, (char)(x >> 24));
	}
	digest_of(t.content.p, t.content.n, &t.digest);
	t.blob_offset = toc_mode; /* until the blob is made */
	add_tar(m, '0', path, mode, buf_str(&t.content));
	for (size_t at = 0; at < size; at += CHUNK)
		vec_push(&m->cuts, m->tar.n - (size + 511) / 512 * 512 + at);
	vec_push(&m->l.files, t);
}

static void pack(struct made *m, struct str plain)
{
	if (m->compression == ESGZ_GZIP) {
		struct libdeflate_compressor *c = libdeflate_alloc_compressor(1);
		size_t room = libdeflate_gzip_compress_bound(c, plain.n);
		char *at = buf_reserve(&m->l.blob, room);

		m->l.blob.n += libdeflate_gzip_compress(c, plain.p, plain.n, at, room);
		libdeflate_free_compressor(c);
	} else {
		size_t room = ZSTD_compressBound(plain.n), n;

		n = ZSTD_compress(buf_reserve(&m->l.blob, room), room, plain.p, plain.n, 1);
		assert_false(ZSTD_isError(n));
		m->l.blob.n += n;
	}
}

static void index_file(struct made *m, struct test_file *t, const uint64_t *offsets)
{
	struct esgz_entry e = {.type = ESGZ_REG,
	                       .mode = (uint32_t)t->blob_offset,
	                       .path = str_of(t->path),
	                       .size = t->content.n,
	                       .content = t->digest};
	VEC(struct esgz_chunk) chunks = VEC_INIT;
	struct err err;

	t->blob_offset = offsets[0];
	for (size_t at = 0, i = 0; at < t->content.n; at += CHUNK, i++) {
		size_t n = t->content.n - at < CHUNK ? t->content.n - at : CHUNK;
		struct esgz_chunk c = {.blob_offset = offsets[i],
		                       .blob_bytes = offsets[i + 1] - offsets[i],
		                       .file_offset = at,
		                       .bytes = (uint32_t)n};

		digest_of(t->content.p + at, n, &c.digest);
		vec_push(&chunks, c);
	}
	assert_int_equal(esgz_index_add(m->l.builder, &e, NULL, 0, chunks.p, (uint32_t)chunks.n, NULL, &err), 0);
	esgz_claim_key(&t->digest, t->content.n, chunks.p, (uint32_t)chunks.n, &t->claim);
	vec_fini(&chunks);
}

/* In a skippable frame at the end of the blob. */
static void add_split(struct made *m, struct ffs_split *split)
{
	AUTO(buf) struct buf packed = BUF_INIT;
	char zeros[1024] = {0};

	OK(esgz_split_segment(m->split, str_make(zeros, sizeof(zeros)), err));
	OK(esgz_split_finish(m->split, &packed, &split->plain_bytes, err));
	buf_le32(&m->l.blob, 0x184d2a50);
	buf_le32(&m->l.blob, (uint32_t)packed.n);
	split->offset = m->l.blob.n;
	split->packed_bytes = packed.n;
	digest_of(packed.p, packed.n, &split->digest);
	buf_addstr(&m->l.blob, buf_str(&packed));
}

/* Makes blob and index, and has the source deliver it. */
static void made_ready(struct fixture *f, struct made *m)
{
	VEC(uint64_t) offsets = VEC_INIT;
	struct ffs_source source = {.reference = (char *)m->l.reference, .media_type = (char *)""};
	AUTO(buf) struct buf index = BUF_INIT;
	struct esgz_index_info info;
	struct err err;
	size_t chunk = 0;

	buf_addz(&m->tar, 1024);
	digest_of(m->tar.p, m->tar.n, &m->diff_id);
	m->tar.n -= m->cut;
	if (!m->cuts.n || m->cuts.p[0])
		pack(m, str_sub(buf_str(&m->tar), 0, m->cuts.n ? m->cuts.p[0] : SIZE_MAX));
	for (size_t i = 0; i < m->cuts.n; i++) {
		size_t until = i + 1 < m->cuts.n ? m->cuts.p[i + 1] : m->tar.n;

		vec_push(&offsets, m->l.blob.n);
		pack(m, str_sub(buf_str(&m->tar), m->cuts.p[i], until - m->cuts.p[i]));
	}
	vec_push(&offsets, m->l.blob.n);
	m->offset = offsets.p[0];
	if (m->with_split)
		add_split(m, &source.split);
	digest_of(m->l.blob.p, m->l.blob.n, &m->l.digest);
	vec_each(&m->l.files, t) {
		index_file(m, t, offsets.p + chunk);
		chunk += (t->content.n + CHUNK - 1) / CHUNK;
	}
	vec_fini(&offsets);
	info = (struct esgz_index_info){.blob = m->l.digest,
	                                .trusted = m->diff_id, /* of a TOC that nobody asks for */
	                                .trust = ESGZ_TRUST_TOC,
	                                .compression = m->compression,
	                                .blob_bytes = m->l.blob.n};
	assert_int_equal(esgz_index_finish(m->l.builder, &info, &index, &err), 0);
	esgz_index_key(ESGZ_TRUST_TOC, &info.blob, &info.trusted, &m->l.key);
	source.blob = m->l.digest;
	source.blob_bytes = m->l.blob.n;
	assert_int_equal(ffs_index_put(f->store, &m->l.key, buf_str(&index), STR_NONE, &source, true, &err), 0);
	test_blobs_add(&f->blobs, &m->l);
	assert_int_equal(ffs_data_add_layer(f->data, &m->l.key, &err), 0);
}

static void made_fini(struct fixture *f, struct made *m)
{
	layer_fini(f, &m->l);
	buf_fini(&m->tar);
	vec_fini(&m->cuts);
	esgz_split_writer_free(m->split);
}

/* Files of one chunk, of several, and an empty one, between directories. */
static void add_sample(struct made *m)
{
	char path[32];

	add_tar(m, '5', "bin/", 0755, STR_NONE);
	add_file(m, "bin/sh", 0755, 0755, 3 * CHUNK + 100, 1);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "bin/%u", i);
		add_file(m, path, 0644, 0644, 1 + 700 * i, i);
	}
	add_tar(m, '5', "etc/", 0755, STR_NONE);
	add_file(m, "etc/exact", 0640, 0640, 2 * CHUNK, 7);
}

static void add_sample_dirs(struct made *m)
{
	struct err err;

	for (unsigned i = 0; i < 2; i++) {
		struct esgz_entry e = {.type = ESGZ_DIR, .mode = 0755, .path = i ? STR("etc") : STR("bin")};

		assert_int_equal(esgz_index_add(m->l.builder, &e, NULL, 0, NULL, 0, NULL, &err), 0);
	}
}

static void sample(struct fixture *f, struct made *m, enum esgz_compression compression)
{
	made_init(m, compression);
	add_sample(m);
	add_sample_dirs(m);
	made_ready(f, m);
}

/* ---- looking ---- */

static void status_of(struct fixture *f, const struct made *m, struct ffs_layer_status *st)
{
	struct err err;

	assert_int_equal(ffs_data_layer_status(f->data, &m->l.key, true, st, &err), 0);
}

/* Waits until the prover has come to an end; a proof that never ends fails by the runner's time-out. */
static struct ffs_layer_status wait_verdict(struct fixture *f, const struct made *m)
{
	struct ffs_layer_status st;

	for (;;) {
		status_of(f, m, &st);
		if (st.verdict != FFS_UNPROVEN || st.reason[0])
			return st;
		usleep(1000);
	}
}

static void assert_verdict(struct fixture *f, const struct made *m, enum ffs_verdict want, const char *reason)
{
	struct ffs_layer_status st = wait_verdict(f, m);

	if (st.verdict != want || !strstr(st.reason, reason))
		fail_msg("%s, \"%s\"; should be %s, \"%s\"", ffs_verdict_name(st.verdict), st.reason,
		         ffs_verdict_name(want), reason);
}

static uint64_t fetched(struct fixture *f)
{
	uint64_t n;

	pthread_mutex_lock(&f->blobs.lock);
	n = f->blobs.bytes;
	pthread_mutex_unlock(&f->blobs.lock);
	return n;
}

static void fill_all(struct fixture *f, struct made *m)
{
	struct fill_result x = {.r = RESULT_INIT};

	assert_int_equal(fill(f, &m->l, &x), ERR_OK);
}

static void reopen(struct fixture *f)
{
	ffs_data_free(f->data);
	data_open(f);
}

static int gaps_fd(struct fixture *f, const struct made *m, int flags)
{
	char hex[65];
	AUTO_FREE char *name = xasprintf("%s.gaps", digest_hex(&m->l.key, hex));

	return openat(ffs_store_dir(f->store, FFS_DIR_INDEX), name, flags | O_CLOEXEC);
}

/* Filled, but nobody has promised a DiffID: its gaps are on disk. */
static off_t filled_unproven(struct fixture *f, struct made *m)
{
	AUTO_FD int fd = -1;
	struct stat st;
	struct err err;

	fill_all(f, m);
	reopen(f);
	assert_int_equal(ffs_data_add_layer(f->data, &m->l.key, &err), 0);
	fd = gaps_fd(f, m, O_RDONLY);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	return st.st_size;
}

/* ---- what is true ---- */

static void check_proven(struct fixture *f, enum esgz_compression compression, bool read_first)
{
	struct ffs_layer_status st;
	uint64_t head = 4096;
	struct made m;
	struct err err;
	int fd;

	if (read_first) {
		ffs_data_free(f->data);
		f->opts.background = FFS_BACKGROUND_ON;
		data_open(f);
	}
	sample(f, &m, compression);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	if (read_first)
		vec_each(&m.l.files, t)
			check_file(f, t);
	status_of(f, &m, &st);
	assert_int_equal(st.verdict, FFS_UNPROVEN);
	fill_all(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	/* Readers' requests overlap by what is fetched in one go. */
	assert_true(fetched(f) <= m.l.blob.n + head + (read_first ? m.l.blob.n * 3 / 4 : 0));
	status_of(f, &m, &st);
	assert_true(digest_eq(&st.diff_id, &m.diff_id));
	/* Known from then on, and its gaps are needed no more. */
	reopen(f);
	assert_int_equal(ffs_data_add_layer(f->data, &m.l.key, &err), 0);
	status_of(f, &m, &st);
	assert_int_equal(st.verdict, FFS_PROVEN);
	fd = gaps_fd(f, &m, O_RDONLY);
	assert_int_equal(fd, -1);
	made_fini(f, &m);
}

static void test_proven_gzip(void **state)
{
	check_proven(*state, ESGZ_GZIP, false);
}

static void test_proven_zstd(void **state)
{
	check_proven(*state, ESGZ_ZSTD, false);
}

static void test_proven_by_readers(void **state)
{
	check_proven(*state, ESGZ_GZIP, true);
}

/* The end of the tar is lost, and the configuration knows nothing of it. */
static void test_end_is_missing(void **state)
{
	struct fixture *f = *state;
	struct digest of_stream;
	struct made m;

	made_init(&m, ESGZ_ZSTD);
	m.cut = 1024;
	add_sample(&m);
	add_sample_dirs(&m);
	made_ready(f, &m);
	digest_of(m.tar.p, m.tar.n, &of_stream);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	fill_all(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_true(fetched(f) < m.l.blob.n + 4096);
	/* And one that does. */
	ffs_data_promise(f->data, &m.l.key, &of_stream);
	assert_verdict(f, &m, FFS_PROVEN, "");
	made_fini(f, &m);
}

/* Nothing is ever fetched of it but that. */
static void test_only_directories(void **state)
{
	struct fixture *f = *state;
	struct made m;

	made_init(&m, ESGZ_GZIP);
	add_tar(&m, '5', "bin/", 0755, STR_NONE);
	add_tar(&m, '5', "etc/", 0755, STR_NONE);
	add_sample_dirs(&m);
	made_ready(f, &m);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	ffs_data_set_pinned(f->data, &m.l.key, true);
	assert_verdict(f, &m, FFS_PROVEN, "");
	made_fini(f, &m);
}

static void test_switched_off(void **state)
{
	struct fixture *f = *state;
	struct ffs_layer_status st;
	struct made m;
	struct err err;

	ffs_data_free(f->data);
	f->opts.no_proof = true;
	data_open(f);
	sample(f, &m, ESGZ_GZIP);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	fill_all(f, &m);
	reopen(f);
	assert_int_equal(ffs_data_add_layer(f->data, &m.l.key, &err), 0);
	assert_int_equal(gaps_fd(f, &m, O_RDONLY), -1);
	status_of(f, &m, &st);
	assert_int_equal(st.verdict, FFS_UNPROVEN);
	made_fini(f, &m);
}

/* Known from its index: nothing is fetched or hashed for it. */
static void test_too_long(void **state)
{
	struct fixture *f = *state;
	struct made m;

	made_init(&m, ESGZ_GZIP);
	test_layer_add_sparse(&m.l, "hole", 0, 65ull << 30, 1);
	layer_ready(f, &m.l, 1);
	pthread_mutex_lock(&f->data->lock);
	layer_find(f->data, &m.l.key)->filled = true; /* hashing it takes minutes */
	pthread_mutex_unlock(&f->data->lock);
	digest_of("x", 1, &m.diff_id);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	assert_verdict(f, &m, FFS_UNPROVEN, "longer than 64 GiB");
	assert_int_equal(fetched(f), 0);
	made_fini(f, &m);
}

/* ---- what is false ---- */

static struct ffs_facts facts_of(struct fixture *f, const struct made *m)
{
	AUTO(ffs_source) struct ffs_source src = {0};
	struct err err;

	assert_int_equal(ffs_index_source(f->store, &m->l.key, &src, &err), 0);
	src.facts.difference = (free(src.facts.difference), NULL);
	return src.facts;
}

/* Who unpacks it gets a setuid file, who mounts it does not. */
static void test_two_views(void **state)
{
	struct fixture *f = *state;
	struct ffs_data_counters n;
	struct made m;

	made_init(&m, ESGZ_GZIP);
	add_sample(&m);
	add_file(&m, "bin/su", 04755, 0755, 5000, 9);
	add_sample_dirs(&m);
	made_ready(f, &m);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	fill_all(f, &m);
	assert_verdict(f, &m, FFS_FALSE, "bin/su: mode 0755 in the TOC, 4755 in the tar");
	assert_true(facts_of(f, &m).of_blob);
	ffs_data_counters(f->data, &n);
	assert_int_equal(n.proven_false, 1);
	made_fini(f, &m);
}

/* A file that only the tar has. */
static void test_hidden_file(void **state)
{
	struct fixture *f = *state;
	struct made m;

	made_init(&m, ESGZ_ZSTD);
	add_sample(&m);
	add_tar(&m, '0', "etc/shadow", 0600, STR("root::1:0:99999:7:::\n"));
	add_sample_dirs(&m);
	made_ready(f, &m);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	fill_all(f, &m);
	assert_verdict(f, &m, FFS_FALSE, "etc/shadow");
	made_fini(f, &m);
}

/* The configuration promises something else: said of the blob, which is fetched for it. Another configuration may be right. */
static void test_wrong_promise(void **state)
{
	struct fixture *f = *state;
	struct digest other;
	struct made m;

	sample(f, &m, ESGZ_GZIP);
	digest_of("x", 1, &other);
	ffs_data_promise(f->data, &m.l.key, &other);
	fill_all(f, &m);
	assert_verdict(f, &m, FFS_FALSE, "its DiffID is sha256:");
	assert_true(fetched(f) >= 2 * m.l.blob.n);
	ffs_data_promise(f->data, &m.l.key, &m.diff_id);
	assert_verdict(f, &m, FFS_PROVEN, "");
	made_fini(f, &m);
}

/* ---- gaps that are not there, or wrong ---- */

static void prove_now(struct fixture *f, struct made *m)
{
	ffs_data_promise(f->data, &m->l.key, &m->diff_id);
	fill_all(f, m);
}

/* The last of them are on disk when the layer is here, and not only when it is proven, or we end. */
static void test_gaps_are_kept(void **state)
{
	struct fixture *f = *state;
	struct stat st = {0};
	struct made m;

	sample(f, &m, ESGZ_GZIP);
	fill_all(f, &m);
	while (st.st_size == 0) {
		AUTO_FD int fd = gaps_fd(f, &m, O_RDONLY);

		if (fd >= 0)
			assert_int_equal(fstat(fd, &st), 0);
		usleep(1000);
	}
	made_fini(f, &m);
}

static void test_torn_log(void **state)
{
	struct fixture *f = *state;
	uint64_t before;
	struct made m;
	off_t size;
	int fd;

	sample(f, &m, ESGZ_GZIP);
	size = filled_unproven(f, &m);
	fd = gaps_fd(f, &m, O_RDWR);
	assert_int_equal(ftruncate(fd, size / 2), 0);
	close(fd);
	before = fetched(f);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_true(fetched(f) - before <= m.l.blob.n);
	made_fini(f, &m);
}

/* A log that checks and says what never was: it is found out, and the blob decides. */
static void wrong_gaps(struct fixture *f, struct made *m)
{
	struct layer *l = layer_find(f->data, &m->l.key);
	char lie[512] = "not what was there";

	gaps_add(l->gaps, 0, l->members[0].offset, 0, str_make(lie, sizeof(lie)));
}

static void test_wrong_gaps(void **state)
{
	struct fixture *f = *state;
	uint64_t before;
	struct made m;

	sample(f, &m, ESGZ_GZIP);
	filled_unproven(f, &m);
	wrong_gaps(f, &m);
	before = fetched(f);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_int_equal(fetched(f) - before, m.l.blob.n);
	made_fini(f, &m);
}

/* The tar as another one has it, which differs at `at` in the first header. */
static void forge(const struct made *m, size_t at, char c, struct buf *out, struct digest *diff_id)
{
	unsigned sum = 0;

	buf_addstr(out, buf_str(&m->tar));
	out->p[at] = c;
	memset(out->p + 148, ' ', 8);
	for (unsigned i = 0; i < 512; i++)
		sum += (uint8_t)out->p[i];
	snprintf(out->p + 148, 8, "%06o", sum);
	digest_of(out->p, out->n, diff_id);
}

/* A mirror sends headers that are not the blob's, and an image promises the stream that they make: whatever comes of that says
 * nothing to an image that promises what the blob is. */
static void check_forged(struct fixture *f, size_t at, char c, enum ffs_verdict of_liar)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct digest forged, honest;
	struct made m;
	struct err err;

	sample(f, &m, ESGZ_GZIP);
	filled_unproven(f, &m);
	forge(&m, at, c, &tar, &forged);
	gaps_add(layer_find(f->data, &m.l.key)->gaps, 0, m.offset, 0, str_sub(buf_str(&tar), 0, m.cuts.p[0]));
	honest = m.diff_id;
	m.diff_id = forged;
	prove_now(f, &m);
	assert_verdict(f, &m, of_liar, "");
	/* For the other image it is as if nobody had asked, also after a start. */
	assert_int_not_equal(ffs_data_verdict(f->data, &m.l.key, &honest, NULL), FFS_FALSE);
	reopen(f);
	assert_int_equal(ffs_data_add_layer(f->data, &m.l.key, &err), 0);
	assert_int_not_equal(ffs_data_verdict(f->data, &m.l.key, &honest, NULL), FFS_FALSE);
	m.diff_id = honest;
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_true(facts_of(f, &m).of_blob);
	assert_int_equal(ffs_data_verdict(f->data, &m.l.key, &forged, NULL), FFS_FALSE);
	made_fini(f, &m);
}

static void test_forged_names(void **state)
{
	check_forged(*state, 265, 'u', FFS_PROVEN); /* a user's name, which nobody looks at */
}

static void test_forged_tree(void **state)
{
	check_forged(*state, 104, '4', FFS_FALSE); /* mode 0455 */
}

/* Gaps that cannot be kept are no contents that cannot be kept. */
static void test_gaps_not_kept(void **state)
{
	struct fixture *f = *state;
	char hex[65];
	struct made m;

	sample(f, &m, ESGZ_GZIP);
	{
		AUTO_FREE char *name = xasprintf("%s.gaps", digest_hex(&m.l.key, hex));

		assert_int_equal(mkdirat(ffs_store_dir(f->store, FFS_DIR_INDEX), name, 0700), 0);
	}
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_true(f->data->disk_failed_ns == 0);
	made_fini(f, &m);
}

/* What a registry sends that does not have the blob proves nothing, neither way. */
static void test_registry_lies(void **state)
{
	struct fixture *f = *state;
	struct ffs_layer_status st;
	struct digest other;
	uint64_t before;
	unsigned i = 0;
	struct made m;

	sample(f, &m, ESGZ_GZIP);
	filled_unproven(f, &m);
	wrong_gaps(f, &m);
	pthread_mutex_lock(&f->blobs.lock);
	f->blobs.corrupt_at = 4; /* the time in a gzip header */
	f->blobs.corrupt_times = 1000;
	pthread_mutex_unlock(&f->blobs.lock);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_UNPROVEN, "the registry's copy has digest");
	/* Whoever promises something new has it fetched again, but not for ever. */
	before = fetched(f);
	do {
		digest_of(&i, sizeof(i), &other);
		i++;
		ffs_data_promise(f->data, &m.l.key, &other);
		usleep(1000);
		status_of(f, &m, &st);
	} while (!strstr(st.reason, "for nothing"));
	assert_true(fetched(f) - before <= 3 * m.l.blob.n);
	made_fini(f, &m);
}

/* Contents that came with other images are not fetched for it. */
static void test_too_much_is_missing(void **state)
{
	struct fixture *f = *state;
	uint64_t before;
	struct made m;
	int fd;

	made_init(&m, ESGZ_GZIP);
	add_sample(&m);
	add_sample_dirs(&m);
	for (unsigned i = 0; i < 4; i++) {
		char path[16];

		snprintf(path, sizeof(path), "big%u", i);
		add_file(&m, path, 0644, 0644, 24 * CHUNK, 77 + i);
	}
	made_ready(f, &m);
	assert_true(m.l.blob.n > 2u << 20);
	filled_unproven(f, &m);
	fd = gaps_fd(f, &m, O_RDWR);
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	before = fetched(f);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_UNPROVEN, "have not passed through here");
	assert_int_equal(fetched(f), before);
	made_fini(f, &m);
}

/* ---- a tar-split ---- */

/* A layer that is here, but did not pass through: its contents came with another one, as far as it can tell. */
static void came_with_others(struct fixture *f, struct made *m, unsigned toc_mode)
{
	int fd;

	made_init(m, ESGZ_ZSTD);
	m->with_split = true;
	add_sample(m);
	add_sample_dirs(m);
	for (unsigned i = 0; i < 4; i++) {
		char path[16];

		snprintf(path, sizeof(path), "big%u", i);
		add_file(m, path, 0644, i ? 0644 : toc_mode, 24 * CHUNK, 77 + i);
	}
	made_ready(f, m);
	filled_unproven(f, m);
	fd = gaps_fd(f, m, O_RDWR);
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
}

static void test_split(void **state)
{
	struct fixture *f = *state;
	uint64_t before;
	struct made m;

	came_with_others(f, &m, 0644);
	before = fetched(f);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	assert_true(fetched(f) > before && fetched(f) - before < m.l.blob.n / 64);
	assert_false(facts_of(f, &m).of_blob);
	made_fini(f, &m);
}

static void test_split_two_views(void **state)
{
	struct fixture *f = *state;
	struct made m;

	came_with_others(f, &m, 0755);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_FALSE, "big0: mode 0755 in the TOC, 0644 in the tar");
	assert_true(facts_of(f, &m).of_blob);
	made_fini(f, &m);
}

static void test_split_damaged(void **state)
{
	struct fixture *f = *state;
	uint64_t before;
	struct made m;

	came_with_others(f, &m, 0644);
	pthread_mutex_lock(&f->blobs.lock);
	f->blobs.corrupt_at = m.l.blob.n - 10;
	f->blobs.corrupt_times = 1;
	before = f->blobs.bytes;
	pthread_mutex_unlock(&f->blobs.lock);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_UNPROVEN, "copy of its tar-split has digest");
	assert_true(fetched(f) - before < m.l.blob.n / 64);
	made_fini(f, &m);
}

/* An object that is not what it was is no reason to say anything of the layer. */
static void test_split_without_object(void **state)
{
	struct fixture *f = *state;
	char path[FFS_OBJECT_PATH_MAX];
	const struct test_file *big;
	struct made m;

	came_with_others(f, &m, 0644);
	big = test_layer_file(&m.l, "big1");
	test_blobs_set_hold(&f->blobs, true);
	prove_now(f, &m);
	assert_int_equal(unlinkat(ffs_store_dir(f->store, FFS_DIR_OBJECTS), ffs_object_path(&big->claim, path), 0), 0);
	assert_int_equal(unlinkat(ffs_store_dir(f->store, FFS_DIR_OBJECTS), ffs_object_path(&big->digest, path), 0), 0);
	test_blobs_set_hold(&f->blobs, false);
	assert_verdict(f, &m, FFS_UNPROVEN, "big1");
	made_fini(f, &m);
}

/* ---- ends in between ---- */

static void stuck(struct fixture *f, struct made *m)
{
	unsigned before;

	sample(f, m, ESGZ_GZIP);
	filled_unproven(f, m);
	test_blobs_set_hold(&f->blobs, true);
	before = test_blobs_count(&f->blobs, &f->blobs.n_requests);
	prove_now(f, m);
	test_blobs_wait(&f->blobs, &f->blobs.n_requests, before + 1);
}

static void test_stop(void **state)
{
	struct fixture *f = *state;
	struct made m;
	struct err err;

	stuck(f, &m);
	ffs_data_free(f->data);
	test_blobs_set_hold(&f->blobs, false);
	data_open(f);
	assert_int_equal(ffs_data_add_layer(f->data, &m.l.key, &err), 0);
	prove_now(f, &m);
	assert_verdict(f, &m, FFS_PROVEN, "");
	made_fini(f, &m);
}

static void test_removed(void **state)
{
	struct fixture *f = *state;
	struct made m;

	stuck(f, &m);
	ffs_data_remove_layer(f->data, &m.l.key);
	test_blobs_wait(&f->blobs, &f->blobs.n_cancelled, 1);
	test_blobs_set_hold(&f->blobs, false);
	made_fini(f, &m);
}

/* A reader goes first, and the proof goes on after him. */
static void test_reader_goes_first(void **state)
{
	struct fixture *f = *state;
	struct made m, other;

	stuck(f, &m);
	sample_layer(&other.l);
	layer_ready(f, &other.l, 1);
	test_blobs_set_hold(&f->blobs, false);
	check_file(f, test_layer_file(&other.l, "tail"));
	assert_verdict(f, &m, FFS_PROVEN, "");
	layer_fini(f, &other.l);
	made_fini(f, &m);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
	const struct CMUnitTest tests[] = {
	    T(test_proven_gzip),
	    T(test_proven_zstd),
	    T(test_proven_by_readers),
	    T(test_end_is_missing),
	    T(test_only_directories),
	    T(test_switched_off),
	    T(test_two_views),
	    T(test_hidden_file),
	    T(test_wrong_promise),
	    T(test_gaps_are_kept),
	    T(test_torn_log),
	    T(test_wrong_gaps),
	    T(test_registry_lies),
	    T(test_too_much_is_missing),
	    T(test_stop),
	    T(test_removed),
	    T(test_reader_goes_first),
	    T(test_too_long),
	    T(test_forged_names),
	    T(test_forged_tree),
	    T(test_gaps_not_kept),
	    T(test_split),
	    T(test_split_two_views),
	    T(test_split_damaged),
	    T(test_split_without_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
