/* The Diff service through a socket: layers of what was written into snapshots and directories, and back again. */
#include "base/file.h"
#include "contentd/testing/snapshots.h"
#include "contentd/testing/upload.h"
#include "estargz/inflate/inflate.h"
#include "estargz/tar/tar.h"
#include "rpc/proto/diff.pb-c.h"
#include "rpc/proto/leases.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cmocka.h>

#define OCI "application/vnd.oci.image.layer.v1.tar"

/* ---- calls ---- */

static struct mounts prepare(struct world *w, const char *key, const char *parent)
{
	struct mounts m = {0};

	OK(snapshot_prepare(w, key, parent, "", &m));
	return m;
}

static struct mounts view(struct world *w, const char *key, const char *parent)
{
	struct mounts m = {0};

	OK(snapshot_view(w, key, parent, "", &m));
	return m;
}

static void commit(struct world *w, const char *name, const char *key)
{
	OK(snapshot_commit(w, name, key, "", ""));
}

static int diff_of(struct world *w, Diff__DiffRequest *req, struct mounts left, struct mounts right,
                   Types__Descriptor **out)
{
	Diff__DiffResponse *rsp = NULL;
	int r;

	req->left = left.list;
	req->n_left = left.n;
	req->right = right.list;
	req->n_right = right.n;
	r = world_call(w, &diff__diff__descriptor, "Diff", req, &rsp);
	if (r >= 0)
		*out = rsp->diff;
	return r;
}

static Types__Descriptor *diff(struct world *w, const char *media_type, struct mounts left, struct mounts right)
{
	Diff__DiffRequest req = DIFF__DIFF_REQUEST__INIT;
	Types__Descriptor *out = NULL;

	req.media_type = media_type;
	OK(diff_of(w, &req, left, right, &out));
	return out;
}

static int apply(struct world *w, const Types__Descriptor *layer, struct mounts to, Types__Descriptor **out)
{
	Diff__ApplyRequest req = DIFF__APPLY_REQUEST__INIT;
	Diff__ApplyResponse *rsp = NULL;
	int r;

	req.diff = (Types__Descriptor *)layer;
	req.mounts = to.list;
	req.n_mounts = to.n;
	req.sync_fs = true;
	r = world_call(w, &diff__diff__descriptor, "Apply", &req, &rsp);
	if (r >= 0 && out)
		*out = rsp->applied;
	return r;
}

/* A bind mount of a directory that is not ours. */
static struct mounts bound(struct world *w, const char *dir, bool writable)
{
	Types__Mount *m = pb_new(&w->a, &types__mount__descriptor);
	const char **options = arena_alloc(&w->a, 2 * sizeof(*options));
	struct mounts out = {arena_alloc(&w->a, sizeof(*out.list)), 1};

	m->type = "bind";
	m->source = arena_printf(&w->a, "%s/%s", w->dir, dir);
	options[0] = writable ? "rw" : "ro";
	options[1] = "rbind";
	m->options = options;
	m->n_options = 2;
	out.list[0] = m;
	if (mkdir(m->source, 0755) < 0)
		assert_int_equal(errno, EEXIST);
	return out;
}

static int tree_of(struct world *w, struct mounts m)
{
	return mounts_tree(w, &m);
}

/* ---- files ---- */

static void put(int fd, const char *path, const char *text)
{
	put_file(fd, path, text, 0644);
}

static void gone(int fd, const char *path)
{
	struct err err = ERR_INIT;

	if (dir_remove(fd, path, &err) < 0)
		fail_msg("%s", err.msg);
}

/* ---- what is in a layer ---- */

struct entries {
	struct esgz_tar *tar;
	struct buf names; /* "name>link " */
	int64_t latest_s; /* of all times */
};

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct entries *e = arg;

	buf_addstr(&e->names, t->e.path);
	if (t->e.link.n) {
		buf_addc(&e->names, t->e.type == ESGZ_HARDLINK ? '=' : '>');
		buf_addstr(&e->names, t->e.link);
	}
	buf_addc(&e->names, ' ');
	if (t->e.mtime_s > e->latest_s)
		e->latest_s = t->e.mtime_s;
	return 0;
}

static int ignore_data(void *arg, struct str bytes, struct err *err)
{
	return 0;
}

static int ignore_end(void *arg, struct err *err)
{
	return 0;
}

static int on_plain(void *arg, struct str plain, struct err *err)
{
	return esgz_tar_feed(((struct entries *)arg)->tar, plain, err);
}

