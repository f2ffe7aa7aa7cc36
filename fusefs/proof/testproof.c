#include "fusefs/proof/testproof.h"

#include "base/testing.h"
#include "fusefs/core.h"

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

void made_init(struct made *m, enum esgz_compression compression)
{
	*m = (struct made){.compression = compression, .split = esgz_split_writer_new(1)};
	test_layer_init(&m->l, "127.0.0.1:1/proof");
}

void made_add_tar(struct made *m, char type, const char *path, unsigned mode, struct str content)
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

void made_add_file(struct made *m, const char *path, unsigned mode, unsigned toc_mode, size_t size, unsigned seed)
{
	struct test_file t = {.path = xstrdup(path)};
	uint32_t x = seed;

	for (size_t i = 0; i < size; i++) {
		x = x * 1664525 + 1013904223;
		buf_addc(&t.content, (char)(x >> 24));
	}
	digest_of(t.content.p, t.content.n, &t.digest);
	t.blob_offset = toc_mode; /* until the blob is made */
	made_add_tar(m, '0', path, mode, buf_str(&t.content));
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

void made_ready(struct fixture *f, struct made *m)
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

void made_fini(struct fixture *f, struct made *m)
{
	layer_fini(f, &m->l);
	buf_fini(&m->tar);
	vec_fini(&m->cuts);
	esgz_split_writer_free(m->split);
}

void made_add_sample(struct made *m)
{
	char path[32];

	made_add_tar(m, '5', "bin/", 0755, STR_NONE);
	made_add_file(m, "bin/sh", 0755, 0755, 3 * CHUNK + 100, 1);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "bin/%u", i);
		made_add_file(m, path, 0644, 0644, 1 + 700 * i, i);
	}
	made_add_tar(m, '5', "etc/", 0755, STR_NONE);
	made_add_file(m, "etc/exact", 0640, 0640, 2 * CHUNK, 7);
}

void made_add_sample_dirs(struct made *m)
{
	struct err err;

	for (unsigned i = 0; i < 2; i++) {
		struct esgz_entry e = {.type = ESGZ_DIR, .mode = 0755, .path = i ? STR("etc") : STR("bin")};

		assert_int_equal(esgz_index_add(m->l.builder, &e, NULL, 0, NULL, 0, NULL, &err), 0);
	}
}

void made_sample(struct fixture *f, struct made *m, enum esgz_compression compression)
{
	made_init(m, compression);
	made_add_sample(m);
	made_add_sample_dirs(m);
	made_ready(f, m);
}

/* ---- looking ---- */

void status_of(struct fixture *f, const struct made *m, struct ffs_layer_status *st)
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

void assert_verdict(struct fixture *f, const struct made *m, enum ffs_verdict want, const char *reason)
{
	struct ffs_layer_status st = wait_verdict(f, m);

	if (st.verdict != want || !strstr(st.reason, reason))
		fail_msg("%s, \"%s\"; should be %s, \"%s\"", ffs_verdict_name(st.verdict), st.reason,
		         ffs_verdict_name(want), reason);
}

uint64_t fetched(struct fixture *f)
{
	uint64_t n;

	pthread_mutex_lock(&f->blobs.lock);
	n = f->blobs.bytes;
	pthread_mutex_unlock(&f->blobs.lock);
	return n;
}

void fill_all(struct fixture *f, struct made *m)
{
	struct fill_result x = {.r = RESULT_INIT};

	assert_int_equal(fill(f, &m->l, &x), ERR_OK);
}

void reopen(struct fixture *f)
{
	ffs_data_free(f->data);
	data_open(f);
}

int gaps_fd(struct fixture *f, const struct made *m, int flags)
{
	char hex[65];
	AUTO_FREE char *name = xasprintf("%s.gaps", digest_hex(&m->l.key, hex));

	return openat(ffs_store_dir(f->store, FFS_DIR_INDEX), name, flags | O_CLOEXEC);
}

off_t filled_unproven(struct fixture *f, struct made *m)
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

struct ffs_facts facts_of(struct fixture *f, const struct made *m)
{
	AUTO(ffs_source) struct ffs_source src = {0};
	struct err err;

	assert_int_equal(ffs_index_source(f->store, &m->l.key, &src, &err), 0);
	src.facts.difference = (free(src.facts.difference), NULL);
	return src.facts;
}

void prove_now(struct fixture *f, struct made *m)
{
	ffs_data_promise(f->data, &m->l.key, &m->diff_id);
	fill_all(f, m);
}
