#include "fusefs/proof/tarview.h"

#include "estargz/tar/tar.h"
#include "estargz/toc/toc.h"

#include <stdlib.h>

#define REREAD_BYTES (1u << 20)
#define ZEROS_BYTES (1u << 20)
#define NO_ENTRY UINT32_MAX
#define BLOCK_BYTES 512

struct tarview {
	const struct esgz_index *toc;
	tarview_read_fn *read;
	tarview_go_on_fn *go_on;
	void *arg;
	struct hasher *stream, *file;
	struct esgz_tar *tar;
	struct esgz_index_builder *b;
	struct buf path;
	uint64_t bytes;
	struct err unreadable; /* why the tar is not read on; ERR_OK: it is */
	struct buf unlike; /* the first entry that the index takes in another way than who unpacks the tar, and how */
	struct err failed; /* what a callback could not do, which is not the tar's fault */

	/* What is being fed: a file's content, if entry is one, `base` being its byte `base_at`. */
	uint32_t entry;
	struct str base;
	uint64_t base_at;

	/* The file of the tar whose content is coming. Its bytes up to `got` are those of `is`, in order, or `file` has them. */
	struct esgz_tar_entry t;
	bool marker;
	uint32_t is;
	uint64_t got;
	bool hashed;
};

/* ---- the tar ---- */

/* What aufs left in the root is in nobody's tree. */
#define AUFS STR(".wh..wh.")

static int add_entry(struct tarview *v, const struct esgz_tar_entry *t, struct err *err)
{
	struct str path = buf_str(&v->path);
	const char *dropped;

	TRY(esgz_index_add(v->b, &t->e, t->xattrs, t->n_xattrs, NULL, 0, &dropped, err));
	if (dropped && !v->unlike.n && !str_starts(path, AUFS))
		buf_addf(&v->unlike, STR_FMT ": %s", STR_ARG(path), dropped);
	return 0;
}

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct tarview *v = arg;

	TRY(esgz_path_clean(t->e.path, &v->path, err));
	v->marker = esgz_is_marker(buf_str(&v->path));
	if (t->e.type != ESGZ_REG)
		return v->marker ? 0 : add_entry(v, t, err);
	v->t = *t;
	v->is = NO_ENTRY;
	v->got = 0;
	v->hashed = false;
	return 0;
}

/* Where in its file a piece of what is being fed lies. The tar reader gives content as it lies there; zeros of
 * holes lie elsewhere. */
static bool lies_at(const struct tarview *v, struct str bytes, uint64_t *at)
{
	uintptr_t from = (uintptr_t)v->base.p, here = (uintptr_t)bytes.p;

	if (v->entry == NO_ENTRY || here < from || here - from > v->base.n || bytes.n > v->base.n - (here - from))
		return false;
	*at = v->base_at + (here - from);
	return true;
}

/* The file is not the one that it seemed to be, or is none of the TOC: what came of it is hashed after all. */
static int begin_hash(struct tarview *v, struct err *err)
{
	AUTO_FREE uint8_t *bytes = v->got ? xmalloc(REREAD_BYTES) : NULL;

	hasher_reset(v->file);
	for (uint64_t at = 0; at < v->got;) {
		size_t n = v->got - at < REREAD_BYTES ? (size_t)(v->got - at) : REREAD_BYTES;

		if (v->read(v->arg, v->is, at, bytes, n, err) < 0) {
			v->failed = *err;
			return -(int)err->code;
		}
		hasher_add(v->file, bytes, n);
		at += n;
	}
	v->hashed = true;
	return 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct tarview *v = arg;

	if (v->marker)
		return 0;
	if (!v->hashed) {
		uint64_t at;

		if (v->got == 0)
			v->is = v->entry;
		if (!lies_at(v, bytes, &at) || v->entry != v->is || at != v->got)
			TRY(begin_hash(v, err));
	}
	if (v->hashed)
		hasher_add(v->file, bytes.p, bytes.n);
	v->got += bytes.n;
	return 0;
}

static int on_hole(void *arg, uint64_t bytes, struct err *err)
{
	static const char zeros[ZEROS_BYTES];
	struct tarview *v = arg;

	if (v->marker)
		return 0;
	for (uint64_t n; bytes > 0; bytes -= n) {
		n = bytes < sizeof(zeros) ? bytes : sizeof(zeros);
		if (v->go_on(v->arg, err) < 0) {
			v->failed = *err;
			return -(int)err->code;
		}
		TRY(on_data(v, str_make(zeros, (size_t)n), err));
	}
	return 0;
}

