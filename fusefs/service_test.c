/*
 * The verbs, in one process: a registry in memory, the real client, data, store and socket. What needs a mount and a
 * second process is in tests/integration/service.sh.
 */
#include "fusefs/testverbs.h"

#include "fusefs/secrets.h"
#include "fusefs/verbs.h"
#include "rpc/pb.h"
#include "rpc/service.h"

#include <fcntl.h>
#include <unistd.h>

/* ---- open ---- */

static void two_round_trips(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO(pb) PB(OpenResponse) *again = NULL;
	struct layer l[3];

	layer_lazy(&l[0], 1, 10);
	layer_plain(&l[1], 2, 10);
	layer_lazy(&l[2], 3, 8000); /* its TOC is longer than a guess */
	add_image(w, l, 3, 3);
	OK(ask_open(w, true, &rsp, err));
	assert_int_equal(rsp->n_layers, 3);
	assert_true(rsp->layers[0]->lazy && rsp->layers[2]->lazy && !rsp->layers[1]->lazy);
	assert_string_equal(rsp->layers[1]->index_key, "");
	assert_non_null(strstr(rsp->layers[1]->reason, "no TOC"));
	assert_int_equal(testserver_count(w->server, "GET /v2/some/image/manifests"), 1);
	assert_int_equal(testserver_count(w->server, "GET /v2/some/image/blobs"), 4);
	/* The layers are known from then on. */
	OK(ask_open(w, true, &again, err));
	assert_string_equal(again->layers[2]->index_key, rsp->layers[2]->index_key);
	assert_int_equal(testserver_count(w->server, "GET /v2/some/image/blobs"), 5);
	for (size_t i = 0; i < ARRAY_LEN(l); i++)
		layer_fini(&l[i]);
}

static void an_unpacked_layer_is_known(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(UnpackResponse) *unpacked = NULL;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;

	layer_plain(&l, 1, 3);
	add_image(w, &l, 1, 1);
	OK(ask_unpack(w, &l, NULL, -1, false, &unpacked, err));
	OK(ask_open(w, false, &rsp, err));
	assert_string_equal(rsp->layers[0]->index_key, unpacked->index_key);
	assert_false(rsp->layers[0]->lazy);
	assert_string_equal(rsp->layers[0]->diff_id, unpacked->diff_id);
}

static void lies_about_the_toc(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	struct layer l[3];

	layer_lazy(&l[0], 1, 10);
	l[0].toc.b[5] ^= 1;
	layer_plain(&l[1], 2, 10);
	l[1].lazy = true;
	layer_lazy(&l[2], 3, 10);
	add_image(w, l, 3, 3);
	find_blob(w, &l[2].digest)->bytes.p[l[2].blob.n - 60] ^= 0x55; /* in the end of the TOC */
	OK(ask_open(w, true, &rsp, err));
	for (size_t i = 0; i < ARRAY_LEN(l); i++) {
		assert_false(rsp->layers[i]->lazy);
		assert_string_equal(rsp->layers[i]->index_key, "");
		assert_non_null(strstr(rsp->layers[i]->reason, rsp->layers[i]->descriptor->digest));
		layer_fini(&l[i]);
	}
	assert_non_null(strstr(rsp->layers[0]->reason, "should be sha256:"));
	assert_non_null(strstr(rsp->layers[1]->reason, "ends without one"));
	assert_nothing_published(w);
}

static void becomes(struct world *w, const char *index_key, enum ffs_verdict verdict)
{
	struct ffs_layer_status st;
	struct digest key;

	assert_true(digest_from_hex(str_of(index_key), &key));
	while (true) {
		OK(ffs_data_layer_status(w->w.data, &key, true, &st, err));
		if (st.verdict == verdict)
			return;
		usleep(1000);
	}
}

static void opens_with(struct world *w, bool lazy, const char *verdict)
{
	AUTO(pb) PB(OpenResponse) *rsp = NULL;

	OK(ask_open(w, true, &rsp, err));
	assert_int_equal(rsp->layers[0]->lazy, lazy);
	assert_string_equal(rsp->layers[0]->verdict, verdict);
}

