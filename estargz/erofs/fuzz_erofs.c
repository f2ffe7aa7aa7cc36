/* Input: a metadata image; cut to whole blocks, which is what a file system gets to see. */
#include "estargz/erofs/erofs.h"

#include <stdlib.h>

struct walk {
	const struct esgz_erofs *fs;
	unsigned steps; /* bounds the work: directories of a damaged image may form a circle */
};

static void visit(struct walk *w, uint64_t nid);

static bool entry(void *arg, struct str name, uint64_t nid, uint32_t mode, uint64_t next)
{
	struct walk *w = arg;
	struct err err = ERR_INIT;
	uint64_t found;

	if (name.n == 0 || name.n > ESGZ_NAME_MAX || nid == 0)
		abort();
	if (w->steps++ > 2000)
		return false;
	esgz_erofs_lookup(w->fs, ESGZ_EROFS_ROOT, name, &found, &err);
	if (!str_eq(name, STR(".")) && !str_eq(name, STR("..")))
		visit(w, nid);
	return true;
}

static bool xattr(void *arg, struct str name, struct str value)
{
	struct walk *w = arg;

	if (str_starts(name, STR("trusted.overlay.")) || value.n > 65535)
		abort();
	return w->steps++ < 2000;
}

static void visit(struct walk *w, uint64_t nid)
{
	struct esgz_erofs_stat st;
	struct err err = ERR_INIT;
	struct digest key;
	struct str link;

	if (w->steps++ > 2000 || esgz_erofs_stat(w->fs, nid, &st, &err) < 0)
		return;
	esgz_erofs_readlink(w->fs, nid, &link, &err);
	esgz_erofs_object(w->fs, nid, &key, &err);
	esgz_erofs_xattrs(w->fs, nid, xattr, w, &err);
	esgz_erofs_readdir(w->fs, nid, 0, entry, w, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(esgz_erofs) struct esgz_erofs *fs = NULL;
	struct err err = ERR_INIT;
	struct walk w = {0};

	if (esgz_erofs_open(str_make(data, n / 4096 * 4096), &fs, &err) < 0)
		return 0;
	w.fs = fs;
	visit(&w, ESGZ_EROFS_ROOT);
	return 0;
}
