/* The verb Unpack, in one process: layers from files and from a registry in memory, their gzip indexes, and many at a time. */
#include "fusefs/testverbs.h"

#include "base/file.h"
#include "estargz/gzseek/artifact.h"
#include "fusefs/verbs.h"
#include "rpc/pb.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void a_layer_from_a_file(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(UnpackResponse) *rsp = NULL;
	AUTO_FD int fd = -1;

	layer_plain(&l, 1, 10);
	OK(memfd_of("blob", buf_str(&l.blob), &fd, err));
	OK(ask_unpack(w, &l, NULL, fd, false, &rsp, err));
	assert_objects(w, rsp->index_key, 11);
	assert_int_equal(rsp->plain_bytes, l.blob.n);
	assert_int_equal(testserver_count(w->server, "GET"), 0);
}

static void a_layer_from_the_registry(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(UnpackResponse) *rsp = NULL;
	AUTO(buf) struct buf copy = BUF_INIT;
	AUTO_FD int fd = memfd_create("ingest", MFD_CLOEXEC);

	layer_lazy(&l, 2, 10);
	add_blob(w, buf_str(&l.blob));
	assert_int_equal(write(fd, "what was here before", 20), 20);
	OK(ask_unpack(w, &l, &l.diff_id, fd, true, &rsp, err));
	assert_objects(w, rsp->index_key, 11);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	OK(fd_read_all(fd, 16u << 20, &copy, err));
	assert_int_equal(copy.n, l.blob.n);
	assert_memory_equal(copy.p, l.blob.p, copy.n);
}

static void what_is_wrong_is_not_published(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(UnpackResponse) *rsp = NULL;
	AUTO_FD int fd = -1;
	AUTO_FD int cut = -1;
	struct digest other = {{1}};

	layer_plain(&l, 1, 10);
	OK(memfd_of("blob", buf_str(&l.blob), &fd, err));
	FAILS_SAYING(ask_unpack(w, &l, &other, fd, false, &rsp, err), ERR_DATA_LOSS, "should be sha256:0100");
	assert_nothing_published(w);
	OK(memfd_of("cut", str_sub(buf_str(&l.blob), 0, l.blob.n - 512), &cut, err));
	FAILS_SAYING(ask_unpack(w, &l, NULL, cut, false, &rsp, err), ERR_DATA_LOSS, "bytes came");
	l.blob.n -= 512;
	FAILS_SAYING(ask_unpack(w, &l, NULL, fd, false, &rsp, err), ERR_DATA_LOSS, "more than the");
	l.blob.n += 512;
	l.digest.b[0] ^= 1;
	FAILS_SAYING(ask_unpack(w, &l, NULL, fd, false, &rsp, err), ERR_DATA_LOSS, "digest of the blob");
	FAILS_SAYING(ask_unpack(w, &l, NULL, -1, true, &rsp, err), ERR_INVALID, "no descriptor");
	FAILS_SAYING(ask_unpack(w, &l, NULL, -1, false, &rsp, err), ERR_NOT_FOUND, w->reference);
	assert_nothing_published(w);
}

/* As one layer of the image of this world, with its gzip index. */
static int unpack_index(struct world *w, const struct layer *l, int fd, PB(UnpackResponse) * *out, int *index_fd,
                        struct err *err)
{
	PB(UnpackRequest) req = CONTENTD__CONTENTFS__V1__UNPACK_REQUEST__INIT;
	PB(Descriptor) d = CONTENTD__CONTENTFS__V1__DESCRIPTOR__INIT;
	char blob[DIGEST_TEXT_MAX];

	d.digest = digest_text(&l->digest, blob);
	d.size = (int64_t)l->blob.n;
	req.reference = w->reference;
	req.layer = &d;
	req.diff_id = (char *)"";
	req.from_fd = fd >= 0;
	req.gzip_index = true;
	return ffs_client_unpack_index(w->client, NULL, &req, fd, NULL, NULL, out, index_fd, err);
}

