#include "contentd/testing/world.h"

#include "base/file.h"
#include "base/unix.h"
#include "rpc/proto/leases.pb-c.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static int start(struct world *w, struct err *err)
{
	AUTO(cd_config) struct cd_config config = {0};
	AUTO(snap_store) struct snap_store *snaps = NULL;
	AUTO_FREE char *root = xasprintf("%s/root", w->dir);
	AUTO_FREE char *state = xasprintf("%s/state", w->dir);
	AUTO_FREE char *socket = xasprintf("%s/s", w->dir);
	struct snap_opts opts = {.root = root, .state = state, .kv = kv_mem_kv(w->kv), .level = SNAP_LEVEL_OVERLAY};
	int fd;

	cd_config_init(&config);
	free(config.root);
	free(config.state);
	config.root = xstrdup(root);
	config.state = xstrdup(state);
	TRY(cd_config_finish(&config, err));
	TRY(cd_daemon_new(&config, &w->d, err));
	TRY(snap_store_new(&opts, &snaps, err));
	TRY(cd_daemon_use(w->d, kv_mem_kv(w->kv), STEAL(snaps), err));
	TRY(unix_listen(socket, SOCK_STREAM, 0600, &fd, err));
	TRY(cd_daemon_serve(w->d, fd, err));
	TRY(rpc_client_connect(socket, &w->c, err));
	rpc_client_set_metadata(w->c, "containerd-namespace", "ns");
	return 0;
}

/* A daemon that is there already, for tests that can share one. */
static int join(struct world *w, const char *address, struct err *err)
{
	const char *ns = getenv("CONTENTD_TEST_NAMESPACE");

	TRY(rpc_client_connect(address, &w->c, err));
	rpc_client_set_metadata(w->c, "containerd-namespace", ns ?: "ns");
	return 0;
}

/* address NULL: a daemon of its own. */
static int set_up(void **state, const char *address)
{
	struct world *w = xcalloc(1, sizeof(*w));
	struct err err = ERR_INIT;

	*state = w;
	w->snapshotter = "overlayfs";
	arena_init(&w->a, SIZE_MAX);
	w->kv = kv_mem_new();
	snprintf(w->dir, sizeof(w->dir), "/tmp/contentd_test.XXXXXX");
	if (!mkdtemp(w->dir) || (address ? join(w, address, &err) : start(w, &err)) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	return 0;
}

int world_set_up(void **state)
{
	return set_up(state, NULL);
}

int world_set_up_or_join(void **state)
{
	return set_up(state, getenv("CONTENTD_TEST_ADDRESS"));
}

int world_tear_down(void **state)
{
	struct world *w = *state;
	int tmp_fd, r;

	rpc_client_free(w->c);
	cd_daemon_free(w->d);
	tmp_fd = open("/tmp", O_RDONLY | O_DIRECTORY);
	r = dir_remove(tmp_fd, w->dir + strlen("/tmp/"), NULL);
	close(tmp_fd);
	kv_mem_free(w->kv);
	arena_fini(&w->a);
	free(w);
	return r;
}

/* A copy of a message in the arena. */
static void *keep(struct world *w, const ProtobufCMessage *m)
{
	AUTO(buf) struct buf wire = BUF_INIT;
	void *out = NULL;

	pb_pack(m, &wire);
	if (pb_unpack_in(&w->a, m->descriptor, buf_str(&wire), &out, NULL) < 0)
		abort();
	return out;
}

int world_call(struct world *w, const ProtobufCServiceDescriptor *svc, const char *method, const void *req, void *rsp)
{
	AUTO(pb) ProtobufCMessage *m = NULL;
	int r;

	w->err = ERR_INIT;
	r = rpc_call(w->c, svc, method, NULL, req, &m, &w->err);
	if (r >= 0 && rsp)
		*(void **)rsp = keep(w, m);
	return r;
}

int world_stream(struct world *w, const ProtobufCServiceDescriptor *svc, const char *method, const void *req,
                 const ProtobufCMessageDescriptor *type, void ***out, size_t *n)
{
	AUTO(rpc_stream) struct rpc_stream *s = NULL;

	w->err = ERR_INIT;
	*out = arena_alloc(&w->a, 1000 * sizeof(**out));
	*n = 0;
	TRY(rpc_stream_open(w->c, svc, method, NULL, &s, &w->err));
	TRY(rpc_stream_send(s, req, &w->err));
	TRY(rpc_stream_close_send(s, &w->err));
	for (;;) {
		AUTO(pb) ProtobufCMessage *m = NULL;
		int r = rpc_stream_recv(s, INT64_MAX, &m, &w->err);

		if (r != RPC_MESSAGE)
			return r;
		if (m->descriptor != type || *n == 1000)
			abort();
		(*out)[(*n)++] = keep(w, m);
	}
}

Kv__Entry **world_kvs(struct world *w, const char *text, size_t *n)
{
	Kv__Entry **list = arena_alloc(&w->a, 64 * sizeof(*list));
	struct str rest = str_of(text), one;

	*n = 0;
	while (*text && str_split(&rest, ' ', &one)) {
		ptrdiff_t at = str_find(one, '=');

		list[(*n)++] = pb_kv_new(&w->a, arena_str(&w->a, str_sub(one, 0, (size_t)at)),
		                         arena_str(&w->a, str_sub(one, (size_t)at + 1, SIZE_MAX)));
	}
	return list;
}

const char *world_kvs_text(struct world *w, Kv__Entry *const *list, size_t n)
{
	AUTO(buf) struct buf b = BUF_INIT;

	for (size_t i = 0; i < n; i++)
		buf_addf(&b, "%s%s=%s", i ? " " : "", list[i]->key, list[i]->value);
	return arena_str(&w->a, buf_str(&b));
}

const char *world_leased(struct world *w, const char *lease)
{
	Leases__ListResourcesRequest req = LEASES__LIST_RESOURCES_REQUEST__INIT;
	Leases__ListResourcesResponse *rsp;
	AUTO(buf) struct buf b = BUF_INIT;

	req.id = lease;
	OK(world_call(w, &leases__leases__descriptor, "ListResources", &req, &rsp));
	for (size_t i = 0; i < rsp->n_resources; i++)
		buf_addf(&b, "%s:%s ", rsp->resources[i]->type, rsp->resources[i]->id);
	return arena_str(&w->a, buf_str(&b));
}
