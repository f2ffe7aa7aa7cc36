/* The Snapshots service over the real snapshotter, for what needs no mount; containerd's own cases. */
#include "base/file.h"
#include "contentd/ident.h"
#include "contentd/testing/snapshots.h"
#include "estargz/index/index.h"
#include "rpc/proto/leases.pb-c.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CALL(method, req, rsp) world_call(w, &snapshots__snapshots__descriptor, method, (req), (rsp))

static const char *labels_of(struct world *w, const char *key)
{
	Snapshots__Info *info = NULL;

	OK(snapshot_stat(w, key, &info));
	return world_kvs_text(w, info->labels, info->n_labels);
}

static const char *list(struct world *w, const char *filter)
{
	Snapshots__ListSnapshotsRequest req = SNAPSHOTS__LIST_SNAPSHOTS_REQUEST__INIT;
	AUTO(buf) struct buf b = BUF_INIT;
	void **all;
	size_t n;

	req.snapshotter = w->snapshotter;
	req.filters = &filter;
	req.n_filters = 1;
	OK(world_stream(w, &snapshots__snapshots__descriptor, "List", &req,
	                &snapshots__list_snapshots_response__descriptor, &all, &n));
	for (size_t i = 0; i < n; i++) {
		const Snapshots__ListSnapshotsResponse *rsp = all[i];

		for (size_t k = 0; k < rsp->n_info; k++)
			buf_addf(&b, "%s ", rsp->info[k]->name);
	}
	return arena_str(&w->a, buf_str(&b));
}

static void codes(void **state)
{
	Snapshots__CleanupRequest cleanup = SNAPSHOTS__CLEANUP_REQUEST__INIT;
	Snapshots__StatSnapshotRequest unknown = SNAPSHOTS__STAT_SNAPSHOT_REQUEST__INIT;
	struct world *w = *state;

	FAILS(CALL("Stat", &unknown, NULL), ERR_INVALID);
	unknown.snapshotter = "zfs";
	FAILS(CALL("Stat", &unknown, NULL), ERR_INVALID);
	FAILS(snapshot_prepare(w, "", "", "", NULL), ERR_INVALID);
	OK(snapshot_prepare(w, "a", "", "", NULL));
	FAILS(snapshot_prepare(w, "a", "", "", NULL), ERR_EXISTS);
	FAILS(snapshot_view(w, "a", "", "", NULL), ERR_EXISTS);
	FAILS(snapshot_prepare(w, "b", "a", "", NULL), ERR_INVALID);
	FAILS(snapshot_prepare(w, "b", "none", "", NULL), ERR_NOT_FOUND);
	FAILS(snapshot_commit(w, "A", "none", "", ""), ERR_NOT_FOUND);
	OK(snapshot_commit(w, "A", "a", "", ""));
	FAILS(snapshot_stat(w, "a", NULL), ERR_NOT_FOUND);
	FAILS(snapshot_mounts(w, "A", NULL), ERR_PRECONDITION);
	FAILS(snapshot_mounts(w, "a", NULL), ERR_NOT_FOUND);
	OK(snapshot_view(w, "v", "A", "", NULL));
	FAILS(snapshot_commit(w, "V", "v", "", ""), ERR_PRECONDITION);
	FAILS(snapshot_remove(w, "A"), ERR_PRECONDITION);
	OK(snapshot_prepare(w, "b", "A", "", NULL));
	FAILS(snapshot_commit(w, "A", "b", "", ""), ERR_EXISTS);
	FAILS(snapshot_commit(w, "B", "b", "other", ""), ERR_INVALID);
	OK(snapshot_commit(w, "B", "b", "A", ""));
	FAILS(snapshot_remove(w, "none"), ERR_NOT_FOUND);
	OK(snapshot_remove(w, "v"));
	OK(snapshot_remove(w, "B"));
	OK(snapshot_remove(w, "A"));
	cleanup.snapshotter = "overlayfs";
	OK(CALL("Cleanup", &cleanup, NULL));
}