static void opens_now_and_later(struct world *w, bool lazy, const char *verdict)
{
	opens_with(w, lazy, verdict);
	worker_end(w);
	worker_start(w);
	opens_with(w, lazy, verdict);
}

static void rename_latest(struct world *w, const char *path)
{
	vec_each(&w->resources, r)
		if (!strcmp(r->path, "manifests/latest"))
			strcpy(r->path, path);
}

/* An image whose configuration promises another DiffID does not get the layer lazily, and takes it from nobody else. */
static void a_wrong_promise_is_one_images(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *key = NULL;
	struct digest right;
	struct layer l;

	layer_lazy(&l, 1, 10);
	right = l.diff_id;
	l.diff_id.b[0] ^= 1;
	add_image(w, &l, 1, 1);
	key = open_and_fill(w);
	becomes(w, key, FFS_FALSE);
	opens_now_and_later(w, false, "false");
	rename_latest(w, "manifests/wrong");
	l.diff_id = right;
	add_image(w, &l, 1, 1);
	opens_now_and_later(w, true, "proven");
	layer_fini(&l);
}

static void images_that_make_no_sense(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;

	FAILS_SAYING(ask_open(w, true, &rsp, err), ERR_NOT_FOUND, w->reference);
	layer_lazy(&l, 1, 10);
	add_image(w, &l, 1, 2);
	FAILS_SAYING(ask_open(w, true, &rsp, err), ERR_INVALID, "1 layers, but 2 DiffIDs");
	strcpy(w->reference, "NO/REFERENCE");
	FAILS_SAYING(ask_open(w, true, &rsp, err), ERR_INVALID, "");
}

static void a_registry_that_loses_a_layer(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	struct resource *r;

	layer_lazy(&l, 1, 10);
	add_image(w, &l, 1, 1);
	r = find_blob(w, &l.digest);
	r->path[6] = 'X';
	FAILS_SAYING(ask_open(w, true, &rsp, err), ERR_NOT_FOUND, "layer sha256:");
	r->path[6] = 's';
	OK(ask_open(w, true, &rsp, err));
}

/* An Open on its way. */
struct opening {
	struct world *w;
	const struct layer *layers;
	struct rpc_call *call;
	pthread_t thread;
	atomic_uint known; /* a bit for each layer that it has told of */
	PB(OpenResponse) * rsp;
	struct err err;
};

static void note_layer(void *arg, PB(OpenProgress) * at)
{
	struct opening *o = arg;
	char text[DIGEST_TEXT_MAX];

	for (unsigned i = 0; at->layer && i < 3; i++)
		if (!strcmp(digest_text(&o->layers[i].digest, text), at->digest) && *at->layer->diff_id &&
		    !*at->layer->index_key == !o->layers[i].lazy)
			atomic_fetch_or(&o->known, 1u << i);
}

static void *open_each(void *arg)
{
	PB(OpenRequest) req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;
	struct opening *o = arg;
	AUTO_FD int docs = -1;

	req.reference = o->w->reference;
	req.lazy = req.each = true;
	ffs_client_open(o->w->client, o->call, &req, note_layer, o, &o->rsp, &docs, &o->err);
	return NULL;
}

/* Who goes on layer by layer learns of each, whatever becomes of the others. */
static void layers_are_told_of_one_by_one(void **state)
{
	struct world *w = *state;
	struct opening o = {.w = w, .call = rpc_own_begin()};
	struct layer l[3];

	layer_lazy(&l[0], 1, 10);
	layer_plain(&l[1], 2, 10);
	layer_lazy(&l[2], 3, 10);
	o.layers = l;
	add_image(w, l, 3, 3);
	find_blob(w, &l[0].digest)->stalls = true;
	pthread_create(&o.thread, NULL, open_each, &o);
	while (atomic_load(&o.known) != 6)
		usleep(1000);
	rpc_own_cancel(o.call, ERR_CANCELLED);
	pthread_join(o.thread, NULL);
	rpc_own_end(o.call);
	assert_int_equal(o.err.code, ERR_CANCELLED);
	assert_int_equal(atomic_load(&o.known), 6);
	for (size_t i = 0; i < ARRAY_LEN(l); i++)
		layer_fini(&l[i]);
}

