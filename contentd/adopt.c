#include "contentd/adopt.h"

#include "contentd/collect/store.h"
#include "contentd/content/blobs.h"
#include "contentd/ident.h"
#include "contentd/layer_index.h"

struct adopting {
	struct cd_daemon *d;
	struct rpc_call *call;
	struct snap_store *snaps;
	struct snap_space space;
	const char *target, *parent;
	VEC(char *) namespaces;
};

static void adopting_fini(struct adopting *a)
{
	vec_each(&a->namespaces, ns)
		free(*ns);
	vec_fini(&a->namespaces);
}
DEFINE_AUTO_FINI(adopting);

static int note_namespace(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct adopting *a = arg;

	if (strcmp(ns, a->space.ns))
		vec_push(&a->namespaces, xstrdup(ns));
	return 0;
}

static bool parent_is_here(struct adopting *a)
{
	AUTO(snap_info) struct snap_info info = {0};

	return !*a->parent || (snap_stat(a->snaps, a->space, a->parent, &info, NULL) >= 0 &&
	                       info.kind == SNAP_COMMITTED && !info.has_dir);
}

/* The contents, not the name, say that this is the layer. One that was pulled lazily does not count, though it may have been
 * proven since: what is lost of it on disk is fetched again, by the account of whoever opened it
 * (docs/decisions/accounts.md), and whoever adopts has shown nobody that he may read there. */
static bool is_the_layer(struct adopting *a, const struct snap_info *info)
{
	struct esgz_index_info index;
	char chain[DIGEST_TEXT_MAX];

	if (info->kind != SNAP_COMMITTED || !info->indexed || info->has_dir || strcmp(info->parent, a->parent) ||
	    strlen(a->parent) >= DIGEST_TEXT_MAX || cd_layer_index_info(a->d, &info->index_key, &index, NULL) < 0 ||
	    index.trust != ESGZ_TRUST_DIFFID)
		return false;
	cd_chain_id(a->parent, &index.trusted, chain);
	return !strcmp(chain, a->target);
}

static int adopt_from(struct adopting *a, const char *ns, const struct labels *labels, struct err *err)
{
	struct snap_space theirs = {ns, a->space.snapshotter};
	AUTO(snap_info) struct snap_info info = {0};
	AUTO(cd_use) struct cd_use use;
	int64_t bytes, inodes;
	char hex[65];
	int r;

	/* Theirs may be garbage: it stays, with its index, until ours is there. */
	cd_use_begin(&use, cd_meta_uses(a->d->meta));
	cd_use_add(&use, &(struct gc_id){GC_SNAPSHOT, str_of(ns), str_of(theirs.snapshotter), str_of(a->target)});
	if (snap_stat(a->snaps, theirs, a->target, &info, NULL) < 0 || !is_the_layer(a, &info) ||
	    snap_usage(a->snaps, theirs, a->target, &bytes, &inodes, NULL) < 0)
		return 0;
	/* Theirs may go at any time; from here on the collector knows that somebody else wants the index. */
	if (!cd_index_is_here(a->d, a->call, digest_hex(&info.index_key, hex)))
		return 0;
	r = snap_add_indexed(a->snaps, a->space, a->target, a->parent, &info.index_key, bytes, inodes, labels, err);
	return r < 0 && r != -ERR_EXISTS ? r : 1;
}

int cd_snapshot_adopt(struct cd_daemon *d, struct rpc_call *c, struct snap_store *snaps, struct snap_space space,
                      const char *target, const char *parent, const struct labels *labels, struct err *err)
{
	AUTO(adopting)
	struct adopting a = {.d = d, .call = c, .snaps = snaps, .space = space, .target = target, .parent = parent};
	struct arena records;
	int r;

	if (cd_is_isolated(d) || !parent_is_here(&a))
		return 0;
	arena_init(&records, SIZE_MAX);
	r = cd_meta_scan(d->meta, CD_NAMESPACE, NULL, STR_NONE, &records, note_namespace, &a, err);
	arena_fini(&records);
	for (size_t i = 0; i < a.namespaces.n && r == 0; i++)
		r = adopt_from(&a, a.namespaces.p[i], labels, err);
	return r;
}