static void answers(void **state)
{
	Snapshots__UsageRequest usage = SNAPSHOTS__USAGE_REQUEST__INIT;
	Snapshots__UsageResponse *used;
	Snapshots__Info *info = NULL;
	struct mounts p = {0}, v = {0};
	struct world *w = *state;

	OK(snapshot_prepare(w, "a", "", "", &p));
	assert_int_equal(p.n, 1);
	assert_string_equal(p.list[0]->type, "bind");
	assert_string_equal(p.list[0]->options[0], "rw");
	assert_string_equal(p.list[0]->options[1], "rbind");
	assert_string_equal(p.list[0]->target, "");
	OK(snapshot_commit(w, "A", "a", "", ""));
	OK(snapshot_stat(w, "A", &info));
	assert_int_equal(info->kind, SNAPSHOTS__KIND__COMMITTED);
	assert_int_equal(info->created_at->nanos, info->updated_at->nanos);
	OK(snapshot_view(w, "v", "A", "", &v));
	assert_string_equal(v.list[0]->type, "bind");
	assert_string_equal(v.list[0]->source, p.list[0]->source);
	assert_string_equal(v.list[0]->options[0], "ro");
	OK(snapshot_stat(w, "v", &info));
	assert_int_equal(info->kind, SNAPSHOTS__KIND__VIEW);
	assert_string_equal(info->parent, "A");
	OK(snapshot_prepare(w, "b", "A", "", &p));
	assert_string_equal(p.list[0]->type, "overlay");
	usage.snapshotter = "overlayfs";
	usage.key = "A";
	OK(CALL("Usage", &usage, &used));
	assert_int_equal(used->inodes, 1);
	usage.key = "none";
	FAILS(CALL("Usage", &usage, NULL), ERR_NOT_FOUND);
}

static const char *options_of(struct world *w, const struct mounts *m)
{
	AUTO(buf) struct buf b = BUF_INIT;

	assert_int_equal(m->n, 1);
	for (size_t i = 0; i < m->list[0]->n_options; i++) {
		struct str rest = str_of(m->list[0]->options[i]), one;

		str_split(&rest, '/', &one);
		buf_addf(&b, "%s" STR_FMT, b.n ? " " : "", STR_ARG(one));
	}
	return arena_str(&w->a, buf_str(&b));
}

/* BuildKit looks for the directory of a layer in the mounts, and does so when it knows every option there is. */
static void directories_are_mounted_as_by_containerd(void **state)
{
	struct mounts m = {0};
	struct world *w = *state;

	OK(snapshot_prepare(w, "a", "", "", &m));
	OK(snapshot_commit(w, "A", "a", "", ""));
	OK(snapshot_prepare(w, "b", "A", "", &m));
	assert_string_equal(options_of(w, &m), "index=off workdir= upperdir= lowerdir=");
	OK(snapshot_commit(w, "B", "b", "", ""));
	OK(snapshot_view(w, "v", "B", "", &m));
	assert_string_equal(m.list[0]->type, "overlay");
	assert_string_equal(options_of(w, &m), "index=off lowerdir=");
}

static void labels(void **state)
{
	Snapshots__UpdateSnapshotRequest nothing = SNAPSHOTS__UPDATE_SNAPSHOT_REQUEST__INIT;
	struct world *w = *state;

	nothing.snapshotter = "overlayfs";
	FAILS(CALL("Update", &nothing, NULL), ERR_INVALID);
	FAILS(snapshot_update(w, "a", "", "", NULL), ERR_NOT_FOUND);
	OK(snapshot_prepare(w, "a", "", "k=v x= a.b/c=1", NULL));
	assert_string_equal(labels_of(w, "a"), "a.b/c=1 k=v");
	OK(snapshot_update(w, "a", "", "a.b/c=2 z=1", "labels.a.b/c"));
	OK(snapshot_update(w, "a", "", "", "labels.k"));
	assert_string_equal(labels_of(w, "a"), "a.b/c=2");
	OK(snapshot_update(w, "a", "", "n=1", "labels"));
	assert_string_equal(labels_of(w, "a"), "n=1");
	OK(snapshot_update(w, "a", "", "m=1", NULL));
	assert_string_equal(labels_of(w, "a"), "m=1");
	FAILS(snapshot_update(w, "a", "", "", "parent"), ERR_INVALID);
	FAILS(snapshot_update(w, "a", "", "", "name"), ERR_INVALID);
	OK(snapshot_commit(w, "A", "a", "", "only=this"));
	assert_string_equal(labels_of(w, "A"), "only=this");
}

static void lists(void **state)
{
	struct world *w = *state;

	assert_string_equal(list(w, ""), "");
	OK(snapshot_prepare(w, "a", "", "", NULL));
	OK(snapshot_commit(w, "A", "a", "", "k=v"));
	OK(snapshot_prepare(w, "b", "A", "", NULL));
	OK(snapshot_view(w, "v", "A", "", NULL));
	assert_string_equal(list(w, ""), "A b v ");
	assert_string_equal(list(w, "kind==active"), "b ");
	assert_string_equal(list(w, "parent==A"), "b v ");
	assert_string_equal(list(w, "name~=^[Ab]$,kind!=view"), "A b ");
	assert_string_equal(list(w, "labels.k==v"), "A ");
	rpc_client_set_metadata(w->c, "containerd-namespace", "other");
	assert_string_equal(list(w, ""), "");
	for (int i = 0; i < 250; i++) /* more than two messages */
		OK(snapshot_prepare(w, arena_printf(&w->a, "k%03d", i), "", "", NULL));
	assert_int_equal(strlen(list(w, "")), 250 * 5);
}