/* The names in a layer, in order. */
static const char *names_in(struct world *w, const Types__Descriptor *layer, int64_t *latest_s)
{
	AUTO(esgz_stream) struct esgz_stream *stream = esgz_stream_new();
	struct entries e = {.names = BUF_INIT};
	const char *names;
	struct str blob;

	e.tar =
	    esgz_tar_new(&(struct esgz_tar_sink){.entry = on_entry, .data = ignore_data, .end = ignore_end, .arg = &e});
	OK(content_read(w, layer->digest, 0, 0, &blob, NULL));
	assert_int_equal(blob.n, layer->size);
	OK(esgz_stream_feed(stream, blob, on_plain, &e, &w->err));
	OK(esgz_stream_finish(stream, &w->err));
	OK(esgz_tar_finish(e.tar, &w->err));
	esgz_tar_free(e.tar);
	names = arena_str(&w->a, buf_str(&e.names));
	buf_fini(&e.names);
	if (latest_s)
		*latest_s = e.latest_s;
	return names;
}

/* ---- changes ---- */

/* Something to be changed: parent snapshot "A". */
static void make_base(struct world *w)
{
	AUTO_FD int fd = tree_of(w, prepare(w, "a", ""));

	put_folder(fd, "etc");
	put(fd, "etc/keep", "keep");
	put(fd, "etc/gone", "gone");
	put(fd, "etc/changed", "before");
	put_folder(fd, "emptied");
	put(fd, "emptied/x", "x");
	put_folder(fd, "removed");
	put_folder(fd, "removed/sub");
	put(fd, "removed/sub/x", "x");
	put_folder(fd, "replaced");
	put(fd, "replaced/x", "x");
	put(fd, "becomes-dir", "x");
	put_folder(fd, "mode");
	commit(w, "A", "a");
}

static void change(int fd)
{
	gone(fd, "etc/gone");
	put(fd, "etc/changed", "after!");
	gone(fd, "emptied");
	put_folder(fd, "emptied");
	put(fd, "emptied/new", "new");
	gone(fd, "removed");
	gone(fd, "replaced");
	put(fd, "replaced", "a file");
	gone(fd, "becomes-dir");
	put_folder(fd, "becomes-dir");
	put(fd, "becomes-dir/x", "x");
	SYS(fchmodat(fd, "mode", 0700, 0));
	put_folder(fd, "new");
	put(fd, "new/f", "f");
	SYS(linkat(fd, "new/f", fd, "new/h", 0));
	SYS(symlinkat("f", fd, "new/l"));
}

static void expect_changed(int fd)
{
	expect_file(fd, "etc/keep", "keep");
	assert_false(has_file(fd, "etc/gone"));
	expect_file(fd, "etc/changed", "after!");
	assert_false(has_file(fd, "emptied/x"));
	expect_file(fd, "emptied/new", "new");
	assert_false(has_file(fd, "removed"));
	expect_file(fd, "replaced", "a file");
	expect_file(fd, "becomes-dir/x", "x");
	assert_int_equal(look_at_file(fd, "mode").st_mode & 07777, 0700);
	assert_int_equal(look_at_file(fd, "new/f").st_ino, look_at_file(fd, "new/h").st_ino);
	assert_true(S_ISLNK(look_at_file(fd, "new/l").st_mode));
}

/* The changes as a layer of that type, applied to the same parent again. */
static void round_trip(struct world *w, const char *media_type, struct mounts left, struct mounts right,
                       const char *key)
{
	Types__Descriptor *layer = diff(w, media_type, left, right), *applied = NULL;
	Content__Info *info = NULL;
	const char *uncompressed;
	AUTO_FD int fd = -1;

	assert_string_equal(layer->media_type, *media_type ? media_type : OCI "+gzip");
	OK(apply(w, layer, prepare(w, key, "A"), &applied));
	assert_string_equal(applied->media_type, OCI);
	OK(content_info(w, layer->digest, &info));
	assert_int_equal(info->size, layer->size);
	uncompressed = pb_kv_get(info->labels, info->n_labels, "containerd.io/uncompressed");
	if (strcmp(media_type, OCI))
		assert_string_equal(uncompressed, applied->digest);
	else
		assert_null(uncompressed);
	commit(w, arena_printf(&w->a, "%s!", key), key);
	fd = tree_of(w, view(w, arena_printf(&w->a, "%s-look", key), arena_printf(&w->a, "%s!", key)));
	expect_changed(fd);
}

