/* The table of engines. */
#include "bench/coldbench/engine.h"

#include "bench/coldbench/engines/engines.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>

/* In the order in which reports name them: ours, ours as a snapshotter, then the peers. */
static const struct engine_kind *const KINDS[] = {
    &ENGINE_CONTENTD,
    &ENGINE_CONTENTD_PLAIN,
    &ENGINE_CONTAINERD_CONTENTD,
    &ENGINE_CONTAINERD,
    &ENGINE_CONTAINERD_CRUN,
    &ENGINE_CONTAINERD_STARGZ,
    &ENGINE_PODMAN,
    NULL,
};

static const char *const FORMS[] = {"gzip", "zstd", "estargz", "esgz", "esgz-opt", "zstdchunked"};

const struct engine_kind *engine_at(size_t i)
{
	return i < ARRAY_LEN(KINDS) ? KINDS[i] : NULL;
}

const struct engine_kind *engine_find(const char *name)
{
	for (size_t i = 0; KINDS[i]; i++)
		if (!strcmp(KINDS[i]->name, name))
			return KINDS[i];
	return NULL;
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