static void a_target_that_is_there(void **state)
{
	struct world *w = *state;

	OK(snapshot_prepare(w, "a", "", "containerd.io/snapshot.ref=A", NULL));
	OK(snapshot_commit(w, "A", "a", "", ""));
	FAILS(snapshot_prepare(w, "b", "", "containerd.io/snapshot.ref=A", NULL), ERR_EXISTS);
	FAILS(snapshot_stat(w, "b", NULL), ERR_NOT_FOUND);
	rpc_client_set_metadata(w->c, "containerd-namespace", "other");
	OK(snapshot_prepare(w, "b", "", "containerd.io/snapshot.ref=A", NULL));
}

/* A layer index with one file, from a stream with that DiffID (or only a claim of it); its key. */
static struct digest make_index(struct world *w, enum esgz_trust trust, const struct digest *diff_id)
{
	struct esgz_index_info info = {.trust = trust, .trusted = *diff_id, .blob_bytes = 1};
	struct esgz_entry e = {.type = ESGZ_DIR, .path = STR("d"), .mode = 0755};
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf bytes = BUF_INIT;
	AUTO_FD int dir = -1;
	struct digest key;
	char hex[65];

	OK(esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, &w->err));
	OK(esgz_index_finish(b, &info, &bytes, &w->err));
	esgz_index_key(trust, &info.blob, diff_id, &key);
	dir = open(arena_printf(&w->a, "%s/root/index", w->dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	OK(file_write_atomic(dir, digest_hex(&key, hex), buf_str(&bytes), 0600, &w->err));
	return key;
}

/* A committed layer of the namespace "other", named by its chain id. */
static const char *layer_of_others(struct world *w, enum esgz_trust trust, uint8_t diff, const char *parent)
{
	struct digest diff_id = {{diff}}, key = make_index(w, trust, &diff_id);
	struct snap_space other = {"other", "overlayfs"};
	AUTO(labels) struct labels theirs = LABELS_INIT;
	char chain[DIGEST_TEXT_MAX];

	cd_chain_id(parent, &diff_id, chain);
	OK(labels_set(&theirs, "containerd.io/snapshot/theirs", "1", &w->err));
	OK(snap_add_indexed(w->d->snaps, other, chain, parent, &key, 10, 2, &theirs, &w->err));
	OK(cd_meta_touch(w->d->meta, "other", &w->err));
	return arena_strdup(&w->a, chain);
}

static const char *ref_to(struct world *w, const char *target)
{
	return arena_printf(&w->a, "containerd.io/snapshot.ref=%s ours=2", target);
}

static void a_layer_of_another_namespace(void **state)
{
	struct world *w = *state;
	const char *first = layer_of_others(w, ESGZ_TRUST_DIFFID, 1, "");
	const char *second = layer_of_others(w, ESGZ_TRUST_DIFFID, 2, first);
	const char *claimed = layer_of_others(w, ESGZ_TRUST_TOC, 3, "");
	Snapshots__Info *info = NULL;

	/* Its parent is not here yet. */
	FAILS(snapshot_prepare(w, "b", first, ref_to(w, second), NULL), ERR_NOT_FOUND);
	FAILS(snapshot_prepare(w, "a", "", ref_to(w, first), NULL), ERR_EXISTS);
	FAILS(snapshot_prepare(w, "b", first, ref_to(w, second), NULL), ERR_EXISTS);
	FAILS(snapshot_stat(w, "b", NULL), ERR_NOT_FOUND);
	OK(snapshot_stat(w, second, &info));
	assert_string_equal(info->parent, first);
	assert_int_equal(info->kind, SNAPSHOTS__KIND__COMMITTED);
	/* Labels are those of the request alone. */
	assert_string_equal(labels_of(w, second), ref_to(w, second));
	/* Contents that are only claimed are nobody else's; nor is a name that contents do not prove. */
	OK(snapshot_prepare(w, "c", "", ref_to(w, claimed), NULL));
	OK(snapshot_remove(w, "c"));
	OK(snapshot_remove(w, second));
	OK(snapshot_prepare(w, "c", "", ref_to(w, second), NULL));
	OK(snapshot_remove(w, "c"));
	free(w->d->config.content_sharing);
	w->d->config.content_sharing = xstrdup("isolated");
	OK(snapshot_remove(w, first));
	OK(snapshot_prepare(w, "c", "", ref_to(w, first), NULL));
}

static void under_a_lease(void **state)
{
	Leases__CreateRequest req = LEASES__CREATE_REQUEST__INIT;
	struct world *w = *state;

	rpc_client_set_metadata(w->c, "containerd-lease", "l");
	FAILS(snapshot_prepare(w, "a", "", "", NULL), ERR_NOT_FOUND);
	req.id = "l";
	OK(world_call(w, &leases__leases__descriptor, "Create", &req, NULL));
	OK(snapshot_prepare(w, "a", "", "", NULL));
	assert_string_equal(world_leased(w, "l"), "snapshots/overlayfs:a ");
	OK(snapshot_commit(w, "A", "a", "", ""));
	assert_string_equal(world_leased(w, "l"), "snapshots/overlayfs:A ");
	OK(snapshot_remove(w, "A"));
	assert_string_equal(world_leased(w, "l"), "");
	/* What exists is leased by those who find it, too. */
	rpc_client_set_metadata(w->c, "containerd-lease", NULL);
	OK(snapshot_prepare(w, "x", "", "", NULL));
	OK(snapshot_prepare(w, "t", "", "", NULL));
	OK(snapshot_commit(w, "T", "t", "", ""));
	rpc_client_set_metadata(w->c, "containerd-lease", "l");
	FAILS(snapshot_prepare(w, "x", "", "", NULL), ERR_EXISTS);
	FAILS(snapshot_prepare(w, "y", "", "containerd.io/snapshot.ref=T", NULL), ERR_EXISTS);
	assert_string_equal(world_leased(w, "l"), "snapshots/overlayfs:T snapshots/overlayfs:x ");
	/* Only who adds to a lease needs it: clients go on under one that they have deleted. */
	rpc_client_set_metadata(w->c, "containerd-lease", "gone");
	FAILS(snapshot_prepare(w, "z", "", "", NULL), ERR_NOT_FOUND);
	FAILS(snapshot_commit(w, "X", "x", "", ""), ERR_NOT_FOUND);
	assert_string_equal(list(w, ""), "T x ");
	OK(snapshot_remove(w, "x"));
	assert_string_equal(list(w, ""), "T ");
}

/* As the plugin of a containerd: one key space whatever the namespace, none of the rules of ours. */
static void a_proxied_space(void **state)
{
	Snapshots__PrepareSnapshotRequest req = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;
	struct world *w = *state;

	w->snapshotter = "contentd";
	OK(snapshot_prepare(w, "n1/1/a", "", "containerd.io/snapshot.ref=A", NULL));
	OK(snapshot_commit(w, "n1/2/A", "n1/1/a", "", "containerd.io/snapshot.ref=A"));
	rpc_client_set_metadata(w->c, "containerd-namespace", NULL);
	rpc_client_set_metadata(w->c, "containerd-lease", "of-somebody-else");
	OK(snapshot_prepare(w, "n2/3/b", "n1/2/A", "", NULL));
	assert_string_equal(list(w, ""), "n1/2/A n2/3/b ");
	/* How it looks for a remote snapshot. */
	assert_string_equal(list(w, "labels.\"containerd.io/snapshot.ref\"==A,parent==\"\""), "n1/2/A ");
	/* A layer that cannot be read on demand here, since there is no contentfs, is the client's to unpack. */
	OK(snapshot_prepare(w, "n2/4/c", "",
	                    "containerd.io/snapshot.ref=" SHA_A " containerd.io/snapshot/cri.image-ref=r.example/x "
	                    "containerd.io/snapshot/cri.layer-digest=" SHA_B,
	                    NULL));
	OK(snapshot_remove(w, "n2/3/b"));
	OK(snapshot_remove(w, "n1/2/A"));
	FAILS(snapshot_remove(w, "n1/2/A"), ERR_NOT_FOUND);
	w->snapshotter = "overlayfs";
	rpc_client_set_metadata(w->c, "containerd-lease", NULL);
	req.snapshotter = w->snapshotter;
	req.key = "x";
	FAILS(CALL("Prepare", &req, NULL), ERR_PRECONDITION);
	rpc_client_set_metadata(w->c, "containerd-namespace", "ns");
	assert_string_equal(list(w, ""), "");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {TEST(codes),
	                                   TEST(answers),
	                                   TEST(directories_are_mounted_as_by_containerd),
	                                   TEST(labels),
	                                   TEST(lists),
	                                   TEST(a_target_that_is_there),
	                                   TEST(a_layer_of_another_namespace),
	                                   TEST(under_a_lease),
	                                   TEST(a_proxied_space)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