static void changes_become_a_layer(void **state)
{
	struct world *w = *state;
	struct mounts left, right;
	AUTO_FD int fd = -1;

	make_base(w);
	right = prepare(w, "b", "A");
	left = view(w, "v", "A");
	fd = tree_of(w, right);
	change(fd);
	round_trip(w, "", left, right, "r1");
	round_trip(w, OCI, left, right, "r2");
	round_trip(w, OCI "+zstd", left, right, "r3");
	/* What is committed, too. */
	commit(w, "B", "b");
	round_trip(w, OCI, left, view(w, "vb", "B"), "r4");
}

/* An upper directory and the comparison of two trees say the same, though not with the same marks. */
static void both_ways_agree(void **state)
{
	struct world *w = *state;
	struct mounts right, twice;
	AUTO_FD int fd = -1;

	make_base(w);
	right = prepare(w, "b", "A");
	fd = tree_of(w, right);
	change(fd);
	assert_string_equal(names_in(w, diff(w, OCI, view(w, "v", "A"), right), NULL),
	                    "becomes-dir/ becomes-dir/x emptied/ emptied/.wh..wh..opq emptied/new etc/ etc/changed "
	                    "etc/.wh.gone mode/ new/ new/f new/h=new/f new/l>f .wh.removed replaced ");
	/* Two mounts over each other are nothing that the fast way knows. */
	twice = (struct mounts){arena_alloc(&w->a, 2 * sizeof(*twice.list)), 2};
	twice.list[0] = bound(w, "unseen", true).list[0];
	twice.list[1] = right.list[0];
	assert_string_equal(names_in(w, diff(w, OCI, view(w, "v2", "A"), twice), NULL),
	                    "becomes-dir/ becomes-dir/x emptied/ emptied/new emptied/.wh.x etc/ etc/changed "
	                    "etc/.wh.gone mode/ new/ new/f new/h=new/f new/l>f .wh.removed replaced ");
	round_trip(w, OCI "+gzip", view(w, "v3", "A"), twice, "r");
}

static void foreign_directories(void **state)
{
	struct world *w = *state;
	struct mounts left = bound(w, "left", false), right = bound(w, "right", true), to = bound(w, "to", true);
	struct mounts nothing = {NULL, 0};
	const struct timespec then[2] = {{100, 5}, {100, 5}}, whole[2] = {{100, 0}, {100, 0}};
	AUTO_FD int l = tree_of(w, bound(w, "left", true));
	AUTO_FD int r = tree_of(w, right);
	AUTO_FD int t = tree_of(w, to);

	put(l, "same", "same");
	put(r, "same", "same");
	put(l, "quiet", "1");
	put(r, "quiet", "2"); /* another content, but nothing else says so */
	put(l, "content", "1");
	put(r, "content", "2");
	put(l, "touched", "x");
	put(r, "touched", "x");
	SYS(utimensat(l, "same", then, 0));
	SYS(utimensat(r, "same", then, 0));
	SYS(utimensat(l, "quiet", then, 0));
	SYS(utimensat(r, "quiet", then, 0));
	SYS(utimensat(l, "content", whole, 0));
	SYS(utimensat(r, "content", whole, 0));
	SYS(utimensat(r, "touched", whole, 0));
	put(l, "gone", "x");
	assert_string_equal(names_in(w, diff(w, OCI, left, right), NULL), "content .wh.gone touched ");
	assert_string_equal(names_in(w, diff(w, OCI, right, right), NULL), "");
	/* Nothing on the left: everything. */
	assert_string_equal(names_in(w, diff(w, OCI, nothing, right), NULL), "content quiet same touched ");
	put(t, "gone", "x");
	put(t, "stays", "x");
	OK(apply(w, diff(w, "", left, right), to, NULL));
	expect_file(t, "content", "2");
	assert_false(has_file(t, "gone"));
	expect_file(t, "stays", "x");
	assert_int_equal(look_at_file(t, "touched").st_mtim.tv_sec, 100);
	FAILS(apply(w, diff(w, "", left, right), left, NULL), ERR_PRECONDITION); /* read-only */
}