static void a_layer_fails_alone(void **state)
{
	struct world *w = *state;
	struct opening o = {.w = w};
	struct layer l[3];

	for (unsigned i = 0; i < 3; i++)
		layer_lazy(&l[i], i, 10);
	o.layers = l;
	add_image(w, l, 3, 3);
	find_blob(w, &l[1].digest)->path[6] = 'X';
	open_each(&o);
	assert_string_equal(o.err.msg, "");
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(o.rsp->layers[i]->lazy, i != 1);
		assert_int_equal(o.rsp->layers[i]->failed, i == 1);
		layer_fini(&l[i]);
	}
	assert_non_null(strstr(o.rsp->layers[1]->reason, "404"));
	pb_free(o.rsp);
}

/* ---- the end of things ---- */

static void *open_stalled(void *arg)
{
	struct racer *r = arg;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;

	r->err = ERR_INIT;
	ask_open(r->w, true, &rsp, &r->err);
	return NULL;
}

static void assert_ended(const struct racer *r)
{
	if (r->err.code != ERR_OK && r->err.code != ERR_UNAVAILABLE)
		fail_msg("%s", r->err.msg);
	if (r->rsp)
		assert_objects(r->w, r->rsp->index_key, 11);
	pb_free(r->rsp);
}

/* A worker that ends does not wait for a registry that says nothing. Who asked is told so, or asks the next worker, as
 * the connection ends before or after the answer. */
static void stopping_ends_all_calls(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	struct racer opener = {.w = w}, unpacker = {.w = w, .l = &l}, joiner = {.w = w, .l = &l};

	layer_lazy(&l, 1, 10);
	add_image(w, &l, 1, 1);
	find_blob(w, &l.digest)->stalls = true;
	pthread_create(&opener.thread, NULL, open_stalled, &opener);
	pthread_create(&unpacker.thread, NULL, race_for_layer, &unpacker);
	pthread_create(&joiner.thread, NULL, race_for_layer, &joiner);
	while (atomic_load(&w->stalled) < 2)
		usleep(1000);
	ffs_service_stop(w->service);
	find_blob(w, &l.digest)->stalls = false;
	ffs_service_free(w->service);
	w->service = NULL;
	ffs_data_free(w->w.data);
	ffs_secrets_free(w->w.secrets);
	reg_client_free(w->w.client);
	{
		struct ffs_blobs blobs;

		OK(reg_client_new(NULL, &w->w.client, err));
		OK(ffs_secrets_open(w->w.creds_fd, w->w.client, &w->w.secrets, err));
		w->w.registries = (struct ffs_registries){w->w.client, w->w.secrets};
		blobs = ffs_blobs_registry(&w->w.registries);
		OK(ffs_data_new(w->w.store, &blobs, &w->opts.data, &w->w.data, err));
		OK(ffs_service_new(&w->w, &w->service, err));
		OK(ffs_service_start(w->service, err));
	}
	pthread_join(opener.thread, NULL);
	pthread_join(unpacker.thread, NULL);
	pthread_join(joiner.thread, NULL);
	assert_ended(&opener);
	assert_ended(&unpacker);
	assert_ended(&joiner);
}