static int on_end(void *arg, struct err *err)
{
	struct tarview *v = arg;
	struct esgz_entry *e = &v->t.e, toc = {0};

	if (v->marker)
		return 0;
	if (!v->hashed && v->is != NO_ENTRY) {
		esgz_index_entry(v->toc, v->is, &toc);
		if (toc.size != v->got)
			TRY(begin_hash(v, err));
	}
	if (v->hashed)
		hasher_done(v->file, &e->content);
	else
		e->content = e->size ? toc.content : DIGEST_EMPTY;
	return add_entry(v, &v->t, err);
}

/* ---- life ---- */

struct tarview *tarview_new(const struct esgz_index *toc, tarview_read_fn *read, tarview_go_on_fn *go_on, void *arg)
{
	struct tarview *v = xcalloc(1, sizeof(*v));
	const struct esgz_tar_sink sink = {
	    .entry = on_entry, .data = on_data, .hole = on_hole, .end = on_end, .arg = v};

	v->toc = toc;
	v->read = read;
	v->go_on = go_on;
	v->arg = arg;
	v->stream = hasher_new();
	v->file = hasher_new();
	v->tar = esgz_tar_new(&sink);
	v->b = esgz_index_builder_new();
	v->entry = NO_ENTRY;
	return v;
}

void tarview_free(struct tarview *v)
{
	if (!v)
		return;
	hasher_free(v->stream);
	hasher_free(v->file);
	esgz_tar_free(v->tar);
	esgz_index_builder_free(v->b);
	buf_fini(&v->path);
	buf_fini(&v->unlike);
	free(v);
}

int tarview_feed(struct tarview *v, struct str bytes, struct err *err)
{
	hasher_add(v->stream, bytes.p, bytes.n);
	v->bytes += bytes.n;
	if (v->unreadable.code == ERR_OK)
		esgz_tar_feed(v->tar, bytes, &v->unreadable);
	if (v->failed.code != ERR_OK)
		return err_set(err, v->failed.code, "%s", v->failed.msg);
	return 0;
}

int tarview_feed_content(struct tarview *v, uint32_t entry, uint64_t at, struct str bytes, struct err *err)
{
	int r;

	v->entry = entry;
	v->base = bytes;
	v->base_at = at;
	r = tarview_feed(v, bytes, err);
	v->entry = NO_ENTRY;
	return r;
}

/* ---- the end ---- */

static int tree_of_tar(struct tarview *v, struct buf *file, struct esgz_index **out, struct err *err)
{
	struct esgz_index_info info = *esgz_index_get_info(v->toc);
	struct str late;

	info.trust = ESGZ_TRUST_DIFFID;
	TRY(esgz_tar_finish(v->tar, err));
	TRY(esgz_index_finish(v->b, &info, file, err));
	late = esgz_index_late_link(v->b);
	if (late.n && !v->unlike.n)
		buf_addf(&v->unlike, STR_FMT ": hard link to a file that comes behind it", STR_ARG(late));
	return esgz_index_open(buf_str(file), out, err);
}

static void find_diff_ids(struct tarview *v, struct tarview_result *out)
{
	static const char zeros[BLOCK_BYTES];

	hasher_peek(v->stream, &out->diff_id);
	for (unsigned i = 0; i < FFS_PADDED_MAX; i++) {
		hasher_add(v->stream, zeros, sizeof(zeros));
		hasher_peek(v->stream, &out->padded[i]);
	}
}

bool tarview_is_good(const struct tarview_result *r, const struct digest *promised)
{
	return ffs_promise_fits(promised, &r->diff_id, r->padded) && r->tree != FFS_TREE_DIFFERS;
}

int tarview_finish(struct tarview *v, struct tarview_result *out, struct err *err)
{
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *tar = NULL;

	*out = (struct tarview_result){.bytes = v->bytes};
	find_diff_ids(v, out);
	if (v->unreadable.code == ERR_OK)
		tree_of_tar(v, &file, &tar, &v->unreadable);
	if (v->failed.code != ERR_OK)
		return err_set(err, v->failed.code, "%s", v->failed.msg);
	if (!tar) {
		buf_addf(&out->difference, "its tar cannot be read: %s", v->unreadable.msg);
		return 0;
	}
	if (esgz_index_compare(v->toc, "TOC", tar, "tar", ESGZ_SAME_TOC_TIMES | ESGZ_SAME_EMPTY_XATTRS,
	                       &out->difference))
		out->tree = FFS_TREE_DIFFERS;
	else if (v->unlike.n)
		buf_addstr(&out->difference, buf_str(&v->unlike));
	else
		out->tree = FFS_TREE_SAME;
	return 0;
}
