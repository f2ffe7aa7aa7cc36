/* A proof by a tar-split: header bytes that the TOC vouches for, and objects, whoever brought them. */
#include "fusefs/proof/proof.h"

#include "base/map.h"
#include "estargz/tar/split.h"

#include <stdlib.h>

#define PACKED_BYTES_MAX (32u << 20) /* ten times that of 100 000 files */

struct by_split {
	struct proof *p;
	struct buf packed;
	struct map entries; /* path -> number + 1, of regular files with content */
	struct buf path;
	bool in_file;
	uint32_t entry; /* that file's */
	uint64_t at;
	bool failed; /* to read or to go on: nothing that the tar-split is to blame for */
};

static void by_split_fini(struct by_split *s)
{
	buf_fini(&s->packed);
	map_fini(&s->entries);
	buf_fini(&s->path);
}
DEFINE_AUTO_FINI(by_split);

static int on_fetched(void *arg, struct str bytes, struct err *err)
{
	struct by_split *s = arg;

	buf_addstr(&s->packed, bytes);
	return 0;
}

static int fetch(struct by_split *s, const struct ffs_split *where, struct err *err)
{
	char have[DIGEST_TEXT_MAX], want[DIGEST_TEXT_MAX];
	struct digest got;

	if (where->packed_bytes > PACKED_BYTES_MAX)
		return err_set(err, ERR_OUT_OF_RANGE, "its tar-split has %llu bytes",
		               (unsigned long long)where->packed_bytes);
	TRY(range_stream(s->p->d, s->p->l, where->offset, where->offset + where->packed_bytes, on_fetched, s, err));
	digest_of(s->packed.p, s->packed.n, &got);
	if (!digest_eq(&got, &where->digest))
		return err_set(err, ERR_DATA_LOSS, "the registry's copy of its tar-split has digest %s, should be %s",
		               digest_text(&got, have), digest_text(&where->digest, want));
	return 0;
}

static void list_entries(struct by_split *s)
{
	const struct layer *l = s->p->l;
	struct esgz_entry e;

	for (uint32_t i = 0; i < l->info->n_entries; i++) {
		esgz_index_entry(l->ix, i, &e);
		if (e.type == ESGZ_REG && e.size > 0)
			map_put(&s->entries, e.path, (void *)((uintptr_t)i + 1));
	}
}

/* ---- the tar again ---- */

static int copy_object(struct by_split *s, uint64_t size, esgz_put_fn put, void *to, struct err *err)
{
	struct proof *p = s->p;

	for (s->at = 0; s->at < size;) {
		size_t n = size - s->at < PROOF_READ_BYTES ? (size_t)(size - s->at) : PROOF_READ_BYTES;

		if (proof_read_entry(p, s->entry, s->at, p->bytes, n, err) < 0) {
			s->failed = true;
			return -(int)err->code;
		}
		TRY(put(to, str_make(p->bytes, n), err));
		s->at += n;
	}
	return 0;
}

static int on_content(void *arg, const struct esgz_split_file *f, esgz_put_fn put, void *to, struct err *err)
{
	struct by_split *s = arg;
	struct esgz_entry e;
	uintptr_t found;
	int r;

	TRY(esgz_path_clean(f->name, &s->path, err));
	found = (uintptr_t)map_get(&s->entries, buf_str(&s->path));
	if (!found)
		return err_set(err, ERR_DATA_LOSS, "the TOC has no such file");
	s->entry = (uint32_t)(found - 1);
	esgz_index_entry(s->p->l->ix, s->entry, &e);
	if (e.size != f->size)
		return err_set(err, ERR_DATA_LOSS, "the TOC has it with another size");
	s->in_file = true;
	r = copy_object(s, f->size, put, to, err);
	s->in_file = false;
	return r;
}

static int on_tar(void *to, struct str bytes, struct err *err)
{
	struct by_split *s = to;
	int r = s->in_file ? proof_feed_content(s->p, s->entry, s->at, bytes, err) : proof_feed(s->p, bytes, err);

	s->failed |= r < 0;
	return r;
}

int proof_by_split(struct proof *p, struct tarview_result *out, struct err *err)
{
	AUTO(by_split) struct by_split s = {.p = p, .packed = BUF_INIT, .entries = MAP_INIT, .path = BUF_INIT};
	const struct ffs_split *where = &p->l->source.split;
	const struct esgz_split_contents contents = {.content = on_content, .arg = &s};
	struct err why = ERR_INIT;

	TRY(fetch(&s, where, err));
	list_entries(&s);
	proof_begin(p);
	if (esgz_split_assemble(buf_str(&s.packed), &where->digest, where->plain_bytes, &contents, on_tar, &s, &why) <
	    0) {
		if (s.failed)
			return err_set(err, why.code, "%s", why.msg);
		log_info("layer of %s: %s", layer_reference(p->l), why.msg);
		return 0;
	}
	TRY(tarview_finish(p->view, out, err));
	return tarview_is_good(out, &p->promised);
}