/* A layer whose gzip index is built on the way becomes what it becomes without; the index is one that a receiver takes. */
static void a_gzip_index_on_the_way(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(layer) struct layer plain;
	AUTO(pb) PB(UnpackResponse) *rsp = NULL;
	AUTO(pb) PB(UnpackResponse) *without = NULL;
	AUTO(pb) PB(UnpackResponse) *tar = NULL;
	AUTO(buf) struct buf first = BUF_INIT;
	AUTO(buf) struct buf second = BUF_INIT;
	AUTO(buf) struct buf artifact = BUF_INIT;
	AUTO(buf) struct buf points = BUF_INIT;
	AUTO(buf) struct buf index = BUF_INIT;
	const char *key;
	AUTO_FD int fd = -1;
	AUTO_FD int none = -1;
	AUTO_FD int blob = -1;

	layer_lazy(&l, 2, 400);
	add_blob(w, buf_str(&l.blob));
	OK(unpack_index(w, &l, -1, &rsp, &fd, err));
	assert_true(fd >= 0);
	assert_objects(w, rsp->index_key, 401);
	OK(fd_read_all(fd, 16u << 20, &artifact, err));
	OK(esgz_gzseek_unpack(buf_str(&artifact), &(struct esgz_gzseek_of){l.digest, l.blob.n, l.diff_id}, &points,
	                      &index, err));
	OK(file_read(ffs_store_dir(w->w.store, FFS_DIR_INDEX), rsp->index_key, 1u << 20, &first, err));
	key = rsp->index_key;
	OK(ffs_client_delete_layers(w->client, &key, 1, err));
	OK(ask_unpack(w, &l, &l.diff_id, -1, false, &without, err));
	assert_string_equal(without->index_key, rsp->index_key);
	OK(file_read(ffs_store_dir(w->w.store, FFS_DIR_INDEX), rsp->index_key, 1u << 20, &second, err));
	assert_int_equal(first.n, second.n);
	assert_memory_equal(first.p, second.p, first.n);

	layer_plain(&plain, 1, 10);
	OK(memfd_of("blob", buf_str(&plain.blob), &blob, err));
	OK(unpack_index(w, &plain, blob, &tar, &none, err));
	assert_int_equal(none, -1);
	assert_objects(w, tar->index_key, 11);
}

static atomic_bool no_memory_files;
static atomic_uint index_files; /* so many were asked for */

/* In the place of the C library's: it counts those of gzip indexes, and can fail for them. */
int memfd_create(const char *name, unsigned flags)
{
	if (!strcmp(name, "gzip index")) {
		atomic_fetch_add(&index_files, 1);
		if (atomic_load(&no_memory_files)) {
			errno = EMFILE;
			return -1;
		}
	}
	return (int)syscall(SYS_memfd_create, name, flags);
}

/* A layer that is here does not fail by an index that nobody has to have. */
static void a_gzip_index_that_cannot_be_sent(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(UnpackResponse) *rsp = NULL;
	struct err why = ERR_INIT;
	char text[DIGEST_TEXT_MAX];
	AUTO_FD int fd = -1;
	int r;

	layer_lazy(&l, 2, 10);
	add_blob(w, buf_str(&l.blob));
	atomic_store(&no_memory_files, true);
	r = unpack_index(w, &l, -1, &rsp, &fd, &why);
	atomic_store(&no_memory_files, false);
	assert_string_equal(why.msg, "");
	assert_int_equal(r, 0);
	assert_int_equal(fd, -1);
	assert_string_equal(rsp->diff_id, digest_text(&l.diff_id, text));
	assert_objects(w, rsp->index_key, 11);
}

static void *race(void *arg)
{
	struct racer *r = arg;

	r->err = ERR_INIT;
	ask_unpack(r->w, r->l, &r->l->diff_id, -1, false, &r->rsp, &r->err);
	return NULL;
}

