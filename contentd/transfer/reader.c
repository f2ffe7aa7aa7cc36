#include "contentd/transfer/reader.h"

#include "contentd/transfer/archive.h"
#include "estargz/index/index.h"

#define ENTRIES_MAX 100000
#define LINKS_MAX 16
/* gzip makes at most a thousandth of its input; what people pack, a tenth. Beyond the allowance an archive that grows
 * more than this is one that was made to fill a disk. */
#define GROWTH_MAX 200
#define GROWTH_FREE_BYTES (256ull << 20)

static bool is_blob_known(struct cd_archive_reader *r, const struct digest *d, uint64_t bytes)
{
	char text[DIGEST_TEXT_MAX];
	AUTO_FD int fd = -1;
	int64_t have;

	/* Before it is looked at: the collector leaves it alone from here on. */
	cd_use_blob_for_call(r->t->d, r->t->call, r->t->ns, digest_text(d, text));
	return cd_blob_open(r->t->d->content, d, &fd, &have, NULL) == 0 && (uint64_t)have == bytes &&
	       cd_meta_has(r->t->d->meta, CD_CONTENT, r->t->ns, str_of(text), NULL) > 0;
}

/* ---- entries ---- */

static void put_file(struct cd_archive_reader *r, const struct digest *d, int64_t bytes)
{
	struct cd_archive_file *f = xcalloc(1, sizeof(*f));

	*f = (struct cd_archive_file){*d, bytes};
	free(map_put(&r->files, buf_str(&r->name), f));
}

static int put_link(struct cd_archive_reader *r, struct str target, struct err *err)
{
	AUTO(buf) struct buf path = BUF_INIT;
	AUTO(buf) struct buf clean = BUF_INIT;
	ptrdiff_t slash = str_rfind(buf_str(&r->name), '/');

	if (slash >= 0 && !str_starts(target, STR("/")))
		buf_addstr(&path, str_sub(buf_str(&r->name), 0, (size_t)slash + 1));
	buf_addstr(&path, target);
	TRY(esgz_path_clean(buf_str(&path), &clean, err));
	free(map_put(&r->links, buf_str(&r->name), buf_steal(&clean)));
	return 0;
}

static int open_document(struct cd_archive_reader *r, struct buf *document, bool *has, uint64_t bytes, struct err *err)
{
	if (bytes > CD_ARCHIVE_DOCUMENT_MAX)
		return err_set(err, ERR_EXHAUSTED, "%s of %llu bytes", buf_cstr(&r->name), (unsigned long long)bytes);
	buf_clear(document);
	*has = true;
	r->document = document;
	return 0;
}

static int open_file(struct cd_archive_reader *r, uint64_t bytes, struct err *err)
{
	struct str name = buf_str(&r->name);
	struct digest d;

	r->document = NULL;
	r->skipped = false;
	if (str_eqc(name, "oci-layout"))
		return open_document(r, &r->layout, &r->has_layout, bytes, err);
	if (str_eqc(name, "manifest.json"))
		return open_document(r, &r->images, &r->has_images, bytes, err);
	if (cd_archive_blob_name(name, &d) && is_blob_known(r, &d, bytes)) {
		put_file(r, &d, (int64_t)bytes);
		r->skipped = true;
		return 0;
	}
	return cd_deposit_begin(&r->deposit, r->t, err);
}

static int count_plain(struct cd_archive_reader *r, uint64_t bytes, struct err *err)
{
	r->plain_bytes += bytes;
	if (r->plain_bytes > GROWTH_FREE_BYTES && r->plain_bytes / GROWTH_MAX > r->packed_bytes)
		return err_set(err, ERR_EXHAUSTED, "the archive grows to more than %d times its size", GROWTH_MAX);
	return 0;
}

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct cd_archive_reader *r = arg;

	if (++r->n_entries > ENTRIES_MAX)
		return err_set(err, ERR_EXHAUSTED, "more than %d entries", ENTRIES_MAX);
	TRY(esgz_path_clean(t->e.path, &r->name, err));
	/* What is stored of a sparse file has its place in the stream; this is the rest, and a little more. */
	if (t->sparse)
		TRY(count_plain(r, t->e.size, err));
	if (t->e.type == ESGZ_SYMLINK)
		TRY(put_link(r, t->e.link, err));
	return t->e.type == ESGZ_REG ? open_file(r, t->e.size, err) : 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct cd_archive_reader *r = arg;

	if (r->skipped)
		return 0;
	if (r->document) {
		buf_addstr(r->document, bytes);
		return 0;
	}
	return cd_deposit_write(&r->deposit, bytes, err);
}

static int on_end(void *arg, struct err *err)
{
	struct cd_archive_reader *r = arg;
	int64_t bytes = r->deposit.bytes;
	struct digest want, got;

	if (r->skipped || r->document)
		return 0;
	TRY_WRAP(cd_deposit_end(&r->deposit, cd_archive_blob_name(buf_str(&r->name), &want) ? &want : NULL, &got, err),
	         err, "archive entry %s", buf_cstr(&r->name));
	put_file(r, &got, bytes);
	return 0;
}

/* ---- the whole ---- */

void cd_archive_reader_init(struct cd_archive_reader *r, struct cd_transfer *t)
{
	const struct esgz_tar_sink sink = {.entry = on_entry, .data = on_data, .end = on_end, .arg = r};

	*r = (struct cd_archive_reader){.t = t};
	r->stream = esgz_stream_new();
	r->tar = esgz_tar_new(&sink);
}

static void free_values(struct map *m)
{
	struct str key;
	void *value;
	size_t at = 0;

	while (map_next(m, &at, &key, &value))
		free(value);
	map_fini(m);
}

void cd_archive_reader_fini(struct cd_archive_reader *r)
{
	cd_deposit_fini(&r->deposit);
	esgz_tar_free(r->tar);
	esgz_stream_free(r->stream);
	free_values(&r->files);
	free_values(&r->links);
	buf_fini(&r->layout);
	buf_fini(&r->images);
	buf_fini(&r->name);
}

static int on_plain(void *arg, struct str plain, struct err *err)
{
	struct cd_archive_reader *r = arg;

	TRY(count_plain(r, plain.n, err));
	return esgz_tar_feed(r->tar, plain, err);
}

int cd_archive_reader_feed(struct cd_archive_reader *r, struct str bytes, struct err *err)
{
	r->packed_bytes += bytes.n;
	return esgz_stream_feed(r->stream, bytes, on_plain, r, err);
}

int cd_archive_reader_finish(struct cd_archive_reader *r, struct err *err)
{
	TRY(esgz_stream_finish(r->stream, err));
	return esgz_tar_finish(r->tar, err);
}

const struct cd_archive_file *cd_archive_reader_find(const struct cd_archive_reader *r, struct str name)
{
	AUTO(buf) struct buf clean = BUF_INIT;
	const struct cd_archive_file *f;
	const char *link;

	if (esgz_path_clean(name, &clean, NULL) < 0)
		return NULL;
	name = buf_str(&clean);
	for (int i = 0; i < LINKS_MAX; i++) {
		f = map_get(&r->files, name);
		link = f ? NULL : map_get(&r->links, name);
		if (!link)
			return f;
		name = str_of(link);
	}
	return NULL;
}