static void pins_outlive_the_worker(void **state)
{
	struct world *w = *state;
	AUTO(layer) struct layer l;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO(pb) PB(StatusResponse) *status = NULL;
	const char *key;

	layer_lazy(&l, 1, 10);
	add_image(w, &l, 1, 1);
	OK(ask_open(w, true, &rsp, err));
	key = rsp->layers[0]->index_key;
	OK(ffs_client_pin(w->client, "a", &key, 1, err));
	OK(ffs_client_pin(w->client, "b", &key, 1, err));
	OK(ffs_client_pin(w->client, "b", NULL, 0, err));
	worker_end(w);
	worker_start(w);
	OK(ffs_client_status(w->client, &key, 1, &status, err));
	assert_true(status->layers[0]->pinned && status->layers[0]->lazy);
	assert_int_equal(status->layers[0]->files, 11);
	assert_int_equal(status->worker_generation, 7);
	FAILS_SAYING(ffs_client_delete_layers(w->client, &key, 1, err), ERR_PRECONDITION, "pinned by a");
	OK(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err));
	pb_free(STEAL(status));
	OK(ffs_client_sizes(w->client, &key, 1, &status, err));
	assert_int_equal(status->layers[0]->files, 11);
	assert_int_equal(status->layers[0]->files_published, 0); /* nobody looked */
	OK(ffs_client_unpin(w->client, "a", err));
	OK(ffs_client_delete_layers(w->client, &key, 1, err));
	OK(ffs_client_delete_layers(w->client, &key, 1, err));
	FAILS_SAYING(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err), ERR_NOT_FOUND, "");
	FAILS_SAYING(ffs_client_pin(w->client, "a", &key, 1, err), ERR_NOT_FOUND, key);
	key = "not a key";
	FAILS_SAYING(ffs_client_pin(w->client, "a", &key, 1, err), ERR_INVALID, "not a key");
}

static int open_as(struct world *w, const char *owner, const char *user, const char *secret, bool isolated,
                   PB(OpenResponse) * *out, struct err *err)
{
	PB(OpenRequest) req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;
	PB(Access) access = CONTENTD__CONTENTFS__V1__ACCESS__INIT;
	AUTO_FD int docs = -1;

	access.owner = (char *)owner;
	access.remembered = !user;
	access.username = user ? (char *)user : (char *)"";
	access.secret = secret ? (char *)secret : (char *)"";
	req.reference = w->reference;
	req.lazy = true;
	req.access = &access;
	req.isolated = isolated;
	return ffs_client_open(w->client, NULL, &req, NULL, NULL, out, &docs, err);
}

/* Opens, expecting success, and forgets the answer. */
static void opens_as(struct world *w, const char *owner, const char *user, const char *secret)
{
	AUTO(pb) PB(OpenResponse) *rsp = NULL;

	OK(open_as(w, owner, user, secret, false, &rsp, err));
}

static void locked_out(struct world *w, const char *owner, const char *user, const char *secret)
{
	PB(OpenResponse) *rsp = NULL;

	FAILS_SAYING(open_as(w, owner, user, secret, false, &rsp, err), ERR_UNAUTHENTICATED, "");
}

/* One owner's account opens nothing to another one, whatever is here already; nor does a failure replace what works. */
static void accounts_are_their_owners(void **state)
{
	struct world *w = *state;
	struct layer l;

	layer_lazy(&l, 1, 3);
	add_image(w, &l, 1, 1);
	w->password = true;
	locked_out(w, "a", "", "");
	opens_as(w, "a", "bob", "s3cret");
	locked_out(w, "b", "", "");
	locked_out(w, "b", "bob", "wrong");
	locked_out(w, "b", NULL, NULL);
	locked_out(w, "", NULL, NULL);
	locked_out(w, "a", "", ""); /* a call by itself, in the same namespace */
	locked_out(w, "a", "bob", "wrong");
	opens_as(w, "a", NULL, NULL);
	worker_end(w);
	worker_start(w);
	opens_as(w, "a", NULL, NULL);
	locked_out(w, "b", NULL, NULL);
	w->password = false;
	opens_as(w, "a", "", ""); /* needs no password any more: it is forgotten */
	w->password = true;
	locked_out(w, "a", NULL, NULL);
	layer_fini(&l);
}

/* The files of a lazy layer come by the account of who opened it last. */
static void layers_are_read_by_their_owners_account(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	struct layer l;
	const char *key;

	layer_lazy(&l, 1, 3);
	add_image(w, &l, 1, 1);
	w->password = true;
	OK(open_as(w, "a", "bob", "s3cret", false, &rsp, err));
	key = rsp->layers[0]->index_key;
	opens_as(w, "b", "bob", "s3cret");
	w->password = false;
	opens_as(w, "b", "", "");
	w->password = true;
	FAILS_SAYING(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err), ERR_UNAUTHENTICATED, "");
	opens_as(w, "a", "bob", "s3cret");
	OK(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err));
	layer_fini(&l);
}