static void many_who_want_the_same(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	struct racer racers[6];

	layer_lazy(&l, 3, 200);
	add_blob(w, buf_str(&l.blob));
	for (size_t i = 0; i < ARRAY_LEN(racers); i++) {
		racers[i] = (struct racer){.w = w, .l = &l};
		assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(racers); i++) {
		pthread_join(racers[i].thread, NULL);
		assert_string_equal(racers[i].err.msg, "");
		assert_string_equal(racers[i].rsp->index_key, racers[0].rsp->index_key);
	}
	assert_objects(w, racers[0].rsp->index_key, 201);
	for (size_t i = 0; i < ARRAY_LEN(racers); i++)
		pb_free(racers[i].rsp);
}

/* How many are at the unpacking of a layer: who does it, and who waits for the result. */
static unsigned count_unpacking(struct world *w, const struct layer *l)
{
	struct ffs_service *s = w->service;
	struct unpacking *k;
	unsigned n;

	pthread_mutex_lock(&s->lock);
	k = map_get(&s->unpacking, str_make(&l->digest, sizeof(l->digest)));
	n = k ? k->refs : 0;
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void *race_for_index(void *arg)
{
	struct racer *r = arg;

	r->err = ERR_INIT;
	unpack_index(r->w, r->l, -1, &r->rsp, &r->index_fd, &r->err);
	return NULL;
}

/* Those who want its gzip index, too, have the layer unpacked once; each gets the index, to read from its beginning, and who
 * came for the layer alone gets that. */
static void many_who_want_a_gzip_index(void **state)
{
	struct world *w = *state;
	AUTO(buf) struct buf first = BUF_INIT;
	AUTO(layer) struct layer l;
	struct racer racers[5];
	char path[80] = "blobs/";

	layer_lazy(&l, 3, 200);
	add_blob(w, buf_str(&l.blob));
	digest_text(&l.digest, path + 6);
	atomic_store(&w->held, path);
	atomic_store(&index_files, 0);
	for (size_t i = 0; i < ARRAY_LEN(racers); i++) {
		void *(*fn)(void *) = i < ARRAY_LEN(racers) - 1 ? race_for_index : race_for_layer;

		racers[i] = (struct racer){.w = w, .l = &l, .index_fd = -1};
		assert_int_equal(pthread_create(&racers[i].thread, NULL, fn, &racers[i]), 0);
		while (count_unpacking(w, &l) <= i)
			usleep(1000);
	}
	atomic_store(&w->held, NULL);
	for (size_t i = 0; i < ARRAY_LEN(racers); i++) {
		pthread_join(racers[i].thread, NULL);
		assert_string_equal(racers[i].err.msg, "");
		assert_string_equal(racers[i].rsp->index_key, racers[0].rsp->index_key);
		assert_int_equal(racers[i].rsp->content_bytes, racers[0].rsp->content_bytes);
	}
	for (size_t i = 0; i < ARRAY_LEN(racers); i++)
		pb_free(racers[i].rsp);
	assert_int_equal(testserver_count(w->server, "GET"), 1);
	assert_int_equal(atomic_load(&index_files), ARRAY_LEN(racers) - 1);
	for (size_t i = 0; i < ARRAY_LEN(racers) - 1; i++) {
		AUTO(buf) struct buf index = BUF_INIT;

		assert_true(racers[i].index_fd >= 0);
		OK(fd_read_all(racers[i].index_fd, 16u << 20, &index, err));
		if (i == 0)
			buf_addstr(&first, buf_str(&index));
		assert_true(index.n > 0 && str_eq(buf_str(&index), buf_str(&first)));
		close(racers[i].index_fd);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_layer_from_a_file, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_layer_from_the_registry, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_gzip_index_on_the_way, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_gzip_index_that_cannot_be_sent, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(what_is_wrong_is_not_published, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(many_who_want_the_same, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(many_who_want_a_gzip_index, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
