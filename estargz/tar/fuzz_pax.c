/*
 * Input: pax records. What can be read has values within their bounds, and reads the same in two halves, cut between
 * records wherever that may be.
 */
#include "estargz/tar/tar_pax.h"

#include "base/buf.h"

#include <stdlib.h>

static void check_time(const struct esgz_tar_time *t)
{
	if (t->given && t->ns > 999999999)
		abort();
}

static void check(const struct pax *p)
{
	check_time(&p->mtime);
	check_time(&p->atime);
	check_time(&p->ctime);
	if (p->xattrs.n > ESGZ_XATTRS_MAX || p->sparse.extents.n > ESGZ_EXTENTS_MAX ||
	    (p->has_size && p->size > INT64_MAX))
		abort();
	for (size_t i = 0; i < p->xattrs.n; i++)
		for (size_t j = 0; j < i; j++)
			if (str_eq(p->xattrs.p[i].name, p->xattrs.p[j].name))
				abort();
}

static bool same(const struct pax *a, const struct pax *b)
{
	return str_eq(a->path, b->path) && str_eq(a->link, b->link) && a->has_size == b->has_size &&
	       a->size == b->size && a->has_uid == b->has_uid && a->uid == b->uid && a->mtime.given == b->mtime.given &&
	       a->mtime.s == b->mtime.s && a->mtime.ns == b->mtime.ns && a->xattrs.n == b->xattrs.n &&
	       a->sparse.seen == b->sparse.seen && a->sparse.extents.n == b->sparse.extents.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str in = str_make(data, n);
	AUTO(pax) struct pax whole = {0};
	struct err err = ERR_INIT;

	if (n > 4096 || pax_parse(&whole, in, &err) < 0)
		return 0;
	check(&whole);
	for (size_t at = 1; at < n; at++) {
		AUTO(pax) struct pax halves = {0};

		if (in.p[at - 1] != '\n' || pax_parse(&halves, str_sub(in, 0, at), &err) < 0 ||
		    pax_parse(&halves, str_sub(in, at, n), &err) < 0)
			continue;
		if (!same(&whole, &halves))
			abort();
	}
	return 0;
}
