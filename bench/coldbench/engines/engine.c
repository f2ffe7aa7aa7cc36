/* The table of engines. */
#include "bench/coldbench/engines/engine.h"

#include "bench/coldbench/engines/engines.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mount.h>

/* In the order in which reports name them: ours, ours as a snapshotter, then the peers. */
static const struct engine_kind *const KINDS[] = {
    &ENGINE_CONTENTD,
    &ENGINE_CONTENTD_PLAIN,
    &ENGINE_CONTENTD_EXACT,
    &ENGINE_CONTAINERD_CONTENTD,
    &ENGINE_CONTAINERD,
    &ENGINE_CONTAINERD_CRUN,
    &ENGINE_CONTAINERD_STARGZ,
    &ENGINE_PODMAN,
    NULL,
};

/* Made from these. */
static const struct engine_kind *added[8];
static size_t n_added;

static const char *const FORMS[] = {
    "gzip",       "zstd",       "estargz",         "estargz-64k",      "estargz-128k", "estargz-512k",
    "estargz-1m", "estargz-4m", "estargz-pack64k", "estargz-pack256k", "esgz",         "esgz-opt",
    "zstdchunked",
};

const struct engine_kind *engine_at(size_t i)
{
	return i < ARRAY_LEN(KINDS) ? KINDS[i] : NULL;
}

const struct engine_kind *engine_find(const char *name)
{
	for (size_t i = 0; KINDS[i]; i++)
		if (!strcmp(KINDS[i]->name, name))
			return KINDS[i];
	for (size_t i = 0; i < n_added; i++)
		if (!strcmp(added[i]->name, name))
			return added[i];
	return NULL;
}

void engine_add(const struct engine_kind *kind)
{
	assert(n_added < ARRAY_LEN(added));
	added[n_added++] = kind;
}

void engine_remove(const struct engine_kind *kind)
{
	for (size_t i = 0; i < n_added; i++)
		if (added[i] == kind)
			added[i--] = added[--n_added];
}

bool form_is_known(const char *form)
{
	for (size_t i = 0; i < ARRAY_LEN(FORMS); i++)
		if (!strcmp(FORMS[i], form))
			return true;
	return false;
}

int engine_umount(struct engine *e, const char *at, struct err *err)
{
	if (umount2(at, UMOUNT_NOFOLLOW))
		return err_errno(err, errno, "unmount %s of %s", at, e->kind->name);
	return 0;
}