/* A repository that names the layers of another one and does not have them. */
static void names_alone_open_nothing(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO(pb) PB(OpenResponse) *other = NULL;
	const char *key;
	struct layer l;

	layer_lazy(&l, 1, 3);
	add_image(w, &l, 1, 1);
	OK(open_as(w, "a", "", "", false, &rsp, err));
	key = rsp->layers[0]->index_key;
	refer_to(w, "other/image");
	w->withheld = find_blob(w, &l.digest)->path;
	FAILS_SAYING(open_as(w, "b", "", "", false, &other, err), ERR_NOT_FOUND, "");
	OK(ffs_client_fill(w->client, NULL, &key, 1, NULL, NULL, err)); /* still comes from where it is */
	w->withheld = NULL;
	OK(open_as(w, "b", "", "", false, &other, err));
	assert_string_equal(other->layers[0]->index_key, key);
	layer_fini(&l);
}

/* An ordinary layer that was unpacked from another repository is here for everybody, but for who is isolated. */
static void isolated_owners_unpack_their_own(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *here = NULL;
	AUTO(pb) PB(OpenResponse) *shared = NULL;
	AUTO(pb) PB(OpenResponse) *isolated = NULL;
	AUTO(pb) PB(UnpackResponse) *unpacked = NULL;
	struct layer l;

	layer_plain(&l, 1, 3);
	add_image(w, &l, 1, 1);
	OK(ask_unpack(w, &l, &l.diff_id, -1, false, &unpacked, err));
	OK(open_as(w, "a", "", "", true, &here, err));
	assert_string_equal(here->layers[0]->index_key, unpacked->index_key);
	refer_to(w, "other/image");
	OK(open_as(w, "b", "", "", false, &shared, err));
	assert_string_equal(shared->layers[0]->index_key, unpacked->index_key);
	OK(open_as(w, "b", "", "", true, &isolated, err));
	assert_string_equal(isolated->layers[0]->index_key, "");
	layer_fini(&l);
}

/* A lazy layer that was proven is what others mean by its DiffID, as if it had been unpacked. */
static void a_proven_layer_is_known(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *before = NULL;
	AUTO(pb) PB(OpenResponse) *here = NULL;
	AUTO(pb) PB(OpenResponse) *shared = NULL;
	AUTO(pb) PB(OpenResponse) *isolated = NULL;
	AUTO_FREE char *key = NULL;
	struct layer l, plain;

	layer_lazy(&l, 1, 3);
	layer_plain(&plain, 2, 3);
	plain.diff_id = l.diff_id;
	add_image(w, &plain, 1, 1);
	OK(open_as(w, "a", "", "", false, &before, err));
	assert_string_equal(before->layers[0]->index_key, "");
	rename_latest(w, "manifests/plain");
	add_image(w, &l, 1, 1);
	key = open_and_fill(w);
	becomes(w, key, FFS_PROVEN);
	rename_latest(w, "manifests/lazy");
	add_image(w, &plain, 1, 1);
	OK(open_as(w, "a", "", "", true, &here, err));
	assert_string_equal(here->layers[0]->index_key, key);
	assert_string_equal(here->layers[0]->verdict, "proven");
	assert_false(here->layers[0]->lazy);
	refer_to(w, "other/image");
	OK(open_as(w, "b", "", "", false, &shared, err));
	assert_string_equal(shared->layers[0]->index_key, key);
	OK(open_as(w, "b", "", "", true, &isolated, err));
	assert_string_equal(isolated->layers[0]->index_key, "");
	layer_fini(&l);
	layer_fini(&plain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(two_round_trips, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(an_unpacked_layer_is_known, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(lies_about_the_toc, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_wrong_promise_is_one_images, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(images_that_make_no_sense, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_registry_that_loses_a_layer, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(layers_are_told_of_one_by_one, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_layer_fails_alone, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(stopping_ends_all_calls, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(pins_outlive_the_worker, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(accounts_are_their_owners, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(layers_are_read_by_their_owners_account, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(names_alone_open_nothing, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(isolated_owners_unpack_their_own, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_proven_layer_is_known, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