static void every_kind_of_file(void **state)
{
	static const char capability[20] = {1, 0, 0, 2, 0, 0x20};
	const struct timespec then[2] = {{-5, 250000000}, {-5, 250000000}};
	struct world *w = *state;
	struct mounts right = bound(w, "right", true), to = bound(w, "to", true);
	struct mounts nothing = {NULL, 0};
	AUTO_FD int r = tree_of(w, right);
	AUTO_FD int t = tree_of(w, to);
	AUTO_FREE char *file = xasprintf("%s/right/f", w->dir);
	AUTO_FREE char *got = xasprintf("%s/to/f", w->dir);
	AUTO_FREE char *name = xcalloc(1, 256);
	char value[32];
	int fd;

	put(r, "f", "x");
	SYS(setxattr(file, "user.mark", "a\0b", 3, 0));
	SYS(setxattr(file, "trusted.overlay.origin", "x", 1, 0));
	SYS(setxattr(file, "trusted.other", "y", 1, 0));
	SYS(setxattr(file, "security.capability", capability, sizeof(capability), 0));
	SYS(utimensat(r, "f", then, 0));
	SYS(mkfifoat(r, "pipe", 0600));
	SYS(mknodat(r, "null", S_IFCHR | 0666, makedev(1, 3)));
	SYS(mknodat(r, "disk", S_IFBLK | 0600, makedev(7, 300)));
	SYS(mknodat(r, "socket", S_IFSOCK | 0600, 0));
	SYS(mknodat(r, "wh", S_IFCHR, 0));
	memset(name, 'n', 255);
	put(r, name, "long");
	fd = openat(r, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	SYS(fd);
	SYS(ftruncate(fd, 5000000));
	assert_int_equal(pwrite(fd, "mid", 3, 2000000), 3);
	SYS(close(fd));
	OK(apply(w, diff(w, OCI "+zstd", nothing, right), to, NULL));
	assert_int_equal(getxattr(got, "user.mark", value, sizeof(value)), 3);
	assert_int_equal(getxattr(got, "trusted.other", value, sizeof(value)), 1);
	assert_int_equal(getxattr(got, "trusted.overlay.origin", value, sizeof(value)), -1);
	assert_int_equal(getxattr(got, "security.capability", value, sizeof(value)), sizeof(capability));
	assert_memory_equal(value, capability, sizeof(capability));
	assert_int_equal(look_at_file(t, "f").st_mtim.tv_sec, -5);
	assert_int_equal(look_at_file(t, "f").st_mtim.tv_nsec, 250000000);
	assert_true(S_ISFIFO(look_at_file(t, "pipe").st_mode));
	assert_int_equal(look_at_file(t, "null").st_rdev, makedev(1, 3));
	assert_true(S_ISBLK(look_at_file(t, "disk").st_mode));
	assert_int_equal(look_at_file(t, "disk").st_rdev, makedev(7, 300));
	assert_false(has_file(t, "socket"));
	assert_false(has_file(t, "wh"));
	expect_file(t, name, "long");
	fd = openat(t, "sparse", O_RDONLY | O_CLOEXEC);
	SYS(fd);
	assert_int_equal(lseek(fd, 0, SEEK_END), 5000000);
	assert_int_equal(pread(fd, value, 5, 1999999), 5);
	assert_memory_equal(value, "\0mid\0", 5);
	SYS(close(fd));
}

/* ---- the calls ---- */

static void labels_refs_and_times(void **state)
{
	Diff__DiffRequest req = DIFF__DIFF_REQUEST__INIT;
	Pb__Timestamp epoch = PB__TIMESTAMP__INIT;
	struct world *w = *state;
	struct mounts right = bound(w, "right", true), nothing = {NULL, 0};
	AUTO_FD int r = tree_of(w, right);
	Types__Descriptor *one = NULL, *two = NULL, *three = NULL;
	Content__Status *status = NULL;
	Content__Info *info = NULL;
	int64_t latest = 0;

	put(r, "f", "x");
	put_folder(r, "d");
	req.ref = "my-ref";
	WORLD_KVS(w, &req, labels, "k=v");
	OK(diff_of(w, &req, nothing, right, &one));
	OK(content_info(w, one->digest, &info));
	assert_string_equal(pb_kv_get(info->labels, info->n_labels, "k"), "v");
	FAILS(content_status(w, "my-ref", &status), ERR_NOT_FOUND);
	/* Again: the blob is there, and gets what it lacks. */
	WORLD_KVS(w, &req, labels, "k=other l=w");
	OK(diff_of(w, &req, nothing, right, &two));
	assert_string_equal(one->digest, two->digest);
	OK(content_info(w, one->digest, &info));
	assert_string_equal(pb_kv_get(info->labels, info->n_labels, "k"), "v");
	assert_string_equal(pb_kv_get(info->labels, info->n_labels, "l"), "w");
	/* A ref that has half a blob of somebody is begun anew. */
	{
		Content__WriteContentResponse *rsp;
		struct upload u = upload_open(w, "half", 0, "", &rsp);

		OK(upload_write(&u, 0, STR("junk"), NULL));
		req.ref = "half";
		FAILS(diff_of(w, &req, nothing, right, &three), ERR_UNAVAILABLE);
		upload_end(&u);
	}
	while (diff_of(w, &req, nothing, right, &three) == -ERR_UNAVAILABLE)
		; /* the server has not seen yet that the writer is gone */
	assert_string_equal(one->digest, three->digest);
	epoch.seconds = 12345;
	req.source_date_epoch = &epoch;
	req.ref = "";
	OK(diff_of(w, &req, nothing, right, &three));
	names_in(w, three, &latest);
	assert_int_equal(latest, 12345);
}

static void under_a_lease(void **state)
{
	Leases__CreateRequest create = LEASES__CREATE_REQUEST__INIT;
	Leases__ListResourcesRequest list = LEASES__LIST_RESOURCES_REQUEST__INIT;
	Leases__ListResourcesResponse *rsp = NULL;
	Diff__DiffRequest req = DIFF__DIFF_REQUEST__INIT;
	struct world *w = *state;
	struct mounts right = bound(w, "right", true), nothing = {NULL, 0};
	Types__Descriptor *made;
	const char *first;

	create.id = list.id = "l";
	OK(world_call(w, &leases__leases__descriptor, "Create", &create, NULL));
	/* The second one is made without the lease first: what is there already is leased, too. */
	rpc_client_set_metadata(w->c, "containerd-lease", "l");
	first = diff(w, "", nothing, right)->digest;
	rpc_client_set_metadata(w->c, "containerd-lease", NULL);
	made = diff(w, OCI, nothing, right);
	rpc_client_set_metadata(w->c, "containerd-lease", "l");
	made = diff(w, OCI, nothing, right);
	OK(world_call(w, &leases__leases__descriptor, "ListResources", &list, &rsp));
	assert_int_equal(rsp->n_resources, 2);
	for (size_t i = 0; i < 2; i++)
		assert_true(!strcmp(rsp->resources[i]->id, made->digest) || !strcmp(rsp->resources[i]->id, first));
	assert_string_not_equal(rsp->resources[0]->id, rsp->resources[1]->id);
	rpc_client_set_metadata(w->c, "containerd-lease", "none");
	FAILS(diff_of(w, &req, nothing, right, &made), ERR_NOT_FOUND);
}

static void what_is_refused(void **state)
{
	static const char *const unknown[] = {
	    "", "text/plain", OCI "+lz4", OCI "+gzip+encrypted", OCI "x", "application/vnd.oci.image.config.v1+json"};
	Types__Descriptor layer = TYPES__DESCRIPTOR__INIT, *made = NULL;
	Diff__ApplyRequest nothing = DIFF__APPLY_REQUEST__INIT;
	Diff__DiffRequest req = DIFF__DIFF_REQUEST__INIT;
	struct world *w = *state;
	struct mounts to = bound(w, "to", true), none = {NULL, 0};

	FAILS(world_call(w, &diff__diff__descriptor, "Apply", &nothing, NULL), ERR_INVALID);
	layer.digest = "junk";
	layer.media_type = OCI;
	FAILS(apply(w, &layer, to, NULL), ERR_INVALID);
	layer.digest = SHA_A;
	FAILS(apply(w, &layer, to, NULL), ERR_NOT_FOUND);
	FAILS(apply(w, &layer, none, NULL), ERR_INVALID);
	for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
		layer.media_type = unknown[i];
		FAILS(apply(w, &layer, to, NULL), ERR_UNIMPLEMENTED);
	}
	assert_non_null(strstr(w->err.msg, "media type"));
	layer.media_type = OCI "+gzip+encrypted";
	FAILS(apply(w, &layer, to, NULL), ERR_UNIMPLEMENTED);
	assert_non_null(strstr(w->err.msg, "is encrypted"));
	upload_blob(w, "r", STR("this is no tar at all, nor anything else that a layer could be"), "");
	layer.media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip";
	layer.digest = sha_of(w, STR("this is no tar at all, nor anything else that a layer could be"));
	FAILS(apply(w, &layer, to, NULL), ERR_DATA_LOSS);
	req.media_type = OCI "+lz4";
	FAILS(diff_of(w, &req, none, to, &made), ERR_UNIMPLEMENTED);
	req.media_type = "";
	to.list[0]->source = "/nonexistent/directory";
	FAILS(diff_of(w, &req, none, to, &made), ERR_NOT_FOUND);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(changes_become_a_layer), TEST(both_ways_agree), TEST(foreign_directories), TEST(every_kind_of_file),
	    TEST(labels_refs_and_times),  TEST(under_a_lease),   TEST(what_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
